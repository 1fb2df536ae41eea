"""Cal.com's slots, busy times and schedules, in our words and back. `raw` is the `data` of an answer."""

from collections.abc import Mapping
from datetime import date as a_date
from typing import Any

from providers.slots import merged
from schemas import BusyTime, Offer, Schedule, ScheduleChange, Slot
from schemas.hours import DAYS, minutes, written

# On the wire a day ends at 23:59, which counts as its end (source of July 2025, packages/lib/date-ranges.ts).
LAST_MINUTE, MIDNIGHT = "23:59", "24:00"
CLOSED = ("00:00", "00:00")


def offer(raw: Any) -> Offer:
    return Offer(slots=tuple(Slot(start=each["start"], end=each["end"]) for day in raw.values() for each in day))


def calendars(raw: Any) -> list[tuple[int, str]] | None:
    """Credential and id of every calendar that is looked at for conflicts; None if one cannot be read."""
    connected = raw["connectedCalendars"]
    selected = [calendar for each in connected for calendar in each.get("calendars", ()) if calendar["isSelected"]]
    if any("calendars" not in each for each in connected) or any(each["credentialId"] is None for each in selected):
        return None
    return [(calendar["credentialId"], calendar["externalId"]) for calendar in selected]


def busy_times(raw: Any) -> list[BusyTime]:
    return [BusyTime(start=each["start"], end=each["end"]) for each in raw]


def schedule(raw: Any) -> Schedule:
    weekly: dict[str, list[tuple[int, int]]] = {}
    dates: dict[str, list[tuple[int, int]]] = {}
    for each in raw["availability"]:
        for day in each["days"]:
            weekly.setdefault(day.lower(), []).append(_span(each))
    for each in raw["overrides"]:
        spans = dates.setdefault(a_date.fromisoformat(each["date"][:10]).isoformat(), [])
        if (each["startTime"][:5], each["endTime"][:5]) != CLOSED:
            spans.append(_span(each))
    return Schedule(
        id=str(raw["id"]),
        name=raw["name"],
        time_zone=raw["timeZone"],
        is_default=raw["isDefault"],
        weekly_hours={day: _hours(spans) for day, spans in weekly.items()},
        date_overrides={date: _hours(spans) for date, spans in sorted(dates.items())},
    )


def _span(raw: Any) -> tuple[int, int]:
    end = raw["endTime"][:5]
    return minutes(f"{raw['startTime'][:5]}-{MIDNIGHT if end == LAST_MINUTE else end}")


def _hours(spans: list[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(written(*span) for span in merged(spans))


def body(change: ScheduleChange, changed: Schedule) -> dict[str, Any]:
    """A change as a request: whole arrays, which replace those there are."""
    said: dict[str, Any] = {}
    if change.time_zone:
        said["timeZone"] = changed.time_zone
    if change.weekly_hours is not None:
        said["availability"] = _availability(changed.weekly_hours)
    if change.date_overrides is not None:
        said["overrides"] = [
            {"date": date, "startTime": start, "endTime": end}
            for date, hours in changed.date_overrides.items()
            for start, end in (map(_times, hours) if hours else [CLOSED])
        ]
    return said


def _availability(hours: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Days that are open at the same hours go together."""
    days: dict[tuple[str, str], list[str]] = {}
    for day in DAYS:
        for each in hours.get(day, ()):
            days.setdefault(_times(each), []).append(day.capitalize())
    return [{"days": names, "startTime": start, "endTime": end} for (start, end), names in days.items()]


def _times(hours: str) -> tuple[str, str]:
    start, end = hours.split("-")
    return start, LAST_MINUTE if end == MIDNIGHT else end
