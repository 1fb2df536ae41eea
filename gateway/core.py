"""The portable core: finds the account, checks what it can do, applies every rule that holds for all services.

Nothing here knows a service. Opening is left to the first call, so that a client has its list of tools at once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import httpx2

from gateway.accounts import Accounts, reading, writing
from gateway.audit import Audit
from gateway.availability import Availability
from gateway.bookings import Bookings
from gateway.callers import caller
from gateway.catalog import Catalog
from gateway.config import Config
from gateway.connecting import Connecting
from gateway.listing import Listing
from gateway.looking import Looking
from gateway.moving import Moving
from gateway.observing import watch
from gateway.paging import digest
from gateway.settling import Settling
from gateway.writes import Writes
from providers import PROVIDERS, Clock, Provider, Services, SystemClock
from providers.keys import KeyRing
from schemas import Feature, OutcomeUnknown, ProviderDown, SchedulingError

if TYPE_CHECKING:
    from gateway.door import Door
    from gateway.intents import Brake, Held, Intent
    from gateway.journal import Journal, Look
    from gateway.keys import Keys
    from gateway.links import Links
    from gateway.moves import Moves
    from gateway.pool import Pool
    from providers.storage import Storage
    from providers.vault import Vault

T = TypeVar("T")

DRAIN = 30.0
"""How long a stop waits for writes under way, in seconds."""

LOOKS = (0.0, 2.0, 8.0)
"""How long to wait before each look for a write whose answer was lost, in seconds: a service may still be at it."""

KEEP_KEY = 24 * 3600
KEEP_SAME = 10 * 60
"""How long a request with a key, and the same request without one, is answered with what the first made, in seconds."""


class Gateway:
    """All accounts of a configuration. `transport` stands in for the network in tests."""

    journal: "Journal"
    keys: "Keys"
    links: "Links"
    moves: "Moves"
    pool: "Pool"
    storage: "Storage"
    vault: "Vault"

    def __init__(
        self, config: Config, *, clock: Clock | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.catalog = Catalog(self)
        self.availability = Availability(self)
        self.bookings = Bookings(self)
        self.listing = Listing(self)
        self.looking = Looking(self)
        self.moving = Moving(self)
        self.connecting = Connecting(self)
        self.settling = Settling(self)
        self.door: Door | None = None
        """Who may come in over HTTP, where that is asked."""
        self._transport = transport
        self._writes = Writes()
        self.audit = Audit(self, self._writes)
        self.is_open = False
        self._opening = anyio.Lock()

    @property
    def adapters(self) -> Mapping[str, type[Provider]]:
        """The adapter class of each account."""
        return {name: PROVIDERS[account.provider][account.via] for name, account in self.config.accounts.items()}

    @property
    def accounts(self) -> Accounts:
        """Those that who calls now may use."""
        return Accounts(list(self.config.accounts), self.pool, caller())

    async def open(self) -> None:
        """Open storage and accounts, once. Raises ProviderDown if the gateway's own database cannot be used."""
        async with self._opening:
            if self.is_open:
                return
            # Imported here: SQLAlchemy would double the time to the first `tools/list` (2026-11).
            from gateway.journal import Journal
            from gateway.keys import Keys
            from gateway.links import Links
            from gateway.moves import Moves
            from gateway.pool import Pool
            from providers.storage import Storage
            from providers.vault import Vault

            kept = self.config.storage
            self.storage = Storage(kept.url, password=kept.password)
            await self.storage.open()
            self.journal = Journal(self.storage, self.clock)
            self.moves = Moves(self.storage, self.clock)
            self.keys = Keys(self.storage, self.clock)
            self.links = Links(self.storage, self.clock)
            self.vault = Vault(self.storage, KeyRing(kept.encryption_key, kept.key_file), self.clock)
            services = Services(self.clock, self.storage, self.vault, transport=self._transport, watch=watch)
            self.pool = Pool(self.config.accounts, self.adapters, services)
            self.is_open = True

    async def close(self) -> None:
        """Finish what is being written, then give everything back."""
        if self.is_open:
            await self._writes.drain(DRAIN)
            await self.audit.stop()
            await self.connecting.close()
            await self.pool.close()
            await self.storage.close()
            self.is_open = False

    async def write(
        self,
        provider: Provider,
        tool: Feature,
        request: object,
        send: Callable[[str], Awaitable[T]],
        look: "Look[T] | None" = None,
        *,
        kept: Mapping[str, object] | None = None,
        parent: "Held | None" = None,
        changes: str | None = None,
        attendee: str | None = None,
    ) -> T:
        """Make a write: journaled before and after, and finished even if the caller goes away.

        `look` finds what it made where its answer is lost; `kept` is what that takes after a restart. `changes` is the
        booking that nothing else may change meanwhile.
        """
        if parent is None:
            await self.settling.due(provider)
        else:  # which goes on, so that nobody takes it for dead
            await self.journal.renew(parent)
        intent = self._intent(provider, tool, request, attendee=None if parent else attendee)
        intent = replace(intent, kept=kept, parent=None if parent is None else parent.id, changes=changes)
        sent = partial(self._send, provider, send, _named(provider, look))
        return await self._writes.finish(self.journal.record(intent, sent))

    async def write_once(
        self,
        provider: Provider,
        tool: Feature,
        request: object,
        send: Callable[[str], Awaitable[T]],
        again: Callable[[str], Awaitable[T | None]],
        look: "Look[T] | None",
        *,
        key: str | None,
        same: object,
        attendee: str | None = None,
        kept: Mapping[str, object] | None = None,
        changes: str | None = None,
    ) -> T:
        """The same for a write that must happen once: by `key` for a day, or else by `same` for ten minutes."""
        await self.settling.due(provider)
        intent = self._intent(provider, tool, same if key is None else request, attendee=attendee)
        # With whose accounts are meant: guests of several people's pages are one caller.
        claim = digest(intent.caller, caller().owner, tool, key is None, same if key is None else key)
        intent = replace(intent, claim=claim, keep=KEEP_SAME if key is None else KEEP_KEY, kept=kept, changes=changes)
        look = _named(provider, look)
        once = self.journal.once(intent, partial(self._send, provider, send, look), again, look)
        return await self._writes.finish(once)

    async def _send(
        self, provider: Provider, send: Callable[[str], Awaitable[T]], look: "Look[T] | None", marker: str
    ) -> T:
        """Send; and where the answer is lost, look what came of it before anything is said."""
        begun = int(self.clock.now().timestamp())
        try:
            return await writing(provider, send(marker))
        except OutcomeUnknown as lost:
            if look is None:
                raise
            return await self._look(provider, lost, partial(look, marker, begun))

    async def _look(self, provider: Provider, lost: OutcomeUnknown, look: Callable[[], Awaitable[T | None]]) -> T:
        failed: SchedulingError | None = None
        for pause in LOOKS:
            if pause:
                await self.clock.sleep(pause)
            try:
                made = await look()
            except SchedulingError as error:
                failed = error
            else:
                if made is not None:
                    return made
                failed = None
        if failed is not None:
            raise lost
        what = f"{lost.message.partition('. ')[0]}. It was looked for and did not happen; try again."
        raise ProviderDown(what, account=provider.account)

    def _brakes(self) -> "tuple[Brake, ...]":
        from gateway.intents import SPANS, Brake

        brakes = self.config.brakes
        limits = {"account": brakes.account, "attendee": brakes.attendee, "caller": caller().policy.bookings}
        return tuple(
            Brake(limit.hour if span == 3600 else limit.day, span, of)
            for of, limit in limits.items()
            if limit is not None
            for span in SPANS
        )

    def _intent(self, provider: Provider, tool: Feature, request: object, *, attendee: str | None) -> "Intent":
        """With an attendee, one that brakes hold for."""
        from gateway.intents import Intent

        return Intent(
            caller=caller().name,
            account=provider.kept_as,
            tool=tool,
            digest=digest(request),
            attendee=None if attendee is None else digest(attendee.lower()),
            brakes=() if attendee is None else self._brakes(),
        )


def _named(provider: Provider, look: "Look[T] | None") -> "Look[T] | None":
    """`look`, whose failures have a name."""

    async def named(marker: str, since: int) -> T | None:
        assert look is not None  # noqa: S101 - for the type checker
        return await reading(provider, look(marker, since))

    return None if look is None else named
