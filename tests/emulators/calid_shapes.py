"""The JSON of Cal ID's REST API: pure functions between it and the world. What happens when is in `calid`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.responses import JSONResponse

from tests.world import BEGIN, DAYS, HOST, HOST_EMAIL, Appointment, Kind

HOST_ID, SCHEDULE_ID = 10, 254
MEET = "integrations:google:meet"
STATUSES = {"confirmed": "ACCEPTED", "pending": "PENDING", "cancelled": "CANCELLED", "declined": "REJECTED"}
FIELD_TYPES = {"long_text": "textarea", "choice": "select", "choices": "multiselect"}
# Answers that every page asks for; the others are questions of the event type (calid API source, 2025-09)
SYSTEM_FIELDS = ("name", "email", "location", "phone", "guests", "notes", "title", "rescheduleReason")
# What is filled in where a body omits it; PATCH does so too (measured on the API source, 2026-11)
DEFAULTS: Mapping[str, Any] = {
    "position": 0,
    "length": 15,
    "offsetStart": 0,
    "hidden": False,
    "periodType": "UNLIMITED",
    "requiresConfirmation": False,
    "requiresConfirmationWillBlockSlot": False,
    "requiresConfirmationForFreeEmail": False,
    "requiresBookerEmailVerification": False,
    "disableGuests": False,
    "hideCalendarNotes": False,
    "hideCalendarEventDetails": False,
    "minimumBookingNotice": 120,
    "beforeEventBuffer": 0,
    "afterEventBuffer": 0,
    "onlyShowFirstAvailableSlot": False,
    "seatsShowAvailabilityCount": True,
    "price": 0,
    "currency": "usd",
    "forwardParamsSuccessRedirect": True,
    "isInstantEvent": False,
    "instantMeetingExpiryTimeOffsetInSeconds": 90,
    "assignAllTeamMembers": False,
    "assignRRMembersUsingSegment": False,
    "useEventTypeDestinationCalendarEmail": False,
    "isRRWeightsEnabled": False,
    "includeNoShowInRRCalculation": False,
    "allowReschedulingPastBookings": False,
    "hideOrganizerEmail": False,
    "maxActiveBookingPerBookerOfferReschedule": False,
    "rescheduleWithSameRoundRobinHost": False,
    "useBookerTimezone": False,
}
UNSET = (
    "interfaceLanguage",
    "timeZone",
    "periodStartDate",
    "periodEndDate",
    "periodDays",
    "periodCountCalendarDays",
    "recurringEvent",
    "disableCancelling",
    "disableRescheduling",
    "seatsShowAttendees",
    "schedulingType",
    "scheduleId",
    "slotInterval",
    "successRedirectUrl",
    "bookingLimits",
    "durationLimits",
    "rrSegmentQueryValue",
    "maxLeadThreshold",
    "maxActiveBookingsPerBooker",
    "customReplyToEmail",
    "eventTypeColor",
    "restrictionScheduleId",
    "teamId",
    "profileId",
    "lockedTimeZone",
    "secondaryEmailId",
)
NAMES = {
    "title": "title",
    "slug": "slug",
    "description": "description",
    "length": "minutes",
    "minimumBookingNotice": "notice",
    "beforeEventBuffer": "before",
    "afterEventBuffer": "after",
    "requiresConfirmation": "approval",
}
HELD = (*NAMES, "hidden", "seatsPerTimeSlot")


class Answer(JSONResponse):
    media_type = "application/json; charset=utf-8"


def stamp(at: datetime) -> str:
    """As JavaScript writes a date: UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def me() -> dict[str, Any]:
    """Neither user name nor time zone is told (calid API source, 2025-09)."""
    return {
        "id": HOST_ID,
        "email": HOST_EMAIL,
        "name": HOST,
        "role": "USER",
        "organizationId": None,
        "createdAt": stamp(BEGIN),
        "emailVerified": stamp(BEGIN),
    }


# Event types


def event_type(id: int, key: str, kind: Kind, sent: Mapping[str, Any]) -> dict[str, Any]:
    """`sent` is what a client set and the world does not hold."""
    shown: dict[str, Any] = {"id": id, "userId": HOST_ID} | dict.fromkeys(UNSET) | dict(DEFAULTS)
    weekly = {"freq": 2, "count": 4, "interval": 1}
    shown |= {
        "metadata": {},
        "recurringEvent": weekly if key.startswith("weekly") else None,
        "lockTimeZoneToggleOnBookingPage": False,
    }
    return (
        shown
        | dict(sent)
        | {name: getattr(kind, held) for name, held in NAMES.items()}
        | {
            "slug": kind.slug or key,
            "hidden": not kind.active,
            "seatsPerTimeSlot": kind.seats if kind.seats > 1 else None,
            "locations": locations(kind, sent),
        }
    )


def locations(kind: Kind, sent: Mapping[str, Any]) -> Any:
    """What was sent comes back as it was, as long as it agrees with the world."""
    if "locations" in sent and places(sent["locations"]) == kind.places:
        return sent["locations"]
    held = [{"type": "inPerson", "address": place, "displayLocationPublicly": True} for place in kind.places]
    return [{"type": MEET}, *held]


def places(given: Any) -> tuple[str, ...]:
    return tuple(each["address"] for each in given or () if each.get("type") == "inPerson" and "address" in each)


def booking_fields(kind: Kind) -> list[dict[str, Any]]:
    """The keys that a client saw (viaSocket plug, 2026)."""

    def field(name: str, type: str, label: str, required: bool = False, hidden: bool = False) -> dict[str, Any]:
        shown = {"name": name, "type": type, "label": label, "required": required, "hidden": hidden}
        return shown | {"options": [], "views": []}

    asked = [
        field(each["key"], FIELD_TYPES.get(each["type"], each["type"]), each["label"], each.get("required", False))
        | {"options": [{"label": option, "value": option} for option in each.get("options", ())]}
        for each in kind.questions
    ]
    return [
        field("name", "name", "your_name", True),
        field("email", "email", "email_address", True),
        field("location", "radioInput", "location"),
        field("title", "text", "what_is_this_meeting_about", True, True),
        field("notes", "textarea", "additional_notes"),
        field("guests", "multiemail", "additional_guests"),
        field("rescheduleReason", "textarea", "reason_for_reschedule"),
        *asked,
    ]


def kind_changes(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a kind that the body of an event type sets."""
    changes = {held: body[name] for name, held in NAMES.items() if name in body}
    if "hidden" in body:
        changes["active"] = not body["hidden"]
    if "seatsPerTimeSlot" in body:
        changes["seats"] = body["seatsPerTimeSlot"] or 1
    if "locations" in body:
        changes["places"] = places(body["locations"])
    return changes


# Bookings


@dataclass(frozen=True)
class Meeting:
    """A booking: one appointment, or several seats. `note` is what the world does not hold of the first."""

    number: int
    uid: str
    type_id: int | None
    kind: Kind | None
    ids: Sequence[str]
    seats: Sequence[Appointment]
    note: Mapping[str, Any]
    old_uid: str | None

    @property
    def first(self) -> Appointment:
        return self.seats[0]

    @property
    def status(self) -> str:
        return STATUSES[next((each.status for each in self.seats if each.live), self.first.status)]

    @property
    def series(self) -> str | None:
        return f"{self.first.kind}:{self.first.email}" if self.first.kind.startswith("weekly") else None

    @property
    def seated(self) -> bool:
        return self.kind is not None and self.kind.seats > 1


def _where(meeting: Meeting) -> str:
    return str(meeting.note.get("location") or meeting.first.place or MEET)


def _metadata(meeting: Meeting) -> dict[str, Any]:
    marker = {"schedulingGateway": meeting.first.marker} if meeting.first.marker else {}
    return dict(meeting.note.get("metadata", marker))


def times(meeting: Meeting) -> dict[str, datetime]:
    """What lists are searched and sorted by."""
    first, updated = meeting.first, meeting.note.get("updatedAt")
    return {
        "startTime": first.start,
        "endTime": first.end,
        "createdAt": first.created,
        "updatedAt": datetime.fromisoformat(updated) if updated else first.created,
    }


def _common(meeting: Meeting) -> dict[str, Any]:
    first, where = meeting.first, _where(meeting)
    metadata = _metadata(meeting)
    if meeting.status == "ACCEPTED" and where.startswith("integrations:"):
        # Only after the booking was answered (live client, 2026-09)
        metadata["videoCallUrl"] = f"https://meet.google.com/{meeting.uid}"
    return {
        "id": meeting.number,
        "uid": meeting.uid,
        "title": f"{meeting.kind.title if meeting.kind else first.kind} between {HOST} and {first.name}",
        "description": first.notes,
        "customInputs": None,
        **{name: stamp(at) for name, at in times(meeting).items()},
        "metadata": metadata,
        "recurringEventId": meeting.series,
        "location": where,
        "status": meeting.status,
        "paid": False,
        "fromReschedule": meeting.old_uid,
        "rescheduled": True if first.moved_to else None,
        "isRecorded": False,
        "eventType": _event_type(meeting),
        "user": {"id": HOST_ID, "name": HOST, "email": HOST_EMAIL},
        "payment": [],
    }


def _event_type(meeting: Meeting) -> dict[str, Any]:
    """Without its event type a booking has the price alone (live client, 2026-09)."""
    free = {"price": 0, "currency": "usd", "recurringEvent": None, "metadata": {}}
    if meeting.kind is None:
        return free
    return free | {
        "id": meeting.type_id,
        "title": meeting.kind.title,
        "slug": meeting.kind.slug or meeting.first.kind,
        "eventName": None,
        "schedulingType": None,
        "seatsShowAttendees": False,
        "hosts": [],
        "length": meeting.kind.minutes,
        "allowReschedulingPastBookings": False,
        "hideOrganizerEmail": False,
        "disableCancelling": False,
        "disableRescheduling": False,
    }


def attendees(meeting: Meeting) -> list[dict[str, Any]]:
    """The booker of each seat, and the guests, who are attendees without a name (calid source, 2025-09)."""
    people = [(each.email, each.name, each) for each in meeting.seats]
    people += [(guest, "", each) for each in meeting.seats for guest in each.guests]
    return [
        {
            "id": meeting.number * 100 + number,
            "email": email,
            "name": name,
            "timeZone": each.zone,
            "phoneNumber": None,
            "locale": meeting.note.get("language", "en"),
            "bookingId": meeting.number,
            "noShow": each.no_show and email == each.email,
        }
        for number, (email, name, each) in enumerate(people)
    ]


def responses(meeting: Meeting) -> dict[str, Any]:
    first, note = meeting.first, meeting.note
    where = first.place or MEET
    given = {
        "name": first.name,
        "email": first.email,
        "phone": note.get("phone"),
        "location": note.get("where", {"value": where, "optionValue": ""}),
        "guests": list(first.guests),
        "notes": first.notes,
        "rescheduledReason": note.get("rescheduledReason"),
    }
    return {name: value for name, value in given.items() if value is not None} | first.answers


def booking_item(meeting: Meeting) -> dict[str, Any]:
    """As the list has it."""
    shown = _common(meeting)
    # Whose seat it is shows only to the one who sits there (calid source get.handler.ts, 2025-09)
    seats = [{"referenceUid": f"seat-{id}", "attendee": None} for id in meeting.ids] if meeting.seated else []
    calendar = {"type": "google_calendar", "uid": f"event{meeting.uid}"}
    calendar |= {"meetingUrl": shown["metadata"].get("videoCallUrl")}
    return shown | {
        "userPrimaryEmail": HOST_EMAIL,
        "responses": responses(meeting),
        "routedFromRoutingFormReponse": None,
        "references": [calendar] if meeting.status == "ACCEPTED" else [],
        "attendees": attendees(meeting),
        "seatsReferences": seats,
        "assignmentReason": [],
        "rescheduler": meeting.note.get("rescheduledBy"),
    }


def booking_detail(meeting: Meeting) -> dict[str, Any]:
    """Thinner than in the list: no answers, and attendees by name and address alone (calid API source, 2025-09)."""
    people = [{"email": each["email"], "name": each["name"]} for each in attendees(meeting)]
    return _common(meeting) | {"attendees": people}


def booking_created(meeting: Meeting, seat: str | None) -> dict[str, Any]:
    """The engine's own answer; the address of the host is taken out (calid API source, 2025-09)."""
    shown = _common(meeting)
    for name in ("eventType", "isRecorded"):
        del shown[name]
    people = [
        {name: value for name, value in each.items() if name not in ("bookingId", "noShow")}
        for each in attendees(meeting)
    ]
    return shown | {
        "idempotencyKey": f"key-{meeting.uid}",
        "userId": HOST_ID,
        "userPrimaryEmail": HOST_EMAIL,
        "eventTypeId": meeting.type_id,
        "description": meeting.first.notes or "",
        "customInputs": {},
        "responses": responses(meeting),
        "updatedAt": None,
        "cancellationReason": None,
        "rejectionReason": None,
        "metadata": _metadata(meeting),
        "iCalUID": f"{meeting.uid}@Cal.com",
        "iCalSequence": 0,
        "creationSource": None,
        "user": {"id": HOST_ID, "name": HOST, "email": None},
        "attendees": people,
        "references": [],
        "luckyUsers": [],
        "seatReferenceUid": f"seat-{seat}" if seat else None,
        "videoCallUrl": None,
        "paymentRequired": False,
        "isDryRun": False,
    }


# Hours


def days_of(numbers: Sequence[int]) -> list[str]:
    """Sunday is 0."""
    return [DAYS[(number - 1) % 7] for number in numbers]


def day_number(day: str) -> int:
    return (DAYS.index(day) + 1) % 7


def wire_time(clock: str) -> str:
    """A time of day is a date of 1970; 23:59 is the end of a day (calid source, 2025-09)."""
    return f"1970-01-01T{'23:59' if clock == '24:00' else clock}:00.000Z"


def world_hours(body: Mapping[str, Any]) -> str:
    opens, closes = (datetime.fromisoformat(body[name]).astimezone(UTC) for name in ("startTime", "endTime"))
    ends = f"{closes:%H:%M}"
    return f"{opens:%H:%M}-{'24:00' if ends == '23:59' else ends}"
