"""The adapters of a gateway: one for each account, and where each caller has one's own, one for each who called."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.callers import kept_as, parted
from providers import AccountConfig, Provider, Services

IDLE = timedelta(hours=1)
"""After so long a caller's own adapter is given back; the next call makes it anew."""


class Pool:
    def __init__(
        self, accounts: Mapping[str, AccountConfig], adapters: Mapping[str, type[Provider]], services: Services
    ) -> None:
        self._accounts = accounts
        self._adapters = adapters
        self._services = services
        self._made: dict[str, Provider] = {}
        self._used: dict[str, datetime] = {}
        self._reached: dict[str, datetime] = {}
        for name, account in accounts.items():
            if account.owner is None:
                self._make(name)

    def of(self, account: str, owner: str) -> Provider:
        """An account's adapter, as it is for that owner. Raises KeyError if there is no such account."""
        mine = kept_as(account, owner if self._accounts[account].owner == "caller" else None)
        return self._reach(mine)

    def named(self, kept_as: str) -> Provider | None:
        """The adapter whose rows are kept under that name; None if there is no such account (any more)."""
        account, owner = parted(kept_as)
        if account not in self._accounts or (self._accounts[account].owner == "caller") != (owner is not None):
            return None
        return self._reach(kept_as)

    @property
    def made(self) -> list[Provider]:
        """Those there are now."""
        return list(self._made.values())

    def use(self, provider: Provider) -> None:
        """Note that it was asked for something."""
        self._used[provider.kept_as] = self._services.clock.now()

    def used(self, provider: Provider) -> datetime | None:
        """When it was last asked for something, since the start."""
        return self._used.get(provider.kept_as)

    async def tidy(self) -> None:
        """Give back callers' own adapters that nobody has reached for long."""
        now = self._services.clock.now()
        for name in [name for name in self._made if parted(name)[1] is not None]:
            if now - self._reached[name] > IDLE:
                del self._reached[name]
                self._used.pop(name, None)
                await self._made.pop(name).close()

    async def close(self) -> None:
        for provider in self.made:
            await provider.close()

    def _reach(self, kept_as: str) -> Provider:
        provider = self._made.get(kept_as) or self._make(kept_as)
        # Not the same as a use, which is shown to people: a page looks at what nobody uses too.
        self._reached[kept_as] = self._services.clock.now()
        return provider

    def _make(self, kept_as: str) -> Provider:
        name, _ = parted(kept_as)
        config = self._accounts[name]
        services = replace(self._services, kept_as=kept_as)
        # What an account signs in with, if its service asks for that, or its adapter does not see to it itself.
        auth = getattr(config, "auth", None)
        credentials = auth.credentials(services, name, config) if auth else None
        self._made[kept_as] = self._adapters[name](name, config, replace(services, auth=credentials))
        return self._made[kept_as]
