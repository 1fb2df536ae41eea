"""The machine that test_machine.py runs: a gateway, the world, and everything that can go wrong between them.

Each guest wants one meeting. Two gateways on one database book, repeat, move and cancel for them, one call or two at a
time; the network fails, the processes die midway and are started again, guests act on the service's own pages, time
passes. After every step the world is compared with what the answers said.

Processes and weather are in machine_process.py; the calls, and what their answers must mean, in machine_guests.py.

Left out: requests that a service carries out after it was looked for in vain, a service that lists late, clocks that
differ, a database that fails while its process lives on, and moves of one booking at the same time (test_saga.py).
"""

import itertools
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from sqlalchemy import select

from gateway.journal import AGAIN, WAIT
from providers.storage.tables import journal
from tests.machine_guests import SLOTS, Guest, Guests
from tests.machine_process import FATES, Fate
from tests.world import Taken

T = TypeVar("T")

LONGEST = timedelta(hours=12)
"""How much time passes at most: keys last for a day."""
WHICH = st.integers(0, 999)
"""One of however many there are: what is drawn must not depend on what happened."""


class Machine(Guests):
    """What may be done next, and what must hold after it."""

    # Rules

    @initialize(slot=st.sampled_from(SLOTS))
    def begin(self, slot: datetime) -> None:
        self.processes = [self.run(self._started()) for _ in range(2)]
        self.book(0, slot, False, False, Fate())

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


def machine(provider: str) -> type[Machine]:
    return type(f"On{provider.title()}", (Machine,), {"provider": provider, "steps": {}})
