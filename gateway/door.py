"""The door: who may come in over HTTP, and as whom. Over stdio nobody asks: it is the person whose machine this is."""

import logging
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from fastmcp.server.auth import AccessToken, AuthProvider, TokenVerifier
from fastmcp.server.dependencies import get_access_token

from gateway.callers import Caller
from gateway.keys import PREFIX, Key
from gateway.policy import NOTHING
from gateway.server_config import KeysAuth, NoAuth, OAuthAuth
from providers.slots import seconds
from schemas import PolicyDenied

if TYPE_CHECKING:
    from gateway.core import Gateway
    from providers.oauth.openid import OpenId

log = logging.getLogger(__name__)

REMEMBERED = 2
"""For how many seconds a key is taken for what it was: so long it may be good after it was revoked."""

MOST = 1000
LONGEST_SUBJECT = 150


class KeyToken(AccessToken):
    """What came in with a key of ours; nobody else makes one."""

    caller: Caller


class Door:
    def __init__(self, gateway: "Gateway", auth: KeysAuth | OAuthAuth) -> None:
        self._gateway = gateway
        self._auth = auth
        self._seen: dict[str, tuple[int, Key | None]] = {}

    @cached_property
    def openid(self) -> "OpenId | None":
        """The provider that people sign in at; None where nobody does."""
        from providers.oauth.openid import OpenId

        return OpenId(self._auth, self._gateway.clock) if isinstance(self._auth, OAuthAuth) else None

    @property
    def takes_keys(self) -> bool:
        return isinstance(self._auth, KeysAuth) or self._auth.keys

    async def by_key(self, key: str) -> Caller | None:
        """Whose key that is; None if it is not good (any more)."""
        if not self.takes_keys or not key.startswith(PREFIX):
            return None
        await self._gateway.open()
        now = seconds(self._gateway.clock.now())
        hashed = sha256(key.encode()).hexdigest()
        until, known = self._seen.get(hashed, (0, None))
        if until <= now:
            known = await self._gateway.keys.find(key)
            if len(self._seen) >= MOST:
                self._seen.clear()
            self._seen[hashed] = (now + REMEMBERED, known)
        if known is None or known.state(now) != "good":
            return None
        policy = self._auth.policy(known.policy)
        if policy is None:
            log.error("the key %s is under the policy %s, which is configured no more", known.name, known.policy)
            return None
        return Caller(f"key:{known.name}", policy)

    async def by_claims(self, claims: Mapping[str, Any]) -> Caller | None:
        """Who that is, of whom an ID token says this; None for somebody whom no policy lets in."""
        return self._person(claims)

    def _person(self, claims: Mapping[str, Any]) -> Caller | None:
        if not isinstance(self._auth, OAuthAuth) or not isinstance(subject := claims.get("sub"), str) or not subject:
            return None
        groups = claims.get(self._auth.groups_claim)
        named = [each for each in groups if isinstance(each, str)] if isinstance(groups, list) else []
        policy = next((each for each in self._auth.policies.values() if each.holds_for(claims, named)), None)
        return None if policy is None else Caller(_name(str(claims.get("iss", "")), subject), policy)

    def caller(self) -> Caller:
        """Who makes the request that is answered now; whom no policy lets in may do nothing.

        Raises PolicyDenied if it is not known who that is.
        """
        token = get_access_token()
        if isinstance(token, KeyToken):
            return token.caller
        if token is None or not isinstance(subject := token.claims.get("sub"), str):
            raise PolicyDenied("It is not known who you are. Sign in again.")
        return self._person(token.claims) or Caller(_name(str(token.claims.get("iss", "")), subject), NOTHING)


async def at_door(gateway: "Gateway", url: str) -> AuthProvider | None:
    """What FastMCP asks who comes in, as configured; from now on the gateway knows its callers.

    Raises: ConfigError or ProviderDown, where nobody could sign in.
    """
    auth = gateway.config.server.auth
    if isinstance(auth, NoAuth):
        return None
    gateway.door = door = Door(gateway, auth)
    keys = KeyVerifier(door) if door.takes_keys else None
    if door.openid is None:
        return keys
    from gateway.signing_in import provider

    return await provider(gateway, gateway.config.server, url, door.openid, keys)


class KeyVerifier(TokenVerifier):
    """For FastMCP: takes a bearer token that is a key."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    async def verify_token(self, token: str) -> AccessToken | None:
        who = await self._door.by_key(token)
        if who is None:
            return None
        # FastMCP writes the client into its spans: whose key it is says `subject`, which it does not (4.1.2).
        return KeyToken(token=token, client_id="key", subject=who.name, scopes=[], caller=who)


def _name(issuer: str, subject: str) -> str:
    """The same at each call, and of no other issuer."""
    if len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        subject = sha256(subject.encode()).hexdigest()[:32]
    return f"user:{subject}@{sha256(issuer.encode()).hexdigest()[:8]}"
