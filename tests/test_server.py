"""The real thing: a server process spoken to over stdio, and a real uvicorn on loopback."""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

from gateway.config import Config, ConfigError
from gateway.core import Gateway
from gateway.server import NAME, VERSION, build_app, build_server
from gateway.server_config import ServerConfig
from gateway.serving import http, http_server, listen
from providers import PROVIDERS
from schemas import ProviderDown
from tests.agent import Agent
from tests.postgres import databases

pytestmark = pytest.mark.anyio

PYTHON = [sys.executable, "-m", "gateway"]
HANDSHAKE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def config(folder: Path, **server: Any) -> Config:
    account = PROVIDERS["local"]["api"].Config.model_validate({"provider": "local", "time_zone": "Europe/Berlin"})
    return Config(
        accounts={"home": account},
        server=ServerConfig(**server),
        storage=databases.newest(folder),
    )


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    settings = config(tmp_path, port=listener.getsockname()[1])
    server = http_server(build_server(Gateway(settings)), settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        yield f"http://127.0.0.1:{settings.server.port}"
        server.should_exit = True


async def book_and_cancel(agent: Agent) -> None:
    """The main path, on a fresh database."""
    [account] = (await agent.list_accounts())["accounts"]
    now = (await agent.list_accounts())["now"]
    event_type = (await agent.list_event_types())["event_types"][0]["id"]
    end = f"{int(now[:4])}-12-31T00:00:00Z" if now[5:7] < "11" else f"{int(now[:4]) + 1}-01-20T00:00:00Z"
    slots = (await agent.find_slots(event_type_ids=[event_type], start=now, end=end, limit=2))["slots"]
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    booked = await agent.create_booking(event_type_id=event_type, start=slots[0]["start"], **guest)
    assert booked["account"] == account["account"]
    moved = await agent.reschedule_booking(booking_id=booked["id"], start=slots[1]["start"])
    assert moved["start"] == slots[1]["start"]
    cancelled = await agent.cancel_booking(booking_id=booked["id"])
    assert cancelled["status"] == "cancelled"
    assert (await agent.list_bookings())["bookings"] == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_meeting_is_booked_over_http(url: str, mode: Any) -> None:
    async with Client(StreamableHttpTransport(f"{url}/mcp"), mode=mode) as client:
        await book_and_cancel(Agent(client))


@pytest.mark.parametrize(("mode", "options"), [("auto", []), ("legacy", []), ("legacy", ["--legacy"])])
async def test_a_meeting_is_booked_over_stdio(tmp_path: Path, mode: Any, options: list[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("accounts: {home: {provider: local}}\nstorage: {url: 'sqlite:///gateway.db'}\n")
    arguments = [*PYTHON[1:], "serve", "--transport", "stdio", "--config", str(file), *options]
    transport = StdioTransport(PYTHON[0], arguments, keep_alive=False, log_file=tmp_path / "log")
    async with Client(transport, mode=mode) as client:
        await book_and_cancel(Agent(client))


def test_with_legacy_a_probe_for_the_new_era_does_not_spoil_the_handshake(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": MODERN_META}},
        {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": HANDSHAKE},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {}},
    ]
    answers = {answer["id"]: answer for answer in spoken(["serve", "--transport", "stdio", "--legacy"], messages, 3)}
    assert "error" in answers[1]
    assert answers[2]["result"]["serverInfo"]["name"] == NAME
    assert len(answers[3]["result"]["tools"]) > 10


def test_stdout_carries_nothing_but_the_protocol(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HANDSHAKE},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_accounts", "arguments": {}}},
    ]
    answers = spoken(["serve", "--transport", "stdio"], messages, 2)
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["structuredContent"]["accounts"][0]["account"] == "local"


def spoken(command: list[str], messages: list[dict[str, Any]], answers: int) -> list[dict[str, Any]]:
    """What a process on stdio answers, line by line; it must end by itself when its input does."""
    with subprocess.Popen(
        [*PYTHON, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in messages:
            process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        said = [json.loads(process.stdout.readline()) for _ in range(answers)]
        rest, _ = process.communicate(timeout=30)
    assert rest == ""
    assert process.returncode == 0
    return said


async def test_health_answers_without_asking_the_accounts(url: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "name": NAME, "version": VERSION})


@pytest.mark.parametrize("path", ["/mcp", "/health"])
@pytest.mark.parametrize(
    ("headers", "status"), [({"Host": "evil.example"}, 421), ({"Origin": "https://evil.example"}, 403)]
)
async def test_a_foreign_host_or_origin_is_turned_away(
    url: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with httpx2.AsyncClient() as client:
        ask = client.post if path == "/mcp" else client.get
        assert (await ask(f"{url}{path}", headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("server", "host"),
    [({"public_url": "https://sched.example.com"}, "sched.example.com"), ({"host": "0.0.0.0"}, "localhost")],  # noqa: S104 - nothing listens
)
async def test_the_servers_own_names_are_welcome(tmp_path: Path, server: dict[str, str], host: str) -> None:
    settings = config(tmp_path, **server)
    app = build_app(build_server(Gateway(settings)), settings.server)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=f"http://{host}") as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/health", headers={"Host": "0.0.0.0.evil.example"})).status_code == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://sched.example.com", 200),
        ("https://sched.example.com:444", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
async def test_behind_a_proxy_that_ends_tls_the_servers_own_pages_are_welcome(
    tmp_path: Path, origin: str, status: int
) -> None:
    settings = config(tmp_path, public_url="https://sched.example.com/gateway")
    app = build_app(build_server(Gateway(settings)), settings.server)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sched.example.com") as client:
        assert (await client.get("/health", headers={"Origin": origin})).status_code == status


@pytest.mark.parametrize(
    "server",
    [{"host": "0.0.0.0"}, {"host": "192.168.1.5"}, {"public_url": "https://sched.example.com"}],  # noqa: S104 - it is refused
)
def test_without_sign_in_nothing_is_served_to_strangers(tmp_path: Path, server: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        http(config(tmp_path, **server))


def test_an_answer_does_not_wait_for_an_acknowledgement() -> None:
    """asyncio turns Nagle's algorithm off only for sockets that name their protocol."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ProviderDown, match=str(other.getsockname()[1])):
            listen("127.0.0.1", other.getsockname()[1])
