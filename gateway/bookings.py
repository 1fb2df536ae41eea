"""Bookings: made once, found again, moved and cancelled."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from gateway.accounts import reading, unavailable, zone_of
from gateway.answers import BookingAnswer, BookingsAnswer, MovedAnswer, routed
from gateway.paging import Cursor
from gateway.questions import check_answers
from gateway.times import a_zone, an_instant
from providers import Provider
from schemas import (
    Answer,
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    Feature,
    InvalidRequest,
    NotFound,
)

if TYPE_CHECKING:
    from gateway.core import Gateway

LIVE = ("confirmed", "pending")
Status = Literal["upcoming", "past", "cancelled", "pending", "all"]


class Bookings:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

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

        async def send(marker: str) -> Booking:
            await self._check(provider, request)
            return await provider.create_booking(request.model_copy(update={"marker": marker}))

        async def again(booking_id: str) -> Booking | None:
            try:
                booking = await reading(provider, provider.get_booking(booking_id))
            except NotFound:
                return None
            still = booking.status in LIVE and booking.start == at
            return booking if idempotency_key is not None or still else None

        instant = at.timestamp()
        booking = await self._gateway.write_once(
            provider,
            Feature.CREATE_BOOKING,
            [event_type_id, instant, attendee_name, attendee_email, duration_minutes, guests, answers, location, notes],
            send,
            again,
            key=idempotency_key,
            same=[event_type_id, instant, attendee_email.lower()],
        )
        return BookingAnswer.of(provider.account, booking, account_zone, _unlike(booking, request))

    async def _check(self, provider: Provider, request: BookingRequest) -> None:
        """Everything that can be known to be wrong before it is sent."""
        self._must_be_ahead(request.start)
        event_type = await reading(provider, provider.get_event_type(request.event_type_id))
        lengths = event_type.durations_minutes
        if request.duration_minutes is not None and request.duration_minutes not in lengths:
            raise InvalidRequest(f"duration_minutes: this event type takes {' or '.join(map(str, lengths))}.")
        check_answers(event_type.questions, request.answers)

    async def list(
        self,
        account: str | None,
        status: Status,
        query: str | None,
        start: str | None,
        end: str | None,
        attendee_email: str | None,
        time_zone: str | None,
        limit: int,
        cursor: str | None,
    ) -> BookingsAnswer:
        accounts, now = self._gateway.accounts, self._gateway.clock.now()
        tz = a_zone(time_zone)
        begins = an_instant(start, tz, "start") if start else None
        ends = an_instant(end, tz, "end") if end else None
        if begins and ends and ends <= begins:
            raise InvalidRequest("end: must be after start.")
        if ends and ends <= now and status in ("upcoming", "pending"):
            raise InvalidRequest("end: is in the past, where nothing is upcoming. Ask with status past or all.")
        page = Cursor.read(cursor, "list_bookings", account, status, query, start, end, attendee_email, time_zone)
        wanted, is_wanted = _wanted(status, now, begins, ends, attendee_email, query)
        if page.position:
            wanted = wanted.model_copy(update={"resume_at": datetime.fromtimestamp(page.position[0], now.tzinfo)})

        sign = -1 if wanted.newest_first else 1
        last = (sign * page.position[0], page.position[1]) if page.position else None

        async def of(provider: Provider) -> list[tuple[tuple[float, str], Booking, ZoneInfo]]:
            provider.require(Feature.LIST_BOOKINGS)
            shown = tz or await zone_of(provider)
            found: list[tuple[tuple[float, str], Booking, ZoneInfo]] = []
            async with aclosing(provider.list_bookings(wanted)) as bookings:
                async for booking in bookings:
                    at = (sign * booking.start.timestamp(), routed(provider.account, booking.id))
                    if len(found) > limit and at[0] > found[-1][0][0]:
                        break
                    if is_wanted(booking) and (last is None or at > last):
                        found.append((at, booking, shown))
            return found

        found = (await accounts.ask(accounts.chosen([account] if account else None), of, page.failed)).any()
        entries = sorted(
            ((at, name, booking, shown) for name, each in found.answers.items() for at, booking, shown in each),
            key=lambda entry: entry[0],
        )
        more = len(entries) > limit
        failed = {name: error.code for name, error in found.errors.items()}
        position = (entries[limit - 1][2].start.timestamp(), entries[limit - 1][0][1]) if more else ()
        return BookingsAnswer(
            bookings=tuple(BookingAnswer.of(name, booking, shown) for _, name, booking, shown in entries[:limit]),
            now=now.astimezone(tz) if tz else now,
            unavailable=tuple(unavailable(found.errors)),
            next_cursor=page.next(position, failed) if more else None,
        )

    async def get(self, booking_id: str, time_zone: str | None) -> BookingAnswer:
        tz = a_zone(time_zone)
        provider, booking = await self._find(booking_id, Feature.GET_BOOKING)
        return BookingAnswer.of(provider.account, booking, tz or await zone_of(provider))

    async def reschedule(
        self, booking_id: str, start: str, reason: str | None, idempotency_key: str | None
    ) -> MovedAnswer:
        at = an_instant(start, None, "start", zone_argument=None)
        provider, booking = await self._find(booking_id, Feature.RESCHEDULE_BOOKING)
        tz = await zone_of(provider)

        async def send(_: str) -> Booking:
            self._must_be_live(booking)
            self._must_be_ahead(at)
            return await provider.reschedule_booking(booking, at, reason)

        async def again(moved_id: str) -> Booking:
            return await reading(provider, provider.get_booking(moved_id))

        request = [booking_id, at.timestamp(), reason]
        if idempotency_key is not None:
            moved = await self._gateway.write_once(
                provider, Feature.RESCHEDULE_BOOKING, request, send, again, key=idempotency_key, same=request
            )
        elif booking.status in LIVE and booking.start == at:
            note = "It was at this time already; nothing was changed."
            return MovedAnswer.moved(provider.account, booking, tz, booking_id, note)
        else:
            moved = await self._gateway.write(provider, Feature.RESCHEDULE_BOOKING, request, send)
        return MovedAnswer.moved(provider.account, moved, tz, booking_id)

    async def cancel(self, booking_id: str, reason: str | None) -> BookingAnswer:
        provider, booking = await self._find(booking_id, Feature.CANCEL_BOOKING)
        tz = await zone_of(provider)
        if booking.status not in LIVE:
            return BookingAnswer.of(provider.account, booking, tz, f"It was {booking.status} already.")
        self._must_be_live(booking)
        cancelled = await self._gateway.write(
            provider, Feature.CANCEL_BOOKING, [booking_id, reason], lambda _: provider.cancel_booking(booking, reason)
        )
        return BookingAnswer.of(provider.account, cancelled, tz)

    async def respond(self, booking_id: str, response: BookingResponse, reason: str | None) -> BookingAnswer:
        feature = Feature(f"{Feature.RESPOND_TO_BOOKING}.{response}")
        provider, booking = await self._find(booking_id, Feature.RESPOND_TO_BOOKING, feature)
        tz = await zone_of(provider)
        if booking.status == {"confirm": "confirmed", "decline": "declined"}.get(response):
            return BookingAnswer.of(provider.account, booking, tz, f"It was {booking.status} already.")
        if response in ("no_show", "clear_no_show"):
            if booking.start > self._gateway.clock.now():
                raise InvalidRequest("The meeting has not begun, so nobody has missed it yet.")
            if booking.status not in LIVE:
                raise InvalidRequest(f"The booking is {booking.status}; nobody was expected.")
        else:
            self._must_be_live(booking)
        answered = await self._gateway.write(
            provider,
            Feature.RESPOND_TO_BOOKING,
            [booking_id, response, reason],
            lambda _: provider.respond_to_booking(booking, response, reason),
        )
        return BookingAnswer.of(provider.account, answered, tz)

    async def _find(self, booking_id: str, *features: Feature) -> tuple[Provider, Booking]:
        provider, own = self._gateway.accounts.route(booking_id, "booking_id")
        provider.require(*features)
        return provider, await reading(provider, provider.get_booking(own))

    def _must_be_ahead(self, start: datetime) -> None:
        if start <= (now := self._gateway.clock.now()):
            raise InvalidRequest(f"start: is in the past; it is {now.isoformat(timespec='seconds')} now.")

    def _must_be_live(self, booking: Booking) -> None:
        if booking.status not in LIVE:
            raise InvalidRequest(f"This booking is {booking.status}. Book a new one with create_booking.")
        if booking.end <= self._gateway.clock.now():
            raise InvalidRequest("This meeting is over; it can be changed no more.")


def _unlike(booking: Booking, request: BookingRequest) -> str | None:
    """What the answer must say where the request is answered with a booking that was there before."""
    if booking.status not in LIVE:
        return f"This key made that booking, which is {booking.status} by now. Use a new key to book again."
    if booking.start != request.start:
        return "This key made that booking, which was moved since. Use a new key to book again."
    guest, *others = booking.attendees
    same = {
        "attendee_name": guest.name == request.attendee_name,
        "guests": not request.guests or {each.email for each in others} >= set(request.guests),
        "answers": request.answers.items() <= booking.answers.items(),
        "location": request.location in (None, booking.location),
        "notes": request.notes in (None, booking.notes),
    }
    if unlike := [name for name, is_same in same.items() if not is_same]:
        return f"It was booked before, and is not changed by this call: {', '.join(unlike)}."
    return None


def _wanted(
    status: Status,
    now: datetime,
    begins: datetime | None,
    ends: datetime | None,
    attendee_email: str | None,
    query: str | None,
) -> tuple[BookingQuery, Callable[[Booking], bool]]:
    """What to ask a provider for, and which of what it lists is really meant."""
    live = {"upcoming": True, "pending": True, "past": True, "cancelled": False, "all": None}[status]
    ahead, over = status in ("upcoming", "pending"), status == "past"
    bounds: dict[str, Any] = {
        "ends_after": max(filter(None, (begins, now if ahead else None)), default=None),
        "starts_before": min(filter(None, (ends, now if over else None)), default=None),
    }
    email, words = (attendee_email or "").lower(), (query or "").casefold().split()

    def is_wanted(booking: Booking) -> bool:
        people = "\n".join(f"{each.name}\n{each.email}" for each in booking.attendees)
        return (
            (live is None or (booking.status in LIVE) == live)
            and (status != "pending" or booking.status == "pending")
            and (not ahead or booking.end > now)
            and (not over or booking.end <= now)
            and (begins is None or booking.end > begins)
            and (ends is None or booking.start < ends)
            and (not email or any(each.email.lower() == email for each in booking.attendees))
            and all(word in f"{booking.title}\n{people}".casefold() for word in words)
        )

    order = status in ("past", "cancelled")
    return BookingQuery(live=live, attendee_email=attendee_email, newest_first=order, **bounds), is_wanted
