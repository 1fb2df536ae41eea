"""A week of slots as a page shows it: by day, in the guest's zone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.times import a_zone
from schemas import WEEKDAYS, InvalidRequest, local_readings, zone

WEEK = timedelta(days=7)
# Not a matter of the locale.
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class ShownSlot:
    """`start` as an instant with its offset; the others as they are read, `offset` only where a time exists twice."""

    start: str
    time: str
    end: str
    label: str
    offset: str


@dataclass(frozen=True, slots=True)
class Day:
    date: str
    iso: str
    slots: tuple[ShownSlot, ...]


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def days(slots: Iterable[tuple[datetime, datetime]], first: date, zone: ZoneInfo) -> tuple[Day, ...]:
    """The seven days from `first`, with the slots that begin on each."""
    by_day: dict[date, list[ShownSlot]] = {first + timedelta(days=number): [] for number in range(7)}
    for start, end in slots:
        begins, ends = start.astimezone(zone), end.astimezone(zone)
        if begins.date() in by_day:
            by_day[begins.date()].append(_shown(begins, ends, zone))
    return tuple(Day(long_date(day), day.isoformat(), tuple(found)) for day, found in by_day.items())


def long_date(day: date) -> str:
    return f"{WEEKDAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]}"


def spoken(start: datetime, end: datetime, zone: ZoneInfo) -> str:
    """When a meeting is, in words: `Monday 7 January 2030, 09:00 to 09:30`."""
    begins, ends = start.astimezone(zone), end.astimezone(zone)
    shown = _shown(begins, ends, zone)
    return (
        f"{long_date(begins.date())} {begins.year}, {shown.time}{shown.offset and f' ({shown.offset})'} to {shown.end}"
    )


def wanted_zone(name: str | None) -> tuple[ZoneInfo | None, str | None]:
    """The zone that a guest wants, and what is wrong with it."""
    if not name:
        return None, None
    try:
        return a_zone(name, "Time zone"), None
    except InvalidRequest:
        return None, "That time zone is not known. Try a name like Europe/Berlin."


def first_day(week: str | None, today: date) -> date:
    """The Monday of the week that is asked for; this week's for anything else."""
    try:
        asked = monday(date.fromisoformat(week or ""))
    except ValueError:
        asked = monday(today)
    return min(max(asked, monday(today)), monday(today) + timedelta(days=730))


def shown_zone(name: str) -> ZoneInfo:
    """The zone that was asked for once; UTC if there is none of that name any more."""
    try:
        return zone(name)
    except ValueError:
        return ZoneInfo("UTC")


def _shown(begins: datetime, ends: datetime, zone: ZoneInfo) -> ShownSlot:
    is_twice = len(local_readings(begins.replace(tzinfo=None), zone)) > 1
    offset = f"UTC{begins:%z}"[:-2] + ":" + f"{begins:%z}"[-2:] if is_twice else ""
    time, end = f"{begins:%H:%M}", f"{ends:%H:%M}"
    label = f"{long_date(begins.date())}, {time}{offset and f' ({offset})'} to {end}"
    return ShownSlot(begins.isoformat(), time, end, label, offset)
