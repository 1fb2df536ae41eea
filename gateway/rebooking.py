"""Moving a booking at a service that cannot: it is booked anew and the old one cancelled.

The attendee is to end with one booking. Where the two times do not touch, the new one is made first and the old one
cancelled then; so there is a booking at every moment. Where they touch, the old one must go first, for it blocks the
new; if the new one cannot be had then, the old time is booked again. Each step is a write of its own in the journal,
looked up if its answer is lost, and tried again if it surely did not happen and stopping would leave a mess.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pydantic import ValidationError

from gateway.accounts import reading, zone_of
from gateway.answers import routed
from providers import Provider
from schemas import (
    LIVE,
    Answer,
    Booking,
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
    TimeRange,
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
"""What booking anew, cancelling and putting back take together, if every answer arrives."""


class Rebooking:
    """One move of one booking."""

    def __init__(self, gateway: "Gateway", provider: Provider, booking: Booking, at: datetime, reason: str | None):
        self._gateway = gateway
        self._provider = provider
        self._booking = booking
        self._at = at
        self._reason = reason or MOVED
        self._old_id = routed(provider.account, booking.id)

    async def run(self) -> Booking:
        """The booking at its new time. Raises before anything is sent where it cannot be, or says what is left."""
        provider, bookings = self._provider, self._gateway.bookings
        provider.forget()
        event_type = await self._event_type()
        # Read again: as it is now, and with its answers told apart by the event type.
        was, self._booking = self._booking, await reading(provider, provider.get_booking(self._booking.id))
        if (self._booking.status, self._booking.start) != (was.status, was.start):
            raise InvalidRequest("The booking was changed meanwhile. Look at it again.", account=provider.account)
        anew = await self._request(event_type)
        try:
            await bookings.check(provider, anew)
        except InvalidRequest as error:
            error.message = f"It can only be moved by booking it anew, and that will not do: {error.message}"
            if self._booking.reschedule_url:
                error.message += f" Mend that first, or let the guest move it at {self._booking.reschedule_url}."
            raise
        touches = self._touches(event_type)
        if touches:
            await self._must_be_sure_of_the_start(event_type)
        provider.must_take(REQUESTS)
        async with bookings.room(provider, 2 if touches else 1):
            made = await (self._cancel_then_book(anew) if touches else self._book_then_cancel(anew))
        await self._gateway.moves.add(provider.account, self._booking.id, made.id)
        return made

    async def _book_then_cancel(self, anew: BookingRequest) -> Booking:
        try:
            made = await self._book(anew, ())
        except OutcomeUnknown:
            self._stop(
                f"The booking {self._old_id} stands; whether the new time is booked as well is not known: look with "
                "list_bookings, and cancel what is left over."
            )
        new_id = routed(self._provider.account, made.id)
        both = f"It is booked at the new time, as {new_id}, but the old booking {self._old_id}"
        try:
            await self._cancel()
        except OutcomeUnknown:
            self._stop(f"{both} may or may not be cancelled: look at it, and cancel what is left over.", new_id)
        except SchedulingError as error:
            try:
                await self._insist(RESTORING, lambda: self._call_off(made, TAKEN_BACK))
            except OutcomeUnknown:
                self._stop(f"{both} could not be cancelled, and the new one may or may not stand.", new_id)
            except SchedulingError:
                self._stop(f"{both} could not be cancelled: cancel one of the two.", new_id)
            error.message += " The new time was given back."
            if not isinstance(error, InvalidRequest):  # which says that somebody else was quicker
                error.message += " The booking is as it was."
            raise
        return made

    async def _cancel_then_book(self, anew: BookingRequest) -> Booking:
        try:
            await self._cancel()
        except OutcomeUnknown:
            self._stop(
                f"The old booking {self._old_id} may or may not be cancelled, and nothing is booked in its place: the "
                "guest may be without a booking. Look at it, then move it again or book a time with create_booking."
            )
        gone = f"The old booking {self._old_id} was cancelled to make room"
        try:
            return await self._book(anew, BOOKING)
        except OutcomeUnknown:
            self._stop(f"{gone}; whether the new time is booked is not known: look with list_bookings.")
        except SchedulingError as error:
            restored = await self._restore(anew, gone)
            now_id = routed(self._provider.account, restored.id)
            error.message += f" The booking stands at its old time again, as {now_id}; the guest was told of both. "
            error.message += "Offer the user times of find_slots, and do not try others nearby."
            error.details = {**(error.details or {}), "booking_id": now_id}
            raise

    async def _restore(self, anew: BookingRequest, gone: str) -> Booking:
        old = anew.model_copy(update={"start": self._booking.start})
        try:
            restored = await self._book(old, RESTORING)
        except SchedulingError as error:
            what = "may or may not be booked again" if isinstance(error, OutcomeUnknown) else "could not be had again"
            self._stop(
                f"{gone}, the new time could not be had, and the old one {what} ({error.code}): the guest may be "
                "without a booking. Look with list_bookings, then book a time with create_booking."
            )
        await self._gateway.moves.add(self._provider.account, self._booking.id, restored.id)
        return restored

    async def _book(self, request: BookingRequest, pauses: Sequence[float]) -> Booking:
        """Book; a try that arrives late and takes the slot of the next one counts too."""
        provider, bookings = self._provider, self._gateway.bookings
        tries: list[tuple[str, int]] = []

        async def send(marker: str) -> Booking:
            tries.append((marker, int(self._gateway.clock.now().timestamp())))
            return await provider.create_booking(request.model_copy(update={"marker": marker}))

        async def look(marker: str, since: int) -> Booking | None:
            return await bookings.made(provider, request, marker, since)

        async def book() -> Booking:
            said = [request.event_type_id, request.start.timestamp(), request.attendee_email]
            try:
                return await self._gateway.write(provider, Feature.CREATE_BOOKING, said, send, look)
            except SlotTaken:
                for marker, since in tries[:-1]:
                    if made := await reading(provider, look(marker, since)):
                        return made
                raise

        return await self._insist(pauses, book)

    async def _cancel(self) -> None:
        """Cancel the old booking. InvalidRequest if somebody else did, or changed it."""
        provider = self._provider
        try:
            await self._insist(CANCELLING, lambda: self._call_off(self._booking, self._reason))
        except InvalidRequest:
            try:
                now = await reading(provider, provider.get_booking(self._booking.id))
            except SchedulingError:
                raise OutcomeUnknown("Whether it is cancelled is not known.", account=provider.account) from None
            if now.status in LIVE:
                raise
            if now.cancellation_reason != self._reason:  # else a try of ours arrived late
                raise InvalidRequest(
                    f"The booking {self._old_id} was cancelled by somebody else meanwhile.", account=provider.account
                ) from None

    async def _call_off(self, booking: Booking, reason: str) -> Booking:
        return await self._gateway.bookings.call_off(self._provider, booking, reason)

    async def _insist(self, pauses: Sequence[float], step: Callable[[], Awaitable[T]]) -> T:
        """A step, tried again where it surely did not happen.

        A slot may be free a moment after its booking was cancelled.
        """
        for pause in pauses:
            try:
                return await step()
            except (RateLimited, ProviderDown, SlotTaken) as error:
                await self._gateway.clock.sleep(min(max(pause, error.retry_after or 0), LONGEST_PAUSE))
        return await step()

    async def _event_type(self) -> EventType:
        provider, booking = self._provider, self._booking
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
                "event type, then cancel this booking.",
                account=provider.account,
            ) from None
        minutes = (booking.end - booking.start) // timedelta(minutes=1)
        if minutes != event_type.durations_minutes[0]:
            raise InvalidRequest(
                f"This booking takes {minutes} minutes and its event type {event_type.durations_minutes[0]}: moved, it "
                f"would not be as long as it is.{elsewhere}",
                account=provider.account,
            )
        return event_type

    async def _request(self, event_type: EventType) -> BookingRequest:
        """The same booking at the new start."""
        guest, *others = self._booking.attendees
        answers = {key: _asked(answer, event_type, key) for key, answer in self._booking.answers.items()}
        same = {
            "event_type_id": event_type.id,
            "start": self._at,
            "attendee_name": guest.name,
            "attendee_email": guest.email,
            "guests": [each.email for each in others],
            "answers": {key: answer for key, answer in answers.items() if answer not in ("", ())},
            "location": self._booking.location if event_type.locations else None,
            "notes": self._booking.notes,
            "carried": self._booking.carried,
        }
        try:
            return BookingRequest.model_validate({**same, "attendee_time_zone": guest.time_zone})
        except ValidationError:  # of the zone, which the service knows by a name that we do not
            zone = await zone_of(self._provider)
            return BookingRequest.model_validate({**same, "attendee_time_zone": zone.key})

    def _touches(self, event_type: EventType) -> bool:
        """Whether the booking, with its buffers, blocks the time it is to have."""
        before = timedelta(minutes=event_type.buffer_before_minutes or 0)
        after = timedelta(minutes=event_type.buffer_after_minutes or 0)
        start, end = self._booking.start, self._booking.end
        return self._at - before < end + after and start - before < self._at + (end - start) + after

    async def _must_be_sure_of_the_start(self, event_type: EventType) -> None:
        """Refuse what would cancel the old booking in vain.

        The service does not offer what the old booking blocks, so what it offers around has to tell at which minutes
        the event type begins.
        """
        provider, now = self._provider, self._gateway.clock.now()
        if self._booking.start <= now:
            raise InvalidRequest(
                "The meeting has begun. To be moved that little it would have to be cancelled first, and could not be "
                "put back. Move it further.",
                account=provider.account,
            )
        window = TimeRange(start=max(self._at - timedelta(days=3), now), end=self._at + timedelta(days=7))
        offer = await reading(provider, provider.find_slots(event_type.id, window, None, None))
        minutes = sorted({slot.start.minute for slot in offer.slots})
        if minutes and self._at.minute not in minutes:
            raise SlotTaken(
                f"This event type begins at minute {' or '.join(map(str, minutes))} of an hour (UTC). Nothing was "
                "changed; offer the user times of find_slots.",
                account=provider.account,
            )

    def _stop(self, message: str, *more: str) -> NoReturn:
        details = {"booking_ids": [self._old_id, *more]}
        raise OutcomeUnknown(message, account=self._provider.account, details=details) from None


def _asked(answer: Answer, event_type: EventType, key: str) -> Answer:
    """An answer as it was given: several choices come back as lines."""
    several = any(each.key == key and each.type == "choices" for each in event_type.questions)
    return tuple(answer.splitlines()) if several and isinstance(answer, str) else answer
