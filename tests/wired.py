"""A service behind a wire that writes down what is asked of it, and what the tests of such a service ask for."""

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

    @property
    def asked(self) -> dict[str, list[str]]:
        return parse_qs(self.query)

    def __getitem__(self, name: str) -> str:
        [value] = self.asked[name]
        return value


class Wire:
    """Stands before the service: writes down what comes, and can have an answer replaced or something happen first."""

    def __init__(self, stage: Stage) -> None:
        self._app, self.sent = stage._app, list[Sent]()
        self.prefix = ""
        self.meanwhile: Callable[[Sent], None] = lambda _: None
        self.refusals: dict[str, Response] = {}
        """What answers the next write of a method, instead of the service; nothing happens then."""
        self.spoiled: Response | None = None
        """What answers the next write, which takes effect."""

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    @property
    def writes(self) -> list[Sent]:
        return [each for each in self.sent if each.method != "GET"]

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

        if refusal := self.refusals.pop(request.method, None):
            await refusal(scope, again, send)
            return
        spoiled = self.spoiled if request.method != "GET" else None
        inner = {**scope, "path": path.removeprefix(self.prefix), "raw_path": b""}
        await self._app(inner, again, nowhere if spoiled else send)
        if spoiled:
            self.spoiled = None
            await spoiled(scope, again, send)


def stage_of(account: str) -> Any:
    """The fixture `stage` of tests about one service."""

    @pytest.fixture
    async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
        """`request.param`, if any, are the emulator's quirks."""
        stage = STAGES[account](account, tmp_path, **getattr(request, "param", {}))
        yield stage
        await stage.gateway.close()
        assert stage.world.violations == []

    return stage


@pytest.fixture
def wire(stage: Stage) -> Wire:
    stage._app = wire = Wire(stage)
    stage.restarted()
    return wire


@pytest.fixture
async def agent(stage: Stage, wire: Wire) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway)) as agent:
        yield agent


async def told(stage: Stage, base_url: str, method: str, path: str, headers: dict[str, str], **request: Any) -> Any:
    """What the service says to somebody else than the gateway."""
    transport = httpx2.ASGITransport(app=stage._app)
    headers = {"authorization": f"Bearer {TOKEN}", **headers}
    async with httpx2.AsyncClient(transport=transport, base_url=base_url, headers=headers) as client:
        response = await client.request(method, path.removeprefix("/"), **request)
    assert response.is_success, response.text
    return response.json()["data"]


async def requests(stage: Stage, call: Awaitable[Any]) -> list[Request_]:
    """What a call of a tool asks of the service, without the version that some have in every path."""
    before = len(stage.world.requests)
    await call
    return [(method, path.removeprefix("/v2")) for method, path in stage.world.requests[before:]]


def at(start: datetime, event_type_id: str, **more: Any) -> dict[str, Any]:
    return {"event_type_id": event_type_id, "start": start.isoformat(), **BEN, **more}


def window(start: datetime = MONDAY, end: datetime = MONDAY + DAY) -> dict[str, str]:
    return {"start": start.isoformat(), "end": end.isoformat()}
