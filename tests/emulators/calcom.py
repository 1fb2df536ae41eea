"""Cal.com's API v2. https://cal.com/docs/api-reference/v2

Emulated, with the source of each rule beside it:
- me; event types (own ones, CRUD, private links); slots; bookings (create, list, read, by seat, reschedule, cancel,
  confirm, decline, mark absent); schedules; connected calendars and their busy times
- normal, seated and weekly recurring bookings; an appointment is a booking, or one seat of a booking
- a list of bookings without a status has only what is to come
- cal-api-version for each resource, the two shapes of errors, messages word for word, the rate limit headers
- slots beyond the asked end (#24260); with `colleagues` a booking of somebody else, as an admin's key sees it; with
  `broken_calendar` a connected calendar that cannot be read

Ids: event types 101, 102, ... in the order in which kinds were first seen; a booking's uid is the `event` of its
appointments, a seat's is seat-{appointment}.

Weaknesses:
- Another or no cal-api-version is always 404, as Cal.com's own clients saw it; the real server has older shapes of
  bookings, event types and schedules behind it.
- Every request needs the key; the real slots, booking, rescheduling and cancelling are public.
- Unknown keys and parameters are refused everywhere; the real server drops some of them silently.
- The grid, the hours and what blocks are the World's: no rounding to the booker's zone, booking limits, windows,
  reservations or out-of-office. Recurrence is weekly only, and all of a series must be free.
- A confirmation-type booking by the same attendee at the same time is refused, the real server may give back the first.
- A seat that moves gets a new seatUid. A whole seated booking moves seat by seat.
- No teams, organizations, webhooks, reservations, payments, nor bookings of deleted users.
- Not documented, so made up: what is said to confirming or declining what is not pending, rescheduling or cancelling a
  rejected booking, an unknown seat, too large a recurrenceCount, a foreign integration, calendars that cannot be read.
- Bookings of another host are one fixed booking; those of a deleted event type lose its title, not only its id.
- Validation tells the first mistake alone, and constraint names and some texts are not the vendor's.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.emulators import calcom_rules as rules
from tests.emulators import calcom_shapes as shapes
from tests.emulators.calcom_catalog import Catalog, done, is_seated
from tests.emulators.calcom_rules import Refused, instant
from tests.emulators.calcom_shapes import Answer, stamp
from tests.emulators.numbers import event_type_id
from tests.emulators.wire import serve
from tests.world import HOST_EMAIL, Appointment, Taken, World

__all__ = ["app", "booking_id", "event_type_id"]

Handler = Callable[[Request], Awaitable[Answer]]


def app(world: World, colleagues: bool = False, broken_calendar: bool = False) -> ASGIApp:
    service = Calcom(world, colleagues, broken_calendar)
    routes: list[tuple[str, str, Handler]] = [
        ("GET", "/me", service.me),
        ("GET", "/event-types", service.event_types),
        ("POST", "/event-types", service.create_event_type),
        ("GET", "/event-types/{id}", service.event_type),
        ("PATCH", "/event-types/{id}", service.update_event_type),
        ("DELETE", "/event-types/{id}", service.delete_event_type),
        ("POST", "/event-types/{id}/private-links", service.create_private_link),
        ("GET", "/slots", service.slots),
        ("GET", "/bookings", service.bookings),
        ("POST", "/bookings", service.create_booking),
        ("GET", "/bookings/by-seat/{seat}", service.booking_by_seat),
        ("GET", "/bookings/{uid}", service.booking),
        ("POST", "/bookings/{uid}/reschedule", service.reschedule),
        ("POST", "/bookings/{uid}/cancel", service.cancel),
        ("POST", "/bookings/{uid}/confirm", service.confirm),
        ("POST", "/bookings/{uid}/decline", service.decline),
        ("POST", "/bookings/{uid}/mark-absent", service.mark_absent),
        ("GET", "/schedules", service.schedules),
        ("GET", "/schedules/default", service.default_schedule),
        ("GET", "/schedules/{id}", service.schedule),
        ("PATCH", "/schedules/{id}", service.update_schedule),
        ("GET", "/calendars", service.calendars),
        ("GET", "/calendars/busy-times", service.busy_times),
    ]

    def guarded(handler: Handler) -> Handler:
        async def answer(request: Request) -> Answer:
            try:
                return await handler(request)
            except Refused as refused:
                return refused.answer(request, world.clock.now())

        return answer

    mounted = [Route(f"/v2{path}", guarded(handler), methods=[method]) for method, path, handler in routes]
    return serve(world, mounted, rules.CalcomDialect(world))


def booking_id(world: World, appointment: str) -> str:
    each = world.appointments[appointment]
    uid = each.event or appointment
    return f"{uid}/seat-{appointment}" if is_seated(world, each.kind) else uid


class Calcom(Catalog):
    def _show(self, uid: str, all: Mapping[str, list[str]] | None = None, number: int | None = None) -> dict[str, Any]:
        """A booking; whoever shows many gives all meetings, and its number."""
        ids = (all or self._meetings())[uid]
        each = self._world.appointments
        # A seat given up is gone; those of a meeting that was cancelled as a whole stay (calcom source, 2025-07)
        seats = [id for id in ids if each[id].live] or [id for id in ids if id not in self._left] or ids[-1:]
        first = each[seats[0]]
        id = number or 1 + list(each).index(ids[0])
        type_id = int(event_type_id(self._world, first.kind)) if first.kind in self._world.kinds else None
        return shapes.booking(self._world, id, uid, type_id, seats, self._noted)

    def _asked(self, request: Request, missing: str = "was not found in the database") -> list[str]:
        """The appointments of the booking in the path."""
        uid = request.path_params["uid"]
        if uid not in (meetings := self._meetings()):
            raise Refused(404, f"Booking with uid={uid} {missing}")
        return meetings[uid]

    def _series(self, uid: str) -> list[str]:
        noted = self._noted
        return [id for id in self._world.appointments if id in noted and noted[id].get("recurringBookingUid") == uid]

    def _note(self, id: str, **details: Any) -> None:
        self._noted[id] |= {"updatedAt": stamp(self._world.clock.now())} | details

    async def booking(self, request: Request) -> Answer:
        if series := self._series(request.path_params["uid"]):
            return done([self._show(self._world.appointments[id].event) for id in series])
        if self._colleagues and request.path_params["uid"] == "colleague1":
            return done(shapes.colleague_booking(self._world))
        self._asked(request)
        return done(self._show(request.path_params["uid"]))

    async def booking_by_seat(self, request: Request) -> Answer:
        seat = request.path_params["seat"]
        for uid in self._meetings():
            shown = self._show(uid)
            if any(each.get("seatUid") == seat for each in shown["attendees"]):
                return done(shown)
        raise Refused(404, f"Booking with seatUid={seat} was not found in the database")

    async def bookings(self, request: Request) -> Answer:
        query = request.query_params
        all, numbers = self._meetings(), {id: number for number, id in enumerate(self._world.appointments, 1)}
        found = [self._show(uid, all, numbers[ids[0]]) for uid, ids in all.items()]
        if self._colleagues:
            found.insert(0, shapes.colleague_booking(self._world))
        now = stamp(self._world.clock.now())
        # Without a status only what is to come (calcom API v2 source get.handler.ts, 2025-07; not seen live)
        states = query.get("status", "upcoming").split(",")
        found = [
            each
            for each in found
            if any(rules.is_in(state, each, now) for state in states) and rules.matches(each, query)
        ]
        for name, key in (("sortStart", "start"), ("sortEnd", "end"), ("sortCreated", "createdAt")):
            if name in query:
                found.sort(key=lambda each: each[key], reverse=query[name] == "desc")
                break
        else:
            if "sortUpdatedAt" in query:
                found.sort(key=rules.updated, reverse=query["sortUpdatedAt"] == "desc")
        return Answer(rules.page(found, int(query.get("take", 100)), int(query.get("skip", 0))))

    def _booked_key(self, body: Mapping[str, Any]) -> str:
        if "eventTypeId" in body:
            key, named = self._key(body["eventTypeId"]), f"id {body['eventTypeId']}"
        else:
            owner = f"team {body['teamSlug']}" if "teamSlug" in body else f"user {body['username']}"
            within = f" within organization {body['organizationSlug']}" if "organizationSlug" in body else ""
            named = f"slug {body['eventTypeSlug']} belonging to {owner}{within}"
            mine = body.get("username") == shapes.USERNAME and not within
            key = self._key_of_slug(body["eventTypeSlug"]) if mine else None
        if key is None:
            raise Refused(404, f"Event type with {named} not found.")
        return key

    async def create_booking(self, request: Request) -> Answer:
        body = await request.json()
        key = self._booked_key(body)
        kind, sent, id = self._world.kinds[key], self._sent.get(key, {}), int(event_type_id(self._world, key))
        if body.get("instant"):
            raise Refused(400, "Instant bookings are only supported for team event types")
        minutes = rules.check_length(body, sent)
        responses = rules.check_responses(body, kind, id)
        where = rules.check_location(body, kind, sent, id)
        attendee, metadata = body["attendee"], body.get("metadata", {})
        guests = tuple(body.get("guests") or responses.get("guests") or ())
        answers = {slug: value for slug, value in responses.items() if slug not in shapes.SYSTEM_FIELDS}
        details = {
            "name": attendee["name"],
            "zone": attendee["timeZone"],
            "guests": guests,
            "answers": answers,
            "place": rules.place(where),
            "notes": responses.get("notes"),
            "marker": str(metadata.get("schedulingGateway", "")),
        }
        starts = self._starts(key, instant(body["start"]), attendee["timeZone"], body.get("recurrenceCount"))
        for start in starts:
            if start not in self._world.free(key, start, start + timedelta(seconds=1), minutes=minutes):
                raise self._unbookable(key, start)
        made = [self._world.book(key, start, attendee.get("email", ""), minutes=minutes, **details) for start in starts]
        note = {"metadata": metadata, "location": where}
        note |= {name: attendee[name] for name in ("language", "phoneNumber") if name in attendee}
        if len(starts) > 1:
            note["recurringBookingUid"] = f"recurring-{made[0]}"
        for each in made:
            self._noted[each] = dict(note)
        shown = [self._shown_seat(each) for each in made]
        return done(shown if len(starts) > 1 else shown[0], 201)

    def _shown_seat(self, id: str) -> dict[str, Any]:
        """A booking as its attendee gets it: a seated one names the seat."""
        each = self._world.appointments[id]
        seat = {"seatUid": f"seat-{id}"} if is_seated(self._world, each.kind) else {}
        return self._show(each.event or id) | seat

    def _starts(self, key: str, start: datetime, zone: str, count: int | None) -> list[datetime]:
        """By the attendee's clock, also where it changes (calcom API v2 source input.service.ts, 2025-07)."""
        recurrence = self._type(key)["recurrence"]
        if not recurrence or recurrence.get("disabled"):
            return [start]
        if (count or 0) > recurrence["occurrences"]:
            raise Refused(400, f"recurrenceCount must not exceed {recurrence['occurrences']}")
        weeks, first = recurrence["interval"], start.astimezone(ZoneInfo(zone))
        # The addition is of wall-clock time, as datetimes of one zone add
        return [first + timedelta(weeks=weeks * n) for n in range(int(count or recurrence["occurrences"]))]

    def _unbookable(self, key: str, start: datetime) -> Refused:
        """Why a time cannot be had, in the order of the real checks (calcom source handleNewBooking, 2025-07)."""
        now, kind = self._world.clock.now(), self._world.kinds[key]
        if start < now:
            return Refused(400, rules.PAST)
        if start < now + timedelta(minutes=kind.notice):
            return Refused(400, rules.OUT_OF_BOUNDS)
        if kind.seats > 1 and self._seats_at(key, start)["seatsRemaining"] <= 0:
            return Refused(409, rules.FULL)
        return Refused(400, rules.TAKEN)

    async def reschedule(self, request: Request) -> Answer:
        uid, body = request.path_params["uid"], await request.json()
        ids, shown = self._asked(request), self._show(request.path_params["uid"])
        if shown["status"] in ("cancelled", "rejected"):
            why = f"Can't reschedule booking with uid={uid} because it has been cancelled"
            if to := shown.get("rescheduledToUid"):
                why += (
                    f" and rescheduled already to booking with uid={to}. You probably want to reschedule {to} instead "
                    "by passing it within the request URL."
                )
                raise Refused(400, why)
            raise Refused(400, f"{why}. Please provide uid of a booking that is not cancelled.")
        moving = [self._seat(ids, body["seatUid"])] if "seatUid" in body else self._live(ids)
        start, by = instant(body["start"]), body.get("rescheduledBy")
        # The owner's own moves need no confirmation (calcom API v2 document, 2026-03); the length falls back to the
        # type's and the metadata stays (calcom API v2 source, 2025-07)
        changes = {"status": "confirmed"} if by == HOST_EMAIL else {}
        made = []
        for id in moving:
            try:
                made.append(self._world.move_anew(id, start, **changes))
            except Taken:
                raise self._unbookable(self._world.appointments[id].kind, start) from None
            note = {name: value for name, value in self._noted[id].items() if name != "updatedAt"}
            told = {"rescheduledByEmail": by} if by else {}
            reason = {"reschedulingReason": body["reschedulingReason"]} if "reschedulingReason" in body else {}
            self._noted[made[-1]] = note | told | reason
            self._note(id, **told)
            if "seatUid" in body:
                self._left.add(id)
        return done(self._shown_seat(made[0]), 201)

    def _live(self, ids: list[str]) -> list[str]:
        return [id for id in ids if self._world.appointments[id].live]

    def _seat(self, ids: list[str], seat: str) -> str:
        if (id := seat.removeprefix("seat-")) not in self._live(ids):
            raise Refused(400, rules.NO_SEAT)
        return id

    async def cancel(self, request: Request) -> Answer:
        uid, body = request.path_params["uid"], await request.json() if await request.body() else {}
        series = self._series(uid)
        ids = series or self._asked(request, "not found")
        ending = self._live(ids)
        if not ending:
            raise Refused(
                400,
                f"Can't cancel booking with uid={uid} because it has been cancelled already. Please provide uid of a "
                "booking that is not cancelled.",
            )
        if "seatUid" in body:
            ending = [self._seat(ids, body["seatUid"])]
            if len(self._live(ids)) > 1:
                self._left.update(ending)  # the last seat ends the meeting and stays in it (calcom source, 2025-07)
        first = self._world.appointments[ending[0]]
        following = body.get("cancelSubsequentBookings")
        if following:
            recurring = self._noted[ending[0]].get("recurringBookingUid")
            if recurring is None:
                raise Refused(400, f"Booking with bookingUid={uid} is not part of a recurring booking.")
            series = self._series(recurring)
            ending = [id for id in self._live(series) if self._world.appointments[id].start >= first.start]
        if not body.get("cancellationReason"):
            raise Refused(400, rules.NO_REASON, bare=True)
        if first.end <= self._world.clock.now():
            raise Refused(400, rules.ENDED, bare=True)
        for id in ending:
            self._world.change(id, status="cancelled", reason=body["cancellationReason"])
            self._note(id, cancelledByEmail=HOST_EMAIL)
        if series:
            return done([self._show(self._world.appointments[id].event) for id in series])
        return done(self._show(uid))

    def _decide(self, request: Request, status: str, reason: str | None = None) -> Answer:
        ids = self._asked(request)
        pending = [id for id in ids if self._world.appointments[id].status == "pending"]
        if not pending:
            raise Refused(400, "Booking already confirmed", code="TRPCError")
        for id in pending:
            self._world.change(id, status=status, **({"reason": reason} if reason else {}))
            self._note(id)
        return done(self._show(request.path_params["uid"]))

    async def confirm(self, request: Request) -> Answer:
        return self._decide(request, "confirmed")

    async def decline(self, request: Request) -> Answer:
        # The reason of a decline is not told by any answer (calcom API v2 source output.service.ts, 2025-07)
        body = await request.json() if await request.body() else {}
        return self._decide(request, "declined", body.get("reason"))

    async def mark_absent(self, request: Request) -> Answer:
        body = await request.json() if await request.body() else {}
        ids = self._asked(request, "not found.")
        first = self._world.appointments[ids[0]]
        if self._world.clock.now() < first.start:
            raise rules.too_early_to_judge(self._world.clock.now(), first.start)
        for id in ids:
            if "host" in body:
                self._note(id, absentHost=body["host"])
            for each in body.get("attendees", []):
                self._mark(id, self._world.appointments[id], each["email"].casefold(), each["absent"])
        return done(self._show(request.path_params["uid"]))

    def _mark(self, id: str, each: Appointment, email: str, absent: bool) -> None:
        if each.email.casefold() == email:
            self._world.change(id, no_show=absent)
            self._note(id)
        before = self._noted[id].get("absent", set())
        guests = {guest for guest in each.guests if guest.casefold() == email}
        if guests:
            self._note(id, absent=before | guests if absent else before - guests)
