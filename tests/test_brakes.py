"""Loop brakes: how many bookings the gateway makes before it asks whether they are meant."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.config import BrakesConfig, ConfigError, parse_config
from gateway.policy import PerSpan
from gateway.server import build_server
from schemas import PolicyDenied, SlotTaken
from tests.agent import Agent, connected
from tests.stages import STAGES, LocalStage
from tests.world import NINE

pytestmark = pytest.mark.anyio

BRAKES = BrakesConfig(account=PerSpan(hour=3, day=5), attendee=PerSpan(hour=2, day=3))
HALF_HOUR, HOUR = timedelta(minutes=30), timedelta(hours=1)


@pytest.fixture
async def agent(local: LocalStage) -> AsyncIterator[Agent]:
    local.config = local.config.model_copy(update={"brakes": BRAKES})
    local.restarted()
    async with connected(build_server(local.gateway)) as agent:
        yield agent


async def book(agent: Agent, local: LocalStage, number: int, email: str | None = None, **more: str) -> str:
    start = (NINE + number * HALF_HOUR).isoformat()
    email = email or f"guest{number}@example.com"
    guest = {"attendee_name": "Guest", "attendee_email": email}
    booked = await agent.create_booking(event_type_id=local.intro, start=start, **guest, **more)
    return str(booked["id"])


async def test_an_account_takes_so_many_bookings_an_hour_and_then_a_day(agent: Agent, local: LocalStage) -> None:
    for number in range(3):
        await book(agent, local, number)
    with pytest.raises(PolicyDenied, match="3 bookings in this account in an hour") as caught:
        await book(agent, local, 3)
    assert (caught.value.account, caught.value.retry_after) == ("acme", 3600)
    local.clock.advance(HOUR)
    for number in (3, 4):
        await book(agent, local, number)
    with pytest.raises(PolicyDenied, match="in a day"):
        await book(agent, local, 5)
    assert len(await local.appointments()) == 5


async def test_an_attendee_gets_so_many_bookings(agent: Agent, local: LocalStage) -> None:
    for number in range(2):
        await book(agent, local, number, "ben@example.com")
    with pytest.raises(PolicyDenied, match="for this attendee"):
        await book(agent, local, 2, "BEN@example.com")
    await book(agent, local, 2, "eve@example.com")
    assert "ben@example.com" not in str(await local.journaled())


async def test_what_was_denied_or_failed_does_not_count_and_leaves_no_trace(agent: Agent, local: LocalStage) -> None:
    await book(agent, local, 0)
    for _ in range(3):
        with pytest.raises(SlotTaken):
            await book(agent, local, 0, "eve@example.com")
    for number in (1, 2):
        await book(agent, local, number)
    for _ in range(3):
        with pytest.raises(PolicyDenied):
            await book(agent, local, 3)
    local.clock.advance(HOUR)
    await book(agent, local, 3)


@pytest.mark.parametrize("account", ["local", "calendly"])
async def test_moves_are_counted_like_bookings_and_their_steps_are_not(account: str, tmp_path: Path) -> None:
    stage = STAGES[account](account, tmp_path)
    stage.config = stage.config.model_copy(update={"brakes": BRAKES})
    stage.restarted()
    id = await stage.book("intro", NINE)
    async with connected(build_server(stage.gateway)) as agent:
        for number in (4, 8):
            await agent.reschedule_booking(booking_id=id, start=(NINE + number * HALF_HOUR).isoformat())
        with pytest.raises(PolicyDenied, match="2 moves for this attendee in an hour"):
            await agent.reschedule_booking(booking_id=id, start=NINE.isoformat())
        await agent.create_booking(
            event_type_id=stage.intro,
            start=(NINE + 2 * HALF_HOUR).isoformat(),
            attendee_name="Ben",
            attendee_email="ben@example.com",
        )
    await stage.gateway.close()


async def test_the_same_request_again_is_not_one_more(agent: Agent, local: LocalStage) -> None:
    for number in range(3):
        await book(agent, local, number)
    id = await book(agent, local, 2)
    assert len(await local.appointments()) == 3
    await agent.cancel_booking(booking_id=id)


def test_brakes_are_configured_and_never_off(tmp_path: Path) -> None:
    text = "accounts: {home: {provider: local}}\nbrakes: {account: {hour: 5, day: 10}}"
    config = parse_config(text, {}, folder=tmp_path)
    assert config.brakes == BrakesConfig(account=PerSpan(hour=5, day=10))
    with pytest.raises(ConfigError, match=r"brakes\.attendee\.hour"):
        parse_config("accounts: {home: {provider: local}}\nbrakes: {attendee: {hour: 0, day: 1}}", {}, folder=tmp_path)
