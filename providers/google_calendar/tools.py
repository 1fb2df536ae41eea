"""Events as Google's MCP server has them, as the REST API has them and back.

The tools have no field that only we see. So a line at the end of the description says which booking an event is, and
everything else that is kept of it stands in the gateway's own storage.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from providers.google_calendar.events import CLAIMED, EVENT_TYPE, HOLD, MARKER, OPEN, Json, is_ours, organises
from providers.google_calendar.hours import span

EVENT_TYPES = {
    "DEFAULT": "default",
    "OUT_OF_OFFICE": "outOfOffice",
    "FOCUS_TIME": "focusTime",
    "WORKING_LOCATION": "workingLocation",
    "BIRTHDAY": "birthday",
    "FROM_GMAIL": "fromGmail",
}
# Google's own editor makes HTML of a description that it is used on.
REFERENCE = re.compile(
    r"Booking reference:(?:\s|&nbsp;)(?P<kind>[a-z0-9-]+)/(?P<marker>[0-9a-v]{5,64})"
    r"(?:(?:\s|&nbsp;)\((?P<state>[a-z]+)\))?"
)
BREAKS = ("<br>", "<br/>", "<br />", "&nbsp;")
# Google cuts off, or refuses, what is longer than 8,192. (rjhorniii/ical2org#16)
MOST_DESCRIPTION = 8000
STATES = {"held": OPEN, "moving": CLAIMED}
NO_KIND = "-"


def reference(event: Json) -> str:
    """The line that says which booking of ours an event is, and whether it may stay."""
    private = event["extendedProperties"]["private"]
    states = [name for name, hold in STATES.items() if private.get(HOLD) == hold]
    state = states[0] if states else "pending" if event["status"] == "tentative" else None
    line = f"Booking reference: {private.get(EVENT_TYPE, NO_KIND)}/{private[MARKER]}"
    return f"{line} ({state})" if state else line


def described(event: Json) -> str:
    line = reference(event)
    # A guest's notes may hold a line that looks like ours.
    text = REFERENCE.sub("", event.get("description") or "")[: MOST_DESCRIPTION - len(line) - 2]
    return "\n\n".join(filter(None, [text, line]))


def key(raw: Any) -> str:
    """What an event is kept under."""
    return str(found["marker"] if (found := _found(raw)) else raw["id"])


def as_rest(raw: Any, private: Mapping[str, str]) -> Json:
    """A tool's event, with what is kept of it."""
    event = {name: value for name, value in raw.items() if name not in ("transparency", "conferenceUrl")}
    event["id"], event["status"] = str(raw["id"]), str(raw["status"])
    # There are no versions; what is compared is the whole.
    event["etag"] = str(raw.get("updated"))
    event["eventType"] = EVENT_TYPES.get(raw.get("eventType", "DEFAULT"), "default")
    if not event.get("recurrence"):
        event.pop("recurrence", None)
    for name in ("start", "end", "originalStartTime"):
        if raw.get(name):
            event[name] = _when(raw[name])
    if raw.get("availability") == "AVAILABILITY_FREE" or raw.get("transparency") == "transparent":
        event["transparency"] = "transparent"
    if raw.get("conferenceUrl"):
        event["hangoutLink"] = raw["conferenceUrl"]
        event["conferenceData"] = {}
    properties = dict(private)
    if found := _found(raw):
        event["description"] = _without(raw["description"], found)
        properties[MARKER] = found["marker"]
        if found["kind"] != NO_KIND:
            properties[EVENT_TYPE] = found["kind"]
        if (hold := STATES.get(found["state"])) is not None:
            properties[HOLD] = hold
            event["created"] = raw.get("created") or raw["updated"]
        if found["state"] and event["status"] != "cancelled":
            event["status"] = "tentative"
    if properties:
        event["extendedProperties"] = {"private": properties}
    return event


def _found(raw: Any) -> re.Match[str] | None:
    # Whoever invites us could write such a line too.
    lines = list(REFERENCE.finditer(raw.get("description") or "")) if organises(raw) else []
    return lines[-1] if lines else None


def _without(description: str, line: re.Match[str]) -> str:
    text = description[: line.start()].rstrip()
    while text.endswith(BREAKS):
        text = text[: text.rindex("<" if text.endswith(">") else "&")].rstrip()
    return text + description[line.end() :]


def _when(raw: Any) -> Json:
    """A day comes as its midnight in UTC. (captured, 2026-10)"""
    return {"date": raw["date"][:10]} if raw.get("date") else {n: v for n, v in raw.items() if v}


def times(event: Mapping[str, Any]) -> Json:
    """When an event takes place, as arguments.

    It is said of the zone both that it overrides offsets and that it need not be given (2026-10), so the two agree; in
    an hour that a zone has twice, UTC does.
    """
    zone = ZoneInfo(event["start"].get("timeZone") or "UTC")
    begins, ends = (datetime.fromisoformat(event[name]["dateTime"]).astimezone(zone) for name in ("start", "end"))
    if any(at.replace(fold=0).utcoffset() != at.replace(fold=1).utcoffset() for at in (begins, ends)):
        zone = ZoneInfo("UTC")
        begins, ends = begins.astimezone(zone), ends.astimezone(zone)
    return {"startTime": begins.isoformat(), "endTime": ends.isoformat(), "timeZone": zone.key}


def span_of(raw: Any) -> tuple[datetime, datetime]:
    """When an event begins and ends, in UTC; days are those of UTC."""
    begins, ends = span(raw, ZoneInfo("UTC"))
    return datetime.fromtimestamp(begins, UTC), datetime.fromtimestamp(ends, UTC)


def changed(raw: Any, event: Json) -> Iterator[tuple[str, Any]]:
    """What `update_event` has to be told."""
    if event["start"] != raw["start"]:
        yield from times(event).items()
    if is_ours(raw) and described(event) != described(raw):
        yield "description", described(event)
    there = {each.get("email", "").lower() for each in raw.get("attendees", ())}
    if added := [each for each in event.get("attendees", ()) if each["email"].lower() not in there]:
        yield "addedAttendees", added
    if event.get("conferenceData", {}).get("createRequest"):
        yield "addGoogleMeetUrl", True


def own_answer(raw: Any, event: Json) -> str | None:
    """Our own answer, where it is another one now."""
    before = {each.get("email", "").lower(): each.get("responseStatus") for each in raw.get("attendees", ())}
    for each in event.get("attendees", ()):
        email = each["email"].lower()
        if email in before and each.get("responseStatus") != before[email]:
            return str(each["responseStatus"])
    return None
