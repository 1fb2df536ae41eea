"""A gateway whose process dies, and the weather between it and the service: what test_machine.py lets go wrong."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from hypothesis import strategies as st
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core import Gateway
from providers.storage.engine import StorageError
from tests.emulators.wire import Altered, Lost
from tests.stages import Stage

DEAF, GONE, LOST = httpx2.ReadTimeout("it never arrived"), httpx2.ConnectError("refused"), Lost()
UNREADABLE = Altered(lambda _: {"nonsense": True})
BROKEN, OVERLOADED = JSONResponse({"error": "broken"}, 500), JSONResponse({"error": "busy"}, 503)
TOO_MUCH = JSONResponse({"error": "slow down"}, 429)
FAULTS: dict[str, Any] = {
    "fine": None,
    "gone": GONE,
    "deaf": DEAF,
    "lost": LOST,
    "unreadable": UNREADABLE,
    "500": BROKEN,
    "503": OVERLOADED,
    "429": TOO_MUCH,
}


@dataclass
class Weather:
    """What becomes of the next requests that write, and of those that read."""

    writes: deque[Any] = field(default_factory=deque)
    reads: deque[Any] = field(default_factory=deque)


@dataclass(frozen=True)
class Fate:
    """What befalls a call: faults of the next requests, and, if `dies`, the process at its so-manieth write."""

    dies: int | None = None
    after: bool = False
    writes: Sequence[str] = ()
    reads: Sequence[str] = ()
    silence: bool = False
    """No read is answered any more, either."""


FAULT = st.sampled_from(list(FAULTS))
DEATHS = st.builds(Fate, dies=st.integers(1, 14), after=st.booleans())
STORMS = st.builds(Fate, writes=st.lists(FAULT, max_size=4), reads=st.lists(FAULT, max_size=5), silence=st.booleans())
FATES = st.one_of(st.just(Fate()), st.just(Fate()), DEATHS, STORMS)


class Process:
    """A gateway with doors to the database and to the service, which shut for good when it dies."""

    def __init__(self, stage: Stage, weather: Weather, sent: list[str]) -> None:
        self._stage, self._weather, self._sent = stage, weather, sent
        self.gateway = Gateway(stage.config, clock=stage.clock, transport=httpx2.ASGITransport(app=self._door))
        self.gateway.connecting.url = "https://gateway.example"
        self.is_dead = False
        self._left: int | None = None
        self._after = False

    async def open(self) -> "Process":
        await self.gateway.open()
        storage: Any = self.gateway.storage
        self._read, self._write = storage.read, storage.write
        storage.read, storage.write = self._reading, self._writing
        return self

    async def close(self) -> None:
        storage: Any = self.gateway.storage
        storage.read, storage.write = self._read, self._write
        await self.gateway.close()

    def dies(self, at: int | None, *, after: bool = False) -> None:
        """At the `at`-th write, to the database or to the service: before it or after it."""
        self._left, self._after = at, after

    def _before(self) -> None:
        if self._left is not None:
            self._left -= 1
            self.is_dead |= self._left == 0 and not self._after

    def _behind(self) -> None:
        self.is_dead |= self._left == 0

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        if self.is_dead:
            raise StorageError("the process is dead")
        async with self._read() as connection:
            yield connection

    @asynccontextmanager
    async def _writing(self, **named: Any) -> AsyncIterator[Any]:
        if not self.is_dead:
            self._before()
        if self.is_dead:
            raise StorageError("the process is dead")
        async with self._write(**named) as connection:
            yield connection
        self._behind()
        if self.is_dead:
            raise StorageError("the process is dead")

    async def _door(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_write = scope["method"] != "GET"
        if not self.is_dead and is_write:
            self._before()
        if self.is_dead:
            raise GONE
        faults = self._weather.writes if is_write else self._weather.reads
        self._stage.world.failures.append(faults.popleft() if faults else None)
        if is_write:
            self._sent.append(f"{scope['method']} {scope['path']}")
        app: ASGIApp = self._stage._app
        await app(scope, receive, send)
        if is_write:
            self._behind()
        if self.is_dead:
            raise DEAF
