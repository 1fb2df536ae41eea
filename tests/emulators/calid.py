"""Cal ID's REST API, api.cal.id. https://cal.id/docs

A fork of Cal.com with an API of its own. Emulated, with the source of each rule beside it:
- who I am; event types (own ones, CRUD); slots and their reservations; bookings (create, list, read, reschedule,
  cancel, confirm, decline); the one schedule and its rows; the user's availability
- a body that omits a field gets the server's default (Asia/Kolkata, "John Doe", a phone number, a notice of 120
  minutes), and a change of an event type resets what it omits
- a reschedule makes a new booking and answers the id of the old one; with `reschedule_500` the answer is HTTP 500
- failures of the booking engine are HTTP 500; the three shapes of errors, with `masked_errors` the third one wherever
  the stored source has it; Retry-After as an epoch
- seats of one booking; a kind whose key begins with `weekly` is a series, one for each attendee's address
- with `no_fields` an event type tells no bookingFields, as an early client saw it

Ids: event types 101, 102, ... in the order in which kinds were first seen; bookings 5001, 5002, ... likewise, as text.
The API's paths take the number, not the uid, which is the `event` of the appointments; a seat is seat-{appointment}.
Whose a seat is, is not told, so that all seats of a meeting have the id of the booking.

Weaknesses:
- No document of the vendor was found; what runs may differ from the stored source, above all in the bugs named here.
- Unknown keys and parameters, and types that the real validator converts, are refused; the real server drops or
  converts them. Its words are the vendor's only for the commonest mistakes.
- The order of the list of event types, the words to a wrong time zone, an unknown event type in slots, a booking that
  is no longer pending and a foreign schedule row, and some success messages, are made up.
- The grid, the hours and what blocks are the World's: no windows, limits, slot intervals or several lengths. A booking
  by the same attendee at the same time is a conflict, or given back where it awaits confirmation.
- A location is taken as it comes, whether the event type offers it or not. The video link is there at the first
  reading.
- What an event type does not show by default (disableRescheduling, scheduleId and so on) is kept and has no effect.
- A whole seated booking moves seat by seat. No teams, reassignment, payments, refunds, webhooks, contacts or profiles,
  one schedule, no creating or deleting it. Nothing documents a calendar that cannot be read.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.emulators import calid_rules as rules
from tests.emulators import calid_shapes as shapes
from tests.emulators.calid_catalog import Catalog, done, paged
from tests.emulators.calid_rules import Refused, instant, missing
from tests.emulators.calid_shapes import Answer, Meeting, stamp
from tests.emulators.numbers import event_type_id
from tests.emulators.wire import serve
from tests.world import Taken, World

__all__ = ["app", "booking_id", "event_type_id"]

Handler = Callable[[Request], Awaitable[Answer]]
FIRST_BOOKING = 5001
# The bounds of a list, with what they are compared to and whether they are the lower one
BOUNDS = {
    "afterStartDate": ("startTime", True),
    "beforeEndDate": ("endTime", False),
    "afterUpdatedDate": ("updatedAt", True),
    "beforeUpdatedDate": ("updatedAt", False),
    "afterCreatedDate": ("createdAt", True),
    "beforeCreatedDate": ("createdAt", False),
}
SORTS = {"sortStart": "startTime", "sortEnd": "endTime", "sortCreated": "createdAt", "sortUpdated": "updatedAt"}


def app(world: World, reschedule_500: bool = False, masked_errors: bool = False, no_fields: bool = False) -> ASGIApp:
    service = Calid(world, reschedule_500, no_fields)
    routes: list[tuple[str, str, Handler]] = [
        ("GET", "/users/me", service.me),
        ("GET", "/event-types", service.event_types),
        ("POST", "/event-types", service.create_event_type),
        ("GET", "/event-types/{id}", service.event_type),
        ("PATCH", "/event-types/{id}", service.update_event_type),
        ("DELETE", "/event-types/{id}", service.delete_event_type),
        ("GET", "/slots", service.slots),
        ("POST", "/slots/reserve", service.reserve),
        ("GET", "/slots/{uid}", service.reservation),
        ("PATCH", "/slots/{uid}", service.move_reservation),
        ("DELETE", "/slots/{uid}", service.release),
        ("GET", "/booking", service.bookings),
        ("POST", "/booking", service.create_booking),
        ("GET", "/booking/{id}", service.booking),
        ("POST", "/booking/{id}/cancel", service.cancel),
        ("PATCH", "/booking/{id}/change_confirmation", service.change_confirmation),
        ("PATCH", "/booking/{id}/reschedule", service.reschedule),
        ("GET", "/schedule", service.schedules),
        ("PATCH", "/schedule/{id}", service.update_schedule),
        ("GET", "/availability", service.availability),
        ("POST", "/availability", service.create_row),
        ("PATCH", "/availability/{id}", service.update_row),
        ("DELETE", "/availability/{id}", service.delete_row),
    ]

    def guarded(handler: Handler) -> Handler:
        async def answer(request: Request) -> Answer:
            try:
                return await handler(request)
            except Refused as refused:
                return refused.answer()

        return answer

    mounted = [
        Route(spelled, guarded(handler), methods=[method])
        for method, path, handler in routes
        for spelled in ([path, f"{path}/"] if path in rules.ROOTS else [path])
    ]
    return serve(world, mounted, rules.CalidDialect(world, masked_errors))


def booking_id(world: World, appointment: str) -> str:
    return str(_number(world, world.appointments[appointment].event or appointment))


def _number(world: World, uid: str) -> int:
    known: dict[str, int] = vars(world).setdefault("calid_bookings", {})
    if uid not in known:
        for each in dict.fromkeys(each.event or id for id, each in world.appointments.items()):
            known.setdefault(each, FIRST_BOOKING + len(known))
    return known[uid]


class Calid(Catalog):
    def __init__(self, world: World, reschedule_500: bool, no_fields: bool) -> None:
        super().__init__(world, no_fields)
        self._reschedule_500 = reschedule_500
        self._left: set[str] = set()  # seats given up one by one

    def _meetings(self) -> dict[str, list[str]]:
        """The appointments of each uid: several where they are seats."""
        found: dict[str, list[str]] = defaultdict(list)
        for id, each in self._world.appointments.items():
            found[each.event or id].append(id)
        return found

    def _meeting(self, uid: str, ids: list[str]) -> Meeting:
        all = self._world.appointments
        # A seat given up is gone; those of a meeting that was cancelled as a whole stay (calid source, 2025-09)
        ids = [id for id in ids if all[id].live] or [id for id in ids if id not in self._left] or ids[-1:]
        first = all[ids[0]]
        held = first.kind in self._world.kinds
        return Meeting(
            number=_number(self._world, uid),
            uid=uid,
            type_id=int(event_type_id(self._world, first.kind)) if held else None,
            kind=self._world.kinds.get(first.kind),
            ids=ids,
            seats=[all[id] for id in ids],
            note=self._noted.get(ids[0], {}),
            old_uid=(all[first.moved_from].event or first.moved_from) if first.moved_from else None,
        )

    def _asked(self, request: Request, code: str = "NOT_FOUND") -> Meeting:
        for uid, ids in self._meetings().items():
            if str(_number(self._world, uid)) == request.path_params["id"]:
                return self._meeting(uid, ids)
        raise Refused(404, "Booking not found", code) if code != "NOT_FOUND" else missing("Booking")

    def _note(self, id: str, **details: Any) -> None:
        self._noted[id] |= {"updatedAt": stamp(self._world.clock.now())} | details

    async def booking(self, request: Request) -> Answer:
        return done(shapes.booking_detail(self._asked(request)), "Booking")

    async def bookings(self, request: Request) -> Answer:
        query = request.query_params
        state, now = query.get("status", "upcoming"), self._world.clock.now()
        types = query.getlist("eventTypeIds")
        bounds = [(*bound, instant(query[name])) for name, bound in BOUNDS.items() if name in query]
        found = [
            each
            for each in (self._meeting(uid, ids) for uid, ids in self._meetings().items())
            if _is_in(state, each, now)
            and _is_within(each, bounds)
            and _matches(each, query)
            and (not types or str(each.type_id) in types)
            and str(shapes.HOST_ID) in (query.getlist("userIds") or [str(shapes.HOST_ID)])
            and "teamIds" not in query
        ]
        # What is over comes latest first (calid source get.handler.ts, 2025-09)
        found.sort(key=lambda each: shapes.times(each)["startTime"], reverse=state in ("past", "cancelled"))
        for name, key in SORTS.items():
            if name in query:
                found.sort(key=lambda each: shapes.times(each)[key], reverse=query[name] == "desc")
                break
        return paged(found, query, 100, "User bookings retrieved", shapes.booking_item)

    async def create_booking(self, request: Request) -> Answer:
        body = await request.json()
        key = self._key(body["eventTypeId"]) if "eventTypeId" in body else self._key_of_slug(body["eventTypeSlug"])
        # Whatever fails from here on is HTTP 500 (calid API source booking.route.ts, 2025-09)
        if key is None:
            raise Refused(500, "event_type_not_found")
        kind = self._world.kinds[key]
        # What is not given is made up (measured on the API source, 2026-11)
        given = {
            "name": "John Doe",
            "phone": "+91XXXXXXXXXX",
            "location": {"value": shapes.MEET, "optionValue": ""},
            "guests": [],
        } | body["responses"]
        start, end = instant(body["start"]), instant(body["end"])
        rules.check_responses(kind, given)
        if end - start != timedelta(minutes=kind.minutes):
            raise Refused(500, "Invalid event length")  # (calid source handleNewBooking, 2025-09)
        if again := self._same(key, start, given["email"]):
            if kind.seats > 1:
                raise Refused(500, "already_signed_up_for_this_booking_error")
            if not kind.approval:
                raise Refused(500, "booking_conflict_error")
            return self._created(again)
        value, detail = _location(given["location"])
        place = _place(value, detail, kind.places)
        asked = {question["key"] for question in kind.questions}
        name = given["name"]
        details = {
            "name": name if isinstance(name, str) else " ".join(name.values()),
            "zone": body.get("timeZone", "Asia/Kolkata"),
            "guests": tuple(given["guests"]),
            "answers": {
                slug: answer for slug, answer in given.items() if slug in asked or slug not in shapes.SYSTEM_FIELDS
            },
            "place": place,
            "notes": given.get("notes"),
            "marker": str(body.get("metadata", {}).get("schedulingGateway", "")),
        }
        try:
            id = self._world.book(key, start, given["email"], **details)
        except Taken:
            raise Refused(500, rules.unbookable(self._world, key, start)) from None
        self._noted[id] = {
            "metadata": body.get("metadata", {}),
            "language": body.get("language", "en"),
            "phone": given["phone"],
            "location": place or value,
            "where": {"value": value, "optionValue": detail},
        }
        return self._created(id)

    def _same(self, key: str, start: Any, email: str) -> str | None:
        return next(
            (
                id
                for id, each in self._world.appointments.items()
                if each.live and (each.kind, each.start) == (key, start) and each.email.casefold() == email.casefold()
            ),
            None,
        )

    def _created(self, id: str) -> Answer:
        uid = self._world.appointments[id].event or id
        meeting = self._meeting(uid, self._meetings()[uid])
        return done(shapes.booking_created(meeting, id if meeting.seated else None), "Booking created")

    def _seat(self, meeting: Meeting, seat: str) -> str | None:
        return next((id for id in meeting.ids if f"seat-{id}" == seat), None)

    async def reschedule(self, request: Request) -> Answer:
        body = await request.json()
        # This 404 alone has the code of no code (calid API source booking.route.ts, 2025-09)
        meeting = self._asked(request, "INTERNAL_ERROR")
        if meeting.kind is None:
            raise Refused(500, "Booking is missing event type", thrown=True)
        if meeting.status in ("CANCELLED", "REJECTED"):
            raise Refused(500, "cancelled_bookings_cannot_be_rescheduled", thrown=True)
        moving = [id for id in meeting.ids if self._world.appointments[id].live]
        if "seatUid" in body:
            seat = self._seat(meeting, body["seatUid"])
            if seat is None:
                raise Refused(500, "booking_not_found_error", thrown=True)
            moving = [seat]
        start = instant(body["start"])
        for id in moving:
            try:
                new = self._world.move_anew(id, start)
            except Taken:
                why = rules.unbookable(self._world, meeting.first.kind, start)
                if why == "no_available_users_found_error":
                    raise Refused(400, "Conflicting reschedule") from None
                raise Refused(500, why, thrown=True) from None
            # The reason goes where nobody looks for it (calid API source booking.service.ts, 2025-09)
            reason = {"rescheduledReason": body["reschedulingReason"]} if "reschedulingReason" in body else {}
            kept = {name: value for name, value in self._noted[id].items() if name != "updatedAt"}
            self._noted[new] = kept | reason
            self._note(id, rescheduledBy=body.get("rescheduledBy"))
        if self._reschedule_500:
            # Done, and the answer lacks what its schema demands (measured on the API source, 2026-11)
            raise Refused(500, '"newUserId" is required!', thrown=True)
        return done({"bookingId": meeting.number}, "Booking rescheduled")

    async def cancel(self, request: Request) -> Answer:
        body, meeting = await request.json(), self._asked(request)
        first = meeting.first
        if meeting.status == "CANCELLED":
            raise Refused(400, "This booking has already been cancelled.")
        if self._sent.get(first.kind, {}).get("disableCancelling"):
            raise Refused(400, "This event type does not allow cancellations")
        reason = body.get("cancellationReason", "Not Provided")
        if not reason:
            raise Refused(400, "Cancellation reason is required when you are the host")
        ending, alone = list(meeting.ids), False
        if "seatReferenceUid" in body and meeting.seated:
            seat = self._seat(meeting, body["seatReferenceUid"])
            if seat is None:
                raise Refused(400, "User not a part of this booking")  # (calid source cancelAttendeeSeat, 2025-09)
            alone = len(ending) > 1
            ending = [seat] if alone else ending
            self._left.update(ending if alone else ())
        elif meeting.series and (body.get("allRemainingBookings") or body.get("cancelSubsequentBookings")):
            since = self._world.clock.now() if body.get("allRemainingBookings") else first.start
            ending = [
                id
                for id, each in self._world.appointments.items()
                if each.live and (each.kind, each.email) == (first.kind, first.email) and each.start >= since
            ]
        for id in ending:
            self._world.change(id, status="cancelled", reason=reason)
            self._note(id)
        message = "Attendee successfully removed." if alone else "Booking successfully cancelled."
        return done(
            {
                "success": True,
                "message": message,
                "onlyRemovedAttendee": alone,
                "bookingId": meeting.number,
                "bookingUid": meeting.uid,
            },
            "Booking cancelled",
        )

    async def change_confirmation(self, request: Request) -> Answer:
        body, meeting = await request.json(), self._asked(request)
        if meeting.status != "PENDING":
            raise Refused(500, "Booking already confirmed")
        status = "confirmed" if body["confirmed"] else "declined"
        for id in meeting.ids:
            told = {} if body["confirmed"] else {"reason": body.get("reason")}
            self._world.change(id, status=status, **told)
            self._note(id)
        # The inner message is the same either way (calid source confirm.handler.ts, 2025-09)
        shown = {"status": shapes.STATUSES[status], "message": "confirmed", "bookingId": meeting.number}
        return done(shown, "Booking confirmation status updated")


def _is_in(state: str, each: Meeting, now: datetime) -> bool:
    """What the buckets mean; what is pending is upcoming too (calid source get.handler.ts, 2025-09)."""
    over, status = each.first.end <= now, each.status
    recurring, dead = each.series is not None, status in ("CANCELLED", "REJECTED")
    return {
        "upcoming": not over and (status == "ACCEPTED" if recurring else not dead),
        "recurring": recurring and not over and not dead,
        "past": over and not dead,
        "cancelled": dead,
        "unconfirmed": status == "PENDING" and not over,
    }[state]


def _is_within(each: Meeting, bounds: Sequence[tuple[str, bool, datetime]]) -> bool:
    at = shapes.times(each)
    return all(at[key] >= bound if lower else at[key] <= bound for key, lower, bound in bounds)


def _matches(each: Meeting, query: Mapping[str, str]) -> bool:
    people = shapes.attendees(each) if "attendeeEmail" in query or "attendeeName" in query else []
    return (
        query.get("bookingUid", each.uid) == each.uid
        and ("attendeeEmail" not in query or query["attendeeEmail"] in [person["email"] for person in people])
        and ("attendeeName" not in query or query["attendeeName"] in [person["name"] for person in people])
    )


def _location(given: Any) -> tuple[str, str]:
    return (given, "") if isinstance(given, str) else (given["value"], given["optionValue"])


def _place(value: str, detail: str, places: tuple[str, ...]) -> str | None:
    """What the world calls a location: nothing for a call, the address of the event type where none is given."""
    if value.startswith("integrations:"):
        return None
    return detail or (places[0] if value == "inPerson" and places else value)
