"""What the suite needs of each account it runs on: how to configure it, and how to look behind it.

A stage sets up the world as a service has it and tells, afterwards, what happened there, whatever the gateway said.
"""

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
from sqlalchemy import select

from gateway.config import Config, StorageConfig
from gateway.core import Gateway
from providers import PROVIDERS
from providers.local.store import Store
from providers.storage import Storage
from providers.storage.tables import bookings, journal
from schemas import Attendee, Booking
from tests.emulators import calcom, calendly, calid, toy
from tests.emulators.wire import TOKEN
from tests.toy import Nothing, Toy
from tests.world import BERLIN, KINDS, Appointment, Clock, World

ACCOUNT = "acme"


@cache
def _empty_database() -> Path:
    """A database at the newest schema: copying it is a hundred times quicker than migrating another one."""
    path = Path(tempfile.mkdtemp(prefix="scheduling-gateway-tests-")) / "empty.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)

    async def create() -> None:
        storage = Storage(f"sqlite:///{path}")
        await storage.open()
        await storage.close()

    with ThreadPoolExecutor(1) as elsewhere:  # this thread may be running a loop of its own
        elsewhere.submit(asyncio.run, create()).result()
    return path


class Stage:
    """One account, on a service that is emulated over HTTP. `quirks` are what its emulator can be told to do."""

    adapter: Any = Toy
    emulator: Any = toy
    settings: dict[str, Any] = {"base_url": "https://toy.example", "token": TOKEN}
    busy_path = "busy"
    """What the paths have in them by which busy times are asked for."""

    def __init__(self, provider: str, folder: Path, **quirks: Any) -> None:
        self.clock = Clock()
        self.world = World(self.clock)
        account = self.adapter.Config(provider=provider, **self.settings)
        self.config = Config(
            accounts={ACCOUNT: account}, storage=StorageConfig(url=f"sqlite:///{folder / 'gateway.db'}")
        )
        shutil.copy(_empty_database(), folder / "gateway.db")
        self._app = self.emulator.app(self.world, **quirks)
        self.gateway = self.restarted()

    def restarted(self) -> Gateway:
        """The gateway as a new process has it: the same file and database."""
        transport = httpx2.ASGITransport(app=self._app)
        self.gateway = Gateway(self.config, clock=self.clock, transport=transport)
        return self.gateway

    def event_type(self, kind: str) -> str:
        """The id of a kind as the gateway has it."""
        return f"{ACCOUNT}:{self.emulator.event_type_id(self.world, kind)}"

    @property
    def intro(self) -> str:
        return self.event_type("intro")

    @property
    def review(self) -> str:
        return self.event_type("review")

    @property
    def approval(self) -> str:
        return self.event_type("approval")

    async def book(self, kind: str, start: datetime, email: str = "ana@example.com", **details: Any) -> str:
        """An appointment made behind the gateway's back; its id as the gateway has it."""
        id = self.world.book(kind, start, email, **details)
        return f"{ACCOUNT}:{self.emulator.booking_id(self.world, id)}"

    async def appointments(self) -> list[Appointment]:
        return sorted(self.world.appointments.values(), key=lambda each: each.start)

    def sent(self) -> int:
        """How many requests reached the service."""
        return len(self.world.requests)

    async def journaled(self) -> list[tuple[str, str, str]]:
        """The journal: tool, account and outcome of each write."""
        await self.gateway.open()
        async with self.gateway.storage.read() as connection:
            rows = await connection.execute(select(journal).order_by(journal.c.created, journal.c.id))
            return [(row.tool, row.account, row.outcome) for row in rows]


class NothingStage(Stage):
    adapter = Nothing
    settings = {}

    async def book(self, kind: str, start: datetime, email: str = "ana@example.com", **details: Any) -> str:
        return f"{ACCOUNT}:none"


class LocalStage(Stage):
    """The embedded calendar has no wire: the stage writes and reads its rows."""

    adapter = PROVIDERS["local"]["api"]
    settings = {
        "time_zone": BERLIN.key,
        "event_types": [
            {
                "slug": id,
                "title": kind.title,
                "duration_minutes": kind.minutes,
                "requires_confirmation": kind.approval,
                "questions": kind.questions,
                "location": kind.places[0] if kind.places else None,
            }
            for id, kind in KINDS.items()
        ],
    }

    async def book(self, kind: str, start: datetime, email: str = "ana@example.com", **details: Any) -> str:
        await self.gateway.open()
        provider = self.gateway.accounts[ACCOUNT]
        own = (await provider.list_event_types())[list(KINDS).index(kind)]
        status = details.pop("status", "pending" if KINDS[kind].approval else "confirmed")
        name = details.pop("name", "Ana")
        booking = Booking(
            id=f"b{len(await self.appointments()) + 1}",
            event_type_id=own.id,
            title=f"{own.title} with {name}",
            status=status,
            start=start.astimezone(UTC),
            end=start.astimezone(UTC) + timedelta(minutes=KINDS[kind].minutes),
            attendees=(
                Attendee(name=name, email=email),
                *(Attendee(name=guest, email=guest) for guest in details.pop("guests", ())),
            ),
            marker=uuid4().hex,
            **details,
        )
        store = Store(self.gateway.storage, ACCOUNT)
        async with store.change() as (connection, _):
            await store.add(connection, booking, provider._in_file[kind])  # type: ignore[attr-defined]
        return f"{ACCOUNT}:{booking.id}"

    def event_type(self, kind: str) -> str:
        return f"{ACCOUNT}:{kind}"

    async def appointments(self) -> list[Appointment]:
        await self.gateway.open()
        async with self.gateway.storage.read() as connection:
            rows = await connection.execute(select(bookings).order_by(bookings.c.starts, bookings.c.id))
            return [_appointment(Booking.model_validate(row.data)) for row in rows]

    def sent(self) -> int:
        return 0


def _appointment(booking: Booking) -> Appointment:
    guest, *others = booking.attendees
    return Appointment(
        kind=booking.event_type_id or "",
        start=booking.start,
        end=booking.end,
        email=guest.email,
        name=guest.name,
        zone=guest.time_zone or "",
        status=booking.status,
        guests=tuple(each.email for each in others),
        answers=booking.answers,
        place=booking.location,
        notes=booking.notes,
        reason=booking.cancellation_reason,
        no_show=bool(guest.no_show),
        marker=booking.marker or "",
    )


class CalcomStage(Stage):
    adapter = PROVIDERS["calcom"]["api"]
    emulator = calcom
    settings = {"auth": {"type": "bearer", "token": TOKEN}}


class CalidStage(Stage):
    adapter = PROVIDERS["calid"]["api"]
    emulator = calid
    busy_path = "availability"
    settings = {"auth": {"type": "bearer", "token": TOKEN}}


class CalendlyStage(Stage):
    adapter = PROVIDERS["calendly"]["api"]
    emulator = calendly
    settings = {"auth": {"type": "bearer", "token": TOKEN}}


STAGES: dict[str, Callable[..., Stage]] = {
    "local": LocalStage,
    "calcom": CalcomStage,
    "calid": CalidStage,
    "calendly": CalendlyStage,
    "toy": Stage,
    "nothing": NothingStage,
}
"""Every registered provider has its stage here; `toy` and `nothing` exist for the tests alone."""
