"""The audit: who did what with which account, and what came of it, in lines that cannot be changed unseen.

Each process writes a chain of its own (`audit_lines`). A line tells that something has happened, so it changes nothing
if it cannot be written: that is logged, with what the line would have said, and `failing` until one is written again.
"""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, Unpack

import anyio

from gateway import audited
from gateway.audit_lines import STARTED, STOPPED, ZEROS, Head, Line, Said, instant, sealed, version_after
from gateway.callers import LOCAL, caller, calling, parted
from gateway.writes import Writes
from schemas import OutcomeUnknown, SchedulingError

if TYPE_CHECKING:
    from gateway.audit_places import Place
    from gateway.core import Gateway
    from providers.storage import Storage

T = TypeVar("T")
log = logging.getLogger(__name__)

CHAIN = timedelta(days=1)
"""How old a chain may get; the next one is begun then, so that old ones can be removed whole."""

SAID = timedelta(hours=1)
"""How often the log has the head."""

GATHERED = 0.1
"""For how long lines of who only looks are gathered, to be written together, in seconds."""

LONGEST = 200
"""Characters of a reference or a caller's name."""

CANCELLED = "cancelled"
"""The outcome of a call whose caller went away before anything was sent."""

_REQUEST = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class Details(TypedDict, total=False):
    """What a line may say besides the tool; `account` is the name that the account's rows are kept under."""

    account: str | None
    outcome: str
    reference: str | None
    milliseconds: int
    request: str | None


class Told(NamedTuple):
    """What an answer says: how the call went, and of which thing; `account` counts where nothing was asked for yet."""

    outcome: str = "ok"
    id: str | None = None
    account: str | None = None


def of_answer(answer: Any) -> Told:
    """What a model that the gateway answers with says."""
    return Told(id=getattr(answer, "id", None))


class Audit:
    def __init__(self, gateway: "Gateway", writes: Writes) -> None:
        self._gateway = gateway
        self._writes = writes
        self._turn = anyio.Lock()
        self._waiting: list[Said] = []
        self._place: Place | None = None
        self._begun: datetime | None = None
        self._before: Head | None = None
        """Where the chain before this one ended."""
        self._said: datetime | None = None
        self._is_unsure = False
        self.head: Head | None = None
        """The last line of this process."""
        self.failing = False
        """The last line could not be written."""

    def keeps(self, *, is_read: bool) -> bool:
        """Whether there is to be a line of such a call."""
        config = self._gateway.config.audit
        return config.to != "none" and (not is_read or config.calls == "all")

    async def call(
        self,
        tool: str,
        work: Callable[[], Awaitable[T]],
        told: Callable[[T], Told] = of_answer,
        *,
        is_read: bool = False,
        request: str | None = None,
    ) -> T:
        """Do it, and write down what came of it: before that is answered, or, if `is_read`, in a moment, for who only
        looks shall not wait for the disk.

        If the caller goes away, what is being written is finished and then written down; what was not begun is not.
        """
        if not self.keeps(is_read=is_read):
            return await work()
        call = audited.Call()

        async def done() -> T:
            begun, ended = time.perf_counter(), Told(OutcomeUnknown.code)
            try:
                with audited.going_on(call):
                    answer = await work()
                ended = told(answer)
                return answer
            except SchedulingError as error:
                ended = Told(error.code, account=error.account)
                raise
            except asyncio.CancelledError:
                ended = Told(CANCELLED)
                raise
            finally:
                call.goes_on = True
                said = self._line(
                    tool,
                    account=call.account or self._known(ended.account),
                    outcome=ended.outcome,
                    reference=_reference(call, ended, is_read=is_read),
                    milliseconds=round((time.perf_counter() - begun) * 1000),
                    request=request,
                )
                if is_read:
                    self._write_soon(said)
                else:
                    await self._write(said)

        if is_read:
            return await done()
        task = self._writes.start(done())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not call.goes_on:
                task.cancel()
            raise

    async def record(self, tool: str, **said: Unpack[Details]) -> None:
        """Write a line of something that has happened. Nothing of outsiders may be in it."""
        if self.keeps(is_read=False):
            await self._writes.finish(self._write(self._line(tool, **said)))

    async def start(self) -> None:
        """Begin a chain before anything has happened, as a server does."""
        if self.keeps(is_read=False) and self.head is None:
            await self._writes.finish(self._write_waiting(begins=True))

    async def stop(self) -> None:
        """Say that the process was told to stop, and end its chain."""
        if self.head is not None:
            await self._write(self._line(STOPPED))
            self.say_head()
            self._before, self.head, self._said = self.head, None, None

    def say_head(self) -> None:
        """For the log, which is kept elsewhere."""
        if self.head is not None:
            self._said = self._gateway.clock.now()
            log.info("audit head %s", self.head)

    def say_head_hourly(self) -> None:
        if self._said is not None and self._gateway.clock.now() - self._said >= SAID:
            self.say_head()

    def _known(self, account: str | None) -> str | None:
        return account if account is not None and parted(account)[0] in self._gateway.config.accounts else None

    def _line(self, tool: str, **said: Unpack[Details]) -> Said:
        reference, request = said.get("reference"), said.get("request")
        return {
            "at": instant(self._gateway.clock.now()),
            "caller": caller().name[:LONGEST],
            "tool": tool,
            "account": said.get("account"),
            "outcome": said.get("outcome", "ok"),
            "reference": reference and reference[:LONGEST],
            "milliseconds": said.get("milliseconds", 0),
            "request": request if request and _REQUEST.fullmatch(request) else None,
        }

    async def _write(self, said: Said) -> None:
        self._waiting.append(said)
        await self._write_waiting()

    def _write_soon(self, said: Said) -> None:
        """Write it with whatever else comes within a moment."""
        self._waiting.append(said)
        if len(self._waiting) == 1:  # else somebody is about to write
            self._writes.start(self._write_gathered())

    async def _write_gathered(self) -> None:
        await self._gateway.clock.sleep(GATHERED)
        await self._write_waiting()

    async def _write_waiting(self, *, begins: bool = False) -> None:
        """Write whatever waits for its turn, in one go; if it `begins` a chain, also if nothing does."""
        async with self._turn:
            batch, self._waiting = self._waiting, []
            if not batch and not begins:
                return  # who was before us took it along
            try:
                await self._append(batch)
            except Exception:
                self.failing = self._is_unsure = True
                lost = json.dumps(batch, sort_keys=True)
                log.exception("the audit cannot be written. These lines may be nowhere else: %s", lost)
            else:
                self.failing = False

    async def _append(self, batch: Sequence[Said]) -> None:
        place = self._place = self._place or self._chosen()
        if self._is_unsure and self.head is not None:  # part of what failed may have arrived
            self.head = await place.head(self.head.chain) or self.head._replace(number=0, hash=ZEROS)
            self._is_unsure = False
        now = self._gateway.clock.now()
        if self.head is None or self._begun is None or now - self._begun >= CHAIN:
            self._before, self.head, self._begun = self.head or self._before, Head(secrets.token_hex(16), 0, ZEROS), now
        if self.head.number == 0:
            with calling(LOCAL):
                started = self._line(STARTED, reference=version_after(version("scheduling-gateway"), self._before))
            batch = [{**started, "at": batch[0]["at"]} if batch else started, *batch]
        lines: list[Line] = []
        for said in batch:
            lines.append(sealed(said, lines[-1].head if lines else self.head))
        await place.write(lines)
        self.head = lines[-1].head
        if self._said is None:
            self.say_head()

    def _chosen(self) -> "Place":
        from gateway.audit_places import Database, File

        to = self._gateway.config.audit.to
        return Database(self._storage) if to == "database" else File(Path(to))

    async def _storage(self) -> "Storage":
        await self._gateway.open()
        return self._gateway.storage


def _reference(call: audited.Call, ended: Told, *, is_read: bool) -> str | None:
    """The thing a call was about, as its service knows it."""
    if ended.id is not None:
        return ended.id.partition(":")[2]
    if ended.outcome == "ok":  # then whatever was asked for is there
        return next(iter(call.asked)) if len(call.asked) == 1 and not is_read else None
    return call.shown
