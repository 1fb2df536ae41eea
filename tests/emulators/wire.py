"""What every emulator shares: it records each request, checks the bearer token, and misbehaves when told to.

A failure is an exception to raise in place of answering (the connection breaks) or a `Starlette` response to give.
`Lost` lets the request take effect and then breaks the connection, as a network does that eats an answer.
"""

from collections.abc import Callable

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.world import World

TOKEN = "s3cret-t0ken"


class Lost(Exception):
    """The request is carried out and its answer never arrives."""


def serve(world: World, routes: list[Route]) -> ASGIApp:
    app = Starlette(routes=routes)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        world.requests.append((request.method, request.url.path))
        failure = world.failures.popleft() if world.failures else None
        if isinstance(failure, Lost):
            await app(scope, receive, _nowhere)
            raise httpx2.ReadTimeout("the answer was lost")
        if isinstance(failure, Exception):
            raise failure
        if isinstance(failure, Response):
            await failure(scope, receive, send)
        elif request.headers.get("authorization") != f"Bearer {TOKEN}":
            await JSONResponse({"error": "unauthenticated"}, 401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return wrapped


async def _nowhere(_: object) -> None: ...


Answering = Callable[[World], ASGIApp]
