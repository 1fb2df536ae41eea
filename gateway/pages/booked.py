"""`/booked/<token>`: a guest's own booking, to look at, save, move or cancel."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.answers import BookingAnswer
from gateway.callers import calling, guest_of
from gateway.core import Gateway
from gateway.pages import BOOKED
from gateway.pages.booking import DOWN, TAKEN, UNKNOWN, failed
from gateway.pages.free import next_free, slots_of
from gateway.pages.shown import HEADERS, Handler, below, form, message, render
from gateway.pages.week import WEEK, days, first_day, monday, shown_zone, spoken, wanted_zone
from gateway.times import an_instant
from schemas import LIVE, Feature, OutcomeUnknown, SchedulingError, SlotTaken

if TYPE_CHECKING:
    from gateway.links import Guest

NOTHING: Mapping[str, str] = {}
UNSURE = "It is not certain yet whether that was done. Wait a minute, then open this page again."
NOTES = {"pending": "Your request has arrived and waits for a confirmation."}


class BookedPages:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        path = f"{BOOKED}/{{token}}"
        return [
            Route(path, self._as_guest(self.show), methods=["GET"]),
            Route(f"{path}/meeting.ics", self._as_guest(self.save), methods=["GET"]),
            Route(f"{path}/move", self._as_guest(self.choose), methods=["GET"]),
            Route(f"{path}/move", self._as_guest(self.move), methods=["POST"]),
            Route(f"{path}/cancel", self._as_guest(self.cancel), methods=["POST"]),
        ]

    def _as_guest(self, handler: Handler) -> Handler:
        """Whoever has a link may do what that is for, and nothing else."""

        async def handle(request: Request) -> Response:
            await self._gateway.open()
            guest = await self._gateway.links.guest(request.path_params["token"])
            if guest is None or self._gateway.pool.named(guest.account) is None:
                return message(*UNKNOWN, 404)
            request.state.guest = guest
            with calling(guest_of(guest.account)):
                return await handler(request)

        return handle

    async def show(self, request: Request) -> Response:
        found = await self._found(request)
        return found if isinstance(found, Response) else self._shown(request, *found)

    async def save(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Response):
            return found
        headers = {**HEADERS, "Content-Disposition": 'attachment; filename="meeting.ics"'}
        return Response(self._calendar(found[1]), media_type="text/calendar; charset=utf-8", headers=headers)

    async def choose(self, request: Request) -> Response:
        found = await self._found(request)
        return found if isinstance(found, Response) else await self._week(request, *found)

    async def move(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Response):
            return found
        guest, booking = found
        given: dict[str, str] = {}
        try:
            given = {name: each[0] for name, each in (await form(request)).items()}
            if not self._may(guest, booking, Feature.RESCHEDULE_BOOKING):
                return self._shown(request, guest, booking, "This meeting cannot be moved any more.", 409)
            move = partial(self._gateway.moving.reschedule, booking.id, given.get("start", ""), None, None)
            await self._gateway.audit.call(Feature.RESCHEDULE_BOOKING, move)
        except SlotTaken:
            return await self._week(request, guest, booking, given, TAKEN, 409)
        except OutcomeUnknown:
            return self._shown(request, guest, booking, UNSURE, 502)
        except SchedulingError as error:
            return failed(error)
        return RedirectResponse(self._path(request), 303, headers=HEADERS)

    async def cancel(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Response):
            return found
        guest, booking = found
        try:
            reason = (await form(request)).get("reason", [""])[0].strip()[:1000]
            if booking.status in LIVE and not self._may(guest, booking, Feature.CANCEL_BOOKING):
                return self._shown(request, guest, booking, "This meeting cannot be cancelled any more.", 409)
            cancel = partial(self._gateway.bookings.cancel, booking.id, reason or None)
            await self._gateway.audit.call(Feature.CANCEL_BOOKING, cancel)
        except OutcomeUnknown:
            return self._shown(request, guest, booking, UNSURE, 502)
        except SchedulingError as error:
            return failed(error)
        return RedirectResponse(self._path(request), 303, headers=HEADERS)

    async def _found(self, request: Request) -> "tuple[Guest, BookingAnswer] | Response":
        guest: Guest = request.state.guest
        zone_name = request.query_params.get("zone") or guest.time_zone
        try:
            tz = wanted_zone(zone_name)[0] or shown_zone(guest.time_zone)
            return guest, await self._gateway.bookings.get(f"{guest.name}:{guest.booking_id}", tz.key)
        except SchedulingError as error:
            return failed(error)

    def _may(self, guest: "Guest", booking: BookingAnswer, feature: Feature) -> bool:
        """Whether a guest can do that to a meeting: it is still to come, and its service can."""
        is_ahead = booking.status in LIVE and booking.start > self._gateway.clock.now()
        return is_ahead and feature not in self._gateway.accounts[guest.name].gaps

    def _shown(
        self, request: Request, guest: "Guest", booking: BookingAnswer, problem: str | None = None, status: int = 200
    ) -> Response:
        path, query = self._path(request), f"?{urlencode({'zone': booking.time_zone})}"
        may_move = self._may(guest, booking, Feature.RESCHEDULE_BOOKING) and booking.event_type_id is not None
        return render(
            "booked.html",
            status,
            title=booking.title,
            booking=_words(booking),
            ics=f"{path}/meeting.ics" if booking.status in LIVE else None,
            move=f"{path}/move{query}" if may_move else None,
            cancel=f"{path}/cancel" if self._may(guest, booking, Feature.CANCEL_BOOKING) else None,
            note=problem or NOTES.get(booking.status),
        )

    async def _week(
        self,
        request: Request,
        guest: "Guest",
        booking: BookingAnswer,
        given: Mapping[str, str] = NOTHING,
        problem: str | None = None,
        status: int = 200,
    ) -> Response:
        if booking.event_type_id is None or not self._may(guest, booking, Feature.RESCHEDULE_BOOKING):
            return self._shown(request, guest, booking, "This meeting cannot be moved any more.", 409)
        tz = wanted_zone(given.get("zone"))[0] or shown_zone(booking.time_zone)
        today = self._gateway.clock.now().astimezone(tz).date()
        wanted = (
            given.get("week") or request.query_params.get("week") or booking.start.astimezone(tz).date().isoformat()
        )
        first = first_day(wanted, today)
        shown, first_free = [], None

        def week(day: date) -> str:
            return f"?{urlencode({'zone': tz.key, 'week': day.isoformat()})}"

        try:
            found = await slots_of(self._gateway, booking.event_type_id, first, tz, moving=booking.id)
            shown = list(days([slot for slot in found if slot[0] != booking.start], first, tz))
            if not any(day.slots for day in shown):
                free = await next_free(self._gateway, booking.event_type_id, first + WEEK, tz, moving=booking.id)
                first_free = week(free) if free else None
        except SchedulingError:
            shown, problem = [], DOWN

        start = request.query_params.get("start")
        chosen = None
        if start is not None:
            try:
                at = an_instant(start, None, "start", zone_argument=None)
                chosen = {"start": start, "when": spoken(at, at + (booking.end - booking.start), tz)}
            except SchedulingError as error:
                return failed(error)
        return render(
            "move.html",
            status,
            title=booking.title,
            booking=_words(booking),
            days=shown,
            zone=tz.key,
            first_free=first_free,
            earlier=week(first - WEEK) if first > monday(today) else None,
            later=week(first + WEEK),
            problem=problem,
            action=f"{self._path(request)}/move",
            back=f"{self._path(request)}?{urlencode({'zone': tz.key})}",
            week_start=first.isoformat(),
            chosen=chosen,
        )

    def _path(self, request: Request) -> str:
        return below(self._gateway, f"{BOOKED}/{request.path_params['token']}")

    def _calendar(self, booking: BookingAnswer) -> bytes:
        """The meeting as an .ics file (RFC 5545), always the same one to a calendar that has it already."""
        # Imported on first use: few starts need it.
        from icalendar import Calendar, Event

        event = Event()
        event.add("uid", f"{sha256(booking.id.encode()).hexdigest()[:32]}@scheduling-gateway")
        event.add("dtstamp", self._gateway.clock.now())
        event.add("dtstart", booking.start.astimezone(shown_zone("UTC")))
        event.add("dtend", booking.end.astimezone(shown_zone("UTC")))
        event.add("summary", booking.title)
        if place := booking.join_url or booking.location:
            event.add("location", place)
        event.add("status", {"confirmed": "CONFIRMED", "pending": "TENTATIVE"}.get(booking.status, "CANCELLED"))
        calendar = Calendar()
        calendar.add("prodid", "-//scheduling-gateway//EN")
        calendar.add("version", "2.0")
        calendar.add_component(event)
        return bytes(calendar.to_ical())


def _words(booking: BookingAnswer) -> dict[str, str | None]:
    tz = shown_zone(booking.time_zone)
    return {
        "title": booking.title,
        "when": spoken(booking.start, booking.end, tz),
        "zone": booking.time_zone,
        "location": booking.location,
        "join_url": booking.join_url,
        "status": booking.status,
        "attendee": booking.attendees[0].name,
    }
