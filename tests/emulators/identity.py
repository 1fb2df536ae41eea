"""An OpenID Connect provider that a company signs its people in with, to be served on loopback.

Emulated, with the source of each rule:
- what it says of itself (OpenID Connect Discovery 1.0, 4), and the keys that it signs with (RFC 7517)
- the code: for one client, redirect URI and PKCE challenge (S256 alone), once; `iss` with the answer (RFC 9207)
- ID tokens (Core 1.0, 2): signed by RS256, with the nonce that was asked for, with addresses and groups for the scopes
  `email` and `groups` or `profile`; a new one with a renewal, which is optional (Core 1.0, 12.2)
- refresh tokens for one use; one that comes twice ends the grant (RFC 9700, 4.14.2)

Weaknesses: whoever opens the address is `person` and consents. Made up: the words of errors, and which scope brings
groups, which is each provider's own matter.
"""

import base64
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from providers import Clock
from tests.emulators.authorization import Refused

ANA: dict[str, Any] = {"sub": "ana-1", "email": "ana@example.com", "email_verified": True, "groups": ["staff"]}
BEN: dict[str, Any] = {"sub": "ben-2", "email": "ben@example.com", "email_verified": True, "groups": ["guests"]}
CLIENT, SECRET = "gateway-client", "s3cret+of/the%client"
Json = dict[str, Any]


def key(id: str = "first") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": id, "use": "sig", "alg": "RS256"})


KEY = key()
"""Made once: it takes a while."""


@dataclass
class Grant:
    person: Json
    scopes: tuple[str, ...]
    nonce: str | None
    refresh: str
    spent: tuple[str, ...] = ()
    ended: bool = False


class IdentityProvider:
    """Quirks: `person` is who signs in next; `redirect_uris` are registered for the client; ID tokens and access tokens
    are good for `life` seconds; without `renews` a renewal brings no ID token; `alter` changes what an ID token says;
    `keys` sign, the first of them, and are named; `failures` meet the next requests for a token, `no_keys` those for
    the keys; `metadata` changes what it says of itself."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.issuer = ""
        self.person: Json = ANA
        self.redirect_uris: list[str] = []
        self.life = 3600
        self.renews = True
        self.consents = True
        self.alter: Callable[[Json], Json] = lambda claims: claims
        self.metadata: Json = {}
        self.keys = [KEY]
        self.named: list[RSAKey] | None = None
        self.failures: deque[Response] = deque()
        self.no_keys: Response | None = None
        self.discovered = self.named_keys = 0
        self.asked: list[Mapping[str, str]] = []
        self.renewals = 0
        self.tokens: list[str] = []
        """Every secret that it handed out."""
        self._codes: dict[str, tuple[Mapping[str, str], Json]] = {}
        self._grants: list[Grant] = []
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._said),
                Route("/keys", self._named),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ],
            exception_handlers={Refused: lambda _, refused: refused.answer},
        )

    def end(self) -> None:
        """What was consented to, ends."""
        for grant in self._grants:
            grant.ended = True

    def id_token(self, person: Json, scopes: tuple[str, ...], nonce: str | None) -> str:
        now = int(self.clock.now().timestamp())
        claims = {"iss": self.issuer, "sub": person["sub"], "aud": CLIENT, "iat": now, "exp": now + self.life}
        shown = {"email": ("email", "email_verified"), "profile": ("groups",)}
        claims |= {name: person[name] for scope in scopes for name in shown.get(scope, ()) if name in person}
        if nonce is not None:
            claims["nonce"] = nonce
        return self.signed(self.alter(claims))

    def signed(self, claims: Json, **header: Any) -> str:
        return jwt.encode({"alg": "RS256", "kid": self.keys[0].kid, **header}, claims, self.keys[0])

    async def _said(self, _: Request) -> Response:
        self.discovered += 1
        said = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "email", "profile", "offline_access"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(said | self.metadata)

    async def _named(self, _: Request) -> Response:
        self.named_keys += 1
        return self.no_keys or JSONResponse({"keys": [key.as_dict(private=False) for key in self.named or self.keys]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        if asked.get("client_id") != CLIENT or asked.get("redirect_uri") not in self.redirect_uris:
            return PlainTextResponse("redirect_uri_mismatch", 400)
        is_whole = asked.get("code_challenge_method") == "S256" and len(asked.get("code_challenge", "")) == 43
        if asked.get("response_type") != "code" or "openid" not in asked.get("scope", "").split() or not is_whole:
            return PlainTextResponse("invalid_request", 400)
        answer = {"state": asked["state"], "iss": self.issuer}
        if not self.consents:
            answer |= {"error": "access_denied", "error_description": "The person <b>declined</b>."}
        else:
            answer["code"] = self._secret()
            self._codes[answer["code"]] = (asked, self.person)
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self._check_client(request, form)
        if form.get("grant_type") == "refresh_token":
            self.renewals += 1
        if self.failures:
            return self.failures.popleft()
        if form.get("grant_type") == "refresh_token":
            return self._renewed(form["refresh_token"])
        asked, person = self._codes.pop(form.get("code", ""), ({}, {}))
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        if asked.get("code_challenge") != challenge or asked.get("redirect_uri") != form.get("redirect_uri"):
            raise Refused("invalid_grant", "The code is not good.")
        grant = Grant(person, tuple(asked["scope"].split()), asked.get("nonce"), self._secret())
        self._grants.append(grant)
        return self._answer(grant, with_identity=True)

    def _renewed(self, refresh: str) -> Response:
        for grant in self._grants:
            if refresh in grant.spent:
                grant.ended = True
            if refresh == grant.refresh and not grant.ended:
                grant.spent += (refresh,)
                grant.refresh = self._secret()
                # Who it is may have changed since.
                grant.person = {**grant.person, **{k: v for k, v in self.person.items() if k != "sub"}}
                return self._answer(grant, with_identity=self.renews)
        raise Refused("invalid_grant", "The refresh token is not good.")

    def _answer(self, grant: Grant, *, with_identity: bool) -> Response:
        answer = {
            "access_token": self._secret(),
            "token_type": "Bearer",
            "expires_in": self.life,
            "refresh_token": grant.refresh,
            # In its own spelling, as Google has it.
            "scope": " ".join(f"https://scopes.test/{scope}" for scope in grant.scopes),
        }
        if with_identity:
            answer["id_token"] = self.id_token(grant.person, grant.scopes, grant.nonce)
            self.tokens.append(str(answer["id_token"]))
        return JSONResponse(answer)

    def _check_client(self, request: Request, form: Mapping[str, str]) -> None:
        given = request.headers.get("authorization", "").removeprefix("Basic ")
        id, _, secret = base64.b64decode(given).decode().partition(":")
        if (unquote(id), unquote(secret)) != (CLIENT, SECRET):
            raise Refused("invalid_client", "The client is not known.", 401)

    def _secret(self) -> str:
        self.tokens.append(secrets.token_urlsafe(24))
        return self.tokens[-1]
