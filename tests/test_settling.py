"""Writes that nobody saw the end of are settled by whoever comes next: here the process dies at a chosen step."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.journal import WAIT
from gateway.server import build_server
from schemas import InvalidRequest, ProviderDown, SchedulingError
from tests.agent import Agent, connected
from tests.stages import STAGES, Stage
from tests.world import ELEVEN, NINE, TEN

pytestmark = pytest.mark.anyio

BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
LATER = timedelta(seconds=WAIT + 1)
NEAR = NINE + timedelta(minutes=30)
"""So near that a service whose buffers reach there has to cancel first."""

WRITES = ("create_booking", "cancel_booking", "reschedule_booking", "respond_to_booking")


@pytest.fixture(params=["local", "calcom", "calid", "calendly", "google_calendar", "calendly via mcp"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    stage = STAGES[request.param](request.param, tmp_path)
    yield stage
    await stage.gateway.close()


async def killed(stage: Stage, call: Callable[[Agent], Awaitable[Any]], *, writes: int, sent: bool) -> None:
    """Make a call in a process that dies at the `writes`-th write, before or after the service carried it out.

    From then on nothing that it does reaches the service or the database.
    """
    await stage.gateway.open()
    provider: Any = stage.gateway.accounts["acme"]
    journal: Any = stage.gateway.journal
    done, is_dead = 0, False

    def until_dead(holder: Any, name: str) -> None:
        method = getattr(holder, name)

        async def step(*arguments: Any, **named: Any) -> Any:
            nonlocal done, is_dead
            done += name in WRITES
            if not is_dead and name in WRITES and done == writes:
                if sent:
                    await method(*arguments, **named)
                is_dead = True
            if is_dead:
                raise ProviderDown("the process is gone")
            return await method(*arguments, **named)

        setattr(holder, name, step)

    for name in (*WRITES, "get_booking"):
        until_dead(provider, name)
    for name in ("_begin", "_settle", "renew"):
        until_dead(journal, name)
    async with connected(build_server(stage.gateway)) as agent:
        with pytest.raises(SchedulingError):
            await call(agent)
    assert is_dead
    stage.restarted()


async def settled(stage: Stage) -> list[tuple[str, str, str]]:
    """The journal after what is due was settled."""
    await stage.gateway.open()
    stage.clock.advance(LATER)
    await stage.gateway.settling.sweep()
    return await stage.journaled()


async def live(stage: Stage) -> list[Any]:
    return [each.start for each in await stage.appointments() if each.status == "confirmed"]


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
async def test_a_booking_is_done_or_not_and_the_journal_knows(stage: Stage, sent: bool) -> None:
    intro = stage.intro

    async def book(agent: Agent) -> Any:
        return await agent.create_booking(event_type_id=intro, start=NINE.isoformat(), **BEN)

    await killed(stage, book, writes=1, sent=sent)
    assert await live(stage) == ([NINE] if sent else [])
    assert await settled(stage) == [("create_booking", "acme", "done" if sent else "failed")]
    async with connected(build_server(stage.gateway)) as agent:
        await book(agent)  # the same request again makes no second one
    assert await live(stage) == [NINE]


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
async def test_a_cancellation_is_done_or_not_and_the_journal_knows(stage: Stage, sent: bool) -> None:
    id = await stage.book("intro", TEN)
    await killed(stage, lambda agent: agent.cancel_booking(booking_id=id, reason="ill"), writes=1, sent=sent)
    assert await settled(stage) == [("cancel_booking", "acme", "done" if sent else "failed")]
    assert await live(stage) == ([] if sent else [TEN])


@pytest.mark.parametrize("writes", [1, 2])
@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("to", [ELEVEN, NEAR], ids=["far", "near"])
async def test_a_move_is_finished_or_taken_back_and_nobody_is_stranded(
    stage: Stage, sent: bool, to: Any, writes: int
) -> None:
    id = await stage.book("intro", NINE)

    async def move(agent: Agent) -> Any:
        return await agent.reschedule_booking(booking_id=id, start=to.isoformat())

    await killed(stage, move, writes=writes if stage.adapter.rebooks else 1, sent=sent)
    assert {outcome for _, _, outcome in await settled(stage)} <= {"done", "failed"}
    [start] = await live(stage)
    assert start in (NINE, to)
    async with connected(build_server(stage.gateway)) as agent:
        found = await agent.get_booking(booking_id=id)
    assert (found["status"], datetime.fromisoformat(found["start"])) == ("confirmed", start)


async def test_what_cannot_be_told_is_looked_at_again_later(stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    await killed(stage, lambda agent: agent.cancel_booking(booking_id=id), writes=1, sent=True)
    await stage.gateway.open()
    provider: Any = stage.gateway.accounts["acme"]
    get = provider.get_booking

    async def down(*_: Any) -> Any:
        raise ProviderDown("not now")

    provider.get_booking = down
    assert await settled(stage) == [("cancel_booking", "acme", "unknown")]
    provider.get_booking = get
    await stage.gateway.settling.sweep()
    assert await stage.journaled() == [("cancel_booking", "acme", "unknown")]  # not due yet
    async with connected(build_server(stage.gateway)) as agent:
        with pytest.raises((InvalidRequest, ProviderDown), match=r"not settled.* Ask get_booking"):
            await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    stage.clock.advance(timedelta(hours=1))
    assert ("cancel_booking", "acme", "done") in await settled(stage)


async def test_what_another_process_may_still_be_sending_is_left_alone(stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    await killed(stage, lambda agent: agent.cancel_booking(booking_id=id), writes=1, sent=True)
    await stage.gateway.open()
    stage.clock.advance(timedelta(seconds=WAIT - 1))
    assert await stage.gateway.settling.sweep() == 0
    assert await stage.journaled() == [("cancel_booking", "acme", "sent")]
