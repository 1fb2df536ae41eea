"""What only Cal.com's bookings show: their fields, moves, seats, series and errors, and answers that are lost."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from starlette.responses import HTMLResponse, JSONResponse, Response

from providers.storage.tables import journal
from schemas import InvalidRequest, NotFound, SchedulingError, SlotTaken, Unsupported
from tests import calcom_desk, wired
from tests.agent import Agent, after_a_restart
from tests.calcom_desk import live, made, start_at, starts
from tests.emulators.wire import TOKEN, Lost
from tests.stages import ACCOUNT, Stage
from tests.wired import ANA, BEN, DAY, GROUP, HOUR, SCHEDULE, ZOE, Wire, at, window
from tests.world import BEGIN, ELEVEN, NINE, TEN, Kind

pytestmark = pytest.mark.anyio
stage, wire, agent = calcom_desk.stage, wired.wire, wired.agent


# What a booking carries


def field(type: str, *options: str, slug: str = "field", **more: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"type": type, "slug": slug, "label": slug.title(), "required": True, "hidden": False}
    asked |= {"options": list(options)} if options else {}
    return asked | ({} if type in ("boolean", "multiselect", "checkbox", "radio") else {"placeholder": ""}) | more


LANGUAGES, PHONE = ("js", "py"), "attendeePhoneNumber"
LOCATIONS = [
    {"type": "integration", "integration": "cal-video"},
    {"type": "integration", "integration": "zoom"},
    {"type": "address", "address": "Main Street 1", "public": True},
    {"type": "address", "address": "Side Street 2", "public": True},
    {"type": "link", "link": "https://meet.example.com/room", "public": True},
    {"type": "phone", "phone": "+4930123456", "public": True},
    {"type": "attendeeAddress"},
    {"type": "attendeePhone"},
    {"type": "attendeeDefined"},
]


@pytest.mark.parametrize(
    ("type", "options", "answer", "sent"),
    [
        ("text", (), "ACME", "ACME"),
        ("textarea", (), "Two\nlines", "Two\nlines"),
        ("number", (), "12", 12),
        ("number", (), 2.5, 2.5),
        ("boolean", (), "yes", True),
        ("boolean", (), False, False),
        ("phone", (), "+4930123456", "+4930123456"),
        ("url", (), "https://example.com", "https://example.com"),
        ("address", (), "Elm Road 5", "Elm Road 5"),
        ("select", LANGUAGES, "py", "py"),
        ("radio", LANGUAGES, ["py"], "py"),
        ("multiselect", LANGUAGES, ["py", "js"], ["py", "js"]),
        ("multiselect", LANGUAGES, "py", ["py"]),
        ("checkbox", LANGUAGES, ["js"], ["js"]),
        ("multiemail", (), ["max@example.com", "eva@example.com"], ["max@example.com", "eva@example.com"]),
    ],
)
async def test_an_answer_goes_out_in_the_type_of_its_field_and_comes_back_alone(
    agent: Agent, stage: Stage, type: str, options: Any, answer: Any, sent: Any
) -> None:
    id = await made(stage, bookingFields=[field(type, *options)])
    asked = at(TEN, id, answers={"field": answer}, notes="Hi", guests=["zoe@example.com"])
    booked = await agent.create_booking(**asked)
    [appointment] = await stage.appointments()
    assert (json.dumps(appointment.answers), appointment.notes) == (json.dumps({"field": sent}), "Hi")
    assert (await agent.get_booking(booking_id=booked["id"]))["answers"] == booked["answers"] == {"field": sent}


@pytest.mark.parametrize(
    ("wanted", "sent", "place"),
    [
        ("cal-video", {"type": "integration", "integration": "cal-video"}, "cal-video"),
        ("Zoom", {"type": "integration", "integration": "zoom"}, "zoom"),
        ("main street 1", {"type": "address"}, "Main Street 1"),
        ("https://meet.example.com/room", {"type": "link"}, "https://meet.example.com/room"),
        ("+4930123456", {"type": "phone"}, "+4930123456"),
        ("attendeeAddress: Elm Road 5", {"type": "attendeeAddress", "address": "Elm Road 5"}, "Elm Road 5"),
        ("attendeePhone: +491511", {"type": "attendeePhone", "phone": "+491511"}, "+491511"),
        ("attendeeDefined: By the lake", {"type": "attendeeDefined", "location": "By the lake"}, "By the lake"),
    ],
)
async def test_every_sort_of_location_can_be_chosen(
    agent: Agent, stage: Stage, wire: Wire, wanted: str, sent: Any, place: str
) -> None:
    id = await made(stage, locations=LOCATIONS)
    booked = await agent.create_booking(**at(TEN, id, location=wanted))
    assert wire.last.body["location"] == sent
    assert [each.place for each in await stage.appointments()] == [place]
    assert (await agent.get_booking(booking_id=booked["id"]))["location"] == booked["location"]


@pytest.mark.parametrize(
    ("settings", "asked", "word"),
    [
        *(
            ({"bookingFields": [field(type, *options)]}, {"answers": {"field": answer}}, "answers.field")
            for type, options, answer in (
                ("text", (), ["a", "b"]),
                ("text", (), ""),
                ("number", (), "many"),
                ("number", (), "inf"),
                ("number", (), "nan"),
                ("boolean", (), "maybe"),
                ("select", LANGUAGES, "rust"),
                ("select", LANGUAGES, ["js", "py"]),
                ("radio", LANGUAGES, "rust"),
                ("multiselect", LANGUAGES, ["js", "rust"]),
                ("checkbox", LANGUAGES, "rust"),
            )
        ),
        ({"bookingFields": [field("text")]}, {}, "answers.field"),
        ({"bookingFields": [field("text", hidden=True, required=False)]}, {"answers": {"field": "x"}}, "answers.field"),
        ({"bookingFields": [{"slug": "notes", "required": True}]}, {}, "notes"),
        ({"bookingFields": [{"slug": "guests", "required": True}]}, {}, "guests"),
        ({"disableGuests": True}, {"guests": ["zoe@example.com"]}, "guests"),
        ({"locations": LOCATIONS}, {"location": "The moon"}, "location"),
        ({"locations": LOCATIONS}, {"location": "google-meet"}, "location"),
        ({"locations": LOCATIONS}, {"location": "Side Street 2"}, "location"),
        ({"locations": LOCATIONS}, {"location": "attendeeAddress: "}, "location"),
    ],
)
async def test_what_the_event_type_will_not_take_is_not_sent(
    agent: Agent, stage: Stage, settings: Any, asked: Any, word: str
) -> None:
    id = await made(stage, **settings)
    before = len(stage.world.writes)
    with pytest.raises(InvalidRequest, match=word):
        await agent.create_booking(**at(TEN, id, **asked))
    assert (len(stage.world.writes), await stage.appointments()) == (before, [])


async def test_only_what_is_left_to_ask_is_a_question(agent: Agent, stage: Stage) -> None:
    name, notes = {"type": "name", "label": "Who", "placeholder": ""}, {"slug": "notes", "required": True}
    secret = field("text", slug="secret", hidden=True, required=False)
    id = await made(stage, bookingFields=[name, notes, secret, field("select", *LANGUAGES)], locations=LOCATIONS)
    [shown] = (await agent.list_event_types(query="special"))["event_types"]
    asked = {"key": "field", "label": "Field", "type": "choice", "required": True, "options": ["js", "py"]}
    assert (shown["id"], shown["questions"]) == (id, [asked])
    given = ["cal-video", "zoom", "Main Street 1", "Side Street 2", "https://meet.example.com/room", "+4930123456"]
    assert shown["locations"] == [*given, "attendeeAddress", "attendeePhone", "attendeeDefined"]
    booked = await agent.create_booking(**at(TEN, id, answers={"field": "js"}, notes="Hi"))
    assert (booked["answers"], booked["notes"]) == ({"field": "js"}, "Hi")


@pytest.mark.parametrize(
    ("required", "number"), [(False, "+4930123456"), (True, "+4930123456"), (False, "+49 30 123-456")]
)
async def test_the_guests_phone_number_is_told_of_the_guest(
    agent: Agent, stage: Stage, wire: Wire, required: bool, number: str
) -> None:
    id = await made(stage, bookingFields=[field("phone", slug=PHONE, required=required)])
    booked = await agent.create_booking(**at(TEN, id, answers={PHONE: number}))
    assert wire.last.body["attendee"]["phoneNumber"] == "+4930123456"
    assert (booked["status"], booked["answers"]) == ("confirmed", {})


# Moves


async def test_a_move_makes_a_new_booking_and_links_both(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    moved = await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat(), reason="traffic")
    assert (moved["method"], moved["rescheduled_from"], moved["status"]) == ("native", id, "confirmed")
    assert moved["id"] != id
    old, new = stage.world.appointments.values()
    assert (old.status, old.moved_to, new.status, new.moved_from) == ("cancelled", "b2", "confirmed", "b1")
    [gone] = (await agent.list_bookings(status="cancelled"))["bookings"]
    assert (gone["id"], gone["rescheduled_to"]) == (id, moved["id"])
    [stands] = (await agent.list_bookings())["bookings"]
    assert (stands["id"], stands["rescheduled_from"]) == (moved["id"], id)


async def test_every_earlier_id_stands_for_the_newest_booking(agent: Agent, stage: Stage) -> None:
    ids = [await stage.book("approval", NINE)]
    for start in (TEN, ELEVEN, ELEVEN + HOUR):
        ids.append((await agent.reschedule_booking(booking_id=ids[0], start=start.isoformat()))["id"])
    assert len(set(ids)) == 4
    async with after_a_restart(stage) as agent:
        for id in ids:
            found = await agent.get_booking(booking_id=id)
            assert (found["id"], found["start"]) == (ids[-1], (ELEVEN + HOUR).isoformat())
            slots = await agent.find_slots(
                event_type_ids=[stage.approval], booking_id=id, **window(ELEVEN + HOUR, ELEVEN + 2 * HOUR)
            )
            assert (ELEVEN + HOUR).isoformat() in starts(slots)
        confirmed = await agent.respond_to_booking(booking_id=ids[0], response="confirm")
        assert (confirmed["id"], confirmed["status"]) == (ids[-1], "confirmed")
        moved = await agent.reschedule_booking(booking_id=ids[1], start=NINE.isoformat())
        assert moved["rescheduled_from"] == ids[1]
        assert live(stage) == [("ana@example.com", NINE)]
        await agent.cancel_booking(booking_id=ids[0])
    assert live(stage) == []


async def test_a_booking_that_somebody_moved_on_the_page_is_found_by_its_old_id(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    stage.world.move_anew("b1", ELEVEN)
    found = await agent.get_booking(booking_id=id)
    assert (found["id"], found["start"], found["rescheduled_from"]) == (f"{ACCOUNT}:b2", ELEVEN.isoformat(), id)
    [gone] = (await agent.list_bookings(status="cancelled"))["bookings"]
    assert (gone["id"], gone["rescheduled_to"]) == (id, found["id"])
    await agent.cancel_booking(booking_id=id)
    assert live(stage) == []


@pytest.mark.parametrize("status", ["pending", "confirmed"])
async def test_a_move_leaves_open_or_confirmed_what_is(agent: Agent, stage: Stage, status: str) -> None:
    id = await stage.book("approval", TEN, status=status)
    assert (await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat()))["status"] == status
    assert [each.status for each in await stage.appointments()] == ["cancelled", status]


async def test_a_cancelled_booking_is_not_moved(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    await agent.cancel_booking(booking_id=id)
    before = len(stage.world.writes)
    with pytest.raises(InvalidRequest):
        await agent.reschedule_booking(booking_id=id, start=NINE.isoformat())
    assert (len(stage.world.writes), live(stage)) == (before, [])


async def test_a_move_with_a_key_is_made_once_also_after_a_restart(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    asked = {"booking_id": id, "start": ELEVEN.isoformat(), "idempotency_key": "k1"}
    first = await agent.reschedule_booking(**asked)
    async with after_a_restart(stage) as agent:
        assert await agent.reschedule_booking(**asked) == first
    assert len(stage.world.writes) == 1


# Seats


@pytest.fixture
async def group(stage: Stage) -> str:
    stage.world.kinds["group"] = GROUP
    return stage.event_type("group")


async def seats(agent: Agent, group: str, start: datetime = NINE) -> tuple[str, str]:
    """Ana's and Ben's."""
    ana, ben = [(await agent.create_booking(**at(start, group) | each))["id"] for each in (ANA, BEN)]
    return ana, ben


async def test_each_seat_is_a_booking_of_its_own(agent: Agent, stage: Stage, group: str) -> None:
    ana, ben = await seats(agent, group)
    assert (ana, ben) == (f"{ACCOUNT}:b1/seat-b1", f"{ACCOUNT}:b1/seat-b2")
    listed = (await agent.list_bookings())["bookings"]
    assert [(each["id"], [who["email"] for who in each["attendees"]]) for each in listed] == [
        (ana, ["ana@example.com"]),
        (ben, ["ben@example.com"]),
    ]
    for each in listed:
        assert await agent.get_booking(booking_id=each["id"]) == each
    await agent.create_booking(**at(NINE, group) | ZOE)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**at(NINE, group, attendee_email="max@example.com"))


async def test_cancelling_a_seat_leaves_the_others(agent: Agent, stage: Stage, group: str) -> None:
    ana, ben = await seats(agent, group)
    assert (await agent.cancel_booking(booking_id=ana))["status"] == "cancelled"
    assert live(stage) == [("ben@example.com", NINE)]
    with pytest.raises(NotFound):
        await agent.get_booking(booking_id=ana)
    assert (await agent.get_booking(booking_id=ben))["status"] == "confirmed"
    await agent.cancel_booking(booking_id=ben)
    assert live(stage) == []
    assert (await agent.get_booking(booking_id=ben))["status"] == "cancelled"


async def test_moving_a_seat_leaves_the_others_and_its_old_id_goes_along(
    agent: Agent, stage: Stage, group: str
) -> None:
    ana, ben = await seats(agent, group)
    moved = await agent.reschedule_booking(booking_id=ana, start=ELEVEN.isoformat(), reason="traffic")
    assert (moved["method"], moved["rescheduled_from"]) == ("native", ana)
    assert live(stage) == [("ana@example.com", ELEVEN), ("ben@example.com", NINE)]
    async with after_a_restart(stage) as agent:
        assert (await agent.get_booking(booking_id=ana))["id"] == moved["id"]
        assert (await agent.get_booking(booking_id=ben))["id"] == ben
        await agent.cancel_booking(booking_id=ana)
    assert live(stage) == [("ben@example.com", NINE)]


async def test_the_only_seat_of_a_meeting_moves_alone_and_its_old_id_goes_along(
    agent: Agent, stage: Stage, group: str
) -> None:
    zoe = (await agent.create_booking(**at(NINE, group) | ZOE))["id"]
    await seats(agent, group, ELEVEN)
    moved = await agent.reschedule_booking(booking_id=zoe, start=ELEVEN.isoformat())
    assert live(stage) == [("ana@example.com", ELEVEN), ("ben@example.com", ELEVEN), ("zoe@example.com", ELEVEN)]
    assert [each["email"] for each in moved["attendees"]] == ["zoe@example.com"]
    async with after_a_restart(stage) as agent:
        found = await agent.get_booking(booking_id=zoe)
        assert (found["id"], [each["email"] for each in found["attendees"]]) == (moved["id"], ["zoe@example.com"])
        await agent.cancel_booking(booking_id=zoe)
    assert live(stage) == [("ana@example.com", ELEVEN), ("ben@example.com", ELEVEN)]


async def test_the_id_of_a_whole_meeting_cancels_and_moves_nobodys_seat(agent: Agent, stage: Stage, group: str) -> None:
    ana, _ = await seats(agent, group)
    whole = ana.partition("/")[0]
    for tool, more in (("cancel_booking", {}), ("reschedule_booking", start_at(ELEVEN))):
        with pytest.raises(SchedulingError):
            await getattr(agent, tool)(booking_id=whole, **more)
    assert live(stage) == [("ana@example.com", NINE), ("ben@example.com", NINE)]


@pytest.mark.parametrize("alone", [True, False])
async def test_where_a_seat_was_moved_no_list_names_the_whole_meeting(
    agent: Agent, stage: Stage, group: str, alone: bool
) -> None:
    ben = (await agent.create_booking(**at(NINE, group)))["id"] if alone else (await seats(agent, group))[1]
    await agent.reschedule_booking(booking_id=ben, start=ELEVEN.isoformat())
    listed = (await agent.list_bookings(status="all"))["bookings"]
    named = [each.get(name) for each in listed for name in ("id", "rescheduled_from", "rescheduled_to")]
    assert [id for id in named if id and "/seat-" not in id] == []
    assert len(listed) == 2


@pytest.mark.parametrize("response", ["confirm", "decline"])
async def test_a_seat_cannot_be_answered_alone(agent: Agent, stage: Stage, group: str, response: str) -> None:
    stage.world.kinds["group"] = replace(GROUP, approval=True)
    ana, _ = await seats(agent, group)
    before = len(stage.world.writes)
    with pytest.raises(Unsupported):
        await agent.respond_to_booking(booking_id=ana, response=response)
    assert (len(stage.world.writes), [each.status for each in await stage.appointments()]) == (before, ["pending"] * 2)


async def test_one_of_a_group_did_not_come(agent: Agent, stage: Stage, group: str) -> None:
    _, ben = await seats(agent, group)
    stage.clock.advance(ELEVEN - BEGIN)
    for response, absent in (("no_show", True), ("clear_no_show", False)):
        answered = await agent.respond_to_booking(booking_id=ben, response=response)
        assert [bool(each.get("no_show")) for each in answered["attendees"]] == [absent]
        told = {each.email: each.no_show for each in await stage.appointments()}
        assert told == {"ana@example.com": False, "ben@example.com": absent}


# Series, and the end of a booking


async def test_a_series_is_booked_whole_and_its_meetings_end_one_by_one(agent: Agent, stage: Stage) -> None:
    stage.world.kinds["weekly"] = Kind("Weekly", 30)
    first = await agent.create_booking(**at(TEN, stage.event_type("weekly")))
    assert (first["start"], len(await stage.appointments())) == (TEN.isoformat(), 4)
    weeks = [TEN + week * 7 * DAY for week in range(4)]
    assert [each.start for each in await stage.appointments()] == weeks
    assert [each["start"] for each in (await agent.list_bookings())["bookings"]] == [at.isoformat() for at in weeks]
    await agent.cancel_booking(booking_id=first["id"])
    assert [start for _, start in live(stage)] == weeks[1:]
    second = (await agent.list_bookings())["bookings"][0]["id"]
    await agent.reschedule_booking(booking_id=second, start=(weeks[1] + HOUR).isoformat())
    assert [start for _, start in live(stage)] == [weeks[1] + HOUR, *weeks[2:]]


async def test_a_cancellation_needs_no_reason(agent: Agent, stage: Stage, wire: Wire) -> None:
    id = await stage.book("intro", TEN)
    assert (await agent.cancel_booking(booking_id=id))["status"] == "cancelled"
    assert live(stage) == []
    assert wire.last.body["cancellationReason"]


async def test_a_decline_keeps_its_reason_and_a_confirmation_its_booking(agent: Agent, stage: Stage) -> None:
    id, other = await stage.book("approval", TEN), await stage.book("approval", ELEVEN)
    declined = await agent.respond_to_booking(booking_id=id, response="decline", reason="no time")
    assert (declined["status"], declined["cancellation_reason"]) == ("declined", "no time")
    assert (await agent.respond_to_booking(booking_id=other, response="confirm"))["status"] == "confirmed"
    assert [(e.status, e.reason) for e in await stage.appointments()] == [("declined", "no time"), ("confirmed", None)]


# Errors


def a(status: int, message: str, code: str = "BadRequestException", **details: Any) -> JSONResponse:
    error = {"code": code, "message": message, "details": details or {"message": message, "statusCode": status}}
    return JSONResponse({"status": "error", "path": "/v2/bookings", "error": error}, status)


def b(status: int, message: str) -> JSONResponse:
    return JSONResponse({"statusCode": status, "message": message}, status)


SOON = "The event type can't be booked at the \"start\" time provided. This could be because it's too soon."
ERRORS = [
    (a(400, "User either already has booking at this time or is not available"), "slot_taken"),
    (a(400, "One of the hosts either already has booking at this time or is not available"), "slot_taken"),
    (b(409, "booking_conflict_error"), "slot_taken"),
    (a(409, "Invalid Input: Trying to create a record that already exists.", "CONFLICT"), "slot_taken"),
    (a(400, SOON), "slot_taken"),
    (a(409, "No more seats left at this seated booking.", "ConflictException"), "slot_taken"),
    (a(400, "Attempting to book a meeting in the past."), "invalid_request"),
    (a(400, "Missing required booking field response: company - it is required"), "invalid_request"),
    (a(400, "Missing attendee phone number - it is required by the event type."), "invalid_request"),
    (a(400, "Invalid option 'rust' for booking field 'language'. Allowed options are: js, py."), "invalid_request"),
    (a(400, "Can't specify 'lengthInMinutes' because event type does not have multiple"), "invalid_request"),
    (a(400, "Booking location with type phone not valid for event type with id=101"), "invalid_request"),
    (a(400, "Attendee with this email can't book because the maximum number of active"), "invalid_request"),
    (a(400, "start property is wrong,start must be a valid ISO 8601 date string "), "invalid_request"),
    (a(400, "Bad Request Exception", errors=[{"property": "x", "constraints": {"isString": "x"}}]), "invalid_request"),
    (a(404, "Event type with id 101 not found.", "NotFoundException"), "not_found"),
    (a(401, "CustomThrottlerGuard - Invalid API Key", "UnauthorizedException"), "not_connected"),
    (a(401, "ApiAuthStrategy - api key - Your api key is expired", "UnauthorizedException"), "not_connected"),
    (a(403, "insufficient scope", "ForbiddenException"), "permission_denied"),
    (a(429, "CustomThrottlerGuard - Too many requests. Please try again later.", "ThrottlerException"), "rate_limited"),
    (b(500, "Internal server error"), "provider_down"),
    (a(500, "Internal server error", "INTERNAL_SERVER_ERROR"), "provider_down"),
    (HTMLResponse("<html><h1>502 Bad Gateway</h1></html>", 502), "provider_down"),
]


@pytest.mark.parametrize(("answer", "code"), ERRORS)
async def test_what_the_service_refuses_has_a_name_of_ours(agent: Agent, stage: Stage, answer: Any, code: str) -> None:
    """Of an HTTP 500 nothing has happened here, which is looked up."""
    await agent.list_event_types()
    await agent.list_bookings()
    stage.world.failures.append(answer)
    with pytest.raises(SchedulingError) as refusal:
        await agent.create_booking(**at(TEN, stage.intro))
    assert (refusal.value.code, refusal.value.retry_after) == (code, 60 if code == "rate_limited" else None)
    assert (stage.world.writes, live(stage)) == ([("POST", "/v2/bookings")], [])
    assert await stage.journaled() == [("create_booking", ACCOUNT, "failed")]


@pytest.mark.parametrize(
    ("tool", "message", "code"),
    [
        ("reschedule_booking", "Can't reschedule booking with uid=b1 because it has been cancelled", "invalid_request"),
        ("reschedule_booking", "User either already has booking at this time or is not available", "slot_taken"),
        ("cancel_booking", "This event type does not allow cancellations", "invalid_request"),
        ("cancel_booking", "Cancellation reason is required when you are the host", "invalid_request"),
    ],
)
@pytest.mark.parametrize("shape", [a, b])
async def test_both_shapes_of_errors_are_understood(
    agent: Agent, stage: Stage, tool: str, message: str, code: str, shape: Any
) -> None:
    id = await stage.book("intro", TEN)
    await agent.get_booking(booking_id=id)
    stage.world.failures.extend([None, shape(400, message)])
    with pytest.raises(SchedulingError, match=message[:20]) as refusal:
        await getattr(agent, tool)(booking_id=id, **(start_at(ELEVEN) if tool == "reschedule_booking" else {}))
    assert refusal.value.code == code
    assert live(stage) == [("ana@example.com", TEN)]


@pytest.mark.parametrize("answer", [b(500, "Internal server error"), HTMLResponse("<html>502</html>", 502)])
async def test_a_server_error_after_booking_is_looked_up_and_not_sent_again(
    agent: Agent, stage: Stage, wire: Wire, answer: Response
) -> None:
    wire.spoiled = answer
    booked = await agent.create_booking(**at(TEN, stage.intro))
    assert (booked["start"], stage.world.writes) == (TEN.isoformat(), [("POST", "/v2/bookings")])
    assert live(stage) == [("ben@example.com", TEN)]


async def test_the_key_is_not_told_when_the_service_repeats_it(agent: Agent, stage: Stage) -> None:
    stage.world.failures.append(a(401, f"Your api key {TOKEN} is expired", "UnauthorizedException"))
    with pytest.raises(SchedulingError, match="is expired") as refusal:
        await agent.list_bookings()
    assert TOKEN not in str(refusal.value)


# Lost answers


async def test_a_booking_carries_the_id_of_its_row_in_the_journal(agent: Agent, stage: Stage, wire: Wire) -> None:
    await agent.create_booking(**at(TEN, stage.intro))
    async with stage.gateway.storage.read() as connection:
        [id] = await connection.scalars(select(journal.c.id))
    assert wire.last.body["metadata"] == {"schedulingGateway": id}
    assert [each.marker for each in await stage.appointments()] == [id]


@pytest.mark.parametrize("kind", ["intro", "group", "weekly"])
async def test_a_booking_whose_answer_is_lost_is_found_by_its_marker(agent: Agent, stage: Stage, kind: str) -> None:
    stage.world.kinds |= {"group": GROUP, "weekly": Kind("Weekly", 30)}
    await agent.list_event_types()
    await agent.list_bookings()
    stage.world.failures.append(Lost())
    booked = await agent.create_booking(**at(TEN, stage.event_type(kind)))
    assert (booked["start"], booked["attendees"][0]["email"]) == (TEN.isoformat(), "ben@example.com")
    assert await agent.get_booking(booking_id=booked["id"]) == booked
    assert stage.world.writes == [("POST", "/v2/bookings")]


@pytest.mark.parametrize(
    ("tool", "asked", "kind", "is_done"),
    [
        ("reschedule_booking", start_at(ELEVEN), "intro", lambda e: e.moved_to == "b2"),
        ("cancel_booking", {"reason": "ill"}, "intro", lambda e: (e.status, e.reason) == ("cancelled", "ill")),
        ("respond_to_booking", {"response": "confirm"}, "approval", lambda e: e.status == "confirmed"),
        ("respond_to_booking", {"response": "decline"}, "approval", lambda e: e.status == "declined"),
        ("respond_to_booking", {"response": "no_show"}, "intro", lambda e: e.no_show),
    ],
)
async def test_a_change_whose_answer_is_lost_is_found_and_sent_once(
    agent: Agent, stage: Stage, tool: str, asked: Any, kind: str, is_done: Any
) -> None:
    id = await stage.book(kind, TEN)
    stage.clock.advance(TEN + timedelta(minutes=5) - BEGIN if "no_show" in asked.values() else timedelta())
    await agent.list_bookings()
    stage.world.failures.extend([None, Lost()])
    answer = await getattr(agent, tool)(booking_id=id, **asked)
    answer.pop("method", None)
    assert await agent.get_booking(booking_id=answer["id"]) == answer
    assert (len(stage.world.writes), bool(is_done(stage.world.appointments["b1"]))) == (1, True)
    assert await stage.journaled() == [(tool, ACCOUNT, "done")]


@pytest.mark.parametrize("alone", [True, False])
async def test_a_seat_whose_move_is_not_answered_is_found_and_moved_once(
    agent: Agent, stage: Stage, group: str, alone: bool
) -> None:
    ben = (await agent.create_booking(**at(NINE, group)))["id"] if alone else (await seats(agent, group))[1]
    before = len(stage.world.writes)
    stage.world.failures.extend([None, Lost()])
    moved = await agent.reschedule_booking(booking_id=ben, start=ELEVEN.isoformat())
    assert (moved["start"], len(stage.world.writes)) == (ELEVEN.isoformat(), before + 1)
    assert [each["email"] for each in moved["attendees"]] == ["ben@example.com"]
    assert ("ben@example.com", ELEVEN) in live(stage)
    assert (await agent.get_booking(booking_id=ben))["id"] == moved["id"]


@pytest.mark.parametrize(
    ("tool", "asked", "is_done"),
    [
        (
            "update_schedule",
            {"schedule_id": SCHEDULE, "weekly_hours": {"friday": []}},
            lambda world: not world.hours.get("friday"),
        ),
        ("delete_event_type", {"event_type_id": f"{ACCOUNT}:101"}, lambda world: "intro" not in world.kinds),
    ],
)
async def test_hours_and_event_types_whose_change_is_not_answered_are_looked_at(
    agent: Agent, stage: Stage, tool: str, asked: Any, is_done: Any
) -> None:
    """Each is read, and then changed."""
    stage.world.failures.extend([None, Lost()])
    assert (await getattr(agent, tool)(**asked))["account"] == ACCOUNT
    assert (len(stage.world.writes), is_done(stage.world)) == (1, True)
    assert await stage.journaled() == [(tool, ACCOUNT, "done")]
