"""Two callers move one booking, and a third or the guest cancels it: every order in which their steps can meet, by a
model and then by the gateway on Calendly's emulator, where a gate lets one named request through at a time.

Replayed is each order in which the service is written to; `make torture` replays more (tests/torture_saga.py).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete
from starlette.types import Receive, Scope, Send

from gateway.core import Gateway
from gateway.intents import Intent
from providers.storage.tables import journal, moves
from schemas import InvalidRequest, OutcomeUnknown, SchedulingError, SlotTaken
from tests import saga
from tests.saga import Run, Service
from tests.stages import ACCOUNT, CalendlyStage
from tests.world import BEGIN, MONDAY, World

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

TEN = 600
MEETINGS: dict[str, tuple[int, int]] = {
    "both far": (660, 720),
    "one near, one far": (615, 660),
    "near and far, in each other's way": (615, 630),
    "both near": (615, 585),
    "both far, to one time": (660, 660),
    "both near, to one time": (615, 615),
    "both far, in each other's way": (660, 645),
}
"""To which minute of the day the two move a booking that is at ten."""

STEPS = {
    r"GET /scheduled_events/\w+/invitees/.+": "read",
    r"POST /invitees": "book",
    r"POST /scheduled_events/\w+/cancellation": "cancel",
}
"""The requests that the model knows. The others decide nothing and pass."""


THIRDS: dict[str, list[Callable[[Service], saga.Caller]]] = {
    "nobody": [],
    "a caller": [saga.cancel],
    "the guest": [saga.guest],
}
"""Who cancels meanwhile."""


def callers(meeting: str, third: str) -> list[Callable[[Service], saga.Caller]]:
    one, other = MEETINGS[meeting]
    return [partial(saga.move, to=one), partial(saga.move, to=other), *THIRDS[third]]


def orders_of_writes(meeting: str, third: str, *, thorough: bool = False) -> list[Run]:
    """One run of each order in which the service is written to; `thorough`: of each with each end that it may have."""
    runs = saga.explore(callers(meeting, third), TEN, lambda run: (run.key, run.writes))
    over = (run for run in runs if not run.waiting)
    return list({(run.writes, run.key if thorough else None): run for run in over}.values())


# The model


@pytest.mark.parametrize("third", THIRDS)
@pytest.mark.parametrize("meeting", MEETINGS)
def test_the_model_ends_with_what_its_answers_say(meeting: str, third: str) -> None:
    states = list(saga.explore(callers(meeting, third), TEN, lambda run: run.key))
    for run in states:
        assert run.ready or not run.waiting, f"nobody can go on: {run}"
    ends = [run for run in states if not run.waiting]
    for run in ends:
        said = list(run.answers.values())
        assert len(run.live) <= 1, run
        assert bool(run.live) != bool({"cancelled", "cancelled by the guest", "was", "stranded"} & {*said}), run
        if run.live:
            assert run.service.lives(run.service.newest(0)), run
            told = [to for who, to in enumerate(MEETINGS[meeting]) if run.answers[who] == "moved"] or [TEN]
            assert run.live[0] in told, run
    assert "moved" in {answer for run in ends for answer in run.answers.values()}


# The gateway

CALLER: ContextVar[int | None] = ContextVar("caller", default=None)


class Gate:
    """Whoever takes a step waits here until let through."""

    def __init__(self) -> None:
        self._arrivals = [asyncio.Queue[str | None]() for _ in range(3)]
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._open = False

    async def step(self, name: str) -> None:
        if (who := CALLER.get()) is not None and not self._open:
            assert who not in self._waiting, "two steps at once"
            self._waiting[who] = asyncio.get_running_loop().create_future()
            self._arrivals[who].put_nowait(name)
            await self._waiting[who]

    def ends(self, who: int) -> None:
        self._arrivals[who].put_nowait(None)

    def open(self) -> None:
        """Nobody waits any more."""
        self._open = True
        for each in self._waiting.values():
            each.cancel()

    async def arrival(self, who: int) -> str | None:
        """The step that this caller takes next; None: it has its answer."""
        return await asyncio.wait_for(self._arrivals[who].get(), 10)

    def let_through(self, who: int) -> None:
        self._waiting.pop(who).set_result(None)


class Theatre:
    """Three gateways on one database, and a service that is made anew for each run."""

    def __init__(self, folder: Path) -> None:
        self.stage = CalendlyStage("calendly", folder)
        transport = httpx2.ASGITransport(app=self._gated)
        self.gateways = [Gateway(self.stage.config, clock=self.stage.clock, transport=transport) for _ in range(3)]

    async def _gated(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = f"{scope['method']} {scope['path']}"
        for pattern, name in STEPS.items():
            if re.fullmatch(pattern, line):
                await self.gate.step(name)
        await self.app(scope, receive, send)

    async def open(self) -> None:
        for gateway in self.gateways:
            gateway.connecting.url = "https://gateway.example"
            await gateway.open()
            self._gates(gateway)

    def _gates(self, gateway: Any) -> None:
        begin, add, is_changing = gateway.journal._begin, gateway.moves.add, gateway.settling._is_changing

        async def journal_it(intent: Intent) -> Any:
            if intent.changes is not None:
                await self.gate.step("journal")
            return await begin(intent)

        async def name(*arguments: Any) -> None:
            await self.gate.step("name")
            await add(*arguments)

        async def wait(*arguments: Any) -> bool:
            if changing := bool(await is_changing(*arguments)):
                await self.gate.step("wait")
            return changing

        gateway.journal._begin, gateway.moves.add, gateway.settling._is_changing = journal_it, name, wait

    async def close(self) -> None:
        for gateway in self.gateways:
            await gateway.close()

    async def play(self, meeting: str, third: str, run: Run) -> None:
        """The run, as the gateway does it. Fails where it differs."""
        self.gate = Gate()
        self.stage.clock._now = BEGIN
        self.world = World(self.stage.clock)
        self.world.overrides[f"{MONDAY:%Y-%m-%d}"] = ["09:00-17:00", "09:15-17:00"]
        self.app = self.stage.emulator.app(self.world)
        made = self.world.book("intro", _at(TEN), "ana@example.com")
        self.id = f"{ACCOUNT}:{self.stage.emulator.booking_id(self.world, made)}"
        async with self.gateways[0].storage.write() as connection:
            await connection.execute(delete(journal))
            await connection.execute(delete(moves))
        acts: list[Callable[[Gateway], Awaitable[str]]] = [partial(self._move, to=to) for to in MEETINGS[meeting]]
        acts += [self._cancel] if third == "a caller" else [self._guest] if third == "the guest" else []
        tasks = [asyncio.create_task(self._act(who, act)) for who, act in enumerate(acts)]
        said = str(run.trace)
        next_of = {who: await self.gate.arrival(who) for who in range(len(acts))}
        for who, step in run.trace:
            assert next_of[who] == step, f"{who} goes to {next_of[who]}, not to {step}: {said}"
            self.gate.let_through(who)
            next_of[who] = await self.gate.arrival(who)
        assert next_of == dict.fromkeys(range(len(acts))), f"{next_of} go on after {said}"
        answers = await asyncio.gather(*tasks)
        found = [(each.start, each.live) for each in self.world.appointments.values()]
        assert dict(enumerate(answers)) == run.answers, said
        assert found == [(_at(each.start), each.live) for each in run.service.meetings], said
        newest = run.service.meetings[run.service.newest(0)]
        by_id = await self.gateways[0].bookings.get(self.id, None)
        assert (by_id.start, by_id.status == "confirmed") == (_at(newest.start), newest.live), said
        assert {row.outcome for row in await self.gateways[0].journal.recent(99)} <= {"done", "failed"}, said
        assert self.world.violations == []

    async def _act(self, who: int, act: Callable[[Gateway], Awaitable[str]]) -> str:
        CALLER.set(who)
        try:
            return await act(self.gateways[who])
        except InvalidRequest:
            return "refused"
        except SlotTaken as error:
            return "restored" if error.details else "taken"
        except OutcomeUnknown:
            return "stranded"
        except SchedulingError as error:
            return repr(error)
        finally:
            self.gate.ends(who)

    async def _move(self, gateway: Gateway, to: int) -> str:
        moved = await gateway.moving.reschedule(self.id, _at(to).isoformat(), None, None)
        assert moved.start == _at(to)
        return "moved"

    async def _cancel(self, gateway: Gateway) -> str:
        cancelled = await gateway.bookings.cancel(self.id, None)
        assert cancelled.status == "cancelled"
        if cancelled.note is None:
            return "cancelled"
        return "was, and is moving" if "not settled" in cancelled.note else "was"

    async def _guest(self, _: Gateway) -> str:
        await self.gate.step("guest")
        first, was = next(iter(self.world.appointments.items()))
        if not was.live:
            return "too late"
        self.world.appointments[first] = replace(was, status="cancelled", reason="I am ill")
        return "cancelled by the guest"


def _at(minute: int) -> Any:
    return MONDAY.replace(hour=minute // 60, minute=minute % 60)


@pytest.fixture
async def theatre(tmp_path: Path) -> AsyncIterator[Theatre]:
    theatre = Theatre(tmp_path)
    await theatre.open()
    yield theatre
    theatre.gate.open()
    await theatre.close()


REPLAYED = [
    *((meeting, third) for meeting in MEETINGS for third in ("nobody", "the guest")),
    *((meeting, "a caller") for meeting in ("one near, one far", "both far", "both near, to one time")),
]
"""`make torture` replays the others too."""


@pytest.mark.parametrize(("meeting", "third"), REPLAYED)
async def test_the_gateway_does_as_the_model(theatre: Theatre, meeting: str, third: str) -> None:
    for run in orders_of_writes(meeting, third):
        await theatre.play(meeting, third, run)
