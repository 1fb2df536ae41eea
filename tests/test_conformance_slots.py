"""What every account owes about slots and busy times."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas import Feature, InvalidRequest, NotFound
from tests.agent import Agent
from tests.behaviour import behaviour
from tests.stages import ACCOUNT, Stage
from tests.world import BEGIN, BERLIN, ELEVEN, MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio

DAY, HALF_HOUR, HOUR = timedelta(days=1), timedelta(minutes=30), timedelta(hours=1)


def window(start: Any = MONDAY, end: Any = MONDAY + DAY) -> dict[str, str]:
    return {"start": start.isoformat(), "end": end.isoformat()}


def starts(found: Any) -> list[str]:
    return [slot["start"] for slot in found["slots"]]


@behaviour(Feature.FIND_SLOTS)
async def test_slots_are_what_the_service_has_on_offer(agent: Agent, stage: Stage) -> None:
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(end=MONDAY + 8 * DAY), limit=500)
    expected = stage.world.free("intro", MONDAY, MONDAY + 8 * DAY)
    assert found == {
        "slots": [
            {
                "start": at.isoformat(),
                "end": (at + HALF_HOUR).isoformat(),
                "weekday": f"{at:%A}",
                "event_type_id": stage.intro,
            }
            for at in expected
        ],
        "time_zone": "Europe/Berlin",
        "now": BEGIN.isoformat(),
        "unavailable": [],
    }
    assert len(found["slots"]) == 6 * 16


@behaviour(Feature.FIND_SLOTS)
async def test_a_booked_time_is_not_offered(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(NINE, ELEVEN))
    assert starts(found) == [at.isoformat() for at in (NINE, NINE + HALF_HOUR, TEN + HALF_HOUR)]


@behaviour(Feature.FIND_SLOTS)
async def test_a_booking_of_one_event_type_blocks_the_others(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    assert starts(await agent.find_slots(event_type_ids=[stage.review], **window(NINE, ELEVEN))) == [NINE.isoformat()]


@behaviour(Feature.FIND_SLOTS)
async def test_a_window_holds_its_start_and_not_its_end(agent: Agent, stage: Stage) -> None:
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(NINE, NINE + HALF_HOUR))
    assert starts(found) == [NINE.isoformat()]


@behaviour(Feature.FIND_SLOTS)
async def test_the_past_part_of_a_window_is_left_out(agent: Agent, stage: Stage) -> None:
    stage.clock.advance(TEN - timedelta(minutes=1) - BEGIN)
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(MONDAY, ELEVEN))
    assert starts(found) == [TEN.isoformat(), (TEN + HALF_HOUR).isoformat()]
    with pytest.raises(InvalidRequest):
        await agent.find_slots(event_type_ids=[stage.intro], **window(MONDAY - DAY, MONDAY))


@behaviour(Feature.FIND_SLOTS)
async def test_several_event_types_give_their_union_by_start(agent: Agent, stage: Stage) -> None:
    found = await agent.find_slots(event_type_ids=[stage.review, stage.intro], **window(NINE, TEN))
    assert [(slot["start"], slot["event_type_id"]) for slot in found["slots"]] == [
        (NINE.isoformat(), stage.intro),
        (NINE.isoformat(), stage.review),
        ((NINE + HALF_HOUR).isoformat(), stage.intro),
    ]


@behaviour(Feature.FIND_SLOTS)
async def test_pages_together_are_the_whole(agent: Agent, stage: Stage) -> None:
    asked = {"event_type_ids": [stage.intro, stage.review], **window()}
    whole = starts(await agent.find_slots(**asked, limit=500))
    paged: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await agent.find_slots(**asked, limit=5, **cursor)
        paged += starts(page)
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert paged == whole
    with pytest.raises(InvalidRequest):
        await agent.find_slots(event_type_ids=[stage.intro], **window(), **cursor)


@behaviour(Feature.FIND_SLOTS, Feature.GET_BOOKING)
async def test_the_time_of_the_booking_being_moved_counts_as_free(agent: Agent, stage: Stage) -> None:
    moving = await stage.book("review", TEN)
    await stage.book("intro", NINE)
    found = await agent.find_slots(event_type_ids=[stage.review], **window(NINE, ELEVEN + HOUR), booking_id=moving)
    own = [TEN.isoformat()] if stage.adapter.offers_own_time else []
    assert starts(found) == [*own, ELEVEN.isoformat()]


@behaviour(Feature.FIND_SLOTS, Feature.FIND_BUSY_TIMES)
async def test_slots_can_be_asked_to_be_free_elsewhere_too(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(NINE, ELEVEN), free_in=[ACCOUNT])
    assert starts(found) == [at.isoformat() for at in (NINE, NINE + HALF_HOUR, TEN + HALF_HOUR)]


@behaviour(Feature.FIND_SLOTS)
async def test_times_are_shown_in_the_zone_that_was_asked_for(agent: Agent, stage: Stage) -> None:
    found = await agent.find_slots(
        event_type_ids=[stage.intro],
        start="2030-01-07T23:00:00",
        end="2030-01-08T00:30:00",
        time_zone="Pacific/Auckland",
    )
    assert found["time_zone"] == "Pacific/Auckland"
    assert [(slot["start"], slot["weekday"]) for slot in found["slots"]] == [
        ("2030-01-07T23:00:00+13:00", "Monday"),
        ("2030-01-07T23:30:00+13:00", "Monday"),
        ("2030-01-08T00:00:00+13:00", "Tuesday"),
    ]


@behaviour(Feature.FIND_SLOTS)
async def test_hours_stay_where_they_are_when_clocks_change(agent: Agent, stage: Stage) -> None:
    friday = datetime(2030, 3, 29, tzinfo=BERLIN)
    found = await agent.find_slots(event_type_ids=[stage.review], **window(friday, friday + 4 * DAY))
    assert starts(found) == [at.isoformat() for at in stage.world.free("review", friday, friday + 4 * DAY)]
    assert [start for start in starts(found) if "T09" in start] == [
        "2030-03-29T09:00:00+01:00",
        "2030-04-01T09:00:00+02:00",
    ]


@behaviour(Feature.FIND_SLOTS, refusal=True)
async def test_a_length_that_an_event_type_does_not_have_is_refused(agent: Agent, stage: Stage) -> None:
    with pytest.raises(InvalidRequest, match="duration_minutes"):
        await agent.find_slots(event_type_ids=[stage.intro], **window(), duration_minutes=45)


@behaviour(Feature.FIND_SLOTS)
async def test_an_event_type_that_is_not_there_is_not_found(agent: Agent) -> None:
    with pytest.raises(NotFound):
        await agent.find_slots(event_type_ids=[f"{ACCOUNT}:none"], **window())


@behaviour(Feature.FIND_BUSY_TIMES)
async def test_busy_times_are_the_live_bookings(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN, name="Ana")
    await stage.book("review", NINE, status="cancelled")
    found = await agent.find_busy_times(**window())
    [busy] = found.pop("busy")
    assert busy.pop("title", "Intro call").startswith("Intro call")
    assert busy == {"start": TEN.isoformat(), "end": (TEN + HALF_HOUR).isoformat(), "account": ACCOUNT}
    assert found == {"time_zone": "Europe/Berlin", "now": BEGIN.isoformat(), "unavailable": []}


@behaviour(Feature.FIND_BUSY_TIMES)
async def test_busy_times_are_half_open(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    before, after = window(NINE, TEN), window(TEN + HALF_HOUR, ELEVEN)
    assert (await agent.find_busy_times(**before))["busy"] == []
    assert (await agent.find_busy_times(**after, accounts=[ACCOUNT]))["busy"] == []
    assert len((await agent.find_busy_times(**window(TEN, TEN + timedelta(minutes=1))))["busy"]) == 1
