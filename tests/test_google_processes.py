"""Two gateways side by side, each a process with a database of its own, on one Google calendar."""

import json
import sys
from collections import Counter
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from schemas import SchedulingError
from tests.agent import Agent
from tests.emulators import google
from tests.emulators.wire import TOKEN
from tests.google_stage import write
from tests.loopback import served
from tests.world import ELEVEN, HOST_EMAIL, TEN, Appointment, Clock, World

pytestmark = pytest.mark.anyio

GUESTS = 32


@pytest.fixture
def world() -> World:
    return World(Clock())


async def gateway(stack: AsyncExitStack, folder: Path, url: str) -> Agent:
    account = {
        "provider": "google_calendar",
        "base_url": f"{url}/calendar/v3",
        "auth": {"type": "bearer", "token": TOKEN},
        "event_types": [{"slug": "intro", "title": "Intro call", "duration_minutes": 30}],
    }
    settings = {"accounts": {"cal": account}, "storage": {"url": "sqlite:///gateway.db"}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    command = ["-m", "gateway", "serve", "--transport", "stdio", "--config", str(folder / "config.yaml")]
    transport = StdioTransport(sys.executable, command, keep_alive=False, log_file=folder / "log")
    return Agent(await stack.enter_async_context(Client(transport)))


async def outcome(call: Any) -> str:
    try:
        await call
    except SchedulingError as error:
        return error.code
    return "booked"


@pytest.mark.parametrize("moves", [False, True], ids=["all book", "one moves there"])
async def test_of_many_guests_one_gets_the_slot_and_nothing_is_left_over(
    tmp_path: Path, world: World, moves: bool
) -> None:
    held = write(world, Appointment("intro", ELEVEN, ELEVEN + timedelta(minutes=30), "ana@example.com"))
    google.calendars(world).notices.clear()
    outcomes: list[str] = []

    async def book(agent: Agent, number: int) -> None:
        guest = {"attendee_name": f"Guest {number}", "attendee_email": f"guest{number}@example.com"}
        asked = agent.create_booking(event_type_id="cal:intro", start=TEN.isoformat(), **guest)
        outcomes.append(await outcome(asked))

    async def move(agent: Agent) -> None:
        outcomes.append(await outcome(agent.reschedule_booking(booking_id=f"cal:{held}", start=TEN.isoformat())))

    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with served(google.app(world)) as url:
        async with AsyncExitStack() as stack:
            agents = [await gateway(stack, folder, url) for folder in folders]
            async with anyio.create_task_group() as group:
                for number in range(GUESTS - moves):
                    group.start_soon(book, agents[number % 2], number)
                if moves:
                    group.start_soon(move, agents[0])
    assert Counter(outcomes) == {"booked": 1, "slot_taken": GUESTS - 1}
    calendar = google.calendars(world)
    live = [each for each in calendar.events[HOST_EMAIL].values() if each["status"] != "cancelled"]
    starts = sorted(datetime.fromisoformat(each["start"]["dateTime"]) for each in live)
    assert starts in ([TEN, ELEVEN], [TEN] if moves else [TEN, ELEVEN])
    assert {each["status"] for each in live} == {"confirmed"}
    assert len(calendar.notices) == 1
    assert world.violations == []
