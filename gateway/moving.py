"""Moving a booking: by its service where that can, or else by booking anew and cancelling (`rebooking`)."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.accounts import reading, zone_of
from gateway.answers import MovedAnswer
from gateway.intents import BeingChanged, Held
from gateway.looking import remembered
from gateway.rebooking import Rebooking
from gateway.times import an_instant
from providers import Provider
from schemas import LIVE, Booking, Feature, InvalidRequest, OutcomeUnknown, SchedulingError, SlotTaken

if TYPE_CHECKING:
    from gateway.core import Gateway


class Moving:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def reschedule(
        self, booking_id: str, start: str, reason: str | None, idempotency_key: str | None
    ) -> MovedAnswer:
        at = an_instant(start, None, "start", zone_argument=None)
        while True:
            provider, booking = await self._gateway.settling.found(booking_id, Feature.RESCHEDULE_BOOKING)
            try:
                return await self._move(provider, booking, booking_id.strip(), at, reason, idempotency_key)
            except BeingChanged as error:
                if not error.passes:
                    raise

    async def _move(
        self, provider: Provider, booking: Booking, asked_for: str, at: datetime, reason: str | None, key: str | None
    ) -> MovedAnswer:
        tz = await zone_of(provider)
        looking = self._gateway.looking
        left = None if booking.status in LIVE else await self._gateway.settling.note(provider, booking.id)

        async def send(marker: str) -> Booking:
            if left:  # it may yet come back: who booked anew would have two
                raise InvalidRequest(
                    f"This booking is {booking.status}, but {left} Ask get_booking again before booking anew.",
                    account=provider.account,
                )
            return await self._send(provider, booking, at, reason, marker)

        async def look(_: str, since: int) -> Booking | None:
            return await looking.moved(provider, booking, at, since)

        async def again(moved_id: str) -> Booking:
            return await self._gateway.bookings.newest(provider, moved_id)

        # What is made step by step has looked at each step, and says itself where it got to.
        seen = None if provider.rebooks else look
        request = [asked_for, at.timestamp(), reason]
        told: dict[str, Any] = {
            "kept": {"booking": remembered(booking), "start": at.isoformat()},
            "attendee": booking.attendees[0].email,
            "changes": booking.id if provider.changes_alone else None,
        }
        tool = Feature.RESCHEDULE_BOOKING
        if key is not None:
            moved = await self._gateway.write_once(
                provider, tool, request, send, again, seen, key=key, same=request, **told
            )
        elif booking.status in LIVE and booking.start == at:
            note = "It was at this time already; nothing was changed."
            return MovedAnswer.moved(provider, booking, tz, asked_for, note)
        else:
            moved = await self._gateway.write(provider, tool, request, send, seen, **told)
        return MovedAnswer.moved(provider, moved, tz, asked_for)

    async def _send(
        self, provider: Provider, booking: Booking, at: datetime, reason: str | None, marker: str
    ) -> Booking:
        bookings = self._gateway.bookings
        bookings.must_be_live(provider, booking)
        if booking.start == at:
            return booking
        bookings.must_be_ahead(at)
        if provider.rebooks:
            return await Rebooking(self._gateway, provider, booking, at, reason, Held(marker)).run()
        begun = int(self._gateway.clock.now().timestamp())
        try:
            moved = await provider.reschedule_booking(booking, at, reason)
        except (InvalidRequest, SlotTaken) as refused:  # it may have arrived twice: then it happened
            try:
                made = await reading(provider, self._gateway.looking.moved(provider, booking, at, begun))
            except OutcomeUnknown:  # what there is by now is not ours
                raise refused from None
            except SchedulingError:
                raise OutcomeUnknown("It was refused, and whether it was moved before is not known.") from refused
            if made is None:
                raise
            return made
        if moved.id != booking.id:
            await self._gateway.moves.add(provider.kept_as, booking.id, moved.id)
        return moved
