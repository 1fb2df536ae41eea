"""The emulated MCP servers, driven by FastMCP's client, which is independent of them; what HTTP says, by hand."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

import anyio
import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from jsonschema import Draft202012Validator
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests.emulators import calendly_mcp, calid_mcp, google_mcp
from tests.emulators.calendly_shapes import API, USER
from tests.emulators.google import READONLY, SCOPES, TEAM
from tests.emulators.mcp import STATELESS, WELL_KNOWN, Server
from tests.emulators.wire import TOKEN, Altered, Lost
from tests.loopback import served as listening
from tests.world import ELEVEN, HOST_EMAIL, MONDAY, NINE, TEN, Clock, World

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
URLS = {
    calendly_mcp: "https://mcp.calendly.com/",
    calid_mcp: "https://mcp.cal.id/mcp",
    google_mcp: "https://calendarmcp.googleapis.com/mcp/v1",
}
# A tool of each that only reads, and the request that it is
READS: dict[ModuleType, tuple[str, Json, tuple[str, str]]] = {
    calendly_mcp: ("users-get_current_user", {}, ("GET", "/users/me")),
    calid_mcp: ("get_users_me", {}, ("GET", "/users/me")),
    google_mcp: ("list_calendars", {}, ("GET", "/calendar/v3/users/me/calendarList")),
}
HEADERS = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {TOKEN}"}
MODES = ("legacy", "auto")


@pytest.fixture
def world() -> World:
    return World(Clock())


@pytest.fixture(params=URLS, ids=lambda each: each.__name__.rpartition(".")[2])
def vendor(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def connected(server: Server, url: str, mode: str = "auto", token: str | None = TOKEN) -> Client[Any]:
    def factory(headers: Any = None, timeout: Any = None, auth: Any = None, **_: Any) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=server)
        return httpx2.AsyncClient(transport=transport, headers=headers, timeout=timeout, auth=auth)

    return Client(StreamableHttpTransport(url, auth=token, httpx_client_factory=factory), mode=mode)


class Wire:
    """Single HTTP requests to a server."""

    def __init__(self, server: Server, url: str) -> None:
        self._server, self._url = server, url

    async def send(self, method: str = "POST", path: str | None = None, **request: Any) -> httpx2.Response:
        request["headers"] = {
            name: value for name, value in (HEADERS | request.get("headers", {})).items() if value is not None
        }
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self._server)) as client:
            url = httpx2.URL(self._url)
            return await client.request(method, url.join(path) if path else url, **request)

    async def ask(self, method: str, params: Json | None = None, **headers: str | None) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
        return await self.send(json=message, headers=named)

    async def call(self, tool: str, arguments: Json, **headers: str | None) -> httpx2.Response:
        return await self.ask("tools/call", {"name": tool, "arguments": arguments}, **headers)


def served(vendor: ModuleType, world: World, **quirks: Any) -> tuple[Server, Wire]:
    """A server of which nobody needs a session, and single requests to it."""
    server = vendor.app(world, **{"sessions": False} | quirks)
    return server, Wire(server, URLS[vendor])


def text(result: CallToolResult) -> str:
    (only,) = result.content
    assert only.type == "text"
    return only.text


def answer(result: CallToolResult) -> Any:
    """The JSON of a tool that went well."""
    assert not result.is_error, text(result)
    found = json.loads(text(result)) if result.content else result.structured_content
    assert result.structured_content in (None, found)
    return found


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


# Calendly


def invitee(**more: Any) -> Json:
    guest = {"name": "Ana", "email": "ana@example.com", "timezone": "Europe/Berlin"}
    return {
        "event_type": f"{API}/event_types/intro",
        "start_time": "2030-01-07T09:00:00Z",
        "invitee": guest,
        "location": {"kind": "zoom_conference"},
        **more,
    }


@asynccontextmanager
async def calendly(world: World, mode: str = "auto", **quirks: Any) -> AsyncIterator[Client[Any]]:
    async with connected(calendly_mcp.app(world, **quirks), URLS[calendly_mcp], mode) as client:
        yield client


@pytest.mark.parametrize("mode", MODES)
async def test_calendly_books_finds_and_cancels(world: World, mode: str) -> None:
    async with calendly(world, mode) as client:
        made = answer(await client.call_tool_mcp("meetings-create_invitee", {"post_invitee_request": invitee()}))
        event = made["resource"]["event"]
        mine = {"user": USER, "status": "active", "sort": None, "count": 1}
        listed = answer(await client.call_tool_mcp("meetings-list_events", mine))
        guests = answer(await client.call_tool_mcp("meetings-list_event_invitees", {"uri": event}))
        whose = {"event_uri": event, "invitee_uri": made["resource"]["uri"]}
        guest = answer(await client.call_tool_mcp("meetings-get_event_invitee", whose))
        reason = {"create_scheduled_event_cancellation_request": {"reason": "ill"}}
        answer(await client.call_tool_mcp("meetings-cancel_event", {"uri": event} | reason))

    assert [each["uri"] for each in listed["collection"]] == [event]
    assert guests["collection"] == [guest["resource"]]
    assert [(each.status, each.reason) for each in world.appointments.values()] == [("cancelled", "ill")]
    assert [method for method, _ in world.writes] == ["POST", "POST"]
    assert world.violations == []


async def test_calendly_cancels_without_a_reason(world: World) -> None:
    id = world.book("intro", NINE, "ana@example.com")
    uri = f"{API}/scheduled_events/{calendly_mcp.booking_id(world, id).partition('/')[0]}"

    async with calendly(world) as client:
        none = {"create_scheduled_event_cancellation_request": None}
        answer(await client.call_tool_mcp("meetings-cancel_event", {"uri": uri} | none))
        again = await client.call_tool_mcp("meetings-cancel_event", {"uri": uri})

    assert json.loads(text(again))["title"] == "Permission Denied"
    assert world.appointments[id].status == "cancelled"
    assert world.violations == []


async def test_calendly_answers_a_deletion_with_nothing(world: World) -> None:
    id = world.book("intro", NINE, "ana@example.com")
    world.clock.advance(timedelta(days=2))
    uri = f"{API}/scheduled_events/{calendly_mcp.booking_id(world, id).replace('/', '/invitees/')}"

    async with calendly(world) as client:
        body = {"create_invitee_no_show_request": {"invitee": uri}}
        marked = answer(await client.call_tool_mcp("meetings-create_invitee_no_show", body))
        assert world.appointments[id].no_show
        gone = await client.call_tool_mcp("meetings-delete_invitee_no_show", {"uri": marked["resource"]["uri"]})

    assert (gone.is_error, text(gone), gone.structured_content) == (False, "", None)
    assert not world.appointments[id].no_show


async def test_calendly_reads_and_writes_event_types_and_hours(world: World) -> None:
    intro = {"event_type": f"{API}/event_types/intro"}
    window = {"start_time": "2030-01-07T00:00:00Z", "end_time": "2030-01-08T00:00:00Z"}
    rules = [{"type": "wday", "wday": "monday", "intervals": [{"from": "10:00", "to": "11:00"}]}]
    calls: list[tuple[str, Json]] = [
        ("event_types-list_event_types", {"user": USER, "active": True, "count": 2}),
        ("event_types-create_event_type", {"create_event_type_request": {"owner": USER, "name": "New"}}),
        (
            "event_types-update_event_type",
            {"uri": f"{API}/event_types/new", "update_event_type_request": {"active": True}},
        ),
        ("event_types-list_event_type_available_times", intro | window),
        ("event_types-list_event_type_availability_schedule", intro),
        (
            "event_types-update_event_type_availability_schedule",
            intro
            | {
                "update_event_type_availability_request": {
                    "availability_rule": {"timezone": "Europe/Berlin", "rules": rules}
                }
            },
        ),
        ("availability-list_user_availability_schedules", {"user": USER}),
        ("availability-list_user_busy_times", {"user": USER} | window),
        (
            "scheduling_links-create_single_use_scheduling_link",
            {
                "create_scheduling_link_request": {
                    "owner": f"{API}/event_types/intro",
                    "owner_type": "EventType",
                    "max_event_count": 1,
                }
            },
        ),
    ]

    async with calendly(world) as client:
        for name, arguments in calls:
            answer(await client.call_tool_mcp(name, arguments))
        listed = answer(await client.call_tool_mcp("event_types-list_event_types", {"user": USER, "count": 2}))
        more = {"user": USER, "page_token": listed["pagination"]["next_page_token"]}
        rest = answer(await client.call_tool_mcp("event_types-list_event_types", more))

    assert len(listed["collection"]) == 2
    assert {each["name"] for each in rest["collection"]} <= {each.title for each in world.kinds.values()}
    assert world.kinds["new"].active
    assert world.hours == {"monday": ["10:00-11:00"]}
    assert world.links == [("intro", True)]
    assert len(world.requests) == len(calls) + 2
    assert world.violations == []


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("event_types-get_event_type", {"uuid": "intro"}, "Got unexpected keyword argument(s): uuid"),
        ("event_types-get_event_type", {}, "Missing required argument(s): uri"),
        ("event_types-list_event_types", {"user": USER, "count": "5"}, "Input validation error"),
        ("meetings-create_invitee", {"post_invitee_request": "intro"}, "Input validation error"),
        ("event_types-get_event_type", {"uri": "intro"}, "Invalid Argument"),
        ("event_types-get_event_type", {"uri": f"{API}/scheduled_events/e1"}, "Invalid Argument"),
    ],
)
async def test_calendly_refuses_wrong_arguments_itself(world: World, name: str, arguments: Json, said: str) -> None:
    async with calendly(world) as client:
        found = await client.call_tool_mcp(name, arguments)

    assert found.is_error
    assert said in text(found)
    assert world.requests == []


async def test_calendly_leaves_bodies_to_the_api(world: World) -> None:
    async with calendly(world) as client:
        body = {"post_invitee_request": invitee(surplus=1)}
        found = await client.call_tool_mcp("meetings-create_invitee", body)

    assert json.loads(text(found))["title"] == "Invalid Argument"
    assert world.violations


async def test_calendly_has_the_quirks_of_its_api(world: World) -> None:
    async with calendly(world, scopes=["users:read"]) as client:
        found = await client.call_tool_mcp("event_types-list_event_types", {"user": USER})

    assert json.loads(text(found))["required_scopes"] == ["event_types:read"]


async def test_what_is_not_emulated_says_so(world: World) -> None:
    async with calendly(world) as client:
        with pytest.raises(ToolError, match="not emulated"):
            await client.call_tool("organizations-get_organization", {"uri": f"{API}/organizations/ORGUUID"})
    async with connected(calid_mcp.app(world), URLS[calid_mcp]) as client:
        with pytest.raises(ToolError, match="not emulated"):
            await client.call_tool("get_teams", {})

    assert (world.requests, world.violations) == ([], [])


# Cal ID

BOOKING = {
    "eventTypeId": 101,
    "start": "2030-01-07T09:00:00.000Z",
    "end": "2030-01-07T09:30:00.000Z",
    "timeZone": "Europe/Berlin",
    "responses": {"name": "Ana", "email": "ana@example.com"},
}


def calid(world: World, mode: str = "auto", **quirks: Any) -> AbstractAsyncContextManager[Client[Any]]:
    return connected(calid_mcp.app(world, **quirks), URLS[calid_mcp], mode)


def shaped(shape: str, **parts: Json) -> Json:
    return parts if shape == "nested" else {name: value for part in parts.values() for name, value in part.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", ["flat", "nested"])
async def test_cal_id_takes_arguments_flat_or_nested(world: World, mode: str, shape: str) -> None:
    window = {"eventTypeId": "101", "start": "2030-01-07T00:00:00Z", "end": "2030-01-08T00:00:00Z"}
    calid_mcp.event_type_id(world, "intro")

    async with calid(world, mode, shape=shape) as client:
        slots = answer(await client.call_tool_mcp("get_slots", shaped(shape, query=window)))
        made = answer(await client.call_tool_mcp("create_booking", shaped(shape, body=BOOKING)))
        query = {"eventTypeIds": [101], "limit": 5}
        listed = answer(await client.call_tool_mcp("get_booking", shaped(shape, query=query)))
        path = {"id": made["data"]["id"]}
        moved = {"start": "2030-01-07T10:00:00Z"}
        answer(await client.call_tool_mcp("reschedule_booking", shaped(shape, path=path, body=moved)))
        (new,) = [each for each in world.appointments.values() if each.live]
        path = {"id": int(calid_mcp.booking_id(world, next(i for i, e in world.appointments.items() if e is new)))}
        reason = {"cancellationReason": "ill"}
        answer(await client.call_tool_mcp("cancel_booking", shaped(shape, path=path, body=reason)))

    assert slots["data"]["slots"]["2030-01-07"][0] == {"time": "2030-01-07T08:00:00.000Z"}
    assert [each["id"] for each in listed["data"]] == [made["data"]["id"]]
    assert new.start == MONDAY + timedelta(hours=11)
    assert [each.reason for each in world.appointments.values()] == [None, "ill"]
    assert world.violations == []


@pytest.mark.parametrize("shape", ["flat", "nested"])
async def test_cal_id_has_a_tool_for_each_route(world: World, shape: str) -> None:
    calid_mcp.event_type_id(world, "intro")
    reserve = {"eventTypeId": 101, "slotStart": "2030-01-07T09:00:00Z"}

    async with calid(world, shape=shape) as client:
        for name in ("get_users_me", "get_schedule", "get_event_types"):
            answer(await client.call_tool_mcp(name, {}))
        answer(await client.call_tool_mcp("get_event_types_by_id", shaped(shape, path={"id": 101})))
        held = answer(await client.call_tool_mcp("create_slots_reserve", shaped(shape, body=reserve)))
        uid = {"uid": held["data"]["reservationUid"]}
        answer(await client.call_tool_mcp("get_slot", shaped(shape, path=uid)))
        answer(await client.call_tool_mcp("delete_slots", shaped(shape, path=uid)))
        days = {"dateFrom": "2030-01-07", "dateTo": "2030-01-08"}
        answer(await client.call_tool_mcp("get_availability", shaped(shape, query=days)))

    assert world.violations == []


@pytest.mark.parametrize(
    ("errors", "said", "failed"),
    [("json", '{"success":false', True), ("status", "HTTP 404: {", True), ("plain", '{"success":false', False)],
)
async def test_cal_id_tells_errors_in_one_of_three_ways(world: World, errors: str, said: str, failed: bool) -> None:
    async with calid(world, errors=errors) as client:
        found = await client.call_tool_mcp("get_booking_by_id", {"id": 1})

    assert found.is_error is failed
    assert text(found).startswith(said)
    assert "Booking not found" in text(found)


@pytest.mark.parametrize(
    ("shape", "name", "arguments"),
    [
        ("flat", "get_booking_by_id", {}),
        ("flat", "get_booking_by_id", {"id": "5"}),
        ("flat", "get_booking_by_id", {"id": 5, "uid": "x"}),
        ("flat", "get_booking_by_id", {"path": {"id": 5}}),
        ("flat", "create_booking", BOOKING | {"attendee": {}}),
        ("nested", "get_booking_by_id", {"id": 5}),
        ("nested", "get_booking_by_id", {}),
        ("nested", "get_booking_by_id", {"path": 5}),
        ("nested", "get_booking_by_id", {"path": {"id": 5}, "headers": {}}),
        ("nested", "cancel_booking", {"path": {"id": 5}, "body": {"uid": "x"}}),
    ],
)
async def test_cal_id_refuses_wrong_arguments_itself(world: World, shape: str, name: str, arguments: Json) -> None:
    async with calid(world, shape=shape) as client:
        found = await client.call_tool_mcp(name, arguments)

    assert found.is_error
    assert text(found).startswith("Invalid arguments: ")
    assert world.requests == []


async def test_cal_id_has_the_quirks_of_its_api(world: World) -> None:
    calid_mcp.event_type_id(world, "intro")

    async with calid(world, reschedule_500=True) as client:
        made = answer(await client.call_tool_mcp("create_booking", BOOKING))
        moved = {"id": made["data"]["id"], "start": "2030-01-07T10:00:00Z"}
        found = await client.call_tool_mcp("reschedule_booking", moved)

    assert '\\"newUserId\\" is required!' in text(found)
    assert len(world.appointments) == 2


# Google


def google(world: World, mode: str = "auto", **quirks: Any) -> AbstractAsyncContextManager[Client[Any]]:
    return connected(google_mcp.app(world, **quirks), URLS[google_mcp], mode)


async def told(client: Client[Any], name: str, **arguments: Any) -> Any:
    """What a tool answers, held to its output schema by the client."""
    result = await client.call_tool(name, arguments)
    return result.structured_content


INTRO = {"summary": "Intro", "startTime": "2030-01-07T10:00:00+01:00", "endTime": "2030-01-07T10:30:00+01:00"}


@pytest.mark.parametrize("mode", MODES)
async def test_google_makes_changes_and_deletes_events(world: World, mode: str) -> None:
    async with google(world, mode) as client:
        made = await told(
            client,
            "create_event",
            **INTRO,
            description="<b>hello</b>",
            attendees=[{"email": "ana@example.com", "displayName": "Ana"}],
            availability="AVAILABILITY_FREE",
            visibility="private",
            addGoogleMeetUrl=True,
            overrideReminders=[{"method": "popup", "minutes": 5}],
            guestPermissions={"guestsCanSeeGuests": False},
        )
        read = await told(client, "get_event", eventId=made["id"])
        moved = await told(client, "update_event", eventId=made["id"], startTime="2030-01-07T14:00:00+01:00")
        met = await told(client, "update_event", eventId=made["id"], addGoogleMeetUrl=True)
        gone = await told(client, "delete_event", eventId=made["id"], notificationLevel="NONE")

    assert (read, met) == (made, moved)
    assert made["start"] == {"dateTime": "2030-01-07T10:00:00+01:00", "timeZone": "Europe/Berlin"}
    host = {"email": HOST_EMAIL, "self": True}
    assert (made["organizer"], made["creator"]) == (host, host)
    assert made["attendees"] == [
        host | {"organizer": True, "responseStatus": "accepted"},
        {"email": "ana@example.com", "displayName": "Ana", "responseStatus": "needsAction"},
    ]
    assert (made["availability"], made["transparency"]) == ("AVAILABILITY_FREE", "transparent")
    assert (made["visibility"], made["eventType"], made["status"]) == ("private", "DEFAULT", "confirmed")
    assert made["conferenceUrl"].startswith("https://meet.google.com/")
    assert made["overrideReminders"] == [{"method": "popup", "minutes": 5}]
    assert made["guestPermissions"] == {"guestsCanSeeGuests": False}
    assert not {"etag", "iCalUID", "extendedProperties", "hangoutLink", "reminders", "sequence"} & set(made)
    assert (moved["start"]["dateTime"], moved["end"]["dateTime"]) == (
        "2030-01-07T14:00:00+01:00",
        "2030-01-07T14:30:00+01:00",
    )
    assert gone == moved | {"status": "cancelled", "updated": gone["updated"]}
    kept = google_mcp.calendars(world)
    assert [(each.kind, each.addresses) for each in kept.notices] == [
        ("invited", ("ana@example.com",)),
        ("updated", ("ana@example.com",)),
    ]
    assert [method for method, _ in world.requests] == ["POST", "GET", "PATCH", "PATCH", "DELETE"]
    assert world.violations == []


@pytest.mark.parametrize(
    ("start", "zone", "expected"),
    [
        ("2030-01-07T10:00:00", None, {"dateTime": "2030-01-07T10:00:00+01:00", "timeZone": "Europe/Berlin"}),
        ("2030-01-07T09:00:00Z", None, {"dateTime": "2030-01-07T10:00:00+01:00", "timeZone": "Europe/Berlin"}),
        # A zone overrides the offset
        (
            "2030-01-07T10:00:00+01:00",
            "America/New_York",
            {"dateTime": "2030-01-07T16:00:00+01:00", "timeZone": "America/New_York"},
        ),
    ],
)
async def test_google_reads_times_by_zone_or_offset(world: World, start: str, zone: str | None, expected: Json) -> None:
    when = {"startTime": start, "endTime": start.replace("T10:00", "T11:00").replace("T09:00", "T10:00")}

    async with google(world) as client:
        made = await told(client, "create_event", summary="Intro", **when, **({"timeZone": zone} if zone else {}))

    assert made["start"] == expected
    assert "attendees" not in made


async def test_google_shows_days_as_midnight_utc(world: World) -> None:
    day = {"startTime": "2030-01-07T00:00:00Z", "endTime": "2030-01-08T00:00:00Z", "allDay": True}

    async with google(world) as client:
        made = await told(client, "create_event", summary="Off", **day)
        moved = await told(client, "update_event", eventId=made["id"], startTime="2030-01-09T00:00:00Z")
        timed = await told(
            client,
            "update_event",
            eventId=made["id"],
            allDay=False,
            startTime="2030-01-09T09:00:00+01:00",
            endTime="2030-01-09T10:00:00+01:00",
        )
        again = await told(client, "update_event", eventId=made["id"], **day)
        half = await client.call_tool_mcp("update_event", {"eventId": made["id"], "allDay": False})

    assert (made["start"], made["end"]) == ({"date": "2030-01-07T00:00:00Z"}, {"date": "2030-01-08T00:00:00Z"})
    assert (moved["start"], moved["end"]) == ({"date": "2030-01-09T00:00:00Z"}, {"date": "2030-01-10T00:00:00Z"})
    assert timed["start"] == {"dateTime": "2030-01-09T09:00:00+01:00", "timeZone": "Europe/Berlin"}
    assert (again["start"], again["end"]) == (made["start"], made["end"])
    assert half.is_error
    assert world.violations == []


async def test_google_adds_and_removes_guests(world: World) -> None:
    guests = {"attendees": [{"email": "ana@example.com"}], "attendeeEmails": ["bob@example.com"]}

    async with google(world) as client:
        made = await told(client, "create_event", **INTRO, **guests, notificationLevel="NONE")
        changed = await told(
            client,
            "update_event",
            eventId=made["id"],
            addedAttendees=[{"email": "zoe@example.com"}, {"email": "ana@example.com"}],
            addedAttendeeEmails=["tom@example.org"],
            removedAttendeeEmails=["BOB@example.com"],
            notificationLevel="EXTERNAL_ONLY",
        )
        untouched = await told(client, "update_event", eventId=made["id"], summary="Other")

    emails = [each["email"] for each in changed["attendees"]]
    assert emails == [HOST_EMAIL, "ana@example.com", "zoe@example.com", "tom@example.org"]
    assert untouched["attendees"] == changed["attendees"]
    mailed = [(each.kind, each.addresses) for each in google_mcp.calendars(world).notices]
    assert ("invited", ("tom@example.org",)) in mailed


@pytest.mark.parametrize(("silent", "mails"), [(False, 1), (True, 0)])
async def test_google_mails_by_a_default_that_differs(world: World, silent: bool, mails: int) -> None:
    async with google(world, silent=silent) as client:
        await told(client, "create_event", **INTRO, attendees=[{"email": "ana@example.com"}])

    assert len(google_mcp.calendars(world).notices) == mails


async def test_google_lists_events_page_by_page(world: World) -> None:
    kept = google_mcp.calendars(world)
    for hour in (11, 9, 10):
        at = MONDAY + timedelta(hours=hour)
        end = at + timedelta(minutes=30)
        times = {"start": {"dateTime": at.isoformat()}, "end": {"dateTime": end.isoformat()}}
        kept.insert("primary", {"summary": f"At {hour}", "location": "Room", **times})
    later = MONDAY + timedelta(days=20, hours=9)
    times = {"start": {"dateTime": later.isoformat()}, "end": {"dateTime": (later + timedelta(hours=1)).isoformat()}}
    kept.insert("primary", {"summary": "Later", **times})

    async def names(client: Client[Any], **query: Any) -> list[str]:
        found: list[str] = []
        while True:
            page = await told(client, "list_events", pageSize=2, **query)
            found += [each["summary"] for each in page["events"]]
            if "nextPageToken" not in page:
                return found
            query["pageToken"] = page["nextPageToken"]

    async with google(world) as client:
        assert await names(client, orderBy="startTime") == ["At 9", "At 10", "At 11"]
        assert await names(client, orderBy="startTimeDesc") == ["At 11", "At 10", "At 9"]
        assert await names(client) == ["At 11", "At 9", "At 10"]
        assert await names(client, fullText="room 10") == ["At 10"]
        assert await names(client, startTime="2030-01-27T09:00:00", endTime="2030-01-27T10:00:00") == ["Later"]
        assert await names(client, eventType=["FOCUS_TIME"]) == []
        page = await told(client, "list_events")
        found = await told(client, "search_events", query="later")
    async with google(world, unbounded=True) as client:
        assert len(await names(client)) == 4

    assert (page["timeZone"], page["accessRole"], page["summary"]) == ("Europe/Berlin", "owner", HOST_EMAIL)
    assert set(found) == {"events"}
    assert [each["summary"] for each in found["events"]] == ["Later"]
    assert world.violations == []


async def test_google_lists_the_instances_of_a_series(world: World) -> None:
    async with google(world) as client:
        rule = {"recurrenceData": ["RRULE:FREQ=DAILY;COUNT=3"]}
        made = await told(client, "create_event", **INTRO, **rule)
        listed = await told(client, "list_events")

    assert made["recurrence"] == rule["recurrenceData"]
    assert [each["recurringEventId"] for each in listed["events"]] == [made["id"]] * 3
    assert listed["events"][1]["originalStartTime"]["dateTime"] == "2030-01-08T10:00:00+01:00"


async def test_google_lists_calendars_and_keeps_apart_what_they_allow(world: World) -> None:
    async with google(world) as client:
        first = await told(client, "list_calendars", pageSize=1)
        rest = await told(client, "list_calendars", pageToken=first["nextPageToken"])
        made = await told(client, "create_event", **INTRO, calendarId=TEAM, attendees=[{"email": "ana@example.com"}])
        refused = await client.call_tool_mcp("create_event", INTRO | {"calendarId": READONLY})
        missing = await client.call_tool_mcp("get_event", {"eventId": made["id"]})
        nowhere = await client.call_tool_mcp("update_event", {"eventId": made["id"], "calendarId": "x@example.com"})

    assert first["calendars"] == [{"id": HOST_EMAIL, "summary": HOST_EMAIL, "timeZone": "Europe/Berlin"}]
    assert [each["id"] for each in rest["calendars"]] == [TEAM, READONLY]
    assert [each["email"] for each in made["attendees"]] == ["ana@example.com"]
    codes = [json.loads(text(each))["error"]["code"] for each in (refused, missing, nowhere)]
    assert codes == [403, 404, 404]


async def test_google_answers_invitations(world: World) -> None:
    theirs = {
        "summary": "Theirs",
        "start": {"dateTime": NINE.isoformat()},
        "end": {"dateTime": TEN.isoformat()},
        "attendees": [{"email": HOST_EMAIL}, {"email": "ana@example.com"}],
    }
    id = google_mcp.calendars(world).insert("primary", theirs)["id"]

    async with google(world) as client:
        said = await told(client, "respond_to_event", eventId=id, responseStatus="declined", responseComment="ill")
        never = await client.call_tool_mcp("respond_to_event", {"eventId": id, "responseStatus": "needsAction"})
        alone = await told(client, "create_event", **INTRO)
        uninvited = await client.call_tool_mcp(
            "respond_to_event", {"eventId": alone["id"], "responseStatus": "accepted"}
        )
        missing = await client.call_tool_mcp("respond_to_event", {"eventId": "nope0", "responseStatus": "accepted"})

    assert [(each["responseStatus"], each.get("comment")) for each in said["attendees"]] == [
        ("declined", "ill"),
        ("needsAction", None),
    ]
    assert (never.is_error, uninvited.is_error) == (True, True)
    assert json.loads(text(missing))["error"]["code"] == 404


async def test_google_suggests_what_is_free(world: World) -> None:
    world.elsewhere += [(NINE, TEN), (TEN + timedelta(minutes=20), ELEVEN)]
    window = {"startTime": "2030-01-07T08:00:00", "endTime": "2030-01-08T12:00:00", "timeZone": "Europe/Berlin"}
    hours = {"startHour": "09:30", "endHour": "12:00"}

    async with google(world) as client:
        whole = await told(client, "suggest_time", attendeeEmails=["primary"], **window)
        asked = {"attendeeEmails": ["primary"], "preferences": hours, "durationMinutes": 45}
        some = await told(client, "suggest_time", **asked, **window)
        one = await told(client, "suggest_time", **asked | {"preferences": hours | {"pageSize": 1}}, **window)
        unreadable = await client.call_tool_mcp("suggest_time", {"attendeeEmails": ["x@example.com"], **window})
        weekend = {"startTime": "2030-01-12T08:00:00Z", "endTime": "2030-01-13T20:00:00Z"}
        none = await told(
            client, "suggest_time", attendeeEmails=[HOST_EMAIL], preferences={"excludeWeekends": True}, **weekend
        )
        utc = await told(client, "suggest_time", attendeeEmails=[HOST_EMAIL, TEAM], **weekend)

    spans = [(each["startTime"], each["endTime"], each["durationMinutes"]) for each in whole["timeSlots"]]
    assert spans == [
        ("2030-01-07T08:00:00+01:00", "2030-01-07T09:00:00+01:00", 60),
        ("2030-01-07T11:00:00+01:00", "2030-01-08T12:00:00+01:00", 25 * 60),
    ]
    begins = [each["start"]["dateTime"] for each in some["timeSlots"]]
    assert begins == ["2030-01-07T11:00:00+01:00", "2030-01-08T09:30:00+01:00"]
    assert one["timeSlots"] == some["timeSlots"][:1]
    assert unreadable.is_error
    assert none["timeSlots"] == []
    assert utc["timeSlots"][0]["start"] == {"dateTime": "2030-01-12T08:00:00Z"}
    assert world.violations == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("create_event", INTRO | {"id": "bk00000"}),
        ("create_event", INTRO | {"start_time": "2030-01-07T10:00:00Z"}),
        ("create_event", {"summary": "Intro"}),
        ("create_event", INTRO | {"attendees": ["ana@example.com"]}),
        ("create_event", INTRO | {"attendees": [{"displayName": "Ana"}]}),
        ("create_event", INTRO | {"notificationLevel": "SOME"}),
        ("create_event", INTRO | {"startTime": "tomorrow"}),
        ("create_event", INTRO | {"timeZone": "Mars/Olympus"}),
        ("update_event", {"eventId": "e0000", "recurrence": []}),
        ("list_events", {"pageSize": 251}),
        ("list_events", {"orderBy": "endTime"}),
        ("list_events", {"timeMin": "2030-01-07T00:00:00Z"}),
        ("search_events", {"query": "x", "calendarId": "primary"}),
    ],
)
async def test_google_refuses_wrong_arguments_itself(world: World, name: str, arguments: Json) -> None:
    async with google(world) as client:
        found = await client.call_tool_mcp(name, arguments)

    assert found.is_error
    assert world.requests == []


async def test_google_wants_projects_enrolled(world: World) -> None:
    async with google(world, enrolled=False) as client:
        found = await client.call_tool_mcp("list_calendars", {})

    assert found.is_error
    assert "Developer Preview Program" in text(found)
    assert world.requests == []


async def test_google_has_the_quirks_of_its_api(world: World) -> None:
    async with google(world, scopes=["calendar.events"]) as client:
        found = await client.call_tool_mcp("list_calendars", {})
        made = await told(client, "create_event", **INTRO)
        await told(client, "delete_event", eventId=made["id"])
        twice = await client.call_tool_mcp("delete_event", {"eventId": made["id"]})

    error = json.loads(text(found))["error"]
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    assert f"{SCOPES}calendar.events" not in error["message"]
    assert json.loads(text(twice))["error"]["code"] == 410


async def test_the_era_without_a_handshake_has_no_initialize(world: World) -> None:
    _, wire = served(calendly_mcp, world, stateless=True)

    found = (await wire.ask("server/discover", mcp_protocol_version=STATELESS)).json()["result"]
    refused = (await wire.ask("initialize", mcp_protocol_version=STATELESS)).json()

    assert found["supportedVersions"] == [STATELESS]
    assert refused["error"]["code"] == -32601
