"""Google's hosted Calendar MCP server, in front of the emulated REST API. It is in Developer Preview (2026-11).
https://developers.google.com/workspace/calendar/api/v3/reference/mcp

Emulated, from a `tools/list` that was captured whole (2026-10) and probes without a token (2026-09):
- the nine tools with their input and output schemas, each one request of the REST API; no tool for settings, working
  hours, free/busy as such, ids or etags
- `initialize` and `tools/list` work without a token, a call is HTTP 401 and a result that failed; no sessions
- the times of a new event: a zone overrides offsets, days are days wherever; one's own seat at one's own table
- changes are sparse: guests are added and removed, a new start alone keeps the duration; mails by notificationLevel
- with `enrolled=False` every call says that the project must join the preview, as was seen (2026-10)
- `silent` mails nobody unless asked to, as the older reference said; `unbounded` lists all times where the newer one
  begins now and ends in a week

What is behind the REST emulator is at `calendars(world)`, as there: `notices` are the mails.

Weaknesses:
- `googleMeetUrl` is not emulated, `search_events` finds words and no meaning; `timeZone` alone changes nothing.
- Guesses, for want of a source: all words of refused arguments; that errors of the API are passed on as text; that
  list_events lists the instances of a series and search_events the series; that a calendar that suggest_time cannot
  read is an error; the zone that its answers are in; that deleting twice is the API's 410; that one who was not
  invited cannot answer; startTimeDesc sorts 2,500 events at most.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any
from urllib.parse import quote
from uuid import uuid4
from zoneinfo import ZoneInfo

from jsonschema import Draft202012Validator
from starlette.responses import Response

from tests.emulators import google
from tests.emulators import google_mcp_shapes as shapes
from tests.emulators.google import Calendars, Notice, calendars
from tests.emulators.google_events import instant
from tests.emulators.google_mcp_shapes import AVAILABILITY, EVENT_TYPES, GUESTS, LEVELS, LISTED, PLACES
from tests.emulators.google_rules import ZONES
from tests.emulators.google_shapes import ROLES, Json
from tests.emulators.mcp import HANDSHAKES, WELL_KNOWN, Handler, Outcome, Quirks, Rest, Server, Tool
from tests.world import HOST_EMAIL, World

__all__ = ["Calendars", "Notice", "app", "calendars"]

SCOPES = "https://www.googleapis.com/auth/"
METADATA = {
    "authorization_servers": ["https://accounts.google.com/"],
    "scopes_supported": [f"{SCOPES}calendar.events", f"{SCOPES}calendar.calendarlist.readonly"],
    "bearer_methods_supported": ["header"],
}
READING = ("list_calendars", "list_events", "search_events", "get_event", "suggest_time")
ORDERS = {"default": None, "startTime": "startTime", "startTimeDesc": "startTime", "lastModified": "updated"}
ANSWERS = ("accepted", "declined", "tentative")
WEEK = timedelta(days=7)
MOST, AT_ONCE = 250, 2500
NOT_ENROLLED = (
    "To use this tool, your Google Cloud project (123) must be enrolled in the Google Workspace Developer Preview "
    "Program."
)


def app(world: World, *, enrolled: bool = True, silent: bool = False, unbounded: bool = False, **quirks: Any) -> Server:
    """`quirks` are those of `mcp.Quirks` and of the API's emulator."""
    path = "/mcp/v1"
    own, of_api = Quirks.of(
        quirks,
        path=path,
        name="StatelessServer",
        version="ESF",
        versions=HANDSHAKES[:3],
        open_handshake=True,
        metadata=METADATA,
        metadata_paths=(WELL_KNOWN + path,),
    )
    service = Google(world, Rest(google.app(world, **of_api), "/calendar/v3"), silent, unbounded)

    def guarded(call: Handler) -> Handler:
        async def answer(arguments: Json) -> Outcome | Response:
            if not enrolled:
                return Outcome(NOT_ENROLLED, failed=True)
            try:
                return await call(arguments)
            except Wrong as wrong:
                return Outcome(str(wrong), failed=True)

        return answer

    return Server(
        [
            Tool(
                name,
                f"{name.replace('_', ' ')} of Google Calendar",
                shapes.takes(name),
                guarded(call),
                shapes.gives(name),
                _hints(name),
            )
            for name, call in service.tools().items()
        ],
        own,
        wrong,
    )


def _hints(name: str) -> dict[str, bool]:
    """(captured, 2026-10)"""
    return {
        "readOnlyHint": name in READING,
        "destructiveHint": name == "delete_event",
        "idempotentHint": name != "create_event",
        "openWorldHint": False,
    }


class Wrong(Exception):
    """An argument that no schema refuses."""

    def __init__(self, argument: str, why: str) -> None:
        super().__init__(f"Invalid value at '{argument}': {why}")


def wrong(tool: Tool, arguments: Json) -> str | None:
    for each in arguments:
        if each not in tool.takes["properties"]:
            return f'Invalid JSON payload received. Unknown name "{each}": Cannot find field.'
    for each in tool.takes.get("required", ()):
        if each not in arguments:
            return f"Missing required field: {each}"
    found = next(Draft202012Validator(tool.takes).iter_errors(arguments), None)
    return f"Invalid value at '{found.json_path.removeprefix('$.')}': {found.message}" if found else None


class Google:
    def __init__(self, world: World, rest: Rest, silent: bool, unbounded: bool) -> None:
        self._world, self._rest = world, rest
        self._silent, self._unbounded = silent, unbounded

    def tools(self) -> dict[str, Handler]:
        return {name: getattr(self, name) for name in shapes.TOOLS}

    @property
    def _kept(self) -> Calendars:
        return calendars(self._world)

    def _zone(self, calendar: str) -> ZoneInfo:
        id = self._kept.resolve(calendar)
        return self._kept.zone(id if id in ROLES else HOST_EMAIL)

    def _before(self, arguments: Json) -> Json | None:
        """The event to be changed, as it is."""
        calendar = self._kept.resolve(arguments.get("calendarId", "primary"))
        return self._kept.find(calendar, arguments["eventId"]) if calendar in ROLES else None

    async def list_calendars(self, given: Json) -> Outcome | Response:
        found = await self._rest.ask("GET", "/users/me/calendarList", _paging(given))
        return _mapped(found, lambda page: _page(page, "calendars", _calendar))

    async def list_events(self, given: Json) -> Outcome | Response:
        calendar = given.get("calendarId", "primary")
        zone = _known(given["timeZone"]) if "timeZone" in given else self._zone(calendar)
        begin = _instant("startTime", given["startTime"], zone) if "startTime" in given else None
        end = _instant("endTime", given["endTime"], zone) if "endTime" in given else None
        if not self._unbounded:
            begin = begin or self._world.clock.now()
            end = end or begin + WEEK
        order = given.get("orderBy") or "default"
        if order not in ORDERS:
            raise Wrong("orderBy", f"unknown ordering {order!r}")
        kinds = given.get("eventType") or given.get("eventTypeFilter") or LISTED
        names = {theirs: ours for ours, theirs in EVENT_TYPES.items()}
        query: list[tuple[str, Any]] = [
            *(("eventTypes", names.get(each, "default")) for each in kinds),
            ("timeMin", begin and begin.isoformat()),
            ("timeMax", end and end.isoformat()),
            ("q", given.get("fullText") or None),
            ("orderBy", ORDERS[order]),
            ("singleEvents", True),
        ]
        path = f"/calendars/{_quoted(calendar)}/events"
        if order == "startTimeDesc":
            return await self._backwards(path, query, given)
        found = await self._rest.ask("GET", path, [*query, *_paging(given)])
        return _mapped(found, _events)

    async def _backwards(self, path: str, query: list[tuple[str, Any]], given: Json) -> Outcome | Response:
        """The API knows no such order, so that pages are cut here."""
        size, token = dict(_paging(given))["maxResults"], given.get("pageToken") or "0"
        if not token.isdecimal():
            raise Wrong("pageToken", "Invalid page token value.")
        start = int(token)

        def cut(page: Json) -> Json:
            shown = _events(page)
            latest = shown["events"][::-1]
            shown["events"] = latest[start : start + size]
            return shown | ({"nextPageToken": str(start + size)} if start + size < len(latest) else {})

        return _mapped(await self._rest.ask("GET", path, [*query, ("maxResults", AT_ONCE)]), cut)

    async def search_events(self, given: Json) -> Outcome | Response:
        found = await self._rest.ask("GET", "/calendars/primary/events", [("q", given["query"]), *_paging(given)])
        return _mapped(found, lambda page: _page(page, "events", shapes.event))

    async def get_event(self, given: Json) -> Outcome | Response:
        return _mapped(await self._rest.ask("GET", _path(given)), shapes.event)

    # Writing

    async def create_event(self, given: Json) -> Outcome | Response:
        calendar = given.get("calendarId", "primary")
        zone, all_day = given.get("timeZone"), given.get("allDay", False)
        body: Json = {"summary": given["summary"], **self._changes(given)}
        for name, argument in (("start", "startTime"), ("end", "endTime")):
            body[name] = _when(argument, given[argument], zone, self._zone(calendar), all_day)
        if "recurrenceData" in given:
            body["recurrence"] = given["recurrenceData"]
            if not all_day:  # the API wants one, the tool does not
                for name in ("start", "end"):
                    body[name].setdefault("timeZone", self._zone(calendar).key)
        guests = _guests(given, "attendees", "attendeeEmails")
        others = [each for each in guests if each["email"].casefold() != HOST_EMAIL]
        if others and self._kept.resolve(calendar) == HOST_EMAIL and len(others) == len(guests):
            guests = [{"email": HOST_EMAIL, "responseStatus": "accepted"}, *guests]
        if guests:
            body["attendees"] = guests
        if kind := {theirs: ours for ours, theirs in EVENT_TYPES.items()}.get(given.get("eventType", "")):
            body["eventType"] = kind
        if "workingLocationProperties" in given:
            body["workingLocationProperties"] = _place(given["workingLocationProperties"])
        if "attachments" in given:
            body["attachments"] = given["attachments"]
        if given.get("addGoogleMeetUrl"):
            body["conferenceData"] = _meet()
        path = f"/calendars/{_quoted(calendar)}/events"
        return _mapped(await self._rest.ask("POST", path, self._writing(given), body), shapes.event)

    async def update_event(self, given: Json) -> Outcome | Response:
        before = self._before(given) or {}
        body = self._changes(given) | self._new_times(given, before)
        if "summary" in given:
            body["summary"] = given["summary"]
        held = before.get("attendees", [])
        gone = {each.casefold() for each in given.get("removedAttendeeEmails", ())}
        there = {each["email"].casefold() for each in held}
        added = _guests(given, "addedAttendees", "addedAttendeeEmails")
        added = [each for each in added if each["email"].casefold() not in there]
        if added or gone & there:
            body["attendees"] = [each for each in held if each["email"].casefold() not in gone] + added
        if "addedAttachments" in given or "removedAttachmentFileUrls" in given:
            dropped = given.get("removedAttachmentFileUrls", ())
            files = [each for each in before.get("attachments", []) if each["fileUrl"] not in dropped]
            body["attachments"] = files + given.get("addedAttachments", [])
        if given.get("addGoogleMeetUrl") and "hangoutLink" not in before:
            body["conferenceData"] = _meet()
        return _mapped(await self._rest.ask("PATCH", _path(given), self._writing(given), body), shapes.event)

    def _new_times(self, given: Json, before: Json) -> Json:
        if "allDay" in given and not {"startTime", "endTime"} <= set(given):
            raise Wrong("allDay", "start_time and end_time must also be provided")
        if not before or not {"startTime", "endTime"} & set(given):
            return {}
        calendar = given.get("calendarId", "primary")
        zone, was_day = self._zone(calendar), "date" in before["start"]
        all_day = given.get("allDay", was_day)
        times: Json = {}
        for name, argument in (("start", "startTime"), ("end", "endTime")):
            if argument in given:
                times[name] = _when(argument, given[argument], given.get("timeZone"), zone, all_day)
        if "endTime" not in given:  # the duration is preserved
            length = instant(before["end"], zone) - instant(before["start"], zone)
            end = instant(times["start"], zone).astimezone(UTC) + length
            local = end.astimezone(zone)
            times["end"] = {"date": f"{local:%Y-%m-%d}"} if all_day else {"dateTime": local.isoformat()}
        if was_day != all_day:
            for each in times.values():
                each |= {"dateTime": None, "timeZone": None} if all_day else {"date": None}
        return times

    async def delete_event(self, given: Json) -> Outcome | Response:
        found = await self._rest.ask("DELETE", _path(given), self._mailing(given))
        if isinstance(found, Response) or found.failed:
            return found
        return _told(shapes.event(self._before(given) or {}))

    async def respond_to_event(self, given: Json) -> Outcome | Response:
        if given["responseStatus"] not in ANSWERS:
            raise Wrong("responseStatus", f"must be one of {', '.join(ANSWERS)}")
        before = self._before(given)
        if before is not None and HOST_EMAIL not in [each["email"] for each in before.get("attendees", ())]:
            raise Wrong("eventId", "the user is not an attendee of this event")
        answer = {"email": HOST_EMAIL, "responseStatus": given["responseStatus"]}
        if "responseComment" in given:
            answer["comment"] = given["responseComment"]
        body = {"attendeesOmitted": True, "attendees": [answer]}
        return _mapped(await self._rest.ask("PATCH", _path(given), self._mailing(given), body), shapes.event)

    def _mailing(self, given: Json) -> list[tuple[str, Any]]:
        default = "NONE" if self._silent else "ALL"
        return [("sendUpdates", LEVELS[given.get("notificationLevel", default)])]

    def _writing(self, given: Json) -> list[tuple[str, Any]]:
        return [*self._mailing(given), ("conferenceDataVersion", 1), ("supportsAttachments", True)]

    def _changes(self, given: Json) -> Json:
        """What creating and updating have in common, as REST says it."""
        if "googleMeetUrl" in given:
            raise Wrong("googleMeetUrl", "is not emulated")
        body: Json = {
            name: given[name] for name in ("description", "location", "visibility", "colorId") if name in given
        }
        if "availability" in given:
            body["transparency"] = AVAILABILITY[given["availability"]]
        if given.get("useDefaultReminders"):
            body["reminders"] = {"useDefault": True, "overrides": None}
        elif "overrideReminders" in given or "useDefaultReminders" in given:
            body["reminders"] = {"useDefault": False, "overrides": given.get("overrideReminders", [])}
        for ours, value in given.get("guestPermissions", {}).items():
            body[GUESTS[ours]] = value
        return body

    # Free times

    async def suggest_time(self, given: Json) -> Outcome | Response:
        began = _read("startTime", given["startTime"])
        zone: tzinfo = _known(given["timeZone"]) if "timeZone" in given else began.tzinfo or self._zone("primary")
        begin, end = (_instant(name, given[name], zone) for name in ("startTime", "endTime"))
        ids = list(dict.fromkeys(given["attendeeEmails"]))
        body = {"timeMin": begin.isoformat(), "timeMax": end.isoformat(), "items": [{"id": each} for each in ids]}
        found = await self._rest.ask("POST", "/freeBusy", (), body)
        wanted, length = given.get("preferences", {}), timedelta(minutes=given.get("durationMinutes", 30))

        def slots(answer: Json) -> Json:
            busy: list[tuple[datetime, datetime]] = []
            for id, each in answer.get("calendars", {}).items():
                if each.get("errors"):
                    raise Wrong("attendeeEmails", f"the calendar of {id} cannot be read")
                busy += [_span(block) for block in each.get("busy", ())]
            free = [
                (b.astimezone(zone), e.astimezone(zone))
                for b, e in _preferred(_gaps(begin, end, busy), wanted, zone)
                if e - b >= length
            ]
            return {"timeSlots": [_slot(*each, zone) for each in free[: wanted.get("pageSize", 5)]]}

        return _mapped(found, slots)


def _gaps(
    begin: datetime, end: datetime, busy: Sequence[tuple[datetime, datetime]]
) -> Iterator[tuple[datetime, datetime]]:
    at = begin
    for begins, ends in sorted(busy):
        if begins > at:
            yield at, min(begins, end)
        at = max(at, ends)
    if at < end:
        yield at, end


def _preferred(
    gaps: Iterator[tuple[datetime, datetime]], wanted: Json, zone: tzinfo
) -> Iterator[tuple[datetime, datetime]]:
    """The part of each that lies within the hours and days one prefers."""
    if not {"startHour", "endHour", "excludeWeekends"} & set(wanted):
        yield from gaps
        return
    opens, closes = (_hour(name, wanted.get(name)) for name in ("startHour", "endHour"))
    for begin, end in gaps:
        day = begin.astimezone(zone).date()
        while datetime.combine(day, time(), zone) < end:
            last = datetime.combine(day, closes, zone) if closes else None
            last = last or datetime.combine(day + timedelta(days=1), time(), zone)
            begins = max(begin, datetime.combine(day, opens or time(), zone))
            if begins < min(end, last) and not (wanted.get("excludeWeekends") and day.weekday() > 4):
                yield begins, min(end, last)
            day += timedelta(days=1)


def _hour(name: str, text: str | None) -> time | None:
    if text is None:
        return None
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise Wrong(f"preferences.{name}", "must be HH:mm")
    return time.fromisoformat(text)


def _slot(begin: datetime, end: datetime, zone: tzinfo) -> Json:
    named = {"timeZone": zone.key} if isinstance(zone, ZoneInfo) else {}
    start, stop = begin.isoformat().replace("+00:00", "Z"), end.isoformat().replace("+00:00", "Z")
    return {
        "start": {"dateTime": start, **named},
        "end": {"dateTime": stop, **named},
        "startTime": start,
        "endTime": stop,
        "durationMinutes": int((end - begin).total_seconds() // 60),
    }


def _span(block: Json) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(block["start"]), datetime.fromisoformat(block["end"])


# Arguments and answers


def _read(argument: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(argument, f"{text!r} is not an ISO 8601 timestamp") from None


def _known(zone: str) -> ZoneInfo:
    if zone not in ZONES:
        raise Wrong("timeZone", f"unknown time zone {zone!r}")
    return ZoneInfo(zone)


def _instant(argument: str, text: str, zone: tzinfo) -> datetime:
    at = _read(argument, text)
    return at if at.tzinfo else at.replace(tzinfo=zone)


def _when(argument: str, text: str, zone: str | None, fallback: ZoneInfo, all_day: bool) -> Json:
    """A zone that is given overrides the offset (captured, 2026-10)."""
    at = _read(argument, text)
    if all_day:
        return {"date": f"{at:%Y-%m-%d}"}
    if zone:
        return {"dateTime": at.replace(tzinfo=None).isoformat(), "timeZone": _known(zone).key}
    if at.tzinfo is None:
        return {"dateTime": at.isoformat(), "timeZone": fallback.key}
    return {"dateTime": at.isoformat()}


def _guests(given: Json, people: str, addresses: str) -> list[Json]:
    """Who is read-only to the tool is left out."""
    found = [*given.get(people, ()), *({"email": each} for each in given.get(addresses, ()))]
    names = {"optionalAttendee": "optional"}
    kept = ("email", "displayName", "resource", "optionalAttendee", "responseStatus", "comment", "additionalGuests")
    return [{names.get(name, name): each[name] for name in kept if name in each} for each in found]


def _place(given: Json) -> Json:
    kind = PLACES.get(given.get("type", ""), "homeOffice")
    held = {"label": given.get("customLocationLabel", "")} if kind == "customLocation" else {}
    return {"type": kind, kind: held}


def _meet() -> Json:
    return {"createRequest": {"requestId": uuid4().hex, "conferenceSolutionKey": {"type": "hangoutsMeet"}}}


def _quoted(id: str) -> str:
    return quote(id, safe="")


def _path(given: Json) -> str:
    return f"/calendars/{_quoted(given.get('calendarId', 'primary'))}/events/{_quoted(given['eventId'])}"


def _paging(given: Json) -> list[tuple[str, Any]]:
    size = given.get("pageSize") or 100
    if not 0 < size <= MOST:
        raise Wrong("pageSize", f"must be at most {MOST}")
    return [("maxResults", size), ("pageToken", given.get("pageToken") or None)]


def _told(data: Json) -> Outcome:
    return Outcome(json.dumps(data), data)


def _mapped(found: Outcome | Response, shape: Callable[[Json], Json]) -> Outcome | Response:
    if isinstance(found, Response) or found.failed or not isinstance(found.data, dict):
        return found
    return _told(shape(found.data))


def _page(page: Json, name: str, shape: Callable[[Json], Json]) -> Json:
    shown: Json = {name: [shape(each) for each in page.get("items", ())]}
    return shown | ({"nextPageToken": page["nextPageToken"]} if "nextPageToken" in page else {})


def _events(page: Json) -> Json:
    """A list of events is a calendar that has them (captured, 2026-10)."""
    head = ("summary", "description", "timeZone", "updated", "accessRole", "defaultReminders")
    return _page(page, "events", shapes.event) | {name: page[name] for name in head if name in page}


def _calendar(entry: Json) -> Json:
    return {name: entry[name] for name in ("id", "summary", "description", "timeZone") if name in entry}
