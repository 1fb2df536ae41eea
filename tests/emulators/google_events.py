"""The events that Google keeps: what the server sets, changes, expands and mails. Its refusals are in `google_rules`.

An event is the JSON that the API answers, its times with an offset. An exception of a series is an event of its own,
with the id of the instance; the other instances are made when asked for.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tests.emulators import google_shapes as shapes
from tests.emulators.google_shapes import Json, local, stamp
from tests.world import HOST_EMAIL, World

SCOPES = "https://www.googleapis.com/auth/"
REFRESH_TOKEN, CLIENT_ID, CLIENT_SECRET = "1//refresh-t0ken", "123.apps.googleusercontent.com", "GOCSPX-s3cret"
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MOST_INSTANCES = 730
# Not shown where they are at their default, as the real server seems to do (assumed)
DEFAULTS = {
    "transparency": "opaque",
    "visibility": "default",
    "guestsCanInviteOthers": True,
    "guestsCanModify": False,
    "guestsCanSeeOtherGuests": True,
    "anyoneCanAddSelf": False,
    "attendeesOmitted": False,
}
# As the API answers them, whatever the order in which they were set; others follow
ORDER = (
    *("kind", "etag", "id", "status", "htmlLink", "created", "updated", "summary", "description", "location"),
    *("colorId", "creator", "organizer", "start", "end", "recurrence", "recurringEventId", "originalStartTime"),
    *("transparency", "visibility", "iCalUID", "sequence", "attendees", "extendedProperties", "hangoutLink"),
    *("conferenceData", "reminders", "source", "attachments", "eventType"),
)
# Changes of these alone are nobody's business but the owner's, so that nothing is mailed (made up)
QUIET = ("extendedProperties", "reminders", "colorId", "eventLabelId", "transparency", "visibility")


class Notice(NamedTuple):
    """A mail that sendUpdates asked for: `kind` is invited, updated or cancelled."""

    event_id: str
    kind: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Grant:
    """What an access token may; `bare` is a service account that acts for nobody."""

    scopes: frozenset[str]
    expires: datetime | None = None
    bare: bool = False


class Calendars:
    def __init__(self, world: World) -> None:
        self.events: dict[str, dict[str, Json]] = {id: {} for id in shapes.ROLES}
        self.notices: list[Notice] = []
        self.groups: dict[str, list[str]] = {"everyone@example.com": [HOST_EMAIL, shapes.TEAM]}
        self.refresh_tokens: dict[str, frozenset[str]] = {REFRESH_TOKEN: frozenset({f"{SCOPES}calendar"})}
        self.grants: dict[str, Grant] = {}
        self._world = world
        self._tick = self._made = 0
        self._blocks: dict[tuple[datetime, datetime], str] = {}

    def resolve(self, calendar_id: str) -> str:
        return HOST_EMAIL if calendar_id == "primary" else calendar_id

    def zone(self, calendar_id: str) -> ZoneInfo:
        return ZoneInfo(shapes.zone_name(self._world, self.resolve(calendar_id)))

    def sync(self) -> None:
        """Times elsewhere are opaque events of the primary calendar, made and deleted as the world has them."""
        for begins, ends in self._world.elsewhere:
            if (begins, ends) not in self._blocks:
                times = {"start": {"dateTime": begins.isoformat()}, "end": {"dateTime": ends.isoformat()}}
                self._blocks[begins, ends] = self.insert("primary", {"summary": "Elsewhere", **times})["id"]
        for block in [each for each in self._blocks if each not in self._world.elsewhere]:
            self.delete("primary", self._blocks.pop(block))

    # Changes

    def insert(self, calendar_id: str, event: Json, send_updates: str = "none") -> Json:
        calendar_id = self.resolve(calendar_id)
        id = event.get("id") or self._new_id()
        link = base64.urlsafe_b64encode(f"{id} {calendar_id}".encode()).rstrip(b"=").decode()
        now = self._world.clock.now()
        made = {
            "kind": "calendar#event",
            "etag": "",
            "id": id,
            "status": "confirmed",
            "htmlLink": f"https://www.google.com/calendar/event?eid={link}",
            "created": stamp(now.replace(microsecond=0)),
            "updated": "",
            "creator": shapes.profile(HOST_EMAIL, calendar_id == HOST_EMAIL),
            "organizer": shapes.profile(calendar_id, True),
            "iCalUID": f"{id}@google.com",
            "sequence": 0,
            "reminders": {"useDefault": True},
            "eventType": "default",
        }
        made |= merged({}, event) | {"id": id}
        self.events[calendar_id][id] = self._settle(calendar_id, made)
        if made["status"] != "cancelled":
            self._mail(made, "invited", _guests(made), send_updates)
        return made

    def patch(self, calendar_id: str, event_id: str, changes: Json, send_updates: str = "none") -> Json:
        """Arrays are replaced (discovery document, 2026-10); null removes, as is Google's custom."""
        return self.replace(
            calendar_id, event_id, merged(self.find(calendar_id, event_id) or {}, changes), send_updates
        )

    def replace(self, calendar_id: str, event_id: str, event: Json, send_updates: str = "none") -> Json:
        calendar_id = self.resolve(calendar_id)
        before = self.find(calendar_id, event_id)
        if before is None:
            raise KeyError(event_id)
        after = self._settle(calendar_id, dict(event), before)
        if _content(after) == _content(before):
            return before
        moved = any(after.get(name) != before.get(name) for name in ("start", "end", "recurrence", "status"))
        after["sequence"] = before["sequence"] + 1 if moved else before["sequence"]
        self.events[calendar_id][event_id] = after
        was = _guests(before) if before["status"] != "cancelled" else ()
        now = _guests(after) if after["status"] != "cancelled" else ()
        self._mail(after, "invited", tuple(each for each in now if each not in was), send_updates)
        if _content(after, QUIET) != _content(before, QUIET):
            self._mail(after, "updated", tuple(each for each in now if each in was), send_updates)
        self._mail(after, "cancelled", tuple(each for each in was if each not in now), send_updates)
        return after

    def delete(self, calendar_id: str, event_id: str, send_updates: str = "none") -> None:
        """Its id stays taken, and its details stay for the organizer (discovery document, Event.status, 2026-10)."""
        self.patch(calendar_id, event_id, {"status": "cancelled"}, send_updates)

    def _settle(self, calendar_id: str, event: Json, before: Json | None = None) -> Json:
        """Whatever the server decides on each change."""
        zone = self.zone(calendar_id)
        for name in ("start", "end", "originalStartTime"):
            if name in event:
                event[name] = _normal(event[name], zone)
        for name, default in DEFAULTS.items():
            if event.get(name) == default:
                del event[name]
        if not event.get("attendees"):
            event.pop("attendees", None)
        else:
            event["attendees"] = [self._attendee(calendar_id, event, each) for each in event["attendees"]]
        for name, value in list(event.get("extendedProperties", {}).items()):
            if not value:
                del event["extendedProperties"][name]
        if event.get("extendedProperties") == {}:
            del event["extendedProperties"]
        if before is None or _content(event) != _content(before):
            event["etag"], event["updated"] = self._next_etag(), stamp(self._world.clock.now())
        return event

    def _attendee(self, calendar_id: str, event: Json, sent: Json) -> Json:
        set_here = ("self", "organizer", "responseStatus")
        kept = {name: value for name, value in sent.items() if value not in (None, False, 0) and name not in set_here}
        if kept["email"] == event["organizer"].get("email"):
            kept["organizer"] = True
        # Not on secondary calendars (mmedum/google-calendar-mcp, evidence log, row 50, 2026-09)
        if kept["email"] == HOST_EMAIL and calendar_id == HOST_EMAIL:
            kept["self"] = True
        return {"email": kept.pop("email")} | kept | {"responseStatus": sent.get("responseStatus") or "needsAction"}

    def _mail(self, event: Json, kind: str, to: tuple[str, ...], send_updates: str) -> None:
        """externalOnly goes by the organizer's domain (mmedum/google-calendar-mcp, row 40, 2026-09)."""
        if send_updates == "externalOnly":
            domain = HOST_EMAIL.partition("@")[2]
            to = tuple(each for each in to if each.partition("@")[2] != domain)
        if send_updates != "none" and to:
            self.notices.append(Notice(event["id"], kind, to))

    def _next_etag(self) -> str:
        """Twice the microseconds of the change, and never the same twice although the clock may stand still."""
        self._tick = max(self._tick + 2, int(self._world.clock.now().timestamp() * 1_000_000) * 2)
        return f'"{self._tick}"'

    def _new_id(self) -> str:
        self._made += 1
        return base64.b32hexencode(hashlib.sha256(b"%d" % self._made).digest()).decode().lower()[:26]

    # Reading

    def find(self, calendar_id: str, event_id: str) -> Json | None:
        """An event, or an instance of a series by its id."""
        events = self.events[self.resolve(calendar_id)]
        if event_id in events:
            return events[event_id]
        series, _, _ = event_id.rpartition("_")
        if series not in events or "recurrence" not in events[series]:
            return None
        return next((each for each in self.instances(calendar_id, events[series]) if each["id"] == event_id), None)

    def instances(self, calendar_id: str, series: Json) -> Iterator[Json]:
        """Those of a series, the exceptions among them."""
        events, zone = self.events[self.resolve(calendar_id)], self.zone(calendar_id)
        length = instant(series["end"], zone) - instant(series["start"], zone)
        days = (
            date.fromisoformat(series["end"]["date"]) - date.fromisoformat(series["start"]["date"])
            if ("date" in series["start"])
            else None
        )
        for start in starts(series, zone):
            begins: Json
            if days is not None:
                # {series}_{day}[T{time}Z] (mmedum/google-calendar-mcp, row 35, 2026-09)
                id, begins = f"{series['id']}_{start:%Y%m%d}", {"date": f"{start:%Y-%m-%d}"}
                ends = {"date": f"{start + days:%Y-%m-%d}"}
            else:
                id = f"{series['id']}_{start.astimezone(UTC):%Y%m%dT%H%M%SZ}"
                begins = series["start"] | {"dateTime": local(start, zone)}
                ends = series["end"] | {"dateTime": local(start.astimezone(UTC) + length, zone)}
            made = {name: value for name, value in series.items() if name != "recurrence"}
            made |= {"id": id, "start": begins, "end": ends, "recurringEventId": series["id"]}
            made["originalStartTime"] = begins
            yield events.get(id, made)

    def listed(self, calendar_id: str, single: bool) -> Iterator[Json]:
        """All events of a calendar, deleted ones too; series as such, or as their instances."""
        for event in list(self.events[self.resolve(calendar_id)].values()):
            if "recurrence" in event and single:
                for each in self.instances(calendar_id, event):
                    yield each | {"status": "cancelled"} if event["status"] == "cancelled" else each
            elif not (single and "recurringEventId" in event):
                yield event

    def spans(self, calendar_id: str, event: Json) -> Iterator[tuple[datetime, datetime]]:
        """When an event takes place: a series is more than once."""
        zone = self.zone(calendar_id)
        for each in self.instances(calendar_id, event) if "recurrence" in event else [event]:
            yield instant(each["start"], zone), instant(each["end"], zone)

    def busy(self, calendar_id: str, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """Opaque, live and not declined; what overlaps is one block."""
        found: list[tuple[datetime, datetime]] = []
        for event in self.listed(calendar_id, single=True):
            declined = any(e.get("self") and e["responseStatus"] == "declined" for e in event.get("attendees", ()))
            if event["status"] != "cancelled" and event.get("transparency") != "transparent" and not declined:
                found += [(max(b, begin), min(e, end)) for b, e in self.spans(calendar_id, event)]
        blocks: list[tuple[datetime, datetime]] = []
        for begins, ends in sorted(each for each in found if each[0] < each[1]):
            if blocks and begins <= blocks[-1][1]:
                blocks[-1] = blocks[-1][0], max(blocks[-1][1], ends)
            else:
                blocks.append((begins, ends))
        return blocks


def calendars(world: World) -> Calendars:
    if "_google_calendars" not in vars(world):
        vars(world)["_google_calendars"] = Calendars(world)
    state: Calendars = vars(world)["_google_calendars"]
    state.sync()
    return state


def merged(old: Json, changes: Json) -> Json:
    new = dict(old)
    for name, value in changes.items():
        if value is None:
            new.pop(name, None)
        elif isinstance(value, dict):
            held = new.get(name)
            new[name] = merged(held if isinstance(held, dict) else {}, value)
        else:
            new[name] = value
    return new


def instant(when: Json, zone: ZoneInfo) -> datetime:
    """All-day events begin at midnight of the calendar's zone."""
    if "dateTime" not in when:
        return datetime.combine(date.fromisoformat(when["date"]), time(), zone)
    at = datetime.fromisoformat(when["dateTime"])
    return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(when["timeZone"]) if "timeZone" in when else zone)


def shown(event: Json, zone: ZoneInfo) -> Json:
    """An event as it is answered, with its times in the asked zone."""
    times: Json = {}
    for name in ("start", "end", "originalStartTime"):
        if "dateTime" in event.get(name, {}):
            times[name] = event[name] | {"dateTime": local(datetime.fromisoformat(event[name]["dateTime"]), zone)}
    changed = event | times
    return {name: changed[name] for name in (*ORDER, *changed) if name in changed}


def _normal(when: Json, zone: ZoneInfo) -> Json:
    if "dateTime" not in when:
        return {"date": when["date"]}
    return {"dateTime": local(instant(when, zone), zone), "timeZone": when.get("timeZone") or zone.key}


def _guests(event: Json) -> tuple[str, ...]:
    """Whoever gets mail: not the host, nor rooms."""
    return tuple(
        each["email"] for each in event.get("attendees", ()) if each["email"] != HOST_EMAIL and not each.get("resource")
    )


def _content(event: Json, but: tuple[str, ...] = ()) -> Json:
    return {name: value for name, value in event.items() if name not in ("etag", "updated", "sequence", *but)}


def starts(series: Json, zone: ZoneInfo) -> Iterator[datetime]:
    """By the wall clock of the event's own zone (discovery document, EventDateTime.timeZone, 2026-10)."""
    rule = recurrence_rule(series["recurrence"])
    within = ZoneInfo(series["start"]["timeZone"]) if "timeZone" in series["start"] else zone
    first = instant(series["start"], within).astimezone(within)
    without = {at for line in series["recurrence"] for at in _excluded(line, first, within)}
    until = _moment(rule["UNTIL"], first, within) if "UNTIL" in rule else None
    step, count = int(rule.get("INTERVAL", 1)), int(rule.get("COUNT", MOST_INSTANCES))
    weekly = rule["FREQ"] == "WEEKLY"
    # BYDAY of a daily rule is a filter, that of a weekly one says which days of the week
    weekdays = [DAYS.index(each) for each in rule["BYDAY"].split(",")] if "BYDAY" in rule else None
    monday, made = first - timedelta(days=first.weekday()), 0
    for n in range(MOST_INSTANCES * 7):
        if weekly:
            days = sorted(weekdays or [first.weekday()])
            candidates = [monday + timedelta(weeks=n * step, days=each) for each in days]
        else:
            candidates = [first + timedelta(days=n * step)]
        for at in candidates:
            if at < first or (weekdays is not None and at.weekday() not in weekdays):
                continue
            if made >= min(count, MOST_INSTANCES) or (until and at > until):
                return
            made += 1
            if at not in without:
                yield at


def recurrence_rule(lines: list[str]) -> dict[str, str]:
    """The parts of the RRULE; empty if there is none."""
    rules = [line.removeprefix("RRULE:") for line in lines if line.startswith("RRULE:")]
    parts: Any = (part.partition("=") for part in rules[0].split(";")) if rules else ()
    return {name: value for name, _, value in parts}


def _excluded(line: str, first: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    if found := re.fullmatch(r"EXDATE(?:;VALUE=DATE)?(?:;TZID=([^:;]+))?:(.+)", line):
        for each in found[2].split(","):
            yield _moment(each, first, ZoneInfo(found[1]) if found[1] else zone)


def _moment(text: str, first: datetime, zone: ZoneInfo) -> datetime:
    """A moment of iCalendar; a mere day is until that day's time of the series."""
    if "T" not in text:
        return datetime.combine(date.fromisoformat(text), first.timetz())
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=zone)
