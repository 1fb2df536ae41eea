"""The JSON of Cal.com's API v2: pure functions between it and the world. What happens when is in `calcom`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import JSONResponse

from tests.world import DAYS, HOST, HOST_EMAIL, NINE, Appointment, Kind, World

HOST_ID, COLLEAGUE_ID, SCHEDULE_ID, CREDENTIAL_ID = 10, 99, 254, 135
USERNAME = "host"
VIDEO = {"type": "integration", "integration": "cal-video"}
STATUSES = {"confirmed": "accepted", "pending": "pending", "cancelled": "cancelled", "declined": "rejected"}
FIELD_TYPES = {"long_text": "textarea", "choice": "select", "choices": "multiselect", "email": "text"}
QUESTION_TYPES = {
    "textarea": "long_text",
    "select": "choice",
    "radio": "choice",
    "multiselect": "choices",
    "checkbox": "choices",
}
# Answers that the page itself asks for (calcom API v2 source, 2025-07)
SYSTEM_FIELDS = ("name", "email", "location", "title", "notes", "guests", "rescheduleReason", "attendeePhoneNumber")
# What a kind of the world holds; all else that is sent for an event type is given back as it came
HELD = (
    "title",
    "slug",
    "description",
    "lengthInMinutes",
    "minimumBookingNotice",
    "beforeEventBuffer",
    "afterEventBuffer",
    "confirmationPolicy",
    "seats",
    "hidden",
)
ABSENT_WHEN_OFF = ("recurrence", "bookingLimitsCount", "bookingLimitsDuration", "bookerActiveBookingsLimit")


class Answer(JSONResponse):
    media_type = "application/json; charset=utf-8"


def stamp(at: datetime) -> str:
    """As JavaScript writes a date: UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(at: datetime, zone: str) -> str:
    return at.astimezone(ZoneInfo(zone)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def me(world: World) -> dict[str, Any]:
    return {
        "id": HOST_ID,
        "username": USERNAME,
        "email": HOST_EMAIL,
        "name": HOST,
        "avatarUrl": None,
        "bio": None,
        "timeFormat": 24,
        "defaultScheduleId": SCHEDULE_ID,
        "weekStart": "Monday",
        "timeZone": world.zone,
        "organizationId": None,
    }


# Event types


def event_type(id: int, key: str, kind: Kind, sent: Mapping[str, Any]) -> dict[str, Any]:
    """`sent` is what a client set and the world does not hold; it shows as long as it agrees with the world."""
    slug = kind.slug or key
    seated = kind.seats > 1
    always = {"type": "always", "blockUnconfirmedBookingsInBooker": True}
    seats = {"seatsPerTimeSlot": kind.seats, "showAttendeeInfo": True, "showAvailabilityCount": True}
    weekly = {"interval": 1, "occurrences": 4, "frequency": "weekly"}
    shown: dict[str, Any] = {
        "id": id,
        "ownerId": HOST_ID,
        "title": kind.title,
        "slug": slug,
        "description": kind.description or "",
        "lengthInMinutes": kind.minutes,
        "locations": locations(kind, sent),
        "bookingFields": booking_fields(kind, sent),
        "slotInterval": None,
        "minimumBookingNotice": kind.notice,
        "beforeEventBuffer": kind.before,
        "afterEventBuffer": kind.after,
        "offsetStart": 0,
        "recurrence": weekly if key.startswith("weekly") else None,
        "seatsPerTimeSlot": kind.seats if seated else None,
        "seatsShowAvailabilityCount": True,
        "disableGuests": False,
        "hidden": not kind.active,
        "price": 0,
        "currency": "usd",
        "metadata": {},
        "isInstantEvent": False,
        "lockTimeZoneToggleOnBookingPage": False,
        "requiresBookerEmailVerification": False,
        "hideCalendarNotes": False,
        "hideCalendarEventDetails": False,
        "hideOrganizerEmail": False,
        "onlyShowFirstAvailableSlot": False,
        "showOptimizedSlots": False,
        "useDestinationCalendarEmail": False,
        "successRedirectUrl": None,
        "forwardParamsSuccessRedirect": True,
        "scheduleId": None,
        # Settings that are off say so; bookingLimits* are absent instead (calcom API v2 source, 2025-07)
        "confirmationPolicy": always if kind.approval else {"disabled": True},
        "seats": seats if seated else {"disabled": True},
        "bookingWindow": {"disabled": True},
        "bookingRequiresAuthentication": False,
        "disableCancelling": {"disabled": False},
        "disableRescheduling": {"disabled": False},
        "interfaceLanguage": None,
        "allowReschedulingPastBookings": False,
        "allowReschedulingCancelledBookings": False,
        "users": [{"id": HOST_ID, "name": HOST, "username": USERNAME, "avatarUrl": None, "metadata": {}}],
        "bookingUrl": f"https://cal.com/{USERNAME}/{slug}",
    }
    given = {name: value for name, value in sent.items() if name not in ("locations", "bookingFields")}
    off = [name for name, value in given.items() if name in ABSENT_WHEN_OFF and value.get("disabled")]
    return shown | {name: value for name, value in given.items() if name not in off}


def locations(kind: Kind, sent: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "locations" in sent and places(sent["locations"]) == kind.places:
        return list(sent["locations"])
    return [VIDEO, *({"type": "address", "address": place, "public": True} for place in kind.places)]


def places(given: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(each["address"] for each in given if each["type"] == "address")


def booking_fields(kind: Kind, sent: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = sent.get("bookingFields", [])
    altered = {each.get("slug", each.get("type")): each for each in given if not is_custom(each)}
    defaults = [field | altered.get(field["slug"], {}) for field in _default_fields()]
    custom = [each for each in given if is_custom(each)]
    if tuple(question(each) for each in custom) != kind.questions:
        custom = [_field(each) for each in kind.questions]
    return defaults + [{"isDefault": False, "disableOnPrefill": False} | each for each in custom]


def is_custom(field: Mapping[str, Any]) -> bool:
    return field.get("type") not in (None, "name", "email")


def _default_fields() -> list[dict[str, Any]]:
    """The fields of every event type (calcom API v2 source, 2025-07)."""

    def field(type: str, slug: str, required: bool = False, **more: bool) -> dict[str, Any]:
        return {"isDefault": True, "type": type, "slug": slug, "required": required} | more

    shown = {"disableOnPrefill": False, "hidden": False}
    return [
        field("name", "name", True, disableOnPrefill=False),
        field("email", "email", True, **shown),
        field("radioInput", "location", hidden=False),
        field("text", "title", True, disableOnPrefill=False, hidden=True),
        field("textarea", "notes", **shown),
        field("multiemail", "guests", **shown),
        field("textarea", "rescheduleReason", **shown),
    ]


def _field(question: Mapping[str, Any]) -> dict[str, Any]:
    type = FIELD_TYPES.get(question["type"], question["type"])
    field = {
        "isDefault": False,
        "type": type,
        "slug": question["key"],
        "label": question["label"],
        "required": question.get("required", False),
        "disableOnPrefill": False,
        "hidden": False,
    }
    if "options" in question:
        field["options"] = list(question["options"])
    # The types without a placeholder (calcom API v2 document, 2026-03)
    return field if type in ("boolean", "multiselect", "checkbox", "radio") else field | {"placeholder": ""}


def question(field: Mapping[str, Any]) -> dict[str, Any]:
    type = QUESTION_TYPES.get(field["type"], field["type"])
    asked = {"key": field["slug"], "label": field["label"], "type": type, "required": field["required"]}
    return asked | ({"options": list(field["options"])} if "options" in field else {})


def kind_changes(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a kind that the body of an event type sets."""
    names = {
        "title": "title",
        "slug": "slug",
        "description": "description",
        "lengthInMinutes": "minutes",
        "minimumBookingNotice": "notice",
        "beforeEventBuffer": "before",
        "afterEventBuffer": "after",
    }
    changes: dict[str, Any] = {names[name]: value for name, value in body.items() if name in names}
    if "hidden" in body:
        changes["active"] = not body["hidden"]
    if "confirmationPolicy" in body:
        changes["approval"] = body["confirmationPolicy"].get("type") == "always"
    if "seats" in body:
        changes["seats"] = body["seats"].get("seatsPerTimeSlot", 1)
    if "locations" in body:
        changes["places"] = places(body["locations"])
    if "bookingFields" in body:
        changes["questions"] = tuple(question(each) for each in body["bookingFields"] if is_custom(each))
    return changes


# Bookings


def booking(
    world: World, id: int, uid: str, type_id: int | None, seats: Sequence[str], noted: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """One meeting. `seats` are its appointments, one unless it is seated, and `noted` what the world does not hold."""
    first = world.appointments[seats[0]]
    kind = world.kinds.get(first.kind)
    note = noted.get(seats[0], {})
    status = next((each.status for each in (world.appointments[seat] for seat in seats) if each.live), first.status)
    where = location(first, note, uid)
    shown: dict[str, Any] = {
        "id": id,
        "uid": uid,
        "title": f"{kind.title if kind else first.kind} between {HOST} and {first.name}",
        "description": "",
        "hosts": [_person(world, HOST_ID, HOST, HOST_EMAIL, USERNAME)],
        "status": STATUSES[status],
        "start": stamp(first.start),
        "end": stamp(first.end),
        "duration": int((first.end - first.start).total_seconds() // 60),
        # Both null once the event type is gone (calcom API v2 source, 2025-07)
        "eventTypeId": type_id,
        "eventType": None if type_id is None or not kind else {"id": type_id, "slug": kind.slug or first.kind},
        "meetingUrl": where,
        "location": where,
        "absentHost": note.get("absentHost", False),
        "createdAt": stamp(first.created),
        "updatedAt": note.get("updatedAt"),
        "metadata": {},
        "rating": None,
        "icsUid": f"{uid}@Cal.com",
    }
    shown |= {name: note[name] for name in ("reschedulingReason", "rescheduledByEmail") if name in note}
    if status == "cancelled":
        shown |= {"cancellationReason": first.reason, "cancelledByEmail": note.get("cancelledByEmail")}
    for name, other in (("rescheduledFromUid", first.moved_from), ("rescheduledToUid", first.moved_to)):
        if other:
            shown[name] = world.appointments[other].event or other
    if "recurringBookingUid" in note:
        shown["recurringBookingUid"] = note["recurringBookingUid"]
    if kind and kind.seats > 1:
        return _filled(shown) | {"attendees": [_seat(world.appointments[id], id, noted.get(id, {})) for id in seats]}
    responses = _responses(first, note)
    shown |= {
        "metadata": note.get("metadata", {}),
        "attendees": _attendees(first, note),
        "guests": list(first.guests) or None,
        "bookingFieldsResponses": responses,
    }
    return _filled(shown)


def _filled(shown: dict[str, Any]) -> dict[str, Any]:
    """Without what is absent when empty (calcom API v2 source, 2025-07)."""
    absent = ("cancellationReason", "cancelledByEmail", "reschedulingReason", "rescheduledByEmail", "guests")
    return {name: value for name, value in shown.items() if name not in absent or value is not None}


def location(appointment: Appointment, note: Mapping[str, Any], uid: str) -> str:
    match note.get("location"):
        case {"type": "integration", "integration": name} if name != "cal-video":
            return f"integrations:{name}"  # the raw value until the room exists (calcom API v2 source, 2025-07)
    return f"https://app.cal.com/video/{uid}" if appointment.place in (None, "cal-video") else appointment.place


def _person(world: World, id: int, name: str, email: str, username: str) -> dict[str, Any]:
    return {
        "id": id,
        "name": name,
        "email": email,
        "displayEmail": email,
        "username": username,
        "timeZone": world.zone,
    }


def _attendee(email: str, name: str, zone: str, absent: bool, note: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"name": name, "email": email, "displayEmail": email, "timeZone": zone}
    shown |= {"language": note.get("language", "en")}
    return shown | {"absent": absent} | ({"phoneNumber": note["phoneNumber"]} if "phoneNumber" in note else {})


def _attendees(each: Appointment, note: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The booker, then the guests: they are attendees too, without a name (calcom source handleNewBooking, 2025-07)."""
    absent = note.get("absent", ())
    guests = [_attendee(guest, "", each.zone, guest in absent, {}) for guest in each.guests]
    return [_attendee(each.email, each.name, each.zone, each.no_show, note), *guests]


def _seat(each: Appointment, id: str, note: Mapping[str, Any]) -> dict[str, Any]:
    return _attendee(each.email, each.name, each.zone, each.no_show, note) | {
        "seatUid": f"seat-{id}",
        # Without the e-mail address (calcom API v2 source, 2025-07)
        "bookingFieldsResponses": {name: value for name, value in _responses(each, note).items() if name != "email"},
        "metadata": note.get("metadata", {}),
    }


def _responses(each: Appointment, note: Mapping[str, Any]) -> dict[str, Any]:
    video = each.place in (None, "cal-video")
    given = {
        "name": each.name,
        "email": each.email,
        "location": {"value": "integrations:daily" if video else "inPerson", "optionValue": ""},
        "guests": list(each.guests) or None,
        "notes": each.notes,
        "attendeePhoneNumber": note.get("phoneNumber"),
        "rescheduledReason": note.get("reschedulingReason"),
    }
    return {name: value for name, value in given.items() if value is not None} | each.answers


def colleague_booking(world: World) -> dict[str, Any]:
    """A meeting of another member of the organization, which an admin's key sees (calcom/companion #88, 2026-08)."""
    guest = Appointment("colleague", NINE, NINE, "cleo@example.com", name="Cleo")
    return {
        "id": 9001,
        "uid": "colleague1",
        "title": "Intro between Colleague and Cleo",
        "description": "",
        "hosts": [_person(world, COLLEAGUE_ID, "Colleague", "colleague@example.com", "colleague")],
        "status": "accepted",
        "start": stamp(NINE),
        "end": stamp(NINE.replace(minute=30)),
        "duration": 30,
        "eventTypeId": 901,
        "eventType": {"id": 901, "slug": "colleague-intro"},
        "meetingUrl": "https://app.cal.com/video/colleague1",
        "location": "https://app.cal.com/video/colleague1",
        "absentHost": False,
        "createdAt": stamp(guest.created),
        "updatedAt": None,
        "metadata": {},
        "rating": None,
        "icsUid": "colleague1@Cal.com",
        "attendees": _attendees(guest, {}),
        "bookingFieldsResponses": _responses(guest, {}),
    }


# Schedules and calendars


def schedule(world: World, name: str) -> dict[str, Any]:
    """Days with equal hours stand together; a day off is 00:00 to 00:00 (calcom/companion tools, 2026-08)."""
    grouped: dict[str, list[str]] = {}
    for day in DAYS:
        for hours in world.hours.get(day, []):
            grouped.setdefault(hours, []).append(day.title())
    overrides = [(date, hours) for date, given in world.overrides.items() for hours in given or ["00:00-00:00"]]
    return {
        "id": SCHEDULE_ID,
        "ownerId": HOST_ID,
        "name": name,
        "timeZone": world.zone,
        "availability": [{"days": days} | _wire_hours(hours) for hours, days in grouped.items()],
        "isDefault": True,
        "overrides": [{"date": date} | _wire_hours(hours) for date, hours in overrides],
    }


def _wire_hours(hours: str) -> dict[str, str]:
    """23:59 is how the end of a day is written (calcom source date-ranges.ts, 2025-07)."""
    opens, closes = hours.split("-")
    return {"startTime": opens, "endTime": "23:59" if closes == "24:00" else closes}


def _world_hours(given: Mapping[str, str]) -> list[str]:
    opens, closes = given["startTime"], given["endTime"]
    return [] if opens == closes else [f"{opens}-{'24:00' if closes == '23:59' else closes}"]


def world_hours(availability: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    hours: dict[str, list[str]] = {}
    for each in availability:
        for day in each["days"]:
            hours[day.lower()] = sorted(hours.get(day.lower(), []) + _world_hours(each))
    return hours


def world_overrides(overrides: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    dates: dict[str, list[str]] = {}
    for each in overrides:
        dates[each["date"]] = sorted(dates.get(each["date"], []) + _world_hours(each))
    return dates


def calendars(broken: bool) -> dict[str, Any]:
    def calendar(external: str, name: str, selected: bool, primary: bool) -> dict[str, Any]:
        return {
            "externalId": external,
            "integration": "google_calendar",
            "name": name,
            "primary": primary,
            "readOnly": False,
            "email": HOST_EMAIL,
            "isSelected": selected,
            "credentialId": CREDENTIAL_ID,
            "delegationCredentialId": None,
        }

    own = calendar(HOST_EMAIL, HOST_EMAIL, True, True)
    connected: dict[str, Any] = {
        "integration": {
            "name": "Google Calendar",
            "description": "Google Calendar is a time management and scheduling service developed by Google.",
            "installed": True,
            "type": "google_calendar",
            "title": "Google Calendar",
            "variant": "calendar",
            "category": "calendar",
            "categories": ["calendar"],
            "logo": "/app-store/googlecalendar/icon.svg",
            "publisher": "Cal.com",
            "slug": "google-calendar",
            "url": "https://cal.com/",
            "email": "help@cal.com",
            "locationOption": None,
            "dirName": "googlecalendar",
        },
        "credentialId": CREDENTIAL_ID,
        "delegationCredentialId": None,
    }
    if broken:
        connected["error"] = {"message": "Could not retrieve calendars"}
    else:
        connected |= {"primary": own, "calendars": [own, calendar("holidays@example.com", "Holidays", False, False)]}
    destination = {"id": 10, "userId": HOST_ID, "eventTypeId": None, "primaryEmail": HOST_EMAIL}
    return {"connectedCalendars": [connected], "destinationCalendar": own | destination}
