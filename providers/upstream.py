"""A vendor's hosted MCP server, spoken to over one pooled connection by FastMCP's client, whose era it settles.

The client loses what HTTP said (a 401, a 429 and its Retry-After, a broken connection are all one error to it), so what
it sends goes through the adapter's own HTTP client, and how each call fared there is noted (`Trip`). Nothing of whoever
called us is passed on. The tools are read from `tools/list` once, and again when a call says that they changed.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx2

if TYPE_CHECKING:
    from mcp_types import CallToolResult

# When an answer is given up that never comes though HTTP went well; the HTTP client's own limits come first.
LONGEST = 60.0
# JSON-RPC: no such method, wrong arguments, and an answer that is no JSON.
UNKNOWN, REFUSED, UNREADABLE = -32601, -32602, -32700
# What servers say of a call that they did not begin, in words of their own rather than an API's JSON.
CHANGED = re.compile(
    r"unknown tool|no such tool|tool .{1,80}not found|additional ?properties|invalid arguments|input validation|"
    r"missing required|(unexpected|unknown|unrecogni[sz]ed) (keyword )?(argument|key|name|parameter|field|property)",
    re.IGNORECASE,
)
KEPT_HEADERS = ("content-type", "mcp-session-id")
OWN_HEADERS = ("host", "content-length", "connection", "accept-encoding", "user-agent")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the server lists it."""

    name: str
    input_schema: Mapping[str, Any]


Tools = Mapping[str, Tool]
Place = Callable[[Tools], tuple[str, dict[str, Any]]]
"""Chooses the tool to call and its arguments, from those there are."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a call came to: a tool's answer, its error, or an HTTP answer that is neither."""

    tool: str
    text: bytes
    is_error: bool = False
    refused: httpx2.Response | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ToolsChanged(Exception):
    """The server says that it has no such tool, or not with these arguments; nothing was done."""

    def __init__(self, tool: str, arguments: Mapping[str, Any]) -> None:
        super().__init__(tool)
        self.tool, self.arguments = tool, arguments


class NotSent(httpx2.ConnectError):
    """The server could not be spoken to, so what was to be asked was not."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class Trip:
    """How the HTTP requests of one call fared."""

    answer: httpx2.Response | None = None
    error: Exception | None = None

    @property
    def refused(self) -> httpx2.Response | None:
        return self.answer if self.answer is not None and not self.answer.is_success else None


_TRIP: ContextVar[Trip | None] = ContextVar("trip", default=None)


class Bridge(httpx2.AsyncBaseTransport):
    """Sends what the MCP client sends through `http`, and notes how it fared. Never raises: an exception here would end
    the connection for every other call on it."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(405, request=request)  # a stream of notices, of which we want none
        trip = _TRIP.get() or Trip()
        headers = {name: value for name, value in request.headers.items() if name not in OWN_HEADERS}
        trip.answer, trip.error = None, None
        try:
            answer = await self._http.request(
                request.method, request.url, headers=headers, content=await request.aread()
            )
        except Exception as error:
            trip.error = error
            return httpx2.Response(502, request=request)
        trip.answer = answer
        if answer.is_redirect:
            return httpx2.Response(502, request=request)
        kept = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
        return httpx2.Response(answer.status_code, headers=kept, content=answer.content, request=request)


@dataclass(slots=True)
class _Connection:
    client: Any
    tools: dict[str, Tool]
    calls: int = 0
    is_stale: bool = False


class Upstream:
    """One server. `http` signs in, and has the limits of time."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self._url = url
        self._bridge = Bridge(http)
        self._connection: _Connection | None = None
        self._connecting = anyio.Lock()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection.client)

    async def call(self, place: Place) -> Told:
        """Call a tool. It is sent again only where the server said that nothing was done.

        Raises: NotSent and other httpx2.HTTPErrors of a request that failed; ToolsChanged; what `place` and signing in
        raise.
        """
        changed: ToolsChanged | None = None
        for _ in range(2):
            connection = await self._connected()
            if isinstance(connection, httpx2.Response):
                return Told("", b"", refused=connection)
            name, arguments = place(connection.tools)
            if changed and (changed.tool, changed.arguments) == (name, arguments):
                raise changed
            connection.calls += 1
            try:
                return await self._ask(connection, name, arguments)
            except ToolsChanged as error:
                changed = error
                self._leave(connection)
            except _SessionGone:
                self._leave(connection)
            finally:
                connection.calls -= 1
                if connection.is_stale and not connection.calls:
                    await _close(connection.client)
        raise changed or NotSent("the MCP session ended twice")

    def _leave(self, connection: _Connection) -> None:
        """Speak over another connection from now on; calls under way end on this one."""
        connection.is_stale = True
        if self._connection is connection:
            self._connection = None

    async def _connected(self) -> _Connection | httpx2.Response:
        """The connection, or how the server refused one."""
        async with self._connecting:
            if self._connection is not None and self._connection.client.is_connected():
                return self._connection
            # Imported on first use: it would add a third to the start (2026-11).
            from fastmcp import Client
            from fastmcp.client.transports import StreamableHttpTransport

            transport = StreamableHttpTransport(self._url, httpx_client_factory=cast(Any, self._client))
            client: Any = Client(transport, timeout=LONGEST, init_timeout=LONGEST)
            trip = Trip()
            before = _TRIP.set(trip)
            try:
                await client.__aenter__()
                tools = {tool.name: Tool(tool.name, tool.input_schema) for tool in await client.list_tools()}
            except Exception as error:
                await _close(client)
                if trip.error is not None and not isinstance(trip.error, httpx2.HTTPError):
                    raise trip.error from None
                if trip.refused is not None and trip.refused.status_code < 500 and not trip.refused.is_redirect:
                    return trip.refused
                raise NotSent(f"no MCP connection: {_why(trip, error)}") from None
            finally:
                _TRIP.reset(before)
            self._connection = _Connection(client, tools)
            return self._connection

    async def _ask(self, connection: _Connection, name: str, arguments: dict[str, Any]) -> Told:
        import mcp_types as types
        from mcp.shared.exceptions import MCPError

        params = types.CallToolRequestParams(name=name, arguments=arguments)
        trip = Trip()
        before = _TRIP.set(trip)
        try:
            # Not `call_tool`: it holds answers to the server's output schema, and one field amiss would hide a booking.
            result = await connection.client.session.send_request(
                types.CallToolRequest(params=params), types.CallToolResult, LONGEST
            )
        except MCPError as error:
            if trip.error is not None:
                raise trip.error from None
            if (refused := trip.refused) is not None:
                if refused.status_code == 404 and connection.client.transport.get_session_id():
                    raise _SessionGone from None
                return Told(name, b"", refused=refused)
            if error.code in (UNKNOWN, REFUSED):
                raise ToolsChanged(name, arguments) from None
            if error.code == UNREADABLE and trip.answer is not None:
                return Told(name, trip.answer.content)
            return Told(name, _bytes(error.message), is_error=True)
        except (ValueError, RuntimeError) as error:
            if trip.error is not None:
                raise trip.error from None
            if trip.answer is None:
                raise NotSent(f"the MCP connection was lost ({_name(error)})") from None
            return Told(name, trip.answer.content)
        finally:
            _TRIP.reset(before)
        headers = trip.answer.headers if trip.answer is not None else {}
        text = _text(result)
        if result.is_error and not text.lstrip().startswith(b"{") and CHANGED.search(text.decode(errors="replace")):
            raise ToolsChanged(name, arguments)
        return Told(name, text, is_error=bool(result.is_error), headers=headers)

    def _client(self, headers: Any = None, **_: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self._bridge, headers=headers, timeout=None)


class _SessionGone(Exception):
    """The server has forgotten the session (HTTP 404), and did nothing."""


async def _close(client: Any) -> None:
    with suppress(Exception):  # it raises once more what ended the connection
        await client.close()


def _text(result: "CallToolResult") -> bytes:
    """The JSON that a tool answers with, in a field of its own or as text."""
    if result.structured_content is not None:
        return json.dumps(result.structured_content).encode()
    return _bytes("".join(each.text for each in result.content if each.type == "text"))


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


def _why(trip: Trip, error: Exception) -> str:
    if trip.error is not None:
        return _name(trip.error)
    if trip.refused is not None:
        return f"HTTP {trip.refused.status_code}"
    return f"{_name(error)}, as if it had no tools"


def _name(error: Exception) -> str:
    return type(error).__name__
