"""How often something may be tried in a minute, by all callers of one process together."""

from collections import deque
from datetime import datetime, timedelta

from providers import Clock

MINUTE = timedelta(minutes=1)


class Tries:
    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[datetime] = deque(maxlen=per_minute)

    def is_over(self) -> bool:
        """Whether it may not be tried now; else it is counted."""
        now = self._clock.now()
        is_over = len(self._seen) == self._seen.maxlen and now - self._seen[0] < MINUTE
        if not is_over:
            self._seen.append(now)
        return is_over
