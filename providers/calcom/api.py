"""Cal.com, API v2. https://cal.com/docs/api-reference/v2

Quirks:
- Each resource has a version of its own, named in a header; without it the server answers in old shapes or 404.
- A move makes a new booking with a new uid and cancels the old one; each names the other. (API reference, 2026-03)
- A taken slot is HTTP 400 and a sentence; 409 only if two book at the same moment. (source of July 2025)
- Slots beyond the asked end may come back (cal.diy issue 24260, 2025-10), and an end of exactly 00:00:00 means the last
  second of that day; so the end is asked for as the second before, and the gateway clips.
- The grid of slots hangs on the zone they are asked in (issue 13376); they are always asked in the account's.
- A list of bookings without a status has only what is to come; all of them are named.
- The filter by e-mail address tells capitals from small letters, so it would miss bookings and is not used.
- A host must give a reason to cancel.
- An admin's key lists the bookings of the whole organization; those of others are left out here.
- Busy times are told of named calendars only, and not of Cal.com's own bookings, which are added here.
- In a PATCH, arrays replace those there are.
"""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from providers.calcom import event_types, hours
from providers.calcom.bookings import MARKER, Me, body, bookings, find, made, moved, written
from providers.calcom.client import NUMBER, CalcomClient
from providers.own import Slugged, free_slug
from providers.rest import KEEPING, an_id
from schemas import (
    LIVE,
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
    ProviderDown,
    Schedule,
    ScheduleChange,
    SchedulingLink,
    TimeRange,
    Unsupported,
)
from schemas.problems import checked

PAGE = 100
OVERLAP = 5
# No meeting takes longer, so what began before has ended.
LONGEST = timedelta(days=2)
SECOND = timedelta(seconds=1)
NO_REASON = "No reason was given."


class CalcomApi(CalcomClient):
    only_emulated = True
    gaps = {Feature.RESPOND_TENTATIVE: "a booking is confirmed or declined here; use one of those."}
    caveats = {
        Feature.SAVE_EVENT_TYPE: "a location replaces all; inactive means hidden: who has its link can still book it.",
        Feature.FIND_BUSY_TIMES: "from the calendars connected to Cal.com and this account's own bookings.",
        Feature.CREATE_BOOKING: "a recurring event type books its whole series; the answer is the first meeting.",
        Feature.RESCHEDULE_BOOKING: "a booking of another length than its event type's default may get that length.",
        Feature.CANCEL_BOOKING: "without a reason the guest is told that none was given; of a series, one alone.",
    }

    limits = (
        f"Bookings are listed {PAGE} a page; slots of any length of time are one request.",
        f"After an HTTP 429 that does not say for how long, nothing is sent for {CalcomClient.cool_down:.0f} seconds.",
        KEEPING,
    )

    async def list_event_types(self) -> list[EventType]:
        return [self.mapped(event_types.event_type, raw) for raw in await self.event_types()]

    async def get_event_type(self, event_type_id: str) -> EventType:
        return self.mapped(event_types.event_type, await self.event_type(event_type_id))

    async def save_event_type(self, event_type_id: str | None, change: EventTypeChange) -> EventType:
        if change.slug is not None:
            checked(Slugged, {"slug": change.slug})
        if event_type_id is not None:
            now = await self.event_type(event_type_id)
            said = event_types.body(change, now)
            return await self.ask("PATCH", f"/event-types/{event_type_id}", event_types.event_type, json=said)
        said = event_types.body(change)
        if change.slug is None:
            taken = [each["slug"] for each in await self.kept("event types", self.event_types)]
            said["slug"] = free_slug(change.title or "", taken)
        return await self.ask("POST", "/event-types", event_types.event_type, json=said)

    async def delete_event_type(self, event_type_id: str) -> EventType:
        was = await self.get_event_type(event_type_id)
        await self.ask("DELETE", f"/event-types/{event_type_id}", lambda _: None)
        return was

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        event_type = await self.get_event_type(event_type_id)
        lengths = event_type.durations_minutes
        if not event_type.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type first.")
        if duration_minutes is not None and duration_minutes not in lengths:
            raise InvalidRequest(f"duration_minutes: this event type takes {' or '.join(map(str, lengths))}.")
        me = await self.me()
        params = {
            "eventTypeId": an_id(event_type_id, "event type", NUMBER),
            "start": written(window.start),
            "end": written(window.end - SECOND),
            "timeZone": me.time_zone,
            "format": "range",
        }
        if duration_minutes is not None and len(lengths) > 1:
            params["duration"] = str(duration_minutes)
        if moving:
            params["bookingUidToReschedule"] = moving.partition("/")[0]
        found = await self.ask("GET", "/slots", hours.offer, params=params)
        return found.model_copy(update={"time_zone": me.time_zone})

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        query = BookingQuery(live=True, ends_after=window.start, starts_before=window.end)
        own = [
            BusyTime(start=each.start, end=each.end, title=each.title, booking_id=each.id)
            async for each in self.list_bookings(query)
            if each.status in LIVE and window.overlaps(each.start, each.end)
        ]
        calendars = await self.kept("calendars", self._calendars)
        elsewhere: list[BusyTime] = []
        if calendars:
            query_string = _calendars_query(window, calendars)
            elsewhere = await self.ask("GET", f"/calendars/busy-times?{query_string}", hours.busy_times)
        # A booking of ours stands in the connected calendar too.
        known = {(each.start, each.end) for each in own}
        return [*own, *(each for each in elsewhere if (each.start, each.end) not in known)]

    async def _calendars(self) -> list[tuple[int, str]]:
        found = await self.ask("GET", "/calendars", hours.calendars)
        if found is None:
            raise ProviderDown(
                "A calendar connected to Cal.com cannot be read there, so it is not known when its owner is busy. "
                "Reconnect it on cal.com.",
                account=self.account,
            )
        return found

    async def check_booking(self, request: BookingRequest) -> None:
        body(await self.event_type(request.event_type_id), request)

    async def lists(self, request: BookingRequest) -> bool:
        # What falls to another host of a team is in their list, not in ours.
        return not (await self.event_type(request.event_type_id)).get("schedulingType")

    async def create_booking(self, request: BookingRequest) -> Booking:
        said = body(await self.event_type(request.event_type_id), request)
        return await self.ask("POST", "/bookings", made, json=said)

    async def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        me = await self.me()
        params = _query(query, self.clock.now())
        seen: set[str] = set()
        skip = 0
        while True:
            found, more = await self.page("/bookings", {**params, "take": PAGE, "skip": skip})
            for each in found:
                for one in self.mapped(lambda raw: list(bookings(raw)) if _is_mine(raw, me) else [], each):
                    if one.id not in seen:
                        seen.add(one.id)
                        yield one
            if not more or not found:
                return
            # Pages move on when a booking is made or cancelled meanwhile.
            skip += max(1, len(found) - OVERLAP)

    async def get_booking(self, booking_id: str) -> Booking:
        uid, slash, seat = booking_id.partition("/")
        if slash:
            an_id(seat, "booking")
        path = f"/bookings/{an_id(uid, 'booking')}"
        found = await self.ask("GET", path, lambda raw: find(raw, seat or None))
        if found is None:
            raise NotFound("There is no such seat, or several: list_bookings has the ids.")
        return found

    async def reschedule_booking(self, old: Booking, start: datetime, reason: str | None) -> Booking:
        uid, _, seat = old.id.partition("/")
        said: dict[str, Any] = {"start": written(start)}
        if old.status == "confirmed":
            # So it stays confirmed, where its event type wants confirmation.
            said["rescheduledBy"] = (await self.me()).email
        if seat:
            said["seatUid"] = seat
        elif reason:
            said["reschedulingReason"] = reason
        return await self.ask("POST", f"/bookings/{uid}/reschedule", lambda raw: moved(raw, old), json=said)

    async def cancel_booking(self, old: Booking, reason: str | None) -> Booking:
        uid, _, seat = old.id.partition("/")
        said = {"cancellationReason": reason or NO_REASON, **({"seatUid": seat} if seat else {})}
        await self.ask("POST", f"/bookings/{uid}/cancel", lambda _: None, json=said)
        return old.model_copy(update={"status": "cancelled", "cancellation_reason": reason})

    async def respond_to_booking(self, old: Booking, response: BookingResponse, reason: str | None) -> Booking:
        uid, _, seat = old.id.partition("/")
        if response in ("no_show", "clear_no_show"):
            absent = response == "no_show"
            if not old.attendees:
                raise InvalidRequest("The service does not tell who was expected.")
            guest, *others = old.attendees
            said: dict[str, Any] = {"attendees": [{"email": guest.email, "absent": absent}]}
            await self.ask("POST", f"/bookings/{uid}/mark-absent", lambda _: None, json=said)
            return old.model_copy(update={"attendees": (guest.model_copy(update={"no_show": absent}), *others)})
        if seat:
            raise Unsupported(
                "This is one seat of a meeting with others, who would be answered too. Do it on cal.com.",
                account=self.account,
            )
        if response == "decline" and old.status == "confirmed":
            raise InvalidRequest("This booking is confirmed already. Call it off with cancel_booking.")
        if response == "confirm":
            return await self.ask("POST", f"/bookings/{uid}/confirm", made)
        said = {"reason": reason} if reason else {}
        declined = await self.ask("POST", f"/bookings/{uid}/decline", made, json=said)
        return declined.model_copy(update={"cancellation_reason": declined.cancellation_reason or reason})

    async def list_schedules(self, event_type_id: str | None) -> list[Schedule]:
        if event_type_id is None:
            return await self.ask("GET", "/schedules", lambda raw: [hours.schedule(each) for each in raw])
        # Without one of its own it follows the default.
        id = (await self.event_type(event_type_id))["scheduleId"] or "default"
        return await self.ask("GET", f"/schedules/{id}", lambda raw: [hours.schedule(raw)] if raw else [])

    async def get_schedule(self, schedule_id: str) -> Schedule:
        return await self.ask("GET", f"/schedules/{an_id(schedule_id, 'schedule', NUMBER)}", hours.schedule)

    async def update_schedule(self, old: Schedule, change: ScheduleChange) -> Schedule:
        said = hours.body(change, change.applied_to(old))
        return await self.ask("PATCH", f"/schedules/{old.id}", hours.schedule, json=said)

    async def create_scheduling_link(self, event_type_id: str, single_use: bool) -> SchedulingLink:
        if not single_use:
            url = (await self.event_type(event_type_id)).get("bookingUrl")
            if url is None:
                raise Unsupported(
                    "This event type has no page of its own. Ask for a single-use link.", account=self.account
                )
            return SchedulingLink(url=url, single_use=False)
        path = f"/event-types/{an_id(event_type_id, 'event type', NUMBER)}/private-links"
        url = await self.ask("POST", path, lambda raw: str(raw["bookingUrl"]), json={"maxUsageCount": 1})
        return SchedulingLink(url=url, single_use=True)


def _is_mine(raw: Any, me: Me) -> bool:
    people = [(str(each.get("id")), each["email"].lower()) for each in raw["hosts"]]
    people += [("", each["email"].lower()) for each in raw["attendees"]]
    # What we booked may have fallen to another host of a team.
    if MARKER in (raw.get("metadata") or {}):
        return True
    return any(id == str(me.id) or email == (me.email or "").lower() for id, email in people)


def _calendars_query(window: TimeRange, calendars: list[tuple[int, str]]) -> str:
    """With brackets as they are: the server does not take them encoded. (Cal.com's own client, 2026-08)"""
    # A day more: whether the last one counts is not written anywhere.
    last = window.end + timedelta(days=1)
    days = {"dateFrom": f"{window.start:%Y-%m-%d}", "dateTo": f"{last:%Y-%m-%d}", "timeZone": "UTC"}
    named = (
        f"calendarsToLoad[{index}][credentialId]={credential}&calendarsToLoad[{index}][externalId]={quote(id, safe='')}"
        for index, (credential, id) in enumerate(calendars)
    )
    return "&".join([urlencode(days), *named])


def _query(query: BookingQuery, now: datetime) -> dict[str, Any]:
    """What Cal.com can narrow: by status and by start."""
    over = [] if query.ends_after is not None and query.ends_after >= now - SECOND else ["past"]
    live = ["unconfirmed"] if query.pending else ["upcoming", "unconfirmed", *over]
    statuses = {True: live, False: ["cancelled"], None: ["upcoming", "unconfirmed", "past", "cancelled"]}[query.live]
    params: dict[str, Any] = {
        "status": ",".join(statuses),
        "sortStart": "desc" if query.newest_first else "asc",
    }
    earliest, latest = query.starts(LONGEST)
    if earliest is not None:
        params["afterStart"] = written(earliest)
    if latest is not None:
        params["beforeEnd"] = written(latest + LONGEST)
    return params
