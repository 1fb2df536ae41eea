"""What an MCP client sends, sent through an HTTP client of ours, with its sign-in and limits; and how that fared.

Answers that come as a stream of events reach the MCP client as the JSON that they carry.
"""

import json
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2

from providers.watch import NOBODY, Watched

KEPT_HEADERS = ("content-type", "mcp-session-id")
# They were of the answer as it came, not of what it says.
ENVELOPE = ("content-length", "content-encoding", "transfer-encoding")
OWN_HEADERS = ("host", "content-length", "connection", "accept-encoding", "user-agent")


@dataclass(slots=True)
class Trip:
    """How the HTTP requests of one call fared."""

    answer: httpx2.Response | None = None
    error: Exception | None = None

    @property
    def refused(self) -> httpx2.Response | None:
        return self.answer if self.answer is not None and not self.answer.is_success else None


TRIP: ContextVar[Trip | None] = ContextVar("trip", default=None)


class Bridge(httpx2.AsyncBaseTransport):
    """Sends what the MCP client sends through `http`, and notes how it fared. Never raises: an exception here would end
    the connection for every other call on it."""

    def __init__(self, http: httpx2.AsyncClient, watched: Watched = NOBODY) -> None:
        self._http = http
        self._watched = watched

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(405, request=request)  # a stream of notices, of which we want none
        trip = TRIP.get() or Trip()
        trip.answer, trip.error = None, None
        try:
            answer = await self._sent(request)
        except Exception as error:
            trip.error = error
            return httpx2.Response(502, request=request)
        trip.answer = answer
        if answer.is_redirect:
            return httpx2.Response(502, request=request)
        kept = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
        return httpx2.Response(answer.status_code, headers=kept, content=answer.content, request=request)

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in OWN_HEADERS}
        sent = self._http.stream(request.method, request.url, headers=headers, content=await request.aread())
        with self._watched(request.method, request.url.host) as exchange:
            async with sent as answer:
                exchange.answered(answer)
                told = {name: value for name, value in answer.headers.items() if name not in ENVELOPE}
                if answer.headers.get("content-type", "").lower().startswith("text/event-stream"):
                    content, told["content-type"] = await _message(answer), "application/json"
                else:
                    content = await answer.aread()
        return httpx2.Response(answer.status_code, headers=told, content=content, request=answer.request)


async def _message(answer: httpx2.Response) -> bytes:
    """The message that a stream was opened for. What a server may send besides is not waited for, nor that it ends."""
    async for event in httpx2.EventSource(answer, max_event_size=None):
        if event.data and not {"result", "error"}.isdisjoint(object_of(event.data)):
            return event.data.encode()
    return b""


def object_of(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a text is; empty if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
