"""Stages of Google Calendar with whatever settings a test needs, and what it puts into the calendar or finds there."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.server import build_server
from tests.agent import Agent, connected
from tests.emulators.google import Calendars, calendars
from tests.google_stage import GoogleStage
from tests.stages import STAGES, Stage
from tests.world import HOST_EMAIL, MONDAY, TEN

DAY, HALF_HOUR = timedelta(days=1), timedelta(minutes=30)
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + DAY).isoformat()}
MEETING: dict[str, Any] = {"slug": "meeting", "title": "Meeting", "duration_minutes": 30}
Made = tuple[GoogleStage, Agent]
Make = Callable[..., Any]


@asynccontextmanager
async def stages(folder: Path, face: str = "google_calendar") -> AsyncIterator[Make]:
    """What makes stages with other settings or quirks, and an agent on each; `beside` another one, on its calendar but
    with a storage of its own."""
    async with AsyncExitStack() as stack:
        made_so_far = 0

        async def made(
            *, settings: dict[str, Any] | None = None, beside: Stage | None = None, **quirks: Any
        ) -> tuple[Stage, Agent]:
            nonlocal made_so_far
            made_so_far += 1
            on = STAGES[face]
            kind = type("Set", (on,), {"settings": {**on.settings, **(settings or {})}})
            own = folder / str(made_so_far)
            own.mkdir()
            stage: Stage = kind(face, own, **quirks)
            if beside is not None:
                stage.world, stage.clock, stage._app = beside.world, beside.clock, beside._app
                stage.restarted()
            stack.push_async_callback(stage.gateway.close)
            return stage, await stack.enter_async_context(connected(build_server(stage.gateway)))

        yield made


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with stages(tmp_path) as made:
        yield made


@pytest.fixture
async def google(make: Make) -> Made:
    made: Made = await make()
    return made


def kept(stage: GoogleStage) -> Calendars:
    return calendars(stage.world)


def events(stage: GoogleStage) -> list[Any]:
    return list(kept(stage).events[HOST_EMAIL].values())


def timed(start: datetime = TEN, end: datetime | None = None, **more: Any) -> dict[str, Any]:
    """An event as somebody has made it in Google's own page."""
    times = {"start": {"dateTime": start.isoformat()}, "end": {"dateTime": (end or start + HALF_HOUR).isoformat()}}
    return {"summary": "Plan", **times, **more}


def booking(stage: GoogleStage, start: datetime = TEN, **more: Any) -> dict[str, Any]:
    return {"event_type_id": stage.intro, "start": start.isoformat(), **BEN, **more}


async def offered(stage: GoogleStage, agent: Agent, **more: Any) -> list[str]:
    found = await agent.find_slots(event_type_ids=[stage.intro], limit=500, **{**WINDOW, **more})
    return [slot["start"][:16] for slot in found["slots"]]


PEOPLE = [{"email": "ana@example.com", "displayName": "Ana"}]


class At(deque[Any]):
    """What happens at the first request of each method for events, before it is answered or instead of that."""

    def __init__(self, stage: GoogleStage, path: str = "/events", **happens: Callable[[], Any]) -> None:
        super().__init__([None] * 50)
        self._stage, self._path, self._happens = stage, path, happens

    def popleft(self) -> Any:
        method, path = self._stage.world.requests[-1]
        return self._happens.pop(method, lambda: None)() if self._path in path else None


def times(stage: GoogleStage) -> dict[str, datetime]:
    """When what is live begins, by its id."""
    live = [each for each in events(stage) if each["status"] != "cancelled"]
    return {each["id"]: datetime.fromisoformat(each["start"]["dateTime"]) for each in live}
