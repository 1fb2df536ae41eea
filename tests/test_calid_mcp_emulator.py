"""What the emulated MCP server of Cal ID has of its own, and not in common with others (test_mcp_emulators.py)."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from fastmcp import Client

from tests import mcp_servers
from tests.emulators import calid_mcp
from tests.mcp_servers import MODES, URLS, Json, answer, connected, text
from tests.world import MONDAY, World

pytestmark = pytest.mark.anyio
world = mcp_servers.world


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
