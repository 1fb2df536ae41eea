"""Settling writes that nobody saw the end of: a process was killed, or an answer was lost and could not be looked for.

It is looked what came of each, as right after a lost answer; a move that stopped halfway is finished or taken back.
Done at the start, before the next write of the account, and by a sweep; each row by one process alone.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway.accounts import reading
from gateway.likeness import has_answer
from providers import Provider
from schemas import (
    LIVE,
    Booking,
    BookingRequest,
    Feature,
    NotFound,
    OutcomeUnknown,
    SchedulingError,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

    from gateway.core import Gateway

log = logging.getLogger(__name__)

PAUSE = timedelta(seconds=5)
"""Between two looks whether anything of an account is due, before its writes."""

DONE, FAILED, UNKNOWN = "done", "failed", "unknown"


class Settling:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._looked: dict[str, datetime] = {}

    async def due(self, provider: Provider) -> None:
        """Settle what is due of an account, so that what comes next builds on what is known."""
        now = self._gateway.clock.now()
        if now - self._looked.get(provider.account, now - 2 * PAUSE) >= PAUSE:
            self._looked[provider.account] = now
            await self._settle(await self._gateway.journal.unsettled(provider.account))

    async def sweep(self) -> int:
        """Settle what is due anywhere, and forget what is old; how many were settled."""
        settled = await self._settle(await self._gateway.journal.unsettled())
        limits = self._gateway.config.journal
        await self._gateway.journal.prune(limits.days, limits.rows)
        return settled

    async def unsettled(self) -> int:
        """Of how many writes it is not known what came of them; those under way are among them."""
        from sqlalchemy import func, select

        from providers.storage.tables import journal

        rows = select(func.count()).select_from(journal).where(journal.c.outcome.in_(("sent", "unknown")))
        async with self._gateway.storage.read() as connection:
            return int(await connection.scalar(rows) or 0)

    async def note(self, provider: Provider, booking_id: str) -> str | None:
        """What is not settled of a booking, in words."""
        rows = await self._gateway.journal.open_of(provider.account)
        of_it = [row for row in rows if (row.kept or {}).get("booking_id") == booking_id and row.parent is None]
        if not of_it:
            return None
        at = datetime.fromtimestamp(of_it[-1].created, UTC).strftime("%Y-%m-%d %H:%M")
        return f"{of_it[-1].tool} of {at} UTC is under way or not settled: it may or may not happen yet."

    async def found(self, booking_id: str, *features: Feature) -> tuple[Provider, Booking]:
        """A booking that is to be changed; what is left of a move of it that stopped midway is finished before.

        While it is being moved in several steps, it is waited for the end of that.
        """
        provider, _ = self._gateway.accounts.route(booking_id, "booking_id")
        await self.due(provider)
        provider, booking = await self._gateway.bookings.find(booking_id, *features)
        pause = 0.02
        while provider.rebooks and await self._is_moving(provider, booking):
            await self._gateway.clock.sleep(pause)
            await self.due(provider)
            pause = min(pause * 2, 2.0)
            if not await self._is_moving(provider, booking):
                booking = await self._gateway.bookings.newest(provider, booking.id)
        return provider, booking

    async def _is_moving(self, provider: Provider, booking: Booking) -> bool:
        rows = [row for row in await self._gateway.journal.open_of(provider.account) if row.outcome == "sent"]
        return any(row.tool == Feature.RESCHEDULE_BOOKING and row.kept["booking_id"] == booking.id for row in rows)

    async def _settle(self, rows: "list[Row[Any]] | Any") -> int:
        settled = 0
        for row in rows:
            if row.account in self._gateway.accounts and await self._gateway.journal.take(row):
                outcome, reference = await self._outcome(row)
                if outcome != UNKNOWN:
                    await self._gateway.journal.settle(row, outcome, reference)
                    settled += 1
                log.warning("account %s: %s of %s is settled: %s", row.account, row.tool, row.id, outcome)
        return settled

    async def _outcome(self, row: "Row[Any]") -> tuple[str, str | None]:
        """What came of a write, and the id of what it made."""
        provider = self._gateway.accounts[row.account]
        try:
            made = await reading(provider, self._look(provider, row))
        except SchedulingError as error:
            log.info("account %s: what came of %s cannot be told yet: %s", row.account, row.id, error.code)
            return UNKNOWN, None
        return (FAILED, None) if made is None else (DONE, made.id)

    async def _look(self, provider: Provider, row: "Row[Any]") -> Booking | None:
        """What a write has made; None if it did nothing. Raises a SchedulingError if that cannot be told."""
        kept: Mapping[str, Any] = row.kept or {}
        if row.tool == Feature.CREATE_BOOKING and "request" in kept:
            request = BookingRequest.model_validate(kept["request"])
            return await self._gateway.bookings.made(provider, request, row.id, row.created)
        if "booking_id" not in kept:
            raise OutcomeUnknown("Nothing is known of this write that it could be looked for by.")
        if row.tool == Feature.RESCHEDULE_BOOKING:
            return await self._moved(provider, row, kept)
        try:
            now = await self._gateway.bookings.newest(provider, kept["booking_id"])
        except NotFound:
            if row.tool != Feature.CANCEL_BOOKING:
                raise
            return None if kept.get("shared") is None else Booking.model_validate(kept["shared"])
        if row.tool == Feature.CANCEL_BOOKING:
            return None if now.status in LIVE else now
        return now if has_answer(now, kept["response"]) else None

    async def _moved(self, provider: Provider, row: "Row[Any]", kept: Mapping[str, Any]) -> Booking | None:
        if "anew" in kept:
            from gateway.rebooking import resume

            return await resume(self._gateway, provider, row.id, kept)
        now = await self._gateway.bookings.newest(provider, kept["booking_id"])
        if provider.rebooks:  # it got to no step
            return None
        return now if now.status in LIVE and now.start == datetime.fromisoformat(kept["start"]) else None
