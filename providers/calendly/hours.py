"""Calendly's slots, busy times and availability rules, in our words and back. `raw` is an answer's JSON."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from providers.calendly.wire import uuid
from providers.slots import merged
from schemas import BusyTime, Schedule, ScheduleChange, zone
from schemas.hours import DAYS, minutes, written

IS_FREE = {"available": True, "unavailable": False}


def starts(raw: Any) -> list[datetime]:
    return [datetime.fromisoformat(each["start_time"]) for each in raw["collection"] if IS_FREE[each["status"]]]


def busy_times(raw: Any) -> list[BusyTime]:
    return [BusyTime(start=each["start_time"], end=each["end_time"]) for each in raw["collection"]]


def event_type_rules(raw: Any) -> list[Any]:
    return [each["availability_rule"] for each in raw["collection"]]


def schedule(raw: Any, id: str | None = None) -> Schedule:
    weekly: dict[str, Any] = {}
    dates: dict[str, Any] = {}
    for rule in raw["rules"]:
        into, day = {"wday": (weekly, rule.get("wday")), "date": (dates, rule.get("date"))}[rule["type"]]
        spans = [minutes(f"{each['from']}-{each['to']}") for each in rule["intervals"]]
        into[day] = tuple(written(*span) for span in merged(spans))
    return Schedule(
        id=id or uuid(raw["uri"]),
        name=raw["name"] or "Hours of the event type",
        time_zone=raw["timezone"],
        is_default=raw.get("default", False),
        weekly_hours={day: hours for day, hours in weekly.items() if hours},
        date_overrides=dates,
    )


def gone_by(change: ScheduleChange, now: datetime) -> list[str]:
    """The dates of a change that lie before yesterday, wherever one is."""
    return [date for date in change.date_overrides or {} if date < f"{now - timedelta(days=2):%Y-%m-%d}"]


def rules(schedule: Schedule, now: datetime) -> list[dict[str, Any]]:
    """The whole set of rules: one for each weekday, and the dates that are not gone by."""
    yesterday = f"{now.astimezone(zone(schedule.time_zone)) - timedelta(days=1):%Y-%m-%d}"
    week = [_rule("wday", day, schedule.weekly_hours.get(day, ())) for day in DAYS]
    return week + [_rule("date", day, hours) for day, hours in schedule.date_overrides.items() if day >= yesterday]


def _rule(type: str, day: str, hours: Sequence[str]) -> dict[str, Any]:
    intervals = [dict(zip(("from", "to"), each.split("-"), strict=True)) for each in hours]
    return {"type": type, type: day, "intervals": intervals}
