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
        """The link for an account whose consent a call failed for want of; the error says it too."""
        if not is_curable(error) or error.account is None:
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
        vault = self._gateway.vault
        known, holder = await vault.get("ticket", ticket), secrets.token_urlsafe(32)
        if known is not None and known["account"] == account:
            # Taken afterwards: where the vendor is down the link is still good.
            address = await self.begin(account, holder)
            if await vault.take("ticket", ticket) is not None:
                return address, holder
        raise InvalidRequest("This link is not good any more: each is good once, for ten minutes. Ask for a new one.")

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
        account = account_of(answer)
        if account not in self._gateway.accounts:
            raise InvalidRequest("This sign-in was not begun here. Ask for a new link.")
        await self.client(account).finish(answer, holder)
        await self._gateway.audit.record("connect_account", account=account)
        return account

    async def disconnect(self, account: str) -> bool:
        """Revoke an account's consent, and forget it; whether the service was told."""
        was_told = await self.client(account).disconnect()
        await self._gateway.audit.record("disconnect_account", account=account)
        return was_told

    async def greeted(self, account: str) -> str:
        """Who is signed in now, in a sentence; whoever was before is not remembered."""
        provider = self._gateway.accounts[account]
        provider.forget()
        try:
            who = await reading(provider, provider.whoami())
        except SchedulingError as error:
            return f"It does not work yet: {error.message}"
        return f"It is signed in as {', '.join(filter(None, (who.name, who.email))) or 'someone without a name'}."

    async def close(self) -> None:
        """Let what is under way come to its end: a token that was brought and not kept is lost."""
        clients = filter(None, map(consent_of, self._gateway.accounts.values()))
        await asyncio.gather(*(client.close() for client in clients))


def is_curable(error: SchedulingError) -> bool:
    """Whether a consent, or a wider one, would help."""
    return isinstance(error, NotConnected) or "missing_scopes" in (error.details or {})


def account_of(answer: Mapping[str, str]) -> str:
    """Whose sign-in an answer would finish; what it says is not checked."""
    from providers.oauth import OAuthClient

    return OAuthClient.account_of(answer.get("state", ""))


def consent_of(provider: Provider) -> "OAuthClient | None":
    """What an account is connected with; None if it needs no connecting."""
    if provider.services.auth is None:
        return None
    from providers.oauth import OAuthSignIn

    return provider.services.auth.client if isinstance(provider.services.auth, OAuthSignIn) else None
