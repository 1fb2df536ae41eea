"""What only Calendly can show: its windows and limits, how much is asked of it, event types, hours and links.

Bookings are in test_calendly_bookings.py.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.rest import KEPT, LONGEST_WAIT
from schemas import InvalidRequest, NotFound, PermissionDenied, ProviderDown, RateLimited, SlotTaken, Unsupported
from tests import calendly_desk
from tests.agent import Agent, after_a_restart
from tests.calendly_desk import (
    AGAIN,
    ANA,
    BEN,
    BOOK,
    CALL_OFF,
    DAY,
    EVENT,
    GONE,
    HOUR,
    INVITEE,
    LISTED,
    ME,
    MINUTE,
    NEAR,
    NEW,
    OLD,
    QUARTER,
    TYPE,
    TYPES,
    Watched,
    booking,
    move,
    parts,
    starts,
    window,
)
from tests.emulators.calendly import EVERY_SCOPE
from tests.emulators.calendly_shapes import missing
from tests.emulators.wire import Lost
from tests.stages import ACCOUNT
from tests.world import BEGIN, ELEVEN, MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio
quirks, stage, agent = calendly_desk.quirks, calendly_desk.stage, calendly_desk.agent


# Times


async def test_slots_of_three_months_are_asked_in_parts_of_31_days(agent: Agent, stage: Watched) -> None:
    stage.world.hours = {"monday": ["09:00-17:00"], "thursday": ["09:00-11:00"]}
    start = TEN.astimezone(UTC)
    end = start + 92 * DAY
    found = await agent.find_slots(**window(stage, start, end, limit=500))
    assert starts(found) == list(stage.world.free("intro", start, end))
    assert len(found["slots"]) > 200
    assert start + 31 * DAY in starts(found), "a slot where two parts meet"
    asked = parts(stage.wire.sent("GET /event_type_available_times"))
    assert asked == [(start + n * 31 * DAY, min(start + (n + 1) * 31 * DAY, end)) for n in range(3)]


async def test_slots_are_asked_of_the_future_alone(agent: Agent, stage: Watched) -> None:
    stage.clock.advance(TEN - BEGIN)
    found = await agent.find_slots(**window(stage, TEN, TEN + 2 * HOUR))
    assert starts(found) == [TEN + n * 2 * QUARTER for n in (1, 2, 3)]
    [(start, end)] = parts(stage.wire.sent("GET /event_type_available_times"))
    assert (TEN < start <= TEN + MINUTE, end) == (True, TEN + 2 * HOUR)


async def test_busy_times_are_asked_in_parts_of_seven_days(agent: Agent, stage: Watched) -> None:
    trip = (MONDAY + 7 * DAY - HOUR, MONDAY + 7 * DAY + HOUR)  # on both sides of where two parts meet
    stage.world.elsewhere += [trip, (MONDAY + 29 * DAY, MONDAY + 29 * DAY + HOUR)]
    await stage.book("intro", TEN + 15 * DAY)
    found = await agent.find_busy_times(start=MONDAY.isoformat(), end=(MONDAY + 30 * DAY).isoformat())
    busy = [(datetime.fromisoformat(each["start"]), datetime.fromisoformat(each["end"])) for each in found["busy"]]
    assert busy == [trip, (TEN + 15 * DAY, TEN + 15 * DAY + 2 * QUARTER), stage.world.elsewhere[1]]
    asked = parts(stage.wire.sent("GET /user_busy_times"))
    assert asked == [(MONDAY + n * DAY, MONDAY + min(n + 7, 30) * DAY) for n in range(0, 30, 7)]


async def test_busy_times_of_the_past_are_refused_and_not_clipped(agent: Agent, stage: Watched) -> None:
    with pytest.raises(InvalidRequest, match="past"):
        await agent.find_busy_times(start=(BEGIN - HOUR).isoformat(), end=(BEGIN + DAY).isoformat())
    assert not stage.wire.sent("GET /user_busy_times")
    assert (await agent.find_busy_times(start=BEGIN.isoformat(), end=(BEGIN + DAY).isoformat()))["busy"] == []


@pytest.mark.parametrize("quirks", [{"broken_calendar": True}])
async def test_a_calendar_that_cannot_be_read_makes_nothing_free(agent: Agent, stage: Watched) -> None:
    with pytest.raises(ProviderDown, match="Reconnect"):
        await agent.find_busy_times(start=MONDAY.isoformat(), end=(MONDAY + DAY).isoformat())
    assert len((await agent.find_slots(**window(stage)))["slots"]) == 16
    checked = await agent.find_slots(**window(stage, free_in=[ACCOUNT]))
    assert (checked["slots"], [each["code"] for each in checked["unavailable"]]) == ([], ["provider_down"])


# How much is asked


TIMES, SCHEDULES, EVENING = "GET /event_type_available_times", "/user_availability_schedules", "2030-01-07T20:00:00Z"
DETAILS = {"title": "Deep dive", "duration_minutes": 45}
HOURS = {"schedule_id": f"{ACCOUNT}:SCHED1", "weekly_hours": {"friday": []}}
COSTS: dict[str, tuple[str, dict[str, Any], list[str], list[str]]] = {
    "accounts": ("list_accounts", {}, [ME], []),
    "event types": ("list_event_types", {}, [TYPES], [ME]),
    "slots": ("find_slots", {"event_type_ids": True, "end": EVENING}, [TIMES], [ME, TYPE]),
    "busy": ("find_busy_times", {"end": EVENING}, ["GET /user_busy_times"], [ME]),
    "book": ("create_booking", {"event_type_id": True, **BEN}, [BOOK, AGAIN], [ME, TYPE]),
    "get": ("get_booking", {"booking_id": True}, [EVENT, INVITEE], [ME]),
    "list": ("list_bookings", {}, [LISTED, f"{EVENT}/invitees", "GET /scheduled_events/b2/invitees"], [ME]),
    "move": (
        "reschedule_booking",
        {"booking_id": True},
        [EVENT, INVITEE, TYPE, EVENT, INVITEE, BOOK, AGAIN, CALL_OFF],
        [ME],
    ),
    "cancel": ("cancel_booking", {"booking_id": True}, [EVENT, INVITEE, CALL_OFF], [ME]),
    "schedules": ("list_schedules", {}, [f"GET {SCHEDULES}"], [ME]),
    "rules": ("list_schedules", {"event_type_id": True}, ["GET /event_type_availability_schedules"], [ME]),
    "hours": ("update_schedule", HOURS, [f"{each} {SCHEDULES}/SCHED1" for each in ("GET", "PATCH", "GET")], []),
    "new type": ("save_event_type", DETAILS, ["POST /event_types", "PATCH /event_types/deep-dive"], [ME]),
    "change type": ("save_event_type", {"event_type_id": True, **DETAILS}, ["PATCH /event_types/intro"], []),
    "link": ("create_scheduling_link", {"event_type_id": True}, ["POST /scheduling_links"], [ME]),
    "reusable link": ("create_scheduling_link", {"event_type_id": True, "single_use": False}, [], [TYPE]),
}


def filled_in(stage: Watched, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = {"event_type_ids": [stage.intro], "event_type_id": stage.intro, "booking_id": f"{ACCOUNT}:b1/i-b1"}
    times = {"find_slots": NINE, "find_busy_times": NINE, "create_booking": NEW, "reschedule_booking": NEW}
    start = {"start": times[tool].isoformat()} if tool in times else {}
    return start | {name: known[name] if value is True else value for name, value in arguments.items()}


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("what", COSTS)
async def test_a_call_asks_no_more_than_it_needs(agent: Agent, stage: Watched, what: str, warm: bool) -> None:
    """The first one asks who we are and what there is, the others know."""
    tool, arguments, expected, first = COSTS[what]
    for start in (OLD, OLD + DAY):
        await stage.book("intro", start)
    if warm:
        await agent.list_event_types()
        assert stage.wire.lines() == [ME, TYPES]
    await getattr(agent, tool)(**filled_in(stage, tool, arguments))
    assert sorted(stage.wire.lines()) == sorted(expected if warm else expected + first)


async def test_what_was_asked_is_kept_for_a_while_or_until_a_write(agent: Agent, stage: Watched) -> None:
    await stage.book("intro", OLD)
    invitees = f"{EVENT}/invitees"

    async def asked() -> list[str]:
        await agent.find_slots(**window(stage, ELEVEN))
        await agent.list_bookings()
        return stage.wire.lines()

    assert await asked() == [TYPE, ME, TIMES, LISTED, invitees]
    stage.clock.advance(KEPT - timedelta(seconds=1))
    assert await asked() == [TIMES, LISTED]
    stage.clock.advance(timedelta(seconds=1))
    assert await asked() == [TYPE, ME, TIMES, LISTED, invitees]
    await agent.create_scheduling_link(event_type_id=stage.intro)
    assert stage.wire.lines() == ["POST /scheduling_links"]
    assert await asked() == [TYPE, TIMES, LISTED, invitees]


# Limits


@pytest.mark.parametrize(
    ("quirks", "most", "span"),
    [
        ({}, 10, MINUTE),
        ({"settings": {"booking_limits": {"minute": 2}}}, 2, MINUTE),
        ({"settings": {"booking_limits": {"hour": 2}}}, 2, HOUR),
        ({"settings": {"booking_limits": {"day": 2}}}, 2, DAY),
    ],
)
async def test_one_booking_more_than_the_plan_has_is_not_sent(
    agent: Agent, stage: Watched, most: int, span: timedelta
) -> None:
    begin = NINE + 2 * DAY
    for n in range(most):
        await agent.create_booking(**booking(stage, begin + n * 2 * QUARTER))
        stage.clock.advance(timedelta(seconds=2))
    left = span.total_seconds() - 2 * most
    async with after_a_restart(stage) as again:
        with pytest.raises(RateLimited) as failed:
            await again.create_booking(**booking(stage, begin + DAY))
        assert (failed.value.retry_after, len(stage.wire.sent(BOOK))) == (left, most)
        stage.clock.advance(timedelta(seconds=left))
        for email in (ANA, "zoe@example.com"):  # they count for nothing
            with pytest.raises(SlotTaken):
                await again.create_booking(**booking(stage, begin, attendee_email=email))
        assert (await again.create_booking(**booking(stage, begin + DAY)))["status"] == "confirmed"


@pytest.mark.parametrize("quirks", [{"settings": {"booking_limits": {"minute": 2}}}])
@pytest.mark.parametrize(("to", "makes"), [(NEW, 2), (NEAR, 1)])
async def test_a_move_that_could_not_be_finished_is_not_begun(
    agent: Agent, stage: Watched, to: datetime, makes: int
) -> None:
    """Where the old booking goes first, one more may be needed to put it back."""
    stage.shift()
    id = await stage.book("intro", OLD)
    for n in range(makes):
        await agent.create_booking(**booking(stage, OLD + (n + 1) * DAY))
    stage.world.requests.clear()
    with pytest.raises(RateLimited) as failed:
        await move(agent, id, to)
    assert (failed.value.retry_after, stage.world.writes, stage.live()) == (60, [], [OLD])
    stage.clock.advance(MINUTE)
    await move(agent, id, to)
    assert stage.live() == [to]


@pytest.mark.parametrize("quirks", [{"booking_limits": (1, 50, 100)}])
async def test_a_limit_that_only_the_service_knows_is_told(agent: Agent, stage: Watched) -> None:
    await agent.create_booking(**booking(stage))
    with pytest.raises(RateLimited) as failed:
        await agent.create_booking(**booking(stage, NEW))
    assert (failed.value.retry_after, len(stage.wire.sent(BOOK))) == (60, 2)
    assert sorted(await stage.journaled()) == [("create_booking", ACCOUNT, each) for each in ("done", "failed")]


async def test_a_read_waits_for_requests_to_be_had_again_and_a_write_does_not(agent: Agent, stage: Watched) -> None:
    stage.world.allowance = 2
    await agent.list_event_types()
    for call in (agent.find_slots(**window(stage)), agent.create_scheduling_link(event_type_id=stage.intro)):
        with pytest.raises(RateLimited) as failed:
            await call
        assert failed.value.retry_after == 60
    stage.clock.advance(timedelta(seconds=60 - LONGEST_WAIT + 1))
    with pytest.raises(RateLimited) as failed:
        await agent.create_scheduling_link(event_type_id=stage.intro)
    assert (failed.value.retry_after, stage.sent(), stage.clock.waits) == (LONGEST_WAIT - 1, 2, [])
    assert len((await agent.find_slots(**window(stage)))["slots"]) == 16
    assert stage.clock.waits == [LONGEST_WAIT - 1]
    assert stage.world.links == []


@pytest.mark.parametrize("allowance", [14, 15])
async def test_a_move_begins_only_with_enough_requests_left(agent: Agent, stage: Watched, allowance: int) -> None:
    id = await stage.book("intro", OLD)
    stage.world.allowance = allowance
    await agent.list_event_types()
    if allowance == 15:
        await move(agent, id, NEW)
    else:
        with pytest.raises(RateLimited) as failed:
            await move(agent, id, NEW)
        assert (failed.value.retry_after, stage.world.writes) == (60, [])
    assert stage.live() == [NEW if allowance == 15 else OLD]


ADVICE = {"scope": "availability:read", "plan": "upgrade the plan", "role": "owner or admin"}


@pytest.mark.parametrize(
    ("quirks", "why"),
    [
        ({"scopes": EVERY_SCOPE - {"availability:write"}}, "scope"),
        ({"forbidden": "plan"}, "plan"),
        ({"forbidden": "role"}, "role"),
    ],
)
async def test_what_is_forbidden_says_what_is_missing(agent: Agent, stage: Watched, why: str) -> None:
    calls = {
        "scope": lambda: agent.find_slots(**window(stage)),
        "plan": lambda: agent.create_booking(**booking(stage)),
        "role": lambda: agent.list_bookings(),
    }
    with pytest.raises(PermissionDenied) as failed:
        await calls[why]()
    assert {each: words in failed.value.message for each, words in ADVICE.items()} == {
        each: each == why for each in ADVICE
    }
    assert stage.world.appointments == {}


# Event types, hours and links


@pytest.mark.parametrize("active", [True, False, None])
async def test_a_new_event_type_comes_out_as_it_was_asked_for(agent: Agent, stage: Watched, active: Any) -> None:
    details = {"description": "All of it", "location": "Main Street 1", "buffer_after_minutes": 15, "active": active}
    saved = await agent.save_event_type(**DETAILS, **details)
    told = [saved[name] for name in ("id", "title", "durations_minutes", "locations", "active")]
    assert told == [f"{ACCOUNT}:deep-dive", "Deep dive", [45], ["Main Street 1"], active is not False]
    made = stage.world.kinds["deep-dive"]
    assert (made.minutes, made.description, made.places, made.after) == (45, "All of it", ("Main Street 1",), 15)
    assert made.active == (active is not False)


async def test_a_new_event_type_that_stays_inactive_is_told(agent: Agent, stage: Watched) -> None:
    stage.wire.breaks("PATCH .*", GONE, GONE)
    assert (await agent.save_event_type(**DETAILS))["active"] is False
    with pytest.raises(Unsupported, match=r"deep-dive-1.*active"):
        await agent.save_event_type(**DETAILS, active=True)
    assert [stage.world.kinds[key].active for key in ("deep-dive", "deep-dive-1")] == [False, False]


CHANGES: dict[str, tuple[Any, str, Any, Any]] = {
    "title": ("Hello", "name", "Hello", {"name": "Intro call"}),
    "duration_minutes": (45, "duration", 45, {"duration": 30}),
    "active": (False, "active", False, {"active": True}),
    "buffer_before_minutes": (15, "before_buffer", 15, {"before_buffer": 0}),
    "buffer_after_minutes": (0, "after_buffer", 0, {"after_buffer": 5}),
    "description": ("New", "description", "New", {"description_plain": None, "description_html": None}),
    "location": (
        "Market 2",
        "locations",
        [{"kind": "physical", "location": "Market 2"}],
        {"locations": [{"kind": "zoom_conference"}]},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_only_what_is_given_is_written_and_what_is_ignored_is_told(
    agent: Agent, stage: Watched, name: str
) -> None:
    value, field, written, left = CHANGES[name]
    change = {"event_type_id": stage.intro, name: value}
    await agent.save_event_type(**change)
    assert [each.body for each in stage.wire.sent("PATCH .*")] == [{field: written}]
    stage.wire.breaks("PATCH .*", lambda answer: {"resource": answer["resource"] | left})
    with pytest.raises(Unsupported, match=name):
        await agent.save_event_type(**change)


@pytest.mark.parametrize("id", ["SCHED1", "event_type/intro"])
async def test_only_the_days_given_change(agent: Agent, stage: Watched, id: str) -> None:
    """Though all rules are written: a rule for each weekday, and no dates before yesterday."""
    stage.world.overrides = {"2030-01-04": [], "2030-01-05": [], "2030-01-08": ["10:00-12:00"], "2030-01-09": []}
    [listed] = (await agent.list_schedules(**({} if id == "SCHED1" else {"event_type_id": stage.intro})))["schedules"]
    assert listed["id"] == f"{ACCOUNT}:{id}"
    dates = {"2030-01-09": None, "2030-01-10": ["09:00-10:00", "11:00-12:00"]}
    weekly = {"friday": [], "saturday": ["10:00-14:00"]}
    saved = await agent.update_schedule(schedule_id=listed["id"], weekly_hours=weekly, date_overrides=dates)
    hours = {day: ["09:00-17:00"] for day in ("monday", "tuesday", "wednesday", "thursday")}
    overrides = {"2030-01-05": [], "2030-01-08": ["10:00-12:00"], "2030-01-10": dates["2030-01-10"]}
    assert stage.world.hours == hours | {"saturday": ["10:00-14:00"]}
    assert stage.world.overrides == overrides
    assert saved == listed | {"weekly_hours": stage.world.hours, "date_overrides": overrides}
    [sent] = stage.wire.sent("PATCH .*")
    rules = sent.body.get("availability_rule", sent.body)["rules"]
    assert len({each["wday"] for each in rules if each["type"] == "wday"}) == 7
    assert sent.query == ({} if id == "SCHED1" else {"event_type": "https://api.calendly.com/event_types/intro"})


async def test_hours_that_are_changed_are_told_though_they_cannot_be_read_back(agent: Agent, stage: Watched) -> None:
    stage.wire.breaks("GET .*_schedules/SCHED1", None, missing().answer)
    saved = await agent.update_schedule(schedule_id=f"{ACCOUNT}:SCHED1", weekly_hours={"friday": []})
    assert not saved["weekly_hours"].get("friday")
    assert "friday" not in stage.world.hours
    assert len(stage.wire.sent("PATCH .*")) == 1


async def test_a_link_serves_once_or_is_the_page_of_the_event_type(agent: Agent, stage: Watched) -> None:
    once = await agent.create_scheduling_link(event_type_id=stage.intro)
    page = await agent.create_scheduling_link(event_type_id=stage.intro, single_use=False)
    assert once == {"url": "https://calendly.com/d/c001-brv8/intro", "single_use": True}
    assert page == {"url": "https://calendly.com/host/intro", "single_use": False}
    assert (stage.world.links, len(stage.world.writes)) == ([("intro", True)], 1)
    for single_use in (True, False):
        with pytest.raises(NotFound):
            await agent.create_scheduling_link(event_type_id=f"{ACCOUNT}:none", single_use=single_use)


async def test_hours_of_an_event_type_whose_change_is_not_answered_are_looked_at(agent: Agent, stage: Watched) -> None:
    [schedule] = (await agent.list_schedules(event_type_id=stage.intro))["schedules"]
    stage.wire.breaks("PATCH .*", Lost())
    changed = await agent.update_schedule(schedule_id=schedule["id"], weekly_hours={"friday": []})
    assert (changed["id"], "friday" in changed["weekly_hours"]) == (schedule["id"], False)
    assert len(stage.wire.sent("PATCH .*")) == 1
