"""An OpenID Connect provider, asked who somebody is, with the client that the operator registered there.

https://openid.net/specs/openid-connect-discovery-1_0.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import httpx2
from pydantic import SecretStr, ValidationError

from providers.clock import Clock
from providers.identity import Identity
from providers.oauth.config import OAuthAuth
from providers.oauth.discovery import Server, described
from providers.oauth.id_token import IdTokens, Person, Untrue
from providers.oauth.registration import Registered, configured
from providers.oauth.tokens import exchanged
from providers.oauth.wire import AGAIN, Wire, body, checked, host
from schemas import NotConnected, ProviderDown

DOCUMENT = "/.well-known/openid-configuration"
OFFLINE = "offline_access"


class Asked(Protocol):
    """The configuration of signing in. `groups_claim` is what an ID token has the person's groups under."""

    @property
    def identity(self) -> Identity: ...

    @property
    def client_id(self) -> str: ...

    @property
    def client_secret(self) -> SecretStr: ...

    @property
    def groups_claim(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What a provider says of itself, as far as it is used. `issuer` is spelt as it spells it."""

    issuer: str
    server: Server
    client: Registered
    tokens: IdTokens
    scopes: tuple[str, ...]
    """What it offers."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who it is, and all that the token endpoint answered."""

    person: Person
    answer: Mapping[str, Any] = field(repr=False)


class OpenId:
    """`transport` stands in for the network in tests."""

    def __init__(self, asked: Asked, clock: Clock, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._identity = asked.identity
        self._auth = OAuthAuth(type="oauth", client_id=asked.client_id, client_secret=asked.client_secret)
        self._groups = asked.groups_claim
        self._clock = clock
        self._wire = Wire(clock, transport)
        self._known: Known | None = None
        self._asking = anyio.Lock()

    async def known(self) -> Known:
        """What the provider says of itself; asked once.

        Raises: ProviderDown if it does not answer, NotConnected if one must not sign in there.
        """
        async with self._asking:
            if self._known is None:
                self._known = await self._discovered()
            return self._known

    async def exchanged(self, form: Mapping[str, str], *, nonce: str | None = None) -> SignedIn:
        """Who it is that a code or a refresh token in `form` was made for.

        Raises: NotConnected if that is not proven (Untrue, Refused), ProviderDown or RateLimited if not now.
        """
        known = await self.known()
        answer = await exchanged(self._wire, known.server, known.client, form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Untrue(f"{host(known.issuer)} sent no ID token with the answer, so it is not known who signs in.")
        return SignedIn(await known.tokens.person(token, nonce=nonce), answer)

    async def _discovered(self) -> Known:
        from mcp.shared.auth import OAuthMetadata

        issuer = self._identity.issuer
        url = checked(issuer.rstrip("/") + DOCUMENT, "the provider")
        response = await self._wire.send("GET", url, headers={"Accept": "application/json"})
        said = body(response)
        if not response.is_success:
            raise ProviderDown(f"{host(url)} answered HTTP {response.status_code} when asked how to sign in. {AGAIN}")
        try:
            server = described(OAuthMetadata.model_validate(said), issuer, url)
        except ValidationError:
            raise NotConnected(f"{url} is not what an OpenID Connect provider says of itself.") from None
        client = configured(self._auth, server)
        assert client is not None  # noqa: S101 - for the type checker
        keys = checked(str(said.get("jwks_uri")), "the address of its keys", named_by=url)
        named = str(said["issuer"])
        tokens = IdTokens(named, keys, client.id, self._groups, self._wire, self._clock)
        scopes = said.get("scopes_supported")
        offered = tuple(each for each in scopes if isinstance(each, str)) if isinstance(scopes, list) else ()
        return Known(named, server, client, tokens, offered)
