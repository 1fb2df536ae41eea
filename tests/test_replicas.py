"""Two gateways behind one address, and no sticky sessions: every request lands on another one than that before it."""

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import httpx2
import pytest
from cryptography.fernet import Fernet
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from schemas import NotConnected
from tests import postgres
from tests.agent import Agent
from tests.test_connecting import Vendor

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
DAY = (datetime.now(UTC) + timedelta(days=10)).replace(hour=9, minute=0, second=0, microsecond=0)
MONDAY = (DAY - timedelta(days=DAY.weekday())).replace(tzinfo=ZoneInfo("Europe/Berlin"))
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=4)).isoformat()}
INTRO = {"slug": "intro", "title": "Intro", "duration_minutes": 30}

Era = Literal["auto", "legacy"]
ERAS: tuple[Era, ...] = get_args(Era)
"""The stateless one of 2026-07-28, and that of the handshake."""


@contextmanager
def replica(config: Path) -> Iterator["subprocess.Popen[str]"]:
    """A gateway on a port of its own, and what it has to say."""
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        _, complaint = process.communicate(timeout=60)
    assert "Traceback" not in complaint


def port_of(process: "subprocess.Popen[str]") -> int:
    """Where it answers; it has said so by then."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"answers at http://127\.0\.0\.1:(\d+)/mcp", line):
            return int(found[1])
    raise AssertionError(said)


class RoundRobin(httpx2.AsyncBaseTransport):
    """A proxy that knows no sessions: whoever asks, what is meant for a gateway goes to the one whose turn it is."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._network = httpx2.AsyncHTTPTransport()
        self.landed: list[tuple[str, int]] = []
        """Every request, as the tool it calls or else its path, and the port of the process that answered."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.port not in self._ports:
            return await self._network.handle_async_request(request)
        number = len(self.landed)
        self.landed.append((_what(request), 0))
        # A request of its own: to whoever asked it is still the one address that has set a cookie. So is the Host.
        there = request.url.copy_with(host="127.0.0.1", port=self._ports[number % len(self._ports)])
        passed = httpx2.Request(
            request.method, there, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        response = await self._network.handle_async_request(passed)
        _, answered = response.extensions["network_stream"].get_extra_info("server_addr")[:2]
        self.landed[number] = (self.landed[number][0], answered)
        return response

    async def aclose(self) -> None:
        """Clients come and go; the connections are given back at the end."""

    async def close(self) -> None:
        await self._network.aclose()


def _what(request: httpx2.Request) -> str:
    asked = json.loads(request.content) if request.method == "POST" else {}
    return str(asked.get("params", {}).get("name") or request.url.path)


class Office:
    """Two gateways on one PostgreSQL, and Calendly behind them with an account for each era of the protocol."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        server = postgres.server()
        url = server.new()
        stack.callback(server.drop, url)
        self.vendor = Vendor(stack)
        work = {"provider": "calendly", "via": "mcp", "url": self.vendor.url, "auth": {"type": "oauth"}}
        home = {"provider": "local", "time_zone": "Europe/Berlin", "event_types": [INTRO]}
        config = {
            "accounts": {"home": home} | {f"work-{era}": work for era in ERAS},
            "storage": {"url": url, "encryption_key": Fernet.generate_key().decode()},
        }
        (folder / "config.yaml").write_text(json.dumps(config))
        processes = [stack.enter_context(replica(folder / "config.yaml")) for _ in range(2)]
        self.ports = [port_of(process) for process in processes]


class Caller:
    """Somebody's AI client and browser, which know one address."""

    def __init__(self, ports: list[int]) -> None:
        self.proxy = RoundRobin(*ports)
        self.url = f"http://localhost:{ports[0]}"

    def network(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
        **_: Any,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=self.proxy, headers=headers, timeout=timeout or 30, auth=auth, follow_redirects=True
        )

    @asynccontextmanager
    async def agent(self, era: Era) -> AsyncIterator[Agent]:
        transport = StreamableHttpTransport(f"{self.url}/mcp", httpx_client_factory=self.network)
        async with Client(transport, mode=era) as client:
            yield Agent(client)

    async def visit(self, link: str) -> httpx2.Response:
        async with self.network() as browser:
            return await browser.get(link)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with ExitStack() as stack:
        yield Office(stack, tmp_path_factory.mktemp("replicas"))


@pytest.fixture
async def caller(office: Office) -> AsyncIterator[Caller]:
    caller = Caller(office.ports)
    yield caller
    await caller.proxy.close()


async def booked_moved_and_cancelled(agent: Agent, account: str, email: str) -> None:
    """From the slots to a booking that is gone, each step seen by the next."""
    ben = {"attendee_name": "Ben", "attendee_email": email}
    [event_type, *_] = (await agent.list_event_types(account=account))["event_types"]
    slots = (await agent.find_slots(event_type_ids=[event_type["id"]], **WINDOW))["slots"]
    booked = await agent.create_booking(event_type_id=event_type["id"], start=slots[0]["start"], **ben)
    assert (await agent.get_booking(booking_id=booked["id"]))["start"] == slots[0]["start"]
    moved = await agent.reschedule_booking(booking_id=booked["id"], start=slots[4]["start"])
    assert [each["id"] for each in (await agent.list_bookings(account=account))["bookings"]] == [moved["id"]]
    cancelled = await agent.cancel_booking(booking_id=booked["id"])
    assert (cancelled["start"], cancelled["status"]) == (slots[4]["start"], "cancelled")
    assert (await agent.list_bookings(account=account))["bookings"] == []


@pytest.mark.parametrize("era", ERAS)
async def test_every_request_may_land_on_another_process(office: Office, caller: Caller, era: Era) -> None:
    account, ben = f"work-{era}", f"ben-{era}@example.com"
    async with caller.agent(era) as agent:
        tools = {tool.name for tool in await agent.client.list_tools()}
        await booked_moved_and_cancelled(agent, "home", ben)
        with pytest.raises(NotConnected) as caught:
            await agent.list_event_types(account=account)
        assert caught.value.details is not None
        page = await caller.visit(caught.value.details["connect_url"])
        assert (page.status_code, f"{account} is connected" in page.text) == (200, True)
        await booked_moved_and_cancelled(agent, account, ben)

    asked, ports = zip(*caller.proxy.landed, strict=True)
    assert set(ports) == set(office.ports)
    assert all(one != other for one, other in pairwise(ports))
    begun = asked.index(f"/connect/{account}")
    around = ("list_event_types", f"/connect/{account}", "/connect/callback", "list_event_types")
    assert asked[begun - 1 : begun + 3] == around
    assert {"find_slots", "create_booking", "reschedule_booking", "cancel_booking"} <= tools & set(asked)
    # It was moved there by booking anew.
    appointments = [each for each in office.vendor.world.appointments.values() if each.email == ben]
    assert [each.status for each in appointments] == ["cancelled", "cancelled"]
