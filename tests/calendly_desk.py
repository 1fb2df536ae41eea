"""Calendly behind a wire that knows what was asked of it and breaks what a test names, and what its tests ask for."""

import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from inspect import isfunction
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gateway.server import build_server
from tests.agent import Agent, connected
from tests.emulators.calendly_shapes import denied, filled
from tests.emulators.wire import TOKEN
from tests.stages import CalendlyStage
from tests.world import ELEVEN, MONDAY, TEN

DAY, HOUR, QUARTER, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=15), timedelta(minutes=1)
ANA, BEN = "ana@example.com", {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
OLD, NEW, NEAR = TEN, ELEVEN, TEN + QUARTER
ME, TYPES, TYPE, EVENT = "GET /users/me", "GET /event_types", "GET /event_types/intro", "GET /scheduled_events/b1"
INVITEE, AGAIN = f"{EVENT}/invitees/i-b1", "GET /scheduled_events/b3"
CALL_OFF, LISTED = "POST /scheduled_events/b1/cancellation", "GET /scheduled_events"
BOOK, CANCEL = "POST /invitees", "POST /scheduled_events/.*/cancellation"
GONE, DEAF = httpx2.ConnectError("refused"), httpx2.ReadTimeout("it never arrived")
FILLED, DENIED = filled().answer, denied("You are not allowed to cancel this event").answer

Failure = Exception | Response | Callable[[Any], Any] | None
"""What becomes of a request: as tests/emulators/wire.py has it, or a function that makes of its answer another one."""


class Asked(NamedTuple):
    line: str
    query: Mapping[str, str]
    body: Any


class Wire:
    """Stands before the service: knows what was asked in full, and breaks the requests that a test names."""

    def __init__(self, stage: CalendlyStage) -> None:
        self._world, self._app = stage.world, stage._app
        self.asked: list[Asked] = []
        self._broken: list[tuple[str, deque[Failure], bool]] = []
        self._down = False

    def breaks(self, request: str, *failures: Failure, then_down: bool = False) -> None:
        """The next requests like that get a failure each. `then_down`: nothing is answered any more after them."""
        self._broken.append((request, deque(failures), then_down))

    def lines(self) -> list[str]:
        """What was asked since the last time."""
        lines = [each.line for each in self.asked]
        self.asked.clear()
        return lines

    def sent(self, request: str) -> list[Asked]:
        return [each for each in self.asked if re.fullmatch(request, each.line)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        line = f"{request.method} {request.url.path}"
        self.asked.append(Asked(line, dict(request.query_params), json.loads(body) if body else None))
        failure = self._failure(line)
        edit = failure if isfunction(failure) else None
        self._world.failures.appendleft(None if edit else failure)
        heard: list[Message] = []

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def hear(message: Message) -> None:
            heard.append(message)

        await self._app(scope, replay, hear if edit else send)
        if edit:
            answer = json.loads(b"".join(each.get("body", b"") for each in heard))
            await JSONResponse(edit(answer), heard[0]["status"])(scope, replay, send)

    def _failure(self, line: str) -> Failure:
        if self._down:
            return GONE
        for pattern, failures, then_down in self._broken:
            if failures and re.fullmatch(pattern, line):
                failure = failures.popleft()
                self._down = then_down and not failures
                return failure
        return None


class Watched(CalendlyStage):
    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None, **quirks: Any) -> None:
        self.settings = {**self.settings, **(settings or {})}
        super().__init__("calendly", folder, **quirks)
        self.service = self._app
        self.wire = Wire(self)
        self._app = self.wire
        self.restarted()

    async def offer(self, kind: str, *locations: Mapping[str, str]) -> None:
        """The host sets the places of an event type, on the service's page."""
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.service),
            base_url="https://api.calendly.com",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as http:
            (await http.patch(f"/event_types/{kind}", json={"locations": locations})).raise_for_status()
        self.world.requests.clear()

    def live(self, email: str = ANA) -> list[datetime]:
        """When that guest is expected."""
        return sorted(each.start for each in self.world.appointments.values() if each.live and each.email == email)

    def shift(self) -> None:
        """On Monday one may start every quarter of an hour, so that neighbouring times touch."""
        self.world.overrides["2030-01-07"] = ["09:00-17:00", "09:15-17:00"]


@pytest.fixture
def quirks() -> dict[str, Any]:
    """Overridden by tests that need another kind of service, or another configuration (`settings`)."""
    return {}


@pytest.fixture
async def stage(tmp_path: Path, quirks: dict[str, Any]) -> AsyncIterator[Watched]:
    stage = Watched(tmp_path, **quirks)
    yield stage
    await stage.gateway.close()
    assert stage.world.violations == [], "the vendor's published schema refuses a request of ours"


@pytest.fixture
async def agent(stage: Watched) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway)) as agent:
        yield agent


def booking(stage: Watched, start: datetime = TEN, kind: str = "intro", **more: Any) -> dict[str, Any]:
    return {"event_type_id": stage.event_type(kind), "start": start.isoformat(), **BEN, **more}


def window(stage: Watched, start: datetime = MONDAY, end: datetime = MONDAY + DAY, **more: Any) -> dict[str, Any]:
    return {"event_type_ids": [stage.intro], "start": start.isoformat(), "end": end.isoformat(), **more}


async def move(agent: Agent, id: str, to: datetime, **more: Any) -> Any:
    return await agent.reschedule_booking(booking_id=id, start=to.isoformat(), **more)


def starts(found: Any) -> list[datetime]:
    return [datetime.fromisoformat(each["start"]) for each in found["slots"]]


def parts(asked: Sequence[Asked]) -> list[tuple[datetime, datetime]]:
    read = datetime.fromisoformat
    return [(read(each.query["start_time"]), read(each.query["end_time"])) for each in asked]
