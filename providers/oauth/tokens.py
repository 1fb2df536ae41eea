"""Codes and refresh tokens exchanged for access tokens, and revoked: the token endpoint (RFC 6749, RFC 7009)."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import httpx2
from pydantic import Field

from providers.oauth.discovery import Kept, Server
from providers.oauth.registration import Registered
from providers.oauth.wire import AGAIN, Wire, body, complaint, host, is_overload
from schemas import NotConnected, ProviderDown, RateLimited

AHEAD = timedelta(seconds=60)
"""A token is renewed so long before it expires, or in the last tenth of a shorter life."""
LONGEST_LIFE = 365 * 24 * 3600.0
UNKNOWN_CLIENT = ("invalid_client", "unauthorized_client")
OVERLOADED = ("server_error", "temporarily_unavailable")
SECRETS = ("code", "code_verifier", "refresh_token")
_PRINTED = re.compile(r"[\x21-\x7e]+")


def connect(kept_as: str) -> str:
    """The advice, to be pasted into a terminal where the account is everybody's."""
    account, _, owner = kept_as.partition("~")
    if owner:
        return f"Connect the account: open its connect_url, which list_accounts tells for {account}"
    return f"Connect the account: run `scheduling-gateway connect {account}`, or open its connect_url"


class Grant(Kept):
    """What a person has consented to, as far as it takes to use, renew and revoke it."""

    target: str
    server: Server
    client: Registered
    resource: str | None
    access: str = Field(repr=False)
    refresh: str | None = Field(default=None, repr=False)
    renew: datetime | None = None
    """From when on another access token is to be had, where that is known."""
    scopes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    """Scopes that the server wanted besides."""

    def serves(self, now: datetime, refused: str | None) -> bool:
        """Whether the access token can be used."""
        return self.access != refused and (self.renew is None or now < self.renew)


class Refused(NotConnected):
    """The token endpoint answered with this error code."""

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


async def granted(wire: Wire, grant: Grant, form: Mapping[str, str], now: datetime) -> Grant:
    """`grant` with the tokens that a code or a refresh token in `form` brings; that one may be spent by then.

    Raises: Refused, ProviderDown or RateLimited.
    """
    if grant.resource is not None:
        form = {**form, "resource": grant.resource}
    said = await exchanged(wire, grant.server, grant.client, form)
    refresh, scopes, life = said.get("refresh_token"), said.get("scope"), lifetime(said.get("expires_in"))
    # Who does not rotate refresh tokens need not say them again, nor scopes that are those asked for.
    return grant.model_copy(
        update={
            "access": said["access_token"],
            "refresh": refresh if isinstance(refresh, str) and refresh else grant.refresh,
            "renew": None if life is None else now + life - min(AHEAD, life / 10),
            "scopes": tuple(scopes.split()) if isinstance(scopes, str) else grant.scopes,
            "lacking": (),
        }
    )


async def exchanged(wire: Wire, server: Server, client: Registered, form: Mapping[str, str]) -> dict[str, Any]:
    """What the token endpoint answers to a code or a refresh token in `form`: it has an access token, at least.

    Raises: Refused, ProviderDown or RateLimited.
    """
    where = host(server.token)
    signed = client.sign(form)
    response = await wire.send("POST", server.token, **signed)
    if not response.is_success:
        basic = signed["headers"].get("Authorization", "").removeprefix("Basic ")
        raise _failure(response, where, [client.secret, basic, *(form.get(key) for key in SECRETS)])
    # What is not needed is not asked for: who refuses an answer has lost the refresh token that was in it.
    said = body(response)
    access = said.get("access_token")
    if not isinstance(access, str) or not _PRINTED.fullmatch(access) or not _is_bearer(said.get("token_type")):
        raise ProviderDown(f"{where} answered the sign-in with no bearer token. {AGAIN}")
    return said


async def revoke(wire: Wire, grant: Grant) -> bool:
    """Whether the server took any of it back."""
    if grant.server.revocation is None:
        return False
    told = False
    # The refresh token first: with it goes the whole grant, at most servers.
    tokens = {"refresh_token": grant.refresh, "access_token": grant.access}
    for hint, token in tokens.items():
        if token is not None:
            form = grant.client.sign({"token": token, "token_type_hint": hint})
            with suppress(ProviderDown, RateLimited):
                told |= (await wire.send("POST", grant.server.revocation, **form)).is_success
    return told


def _is_bearer(kind: object) -> bool:
    return kind is None or (isinstance(kind, str) and kind.lower() == "bearer")


def lifetime(seconds: object) -> timedelta | None:
    """How long a token is good for, where that is said in a way that can be understood."""
    try:
        life = float(str(seconds))
    except ValueError:
        return None
    return timedelta(seconds=min(life, LONGEST_LIFE)) if life > 0 else None


def _failure(response: httpx2.Response, where: str, hidden: list[str | None]) -> NotConnected | ProviderDown:
    said = body(response)
    error = said.get("error")
    if is_overload(response) or not isinstance(error, str) or error in OVERLOADED:
        return ProviderDown(f"The sign-in at {where} answered HTTP {response.status_code}. {AGAIN}")
    what = "does not take the gateway's client" if error in UNKNOWN_CLIENT else "refused the sign-in"
    return Refused(f"{where} {what}{complaint(said, hidden)}.", error)
