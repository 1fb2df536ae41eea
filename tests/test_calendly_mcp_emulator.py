"""What the emulated MCP server of Calendly has of its own, and not in common with others (test_mcp_emulators.py)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from tests import mcp_servers
from tests.emulators import calendly_mcp, calid_mcp
from tests.emulators.calendly_shapes import API, USER
from tests.mcp_servers import MODES, URLS, Json, answer, connected, invitee, text
from tests.world import NINE, World

pytestmark = pytest.mark.anyio
world = mcp_servers.world


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
