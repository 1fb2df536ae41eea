"""Speaking to a hosted MCP server: one connection for all calls, what HTTP said of each, and tools that change."""

import asyncio
from collections.abc import AsyncIterator
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
from schemas import NotConnected, NotFound, OutcomeUnknown, PermissionDenied, ProviderDown, RateLimited, Unsupported
from tests.agent import Agent, connected
from tests.emulators.mcp import HANDSHAKES, Server
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
    yield Hosted(stage)
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
        *(("calendly via mcp", {"results": results}) for results in ("text", "structured")),
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


@with_(sessions=True)
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
            assert caught.value.retry_after == 3600  # type: ignore[attr-defined]
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
