"""What every account owes about bookings. A test looks at the answer and at the world."""

from datetime import timedelta
from typing import Any

import pytest

from schemas import Feature, InvalidRequest, NotFound, SlotTaken
from tests.agent import Agent
from tests.behaviour import behaviour
from tests.stages import ACCOUNT, Stage
from tests.world import BEGIN, ELEVEN, MONDAY, NINE, TEN

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

DAY, HALF_HOUR = timedelta(days=1), timedelta(minutes=30)
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}


def booking(stage: Stage, start: Any = TEN, **more: Any) -> dict[str, Any]:
    return {"event_type_id": stage.intro, "start": start.isoformat(), **BEN, **more}


def emails(found: Any) -> list[str]:
    return [each["attendees"][0]["email"] for each in found["bookings"]]


@behaviour(Feature.CREATE_BOOKING)
async def test_a_booking_takes_the_slot(agent: Agent, stage: Stage) -> None:
    booked = await agent.create_booking(**booking(stage))
    expected = {
        "account": ACCOUNT,
        "event_type_id": stage.intro,
        "status": "confirmed",
        "start": TEN.isoformat(),
        "end": (TEN + HALF_HOUR).isoformat(),
        "weekday": "Monday",
        "time_zone": "Europe/Berlin",
        "answers": {},
    }
    assert {name: booked[name] for name in expected} == expected
    assert booked["title"].startswith("Intro call")
    assert [(each["name"], each["email"]) for each in booked["attendees"]] == [("Ben", "ben@example.com")]
    [appointment] = await stage.appointments()
    assert (appointment.kind, appointment.start, appointment.email) == ("intro", TEN, "ben@example.com")
    assert await stage.journaled() == [("create_booking", ACCOUNT, "done")]


@behaviour(Feature.CREATE_BOOKING)
async def test_a_write_carries_our_marker(agent: Agent, stage: Stage) -> None:
    await agent.create_booking(**booking(stage))
    [appointment] = await stage.appointments()
    assert len(appointment.marker) == 32


@behaviour(Feature.CREATE_BOOKING)
async def test_a_taken_slot_says_so_and_changes_nothing(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    before = await stage.appointments()
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert await stage.appointments() == before
    assert await stage.journaled() == [("create_booking", ACCOUNT, "failed")]


@behaviour(Feature.CREATE_BOOKING)
@pytest.mark.parametrize(
    "start", [NINE - HALF_HOUR, TEN + timedelta(minutes=7), MONDAY + 5 * DAY + timedelta(hours=10)]
)
async def test_a_time_that_was_never_offered_is_taken(agent: Agent, stage: Stage, start: Any) -> None:
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, start))
    assert await stage.appointments() == []


@behaviour(Feature.CREATE_BOOKING, refusal=True)
async def test_a_past_time_is_refused(agent: Agent, stage: Stage) -> None:
    with pytest.raises(InvalidRequest):
        await agent.create_booking(**booking(stage, BEGIN - DAY))
    assert await stage.appointments() == []


@behaviour(Feature.CREATE_BOOKING)
async def test_a_local_start_is_read_in_the_guests_zone(agent: Agent, stage: Stage) -> None:
    local = {"start": "2030-01-07T04:00:00", "attendee_time_zone": "America/New_York"}
    booked = await agent.create_booking(**(booking(stage) | local))
    assert booked["start"] == TEN.isoformat()
    assert (await stage.appointments())[0].start == TEN


@behaviour(Feature.CREATE_BOOKING)
async def test_a_guest_keeps_their_own_zone(agent: Agent, stage: Stage) -> None:
    booked = await agent.create_booking(**booking(stage, attendee_time_zone="Asia/Tokyo"))
    assert (booked["start"], booked["time_zone"]) == (TEN.isoformat(), "Europe/Berlin")
    assert booked["attendees"][0]["time_zone"] == "Asia/Tokyo"
    assert [(each.start, each.zone) for each in await stage.appointments()] == [(TEN, "Asia/Tokyo")]


@behaviour(Feature.CREATE_BOOKING)
async def test_the_same_request_twice_is_one_booking(agent: Agent, stage: Stage) -> None:
    first = await agent.create_booking(**booking(stage))
    assert await agent.create_booking(**booking(stage)) == first
    assert len(await stage.appointments()) == 1


@behaviour(Feature.CREATE_BOOKING)
async def test_what_a_repeated_request_would_change_is_said_and_not_done(agent: Agent, stage: Stage) -> None:
    first = await agent.create_booking(**booking(stage))
    again = await agent.create_booking(**booking(stage, guests=["zoe@example.com"], attendee_name="Benjamin"))
    assert again["id"] == first["id"]
    assert "attendee_name, guests" in again["note"]
    assert [(each.name, each.guests) for each in await stage.appointments()] == [("Ben", ())]


@behaviour(Feature.CREATE_BOOKING, Feature.RESCHEDULE_BOOKING)
async def test_the_same_request_after_a_move_books_the_first_time_again(agent: Agent, stage: Stage) -> None:
    first = await agent.create_booking(**booking(stage))
    await agent.reschedule_booking(booking_id=first["id"], start=ELEVEN.isoformat())
    assert (await agent.create_booking(**booking(stage)))["start"] == TEN.isoformat()
    assert [each.start for each in await stage.appointments() if each.live] == [TEN, ELEVEN]


@behaviour(Feature.CREATE_BOOKING, Feature.CANCEL_BOOKING)
async def test_a_key_of_a_cancelled_booking_says_so(agent: Agent, stage: Stage) -> None:
    first = await agent.create_booking(**booking(stage, idempotency_key="k1"))
    await agent.cancel_booking(booking_id=first["id"])
    again = await agent.create_booking(**booking(stage, idempotency_key="k1"))
    assert (again["id"], again["status"]) == (first["id"], "cancelled")
    assert "new key" in again["note"]
    assert not any(each.live for each in await stage.appointments())


@behaviour(Feature.CREATE_BOOKING, Feature.CANCEL_BOOKING)
async def test_the_same_request_after_a_cancellation_books_anew(agent: Agent, stage: Stage) -> None:
    first = await agent.create_booking(**booking(stage))
    await agent.cancel_booking(booking_id=first["id"])
    assert (await agent.create_booking(**booking(stage)))["id"] != first["id"]
    assert [each.live for each in await stage.appointments()].count(True) == 1


@behaviour(Feature.CREATE_BOOKING)
async def test_without_a_key_a_request_is_remembered_for_ten_minutes(agent: Agent, stage: Stage) -> None:
    await agent.create_booking(**booking(stage))
    stage.clock.advance(timedelta(minutes=10))
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))


@behaviour(Feature.CREATE_BOOKING)
async def test_a_key_is_remembered_for_a_day(agent: Agent, stage: Stage) -> None:
    first = await agent.create_booking(**booking(stage, TEN + DAY, idempotency_key="k1"))
    stage.clock.advance(timedelta(hours=23))
    assert await agent.create_booking(**booking(stage, TEN + DAY, idempotency_key="k1")) == first
    stage.clock.advance(timedelta(hours=1))
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, TEN + DAY, idempotency_key="k1"))
    assert len(await stage.appointments()) == 1


@behaviour(Feature.CREATE_BOOKING)
async def test_a_key_belongs_to_its_arguments(agent: Agent, stage: Stage) -> None:
    await agent.create_booking(**booking(stage, idempotency_key="k1"))
    with pytest.raises(InvalidRequest):
        await agent.create_booking(**booking(stage, ELEVEN, idempotency_key="k1"))
    assert len(await stage.appointments()) == 1


@behaviour(Feature.CREATE_BOOKING)
async def test_a_request_that_failed_may_be_made_again(agent: Agent, stage: Stage) -> None:
    other = await stage.book("intro", TEN)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, idempotency_key="k1"))
    await agent.cancel_booking(booking_id=other)
    assert (await agent.create_booking(**booking(stage, idempotency_key="k1")))["status"] == "confirmed"


@behaviour(Feature.CREATE_BOOKING)
async def test_answers_reach_the_booking(agent: Agent, stage: Stage) -> None:
    answers = {"company": "ACME", "topic": "Sales"}
    booked = await agent.create_booking(**booking(stage, event_type_id=stage.review, answers=answers))
    assert booked["answers"] == answers
    assert (await stage.appointments())[0].answers == answers


@behaviour(Feature.CREATE_BOOKING)
@pytest.mark.parametrize(
    "answers",
    [{}, {"company": ""}, {"company": "ACME", "shoe_size": "44"}, {"company": "ACME", "topic": "Gossip"}],
    ids=["missing", "empty", "unknown", "not-an-option"],
)
async def test_answers_are_checked_before_anything_is_sent(agent: Agent, stage: Stage, answers: Any) -> None:
    with pytest.raises(InvalidRequest, match="answers"):
        await agent.create_booking(**booking(stage, event_type_id=stage.review, answers=answers))
    assert not stage.world.writes
    assert await stage.appointments() == []


@behaviour(Feature.CREATE_BOOKING)
async def test_a_duration_that_the_event_type_does_not_have_is_refused(agent: Agent, stage: Stage) -> None:
    with pytest.raises(InvalidRequest, match="duration_minutes"):
        await agent.create_booking(**booking(stage, duration_minutes=45))
    assert await stage.appointments() == []
    assert (await agent.create_booking(**booking(stage, duration_minutes="30")))["status"] == "confirmed"


@behaviour(Feature.CREATE_BOOKING_GUESTS)
async def test_guests_are_attendees_after_the_first(agent: Agent, stage: Stage) -> None:
    booked = await agent.create_booking(**booking(stage, guests=["zoe@example.com"]))
    assert [each["email"] for each in booked["attendees"]] == ["ben@example.com", "zoe@example.com"]
    assert (await stage.appointments())[0].guests == ("zoe@example.com",)


@behaviour(Feature.CREATE_BOOKING_NOTES)
async def test_notes_reach_the_booking(agent: Agent, stage: Stage) -> None:
    booked = await agent.create_booking(**booking(stage, notes="Bring\nthe plan"))
    assert booked["notes"] == "Bring\nthe plan"
    assert (await stage.appointments())[0].notes == "Bring\nthe plan"


@behaviour(Feature.CREATE_BOOKING_LOCATION)
async def test_one_of_its_locations_can_be_chosen(agent: Agent, stage: Stage) -> None:
    chosen = {"location": "Main Street 1", "answers": {"company": "ACME"}}
    booked = await agent.create_booking(**booking(stage, event_type_id=stage.review, **chosen))
    assert booked["location"] == "Main Street 1"
    [review] = (await agent.list_event_types(query="review"))["event_types"]
    assert "Main Street 1" in review["locations"]
    assert (await stage.appointments())[0].place == "Main Street 1"


@behaviour(Feature.CREATE_BOOKING)
async def test_an_event_type_that_is_not_there_cannot_be_booked(agent: Agent, stage: Stage) -> None:
    with pytest.raises(NotFound):
        await agent.create_booking(**booking(stage, event_type_id=f"{ACCOUNT}:none"))
    assert not stage.world.writes


@behaviour(Feature.GET_BOOKING)
async def test_a_booking_can_be_read_in_another_zone(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN, guests=("zoe@example.com",))
    found = await agent.get_booking(booking_id=id, time_zone="Asia/Tokyo")
    assert (found["id"], found["start"], found["weekday"]) == (id, "2030-01-07T18:00:00+09:00", "Monday")
    assert (found["time_zone"], len(found["attendees"])) == ("Asia/Tokyo", 2)


@pytest.mark.parametrize("id", ["none", ":", f"{ACCOUNT}:", ":none"])
async def test_what_is_no_id_is_not_found(agent: Agent, id: str) -> None:
    with pytest.raises(NotFound):
        await agent.get_booking(booking_id=id)


@behaviour(Feature.GET_BOOKING, refusal=True)
@pytest.mark.parametrize("id", ["none", "none/none", "no ne", "../me", "%2e%2e", "é"])
async def test_what_is_no_booking_is_not_found(agent: Agent, stage: Stage, id: str) -> None:
    for wrong in (f"{ACCOUNT}:{id}", stage.intro):
        with pytest.raises(NotFound):
            await agent.get_booking(booking_id=wrong)


@behaviour(Feature.LIST_BOOKINGS)
async def test_each_status_lists_its_own(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", NINE, "past@example.com")
    await stage.book("intro", TEN, "running@example.com")
    await stage.book("intro", ELEVEN + DAY, "next@example.com")
    await stage.book("intro", ELEVEN + 2 * DAY, "cancelled@example.com", status="cancelled")
    await stage.book("intro", ELEVEN + 3 * DAY, "declined@example.com", status="declined")
    stage.clock.advance(TEN + timedelta(minutes=10) - BEGIN)
    names = {
        "upcoming": ["running", "next"],
        "pending": [],
        "past": ["past"],
        "cancelled": ["declined", "cancelled"],
        "all": ["past", "running", "next", "cancelled", "declined"],
    }
    for status, expected in names.items():
        found = await agent.list_bookings(status=status)
        assert emails(found) == [f"{name}@example.com" for name in expected], status
        assert found["unavailable"] == []


@behaviour(Feature.LIST_BOOKINGS, Feature.RESPOND_CONFIRM)
async def test_what_waits_for_an_answer_is_pending_and_upcoming(agent: Agent, stage: Stage) -> None:
    confirmed = await stage.book("approval", TEN, "ana@example.com")
    await stage.book("approval", ELEVEN, "ben@example.com")
    await agent.respond_to_booking(booking_id=confirmed, response="confirm")
    assert emails(await agent.list_bookings(status="pending")) == ["ben@example.com"]
    assert emails(await agent.list_bookings()) == ["ana@example.com", "ben@example.com"]
    stage.clock.advance(2 * DAY)
    assert emails(await agent.list_bookings(status="pending")) == []
    assert emails(await agent.list_bookings(status="past")) == ["ben@example.com", "ana@example.com"]


@behaviour(Feature.LIST_BOOKINGS)
async def test_past_bookings_come_newest_first(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", NINE, "first@example.com")
    await stage.book("intro", TEN, "second@example.com")
    stage.clock.advance(2 * DAY)
    assert emails(await agent.list_bookings(status="past")) == ["second@example.com", "first@example.com"]
    page = await agent.list_bookings(status="past", limit=1)
    rest = await agent.list_bookings(status="past", limit=1, cursor=page["next_cursor"])
    assert (emails(page), emails(rest)) == (["second@example.com"], ["first@example.com"])


@behaviour(Feature.LIST_BOOKINGS)
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"start": TEN.isoformat()}, ["zoe", "max"]),
        ({"end": TEN.isoformat()}, ["ana"]),
        ({"start": (TEN + HALF_HOUR).isoformat(), "end": ELEVEN.isoformat()}, []),
        ({"attendee_email": "ZOE@example.com"}, ["zoe"]),
        ({"query": "MAX"}, ["max"]),
        ({"query": "intro call"}, ["ana", "max"]),
        ({"query": "max intro"}, ["max"]),
        ({"query": "nobody"}, []),
    ],
)
async def test_bookings_are_found_by_time_and_person(agent: Agent, stage: Stage, asked: Any, expected: Any) -> None:
    await stage.book("intro", NINE, "ana@example.com", name="Ana")
    await stage.book("approval", TEN, "zoe@example.com", name="Zoë")
    await stage.book("intro", ELEVEN, "max@example.com", name="Max")
    assert emails(await agent.list_bookings(**asked)) == [f"{name}@example.com" for name in expected]


@behaviour(Feature.LIST_BOOKINGS)
async def test_pages_of_bookings_together_are_the_whole(agent: Agent, stage: Stage) -> None:
    for day in range(3):
        for start in (NINE, TEN, ELEVEN):
            await stage.book("intro", start + day * DAY, f"guest{day}{start.hour}@example.com")
    whole = emails(await agent.list_bookings())
    paged: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await agent.list_bookings(limit=2, **cursor)
        paged += emails(page)
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert paged == whole
    assert len(whole) == 9
    with pytest.raises(InvalidRequest):
        await agent.list_bookings(status="all", **cursor)


@behaviour(Feature.LIST_BOOKINGS)
@pytest.mark.parametrize("transport", ["memory"], indirect=True)
@pytest.mark.parametrize(("status", "newest_first"), [("upcoming", False), ("cancelled", True)])
async def test_a_list_is_whole_beyond_two_pages_of_the_service(
    agent: Agent, stage: Stage, status: str, newest_first: bool
) -> None:
    starts = [start for _, start in zip(range(230), stage.world.free("intro", MONDAY, MONDAY + 30 * DAY), strict=False)]
    of = {"status": "cancelled"} if newest_first else {}
    for start in starts:
        await stage.book("intro", start, f"guest{start.timestamp():.0f}@example.com", **of)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await agent.list_bookings(status=status, limit=200, **cursor)
        found += [each["start"] for each in page["bookings"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == [start.isoformat() for start in (reversed(starts) if newest_first else starts)]


@behaviour(Feature.RESCHEDULE_BOOKING)
async def test_a_move_takes_the_new_time_and_frees_the_old(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    moved = await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat(), reason="traffic")
    assert (moved["start"], moved["status"], moved["rescheduled_from"]) == (ELEVEN.isoformat(), "confirmed", id)
    assert moved["method"] == ("rebooked" if stage.adapter.rebooks else "native")
    assert [each.start for each in await stage.appointments() if each.live] == [ELEVEN]
    assert (await agent.get_booking(booking_id=id))["start"] == ELEVEN.isoformat()


@behaviour(Feature.RESCHEDULE_BOOKING)
async def test_a_booking_may_move_into_its_own_time(agent: Agent, stage: Stage) -> None:
    id = await stage.book("review", TEN, answers={"company": "ACME"})
    await stage.book("intro", NINE)
    moved = await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    back = await agent.reschedule_booking(booking_id=moved["id"], start=TEN.isoformat())
    assert back["start"] == TEN.isoformat()


@behaviour(Feature.RESCHEDULE_BOOKING)
async def test_a_move_to_a_taken_time_leaves_the_booking_where_it_is(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    await stage.book("intro", ELEVEN, "zoe@example.com")
    with pytest.raises(SlotTaken):
        await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    assert [each.start for each in await stage.appointments() if each.live] == [TEN, ELEVEN]


@behaviour(Feature.RESCHEDULE_BOOKING)
async def test_a_move_to_the_same_time_changes_nothing_and_says_so(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    moved = await agent.reschedule_booking(booking_id=id, start=TEN.isoformat())
    assert moved["start"] == TEN.isoformat()
    assert "nothing was changed" in moved["note"]
    assert await stage.journaled() == []


@behaviour(Feature.RESCHEDULE_BOOKING)
async def test_a_move_with_a_key_happens_once(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    asked = {"booking_id": id, "start": ELEVEN.isoformat(), "idempotency_key": "k1"}
    first = await agent.reschedule_booking(**asked)
    assert await agent.reschedule_booking(**asked) == first
    with pytest.raises(InvalidRequest):
        await agent.reschedule_booking(**(asked | {"start": NINE.isoformat()}))
    assert [each.start for each in await stage.appointments() if each.live] == [ELEVEN]


@behaviour(Feature.RESCHEDULE_BOOKING)
async def test_only_a_coming_booking_can_be_moved(agent: Agent, stage: Stage) -> None:
    cancelled = await stage.book("intro", TEN, status="cancelled")
    over = await stage.book("intro", NINE)
    stage.clock.advance(TEN - BEGIN)
    for id in (cancelled, over):
        with pytest.raises(InvalidRequest):
            await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    running = await stage.book("intro", TEN)
    with pytest.raises(InvalidRequest):
        await agent.reschedule_booking(booking_id=running, start=NINE.isoformat())
    with pytest.raises(InvalidRequest):
        await agent.reschedule_booking(booking_id=running, start="2030-01-07T11:00:00")


@behaviour(Feature.CANCEL_BOOKING)
async def test_cancelling_frees_the_slot_and_keeps_the_reason(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    cancelled = await agent.cancel_booking(booking_id=id, reason="ill")
    assert (cancelled["status"], cancelled["cancellation_reason"]) == ("cancelled", "ill")
    [appointment] = await stage.appointments()
    assert (appointment.status, appointment.reason) == ("cancelled", "ill")
    assert await stage.journaled() == [("cancel_booking", ACCOUNT, "done")]


@behaviour(Feature.CANCEL_BOOKING)
async def test_cancelling_twice_succeeds_and_says_so(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    await agent.cancel_booking(booking_id=id, reason="ill")
    again = await agent.cancel_booking(booking_id=id, reason="bored")
    assert (again["status"], again.get("cancellation_reason", "ill")) == ("cancelled", "ill")
    assert "already" in again["note"]
    assert len(await stage.journaled()) == 1


@behaviour(Feature.CANCEL_BOOKING)
async def test_a_meeting_that_is_over_cannot_be_cancelled(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    stage.clock.advance(ELEVEN - BEGIN)
    with pytest.raises(InvalidRequest):
        await agent.cancel_booking(booking_id=id)
    assert (await stage.appointments())[0].live


@behaviour(Feature.RESPOND_CONFIRM)
async def test_a_pending_booking_can_be_confirmed(agent: Agent, stage: Stage) -> None:
    id = await stage.book("approval", TEN)
    assert (await agent.respond_to_booking(booking_id=id, response="confirm"))["status"] == "confirmed"
    assert "already" in (await agent.respond_to_booking(booking_id=id, response="confirm"))["note"]
    assert [each.status for each in await stage.appointments()] == ["confirmed"]


@behaviour(Feature.CREATE_BOOKING, Feature.RESPOND_CONFIRM)
async def test_a_pending_booking_blocks_its_slot(agent: Agent, stage: Stage) -> None:
    other = await stage.book("approval", ELEVEN)
    await agent.respond_to_booking(booking_id=other, response="confirm")
    booked = await agent.create_booking(**booking(stage, event_type_id=stage.approval))
    assert booked["status"] == "pending"
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, attendee_email="zoe@example.com"))
    assert len(await stage.appointments()) == 2


@behaviour(Feature.RESPOND_DECLINE)
async def test_a_pending_booking_can_be_declined(agent: Agent, stage: Stage) -> None:
    id = await stage.book("approval", TEN)
    declined = await agent.respond_to_booking(booking_id=id, response="decline", reason="no time")
    assert (declined["status"], declined["cancellation_reason"]) == ("declined", "no time")
    assert [each.status for each in await stage.appointments()] == ["declined"]
    with pytest.raises(InvalidRequest):
        await agent.respond_to_booking(booking_id=id, response="confirm")


@behaviour(Feature.RESPOND_TENTATIVE)
async def test_an_invitation_can_be_accepted_tentatively(agent: Agent, stage: Stage) -> None:
    id = await stage.book("approval", TEN)
    answered = await agent.respond_to_booking(booking_id=id, response="tentative")
    assert "tentative" in [each.get("response") for each in answered["attendees"]]


@behaviour(Feature.RESPOND_NO_SHOW)
async def test_a_guest_who_did_not_come_is_noted_after_the_start(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    with pytest.raises(InvalidRequest):
        await agent.respond_to_booking(booking_id=id, response="no_show")
    stage.clock.advance(ELEVEN - BEGIN)
    noted = await agent.respond_to_booking(booking_id=id, response="no_show")
    assert noted["attendees"][0]["no_show"] is True
    assert (await stage.appointments())[0].no_show


@behaviour(Feature.RESPOND_CLEAR_NO_SHOW)
async def test_a_no_show_can_be_taken_back(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    stage.clock.advance(ELEVEN - BEGIN)
    await agent.respond_to_booking(booking_id=id, response="no_show")
    cleared = await agent.respond_to_booking(booking_id=id, response="clear_no_show")
    assert not cleared["attendees"][0].get("no_show")
    assert not (await stage.appointments())[0].no_show


@behaviour(Feature.RESPOND_TO_BOOKING)
async def test_what_is_answered_must_be_there(agent: Agent, stage: Stage) -> None:
    answers = [each for each in Feature if each.operation == Feature.RESPOND_TO_BOOKING and not each.is_operation]
    can = [each.partition(".")[2] for each in answers if each not in stage.adapter.gaps] or ["confirm"]
    for response in can:
        with pytest.raises(NotFound):
            await agent.respond_to_booking(booking_id=f"{ACCOUNT}:none", response=response)


@behaviour(Feature.RESPOND_NO_SHOW)
async def test_nobody_misses_a_cancelled_meeting(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN, status="cancelled")
    stage.clock.advance(ELEVEN - BEGIN)
    with pytest.raises(InvalidRequest):
        await agent.respond_to_booking(booking_id=id, response="no_show")
