"""One account that the suite runs on: how it is configured, and how to look behind it."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import select

from gateway.config import Config
from gateway.core import Gateway
from providers.storage.tables import journal
from tests.emulators import toy
from tests.emulators.wire import TOKEN
from tests.postgres import databases
from tests.toy import Toy
from tests.world import KINDS, Appointment, Clock, World

ACCOUNT = "acme"


EVENT_TYPES = [
    {
        "slug": id,
        "title": kind.title,
        "duration_minutes": kind.minutes,
        "requires_confirmation": kind.approval,
        "questions": kind.questions,
        "location": kind.places[0] if kind.places else None,
    }
    for id, kind in KINDS.items()
]
"""The world's kinds, for accounts whose event types are in the gateway's file."""


class Stage:
    """One account, on a service that is emulated over HTTP. `quirks` are what its emulator can be told to do."""

    adapter: Any = Toy
    emulator: Any = toy
    settings: dict[str, Any] = {"base_url": "https://toy.example", "token": TOKEN}
    via = "api"
    busy_path = "busy"
    """What the paths have in them by which busy times are asked for."""
    quirks: Mapping[str, Any] = {}
    """What its emulator is always told to do."""
    writes_of: Mapping[str, int] = {}
    """How many requests a write takes that takes more than one."""
    keeps_event_types = True
    """Event types and slots are the service's own, not the gateway's."""
    keeps_no_shows = True
    """Whether a guest came is noted at the service, not by the gateway."""
    own_notes: Mapping[str, str] = {}
    """Caveats that are known of this account alone."""

    def __init__(self, provider: str, folder: Path, **quirks: Any) -> None:
        self.clock = Clock()
        self.world = World(self.clock)
        account = self.adapter.Config(provider=provider.partition(" ")[0], via=self.via, **self.settings)
        self.config = Config(accounts={ACCOUNT: account}, storage=databases.newest(folder))
        self._app = self.emulator.app(self.world, **self.quirks, **quirks)
        self.gateway = self.restarted()

    def restarted(self) -> Gateway:
        """The gateway as a new process has it: the same file and database."""
        transport = httpx2.ASGITransport(app=self._app)
        self.gateway = Gateway(self.config, clock=self.clock, transport=transport)
        self.gateway.connecting.url = "https://gateway.example"
        return self.gateway

    def event_type(self, kind: str) -> str:
        """The id of a kind as the gateway has it."""
        return f"{ACCOUNT}:{self.emulator.event_type_id(self.world, kind)}"

    @property
    def changeable(self) -> dict[str, str]:
        """What to ask for to list a schedule that can be changed."""
        return {}

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
