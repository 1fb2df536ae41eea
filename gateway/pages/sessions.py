"""Who looks at the operator's pages: a browser's session, and the word that its forms have to carry (against CSRF)."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hmac import compare_digest

from starlette.requests import Request
from starlette.responses import Response

from gateway.callers import LOCAL
from gateway.core import Gateway

SESSION = "session"
LASTS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Session:
    key: str
    caller: str
    csrf: str


async def session_of(gateway: Gateway, request: Request) -> Session | None:
    """The session that a browser has; None if it has none, or none any more."""
    key = request.cookies.get(SESSION, "")
    kept = await gateway.vault.get(SESSION, key) if key else None
    return None if kept is None else Session(key, kept["caller"], kept["csrf"])


async def begin(gateway: Gateway, request: Request, answer: Response, session: Session) -> None:
    """Keep a session, and give the browser its cookie."""
    kept = {"caller": session.caller, "csrf": session.csrf}
    await gateway.vault.put(SESSION, session.key, kept, until=gateway.clock.now() + LASTS)
    answer.set_cookie(
        SESSION,
        session.key,
        max_age=int(LASTS.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def new() -> Session:
    return Session(secrets.token_urlsafe(32), LOCAL.name, secrets.token_urlsafe(24))


def may(session: Session | None, form: Mapping[str, Sequence[str]]) -> bool:
    """Whether a form was sent by a page that this session was shown."""
    given = form.get("csrf", [""])[0]
    # As bytes: of two texts it takes ASCII alone.
    return session is not None and compare_digest(session.csrf.encode(), given.encode())
