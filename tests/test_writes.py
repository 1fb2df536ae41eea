"""A write is journaled before and after, finished though nobody waits for it, and made once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from gateway.core import Gateway
from gateway.journal import WAIT
from gateway.server import build_server
from providers.storage.tables import bookings, journal
from schemas import Booking, BookingRequest, OutcomeUnknown, ProviderDown, SlotTaken
from tests.agent import Agent, connected
from tests.emulators.wire import Lost
from tests.postgres import refuse_writes
from tests.stages import ACCOUNT, LocalStage, Stage
from tests.world import NINE, TEN

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("database")]

BOOKING = {
    "event_type_id": f"{ACCOUNT}:intro",
    "start": TEN.isoformat(),
    "attendee_name": "Ben",
    "attendee_email": "ben@example.com",
}


@pytest.fixture
async def toy(tmp_path: Path) -> AsyncIterator[Stage]:
    """An account behind a network."""
    stage = Stage("toy", tmp_path)
    yield stage
    await stage.gateway.close()


@pytest.fixture
async def toy_agent(toy: Stage) -> AsyncIterator[Agent]:
    async with connected(build_server(toy.gateway)) as agent:
        yield agent


class Slow:
    """Holds a provider's `create_booking` until told to go on."""

    def __init__(self, gateway: Gateway) -> None:
        provider = gateway.accounts[ACCOUNT]
        self._create = provider.create_booking
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        provider.create_booking = self.create_booking  # type: ignore[method-assign]  # in its place

    async def create_booking(self, request: BookingRequest) -> Booking:
        self.begun.set()
        await self.go.wait()
        return await self._create(request)


async def test_a_write_is_in_the_journal_before_it_is_sent(local: LocalStage, local_agent: Agent) -> None:
    await local_agent.list_accounts()
    slow = Slow(local.gateway)
    call = asyncio.create_task(local_agent.create_booking(**BOOKING))
    await slow.begun.wait()
    assert await local.journaled() == [("create_booking", ACCOUNT, "sent")]
    slow.go.set()
    await call
    assert await local.journaled() == [("create_booking", ACCOUNT, "done")]


async def test_a_client_that_hangs_up_does_not_stop_a_write(local: LocalStage) -> None:
    await local.gateway.open()
    slow = Slow(local.gateway)
    call = asyncio.create_task(
        local.gateway.bookings.create(
            BOOKING["event_type_id"], BOOKING["start"], "Ben", "ben@example.com", None, None, [], {}, None, None, None
        )
    )
    await slow.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    closing = asyncio.create_task(local.gateway.close())  # a stop waits for it too
    slow.go.set()
    await closing
    assert len(await local.appointments()) == 1
    assert await local.journaled() == [("create_booking", ACCOUNT, "done")]


async def test_the_journal_keeps_nobodys_words(local: LocalStage, local_agent: Agent) -> None:
    await local_agent.create_booking(**BOOKING, notes="Private matter", idempotency_key="key-of-ben")
    async with local.gateway.storage.read() as connection:
        [row] = (await connection.execute(select(journal))).all()
    text = str(row)
    for word in ("Ben", "ben@example.com", "Private", "key-of-ben"):
        assert word not in text
    assert (row.caller, row.account, row.tool, row.outcome) == ("local", ACCOUNT, "create_booking", "done")
    assert row.reference == (await local_agent.list_bookings())["bookings"][0]["id"].partition(":")[2]


async def test_a_lost_answer_is_looked_up_and_not_sent_again(toy: Stage, toy_agent: Agent) -> None:
    await toy_agent.list_event_types()
    toy.world.failures.extend([None, None, Lost()])  # who am I, what is booked, and the booking itself
    booked = await toy_agent.create_booking(**BOOKING)
    assert await toy_agent.create_booking(**BOOKING) == booked
    assert len(toy.world.writes) == 1
    assert [each.email for each in await toy.appointments()] == ["ben@example.com"]
    assert await toy.journaled() == [("create_booking", ACCOUNT, "done")]


@pytest.mark.parametrize("tool", ["create_booking", "list_bookings"])
async def test_a_bug_in_an_adapter_leaves_a_write_unknown(local: LocalStage, local_agent: Agent, tool: str) -> None:
    """Whether it is met on the way there, or on the look for what came of it."""
    await local_agent.list_accounts()

    def broken(_: object) -> Any:
        raise KeyError("start")

    provider = local.gateway.accounts[ACCOUNT]
    for name in ("create_booking", tool):
        setattr(provider, name, broken)
    with pytest.raises(OutcomeUnknown if tool == "list_bookings" else ProviderDown):
        await local_agent.create_booking(**BOOKING)
    outcome = "unknown" if tool == "list_bookings" else "failed"
    assert await local.journaled() == [("create_booking", ACCOUNT, outcome)]


async def test_a_write_that_cannot_be_journaled_is_not_sent(toy: Stage, toy_agent: Agent) -> None:
    await toy_agent.list_accounts()
    await refuse_writes(toy.gateway.storage)
    with pytest.raises(ProviderDown):
        await toy_agent.create_booking(**BOOKING)
    assert not toy.world.writes


async def test_a_booking_is_told_though_the_journal_fails_afterwards(
    toy: Stage, toy_agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    await toy_agent.list_accounts()
    provider = toy.gateway.accounts[ACCOUNT]
    create = provider.create_booking

    async def then_the_disk_is_full(request: BookingRequest) -> Booking:
        booked = await create(request)
        await refuse_writes(toy.gateway.storage)
        return booked

    provider.create_booking = then_the_disk_is_full  # type: ignore[method-assign]  # in its place
    assert (await toy_agent.create_booking(**BOOKING))["status"] == "confirmed"
    assert "could not be journaled" in caplog.text


async def test_a_twin_waits_and_is_answered_with_the_first(local: LocalStage, local_agent: Agent) -> None:
    await local_agent.list_accounts()
    slow = Slow(local.gateway)
    first = asyncio.create_task(local_agent.create_booking(**BOOKING))
    await slow.begun.wait()
    second = asyncio.create_task(local_agent.create_booking(**BOOKING))
    await local.clock.waited.wait()
    slow.go.set()
    assert await second == await first
    assert len(await local.appointments()) == 1


async def test_a_twin_of_a_write_that_never_ended_looks_what_came_of_it(local: LocalStage, local_agent: Agent) -> None:
    """Its process was killed: the row says sent, and nobody will ever say more."""
    booked = await local_agent.create_booking(**BOOKING)
    async with local.gateway.storage.write() as connection:
        await connection.execute(update(journal).values(outcome="sent", reference=None))
    assert await local_agent.create_booking(**BOOKING) == booked
    assert sum(local.clock.waits) >= WAIT
    assert len(await local.appointments()) == 1
    assert await local.journaled() == [("create_booking", ACCOUNT, "done")]


async def test_a_twin_of_a_write_that_never_arrived_is_sent(local: LocalStage, local_agent: Agent) -> None:
    await local_agent.create_booking(**BOOKING)
    async with local.gateway.storage.write() as connection:
        await connection.execute(update(journal).values(outcome="sent", reference=None))
        await connection.execute(delete(bookings))
    assert (await local_agent.create_booking(**BOOKING))["status"] == "confirmed"
    assert len(await local.appointments()) == 1


async def test_a_twin_of_a_write_that_failed_is_sent(local: LocalStage, local_agent: Agent) -> None:
    other = await local.book("intro", TEN)
    with pytest.raises(SlotTaken):
        await local_agent.create_booking(**BOOKING)
    await local_agent.reschedule_booking(booking_id=other, start=NINE.isoformat())
    assert (await local_agent.create_booking(**BOOKING))["status"] == "confirmed"


async def test_every_tool_that_writes_is_journaled(local: LocalStage, local_agent: Agent) -> None:
    made: dict[str, Any] = await local_agent.save_event_type(title="Deep dive", duration_minutes=30)
    booked = await local_agent.create_booking(**BOOKING | {"event_type_id": f"{ACCOUNT}:approval"})
    await local_agent.respond_to_booking(booking_id=booked["id"], response="confirm")
    await local_agent.reschedule_booking(booking_id=booked["id"], start=NINE.isoformat())
    await local_agent.cancel_booking(booking_id=booked["id"])
    await local_agent.update_schedule(schedule_id=f"{ACCOUNT}:working-hours", weekly_hours={"friday": []})
    await local_agent.delete_event_type(event_type_id=made["id"])
    assert sorted(await local.journaled()) == sorted(
        (tool, ACCOUNT, "done")
        for tool in (
            "save_event_type",
            "create_booking",
            "respond_to_booking",
            "reschedule_booking",
            "cancel_booking",
            "update_schedule",
            "delete_event_type",
        )
    )


async def test_a_write_that_was_given_up_for_lost_is_not_sent_after_all(local: LocalStage, local_agent: Agent) -> None:
    """It takes so long before it is sent that its twin in another process looks, finds nothing, and is sent instead."""
    await local_agent.list_accounts()
    other = Gateway(local.config, clock=local.clock)
    provider = local.gateway.accounts[ACCOUNT]
    real = provider.get_event_type
    twins: list[Any] = []

    async def slow(event_type_id: str) -> Any:
        if not twins:
            twins.append(None)
            local.clock.advance(timedelta(seconds=WAIT + 1))
            async with connected(build_server(other)) as agent:
                twins[0] = await agent.create_booking(**BOOKING)
        return await real(event_type_id)

    provider.get_event_type = slow  # type: ignore[method-assign]  # in its place
    with pytest.raises(ProviderDown):
        await local_agent.create_booking(**BOOKING)
    assert twins[0]["status"] == "confirmed"
    assert len(await local.appointments()) == 1


async def test_a_claim_that_was_never_settled_outlives_its_time(toy: Stage, toy_agent: Agent) -> None:
    """Ten minutes later nobody knows any better whether the first was booked: it is looked for, not sent again."""
    await toy_agent.list_event_types()
    booked = await toy_agent.create_booking(**BOOKING)
    async with toy.gateway.storage.write() as connection:
        await connection.execute(update(journal).values(outcome="unknown", reference=None))
    toy.clock.advance(timedelta(minutes=11))
    with pytest.raises(SlotTaken):  # found, and too old to be this request's answer
        await toy_agent.create_booking(**BOOKING)
    assert await toy.journaled() == [("create_booking", ACCOUNT, "done"), ("create_booking", ACCOUNT, "failed")]
    assert (await toy_agent.get_booking(booking_id=booked["id"]))["status"] == "confirmed"
