"""Calendly, API v2. https://developer.calendly.com/api-docs

Quirks:
- Everything is named by its full URI in bodies and queries, by the URI's last part in paths.
- Nothing is inferred from the token: lists want the user, so who we are is asked first and kept.
- Slots are answered for at most 31 days a request (7 until 2026-07-09), busy times for 7; both only of the future.
- A booking is an invitee of an event; the list of events does not say who they are, so each event is asked for them.
- A taken slot is HTTP 400 with the code `already_filled`, not 409. (seen 2026-10-09)
- There is no endpoint that moves a booking: the gateway books anew and cancels. (API reference, 2026-11-18)
- POST /invitees names no duration, so an event type with several is booked at its default one. (2026-10-02)
- A new event type arrives inactive though `active` was sent, and fields that cannot be written are ignored without a
  word; what was asked for is compared with what came of it. (seen 2026-08-12)
- Changing availability replaces all rules; rules of dates before yesterday are refused. (API reference, 2026-11-18)
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from providers.calendly.bookings import booking_body, events_query, expected_event, may_be_meant
from providers.calendly.client import PAGE, BookingLimits, CalendlyClient, resource
from providers.calendly.event_types import event_type, event_type_body, ignored
from providers.calendly.hours import busy_times, event_type_rules, gone_by, rules, schedule, starts
from providers.calendly.wire import uuid, written
from providers.rest import KEEPING, an_id
from schemas import (
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    BusyTime,
    EventType,
    EventTypeChange,
    Feature,
    InvalidRequest,
    NotFound,
    Offer,
    OutcomeUnknown,
    Schedule,
    ScheduleChange,
    SchedulingError,
    SchedulingLink,
    Slot,
    TimeRange,
    Unsupported,
)

SLOTS_AT_ONCE = timedelta(days=31)
BUSY_AT_ONCE = timedelta(days=7)
# What is asked must still lie ahead when the request arrives.
SOON = timedelta(minutes=1)
AT_ONCE = timedelta(seconds=2)
# No meeting takes longer, so what began before has ended.
LONGEST = timedelta(days=1)
EVENTS_AT_ONCE = 8
OF_EVENT_TYPE = "event_type/"
CONFIRMED = "a booking is confirmed at once here; call it off with cancel_booking."


class CalendlyApi(CalendlyClient):
    rebooks = True
    offers_own_time = False
    only_emulated = True
    gaps = {
        Feature.SAVE_EVENT_TYPE_SLUG: "the service makes it from the title; change it on calendly.com.",
        Feature.SAVE_EVENT_TYPE_MINIMUM_NOTICE: "the API cannot set it; change it on calendly.com.",
        Feature.DELETE_EVENT_TYPE: "the API cannot delete one; set it inactive with save_event_type.",
        Feature.CREATE_BOOKING_NOTES: "there is no field for notes; put them into an answer, if a question asks.",
        Feature.RESPOND_CONFIRM: CONFIRMED,
        Feature.RESPOND_DECLINE: CONFIRMED,
        Feature.RESPOND_TENTATIVE: CONFIRMED,
    }
    caveats = {
        Feature.SAVE_EVENT_TYPE: "one-on-one only; buffers of 0, 5, 10, 15, 30, 45, 60, 90, 120, 150 or 180; one "
        "location replaces all.",
        Feature.FIND_SLOTS: "times that overlap the booking to be moved, with its buffers, are not offered.",
        Feature.FIND_BUSY_TIMES: "of the future only, and without titles.",
        Feature.CREATE_BOOKING: "an event type with several durations is booked at its default one.",
        Feature.RESCHEDULE_BOOKING: "booked anew and the old one cancelled, with notices of both; where the two times "
        "overlap, with buffers, the old one is cancelled first.",
        Feature.CANCEL_BOOKING: "one seat of a group meeting cannot be cancelled; its guest can, by cancel_url.",
    }

    limits = (
        f"Slots are asked for {SLOTS_AT_ONCE.days} days a request, busy times for {BUSY_AT_ONCE.days}; what is longer "
        "is asked part by part.",
        f"Lists come {PAGE} a page. Each meeting listed costs a request for its invitees, {EVENTS_AT_ONCE} at once.",
        "The API takes {minute} bookings a minute, {hour} an hour and {day} a day, unless `booking_limits` says "
        "otherwise; a booking beyond that is not sent.".format(**BookingLimits().model_dump()),
        KEEPING,
    )

    async def list_event_types(self) -> list[EventType]:
        return [self.mapped(event_type, raw) for raw in await self.event_types()]

    async def get_event_type(self, event_type_id: str) -> EventType:
        return self.mapped(event_type, await self.event_type(event_type_id))

    async def save_event_type(self, event_type_id: str | None, change: EventTypeChange) -> EventType:
        body = event_type_body(change)
        if event_type_id is None:
            host = await self.me()
            body = {"owner": host.uri, "active": True, **body}
            raw = await self.call("POST", "/event_types", resource, json=body)
            if raw["active"] != body["active"]:
                with suppress(SchedulingError):  # it is made, and the answer says that it is not active
                    raw = await self.change(f"/event_types/{uuid(raw['uri'])}", {"active": body["active"]})
        else:
            raw = await self.change(f"/event_types/{an_id(event_type_id, 'event type')}", body)
        saved = self.mapped(event_type, raw, OutcomeUnknown)
        if left := ignored(change, saved):
            raise Unsupported(
                f"{self.title} saved event type {saved.id}, but not {', '.join(left)}. Set that on calendly.com.",
                account=self.account,
            )
        return saved

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        event_type = await self.get_event_type(event_type_id)
        if not event_type.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type first.")
        minutes = event_type.durations_minutes[0]
        if duration_minutes not in (None, minutes):
            raise InvalidRequest(f"duration_minutes: this event type is booked at {minutes}.")
        host = await self.me()
        found: list[datetime] = []
        for params in self._ahead(window, SLOTS_AT_ONCE, SOON):
            params["event_type"] = host.uri_of("event_types", event_type.id)
            found += await self.call("GET", "/event_type_available_times", starts, params=params)
        length = timedelta(minutes=minutes)
        slots = tuple(Slot(start=at, end=at + length) for at in dict.fromkeys(found))
        return Offer(slots=slots, time_zone=host.time_zone)

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        if window.start < self.clock.now() - SOON or window.end <= self.clock.now() + AT_ONCE:
            raise InvalidRequest("start: this service tells no busy times of the past. Ask from now on.")
        host = await self.me()
        busy: list[BusyTime] = []
        for params in self._ahead(window, BUSY_AT_ONCE, AT_ONCE):
            params["user"] = host.uri
            busy += await self.call("GET", "/user_busy_times", busy_times, params=params)
        return list(dict.fromkeys(busy))

    def _ahead(self, window: TimeRange, at_once: timedelta, soon: timedelta) -> Iterable[dict[str, str]]:
        """The future part of a window, in as many parts as the service wants."""
        start = max(window.start, self.clock.now() + soon)
        parts = TimeRange(start=start, end=window.end).split(at_once) if start < window.end else ()
        return ({"start_time": written(part.start), "end_time": written(part.end)} for part in parts)

    async def check_booking(self, request: BookingRequest) -> None:
        booking_body(await self.event_type(request.event_type_id), request)

    async def lists(self, request: BookingRequest) -> bool:
        # What falls to another host of a team is in their list, not in ours.
        return (await self.event_type(request.event_type_id))["pooling_type"] is None

    async def create_booking(self, request: BookingRequest) -> Booking:
        raw = await self.event_type(request.event_type_id)
        body = booking_body(raw, request)
        invitee = await self.call("POST", "/invitees", resource, json=body)
        try:
            event = await self.event(uuid(invitee["event"]))
        except SchedulingError:
            # It is booked; what is missing is where.
            event = expected_event(raw, request, invitee)
        return self.booking(event, invitee, OutcomeUnknown, raw)

    async def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        host = await self.me()
        params = events_query(query, LONGEST) | {"user": host.uri}
        batch: list[Any] = []
        async for event in self.pages("/scheduled_events", params):
            if not self.mapped(lambda raw: may_be_meant(raw, query), event):
                continue
            batch.append(event)
            if len(batch) == EVENTS_AT_ONCE:
                for booking in await self.bookings(batch):
                    yield booking
                batch = []
        for booking in await self.bookings(batch):
            yield booking

    async def get_booking(self, booking_id: str) -> Booking:
        event_id, _, invitee_id = booking_id.partition("/")
        for id in (event_id, invitee_id):
            an_id(id, "booking")
        path = f"/scheduled_events/{event_id}/invitees/{invitee_id}"
        event, invitee = await asyncio.gather(self.event(event_id), self.call("GET", path, resource))
        return self.booking(event, invitee)

    async def cancel_booking(self, booking: Booking, reason: str | None) -> Booking:
        if booking.shared:
            by_guest = f" The guest can, at {booking.cancel_url}." if booking.cancel_url else ""
            raise Unsupported(
                f"{self.title} cannot cancel one seat of a group meeting, only the meeting for everybody.{by_guest}",
                account=self.account,
            )
        event_id = booking.id.partition("/")[0]
        body = {"reason": reason} if reason else {}
        cancellation = await self.call("POST", f"/scheduled_events/{event_id}/cancellation", resource, json=body)
        return booking.model_copy(update={"status": "cancelled", "cancellation_reason": cancellation["reason"]})

    async def respond_to_booking(self, booking: Booking, response: BookingResponse, reason: str | None) -> Booking:
        guest, *others = booking.attendees
        event_id, _, invitee_id = booking.id.partition("/")
        if response == "no_show" and not guest.no_show:
            host = await self.me()
            uri = f"{host.uri_of('scheduled_events', event_id)}/invitees/{invitee_id}"
            await self.call("POST", "/invitee_no_shows", resource, json={"invitee": uri})
        elif response == "clear_no_show" and guest.no_show:
            invitee = await self.call("GET", f"/scheduled_events/{event_id}/invitees/{invitee_id}", resource)
            if noted := invitee["no_show"]:
                await self.call("DELETE", f"/invitee_no_shows/{uuid(noted['uri'])}", lambda _: None)
        guest = guest.model_copy(update={"no_show": response == "no_show"})
        return booking.model_copy(update={"attendees": (guest, *others)})

    async def list_schedules(self, event_type_id: str | None) -> list[Schedule]:
        host = await self.me()
        if event_type_id is None:
            return await self.call(
                "GET",
                "/user_availability_schedules",
                lambda raw: [schedule(each) for each in raw["collection"]],
                params={"user": host.uri},
            )
        id = f"{OF_EVENT_TYPE}{an_id(event_type_id, 'event type')}"
        params = {"event_type": host.uri_of("event_types", event_type_id)}
        rules = await self.call("GET", "/event_type_availability_schedules", event_type_rules, params=params)
        own = [each for each in rules if each.get("user") in (None, host.uri)] or rules
        return [schedule({**each, "name": each.get("name")}, id) for each in own[:1]]

    async def update_schedule(self, old: Schedule, change: ScheduleChange) -> Schedule:
        if gone := gone_by(change, self.clock.now()):
            raise InvalidRequest(f"date_overrides: this service takes no dates gone by ({', '.join(gone)}).")
        changed = change.applied_to(old)
        anew = rules(changed, self.clock.now())
        if old.id.startswith(OF_EVENT_TYPE):
            host = await self.me()
            event_type = host.uri_of("event_types", old.id.removeprefix(OF_EVENT_TYPE))
            body: dict[str, Any] = {"availability_rule": {"timezone": changed.time_zone, "rules": anew}}
            path, params = "/event_type_availability_schedules", {"event_type": event_type}
        else:
            body = {"timezone": changed.time_zone, "rules": anew}
            path, params = f"/user_availability_schedules/{old.id}", {}
        await self.call("PATCH", path, lambda _: None, json=body, params=params)
        try:
            return await self.get_schedule(old.id)
        except SchedulingError:
            return changed  # it is changed, whether or not it can be read back

    async def create_scheduling_link(self, event_type_id: str, single_use: bool) -> SchedulingLink:
        if not single_use:
            raw = await self.event_type(event_type_id)
            return SchedulingLink(url=raw["scheduling_url"], single_use=False)
        host = await self.me()
        owner = host.uri_of("event_types", an_id(event_type_id, "event type"))
        body = {"max_event_count": 1, "owner": owner, "owner_type": "EventType"}
        url = await self.call("POST", "/scheduling_links", lambda raw: str(raw["resource"]["booking_url"]), json=body)
        return SchedulingLink(url=url, single_use=True)

    async def get_schedule(self, schedule_id: str) -> Schedule:
        if schedule_id.startswith(OF_EVENT_TYPE):
            found = await self.list_schedules(schedule_id.removeprefix(OF_EVENT_TYPE))
            if not found:
                raise NotFound("There is no such schedule. list_schedules has the ids.")
            return found[0]
        path = f"/user_availability_schedules/{an_id(schedule_id, 'schedule')}"
        return await self.call("GET", path, lambda raw: schedule(raw["resource"]))
