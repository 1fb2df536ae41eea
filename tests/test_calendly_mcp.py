"""What only Calendly's hosted MCP server shows."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.server import build_server
from providers.calendly.mcp import API, TOOLS
from providers.hosted import HostedProvider, Operation
from providers.upstream import Tool
from schemas import InvalidRequest, NotFound, OutcomeUnknown, PermissionDenied, ScheduleChange, SlotTaken, Unsupported
from tests.agent import Agent, connected
from tests.emulators.mcp import Outcome, Server
from tests.stages import CalendlyMcpStage
from tests.world import TEN

pytestmark = pytest.mark.anyio

TAKEN = {"title": "Invalid Argument", "message": "The slot is taken.", "details": [{"code": "already_filled"}]}
GONE = {"title": "Resource Not Found", "message": "The server could not find the requested resource."}
MAY_NOT = {"title": "Permission Denied", "message": "You do not have permission."}
WRONG = {"title": "Invalid Argument", "message": "The supplied parameters are invalid."}
BROKEN = {"title": "Internal Server Error", "message": "The server encountered an unexpected condition."}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[CalendlyMcpStage]:
    stage = CalendlyMcpStage("calendly via mcp", tmp_path)
    await stage.gateway.open()
    yield stage
    await stage.gateway.close()
    assert stage.world.violations == []


@pytest.fixture
async def agent(stage: CalendlyMcpStage) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway)) as agent:
        yield agent


def server(stage: CalendlyMcpStage) -> Server:
    assert isinstance(stage._app, Server)
    return stage._app


def provider(stage: CalendlyMcpStage) -> HostedProvider:
    found = stage.gateway.accounts["acme"]
    assert isinstance(found, HostedProvider)
    return found


def answering(stage: CalendlyMcpStage, tool: str, outcome: Outcome) -> None:
    async def call(_: Any) -> Outcome:
        return outcome

    server(stage).tools[tool] = replace(server(stage).tools[tool], call=call)


async def test_a_schedule_of_the_user_s_own_cannot_be_changed_and_says_what_to_do(
    stage: CalendlyMcpStage, agent: Agent
) -> None:
    [own, *_] = (await agent.list_schedules())["schedules"]
    with pytest.raises(Unsupported, match=r"calendly\.com.*`via: api`"):
        await agent.update_schedule(schedule_id=own["id"], weekly_hours={"monday": []})
    [of_type] = (await agent.list_schedules(event_type_id=stage.intro))["schedules"]
    changed = await agent.update_schedule(schedule_id=of_type["id"], weekly_hours={"monday": []})
    assert changed["weekly_hours"].get("monday", []) == []
    assert len(stage.world.writes) == 1


@pytest.mark.parametrize("is_error", [True, False])
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (TAKEN, SlotTaken),
        (GONE, NotFound),
        (MAY_NOT, PermissionDenied),
        (WRONG, InvalidRequest),
        (BROKEN, OutcomeUnknown),
    ],
)
async def test_an_error_is_known_by_its_title_whether_or_not_it_is_called_one(
    stage: CalendlyMcpStage, said: dict[str, Any], error: type[Exception], is_error: bool
) -> None:
    answering(stage, "meetings-delete_invitee_no_show", Outcome(json.dumps(said), said, failed=is_error))
    with pytest.raises(error):
        await provider(stage).call("DELETE", "/invitee_no_shows/1", lambda _: None)


async def test_a_change_that_is_answered_by_an_error_is_not_taken_for_made(stage: CalendlyMcpStage) -> None:
    [hours] = await provider(stage).list_schedules(stage.intro.partition(":")[2])
    tool = "event_types-update_event_type_availability_schedule"
    answering(stage, tool, Outcome(json.dumps(MAY_NOT), MAY_NOT))
    with pytest.raises(PermissionDenied):
        await provider(stage).update_schedule(hours, ScheduleChange(weekly_hours={"monday": ()}))


@pytest.mark.parametrize("named", TOOLS, ids=lambda each: each.tool)
async def test_every_operation_is_a_tool_that_takes_its_arguments(stage: CalendlyMcpStage, named: Any) -> None:
    path = named.path.replace("*", "A1")
    operation = Operation(named.method, path, {}, {"a": 1} if named.body else None)
    listed = {each: Tool(each, tool.takes) for each, tool in server(stage).tools.items()}
    name, arguments = provider(stage).place(operation, listed)
    takes = server(stage).tools[name].takes["properties"]
    assert arguments.keys() <= takes.keys()
    assert all(arguments[uri].startswith(f"{API}/") for uri in named.uris)


async def test_what_has_no_tool_is_refused_and_not_sent(stage: CalendlyMcpStage) -> None:
    with pytest.raises(Unsupported, match=r"no tool.*`via: api`"):
        await provider(stage).call("DELETE", "/event_types/A1", lambda _: None)
    assert stage.world.writes == []


async def test_a_reason_may_be_left_out(stage: CalendlyMcpStage, agent: Agent) -> None:
    id = await stage.book("intro", TEN)
    assert (await agent.cancel_booking(booking_id=id))["status"] == "cancelled"
