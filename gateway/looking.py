"""Finding out what a write has made: right after its answer was lost, and after a restart from what was kept of it.

Each answers what was made, or None if surely nothing was, and raises a SchedulingError if that cannot be told.
"""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway.likeness import has_answer, is_alike
from providers import Provider
from schemas import (
    LIVE,
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    Feature,
    NotFound,
    OutcomeUnknown,
)

if TYPE_CHECKING:
    from gateway.core import Gateway

CLOCKS_APART = 60
"""By how many seconds a service's clock may differ from ours."""

SECOND = timedelta(seconds=1)


def remembered(booking: Booking) -> dict[str, Any]:
    """A booking as it is kept until a write is settled: without the links that would let others act for its guest."""
    bare = booking.model_copy(update={"cancel_url": None, "reschedule_url": None, "join_url": None})
    return bare.model_dump(mode="json")


class Looking:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def booked(self, provider: Provider, request: BookingRequest, marker: str, since: int) -> Booking | None:
        """What a request to book has made: by our marker, or else by its fingerprint."""
        provider.require(Feature.LIST_BOOKINGS)
        alike: list[Booking] = []
        async with aclosing(_at(provider, request)) as bookings:
            async for booking in bookings:
                if booking.marker == marker:
                    return booking
                if not booking.marker and booking.status in LIVE and is_alike(booking, request):
                    alike.append(booking)
        for booking in alike:
            made = booking.created_at.timestamp() if booking.created_at else None
            if made is not None and made >= since:
                return booking
            if made is None or made >= since - CLOCKS_APART:
                raise OutcomeUnknown("There is such a booking, and no telling whether this request made it.")
        if not await provider.lists(request):
            raise OutcomeUnknown("It may have fallen to a host whose bookings are not seen here.")
        return None

    async def marked(self, provider: Provider, request: BookingRequest, markers: Collection[str]) -> Booking | None:
        """The live booking at a request's time that bears one of these markers."""
        async with aclosing(_at(provider, request)) as bookings:
            async for booking in bookings:
                if booking.marker in markers and booking.status in LIVE:
                    return booking
        return None

    async def cancelled(self, provider: Provider, booking: Booking, reason: str | None) -> Booking | None:
        try:
            now = await provider.get_booking(booking.id)
        except NotFound:
            if not booking.shared:
                raise
            # A seat that was given up is forgotten.
            return booking.model_copy(update={"status": "cancelled", "cancellation_reason": reason})
        return None if now.status in LIVE else now

    async def answered(self, provider: Provider, booking: Booking, response: BookingResponse) -> Booking | None:
        now = await provider.get_booking(booking.id)
        return now if has_answer(now, response) else None

    async def moved(
        self, provider: Provider, booking: Booking, at: datetime, since: int, *, late: bool = False
    ) -> Booking | None:
        """Of a service that moves bookings itself. `late`: what it became since may be others' doing."""
        try:
            now = await self._gateway.bookings.newest(provider, booking.id)
        except NotFound:
            return await self._found_at(provider, booking, at, since)
        if now.status in LIVE and now.start == at:
            return now
        if late:
            return None
        if now.status not in LIVE:
            return await self._found_at(provider, booking, at, since)
        if now.start != booking.start:
            raise OutcomeUnknown("The booking is at neither time.")
        return None

    async def _found_at(self, provider: Provider, booking: Booking, at: datetime, since: int) -> Booking:
        """A booking whose service forgot the id it had before the move, as one does with seats."""
        query = BookingQuery(live=True, ends_after=at, starts_before=at + SECOND)
        same = (booking.event_type_id, at, booking.attendees[0].email.lower())
        async with aclosing(provider.list_bookings(query)) as found:
            async for each in found:
                is_same = (each.event_type_id, each.start, each.attendees[0].email.lower()) == same
                is_new = each.created_at is not None and each.created_at.timestamp() >= since
                if is_same and (each.marker == booking.marker if booking.marker else is_new):
                    await self._gateway.moves.add(provider.kept_as, booking.id, each.id)
                    return each
        raise OutcomeUnknown("The booking is not to be found any more.")


def _at(provider: Provider, request: BookingRequest) -> AsyncGenerator[Booking, None]:
    """The attendee's bookings at the time of a request."""
    query = BookingQuery(
        ends_after=request.start, starts_before=request.start + SECOND, attendee_email=request.attendee_email
    )
    return provider.list_bookings(query)
