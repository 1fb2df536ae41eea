"""Bookings: made once, found again, answered and cancelled."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from gateway.accounts import reading, zone_of
from gateway.answers import BookingAnswer, routed
from gateway.intents import BeingChanged, Held
from gateway.likeness import unlike
from gateway.looking import remembered
from gateway.questions import check_answers
from gateway.times import a_zone, an_instant
from providers import Provider
from schemas import (
    LIVE,
    Answer,
    Booking,
    BookingRequest,
    BookingResponse,
    Feature,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    SchedulingError,
    SlotTaken,
)

if TYPE_CHECKING:
    from gateway.core import Gateway


SLOW = timedelta(seconds=20)
"""After this long, whether the write is still ours to send is asked before it is sent."""


class Bookings:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._rooms: dict[str, anyio.Lock] = {}

    async def create(
        self,
        event_type_id: str,
        start: str,
        attendee_name: str,
        attendee_email: str,
        attendee_time_zone: str | None,
        duration_minutes: int | None,
        guests: Sequence[str],
        answers: dict[str, Answer],
        location: str | None,
        notes: str | None,
        idempotency_key: str | None,
    ) -> BookingAnswer:
        provider, own = self._gateway.accounts.route(event_type_id, "event_type_id")
        guest_zone = a_zone(attendee_time_zone, "attendee_time_zone")
        at = an_instant(start, guest_zone, "start", zone_argument="attendee_time_zone")
        account_zone = await zone_of(provider)

        request = BookingRequest(
            event_type_id=own,
            start=at,
            attendee_name=attendee_name,
            attendee_email=attendee_email,
            attendee_time_zone=(guest_zone or account_zone).key,
            duration_minutes=duration_minutes,
            guests=tuple(guests),
            answers=answers,
            location=location,
            notes=notes,
        )
        provider.require(*request.features)

        repeated = False

        async def send(marker: str) -> Booking:
            begun = self._gateway.clock.now()
            if (late := await self._late(provider, request, marker)) is not None:
                return late
            await self.check(provider, request)
            async with self.room(provider, 1, but=marker):
                if self._gateway.clock.now() - begun > SLOW:
                    await self._gateway.journal.hold(marker)
                return await self.book(provider, request, marker)

        looking = self._gateway.looking

        async def look(marker: str, since: int) -> Booking | None:
            return await looking.booked(provider, request, marker, since)

        async def again(booking_id: str) -> Booking | None:
            nonlocal repeated
            repeated = True
            try:
                booking = await self.newest(provider, booking_id)
            except NotFound:
                if idempotency_key is None:
                    repeated = False
                    return None
                raise InvalidRequest(
                    "idempotency_key: made a booking that is not to be found any more. Use a new key to book again."
                ) from None
            still = booking.id == booking_id and booking.status in LIVE and booking.start == at
            repeated = idempotency_key is not None or still
            return booking if repeated else None

        instant = at.timestamp()
        booking = await self._gateway.write_once(
            provider,
            Feature.CREATE_BOOKING,
            [event_type_id, instant, attendee_name, attendee_email, duration_minutes, guests, answers, location, notes],
            send,
            again,
            look,
            key=idempotency_key,
            same=[event_type_id, instant, attendee_email.lower()],
            attendee=attendee_email,
            kept={"request": request.model_dump(mode="json")},
        )
        note = unlike(booking, request) if repeated else None
        return BookingAnswer.of(provider.account, booking, account_zone, note)

    async def book(self, provider: Provider, request: BookingRequest, marker: str) -> Booking:
        """Book. What is refused may have been taken by a request of ours that arrived twice, or late."""
        try:
            return await provider.create_booking(request.model_copy(update={"marker": marker}))
        except SlotTaken as taken:
            if Feature.LIST_BOOKINGS in provider.gaps:
                raise
            markers = await self._gateway.journal.twins(marker)
            try:
                made = await reading(provider, self._gateway.looking.marked(provider, request, markers))
            except SchedulingError:
                raise OutcomeUnknown("The time is taken, and whether by this very request is not known.") from taken
            if made is None:
                raise
            return made

    async def _late(self, provider: Provider, request: BookingRequest, marker: str) -> Booking | None:
        """What an earlier try has made that was looked for, not found, and arrived after all."""
        markers = await self._gateway.journal.twins(marker) - {marker}
        if not markers or Feature.LIST_BOOKINGS in provider.gaps:
            return None
        return await reading(provider, self._gateway.looking.marked(provider, request, markers))

    async def check(self, provider: Provider, request: BookingRequest) -> None:
        """Everything that can be known to be wrong before it is sent."""
        self.must_be_ahead(request.start)
        event_type = await reading(provider, provider.get_event_type(request.event_type_id))
        if not event_type.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type first.")
        lengths = event_type.durations_minutes
        if request.duration_minutes is not None and request.duration_minutes not in lengths:
            raise InvalidRequest(f"duration_minutes: this event type takes {' or '.join(map(str, lengths))}.")
        check_answers(event_type.questions, request.answers)
        await reading(provider, provider.check_booking(request))

    @asynccontextmanager
    async def room(self, provider: Provider, bookings: int, *, but: str = "") -> AsyncIterator[None]:
        """Room for so many more bookings, where the service limits them; nobody else takes it meanwhile.

        Raises: RateLimited, where there is not so much.
        """
        if not provider.booking_limits:
            yield
            return
        async with self._rooms.setdefault(provider.kept_as, anyio.Lock()):
            await self._must_have_room(provider, bookings, but)
            yield

    async def _must_have_room(self, provider: Provider, bookings: int, but: str) -> None:
        now = int(self._gateway.clock.now().timestamp())
        # What a move in another process may yet need: the new time, and the old one back. Those of this one wait here.
        sending = self._gateway.journal.sending
        others = [row for row in await self._gateway.journal.open_of(provider.kept_as) if row.id not in {but, *sending}]
        reserved = 2 * sum("anew" in (row.kept or {}) for row in others)
        for limit in provider.booking_limits:
            since = now - limit.seconds
            made = await self._gateway.journal.count(provider.kept_as, Feature.CREATE_BOOKING, since, but=but)
            over = len(made) + reserved + bookings - limit.most
            if over > 0:
                wait = made[min(over, len(made)) - 1] - since if made else limit.seconds
                raise RateLimited(
                    f"{provider.title} takes {limit.most} bookings in {_span(limit.seconds)}, and {len(made)} were "
                    "made or are about to be. Wait, then try again.",
                    account=provider.account,
                    retry_after=wait,
                )

    async def get(self, booking_id: str, time_zone: str | None) -> BookingAnswer:
        tz = a_zone(time_zone)
        provider, booking = await self.find(booking_id, Feature.GET_BOOKING)
        note = await self._gateway.settling.note(provider, booking.id)
        tz = tz or await zone_of(provider)
        return BookingAnswer.of(provider.account, booking, tz, note, asked_for=booking_id.strip())

    async def cancel(self, booking_id: str, reason: str | None) -> BookingAnswer:
        provider, booking = await self._gateway.settling.found(booking_id, Feature.CANCEL_BOOKING)
        tz = await zone_of(provider)
        while booking.status in LIVE:
            self.must_be_live(provider, booking)
            try:
                cancelled = await self.call_off(provider, booking, reason)
            except BeingChanged as error:
                if not error.passes:
                    raise
                provider, booking = await self._gateway.settling.found(booking_id, Feature.CANCEL_BOOKING)
            except InvalidRequest:
                id = routed(provider.account, booking.id)
                _, now = await self._gateway.settling.found(id, Feature.CANCEL_BOOKING)
                if (now.id, now.status) == (booking.id, booking.status):
                    raise
                booking = now  # somebody else cancelled it meanwhile, or moved it
            else:
                return BookingAnswer.of(provider.account, cancelled, tz, asked_for=booking_id.strip())
        under_way = await self._gateway.settling.note(provider, booking.id)
        note = " ".join([f"It was {booking.status} already.", *([under_way] if under_way else [])])
        return BookingAnswer.of(provider.account, booking, tz, note, booking_id.strip())

    async def call_off(
        self, provider: Provider, booking: Booking, reason: str | None, *, parent: Held | None = None
    ) -> Booking:
        """Cancel a live booking; `parent` is the move that needs it."""
        return await self._gateway.write(
            provider,
            Feature.CANCEL_BOOKING,
            [booking.id, reason],
            lambda _: provider.cancel_booking(booking, reason),
            lambda _, __: self._gateway.looking.cancelled(provider, booking, reason),
            kept={"booking": remembered(booking), "reason": reason},
            parent=parent,
            changes=booking.id if provider.changes_alone and parent is None else None,
        )

    async def respond(self, booking_id: str, response: BookingResponse, reason: str | None) -> BookingAnswer:
        feature = Feature(f"{Feature.RESPOND_TO_BOOKING}.{response}")
        provider, booking = await self._gateway.settling.found(booking_id, Feature.RESPOND_TO_BOOKING, feature)
        tz = await zone_of(provider)
        asked_for = booking_id.strip()
        if booking.status == {"confirm": "confirmed", "decline": "declined"}.get(response):
            return BookingAnswer.of(provider.account, booking, tz, f"It was {booking.status} already.", asked_for)
        if response in ("no_show", "clear_no_show"):
            if booking.status not in LIVE:
                raise InvalidRequest(f"The booking is {booking.status}; nobody was expected.", account=provider.account)
            if booking.start > self._gateway.clock.now():
                raise InvalidRequest("It has not begun, so nobody has missed it yet.", account=provider.account)
        else:
            self.must_be_live(provider, booking)

        answered = await self._gateway.write(
            provider,
            Feature.RESPOND_TO_BOOKING,
            [booking_id, response, reason],
            lambda _: provider.respond_to_booking(booking, response, reason),
            lambda _, __: self._gateway.looking.answered(provider, booking, response),
            kept={"booking": remembered(booking), "response": response},
        )
        return BookingAnswer.of(provider.account, answered, tz, asked_for=asked_for)

    async def find(self, booking_id: str, *features: Feature) -> tuple[Provider, Booking]:
        """The account of a booking, and the booking as it is now."""
        provider, own = self._gateway.accounts.route(booking_id, "booking_id")
        provider.require(*features)
        return provider, await self.newest(provider, own)

    async def newest(self, provider: Provider, id: str) -> Booking:
        """The booking that an id stands for: where it was moved, the one it was moved to."""
        moves, seen = self._gateway.moves, {id}
        while True:
            try:
                booking = await reading(provider, provider.get_booking(id))
            except NotFound:  # some services forget what was moved
                if (onward := await moves.newest(provider.kept_as, id)) is None or onward in seen:
                    raise
            else:
                if booking.status in LIVE:
                    return booking
                onward = booking.rescheduled_to or await moves.newest(provider.kept_as, id)
                if onward is None or onward in seen:
                    return booking
            seen.add(onward)
            id = onward

    def must_be_ahead(self, start: datetime) -> None:
        if start <= (now := self._gateway.clock.now()):
            raise InvalidRequest(f"start: is in the past; it is {now.isoformat(timespec='seconds')} now.")

    def must_be_live(self, provider: Provider, booking: Booking) -> None:
        account = provider.account
        if booking.status not in LIVE:
            raise InvalidRequest(
                f"This booking is {booking.status}. Book a new one with create_booking.", account=account
            )
        if booking.end <= self._gateway.clock.now():
            raise InvalidRequest("This meeting is over; it can be changed no more.", account=account)


def _span(seconds: int) -> str:
    return {60: "a minute", 3600: "an hour", 86_400: "a day"}.get(seconds, f"{seconds} seconds")
