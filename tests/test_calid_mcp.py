"""What only Cal ID's hosted MCP server shows: arguments in either shape, errors in three styles."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.server import build_server
from providers.calid.mcp import TOOLS, _placed
from providers.hosted import HostedProvider, Operation
from providers.upstream import Tool
from schemas import (
    InvalidRequest,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    SlotTaken,
    Unsupported,
)
from tests.agent import Agent, connected
from tests.emulators.mcp import Outcome, Server
from tests.stages import CalidMcpStage, NestedCalidMcpStage
from tests.world import ELEVEN, TEN

pytestmark = pytest.mark.anyio

WHY = {"cancellationReason": "Ill"}
SHAPES: dict[str, type[CalidMcpStage]] = {"flat": CalidMcpStage, "nested": NestedCalidMcpStage}


@pytest.fixture(params=SHAPES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CalidMcpStage]:
    stage = SHAPES[request.param]("calid via mcp", tmp_path)
    await stage.gateway.open()
    yield stage
    await stage.gateway.close()
    assert stage.world.violations == []


@pytest.fixture
async def agent(stage: CalidMcpStage) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway)) as agent:
        yield agent


def server(stage: CalidMcpStage) -> Server:
    assert isinstance(stage._app, Server)
    return stage._app


def provider(stage: CalidMcpStage) -> HostedProvider:
    found = stage.gateway.accounts["acme"]
    assert isinstance(found, HostedProvider)
    return found


def answering(stage: CalidMcpStage, tool: str, text: str, failed: bool) -> None:
    async def call(_: Any) -> Outcome:
        return Outcome(text, failed=failed)

    server(stage).tools[tool] = replace(server(stage).tools[tool], call=call)


def envelope(message: str, code: str = "INTERNAL_ERROR") -> dict[str, Any]:
    return {"success": False, "message": message, "error": {"code": code, "message": message}}


NO_ROUTE = {"message": "Route DELETE:/booking/1 not found", "error": "Not Found", "statusCode": 404}
ERRORS: list[tuple[int, dict[str, Any], type[Exception]]] = [
    (404, envelope("Booking not found"), NotFound),
    (403, envelope("Forbidden", "FORBIDDEN"), PermissionDenied),
    (401, envelope("Invalid API key", "UNAUTHORIZED"), NotConnected),
    (400, dict(reversed(envelope("Wrong", "BAD_REQUEST").items())), InvalidRequest),
    (500, envelope("no_available_users_found_error"), SlotTaken),
    (500, envelope("Something broke"), OutcomeUnknown),
    (
        400,
        {"statusCode": 400, "code": "FST_ERR_VALIDATION", "error": "Bad Request", "message": "body/x"},
        InvalidRequest,
    ),
    (404, NO_ROUTE, NotFound),
    (429, {"error": "Rate limit exceeded", "message": "Too many requests. Please try again later."}, RateLimited),
]
STYLES: dict[str, Callable[[int, str], tuple[str, bool]]] = {
    "json": lambda status, text: (text, True),
    "status": lambda status, text: (f"HTTP {status}: {text}", True),
    "plain": lambda status, text: (text, False),
}


def nothing(raw: Any) -> None:
    """What takes any answer for done."""


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("status", "said", "error"), ERRORS, ids=lambda each: each.get("message") if isinstance(each, dict) else None
)
async def test_an_error_has_its_name_in_every_style_and_is_never_taken_for_done(
    stage: CalidMcpStage, style: str, status: int, said: dict[str, Any], error: type[Exception]
) -> None:
    answering(stage, "cancel_booking", *STYLES[style](status, json.dumps(said)))
    with pytest.raises(error):
        await provider(stage).call("POST", "/booking/1/cancel", nothing, json=WHY)


@pytest.mark.parametrize("text", ["", "null", "[]", "Done.", '{"data": null}'])
async def test_an_answer_that_is_no_envelope_is_not_taken_for_done(stage: CalidMcpStage, text: str) -> None:
    answering(stage, "cancel_booking", text, False)
    with pytest.raises(OutcomeUnknown):
        await provider(stage).call("POST", "/booking/1/cancel", nothing, json=WHY)


async def test_a_booking_is_cancelled_with_and_without_a_reason(stage: CalidMcpStage, agent: Agent) -> None:
    for start, reason in ((TEN, {}), (ELEVEN, {"reason": "Ill"})):
        id = await stage.book("intro", start)
        assert (await agent.cancel_booking(booking_id=id, **reason))["status"] == "cancelled"


@pytest.mark.parametrize(("operation", "tool"), TOOLS.items(), ids=lambda each: each if isinstance(each, str) else None)
async def test_every_operation_has_a_tool_that_has_a_place_for_its_id(
    stage: CalidMcpStage, operation: tuple[str, str], tool: str
) -> None:
    method, path = operation
    takes = server(stage).tools[tool].takes
    name, arguments = provider(stage).place(
        Operation(method, path.replace("*", "17"), {}, None), {tool: Tool(tool, takes)}
    )
    assert name == tool
    assert ("17" in json.dumps(arguments)) == ("*" in path)


def test_what_has_no_place_is_not_left_out() -> None:
    flat = {"type": "object", "properties": {"id": {"type": "integer"}, "reason": {"type": "string"}}}
    cancel = Operation("POST", "/booking/17/cancel", {}, {"reason": "Ill"})
    assert _placed(Tool("cancel_booking", flat), ["17"], cancel) == {"id": 17, "reason": "Ill"}
    assert _placed(Tool("cancel_booking", flat), ["17"], replace(cancel, body={"why": "Ill"})) is None
    assert _placed(Tool("cancel_booking", {"type": "object"}), ["17"], cancel) is None
    text = {"properties": {"bookingId": {"type": ["string", "null"]}, "body": {"anyOf": [{"type": "object"}]}}}
    assert _placed(Tool("cancel_booking", text), ["17"], cancel) == {"bookingId": "17", "body": {"reason": "Ill"}}


async def test_a_tool_without_a_place_for_its_arguments_is_named(stage: CalidMcpStage, agent: Agent) -> None:
    id = await stage.book("intro", TEN)
    server(stage).reshape("cancel_booking", {"type": "object", "properties": {}, "additionalProperties": False})
    with pytest.raises(Unsupported, match=r"cancel_booking.*`via: api`"):
        await agent.cancel_booking(booking_id=id, reason="Ill")
    assert stage.world.writes == []
