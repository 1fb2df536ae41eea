"""What is tried at every point, and what must hold afterwards, whatever happened at it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

from gateway.core import Gateway
from gateway.journal import AGAIN, WAIT
from providers import Provider
from schemas import SchedulingError
from tests.stages import Stage
from tests.torture_process import Told
from tests.world import ELEVEN, KINDS, NINE, Appointment

NEAR = NINE + timedelta(minutes=30)
"""So near that a service whose buffers reach there has to cancel first."""
LATER = NINE + timedelta(hours=5)

KEY = "once-and-only-once"

SETTLED, ASKED_AGAIN = "settled first", "asked again at once"
CANCELLED, ELSEWHERE, BOOKED = "cancelled at once", "moved elsewhere at once", "booked at once where there is none"


class Scenario:
    """One write, asked for with a key or without. `echoed`: it reached the service twice, which refused the second."""

    name: ClassVar[str]
    at: ClassVar[datetime]
    """Where the booking is if the write happened."""
    refusal: ClassVar[str | None] = None
    """What it is answered if nothing goes wrong."""
    takes_key: ClassVar[bool] = True
    thens: ClassVar[tuple[str, ...]] = (SETTLED, ASKED_AGAIN)
    """What may be next after it was killed, or failed."""

    @classmethod
    def concerns(cls, adapter: type[Provider]) -> bool:
        return True

    def __init__(self, *, key: bool, echoed: bool) -> None:
        self.key = KEY if key else None
        self.echoed = echoed
        self.id = ""

    async def prepare(self, stage: Stage) -> None:
        self.id = await stage.book("intro", NINE)

    async def act(self, gateway: Gateway, stage: Stage) -> str | None:
        raise NotImplementedError

    async def wrong(self, gateway: Gateway, stage: Stage, told: Told | None) -> list[str]:
        """What must not be, of the bookings and of what was said; `told` if what was said first is the whole story."""
        raise NotImplementedError


class Create(Scenario):
    name = "create"
    at = NINE

    async def prepare(self, stage: Stage) -> None:
        """Nobody has booked."""

    async def act(self, gateway: Gateway, stage: Stage) -> str | None:
        return await _booked(gateway, stage, "ben@example.com", NINE, self.key)

    async def wrong(self, gateway: Gateway, stage: Stage, told: Told | None) -> list[str]:
        live, found = await _live(stage), []
        if len(live) > 1:
            found.append(f"{len(live)} live bookings")
        if told is not None:
            found += _contradicted(told, bool(live))
            found += await _misjournaled(gateway, "create_booking", bool(live))
        return found


class Cancel(Scenario):
    name = "cancel"
    at = NINE
    takes_key = False
    thens = (SETTLED, ASKED_AGAIN, ELSEWHERE)

    async def act(self, gateway: Gateway, stage: Stage) -> str | None:
        return (await gateway.bookings.cancel(self.id, "ill")).id

    async def wrong(self, gateway: Gateway, stage: Stage, told: Told | None) -> list[str]:
        live, found = await _live(stage), []
        if len(live) > 1:
            found.append(f"{len(live)} live bookings")
        if told is not None:
            found += _contradicted(told, not live)
            if not self.echoed:  # what was refused has failed, and was cancelled already
                found += await _misjournaled(gateway, "cancel_booking", not live)
        return found


class Far(Scenario):
    """A service that cannot move a booking books the new time first."""

    name = "move, far"
    at = ELEVEN
    thens = (SETTLED, ASKED_AGAIN, CANCELLED, ELSEWHERE, BOOKED)

    async def act(self, gateway: Gateway, stage: Stage) -> str | None:
        return (await gateway.moving.reschedule(self.id, self.at.isoformat(), "ill", self.key)).id

    async def wrong(self, gateway: Gateway, stage: Stage, told: Told | None) -> list[str]:
        live, found = [each.start for each in await _live(stage)], []
        if len(live) != 1:
            found.append(f"{len(live)} live bookings")
        elif live[0] not in (NINE, self.at):
            found.append(f"it is at {live[0]:%H:%M}")
        else:
            found += await _unlike(gateway, stage, self, live)
        if told is not None:
            found += _contradicted(told, self.at in live)
            found += await _misjournaled(gateway, "reschedule_booking", self.at in live)
        return found


class Near(Far):
    """A service that cannot move a booking has to cancel it first."""

    name = "move, near"
    at = NEAR

    async def prepare(self, stage: Stage) -> None:
        if stage.adapter.rebooks:
            stage.world.kinds["intro"] = replace(KINDS["intro"], after=15)
        await super().prepare(stage)


class Refused(Near):
    """The new time cannot be had, and the old one is cancelled by then."""

    name = "move, near, refused"
    refusal = "slot_taken"

    @classmethod
    def concerns(cls, adapter: type[Provider]) -> bool:
        return adapter.rebooks

    async def prepare(self, stage: Stage) -> None:
        await super().prepare(stage)
        behind = NEAR + timedelta(minutes=15)
        stage.world.elsewhere.append((behind, behind + timedelta(minutes=30)))


SCENARIOS: tuple[type[Scenario], ...] = (Create, Cancel, Far, Near, Refused)


async def settled(gateway: Gateway, stage: Stage) -> None:
    """Sweep until nothing is left to settle, or no later sweep would look again."""
    for pause in (WAIT, *AGAIN):
        stage.clock.advance(timedelta(seconds=pause + 1))
        await gateway.settling.sweep()
        if not await gateway.journal.open_of("acme"):
            return


async def restarted(stage: Stage, gateway: Gateway) -> None:
    """What a process does that begins where another one was killed."""
    stage.clock.advance(timedelta(seconds=WAIT + 1))
    await gateway.open()
    await gateway.settling.sweep()


async def wrong(
    stage: Stage, scenario: Scenario, told: Told, then: str, arrive: Callable[[], Awaitable[None]]
) -> list[str]:
    """What does not hold after a restart, in the words of a bug report. `told`: what the first call was answered."""
    gateway = stage.restarted()
    await gateway.open()
    latest, clock, sleep = stage.clock.now() + timedelta(seconds=WAIT - 1), stage.clock, stage.clock.sleep

    async def slept(seconds: float) -> None:
        await sleep(seconds)
        if clock.now() >= latest:
            await arrive()

    setattr(clock, "sleep", slept)  # noqa: B010 - who waits for the first call sees what arrives meanwhile
    try:
        answer = await _answered(_followed(gateway, stage, scenario, then))
        clock.advance(max(latest - clock.now(), timedelta()))
        await arrive()
        await settled(gateway, stage)
        found = [f"{row.tool} is {row.outcome} for good" for row in await gateway.journal.open_of("acme")]
        if then in (CANCELLED, ELSEWHERE) and answer.id is not None:
            found += await _unlike(gateway, stage, scenario, [] if then == CANCELLED else [LATER])
        else:
            found += await scenario.wrong(gateway, stage, told if then == SETTLED else None)
            if not found:
                found += await _wrong_again(gateway, stage, scenario)
        if found and then != SETTLED:
            found.append(f"the second call was answered {answer}")
        return found + [f"a request is refused: {each}" for each in stage.world.violations]
    finally:
        await gateway.close()


async def _followed(gateway: Gateway, stage: Stage, scenario: Scenario, then: str) -> str | None:
    """What is asked at once of a gateway that has settled nothing yet."""
    if then == ASKED_AGAIN:
        return await scenario.act(gateway, stage)
    if then == CANCELLED:
        cancelled = await gateway.bookings.cancel(scenario.id, "no more")
        return None if "not settled" in (cancelled.note or "") else cancelled.id
    if then == ELSEWHERE:
        return (await gateway.moving.reschedule(scenario.id, LATER.isoformat(), "no, later", None)).id
    if then == BOOKED and not await _live(stage):
        return await _booked(gateway, stage, "ana@example.com", scenario.at, None)
    return None


async def _wrong_again(gateway: Gateway, stage: Stage, scenario: Scenario) -> list[str]:
    """What does not hold when the same is asked once more."""
    before = await _live(stage)
    answer = await _answered(scenario.act(gateway, stage))
    found = [f"asked again: {each}" for each in await scenario.wrong(gateway, stage, None)]
    if answer.code != scenario.refusal:
        found.append(f"asked again, it answers {answer}")
    if isinstance(scenario, Create) and before and before != await _live(stage):
        found.append("asked again, it booked another one")
    return found + [f"{row.tool} is {row.outcome} then" for row in await gateway.journal.open_of("acme")]


async def _unlike(gateway: Gateway, stage: Stage, scenario: Scenario, starts: list[datetime]) -> list[str]:
    """How the bookings, and what the first id stands for, are other than these."""
    live = [each.start for each in await _live(stage)]
    if live != starts:
        return [f"there are bookings at {[f'{each:%H:%M}' for each in live]}"]
    shown = await gateway.bookings.get(scenario.id, None)
    if starts and (shown.status, shown.start) != ("confirmed", starts[0]):
        return [f"the first id stands for a {shown.status} one at {shown.start:%H:%M}"]
    return []


async def _booked(gateway: Gateway, stage: Stage, email: str, start: datetime, key: str | None) -> str:
    made = await gateway.bookings.create(
        stage.intro, start.isoformat(), "Ana", email, None, None, (), {}, None, None, key
    )
    return made.id


async def _answered(call: Awaitable[str | None]) -> Told:
    try:
        return Told(await call)
    except SchedulingError as error:
        return Told(None, error.code, error.message)


async def _live(stage: Stage) -> list[Appointment]:
    return [each for each in await stage.appointments() if each.live]


def _contradicted(told: Told, happened: bool) -> list[str]:
    if told.id is not None and not happened:
        return ["it was said to be done and is not"]
    if told.code not in (None, "outcome_unknown") and happened:
        return [f"it was said not to happen ({told.code}) and did"]
    return []


async def _misjournaled(gateway: Gateway, tool: str, happened: bool) -> list[str]:
    """The journal knows whether it happened, if it has it at all."""
    rows = [row for row in await gateway.journal.recent(50) if row.tool == tool and row.parent is None]
    said = any(row.outcome == "done" for row in rows)
    return [] if said == happened or not rows else [f"the journal has it as {[row.outcome for row in rows]}"]
