"""The free times of an event type that a page shows."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.core import Gateway
from gateway.pages.week import WEEK, monday

AHEAD = timedelta(days=84)
"""How far is looked for the first free time."""

MOST = 500


async def slots_of(
    gateway: Gateway, event_type_id: str, first: date, tz: ZoneInfo, *, moving: str | None = None
) -> list[tuple[datetime, datetime]]:
    """The slots of the week from `first`; the booking `moving` takes up no time."""
    return await _slots(gateway, event_type_id, first, tz, WEEK, MOST, moving)


async def next_free(
    gateway: Gateway, event_type_id: str, first: date, tz: ZoneInfo, *, moving: str | None = None
) -> date | None:
    """The Monday of the first week from `first` that has a slot."""
    found = await _slots(gateway, event_type_id, first, tz, AHEAD, 1, moving)
    return monday(found[0][0].astimezone(tz).date()) if found else None


async def _slots(
    gateway: Gateway, event_type_id: str, first: date, tz: ZoneInfo, length: timedelta, limit: int, moving: str | None
) -> list[tuple[datetime, datetime]]:
    begin = datetime(first.year, first.month, first.day, tzinfo=tz)
    found = await gateway.availability.find_slots(
        [event_type_id], begin.isoformat(), (begin + length).isoformat(), tz.key, None, [], moving, limit, None
    )
    return [(slot.start, slot.end) for slot in found.slots]
