"""An OAuth 2 authorization server, and what stands before a server that asks it.

Emulated, with the source of each rule:
- metadata (RFC 8414), also where OpenID Connect has it; dynamic registration with Calendly's rules: a client's name in
  letters, digits, spaces and hyphens, redirect URIs that are https or of this machine, exact, without user info or
  wildcards, `response_types` code, public clients; mistakes field by field.
  https://developer.calendly.com/calendly-mcp-server (2026-10)
- the code: for one client, redirect URI, resource (RFC 8707) and PKCE challenge (S256 alone), for ten minutes, once;
  a code that comes twice ends what it brought (RFC 6749, 4.1.2); `iss` with every answer (RFC 9207)
- access tokens for two hours, refresh tokens for one use; one that comes twice ends the grant
  (https://developer.calendly.com/refresh-token-rotation-guide)
- revocation (RFC 7009), of a whole grant
- `Protected`: a 401 that names the metadata of a server (RFC 9728), and 403 for too few scopes (RFC 6750, 3.1)

Weaknesses: whoever opens the address consents, unless told not to. There is one person. Made up: the words of errors,
that `resource` is checked (a real server may ignore it), and the limits of what is a redirect URI.
"""

import base64
import hashlib
import re
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from providers import Clock
from tests.emulators.wire import Lost

CODE_LIFE = timedelta(minutes=10)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
LASTING = {"access_type": "offline", "prompt": "consent"}
Json = dict[str, Any]


@dataclass
class Grant:
    """What was consented to, and the tokens that it brought."""

    client: str
    scopes: tuple[str, ...]
    resource: str | None
    access: dict[str, datetime] = field(default_factory=dict)
    refresh: str | None = None
    spent: list[str] = field(default_factory=list)
    revoked: bool = False


@dataclass
class Code:
    asked: Mapping[str, str]
    scopes: tuple[str, ...]
    until: datetime
    brought: Grant | None = None


class Refused(Exception):
    def __init__(self, error: str, description: str, status: int = 400) -> None:
        self.answer = JSONResponse({"error": error, "error_description": description}, status)


class AuthorizationServer:
    """Quirks: `registration` is open, refused or none; `documents` are clients by the address of their document (None:
    not offered); `methods` are the ways in which clients may show who they are, and those but `none` bring a secret,
    which is good for `secret_life`; `clients` are registered by hand (id to secret or None); without `consents` the
    person declines, and `unticks` are scopes that they leave out; without `rotates` a refresh token is good for ever;
    without `renews` there is none, and with `offline` only for who asks for it (Google); `at` is openid for metadata
    where OpenID Connect has it; `paths` are where one consents, gets tokens and revokes them; without
    `pkce_with_secret` a client with a secret must not send a verifier (Cal.com); `alter` changes the metadata.
    `failures` meet the next requests for a token: an answer, an exception, or Lost."""

    def __init__(
        self,
        clock: Clock,
        issuer: str = "https://auth.test",
        *,
        resources: Collection[str] | None = None,
        scopes: tuple[str, ...] = ("scheduling:read", "scheduling:write"),
        registration: str = "open",
        documents: Mapping[str, Json] | None = None,
        methods: tuple[str, ...] = ("none",),
        clients: Mapping[str, str | None] | None = None,
        consents: bool = True,
        rotates: bool = True,
        renews: bool = True,
        revocation: bool = True,
        names_itself: bool = True,
        pkce_with_secret: bool = True,
        life: int | None = 7200,
        secret_life: timedelta | None = None,
        at: str = "oauth",
        paths: tuple[str, str, str] = ("/oauth/authorize", "/oauth/token", "/oauth/revoke"),
        unticks: Collection[str] = (),
        offline: bool = False,
        alter: Callable[[Json], Json] = lambda metadata: metadata,
    ) -> None:
        self.clock = clock
        self.issuer = issuer
        self.resources = resources
        self.scopes = scopes
        self.registration = registration
        self.documents = documents
        self.methods = methods
        self.consents = consents
        self.rotates = rotates
        self.renews = renews
        self.revocation = revocation
        self.names_itself = names_itself
        self.pkce_with_secret = pkce_with_secret
        self.life = life
        self.secret_life = secret_life
        self.unticks = unticks
        self.offline = offline
        self.alter = alter
        self.clients: dict[str, Json] = {
            id: {"client_secret": secret, "redirect_uris": None, "token_endpoint_auth_method": None}
            for id, secret in (clients or {}).items()
        }
        self.codes: dict[str, Code] = {}
        self.grants: list[Grant] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Every request for a token or its revocation: what for, and with which form."""
        self.authorized: list[dict[str, str]] = []
        self.failures: deque[Response | Exception] = deque()
        path = urlsplit(issuer).path.rstrip("/")
        well_known = "oauth-authorization-server" if at == "oauth" else "openid-configuration"
        self.app: ASGIApp = Starlette(
            routes=[
                Route(f"/.well-known/{well_known}{path}", self._metadata),
                Route("/oauth/register", self._register, methods=["POST"]),
                Route(paths[0], self._authorize),
                Route(paths[1], self._token, methods=["POST"]),
                Route(paths[2], self._revoke, methods=["POST"]),
            ]
        )

    # What a server that trusts this one asks, and what a test does to it.

    def holder(self, token: str) -> tuple[str, ...] | None:
        """The scopes of whoever has this access token; None if it is good for nothing."""
        for grant in self.grants:
            if not grant.revoked and grant.access.get(token, self.clock.now()) > self.clock.now():
                return grant.scopes
        return None

    def expire(self) -> None:
        """Every access token ends now, though nobody was told when it would."""
        for grant in self.grants:
            grant.access.clear()

    def withdraw(self) -> None:
        """The person takes back every consent."""
        for grant in self.grants:
            grant.revoked = True

    def tokens(self) -> list[str]:
        """Everything that was given to somebody and is secret."""
        return [
            token
            for grant in self.grants
            for token in (*grant.access, grant.refresh, *grant.spent)
            if token is not None
        ]

    def sent(self, kind: str) -> list[dict[str, str]]:
        """The forms of all requests of this kind."""
        return [form for each, form in self.asked if each == kind]

    # The endpoints.

    async def _metadata(self, request: Request) -> Response:
        base = self.issuer.rstrip("/").removesuffix(urlsplit(self.issuer).path.rstrip("/"))
        metadata: Json = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": list(self.methods),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": self.names_itself,
        }
        if self.registration != "none":
            metadata["registration_endpoint"] = f"{base}/oauth/register"
        if self.revocation:
            metadata["revocation_endpoint"] = f"{base}/oauth/revoke"
        if self.documents is not None:
            metadata["client_id_metadata_document_supported"] = True
        return JSONResponse(self.alter(metadata))

    async def _register(self, request: Request) -> Response:
        wanted: Json = await request.json()
        if self.registration == "refused":
            return JSONResponse({"error": "access_denied", "error_description": "Not for you."}, 403)
        if errors := dict(mistakes(wanted, self.methods)):
            return JSONResponse({"error": "invalid_client_metadata", "errors": errors}, 400)
        client = {
            "client_id": f"client-{len(self.clients) + 1}",
            "client_name": wanted["client_name"],
            "redirect_uris": wanted["redirect_uris"],
            "grant_types": wanted["grant_types"],
            "response_types": wanted["response_types"],
            "token_endpoint_auth_method": wanted["token_endpoint_auth_method"],
            "scopes": list(self.scopes),
        }
        if wanted["token_endpoint_auth_method"] != "none":
            ends = int((self.clock.now() + self.secret_life).timestamp()) if self.secret_life else 0
            client |= {"client_secret": secrets.token_urlsafe(24), "client_secret_expires_at": ends}
        self.clients[client["client_id"]] = client
        return JSONResponse(client, 201)

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.authorized.append(asked)
        client = self._client(asked.get("client_id", ""))
        if client is None:
            return PlainTextResponse("There is no such client.", 400)
        if client["redirect_uris"] is not None and asked.get("redirect_uri") not in client["redirect_uris"]:
            return PlainTextResponse("The redirect URI is not one of the client's.", 400)
        answer = {"state": asked.get("state", "")} | ({"iss": self.issuer} if self.names_itself else {})
        scopes = tuple(asked["scope"].split()) if asked.get("scope") else self.scopes
        if error := self._wrong(asked, client, scopes):
            answer |= error
        else:
            code = secrets.token_urlsafe(24)
            granted = tuple(scope for scope in scopes if scope not in self.unticks)
            self.codes[code] = Code(asked, granted, self.clock.now() + CODE_LIFE)
            answer["code"] = code
        joint = "&" if urlsplit(asked["redirect_uri"]).query else "?"
        return RedirectResponse(f"{asked['redirect_uri']}{joint}{urlencode(answer)}", 302)

    def _wrong(self, asked: Mapping[str, str], client: Json, scopes: Iterable[str]) -> dict[str, str] | None:
        needs_proof = self.pkce_with_secret or not client.get("client_secret")
        if asked.get("response_type") != "code":
            return {"error": "unsupported_response_type"}
        if needs_proof and (asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43):
            return {"error": "invalid_request", "error_description": "PKCE with S256 is needed."}
        if self.resources is not None and asked.get("resource") not in self.resources:
            return {"error": "invalid_target", "error_description": "There is no such resource."}
        if unknown := set(scopes) - set(self.scopes):
            return {"error": "invalid_scope", "error_description": f"There is no scope {' '.join(sorted(unknown))}."}
        if not self.consents:
            return {"error": "access_denied", "error_description": "The person declined."}
        return None

    async def _token(self, request: Request) -> Response:
        form = _form(await request.body())
        self.asked.append((form.get("grant_type", ""), form))
        failure = self.failures.popleft() if self.failures else None
        if isinstance(failure, Response):
            return failure
        if isinstance(failure, Exception) and not isinstance(failure, Lost):
            raise failure
        try:
            client = self._authenticated(request, form)
            by_kind = {"authorization_code": self._by_code, "refresh_token": self._by_refresh}
            if form.get("grant_type") not in by_kind:
                raise Refused("unsupported_grant_type", "There is no such grant.")
            answer = by_kind[form["grant_type"]](client, form)
        except Refused as refused:
            return refused.answer
        if isinstance(failure, Lost):
            raise httpx2.ReadTimeout("the answer was lost")
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def _by_code(self, client: str, form: Mapping[str, str]) -> Json:
        code = self.codes.get(form.get("code", ""))
        if code is None or code.asked["client_id"] != client:
            raise Refused("invalid_grant", "There is no such code.")
        if code.brought is not None:
            code.brought.revoked = True
            raise Refused("invalid_grant", "The code was used before.")
        if code.until <= self.clock.now():
            raise Refused("invalid_grant", "The code has expired.")
        if code.asked["redirect_uri"] != form.get("redirect_uri"):
            raise Refused("invalid_grant", "The redirect URI is not that of the code.")
        if code.asked.get("code_challenge") != _challenge(form.get("code_verifier")):
            raise Refused("invalid_grant", "The verifier is not that of the code.")
        self._check_resource(code.asked.get("resource"), form)
        code.brought = Grant(client, code.scopes, code.asked.get("resource"))
        self.grants.append(code.brought)
        return self._tokens(code.brought, not self.offline or LASTING.items() <= code.asked.items())

    def _by_refresh(self, client: str, form: Mapping[str, str]) -> Json:
        token = form.get("refresh_token", "")
        for grant in self.grants:
            if grant.client == client and token in grant.spent:
                grant.revoked = True
                raise Refused("invalid_grant", "The refresh token was used before.")
            if grant.client == client and token == grant.refresh and not grant.revoked:
                self._check_resource(grant.resource, form)
                return self._tokens(grant)
        raise Refused("invalid_grant", "The refresh token is not valid.")

    def _tokens(self, grant: Grant, lasting: bool = True) -> Json:
        access = f"access-{secrets.token_urlsafe(24)}"
        # Nobody ever said when it ends, where `life` is None.
        life = timedelta(seconds=self.life) if self.life is not None else timedelta(days=1)
        grant.access[access] = self.clock.now() + life
        answer: Json = {"access_token": access, "token_type": "bearer", "scope": " ".join(grant.scopes)}
        if self.life is not None:
            answer["expires_in"] = self.life
        is_new = grant.refresh is None
        if self.renews and lasting and (is_new or self.rotates):
            if grant.refresh is not None:
                grant.spent.append(grant.refresh)
            grant.refresh = answer["refresh_token"] = f"refresh-{secrets.token_urlsafe(24)}"
        return answer

    async def _revoke(self, request: Request) -> Response:
        form = _form(await request.body())
        self.asked.append(("revoke", form))
        if not self.revocation:
            return PlainTextResponse("Not found", 404)
        try:
            client = self._authenticated(request, form)
        except Refused as refused:
            return refused.answer
        for grant in self.grants:
            if grant.client == client and form.get("token") in (grant.refresh, *grant.access):
                grant.revoked = True
        return Response(status_code=200)  # also for a token that is none (RFC 7009, 2.2)

    def _client(self, id: str) -> Json | None:
        if self.documents is not None and id in self.documents:
            document = self.documents[id]
            return {**document, "client_secret": None} if document["client_id"] == id else None
        return self.clients.get(id)

    def _authenticated(self, request: Request, form: Mapping[str, str]) -> str:
        """The id of the client that asks."""
        id, secret, method = form.get("client_id", ""), form.get("client_secret"), "client_secret_post"
        if (header := request.headers.get("authorization", "")).startswith("Basic "):
            name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
            id, secret, method = unquote(name), unquote(password), "client_secret_basic"
        method = method if secret is not None else "none"
        client = self._client(id)
        if client is None or client.get("client_secret") != secret or method not in self.methods:
            raise Refused("invalid_client", "The client is not known.", 401)
        if client["token_endpoint_auth_method"] not in (None, method):
            raise Refused("invalid_client", "The client was registered to show who it is in another way.", 401)
        if secret is not None and not self.pkce_with_secret and "code_verifier" in form:
            raise Refused("invalid_request", "property code_verifier should not exist")
        return id

    def _check_resource(self, wanted: str | None, form: Mapping[str, str]) -> None:
        if wanted != form.get("resource"):
            raise Refused("invalid_target", "The resource is not that of the grant.")


class Protected:
    """Lets in whoever has a token of `server`, and tells others where to get one. `needs` are scopes by method."""

    def __init__(
        self,
        inner: ASGIApp,
        server: AuthorizationServer,
        resource: str,
        *,
        named: str | None = None,
        issuer: str | None = None,
        hint: str | None = "",
        alter: Callable[[Json], Json] = lambda metadata: metadata,
    ) -> None:
        """`named` is how its metadata calls it, `issuer` how they call the server; `hint` is where its 401 says that
        they are (empty: where they are; None: it does not say)."""
        self.inner, self.server, self.resource = inner, server, resource
        self.named, self.issuer = named or resource, issuer or server.issuer
        parts = urlsplit(resource)
        self.path = f"/.well-known/oauth-protected-resource{parts.path.rstrip('/')}"
        self.hint = f"{parts.scheme}://{parts.netloc}{self.path}" if hint == "" else hint
        self.alter = alter
        self.needs: tuple[str, ...] = ()
        self.seen: list[str] = []
        """The tokens that came with requests, in order."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        await (self._answer(Request(scope)) or self.inner)(scope, receive, send)

    def _answer(self, request: Request) -> Response | None:
        if request.url.path == self.path:
            metadata = {
                "resource": self.named,
                "authorization_servers": [self.issuer],
                "scopes_supported": list(self.server.scopes),
                "bearer_methods_supported": ["header"],
            }
            return JSONResponse(self.alter(metadata))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.seen += [token] if token else []
        scopes = self.server.holder(token)
        where = f', resource_metadata="{self.hint}"' if self.hint is not None else ""
        if scopes is None:
            return JSONResponse({"error": "invalid_token"}, 401, {"WWW-Authenticate": f'Bearer realm="mcp"{where}'})
        if set(self.needs) - set(scopes):
            few = f'Bearer error="insufficient_scope", scope="{" ".join(self.needs)}"{where}'
            return JSONResponse({"error": "insufficient_scope"}, 403, {"WWW-Authenticate": few})
        return None


def hosts(apps: Mapping[str, ASGIApp]) -> ASGIApp:
    """One network: the app of each host, by its name and port."""

    async def network(scope: Scope, receive: Receive, send: Send) -> None:
        host = Request(scope).headers["host"]
        if host not in apps:
            raise httpx2.ConnectError(f"there is no {host}")
        await apps[host](scope, receive, send)

    return network


async def browser(url: str, transport: httpx2.AsyncBaseTransport | None, back: str) -> dict[str, str]:
    """What a person who consents brings back to `back`: the query of the address."""
    async with httpx2.AsyncClient(transport=transport) as client:
        while not url.startswith(back):
            answer = await client.get(url)
            assert answer.is_redirect, answer.text
            url = str(httpx2.URL(url).join(answer.headers["location"]))
    return dict(httpx2.URL(url).params)


def mistakes(wanted: Json, methods: Collection[str]) -> Iterable[tuple[str, list[str]]]:
    """What is wrong with a registration, by field. https://developer.calendly.com/calendly-mcp-server (2026-10)"""
    if not re.fullmatch(r"[A-Za-z0-9 -]+", wanted.get("client_name", "")):
        yield "name", ["may only contain alphanumeric characters, hyphens, and spaces."]
    if why := next((why for uri in wanted.get("redirect_uris") or [""] if (why := _bad_redirect(uri))), None):
        yield "redirect_uri", [why]
    if not set(wanted.get("grant_types", ())) <= {"authorization_code", "refresh_token"}:
        yield "grant_types", ["must be authorization_code or refresh_token"]
    if wanted.get("response_types") != ["code"]:
        yield "response_types", ["must be code"]
    if wanted.get("token_endpoint_auth_method") not in methods:
        yield "token_endpoint_auth_method", [f"must be one of: {', '.join(methods)}"]


def _bad_redirect(uri: str) -> str | None:
    parts = urlsplit(uri)
    if "*" in uri or "@" in parts.netloc or uri != uri.strip() or uri.count("://") != 1 or parts.fragment:
        return "must be an exact https URI without wildcards or user info."
    is_here = parts.scheme == "http" and parts.netloc.rpartition(":")[0] in LOOPBACK
    return None if parts.scheme == "https" or is_here else "must start with https in Production."


def _challenge(verifier: str | None) -> str | None:
    if verifier is None:
        return None
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _form(body: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
