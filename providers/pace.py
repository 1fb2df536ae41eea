"""How many requests a service still takes, as its answers say: learned from rate limit headers, per account.

A service may have several limits, told apart by what follows the headers' usual name (`X-RateLimit-Reset-Default`).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from providers.clock import Clock

_RESET = re.compile(r"(x-)?ratelimit-reset(-[\w-]+)?")
LONGEST = 3600.0
"""No limit is believed to last longer, in seconds."""

# A day has fewer seconds; a moment has more, in seconds or in milliseconds.
_AN_EPOCH, _IN_MILLISECONDS = 1e6, 1e11


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of one limit: how many requests are left, if it says, and in how many seconds it is reset."""

    name: str
    left: float | None
    reset: float


class Pace:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # How many are left of each limit, and the second of the epoch until which that holds.
        self._left: dict[str, tuple[float, float]] = {}
        self._stopped = 0.0

    def took(self) -> None:
        """A request is on its way; its answer will say better."""
        self._left = {name: (left - 1, until) for name, (left, until) in self._left.items()}

    def learn(self, headers: Mapping[str, str]) -> None:
        for told in _told(headers, self._clock.now()):
            if told.left is not None:
                self._left[told.name] = (told.left, self._clock.now().timestamp() + min(told.reset, LONGEST))

    def stop(self, seconds: float) -> None:
        """The service takes nothing for so long."""
        self._stopped = max(self._stopped, self._clock.now().timestamp() + min(seconds, LONGEST))

    def wait(self, requests: int = 1) -> float:
        """How many seconds until so many requests may be sent; 0 if at once."""
        now = self._clock.now().timestamp()
        spent = [until for left, until in self._left.values() if left < requests]
        return max(0.0, max(spent, default=now) - now, self._stopped - now)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """How many seconds to wait, by `Retry-After` (seconds or a date) or the limit that is spent."""
    if stated := headers.get("retry-after"):
        if (seconds := _seconds(stated)) is not None:
            return min(_from_now(seconds, now), LONGEST)
        try:
            date = parsedate_to_datetime(stated)
            # A date without zone is in UTC (RFC 9110, 5.6.7).
            date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
            return min(max(0.0, (date - now).total_seconds()), LONGEST)
        except (ValueError, OverflowError):
            return None
    told = list(_told(headers, now))
    resets = [each.reset for each in told if each.left == 0] or [each.reset for each in told]
    return min(max(resets), LONGEST) if resets else None


def _told(headers: Mapping[str, str], now: datetime) -> Iterator[Told]:
    for header, value in headers.items():
        if _RESET.fullmatch(header.lower()) and (reset := _seconds(value)) is not None:
            left = _seconds(headers.get(header.lower().replace("reset", "remaining", 1), ""))
            name = header.lower().partition("reset")[2]
            yield Told(name, left, _from_now(reset, now))


def _from_now(seconds: float, now: datetime) -> float:
    """Seconds to wait, where a service may give the moment instead."""
    moment = seconds / 1000 if seconds > _IN_MILLISECONDS else seconds
    return max(0.0, moment - now.timestamp()) if seconds > _AN_EPOCH else seconds


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
