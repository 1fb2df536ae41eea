"""One small world of appointments. Each emulator speaks of it in its service's dialect; tests look at it directly.

World
├── kinds          what can be booked: intro (30 min), review (60 min, asks questions), approval (30 min, pending first)
├── hours          Monday to Friday 09:00-17:00 in Europe/Berlin; every kind starts on a grid of its own length
├── appointments   who meets when; the live ones block
├── requests       what reached the service, as (method, path)
└── failures       how the service misbehaves at the next requests
"""

from collections import deque
from collections.abc import Iterator
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


class Clock:
    """Time that passes only when told to, or when somebody waits."""

    def __init__(self, now: datetime = BEGIN) -> None:
        self._now = now.astimezone(UTC)
        self.waits: list[float] = []
        self.waited = anyio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.waited.set()
        self.advance(timedelta(seconds=seconds))

    def advance(self, by: timedelta) -> None:
        self._now += by


@dataclass(frozen=True)
class Kind:
    title: str
    minutes: int
    approval: bool = False
    questions: tuple[dict[str, Any], ...] = ()


KINDS = {
    "intro": Kind("Intro call", 30),
    "review": Kind(
        "Review",
        60,
        questions=(
            {"key": "company", "label": "Company", "type": "text", "required": True},
            {"key": "topic", "label": "Topic", "type": "choice", "options": ["Sales", "Support"]},
        ),
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
    guests: tuple[str, ...] = ()
    answers: dict[str, Any] = field(default_factory=dict)
    notes: str | None = None
    reason: str | None = None
    no_show: bool = False
    marker: str = ""

    @property
    def live(self) -> bool:
        return self.status in ("confirmed", "pending")


class Taken(Exception):
    """The time is not free."""


@dataclass
class World:
    clock: Clock
    appointments: dict[str, Appointment] = field(default_factory=dict)
    hours: dict[str, list[str]] = field(
        default_factory=lambda: {
            day: ["09:00-17:00"] for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
        }
    )
    overrides: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: deque[Any] = field(default_factory=deque)

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] != "GET"]

    def free(self, kind: str, start: datetime, end: datetime, moving: str | None = None) -> Iterator[datetime]:
        """The starts on offer from `start` up to `end`. Hours alone decide here, not the gateway's slot engine."""
        length = timedelta(minutes=KINDS[kind].minutes)
        taken = [each for id, each in self.appointments.items() if each.live and id != moving]
        day = start.astimezone(BERLIN).replace(hour=0, minute=0, second=0, microsecond=0)
        while day < end:
            at = day + timedelta(hours=9)
            while day.weekday() < 5 and at + length <= day + timedelta(hours=17):
                clear = not any(each.start < at + length and at < each.end for each in taken)
                if start <= at < end and at >= self.clock.now() and clear:
                    yield at
                at += length
            day += timedelta(days=1)

    def book(self, kind: str, start: datetime, email: str, **details: Any) -> str:
        """Make an appointment, as the service does. Raises Taken."""
        if start not in self.free(kind, start, start + timedelta(seconds=1)):
            raise Taken
        id = f"b{len(self.appointments) + 1}"
        end = start + timedelta(minutes=KINDS[kind].minutes)
        status = "pending" if KINDS[kind].approval else "confirmed"
        self.appointments[id] = Appointment(kind, start, end, email, **{"status": status, **details})
        return id

    def move(self, id: str, start: datetime) -> None:
        appointment = self.appointments[id]
        if start not in self.free(appointment.kind, start, start + timedelta(seconds=1), moving=id):
            raise Taken
        self.change(id, start=start, end=start + (appointment.end - appointment.start))

    def change(self, id: str, **changes: Any) -> None:
        self.appointments[id] = replace(self.appointments[id], **changes)
