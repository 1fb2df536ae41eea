"""What every emulator shares: it records each request, checks it, and misbehaves when told to.

A failure is an exception to raise in place of answering (the connection breaks) or a `Starlette` response to give.
`Lost` lets the request take effect and then breaks the connection, as a network does that eats an answer; `Altered`
lets it take effect and changes the answer.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx2
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.world import Spent, World

TOKEN = "s3cret-t0ken"


class Lost(Exception):
    """The request is carried out and its answer never arrives."""


class Altered(Exception):
    """The request is carried out, and its answer's JSON is changed on the way back."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change


class Dialect(Protocol):
    """What differs between services on the way to a route."""

    def unauthorized(self, request: Request) -> Response: ...

    def too_many(self, request: Request, reset: int) -> Response:
        """Refuse; `reset` is in seconds."""

    def limits(self, limit: int, remaining: int, reset: int) -> Mapping[str, str]:
        """The headers of every answer."""

    def refuse(self, request: Request, body: Any) -> str | None:
        """Why the vendor's published schema refuses this request; None if it does not."""

    def malformed(self, request: Request, why: str) -> Response: ...


class Plain:
    """A service without rate limit headers or a published schema."""

    def unauthorized(self, request: Request) -> Response:
        return JSONResponse({"error": "unauthenticated"}, 401)

    def too_many(self, request: Request, reset: int) -> Response:
        return JSONResponse({"error": "slow down"}, 429)

    def limits(self, limit: int, remaining: int, reset: int) -> Mapping[str, str]:
        return {}

    def refuse(self, request: Request, body: Any) -> str | None:
        return None

    def malformed(self, request: Request, why: str) -> Response:
        return JSONResponse({"error": why}, 400)


def serve(world: World, routes: list[Route], dialect: Dialect | None = None) -> ASGIApp:
    app = Starlette(routes=routes)
    dialect = dialect or Plain()

    async def answer(request: Request) -> Response | None:
        """The answer to a request that gets no further; None lets it through."""
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return dialect.unauthorized(request)
        try:
            body = await request.json() if await request.body() else None
        except ValueError:
            body = None
        if why := dialect.refuse(request, body):
            world.violations.append(f"{request.method} {request.url.path}: {why}")
            return dialect.malformed(request, why)
        return None

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        world.requests.append((request.method, request.url.path))
        failure = world.failures.popleft() if world.failures else None
        if isinstance(failure, Response):
            await failure(scope, receive, send)
            return
        if isinstance(failure, Exception) and not isinstance(failure, Lost | Altered):
            raise failure
        try:
            headers = dialect.limits(world.allowance, *world.spend())
            stopped = await answer(request)
        except Spent as spent:
            headers = dialect.limits(world.allowance, 0, spent.reset)
            stopped = dialect.too_many(request, spent.reset)

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
                if isinstance(failure, Altered):
                    del MutableHeaders(scope=message)["content-length"]
            elif isinstance(failure, Altered) and message["body"]:
                message["body"] = json.dumps(failure.change(json.loads(message["body"]))).encode()
            await send(message)

        await (stopped or app)(
            scope, _replay(await request.body()), _nowhere if isinstance(failure, Lost) else labelled
        )
        if isinstance(failure, Lost):
            raise httpx2.ReadTimeout("the answer was lost")

    return wrapped


def _replay(body: bytes) -> Receive:
    """The body again, which was read to check it."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _nowhere(_: object) -> None: ...
