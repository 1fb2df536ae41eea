"""Settling writes that nobody saw the end of: a process was killed, or an answer was lost and could not be looked for.

It is looked what came of each, as right after a lost answer; a move that stopped halfway is finished or taken back.
Done at the start, before the next write of the account, and by a sweep; each row by one process alone.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway import audited
from gateway.accounts import reading
from gateway.callers import Caller, calling
from gateway.intents import Held, changed_by
from providers import Provider
from schemas import Booking, BookingRequest, Feature, OutcomeUnknown, SchedulingError

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

    from gateway.core import Gateway

log = logging.getLogger(__name__)

PAUSE = timedelta(seconds=5)
"""Between two looks whether anything of an account is due, before its writes."""

AT_ONCE = 5
"""How many writes are settled before another one is made."""

IN_STEPS = (Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
"""What may be under way for several requests, or stands in the way of what is."""

DONE, FAILED, UNKNOWN = "done", "failed", "unknown"


class Settling:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._looked: dict[str, datetime] = {}
        self._begun = False

    async def due(self, provider: Provider) -> None:
        """Settle what is due of an account, so that what comes next builds on what is known; what is much waits for the
        sweep."""
        now = self._gateway.clock.now()
        if now - self._looked.get(provider.kept_as, now - 2 * PAUSE) >= PAUSE:
            self._looked[provider.kept_as] = now
            await self._settle((await self._gateway.journal.unsettled(provider.kept_as))[:AT_ONCE])

    async def sweep(self) -> int:
        """Settle what is due anywhere, at the start early, and forget what is old; how many were settled."""
        early, self._begun = not self._begun, True
        settled = await self._settle(await self._gateway.journal.unsettled(early=early))
        limits = self._gateway.config.journal
        await self._gateway.journal.prune(limits.days, limits.rows)
        return settled

    async def again(self, provider: Provider) -> None:
        """Settle early what is left of an account, which may work again now."""
        await self._settle(await self._gateway.journal.unsettled(provider.kept_as, early=True))

    async def unsettled(self) -> int:
        """Of how many writes it is not known what came of them; those under way are among them."""
        from sqlalchemy import func, select

        from providers.storage.tables import journal

        rows = select(func.count()).select_from(journal).where(journal.c.outcome.in_(("sent", "unknown")))
        async with self._gateway.storage.read() as connection:
            return int(await connection.scalar(rows) or 0)

    async def note(self, provider: Provider, booking_id: str) -> str | None:
        """What is not settled of a booking, in words."""
        of_it = await self._changes(provider, booking_id)
        if not of_it:
            return None
        at = datetime.fromtimestamp(of_it[-1].created, UTC).strftime("%Y-%m-%d %H:%M")
        return f"{of_it[-1].tool} of {at} UTC is under way or not settled: it may or may not happen yet."

    async def found(self, booking_id: str, *features: Feature) -> tuple[Provider, Booking]:
        """A booking that is to be changed; what is left of a move of it that stopped midway is finished before.

        Where its service does not keep two changes apart, it is waited for the end of one that is under way.
        """
        provider, _ = self._gateway.accounts.route(booking_id, "booking_id")
        await self.due(provider)
        provider, booking = await self._gateway.bookings.find(booking_id, *features)
        if provider.changes_alone and await self._settle(await self._left_of(provider, booking.id)):
            booking = await self._gateway.bookings.newest(provider, booking.id)
        pause = 0.02
        while provider.changes_alone and await self._is_changing(provider, booking):
            await self._gateway.clock.sleep(pause)
            await self.due(provider)
            pause = min(pause * 2, 2.0)
            if not await self._is_changing(provider, booking):
                booking = await self._gateway.bookings.newest(provider, booking.id)
        return provider, booking

    async def _changes(self, provider: Provider, booking_id: str) -> "list[Row[Any]]":
        """The changes of a booking that are under way or not settled; not their steps."""
        rows = await self._gateway.journal.open_of(provider.kept_as)
        return [row for row in rows if row.parent is None and changed_by(row.kept) == booking_id]

    async def _is_changing(self, provider: Provider, booking: Booking) -> bool:
        changes = await self._changes(provider, booking.id)
        return any(row.outcome == "sent" and row.tool in IN_STEPS for row in changes)

    async def _left_of(self, provider: Provider, booking_id: str) -> "list[Row[Any]]":
        """What may be looked at early of the changes of a booking, their steps before them."""
        mine = {row.id for row in await self._changes(provider, booking_id)}
        if not mine:
            return []
        rows = await self._gateway.journal.unsettled(provider.kept_as, early=True)
        return [row for row in rows if row.id in mine or row.parent in mine]

    async def _settle(self, rows: "Sequence[Row[Any]]") -> int:
        settled, sending = 0, self._gateway.journal.sending
        for row in rows:
            is_ours = row.id in sending or row.parent in sending
            provider = self._gateway.pool.named(row.account)
            if not is_ours and provider is not None and await self._gateway.journal.take(row):
                with calling(Caller(row.caller)):
                    outcome, reference = await self._outcome(provider, row)
                if outcome != UNKNOWN:
                    await self._gateway.journal.settle(row, outcome, reference)
                    settled += 1
                log.warning("account %s: %s of %s is settled: %s", row.account, row.tool, row.id, outcome)
        return settled

    async def _outcome(self, provider: Provider, row: "Row[Any]") -> tuple[str, str | None]:
        """What came of a write, and the id of what it made."""
        try:
            with audited.going_on(None):
                made = await reading(provider, self._look(provider, row))
        except SchedulingError as error:
            log.info("account %s: what came of %s cannot be told yet: %s", row.account, row.id, error.code)
            return UNKNOWN, None
        return (FAILED, None) if made is None else (DONE, made.id)

    async def _look(self, provider: Provider, row: "Row[Any]") -> Booking | None:
        """What a write has made; None if it did nothing. Raises a SchedulingError if that cannot be told."""
        kept: Mapping[str, Any] = row.kept or {}
        looking = self._gateway.looking
        if "request" in kept:
            request = BookingRequest.model_validate(kept["request"])
            return await looking.booked(provider, request, row.id, row.created)
        if "anew" in kept:
            from gateway.rebooking import resume

            return await resume(self._gateway, provider, Held(row.id, row.tries + 1), kept)
        if "booking" not in kept:
            raise OutcomeUnknown("Nothing is known of this write that it could be looked for by.")
        booking = Booking.model_validate(kept["booking"])
        match row.tool:
            case Feature.CANCEL_BOOKING:
                return await looking.cancelled(provider, booking, kept["reason"])
            case Feature.RESPOND_TO_BOOKING:
                return await looking.answered(provider, booking, kept["response"])
            case _ if provider.rebooks:  # it got to no step
                return None
            case _:
                at = datetime.fromisoformat(kept["start"])
                return await looking.moved(provider, booking, at, row.created, late=True)
