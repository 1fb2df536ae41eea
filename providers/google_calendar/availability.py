"""When a calendar at Google is free: working hours, and what blocks time in this calendar and in the others."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from providers.google_calendar import events
from providers.google_calendar.client import GoogleClient
from providers.google_calendar.hours import SOURCES, WORKING_HOURS, is_busy, schedule, source, span
from providers.own import OwnEventType
from providers.slots import Hours, Rules, Span, find_starts, seconds
from schemas import (
    Booking,
    BusyTime,
    Feature,
    InvalidRequest,
    NotFound,
    Offer,
    Schedule,
    Slot,
    SlotTaken,
    TimeRange,
    zone,
)

TAKEN = "That time is not free, or not on offer. find_slots has the times that are."
SECOND = timedelta(seconds=1)
BARE = (
    "a service account without a `subject` can neither invite guests nor make Meet links, so its bookings are refused."
)
NO_RULES = Rules(duration=0, step=1)

HOLDS = timedelta(minutes=3)
"""How long a hold is respected; no booking takes longer to be made."""

LONGEST = timedelta(minutes=2)
"""How long a move may take before it is sent: it must arrive while its hold is respected."""

AROUND = timedelta(days=3)
"""Beyond a window: enough for every event whose buffers reach into it, or that shares a date with it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An event that blocks time."""

    blocks: Span
    times: Span
    raw: Any

    @property
    def event_type_id(self) -> str | None:
        return events.private(self.raw).get(events.EVENT_TYPE)

    @property
    def is_hold(self) -> bool:
        return events.is_hold(self.raw)

    def meets(self, start: datetime, end: datetime, rules: Rules) -> bool:
        """Whether a meeting under these rules would run into it."""
        begins, ends = seconds(start) - rules.buffer_before, seconds(end) + rules.buffer_after
        return self.blocks[0] < ends and begins < self.blocks[1]


class GoogleAvailability(GoogleClient):
    def notes(self) -> dict[str, str]:
        notes = super().notes()
        if (calendar := self.known("calendar")) is not None:
            notes[Feature.FIND_SLOTS] = SOURCES[source(calendar, self.config.working_hours)]
        if not self._is_delegated:
            notes[Feature.CREATE_BOOKING] = BARE
        if self.missing:
            notes["list_accounts"] = f"the sign-in lacks {' '.join(self.missing)}; what needs that is refused."
        return notes

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        kind = await self.bookable(event_type_id)
        if duration_minutes not in (None, kind.duration_minutes):
            raise InvalidRequest(f"duration_minutes: this event type takes {kind.duration_minutes}.")
        length = timedelta(minutes=kind.duration_minutes)
        starts = await self._starts(kind, event_type_id, window, moving)
        begins = (datetime.fromtimestamp(start, UTC) for start in starts)
        slots = tuple(Slot(start=start, end=start + length) for start in begins)
        return Offer(slots=slots, time_zone=(await self.calendar())["timeZone"])

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        email, _ = await self.me()
        found = await self.busy_elsewhere(window)
        for each in await self.taken(window):
            if not each.is_hold and each.times[0] < each.times[1]:
                start, end = (datetime.fromtimestamp(at, UTC) for at in each.times)
                id = each.raw["id"] if events.is_booking(each.raw, email) else None
                found.append(BusyTime(start=start, end=end, title=each.raw.get("summary"), booking_id=id))
        return found

    async def list_schedules(self, event_type_id: str | None) -> list[Schedule]:
        if event_type_id is not None:
            await self.kind(event_type_id)
        return [await self._schedule()]

    async def get_schedule(self, schedule_id: str) -> Schedule:
        if schedule_id != WORKING_HOURS:
            raise NotFound("There is no such schedule. list_schedules has the ids.")
        return await self._schedule()

    async def _schedule(self) -> Schedule:
        calendar = await self.calendar()
        return self.mapped(lambda raw: schedule(raw, self.config.working_hours), calendar)

    async def me(self) -> tuple[str | None, ZoneInfo]:
        """Our e-mail address, and the calendar's zone."""
        identity = await self.identity()
        return identity.email, zone(identity.time_zone)

    async def taken(self, window: TimeRange) -> list[Taken]:
        """What of the booking calendar blocks time, left-over holds too."""
        _, tz = await self.me()
        params = {"timeMin": events.written(window.start), "timeMax": events.written(window.end)}
        found = [self.mapped(lambda raw: _taken(raw, tz), raw) async for raw in self.events(params)]
        return [each for each in found if each is not None]

    def counts(self, taken: Taken, now: datetime | None = None) -> bool:
        """Whether it is to be respected: a hold is for minutes. `now` is Google's, where it is known."""
        return not taken.is_hold or (now or self.clock.now()) - events.created(taken.raw) <= HOLDS

    async def _starts(self, kind: OwnEventType, event_type_id: str, window: TimeRange, moving: str | None) -> list[int]:
        """The starts in a window that are on offer."""
        hours, wide = await self._schedule(), around(window)
        taken = [each for each in await self.taken(wide) if self.counts(each) and each.raw["id"] != moving]
        elsewhere = [(seconds(each.start), seconds(each.end)) for each in await self.busy_elsewhere(wide)]
        return find_starts(
            kind.rules,
            Hours.of(zone(hours.time_zone), hours.weekly_hours, hours.date_overrides),
            (seconds(window.start), seconds(window.end)),
            seconds(self.clock.now()),
            [*(each.blocks for each in taken), *elsewhere],
            [each.times[0] for each in taken if each.event_type_id == event_type_id],
        )

    async def must_offer(self, kind: OwnEventType, event_type_id: str, start: datetime, moving: str | None) -> None:
        window = TimeRange(start=start, end=start + SECOND)
        if start.microsecond or seconds(start) not in await self._starts(kind, event_type_id, window, moving):
            raise SlotTaken(TAKEN)

    async def must_be_free(self, booking: Booking, start: datetime, end: datetime) -> Rules:
        """By which rules a booking can move there. Raises SlotTaken, if it cannot."""
        if booking.event_type_id is None:
            window = TimeRange(start=start, end=end)
            others = [each for each in await self.taken(around(window)) if each.raw["id"] != booking.id]
            if any(self.counts(each) and each.meets(start, end, NO_RULES) for each in others):
                raise SlotTaken(TAKEN)
            if any(window.overlaps(each.start, each.end) for each in await self.busy_elsewhere(window)):
                raise SlotTaken(TAKEN)
            return NO_RULES
        if (kind := (await self.kinds()).get(booking.event_type_id)) is None:
            raise InvalidRequest(
                "This booking's event type was deleted, so it has no slots to move to. Book the new time with another "
                "event type first, then cancel this booking."
            )
        # It moves as long as it is, whatever the event type says by now.
        length = (booking.end - booking.start) // timedelta(minutes=1)
        kind = kind.model_copy(update={"duration_minutes": length})
        await self.must_offer(kind, booking.event_type_id, start, booking.id)
        return kind.rules


def _taken(raw: Any, tz: ZoneInfo) -> Taken | None:
    """An event as the slot engine sees it; None if it blocks nothing."""
    if not is_busy(raw):
        return None
    times = span(raw, tz)
    return Taken(events.blocks(raw, times), times, raw)


def around(window: TimeRange) -> TimeRange:
    return TimeRange(start=window.start - AROUND, end=window.end + AROUND)
