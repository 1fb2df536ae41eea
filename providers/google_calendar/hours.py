"""Google's working hours and busy times, in our words. `raw` is the JSON of an answer."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from providers.slots import Span, date_span, merged, seconds
from schemas import DAYS, NINE_TO_FIVE, BusyTime, Schedule
from schemas.hours import written

WORKING_HOURS = "working-hours"
# Never busy, whatever they say of themselves.
NEVER_BUSY = ("workingLocation", "birthday")


# What `find_slots` says of the hours it offers, by where they come from.
SOURCES = {
    "configuration": "within working_hours of the configuration.",
    "calendar": "within the working hours that are set in Google Calendar.",
    "neither": "Monday to Friday 9 to 17 only, as no working hours are set: neither in the configuration nor in Google "
    "Calendar.",
}


class Unseen(Exception):
    """A calendar that free/busy could not look at."""

    def __init__(self, calendar: str, reason: str) -> None:
        super().__init__(calendar)
        self.calendar, self.reason = calendar, reason


def source(calendar: Any, configured: Mapping[str, tuple[str, ...]] | None) -> str:
    return "configuration" if configured is not None else "calendar" if _weekly(calendar) else "neither"


def schedule(calendar: Any, configured: Mapping[str, tuple[str, ...]] | None) -> Schedule:
    """The hours in which bookings are taken: as configured, else as the calendar has them, else nine to five."""
    return Schedule(
        id=WORKING_HOURS,
        name="Working hours",
        time_zone=calendar["timeZone"],
        is_default=True,
        weekly_hours=dict(configured) if configured is not None else _weekly(calendar) or NINE_TO_FIVE,
    )


def _weekly(calendar: Any) -> dict[str, tuple[str, ...]]:
    """Minutes from the start of the day, several ranges a day, and none at all where they are switched off."""
    told = calendar.get("workingHours") or {}
    spans: dict[str, list[tuple[int, int]]] = {}
    for each in told.get("availableTimes") or () if told.get("workingHoursEnabled") else ():
        if (day := each["dayOfWeek"].lower()) in DAYS and each["periodStart"] < each["periodEnd"]:
            spans.setdefault(day, []).append((each["periodStart"], each["periodEnd"]))
    return {day: tuple(written(*span) for span in merged(each)) for day, each in spans.items()}


def span(raw: Any, zone: ZoneInfo) -> Span:
    """When an event takes place, all-day ones in the calendar's zone."""
    start, end = raw["start"], raw["end"]
    if "dateTime" in start:
        return seconds(moment(start, zone)), seconds(moment(end, zone))
    # The end is the day after the last (discovery document, 2026-10).
    last = date.fromisoformat(end["date"]) - timedelta(days=1)
    return date_span(date.fromisoformat(start["date"]), last, zone)


def moment(when: Any, zone: ZoneInfo) -> datetime:
    at = datetime.fromisoformat(when["dateTime"])
    return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(when["timeZone"]) if when.get("timeZone") else zone)


def is_busy(raw: Any) -> bool:
    """Whether whose calendar it is is busy with an event; somebody else may have declined it, even who is signed in."""
    declined = any(each.get("self") and each.get("responseStatus") == "declined" for each in raw.get("attendees", ()))
    return not (
        raw["status"] == "cancelled"
        or raw.get("transparency") == "transparent"
        or raw.get("eventType") in NEVER_BUSY
        or declined
    )


def mine(raw: Any, email: str | None) -> list[Any]:
    """The attendee whose calendar it is; on secondary ones, where Google does not say, who is signed in.

    (mmedum/google-calendar-mcp, row 50, 2026-09)
    """
    listed = raw.get("attendees", ())
    own = [each for each in listed if each.get("self")]
    return own or [each for each in listed if email and each.get("email", "").lower() == email.lower()]


def busy_of(answer: Any, calendars: Iterable[str]) -> Iterator[BusyTime]:
    """What free/busy has of these calendars. Raises Unseen for one that it could not look at: it is not free."""
    for id in calendars:
        found = answer["calendars"].get(id) or {"errors": [{"reason": "missing"}]}
        if errors := found.get("errors"):
            raise Unseen(id, str(errors[0].get("reason")))
        for each in found["busy"]:
            yield BusyTime(start=each["start"], end=each["end"])
