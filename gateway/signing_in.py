"""Signing in to the gateway by OAuth: clients register here, people sign in at the operator's OpenID Connect provider.

FastMCP's proxy is the authorization server that clients see. It is told who somebody is by the provider's ID token,
never by an access token, which says for whom it is good only to those it is for. What it keeps is in the vault, and
the key it signs with too, so that every gateway on one database takes the tokens of every other.

Quirks of FastMCP 4.1.2:
- Its own verifier takes ID tokens that never expire, of one algorithm, and asks no clock of ours: ours is used.
- A token of its own is looked up and the ID token behind it checked at each request. When that has expired and the
  provider gives a new one with its refresh token, nobody notices; where it gives none, the sign-in is over.
- Whatever fails while a token is looked up, it says 401, upon which a client throws its sign-in away.
- Two gateways that renew one sign-in at once would use a refresh token twice, which may end it: here, one renews.
- What a client asks for as scopes is what it would ask the provider for: the operator's scopes are set over it.
- A client may have its answer sent to any address that the operator allows: here, to those of them that it registered.
- Clients register without end, and their records stay for ever, as long as they like; and who is sent to sign in leaves
  a record too. Here both have a bound: how often in a minute, how long, and for how many days.
"""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
from fastmcp.server.auth import AccessToken, AuthProvider, TokenVerifier
from fastmcp.server.auth.oauth_proxy.models import ProxyDCRClient
from fastmcp.server.auth.oauth_proxy.upstream import OAuthError
from fastmcp.server.auth.oidc_proxy import OIDCConfiguration, OIDCProxy
from fastmcp.server.auth.redirect_validation import validate_redirect_uri
from mcp.server.auth.provider import AuthorizationParams, AuthorizeError, RegistrationError
from mcp.shared.auth import OAuthClientInformationFull
from starlette.routing import Route

from gateway.config import ConfigError
from gateway.keys import PREFIX
from gateway.server_config import OAuthAuth, ServerConfig
from gateway.tries import Bounded, Tries
from gateway.vault_store import VaultStore
from providers import Clock
from providers.oauth.id_token import Untrue
from providers.oauth.openid import DOCUMENT, OFFLINE, Known, OpenId
from providers.oauth.tokens import Refused, lifetime
from schemas import NotConnected, ProviderDown, SchedulingError

if TYPE_CHECKING:
    from gateway.core import Gateway
    from providers.vault import Vault

REGISTRATIONS, SIGN_INS = 300, 600
"""How many clients may register in a minute with one process, and how many may send somebody to sign in. Whoever uses
one up keeps all others out, so both are high: what is kept of each is short."""

LONGEST, ADDRESSES = 4096, 20
"""How many characters a client may have us keep, of itself or of a sign-in, and how many addresses of its own."""

ACCESS = timedelta(days=1)
"""How long a client's token is good before it renews it: seldom, for one that does so from two places at once loses its
sign-in. Behind the token the sign-in at the provider is renewed as often as that wants."""

SIGN_IN = timedelta(days=90)
"""How long a sign-in can be renewed, where the provider does not say."""

AHEAD = timedelta(seconds=10)
"""A sign-in at the provider is renewed so long before it ends; some providers' end after a minute."""

ECHO = timedelta(minutes=1)
"""How long a renewal answers those who ask for the same one."""

KEY = 32

_troubles: ContextVar[list[SchedulingError] | None] = ContextVar("troubles", default=None)
"""Why it is not known whether a token is good, which FastMCP keeps to itself."""


async def provider(
    gateway: "Gateway", config: ServerConfig, url: str, openid: OpenId, keys: TokenVerifier | None = None
) -> AuthProvider:
    """What lets clients in whose people sign in at `openid`, and those with a key that `keys` knows, at our `url`.

    Raises: ConfigError if one cannot sign in at that provider, ProviderDown if not now.
    """
    await gateway.open()
    auth = config.auth
    assert isinstance(auth, OAuthAuth)  # noqa: S101 - for the type checker
    try:
        known = await openid.known()
    except NotConnected as error:
        raise ConfigError([f"server.auth: {error.message}"]) from None
    except ProviderDown as error:
        error.message = f"Nobody could sign in to the gateway, so it does not start. {error.message}"
        raise
    return SignIn(gateway, auth, openid, known, url, await signing_key(gateway.vault), keys)


async def signing_key(vault: "Vault") -> bytes:
    """The key that our tokens are signed with: made once for all gateways on one database. Raises ConfigError."""
    async with vault.lease("signing key"):
        try:
            kept = await vault.get("signing key", "tokens")
        except NotConnected as error:
            raise ConfigError([f"storage.encryption_key: {error.message}"]) from None
        if kept is None:
            kept = {"key": b64encode(secrets.token_bytes(KEY)).decode()}
            await vault.put("signing key", "tokens", kept)
        return b64decode(kept["key"])


def wanted(auth: OAuthAuth, known: Known) -> tuple[str, ...]:
    """What to ask the provider for: the scopes that are configured, else also to be remembered, where that is one."""
    is_offered = OFFLINE in known.scopes and "scopes" not in auth.model_fields_set
    return tuple(dict.fromkeys((*auth.scopes, *([OFFLINE] if is_offered else []))))


class SignIn(OIDCProxy):
    def __init__(
        self,
        gateway: "Gateway",
        auth: OAuthAuth,
        openid: OpenId,
        known: Known,
        url: str,
        key: bytes,
        keys: TokenVerifier | None,
    ) -> None:
        self._keys = keys
        self._openid = openid
        self._known = known
        self._vault = gateway.vault
        self._clock = gateway.clock
        self._redirect_uris = auth.redirect_uris
        self._tries = {
            "/register": Tries(REGISTRATIONS, gateway.clock),
            "/authorize": Tries(SIGN_INS, gateway.clock),
            "/consent": Tries(SIGN_INS, gateway.clock),
        }
        scopes = wanted(auth, known)
        super().__init__(
            config_url=f"{known.issuer.rstrip('/')}{DOCUMENT}",
            client_id=auth.client_id,
            client_secret=auth.client_secret.get_secret_value(),
            verify_id_token=True,
            base_url=url,
            allowed_client_redirect_uris=list(auth.redirect_uris),
            # What one may do is a matter of policies: no scope is required, and those that clients like are taken.
            valid_scopes=list(dict.fromkeys((*auth.scopes, OFFLINE))),
            client_storage=VaultStore(gateway.vault, gateway.clock),
            jwt_signing_key=key,
            require_authorization_consent=True,
            # Its own, but for the picture of another host's: who signs in here is nobody else's business.
            consent_csp_policy="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'",
            # Our MCP endpoint is no resource of the provider's, and some refuse to hear of one.
            forward_resource=False,
            extra_authorize_params={**auth.identity.extra, "scope": " ".join(scopes)},
            fallback_refresh_token_expiry_seconds=_seconds(SIGN_IN),
            fastmcp_access_token_expiry_seconds=_seconds(ACCESS),
            token_expiry_threshold_seconds=_seconds(AHEAD),
            enable_cimd=True,
        )

    def get_oidc_configuration(self, *_: Any, **__: Any) -> OIDCConfiguration:
        """What was found and checked before: FastMCP's own request would hold up all others."""
        server = self._known.server
        return OIDCConfiguration(
            strict=False,
            issuer=self._known.issuer,
            authorization_endpoint=server.authorization,
            token_endpoint=server.token,
            revocation_endpoint=server.revocation,
        )

    def get_token_verifier(self, **_: Any) -> TokenVerifier:
        return _IdTokens(self._known)

    def _create_upstream_oauth_client(self) -> Any:
        return _Upstream(self._openid, self._known, self._vault, self._clock)

    async def load_access_token(self, token: str) -> AccessToken | None:
        # Not by FastMCP's MultiAuth, to which a database that is down is a token that is not good (4.1.2).
        if self._keys is not None and token.startswith(PREFIX):
            return await self._keys.verify_token(token)
        troubles: list[SchedulingError] = []
        reset = _troubles.set(troubles)
        try:
            found = await super().load_access_token(token)
        finally:
            _troubles.reset(reset)
        if found is None and troubles:
            raise troubles[0]  # nobody has to sign in anew
        if found is None and self._is_ours(token):
            # None as well when the database cannot be asked; then this raises.
            await self._client_storage.get("whether the database answers")
        return found if isinstance(found, AccessToken) else None

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        client = await super().get_client(client_id)
        if client_id == self._upstream_client_id or not isinstance(client, ProxyDCRClient):
            return client
        if client.cimd_document is None:
            may = [uri for uri in client.redirect_uris or () if validate_redirect_uri(uri, list(self._redirect_uris))]
            client.redirect_uris, client.allowed_redirect_uri_patterns = may, None
        return client

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        if len(client_info.redirect_uris or ()) > ADDRESSES:
            raise RegistrationError("invalid_redirect_uri", f"A client may have {ADDRESSES} addresses.")
        if len(client_info.model_dump_json()) > LONGEST:
            raise RegistrationError("invalid_client_metadata", f"A client may say {LONGEST} characters of itself.")
        await super().register_client(client_info)

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        if len(params.model_dump_json()) > LONGEST:
            raise AuthorizeError("invalid_request", f"A client may ask with {LONGEST} characters.")
        return await super().authorize(client, params)

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        return [self._bounded(route) if route.path in self._tries else route for route in super().get_routes(mcp_path)]

    def _is_ours(self, token: str) -> bool:
        try:
            self.jwt_issuer.verify_token(token)
        except Exception:
            return False
        return True

    def _bounded(self, route: Route) -> Route:
        return Route(route.path, Bounded(route.app, self._tries[route.path]), methods=list(route.methods or ()))


class _IdTokens(TokenVerifier):
    """Reads the ID token behind a token of ours."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self._known = known

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            person = await self._known.tokens.person(token)
        except Untrue:
            return None
        except SchedulingError as error:
            raise _noted(error) from None
        claims = dict(person.claims)
        until = int(person.until.timestamp())
        return AccessToken(
            token=token,
            client_id=self._known.client.id,
            scopes=[],
            expires_at=until,
            subject=claims["sub"],
            claims=claims,
        )


class _Upstream:
    """The provider's token endpoint, as FastMCP asks it. What proves nobody's identity is no answer."""

    def __init__(self, openid: OpenId, known: Known, vault: "Vault", clock: Clock) -> None:
        self._openid = openid
        self._vault = vault
        self._clock = clock
        self.client_secret = known.client.secret

    async def aclose(self) -> None:
        """Nothing is kept open."""

    async def fetch_token(self, url: str, **form: str) -> dict[str, Any]:
        return await self._answered({"grant_type": "authorization_code", **form})

    async def refresh_token(self, url: str, refresh_token: str, **_: Any) -> dict[str, Any]:
        """The same scopes as before. Of all who renew one sign-in, in whichever processes, one asks."""
        with anyio.CancelScope(shield=True):  # what it brings must be kept: the old token may be spent
            answer = await self._renewed(refresh_token)
        return dict(answer)

    async def _renewed(self, refresh_token: str) -> dict[str, Any]:
        async with self._vault.lease(f"renewal:{refresh_token}"):
            answer = await self._vault.get("renewal", refresh_token)
            if answer is None:
                answer = await self._answered({"grant_type": "refresh_token", "refresh_token": refresh_token})
                answer.setdefault("refresh_token", refresh_token)
                await self._vault.put("renewal", refresh_token, answer, until=self._clock.now() + ECHO)
            return answer

    async def _answered(self, form: Mapping[str, str]) -> dict[str, Any]:
        try:
            signed_in = await self._openid.exchanged(form)
        except Refused as error:
            raise OAuthError(error=error.error, description=error.message) from None
        except Untrue as error:
            raise OAuthError(error="invalid_grant", description=error.message) from None
        except SchedulingError as error:
            raise _noted(error) from None
        said, now = signed_in.answer, self._clock.now()
        life = lifetime(said.get("expires_in"))
        ends = min(signed_in.person.until, now + life) if life else signed_in.person.until
        # Without its scopes, which some spell in their own way: the client is told those that it asked for.
        answer = {key: said[key] for key in ("access_token", "refresh_token", "id_token") if key in said}
        return {**answer, "token_type": "Bearer", "expires_in": max(1, _seconds(ends - now))}


def _noted(trouble: SchedulingError) -> SchedulingError:
    if (troubles := _troubles.get()) is not None:
        troubles.append(trouble)
    return trouble


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
