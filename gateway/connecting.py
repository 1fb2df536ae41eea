"""Connecting an account: from a link to the consent at its vendor and back, and undoing it.

A link is good once and for minutes, and the browser that opens it is the one that has to come back. What is secret in
all this is in the vault.
"""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.accounts import reading
from gateway.allowed import must_be_allowed
from gateway.callers import caller, parted
from gateway.policy import ADMIN
from providers import Provider
from schemas import InvalidRequest, NotConnected, PolicyDenied, SchedulingError

if TYPE_CHECKING:
    from gateway.core import Gateway
    from providers.oauth import OAuthClient

TICKET = timedelta(minutes=10)
"""How long a link to connect an account is good."""

START, CALLBACK, DOCUMENT = "/connect", "/connect/callback", "/connect/client.json"

ASK = "You may not connect it yourself: ask whoever runs this gateway."


class Connecting:
    """`url` is where this gateway's own pages are; None where it has none, as over stdio."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self.url: str | None = None

    def client(self, account: str) -> "OAuthClient":
        """What an account is connected with. Raises InvalidRequest if it needs no connecting."""
        return self._client(self._gateway.accounts[account])

    async def link(self, account: str) -> str | None:
        """A link at which who calls connects an account; None if there is no such page, nothing to connect, or if the
        account is everybody's and not the caller's to connect."""
        provider = self._gateway.accounts.get(account)
        if self.url is None or provider is None or consent_of(provider) is None or not may_connect(provider):
            return None
        ticket, until = secrets.token_urlsafe(32), self._gateway.clock.now() + TICKET
        known = {"account": provider.kept_as, "caller": caller().name}
        await self._gateway.vault.put("ticket", ticket, known, until=until)
        return f"{self.url}{START}/{account}?ticket={ticket}"

    async def explained(self, error: SchedulingError) -> str | None:
        """The link for an account whose consent a call failed for want of; the error says it too."""
        if not is_curable(error) or error.account is None:
            return None
        try:
            link = await self.link(error.account)
        except SchedulingError:
            return None  # the vault is out of order, which is not what was asked
        if link is not None:
            minutes = TICKET // timedelta(minutes=1)
            error.message = f"{error.message} Its connect_url, good once for {minutes} minutes: {link}"
            error.details = {**(error.details or {}), "connect_url": link}
        elif is_others(self._gateway.accounts.get(error.account)):
            error.message = f"{error.message} {ASK}"
        return link

    async def start(self, account: str, ticket: str) -> tuple[str, str, str]:
        """Take a ticket: the address of the consent, the word that the browser has to come back with, and for whom.

        Raises InvalidRequest for a ticket that is not good (any more), PolicyDenied for one that is somebody else's.
        """
        vault = self._gateway.vault
        known, holder = await vault.get("ticket", ticket), secrets.token_urlsafe(32)
        provider = None if known is None else self._gateway.pool.named(known["account"])
        if known is not None and provider is not None and provider.account == account:
            # Who sends a link of their own to somebody else would get that one's calendar.
            if known["caller"] != caller().name:
                raise PolicyDenied(
                    "This link was made for somebody else, so nothing was done. Ask your own assistant to connect "
                    "the account, and open the link it gives you."
                )
            must_be_allowed(self._gateway, caller(), "list_accounts")
            if account not in self._gateway.accounts or not may_connect(provider):
                raise PolicyDenied("You may not connect this account any more.", account=account)
            # Taken afterwards: where the vendor is down the link is still good.
            address = await self._begin(provider, holder)
            if await vault.take("ticket", ticket) is not None:
                return address, holder, provider.kept_as
        raise InvalidRequest("This link is not good any more: each is good once, for ten minutes. Ask for a new one.")

    async def begin(self, account: str, holder: str) -> str:
        """The address of the consent."""
        return await self._begin(self._gateway.accounts[account], holder)

    async def _begin(self, provider: Provider, holder: str) -> str:
        # A vendor reads it only where it can reach it, so that it is named where others can.
        document = f"{self.url}{DOCUMENT}" if self.url and self.url.startswith("https://") else None
        return await self._client(provider).begin(f"{self.url}{CALLBACK}", holder, document)

    async def finish(self, answer: Mapping[str, str], holder: str) -> Provider:
        """Take what the browser came back with; which account is connected now.

        Raises InvalidRequest for an answer to nothing that who calls began, NotConnected if there was no consent.
        """
        # Which account it is says what was begun, and not the answer: an adapter is made for no name that anyone sends.
        begun = await self._gateway.vault.get("consent", answer.get("state", ""))
        provider = None if begun is None else self._gateway.pool.named(begun["account"])
        if provider is None or parted(provider.kept_as)[1] not in (None, caller().owner):
            raise InvalidRequest("This sign-in was not begun here. Ask for a new link.")
        await self._client(provider).finish(answer, holder)
        await self._gateway.audit.record("connect_account", account=provider.kept_as)
        await self._gateway.settling.again(provider)
        return provider

    async def disconnect(self, account: str) -> bool:
        """Revoke an account's consent, and forget it; whether the service was told."""
        provider = self._gateway.accounts[account]
        if not may_connect(provider):
            raise PolicyDenied("You may not disconnect this account: it is everybody's.", account=account)
        was_told = await self._client(provider).disconnect()
        await self._gateway.audit.record("disconnect_account", account=provider.kept_as)
        return was_told

    async def greeted(self, provider: Provider) -> str:
        """Who is signed in now, in a sentence; whoever was before is not remembered."""
        provider.forget()
        try:
            who = await reading(provider, provider.whoami())
        except SchedulingError as error:
            return f"It does not work yet: {error.message}"
        return f"It is signed in as {', '.join(filter(None, (who.name, who.email))) or 'someone without a name'}."

    def _client(self, provider: Provider) -> "OAuthClient":
        if (client := consent_of(provider)) is None:
            account = provider.account
            raise InvalidRequest(
                f"{account} needs no connecting: it signs in with what the configuration says.", account=account
            )
        return client

    async def close(self) -> None:
        """Let what is under way come to its end: a token that was brought and not kept is lost."""
        clients = filter(None, map(consent_of, self._gateway.pool.made))
        await asyncio.gather(*(client.close() for client in clients))


def is_curable(error: SchedulingError) -> bool:
    """Whether a consent, or a wider one, would help."""
    return isinstance(error, NotConnected) or "missing_scopes" in (error.details or {})


def may_connect(provider: Provider) -> bool:
    """Whether who calls may connect an account and disconnect it: one's own, or as who runs the gateway any."""
    return provider.config.owner == "caller" or ADMIN in caller().policy.allowed


def is_others(provider: Provider | None) -> bool:
    """Whether it is for somebody else than who calls to connect it."""
    return provider is not None and consent_of(provider) is not None and not may_connect(provider)


def account_of(answer: Mapping[str, str]) -> str:
    """Which account's sign-in an answer would finish, as its rows are named; what it says is not checked."""
    from providers.oauth import OAuthClient

    return OAuthClient.account_of(answer.get("state", ""))


def consent_of(provider: Provider) -> "OAuthClient | None":
    """What an account is connected with; None if it needs no connecting."""
    if provider.services.auth is None:
        return None
    from providers.oauth import OAuthSignIn

    return provider.services.auth.client if isinstance(provider.services.auth, OAuthSignIn) else None
