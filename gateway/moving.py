"""Moving a booking: by its service where that can, or else by booking anew and cancelling (`rebooking`)."""

from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gateway.accounts import zone_of
from gateway.answers import MovedAnswer
from gateway.rebooking import Rebooking
from gateway.times import an_instant
from providers import Provider
from schemas import (
    LIVE,
    Booking,
    BookingQuery,
    Feature,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    SchedulingError,
    SlotTaken,
)

if TYPE_CHECKING:
    from gateway.core import Gateway


class Moving:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def reschedule(
        self, booking_id: str, start: str, reason: str | None, idempotency_key: str | None
    ) -> MovedAnswer:
        at = an_instant(start, None, "start", zone_argument=None)
        bookings, asked_for = self._gateway.bookings, booking_id.strip()
        provider, booking = await self._gateway.settling.found(booking_id, Feature.RESCHEDULE_BOOKING)
        tz = await zone_of(provider)
        is_open = None if booking.status in LIVE else await self._gateway.settling.note(provider, booking.id)

        async def send(marker: str) -> Booking:
            if is_open:  # it may yet come back: who booked anew would have two
                raise InvalidRequest(
                    f"This booking is {booking.status}, but {is_open} Ask get_booking again before booking anew.",
                    account=provider.account,
                )
            bookings.must_be_live(provider, booking)
            if booking.start == at:
                return booking
            bookings.must_be_ahead(at)
            if provider.rebooks:
                return await Rebooking(self._gateway, provider, booking, at, reason, marker).run()
            begun = int(self._gateway.clock.now().timestamp())
            try:
                moved = await provider.reschedule_booking(booking, at, reason)
            except (InvalidRequest, SlotTaken):  # it may have arrived twice: then it happened
                with suppress(SchedulingError):
                    if (made := await look(marker, begun)) is not None:
                        return made
                raise
            if moved.id != booking.id:
                await self._gateway.moves.add(provider.account, booking.id, moved.id)
            return moved

        async def look(_: str, since: int) -> Booking | None:
            try:
                now = await bookings.newest(provider, booking.id)
            except NotFound:
                now = None
            if now is None or now.status not in LIVE:
                return await self._found_at(provider, booking, at, since)
            if now.start not in (at, booking.start):
                raise OutcomeUnknown("The booking is at neither time.")
            return now if now.start == at else None

        async def again(moved_id: str) -> Booking:
            return await bookings.newest(provider, moved_id)

        # What is made step by step has looked at each step, and says itself where it got to.
        seen = None if provider.rebooks else look
        request = [asked_for, at.timestamp(), reason]
        kept = {"booking_id": booking.id, "start": at.isoformat()}
        if idempotency_key is not None:
            moved = await self._gateway.write_once(
                provider,
                Feature.RESCHEDULE_BOOKING,
                request,
                send,
                again,
                seen,
                key=idempotency_key,
                same=request,
                kept=kept,
            )
        elif booking.status in LIVE and booking.start == at:
            return MovedAnswer.moved(
                provider, booking, tz, asked_for, "It was at this time already; nothing was changed."
            )
        else:
            moved = await self._gateway.write(provider, Feature.RESCHEDULE_BOOKING, request, send, seen, kept=kept)
        return MovedAnswer.moved(provider, moved, tz, asked_for)

    async def _found_at(self, provider: Provider, booking: Booking, at: datetime, since: int) -> Booking:
        """A booking whose service forgot the id it had before the move, as one does with seats."""
        query = BookingQuery(live=True, ends_after=at, starts_before=at + timedelta(seconds=1))
        same = (booking.event_type_id, at, booking.attendees[0].email.lower())
        async with aclosing(provider.list_bookings(query)) as found:
            async for each in found:
                is_same = (each.event_type_id, each.start, each.attendees[0].email.lower()) == same
                is_new = each.created_at is not None and each.created_at.timestamp() >= since
                if is_same and (each.marker == booking.marker if booking.marker else is_new):
                    await self._gateway.moves.add(provider.account, booking.id, each.id)
                    return each
        raise OutcomeUnknown("The booking is not to be found any more.")
