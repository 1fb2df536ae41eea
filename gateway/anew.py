"""What a booking would be if it were booked anew at another time, and whether that will do."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gateway.accounts import reading, zone_of
from gateway.answers import routed
from gateway.intents import Held
from providers import Provider
from schemas import (
    Answer,
    Booking,
    BookingRequest,
    EventType,
    InvalidRequest,
    NotFound,
    SlotTaken,
    TimeRange,
    Unsupported,
)

if TYPE_CHECKING:
    from gateway.core import Gateway

MOVED = "Moved to another time."


class Anew:
    """A booking and the time it is to have; `row` is the move's in the journal."""

    def __init__(
        self, gateway: "Gateway", provider: Provider, booking: Booking, at: datetime, reason: str | None, row: Held
    ):
        self._gateway = gateway
        self._provider = provider
        self._booking = booking
        self._at = at
        self._reason = reason or MOVED
        self._row = row
        self._old_id = routed(provider.account, booking.id)

    async def event_type(self) -> EventType:
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

    async def request(self, event_type: EventType) -> BookingRequest:
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

    def touches(self, event_type: EventType) -> bool:
        """Whether the booking, with its buffers, blocks the time it is to have."""
        before = timedelta(minutes=event_type.buffer_before_minutes or 0)
        after = timedelta(minutes=event_type.buffer_after_minutes or 0)
        start, end = self._booking.start, self._booking.end
        return self._at - before < end + after and start - before < self._at + (end - start) + after

    async def must_be_sure_of_the_start(self, event_type: EventType) -> None:
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


def _asked(answer: Answer, event_type: EventType, key: str) -> Answer:
    """An answer as it was given: several choices come back as lines."""
    several = any(each.key == key and each.type == "choices" for each in event_type.questions)
    return tuple(answer.splitlines()) if several and isinstance(answer, str) else answer
