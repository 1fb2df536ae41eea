"""Weekly hours and date overrides: `{"monday": ["09:00-17:00"]}`, `{"2026-12-24": []}`. Wall-clock times, in a zone."""

import re
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MIDNIGHT = 24 * 60

_RANGE = re.compile(r"(\d\d):(\d\d)\s*[-–]\s*(\d\d):(\d\d)")


def minutes(text: str) -> tuple[int, int]:
    """`"09:00-17:00"` as minutes of the day, `(540, 1020)`; the end may be 24:00. ValueError for anything else."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError('hours are written like "09:00-17:00"')
    open_hour, open_minute, close_hour, close_minute = map(int, match.groups())
    opens, closes = open_hour * 60 + open_minute, close_hour * 60 + close_minute
    if open_minute > 59 or close_minute > 59 or closes > MIDNIGHT:
        raise ValueError("hours run from 00:00 to 24:00")
    if opens >= closes:
        raise ValueError("hours must end after they start; split what passes midnight into two days")
    return opens, closes


def written(opens: int, closes: int) -> str:
    """Minutes of the day as `"09:00-17:00"`."""
    return f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"


def _tidy(ranges: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted, in one spelling; ValueError where two overlap."""
    spans = sorted(minutes(text) for text in ranges)
    for (_, closes), (opens, _) in pairwise(spans):
        if opens < closes:
            raise ValueError("two ranges of one day overlap")
    return tuple(written(*span) for span in spans)


def _a_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _day(name: str) -> str:
    if (day := name.strip().lower()) not in DAYS:
        raise ValueError("days are named monday … sunday")
    return day


def _date(text: str) -> str:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise ValueError("dates are written like 2026-12-24")


def _iso_keys(value: Any) -> Any:
    """YAML reads an unquoted 2026-12-24 as a date."""
    if not isinstance(value, Mapping):
        return value
    keys = [key.isoformat() if isinstance(key, date) else key for key in value]
    return dict(zip(_each_once(keys), value.values(), strict=True))


def _days_once(value: Any) -> Any:
    if isinstance(value, Mapping):
        _each_once([key.strip().lower() for key in value if isinstance(key, str)])
    return value


def _each_once(keys: list[Any]) -> list[Any]:
    """ValueError for two spellings of one key: the second would silently win."""
    if len(set(keys)) < len(keys):
        raise ValueError("a day stands twice")
    return keys


def _week_order(hours: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {day: hours[day] for day in DAYS if day in hours}


Ranges = Annotated[tuple[str, ...], BeforeValidator(_a_list), AfterValidator(_tidy)]
WeeklyHours = Annotated[
    dict[Annotated[str, AfterValidator(_day)], Ranges], BeforeValidator(_days_once), AfterValidator(_week_order)
]
"""A day that is not named is closed (in a change: stays as it is)."""

DateOverrides = Annotated[dict[Annotated[str, AfterValidator(_date)], Ranges], BeforeValidator(_iso_keys)]
"""The hours of single dates, in place of their weekday's; an empty list closes the date."""

DateChanges = Annotated[dict[Annotated[str, AfterValidator(_date)], Ranges | None], BeforeValidator(_iso_keys)]
"""The same as a change: None gives a date its weekday's hours back."""

NINE_TO_FIVE: dict[str, tuple[str, ...]] = dict.fromkeys(DAYS[:5], ("09:00-17:00",))
