"""The journal: a row for every write, before it is sent and after it is answered, and one booking for one request.

A row holds digests, the account, the outcome and the provider's id of what was made; and, until it is known what came
of it, what it takes to find out (`kept`), the attendee's data among that. `outcome`: `sent` (on its way, or the process
died), `done`, `failed` (nothing happened) or `unknown`.

Two requests are the same if they share a claim. The database lets one row hold it; who comes second waits for the first
and is answered with what that one made, or, if nobody knows whether it made anything, looks first.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from gateway.brakes import must_be_alone, must_not_exceed
from gateway.callers import parted
from gateway.intents import OPEN, Held, Intent
from providers import Clock
from providers.slots import seconds
from providers.storage import Storage
from providers.storage.tables import journal
from schemas import InvalidRequest, OutcomeUnknown, ProviderDown, SchedulingError

T = TypeVar("T")
log = logging.getLogger(__name__)

WAIT = 180.0
"""After how many seconds of silence a write is taken to be nobody's any more. Who was only slow is told, and stops."""

AGAIN = (60, 300, 1800, 7200)
"""After how many seconds a write that could not be settled is looked at again, each time it could not; then as last."""

LONGEST_KEPT = 2 * 86_400
"""How long a row may be asked for, in seconds: claims last a day, and so do limits."""

UNSETTLED = (
    "The same request was sent before and its outcome is not known. It may have happened: look with list_bookings "
    "before trying again with another idempotency_key."
)

Look = Callable[[str, int], Awaitable[T | None]]
"""What the write with that marker, begun at that second, has made; None if it surely made nothing.

Raises a SchedulingError if it cannot tell.
"""


class Journal:
    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self.sending: set[str] = set()
        """What this process is at, which it does not take for lost, be it asleep for long."""

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
        pause = 0.02
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
            elif holder.id not in self.sending and (holder.outcome == "unknown" or holder.updated + WAIT <= now):
                await self._settle_by_looking(holder, intent, look)
            else:
                await self._clock.sleep(pause)
                pause = min(pause * 2, 0.5)

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

    async def hold(self, marker: str, kept: Mapping[str, Any] | None = None) -> None:
        """Say that a write is about to be sent now; with `kept`, keep more of what it takes to settle it.

        Raises ProviderDown if it was given up for lost meanwhile.
        """
        more = {} if kept is None else {"kept": dict(kept)}
        mine = update(journal).where(journal.c.id == marker, journal.c.outcome == "sent")
        async with self._storage.write() as connection:
            held = await connection.execute(mine.values(updated=seconds(self._clock.now()), **more))
        if held.rowcount == 0:
            raise ProviderDown("This took too long and was given up before anything was sent. Try again.")

    async def renew(self, row: Held) -> None:
        """Say that a move is still gone on with. Raises OutcomeUnknown if somebody else does that by now."""
        mine = (journal.c.id == row.id, journal.c.tries == row.tries, journal.c.outcome.in_(OPEN))
        async with self._storage.write() as connection:
            held = await connection.execute(update(journal).where(*mine).values(updated=seconds(self._clock.now())))
        if held.rowcount == 0:
            raise OutcomeUnknown("This took too long, and another process goes on with it. Ask get_booking.")

    async def _settle_by_looking(self, holder: Row[Any], intent: Intent, look: Look[Any] | None) -> None:
        """Settle a write that nobody saw the end of."""
        if look is None:
            raise OutcomeUnknown(UNSETTLED, account=parted(intent.account)[0])
        try:
            made = await look(holder.id, holder.created)
        except SchedulingError:
            raise OutcomeUnknown(UNSETTLED, account=parted(intent.account)[0]) from None
        if made is None:
            await self._settle(holder.id, holder.tries, outcome="failed", claim=None)
        else:
            await self._settle(holder.id, holder.tries, outcome="done", reference=getattr(made, "id", None))

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
            "attendee": intent.attendee,
            "kept": None if intent.kept is None else dict(intent.kept),
            "parent": intent.parent,
            "outcome": "sent",
            "created": now,
            "updated": now,
        }
        # Who counts, or looks for others, begins alone: two at once would not see each other. A caller's writes are
        # counted over all accounts.
        alone: tuple[str, ...] = (f"writes {intent.account}",) if intent.brakes or intent.changes else ()
        if any(brake.of == "caller" for brake in intent.brakes):
            alone = (f"writes by {intent.caller}", *alone)
        try:
            async with self._storage.write(alone=alone) as connection:
                await connection.execute(insert(journal).values(**row))
                if intent.changes is not None:
                    await must_be_alone(connection, intent, marker)
                if intent.brakes:
                    await must_not_exceed(connection, intent, now)
        except OutcomeUnknown as lost:  # whether there is a row: it stands for nothing
            await self._forget(marker)
            raise ProviderDown("The gateway's database was lost before anything was sent. Try again.") from lost
        return marker

    async def _forget(self, marker: str) -> None:
        try:
            async with self._storage.write() as connection:
                await connection.execute(delete(journal).where(journal.c.id == marker))
        except SchedulingError:
            log.warning("whether write %s is in the journal is not known; nothing was sent", marker)

    async def _send(self, marker: str, send: Callable[[str], Awaitable[T]]) -> T:
        self.sending.add(marker)
        try:
            return await self._sent(marker, send)
        finally:
            self.sending.discard(marker)

    async def _sent(self, marker: str, send: Callable[[str], Awaitable[T]]) -> T:
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

    async def unsettled(self, account: str | None = None, *, early: bool = False) -> Sequence[Row[Any]]:
        """Writes of which nobody knows what came of them: those whose sender has been silent for long, and those that
        could not be told before and are due again, or `early`. The oldest first; the steps of a move before the move.
        """
        now = seconds(self._clock.now())
        of_account = [] if account is None else [journal.c.account == account]
        silent = and_(journal.c.outcome == "sent", journal.c.updated + WAIT <= now)
        due = and_(
            journal.c.outcome == "unknown",
            journal.c.kept.is_not(None),
            or_(
                *(and_(journal.c.tries == n, journal.c.updated + s <= now) for n, s in enumerate(AGAIN)),
                journal.c.updated + (AGAIN[0] if early else AGAIN[-1]) <= now,
            ),
        )
        query = (
            select(journal)
            .where(or_(silent, due), *of_account)
            .order_by(journal.c.parent.is_(None), journal.c.created, journal.c.id)
        )
        async with self._storage.read() as connection:
            return (await connection.execute(query)).all()

    async def steps(self, parent: str) -> Sequence[Row[Any]]:
        """What was sent for a move, in its order."""
        query = select(journal).where(journal.c.parent == parent).order_by(journal.c.created, journal.c.id)
        async with self._storage.read() as connection:
            return (await connection.execute(query)).all()

    async def row(self, marker: str) -> Row[Any]:
        """The row of a write."""
        async with self._storage.read() as connection:
            return (await connection.execute(select(journal).where(journal.c.id == marker))).one()

    async def twins(self, marker: str) -> set[str]:
        """A write and those of a day that asked for the same and were given up: one of them may arrive late."""
        row = await self.row(marker)
        async with self._storage.read() as connection:
            same = (journal.c.account == row.account, journal.c.tool == row.tool, journal.c.digest == row.digest)
            given_up = (journal.c.outcome == "failed", journal.c.created > row.created - 86_400)
            found = await connection.scalars(select(journal.c.id).where(*same, *given_up))
            return {marker, *found}

    async def take(self, row: Row[Any]) -> bool:
        """Settle this row alone: of several processes that want to, one gets it, and holds it with one try more."""
        same = (journal.c.id == row.id, journal.c.updated == row.updated, journal.c.tries == row.tries)
        mine = {"updated": seconds(self._clock.now()), "tries": row.tries + 1, "outcome": "unknown"}
        async with self._storage.write() as connection:
            return (await connection.execute(update(journal).where(*same).values(**mine))).rowcount == 1

    async def settle(self, row: Row[Any], outcome: str, reference: str | None = None) -> None:
        """Say what came of a write that was taken. One that did nothing stands for no other."""
        free = {"claim": None} if outcome == "failed" else {}
        await self._settle(row.id, row.tries + 1, outcome=outcome, reference=reference, **free)

    async def recent(self, most: int, *, unsettled: bool = False) -> Sequence[Row[Any]]:
        """The newest rows first."""
        wanted = [journal.c.outcome.in_(OPEN)] if unsettled else []
        query = select(journal).where(*wanted).order_by(journal.c.created.desc(), journal.c.id).limit(most)
        async with self._storage.read() as connection:
            return (await connection.execute(query)).all()

    async def open_of(self, account: str) -> Sequence[Row[Any]]:
        """Writes of an account whose outcome is not known."""
        query = select(journal).where(journal.c.account == account, journal.c.outcome.in_(OPEN))
        async with self._storage.read() as connection:
            return (await connection.execute(query)).all()

    async def prune(self, days: int, rows: int) -> None:
        """Forget settled writes that are too old, or too many, and any that could not be settled for so long."""
        now = seconds(self._clock.now())
        # Those that a limit or a repeated request may still ask for stay, and the steps of a move that is not over.
        still_open = select(journal.c.id).where(journal.c.outcome.in_(OPEN)).scalar_subquery()
        of_none = or_(journal.c.parent.is_(None), journal.c.parent.not_in(still_open))
        settled = and_(journal.c.outcome.in_(("done", "failed")), of_none)
        newest = select(journal.c.id).order_by(journal.c.created.desc()).limit(rows).scalar_subquery()
        async with self._storage.write(alone="prune the journal") as connection:
            given_up = await connection.execute(
                delete(journal).where(journal.c.outcome.in_(OPEN), journal.c.created < now - days * 86_400)
            )
            await connection.execute(delete(journal).where(settled, journal.c.updated < now - days * 86_400))
            await connection.execute(
                delete(journal).where(settled, journal.c.updated < now - LONGEST_KEPT, journal.c.id.not_in(newest))
            )
        if given_up.rowcount:
            log.warning("%d writes of %d days ago were never settled, and are forgotten", given_up.rowcount, days)

    async def _settle(self, marker: str, tries: int = 0, **values: Any) -> None:
        """The write is over and its outcome is told whether or not the journal can be: a failure here is logged.

        What happened is written down in any case; that nothing did, or that nobody knows, by who still holds the row.
        """
        changed = update(journal).where(journal.c.id == marker)
        if values["outcome"] != "done":
            changed = changed.where(journal.c.tries == tries, journal.c.outcome.in_(OPEN))
        if values["outcome"] in ("done", "failed"):
            values["kept"] = None
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
