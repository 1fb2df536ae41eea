"""The slot engine: ten calendars with 5,000 busy times over sixty days."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from providers.slots import DAY, Hours, Rules, find_starts, seconds
from schemas import NINE_TO_FIVE

NOW = seconds(datetime(2026, 3, 16, 8, tzinfo=UTC))  # a clock change lies within the sixty days
RULES = Rules(duration=1800, step=900, buffer_before=300, buffer_after=600, minimum_notice=3600)
ROUNDS = 30


def measure() -> list[tuple[str, float]]:
    """Milliseconds, best of some rounds: one event type over all ten calendars, and ten of one calendar each."""
    dice = random.Random(7)  # noqa: S311 - the same busy times every run
    begins = [NOW + dice.randrange(60 * DAY) for _ in range(5_000)]
    busy = [(start, start + dice.randrange(300, 3_600)) for start in begins]
    calendars = [busy[each::10] for each in range(10)]
    hours = Hours.of(ZoneInfo("Europe/Berlin"), NINE_TO_FIVE)
    window = (NOW, NOW + 60 * DAY)

    def together() -> None:
        find_starts(RULES, hours, window, NOW, (span for calendar in calendars for span in calendar))

    def apart() -> None:
        for calendar in calendars:
            find_starts(RULES, hours, window, NOW, calendar)

    return [("one event type, all calendars", best(together)), ("ten event types, one calendar each", best(apart))]


def best(work: Callable[[], None]) -> float:
    """The shortest of some runs, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3
