"""Cal ID's slots, busy times and schedules, in our words and back. `raw` is the `data` of an answer."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from providers.slots import merged
from schemas import BusyTime, Schedule
from schemas.hours import DAYS, minutes, written

LAST_MINUTE, MIDNIGHT = "23:59", "24:00"
# Days are counted from Sunday.
SUNDAY_FIRST = (DAYS[6], *DAYS[:6])


def starts(raw: Any) -> list[datetime]:
    return [datetime.fromisoformat(each["time"]) for day in raw["slots"].values() for each in day]


def busy_times(raw: Any) -> list[BusyTime]:
    return [BusyTime(start=each["start"], end=each["end"], title=each.get("title") or None) for each in raw["busy"]]


def schedules(raw: Any) -> list[Schedule]:
    return [_schedule(each, is_only=len(raw) == 1) for each in raw]


def _schedule(raw: Any, *, is_only: bool) -> Schedule:
    weekly: dict[str, list[tuple[int, int]]] = {}
    dates: dict[str, list[tuple[int, int]]] = {}
    for row in raw["availability"]:
        if row.get("date"):
            dates.setdefault(row["date"][:10], []).extend(_spans(row))
        for number in () if row.get("date") else row["days"]:
            weekly.setdefault(SUNDAY_FIRST[number], []).extend(_spans(row))
    return Schedule(
        id=str(raw["id"]),
        name=raw["name"],
        time_zone=raw["timeZone"],
        is_default=is_only,
        weekly_hours={day: _hours(spans) for day, spans in weekly.items()},
        date_overrides={date: _hours(spans) for date, spans in sorted(dates.items())},
    )


def _hours(spans: list[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(written(*span) for span in merged(spans))


def _spans(row: Any) -> Iterator[tuple[int, int]]:
    start, end = clock(row["startTime"]), clock(row["endTime"])
    if start != end:  # a day off has none
        yield minutes(f"{start}-{MIDNIGHT if end == LAST_MINUTE else end}")


def clock(text: str) -> str:
    """The time of day out of "09:00" or, as a database has it, "1970-01-01T09:00:00.000Z"."""
    return text.partition("T")[2][:5] or text[:5]


def rows(schedule_id: str, day: str, hours: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row for each range of a day."""
    return [
        {
            "scheduleId": int(schedule_id),
            "days": [SUNDAY_FIRST.index(day)],
            "startTime": _instant(start),
            "endTime": _instant(LAST_MINUTE if end == MIDNIGHT else end),
        }
        for start, end in (each.split("-") for each in hours)
    ]


def _instant(text: str) -> str:
    return f"1970-01-01T{text}:00.000Z"
