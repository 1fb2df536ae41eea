"""The guests of test_machine.py and what they ask two gateways for: each answer is held against the world at once."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from schemas import OutcomeUnknown, SchedulingError
from tests.machine_process import FAULTS, GONE, Fate, Process, Weather
from tests.stages import CalcomStage, CalendlyStage, LocalStage, Stage
from tests.world import MONDAY, Appointment

T = TypeVar("T")

FRIDAY = MONDAY + timedelta(days=4)
SLOTS = [FRIDAY + timedelta(hours=9, minutes=15 * n) for n in range(9)]
"""Neighbours overlap: a meeting takes 30 minutes."""


class MachineLocal(LocalStage):
    settings = LocalStage.settings | {
        "event_types": [{**kind, "slot_step_minutes": 15} for kind in LocalStage.settings["event_types"]]
    }


class MachineCalendly(CalendlyStage):
    settings = CalendlyStage.settings | {"booking_limits": {"minute": 1000, "hour": 1000, "day": 1000}}


STAGES: dict[str, type[Stage]] = {"local": MachineLocal, "calcom": CalcomStage, "calendly": MachineCalendly}


@dataclass
class Guest:
    """Somebody who wants one meeting, and what the answers said of it so far."""

    email: str
    start: datetime
    key: str | None
    ids: list[str] = field(default_factory=list)
    past: list[str] = field(default_factory=list)
    """Ids of a meeting that was called off before they asked again."""
    stands: datetime | None = None
    """When they meet, if nothing is open; None: they do not."""
    open: bool = False
    """An answer was lost, and nobody has settled what came of it."""
    may_be: frozenset[int] = frozenset()
    """How many meetings there may be once it is settled."""
    may_pile_up: bool = False
    """Until then there may be two: a move that books anew got stuck between its steps."""

    def opened(self, *counts: int) -> None:
        certain = {int(self.stands is not None)} if not self.open else self.may_be
        self.may_be = frozenset({*certain, *counts})
        self.open = True

    def closed(self, stands: datetime | None) -> None:
        self.open, self.may_pile_up, self.stands = False, False, stands


class Guests(RuleBasedStateMachine):
    """The ground that the rules stand on (machine.py): two processes, one world, and each call that can be made."""

    provider: ClassVar[str]
    steps: ClassVar[dict[str, int]] = {}
    """How many of each kind were made in all."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="machine-")
        self.stage = STAGES[self.provider](self.provider, Path(self._folder.name))
        self.stage.world.overrides[f"{FRIDAY:%Y-%m-%d}"] = ["09:00-17:00", "09:15-17:00"]
        self.weather = Weather()
        self.sent: list[str] = []
        self.processes: list[Process] = []
        self.guests: list[Guest] = []
        self.rows: dict[str, tuple[str, str]] = {}
        self.deaths = 0
        self.passed = timedelta(0)
        self.touched: set[str] = set()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(step, 30))

    def count(self, what: str) -> None:
        counted = type(self).steps
        counted[what] = counted.get(what, 0) + 1

    async def _started(self) -> Process:
        return await Process(self.stage, self.weather, self.sent).open()

    def _meets(self, at: int, fate: Fate) -> None:
        """What befalls the call that is made next."""
        self.count("fault" if fate.writes or fate.reads or fate.silence else "no fault")
        self.weather.writes = deque(FAULTS[each] for each in fate.writes)
        self.weather.reads = deque([FAULTS[each] for each in fate.reads] + [GONE] * 80 * fate.silence)
        self.processes[at].dies(fate.dies, after=fate.after)

    async def _book(self, guest: Guest, at: Sequence[int]) -> None:
        before = await self._met(guest)
        if before == [] and not guest.open:  # what is made now is another one
            guest.past, guest.ids = guest.past + guest.ids, []

        async def ask(process: Process) -> Any:
            return await process.gateway.bookings.create(
                self.stage.intro, guest.start.isoformat(), "Ana", guest.email, None, None, (), {}, None, None, guest.key
            )

        answers = await asyncio.gather(*(self._asked(each, ask) for each in at))
        met = await self._met(guest)
        certain = not guest.open
        for answer in answers:
            if isinstance(answer, SchedulingError | None):
                continue
            self._told(guest, answer.id)
            if answer.status == "confirmed":
                assert answer.start in met, f"{guest} is told {answer.start} and meets at {met}"
            elif certain:
                assert met == [], f"{guest} is told {answer.status} and meets at {met}"
        ids = {each.id for each in answers if not isinstance(each, SchedulingError | None)}
        assert len(ids) <= 1, f"the same request twice made {ids}"
        if not ids and any(_is_open(each) for each in answers):
            guest.opened(0, 1)
        elif certain:
            if not ids:
                assert met == before, f"{guest}: {answers} though {before} became {met}"
            assert len(met) <= 1
            guest.closed(met[0] if met else None)

    async def _move(self, guest: Guest, id: str, at: int, slot: datetime, key: str | None) -> None:
        before, certain = await self._met(guest), not guest.open

        async def ask(process: Process) -> Any:
            return await process.gateway.moving.reschedule(id, slot.isoformat(), None, key)

        answer = await self._asked(at, ask)
        met = await self._met(guest)
        if _is_open(answer):
            guest.opened(*((1,) if certain and before else ()))
            guest.may_pile_up = self.stage.adapter.rebooks
            for each in _named(answer):
                self._told(guest, each)
        elif isinstance(answer, SchedulingError):
            for each in _named(answer):
                self._told(guest, each)
            assert not certain or met == before, f"{guest}: {answer!r} though {before} became {met}"
        elif answer is not None:
            self._told(guest, answer.id)
            if answer.status == "confirmed":
                assert answer.start in met, f"{guest} is told {answer.start} and meets at {met}"
                assert key is not None or answer.start == slot
            if certain:
                assert met == ([answer.start] if answer.status == "confirmed" else []), f"{guest}: {answer}, {met}"
                guest.closed(met[0] if met else None)

    async def _cancel(self, guest: Guest, id: str, at: int) -> None:
        before, certain = await self._met(guest), not guest.open

        async def ask(process: Process) -> Any:
            return await process.gateway.bookings.cancel(id, "It is off.")

        answer = await self._asked(at, ask)
        met = await self._met(guest)
        if _is_open(answer):
            guest.opened(0)
        elif isinstance(answer, SchedulingError):
            assert not certain or met == before, f"{guest}: {answer!r} though {before} became {met}"
        elif answer is not None:
            assert answer.status == "cancelled"
            if certain:
                assert met == [], f"{guest} is told it is cancelled and meets at {met}"
                guest.closed(None)
            elif "not settled" in (answer.note or ""):
                guest.may_be = guest.may_be | {0}
            else:
                guest.may_be = frozenset({0})

    async def _asked(self, at: int, ask: Callable[[Process], Awaitable[T]]) -> T | SchedulingError | None:
        """The answer or the error; None: the process died first, so there was neither."""
        process = self.processes[at]
        try:
            answer: T | SchedulingError = await ask(process)
        except SchedulingError as error:
            answer = error
        await asyncio.gather(*process.gateway._writes._running, return_exceptions=True)
        process.dies(None)
        if not process.is_dead:
            return answer
        self.deaths += 1
        self.count("death")
        await self._restart(at)
        return None

    async def _restart(self, at: int) -> None:
        await self.processes[at].close()
        self.processes[at] = await self._started()

    async def _sweep(self, at: int) -> None:
        async def ask(process: Process) -> int:
            return await process.gateway.settling.sweep()

        answer = await self._asked(at, ask)
        assert not isinstance(answer, SchedulingError), answer

    async def _met(self, guest: Guest) -> list[datetime]:
        return [each.start for each in await self._live() if each.email == guest.email]

    async def _live(self) -> list[Appointment]:
        return [each for each in await self.stage.appointments() if each.live]

    def _told(self, guest: Guest, id: str) -> None:
        if id not in guest.ids:
            guest.ids.append(id)
        self.touched.add(guest.email)


def _is_open(answer: object) -> bool:
    return answer is None or isinstance(answer, OutcomeUnknown)


def _named(answer: Any) -> list[str]:
    """The bookings that an error names."""
    details = getattr(answer, "details", None) or {}
    return [*details.get("booking_ids", ()), *([details["booking_id"]] if "booking_id" in details else [])]
