"""What `find_starts` should answer, found the slow way: by reading the wall clock once per minute.

Shares no code and no idea with the engine. Time is a row of cells; each is working time or not, taken or not, and a
meeting fits where all of its cells are the one and none is the other.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

Span = tuple[int, int]
Clock = Callable[[int], datetime]
"""What the wall clock shows at an instant. Only its date and time of day are looked at."""

WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def clock_of(zone: ZoneInfo) -> Clock:
    return lambda at: datetime.fromtimestamp(at, zone)


def clock_with_one_change(instant: int, before: int, after: int) -> Clock:
    """A wall clock `before` seconds ahead of UTC until `instant`, and `after` seconds from then on."""
    return lambda at: datetime.fromtimestamp(at + (before if at < instant else after), UTC)


def find_starts(
    clock: Clock,
    weekly: Mapping[str, Sequence[Span]],
    overrides: Mapping[date, Sequence[Span]],
    window: Span,
    now: int,
    busy: Iterable[Span] = (),
    booked: Iterable[int] = (),
    *,
    duration: int,
    step: int,
    buffer_before: int = 0,
    buffer_after: int = 0,
    minimum_notice: int = 0,
    window_days: int | None = None,
    max_per_day: int | None = None,
    cell: int = 60,
) -> list[int]:
    """Hours are minutes of the day, all else is seconds.

    `cell` must divide the lengths of the rules and the clock's offsets, so that clocks show whole cells at the start of
    each; `window`, `now`, `busy` and `booked` may be any seconds.
    """
    assert not any(length % cell for length in (duration, step, buffer_before, buffer_after))
    lead, meeting, trail = buffer_before // cell, duration // cell, buffer_after // cell
    cells = range(window[0] // cell * cell - buffer_before, window[1] + duration + buffer_after + cell, cell)
    spans = [(start, end) for start, end in busy if start < end]
    last_date = None if window_days is None else clock(now).date() + timedelta(days=window_days)
    bookings = Counter(clock(start).date() for start in booked)

    working, taken = bytearray(len(cells)), bytearray(len(cells))
    on_grid: list[tuple[int, date]] = []
    for index, at in enumerate(cells):
        wall = clock(at)
        today, second = wall.date(), wall.hour * 3600 + wall.minute * 60 + wall.second
        assert second % cell == 0
        for opens, closes in overrides[today] if today in overrides else weekly.get(WEEK[wall.weekday()], ()):
            if opens * 60 <= second < closes * 60:
                working[index] = True
                if (second - opens * 60) % step == 0:
                    on_grid.append((index, today))
        # The meeting and its buffers are whole cells, so one that is taken in part is as good as taken.
        taken[index] = any(start < at + cell and at < end for start, end in spans)

    return [
        cells[index]
        for index, today in on_grid
        if window[0] <= cells[index] < window[1]
        and cells[index] >= now + minimum_notice
        and all(working[index : index + meeting])
        and not any(taken[index - lead : index + meeting + trail])
        and (last_date is None or today <= last_date)
        and (max_per_day is None or bookings[today] < max_per_day)
    ]
