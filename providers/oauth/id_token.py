"""ID tokens: who somebody is, in the word of an OpenID Connect provider, which its signature proves.

https://openid.net/specs/openid-connect-core-1_0.html, sections 2 and 3.1.3.7

Quirks:
- Some say whether an address is proven as the words `true` and `false` (Cognito, Apple), some do not say (Entra ID).
- Some write one group as a text instead of a list. (2026-11)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

import anyio

from providers.clock import Clock
from providers.oauth.discovery import is_same_issuer
from providers.oauth.wire import AGAIN, Wire, body, host
from schemas import NotConnected, ProviderDown, RateLimited, SchedulingError

if TYPE_CHECKING:
    from joserfc.jwk import Key

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"),
)
"""Those whose key the provider alone has. Not `none`, and none by which our own client secret would sign."""

LEEWAY = timedelta(seconds=30)
"""So far clocks may differ."""

FRESH, KEPT, PAUSE = timedelta(hours=1), timedelta(days=1), timedelta(seconds=30)
"""How long keys are good without asking, how long if the provider does not say by which it signs now, and how long it
is not asked again for one that is missing."""

LONGEST_SUBJECT = 255


class Untrue(NotConnected):
    """An ID token that proves nothing."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in: `iss`, `sub` and, where the provider says them, `email`, `email_verified` and the groups."""

    claims: Mapping[str, Any] = field(repr=False)
    until: datetime


class IdTokens:
    """The ID tokens of one issuer for one client; its keys are at `keys_url`."""

    def __init__(self, issuer: str, keys_url: str, client_id: str, groups: str, wire: Wire, clock: Clock) -> None:
        self._issuer = issuer
        self._keys_url = keys_url
        self._client_id = client_id
        self._groups = groups
        self._wire = wire
        self._clock = clock
        self._keys: dict[str | None, Key] = {}
        self._had: datetime | None = None
        self._asked: datetime | None = None
        self._trouble: SchedulingError | None = None
        self._asking = anyio.Lock()

    async def person(self, token: str, *, nonce: str | None = None) -> Person:
        """Whom a token is about; with `nonce`, if it was made for what we asked with it.

        Raises: Untrue, or ProviderDown or RateLimited if the provider's keys cannot be had.
        """
        claims = await self._signed(token)
        self._check(claims, nonce)
        return Person(self._said(claims), _instant(claims, "exp"))

    async def _signed(self, token: str) -> dict[str, Any]:
        """What a token says, once its signature is proven."""
        from joserfc import jws, jwt
        from joserfc.errors import JoseError

        # Headers that nobody knows are no reason to refuse one, unless they say so.
        registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            header = jws.extract_compact(token.encode(), registry=registry).headers()
            if header.get("alg") not in ALGORITHMS or "crit" in header:
                raise Untrue("The ID token is signed in a way that is not taken.")
            key = await self._key(header.get("kid"))
            return jwt.decode(token, key, registry=registry).claims
        except (JoseError, ValueError, TypeError):
            raise Untrue("The ID token's signature is not its issuer's.") from None

    def _check(self, claims: Mapping[str, Any], nonce: str | None) -> None:
        now = self._clock.now()
        issuer, audience, subject = claims.get("iss"), claims.get("aud"), claims.get("sub")
        audiences = audience if isinstance(audience, list) else [audience]
        if not isinstance(issuer, str) or not is_same_issuer(issuer, self._issuer):
            raise Untrue("The ID token is of another issuer.")
        is_shared = len(audiences) > 1 or "azp" in claims
        if self._client_id not in audiences or (is_shared and claims.get("azp") != self._client_id):
            raise Untrue("The ID token is for another client.")
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise Untrue("The ID token does not say whom it is about.")
        if _instant(claims, "exp") + LEEWAY <= now:
            raise Untrue("The ID token has expired.")
        if any(name in claims and _instant(claims, name) - LEEWAY > now for name in ("iat", "nbf")):
            raise Untrue("The ID token is from the future: a clock is wrong, the provider's or this machine's.")
        if nonce is not None and not compare_digest(str(claims.get("nonce")).encode(), nonce.encode()):
            raise Untrue("The ID token was made for another sign-in.")

    def _said(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """What is used of it, in one form."""
        said: dict[str, Any] = {"iss": self._issuer, "sub": claims["sub"]}
        if isinstance(email := claims.get("email"), str):
            said["email"] = email
            said["email_verified"] = claims.get("email_verified") in (True, "true")
        groups = claims.get(self._groups)
        groups = [groups] if isinstance(groups, str) else groups
        if isinstance(groups, list):
            said[self._groups] = [group for group in groups if isinstance(group, str)]
        return said

    async def _key(self, id: object) -> "Key":
        """The key of that id, or the only one there is; asked for anew where it may be a new one."""
        async with self._asking:  # of all that want one, one asks
            now = self._clock.now()
            is_known = self._known(id, now - FRESH) is not None
            if not is_known and (self._asked is None or now - self._asked >= PAUSE):
                await self._ask()
        if (key := self._known(id, now - KEPT)) is not None:
            return key
        if self._trouble is not None:
            raise self._trouble.with_traceback(None)
        raise Untrue("The ID token is signed with a key that its issuer does not name.")

    async def _ask(self) -> None:
        try:
            self._keys = await self._fetched()
        except (ProviderDown, RateLimited) as error:
            self._trouble = error
        else:
            self._trouble, self._had = None, self._clock.now()
        self._asked = self._clock.now()

    def _known(self, id: object, since: datetime) -> "Key | None":
        """That key, if the provider named it after `since`."""
        if self._had is None or self._had <= since:
            return None
        if id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(id) if isinstance(id, str) else None

    async def _fetched(self) -> "dict[str | None, Key]":
        from joserfc.errors import JoseError
        from joserfc.jwk import import_key

        response = await self._wire.send("GET", self._keys_url, headers={"Accept": "application/json"})
        listed = body(response).get("keys")
        if not response.is_success or not isinstance(listed, list):
            raise ProviderDown(f"{host(self._keys_url)} does not say by which keys it signs. {AGAIN}")
        keys: dict[str | None, Key] = {}
        for each in listed:
            # Whom we do not understand we need not (RFC 7517, 5); a key to encrypt with signs nothing.
            if isinstance(each, dict) and each.get("kty") in ("RSA", "EC", "OKP") and each.get("use", "sig") == "sig":
                try:
                    keys[each.get("kid")] = import_key(each)
                except (JoseError, ValueError, TypeError):
                    continue
        return keys


def _instant(claims: Mapping[str, Any], name: str) -> datetime:
    try:
        return datetime.fromtimestamp(int(claims[name]), UTC)
    except (KeyError, ValueError, TypeError, OverflowError, OSError):
        raise Untrue(f"The ID token has no {name} that can be read.") from None
