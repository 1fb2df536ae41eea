"""An adapter for a service that does not exist, in the shape every REST adapter has. It proves `RestProvider.call`.

Quirks:
- Two gaps and a caveat, so that refusals and notes are seen at work.
"""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx2
from pydantic import SecretStr

from providers import AccountConfig, Provider, Services
from providers.rest import RestConfig, RestProvider, an_id
from schemas import (
    Attendee,
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    BusyTime,
    EventType,
    Feature,
    Identity,
    InvalidRequest,
    NotFound,
    Offer,
    Question,
    SchedulingError,
    Slot,
    SlotTaken,
    TimeRange,
)

UNTOUCHABLE = "event types are made on the service's own site; ask the user to go there."


class ToyConfig(RestConfig):
    token: SecretStr


class Toy(RestProvider):
    title = "Toy"
    gaps = {
        Feature.SAVE_EVENT_TYPE: UNTOUCHABLE,
        Feature.DELETE_EVENT_TYPE: UNTOUCHABLE,
        Feature.CREATE_BOOKING_LOCATION: "the event type has its place; leave location out.",
        Feature.RESPOND_TENTATIVE: "confirm or decline instead.",
        Feature.LIST_SCHEDULES: "working hours are kept on the service's own site.",
        Feature.UPDATE_SCHEDULE: "working hours are kept on the service's own site.",
        Feature.CREATE_SCHEDULING_LINK: "it has no links; book with create_booking.",
    }
    caveats = {Feature.CANCEL_BOOKING: "the guest is always told the reason."}
    Config: ClassVar[type[AccountConfig]] = ToyConfig

    def __init__(self, account: str, config: ToyConfig, services: Services) -> None:
        super().__init__(account, config, services)
        self._http.headers["Authorization"] = f"Bearer {config.token.get_secret_value()}"

    async def whoami(self) -> Identity:
        return await self.call(
            "GET", "/me", lambda raw: Identity(email=raw["email"], name=raw["name"], time_zone=raw["zone"])
        )

    async def list_event_types(self) -> list[EventType]:
        return await self.call("GET", "/kinds", lambda raw: [_event_type(each) for each in raw["kinds"]])

    async def get_event_type(self, event_type_id: str) -> EventType:
        for event_type in await self.list_event_types():
            if event_type.id == event_type_id:
                return event_type
        raise NotFound("There is no such event type.")

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        [minutes] = (await self.get_event_type(event_type_id)).durations_minutes
        if duration_minutes not in (None, minutes):
            raise InvalidRequest(f"duration_minutes: this event type takes {minutes}.")
        length = timedelta(minutes=minutes)
        params = {"kind": event_type_id, **_range(window), **({"moving": moving} if moving else {})}
        starts = await self.call(
            "GET", "/slots", lambda raw: [datetime.fromisoformat(each) for each in raw["slots"]], params=params
        )
        return Offer(slots=tuple(Slot(start=start, end=start + length) for start in starts))

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        def busy(raw: Any) -> list[BusyTime]:
            found = [_booking(each) for each in raw["busy"]]
            return [BusyTime(start=each.start, end=each.end, title=each.title, booking_id=each.id) for each in found]

        return await self.call("GET", "/busy", busy, params=_range(window))

    async def create_booking(self, request: BookingRequest) -> Booking:
        body = {
            "kind": request.event_type_id,
            "from": request.start.isoformat(),
            "guest": {
                "name": request.attendee_name,
                "email": request.attendee_email,
                "zone": request.attendee_time_zone,
            },
            "others": request.guests,
            "answers": request.answers,
            "notes": request.notes,
            "marker": request.marker,
        }
        return await self.call("POST", "/bookings", _booking, json=body)

    async def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        found = await self.call("GET", "/bookings", lambda raw: [_booking(each) for each in raw["bookings"]])
        for booking in reversed(found) if query.newest_first else found:
            yield booking

    async def get_booking(self, booking_id: str) -> Booking:
        return await self.call("GET", f"/bookings/{an_id(booking_id, 'booking')}", _booking)

    async def reschedule_booking(self, booking: Booking, start: datetime, reason: str | None) -> Booking:
        return await self._change(booking, {"from": start.isoformat()})

    async def cancel_booking(self, booking: Booking, reason: str | None) -> Booking:
        return await self._change(booking, {"state": "cancelled", "reason": reason})

    async def respond_to_booking(self, booking: Booking, response: BookingResponse, reason: str | None) -> Booking:
        if response in ("no_show", "clear_no_show"):
            return await self._change(booking, {"missed": response == "no_show"})
        states = {"confirm": "confirmed", "decline": "declined"}
        return await self._change(booking, {"state": states[response], "reason": reason})

    async def _change(self, booking: Booking, body: dict[str, Any]) -> Booking:
        return await self.call("PATCH", f"/bookings/{booking.id}", _booking, json=body)

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        return SlotTaken if response.status_code == 409 else None

    def complaint(self, response: httpx2.Response) -> str:
        return response.text


class Nothing(Provider):
    """Declares every gap: the suite proves that the gate refuses everything."""

    title = "Nothing"
    gaps = {feature: f"it cannot {feature.replace('_', ' ')}, ask somebody else." for feature in Feature}

    async def whoami(self) -> Identity:
        return Identity(time_zone="Europe/Berlin")


def _range(window: TimeRange) -> dict[str, str]:
    return {"from": window.start.isoformat(), "to": window.end.isoformat()}


def _event_type(raw: Any) -> EventType:
    return EventType(
        id=raw["id"],
        title=raw["title"],
        slug=raw["id"],
        durations_minutes=(raw["minutes"],),
        questions=tuple(Question.model_validate(each) for each in raw["questions"]),
    )


def _booking(raw: Any) -> Booking:
    guest = raw["guest"]
    return Booking(
        id=raw["id"],
        event_type_id=raw["kind"],
        title=raw["title"],
        status=raw["state"],
        start=raw["from"],
        end=raw["to"],
        attendees=(
            Attendee(
                name=guest["name"], email=guest["email"], time_zone=guest["zone"], no_show=guest["missed"] or None
            ),
            *(Attendee(name=email, email=email) for email in raw["others"]),
        ),
        answers=raw["answers"],
        notes=raw["notes"],
        cancellation_reason=raw["reason"],
        created_at=raw["created"],
        marker=raw["marker"],
    )
