"""The embedded calendar: one person's event types, working hours and bookings, in the gateway's own database.

Quirks:
- The configuration's `time_zone` and `working_hours` are applied when they are new or changed in the file; what the
  tools change afterwards stays until the file changes again.
- An event type's id is the slug it was made with, and stays when the slug is changed.
- A booking keeps its id when it is moved.
- Between two meetings lies the later buffer of the one and the earlier buffer of the other.
"""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from providers.base import AccountConfig, Provider, Services
from providers.clock import machine_zone
from providers.local.config import SEEDS, LocalConfig
from providers.own import OwnEventType, made, only_read, slug_in_use
from providers.slots import Hours, Span, find_starts, seconds
from schemas import (
    NINE_TO_FIVE,
    Attendee,
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    BusyTime,
    EventType,
    EventTypeChange,
    Feature,
    Identity,
    InvalidRequest,
    NotFound,
    Offer,
    Schedule,
    ScheduleChange,
    Slot,
    SlotTaken,
    TimeRange,
    zone,
)

if TYPE_CHECKING:
    from providers.local.store import State, Store, Taken

DAY = 86_400


class Local(Provider):
    Config: ClassVar[type[AccountConfig]] = LocalConfig
    title = "Embedded calendar"
    gaps = {
        Feature.RESPOND_TENTATIVE: "a booking is confirmed or declined here; use one of those.",
    }
    guest_page = True
    caveats = {
        Feature.CREATE_SCHEDULING_LINK: "a page of the gateway's own, there while it is served over HTTP.",
        Feature.CREATE_BOOKING: "no e-mail is sent; tell the guest yourself.",
        Feature.CANCEL_BOOKING: "no e-mail is sent; tell the guest yourself.",
        Feature.RESCHEDULE_BOOKING: "no e-mail is sent, and the reason is not kept; tell the guest yourself.",
    }

    def __init__(self, account: str, config: LocalConfig, services: Services) -> None:
        super().__init__(account, config, services)
        self._in_file = {kind.slug: kind for kind in config.event_types or ()}
        self._store: Store | None = None

    async def whoami(self) -> Identity:
        return Identity(time_zone=(await self._state()).schedule.time_zone)

    async def list_event_types(self) -> list[EventType]:
        return [kind.shown(id) for id, kind in self._kinds(await self._state()).items()]

    async def get_event_type(self, event_type_id: str) -> EventType:
        return self._kind(await self._state(), event_type_id).shown(event_type_id)

    async def save_event_type(self, event_type_id: str | None, change: EventTypeChange) -> EventType:
        if event_type_id in self._in_file:
            raise only_read(event_type_id)
        store = await self._open()
        async with store.change() as (connection, state):
            kinds = self._kinds(state)
            if event_type_id is None:
                used = [*await store.used_ids(connection), *kinds, *(kind.slug for kind in kinds.values())]
                kind = made(change, used)
                event_type_id = kind.slug if kind.slug not in used else f"{kind.slug}-{uuid4().hex[:6]}"
            else:
                kind = self._kind(state, event_type_id).changed(change)
            if any(kind.slug == other.slug and id != event_type_id for id, other in kinds.items()):
                raise slug_in_use(kind.slug)
            await store.put_event_type(connection, event_type_id, kind)
        return kind.shown(event_type_id)

    async def delete_event_type(self, event_type_id: str) -> EventType:
        if event_type_id in self._in_file:
            raise only_read(event_type_id)
        store = await self._open()
        async with store.change() as (connection, state):
            kind = self._kind(state, event_type_id)
            await store.delete_event_type(connection, event_type_id)
        return kind.shown(event_type_id)

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        store, span = await self._open(), (seconds(window.start), seconds(window.end))
        state, taken = await store.state_and_taken(_around(span))
        kind = self._bookable(state, event_type_id)
        if duration_minutes not in (None, kind.duration_minutes):
            raise InvalidRequest(f"duration_minutes: this event type takes {kind.duration_minutes}.")
        length = timedelta(minutes=kind.duration_minutes)
        starts = self._starts(state.schedule, kind, event_type_id, span, taken, moving)
        begins = (datetime.fromtimestamp(start, UTC) for start in starts)
        slots = tuple(Slot(start=start, end=start + length) for start in begins)
        return Offer(slots=slots, time_zone=state.schedule.time_zone)

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        await self._open()
        query = BookingQuery(live=True, ends_after=window.start, starts_before=window.end)
        return [
            BusyTime(start=booking.start, end=booking.end, title=booking.title, booking_id=booking.id)
            async for booking in self.list_bookings(query)
        ]

    async def create_booking(self, request: BookingRequest) -> Booking:
        store = await self._open()
        async with store.change() as (connection, state):
            kind = self._bookable(state, request.event_type_id)
            start = request.start.astimezone(UTC)
            span = (seconds(start), seconds(start) + 1)
            taken = await store.taken(_around(span), connection)
            _must_offer(start, self._starts(state.schedule, kind, request.event_type_id, span, taken, None))
            location = request.location or kind.location
            booking = Booking(
                id=uuid4().hex[:16],
                event_type_id=request.event_type_id,
                title=f"{kind.title} with {request.attendee_name}",
                status="pending" if kind.requires_confirmation else "confirmed",
                start=start,
                end=start + timedelta(minutes=kind.duration_minutes),
                attendees=(
                    Attendee(
                        name=request.attendee_name,
                        email=request.attendee_email,
                        time_zone=request.attendee_time_zone,
                    ),
                    *(Attendee(name=guest, email=guest) for guest in request.guests),
                ),
                location=location,
                join_url=location if location and location.startswith("https://") else None,
                answers=request.answers,
                notes=request.notes,
                created_at=self.clock.now(),
                marker=request.marker,
            )
            await store.add(connection, booking, kind)
        return booking

    async def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        store = await self._open()
        async for booking in store.find(query):
            yield booking

    async def get_booking(self, booking_id: str) -> Booking:
        store = await self._open()
        return _found(await store.get(booking_id))

    async def reschedule_booking(self, booking: Booking, start: datetime, reason: str | None) -> Booking:
        store = await self._open()
        async with store.change() as (connection, state):
            booking = _live(await store.get(booking.id, connection))
            event_type_id = booking.event_type_id or ""
            if (kind := self._kinds(state).get(event_type_id)) is None:
                raise InvalidRequest(
                    "This booking's event type was deleted, so it has no slots to move to. Book the new time with "
                    "another event type first, then cancel this booking."
                )
            start, length = start.astimezone(UTC), booking.end - booking.start
            # It moves as long as it is, whatever the event type says by now.
            kind = kind.model_copy(update={"duration_minutes": length // timedelta(minutes=1)})
            span = (seconds(start), seconds(start) + 1)
            taken = await store.taken(_around(span), connection)
            _must_offer(start, self._starts(state.schedule, kind, event_type_id, span, taken, booking.id))
            booking = booking.model_copy(update={"start": start, "end": start + length})
            await store.put(connection, booking, kind)
        return booking

    async def cancel_booking(self, booking: Booking, reason: str | None) -> Booking:
        return await self._put(booking.id, {"status": "cancelled", "cancellation_reason": reason})

    async def respond_to_booking(self, booking: Booking, response: BookingResponse, reason: str | None) -> Booking:
        if response in ("no_show", "clear_no_show"):
            guest = booking.attendees[0].model_copy(update={"no_show": response == "no_show"})
            return await self._put(booking.id, {"attendees": (guest, *booking.attendees[1:])})
        if response == "confirm":
            return await self._put(booking.id, {"status": "confirmed"})
        if booking.status == "confirmed":
            raise InvalidRequest("This booking is confirmed already. Call it off with cancel_booking.")
        return await self._put(booking.id, {"status": "declined", "cancellation_reason": reason})

    async def list_schedules(self, event_type_id: str | None) -> list[Schedule]:
        state = await self._state()
        if event_type_id is not None:
            self._kind(state, event_type_id)
        return [state.schedule]

    async def get_schedule(self, schedule_id: str) -> Schedule:
        return _the_one(await self._state(), schedule_id)

    async def update_schedule(self, old: Schedule, change: ScheduleChange) -> Schedule:
        store = await self._open()
        async with store.change() as (connection, state):
            schedule = change.applied_to(_the_one(state, old.id))
            await store.put_schedule(connection, schedule)
        return schedule

    async def _open(self) -> "Store":
        if self._store is None:
            # Imported on first use: SQLAlchemy takes longer to import than a client waits for the list of tools.
            from providers.local.store import Store

            config: LocalConfig = self.config
            store = Store(self.services.storage, self.kept_as)
            schedule = Schedule(
                id="working-hours",
                name="Working hours",
                is_default=True,
                time_zone=config.time_zone or machine_zone(),
                weekly_hours=NINE_TO_FIVE if config.working_hours is None else config.working_hours,
            )
            configured = config.model_dump(mode="json", include={"time_zone", "working_hours"})
            await store.prepare(configured, schedule, () if self._in_file else SEEDS)
            self._store = store
        return self._store

    async def _state(self) -> "State":
        return await (await self._open()).state()

    def _kinds(self, state: "State") -> dict[str, OwnEventType]:
        return {**state.event_types, **self._in_file}

    def _kind(self, state: "State", event_type_id: str) -> OwnEventType:
        kind = self._kinds(state).get(event_type_id)
        if kind is None:
            raise NotFound("There is no such event type. list_event_types has the ids.")
        return kind

    def _bookable(self, state: "State", event_type_id: str) -> OwnEventType:
        kind = self._kind(state, event_type_id)
        if not kind.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type, or use another one.")
        return kind

    def _starts(
        self,
        schedule: Schedule,
        kind: OwnEventType,
        event_type_id: str,
        window: Span,
        taken: "list[Taken]",
        moving: str | None,
    ) -> list[int]:
        others = [booking for booking in taken if booking.booking_id != moving]
        return find_starts(
            kind.rules,
            Hours.of(zone(schedule.time_zone), schedule.weekly_hours, schedule.date_overrides),
            window,
            seconds(self.clock.now()),
            [booking.blocks for booking in others],
            [booking.starts for booking in others if booking.event_type_id == event_type_id],
        )

    async def _put(self, booking_id: str, changes: dict[str, Any]) -> Booking:
        store = await self._open()
        async with store.change() as (connection, _):
            booking = _live(await store.get(booking_id, connection)).model_copy(update=changes)
            await store.put(connection, booking)
        return booking


def _the_one(state: "State", schedule_id: str) -> Schedule:
    if schedule_id != state.schedule.id:
        raise NotFound("There is no such schedule. list_schedules has the ids.")
    return state.schedule


def _around(window: Span) -> Span:
    """Wide enough for every booking that a slot of the window could meet, or share its date with."""
    return window[0] - 3 * DAY, window[1] + 3 * DAY


def _must_offer(start: datetime, starts: list[int]) -> None:
    if seconds(start) not in starts or start.microsecond:
        raise SlotTaken("That time is not free, or not on offer. find_slots has the times that are.")


def _found(booking: Booking | None) -> Booking:
    if booking is None:
        raise NotFound("There is no such booking. list_bookings has the ids.")
    return booking


def _live(booking: Booking | None) -> Booking:
    if (booking := _found(booking)).status in ("cancelled", "declined"):
        raise InvalidRequest(f"This booking is {booking.status} already. Book a new one with create_booking.")
    return booking
