"""IANA time zones, and instants without ambiguity."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


# What lies beside the IANA names on a machine: its own setting, and the same zones by another count of seconds.
_NO_ZONE = re.compile(r"(localtime|posixrules|Factory)$|(posix|right)/")


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name; ValueError, with the nearest names, if there is none."""
    try:
        if _NO_ZONE.match(name):
            raise ValueError
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # malformed keys, folders and unknown names each raise another one
        raise ValueError(f"is not an IANA time zone{_nearest(name)}") from None


def _nearest(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    # In Etc/GMT+2 the sign is turned round: nobody who misspells a zone means that.
    known_names = [known for known in sorted(available_timezones()) if "GMT" not in known and not _NO_ZONE.match(known)]
    names = {known.rpartition("/")[2].lower(): known for known in known_names}
    wanted = name.rpartition("/")[2].strip().lower().replace(" ", "_")[:100]
    close = [names[match] for match in get_close_matches(wanted, names, n=2, cutoff=0.7)]
    return f"; did you mean {' or '.join(close)}?" if close else " like Europe/Berlin"


def local_readings(wall: datetime, tz: ZoneInfo) -> list[datetime]:
    """The instants at which clocks in `tz` show `wall` (no offset): none in a gap, two in an overlap, else one."""
    earlier, later = wall.replace(tzinfo=tz, fold=0), wall.replace(tzinfo=tz, fold=1)
    if earlier.utcoffset() == later.utcoffset():
        return [earlier]
    # Python maps a wall time in a gap to an instant that shows another wall time; a round trip through UTC tells.
    return [
        reading for reading in (earlier, later) if reading.astimezone(UTC).astimezone(tz).replace(tzinfo=None) == wall
    ]


def weekday(instant: datetime) -> str:
    """`Monday` … `Sunday`, in the zone that `instant` carries; not a matter of the locale."""
    return WEEKDAYS[instant.weekday()]


def _zone_name(name: str) -> str:
    name = name.strip()
    zone(name)
    return name


ZoneName = Annotated[str, AfterValidator(_zone_name)]
"""The name of an IANA time zone, such as `Europe/Berlin`."""
