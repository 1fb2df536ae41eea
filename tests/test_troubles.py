"""Troubles that come together: two changes of one booking, a lost answer while others act, a process that sleeps, a
look that fails too. Answers are lost, and processes stopped, at the very place where it hurts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.answers import MovedAnswer
from gateway.core import Gateway
from gateway.journal import AGAIN, WAIT
from gateway.writes import Writes
from schemas import (
    BookingQuery,
    BookingRequest,
    InvalidRequest,
    NotConnected,
    OutcomeUnknown,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
)
from tests.stages import STAGES, Stage
from tests.world import ELEVEN, KINDS, NINE

pytestmark = pytest.mark.anyio

NEAR, LATER = NINE + timedelta(minutes=30), NINE + timedelta(hours=5)
WAITING = timedelta(seconds=WAIT + 1)


@pytest.fixture
async def staged(tmp_path: Path) -> AsyncIterator[Callable[[str], Stage]]:
    """An account at a service; what is left of its processes is given back at the end."""
    gateways: list[Gateway] = []

    def make(account: str) -> Stage:
        stage = STAGES[account](account, tmp_path)
        again = stage.restarted

        def restarted() -> Gateway:
            gateways.append(again())
            return gateways[-1]

        stage.restarted = restarted  # type: ignore[method-assign]  # in its place
        gateways.append(stage.gateway)
        return stage

    yield make
    for gateway in gateways:
        gateway._writes = Writes()  # those of a dead process are not waited for
        await gateway.close()


@pytest.fixture
async def stage(staged: Callable[[str], Stage]) -> Stage:
    """A service that has to be booked anew, where near is too near to book before the old booking is cancelled."""
    stage = staged("calendly")
    stage.world.kinds["intro"] = replace(KINDS["intro"], after=15)
    await stage.gateway.open()
    return stage


def provider_of(gateway: Gateway) -> Any:
    return gateway.accounts["acme"]


async def move(gateway: Gateway, id: str, at: datetime) -> MovedAnswer:
    return await gateway.moving.reschedule(id, at.isoformat(), None, None)


async def book(gateway: Gateway, stage: Stage, at: datetime, key: str | None = None) -> Any:
    who: tuple[Any, ...] = ("Ana", "ana@example.com", None, None, (), {}, None, None, key)
    return await gateway.bookings.create(stage.intro, at.isoformat(), *who)


async def live(stage: Stage) -> list[datetime]:
    return [each.start for each in await stage.appointments() if each.live]


async def settled(stage: Stage) -> None:
    """All that a new process settles in the course of hours."""
    await stage.gateway.open()
    for pause in (WAIT, *AGAIN):
        stage.clock.advance(timedelta(seconds=pause + 1))
        await stage.gateway.settling.sweep()


async def until(event: asyncio.Event, task: "asyncio.Task[Any]") -> None:
    """Wait for a place in a call; a call that ends before it has failed."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    assert event.is_set(), task


def stops_after(holder: Any, name: str) -> asyncio.Event:
    """From now on that method does what it does, and never comes back: the process dies there."""
    method, died = getattr(holder, name), asyncio.Event()

    async def dying(*arguments: Any) -> Any:
        await method(*arguments)
        died.set()
        await asyncio.Event().wait()

    setattr(holder, name, dying)
    return died


def loses(holder: Any, name: str, *, happens: bool, meanwhile: Callable[[], Any] = lambda: None) -> None:
    """The next answer is lost, and `meanwhile` happens; with `happens`, what was asked too."""
    method = getattr(holder, name)

    async def lost(*arguments: Any) -> Any:
        setattr(holder, name, method)
        if happens:
            await method(*arguments)
        meanwhile()
        raise OutcomeUnknown("the service did not answer", account="acme")

    setattr(holder, name, lost)


def sleeps_at_booking(gateway: Gateway) -> tuple[asyncio.Event, asyncio.Event]:
    """The next request to book is lost with the process asleep in it; set once it sleeps, and what wakes it."""
    provider = provider_of(gateway)
    create, sent, wakes = provider.create_booking, asyncio.Event(), asyncio.Event()

    async def lost(_: BookingRequest) -> Any:
        provider.create_booking = create
        sent.set()
        await wakes.wait()
        raise OutcomeUnknown("the service did not answer", account="acme")

    provider.create_booking = lost
    return sent, wakes


def fails(holder: Any, name: str, error: SchedulingError) -> Callable[[], None]:
    """From now on that method fails; what mends it."""
    method = getattr(holder, name)

    async def failing(*_: Any) -> Any:
        raise error

    setattr(holder, name, failing)
    return lambda: setattr(holder, name, method)


def loses_sight(gateway: Gateway, *, happens: bool) -> Callable[[], None]:
    """The next cancellation loses its answer, and from then on no booking can be looked at; what mends it."""
    provider = provider_of(gateway)
    mend: list[Callable[[], None]] = []
    down = ProviderDown("down")
    loses(
        provider,
        "cancel_booking",
        happens=happens,
        meanwhile=lambda: mend.append(fails(provider, "get_booking", down)),
    )
    return lambda: mend[0]()


async def test_of_two_moves_at_once_the_second_begins_where_the_first_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await stage.book("intro", NINE)
    one, other = stage.gateway, stage.restarted()
    await other.open()
    # The test's clock goes on as soon as anybody sleeps: who waits would make the other one late.
    monkeypatch.setattr(stage.clock, "sleep", lambda _: asyncio.sleep(0))
    moved = await asyncio.gather(move(one, id, ELEVEN), move(other, id, LATER))
    assert {each.start for each in moved} == {ELEVEN, LATER}
    (stands,) = await live(stage)
    assert (await other.bookings.get(id, None)).start == stands


async def test_where_a_service_takes_what_comes_last_a_move_waits_for_a_cancellation(
    staged: Callable[[str], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the booking would be called moved, and be cancelled by what was asked for before that."""
    stage = staged("google_calendar via mcp")
    await stage.gateway.open()
    id = await stage.book("intro", NINE)
    provider = provider_of(stage.gateway)
    cancel, begun, arrives, waits = provider.cancel_booking, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(*arguments: Any) -> Any:
        begun.set()
        await arrives.wait()
        return await cancel(*arguments)

    async def sleep(_: float) -> None:
        waits.set()
        await asyncio.sleep(0)

    provider.cancel_booking = late
    cancelling = asyncio.create_task(stage.gateway.bookings.cancel(id, "no more"))
    await until(begun, cancelling)
    other = stage.restarted()
    await other.open()
    monkeypatch.setattr(stage.clock, "sleep", sleep)
    moving = asyncio.create_task(move(other, id, LATER))
    await until(waits, moving)
    arrives.set()
    assert (await cancelling).status == "cancelled"
    with pytest.raises(InvalidRequest, match="cancelled"):
        await moving
    assert await live(stage) == []


async def test_a_move_does_not_begin_while_another_one_is_not_settled(stage: Stage) -> None:
    """The first got lost at its cancellation and could not look; a second one would undo it, and it the second."""
    id = await stage.book("intro", NINE)
    mend = loses_sight(stage.gateway, happens=False)
    with pytest.raises(OutcomeUnknown, match="get_booking"):
        await move(stage.gateway, id, NEAR)
    mend()
    with pytest.raises(ProviderDown, match="not settled") as caught:
        await move(stage.gateway, id, NEAR)
    assert caught.value.retry_after == 60
    await settled(stage)
    assert await live(stage) == [NINE]
    assert (await move(stage.gateway, id, NEAR)).start == NEAR


async def test_what_the_guest_cancelled_while_the_moves_own_answer_was_lost_stays_cancelled(stage: Stage) -> None:
    id = await stage.book("intro", NINE)

    def guest_cancels() -> None:
        for own, each in stage.world.appointments.items():
            if each.start == NINE:
                stage.world.appointments[own] = replace(each, status="cancelled", reason="I am ill")

    loses(provider_of(stage.gateway), "cancel_booking", happens=False, meanwhile=guest_cancels)
    with pytest.raises(SchedulingError, match="somebody else"):
        await move(stage.gateway, id, LATER)
    await settled(stage)
    assert await live(stage) == []


async def test_a_move_that_waited_too_long_for_its_turn_is_given_up_before_it_books(stage: Stage) -> None:
    id = await stage.book("intro", NINE)
    gateway = stage.gateway
    begun = asyncio.Event()
    room = gateway.bookings.room

    def reached(*arguments: Any, **named: Any) -> Any:
        begun.set()
        return room(*arguments, **named)

    gateway.bookings.room = reached  # type: ignore[method-assign]  # in its place
    async with room(provider_of(gateway), 1):
        waiting = asyncio.create_task(move(gateway, id, LATER))
        await until(begun, waiting)
        other = stage.restarted()
        await other.open()
        stage.clock.advance(WAITING)
        await other.settling.sweep()
    with pytest.raises(ProviderDown, match="too long"):
        await waiting
    assert await live(stage) == [NINE]
    assert (await gateway.bookings.get(id, None)).start == NINE


async def test_a_process_that_slept_goes_on_with_its_own_move(stage: Stage) -> None:
    id = await stage.book("intro", NINE)
    gateway = stage.gateway
    sent, wakes = sleeps_at_booking(gateway)
    moving = asyncio.create_task(move(gateway, id, NEAR))
    await until(sent, moving)
    stage.clock.advance(timedelta(minutes=5))
    await gateway.settling.sweep()
    wakes.set()
    assert (await moving).start == NEAR
    assert await live(stage) == [NEAR]


async def test_who_slept_while_another_process_went_on_stops_and_says_so(stage: Stage) -> None:
    id = await stage.book("intro", NINE)
    gateway = stage.gateway
    sent, wakes = sleeps_at_booking(gateway)
    moving = asyncio.create_task(move(gateway, id, NEAR))
    await until(sent, moving)
    await settled_by_another(stage)
    wakes.set()
    with pytest.raises(OutcomeUnknown, match="get_booking"):
        await moving
    await settled(stage)
    assert await live(stage) == [NEAR]
    assert (await stage.gateway.bookings.get(id, None)).start == NEAR
    assert {row.outcome for row in await stage.gateway.journal.recent(9) if row.parent is None} == {"done"}


async def settled_by_another(stage: Stage) -> None:
    stage.restarted()
    await settled(stage)


async def test_what_the_guest_was_given_meanwhile_is_not_booked_twice(stage: Stage) -> None:
    """A near move lost its cancellation's answer; against the advice, another time is booked before it goes on."""
    id = await stage.book("intro", NINE)
    gateway = stage.gateway
    mend = loses_sight(gateway, happens=True)
    with pytest.raises(OutcomeUnknown, match="book nothing else before"):
        await move(gateway, id, NEAR)
    mend()
    await book(gateway, stage, LATER)
    await settled(stage)
    assert await live(stage) == [LATER]
    assert (await gateway.bookings.get(id, None)).start == LATER


async def test_a_move_is_finished_when_its_account_works_again_however_late(stage: Stage) -> None:
    id = await stage.book("intro", NINE + timedelta(days=7))
    died = stops_after(provider_of(stage.gateway), "cancel_booking")
    moving = asyncio.create_task(move(stage.gateway, id, NEAR + timedelta(days=7)))
    await until(died, moving)
    gateway = stage.restarted()
    await gateway.open()
    mend = fails(provider_of(gateway), "get_booking", NotConnected("the sign-in has ended", account="acme"))
    await settled(stage)
    for _ in range(20):
        stage.clock.advance(timedelta(hours=1))
        await gateway.settling.sweep()
    assert await live(stage) == []
    mend()
    stage.clock.advance(timedelta(seconds=AGAIN[0]))
    await gateway.settling.again(provider_of(gateway))
    assert await live(stage) == [NEAR + timedelta(days=7)]
    moving.cancel()


@pytest.mark.parametrize("account", ["calendly", "calcom", "calid"])
async def test_a_request_that_arrives_after_it_was_given_up_is_the_next_tries_answer(
    account: str, staged: Callable[[str], Stage]
) -> None:
    stage = staged(account)
    gateway = stage.gateway
    await gateway.open()
    provider = provider_of(gateway)
    create, late = provider.create_booking, []

    async def lost(request: BookingRequest) -> Any:
        provider.create_booking = create
        late.append(request)
        raise OutcomeUnknown("the service did not answer", account="acme")

    provider.create_booking = lost
    with pytest.raises(ProviderDown, match="did not happen"):
        await book(gateway, stage, LATER, "a-key")
    await create(late[0])
    assert (await book(gateway, stage, LATER, "a-key")).start == LATER
    assert await live(stage) == [LATER]


async def test_a_refusal_that_could_not_be_looked_into_is_unknown_and_then_settled(stage: Stage) -> None:
    """A request arrived twice, so that the second was refused for what the first had made; and the look failed."""
    gateway = stage.gateway
    provider = provider_of(gateway)
    create, listed = provider.create_booking, provider.list_bookings

    async def twice(request: BookingRequest) -> Any:
        await create(request)
        raise SlotTaken("already_filled", account="acme")

    async def limited(query: BookingQuery) -> AsyncIterator[Any]:
        async for each in listed(query):
            if each:
                raise RateLimited("429", account="acme")
            yield each

    provider.create_booking, provider.list_bookings = twice, limited
    with pytest.raises(OutcomeUnknown):
        await book(gateway, stage, LATER)
    provider.list_bookings = listed
    await settled(stage)
    assert [row.outcome for row in await gateway.journal.recent(9)] == ["done"]
    assert await live(stage) == [LATER]


@pytest.mark.parametrize("change", ["cancelled", "moved"])
async def test_a_seat_that_its_service_forgets_is_settled_as_it_would_have_been_told(
    change: str, staged: Callable[[str], Stage]
) -> None:
    stage = staged("calcom")
    stage.world.kinds["intro"] = replace(KINDS["intro"], seats=3)
    await stage.book("intro", NINE)
    await stage.book("intro", NINE, "ben@example.com")
    await stage.gateway.open()
    provider = provider_of(stage.gateway)
    query = BookingQuery(starts_before=NINE + timedelta(hours=1), ends_after=NINE)
    seat = f"acme:{(await anext(provider.list_bookings(query))).id}"
    died = stops_after(provider, "cancel_booking" if change == "cancelled" else "reschedule_booking")
    call: Awaitable[Any] = (
        stage.gateway.bookings.cancel(seat, "ill") if change == "cancelled" else move(stage.gateway, seat, ELEVEN)
    )
    calling = asyncio.ensure_future(call)
    await until(died, calling)
    gateway = stage.restarted()
    await settled(stage)
    assert [row.outcome for row in await gateway.journal.recent(9)] == ["done"]
    if change == "moved":
        assert (await gateway.bookings.get(seat, None)).start == ELEVEN
    calling.cancel()
