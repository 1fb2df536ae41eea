"""The journal: a row for every write, before it is sent and after it is answered, and one booking for one request.

A row holds no text of anybody's: digests, the account, the outcome and the provider's id of what was made. `outcome`:
`sent` (on its way, or the process died), `done`, `failed` (nothing happened) or `unknown`.

Two requests are the same if they share a claim. The database lets one row hold it; who comes second waits for the first
and is answered with what that one made, or, if nobody knows whether it made anything, looks first.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from providers import Clock
from providers.slots import seconds
from providers.storage import Storage
from providers.storage.tables import journal
from schemas import InvalidRequest, OutcomeUnknown, ProviderDown, SchedulingError

T = TypeVar("T")
log = logging.getLogger(__name__)

WAIT = 180.0
"""How long a request waits for its twin, in seconds; longer than it may take to send a write and to look for it."""

UNSETTLED = (
    "The same request was sent before and its outcome is not known. It may have happened: look with list_bookings "
    "before trying again with another idempotency_key."
)

Look = Callable[[str, int], Awaitable[T | None]]
"""What the write with that marker, begun at that second, has made; None if it surely made nothing.

Raises a SchedulingError if it cannot tell.
"""


@dataclass(frozen=True, slots=True)
class Intent:
    """A write about to be made. `digest` stands for its arguments, `claim` for what makes another one the same.

    `keep` is how long the claim lasts, in seconds.
    """

    caller: str
    account: str
    tool: str
    digest: str
    claim: str | None = None
    keep: int = 0


class Journal:
    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def record(self, intent: Intent, send: Callable[[str], Awaitable[T]]) -> T:
        """Write down, send (with the id of this row, as marker), write down what came of it."""
        return await self._send(await self._begin(intent), send)

    async def once(
        self,
        intent: Intent,
        send: Callable[[str], Awaitable[T]],
        again: Callable[[str], Awaitable[T | None]],
        look: Look[Any] | None,
    ) -> T:
        """`record`; or, if the same was asked before, `again` with what that made (None: it no longer counts)."""
        waited, pause = 0.0, 0.02
        while True:
            try:
                marker = await self._begin(intent)
            except IntegrityError:
                holder = await self._holder(intent.claim)
            else:
                return await self._send(marker, send)
            now = seconds(self._clock.now())
            if holder is None:
                continue
            if holder.created + intent.keep <= now and holder.outcome == "done":
                await self._release(holder)
            elif holder.digest != intent.digest:
                raise InvalidRequest("idempotency_key: was used with other arguments. Use a new one for a new request.")
            elif holder.outcome == "done":
                if (made := await again(holder.reference or "")) is not None:
                    return made
                await self._release(holder)
            elif holder.outcome == "unknown" or holder.updated + WAIT <= now:
                await self._settle_by_looking(holder, intent, look)
            else:
                await self._clock.sleep(pause)
                waited, pause = waited + pause, min(pause * 2, 0.5)

    async def count(self, account: str, tool: str, since: int, *, but: str) -> list[int]:
        """When such writes were begun that may have happened, in seconds of the epoch; not the row `but`."""
        made = select(journal.c.created).where(
            journal.c.account == account,
            journal.c.tool == tool,
            journal.c.created > since,
            journal.c.outcome != "failed",
            journal.c.id != but,
        )
        async with self._storage.read() as connection:
            return sorted(await connection.scalars(made))

    async def hold(self, marker: str) -> None:
        """Say that a write is about to be sent now. Raises ProviderDown if it was given up for lost meanwhile."""
        mine = update(journal).where(journal.c.id == marker, journal.c.outcome == "sent")
        async with self._storage.write() as connection:
            held = await connection.execute(mine.values(updated=seconds(self._clock.now())))
        if held.rowcount == 0:
            raise ProviderDown("This took too long and was given up before anything was sent. Try again.")

    async def _settle_by_looking(self, holder: Row[Any], intent: Intent, look: Look[Any] | None) -> None:
        """Settle a write that nobody saw the end of."""
        if look is None:
            raise OutcomeUnknown(UNSETTLED, account=intent.account)
        try:
            made = await look(holder.id, holder.created)
        except SchedulingError:
            raise OutcomeUnknown(UNSETTLED, account=intent.account) from None
        if made is None:
            await self._settle(holder.id, outcome="failed", claim=None)
        else:
            await self._settle(holder.id, outcome="done", reference=getattr(made, "id", None))

    async def _begin(self, intent: Intent) -> str:
        marker = uuid4().hex
        now = seconds(self._clock.now())
        row = {
            "id": marker,
            "caller": intent.caller,
            "account": intent.account,
            "tool": intent.tool,
            "claim": intent.claim,
            "digest": intent.digest,
            "outcome": "sent",
            "created": now,
            "updated": now,
        }
        async with self._storage.write() as connection:
            await connection.execute(insert(journal).values(**row))
        return marker

    async def _send(self, marker: str, send: Callable[[str], Awaitable[T]]) -> T:
        try:
            made = await send(marker)
        except OutcomeUnknown as error:
            await self._settle(marker, outcome="unknown", error=error.code)
            raise
        except SchedulingError as error:
            await self._settle(marker, outcome="failed", error=error.code, claim=None)
            raise
        except BaseException:
            await self._settle(marker, outcome="unknown")
            raise
        await self._settle(marker, outcome="done", reference=getattr(made, "id", None))
        return made

    async def _settle(self, marker: str, **values: Any) -> None:
        """The write is over and its outcome is told whether or not the journal can be: a failure here is logged."""
        changed = update(journal).where(journal.c.id == marker)
        try:
            async with self._storage.write() as connection:
                await connection.execute(changed.values(updated=seconds(self._clock.now()), **values))
        except SchedulingError:
            log.exception("the outcome of write %s could not be journaled: %s", marker, values)

    async def _holder(self, claim: str | None) -> Row[Any] | None:
        async with self._storage.read() as connection:
            return (await connection.execute(select(journal).where(journal.c.claim == claim))).first()

    async def _release(self, holder: Row[Any]) -> None:
        async with self._storage.write() as connection:
            await connection.execute(update(journal).where(journal.c.id == holder.id).values(claim=None))
