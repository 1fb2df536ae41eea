"""Google Calendar API v3 and Google's token endpoint. https://developers.google.com/workspace/calendar/api/v3/reference

Emulated, with the source of each rule beside it:
- calendars.get, calendarList.list and .get, settings.list and .get, freebusy.query; events.list, .insert, .get,
  .update, .patch, .delete and .instances; at /token the grants of a refresh token and of a service account's JWT
- three calendars: the host's own (`primary`), a team's in another zone, and one that can only be read
- client-made ids and their collisions, also with deleted events; etags, If-Match and If-None-Match; patch semantics;
  mails that sendUpdates asks for; Meet links; private and shared properties; limits; status events
- windows that overlap, daily and weekly series and their exceptions, pages, sync tokens, zones, all-day events
- errors of single calendars in free/busy, groups, scopes, expiry of access tokens, service accounts without delegation

Not a dialect of the World's kinds and appointments, for Google knows neither. Of the World it has the clock, the zone,
the hours (as working hours), the requests and the times elsewhere, which are events of the primary calendar.

Weaknesses:
- Unknown keys and parameters are refused everywhere, the real server may drop them. The parameter `fields`, colours,
  batches, quick add, import, move, watching and labels are missing.
- A token request spends the same allowance and fails by the same queue as the API. A JWT's signature is not checked.
- Recurrence is daily or weekly, with INTERVAL, BYDAY, COUNT, UNTIL and EXDATE, at most 730 times. Cutting a series
  leaves its exceptions alone. An instance that is changed stops following its series.
- There is one account: guests have no copies of their own, and a service account sees the host's calendars.
- Deleted events are kept forever; the oldest updatedMin is 28 days ago, which is made up, like the 90 days that
  free/busy spans at most. Busy times are cut at the window and joined where they touch.
- Etags never repeat; a patch that changes nothing keeps it and mails nobody, which was seen on calendars only. Which
  changes are mailed, and that only a move raises the sequence, is an assumption.
- Not documented, so made up: the words for a bad zone, recurrence, page token, event type and status event; the body
  of 412; the messages of invalid parameters (the schema's) and of bad JWTs but the lifetime's; that a timed event
  without zone shows its calendar's, and that values at their default are left out.
- From general knowledge, without a source at hand: requiredAccessLevel, timeRangeTooLong, updatedMinTooLongAgo's and
  the reminders' words, unauthorized_client, invalid_client, invalid_scope, the realm of a 401, the server's headers.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.emulators import google_rules as rules
from tests.emulators.google_events import (
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    SCOPES,
    Calendars,
    Grant,
    Notice,
    calendars,
    merged,
)
from tests.emulators.google_reading import Reading, linked
from tests.emulators.google_rules import Refused, bad
from tests.emulators.google_shapes import READONLY, TEAM, Json
from tests.emulators.wire import TOKEN, serve
from tests.world import HOST_EMAIL, World

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "READONLY",
    "REFRESH_TOKEN",
    "SCOPES",
    "TEAM",
    "Calendars",
    "Notice",
    "app",
    "calendars",
]

Handler = Callable[[Request], Awaitable[Response]]
# The server alone sets these; sent ones are ignored (discovery document, "Read-only", 2026-10)
READ_ONLY = (
    *("kind", "etag", "htmlLink", "created", "updated", "creator", "organizer", "hangoutLink", "sequence", "locked"),
    *("recurringEventId", "originalStartTime", "attendeesOmitted", "endTimeUnspecified", "privateCopy"),
)


def app(
    world: World,
    *,
    service_account: bool = False,
    scopes: Collection[str] = ("calendar",),
    meet: str = "success",
    workspace: bool = True,
    short_pages: bool = False,
    unreadable: Collection[str] = (),
    limit_as: int = 403,
    retry_after: bool = False,
    accepted_reset: bool = False,
) -> ASGIApp:
    """Quirks: `service_account` has no delegation; `scopes` are those of TOKEN; `meet` is how requests for a link
    come out (success, pending until time has passed, failure); without `workspace` there are no working hours; with
    `short_pages` the first page is empty and the others hold two; `unreadable` calendars fail in free/busy; `limit_as`
    403 or 429; `accepted_reset` makes guests answer for themselves."""
    service = Google(world, meet, workspace, short_pages, unreadable, accepted_reset)
    own = Grant(frozenset(SCOPES + each for each in scopes), bare=service_account)
    routes: list[tuple[str, str, str, Handler]] = [
        ("GET", "/calendars/{calendar}", "Calendars.Get", service.calendar),
        ("GET", "/users/me/calendarList", "CalendarList.List", service.calendar_list),
        ("GET", "/users/me/calendarList/{calendar}", "CalendarList.Get", service.calendar_list_entry),
        ("GET", "/users/me/settings", "Settings.List", service.settings),
        ("GET", "/users/me/settings/{setting}", "Settings.Get", service.setting),
        ("POST", "/freeBusy", "Freebusy.Query", service.free_busy),
        ("GET", "/calendars/{calendar}/events", "Events.List", service.events),
        ("POST", "/calendars/{calendar}/events", "Events.Insert", service.insert),
        ("GET", "/calendars/{calendar}/events/{event}", "Events.Get", service.event),
        ("PUT", "/calendars/{calendar}/events/{event}", "Events.Update", service.update),
        ("PATCH", "/calendars/{calendar}/events/{event}", "Events.Patch", service.patch),
        ("DELETE", "/calendars/{calendar}/events/{event}", "Events.Delete", service.delete),
        ("GET", "/calendars/{calendar}/events/{event}/instances", "Events.Instances", service.instances),
    ]

    def guarded(method: str, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            grant: Grant = request.scope["grant"]
            try:
                if not any(SCOPES + each in grant.scopes for each in rules.ENOUGH[method]):
                    raise rules.few_scopes(method)
                return await handler(request)
            except Refused as refused:
                return refused.answer()

        return answer

    async def token(request: Request) -> Response:
        return rules.issue_token(world, calendars(world), await request.form(), not service_account)

    mounted = [
        Route(f"/calendar/v3{path}", guarded(name, handler), methods=[method]) for method, path, name, handler in routes
    ]
    served = serve(
        world, [*mounted, Route("/token", token, methods=["POST"])], rules.GoogleDialect(limit_as, retry_after)
    )

    async def granted(scope: Scope, receive: Receive, send: Send) -> None:
        """Let in who has a live token; the token endpoint asks for none."""
        sent = dict(scope["headers"]).get(b"authorization", b"").decode()
        grant = calendars(world).grants.get(sent.removeprefix("Bearer "))
        let_in = grant and grant.expires and world.clock.now() < grant.expires
        if let_in or scope["path"] == "/token":
            others = [each for each in scope["headers"] if each[0] != b"authorization"]
            scope = {**scope, "headers": [*others, (b"authorization", f"Bearer {TOKEN}".encode())]}
        await served({**scope, "grant": grant if let_in else own}, receive, send)

    return granted


class Google(Reading):
    async def insert(self, request: Request) -> Response:
        calendar = self._calendar(request, write=True)
        event = merged({}, _writable(await request.json()))
        if event.get("id") in self._kept.events[calendar]:
            # A deleted event keeps its id (mmedum/google-calendar-mcp, row 37, 2026-09)
            raise Refused(409, "duplicate", "The requested identifier already exists.")
        rules.check_kept(self._kept, calendar, event)
        self._check_guests(request, event)
        conference = self._conference(request, event.pop("conferenceData", None), event.get("id", ""), {})
        made = self._kept.insert(calendar, event | conference, _send_updates(request))
        return self._event(request, calendar, made)

    def _check_guests(self, request: Request, event: Json) -> None:
        grant: Grant = request.scope["grant"]
        if grant.bare and event.get("attendees"):
            # spatie/laravel-google-calendar#159 (noted 2026-11)
            message = "Service accounts cannot invite attendees without Domain-Wide Delegation of Authority."
            raise Refused(403, "forbiddenForServiceAccounts", message, "calendar")
        for guest in event.get("attendees") or () if self._accepted_reset else ():
            # Adding somebody as accepted may be reset (discovery document, EventAttendee, 2026-10)
            if guest["email"] != HOST_EMAIL:
                guest["responseStatus"] = "needsAction"

    def _conference(self, request: Request, sent: Any, event_id: str, before: Json) -> Json:
        """Without version 1 a sent conference is dropped in silence (discovery document, 2026-10)."""
        if request.query_params.get("conferenceDataVersion") != "1" or (sent is None and not before):
            return {}
        if sent is None:
            return {"conferenceData": None, "hangoutLink": None}
        asked = sent.get("createRequest")
        # A request made before is ignored (discovery document, CreateConferenceRequest.requestId, 2026-10)
        if asked is None or asked["requestId"] == before.get("createRequest", {}).get("requestId"):
            return {}
        grant: Grant = request.scope["grant"]
        kind = asked.get("conferenceSolutionKey", {}).get("type", "hangoutsMeet")
        if grant.bare or kind != "hangoutsMeet":
            # googleapis/google-api-nodejs-client#3052 (noted 2026-11)
            raise bad(rules.BAD_CONFERENCE)
        return linked(asked, event_id, self._meet)

    def _check_match(self, request: Request, event: Json) -> None:
        """A stale etag is 412, * forces (guide on versions of resources, 2026; the body is made up)."""
        if request.headers.get("if-match", "*") not in ("*", event["etag"]):
            raise Refused(412, "conditionNotMet", "Precondition Failed", where=("header", "If-Match"))

    async def patch(self, request: Request) -> Response:
        calendar = self._calendar(request, write=True)
        before = self._found(request, calendar)
        self._check_match(request, before)
        body = await request.json()
        changes = _writable(body)
        if body.get("attendeesOmitted") and "attendees" in changes:
            # Then they are not a new list, but the participant's answer (discovery document, attendeesOmitted, 2026-10)
            said = {each["email"]: each for each in changes["attendees"]}
            changes["attendees"] = [each | said.get(each["email"], {}) for each in before.get("attendees", ())]
        for name in ("id", "iCalUID"):
            changes.pop(name, None)
        self._check_guests(request, changes)
        if "conferenceData" in changes:
            sent, held = changes.pop("conferenceData"), before.get("conferenceData", {})
            changes |= self._conference(request, sent, before["id"], held)
        after = merged(before, changes)
        rules.check_kept(self._kept, calendar, after, before)
        return self._event(request, calendar, self._kept.replace(calendar, before["id"], after, _send_updates(request)))

    async def update(self, request: Request) -> Response:
        """What is not sent is gone, but for what the server sets (mmedum/google-calendar-mcp, row 5, 2026-09)."""
        calendar = self._calendar(request, write=True)
        before = self._found(request, calendar)
        self._check_match(request, before)
        event = merged({}, _writable(await request.json()))
        self._check_guests(request, event)
        held = {name: before[name] for name in ("conferenceData", "hangoutLink") if name in before}
        conference = self._conference(
            request, event.pop("conferenceData", None), before["id"], before.get("conferenceData", {})
        )
        fixed = {name: before[name] for name in (*READ_ONLY, "id", "iCalUID") if name in before}
        standard = {"status": "confirmed", "reminders": {"useDefault": True}, "eventType": "default"}
        after = merged(standard | event | fixed | held, conference)
        rules.check_kept(self._kept, calendar, after, before)
        return self._event(request, calendar, self._kept.replace(calendar, before["id"], after, _send_updates(request)))

    async def delete(self, request: Request) -> Response:
        calendar = self._calendar(request, write=True)
        event = self._found(request, calendar)
        if event["status"] == "cancelled":
            # guide on errors (2026)
            raise Refused(410, "deleted", "Resource has been deleted")
        self._check_match(request, event)
        self._kept.delete(calendar, event["id"], _send_updates(request))
        return Response(status_code=204)


def _writable(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in READ_ONLY}


def _send_updates(request: Request) -> str:
    """Nobody is told unless asked for; sendNotifications is the old name (discovery document, 2026-10)."""
    old = "all" if request.query_params.get("sendNotifications") == "true" else "none"
    return request.query_params.get("sendUpdates", old)
