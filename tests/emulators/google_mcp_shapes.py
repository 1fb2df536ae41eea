"""The schemas of Google's hosted Calendar MCP server, and its Event made of the one of the REST API.

As in a `tools/list` that was captured whole (2026-10): camelCase, types shared by `$defs`, days as midnight UTC.
"""

from collections.abc import Mapping
from typing import Any

from tests.emulators.google_shapes import Json

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "integer", "format": "int32"}
TEXTS: Json = {"type": "array", "items": TEXT}
# What REST calls an event's type, and the enum here
EVENT_TYPES = {
    "default": "DEFAULT",
    "outOfOffice": "OUT_OF_OFFICE",
    "focusTime": "FOCUS_TIME",
    "workingLocation": "WORKING_LOCATION",
    "birthday": "BIRTHDAY",
    "fromGmail": "FROM_GMAIL",
}
LISTED = ("DEFAULT", "OUT_OF_OFFICE", "FOCUS_TIME", "FROM_GMAIL")
LEVELS = {"NOTIFICATION_LEVEL_UNSPECIFIED": "all", "NONE": "none", "EXTERNAL_ONLY": "externalOnly", "ALL": "all"}
AVAILABILITY = {
    "AVAILABILITY_UNSPECIFIED": "opaque",
    "AVAILABILITY_BUSY": "opaque",
    "AVAILABILITY_FREE": "transparent",
}
PLACES = {"HOME_OFFICE": "homeOffice", "CUSTOM_LOCATION": "customLocation"}
GUESTS = {
    "guestsCanInviteOthers": "guestsCanInviteOthers",
    "guestsCanModify": "guestsCanModify",
    "guestsCanSeeGuests": "guestsCanSeeOtherGuests",
}


def _enum(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def _many(name: str) -> Json:
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}


def _one(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _object(properties: Json, required: tuple[str, ...] = ()) -> Json:
    shown: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return shown | ({"required": list(required)} if required else {})


def _texts(*names: str) -> Json:
    return dict.fromkeys(names, TEXT)


EVENT_TYPE = _enum("EVENT_TYPE_UNSPECIFIED", *EVENT_TYPES.values())
LEVEL, BUSY = _enum(*LEVELS), _enum(*AVAILABILITY)
DEFS: Json = {
    "Principal": _object({"email": TEXT, "displayName": TEXT, "self": FLAG}),
    "DateOrDateTime": _object({"date": TEXT, "dateTime": TEXT, "timeZone": TEXT}),
    "Attendee": _object(
        {
            **_texts("id", "email", "displayName", "responseStatus", "comment"),
            **dict.fromkeys(("organizer", "self", "resource", "optionalAttendee"), FLAG),
            "additionalGuests": NUMBER,
        },
        ("email",),
    ),
    "Attachment": _object({"fileUrl": TEXT, "title": TEXT}, ("fileUrl",)),
    "Reminder": _object({"method": TEXT, "minutes": NUMBER}, ("method", "minutes")),
    "GuestPermissions": _object(dict.fromkeys(GUESTS, FLAG)),
    "WorkingLocationProperties": _object(
        {"type": _enum("WORKING_LOCATION_TYPE_UNSPECIFIED", *PLACES), "customLocationLabel": TEXT}
    ),
    "CalendarListItem": _object(_texts("id", "summary", "description", "timeZone")),
    "TimeSlot": _object(
        {
            "start": _one("DateOrDateTime"),
            "end": _one("DateOrDateTime"),
            "startTime": TEXT | {"deprecated": True},
            "endTime": TEXT | {"deprecated": True},
            "durationMinutes": NUMBER | {"deprecated": True},
        }
    ),
    "Preferences": _object({"startHour": TEXT, "endHour": TEXT, "excludeWeekends": FLAG, "pageSize": NUMBER}),
    "Event": _object(
        {
            **_texts("id", "status", "htmlLink", "created", "updated", "summary", "description", "location"),
            **_texts("recurringEventId", "visibility", "conferenceUrl", "colorId"),
            "creator": _one("Principal"),
            "organizer": _one("Principal"),
            **{name: _one("DateOrDateTime") for name in ("start", "end", "originalStartTime")},
            "recurrence": TEXTS,
            "transparency": TEXT | {"deprecated": True},
            "availability": BUSY,
            "attendees": _many("Attendee"),
            "eventType": EVENT_TYPE,
            "attachments": _many("Attachment"),
            "guestPermissions": _one("GuestPermissions"),
            "overrideReminders": _many("Reminder"),
            "workingLocationProperties": _one("WorkingLocationProperties"),
        }
    ),
}
PAGING = {"pageSize": NUMBER, "pageToken": TEXT}
SHARED_CHANGES = {
    **_texts("calendarId", "description", "location", "timeZone", "visibility", "colorId"),
    "allDay": FLAG,
    "availability": BUSY,
    "addGoogleMeetUrl": FLAG,
    "googleMeetUrl": TEXT,
    "overrideReminders": _many("Reminder"),
    "useDefaultReminders": FLAG,
    "guestPermissions": _one("GuestPermissions"),
    "notificationLevel": LEVEL,
}
# Name: arguments, which of them are required, and the answer
TOOLS: dict[str, tuple[Json, tuple[str, ...], str | Json]] = {
    "list_calendars": (PAGING, (), {"calendars": _many("CalendarListItem"), "nextPageToken": TEXT}),
    "list_events": (
        {
            **_texts("calendarId", "startTime", "endTime", "timeZone", "fullText", "orderBy"),
            "eventType": {"type": "array", "items": EVENT_TYPE},
            "eventTypeFilter": TEXTS | {"deprecated": True},
            **PAGING,
        },
        (),
        {
            "events": _many("Event"),
            **_texts("nextPageToken", "summary", "description", "timeZone", "updated", "accessRole"),
            "defaultReminders": _many("Reminder"),
        },
    ),
    "search_events": ({"query": TEXT, **PAGING}, ("query",), {"events": _many("Event"), "nextPageToken": TEXT}),
    "get_event": ({"eventId": TEXT, "calendarId": TEXT}, ("eventId",), "Event"),
    "suggest_time": (
        {
            "attendeeEmails": TEXTS,
            **_texts("startTime", "endTime", "timeZone"),
            "durationMinutes": NUMBER,
            "preferences": _one("Preferences"),
        },
        ("attendeeEmails", "startTime", "endTime"),
        {"timeSlots": _many("TimeSlot")},
    ),
    "create_event": (
        {
            **_texts("summary", "startTime", "endTime"),
            **SHARED_CHANGES,
            "attendees": _many("Attendee"),
            "attendeeEmails": TEXTS | {"deprecated": True},
            "recurrenceData": TEXTS,
            "eventType": EVENT_TYPE,
            "workingLocationProperties": _one("WorkingLocationProperties"),
            "attachments": _many("Attachment"),
        },
        ("summary", "startTime", "endTime"),
        "Event",
    ),
    "update_event": (
        {
            **_texts("eventId", "summary", "startTime", "endTime"),
            **SHARED_CHANGES,
            "addedAttendees": _many("Attendee"),
            "addedAttendeeEmails": TEXTS | {"deprecated": True},
            "removedAttendeeEmails": TEXTS,
            "addedAttachments": _many("Attachment"),
            "removedAttachmentFileUrls": TEXTS,
        },
        ("eventId",),
        "Event",
    ),
    "delete_event": (
        {"eventId": TEXT, "calendarId": TEXT, "notificationLevel": LEVEL},
        ("eventId",),
        "Event",
    ),
    "respond_to_event": (
        {
            **_texts("eventId", "responseStatus", "responseComment", "calendarId"),
            "notificationLevel": LEVEL,
        },
        ("eventId", "responseStatus"),
        "Event",
    ),
}


def takes(name: str) -> Json:
    arguments, required, _ = TOOLS[name]
    return _with_defs(_object(arguments, required))


def gives(name: str) -> Json:
    answer = TOOLS[name][2]
    return _with_defs(dict(DEFS[answer]) if isinstance(answer, str) else _object(answer))


def _with_defs(schema: Json) -> Json:
    used: Json = {}
    _collect(schema, used)
    return schema | ({"$defs": used} if used else {})


def _collect(node: Any, used: Json) -> None:
    if isinstance(node, dict):
        name = str(node.get("$ref", "")).rpartition("/")[2]
        if name and name not in used:
            used[name] = DEFS[name]
            _collect(DEFS[name], used)
        for each in node.values():
            _collect(each, used)
    elif isinstance(node, list):
        for each in node:
            _collect(each, used)


SAME = (
    *("id", "status", "htmlLink", "created", "updated", "summary", "description", "location", "recurrence"),
    *("recurringEventId", "colorId"),
)
PERSON = ("email", "displayName", "self")
ATTENDEE = (*PERSON, "id", "organizer", "resource", "responseStatus", "comment", "additionalGuests")


def event(rest: Mapping[str, Any]) -> Json:
    """Neither etag nor iCalUID nor extended properties get through."""
    shown = _kept(rest, SAME)
    for name in ("creator", "organizer"):
        if name in rest:
            shown[name] = _kept(rest[name], PERSON)
    for name in ("start", "end", "originalStartTime"):
        if name in rest:
            shown[name] = when(rest[name])
    is_free = rest.get("transparency") == "transparent"
    shown["transparency"] = "transparent" if is_free else "opaque"
    shown["availability"] = "AVAILABILITY_FREE" if is_free else "AVAILABILITY_BUSY"
    shown["visibility"] = rest.get("visibility", "default")
    shown["eventType"] = EVENT_TYPES.get(rest.get("eventType", "default"), "EVENT_TYPE_UNSPECIFIED")
    if "attendees" in rest:
        shown["attendees"] = [
            _kept(each, ATTENDEE) | ({"optionalAttendee": True} if each.get("optional") else {})
            for each in rest["attendees"]
        ]
    if "hangoutLink" in rest:
        shown["conferenceUrl"] = rest["hangoutLink"]
    if "attachments" in rest:
        shown["attachments"] = [_kept(each, ("fileUrl", "title")) for each in rest["attachments"]]
    if given := {ours: rest[theirs] for ours, theirs in GUESTS.items() if theirs in rest}:
        shown["guestPermissions"] = given
    if overrides := rest.get("reminders", {}).get("overrides"):
        shown["overrideReminders"] = overrides
    if place := rest.get("workingLocationProperties"):
        kinds = {theirs: ours for ours, theirs in PLACES.items()}
        shown["workingLocationProperties"] = {"type": kinds.get(place.get("type"), "HOME_OFFICE")}
        if label := place.get("customLocation", {}).get("label"):
            shown["workingLocationProperties"]["customLocationLabel"] = label
    return shown


def _kept(rest: Mapping[str, Any], names: tuple[str, ...]) -> Json:
    return {name: rest[name] for name in names if name in rest}


def when(rest: Mapping[str, Any]) -> Json:
    """A day is its midnight in UTC, unlike in the REST API."""
    return {"date": f"{rest['date']}T00:00:00Z"} if "date" in rest else dict(rest)
