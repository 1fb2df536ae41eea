"""A hosted MCP server in front of an emulated REST service: JSON-RPC 2.0 over streamable HTTP, written by hand.

Each tool asks the REST emulator in process, once, so that what the World counts and how it misbehaves is the same as
without a server in front. An exception there breaks the connection here. An answer that the API gives itself (JSON,
whatever its status) becomes a tool's result or its error; what comes from in front of an API (a redirect, 401, 429,
502 to 504, a page, JSON that was cut off) is passed on as it is, since it would have met the hosted server too.

`Quirks` say what differs between servers; a `Server` can be changed while a test runs: `hide`, `rename`, `respell` and
`reshape` its tools, `forget_sessions`, or let its next answers be `failures`. `messages` are all requests of the
protocol; `world.requests` has those that a tool makes of the API.

Weaknesses:
- No server speaks first: no event stream by GET, no notifications, no progress, nothing resumed.
- Arguments are checked against the tool's schema by JSON Schema alone, without conversions.
- 401, 404 and 405 of unknown servers are those of the official SDKs.
"""

import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal
from urllib.parse import unquote, urlencode
from uuid import uuid4

import anyio
from jsonschema import Draft202012Validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.emulators.wire import TOKEN

Json = dict[str, Any]
HANDSHAKES = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
STATELESS = "2026-07-28"
PARSE, INVALID, NO_METHOD, BAD_PARAMS, NO_SESSION = -32700, -32600, -32601, -32602, -32001
WELL_KNOWN = "/.well-known/oauth-protected-resource"
CAPABILITIES = {"tools": {"listChanged": False}}
FRESH = {"ttlMs": 0, "cacheScope": "private"}
# What stands in front of an API answers by these, not the API
IN_FRONT = frozenset({401, 429, 502, 503, 504})


@dataclass(frozen=True)
class Outcome:
    """What a tool found: the text of its JSON, the JSON itself, whether it failed, and the API's status."""

    text: str
    data: Any = None
    failed: bool = False
    status: int = 200


@dataclass(frozen=True)
class Asked:
    """A request; a stateless one is of the era without a handshake."""

    id: Any
    method: str
    params: Json
    stateless: bool


Handler = Callable[[Json], Awaitable[Outcome | Response]]


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    takes: Json
    call: Handler
    gives: Json | None = None
    hints: Mapping[str, bool] = field(default_factory=dict)

    def listed(self) -> Json:
        shown: Json = {"name": self.name, "description": self.description, "inputSchema": self.takes}
        if self.gives:
            shown["outputSchema"] = self.gives
        if self.hints:
            shown["annotations"] = dict(self.hints)
        return shown


@dataclass(frozen=True)
class Quirks:
    """How a hosted server differs from others. A vendor's module sets those that are known of it."""

    path: str = "/mcp"
    name: str = "emulated"
    version: str = "1.0.0"
    versions: Sequence[str] = HANDSHAKES
    """The protocol versions it takes in a handshake, newest last."""
    stateless: bool = False
    """It takes requests without a handshake too (2026-07-28)."""
    token: str = TOKEN
    let_in: Callable[[str], bool] | None = None
    """Decides over a bearer token instead of `token`."""
    open_handshake: bool = False
    """Everything but calls of tools works without a token."""
    metadata: Mapping[str, Any] | None = None
    """The protected resource's, without `resource`. None: there is none, and no 401 names it."""
    metadata_paths: Collection[str] = (WELL_KNOWN,)
    """Where it is."""
    resource: str | None = None
    """What it says to be the resource; by default the address it was asked at."""
    sse: bool = False
    """Answers are one event of a stream instead of JSON."""
    sessions: bool = False
    """`initialize` gives a session id, and without it nothing else works."""
    forgotten: int = 404
    """What a session that it does not know is answered with; the official SDKs had 400 for long."""
    results: Literal["both", "text", "structured", "wrapped", "remarked"] = "both"
    """Whether results are JSON as text, structured content, or both; wrapped, as FastMCP does with tools that answer
    text; or text with another text behind it."""
    page: int | None = None
    """How many tools a page of the list holds."""
    hidden: Collection[str] = ()
    """Tools it does not have."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Tools that have another name."""
    refuses_tools: bool = False
    """It answers `initialize` and knows nothing of tools."""
    unknown_as_result: bool = False
    """An unknown tool is a failed result, not a protocol error."""
    held: Mapping[str, anyio.Event] = field(default_factory=dict)
    """Methods that are not answered before their event is set."""

    @classmethod
    def of(cls, given: Mapping[str, Any], **vendor: Any) -> tuple["Quirks", Json]:
        """A vendor's quirks with those given, and what was given for the REST emulator behind it."""
        names = {each.name for each in fields(cls)}
        own = {name: value for name, value in given.items() if name in names}
        return cls(**vendor | own), {name: value for name, value in given.items() if name not in names}


class Server:
    """One MCP endpoint as an ASGI app. `wrong` says, in the vendor's words, why arguments are refused."""

    def __init__(
        self, tools: Iterable[Tool], quirks: Quirks, wrong: Callable[[Tool, Json], str | None] | None = None
    ) -> None:
        self.quirks = quirks
        self.tools = {tool.name: tool for tool in tools}
        self.messages: list[tuple[str, Json]] = []
        """What was asked, as (method, params), whatever came of it."""
        self.sessions: set[str] = set()
        self.failures: deque[Exception | Response | None] = deque()
        """How it misbehaves at its next requests, tool or not; None: it does not."""
        self.wrong = wrong or mistake
        self._info = {"name": quirks.name, "version": quirks.version}
        for name in quirks.hidden:
            self.hide(name)
        for old, new in quirks.renamed.items():
            self.rename(old, new)

    def hide(self, name: str) -> None:
        del self.tools[name]

    def rename(self, old: str, new: str) -> None:
        self.tools = {
            new if name == old else name: replace(tool, name=new) if name == old else tool
            for name, tool in self.tools.items()
        }

    def respell(self, name: str, old: str, new: str) -> None:
        """An argument gets another name."""
        tool = self.tools[name]
        takes = tool.takes | {
            "properties": {new if each == old else each: schema for each, schema in tool.takes["properties"].items()},
            "required": [new if each == old else each for each in tool.takes.get("required", ())],
        }

        async def call(arguments: Json) -> Outcome | Response:
            return await tool.call({old if each == new else each: value for each, value in arguments.items()})

        self.tools[name] = replace(tool, takes=takes, call=call)

    def reshape(self, name: str, takes: Json) -> None:
        """A tool takes other arguments; new ones have no effect, and without the old ones it needs it fails."""
        tool = self.tools[name]

        async def call(arguments: Json) -> Outcome | Response:
            given = {each: value for each, value in arguments.items() if each in tool.takes["properties"]}
            if set(tool.takes.get("required", ())) - set(given):
                return Outcome("what this tool does now is not emulated", failed=True)
            return await tool.call(given)

        self.tools[name] = replace(tool, takes=takes, call=call)

    def forget_sessions(self) -> None:
        self.sessions.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(Request(scope, receive))
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        failure = self.failures.popleft() if self.failures else None
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        quirks = self.quirks
        if request.url.path.startswith(WELL_KNOWN):
            return self._metadata(request)
        if request.url.path != quirks.path:
            return JSONResponse({"detail": "Not Found"}, 404)
        may = self._may_enter(request)
        if not may and not quirks.open_handshake:
            return self._unauthorized(request)
        if request.method == "DELETE" and quirks.sessions:
            return self._end_session(request)
        if request.method != "POST":
            return JSONResponse(_error(None, INVALID, "Method not allowed"), 405, {"Allow": "POST"})
        if refused := _unreadable(request):
            return refused
        try:
            message = json.loads(await request.body())
        except ValueError:
            return JSONResponse(_error(None, PARSE, "Parse error"), 400)
        if not _is_request(message):
            return JSONResponse(_error(None, INVALID, "Invalid Request"), 400)
        return await self._said(request, message, may)

    async def _said(self, request: Request, message: Json, may: bool) -> Response:
        version = request.headers.get("mcp-protocol-version")
        asked = Asked(message.get("id"), message["method"], message.get("params") or {}, version == STATELESS)
        self.messages.append((asked.method, asked.params))
        if refused := self._out_of_place(request, asked):
            return refused
        if "id" not in message:
            return Response(status_code=202)
        if asked.method in self.quirks.held:
            await self.quirks.held[asked.method].wait()
        if asked.method == "tools/call" and not may:
            return self._unauthorized(request, asked)
        match asked.method:
            case "initialize" if not asked.stateless:
                return self._initialize(asked)
            case "server/discover" if asked.stateless:
                return self._reply(asked, {"supportedVersions": [STATELESS], "capabilities": CAPABILITIES, **FRESH})
            case "ping":
                return self._reply(asked, {})
            case "tools/list" if not self.quirks.refuses_tools:
                return self._list(asked)
            case "tools/call" if not self.quirks.refuses_tools:
                return await self._call(asked)
        return self._reply(asked, error=(NO_METHOD, "Method not found"))

    def _out_of_place(self, request: Request, asked: Asked) -> Response | None:
        """Why a request is not for this server or this session; None if it is."""
        if asked.stateless and self.quirks.stateless:
            return None
        version = request.headers.get("mcp-protocol-version")
        if version is not None and version not in self.quirks.versions and asked.method != "initialize":
            said = f"Bad Request: Unsupported protocol version: {version}"
            return JSONResponse(_error(asked.id, -32000, said), 400)
        if not self.quirks.sessions or asked.method == "initialize":
            return None
        session = request.headers.get("mcp-session-id")
        if session is None:  # (as the TypeScript SDK does, 2026)
            return JSONResponse(_error(asked.id, -32000, "Bad Request: Mcp-Session-Id header is required"), 400)
        if session not in self.sessions:
            if self.quirks.forgotten == 400:  # (modelcontextprotocol/python-sdk#1004)
                return JSONResponse(_error(None, -32000, "Bad Request: No valid session ID provided"), 400)
            return JSONResponse(_error(asked.id, NO_SESSION, "Session not found"), 404)
        return None

    def _may_enter(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return False
        return self.quirks.let_in(token) if self.quirks.let_in else token == self.quirks.token

    def _unauthorized(self, request: Request, asked: Asked | None = None) -> Response:
        """The challenge; where everybody may look around, a tool that is called says so in a result of its own."""
        parts = ['error="invalid_token"'] if "authorization" in request.headers else []
        tool = asked.params.get("name") if asked else None
        if self.quirks.metadata is not None:
            path = f"{WELL_KNOWN}/{tool}" if tool else next(iter(self.quirks.metadata_paths))
            parts.append(f'resource_metadata="{_origin(request)}{path}"')
        body: Json = {"error": "invalid_token", "error_description": "The access token is missing or invalid"}
        if asked:
            said = Outcome("Request is missing required authentication credential.", failed=True)
            body = {"jsonrpc": "2.0", "id": asked.id, "result": self._result(said)}
        return JSONResponse(body, 401, {"WWW-Authenticate": f"Bearer {', '.join(parts)}".strip()})

    def _metadata(self, request: Request) -> Response:
        about, path = self.quirks.metadata, request.url.path
        known = path in self.quirks.metadata_paths or path.removeprefix(f"{WELL_KNOWN}/") in self.tools
        if about is None or not known or request.method != "GET":
            return JSONResponse({"detail": "Not Found"}, 404)
        return JSONResponse({"resource": self.quirks.resource or f"{_origin(request)}{self.quirks.path}"} | dict(about))

    def _initialize(self, asked: Asked) -> Response:
        wanted = asked.params.get("protocolVersion")
        version = wanted if wanted in self.quirks.versions else self.quirks.versions[-1]
        about = {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": self._info}
        reply = self._reply(asked, about)
        if self.quirks.sessions:
            session = uuid4().hex
            self.sessions.add(session)
            reply.headers["mcp-session-id"] = session
        return reply

    def _end_session(self, request: Request) -> Response:
        session = request.headers.get("mcp-session-id", "")
        if session not in self.sessions:
            return JSONResponse(_error(None, NO_SESSION, "Session not found"), 404)
        self.sessions.remove(session)
        return Response(status_code=200)

    def _list(self, asked: Asked) -> Response:
        tools, start = list(self.tools.values()), 0
        if (cursor := asked.params.get("cursor")) is not None:
            if not (isinstance(cursor, str) and cursor.isdecimal() and int(cursor) < len(tools)):
                return self._reply(asked, error=(BAD_PARAMS, "Invalid cursor"))
            start = int(cursor)
        end = start + (self.quirks.page or len(tools))
        found: Json = {"tools": [tool.listed() for tool in tools[start:end]]}
        if end < len(tools):
            found["nextCursor"] = str(end)
        if asked.stateless:
            found |= FRESH
        return self._reply(asked, found)

    async def _call(self, asked: Asked) -> Response:
        name, arguments = asked.params.get("name"), asked.params.get("arguments") or {}
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            if self.quirks.unknown_as_result:
                return self._reply(asked, self._result(Outcome(f"Unknown tool: {name}", failed=True)))
            return self._reply(asked, error=(BAD_PARAMS, f"Unknown tool: {name}"))
        if why := self.wrong(tool, arguments):
            return self._reply(asked, self._result(Outcome(why, failed=True)))
        found = await tool.call(arguments)
        return found if isinstance(found, Response) else self._reply(asked, self._result(found))

    def _result(self, found: Outcome) -> Json:
        is_object = isinstance(found.data, dict) and not found.failed
        structured = is_object and self.quirks.results not in ("text", "remarked")
        text = not structured or self.quirks.results in ("both", "wrapped")
        result: Json = {"content": [{"type": "text", "text": found.text}] if text else [], "isError": found.failed}
        if structured:
            result["structuredContent"] = {"result": found.text} if self.quirks.results == "wrapped" else found.data
        if self.quirks.results == "remarked":
            result["content"].append({"type": "text", "text": "Never show URIs to users."})
        return result

    def _reply(self, asked: Asked, result: Json | None = None, error: tuple[int, str] | None = None) -> Response:
        if asked.stateless and result is not None:
            result |= {"resultType": "complete", "_meta": {"io.modelcontextprotocol/serverInfo": self._info}}
        said = _error(asked.id, *error) if error else {"jsonrpc": "2.0", "id": asked.id, "result": result}
        if self.quirks.sse:
            return Response(f"event: message\ndata: {json.dumps(said)}\n\n", media_type="text/event-stream")
        return JSONResponse(said)


def _error(id: Any, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


def _is_request(message: Any) -> bool:
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0" and isinstance(message.get("method"), str)


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _unreadable(request: Request) -> Response | None:
    """Both kinds of answers must be accepted (MCP specification, streamable HTTP, 2025-03-26)."""
    accepted = request.headers.get("accept", "")
    if "application/json" not in accepted or "text/event-stream" not in accepted:
        said = "Not Acceptable: Client must accept both application/json and text/event-stream"
        return JSONResponse(_error(None, -32000, said), 406)
    if not request.headers.get("content-type", "").startswith("application/json"):
        return JSONResponse(_error(None, -32000, "Unsupported Media Type: Content-Type must be application/json"), 415)
    return None


def mistake(tool: Tool, arguments: Json) -> str | None:
    """The first thing that a tool's schema says against these arguments."""
    found = next(Draft202012Validator(tool.takes).iter_errors(arguments), None)
    return f"{found.json_path}: {found.message}" if found else None


class Rest:
    """The REST service behind the tools, asked in process."""

    def __init__(self, app: ASGIApp, root: str = "", token: str = TOKEN) -> None:
        self._app, self._root = app, root
        self._headers = [(b"host", b"rest"), (b"authorization", f"Bearer {token}".encode())]

    async def ask(
        self, method: str, path: str, query: Iterable[tuple[str, Any]] = (), body: Any = None
    ) -> Outcome | Response:
        """One request. `path` is quoted; values of `query` are as JSON has them, and None is left out."""
        sent = b"" if body is None else json.dumps(body).encode()
        headers = [*self._headers, (b"content-length", str(len(sent)).encode())]
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        path = self._root + path
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "headers": headers,
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": urlencode([(name, _plain(value)) for name, value in query if value is not None]).encode(),
            "server": ("rest", 443),
            "client": ("mcp", 1),
            "root_path": "",
        }
        status, got, parts = 500, [], []

        async def receive() -> Message:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, got
            if message["type"] == "http.response.start":
                status, got = message["status"], list(message.get("headers", ()))
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return read(status, got, b"".join(parts), method)


def read(status: int, headers: list[tuple[bytes, bytes]], body: bytes, method: str) -> Outcome | Response:
    """What the API said; or the answer as it is, if it is not the API's."""
    if status == 204 and method == "DELETE":
        return Outcome("")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        is_json = False
    else:
        is_json = True
    if is_json and status not in IN_FRONT and not 300 <= status < 400:
        return Outcome(body.decode(), data, status >= 400, status)
    passed = Response(body, status)
    length = (b"content-length", str(len(body)).encode())
    passed.raw_headers = [*(each for each in headers if each[0] != b"content-length"), length]
    return passed


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
