"""Connecting an account: from a link to the consent at its vendor and back, and undoing it.

A link is good once and for minutes, and the browser that opens it is the one that has to come back. What is secret in
all this is in the vault.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from providers import Provider
from schemas import InvalidRequest, NotConnected, SchedulingError

if TYPE_CHECKING:
    from gateway.core import Gateway
    from providers.oauth import OAuthClient

TICKET = timedelta(minutes=10)
"""How long a link to connect an account is good."""

START, CALLBACK, DOCUMENT = "/connect", "/connect/callback", "/connect/client.json"


class Connecting:
    """`url` is where this gateway's own pages are; None where it has none, as over stdio."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self.url: str | None = None

    def client(self, account: str) -> "OAuthClient":
        """What an account is connected with. Raises InvalidRequest if it needs no connecting."""
        provider = self._gateway.accounts[account]
        if (client := consent_of(provider)) is None:
            raise InvalidRequest(
                f"{account} needs no connecting: it signs in with what the configuration says.", account=account
            )
        return client

    async def link(self, account: str, caller: str) -> str | None:
        """A link at which `caller` connects an account; None if there is no such page, or nothing to connect."""
        provider = self._gateway.accounts.get(account)
        if self.url is None or provider is None or consent_of(provider) is None:
            return None
        ticket, until = secrets.token_urlsafe(32), self._gateway.clock.now() + TICKET
        await self._gateway.vault.put("ticket", ticket, {"account": account, "caller": caller}, until=until)
        return f"{self.url}{START}/{account}?ticket={ticket}"

    async def explained(self, error: SchedulingError, caller: str) -> str | None:
        """The link for an account that a call failed for want of; the error says it too."""
        if not isinstance(error, NotConnected) or error.account is None:
            return None
        try:
            link = await self.link(error.account, caller)
        except SchedulingError:
            return None  # the vault is out of order, which is not what was asked
        if link is not None:
            minutes = TICKET // timedelta(minutes=1)
            error.message = f"{error.message} Its connect_url, good once for {minutes} minutes: {link}"
            error.details = {**(error.details or {}), "connect_url": link}
        return link

    async def start(self, account: str, ticket: str) -> tuple[str, str]:
        """Take a ticket: the address of the consent, and the word that the browser has to come back with.

        Raises InvalidRequest for a ticket that is not good (any more).
        """
        taken = await self._gateway.vault.take("ticket", ticket)
        if taken is None or taken["account"] != account:
            raise InvalidRequest(
                "This link is not good any more: each is good once, for ten minutes. Ask for a new one."
            )
        holder = secrets.token_urlsafe(32)
        return await self.begin(account, holder), holder

    async def begin(self, account: str, holder: str) -> str:
        """The address of the consent."""
        client = self.client(account)
        # A vendor reads it only where it can reach it, so that it is named where others can.
        document = f"{self.url}{DOCUMENT}" if self.url and self.url.startswith("https://") else None
        return await client.begin(f"{self.url}{CALLBACK}", holder, document)

    async def finish(self, answer: Mapping[str, str], holder: str) -> str:
        """Take what the browser came back with; which account is connected now.

        Raises InvalidRequest for an answer to nothing that was begun, NotConnected if there was no consent.
        """
        from providers.oauth import OAuthClient

        account = OAuthClient.account_of(answer.get("state", ""))
        if account not in self._gateway.accounts:
            raise InvalidRequest("This sign-in was not begun here. Ask for a new link.")
        await self.client(account).finish(answer, holder)
        self._gateway.accounts[account].forget()
        return account


def consent_of(provider: Provider) -> "OAuthClient | None":
    """What an account is connected with; None if it needs no connecting."""
    if provider.services.auth is None:
        return None
    from providers.oauth import OAuthSignIn

    return provider.services.auth.client if isinstance(provider.services.auth, OAuthSignIn) else None
