"""What only Cal ID can show: defaults of its server, moves that make a new booking, errors behind HTTP 500, lists."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from providers.rest import KEPT
from schemas import (
    InvalidRequest,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
    Unsupported,
)
from tests import wired
from tests.agent import Agent, after_a_restart
from tests.emulators.calid_rules import Refused, fastify, masked
from tests.emulators.wire import Altered
from tests.stages import ACCOUNT, Stage
from tests.wired import DAY, GROUP, HALF_HOUR, HOUR, SCHEDULE, Request_, Wire, at, requests, told, window
from tests.world import BEGIN, DAYS, ELEVEN, HOST_EMAIL, KINDS, MONDAY, NINE, TEN, Appointment, Kind

pytestmark = pytest.mark.anyio

MEET = "integrations:google:meet"
BUCKETS = {"upcoming", "unconfirmed", "recurring", "past", "cancelled"}
ME, HOURS, LIST = ("GET", "/users/me"), ("GET", "/schedule/"), ("GET", "/booking/")

stage, wire, agent = wired.stage_of("calid"), wired.wire, wired.agent


async def vendor(stage: Stage, method: str, path: str, **request: Any) -> Any:
    return await told(stage, "https://api.cal.id", method, path, {}, **request)


def zulu(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def live(stage: Stage) -> list[datetime]:
    return sorted(each.start for each in stage.world.appointments.values() if each.live)


async def listed(agent: Agent, **query: Any) -> AsyncIterator[Any]:
    """Every booking, page after page."""
    page = await agent.list_bookings(**query)
    while True:
        for each in page["bookings"]:
            yield each
        if "next_cursor" not in page:
            return
        page = await agent.list_bookings(**query, cursor=page["next_cursor"])


def kinds(stage: Stage, **made: Kind) -> None:
    stage.world.kinds.update(made)


@pytest.fixture
def group(stage: Stage) -> str:
    kinds(stage, group=GROUP)
    return stage.event_type("group")


# What a booking says


@pytest.mark.parametrize("zone", [None, "America/New_York"])
async def test_nothing_is_left_for_the_server_to_fill_in(
    agent: Agent, stage: Stage, wire: Wire, zone: str | None
) -> None:
    await agent.create_booking(**at(TEN, stage.intro), **({"attendee_time_zone": zone} if zone else {}))
    [sent], [made] = wire.writes, stage.world.appointments.values()
    where = {"value": MEET, "optionValue": ""}
    responses = {"name": "Ben", "email": "ben@example.com", "phone": "", "location": where, "guests": []}
    assert sent.body == {
        "eventTypeId": 101,
        "start": zulu(TEN),
        "end": zulu(TEN + HALF_HOUR),
        "timeZone": zone or "Europe/Berlin",
        "language": "en",
        "responses": responses,
        "metadata": {"schedulingGateway": made.marker},
    }
    expected = Appointment("intro", TEN, TEN + HALF_HOUR, "ben@example.com", "Ben", zone=zone or "Europe/Berlin")
    assert replace(made, marker="", event="", created=BEGIN) == replace(expected, created=BEGIN)
    assert len(made.marker) == 32
    [listed] = await vendor(stage, "GET", "/booking/")
    assert listed["responses"] == responses


@pytest.mark.parametrize("minutes", [15, 45, 90])
async def test_a_booking_ends_when_its_event_type_says(agent: Agent, stage: Stage, wire: Wire, minutes: int) -> None:
    kinds(stage, odd=Kind("Odd length", minutes))
    booked = await agent.create_booking(**at(NINE, stage.event_type("odd")))
    end = NINE + timedelta(minutes=minutes)
    assert (booked["end"], wire.writes[0].body["end"]) == (end.isoformat(), zulu(end))
    assert [each.end for each in stage.world.appointments.values()] == [end]


# Questions


QUESTIONS: tuple[dict[str, Any], ...] = (
    *({"key": each, "label": each.title(), "type": each} for each in ("text", "long_text", "number", "boolean")),
    *({"key": each, "label": each.title(), "type": each} for each in ("phone", "url", "address")),
    {"key": "choice", "label": "Choice", "type": "choice", "options": ["Red", "Blue"]},
    {"key": "choices", "label": "Choices", "type": "choices", "options": ["Red", "Blue"]},
)


async def test_an_event_type_shows_a_question_of_each_type(agent: Agent, stage: Stage) -> None:
    kinds(stage, quiz=Kind("Quiz", 30, questions=QUESTIONS))
    [quiz] = (await agent.list_event_types(query="quiz"))["event_types"]
    assert quiz["questions"] == [{"required": False, "options": [], **each} for each in QUESTIONS]


@pytest.mark.parametrize(
    ("key", "answer", "sent"),
    [
        ("text", "Yes", "Yes"),
        ("number", "7", 7),
        ("number", 7.5, 7.5),
        ("boolean", "yes", True),
        ("boolean", False, False),
        ("phone", "+4930123", "+4930123"),
        ("choice", "Red", "Red"),
        ("choices", "Red", ["Red"]),
        ("choices", ["Red", "Blue"], ["Red", "Blue"]),
    ],
)
async def test_an_answer_goes_out_in_the_type_of_its_field(
    agent: Agent, stage: Stage, wire: Wire, key: str, answer: Any, sent: Any
) -> None:
    kinds(stage, quiz=Kind("Quiz", 30, questions=QUESTIONS))
    booked = await agent.create_booking(**at(TEN, stage.event_type("quiz"), answers={key: answer}))
    [said] = [each.body["responses"][key] for each in wire.writes]
    assert (said, type(said)) == (sent, type(sent))
    assert booked["answers"] == {key: sent}
    assert [each.answers[key] for each in stage.world.appointments.values()] == [sent]


@pytest.mark.parametrize(
    "answers",
    [
        *({"number": "many"}, {"boolean": "perhaps"}, {"choice": "Green"}, {"choices": ["Red", "Green"]}),
        *({"text": ["One", "two"]}, {"colour": "Red"}),
    ],
)
async def test_an_answer_of_the_wrong_kind_is_not_sent(agent: Agent, stage: Stage, answers: Any) -> None:
    kinds(stage, quiz=Kind("Quiz", 30, questions=QUESTIONS))
    with pytest.raises(InvalidRequest, match=next(iter(answers))):
        await agent.create_booking(**at(TEN, stage.event_type("quiz"), answers=answers))
    assert stage.world.writes == []


@pytest.mark.parametrize("stage", [{"no_fields": True}], indirect=True)
async def test_where_no_fields_are_told_nothing_is_asked_and_the_service_decides(agent: Agent, stage: Stage) -> None:
    found = (await agent.list_event_types())["event_types"]
    assert [each["questions"] for each in found] == [[]] * len(KINDS)
    assert (await agent.create_booking(**at(TEN, stage.intro)))["status"] == "confirmed"
    for answers, sent in (({"company": "ACME"}, 1), ({}, 2)):  # the second is required, as the service says
        with pytest.raises(InvalidRequest, match="company"):
            await agent.create_booking(**at(ELEVEN, stage.review, answers=answers))
        assert (len(stage.world.writes), live(stage)) == (sent, [TEN])


# Moves

EITHER_ANSWER = pytest.mark.parametrize("stage", [{}, {"reschedule_500": True}], indirect=True, ids=["200", "500"])


@EITHER_ANSWER
async def test_a_move_answers_the_new_booking_although_the_service_names_the_old_one(
    agent: Agent, stage: Stage, wire: Wire
) -> None:
    id = await stage.book("intro", TEN)
    moved = await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat(), reason="Ill")
    expected = {"id": f"{ACCOUNT}:5002", "start": ELEVEN.isoformat(), "rescheduled_from": id, "status": "confirmed"}
    assert {name: moved[name] for name in expected} == expected
    said = {"start": zulu(ELEVEN), "reschedulingReason": "Ill", "rescheduledBy": HOST_EMAIL}
    assert [(each.method, each.path, each.query, each.body) for each in wire.writes] == [
        ("PATCH", "/booking/5001/reschedule", "", said)
    ]
    old, new = stage.world.appointments.values()
    assert (old.status, new.status, new.start, new.moved_from) == ("cancelled", "confirmed", ELEVEN, "b1")
    assert await stage.journaled() == [("reschedule_booking", ACCOUNT, "done")]
    assert stage.clock.waits == []


@pytest.mark.parametrize(
    ("why", "error"),
    [("Something broke", ProviderDown), ("cancelled_bookings_cannot_be_rescheduled", InvalidRequest)],
)
async def test_a_move_that_did_not_happen_is_sent_once(
    agent: Agent, stage: Stage, wire: Wire, why: str, error: type[SchedulingError]
) -> None:
    id = await stage.book("intro", TEN)
    wire.refusals["PATCH"] = fastify(500, why)
    with pytest.raises(error):
        await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    assert (len(wire.writes), live(stage)) == (1, [TEN])
    assert await stage.journaled() == [("reschedule_booking", ACCOUNT, "failed")]


@EITHER_ANSWER
async def test_a_move_to_a_taken_slot_moves_nothing(agent: Agent, stage: Stage, wire: Wire) -> None:
    id = await stage.book("intro", TEN)
    await stage.book("intro", ELEVEN, "zoe@example.com")
    with pytest.raises(SlotTaken):
        await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    assert (len(wire.writes), live(stage)) == (1, [TEN, ELEVEN])
    assert await stage.journaled() == [("reschedule_booking", ACCOUNT, "failed")]


@EITHER_ANSWER
async def test_every_earlier_id_stands_for_the_newest_booking(agent: Agent, stage: Stage) -> None:
    ids = [await stage.book("intro", TEN)]
    for hours in (1, 2, 3):
        moved = await agent.reschedule_booking(booking_id=ids[0], start=(TEN + hours * HOUR).isoformat())
        ids.append(moved["id"])
    stage.world.move_anew("b4", NINE)  # somebody did it on the service's own page
    newest = f"{ACCOUNT}:5005"
    async with after_a_restart(stage) as again:
        for id in ids:
            found = await again.get_booking(booking_id=id)
            expected = {"id": newest, "start": NINE.isoformat(), "rescheduled_from": id, "status": "confirmed"}
            assert {name: found[name] for name in expected} == expected
        assert (await again.cancel_booking(booking_id=ids[1]))["id"] == newest
    assert live(stage) == []


@pytest.mark.parametrize(
    ("kind", "status", "then"),
    [
        ("intro", "confirmed", "confirmed"),
        ("approval", "pending", "pending"),
        # What the service does is not known; the worse of both is shown as it is.
        ("approval", "confirmed", "pending"),
    ],
)
async def test_a_move_is_the_hosts_own_and_its_status_is_told(
    agent: Agent, stage: Stage, wire: Wire, kind: str, status: str, then: str
) -> None:
    id = await stage.book(kind, TEN, status=status)
    moved = await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    in_whose_name = {"rescheduledBy": HOST_EMAIL} if status == "confirmed" else {}
    assert [each.body for each in wire.writes] == [{"start": zulu(ELEVEN), **in_whose_name}]
    assert moved["status"] == then
    assert [(each.start, each.status) for each in stage.world.appointments.values() if each.live] == [(ELEVEN, then)]


# Errors


@pytest.mark.parametrize("stage", [{}, {"masked_errors": True}], indirect=True, ids=["401", "masked"])
@pytest.mark.parametrize("token", ["calid_wrong", "another"])
async def test_a_wrong_key_is_recognised_in_either_shape(stage: Stage, token: str) -> None:
    auth = {"auth": {"type": "bearer", "token": token}}
    account = stage.adapter.Config(provider="calid", **stage.settings | auth)
    stage.config = stage.config.model_copy(update={"accounts": {ACCOUNT: account}})
    async with after_a_restart(stage) as agent:
        [answer] = (await agent.list_accounts())["accounts"]
        assert answer["state"] == "needs_connection"
        assert token not in str(answer)
        with pytest.raises(NotConnected):
            await agent.create_booking(**at(TEN, stage.intro))
    assert stage.clock.waits == []
    assert stage.world.writes == []


@pytest.mark.parametrize(
    ("why", "error"),
    [
        ("body/start must match format", InvalidRequest),
        ("params/id must be integer", InvalidRequest),
        ("querystring/limit must be <= 500", InvalidRequest),
        ("Invalid API key", NotConnected),
        ("API key has expired", NotConnected),
        ("No user associated with this key", NotConnected),
    ],
)
async def test_what_hides_behind_a_server_error_is_told_and_not_tried_again(
    agent: Agent, stage: Stage, wire: Wire, why: str, error: type[SchedulingError]
) -> None:
    wire.refusals["POST"] = masked(why)
    with pytest.raises(error):
        await agent.create_booking(**at(TEN, stage.intro))
    assert await stage.journaled() == [("create_booking", ACCOUNT, "failed")]
    stage.world.failures.append(masked(why))
    with pytest.raises(error):
        await agent.list_schedules()
    assert (len(wire.writes), stage.clock.waits) == (1, [])


TAKEN = (
    *("no_available_users_found_error", "booking_conflict_error", "booking_time_out_of_bounds_error"),
    *("fixed_hosts_unavailable_for_booking", "round_robin_hosts_unavailable_for_booking"),
    *("booking_seats_full_error", "not_enough_available_seats_error"),
)
REFUSED = (
    *("already_signed_up_for_this_booking_error", "booker_limit_exceeded_error", "request_body_invalid_error"),
    "booking_not_allowed_by_restriction_schedule_error",
)
SHAPES = (
    lambda word: Refused(500, word).answer(),
    lambda word: fastify(500, word),
    lambda word: Refused(409, word, "CONFLICT").answer(),
)


@pytest.mark.parametrize("shape", SHAPES, ids=["envelope", "fastify", "409"])
@pytest.mark.parametrize(
    ("word", "error"),
    [
        *((each, SlotTaken) for each in TAKEN),
        *((each, InvalidRequest) for each in REFUSED),
        ("event_type_not_found", NotFound),
    ],
)
async def test_each_word_of_the_booking_engine_has_a_code_of_ours(
    agent: Agent, stage: Stage, wire: Wire, shape: Any, word: str, error: type[SchedulingError]
) -> None:
    wire.refusals["POST"] = shape(word)
    with pytest.raises(error, match=word):
        await agent.create_booking(**at(TEN, stage.intro))
    assert (len(wire.writes), live(stage), stage.clock.waits) == (1, [], [])
    assert await stage.journaled() == [("create_booking", ACCOUNT, "failed")]


@pytest.mark.parametrize("happened", [True, False])
async def test_an_unknown_server_error_leads_to_a_look(agent: Agent, stage: Stage, wire: Wire, happened: bool) -> None:
    if happened:
        wire.spoiled = fastify(500, "Something broke")
        assert (await agent.create_booking(**at(TEN, stage.intro)))["id"] == f"{ACCOUNT}:5001"
    else:
        wire.refusals["POST"] = fastify(500, "Something broke")
        with pytest.raises(ProviderDown):
            await agent.create_booking(**at(TEN, stage.intro))
        assert {each.asked["status"][0] for each in wire.sent if each.path == "/booking/" and each.asked} == BUCKETS
    assert (len(wire.writes), live(stage)) == (1, [TEN] if happened else [])
    assert await stage.journaled() == [("create_booking", ACCOUNT, "done" if happened else "failed")]


async def test_a_pending_booking_that_is_given_back_is_not_called_ours(agent: Agent, stage: Stage) -> None:
    """A repeat by the same guest is answered with what awaits confirmation since before."""
    id = await stage.book("approval", TEN, "ben@example.com", name="Benjamin", notes="Mine", marker="a" * 32)
    stage.clock.advance(HOUR)
    try:
        booked = await agent.create_booking(**at(TEN, stage.approval, notes="Other"))
    except SlotTaken:
        booked = {"id": id, "note": "notes"}
    assert (booked["id"], "notes" in booked.get("note", "")) == (id, True), "nothing says that it was there before"
    assert live(stage) == [TEN]


# Lists


@pytest.fixture
async def some_of_each(stage: Stage) -> dict[str, str]:
    """The id of a booking for each way to be in the lists."""
    kinds(stage, weekly=Kind("Weekly", 30))
    ids = {
        "cancelled late": await stage.book("intro", MONDAY + 2 * DAY + 9 * HOUR),
        "series": await stage.book("weekly", TEN),
        "pending": await stage.book("approval", ELEVEN),
        "confirmed": await stage.book("intro", NINE),
        "past": await stage.book("intro", ELEVEN + HOUR),
        "later past": await stage.book("intro", ELEVEN + 2 * HOUR),
        "declined early": await stage.book("approval", MONDAY + DAY + 9 * HOUR),
    }
    stage.world.change("b1", status="cancelled")
    stage.world.change("b7", status="declined")
    for id, days in (("b5", 14), ("b6", 7)):
        was = stage.world.appointments[id]
        stage.world.change(id, start=was.start - days * DAY, end=was.end - days * DAY)
    return ids


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("upcoming", ["confirmed", "series", "pending"]),
        ("pending", ["pending"]),
        ("past", ["later past", "past"]),
        ("cancelled", ["cancelled late", "declined early"]),
        ("all", ["past", "later past", "confirmed", "series", "pending", "declined early", "cancelled late"]),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_the_lists_are_one_in_order_and_without_doubles(
    agent: Agent, some_of_each: dict[str, str], status: str, expected: list[str], limit: int
) -> None:
    found = [each["id"] async for each in listed(agent, status=status, limit=limit)]
    assert found == [some_of_each[each] for each in expected]


@pytest.mark.parametrize("status", ["upcoming", "past", "cancelled", "all"])
async def test_pages_go_on_over_hundreds_of_bookings_in_several_lists(
    agent: Agent, stage: Stage, wire: Wire, status: str
) -> None:
    states = {"confirmed": NINE, "pending": NINE, "cancelled": NINE, "past": NINE - 300 * DAY}
    for number in range(250):
        for state, begin in states.items():
            start = begin + number * DAY + list(states).index(state) * HOUR
            kept = {"past": "confirmed"}.get(state, state)
            stage.world.appointments[f"{state}{number}"] = Appointment(
                "intro", start, start + HALF_HOUR, f"{state}@example.com", status=kept, event=f"{state}{number}"
            )
    now = stage.clock.now()
    is_wanted: dict[str, Callable[[Appointment], bool]] = {
        "upcoming": lambda each: each.live and each.end > now,
        "past": lambda each: each.live and each.end <= now,
        "cancelled": lambda each: not each.live,
        "all": lambda _: True,
    }
    wanted = list(filter(is_wanted[status], stage.world.appointments.values()))
    wanted.sort(key=lambda each: each.start, reverse=status in ("past", "cancelled"))
    found = [(each["start"], each["attendees"][0]["email"]) async for each in listed(agent, status=status, limit=200)]
    assert found == [(each.start.isoformat(), each.email) for each in wanted]
    assert "3" in {number for each in wire.sent for number in each.asked.get("page", ())}


async def test_a_meeting_that_waits_for_its_host_is_pending_and_hides_no_other(agent: Agent, stage: Stage) -> None:
    ids = [await stage.book("intro", TEN), await stage.book("intro", ELEVEN)]
    await agent.list_event_types()
    await agent.list_bookings()

    def waits(answer: Any) -> Any:
        answer["data"][0]["status"] = "AWAITING_HOST"
        return answer

    stage.world.failures.append(Altered(waits))
    found = [(each["id"], each["status"]) async for each in listed(agent)]
    assert found == [(ids[0], "pending"), (ids[1], "confirmed")]


# Seats


async def test_a_shared_meeting_is_one_booking_and_neither_moved_nor_cancelled(
    agent: Agent, stage: Stage, group: str
) -> None:
    id = await stage.book("group", TEN)
    assert await stage.book("group", TEN, "ben@example.com", name="Ben") == id
    [found] = (await agent.list_bookings())["bookings"]
    assert (found["id"], found["event_type_id"]) == (id, group)
    assert [each["email"] for each in found["attendees"]] == ["ana@example.com", "ben@example.com"]
    with pytest.raises(Unsupported):
        await agent.cancel_booking(booking_id=id)
    with pytest.raises(Unsupported):
        await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    assert stage.world.writes == []
    assert live(stage) == [TEN, TEN]


async def test_a_meeting_with_one_guest_alone_is_moved_and_cancelled(agent: Agent, stage: Stage, group: str) -> None:
    booked = await agent.create_booking(**at(TEN, group))
    moved = await agent.reschedule_booking(booking_id=booked["id"], start=ELEVEN.isoformat())
    assert (moved["start"], live(stage)) == (ELEVEN.isoformat(), [ELEVEN])
    assert (await agent.cancel_booking(booking_id=booked["id"]))["status"] == "cancelled"
    assert live(stage) == []


async def test_another_seat_is_a_seat_of_the_same_meeting(agent: Agent, stage: Stage, group: str) -> None:
    id = await stage.book("group", TEN)
    booked = await agent.create_booking(**at(TEN, group))
    assert booked["id"] == id
    assert "ben@example.com" in [each["email"] for each in booked["attendees"]]
    assert sorted(each.email for each in await stage.appointments()) == ["ana@example.com", "ben@example.com"]
    stage.clock.advance(HOUR)
    with pytest.raises(InvalidRequest, match="already_signed_up"):
        await agent.create_booking(**at(TEN, group))
    assert live(stage) == [TEN, TEN]


async def test_a_seat_whose_answer_is_lost_is_not_said_to_be_free(
    agent: Agent, stage: Stage, wire: Wire, group: str
) -> None:
    """The marker of a meeting is that of its first guest."""
    await stage.book("group", TEN, marker="a" * 32)
    wire.spoiled = fastify(500, "Something broke")
    with suppress(OutcomeUnknown):  # better still, it is found by its guest
        await agent.create_booking(**at(TEN, group))
    assert (len(wire.writes), live(stage)) == (1, [TEN, TEN])
    assert (await stage.journaled())[0][2] in ("done", "unknown")


# Event types


async def test_a_change_of_the_title_leaves_what_was_set_on_the_page(agent: Agent, stage: Stage, wire: Wire) -> None:
    await agent.list_event_types()  # remembered, and changed behind our back after that
    set_there = {
        "title": "Intro call",
        "slug": "intro",
        "length": 30,
        "description": "Long",
        "requiresConfirmation": True,
        "minimumBookingNotice": 5,
        "seatsPerTimeSlot": 2,
        "scheduleId": 254,
        "slotInterval": 45,
        "disableGuests": True,
        "bookingLimits": {"PER_DAY": 3},
    }
    await vendor(stage, "PATCH", "/event-types/101", json=set_there)
    before = await vendor(stage, "GET", "/event-types/101")
    changed = await agent.save_event_type(event_type_id=stage.intro, title="First call")
    assert (changed["title"], changed["minimum_notice_minutes"]) == ("First call", 5)
    assert await vendor(stage, "GET", "/event-types/101") == {**before, "title": "First call"}
    assert stage.world.kinds["intro"] == replace(
        KINDS["intro"], title="First call", slug="intro", approval=True, notice=5, seats=2, description="Long"
    )


async def test_what_is_changed_on_the_page_is_seen_in_time_however_often_one_looks(agent: Agent, stage: Stage) -> None:
    await agent.list_event_types()
    kinds(stage, intro=replace(KINDS["intro"], title="First call", minutes=60))
    for _ in range(3):
        stage.clock.advance(KEPT * 0.9)
        found = (await agent.list_event_types())["event_types"]
    [intro] = [each for each in found if each["id"] == stage.intro]
    assert (intro["title"], intro["durations_minutes"]) == ("First call", [60])


async def test_a_new_event_type_has_none_of_the_servers_defaults(agent: Agent, stage: Stage, wire: Wire) -> None:
    made = await agent.save_event_type(title="Intro", duration_minutes=45)
    assert (made["minimum_notice_minutes"], made["active"], made["durations_minutes"]) == (0, True, [45])
    said = {"title": "Intro", "slug": "intro-2", "length": 45, "hidden": False, "minimumBookingNotice": 0}
    assert [each.body for each in wire.writes] == [said]
    assert (stage.world.kinds["intro-2"].notice, stage.world.kinds["intro-2"].minutes) == (0, 45)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(
    ("name", "value"), [("title", "Hey"), ("slug", "hey"), ("duration_minutes", 9), ("duration_minutes", 5)]
)
async def test_what_is_too_short_is_refused_before_it_is_sent(
    agent: Agent, stage: Stage, name: str, value: Any, is_new: bool
) -> None:
    said = {"title": "Deep dive", "duration_minutes": 30} if is_new else {"event_type_id": stage.intro}
    with pytest.raises(InvalidRequest, match=name):
        await agent.save_event_type(**said | {name: value})
    assert stage.world.writes == []
    assert stage.world.kinds == KINDS


# Schedules

WEEK = {day: ["09:00-17:00"] for day in DAYS[:5]}


@pytest.mark.parametrize(
    ("change", "methods"),
    [
        ({"monday": ["10:00-12:00"]}, ["PATCH", "POST"]),
        ({"monday": ["10:00-12:00", "13:00-15:00"]}, ["PATCH", "POST", "POST"]),
        ({"friday": []}, ["PATCH"]),
        ({"saturday": ["20:00-24:00"]}, ["POST"]),
        ({"sunday": ["00:00-24:00"]}, ["POST"]),
        ({"monday": ["09:00-17:00"]}, []),
        ({"tuesday": ["08:00-09:00"], "thursday": []}, ["PATCH", "POST", "PATCH"]),
        ({day: [] for day in DAYS}, ["PATCH", "PATCH", "PATCH", "PATCH", "DELETE"]),
    ],
)
async def test_a_day_is_taken_out_of_the_row_it_shares(
    agent: Agent, stage: Stage, wire: Wire, change: dict[str, list[str]], methods: list[str]
) -> None:
    changed = await agent.update_schedule(schedule_id=SCHEDULE, weekly_hours=change)
    expected = {day: hours for day, hours in (WEEK | change).items() if hours}
    assert {day: hours for day, hours in changed["weekly_hours"].items() if hours} == expected
    assert {day: hours for day, hours in stage.world.hours.items() if hours} == expected
    assert [each.method for each in wire.writes] == methods
    assert (await agent.list_schedules())["schedules"] == [changed]


async def test_single_dates_set_on_the_page_are_shown_and_survive(agent: Agent, stage: Stage) -> None:
    dates = {"2030-01-08": ["12:00-13:00"], "2030-01-09": []}
    stage.world.overrides |= dates
    with pytest.raises(Unsupported, match="weekly_hours"):
        await agent.update_schedule(
            schedule_id=SCHEDULE, weekly_hours={"friday": []}, date_overrides={"2030-01-08": []}
        )
    assert (stage.world.requests, await stage.journaled()) == ([], [])
    [schedule] = (await agent.list_schedules())["schedules"]
    changed = await agent.update_schedule(schedule_id=SCHEDULE, weekly_hours={"tuesday": ["10:00-11:00"]})
    assert (schedule["date_overrides"], changed["date_overrides"], stage.world.overrides) == (dates, dates, dates)


async def test_a_change_of_the_zone_keeps_the_name_and_the_hours(agent: Agent, stage: Stage, wire: Wire) -> None:
    [before] = (await agent.list_schedules())["schedules"]
    changed = await agent.update_schedule(schedule_id=SCHEDULE, time_zone="America/New_York")
    assert changed == before | {"time_zone": "America/New_York"}
    said = {"name": "Working Hours", "timeZone": "America/New_York"}
    assert [(each.method, each.path, each.query, each.body) for each in wire.writes] == [
        ("PATCH", "/schedule/254", "", said)
    ]
    assert (stage.world.zone, stage.world.hours) == ("America/New_York", WEEK)


HALFWAY = {
    "500": fastify(500, "Something broke"),
    "400": fastify(400, "body/days must be array"),
    "429": JSONResponse({"error": "slow down"}, 429, {"Retry-After": "5"}),
}


@pytest.mark.parametrize("answer", HALFWAY.values(), ids=HALFWAY)
async def test_hours_that_were_changed_by_half_are_told_and_made_whole_by_the_same_call(
    agent: Agent, stage: Stage, wire: Wire, answer: Response
) -> None:
    wire.refusals["POST"] = answer
    with pytest.raises(SchedulingError) as told:
        await agent.update_schedule(schedule_id=SCHEDULE, weekly_hours={"monday": ["10:00-12:00"]})
    assert "monday" not in stage.world.hours
    outcomes = await stage.journaled()
    await agent.update_schedule(schedule_id=SCHEDULE, weekly_hours={"monday": ["10:00-12:00"]})
    assert stage.world.hours == WEEK | {"monday": ["10:00-12:00"]}
    assert told.value.code == OutcomeUnknown.code, "says that nothing was changed"
    assert outcomes == [("update_schedule", ACCOUNT, "unknown")]


# Limits

FAR = int(datetime(2090, 1, 1, tzinfo=UTC).timestamp())
SLOW_DOWN = {"error": "Rate limit exceeded", "message": "Too many requests. Please try again later."}
IN_A_WHILE = BEGIN + timedelta(seconds=45)
WAITS: list[tuple[Any, int]] = [(FAR, 3600), (FAR * 1000, 3600), (86_400, 3600), (45, 45), (None, 60), ("soon", 60)]
WAITS += [(int(IN_A_WHILE.timestamp()) * factor, 45) for factor in (1, 1000)]
WAITS += [(format_datetime(IN_A_WHILE.astimezone(UTC), usegmt=True), 45)]


@pytest.mark.parametrize("body", [SLOW_DOWN, {"success": False, "error": {"code": "RATE_LIMIT_EXCEEDED"}}, "slow down"])
@pytest.mark.parametrize(("header", "after"), WAITS)
async def test_no_wait_is_believed_to_be_longer_than_an_hour(
    agent: Agent, stage: Stage, wire: Wire, header: Any, after: int, body: Any
) -> None:
    headers = {} if header is None else {"Retry-After": str(header)}
    wire.refusals["POST"] = JSONResponse(body, 429, headers)
    with pytest.raises(RateLimited) as refused:
        await agent.create_booking(**at(TEN, stage.intro))
    assert refused.value.retry_after == after
    assert (len(wire.writes), live(stage), stage.clock.waits) == (1, [], [])
    assert await stage.journaled() == [("create_booking", ACCOUNT, "failed")]
    stage.world.failures.append(JSONResponse(body, 429, headers))
    before = stage.sent()
    for _ in range(2):  # the second is not even sent
        with pytest.raises(RateLimited) as refused:
            await agent.list_schedules()
        assert refused.value.retry_after == after
    assert (stage.sent(), stage.clock.waits) == (before + 1, [])
    stage.clock.advance(timedelta(seconds=after))
    assert (await agent.list_schedules())["schedules"]


async def test_more_event_types_than_requests_a_minute_are_listed_at_the_second_try(agent: Agent, stage: Stage) -> None:
    kinds(stage, **{f"kind-{number}": Kind(f"Kind {number}", 30) for number in range(147)})
    stage.world.allowance = 100
    with pytest.raises(RateLimited) as refused:
        await agent.list_event_types()
    assert refused.value.retry_after == 60
    stage.clock.advance(timedelta(seconds=60))
    found = (await agent.list_event_types())["event_types"]
    assert sorted(each["id"] for each in found) == sorted(map(stage.event_type, stage.world.kinds))


# Slots and busy times


async def test_busy_times_are_bookings_and_what_is_elsewhere(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    cancelled = await stage.book("intro", ELEVEN)
    await agent.cancel_booking(booking_id=cancelled)
    stage.world.elsewhere += [(NINE, NINE + HALF_HOUR), (NINE + 2 * DAY, TEN + 2 * DAY)]
    found = (await agent.find_busy_times(**window()))["busy"]
    assert found == [
        {"start": NINE.isoformat(), "end": (NINE + HALF_HOUR).isoformat(), "account": ACCOUNT},
        {"start": TEN.isoformat(), "end": (TEN + HALF_HOUR).isoformat(), "account": ACCOUNT, "title": "Intro call"},
    ]


async def test_slots_that_must_be_free_elsewhere_are_checked_against_busy_times(agent: Agent, stage: Stage) -> None:
    await agent.find_slots(event_type_ids=[stage.intro], **window(NINE, TEN))
    stage.world.elsewhere.append((NINE, NINE + HALF_HOUR))

    def stale(answer: Any) -> Any:
        answer["data"]["slots"] = {"2030-01-07": [{"time": zulu(NINE)}, {"time": zulu(NINE + HALF_HOUR)}]}
        return answer

    stage.world.failures.append(Altered(stale))
    found = await agent.find_slots(event_type_ids=[stage.intro], free_in=[ACCOUNT], **window(NINE, TEN))
    assert [each["start"] for each in found["slots"]] == [(NINE + HALF_HOUR).isoformat()]
    stage.world.failures.extend([Altered(stale), *[JSONResponse({"error": "broken"}, 500)] * 4])
    unsure = await agent.find_slots(event_type_ids=[stage.intro], free_in=[ACCOUNT], **window(NINE, TEN))
    assert (unsure["slots"], [each["account"] for each in unsure["unavailable"]]) == ([], [ACCOUNT])


async def test_a_booking_about_to_move_still_stands_in_its_own_way(agent: Agent, stage: Stage, wire: Wire) -> None:
    id = await stage.book("intro", NINE)
    found = await agent.find_slots(event_type_ids=[stage.intro], booking_id=id, **window(NINE, TEN))
    assert [each["start"] for each in found["slots"]] == [(NINE + HALF_HOUR).isoformat()]
    [sent] = [each.asked for each in wire.sent if each.path == "/slots/"]
    end = zulu(TEN - timedelta(seconds=1))
    assert sent == {"eventTypeId": ["101"], "start": [zulu(NINE)], "end": [end], "timeZone": ["Europe/Berlin"]}


# How many requests


def kind_of(number: int) -> Request_:
    return "GET", f"/event-types/{number}"


async def test_a_read_takes_few_requests_and_at_first_two_more_for_who_we_are(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    who = [ME, HOURS]
    slots = {"event_type_ids": [stage.intro], **window()}
    calls: list[tuple[Any, list[Request_], list[Request_]]] = [
        (lambda: agent.find_slots(**slots), [("GET", "/slots/")], [kind_of(101), *who]),
        (lambda: agent.find_busy_times(**window()), [("GET", "/availability/")], who),
        (lambda: agent.get_booking(booking_id=id), [("GET", "/booking/5001"), LIST], who),
        (lambda: agent.list_bookings(), [LIST] * 3, who),
        (lambda: agent.list_bookings(status="past"), [LIST] * 4, who),
        (lambda: agent.list_bookings(status="cancelled"), [LIST], who),
        (lambda: agent.list_schedules(), [HOURS], []),
        (lambda: agent.list_accounts(), who, []),
        (lambda: agent.list_event_types(), [("GET", "/event-types/")], [kind_of(id) for id in (101, 102, 103)]),
    ]
    for call, warm, cold in calls:
        assert sorted(await requests(stage, call())) == sorted([*cold, *warm])
        assert sorted(await requests(stage, call())) == sorted(warm)
        stage.clock.advance(KEPT)


async def test_a_write_takes_few_requests_when_what_it_needs_was_read(agent: Agent, stage: Stage) -> None:
    await agent.list_event_types()
    await agent.find_slots(event_type_ids=[stage.intro], **window())
    booking = agent.create_booking(**at(TEN, stage.intro))
    first = [("GET", "/booking/5001"), LIST]
    assert await requests(stage, booking) == [("POST", "/booking/"), *first]
    moving = agent.reschedule_booking(booking_id=f"{ACCOUNT}:5001", start=ELEVEN.isoformat())
    patch = [("PATCH", "/booking/5001/reschedule"), LIST]
    assert await requests(stage, moving) == [*first, ("GET", "/booking/5001"), *patch]
    ending = agent.cancel_booking(booking_id=f"{ACCOUNT}:5002")
    assert await requests(stage, ending) == [("GET", "/booking/5002"), LIST, ("POST", "/booking/5002/cancel")]
    await stage.book("approval", TEN)
    answering = agent.respond_to_booking(booking_id=f"{ACCOUNT}:5003", response="confirm")
    confirmed = ("PATCH", "/booking/5003/change_confirmation")
    assert await requests(stage, answering) == [("GET", "/booking/5003"), LIST, confirmed]
    type = "/event-types/101"
    renaming = agent.save_event_type(event_type_id=stage.intro, title="First call")
    assert await requests(stage, renaming) == [("GET", type), ("PATCH", type), ("GET", type)]
