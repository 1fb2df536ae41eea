"""Google Calendar, REST API v3. https://developers.google.com/workspace/calendar/api/v3/reference

From its discovery document of 2026-10, where nothing else is said.

Quirks:
- There are no event types and no slots: the gateway keeps the former and computes the latter from working hours,
  events and free/busy. A calendar that free/busy says nothing of is not free.
- A booking is an event with an id of our making. Google refuses no double booking: a booking begins as a hold, without
  guests and notices, and only the first hold of a time invites its guests. A hold that nobody made anything of within
  minutes is taken for left over.
- Holds are made in the same second and found in any order. So whoever comes first removes the later ones, each as it
  was read: one that has become a booking meanwhile cannot be removed, and wins.
- A booking that moves holds its new time in the same way, until it is there. Where the answer to the move is lost, the
  event is changed once more in silence, so that what is still on its way is out of date.
- Holds are seen in their own calendar alone: other busy calendars are asked again after a hold was made, so of two
  accounts that book the same time at once in calendars of each other's none may get it.
- A deleted event keeps its id, and its details for the organizer.
- Working hours are told of primary calendars in Google Workspace alone (2026-11).
- An array in a change replaces the one that is there, so attendees are sent whole.
"""

from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any, ClassVar
from uuid import uuid4

from providers.google_calendar import events
from providers.google_calendar.availability import LONGEST, TAKEN
from providers.google_calendar.client import BUSY_CALENDARS, BUSY_SPAN, PAGE, Changed
from providers.google_calendar.holds import GoogleHolds, unchanged
from providers.own import OwnEventType
from providers.rest import KEEPING
from schemas import (
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    Feature,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    ProviderDown,
    SchedulingError,
    SlotTaken,
    Unsupported,
)
from schemas.text import shown

ANSWERS = {"confirm": "accepted", "decline": "declined", "tentative": "tentative"}


class GoogleCalendarApi(GoogleHolds):
    only_emulated = True
    gaps = {
        Feature.UPDATE_SCHEDULE: "set working_hours in the gateway's configuration, or in Google Calendar's settings.",
        Feature.UPDATE_SCHEDULE_DATES: "block single dates with an event in Google Calendar.",
    }
    guest_page = True
    caveats = {
        Feature.CREATE_SCHEDULING_LINK: "a page of the gateway's own, there while it is served over HTTP.",
        Feature.FIND_SLOTS: "within working_hours of the configuration, else of the calendar, else Monday to Friday 9 "
        "to 17.",
        Feature.LIST_BOOKINGS: "events with other people; where no time is given, of two years back and ahead.",
        Feature.RESCHEDULE_BOOKING: "only what the account organises; the reason is not kept.",
        Feature.CANCEL_BOOKING: "only what the account organises; an invitation is declined instead.",
    }
    limits: ClassVar[tuple[str, ...]] = (
        f"Events are listed {PAGE} a page; a booking takes four requests, a move eight; other busy calendars two more.",
        f"Free/busy is asked for {BUSY_SPAN.days} days and {BUSY_CALENDARS} calendars a request.",
        KEEPING,
    )

    async def check_booking(self, request: BookingRequest) -> None:
        events.hold(request, await self.kind(request.event_type_id), "UTC")

    async def create_booking(self, request: BookingRequest) -> Booking:
        kind = await self.bookable(request.event_type_id)
        email, _ = await self.me()
        request = request.model_copy(update={"marker": request.marker or uuid4().hex})
        await self.must_offer(kind, request.event_type_id, request.start, None)
        event = events.hold(request, kind, (await self.calendar())["timeZone"])
        held = await self.held(event)
        if not events.is_hold(held):
            return await self._shown(held)
        await self.must_come_first(held, kind.rules)
        return await self._shown(await self._made_of(held, kind, email))

    async def _made_of(self, held: Any, kind: OwnEventType, email: str | None) -> Any:
        """What a hold that came first becomes."""
        changes = {"extendedProperties": {"private": {events.HOLD: None}}}
        if not kind.requires_confirmation:
            changes = events.confirmed(held, email)
        try:
            return await self.patch(held, changes, tell=True)
        except (Changed, NotFound):  # somebody who came before removed it
            raise SlotTaken(TAKEN) from None
        except OutcomeUnknown as lost:
            try:
                now = await self.event(held["id"])
            except SchedulingError:
                raise lost from None
            if not events.is_hold(now):
                return now
            if not await self.let_go(now):
                raise
            raise unchanged(lost) from None
        except SchedulingError:
            await self.let_go(held)
            raise

    async def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        email, tz = await self.me()
        earliest, latest = events.bounds(query, self.clock.now())
        params = {
            "timeMin": events.written(earliest),
            "timeMax": events.written(latest),
            "orderBy": "startTime",
            "eventTypes": "default",
            "showDeleted": "false" if query.live else "true",
        }
        backwards: list[Booking] = []
        async for raw in self.events(params):
            if self.mapped(lambda raw: events.is_booking(raw, email), raw):
                found = self.mapped(lambda raw: events.booking(raw, email, tz), raw)
                if query.newest_first:
                    backwards.append(found)
                else:
                    yield found
        for found in reversed(backwards):
            yield found

    async def get_booking(self, booking_id: str) -> Booking:
        return await self._shown(await self.event(booking_id))

    async def reschedule_booking(self, booking: Booking, start: datetime, reason: str | None) -> Booking:
        end = start + (booking.end - booking.start)
        zone_name = (await self.calendar())["timeZone"]
        raw = await self.event(booking.id)
        self._must_organise(raw)
        rules = await self.must_be_free(booking, start, end)

        begun = self.clock.now()

        def changes(raw: Any) -> events.Json:
            if self.clock.now() - begun > LONGEST:
                raise ProviderDown("This took too long and was given up before anything was changed. Try again.")
            _must_be_live(raw)
            if events.times(raw) != (booking.start, booking.end):
                raise InvalidRequest("Somebody moved it meanwhile. Look at it with get_booking, then try again.")
            return events.when(start, end, zone_name)

        held = await self.held(events.hold_for(raw, start, end, zone_name))
        await self.must_come_first(held, rules, moving=booking.id)
        held = await self.claimed(held)
        try:
            now = await self.moved(raw, changes, (start, end))
        except OutcomeUnknown:
            raise  # it may arrive yet, so its time stays held
        except SchedulingError:
            await self.let_go(held)
            raise
        await self.let_go(held)
        return await self._shown(now)

    async def moved(self, raw: Any, changes: Callable[[Any], events.Json], times: tuple[datetime, datetime]) -> Any:
        """Move an event; a move that is lost must not arrive later, when nobody holds its time any more."""
        try:
            return await self.change(raw, changes)
        except OutcomeUnknown as lost:
            try:
                now = await self.event(raw["id"])
                if events.times(now) == times:
                    return now
                # Whatever comes of before this change is out of date.
                await self.patch(now, events.touched(), tell=False)
            except SchedulingError:
                raise lost from None
            raise unchanged(lost) from None

    async def cancel_booking(self, booking: Booking, reason: str | None) -> Booking:
        def cancelled(raw: Any) -> events.Json:
            self._must_organise(raw)
            _must_be_live(raw)
            return _called_off(raw, {"reason": reason} if reason else {})

        email, _ = await self.me()
        now = await self.change(await self.event(booking.id), cancelled)
        if not events.is_booking(now, email):  # not all of it is left, as of one instance of a series
            return booking.model_copy(update={"status": "cancelled", "cancellation_reason": reason})
        return await self._shown(now)

    async def respond_to_booking(self, booking: Booking, response: BookingResponse, reason: str | None) -> Booking:
        email, _ = await self.me()

        def noted(raw: Any) -> events.Json:
            kept = events.with_data(raw, {"no_show": response == "no_show"})
            return {"extendedProperties": {"private": kept}}

        def answered(raw: Any) -> events.Json:
            _must_be_live(raw)
            if response == "tentative" or not events.organises(raw):
                return events.answered(raw, email, ANSWERS[response])
            if response == "confirm":
                return events.confirmed(raw, email) if events.is_ours(raw) else {"status": "confirmed"}
            if raw["status"] == "confirmed":
                raise InvalidRequest("This booking is confirmed already. Call it off with cancel_booking.")
            return _called_off(raw, {"declined": True, **({"reason": reason} if reason else {})})

        raw = await self.event(booking.id)
        if response in ("no_show", "clear_no_show"):
            return await self._shown(await self.change(raw, noted, tell=False))
        return await self._shown(await self.change(raw, answered))

    async def _shown(self, raw: Any) -> Booking:
        email, tz = await self.me()
        if not events.is_booking(raw, email):
            raise NotFound("There is no such booking. list_bookings has the ids.")
        return self.mapped(lambda raw: events.booking(raw, email, tz), raw)

    def _must_organise(self, raw: Any) -> None:
        if not events.organises(raw):
            organizer = raw.get("organizer") or {}
            who = organizer.get("displayName") or organizer.get("email") or "somebody else"
            raise Unsupported(
                f"This meeting is organised by {shown(who, length=200)}, who alone can change it. Ask them, or decline "
                "the invitation with respond_to_booking.",
                account=self.account,
            )


def _must_be_live(raw: Any) -> None:
    if raw["status"] == "cancelled":
        raise InvalidRequest("This booking is cancelled already. Book a new one with create_booking.")


def _called_off(raw: Any, kept: events.Json) -> events.Json:
    """What cancels an event and keeps why."""
    said = {"extendedProperties": {"private": events.with_data(raw, kept)}} if kept else {}
    return {"status": "cancelled", **said}
