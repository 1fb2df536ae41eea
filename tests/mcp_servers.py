"""The emulated MCP servers as their tests see them: through FastMCP's client, and by single HTTP requests."""

import json
from types import ModuleType
from typing import Any

import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp_types import CallToolResult

from tests.emulators import calendly_mcp, calid_mcp, google_mcp
from tests.emulators.calendly_shapes import API
from tests.emulators.mcp import Server
from tests.emulators.wire import TOKEN
from tests.world import Clock, World

Json = dict[str, Any]
URLS = {
    calendly_mcp: "https://mcp.calendly.com/",
    calid_mcp: "https://mcp.cal.id/mcp",
    google_mcp: "https://calendarmcp.googleapis.com/mcp/v1",
}
# A tool of each that only reads, and the request that it is
READS: dict[ModuleType, tuple[str, Json, tuple[str, str]]] = {
    calendly_mcp: ("users-get_current_user", {}, ("GET", "/users/me")),
    calid_mcp: ("get_users_me", {}, ("GET", "/users/me")),
    google_mcp: ("list_calendars", {}, ("GET", "/calendar/v3/users/me/calendarList")),
}
HEADERS = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {TOKEN}"}
MODES = ("legacy", "auto")


@pytest.fixture
def world() -> World:
    return World(Clock())


@pytest.fixture(params=URLS, ids=lambda each: each.__name__.rpartition(".")[2])
def vendor(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def connected(server: Server, url: str, mode: str = "auto", token: str | None = TOKEN) -> Client[Any]:
    def factory(headers: Any = None, timeout: Any = None, auth: Any = None, **_: Any) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=server)
        return httpx2.AsyncClient(transport=transport, headers=headers, timeout=timeout, auth=auth)

    return Client(StreamableHttpTransport(url, auth=token, httpx_client_factory=factory), mode=mode)


class Wire:
    """Single HTTP requests to a server."""

    def __init__(self, server: Server, url: str) -> None:
        self._server, self._url = server, url

    async def send(self, method: str = "POST", path: str | None = None, **request: Any) -> httpx2.Response:
        request["headers"] = {
            name: value for name, value in (HEADERS | request.get("headers", {})).items() if value is not None
        }
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self._server)) as client:
            url = httpx2.URL(self._url)
            return await client.request(method, url.join(path) if path else url, **request)

    async def ask(self, method: str, params: Json | None = None, **headers: str | None) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
        return await self.send(json=message, headers=named)

    async def call(self, tool: str, arguments: Json, **headers: str | None) -> httpx2.Response:
        return await self.ask("tools/call", {"name": tool, "arguments": arguments}, **headers)


def served(vendor: ModuleType, world: World, **quirks: Any) -> tuple[Server, Wire]:
    """A server of which nobody needs a session, and single requests to it."""
    server = vendor.app(world, **{"sessions": False} | quirks)
    return server, Wire(server, URLS[vendor])


def text(result: CallToolResult) -> str:
    (only,) = result.content
    assert only.type == "text"
    return only.text


def answer(result: CallToolResult) -> Any:
    """The JSON of a tool that went well."""
    assert not result.is_error, text(result)
    found = json.loads(text(result)) if result.content else result.structured_content
    assert result.structured_content in (None, found)
    return found


def invitee(**more: Any) -> Json:
    guest = {"name": "Ana", "email": "ana@example.com", "timezone": "Europe/Berlin"}
    return {
        "event_type": f"{API}/event_types/intro",
        "start_time": "2030-01-07T09:00:00Z",
        "invitee": guest,
        "location": {"kind": "zoom_conference"},
        **more,
    }
