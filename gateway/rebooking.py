"""Moving a booking at a service that cannot: it is booked anew and the old one cancelled.

The attendee is to end with one booking. Where the two times do not touch, the new one is made first and the old one
cancelled then; so there is a booking at every moment. Where they touch, the old one must go first, for it blocks the
new; if the new one cannot be had then, the old time is booked again. Each step is a write of its own in the journal,
looked up if its answer is lost, and tried again if it surely did not happen and stopping would leave a mess.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gateway.accounts import reading
from gateway.anew import Anew
from gateway.answers import routed
from gateway.intents import BeingChanged, Held
from gateway.likeness import is_alike
from gateway.looking import remembered
from providers import Provider
from schemas import (
    LIVE,
    Booking,
    BookingQuery,
    BookingRequest,
    Feature,
    InvalidRequest,
    OutcomeUnknown,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
)

if TYPE_CHECKING:
    from gateway.core import Gateway

T = TypeVar("T")

GOES_ON = (
    "The gateway looks again by itself within minutes, and books the new time or else the old one: ask get_booking "
    "then, and book nothing else before."
)
ONE_OF_TWO = (
    "The gateway looks again by itself within minutes, and leaves one of the two: ask get_booking then, and cancel "
    "neither before."
)
TAKEN_BACK = "Taken back: the booking stays at its time."
# Seconds before a step is tried again: the longer, the more is lost if it fails.
BOOKING, CANCELLING, RESTORING = (2.0,), (2.0, 8.0), (2.0, 8.0, 30.0)
LONGEST_PAUSE = 60.0
REQUESTS = 8
"""What booking anew, cancelling and putting back take together, if every answer arrives."""


class Rebooking(Anew):
    """One move of one booking."""

    async def run(self) -> Booking:
        """The booking at its new time. Raises before anything is sent where it cannot be, or says what is left."""
        provider, bookings = self._provider, self._gateway.bookings
        provider.forget()
        event_type = await self.event_type()
        # Read again: as it is now, and with its answers told apart by the event type.
        was, self._booking = self._booking, await reading(provider, provider.get_booking(self._booking.id))
        if (self._booking.status, self._booking.start) != (was.status, was.start):
            raise BeingChanged(provider.account, "change", passes=True)
        anew = await self.request(event_type)
        try:
            await bookings.check(provider, anew)
        except InvalidRequest as error:
            error.message = f"It can only be moved by booking it anew, and that will not do: {error.message}"
            if self._booking.reschedule_url:
                error.message += f" Mend that first, or let the guest move it at {self._booking.reschedule_url}."
            raise
        touches = self.touches(event_type)
        if touches:
            await self.must_be_sure_of_the_start(event_type)
        provider.must_take(REQUESTS)
        kept = {"booking": remembered(self._booking), "anew": anew.model_dump(mode="json"), "reason": self._reason}
        async with bookings.room(provider, 2 if touches else 1, but=self._row.id):
            await self._gateway.journal.hold(self._row.id, kept)
            made = await (self._cancel_then_book(anew) if touches else self._book_then_cancel(anew))
        await self._gateway.moves.add(provider.kept_as, self._booking.id, made.id)
        return made

    async def resume(self, anew: BookingRequest) -> Booking | None:
        """Go on from where the steps got to. See `resume`."""
        provider, booked = self._provider, await self._booked()
        old = await reading(provider, provider.get_booking(self._booking.id))
        new = None if not booked else await reading(provider, self._gateway.bookings.newest(provider, booked[-1]))
        new = new if new is not None and new.status in LIVE else None
        if old.status not in LIVE and self._is_by_others(old):
            # It was cancelled or moved by others, which stands.
            if new is not None:
                await self._call_off(new, TAKEN_BACK)
            return None
        if old.status in LIVE and new is not None:
            await self._cancel()
        elif old.status not in LIVE and not booked:
            new = await self._again(anew)
        if new is None:
            return None
        await self._gateway.moves.add(provider.kept_as, self._booking.id, new.id)
        return new if new.start == anew.start else None

    async def _again(self, anew: BookingRequest) -> Booking:
        """The old booking was cancelled, and there is none in its place: the new time, or else the old one again."""
        if (booked := await self._booked_by_others(anew)) is not None:
            return booked
        try:
            return await self._book(anew, ())
        except (SlotTaken, InvalidRequest):
            return await self._book(anew.model_copy(update={"start": self._booking.start}), ())

    async def _booked_by_others(self, anew: BookingRequest) -> Booking | None:
        """What the guest has by now: whoever saw that the move went wrong may have booked, this time or another."""
        row = await self._gateway.journal.row(self._row.id)
        query = BookingQuery(live=True, ends_after=self._gateway.clock.now(), attendee_email=anew.attendee_email)
        async with aclosing(self._provider.list_bookings(query)) as found:
            async for each in found:
                is_same = is_alike(each, anew.model_copy(update={"start": each.start}))
                is_new = each.created_at is None or each.created_at.timestamp() >= row.created
                if each.status in LIVE and is_same and (is_new or each.start == anew.start):
                    return each
        return None

    async def _booked(self) -> list[str]:
        """What the steps have booked. Raises OutcomeUnknown if there may be more."""
        journal, tool = self._gateway.journal, Feature.CREATE_BOOKING
        steps = [step for step in await journal.steps(self._row.id) if step.tool == tool]
        if any(step.outcome in ("sent", "unknown") for step in steps):
            raise OutcomeUnknown("Whether the new time is booked is not known yet.")
        return [step.reference for step in steps if step.outcome == "done"]

    async def _book_then_cancel(self, anew: BookingRequest) -> Booking:
        try:
            made = await self._book(anew, ())
        except OutcomeUnknown:
            self._stop(
                f"The booking {self._old_id} stands; whether the new time is booked as well is not known. {ONE_OF_TWO}"
            )
        new_id = routed(self._provider.account, made.id)
        both = f"It is booked at the new time, as {new_id}, but the old booking {self._old_id}"
        try:
            await self._cancel()
        except OutcomeUnknown:
            self._stop(f"{both} may or may not be cancelled. {ONE_OF_TWO}", new_id)
        except SchedulingError as error:
            try:
                await self._insist(RESTORING, lambda: self._call_off(made, TAKEN_BACK))
            except OutcomeUnknown:
                self._stop(f"{both} could not be cancelled, and the new one may or may not stand. {ONE_OF_TWO}", new_id)
            except SchedulingError:
                self._stop(f"{both} could not be cancelled. {ONE_OF_TWO}", new_id)
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
                f"guest may be without a booking. {GOES_ON}"
            )
        gone = f"The old booking {self._old_id} was cancelled to make room"
        try:
            return await self._book(anew, BOOKING)
        except OutcomeUnknown:
            self._stop(f"{gone}; whether the new time is booked is not known. {GOES_ON}")
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
                f"without a booking. {GOES_ON}"
            )
        await self._gateway.moves.add(self._provider.kept_as, self._booking.id, restored.id)
        return restored

    async def _book(self, request: BookingRequest, pauses: Sequence[float]) -> Booking:
        provider, gateway = self._provider, self._gateway

        async def book() -> Booking:
            return await gateway.write(
                provider,
                Feature.CREATE_BOOKING,
                [request.event_type_id, request.start.timestamp(), request.attendee_email],
                lambda marker: gateway.bookings.book(provider, request, marker),
                lambda marker, since: gateway.looking.booked(provider, request, marker, since),
                kept={"request": request.model_dump(mode="json")},
                parent=self._row,
            )

        return await self._insist(pauses, book)

    async def _cancel(self) -> None:
        """Cancel the old booking. InvalidRequest if somebody else did, or changed it."""
        provider = self._provider
        try:
            now = await self._insist(CANCELLING, lambda: self._call_off(self._booking, self._reason))
        except InvalidRequest:
            try:
                now = await reading(provider, provider.get_booking(self._booking.id))
            except SchedulingError:
                raise OutcomeUnknown("Whether it is cancelled is not known.", account=provider.account) from None
            if now.status in LIVE:
                raise
        if self._is_by_others(now):
            raise InvalidRequest(
                f"The booking {self._old_id} was cancelled by somebody else meanwhile.", account=provider.account
            ) from None

    def _is_by_others(self, old: Booking) -> bool:
        """Whether the old booking was not cancelled by this move: nothing else of ours changes it meanwhile."""
        return old.cancellation_reason != self._reason

    async def _call_off(self, booking: Booking, reason: str) -> Booking:
        return await self._gateway.bookings.call_off(self._provider, booking, reason, parent=self._row)

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

    def _stop(self, message: str, *more: str) -> NoReturn:
        details = {"booking_ids": [self._old_id, *more]}
        raise OutcomeUnknown(message, account=self._provider.account, details=details) from None


async def resume(gateway: "Gateway", provider: Provider, row: Held, kept: Mapping[str, Any]) -> Booking | None:
    """Finish a move that stopped midway, or take it back: the booking at its new time, or None if it is where it was.

    Its steps are settled before. Raises a SchedulingError if that cannot be done now.
    """
    booking, anew = Booking.model_validate(kept["booking"]), BookingRequest.model_validate(kept["anew"])
    move = Rebooking(gateway, provider, booking, anew.start, kept["reason"], row)
    return await move.resume(anew)
