"""How often something may be tried in a minute, by all callers of one process together."""

from collections import deque
from datetime import datetime, timedelta

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from providers import Clock

MINUTE = timedelta(minutes=1)


class Tries:
    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[datetime] = deque(maxlen=per_minute)

    def is_over(self) -> bool:
        """Whether it may not be tried now; else it is counted."""
        now = self._clock.now()
        is_over = len(self._seen) == self._seen.maxlen and now - self._seen[0] < MINUTE
        if not is_over:
            self._seen.append(now)
        return is_over


class Bounded:
    """A route that takes no more than so many requests."""

    def __init__(self, app: ASGIApp, tries: Tries) -> None:
        self._app = app
        self._tries = tries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["method"] != "OPTIONS" and self._tries.is_over():
            said = "Too many ask for this just now. Try again in a minute."
            app = JSONResponse(
                {"error": "temporarily_unavailable", "error_description": said}, 429, {"Retry-After": "60"}
            )
        await app(scope, receive, send)
