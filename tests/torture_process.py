"""A gateway in a process of its own that is killed for real, while the service that it calls lives on.

The process is forked from one that has everything imported. What it sends goes over a socket to the process it was
forked from, which carries it out on the World and answers; so what was sent before the kill has happened, and what
was not has not. A Point is a moment at which the process is about to leave something behind or just has: a
transaction of its database (just before it commits, and after), or a request (before, and after it was carried out).
"""

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import httpx2

from gateway.core import Gateway
from providers.storage import Storage
from schemas import SchedulingError
from tests.stages import Stage

LONGEST = 60
"""No process takes longer, in seconds; one that does hangs."""

BEFORE, AFTER, LATE = "killed before", "killed after", "killed, arrives late"
KILLS = (BEFORE, AFTER, LATE)
LOST, EATEN, SLOW = "answer lost", "request lost", "timed out, arrives later"
TWICE, ECHOED = "arrives twice", "arrives twice, the second answer comes back"
TROUBLE = (LOST, EATEN, SLOW, TWICE, ECHOED)
"""What may become of a request whose sender lives on."""

Act = Callable[[Gateway], Awaitable[str | None]]


class Point(NamedTuple):
    """`kind` is "transaction", "read" or "write", the latter two of the service's."""

    kind: str
    what: str


class Told(NamedTuple):
    """What the caller was answered: a booking's id, or an error."""

    id: str | None = None
    code: str | None = None
    message: str = ""


@dataclass
class Run:
    """What one process did before it ended: the points it came to, and what it answered, if it lived that long."""

    points: list[Point] = field(default_factory=list)
    told: Told | None = None
    killed: bool = False
    hung: bool = False
    late: list[Any] = field(default_factory=list)
    """Requests on their way, that reach the service only when `arrive` lets them."""


def run(stage: Stage, act: Act, faults: Mapping[int, str]) -> Run:
    """`act` in a process that meets these faults, each at the point with that number."""
    ours, theirs = socket.socketpair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork while there are threads: they wait for work
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            gc.disable()  # it would copy what is shared
            ours.close()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST)
            with theirs, theirs.makefile("rwb") as wire:
                asyncio.run(_live(stage, act, faults, wire))
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    theirs.close()
    done = Run()
    with ours, ours.makefile("rwb") as wire, asyncio.Runner() as runner:
        _serve(stage, wire, done, runner)
    _, status = os.waitpid(pid, 0)
    done.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    done.hung = not done.killed and done.told is None
    return done


async def arrive(stage: Stage, run: Run) -> None:
    """What was on its way reaches the service."""
    while run.late:
        await _carried_out(stage, run.late.pop(0))


# The service's side


def _serve(stage: Stage, wire: Any, done: Run, runner: asyncio.Runner) -> None:
    slow: list[Any] = []
    while True:
        try:
            kind, now, *rest = pickle.load(wire)  # noqa: S301 - from a process of ours
        except EOFError:
            break
        stage.clock.advance(max(now - stage.clock.now(), timedelta()))
        if kind == "point":
            done.points.append(rest[0])
        elif kind == "told":
            done.told = rest[0]
        else:
            how, request = rest
            reply, is_write = runner.run(_answer(stage, how, request, slow, done))
            done.points.append(Point("write" if is_write else "read", f"{request[0]} {httpx2.URL(request[1]).path}"))
            if how != LATE:
                pickle.dump(reply, wire)
                wire.flush()
    done.late += slow


async def _answer(stage: Stage, how: str | None, request: Any, slow: list[Any], done: Run) -> tuple[Any, bool]:
    before = len(stage.world.writes)
    reply: Any = None
    if how == LATE:
        done.late.append(request)
    elif how == SLOW:
        slow.append(request)
    elif how != EATEN:
        reply = await _carried_out(stage, request)
        if how in (TWICE, ECHOED):
            again = await _carried_out(stage, request)
            reply = again if how == ECHOED else reply
    if how is None and slow:  # it takes effect behind the gateway's back, after its first look
        await _carried_out(stage, slow.pop())
    return (None if how in (LOST, EATEN, SLOW) else reply), how is not None or len(stage.world.writes) > before


async def _carried_out(stage: Stage, request: Any) -> Any:
    method, url, headers, content = request
    asked = httpx2.Request(method, url, headers=headers, content=content)
    answer = await httpx2.ASGITransport(app=stage._app).handle_async_request(asked)
    return answer.status_code, answer.headers.raw, await answer.aread()


# The gateway's side


async def _live(stage: Stage, act: Act, faults: Mapping[int, str], wire: Any) -> None:
    points = _Points(stage, faults, wire)
    points.watch()
    gateway = Gateway(stage.config, clock=stage.clock, transport=_Transport(points))
    gateway.connecting.url = "https://gateway.example"
    try:
        told = Told(await act(gateway))
    except SchedulingError as error:
        told = Told(None, error.code, error.message)
    points.say("told", told)


class _Points:
    """Counts the points that this process comes to, and ends it at the chosen one."""

    def __init__(self, stage: Stage, faults: Mapping[int, str], wire: Any) -> None:
        self._clock = stage.clock
        self._faults = faults
        self._wire = wire
        self._seen = 0

    def next(self) -> str | None:
        """What befalls the point that comes now."""
        how = self._faults.get(self._seen)
        self._seen += 1
        return how

    def say(self, kind: str, *what: Any) -> None:
        pickle.dump((kind, self._clock.now(), *what), self._wire)
        self._wire.flush()

    def heard(self) -> Any:
        return pickle.load(self._wire)  # noqa: S301 - from a process of ours

    def watch(self) -> None:
        """Every transaction is a point."""
        write = Storage.write

        @contextlib.asynccontextmanager
        async def watched(storage: Storage, **named: Any) -> AsyncIterator[Any]:
            caller = _caller(sys._getframe())
            async with write(storage, **named) as connection:
                yield connection
                how = self.next()
                self.say("point", Point("transaction", caller))
                if how == BEFORE:
                    die()
            if how == AFTER:
                die()

        setattr(Storage, "write", watched)  # noqa: B010 - this process alone has it so


class _Transport(httpx2.AsyncBaseTransport):
    """The network: one request at a time, so that every run comes to the same points."""

    def __init__(self, points: _Points) -> None:
        self._points = points

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        how = self._points.next()
        if how == BEFORE:
            die()
        sent = (request.method, str(request.url), request.headers.raw, await request.aread())
        self._points.say("request", None if how == AFTER else how, sent)
        if how == LATE:
            die()
        reply = self._points.heard()
        if how == AFTER:
            die()
        if reply is None:
            raise httpx2.ReadTimeout("the answer never came")
        status, headers, content = reply
        return httpx2.Response(status, headers=headers, content=content, request=request)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _caller(frame: FrameType | None) -> str:
    """Who writes, as `journal._begin`."""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.parent.name in ("gateway", "local", "google_calendar"):
            return f"{file.stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "somebody"
