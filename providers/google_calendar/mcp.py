"""Google Calendar through Google's hosted MCP server (Developer Preview).
https://developers.google.com/workspace/calendar/api/v3/reference/mcp

Quirks:
- Nine tools on events and the list of calendars: neither free/busy nor working hours, and no field that only we see. So
  a line at the end of a booking's description says which one it is, and the rest is kept in the gateway's storage.
- There are no ids of our making and no conditional changes. A booking begins as a hold without guests; who finds
  another one that is not younger gives way. An event is looked at again directly before it is changed.
- Whether mails go out by default has changed, so it is always said. (2026-05, 2026-10)
- Deleted events are not listed: those that the gateway cancelled are remembered.
- `initialize` works without a sign-in; a call does not. The project of the OAuth client has to be enrolled in the
  preview, and the client be marked as one for an AI agent. (2026-10-10, 2026-11-11)
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from providers.google_calendar import events
from providers.google_calendar.api import GoogleCalendarApi
from providers.google_calendar.availability import HOLDS, Taken, around
from providers.google_calendar.events import Json
from providers.google_calendar.tool_client import PAGE, GoogleTools
from providers.google_calendar.tools import span_of
from providers.rest import KEEPING
from schemas import (
    Booking,
    BookingRequest,
    Feature,
    OutcomeUnknown,
    SchedulingError,
    TimeRange,
)

BEST_EFFORT = (
    "double bookings are kept out by looking at the calendar before and after, as the server knows no conditional "
    "change; another program's booking in the same second may slip through."
)
UNTOLD = "Monday to Friday 9 to 17 only: no working_hours are configured, and the server tells none."


class GoogleCalendarMcp(GoogleTools, GoogleCalendarApi):
    caveats = {
        **GoogleCalendarApi.caveats,
        Feature.FIND_SLOTS: "within working_hours of the configuration, else Monday to Friday 9 to 17.",
        Feature.CREATE_BOOKING: BEST_EFFORT,
        Feature.LIST_BOOKINGS: "events with other people; cancelled ones only if the gateway cancelled them.",
        Feature.RESCHEDULE_BOOKING: f"only what the account organises; the reason is not kept. {BEST_EFFORT}",
    }
    overwrites = True  # its tools know neither versions nor conditions (2026-11)
    limits: ClassVar[tuple[str, ...]] = (f"Events are listed {PAGE} a page; a booking takes six requests.", KEEPING)

    def notes(self) -> dict[str, str]:
        notes = super().notes()
        if self.config.working_hours is None:
            notes[Feature.FIND_SLOTS] = UNTOLD
        return notes

    # Bookings

    async def create_booking(self, request: BookingRequest) -> Booking:
        async with self._alone():
            return await super().create_booking(request)

    async def reschedule_booking(self, booking: Booking, start: datetime, reason: str | None) -> Booking:
        async with self._alone():
            return await super().reschedule_booking(booking, start, reason)

    def _alone(self) -> Any:
        """One at a time of all that share our storage."""
        return self.services.vault.lease(f"calendar:{self.kept_as}:{self.config.calendar}")

    async def held(self, event: Json) -> Any:
        """The hold, made now or, if its answer was lost, found by its marker."""
        try:
            return await self.insert(event)
        except OutcomeUnknown as lost:
            try:
                found = [each for each in await self.taken(around(_window(event))) if _marker(each.raw) == event["id"]]
            except SchedulingError:
                raise lost from None
            if not found:
                raise
            return found[0].raw

    def comes_before(self, taken: Taken, held: Any) -> bool:
        # Of two in the same second neither can be sure to be seen by the other, so both give way.
        return not events.is_open_hold(taken.raw) or events.created(taken.raw) <= events.created(held)

    async def drive_out(self, holds: Sequence[Any]) -> None:
        # Who is later gives way by itself. A hold that just became a booking could not be told from one that did not.
        now = self.clock.now()
        await super().drive_out([each for each in holds if now - events.created(each) > HOLDS])

    async def moved(self, raw: Any, changes: Callable[[Any], events.Json], times: tuple[datetime, datetime]) -> Any:
        try:
            return await self.change(raw, changes)
        except OutcomeUnknown as lost:
            try:
                now = await self.event(raw["id"])
            except SchedulingError:
                raise lost from None
            if events.times(now) != times:
                raise  # it may arrive yet
            return now


def _marker(raw: Any) -> str | None:
    return events.private(raw).get(events.MARKER)


def _window(raw: Any) -> TimeRange:
    start, end = span_of(raw)
    return TimeRange(start=start, end=end)
