"""What every HTTP request goes through before anything else: it gets an id, must be short and come in time, and its
answer carries the headers that a browser should see. Nothing is held back: streams stay streams.
"""

import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import telemetry
from gateway.limits import Limits
from gateway.server_config import ServerConfig
from providers import Clock, SystemClock
from schemas import ProviderDown, RateLimited

log = logging.getLogger(__name__)

BODY = 30.0
"""How long a request may take to come, once it has begun, in seconds."""

PAGE = 32_768
"""How many bytes a request may have that is not for the MCP server: a form, or a step of signing in."""

LONGEST = 240.0
"""How long a call of a tool, or a page, may take, in seconds; clients give up after 300."""

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""What an id may look like that a request brings along."""

HARDENED = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    # `no-referrer` would have browsers send forms with the origin "null", which the server refuses.
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
# A page that says so in its own text what it may load, as FastMCP's do, would lose its style to the one above.
IN_NO_FRAME = b"frame-ancestors 'none'"
HTTPS_ALONE = b"max-age=31536000"

_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_front: ContextVar["Front | None"] = ContextVar("front", default=None)


def request_id() -> str | None:
    """What the request that is being answered is known by; None if there is none."""
    return _id.get()


@contextmanager
def identified(id: str | None = None) -> Iterator[None]:
    """What is done here is known by this id: over stdio there is no request to bring one."""
    token = _id.set(id or uuid4().hex)
    try:
        yield
    finally:
        _id.reset(token)


def front() -> "Front | None":
    """What the request came through; None for what did not come over HTTP."""
    return _front.get()


def admitted(caller: str) -> AbstractContextManager[None]:
    """A call of theirs goes on meanwhile. Raises as `Front.admitted`; what does not come over HTTP has no limits."""
    return nullcontext() if (through := _front.get()) is None else through.admitted(caller)


class Front:
    """The HTTP application as it is served. `is_draining` when it was told to stop and takes no new calls."""

    def __init__(self, app: ASGIApp, config: ServerConfig, clock: Clock | None = None) -> None:
        self._app = app
        self._path = config.path
        self._most = config.limits.request_bytes
        self._clock = clock or SystemClock()
        self._limits = Limits(config.limits, self._clock)
        self._hardened = dict(HARDENED)
        if (config.public_url or "").startswith("https://"):
            self._hardened[b"strict-transport-security"] = HTTPS_ALONE
        self.is_draining = False
        self.calls = 0
        """How many calls of tools are under way."""

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """A call of theirs goes on meanwhile. Raises ProviderDown when told to stop, RateLimited beyond a limit."""
        if self.is_draining:
            telemetry.REFUSED.add(1, {"limit": "draining"})
            raise ProviderDown("The gateway is being stopped. Nothing was changed; try again in a moment.")
        with self._limits.admitted(caller):
            self.calls += 1
            try:
                yield
            finally:
                self.calls -= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        token = _front.set(self)
        try:
            with identified(given.decode() if ID.fullmatch(given) else None):
                await self._answered(scope, receive, _Answer(send, self._hardened))
        finally:
            _front.reset(token)

    async def _answered(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            come = await self._come(scope, receive)
            if come is None:
                return
            if scope["path"] == self._path:  # tools see to it themselves, and a client may listen as long as it likes
                await self._app(scope, come, answer.send)
                return
            with self._clock.within(LONGEST):
                await self._app(scope, come, answer.send)
        except _Refused as refused:
            telemetry.REFUSED.add(1, {"limit": refused.limit})
            await answer.refuse(refused.status, str(refused))
        except TimeoutError:
            log.error("gave up %s %s: it took too long", scope["method"], _kind(scope))
            await answer.refuse(503, "This took too long and was given up. Try again later.")
        except ClientDisconnect:
            log.debug("%s %s: whoever asked has gone", scope["method"], _kind(scope))
        except (ProviderDown, RateLimited) as error:  # of the database, or where people sign in
            log.warning("%s %s: %s", scope["method"], _kind(scope), error)
            await answer.refuse(503, error.message, error.retry_after)
        except Exception:
            log.exception("%s %s failed in a way nobody foresaw", scope["method"], _kind(scope))
            await answer.refuse(500, f"The gateway failed; its log has more under request {request_id()}.")

    async def _come(self, scope: Scope, receive: Receive) -> Receive | None:
        """The request, when all of it has come; None if whoever sent it has gone. Raises _Refused."""
        most = self._most if scope["path"] == self._path else min(PAGE, self._most)
        headers = dict(scope["headers"])
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > most:
            raise _too_long(most)
        if stated.strip(b"0") == b"" and b"transfer-encoding" not in headers:
            return receive
        parts: list[bytes] = []
        length = 0
        try:
            with self._clock.within(BODY):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    length += len(parts[-1])
                    if length > most:
                        raise _too_long(most)
                    if not message.get("more_body", False):
                        return _again(b"".join(parts), receive)
        except TimeoutError:
            raise _Refused(408, "slow", f"The request has not come within {BODY:.0f} seconds.") from None


class _Refused(Exception):
    """A request that is not looked at."""

    def __init__(self, status: int, limit: str, message: str) -> None:
        super().__init__(message)
        self.status, self.limit = status, limit


class _Answer:
    """The answer to a request, on its way."""

    def __init__(self, send: Send, hardened: dict[bytes, bytes]) -> None:
        self._send = send
        self._hardened = hardened
        self._has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            message = {**message, "headers": [*self._headers(list(message.get("headers", ())))]}
        await self._send(message)

    def _headers(self, given: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        own = {name.lower(): value for name, value in given}
        yield from given
        for name, value in self._hardened.items():
            if name not in own:
                is_page = name == b"content-security-policy" and own.get(b"content-type", b"").startswith(b"text/html")
                yield name, IN_NO_FRAME if is_page else value
        if b"x-request-id" not in own:
            yield b"x-request-id", (request_id() or "").encode()

    async def refuse(self, status: int, text: str, retry_after: float | None = None) -> None:
        """Answer that, unless an answer has begun; one that has is broken off. Then the connection is over."""
        if self._has_begun:
            return
        body = json.dumps({"error": text}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([] if retry_after is None else [(b"retry-after", str(math.ceil(retry_after)).encode())]),
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _too_long(most: int) -> _Refused:
    return _Refused(413, "request_bytes", f"A request may have {most} bytes.")


def _kind(scope: Scope) -> str:
    """The first part of a path; what follows may be a link that is somebody's secret."""
    return f"/{scope['path'].split('/')[1]}"


def _again(body: bytes, receive: Receive) -> Receive:
    """What a request says, as it came, and then whatever comes."""
    is_told = False

    async def told() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return told
