"""What Google Calendar API v3 shows of calendars, settings and conferences. Events are in `google_events`."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.world import HOST, HOST_EMAIL, World

Json = dict[str, Any]

TEAM, READONLY = "team@group.calendar.google.com", "readonly@group.calendar.google.com"
ROLES = {HOST_EMAIL: "owner", TEAM: "owner", READONLY: "reader"}
# From the least to the most (discovery document, parameter minAccessRole, 2026-10)
RANKS = ("freeBusyReader", "reader", "writerWithoutPrivateAccess", "writer", "owner")
NAMES = {HOST_EMAIL: HOST_EMAIL, TEAM: "Team", READONLY: "Holidays of the office"}
COLOURS = {HOST_EMAIL: ("14", "#9fe1e7"), TEAM: ("7", "#42d692"), READONLY: ("8", "#16a765")}
REMINDERS = [{"method": "popup", "minutes": 10}]
MEET = {"allowedConferenceSolutionTypes": ["hangoutsMeet"]}
ICON = "https://fonts.gstatic.com/s/i/productlogos/meet_2020q4/v6/web-512dp/logo_meet_2020q4_color_2x_web_512dp.png"


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(at: datetime, zone: ZoneInfo) -> str:
    """Google writes Z where the zone is UTC, else the offset."""
    return at.astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")


def tag(text: str) -> str:
    """An etag of something that only changes with its content: opaque, and in quotes."""
    return f'"{int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)}"'


def zone_name(world: World, calendar_id: str) -> str:
    """The team is elsewhere, so that the zone of a calendar and that of its owner are told apart."""
    return "America/New_York" if calendar_id == TEAM else world.zone


def _common(world: World, id: str, kind: str) -> Json:
    shown = {
        "kind": kind,
        "etag": tag(f"{kind} {id} {world.zone} {world.hours}"),
        "id": id,
        "summary": NAMES[id],
        "timeZone": zone_name(world, id),
        "conferenceProperties": MEET,
    }
    # Only of secondary calendars (release notes of the Calendar API, 2025-10)
    return shown | ({} if id == HOST_EMAIL else {"dataOwner": HOST_EMAIL if id == TEAM else "office@example.com"})


def calendar(world: World, id: str, workspace: bool) -> Json:
    shown = _common(world, id, "calendar#calendar")
    # Primary calendars of Workspace users only (release notes of the Calendar API, 2026-11)
    return shown | ({"workingHours": working_hours(world)} if workspace and id == HOST_EMAIL else {})


def working_hours(world: World) -> Json:
    """Minutes from the start of the day, the end exclusive (discovery document, 2026-10)."""
    blocks = [
        {"dayOfWeek": day, "periodStart": _minutes(begins), "periodEnd": _minutes(ends)}
        for day, hours in world.hours.items()
        for begins, ends in (each.split("-") for each in hours)
    ]
    return {"workingHoursEnabled": bool(blocks), "availableTimes": blocks}


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def calendar_list_entry(world: World, id: str) -> Json:
    colour, background = COLOURS[id]
    shown = _common(world, id, "calendar#calendarListEntry") | {
        "colorId": colour,
        "backgroundColor": background,
        "foregroundColor": "#000000",
        "selected": True,
        "accessRole": ROLES[id],
        "defaultReminders": REMINDERS if id == HOST_EMAIL else [],
    }
    if id == HOST_EMAIL:
        methods = ("eventCreation", "eventChange", "eventCancellation", "eventResponse")
        notes = [{"type": each, "method": "email"} for each in methods]
        shown |= {"primary": True, "notificationSettings": {"notifications": notes}}
    return shown


def settings(world: World) -> dict[str, Json]:
    values = {
        "autoAddHangouts": "true",
        "dateFieldOrder": "DMY",
        "defaultEventLength": "60",
        "format24HourTime": "true",
        "hideInvitations": "false",
        "hideWeekends": "false",
        "locale": "en_GB",
        "remindOnRespondedEventsOnly": "false",
        "showDeclinedEvents": "true",
        "useKeyboardShortcuts": "true",
        "weekStart": "1",
    }
    # What is at its default may be missing (settings reference, 2026)
    if world.zone != "Etc/GMT":
        values["timezone"] = world.zone
    return {
        id: {"kind": "calendar#setting", "etag": tag(f"{id} {value}"), "id": id, "value": value}
        for id, value in sorted(values.items())
    }


def profile(email: str, this: bool) -> Json:
    """Creator or organizer; `self` is left out where it is false."""
    named: Json = {"email": email}
    if email in (TEAM, READONLY):
        named["displayName"] = NAMES[email]
    elif email == HOST_EMAIL and not this:
        named["displayName"] = HOST
    return named | ({"self": True} if this else {})


def meeting(request: Json, event_id: str, status: str) -> Json:
    """Conference data made of a request; only a success has a link (discovery document, 2026-10)."""
    key = {"type": "hangoutsMeet"}
    asked = {"requestId": request["requestId"], "conferenceSolutionKey": key, "status": {"statusCode": status}}
    if status != "success":
        return {"createRequest": asked}
    digest = hashlib.sha256(f"{event_id} {request['requestId']}".encode()).digest()
    letters = "".join(chr(ord("a") + byte % 26) for byte in digest[:10])
    code = f"{letters[:3]}-{letters[3:7]}-{letters[7:]}"
    return {
        "createRequest": asked,
        "entryPoints": [
            {"entryPointType": "video", "uri": f"https://meet.google.com/{code}", "label": f"meet.google.com/{code}"}
        ],
        "conferenceSolution": {"key": key, "name": "Google Meet", "iconUri": ICON},
        "conferenceId": code,
    }
