"""Cal ID, its REST API. https://cal.id/docs

From the API's source of 2025-09 and clients of 2026, where nothing else is said.

Quirks:
- Not Cal.com's API, though a fork of it: no version, paths by whole numbers, an envelope of its own.
- What a request leaves out is filled in by the server: a zone (Kolkata), a name (John Doe), a phone number, a place;
  so everything is sent. In a PATCH of an event type the same: the whole event type is sent.
- A booking that fails comes back as HTTP 500 with the engine's word for it; a taken slot is one of them.
- There is no list of all bookings: there are lists of what is to come, unconfirmed, recurring, past and cancelled.
- One booking by its id lacks its answers and its event type; it is looked up in its list.
- A move makes a new booking and cancels the old one; its answer names the old one, and may be HTTP 500 although it
  happened. The new one is found by where it says it comes from.
- Slots have no end, and do not free the time of a booking that is to be moved.
- Who is signed in has no zone; the first schedule's is taken.
- The wait after too many requests is probably given as a moment; anything longer than an hour is not believed.
"""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any

from providers.calid import event_types, hours
from providers.calid.bookings import body, booking, buckets, list_query, written
from providers.calid.client import NUMBER, PAGE, CalidClient
from providers.own import Slugged, free_slug
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
    Identity,
    InvalidRequest,
    NotFound,
    Offer,
    OutcomeUnknown,
    Schedule,
    ScheduleChange,
    SchedulingError,
    Slot,
    SlotTaken,
    TimeRange,
    Unsupported,
)
from schemas.problems import checked

# No meeting takes longer, so what began before has ended.
LONGEST = timedelta(days=2)
SECOND = timedelta(seconds=1)
CLOCKS_APART = timedelta(minutes=1)
PUBLIC_PAGE = "the API makes no links; find a slot and book it, or share the event type's page from cal.id."


class CalidApi(CalidClient):
    only_emulated = True
    offers_own_time = False
    gaps = {
        Feature.RESPOND_TENTATIVE: "a booking is confirmed or declined here; use one of those.",
        Feature.RESPOND_NO_SHOW: "the API cannot note it; do it on cal.id.",
        Feature.RESPOND_CLEAR_NO_SHOW: "the API cannot note it; do it on cal.id.",
        Feature.UPDATE_SCHEDULE_DATES: "the API cannot write single dates; change weekly_hours, or do it on cal.id.",
        Feature.CREATE_SCHEDULING_LINK: PUBLIC_PAGE,
    }
    caveats = {
        Feature.SAVE_EVENT_TYPE: "10 minutes and a title of 4 characters at least; a location replaces all; inactive "
        "means hidden: who has its link can still book it.",
        Feature.FIND_SLOTS: "times that overlap the booking to be moved are not offered.",
        Feature.RESCHEDULE_BOOKING: "the reason may be lost, a booking gets its event type's length, and where that "
        "wants confirmation it may wait for it again.",
        Feature.CANCEL_BOOKING: "the event type's refund policy applies; one seat of several cannot be cancelled.",
        Feature.UPDATE_SCHEDULE: "a day's hours are changed range by range, not all at once.",
    }
    limits = (
        f"Bookings are listed {PAGE} a page, in up to five lists; a booking shown takes two requests.",
        KEEPING,
    )

    async def whoami(self) -> Identity:
        user = await self.ask("GET", "/users/me", dict)
        zones = await self.ask("GET", "/schedule/", lambda raw: [each["timeZone"] for each in raw])
        identity = {"email": user["email"], "name": user["name"], "time_zone": zones[0] if zones else "UTC"}
        return self.keep("whoami", self.mapped(Identity.model_validate, identity))

    async def list_event_types(self) -> list[EventType]:
        return [self.mapped(event_types.event_type, raw) for raw in await self._event_types()]

    async def _event_types(self) -> list[Any]:
        # The list lacks the booking fields.
        ids = [str(each["id"]) async for each in self.pages("/event-types/", {"orderBy": "position"})]
        return [await self.event_type(id) for id in ids]

    async def get_event_type(self, event_type_id: str) -> EventType:
        return self.mapped(event_types.event_type, await self.event_type(event_type_id))

    async def save_event_type(self, event_type_id: str | None, change: EventTypeChange) -> EventType:
        if change.slug is not None:
            checked(Slugged, {"slug": change.slug})
        if event_type_id is not None:
            self.forget()  # what is sent back must be as it is now
            said = event_types.body(change, await self.event_type(event_type_id))
            saved = await self.ask("PATCH", f"/event-types/{event_type_id}", dict, json=said)
        else:
            said = event_types.body(change)
            said = {"hidden": False, "minimumBookingNotice": 0, **said}
            if change.slug is None:
                taken = [each["slug"] for each in await self.kept("event types", self._event_types)]
                said["slug"] = free_slug(change.title or "", taken)
            saved = await self.ask("POST", "/event-types/", dict, json=said)
        try:
            return await self.get_event_type(str(saved["id"]))
        except SchedulingError:
            return self.mapped(event_types.event_type, saved, OutcomeUnknown)

    async def delete_event_type(self, event_type_id: str) -> EventType:
        was = await self.get_event_type(event_type_id)
        await self.call("DELETE", f"/event-types/{event_type_id}", _done)
        return was

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        event_type = await self.get_event_type(event_type_id)
        [minutes] = event_type.durations_minutes
        if not event_type.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type first.")
        if duration_minutes not in (None, minutes):
            raise InvalidRequest(f"duration_minutes: this event type takes {minutes}.")
        zone = (await self.identity()).time_zone
        params = {
            "eventTypeId": event_type_id,
            "start": written(window.start),
            "end": written(window.end - SECOND),
            "timeZone": zone,
        }
        found = await self.ask("GET", "/slots/", hours.starts, params=params)
        length = timedelta(minutes=minutes)
        return Offer(slots=tuple(Slot(start=at, end=at + length) for at in dict.fromkeys(found)), time_zone=zone)

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        params = {"dateFrom": written(window.start), "dateTo": written(window.end)}
        return await self.ask("GET", "/availability/", hours.busy_times, params=params)

    async def check_booking(self, request: BookingRequest) -> None:
        body(await self.event_type(request.event_type_id), request)

    async def lists(self, request: BookingRequest) -> bool:
        # What falls to another host of a team is in their list; a meeting bears the marker of its first guest alone.
        raw = await self.event_type(request.event_type_id)
        return not raw.get("schedulingType") and not raw.get("seatsPerTimeSlot")

    async def create_booking(self, request: BookingRequest) -> Booking:
        raw = await self.event_type(request.event_type_id)
        begun = self.clock.now()
        made = await self.ask("POST", "/booking/", booking, json=body(raw, request))
        if not raw.get("seatsPerTimeSlot") and (
            (made.marker or request.marker) != request.marker or (made.created_at or begun) < begun - CLOCKS_APART
        ):
            raise SlotTaken(
                "This guest has asked for that time before and waits to be confirmed; list_bookings has it, unchanged.",
                account=self.account,
            )
        try:
            return await self.get_booking(made.id)  # the link to join comes later than the answer
        except SchedulingError:
            return made

    async def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        params = list_query(query, LONGEST)
        lists = [self.pages("/booking/", {**params, "status": each}) for each in buckets(query, self.clock.now())]
        seen: set[str] = set()
        heads = [await anext(each, None) for each in lists]
        while any(head is not None for head in heads):
            # The lists are in order each; the next of all is the first of their heads.
            starts = [(head["startTime"], index) for index, head in enumerate(heads) if head is not None]
            _, index = max(starts, key=lambda each: each[0]) if query.newest_first else min(starts)
            raw, heads[index] = heads[index], await anext(lists[index], None)
            found = self.mapped(booking, raw)
            if found.id not in seen:
                seen.add(found.id)
                yield found

    async def get_booking(self, booking_id: str) -> Booking:
        thin = await self.ask("GET", f"/booking/{an_id(booking_id, 'booking', NUMBER)}", dict)
        raw = await self._whole(thin)
        moved = await self._moved_to(raw["uid"]) if raw.get("rescheduled") else None
        found = self.mapped(booking, raw)
        return found.model_copy(update={"rescheduled_to": str(moved["id"])}) if moved else found

    async def _whole(self, thin: Any) -> Any:
        """A booking with its answers, from the list it is in."""
        is_over = datetime.fromisoformat(thin["endTime"]) <= self.clock.now()
        likely = {"CANCELLED": "cancelled", "REJECTED": "cancelled", "PENDING": "unconfirmed"}.get(thin["status"])
        by_time = "past" if is_over else "upcoming"
        for bucket in dict.fromkeys([likely or by_time, by_time, "recurring", "past", "unconfirmed"]):
            async for each in self.pages("/booking/", {"bookingUid": thin["uid"], "status": bucket}):
                if each["uid"] == thin["uid"]:
                    return each
        raise NotFound("This booking is in none of its account's lists. List bookings again for a current id.")

    async def _moved_to(self, uid: str) -> Any | None:
        """The booking that another one was moved to, which alone tells of it."""
        for bucket in ("upcoming", "unconfirmed", "past", "cancelled"):
            async for each in self.pages("/booking/", {"status": bucket, "sortStart": "desc"}):
                if each["fromReschedule"] == uid:
                    return each
        return None

    async def reschedule_booking(self, old: Booking, start: datetime, reason: str | None) -> Booking:
        self._must_be_alone(old)
        uid = await self.ask("GET", f"/booking/{old.id}", lambda raw: str(raw["uid"]))
        said: dict[str, Any] = {"start": written(start)}
        if reason:
            said["reschedulingReason"] = reason
        if old.status == "confirmed":
            # Not a wish of the guest's, which would have to be confirmed anew.
            said["rescheduledBy"] = (await self.identity()).email
        await self.call("PATCH", f"/booking/{old.id}/reschedule", _done, json=said)
        try:
            moved = await self._moved_to(uid)
        except SchedulingError:
            moved = None
        return self.mapped(booking, moved, OutcomeUnknown)

    async def cancel_booking(self, old: Booking, reason: str | None) -> Booking:
        self._must_be_alone(old)
        said = {"cancellationReason": reason} if reason else {}
        await self.call("POST", f"/booking/{old.id}/cancel", _done, json=said)
        return old.model_copy(update={"status": "cancelled", "cancellation_reason": reason})

    def _must_be_alone(self, old: Booking) -> None:
        if old.shared:
            raise Unsupported(
                "This meeting has seats of several guests, and the API tells none of them apart. Do it on cal.id.",
                account=self.account,
            )

    async def respond_to_booking(self, old: Booking, response: BookingResponse, reason: str | None) -> Booking:
        if response == "decline" and old.status == "confirmed":
            raise InvalidRequest("This booking is confirmed already. Call it off with cancel_booking.")
        said: dict[str, Any] = {"confirmed": response == "confirm"}
        if reason and response == "decline":
            said["reason"] = reason
        states = {"ACCEPTED": "confirmed", "REJECTED": "declined"}
        path = f"/booking/{old.id}/change_confirmation"
        # Its message says "confirmed" whatever was done (source of 2025-09); the status is right.
        status = await self.ask("PATCH", path, lambda raw: states[raw["status"]], json=said)
        update = {"status": status, "cancellation_reason": reason if status == "declined" else None}
        return old.model_copy(update=update)

    async def list_schedules(self, event_type_id: str | None) -> list[Schedule]:
        found = await self.ask("GET", "/schedule/", hours.schedules)
        if event_type_id is None:
            return found
        id = (await self.event_type(event_type_id)).get("scheduleId")
        return [each for each in found if each.id == str(id)] if id else found[:1]

    async def get_schedule(self, schedule_id: str) -> Schedule:
        for schedule in await self.list_schedules(None):
            if schedule.id == schedule_id:
                return schedule
        raise NotFound("There is no such schedule. list_schedules has the ids.")

    async def update_schedule(self, old: Schedule, change: ScheduleChange) -> Schedule:
        done = 0
        try:
            if change.time_zone and change.time_zone != old.time_zone:
                said = {"name": old.name, "timeZone": change.time_zone}
                await self.call("PATCH", f"/schedule/{old.id}", _done, json=said)
                done += 1
            for day, ranges in (change.weekly_hours or {}).items():
                if ranges != old.weekly_hours.get(day, ()):
                    async for _ in self._set_day(old.id, day, ranges):
                        done += 1
        except SchedulingError as error:
            if done:
                raise _by_half(error) from None
            raise
        return await self.get_schedule(old.id)

    async def _set_day(self, schedule_id: str, day: str, ranges: tuple[str, ...]) -> AsyncGenerator[None, None]:
        """Take a day out of the rows that it shares with others, then give it rows of its own; yields at each step."""
        number = hours.SUNDAY_FIRST.index(day)
        every = await self.ask("GET", "/schedule/", list)
        [raw] = [each for each in every if str(each["id"]) == schedule_id]
        for row in [each for each in raw["availability"] if not each.get("date") and number in each["days"]]:
            days = [each for each in row["days"] if each != number]
            path = f"/availability/{row['id']}"
            if days:
                kept = {name: row[name] for name in ("startTime", "endTime")}
                await self.call("PATCH", path, _done, json={"scheduleId": int(schedule_id), "days": days, **kept})
            else:
                await self.call("DELETE", path, _done)
            yield
        for row in hours.rows(schedule_id, day, ranges):
            await self.call("POST", "/availability/", _done, json=row)
            yield


def _by_half(error: SchedulingError) -> OutcomeUnknown:
    advice = "list_schedules shows how it is; repeat the call to make it whole."
    return OutcomeUnknown(f"The schedule was changed in part. {advice} {error.message}", account=error.account)


def _done(raw: Any) -> None:
    """An answer that tells nothing but that it was done."""
    if not raw["success"]:
        raise ValueError
