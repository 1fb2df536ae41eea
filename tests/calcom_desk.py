"""Cal.com behind a wire that writes down what is asked of it, and what its tests ask for."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.server import build_server
from tests.agent import Agent, connected
from tests.emulators.wire import TOKEN
from tests.stages import ACCOUNT, STAGES, Stage
from tests.world import MONDAY, Kind

DAY, HOUR, HALF_HOUR = timedelta(days=1), timedelta(hours=1), timedelta(minutes=30)
ANA, BEN, ZOE = ({"attendee_name": n, "attendee_email": f"{n.lower()}@example.com"} for n in ("Ana", "Ben", "Zoe"))
SCHEDULE, GROUP = f"{ACCOUNT}:254", Kind("Workshop", 60, seats=3)
VERSIONS = {"bookings": "2024-08-13", "event-types": "2024-06-14", "schedules": "2024-06-11", "slots": "2024-09-04"}

Request_ = tuple[str, str]


@dataclass
class Sent:
    """A request as it came to the service."""

    method: str
    host: str
    path: str
    query: str
    version: str | None
    body: Any

    def __getitem__(self, name: str) -> str:
        [value] = parse_qs(self.query)[name]
        return value


class Wire:
    """Stands before the service: writes down what comes, and can have an answer replaced or something happen first."""

    def __init__(self, stage: Stage) -> None:
        self._app, self.sent = stage._app, list[Sent]()
        self.prefix = ""
        self.meanwhile: Callable[[Sent], None] = lambda _: None
        self.instead: Response | None = None
        """What answers the next write, which takes effect."""

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        path, query = request.url.path, scope["query_string"].decode()
        version = request.headers.get("cal-api-version")
        host = request.headers["host"]
        self.sent.append(Sent(request.method, host, path, query, version, json.loads(body) if body else None))
        self.meanwhile(self.last)

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def nowhere(_: object) -> None: ...

        spoiled = self.instead if request.method != "GET" else None
        inner = {**scope, "path": path.removeprefix(self.prefix), "raw_path": b""}
        await self._app(inner, again, nowhere if spoiled else send)
        if spoiled:
            self.instead = None
            await spoiled(scope, again, send)


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """`request.param`, if any, are the emulator's quirks."""
    stage = STAGES["calcom"]("calcom", tmp_path, **getattr(request, "param", {}))
    yield stage
    await stage.gateway.close()
    assert stage.world.violations == []


@pytest.fixture
def wire(stage: Stage) -> Wire:
    stage._app = wire = Wire(stage)
    stage.restarted()
    return wire


@pytest.fixture
async def agent(stage: Stage, wire: Wire) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway)) as agent:
        yield agent


async def vendor(stage: Stage, method: str, path: str, **request: Any) -> Any:
    """What the service says to somebody else than the gateway."""
    headers = {"authorization": f"Bearer {TOKEN}", "cal-api-version": VERSIONS[path.split("/")[1].partition("?")[0]]}
    transport = httpx2.ASGITransport(app=stage._app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://api.cal.com/v2", headers=headers) as client:
        response = await client.request(method, path.removeprefix("/"), **request)
    assert response.is_success, response.text
    return response.json()["data"]


async def made(stage: Stage, **settings: Any) -> str:
    """An event type made on cal.com."""
    said = {"title": "Special", "slug": "special", "lengthInMinutes": 30, **settings}
    return f"{ACCOUNT}:{(await vendor(stage, 'POST', '/event-types', json=said))['id']}"


def configure(stage: Stage, **settings: Any) -> None:
    account = stage.adapter.Config(provider="calcom", **stage.settings | settings)
    stage.config = stage.config.model_copy(update={"accounts": {ACCOUNT: account}})
    stage.restarted()


def at(start: datetime, event_type_id: str, **more: Any) -> dict[str, Any]:
    return {"event_type_id": event_type_id, "start": start.isoformat(), **BEN, **more}


def start_at(start: datetime) -> dict[str, str]:
    return {"start": start.isoformat()}


def window(start: datetime = MONDAY, end: datetime = MONDAY + DAY) -> dict[str, str]:
    return {"start": start.isoformat(), "end": end.isoformat()}


def starts(found: Any) -> list[str]:
    return [each["start"] for each in found["slots"]]


def emails(found: Any) -> list[str]:
    return [each["attendees"][0]["email"] for each in found["bookings"]]


def live(stage: Stage) -> list[tuple[str, datetime]]:
    return sorted((each.email, each.start) for each in stage.world.appointments.values() if each.live)


async def requests(stage: Stage, call: Awaitable[Any]) -> list[Request_]:
    """What a call of a tool asks of the service."""
    before = len(stage.world.requests)
    await call
    return [(method, path.removeprefix("/v2")) for method, path in stage.world.requests[before:]]
