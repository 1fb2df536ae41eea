"""Who looks at our pages: a browser's session, and the word that its forms have to carry (against CSRF)."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.core import Gateway

SESSION = "session"
LASTS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Session:
    """Of who signed in, `claims` are what their provider says of them, or `token` is the key that they have: whether it
    still lets them in is asked each time. However often it is used, it is over when it `ends`."""

    key: str = field(repr=False)
    csrf: str = field(repr=False)
    claims: Mapping[str, Any] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ends: datetime | None = None


async def session_of(gateway: Gateway, request: Request) -> Session | None:
    """The session that a browser has; None if it has none, or none any more."""
    key = request.cookies.get(SESSION, "")
    kept = await gateway.vault.get(SESSION, key) if key else None
    if kept is None:
        return None
    ends = kept.get("ends") and datetime.fromisoformat(kept["ends"])
    return Session(key, kept["csrf"], kept.get("claims"), kept.get("token"), ends)


async def begin(gateway: Gateway, request: Request, answer: Response, session: Session) -> None:
    """Keep a new session, and give the browser its cookie."""
    kept = {
        "csrf": session.csrf,
        "claims": session.claims and dict(session.claims),
        "token": session.token,
        "ends": session.ends and session.ends.isoformat(),
    }
    await gateway.vault.put(SESSION, session.key, kept, until=_until(gateway, session))
    _give(gateway, request, answer, session)


async def extend(gateway: Gateway, request: Request, answer: Response, session: Session) -> None:
    """Keep a session for longer, unless it has ended meanwhile: whoever signed out stays signed out."""
    await gateway.vault.keep(SESSION, session.key, _until(gateway, session))
    if await gateway.vault.get(SESSION, session.key) is not None:
        _give(gateway, request, answer, session)


def _until(gateway: Gateway, session: Session) -> datetime:
    until = gateway.clock.now() + LASTS
    return min(until, session.ends or until)


def _give(gateway: Gateway, request: Request, answer: Response, session: Session) -> None:
    answer.set_cookie(
        SESSION,
        session.key,
        max_age=int(LASTS.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_encrypted(gateway, request),
    )


async def end(gateway: Gateway, answer: Response, session: Session) -> None:
    """Forget a session, and have the browser forget it."""
    await gateway.vault.drop(SESSION, session.key)
    answer.delete_cookie(SESSION, path="/")


def is_encrypted(gateway: Gateway, request: Request) -> bool:
    """Whether a browser comes by https, be it to a proxy that passes it on without."""
    return request.url.scheme == "https" or (gateway.connecting.url or "").startswith("https://")


def new(**signed_in: Any) -> Session:
    return Session(secrets.token_urlsafe(32), secrets.token_urlsafe(24), **signed_in)


def may(session: Session | None, form: Mapping[str, Sequence[str]]) -> bool:
    """Whether a form was sent by a page that this session was shown."""
    return session is not None and is_same(session.csrf, form.get("csrf", [""])[0])


def is_same(known: str, given: str) -> bool:
    """Whether somebody knows a secret; how long that takes to tell does not give it away."""
    return compare_digest(known.encode(), given.encode())
