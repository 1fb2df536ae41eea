"""What every account owes about itself, its event types, schedules and links."""

from datetime import timedelta
from typing import Any

import pytest

from schemas import Feature, InvalidRequest, NotFound
from tests.agent import Agent
from tests.behaviour import behaviour
from tests.stages import ACCOUNT, Stage
from tests.world import BEGIN, KINDS, MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


UNPROVEN = "so far only ever run against an emulator of this service."


async def test_an_account_says_what_it_cannot_do(agent: Agent, stage: Stage) -> None:
    answer = await agent.list_accounts()
    [account] = answer["accounts"]
    assert (account["account"], account["state"], account["time_zone"]) == (ACCOUNT, "ready", "Europe/Berlin")
    assert account["cannot"] == {str(feature): advice for feature, advice in stage.adapter.gaps.items()}
    unproven = {"list_accounts": UNPROVEN} if stage.adapter.only_emulated else {}
    caveats = {str(feature): note for feature, note in stage.adapter.caveats.items()}
    assert account["notes"] == {**caveats, **stage.own_notes, **unproven}
    assert (answer["now"], answer["weekday"]) == (BEGIN.isoformat(), "Sunday")


@behaviour(Feature.LIST_EVENT_TYPES)
async def test_event_types_come_with_their_questions(agent: Agent, stage: Stage) -> None:
    found = (await agent.list_event_types())["event_types"]
    assert sorted(each["id"] for each in found) == sorted(map(stage.event_type, KINDS))
    [review] = [each for each in found if each["id"] == stage.review]
    assert (review["title"], review["durations_minutes"], review["active"]) == ("Review", [60], True)
    company, topic = review["questions"]
    assert (company["key"], company["required"], company["type"]) == ("company", True, "text")
    assert (topic["key"], topic["required"], topic["options"]) == ("topic", False, ["Sales", "Support"])


@behaviour(Feature.LIST_EVENT_TYPES)
async def test_event_types_are_found_by_their_words(agent: Agent, stage: Stage) -> None:
    found = await agent.list_event_types(query="APPROVAL", account=ACCOUNT)
    assert [each["id"] for each in found["event_types"]] == [stage.approval]


async def test_an_account_that_is_not_there_is_named_among_those_that_are(agent: Agent) -> None:
    with pytest.raises(InvalidRequest, match=ACCOUNT):
        await agent.list_event_types(account="nobody")


@behaviour(Feature.SAVE_EVENT_TYPE)
async def test_an_event_type_can_be_made_and_booked(agent: Agent) -> None:
    made = await agent.save_event_type(title="Deep dive", duration_minutes=90, description="Long", location="Room 1")
    assert (made["title"], made["slug"], made["durations_minutes"]) == ("Deep dive", "deep-dive", [90])
    assert (made["description"], made["locations"], made["active"]) == ("Long", ["Room 1"], True)
    listed = (await agent.list_event_types(query="deep dive"))["event_types"]
    assert listed == [made]
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    booked = await agent.create_booking(event_type_id=made["id"], start=NINE.isoformat(), **guest)
    assert booked["end"] == (NINE + timedelta(minutes=90)).isoformat()


@behaviour(Feature.SAVE_EVENT_TYPE)
async def test_only_what_is_given_changes(agent: Agent) -> None:
    made = await agent.save_event_type(title="Deep dive", duration_minutes=90, buffer_after_minutes=15)
    changed = await agent.save_event_type(event_type_id=made["id"], title="Deeper dive", buffer_before_minutes=5)
    assert changed == {**made, "title": "Deeper dive", "buffer_before_minutes": 5}


@behaviour(Feature.SAVE_EVENT_TYPE, Feature.SAVE_EVENT_TYPE_MINIMUM_NOTICE)
async def test_notice_keeps_a_meeting_from_beginning_too_soon(agent: Agent, stage: Stage) -> None:
    notice = {"minimum_notice_minutes": (TEN - BEGIN) // timedelta(minutes=1)}
    made = await agent.save_event_type(title="Deep dive", duration_minutes=30, **notice)
    assert made["minimum_notice_minutes"] == notice["minimum_notice_minutes"]
    window = {"start": NINE.isoformat(), "end": (TEN + timedelta(minutes=1)).isoformat()}
    found = await agent.find_slots(event_type_ids=[made["id"]], **window)
    assert [slot["start"] for slot in found["slots"]] == [TEN.isoformat()]


@behaviour(Feature.SAVE_EVENT_TYPE, Feature.SAVE_EVENT_TYPE_SLUG)
async def test_a_slug_can_be_chosen(agent: Agent) -> None:
    made = await agent.save_event_type(title="Deep dive", duration_minutes=30, slug="deep")
    assert made["slug"] == "deep"
    assert (await agent.save_event_type(event_type_id=made["id"], slug="deeper"))["slug"] == "deeper"


@behaviour(Feature.LIST_EVENT_TYPES, Feature.SAVE_EVENT_TYPE, Feature.SAVE_EVENT_TYPE_SLUG, refusal=True)
@pytest.mark.parametrize("slug", ["Not A Slug!", "intro"])
async def test_a_slug_that_will_not_do_makes_no_event_type(agent: Agent, slug: str) -> None:
    before = await agent.list_event_types(include_inactive=True)
    with pytest.raises(InvalidRequest):
        await agent.save_event_type(title="Deep dive", duration_minutes=30, slug=slug)
    assert await agent.list_event_types(include_inactive=True) == before


@behaviour(Feature.SAVE_EVENT_TYPE)
async def test_an_inactive_event_type_is_hidden_and_not_bookable(agent: Agent) -> None:
    made = await agent.save_event_type(title="Deep dive", duration_minutes=90)
    await agent.save_event_type(event_type_id=made["id"], active=False)
    assert (await agent.list_event_types(query="deep dive"))["event_types"] == []
    shown = (await agent.list_event_types(query="deep dive", include_inactive=True))["event_types"]
    assert [each["active"] for each in shown] == [False]
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    with pytest.raises(InvalidRequest):
        await agent.create_booking(event_type_id=made["id"], start=NINE.isoformat(), **guest)


@behaviour(Feature.SAVE_EVENT_TYPE)
async def test_buffers_keep_meetings_apart(agent: Agent, stage: Stage) -> None:
    made = await agent.save_event_type(
        title="Spacious", duration_minutes=30, buffer_before_minutes=30, buffer_after_minutes=30
    )
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    await agent.create_booking(event_type_id=made["id"], start=TEN.isoformat(), **guest)
    window = {"start": NINE.isoformat(), "end": (NINE + timedelta(hours=3)).isoformat()}
    found = await agent.find_slots(event_type_ids=[stage.intro], **window)
    minutes = [f"{slot['start'][11:16]}" for slot in found["slots"]]
    assert minutes == ["09:00", "11:00", "11:30"]


@behaviour(Feature.LIST_EVENT_TYPES, Feature.SAVE_EVENT_TYPE, refusal=True)
@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "No length"},
        {"duration_minutes": 30},
        {"event_type_id": "intro"},
    ],
)
async def test_a_mistake_in_an_event_type_makes_none(agent: Agent, stage: Stage, wrong: Any) -> None:
    before = await agent.list_event_types(include_inactive=True)
    with pytest.raises(InvalidRequest):
        await agent.save_event_type(**wrong | ({"event_type_id": stage.intro} if "event_type_id" in wrong else {}))
    assert await agent.list_event_types(include_inactive=True) == before


@behaviour(Feature.SAVE_EVENT_TYPE, Feature.DELETE_EVENT_TYPE)
async def test_a_deleted_event_type_is_gone_and_its_bookings_stay(agent: Agent) -> None:
    with pytest.raises(NotFound):
        await agent.delete_event_type(event_type_id=f"{ACCOUNT}:none")
    made = await agent.save_event_type(title="Deep dive", duration_minutes=90)
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    booked = await agent.create_booking(event_type_id=made["id"], start=NINE.isoformat(), **guest)
    assert await agent.delete_event_type(event_type_id=made["id"]) == made
    assert (await agent.list_event_types(query="deep dive", include_inactive=True))["event_types"] == []
    assert (await agent.get_booking(booking_id=booked["id"]))["status"] == "confirmed"
    with pytest.raises(NotFound):
        await agent.delete_event_type(event_type_id=made["id"])


@behaviour(Feature.LIST_SCHEDULES)
async def test_a_schedule_says_when_bookings_are_taken(agent: Agent, stage: Stage) -> None:
    answer = await agent.list_schedules(event_type_id=stage.intro)
    [schedule] = answer["schedules"]
    assert [each["is_default"] for each in (await agent.list_schedules())["schedules"]] == [True]
    assert (schedule["account"], schedule["time_zone"]) == (ACCOUNT, "Europe/Berlin")
    assert schedule["weekly_hours"] == {
        day: ["09:00-17:00"] for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
    }
    assert schedule["date_overrides"] == {}
    with pytest.raises(NotFound):
        await agent.list_schedules(event_type_id=f"{ACCOUNT}:none")


@behaviour(Feature.LIST_SCHEDULES, Feature.UPDATE_SCHEDULE)
async def test_only_the_days_given_change(agent: Agent, stage: Stage) -> None:
    [before] = (await agent.list_schedules(**stage.changeable))["schedules"]
    changed = await agent.update_schedule(
        schedule_id=before["id"],
        weekly_hours={"monday": ["14:00-16:00", "09:00-10:00"], "friday": []},
    )
    hours = before["weekly_hours"] | {"monday": ["09:00-10:00", "14:00-16:00"], "friday": []}
    assert {day: ranges for day, ranges in changed["weekly_hours"].items() if ranges} == {
        day: ranges for day, ranges in hours.items() if ranges
    }
    assert (await agent.list_schedules(**stage.changeable))["schedules"] == [changed]
    week = {"start": MONDAY.isoformat(), "end": (MONDAY + 7 * DAY).isoformat()}
    found = await agent.find_slots(event_type_ids=[stage.intro], **week, limit=500)
    assert sorted({slot["start"][:10] for slot in found["slots"]}) == [f"2030-01-{day:02}" for day in (7, 8, 9, 10)]
    assert [slot["start"][11:16] for slot in found["slots"]][:6] == [
        *("09:00", "09:30"),
        *("14:00", "14:30", "15:00", "15:30"),
    ]


@behaviour(Feature.LIST_SCHEDULES, Feature.UPDATE_SCHEDULE, Feature.UPDATE_SCHEDULE_DATES)
async def test_single_dates_have_hours_of_their_own(agent: Agent, stage: Stage) -> None:
    [before] = (await agent.list_schedules(**stage.changeable))["schedules"]
    dates = {"2030-01-08": [], "2030-01-12": ["10:00-11:00"]}
    changed = await agent.update_schedule(schedule_id=before["id"], date_overrides=dates)
    assert changed == {**before, "date_overrides": dates}
    week = {"start": MONDAY.isoformat(), "end": (MONDAY + 7 * DAY).isoformat()}
    found = await agent.find_slots(event_type_ids=[stage.intro], **week, limit=500)
    days = sorted({slot["start"][:10] for slot in found["slots"]})
    assert days == [f"2030-01-{day:02}" for day in (7, 9, 10, 11, 12)]


@behaviour(Feature.LIST_SCHEDULES, Feature.UPDATE_SCHEDULE, Feature.UPDATE_SCHEDULE_DATES)
async def test_a_date_can_be_given_back_to_its_weekday(agent: Agent, stage: Stage) -> None:
    [before] = (await agent.list_schedules(**stage.changeable))["schedules"]
    off: dict[str, list[str]] = {"2030-01-08": [], "2030-01-09": []}
    await agent.update_schedule(schedule_id=before["id"], date_overrides=off)
    changed = await agent.update_schedule(schedule_id=before["id"], date_overrides={"2030-01-08": None})
    assert changed["date_overrides"] == {"2030-01-09": []}


@behaviour(Feature.LIST_SCHEDULES, Feature.UPDATE_SCHEDULE)
async def test_hours_move_with_their_zone(agent: Agent, stage: Stage) -> None:
    [before] = (await agent.list_schedules(**stage.changeable))["schedules"]
    changed = await agent.update_schedule(schedule_id=before["id"], time_zone="America/New_York")
    assert changed == {**before, "time_zone": "America/New_York"}
    found = await agent.find_slots(
        event_type_ids=[stage.intro],
        start=MONDAY.isoformat(),
        end=(MONDAY + DAY).isoformat(),
        time_zone="Europe/Berlin",
    )
    assert found["slots"][0]["start"] == (NINE + timedelta(hours=6)).isoformat()


@behaviour(Feature.LIST_SCHEDULES, Feature.UPDATE_SCHEDULE, refusal=True)
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"weekly_hours": {"moonday": ["09:00-10:00"]}},
        {"weekly_hours": {"monday": ["17:00-09:00"]}},
        {"weekly_hours": {"monday": ["9-5"]}},
        {"weekly_hours": {"monday": ["09:00-12:00", "11:00-13:00"]}},
        {"time_zone": "Mars/Olympus"},
    ],
)
async def test_a_mistake_in_a_schedule_changes_nothing(agent: Agent, stage: Stage, wrong: Any) -> None:
    [before] = (await agent.list_schedules(**stage.changeable))["schedules"]
    with pytest.raises(InvalidRequest):
        await agent.update_schedule(schedule_id=before["id"], **wrong)
    assert (await agent.list_schedules(**stage.changeable))["schedules"] == [before]
    with pytest.raises(NotFound):
        await agent.update_schedule(schedule_id=f"{ACCOUNT}:none", time_zone="Asia/Tokyo")


@behaviour(Feature.CREATE_SCHEDULING_LINK)
async def test_a_link_is_for_one_guest_unless_asked_otherwise(agent: Agent, stage: Stage) -> None:
    link = await agent.create_scheduling_link(event_type_id=stage.intro)
    assert link["single_use"] is True
    assert link["url"].startswith("https://")


@behaviour(Feature.CREATE_SCHEDULING_LINK_REUSABLE)
async def test_a_link_can_be_for_many(agent: Agent, stage: Stage) -> None:
    assert (await agent.create_scheduling_link(event_type_id=stage.intro, single_use=False))["single_use"] is False
