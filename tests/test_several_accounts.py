"""Two accounts at once: the embedded calendar and a service behind a network."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.config import Config
from gateway.core import Gateway
from gateway.server import build_server
from schemas import InvalidRequest
from tests.agent import Agent, connected
from tests.emulators import toy
from tests.postgres import databases
from tests.stages import LocalStage, Stage
from tests.world import ELEVEN, NINE, TEN, Clock, World

pytestmark = pytest.mark.anyio

BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
HALF_HOUR = timedelta(minutes=30)
MORNING = {"start": NINE.isoformat(), "end": ELEVEN.isoformat()}


@pytest.fixture
def world() -> World:
    return World(Clock())


@pytest.fixture
async def both(world: World, tmp_path: Path) -> AsyncIterator[Agent]:
    config = Config(
        accounts={
            "home": LocalStage.adapter.Config(provider="local", **LocalStage.settings),
            "work": Stage.adapter.Config(provider="toy", **Stage.settings),
        },
        storage=databases.newest(tmp_path),
    )
    gateway = Gateway(config, clock=world.clock, transport=httpx2.ASGITransport(toy.app(world)))
    async with connected(build_server(gateway)) as agent:
        yield agent


async def offered(agent: Agent, **asked: Any) -> list[datetime]:
    found = await agent.find_slots(event_type_ids=["home:intro"], **MORNING, **asked)
    assert found["unavailable"] == []
    return [datetime.fromisoformat(slot["start"]) for slot in found["slots"]]


async def test_a_slot_must_be_free_in_the_other_account_too(both: Agent, world: World) -> None:
    world.book("review", TEN, "zoe@example.com")
    assert await offered(both) == [NINE, NINE + HALF_HOUR, TEN, TEN + HALF_HOUR]
    assert await offered(both, free_in=["work"]) == [NINE, NINE + HALF_HOUR]


async def test_the_meeting_being_moved_is_no_obstacle_where_it_is_mirrored(both: Agent, world: World) -> None:
    booked = await both.create_booking(event_type_id="home:intro", start=TEN.isoformat(), **BEN)
    world.book("intro", TEN, "host@example.com")
    assert TEN not in await offered(both, free_in=["home", "work"])
    assert await offered(both, free_in=["home", "work"], booking_id=booked["id"]) == [
        NINE,
        NINE + HALF_HOUR,
        TEN,
        TEN + HALF_HOUR,
    ]


async def test_a_longer_busy_time_over_the_meeting_being_moved_may_hide_another(both: Agent, world: World) -> None:
    booked = await both.create_booking(event_type_id="home:intro", start=TEN.isoformat(), **BEN)
    world.book("review", TEN, "zoe@example.com")
    assert TEN not in await offered(both, free_in=["work"], booking_id=booked["id"])


async def test_another_meeting_of_the_same_account_is_an_obstacle(both: Agent, world: World) -> None:
    world.book("intro", NINE, "zoe@example.com")
    moving = world.book("intro", TEN, "ana@example.com")
    found = await offered(both, free_in=["work"], booking_id=f"work:{moving}")
    assert found == [NINE + HALF_HOUR, TEN, TEN + HALF_HOUR]


async def test_slots_of_several_accounts_are_one_list_by_start(both: Agent, world: World) -> None:
    found = await both.find_slots(event_type_ids=["work:intro", "home:intro"], **MORNING, limit=3)
    assert [slot["event_type_id"] for slot in found["slots"]] == ["home:intro", "work:intro", "home:intro"]
    again = await both.find_slots(
        event_type_ids=["work:intro", "home:intro"], **MORNING, limit=3, cursor=found["next_cursor"]
    )
    assert [slot["event_type_id"] for slot in again["slots"]] == ["work:intro", "home:intro", "work:intro"]


async def test_bookings_of_several_accounts_are_one_list_by_start(both: Agent, world: World) -> None:
    world.book("intro", NINE, "first@example.com")
    await both.create_booking(event_type_id="home:intro", start=NINE.isoformat(), **BEN)
    world.book("intro", TEN, "last@example.com")
    pages: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        page = await both.list_bookings(limit=1, **cursor)
        pages += [each["attendees"][0]["email"] for each in page["bookings"]]
        cursor = {"cursor": page.get("next_cursor")}
    assert pages == ["ben@example.com", "first@example.com", "last@example.com"]
    assert cursor == {"cursor": None}


async def test_with_several_accounts_a_new_event_type_needs_one(both: Agent) -> None:
    with pytest.raises(InvalidRequest, match="home, work"):
        await both.save_event_type(title="Deep dive", duration_minutes=90)
    made = await both.save_event_type(account="home", title="Deep dive", duration_minutes=90)
    assert made["account"] == "home"
