"""The slot engine: working hours minus busy times, as start times on offer. Pure functions over seconds of the epoch.

Where a service has no slots of its own (`local`, Google Calendar) this decides what is bookable; nothing else does.

- Hours are what a wall clock in the schedule's zone shows. A clock change moves the instants, not the hours: what
  falls into a gap does not exist, what happens twice is offered twice, told apart by its offset.
- Starts lie on a grid of `step` from the opening of each range of hours, whatever window is asked for.
- Ranges are half-open: a meeting may begin the moment another ends.
- Buffers must be free of busy times but need not lie within working hours.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from schemas.hours import DAYS, minutes

N = TypeVar("N", int, float)

Span = tuple[int, int]
"""From, up to and not including: seconds of the epoch, unless said otherwise."""

DAY = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Hours:
    """Weekly hours and date overrides in a zone, in minutes of the day."""

    zone: ZoneInfo
    weekly: tuple[tuple[Span, ...], ...]
    overrides: Mapping[int, tuple[Span, ...]]

    @classmethod
    def of(
        cls, zone: ZoneInfo, weekly: Mapping[str, Sequence[str]], overrides: Mapping[str, Sequence[str]] | None = None
    ) -> "Hours":
        """From the words of the vocabulary: `{"monday": ["09:00-17:00"]}`, `{"2026-12-24": []}`."""
        return cls(
            zone,
            tuple(tuple(sorted(map(minutes, weekly.get(day, ())))) for day in DAYS),
            {_ordinal(date.fromisoformat(day)): tuple(sorted(map(minutes, r))) for day, r in (overrides or {}).items()},
        )

    def on(self, day: int) -> tuple[Span, ...]:
        """The ranges of the day that is `day` days after 1970-01-01 (a Thursday)."""
        return self.overrides[day] if day in self.overrides else self.weekly[(day + 3) % 7]


@dataclass(frozen=True, slots=True)
class Rules:
    """What one event type asks of a slot. Lengths in seconds."""

    duration: int
    step: int
    buffer_before: int = 0
    buffer_after: int = 0
    minimum_notice: int = 0
    window_days: int | None = None
    max_per_day: int | None = None


def find_starts(
    rules: Rules, hours: Hours, window: Span, now: int, busy: Iterable[Span], booked: Iterable[int] = ()
) -> list[int]:
    """The starts in `window` at which a meeting under `rules` can be booked, ascending.

    `busy` may be unsorted and overlap itself. `booked` are the starts of this event type's live bookings, counted
    against `max_per_day` by their date in the schedule's zone. The booking window ends with the local date that lies
    `window_days` after today's.
    """
    earliest = max(window[0], now + rules.minimum_notice)
    if earliest >= window[1]:
        return []
    full = _full_days(rules, hours, booked)
    last_day = None if rules.window_days is None else _local_day(now, hours.zone) + rules.window_days
    # A range of hours can reach a day over the window's edges, and so can the range a meeting runs on into.
    pieces = list(_working_pieces(hours, (earliest - DAY, window[1] + rules.duration + DAY)))
    ends = _last_minutes(pieces)
    # A start strictly inside one of these would bring the meeting, with its buffers, into a busy time. Where two of
    # them only touch, the meeting fits exactly between.
    before, after = rules.buffer_before, rules.duration + rules.buffer_after
    blocked = merged((start - after, end + before) for start, end in busy if start < end)
    blocked_ends = [end for _, end in blocked]
    starts: list[int] = []
    for piece, closes in zip(pieces, ends, strict=True):
        if piece.day in full or (last_day is not None and piece.day > last_day):
            continue
        low = max(piece.start, earliest)
        low += (piece.anchor - low) % rules.step
        # One past the last second at which a start is in the piece, in the window, and leaves time for the meeting.
        high = min(piece.end, window[1], closes - rules.duration + 1)
        starts.extend(_unblocked(low, high, rules.step, blocked, blocked_ends))
    return sorted(starts)


def merged(spans: Iterable[tuple[N, N]]) -> list[tuple[N, N]]:
    """Sorted, and one where they overlap; spans that only touch stay two."""
    out: list[tuple[N, N]] = []
    last = None
    for start, end in sorted(spans):
        if last is not None and start < last:
            if end > last:
                last = end
                out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
            last = end
    return out


def date_span(first: date, last: date, zone: ZoneInfo) -> Span:
    """The dates `first` to `last`, both included, as they pass in `zone`: an all-day busy time."""
    begins, ends = _ordinal(first) * DAY, (_ordinal(last) + 1) * DAY
    stretches = list(_offsets(zone, (begins - DAY, ends + DAY)))
    # Not from 00:00 where clocks jump over it (São Paulo until 2018), nor to the first one where they go back to the
    # day before (St. John's until 2011).
    return (
        min(max(begins - offset, start) for start, end, offset in stretches if begins < end + offset),
        max(min(ends - offset, end) for start, end, offset in stretches if start + offset < ends),
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of one day's working hours with one offset from UTC. The grid of starts runs through `anchor`."""

    day: int
    start: int
    end: int
    anchor: int


def _working_pieces(hours: Hours, window: Span) -> Iterator[_Piece]:
    for start, end, offset in _offsets(hours.zone, window):
        local_start, local_end = start + offset, end + offset
        for day in range(local_start // DAY, -(-local_end // DAY)):
            midnight = day * DAY
            for opens, closes in hours.on(day):
                piece_start = max(midnight + opens * 60, local_start)
                piece_end = min(midnight + closes * 60, local_end)
                if piece_start < piece_end:
                    yield _Piece(day, piece_start - offset, piece_end - offset, midnight + opens * 60 - offset)


def _last_minutes(pieces: Sequence[_Piece]) -> list[int]:
    """For each piece, until when working time goes on without a break."""
    ends = [piece.end for piece in pieces]
    for index in range(len(pieces) - 2, -1, -1):
        if pieces[index].end == pieces[index + 1].start:
            ends[index] = ends[index + 1]
    return ends


def _unblocked(low: int, high: int, step: int, blocked: list[Span], blocked_ends: list[int]) -> Iterator[int]:
    """The grid from `low` up to `high` without what lies strictly inside a blocked span."""
    index = bisect_right(blocked_ends, low)
    while low < high:
        if index == len(blocked) or blocked[index][0] >= high - 1:
            yield from range(low, high, step)
            return
        begins, ends = blocked[index]
        yield from range(low, min(high, begins + 1), step)
        low += max(0, -(-(ends - low) // step)) * step
        index += 1


def _offsets(zone: ZoneInfo, window: Span) -> Iterator[tuple[int, int, int]]:
    """`window` as (start, end, offset from UTC in seconds) stretches, looked for day by day."""
    start, end = window
    offset = _offset(zone, start)
    at = start
    while at < end:
        after = min(at + DAY, end)
        if _offset(zone, after) != offset:
            change = bisect_left(range(at, after), True, key=lambda second: _offset(zone, second) != offset) + at
            yield start, change, offset
            start, offset = change, _offset(zone, change)
            at = change
        else:
            at = after
    yield start, end, offset


def _full_days(rules: Rules, hours: Hours, booked: Iterable[int]) -> set[int]:
    if rules.max_per_day is None:
        return set()
    days = [_local_day(start, hours.zone) for start in booked]
    return {day for day in days if days.count(day) >= rules.max_per_day}


def _offset(zone: ZoneInfo, at: int) -> int:
    return int(datetime.fromtimestamp(at, zone).utcoffset().total_seconds())  # type: ignore[union-attr]  # it has a zone


def _local_day(at: int, zone: ZoneInfo) -> int:
    return (at + _offset(zone, at)) // DAY


def _ordinal(day: date) -> int:
    return day.toordinal() - _EPOCH_ORDINAL


def seconds(instant: datetime) -> int:
    """Seconds of the epoch; a started second counts as not yet passed."""
    return int((instant - _EPOCH) // timedelta(seconds=1))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
