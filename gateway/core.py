"""The portable core: finds the account, checks what it can do, applies every rule that holds for all services.

Nothing here knows a service. Opening is left to the first call, so that a client has its list of tools at once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import anyio
import httpx2

from gateway.accounts import Accounts, writing
from gateway.availability import Availability
from gateway.bookings import Bookings
from gateway.catalog import Catalog
from gateway.config import Config
from gateway.paging import digest
from gateway.writes import Writes
from providers import PROVIDERS, Clock, Provider, Services, SystemClock
from schemas import Feature

if TYPE_CHECKING:
    from gateway.journal import Intent, Journal
    from providers.storage import Storage

T = TypeVar("T")

CALLER = "local"
"""Who calls, where nobody has to sign in: the person whose machine this is."""

DRAIN = 30.0
"""How long a stop waits for writes under way, in seconds."""

KEEP_KEY = 24 * 3600
KEEP_SAME = 10 * 60
"""How long a request with a key, and the same request without one, is answered with what the first made, in seconds."""


class Gateway:
    """All accounts of a configuration. `transport` stands in for the network in tests."""

    accounts: Accounts
    journal: "Journal"
    storage: "Storage"

    def __init__(
        self, config: Config, *, clock: Clock | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.catalog = Catalog(self)
        self.availability = Availability(self)
        self.bookings = Bookings(self)
        self._transport = transport
        self._writes = Writes()
        self.is_open = False
        self._opening = anyio.Lock()

    @property
    def adapters(self) -> Mapping[str, type[Provider]]:
        """The adapter class of each account."""
        return {name: PROVIDERS[account.provider][account.via] for name, account in self.config.accounts.items()}

    async def open(self) -> None:
        """Open storage and accounts, once. Raises ProviderDown if the gateway's own database cannot be used."""
        async with self._opening:
            if self.is_open:
                return
            # Imported here: SQLAlchemy would double the time to the first `tools/list` (2026-11).
            from gateway.journal import Journal
            from providers.storage import Storage

            self.storage = Storage(self.config.storage.url)
            await self.storage.open()
            self.journal = Journal(self.storage, self.clock)
            services = Services(clock=self.clock, storage=self.storage, transport=self._transport)
            self.accounts = Accounts(
                {name: cls(name, self.config.accounts[name], services) for name, cls in self.adapters.items()}
            )
            self.is_open = True

    async def close(self) -> None:
        """Finish what is being written, then give everything back."""
        if self.is_open:
            await self._writes.drain(DRAIN)
            for provider in self.accounts.values():
                await provider.close()
            await self.storage.close()
            self.is_open = False

    async def write(self, provider: Provider, tool: Feature, request: object, send: Callable[[str], Awaitable[T]]) -> T:
        """Make a write: journaled before and after, and finished even if the caller goes away."""
        intent = self._intent(provider, tool, request)
        return await self._writes.finish(self.journal.record(intent, _named(provider, send)))

    async def write_once(
        self,
        provider: Provider,
        tool: Feature,
        request: object,
        send: Callable[[str], Awaitable[T]],
        again: Callable[[str], Awaitable[T | None]],
        *,
        key: str | None,
        same: object,
    ) -> T:
        """The same for a write that must happen once: by `key` for a day, or else by `same` for ten minutes."""
        intent = self._intent(provider, tool, same if key is None else request)
        claim = digest(CALLER, tool, key is None, same if key is None else key)
        intent = replace(intent, claim=claim, keep=KEEP_SAME if key is None else KEEP_KEY)
        return await self._writes.finish(self.journal.once(intent, _named(provider, send), again))

    def _intent(self, provider: Provider, tool: Feature, request: object) -> "Intent":
        from gateway.journal import Intent

        return Intent(caller=CALLER, account=provider.account, tool=tool, digest=digest(request))


def _named(provider: Provider, send: Callable[[str], Awaitable[T]]) -> Callable[[str], Awaitable[T]]:
    async def named(marker: str) -> T:
        return await writing(provider, send(marker))

    return named
