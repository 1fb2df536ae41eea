"""The emulated MCP servers, driven by FastMCP's client, which is independent of them; what HTTP says, by hand.

What each has of its own: test_calendly_mcp_emulator.py, test_calid_mcp_emulator.py, test_google_mcp_emulator.py.
"""

import json
from collections.abc import Callable
from types import ModuleType

import anyio
import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from jsonschema import Draft202012Validator
from mcp.shared.exceptions import MCPError
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests import mcp_servers
from tests.emulators import calendly_mcp, calid_mcp, google_mcp
from tests.emulators.calendly_shapes import API
from tests.emulators.mcp import STATELESS, WELL_KNOWN
from tests.emulators.wire import TOKEN, Altered, Lost
from tests.loopback import served as listening
from tests.mcp_servers import MODES, READS, URLS, Json, answer, connected, invitee, served
from tests.world import World

pytestmark = pytest.mark.anyio
world, vendor = mcp_servers.world, mcp_servers.vendor


# What the servers have in common


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "quirks",
    [{}, {"sessions": True}, {"sse": True, "sessions": True}, {"stateless": True}, {"page": 5}],
    ids=lambda each: "+".join(each) or "plain",
)
async def test_a_client_finds_and_calls_the_tools(vendor: ModuleType, world: World, mode: str, quirks: Json) -> None:
    server = vendor.app(world, **quirks)
    name, arguments, request = READS[vendor]

    async with connected(server, URLS[vendor], mode) as client:
        tools = await client.list_tools()
        answer(await client.call_tool_mcp(name, arguments))

    assert len({each.name for each in tools}) == {calendly_mcp: 34, calid_mcp: 57, google_mcp: 9}[vendor]
    for each in tools:
        Draft202012Validator.check_schema(each.input_schema)
        Draft202012Validator.check_schema(each.output_schema or {})
    assert world.requests == [request]
    asked = [method for method, _ in server.messages]
    assert ("initialize" in asked) == (mode == "legacy" or "stateless" not in quirks)
    assert not server.sessions


async def test_a_server_is_the_same_over_a_socket(vendor: ModuleType, world: World) -> None:
    server = vendor.app(world)
    path = httpx2.URL(URLS[vendor]).path

    with listening(server) as origin:
        async with Client(StreamableHttpTransport(origin + path, auth=TOKEN)) as client:
            answer(await client.call_tool_mcp(*READS[vendor][:2]))

    assert world.requests == [READS[vendor][2]]


@pytest.mark.parametrize(
    ("asked", "agreed"), [("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", None)]
)
async def test_the_version_is_the_clients_if_it_is_known(
    vendor: ModuleType, world: World, asked: str, agreed: str | None
) -> None:
    server, wire = served(vendor, world)

    found = (await wire.ask("initialize", {"protocolVersion": asked})).json()["result"]

    assert found["protocolVersion"] == (agreed or server.quirks.versions[-1])
    assert found["capabilities"] == {"tools": {"listChanged": False}}


async def test_a_session_is_wanted_once_it_was_given(vendor: ModuleType, world: World) -> None:
    server, wire = served(vendor, world, sessions=True)
    session = (await wire.ask("initialize")).headers["mcp-session-id"]
    told = {"jsonrpc": "2.0", "method": "notifications/initialized"}

    assert (await wire.send(json=told, headers={"mcp-session-id": session})).status_code == 202
    assert (await wire.ask("ping", mcp_session_id=session)).json()["result"] == {}
    assert (await wire.ask("ping")).status_code == 400
    gone = await wire.ask("ping", mcp_session_id="f" * 32)
    assert (gone.status_code, gone.json()["error"]["code"], gone.json()["id"]) == (404, -32001, 7)
    assert (await wire.send("DELETE", headers={"mcp-session-id": session})).status_code == 200
    assert (await wire.ask("ping", mcp_session_id=session)).status_code == 404
    assert (await wire.send("DELETE", headers={"mcp-session-id": session})).status_code == 404
    await wire.ask("initialize")
    server.forget_sessions()
    assert not server.sessions


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "DELETE"}, 405),
        ({"path": "/elsewhere", "json": {}}, 404),
        ({"path": WELL_KNOWN + "/nothing", "method": "GET"}, 404),
        ({"json": {"jsonrpc": "2.0", "id": 1, "method": "ping"}, "headers": {"Accept": "application/json"}}, 406),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]}, 400),
        ({"json": {"id": 1, "method": "ping"}}, 400),
        ({"json": {"jsonrpc": "2.0", "id": 1, "method": "ping"}, "headers": {"mcp-protocol-version": "2"}}, 400),
    ],
)
async def test_what_is_no_message_is_refused(vendor: ModuleType, world: World, request_: Json, status: int) -> None:
    _, wire = served(vendor, world)

    assert (await wire.send(**request_)).status_code == status


@pytest.mark.parametrize("method", ["server/discover", "resources/list", "nope"])
async def test_an_unknown_method_is_an_error_of_the_protocol(vendor: ModuleType, world: World, method: str) -> None:
    _, wire = served(vendor, world)

    assert (await wire.ask(method)).json()["error"]["code"] == -32601


async def test_a_server_may_know_no_tools(vendor: ModuleType, world: World) -> None:
    async with connected(vendor.app(world, refuses_tools=True), URLS[vendor]) as client:
        with pytest.raises(MCPError) as listing:
            await client.list_tools()
        with pytest.raises(MCPError) as calling:
            await client.call_tool_mcp(*READS[vendor][:2])

    assert (listing.value.error.code, calling.value.error.code) == (-32601, -32601)
    assert world.requests == []


@pytest.mark.parametrize("as_result", [False, True])
async def test_an_unknown_tool_is_an_error_or_a_failed_result(
    vendor: ModuleType, world: World, as_result: bool
) -> None:
    _, wire = served(vendor, world, unknown_as_result=as_result)

    said = (await wire.call("nope", {})).json()

    assert said["result"]["isError"] if as_result else said["error"]["code"] == -32602


async def test_tools_change_while_a_client_is_connected(vendor: ModuleType, world: World) -> None:
    name, arguments, _ = READS[vendor]
    server = vendor.app(world, hidden=[next(reversed(vendor.app(world).tools))])

    async with connected(server, URLS[vendor]) as client:
        before = [each.name for each in await client.list_tools()]
        server.rename(name, "other")
        with pytest.raises(MCPError):
            await client.call_tool_mcp(name, arguments)
        answer(await client.call_tool_mcp("other", arguments))
        after = [each.name for each in await client.list_tools()]

    assert after == ["other" if each == name else each for each in before]
    assert len(world.requests) == 1


async def test_an_argument_gets_another_name(world: World) -> None:
    server, wire = served(calendly_mcp, world)
    uri = f"{API}/event_types/intro"
    server.respell("event_types-get_event_type", "uri", "uuid")

    old = (await wire.call("event_types-get_event_type", {"uri": uri})).json()["result"]
    new = (await wire.call("event_types-get_event_type", {"uuid": uri})).json()["result"]

    assert old["isError"]
    assert new["structuredContent"]["resource"]["uri"] == uri
    assert server.tools["event_types-get_event_type"].takes["required"] == ["uuid"]
    assert len(world.requests) == 1


async def test_a_tool_takes_other_arguments(world: World) -> None:
    server, wire = served(calendly_mcp, world)
    takes = {"type": "object", "properties": {"verbose": {"type": "boolean"}}, "required": ["verbose"]}
    server.reshape("users-get_current_user", takes)
    server.reshape("event_types-get_event_type", takes)

    listed = (await wire.ask("tools/list")).json()["result"]["tools"]
    old = (await wire.call("users-get_current_user", {})).json()["result"]
    new = (await wire.call("users-get_current_user", {"verbose": True})).json()["result"]
    needy = (await wire.call("event_types-get_event_type", {"verbose": True})).json()["result"]

    assert listed[0]["inputSchema"] == takes
    assert (old["isError"], new["isError"], needy["isError"]) == (True, False, True)
    assert (len(world.requests), world.violations) == (1, [])


async def test_an_answer_waits_for_an_event(vendor: ModuleType, world: World) -> None:
    gate = anyio.Event()
    server, wire = served(vendor, world, held={"tools/call": gate})
    answers: list[httpx2.Response] = []

    async def call() -> None:
        answers.append(await wire.call(*READS[vendor][:2]))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        while not server.messages:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert (answers, world.requests) == ([], [])
        gate.set()

    assert [each.status_code for each in answers] == [200]


async def test_the_server_itself_can_fail(vendor: ModuleType, world: World) -> None:
    server, wire = served(vendor, world)
    server.failures.extend([JSONResponse({}, 503), httpx2.ConnectError("refused"), None])

    assert (await wire.ask("ping")).status_code == 503
    with pytest.raises(httpx2.ConnectError):
        await wire.ask("ping")
    assert (await wire.ask("ping")).status_code == 200


@pytest.mark.parametrize("results", ["both", "text", "structured"])
async def test_results_are_text_structured_or_both(vendor: ModuleType, world: World, results: str) -> None:
    _, wire = served(vendor, world, results=results)

    found = (await wire.call(*READS[vendor][:2])).json()["result"]

    assert bool(found["content"]) == (results != "structured")
    assert ("structuredContent" in found) == (results != "text")


# Who may come in


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_nobody_comes_in_without_a_token(world: World, token: str | None) -> None:
    server, wire = served(calendly_mcp, world)
    sent = f"Bearer {token}" if token else None

    refused = await wire.ask("initialize", Authorization=sent)

    assert refused.status_code == 401
    assert refused.json()["error"] == "invalid_token"
    challenge = refused.headers["www-authenticate"]
    assert challenge.endswith('resource_metadata="https://mcp.calendly.com/.well-known/oauth-protected-resource"')
    assert ('error="invalid_token"' in challenge) == (token is not None)
    metadata = await wire.send("GET", WELL_KNOWN, headers={"Authorization": None})
    assert metadata.json() == {
        "resource": "https://mcp.calendly.com/",
        "authorization_servers": ["https://calendly.com/"],
        "scopes_supported": ["mcp:scheduling:write", "mcp:scheduling:read"],
        "bearer_methods_supported": ["header"],
    }
    assert (server.messages, world.requests) == ([], [])


async def test_a_server_without_metadata_names_none(world: World) -> None:
    _, wire = served(calid_mcp, world)

    refused = await wire.ask("initialize", Authorization=None)

    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert (await wire.send("GET", WELL_KNOWN)).status_code == 404


@pytest.mark.parametrize(
    ("quirks", "good", "bad"),
    [({"token": "0ther"}, "0ther", TOKEN), ({"let_in": lambda token: token == "granted"}, "granted", TOKEN)],
)
async def test_who_comes_in_is_told_from_outside(
    vendor: ModuleType, world: World, quirks: Json, good: str, bad: str
) -> None:
    _, wire = served(vendor, world, **quirks)

    assert (await wire.call(*READS[vendor][:2], Authorization=f"Bearer {good}")).status_code == 200
    assert (await wire.call(*READS[vendor][:2], Authorization=f"Bearer {bad}")).status_code == 401
    assert len(world.requests) == 1


async def test_google_lets_everybody_look_around(world: World) -> None:
    server, wire = served(google_mcp, world)

    async with connected(server, URLS[google_mcp], token=None) as client:
        assert len(await client.list_tools()) == 9
    refused = await wire.call("list_calendars", {}, Authorization=None)

    assert refused.status_code == 401
    assert refused.json()["result"]["isError"]
    at = "https://calendarmcp.googleapis.com/.well-known/oauth-protected-resource"
    assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{at}/list_calendars"'
    for path in ("/mcp/v1", "/list_calendars"):
        metadata = (await wire.send("GET", WELL_KNOWN + path)).json()
        assert metadata["resource"] == URLS[google_mcp]
        assert metadata["authorization_servers"] == ["https://accounts.google.com/"]
    assert (await wire.send("GET", WELL_KNOWN)).status_code == 404
    assert world.requests == []


# Bad weather behind the server


@pytest.mark.parametrize("failure", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("slow")])
async def test_a_connection_that_breaks_behind_breaks_in_front(
    vendor: ModuleType, world: World, failure: Exception
) -> None:
    _, wire = served(vendor, world)
    world.failures.append(failure)

    with pytest.raises(type(failure)):
        await wire.call(*READS[vendor][:2])

    assert len(world.requests) == 1


async def test_an_answer_lost_behind_is_lost_in_front(world: World) -> None:
    _, wire = served(calendly_mcp, world)
    world.failures.append(Lost())

    with pytest.raises(httpx2.ReadTimeout):
        await wire.call("meetings-create_invitee", {"post_invitee_request": invitee()})

    assert [each.email for each in world.appointments.values()] == ["ana@example.com"]


PASSED: list[Callable[[], Response]] = [
    lambda: HTMLResponse("<h1>Bad Gateway</h1>", 502),
    lambda: HTMLResponse("<h1>Sorry</h1>", 200),
    lambda: RedirectResponse("https://elsewhere.example", 302),
    lambda: JSONResponse({"title": "Moved"}, 307, {"Location": "https://elsewhere.example"}),
    lambda: JSONResponse({"title": "Unauthenticated"}, 401, {"WWW-Authenticate": "Bearer"}),
    lambda: JSONResponse({"title": "Slow down"}, 429, {"Retry-After": "7"}),
    lambda: JSONResponse({"title": "Down"}, 503, {"Retry-After": "7"}),
    lambda: Response(b'{"resource": {', media_type="application/json"),
    lambda: Response(b"[" * 100_000, media_type="application/json"),
    lambda: Response(b""),
    lambda: Response(status_code=204),
]


@pytest.mark.parametrize("make", PASSED)
async def test_what_no_api_says_is_passed_on_as_it_is(
    vendor: ModuleType, world: World, make: Callable[[], Response]
) -> None:
    _, wire = served(vendor, world)
    world.failures.append(make())

    passed, expected = await wire.call(*READS[vendor][:2]), make()

    assert (passed.status_code, passed.content) == (expected.status_code, expected.body)
    assert {name: passed.headers[name] for name in expected.headers if name != "content-length"} == {
        name: value for name, value in expected.headers.items() if name != "content-length"
    }


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
async def test_an_error_of_the_api_is_a_failed_result(vendor: ModuleType, world: World, status: int) -> None:
    _, wire = served(vendor, world)
    world.failures.append(JSONResponse({"message": "no"}, status))

    found = (await wire.call(*READS[vendor][:2])).json()["result"]

    assert found == {"content": [{"type": "text", "text": '{"message":"no"}'}], "isError": True}


async def test_an_answer_that_is_altered_behind_comes_altered(world: World) -> None:
    _, wire = served(calendly_mcp, world)
    world.failures.append(Altered(lambda body: {"resource": body["resource"] | {"email": "x@example.com"}}))

    found = (await wire.call("users-get_current_user", {})).json()["result"]

    assert found["structuredContent"]["resource"]["email"] == "x@example.com"
    assert json.loads(found["content"][0]["text"]) == found["structuredContent"]


async def test_an_answer_that_is_no_object_is_text(vendor: ModuleType, world: World) -> None:
    _, wire = served(vendor, world)
    world.failures.append(Altered(lambda _: ["news"]))

    found = (await wire.call(*READS[vendor][:2])).json()["result"]

    assert json.loads(found["content"][0]["text"]) == ["news"]
    assert "structuredContent" not in found


async def test_what_the_api_allows_is_spent_by_tools_alone(vendor: ModuleType, world: World) -> None:
    quirks = {"limit_as": 429} if vendor is google_mcp else {}
    _, wire = served(vendor, world, **quirks)
    world.allowance = 1
    for _ in range(3):
        await wire.ask("tools/list")

    first, second = [await wire.call(*READS[vendor][:2]) for _ in range(2)]

    assert (first.status_code, second.status_code) == (200, 429)


async def test_the_era_without_a_handshake_has_no_initialize(world: World) -> None:
    _, wire = served(calendly_mcp, world, stateless=True)

    found = (await wire.ask("server/discover", mcp_protocol_version=STATELESS)).json()["result"]
    refused = (await wire.ask("initialize", mcp_protocol_version=STATELESS)).json()

    assert found["supportedVersions"] == [STATELESS]
    assert refused["error"]["code"] == -32601
