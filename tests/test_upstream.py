"""Speaking to a hosted MCP server: one connection for all calls, what HTTP said of each, and tools that change."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.server import build_server
from providers.bridge import Bridge
from providers.hosted import HostedProvider
from providers.upstream import NotSent, ToolsChanged, Upstream
from schemas import (
    InvalidRequest,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderDown,
    RateLimited,
    Unsupported,
)
from tests.agent import Agent, connected
from tests.emulators.mcp import HANDSHAKES, Outcome, Server
from tests.emulators.wire import TOKEN, Lost
from tests.stages import STAGES, Stage
from tests.world import NINE, TEN

pytestmark = pytest.mark.anyio

BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
SECRET = "callers-s3cret"
SOON, LATER = timedelta(minutes=5), timedelta(hours=2)


class Hosted:
    """An account at a hosted server, and what reaches that."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.server = stage, stage._app
        assert isinstance(self.server, Server)
        self.headers: list[dict[str, str]] = []
        self._through(stage)

    def _through(self, stage: Stage) -> None:
        server = self.server

        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            self.headers.append(dict(Request(scope).headers))
            await server(scope, receive, send)

        stage._app = noted
        stage.restarted()

    def asked(self, method: str) -> int:
        return [said for said, _ in self.server.messages].count(method)


@pytest.fixture
async def hosted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosted]:
    """By default Calendly's; a test may name another stage, and quirks."""
    name, quirks = getattr(request, "param", ("calendly via mcp", {}))
    stage = STAGES[name](name, tmp_path, **quirks)
    hosted = Hosted(stage)
    await stage.gateway.open()
    yield hosted
    await stage.gateway.close()
    assert stage.world.violations == []


@pytest.fixture
async def agent(hosted: Hosted) -> AsyncIterator[Agent]:
    async with connected(build_server(hosted.stage.gateway)) as agent:
        yield agent


def with_(name: str = "calendly via mcp", **quirks: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("hosted", [(name, quirks)], indirect=True)


def page(status: int, **headers: str) -> Response:
    return HTMLResponse(
        "<h1>Sorry</h1>", status, headers={name.replace("_", "-"): each for name, each in headers.items()}
    )


# The connection


async def test_many_calls_at_once_share_one_connection(hosted: Hosted, agent: Agent) -> None:
    id = await hosted.stage.book("intro", TEN)
    await asyncio.gather(*(agent.get_booking(booking_id=id) for _ in range(20)))
    assert hosted.asked("initialize") == 1
    assert hosted.asked("tools/list") == 1


@pytest.mark.parametrize(
    "hosted",
    [
        ("calendly via mcp", {"stateless": True}),
        *(("calendly via mcp", {"versions": [version]}) for version in HANDSHAKES),
        *(("calendly via mcp", {"sse": True, "stateless": stateless}) for stateless in (True, False)),
        *(("calendly via mcp", {"results": results}) for results in ("text", "structured", "wrapped", "remarked")),
        ("calendly via mcp", {"sessions": True}),
        ("calendly via mcp", {"page": 5}),
        ("calid via mcp", {"sse": True}),
        ("calid via mcp", {"errors": "status"}),
        ("calid via mcp, nested", {"errors": "plain"}),
        ("google_calendar via mcp", {"stateless": True}),
    ],
    indirect=True,
    ids=str,
)
async def test_a_server_of_any_era_and_manner_is_understood(hosted: Hosted, agent: Agent) -> None:
    booked = await agent.create_booking(event_type_id=hosted.stage.intro, start=NINE.isoformat(), **BEN)
    assert (await agent.get_booking(booking_id=booked["id"]))["attendees"][0]["email"] == "ben@example.com"
    with pytest.raises(NotFound):
        await agent.get_booking(booking_id=f"acme:{'1' * 9}/2" if "/" in booked["id"] else "acme:123456789")
    assert len(await hosted.stage.appointments()) == 1


@pytest.mark.parametrize(
    "hosted", [("calendly via mcp", {"sessions": True, "forgotten": status}) for status in (400, 404)], indirect=True
)
async def test_a_session_that_the_server_forgot_is_begun_anew_and_nothing_is_done_twice(
    hosted: Hosted, agent: Agent
) -> None:
    await agent.list_event_types()
    hosted.server.forget_sessions()
    await agent.create_booking(event_type_id=hosted.stage.intro, start=NINE.isoformat(), **BEN)
    assert hosted.asked("initialize") == 2
    assert len(hosted.stage.world.writes) == 1


@with_(sessions=True)
async def test_a_session_is_given_back(hosted: Hosted, agent: Agent) -> None:
    await agent.list_event_types()
    assert len(hosted.server.sessions) == 1
    await hosted.stage.gateway.close()
    assert hosted.server.sessions == set()


async def test_a_call_that_hangs_holds_up_no_other_and_may_be_given_up(hosted: Hosted, agent: Agent) -> None:
    await agent.list_event_types()
    hanging, held = anyio.Event(), hosted.server.quirks.held
    assert isinstance(held, dict)
    held["tools/call"] = hanging
    provider = hosted.stage.gateway.accounts["acme"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(provider.whoami)
        while hosted.server.messages[-1][0] != "tools/call":
            await anyio.lowlevel.checkpoint()
        held.clear()
        assert (await agent.list_accounts())["accounts"][0]["state"] == "ready"
        tasks.cancel_scope.cancel()
    hanging.set()
    assert (await agent.list_accounts())["accounts"][0]["state"] == "ready"
    assert hosted.asked("initialize") == 1


async def until(happened: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not happened():
            await anyio.lowlevel.checkpoint()


def upstream(hosted: Hosted) -> Upstream:
    provider = hosted.stage.gateway.accounts["acme"]
    assert isinstance(provider, HostedProvider)
    return provider._upstream


def who(_: Any) -> tuple[str, dict[str, Any]]:
    """Places the smallest call there is."""
    return "users-get_current_user", {}


@with_(sessions=True)
async def test_who_gives_up_while_it_connects_leaves_no_connection(hosted: Hosted) -> None:
    hanging, held = anyio.Event(), hosted.server.quirks.held
    assert isinstance(held, dict)
    held["tools/list"] = hanging
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upstream(hosted).call, who)
        await until(lambda: hosted.asked("tools/list") == 1)
        tasks.cancel_scope.cancel()
    hanging.set()
    assert hosted.server.sessions == set()
    assert (await upstream(hosted).call(who)).text
    assert len(hosted.server.sessions) == 1


@with_(sessions=True)
async def test_a_connection_that_is_left_is_closed_with_its_last_call_even_if_that_is_given_up(hosted: Hosted) -> None:
    await upstream(hosted).call(who)
    hanging, held = anyio.Event(), hosted.server.quirks.held
    assert isinstance(held, dict)
    held["tools/call"] = hanging
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upstream(hosted).call, who)
        await until(lambda: hosted.asked("tools/call") == 2)
        held.clear()
        with pytest.raises(ToolsChanged):
            await upstream(hosted).call(lambda tools: ("gone", {}))
        await upstream(hosted).call(who)
        tasks.cancel_scope.cancel()
    hanging.set()
    await until(lambda: len(hosted.server.sessions) == 1)


async def test_those_who_wait_for_a_connection_that_fails_do_not_each_wait_for_one_of_their_own(hosted: Hosted) -> None:
    hanging, held = anyio.Event(), hosted.server.quirks.held
    assert isinstance(held, dict)
    held["initialize"] = hanging
    hosted.server.quirks = replace(hosted.server.quirks, refuses_tools=True)
    failed: list[NotSent] = []

    async def ask() -> None:
        with pytest.raises(NotSent) as caught:
            await upstream(hosted).call(who)
        failed.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask)
        await until(lambda: hosted.asked("initialize") == 1)
        hanging.set()
    assert len(failed) == 10
    assert hosted.asked("initialize") == 1
    hosted.server.quirks = replace(hosted.server.quirks, refuses_tools=False)
    assert (await upstream(hosted).call(who)).text


async def test_a_connection_that_ended_by_itself_is_replaced(hosted: Hosted) -> None:
    await upstream(hosted).call(who)
    connection = upstream(hosted)._connection
    assert connection is not None
    await connection.client.session._dispatcher._write_stream.aclose()
    assert (await hosted.stage.gateway.accounts["acme"].whoami()).email
    assert hosted.asked("initialize") == 2


async def test_a_broken_call_breaks_no_other(hosted: Hosted, agent: Agent) -> None:
    id = await hosted.stage.book("intro", TEN)
    await agent.get_booking(booking_id=id)
    hosted.stage.world.failures.extend([httpx2.ReadError("broken"), None, None, httpx2.ReadError("broken")])
    for _ in range(3):
        assert (await agent.get_booking(booking_id=id))["id"] == id
    assert hosted.asked("initialize") == 1


async def test_nothing_of_the_caller_is_passed_on(hosted: Hosted) -> None:
    async with connected(build_server(hosted.stage.gateway), "http") as agent:
        agent.client.transport.headers |= {"Authorization": f"Bearer {SECRET}", "X-Own": SECRET, "Cookie": SECRET}
        await agent.list_event_types()
    assert {each["authorization"] for each in hosted.headers} == {f"Bearer {TOKEN}"}
    assert all(SECRET not in str(each) for each in hosted.headers)


# What HTTP said


class Endless(httpx2.AsyncByteStream):
    """An answer in a stream of events that goes on, as servers do that ping."""

    def __init__(self, *events: str) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            yield f"event: message\ndata: {event}\n\n".encode()
        await anyio.sleep_forever()


async def test_a_stream_of_events_is_read_up_to_the_answer_however_long_that_is_and_not_waited_for() -> None:
    notice = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}})
    answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": "x" * 3_000_000}})

    def served(request: httpx2.Request) -> httpx2.Response:
        headers = {"Content-Type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=Endless("", notice, answer))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(served)) as http:
        with anyio.fail_after(5):
            told = await Bridge(http).handle_async_request(httpx2.Request("POST", "https://mcp.example/"))
    assert told.headers["content-type"] == "application/json"
    assert told.content.decode() == answer


REFUSALS: list[tuple[Any, type[Exception]]] = [
    (page(401), NotConnected),
    (page(403), PermissionDenied),
    (page(429, retry_after="3600"), RateLimited),
]
TROUBLES: list[Any] = [
    page(500),
    page(502),
    page(503),
    RedirectResponse("https://elsewhere.example/", 307),
    HTMLResponse("<h1>Hello</h1>"),
    Response(status_code=202),
    JSONResponse({"jsonrpc": "2.0", "id": 1}),
    httpx2.ConnectError("refused"),
    httpx2.ReadError("closed"),
]


def _name(failure: Any) -> str:
    return f"{type(failure).__name__} {getattr(failure, 'status_code', '')}"


def always(failure: Any) -> list[Any]:
    return [failure] * 40


@pytest.mark.parametrize(("failure", "error"), REFUSALS, ids=lambda each: str(getattr(each, "status_code", "")))
async def test_a_refusal_has_its_name_at_the_door_and_inside(
    hosted: Hosted, agent: Agent, failure: Any, error: type[Exception]
) -> None:
    event_type = hosted.stage.intro
    for inside in (False, True):
        if inside:
            await agent.list_event_types()
            hosted.stage.clock.advance(SOON)
        hosted.server.failures.extend(always(failure))
        with pytest.raises(error) as caught:
            await agent.create_booking(event_type_id=event_type, start=NINE.isoformat(), **BEN)
        if error is RateLimited:
            assert caught.value.retry_after == 3600  # type: ignore[attr-defined]  # of this kind alone
        assert TOKEN not in str(caught.value)
        hosted.server.failures.clear()
        hosted.stage.clock.advance(LATER)
    assert hosted.stage.world.writes == []


@pytest.mark.parametrize(
    "failure", TROUBLES, ids=lambda each: f"{type(each).__name__} {getattr(each, 'status_code', '')}"
)
async def test_before_there_is_a_connection_nothing_can_have_happened(
    hosted: Hosted, agent: Agent, failure: Any
) -> None:
    hosted.server.failures.extend(always(failure))
    with pytest.raises(ProviderDown):
        await agent.create_booking(event_type_id=hosted.stage.intro, start=NINE.isoformat(), **BEN)
    hosted.server.failures.clear()
    assert (await agent.list_accounts())["accounts"][0]["state"] == "ready"


async def test_a_write_whose_answer_got_lost_was_sent_once(hosted: Hosted, agent: Agent) -> None:
    await agent.list_event_types()
    provider = hosted.stage.gateway.accounts["acme"]
    event_type = await provider.get_event_type(hosted.stage.intro.partition(":")[2])
    hosted.stage.world.failures.append(Lost())
    with pytest.raises(OutcomeUnknown):
        await provider.create_scheduling_link(event_type.id, single_use=True)
    assert len(hosted.stage.world.writes) == 1


@pytest.mark.parametrize("answer", [page(404), page(405), page(410)], ids=lambda each: str(each.status_code))
async def test_a_server_that_is_not_there_any_more_says_nothing_of_a_booking(
    hosted: Hosted, agent: Agent, answer: Response
) -> None:
    id = await hosted.stage.book("intro", TEN)
    await agent.get_booking(booking_id=id)
    hosted.server.failures.extend(always(answer))
    with pytest.raises(ProviderDown):
        await agent.get_booking(booking_id=id)
    with pytest.raises(ProviderDown):
        await agent.create_booking(event_type_id=hosted.stage.intro, start=NINE.isoformat(), **BEN)
    assert hosted.stage.world.writes == []


async def test_a_tool_s_error_may_come_with_its_http_status(hosted: Hosted) -> None:
    provider = hosted.stage.gateway.accounts["acme"]
    await provider.whoami()
    said = {"content": [{"type": "text", "text": "There is no such thing."}], "isError": True}
    hosted.server.failures.append(JSONResponse({"jsonrpc": "2.0", "id": 1, "result": said}, 404))
    with pytest.raises(NotFound, match="There is no such thing"):
        await provider.get_booking("1/2")


@pytest.mark.parametrize(("code", "status"), [(-32602, 400), (-32601, 404)])
async def test_an_unknown_tool_may_come_with_an_http_status(hosted: Hosted, code: int, status: int) -> None:
    provider = hosted.stage.gateway.accounts["acme"]
    await provider.whoami()
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": "Unknown tool"}}
    hosted.server.hide("users-get_current_user")
    hosted.server.failures.append(JSONResponse(error, status))
    with pytest.raises(Unsupported, match="users-get_current_user"):
        await provider.whoami()
    assert hosted.asked("tools/list") == 2


def nothing(raw: Any) -> None:
    """What takes any answer for done."""


async def test_what_cannot_be_read_is_not_taken_for_done(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = hosted.stage.gateway.accounts["acme"]
    assert isinstance(provider, HostedProvider)
    await provider.whoami()
    hosted.server.failures.append(Response(b"", media_type="application/json"))
    with pytest.raises(OutcomeUnknown):
        await provider.call("DELETE", "/invitee_no_shows/1", nothing)
    for result in ({"content": "done"}, {"content": [{"type": "hologram"}]}, "done", {"isError": "no"}):
        monkeypatch.setattr(hosted.server, "_result", lambda _, result=result: result)
        with pytest.raises(OutcomeUnknown):
            await provider.call("DELETE", "/invitee_no_shows/1", nothing)


def answering(hosted: Hosted, tool: str, outcome: Outcome) -> None:
    async def call(_: Any) -> Outcome:
        return outcome

    hosted.server.tools[tool] = replace(hosted.server.tools[tool], call=call)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("HTTP error 404: Not Found", NotFound),
        ("Error calling tool 'meetings-create_invitee_with_a_long_name': HTTP error 404: Not Found - no", NotFound),
        ("Error calling tool 'a': HTTP error 400: Bad Request - missing required field", InvalidRequest),
        ("Error calling tool 'a': 1 validation error: unexpected keyword argument", Unsupported),
        ("Request failed with status code 403", PermissionDenied),
        ("404 Not Found", NotFound),
        ("The host has 404 other meetings.", OutcomeUnknown),
        ("Something broke after 500 ms.", OutcomeUnknown),
        ('HTTP 400: {"message": "Missing required field: name"}', InvalidRequest),
        ('HTTP 400: {"message": "Input validation error"}', InvalidRequest),
    ],
)
async def test_a_status_is_read_where_a_server_states_one_and_not_guessed(
    hosted: Hosted, text: str, error: type[Exception]
) -> None:
    provider = hosted.stage.gateway.accounts["acme"]
    assert isinstance(provider, HostedProvider)
    answering(hosted, "meetings-create_invitee", Outcome(text, failed=True))
    with pytest.raises(error):
        await provider.call("POST", "/invitees", nothing, json={"a": 1})


class Consented(httpx2.Auth):
    """Signs in with what no configuration has."""

    def auth_flow(self, request: httpx2.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {SECRET}"
        yield request


async def test_a_token_that_is_repeated_is_not_shown(hosted: Hosted) -> None:
    provider = hosted.stage.gateway.accounts["acme"]
    assert isinstance(provider, HostedProvider)
    provider._http.auth = Consented()
    hosted.server.quirks = replace(hosted.server.quirks, let_in=lambda token: True)
    answering(hosted, "meetings-create_invitee", Outcome(f"Token {SECRET} is not for this.", failed=True))
    with pytest.raises(OutcomeUnknown, match=r"Token \*\*\* is not") as caught:
        await provider.call("POST", "/invitees", nothing, json={"a": 1})
    assert SECRET not in str(caught.value)


# Tools


@with_(refuses_tools=True)
async def test_a_server_without_tools_is_down_and_says_so(agent: Agent) -> None:
    with pytest.raises(ProviderDown, match="as if it had no tools"):
        await agent.list_event_types()


@with_(hidden=["meetings-create_invitee"])
async def test_a_tool_that_is_missing_is_named(hosted: Hosted, agent: Agent) -> None:
    with pytest.raises(Unsupported, match="meetings-create_invitee"):
        await agent.create_booking(event_type_id=hosted.stage.intro, start=NINE.isoformat(), **BEN)
    assert (await agent.list_event_types())["event_types"]


@pytest.mark.parametrize(
    "hosted", [("calendly via mcp", {"unknown_as_result": told}) for told in (True, False)], indirect=True
)
async def test_a_tool_that_goes_overnight_is_named_and_one_that_comes_back_is_used(
    hosted: Hosted, agent: Agent
) -> None:
    event_type = hosted.stage.intro
    await agent.list_event_types()
    tools = dict(hosted.server.tools)
    hosted.server.hide("meetings-create_invitee")
    with pytest.raises(Unsupported, match="meetings-create_invitee"):
        await agent.create_booking(event_type_id=event_type, start=NINE.isoformat(), **BEN)
    assert hosted.asked("tools/list") == 2
    hosted.server.tools = tools
    hosted.server.hide("users-get_current_user")
    hosted.stage.clock.advance(SOON)
    with pytest.raises(Unsupported, match="users-get_current_user"):
        await agent.list_event_types()
    assert hosted.stage.world.writes == []


async def test_an_argument_that_has_another_name_overnight_is_no_crash(hosted: Hosted, agent: Agent) -> None:
    event_type = hosted.stage.intro
    await agent.list_event_types()
    hosted.server.respell("meetings-create_invitee", "post_invitee_request", "body")
    with pytest.raises(Unsupported, match=r"meetings-create_invitee.*other arguments"):
        await agent.create_booking(event_type_id=event_type, start=NINE.isoformat(), **BEN)
    assert hosted.stage.world.writes == []


@with_("calid via mcp")
async def test_arguments_are_placed_anew_where_their_shape_changed_overnight(
    hosted: Hosted, agent: Agent, tmp_path: Path
) -> None:
    await agent.list_event_types()
    nested = STAGES["calid via mcp, nested"]("calid via mcp, nested", _folder(tmp_path / "other"))._app.tools
    create = hosted.server.tools["create_booking"]
    hosted.server.tools["create_booking"] = _nesting(create, nested["create_booking"].takes)
    booked = await agent.create_booking(event_type_id=hosted.stage.intro, start=NINE.isoformat(), **BEN)
    assert booked["status"] == "confirmed"
    assert len(hosted.stage.world.writes) == 1


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _nesting(tool: Any, takes: Any) -> Any:
    async def call(arguments: Any) -> Any:
        return await tool.call(arguments["body"])

    return replace(tool, takes=takes, call=call)
