"""How much one caller may ask of this process: so many calls a minute, so many at once."""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gateway import telemetry
from gateway.server_config import LimitsConfig
from providers import Clock
from schemas import RateLimited

REMEMBERED = 10_000
"""How many callers are remembered. Whoever has asked for nothing the longest is forgotten, which does them no harm."""


class Limits:
    """A bucket of `per_minute` calls for each caller, which fills evenly; a call takes one out."""

    def __init__(self, config: LimitsConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        # What is left, and the second of the epoch at which that was so.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._at_once: Counter[str] = Counter()

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """A call of theirs goes on meanwhile. Raises RateLimited if it is one too many."""
        if self._at_once[caller] >= self._config.at_once:
            telemetry.REFUSED.add(1, {"limit": "at_once"})
            raise RateLimited(
                f"{self._config.at_once} calls of yours are under way, which is as many as may be at once. "
                "Wait for an answer, then try again.",
                retry_after=1,
            )
        if wait := self._wait(caller):
            telemetry.REFUSED.add(1, {"limit": "per_minute"})
            raise RateLimited(
                f"You may make {self._config.per_minute} calls a minute. Try again in {wait} seconds.", retry_after=wait
            )
        self._at_once[caller] += 1
        try:
            yield
        finally:
            self._at_once[caller] -= 1
            if not self._at_once[caller]:
                del self._at_once[caller]

    def _wait(self, caller: str) -> int:
        """Take a call out of the bucket; or else for how many seconds there will be none."""
        most, now = self._config.per_minute, self._clock.now().timestamp()
        left, since = self._left.pop(caller, (float(most), now))
        left = min(most, left + max(0.0, now - since) * most / 60)
        is_empty = left < 1
        self._left[caller] = (left if is_empty else left - 1, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return math.ceil((1 - left) * 60 / most) if is_empty else 0
