"""One small world of appointments. Each emulator speaks of it in its service's dialect; tests look at it directly.

World
├── kinds          what can be booked: intro (30 min), review (60 min, asks questions), approval (30 min, pending first)
├── hours          Monday to Friday 09:00-17:00 in `zone`, and `overrides` of single dates; every kind starts on a grid
│                  of its own length that begins with the hours
├── appointments   who meets when; the live ones block, with the buffers of their kind. A seat of a shared meeting is an
│                  appointment of its own; seats of one meeting have the same `event`
├── elsewhere      times at which the host is busy in another calendar
├── links          the kinds that a scheduling link was made for, and whether it serves once
├── requests       what reached the service, as (method, path)
├── violations     what reached it although the vendor's published schema would refuse it: must stay empty
├── allowance      how many requests a minute the service takes
└── failures       how the service misbehaves at the next requests
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2030, 1, 7, tzinfo=BERLIN)
"""The week the tests live in; the clock begins on the Sunday before, at noon."""

BEGIN = MONDAY - timedelta(hours=12)
NINE = MONDAY + timedelta(hours=9)
TEN = MONDAY + timedelta(hours=10)
ELEVEN = MONDAY + timedelta(hours=11)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HOST, HOST_EMAIL = "Host", "host@example.com"


class Clock:
    """Time that passes only when told to, or when somebody waits."""

    def __init__(self, now: datetime = BEGIN) -> None:
        self._now = now.astimezone(UTC)
        self.waits: list[float] = []
        self.waited = anyio.Event()
        self._limits: list[tuple[float, anyio.CancelScope]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.waited.set()
        self.advance(timedelta(seconds=seconds))

    def advance(self, by: timedelta) -> None:
        self._now += by

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """As long as it takes, unless a test says that the time has run out."""
        with anyio.CancelScope() as scope:
            self._limits.append((seconds, scope))
            try:
                yield
            finally:
                self._limits.remove((seconds, scope))
        if scope.cancelled_caught:
            raise TimeoutError

    def run_out(self, seconds: float) -> int:
        """Whatever has that many seconds has had them; how much that was."""
        out = [scope for limit, scope in self._limits if limit == seconds]
        for scope in out:
            scope.cancel()
        return len(out)


@dataclass(frozen=True)
class Kind:
    """What can be booked. Buffers and notice in minutes; `places` are addresses one can choose from, beside a call."""

    title: str
    minutes: int
    approval: bool = False
    questions: tuple[dict[str, Any], ...] = ()
    places: tuple[str, ...] = ()
    seats: int = 1
    slug: str | None = None
    description: str | None = None
    active: bool = True
    before: int = 0
    after: int = 0
    notice: int = 0


KINDS = {
    "intro": Kind("Intro call", 30),
    "review": Kind(
        "Review",
        60,
        questions=(
            {"key": "company", "label": "Company", "type": "text", "required": True},
            {"key": "topic", "label": "Topic", "type": "choice", "options": ["Sales", "Support"]},
        ),
        places=("Main Street 1",),
    ),
    "approval": Kind("On approval", 30, approval=True),
}


@dataclass(frozen=True)
class Appointment:
    kind: str
    start: datetime
    end: datetime
    email: str
    name: str = "Ana"
    status: str = "confirmed"
    zone: str = "Europe/Berlin"
    guests: tuple[str, ...] = ()
    answers: dict[str, Any] = field(default_factory=dict)
    place: str | None = None
    notes: str | None = None
    reason: str | None = None
    no_show: bool = False
    marker: str = ""
    event: str = ""
    created: datetime = BEGIN
    moved_from: str | None = None
    moved_to: str | None = None

    @property
    def live(self) -> bool:
        return self.status in ("confirmed", "pending")


class Taken(Exception):
    """The time is not free."""


class Spent(Exception):
    """Too many requests; `reset` is in seconds."""

    def __init__(self, reset: int) -> None:
        self.reset = reset


@dataclass
class World:
    clock: Clock
    kinds: dict[str, Kind] = field(default_factory=lambda: dict(KINDS))
    appointments: dict[str, Appointment] = field(default_factory=dict)
    zone: str = "Europe/Berlin"
    hours: dict[str, list[str]] = field(default_factory=lambda: {day: ["09:00-17:00"] for day in DAYS[:5]})
    overrides: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: list[tuple[datetime, datetime]] = field(default_factory=list)
    links: list[tuple[str, bool]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    failures: deque[Any] = field(default_factory=deque)
    allowance: int = 1_000_000
    _spent: int = 0
    _minute_began: datetime | None = None

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] != "GET"]

    def spend(self) -> tuple[int, int]:
        """Count a request: how many are left in this minute, and the seconds until it ends. Raises Spent."""
        now = self.clock.now()
        if self._minute_began is None or now >= self._minute_began + timedelta(minutes=1):
            self._minute_began, self._spent = now, 0
        reset = math.ceil((self._minute_began + timedelta(minutes=1) - now).total_seconds())
        if self._spent >= self.allowance:
            raise Spent(reset)
        self._spent += 1
        return self.allowance - self._spent, reset

    def free(
        self, kind: str, start: datetime, end: datetime, moving: str | None = None, minutes: int | None = None
    ) -> Iterator[datetime]:
        """The starts on offer from `start` up to `end`. Hours alone decide here, not the gateway's slot engine."""
        if kind not in self.kinds:  # deleted since
            return
        this, zone = self.kinds[kind], ZoneInfo(self.zone)
        length = timedelta(minutes=minutes or this.minutes)
        soonest = self.clock.now() + timedelta(minutes=this.notice)
        others = [each for id, each in self.appointments.items() if each.live and id != moving]
        day = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        while day < end:
            for opens, closes in self._open(day):
                at = opens
                while at + length <= closes:
                    if start <= at < end and at >= soonest and self._is_clear(kind, at, at + length, others):
                        yield at.astimezone(zone)
                    at += length
            day += timedelta(days=1)

    def _open(self, day: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The hours of a day as instants in UTC, so that an hour is one also where clocks change."""
        for hours in self.overrides.get(f"{day:%Y-%m-%d}", self.hours.get(DAYS[day.weekday()], [])):
            opens, closes = (day + _time(clock) for clock in hours.split("-"))
            yield opens.astimezone(UTC), closes.astimezone(UTC)

    def _is_clear(self, kind: str, start: datetime, end: datetime, others: Sequence[Appointment]) -> bool:
        this = self.kinds[kind]
        begins, ends = start - timedelta(minutes=this.before), end + timedelta(minutes=this.after)
        if any(busy[0] < ends and begins < busy[1] for busy in self.elsewhere):
            return False
        seated = [each for each in others if each.kind == kind and each.start == start]
        if len(seated) >= this.seats:
            return False
        for each in others:
            buffers = self.kinds.get(each.kind, this)
            blocks = each.start - timedelta(minutes=buffers.before), each.end + timedelta(minutes=buffers.after)
            if blocks[0] < ends and begins < blocks[1] and each not in seated:
                return False
        return True

    def book(self, kind: str, start: datetime, email: str, **details: Any) -> str:
        """Make an appointment, as the service does. Raises Taken."""
        minutes = details.pop("minutes", None)
        if start not in self.free(kind, start, start + timedelta(seconds=1), details.get("moved_from"), minutes):
            raise Taken
        id = f"b{len(self.appointments) + 1}"
        end = start + timedelta(minutes=minutes or self.kinds[kind].minutes)
        shared = [e.event for e in self.appointments.values() if e.live and (e.kind, e.start) == (kind, start)]
        made = {
            "status": "pending" if self.kinds[kind].approval else "confirmed",
            "event": shared[0] if shared and self.kinds[kind].seats > 1 else id,
            "created": self.clock.now(),
        }
        self.appointments[id] = Appointment(kind, start, end, email, **made | details)
        return id

    def move(self, id: str, start: datetime) -> None:
        """Move an appointment that keeps its id. Raises Taken."""
        appointment = self.appointments[id]
        if start not in self.free(appointment.kind, start, start + timedelta(seconds=1), moving=id):
            raise Taken
        self.change(id, start=start, end=start + (appointment.end - appointment.start))

    def move_anew(self, id: str, start: datetime, **changes: Any) -> str:
        """Move an appointment as services do that make a new one of it. Raises Taken."""
        old = self.appointments[id]
        kept = ("name", "zone", "guests", "answers", "place", "notes", "marker")
        details = {name: getattr(old, name) for name in kept}
        new = self.book(old.kind, start, old.email, moved_from=id, **details | changes)
        self.change(id, status="cancelled", moved_to=new)
        return new

    def change(self, id: str, **changes: Any) -> None:
        self.appointments[id] = replace(self.appointments[id], **changes)


def _time(clock: str) -> timedelta:
    hours, _, minutes = clock.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))
