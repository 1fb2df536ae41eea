"""The machine that test_machine.py runs: a gateway, the world, and everything that can go wrong between them.

Each guest wants one meeting. Two gateways on one database book, repeat, move and cancel for them, one call or two at a
time; the network fails, the processes die midway and are started again, guests act on the service's own pages, time
passes. After every step the world is compared with what the answers said.

Left out: requests that a service carries out after it was looked for in vain, a service that lists late, clocks that
differ, a database that fails while its process lives on, and moves of one booking at the same time (test_saga.py).
"""

import asyncio
import itertools
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx2
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core import Gateway
from gateway.journal import AGAIN, WAIT
from providers.storage.engine import StorageError
from providers.storage.tables import journal
from schemas import OutcomeUnknown, SchedulingError
from tests.emulators.wire import Altered, Lost
from tests.stages import CalcomStage, CalendlyStage, LocalStage, Stage
from tests.world import MONDAY, Appointment, Taken

T = TypeVar("T")

FRIDAY = MONDAY + timedelta(days=4)
SLOTS = [FRIDAY + timedelta(hours=9, minutes=15 * n) for n in range(9)]
"""Neighbours overlap: a meeting takes 30 minutes."""

LONGEST = timedelta(hours=12)
"""How much time passes at most: keys last for a day."""

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


class MachineLocal(LocalStage):
    settings = LocalStage.settings | {
        "event_types": [{**kind, "slot_step_minutes": 15} for kind in LocalStage.settings["event_types"]]
    }


class MachineCalendly(CalendlyStage):
    settings = CalendlyStage.settings | {"booking_limits": {"minute": 1000, "hour": 1000, "day": 1000}}


STAGES: dict[str, type[Stage]] = {"local": MachineLocal, "calcom": CalcomStage, "calendly": MachineCalendly}


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
WHICH = st.integers(0, 999)
"""One of however many there are: what is drawn must not depend on what happened."""


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


class Machine(RuleBasedStateMachine):
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
        self.markers: set[str] = set()
        self.deaths = 0
        self.passed = timedelta(0)
        self.touched: set[str] = set()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(step, 30))

    def count(self, what: str) -> None:
        counted = type(self).steps
        counted[what] = counted.get(what, 0) + 1

    # Rules

    @initialize(slot=st.sampled_from(SLOTS))
    def begin(self, slot: datetime) -> None:
        self.processes = [self.run(self._started()) for _ in range(2)]
        self.book(0, slot, False, False, Fate())

    async def _started(self) -> Process:
        return await Process(self.stage, self.weather, self.sent).open()

    @rule(at=st.integers(0, 1), slot=st.sampled_from(SLOTS), keyed=st.booleans(), twice=st.booleans(), fate=FATES)
    def book(self, at: int, slot: datetime, keyed: bool, twice: bool, fate: Fate) -> None:
        """A new guest; `twice`: the same request at once at both gateways."""
        email = f"guest{len(self.guests)}@example.com"
        guest = Guest(email, slot, f"key of {email}" if keyed else None)
        self.guests.append(guest)
        self.count("the same twice at once" if twice else "book")
        self._meets(at, fate)
        self.run(self._book(guest, [at, 1 - at] if twice else [at]))

    @rule(at=st.integers(0, 1), who=WHICH, fate=FATES)
    def book_again(self, at: int, who: int, fate: Fate) -> None:
        if (guest := _one(self.guests, who)) is None:
            return
        if guest.key is None and (guest.open or guest.stands not in (None, guest.start)):
            return  # then it may be another meeting that is asked for
        self.count("book again")
        self._meets(at, fate)
        self.run(self._book(guest, [at]))

    @rule(at=st.integers(0, 1), who=WHICH, which=WHICH, slot=st.sampled_from(SLOTS), keyed=st.booleans(), fate=FATES)
    def move(self, at: int, who: int, which: int, slot: datetime, keyed: bool, fate: Fate) -> None:
        if guest := _one([each for each in self.guests if each.ids], who):
            id = guest.ids[which % len(guest.ids)]
            self.count("move")
            self._meets(at, fate)
            self.run(self._move(guest, id, at, slot, f"{id} to {slot}" if keyed else None))

    @rule(at=st.integers(0, 1), who=WHICH, which=WHICH, fate=FATES)
    def cancel(self, at: int, who: int, which: int, fate: Fate) -> None:
        if guest := _one([each for each in self.guests if each.ids], who):
            self.count("cancel")
            self._meets(at, fate)
            self.run(self._cancel(guest, guest.ids[which % len(guest.ids)], at))

    @precondition(lambda self: self.provider != "local")
    @rule(who=WHICH, to=st.none() | st.sampled_from(SLOTS))
    def guest_acts(self, who: int, to: datetime | None) -> None:
        """On the service's own page: a guest calls it off, or moves it."""
        world, guest = self.stage.world, _one(self.guests, who)
        live = [id for id, each in world.appointments.items() if each.live and guest and each.email == guest.email]
        if guest is None or not live:
            return
        self.count("a guest's own change")
        if to is None:
            world.change(live[0], status="cancelled", reason="Something came up.")
        else:
            try:
                world.move_anew(live[0], to)
            except Taken:
                return
        if not guest.open:
            guest.closed(to)
        elif to is None:
            guest.may_be = guest.may_be | {len(live) - 1}

    @precondition(lambda self: self.provider != "local")
    @rule(slot=st.sampled_from(SLOTS))
    def somebody_books(self, slot: datetime) -> None:
        """On the service's own page."""
        if len(self.stage.world.appointments) < 2 * len(self.guests):
            self.count("somebody else books")
            with suppress(Taken):
                self.stage.world.book("intro", slot, f"zoe{len(self.stage.world.appointments)}@example.org")

    @rule(
        seconds=st.sampled_from([1, 61, WAIT + 1, 601, 3600, 7201]),
        then=st.sampled_from(["nothing", "sweep", "restart"]),
        at=st.integers(0, 1),
        fate=FATES,
    )
    def time_passes(self, seconds: float, then: str, at: int, fate: Fate) -> None:
        if self.passed + timedelta(seconds=seconds) <= LONGEST:
            self.count("time")
            self.passed += timedelta(seconds=seconds)
            self.stage.clock.advance(timedelta(seconds=seconds))
        if then == "sweep":
            self.count("sweep")
            self._meets(at, fate)
            self.run(self._sweep(at))
        elif then == "restart":
            self.count("restart")
            self.run(self._restart(at))

    @rule(at=st.integers(0, 1), who=WHICH, slot=st.sampled_from(SLOTS), fate=FATES)
    def move_and_again(self, at: int, who: int, slot: datetime, fate: Fate) -> None:
        """Where the first is lost, the second meets what it left."""
        self.move(at, who, 0, slot, True, fate)
        self.move(1 - at, who, 0, slot, True, Fate())

    # What they do

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

    # What must hold

    @invariant()
    def holds(self) -> None:
        if self.processes:
            self.count("steps")
            self.run(self._holds())

    async def _holds(self) -> None:
        live = await self._live()
        for one, other in itertools.pairwise(live):
            assert one.end <= other.start, f"two meet at once: {one}, {other}"
        markers = [each.marker for each in live if each.marker]
        assert len(markers) == len(set(markers)), "one intent has two meetings"
        is_settled = await self._journal_holds()
        for guest in self.guests:
            met = [each.start for each in live if each.email == guest.email]
            if guest.open and is_settled:
                assert len(met) in guest.may_be, f"{guest} is settled with {met}"
                guest.closed(met[0] if met else None)
            if guest.open:
                assert len(met) <= 1 + guest.may_pile_up, f"{guest} meets at {met}"
            else:
                assert met == ([] if guest.stands is None else [guest.stands]), f"{guest} meets at {met}"
        await self._ids_hold([each for each in self.guests if each.email in self.touched])
        self.touched.clear()
        assert self.stage.world.violations == []

    async def _journal_holds(self) -> bool:
        """Whether there is nothing in it that is not settled."""
        await self.stage.gateway.open()
        async with self.stage.gateway.storage.read() as connection:
            rows = (await connection.execute(select(journal))).all()
        now = {row.id: (row.tool, row.outcome) for row in rows}
        for id, (tool, outcome) in self.rows.items():
            assert id in now, f"the journal lost {tool}"
            assert outcome not in ("done", "failed") or now[id] == (tool, outcome), f"{tool} was {outcome}: {now[id]}"
        self.rows = now
        moves = [row for row in rows if row.tool == "reschedule_booking" and self.stage.adapter.rebooks]
        assert len(self.sent) <= len(rows) - len(moves), f"{len(self.sent)} writes, {len(rows)} rows: {self.sent}"
        of_ours = {each.marker for each in await self.stage.appointments() if each.marker}
        assert of_ours <= now.keys(), "a meeting of ours that the journal does not know"
        sent = [row for row in rows if row.outcome == "sent"]
        assert self.deaths or not sent, f"nobody died, and {[row.tool for row in sent]} is on its way"
        return all(row.outcome in ("done", "failed") for row in rows)

    async def _ids_hold(self, guests: Sequence[Guest]) -> None:
        """What was given out is found, and is the meeting there is."""
        for guest in guests:
            for id in guest.ids:
                found = await self.stage.gateway.bookings.get(id, None)
                if not guest.open:
                    said = found.start if found.status == "confirmed" else None
                    assert said == guest.stands, f"{id} is {found.status} at {found.start}: {guest}"
            for id in guest.past:
                await self.stage.gateway.bookings.get(id, None)

    def teardown(self) -> None:
        try:
            if self.processes:
                self.run(self._end())
        finally:
            self._loop.run_until_complete(self._close())
            self._loop.close()
            self._folder.cleanup()

    async def _end(self) -> None:
        """In calm weather everything is settled in the end."""
        self.weather.writes.clear()
        self.weather.reads.clear()
        for pause in (WAIT, *AGAIN):
            self.stage.clock.advance(timedelta(seconds=pause + 60))
            await self._sweep(0)
        open_rows = [each for each in self.rows.values() if each[1] not in ("done", "failed")]
        self.touched = {each.email for each in self.guests}
        is_settled = await self._journal_holds()
        await self._holds()
        # A move that can have neither time, because others were quicker, said so and stays open.
        stuck = [each for each in self.guests if each.open and not await self._met(each)]
        assert is_settled or (self.stage.adapter.rebooks and stuck), f"never settled: {open_rows}"

    async def _close(self) -> None:
        for process in self.processes:
            await process.close()
        await self.stage.gateway.close()


def _one(of: Sequence[T], which: int) -> T | None:
    return of[which % len(of)] if of else None


def _is_open(answer: object) -> bool:
    return answer is None or isinstance(answer, OutcomeUnknown)


def _named(answer: Any) -> list[str]:
    """The bookings that an error names."""
    details = getattr(answer, "details", None) or {}
    return [*details.get("booking_ids", ()), *([details["booking_id"]] if "booking_id" in details else [])]


def machine(provider: str) -> type[Machine]:
    return type(f"On{provider.title()}", (Machine,), {"provider": provider, "steps": {}})
