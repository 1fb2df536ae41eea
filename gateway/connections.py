"""uvicorn's server and connections, with what they lack: bounds for a client that is slow, and a stop in two steps."""

import asyncio
import signal
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.core import DRAIN
from gateway.requests import Front
from providers import Clock, SystemClock

HEADERS_BYTES = 32_768
"""How long a request line and headers may be together."""

KEEP_ALIVE = 75
"""How long a connection is kept between two requests, in seconds; longer than proxies keep theirs (60, mostly)."""

LAST = 5
"""How long a stop waits, when the calls are over, for what is still being sent, in seconds."""


class Connection(H11Protocol):
    """A connection that is given up when a request does not come, or its answer is not taken."""

    headers_within = 20.0
    """Seconds from the first byte of a request to its last header; or from connecting."""
    taken_within = 60.0
    """Seconds for a client that has stopped reading to read on."""

    _waits: asyncio.TimerHandle | None = None
    _stands: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a TCP server's is one
        super().connection_made(transport)
        self._waits = self.loop.call_later(self.headers_within, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._waits = _off(self._waits)
        elif self._waits is None:
            self._waits = self.loop.call_later(self.headers_within, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stands = self._stands or self.loop.call_later(self.taken_within, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stands = _off(self._stands)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waits, self._stands = _off(self._waits), _off(self._stands)
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Told to stop, it takes no new calls and says so, lets those under way end, and then stops listening."""

    def __init__(self, config: uvicorn.Config, front: Front, clock: Clock | None = None) -> None:
        super().__init__(config)
        self._front = front
        self._clock = clock or SystemClock()
        self._told = 0.0
        self.is_interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not uvicorn's, which ends the process by the same signal once more, before anything can be put away."""
        self.is_interrupted = self.is_interrupted or sig == signal.SIGINT
        if not self._front.is_draining:
            self._front.is_draining = True
            self._told = self._clock.now().timestamp()
        elif sig == signal.SIGINT:  # the second time
            self.force_exit = self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._front.is_draining:
            is_late = self._clock.now().timestamp() - self._told >= DRAIN
            self.should_exit = self.should_exit or is_late or not self._front.calls
        return await super().on_tick(counter)


def _off(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stop a timer, if it runs; then there is none."""
    if timer is not None:
        timer.cancel()
    return None
