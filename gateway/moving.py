"""Moving a booking: by its service where that can, or else by booking anew and cancelling.

Booked anew, the attendee is to end with one booking. Where the two times do not touch, the new one is made first and
the old one cancelled then; so there is a booking at every moment. Where they touch, the old one must go first, for it
blocks the new; if the new one cannot be had then, the old time is booked again. Each step is a write of its own in the
journal.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pydantic import ValidationError

from gateway.accounts import reading, zone_of
from gateway.answers import MovedAnswer, routed
from gateway.times import an_instant
from providers import Provider
from schemas import (
    LIVE,
    Answer,
    Booking,
    BookingQuery,
    BookingRequest,
    EventType,
    Feature,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
    Unsupported,
)

if TYPE_CHECKING:
    from gateway.core import Gateway

T = TypeVar("T")

MOVED = "Moved to another time."
TAKEN_BACK = "Taken back: the booking stays at its time."
# Seconds before a step is tried again: the longer, the more is lost if it fails.
BOOKING, CANCELLING, RESTORING = (2.0,), (2.0, 8.0), (2.0, 8.0, 30.0)
LONGEST_PAUSE = 60.0
REQUESTS = 8
"""What booking anew, cancelling and putting back may take together."""


class Moving:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def reschedule(
        self, booking_id: str, start: str, reason: str | None, idempotency_key: str | None
    ) -> MovedAnswer:
        at = an_instant(start, None, "start", zone_argument=None)
        bookings, asked_for = self._gateway.bookings, booking_id.strip()
        provider, booking = await bookings.find(booking_id, Feature.RESCHEDULE_BOOKING)
        tz = await zone_of(provider)

        async def send(_: str) -> Booking:
            bookings.must_be_live(booking)
            if booking.start == at:
                return booking
            bookings.must_be_ahead(at)
            if provider.rebooks:
                return await self._rebook(provider, booking, at, reason)
            moved = await provider.reschedule_booking(booking, at, reason)
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
        if idempotency_key is not None:
            moved = await self._gateway.write_once(
                provider, Feature.RESCHEDULE_BOOKING, request, send, again, seen, key=idempotency_key, same=request
            )
        elif booking.status in LIVE and booking.start == at:
            return MovedAnswer.moved(
                provider, booking, tz, asked_for, "It was at this time already; nothing was changed."
            )
        else:
            moved = await self._gateway.write(provider, Feature.RESCHEDULE_BOOKING, request, send, seen)
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

    async def _rebook(self, provider: Provider, booking: Booking, at: datetime, reason: str | None) -> Booking:
        bookings = self._gateway.bookings
        provider.forget()
        event_type = await self._event_type(provider, booking)
        # Read again: as it is now, and with its answers told apart by the event type.
        was, booking = booking, await reading(provider, provider.get_booking(booking.id))
        if (booking.status, booking.start) != (was.status, was.start):
            raise InvalidRequest("The booking was changed meanwhile. Look at it again.")
        anew = await self._request(provider, booking, event_type, at)
        try:
            await bookings.check(provider, anew)
        except InvalidRequest as error:
            error.message = f"It can only be moved by booking it anew, and that will not do: {error.message}"
            if booking.reschedule_url:
                error.message += f" The guest can move it at {booking.reschedule_url}."
            raise
        touches = _touch(event_type, booking, at)
        if touches and booking.start <= self._gateway.clock.now():
            raise InvalidRequest(
                "The meeting has begun. To be moved that little it would have to be cancelled first, and could not be "
                "put back. Move it further."
            )
        provider.must_take(REQUESTS)
        await bookings.must_have_room(provider, 2 if touches else 1)
        if not touches:
            return await self._book_then_cancel(provider, booking, anew, reason or MOVED)
        old = anew.model_copy(update={"start": booking.start})
        return await self._cancel_then_book(provider, booking, anew, old, reason or MOVED)

    async def _book_then_cancel(
        self, provider: Provider, booking: Booking, anew: BookingRequest, reason: str
    ) -> Booking:
        bookings = self._gateway.bookings
        old_id = routed(provider.account, booking.id)
        try:
            made = await self._book(provider, anew)
        except OutcomeUnknown:
            _stop(
                provider,
                f"The booking {old_id} stands; whether the new time is booked as well is not known: look with "
                "list_bookings, and cancel what is left over.",
                old_id,
            )
        new_id = routed(provider.account, made.id)
        both = f"It is booked at the new time, as {new_id}, but the old booking {old_id}"
        try:
            await self._insist(CANCELLING, lambda: bookings.call_off(provider, booking, reason))
        except OutcomeUnknown:
            _stop(
                provider,
                f"{both} may or may not be cancelled: look at it, and cancel what is left over.",
                old_id,
                new_id,
            )
        except SchedulingError as error:
            try:
                await self._insist(RESTORING, lambda: bookings.call_off(provider, made, TAKEN_BACK))
            except OutcomeUnknown:
                _stop(provider, f"{both} could not be cancelled, and the new one may or may not stand.", old_id, new_id)
            except SchedulingError:
                _stop(provider, f"{both} could not be cancelled: cancel one of the two.", old_id, new_id)
            error.message += " The new time was given back."
            if not isinstance(error, InvalidRequest):  # which says that somebody else was quicker
                error.message += " The booking is as it was."
            raise
        await self._gateway.moves.add(provider.account, booking.id, made.id)
        return made

    async def _cancel_then_book(
        self, provider: Provider, booking: Booking, anew: BookingRequest, old: BookingRequest, reason: str
    ) -> Booking:
        old_id = routed(provider.account, booking.id)
        try:
            await self._gateway.bookings.call_off(provider, booking, reason)
        except OutcomeUnknown:
            _stop(
                provider,
                f"The old booking {old_id} may or may not be cancelled, and nothing is booked in its place: the guest "
                "may be without a booking. Look at it, then move it again or book a time with create_booking.",
                old_id,
            )
        gone = f"The old booking {old_id} was cancelled to make room"
        try:
            made = await self._insist(BOOKING, lambda: self._book(provider, anew))
        except OutcomeUnknown:
            _stop(provider, f"{gone}; whether the new time is booked is not known: look with list_bookings.", old_id)
        except SchedulingError as error:
            try:
                restored = await self._insist(RESTORING, lambda: self._book(provider, old))
            except SchedulingError as again:
                what = (
                    "may or may not be booked again" if isinstance(again, OutcomeUnknown) else "could not be had again"
                )
                _stop(
                    provider,
                    f"{gone}, the new time could not be had, and the old one {what} ({again.code}): the attendee may "
                    "be without a booking. Look with list_bookings, then book a time with create_booking.",
                    old_id,
                )
            await self._gateway.moves.add(provider.account, booking.id, restored.id)
            now_id = routed(provider.account, restored.id)
            error.message = f"{error.message} The booking stands at its old time again, as {now_id}."
            error.details = {**(error.details or {}), "booking_id": now_id}
            raise
        await self._gateway.moves.add(provider.account, booking.id, made.id)
        return made

    async def _insist(self, pauses: Sequence[float], step: Callable[[], Awaitable[T]]) -> T:
        """A step that nothing else may stop halfway: tried again where it surely did not happen.

        A slot may be free a moment after its booking was cancelled.
        """
        for pause in pauses:
            try:
                return await step()
            except (RateLimited, ProviderDown, SlotTaken) as error:
                await self._gateway.clock.sleep(min(max(pause, error.retry_after or 0), LONGEST_PAUSE))
        return await step()

    async def _book(self, provider: Provider, request: BookingRequest) -> Booking:
        async def send(marker: str) -> Booking:
            return await provider.create_booking(request.model_copy(update={"marker": marker}))

        async def look(marker: str, since: int) -> Booking | None:
            return await self._gateway.bookings.made(provider, request, marker, since)

        said = [request.event_type_id, request.start.timestamp(), request.attendee_email]
        return await self._gateway.write(provider, Feature.CREATE_BOOKING, said, send, look)

    async def _event_type(self, provider: Provider, booking: Booking) -> EventType:
        elsewhere = f" The guest can move it at {booking.reschedule_url}." if booking.reschedule_url else ""
        if booking.shared or booking.bound:
            why = booking.bound or "it is one seat of a meeting with others"
            raise Unsupported(
                f"It can only be moved by booking it anew, and that will not do: {why}.{elsewhere}",
                account=provider.account,
            )
        try:
            event_type = await reading(provider, provider.get_event_type(booking.event_type_id or ""))
        except NotFound:
            raise InvalidRequest(
                "This booking's event type is gone, so it has no slots to move to. Book the new time with another "
                "event type, then cancel this booking."
            ) from None
        minutes = (booking.end - booking.start) // timedelta(minutes=1)
        if minutes != event_type.durations_minutes[0]:
            raise InvalidRequest(
                f"This booking takes {minutes} minutes and its event type {event_type.durations_minutes[0]}: moved, it "
                f"would not be as long as it is.{elsewhere}"
            )
        return event_type

    async def _request(
        self, provider: Provider, booking: Booking, event_type: EventType, at: datetime
    ) -> BookingRequest:
        """The same booking at another start."""
        guest, *others = booking.attendees
        same = {
            "event_type_id": event_type.id,
            "start": at,
            "attendee_name": guest.name,
            "attendee_email": guest.email,
            "guests": [each.email for each in others],
            "answers": {key: _asked(answer, event_type, key) for key, answer in booking.answers.items()},
            "location": booking.location if event_type.locations else None,
            "notes": booking.notes,
        }
        try:
            return BookingRequest.model_validate({**same, "attendee_time_zone": guest.time_zone})
        except ValidationError:  # of the zone, which the service knows by a name that we do not
            return BookingRequest.model_validate({**same, "attendee_time_zone": (await zone_of(provider)).key})


def _asked(answer: Answer, event_type: EventType, key: str) -> Answer:
    """An answer as it was given: several choices come back as lines."""
    several = any(each.key == key and each.type == "choices" for each in event_type.questions)
    return tuple(answer.splitlines()) if several and isinstance(answer, str) else answer


def _touch(event_type: EventType, booking: Booking, at: datetime) -> bool:
    """Whether the booking, with its buffers, blocks the time it is to have."""
    before = timedelta(minutes=event_type.buffer_before_minutes or 0)
    after = timedelta(minutes=event_type.buffer_after_minutes or 0)
    length = booking.end - booking.start
    return at - before < booking.end + after and booking.start - before < at + length + after


def _stop(provider: Provider, message: str, *ids: str) -> NoReturn:
    raise OutcomeUnknown(message, account=provider.account, details={"booking_ids": list(ids)}) from None
