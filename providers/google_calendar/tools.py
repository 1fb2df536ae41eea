"""Events as Google's MCP server has them, as the REST API has them and back.

The tools have no field that only we see. So a line at the end of the description says which booking an event is, and
everything else that is kept of it stands in the gateway's own storage.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from providers.google_calendar.events import CLAIMED, EVENT_TYPE, HOLD, MARKER, OPEN, Json
from providers.google_calendar.hours import span

EVENT_TYPES = {
    "DEFAULT": "default",
    "OUT_OF_OFFICE": "outOfOffice",
    "FOCUS_TIME": "focusTime",
    "WORKING_LOCATION": "workingLocation",
    "BIRTHDAY": "birthday",
    "FROM_GMAIL": "fromGmail",
}
REFERENCE = re.compile(
    r"\s*(?:<br>)?\s*Booking reference: (?P<kind>[a-z0-9-]+)/(?P<marker>[0-9a-v]{5,64})(?: \((?P<state>[a-z]+)\))?"
)
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
    return "\n\n".join(filter(None, [event.get("description"), reference(event)]))


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
        event["description"] = REFERENCE.sub("", raw["description"])
        properties[MARKER] = found["marker"]
        if found["kind"] != NO_KIND:
            properties[EVENT_TYPE] = found["kind"]
        if (hold := STATES.get(found["state"])) is not None:
            properties[HOLD] = hold
        if found["state"] and event["status"] != "cancelled":
            event["status"] = "tentative"
    if properties:
        event["extendedProperties"] = {"private": properties}
    return event


def _found(raw: Any) -> re.Match[str] | None:
    # Whoever invites us could write such a line too.
    is_ours = bool((raw.get("organizer") or {}).get("self"))
    return REFERENCE.search(raw.get("description") or "") if is_ours else None


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
