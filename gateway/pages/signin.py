"""`/signin`: who looks at our pages, where the gateway lets nobody in unknown. By their provider's word, or by a key.

Signing in at the provider is authorization code with PKCE, a state that the browser has to come back with, and an ID
token made for this very sign-in. A key is sent in a form, and never stands in an address.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from re import fullmatch
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.callers import LOCAL, Caller
from gateway.core import Gateway
from gateway.pages.sessions import begin, end, is_encrypted, is_same, may, new, session_of
from gateway.pages.shown import HEADERS, below, form, message, render, told
from gateway.server_config import KeysAuth, NoAuth, OAuthAuth
from gateway.tries import Tries
from schemas import InvalidRequest, NotConnected, SchedulingError

if TYPE_CHECKING:
    from gateway.door import Door
    from providers.oauth.openid import Known, OpenId

SIGNIN, CALLBACK, SIGNOUT = "/signin", "/signin/callback", "/signout"
STARTED = "signing-in"
"""The cookie that tells whether it is the same browser, and the kind of what is kept of a sign-in under way."""

MINUTES = timedelta(minutes=10)
"""So long a person has to sign in at the provider."""

SIGNED_IN = timedelta(hours=8)
"""How long a browser is known at most, however often it comes."""

STARTS = 600
"""How many may be sent to the provider in a minute, from one process. Keys may be tried without a bound: nobody guesses
one, and a bound that all share would let whoever uses it up keep the others out."""

NOT_BEGUN = "This sign-in was not begun in this browser, was finished already, or took longer than ten minutes."
NOT_LET_IN = ("You may not come in", "You are signed in as {who}, and nobody has let you in here. Ask who runs this.")


def routes(gateway: Gateway) -> list[Route]:
    """The pages of signing in; none where nobody has to."""
    door, auth = gateway.door, gateway.config.server.auth
    return [] if door is None or isinstance(auth, NoAuth) else SigninPages(gateway, auth, door).routes()


async def visitor(gateway: Gateway, request: Request) -> Caller | None:
    """Who looks at a page; None for whoever has to sign in first. Where nobody has to, it is this machine's user."""
    if (door := gateway.door) is None:
        return LOCAL
    session = await session_of(gateway, request)
    if session is None:
        return None
    if session.token is not None:
        return await door.by_key(session.token)
    return None if session.claims is None else await door.by_claims(session.claims)


def to_sign_in(gateway: Gateway, request: Request) -> Response:
    """To the page of signing in, and from there back to this one."""
    here = below(gateway, request.url.path) + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{below(gateway, SIGNIN)}?{urlencode({'next': here})}", 303, headers=HEADERS)


class SigninPages:
    def __init__(self, gateway: Gateway, auth: KeysAuth | OAuthAuth, door: "Door") -> None:
        self._gateway = gateway
        self._auth = auth
        self._door = door
        self._tries = Tries(STARTS, gateway.clock)
        self._takes_keys = isinstance(auth, KeysAuth) or auth.keys

    def routes(self) -> list[Route]:
        keys = [Route(f"{SIGNIN}/key", told(self.key), methods=["POST"])] if self._takes_keys else []
        provider = [
            Route(f"{SIGNIN}/start", told(self.start), methods=["GET"]),
            Route(CALLBACK, told(self.callback), methods=["GET"]),
        ]
        return [
            Route(SIGNIN, told(self.show), methods=["GET"]),
            *(provider if isinstance(self._auth, OAuthAuth) else []),
            *keys,
            Route(SIGNOUT, told(self.signout), methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The ways to sign in; on to the provider where that is the only one."""
        if not self._takes_keys:
            return await self.start(request)
        return self._page(request, self._next(request.query_params.get("next")))

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        from mcp.client.auth import PKCEParameters

        if self._tries.is_over():
            return message("You are not signed in", "Too many sign in just now. Wait a minute, then try again.", 429)
        await self._gateway.open()
        known = await self._openid.known()
        proof = PKCEParameters.generate()
        state, nonce, holder = (secrets.token_urlsafe(32) for _ in range(3))
        kept = {
            "holder": holder,
            "verifier": proof.code_verifier,
            "nonce": nonce,
            "next": self._next(request.query_params.get("next")),
        }
        await self._gateway.vault.put(STARTED, state, kept, until=self._gateway.clock.now() + MINUTES)
        answer = RedirectResponse(self._address(known, proof.code_challenge, state, nonce), 303, headers=HEADERS)
        self._mark(request, answer, holder)
        return answer

    async def callback(self, request: Request) -> Response:
        """Take what the browser came back with from the provider."""
        await self._gateway.open()
        query = request.query_params
        kept = await self._gateway.vault.take(STARTED, query.get("state", ""))
        if kept is None or not is_same(kept["holder"], request.cookies.get(STARTED, "")):
            return self._again(NOT_BEGUN, None)
        try:
            person = await self._person(query, kept)
        except SchedulingError as error:
            return self._again(error.message, kept["next"])
        claims = dict(person.claims)
        if await self._door.by_claims(claims) is None:
            title, text = NOT_LET_IN
            return message(title, text.format(who=claims.get("email") or claims["sub"]), 403)
        return await self._let_in(request, kept["next"], claims=claims)

    async def key(self, request: Request) -> Response:
        """Take a key."""
        await self._gateway.open()
        given = await form(request)
        to, word = self._next(given.get("next", [""])[0]), given.get("csrf", [""])[0]
        holder = request.cookies.get(STARTED, "")
        if not holder or not is_same(_word(holder), word):
            return self._page(request, to, "This page was open too long. Enter the key once more.", 403)
        token = given.get("key", [""])[0].strip()
        if not token or await self._door.by_key(token) is None:
            return self._page(request, to, "This key does not let anybody in. Check that it is complete.", 403)
        return await self._let_in(request, to, token=token)

    async def signout(self, request: Request) -> Response:
        await self._gateway.open()
        session = await session_of(self._gateway, request)
        again = (below(self._gateway, SIGNIN), "Sign in")
        if session is not None and not may(session, await form(request)):
            return message("This page was open too long", "You are still signed in. Go back and try again.", 403)
        answer = message("You are signed out", "Close the window if others use this browser.", 200, again)
        if session is not None:
            await end(self._gateway, answer, session)
        return answer

    async def _person(self, query: Mapping[str, str], kept: Mapping[str, Any]) -> Any:
        """Raises: InvalidRequest, NotConnected, ProviderDown or RateLimited if it is not known who that is."""
        from providers.oauth.answers import check_issuer

        server = (await self._openid.known()).server
        check_issuer(query.get("iss"), server)
        if "code" not in query:
            declined = query.get("error") == "access_denied"
            raise NotConnected("You did not sign in." if declined else "The provider did not let anybody sign in.")
        exchange = {
            "grant_type": "authorization_code",
            "code": query["code"],
            "redirect_uri": self._callback,
            "code_verifier": kept["verifier"],
        }
        return (await self._openid.exchanged(exchange, nonce=kept["nonce"])).person

    async def _let_in(self, request: Request, to: str, **how: Any) -> Response:
        """A session of its own, whichever the browser had before."""
        answer = RedirectResponse(to, 303, headers=HEADERS)
        if (before := await session_of(self._gateway, request)) is not None:
            await end(self._gateway, answer, before)
        await begin(self._gateway, request, answer, new(**how, ends=self._gateway.clock.now() + SIGNED_IN))
        answer.delete_cookie(STARTED, path=below(self._gateway, SIGNIN))
        return answer

    def _page(self, request: Request, to: str, problem: str | None = None, status: int = 200) -> Response:
        holder = request.cookies.get(STARTED) or secrets.token_urlsafe(32)
        start = f"{below(self._gateway, SIGNIN)}/start?{urlencode({'next': to})}"
        page = render(
            "signin.html",
            status,
            action=f"{below(self._gateway, SIGNIN)}/key",
            csrf=_word(holder),
            next=to,
            problem=problem,
            start=start if isinstance(self._auth, OAuthAuth) else None,
        )
        self._mark(request, page, holder)
        return page

    def _again(self, why: str, to: str | None) -> Response:
        again = f"{below(self._gateway, SIGNIN)}?{urlencode({'next': to})}" if to else below(self._gateway, SIGNIN)
        return message("You are not signed in", why, 400, (again, "Try again"))

    def _address(self, known: "Known", challenge: str, state: str, nonce: str) -> str:
        assert isinstance(self._auth, OAuthAuth)  # noqa: S101 - for the type checker
        query = {
            "response_type": "code",
            "client_id": known.client.id,
            "redirect_uri": self._callback,
            "scope": " ".join(self._auth.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return str(httpx2.URL(known.server.authorization).copy_merge_params(query))

    def _mark(self, request: Request, answer: Response, holder: str) -> None:
        answer.set_cookie(
            STARTED,
            holder,
            max_age=int(MINUTES.total_seconds()),
            path=below(self._gateway, SIGNIN),
            httponly=True,
            samesite="lax",
            secure=is_encrypted(self._gateway, request),
        )

    def _next(self, asked: str | None) -> str:
        """Where to go afterwards: a path of ours, whatever was asked for."""
        # A browser takes // and /\ for the beginning of a host, and leaves out tabs and line breaks.
        is_ours = asked is not None and fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,2000}", asked)
        return asked if asked is not None and is_ours else below(self._gateway, "/accounts")

    @property
    def _callback(self) -> str:
        return f"{self._gateway.connecting.url}{CALLBACK}"

    @property
    def _openid(self) -> "OpenId":
        if self._door.openid is None:
            raise InvalidRequest("Here one signs in with a key.")
        return self._door.openid


def _word(holder: str) -> str:
    """What a form has to carry that was shown to the browser with this cookie."""
    return sha256(f"form of {holder}".encode()).hexdigest()
