"""What Google answers to questions: calendars, settings, free/busy and events. Changes are in `google`."""

import base64
from collections.abc import Collection
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.emulators import google_rules as rules
from tests.emulators import google_shapes as shapes
from tests.emulators.google_events import Calendars, calendars, instant, shown
from tests.emulators.google_rules import Refused, bad, not_found
from tests.emulators.google_shapes import Json, stamp
from tests.world import HOST_EMAIL, World

OLDEST = timedelta(days=28)


class Reading:
    def __init__(
        self,
        world: World,
        meet: str,
        workspace: bool,
        short_pages: bool,
        unreadable: Collection[str],
        accepted_reset: bool,
    ) -> None:
        self._world, self._meet, self._workspace = world, meet, workspace
        self._short_pages, self._unreadable, self._accepted_reset = short_pages, unreadable, accepted_reset

    @property
    def _kept(self) -> Calendars:
        return calendars(self._world)

    def _calendar(self, request: Request, write: bool = False) -> str:
        id = self._kept.resolve(request.path_params["calendar"])
        if id not in shapes.ROLES:
            raise not_found()
        if write and shapes.ROLES[id] != "owner":
            message = "You need to have writer access to this calendar."
            raise Refused(403, "requiredAccessLevel", message, "calendar")
        return id

    def _zone(self, request: Request, calendar: str) -> ZoneInfo:
        asked = request.query_params.get("timeZone")
        if asked is not None and asked not in rules.ZONES:
            raise bad("Invalid time zone.", ("parameter", "timeZone"))
        return ZoneInfo(asked) if asked else self._kept.zone(calendar)

    # Calendars and settings

    async def calendar(self, request: Request) -> Response:
        return JSONResponse(shapes.calendar(self._world, self._calendar(request), self._workspace))

    async def calendar_list(self, request: Request) -> Response:
        least = shapes.RANKS.index(request.query_params.get("minAccessRole", "freeBusyReader"))
        found = [
            shapes.calendar_list_entry(self._world, id)
            for id, role in shapes.ROLES.items()
            if shapes.RANKS.index(role) >= least
        ]
        return self._page(request, {"kind": "calendar#calendarList", "etag": shapes.tag("list")}, found, 100)

    async def calendar_list_entry(self, request: Request) -> Response:
        return JSONResponse(shapes.calendar_list_entry(self._world, self._calendar(request)))

    async def settings(self, request: Request) -> Response:
        found = list(shapes.settings(self._world).values())
        return self._page(request, {"kind": "calendar#settings", "etag": shapes.tag("settings")}, found, 100)

    async def setting(self, request: Request) -> Response:
        found = shapes.settings(self._world)
        if request.path_params["setting"] not in found:
            raise not_found()
        return JSONResponse(found[request.path_params["setting"]])

    def _page(self, request: Request, head: Json, found: list[Json], most: int, sync: str = "sync-0") -> Response:
        """A short or an empty page is not the last; only the last has a sync token (discovery document, 2026-10)."""
        query, size = request.query_params, int(request.query_params.get("maxResults", most))
        offset = 0
        if token := query.get("pageToken"):
            try:
                offset = int(base64.urlsafe_b64decode(token))
            except ValueError:
                raise bad("Invalid page token value.", ("parameter", "pageToken")) from None
        if self._short_pages:
            size = min(size, 2)
        end = offset if self._short_pages and not token else offset + size
        if self._short_pages and not token:
            items, following = [], "00"
        else:
            items, following = found[offset:end], f"{end}" if end < len(found) else ""
        if following:
            head |= {"nextPageToken": base64.urlsafe_b64encode(following.encode()).decode()}
        else:
            head |= {"nextSyncToken": base64.urlsafe_b64encode(sync.encode()).decode()}
        return JSONResponse(head | {"items": items})

    async def free_busy(self, request: Request) -> Response:
        body = await request.json()
        begin, end = (datetime.fromisoformat(body[name]) for name in ("timeMin", "timeMax"))
        zone, kept = ZoneInfo(body.get("timeZone", "UTC")), self._kept
        groups: Json = {}
        asked: list[str] = []
        for id in (each["id"] for each in body.get("items", ())):
            if id not in kept.groups:
                asked.append(id)
            elif len(kept.groups[id]) > body.get("groupExpansionMax", 100):
                groups[id] = {"errors": [{"domain": "global", "reason": "groupTooBig"}]}
            else:
                groups[id] = {"calendars": kept.groups[id]}
                asked += kept.groups[id]
        asked = list(dict.fromkeys(asked))
        # Without a cap of one's own more than 50 are answered too (mmedum/google-calendar-mcp, row 12, 2026-09)
        most = body.get("calendarExpansionMax", len(asked))
        found: Json = {}
        for number, id in enumerate(asked):
            if id not in ("primary", *shapes.ROLES):
                reason = "notFound"
            elif number >= most:
                reason = "tooManyCalendarsRequested"
            elif id in self._unreadable or kept.resolve(id) in self._unreadable:
                reason = "internalError"
            else:
                busy = kept.busy(id, begin, end)
                found[id] = {"busy": [{"start": shapes.local(b, zone), "end": shapes.local(e, zone)} for b, e in busy]}
                continue
            # Its HTTP status stays 200 (discovery document, Error, 2026-10)
            found[id] = {"errors": [{"domain": "global", "reason": reason}], "busy": []}
        head = {"kind": "calendar#freeBusy", "timeMin": stamp(begin), "timeMax": stamp(end)}
        return JSONResponse(head | ({"groups": groups} if groups else {}) | {"calendars": found})

    # Reading events

    def _head(self, calendar: str) -> Json:
        etags = [each["etag"] for each in self._kept.events[calendar].values()]
        return {
            "kind": "calendar#events",
            "etag": max(etags, default='"0"'),
            "summary": shapes.NAMES[calendar],
            "description": "",
            "updated": max(
                (each["updated"] for each in self._kept.events[calendar].values()), default=stamp(self._now)
            ),
            "timeZone": shapes.zone_name(self._world, calendar),
            "accessRole": shapes.ROLES[calendar],
            "defaultReminders": shapes.REMINDERS if calendar == HOST_EMAIL else [],
        }

    @property
    def _now(self) -> datetime:
        return self._world.clock.now()

    async def events(self, request: Request) -> Response:
        calendar, query = self._calendar(request), request.query_params
        single = query.get("singleEvents") == "true"
        if query.get("orderBy") == "startTime" and not single:
            # googleworkspace/java-samples#52 (2018-12)
            message = "The requested ordering is not available for the particular query."
            raise bad(message, ("parameter", "orderBy"))
        self._check_window(request)
        since, deleted = self._since(request), query.get("showDeleted") == "true" or "updatedMin" in query
        kept = self._kept
        found = [
            each
            for each in kept.listed(calendar, single)
            if self._is_in(request, calendar, each)
            and int(each["etag"].strip('"')) > since
            # Cancelled exceptions come along with the series itself (discovery document, showDeleted, 2026-10)
            and (
                deleted
                or since >= 0
                or each["status"] != "cancelled"
                or (not single and self._is_exception(calendar, each))
            )
        ]
        if query.get("orderBy") == "startTime":
            zone = kept.zone(calendar)
            found.sort(key=lambda each: instant(each["start"], zone))
        elif query.get("orderBy") == "updated":
            found.sort(key=lambda each: (each["updated"], int(each["etag"].strip('"'))))
        zone = self._zone(request, calendar)
        head = self._head(calendar)
        answered = [self._answered(request, each, zone) for each in found]
        newest = max((int(each["etag"].strip('"')) for each in kept.events[calendar].values()), default=0)
        return self._page(request, head, answered, 250, f"sync-{newest}")

    def _is_exception(self, calendar: str, event: Json) -> bool:
        series = self._kept.events[calendar].get(event.get("recurringEventId", ""))
        return series is not None and series["status"] != "cancelled"

    def _since(self, request: Request) -> int:
        """What changed after this is asked for; -1 is everything."""
        token = request.query_params.get("syncToken")
        if token is None:
            return -1
        try:
            return int(base64.urlsafe_b64decode(token).decode().removeprefix("sync-"))
        except ValueError:
            message = "Sync token is no longer valid, a full sync is required."
            raise Refused(410, "fullSyncRequired", message, "calendar", ("parameter", "syncToken")) from None

    def _check_window(self, request: Request) -> None:
        query = request.query_params
        if "timeMin" in query and "timeMax" in query:
            begin, end = (datetime.fromisoformat(query[name]) for name in ("timeMin", "timeMax"))
            if end <= begin:
                raise bad(rules.EMPTY, ("parameter", "timeMax"))
        if "updatedMin" in query and datetime.fromisoformat(query["updatedMin"]) < self._now - OLDEST:
            message = "The requested minimum modification time lies too far in the past."
            raise Refused(410, "updatedMinTooLongAgo", message, "calendar", ("parameter", "updatedMin"))

    def _is_in(self, request: Request, calendar: str, event: Json) -> bool:
        query = request.query_params
        kinds = query.getlist("eventTypes")
        if (kinds and event["eventType"] not in kinds) or query.get("iCalUID", event["iCalUID"]) != event["iCalUID"]:
            return False
        if "updatedMin" in query and datetime.fromisoformat(event["updated"]) < datetime.fromisoformat(
            query["updatedMin"]
        ):
            return False
        for parameter, name in (("privateExtendedProperty", "private"), ("sharedExtendedProperty", "shared")):
            held = event.get("extendedProperties", {}).get(name, {})
            for wanted in query.getlist(parameter):
                key, _, value = wanted.partition("=")
                if held.get(key) != value:
                    return False
        people = [*event.get("attendees", ()), event["organizer"]]
        texts = [event.get(name, "") for name in ("summary", "description", "location")]
        texts += [each.get(name, "") for each in people for name in ("displayName", "email")]
        said = " ".join(texts).casefold()
        if not all(word in said for word in query.get("q", "").casefold().split()):
            return False
        return self._overlaps(request, calendar, event)

    def _overlaps(self, request: Request, calendar: str, event: Json) -> bool:
        """timeMin bounds the end and timeMax the start, both exclusive (discovery document, events.list, 2026-10)."""
        query = request.query_params
        begin = datetime.fromisoformat(query["timeMin"]) if "timeMin" in query else None
        end = datetime.fromisoformat(query["timeMax"]) if "timeMax" in query else None
        return any(
            (begin is None or ends > begin) and (end is None or begins < end)
            for begins, ends in self._kept.spans(calendar, event)
        )

    def _answered(self, request: Request, event: Json, zone: ZoneInfo) -> Json:
        event = shown(event, zone)
        if event["status"] == "cancelled" and "recurringEventId" in event:
            # Nothing else is sure to be there (discovery document, Event.status, 2026-10)
            sure = ("kind", "etag", "id", "status", "recurringEventId", "originalStartTime")
            return {name: event[name] for name in sure}
        query, guests = request.query_params, event.get("attendees", [])
        if len(guests) > int(query.get("maxAttendees", len(guests))):
            # Then only the participant is returned (discovery document, maxAttendees, 2026-10)
            event = event | {"attendees": [each for each in guests if each.get("self")], "attendeesOmitted": True}
        return event

    def _found(self, request: Request, calendar: str) -> Json:
        event = self._kept.find(calendar, request.path_params["event"])
        if event is None:
            raise not_found()
        return event

    async def event(self, request: Request) -> Response:
        calendar = self._calendar(request)
        event = self._found(request, calendar)
        asked = event.get("conferenceData", {}).get("createRequest", {})
        pending = asked.get("status", {}).get("statusCode") == "pending"
        if pending and datetime.fromisoformat(event["updated"]) < self._now.replace(microsecond=0):
            event = self._kept.patch(calendar, event["id"], linked(asked, event["id"], "success"))
        if request.headers.get("if-none-match") == event["etag"]:
            return Response(status_code=304, headers={"ETag": event["etag"]})
        return self._event(request, calendar, event)

    def _event(self, request: Request, calendar: str, event: Json) -> Response:
        body = self._answered(request, event, self._zone(request, calendar))
        return JSONResponse(body, headers={"ETag": event["etag"]})

    async def instances(self, request: Request) -> Response:
        calendar, query = self._calendar(request), request.query_params
        series = self._found(request, calendar)
        self._check_window(request)
        found = self._kept.instances(calendar, series) if "recurrence" in series else iter(())
        zone, deleted = self._zone(request, calendar), query.get("showDeleted") == "true"
        answered = [
            self._answered(request, each, zone)
            for each in found
            if (deleted or each["status"] != "cancelled") and self._overlaps(request, calendar, each)
        ]
        return self._page(request, self._head(calendar), answered, 250)


def linked(asked: Json, event_id: str, status: str) -> Json:
    """What a request for a conference adds to an event."""
    made = shapes.meeting(asked, event_id, status)
    link = {"hangoutLink": made["entryPoints"][0]["uri"]} if "entryPoints" in made else {}
    return {"conferenceData": made} | link
