"""Slots and busy times. Slots are the services' to decide; here they are only united, intersected and paged."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from gateway.accounts import Found, unavailable, zone_of
from gateway.answers import BusyAnswer, BusyTimesAnswer, SlotAnswer, SlotsAnswer, routed
from gateway.paging import Cursor
from gateway.times import a_window, a_zone
from providers import Provider
from providers.slots import merged
from schemas import LIVE, Booking, BusyTime, Feature, InvalidRequest, SchedulingError, TimeRange, zone

if TYPE_CHECKING:
    from gateway.core import Gateway

LONGEST_SLOTS = timedelta(days=92)
LONGEST_BUSY = timedelta(days=366)
MOST_EVENT_TYPES = 20


class Availability:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def find_slots(
        self,
        event_type_ids: Sequence[str],
        start: str,
        end: str,
        time_zone: str | None,
        duration_minutes: int | None,
        free_in: Sequence[str],
        booking_id: str | None,
        limit: int,
        cursor: str | None,
    ) -> SlotsAnswer:
        accounts, now = self._gateway.accounts, self._gateway.clock.now()
        if not 1 <= len(event_type_ids) <= MOST_EVENT_TYPES:
            raise InvalidRequest(f"event_type_ids: name 1 to {MOST_EVENT_TYPES}; list_event_types has them.")
        tz = a_zone(time_zone)
        window = a_window(start, end, tz, longest=LONGEST_SLOTS, now=now)
        page = Cursor.read(
            cursor, "find_slots", event_type_ids, start, end, time_zone, duration_minutes, free_in, booking_id
        )
        asked: dict[str, list[str]] = {}
        for id in dict.fromkeys(event_type_ids):
            provider, own = accounts.route(id, "event_type_ids")
            asked.setdefault(provider.account, []).append(own)
        others = accounts.chosen(free_in)
        moving = await self._moving(booking_id)
        own_types = asked.get(moving.account) if moving else None
        if moving and own_types and moving.booking.event_type_id not in (None, *own_types):
            own = routed(moving.account, str(moving.booking.event_type_id))
            raise InvalidRequest(f"booking_id: that booking is of the event type {own}. Ask for its slots.")

        async def slots_of(provider: Provider) -> tuple[list[OfferedSlot], str | None]:
            provider.require(Feature.FIND_SLOTS)
            # Of a shared meeting only one seat moves, and the others' time does not become free.
            is_own = moving is not None and moving.account == provider.account and not moving.booking.shared
            own_move = moving.booking.id if moving is not None and is_own else None
            slots: list[OfferedSlot] = []
            for own in asked[provider.account]:
                offer = await provider.find_slots(own, window, duration_minutes, own_move)
                id, begins, ends = routed(provider.account, own), window.start, window.end
                slots += [(slot.start, id, slot.end) for slot in offer.slots if begins <= slot.start < ends]
            return slots, offer.time_zone

        found = (await accounts.ask(asked, slots_of, page.failed)).any()
        errors = found.errors
        slots = sorted(slot for slots, _ in found.answers.values() for slot in slots)
        if others and slots:
            checked = await self._ask_busy(others, _reach(slots), page.failed)
            errors = checked.errors | errors
            # A time that could not be checked is not free.
            slots = [] if checked.errors else _free(slots, checked.answers, moving)
        if tz is None:
            told = [shown for _, shown in found.answers.values() if shown]
            tz = zone(told[0]) if told else await self._zone(found.answers)
        slots = [slot for slot in slots if not page.position or _position(slot) > page.position]
        more = len(slots) > limit
        failed = {name: error.code for name, error in errors.items()}
        return SlotsAnswer(
            slots=tuple(SlotAnswer.of(start, end, id, tz) for start, id, end in slots[:limit]),
            time_zone=tz.key,
            now=now.astimezone(tz),
            unavailable=tuple(unavailable(errors)),
            next_cursor=page.next(_position(slots[limit - 1]), failed) if more else None,
        )

    async def _moving(self, booking_id: str | None) -> "BeingMoved | None":
        if booking_id is None:
            return None
        provider, booking = await self._gateway.bookings.find(booking_id, Feature.GET_BOOKING)
        if booking.status not in LIVE:
            raise InvalidRequest(f"booking_id: that booking is {booking.status}.", account=provider.account)
        return BeingMoved(provider.account, booking)

    async def find_busy_times(
        self, start: str, end: str, names: Sequence[str] | None, time_zone: str | None
    ) -> BusyTimesAnswer:
        accounts, now = self._gateway.accounts, self._gateway.clock.now()
        tz = a_zone(time_zone)
        window = a_window(start, end, tz, longest=LONGEST_BUSY)
        wanted = accounts.chosen(names)
        if not wanted:
            raise InvalidRequest(f"accounts: name at least one of {', '.join(accounts)}, or leave it out for all.")
        found = (await self._ask_busy(wanted, window, {})).any()
        tz = tz or await self._zone(found.answers)
        busy = [(time, account) for account, times in found.answers.items() for time in times]
        busy.sort(key=lambda each: (each[0].start, each[0].end, each[1]))
        return BusyTimesAnswer(
            busy=tuple(BusyAnswer.of(account, time, tz) for time, account in busy),
            time_zone=tz.key,
            now=now.astimezone(tz),
            unavailable=tuple(unavailable(found.errors)),
        )

    async def _zone(self, names: Iterable[str]) -> ZoneInfo:
        """The zone of the first of these accounts that tells it: times are right in any, so none must fail for it."""
        for name in names:
            try:
                return await zone_of(self._gateway.accounts[name])
            except SchedulingError:
                continue
        return zone("UTC")

    async def _ask_busy(
        self, names: Sequence[str], window: TimeRange, failed: Mapping[str, str]
    ) -> Found[list[BusyTime]]:
        async def busy_of(provider: Provider) -> list[BusyTime]:
            provider.require(Feature.FIND_BUSY_TIMES)
            return [t for t in await provider.find_busy_times(window) if window.overlaps(t.start, t.end)]

        return await self._gateway.accounts.ask(names, busy_of, failed)


OfferedSlot = tuple[datetime, str, datetime]
"""Start, routed event type id, end: in the order in which slots are listed."""


@dataclass(frozen=True, slots=True)
class BeingMoved:
    """The booking that is about to be moved, and its account."""

    account: str
    booking: Booking

    def is_own(self, account: str, busy: BusyTime) -> bool:
        """Whether that busy time is the meeting itself, here or as it stands in another calendar.

        There only its exact time tells; a longer busy time may hide another meeting.
        """
        if account == self.account and busy.booking_id is not None:
            return busy.booking_id == self.booking.id
        return (busy.start, busy.end) == (self.booking.start, self.booking.end)


def _reach(slots: Sequence[OfferedSlot]) -> TimeRange:
    return TimeRange(start=slots[0][0], end=max(end for _, _, end in slots))


def _free(
    slots: Sequence[OfferedSlot], busy: Mapping[str, Sequence[BusyTime]], moving: BeingMoved | None
) -> list[OfferedSlot]:
    """The slots that meet no busy time."""
    spans = merged(
        (time.start.timestamp(), time.end.timestamp())
        for account, times in busy.items()
        for time in times
        if moving is None or not moving.is_own(account, time)
    )
    ends = [end for _, end in spans]

    def is_free(start: float, end: float) -> bool:
        index = bisect_right(ends, start)
        return index == len(spans) or spans[index][0] >= end

    return [slot for slot in slots if is_free(slot[0].timestamp(), slot[2].timestamp())]


def _position(slot: OfferedSlot) -> tuple[float, str]:
    return slot[0].timestamp(), slot[1]
