"""Writes that a caller cannot stop halfway: they are finished and journaled, also when nobody waits for the answer."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway import audited

T = TypeVar("T")
log = logging.getLogger(__name__)


class Writes:
    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self, write: Coroutine[Any, Any, T]) -> T:
        """The result of `write`, which runs to its end even if this call is cancelled."""
        audited.writing()
        return await asyncio.shield(self.start(write))

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that a stop waits for."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def drain(self, deadline: float) -> None:
        """Wait for what is under way, `deadline` seconds at most."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=deadline)
            if late:
                log.error("stopped with %d writes unanswered; the journal has them as sent", len(late))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The caller, if still there, gets it too; where not, this is the only trace.
            log.debug("a write failed: %s", type(error).__name__)
