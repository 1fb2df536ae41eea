"""Times as callers write them: RFC 3339 with an offset, or a local time together with its zone. Nothing is guessed."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas import InvalidRequest, TimeRange, local_readings, zone

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)\s?([Zz]|[+-]\d\d:[0-5]\d)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_YEARS = range(1970, 2200)


def a_zone(name: str | None, argument: str = "time_zone") -> ZoneInfo | None:
    """The zone of that name. Raises InvalidRequest."""
    if name is None:
        return None
    try:
        return zone(name.strip())
    except ValueError as error:
        raise InvalidRequest(f"{argument}: {error}".rstrip(".?") + ("?" if "?" in str(error) else ".")) from None


def an_instant(text: str, tz: ZoneInfo | None, argument: str, *, zone_argument: str | None = "time_zone") -> datetime:
    """The instant that `text` names, in UTC; a time without offset is read in `tz`.

    Raises InvalidRequest for anything that is no time, names none, or names two.
    """
    text = text.strip()
    if _DATE.fullmatch(text):
        raise InvalidRequest(
            f"{argument}: is a date alone. Add time of day and offset, like 2026-11-20T15:00:00+01:00."
        )
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        clock = match[2].partition(".")[0]  # a fraction of a second starts no meeting
        wall = datetime.fromisoformat(f"{match[1]}T{clock}")
        offset = match[3]
        if wall.year not in _YEARS:
            raise ValueError
        if offset is not None:
            return datetime.fromisoformat(f"{match[1]}T{clock}{offset.upper()}").astimezone(UTC)
    except ValueError:
        what = "is not a time" if match is None else "names a day or hour that does not exist"
        raise InvalidRequest(
            f"{argument}: {what}. Write RFC 3339 with an offset, like 2026-11-20T15:00:00+01:00."
        ) from None
    if tz is None:
        also = f", or name its zone in {zone_argument}" if zone_argument else ""
        raise InvalidRequest(f"{argument}: has no offset. Write it like 2026-11-20T15:00:00+01:00{also}.")
    return _in_zone(wall, tz, argument)


def a_window(
    start: str, end: str, tz: ZoneInfo | None, *, longest: timedelta, now: datetime | None = None
) -> TimeRange:
    """From `start` to `end`, without what lies before `now`. Raises InvalidRequest."""
    begins, ends = an_instant(start, tz, "start"), an_instant(end, tz, "end")
    if ends <= begins:
        raise InvalidRequest("end: must be after start.")
    if ends - begins > longest:
        raise InvalidRequest(f"end: is more than {longest.days} days after start. Ask for a shorter time.")
    if now is not None:
        if ends <= now:
            raise InvalidRequest(f"end: is in the past; it is {now.isoformat(timespec='seconds')} now.")
        begins = max(begins, now)
    return TimeRange(start=begins, end=ends)


def _in_zone(wall: datetime, tz: ZoneInfo, argument: str) -> datetime:
    readings = local_readings(wall, tz)
    if len(readings) == 1:
        return readings[0].astimezone(UTC)
    if readings:
        first, second = (reading.isoformat() for reading in readings)
        raise InvalidRequest(
            f"{argument}: clocks in {tz.key} show this time twice. Say which: {first} (first) or {second} (second)."
        )
    # Read with the offset before the change, a time in a gap lies as far behind it as the clocks jump.
    after = wall.replace(tzinfo=tz, fold=0).astimezone(UTC).astimezone(tz)
    raise InvalidRequest(f"{argument}: clocks in {tz.key} skip this time that day. Did you mean {after.isoformat()}?")
