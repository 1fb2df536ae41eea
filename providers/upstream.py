"""A vendor's hosted MCP server, spoken to over one pooled connection by FastMCP's client, whose era it settles.

The client loses what HTTP said (a 401, a 429 and its Retry-After, a broken connection are all one error to it), so what
it sends goes through the adapter's own HTTP client, and how each call fared there is noted (`Trip`). Nothing of whoever
called us is passed on. The tools are read from `tools/list` once, and again when a call says that they changed.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import httpx2

from providers.bridge import ENVELOPE, TRIP, Bridge, Trip, object_of
from providers.watch import NOBODY, Watched

# When an answer is given up that never comes though HTTP went well; the HTTP client's own limits come first.
LONGEST = 60.0
# JSON-RPC: no such method, wrong arguments, and an answer that is no JSON.
UNKNOWN, REFUSED, UNREADABLE = -32601, -32602, -32700
# What servers say of a call that they did not begin, in words of their own rather than an API's JSON.
# They are looked for before the first brace alone, and not behind an API's status: those are of what it says.
CHANGED = re.compile(
    r"unknown tool|no such tool|tool .{1,80}not found|additional ?properties|invalid arguments|input validation|"
    r"missing required|(unexpected|unknown|unrecogni[sz]ed) (keyword )?(argument|key|name|parameter|field|property)",
    re.IGNORECASE,
)
# How some servers put the API's answer into a text: "HTTP error 404: Not Found - {...}". Other numbers are no status.
STATED = re.compile(rb"(?:[^{]{0,120}?\b(?:http|status|code|error)\W{1,3})?([45]\d\d)\b", re.IGNORECASE)
# Statuses that say something of us; any other below 500 says that this is no such server, or not for us to speak to.
SAYING = (401, 403, 429)
ABSENT = (404, 405, 410)
# What SDKs say with HTTP 400 of a session that they have forgotten. (modelcontextprotocol/python-sdk#1004, 2026-11)
NO_SESSION = re.compile(r"session.?id", re.IGNORECASE)


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


class Unreadable(httpx2.DecodingError):
    """The server answered, and what cannot be told."""


@dataclass(slots=True)
class _Connection:
    client: Any
    tools: dict[str, Tool]
    calls: int = 0
    is_stale: bool = False


class Upstream:
    """One server. `http` signs in, and has the limits of time."""

    def __init__(self, url: str, http: httpx2.AsyncClient, watched: Watched = NOBODY) -> None:
        self._url = url
        self._bridge = Bridge(http, watched)
        self._connection: _Connection | None = None
        self._connecting = anyio.Lock()
        self._failed: httpx2.Response | NotSent | None = None
        self._failures = 0

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
        raise NotSent("the MCP session ended, or its tools changed, twice")

    def _leave(self, connection: _Connection) -> None:
        """Speak over another connection from now on; calls under way end on this one."""
        connection.is_stale = True
        if self._connection is connection:
            self._connection = None

    async def _connected(self) -> _Connection | httpx2.Response:
        """The connection, or how the server refused one."""
        failures = self._failures
        async with self._connecting:
            if self._connection is not None and self._connection.client.is_connected():
                return self._connection
            if self._failures != failures and self._failed is not None:
                # Tried while we waited. If each of many waited in vain for itself, the last would for minutes.
                if isinstance(self._failed, NotSent):
                    raise NotSent(self._failed.why)
                return self._failed
            try:
                connected = await self._connect()
            except NotSent as error:
                self._failed, self._failures = error, self._failures + 1
                raise
            if isinstance(connected, httpx2.Response):
                self._failed, self._failures = connected, self._failures + 1
            else:
                self._connection = connected
            return connected

    async def _connect(self) -> _Connection | httpx2.Response:
        # Imported on first use: it would add a third to the start (2026-11).
        from fastmcp import Client
        from fastmcp.client.transports import StreamableHttpTransport

        transport = StreamableHttpTransport(self._url, httpx_client_factory=cast(Any, self._client))
        client: Any = Client(transport, timeout=LONGEST, init_timeout=LONGEST)
        trip = Trip()
        before = TRIP.set(trip)
        try:
            await client.__aenter__()
            tools = {tool.name: Tool(tool.name, tool.input_schema) for tool in await client.list_tools()}
        except Exception as error:
            await _close(client)
            if trip.error is not None and not isinstance(trip.error, httpx2.HTTPError):
                raise trip.error from None
            if trip.refused is not None and trip.refused.status_code in SAYING:
                return trip.refused
            raise NotSent(f"no MCP connection: {_why(trip, error)}") from None
        except BaseException:  # whoever asked has gone; nobody else knows of this connection
            await _close(client)
            raise
        finally:
            TRIP.reset(before)
        return _Connection(client, tools)

    async def _ask(self, connection: _Connection, name: str, arguments: dict[str, Any]) -> Told:
        import mcp_types as types
        from mcp.shared.exceptions import MCPError

        params = types.CallToolRequestParams(name=name, arguments=arguments)
        trip = Trip()
        before = TRIP.set(trip)
        try:
            # Not `call_tool`: it holds answers to the server's output schema, and one field amiss would hide a booking.
            result = await connection.client.session.send_request(
                types.CallToolRequest(params=params), types.CallToolResult, LONGEST
            )
        except MCPError as error:
            if trip.error is not None:
                raise trip.error from None
            if trip.refused is not None:
                return _refused(connection, name, arguments, trip.refused)
            if trip.answer is None:  # it took too long, or the connection ended
                self._leave(connection)
                raise httpx2.ReadError(error.message) from None
            if error.code in (UNKNOWN, REFUSED):
                raise ToolsChanged(name, arguments) from None
            if error.code == UNREADABLE:
                raise Unreadable("no JSON-RPC") from None
            return Told(name, _bytes(error.message), is_error=True)
        except (ValueError, RuntimeError) as error:
            if trip.error is not None:
                raise trip.error from None
            if trip.answer is None:
                raise NotSent(f"the MCP connection was lost ({_name(error)})") from None
            raise Unreadable("no result of a tool") from None
        finally:
            TRIP.reset(before)
        headers = trip.answer.headers if trip.answer is not None else {}
        text = _text(result.structured_content, [each.text for each in result.content if each.type == "text"])
        words = text.partition(b"{")[0].decode(errors="replace")
        if result.is_error and CHANGED.search(words) and not STATED.match(text):
            raise ToolsChanged(name, arguments)
        return Told(name, text, is_error=bool(result.is_error), headers=headers)

    def _client(self, headers: Any = None, **_: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self._bridge, headers=headers, timeout=None)


class _SessionGone(Exception):
    """The server has forgotten the session, and did nothing."""


async def _close(client: Any) -> None:
    # Whoever gave up waiting for a call still has to close what it used; closing raises what ended the connection.
    with anyio.CancelScope(shield=True), suppress(Exception):
        await client.close()


def _refused(connection: _Connection, name: str, arguments: dict[str, Any], refused: httpx2.Response) -> Told:
    """What an HTTP error means. The server may say in it what it says otherwise with HTTP 200."""
    said, status = object_of(refused.content), refused.status_code
    if isinstance(result := said.get("result"), dict):  # (Google, 2026-09)
        blocks = [each.get("text", "") for each in result.get("content") or () if isinstance(each, dict)]
        content = _text(result.get("structuredContent"), blocks)
        told = {name: value for name, value in refused.headers.items() if name not in ENVELOPE}
        return Told(name, content, True, httpx2.Response(status, headers=told, content=content))
    error = said.get("error")
    code, message = (error.get("code"), str(error.get("message"))) if isinstance(error, dict) else (None, "")
    if connection.client.transport.get_session_id() and (
        status == 404 or (status == 400 and NO_SESSION.search(message))
    ):
        raise _SessionGone
    if code in (UNKNOWN, REFUSED) and status not in SAYING:
        raise ToolsChanged(name, arguments)
    if status in ABSENT:  # of the server, whatever was asked for
        raise NotSent(f"HTTP {status}")
    return Told(name, b"", refused=refused)


def _text(structured: Any, blocks: Sequence[str]) -> bytes:
    """The JSON that a tool answers with, in a field of its own or as text."""
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        # What is no object is wrapped into one (FastMCP, 2026-11); so is an API's JSON that is passed on as text.
        structured = structured["result"]
    if isinstance(structured, str):
        return _bytes(structured)
    if structured is not None:
        return json.dumps(structured).encode()
    whole = (each for each in blocks if object_of(each)) if len(blocks) > 1 else ()
    return _bytes(next(iter(whole), "".join(blocks)))


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
