"""Calendly's API v2, as a dialect of the world. https://developer.calendly.com/api-docs

Emulated
├── ids            full URIs in bodies and queries, bare ids in paths only
├── refusals       401; 403 for a missing scope, a plan or a role; 404; 424 for a broken calendar; 429
├── limits         requests a minute, with headers; bookings a minute, an hour and a day
├── event types    list, read, write (arrives inactive, ignores what it does not know), no way to delete
├── times          31 days at most, in the future; busy times of 7 days
├── hours          the one schedule of the host, as such and as that of an event type
├── events         with several invitees where seats are shared; cancelled as a whole; guests who do not show
└── booking        a strict body; what is taken, the wrong place and the wrong question are all 400

Weaknesses:
- All event types share the hours of the host, so writing those of one event type changes them for all.
- Starts lie on a grid of the event type's length, whatever its start_time_increment; notice cannot be read or written.
- Page tokens count rows; the vendor's are keysets, which do not slip when rows vanish between pages.
- An event's or invitee's updated_at knows of its creation and of a cancellation made here, nothing else.
- Guesses, for want of a source: the 429 body; the status of no-shows too early or marked twice (400), and the texts of
  those, of wrong page tokens, of unknown keys, of windows and hours that end before they begin and of questions that
  do not match; the bodies for a location that is missing or sent to a round robin and for an inactive type; whether
  hours may end at 24:00; invitee_scheduled_by. A round robin is a kind whose key starts with "robin".
- A choice is not checked against its options. Groups, teams, forms, payments, webhooks and shares do not exist.
- With `booking_limits` exceeded, the rate limit headers are still those of the requests a minute.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.emulators import calendly_shapes as shapes
from tests.emulators.calendly_shapes import API, USER, Refused, denied, invalid, missing
from tests.emulators.contract import Contract
from tests.emulators.wire import serve
from tests.world import Kind, Taken, World

EVERY_SCOPE = frozenset(
    {"users:read", "event_types:write", "availability:write", "scheduled_events:write", "scheduling_links:write"}
)
Handler = Callable[[Request], Awaitable[Response]]


def app(
    world: World,
    *,
    scopes: Collection[str] = EVERY_SCOPE,
    forbidden: str | None = None,
    broken_calendar: bool = False,
    booking_limits: tuple[int, int, int] | None = None,
) -> ASGIApp:
    """`forbidden` is "plan" or "role"; `booking_limits` are how many bookings a minute, an hour and a day."""
    service = Service(world, broken_calendar, booking_limits)

    def route(method: str, path: str, scope: str, handler: Handler) -> Route:
        async def guarded(request: Request) -> Response:
            try:
                # Writing includes reading (Calendly release note 2026-03-03).
                if not {scope, scope.replace(":read", ":write")} & set(scopes):
                    raise shapes.insufficient(scope)
                if forbidden == "plan" and path == "/invitees":
                    raise shapes.unpaid()
                if forbidden == "role" and method == "GET" and path.startswith("/scheduled_events"):
                    raise denied("You do not have permission")  # (Calendly OpenAPI, 2026-10)
                return await handler(request)
            except Refused as refused:
                return refused.answer

        return Route(path, guarded, methods=[method])

    return serve(
        world,
        [
            route("GET", "/users/me", "users:read", service.me),
            route("GET", "/event_types", "event_types:read", service.event_types),
            route("POST", "/event_types", "event_types:write", service.create_event_type),
            route("GET", "/event_types/{uuid}", "event_types:read", service.event_type),
            route("PATCH", "/event_types/{uuid}", "event_types:write", service.update_event_type),
            # The scopes page says event_types:read (contradicts the OpenAPI document, 2026-10).
            route("GET", "/event_type_available_times", "availability:read", service.available_times),
            route("GET", "/user_busy_times", "availability:read", service.busy_times),
            route("GET", "/user_availability_schedules", "availability:read", service.schedules),
            route("GET", "/user_availability_schedules/{uuid}", "availability:read", service.schedule),
            route("PATCH", "/user_availability_schedules/{uuid}", "availability:write", service.update_schedule),
            route("GET", "/event_type_availability_schedules", "availability:read", service.event_type_hours),
            route("PATCH", "/event_type_availability_schedules", "availability:write", service.update_event_type_hours),
            route("GET", "/scheduled_events", "scheduled_events:read", service.events),
            route("GET", "/scheduled_events/{uuid}", "scheduled_events:read", service.event),
            route("POST", "/scheduled_events/{uuid}/cancellation", "scheduled_events:write", service.cancel),
            route("GET", "/scheduled_events/{uuid}/invitees", "scheduled_events:read", service.invitees),
            route("GET", "/scheduled_events/{uuid}/invitees/{invitee}", "scheduled_events:read", service.invitee),
            route("POST", "/invitees", "scheduled_events:write", service.book),
            route("POST", "/invitee_no_shows", "scheduled_events:write", service.mark_no_show),
            route("DELETE", "/invitee_no_shows/{uuid}", "scheduled_events:write", service.unmark_no_show),
            route("POST", "/scheduling_links", "scheduling_links:write", service.create_link),
        ],
        Calendly(),
    )


def event_type_id(world: World, kind: str) -> str:
    """The gateway's id of an event type."""
    return kind


def booking_id(world: World, appointment: str) -> str:
    """The gateway's id of an appointment: its event and its invitee."""
    return f"{shapes.event_of(appointment, world.appointments[appointment])}/i-{appointment}"


class Calendly:
    """What every answer has, and what is refused before it gets to a route."""

    def __init__(self) -> None:
        self._contract = Contract(Path(__file__).with_name("calendly_schema.json"))

    def unauthorized(self, request: Request) -> Response:
        # (error bodies observed in production, 2026-10-09)
        return JSONResponse({"title": "Unauthenticated", "message": "The access token is invalid"}, 401)

    def too_many(self, request: Request, reset: int) -> Response:
        return shapes.too_many().answer

    def limits(self, limit: int, remaining: int, reset: int) -> Mapping[str, str]:
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(reset),
        }

    def refuse(self, request: Request, body: Any) -> str | None:
        if why := self._contract.refuse(request, body):
            return why
        is_list = request.method == "GET" and request.url.path in ("/event_types", "/scheduled_events")
        # Nobody is inferred from the token (JarvusInnovations/calendly-axi, 2026-08).
        if is_list and not {"user", "organization"} & set(request.query_params):
            return "query user: is required"
        return None

    def malformed(self, request: Request, why: str) -> Response:
        if why == "no such operation":  # so also DELETE /event_types/{uuid} (JarvusInnovations/calendly-axi, 2026-08)
            return missing().answer
        where, _, what = why.partition(": ")
        parameter = re.sub(r"^(query |body \$?\.?)", "", where)
        if parameter.split(".")[0] == "location":  # (seen for a physical one without its text, 2026-06)
            return shapes.wrong_location().answer
        if unknown := re.search(r"\('(\w+)' was unexpected\)", what):
            return invalid(f"{parameter}.{unknown[1]}".lstrip("."), "is not allowed").answer
        if lacking := re.search(r"'(\w+)' is a required property", what):
            return invalid(f"{parameter}.{lacking[1]}".lstrip("."), "is missing").answer
        return invalid(parameter, "must be filled" if what == "is required" else "is invalid").answer


class Service:
    def __init__(self, world: World, broken_calendar: bool, booking_limits: tuple[int, int, int] | None) -> None:
        self.world = world
        self.records = shapes.Records()
        self.broken_calendar = broken_calendar
        self.booking_limits = booking_limits
        self.tried: list[datetime] = []

    async def me(self, _: Request) -> Response:
        return JSONResponse({"resource": shapes.user(self.world)})

    # Event types

    async def event_types(self, request: Request) -> Response:
        query = request.query_params
        shapes.must_own(query)
        if query.get("user_availability_schedule", shapes.SCHEDULE) != shapes.SCHEDULE:
            raise missing()
        found = [shapes.event_type(self.world, self.records, key) for key in self.world.kinds]
        for name in ("active", "admin_managed"):
            if name in query:
                found = [each for each in found if each[name] == (query[name] == "true")]
        return shapes.page(request, shapes.in_order(found, query.get("sort", "name:asc")))

    async def event_type(self, request: Request) -> Response:
        return self._event_type_answer(self._kind(request.path_params["uuid"]))

    async def create_event_type(self, request: Request) -> Response:
        body = await _body(request)
        if body["owner"] != USER:
            raise denied("You do not have permission to access this resource.")
        slug = re.sub(r"[^a-z0-9]+", "-", body["name"].lower()).strip("-") or "event"
        used = {*self.world.kinds, *self.records.settings, *(each.slug for each in self.world.kinds.values())}
        key = next(each for each in (slug, *(f"{slug}-{n}" for n in range(1, len(used) + 2))) if each not in used)
        self.world.kinds[key] = Kind(body["name"], 30, slug=key)
        created = {"created_at": self.world.clock.now(), "start_time_increment": 30, "locations": None}
        self.records.settings[key] = created
        # It arrives inactive even if it was sent active (JarvusInnovations/calendly-axi, probed live 2026-08-12).
        self._write(key, body | {"active": False})
        return self._event_type_answer(key, 201)

    async def update_event_type(self, request: Request) -> Response:
        key = self._kind(request.path_params["uuid"])
        self._write(key, await _body(request))
        return self._event_type_answer(key)

    def _write(self, key: str, body: Mapping[str, Any]) -> None:
        """What is unknown or read-only (slug, custom_questions) is silently ignored (calendly-axi, 2026-08-12)."""
        names = {"name": "title", "duration": "minutes", "before_buffer": "before", "after_buffer": "after"}
        known = {*names, "description", "active"}
        changes = {names.get(name, name): value for name, value in body.items() if name in known}
        if "locations" in body:
            changes["places"] = tuple(
                e["location"] for e in body["locations"] if e["kind"] == "physical" and "location" in e
            )
        self.world.kinds[key] = replace(self.world.kinds[key], **changes)
        kept = ("color", "locale", "locations", "duration_options", "start_time_increment")
        written = {name: body[name] for name in kept if name in body} | {"updated_at": self.world.clock.now()}
        self.records.settings[key] = self.records.settings.get(key, {}) | written

    def _event_type_answer(self, key: str, status: int = 200) -> Response:
        return JSONResponse({"resource": shapes.event_type(self.world, self.records, key)}, status)

    def _kind(self, uri: str) -> str:
        key = uri.rsplit("/", 1)[-1]
        if key not in self.world.kinds:
            raise missing()
        return key

    # Times

    async def available_times(self, request: Request) -> Response:
        key = self._kind(request.query_params["event_type"])
        if not self.world.kinds[key].active:
            raise missing()
        start, end = (datetime.fromisoformat(request.query_params[name]) for name in ("start_time", "end_time"))
        if start <= self.world.clock.now():  # (text seen live, JarvusInnovations/calendly-axi, 2026-08)
            raise invalid("start_time", "start_time must be in the future")
        shapes.check_window(start, end, days=31)  # 7 until then (Calendly release note 2026-07-09)
        found = [shapes.available_time(self.world, key, at) for at in self.world.free(key, start, end)]
        return JSONResponse({"collection": found})

    async def busy_times(self, request: Request) -> Response:
        shapes.must_be_host(request.query_params["user"])
        start, end = (datetime.fromisoformat(request.query_params[name]) for name in ("start_time", "end_time"))
        if start < self.world.clock.now():
            raise invalid("start_time", "start_time cannot be in the past")
        shapes.check_window(start, end, days=7)  # (Calendly OpenAPI, 2026-10)
        if self.broken_calendar:  # (Calendly OpenAPI, 2023-04)
            raise Refused(424, "External Calendar Error", "There is a problem accessing your calendar.")
        found: list[dict[str, Any]] = []
        for uuid, ids in self._events().items():
            live = next((self.world.appointments[id] for id in ids if self.world.appointments[id].live), None)
            if live and live.start < end and start < live.end:
                times = {"start_time": shapes.stamp(live.start), "end_time": shapes.stamp(live.end)}
                uri = {"event": {"uri": f"{API}/scheduled_events/{uuid}"}}
                found.append({"type": "calendly"} | times | shapes.buffered(self.world, live) | uri)
        for begins, ends in self.world.elsewhere:
            if begins < end and start < ends:
                times = {"start_time": shapes.stamp(begins), "end_time": shapes.stamp(ends)}
                found.append({"type": "external"} | times)
        return JSONResponse({"collection": sorted(found, key=lambda each: str(each["start_time"]))})

    # Hours

    async def schedules(self, request: Request) -> Response:
        shapes.must_be_host(request.query_params["user"])
        return JSONResponse({"collection": [shapes.schedule(self.world, self.records)]})

    async def schedule(self, request: Request) -> Response:
        _must_be_schedule(request)
        return JSONResponse({"resource": shapes.schedule(self.world, self.records)})

    async def update_schedule(self, request: Request) -> Response:
        """Only what is given; the rules as a whole (developer.calendly.com, 2026-11-18)."""
        _must_be_schedule(request)
        body = await _body(request)
        rules, zone = body.get("rules"), shapes.known_zone("timezone", body.get("timezone", self.world.zone))
        if rules is not None:
            if sorted(rule["wday"] for rule in rules if rule["type"] == "wday") != sorted(shapes.WEEK):
                raise invalid("rules", "must include exactly one wday rule for each day of the week")
            yesterday = self.world.clock.now().astimezone(ZoneInfo(zone)) - timedelta(days=1)
            if any(rule["date"] < f"{yesterday:%Y-%m-%d}" for rule in rules if rule["type"] == "date"):
                raise invalid("rules", "date cannot be in the past")
            self._set_hours(rules)
        self.world.zone = zone
        self.records.schedule_name = body.get("name", self.records.schedule_name)
        return JSONResponse({"resource": shapes.schedule(self.world, self.records)})

    async def event_type_hours(self, request: Request) -> Response:
        key = self._kind(request.query_params["event_type"])
        return shapes.page(request, [shapes.event_type_schedule(self.world, self.records, key)])

    async def update_event_type_hours(self, request: Request) -> Response:
        """Rules overwrite all others; a weekday without one is closed (Calendly OpenAPI, 2026-10)."""
        key = self._kind(request.query_params["event_type"])
        rule = (await _body(request))["availability_rule"]
        shapes.must_be_host(rule.get("user", USER))
        zone = shapes.known_zone("availability_rule.timezone", rule["timezone"])
        if "rules" in rule:
            self._set_hours(rule["rules"])
        self.world.zone = zone
        return JSONResponse({"resource": shapes.event_type_schedule(self.world, self.records, key)})

    def _set_hours(self, rules: Sequence[Mapping[str, Any]]) -> None:
        found: dict[str, dict[str, list[str]]] = {"wday": {}, "date": {}}
        for rule in rules:
            if any(each["to"] <= each["from"] for each in rule["intervals"]):
                raise invalid("rules", "to must be after from")
            hours = [f"{each['from']}-{each['to']}" for each in rule["intervals"]]
            found[rule["type"]][rule[rule["type"]]] = hours
        self.world.hours = {day: hours for day, hours in found["wday"].items() if hours}
        self.world.overrides = found["date"]

    # Events

    def _events(self) -> dict[str, list[str]]:
        """The appointments of each event."""
        found: dict[str, list[str]] = {}
        for id, each in self.world.appointments.items():
            found.setdefault(shapes.event_of(id, each), []).append(id)
        return found

    def _event(self, uuid: str) -> list[str]:
        ids = self._events().get(uuid)
        if ids is None:
            raise missing()
        return ids

    async def events(self, request: Request) -> Response:
        query = request.query_params
        shapes.must_own(query)
        if "group" in query:
            raise missing()
        found = []
        for uuid, ids in self._events().items():
            start = self.world.appointments[ids[0]].start
            emails = {self.world.appointments[id].email.lower() for id in ids}
            if (
                ("invitee_email" not in query or query["invitee_email"].lower() in emails)
                and ("min_start_time" not in query or datetime.fromisoformat(query["min_start_time"]) <= start)
                and ("max_start_time" not in query or start <= datetime.fromisoformat(query["max_start_time"]))
            ):
                each = shapes.event(self.world, self.records, uuid, ids)
                if query.get("status", each["status"]) == each["status"]:
                    found.append(each)
        return shapes.page(request, shapes.in_order(found, query.get("sort", "start_time:asc")))

    async def event(self, request: Request) -> Response:
        uuid = request.path_params["uuid"]
        return JSONResponse({"resource": shapes.event(self.world, self.records, uuid, self._event(uuid))})

    async def cancel(self, request: Request) -> Response:
        """The whole event, never a single invitee (Calendly developer FAQ); messages: (Calendly OpenAPI, 2026-10)."""
        live = [id for id in self._event(request.path_params["uuid"]) if self.world.appointments[id].live]
        if not live:
            raise denied("Event is already canceled")
        if self.world.appointments[live[0]].end <= self.world.clock.now():
            raise denied("Event in the past")
        body = await _body(request)
        for id in live:
            self.world.change(id, status="cancelled", reason=body.get("reason"))
            self.records.canceled[id] = self.world.clock.now()
        return JSONResponse({"resource": shapes.cancellation(self.world, self.records, live[-1])}, 201)

    async def invitees(self, request: Request) -> Response:
        query, ids = request.query_params, self._event(request.path_params["uuid"])
        found = [
            each
            for each in (shapes.invitee(self.world, self.records, id) for id in ids)
            if query.get("status", each["status"]) == each["status"]
            and query.get("email", each["email"]).lower() == each["email"].lower()
        ]
        return shapes.page(request, shapes.in_order(found, query.get("sort", "created_at:asc")))

    async def invitee(self, request: Request) -> Response:
        id = self._invitee(request.path_params["uuid"], request.path_params["invitee"])
        return JSONResponse({"resource": shapes.invitee(self.world, self.records, id)})

    def _invitee(self, event: str, invitee: str) -> str:
        id = invitee.removeprefix("i-")
        if id not in self._event(event) or not invitee.startswith("i-"):
            raise missing()
        return id

    # Booking

    async def book(self, request: Request) -> Response:
        self._spend_booking()
        body = await _body(request)
        key = self._kind(body["event_type"])
        kind, guest, start = self.world.kinds[key], body["invitee"], datetime.fromisoformat(body["start_time"])
        if start <= self.world.clock.now():
            raise invalid("event.start_time", "start_time must be in the future")
        if not kind.active:
            raise shapes.filled()
        zone = shapes.known_zone("invitee.timezone", guest["timezone"])
        place = self._place(key, kind, body.get("location"))
        answers = shapes.read_answers(kind, body.get("questions_and_answers", []))
        full_name = f"{guest.get('first_name', '')} {guest.get('last_name', '')}".strip()
        try:
            id = self.world.book(
                key,
                start,
                guest["email"],
                name=guest.get("name", full_name),
                status="confirmed",  # there is no approval at this vendor
                zone=zone,
                guests=tuple(body.get("event_guests", ())),
                answers=answers,
                place=place,
                marker=body.get("tracking", {}).get("utm_content") or "",
            )
        except Taken:
            raise shapes.filled() from None
        self.records.sent[id] = body
        return JSONResponse({"resource": shapes.invitee(self.world, self.records, id)}, 201)

    def _spend_booking(self) -> None:
        """A limit of its own, by plan (Calendly release note 2026-04-15)."""
        now = self.world.clock.now()
        spans = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
        for limit, span in zip(self.booking_limits or (), spans, strict=False):
            if sum(at > now - span for at in self.tried) >= limit:
                raise shapes.too_many()
        self.tried.append(now)

    def _place(self, key: str, kind: Kind, sent: Mapping[str, str] | None) -> str | None:
        """Needed where there is any, even one alone (calendly-axi, 2026-08-12), but refused at round robin."""
        offered = shapes.locations(self.records, key, kind) or []
        if shapes.pooling_type(key) == "round_robin":  # (Calendly OpenAPI, 2026-10)
            offered = []
        if sent is None:
            if offered:
                raise shapes.wrong_location()
            return None
        same = [each for each in offered if each["kind"] == sent["kind"]]
        if sent["kind"] == "physical":
            same = [each for each in same if each.get("location") == sent["location"]]
        if not same:
            raise shapes.wrong_location()
        return sent["location"] if sent["kind"] == "physical" else sent["kind"]

    async def mark_no_show(self, request: Request) -> Response:
        uri = (await _body(request))["invitee"]
        *_, event, _, invitee = uri.split("/")
        id = self._invitee(event, invitee)
        appointment = self.world.appointments[id]
        if self.world.clock.now() < appointment.start:
            raise invalid("invitee", "event has not started yet")
        if appointment.no_show:  # an error, says calendly-axi (2026-08); the hosted server's tool is called idempotent
            raise invalid("invitee", "has already been marked as a no show")
        self.world.change(id, no_show=True)
        self.records.no_shows[id] = self.world.clock.now()
        marked = shapes.no_show(self.world, self.records, id)
        return JSONResponse({"resource": marked | {"invitee": uri}}, 201)

    async def unmark_no_show(self, request: Request) -> Response:
        marked = {f"n-{id}": id for id, each in self.world.appointments.items() if each.no_show}
        id = marked.get(request.path_params["uuid"])
        if id is None:
            raise missing()
        self.world.change(id, no_show=False)
        return Response(status_code=204)

    async def create_link(self, request: Request) -> Response:
        body = await _body(request)
        key = self._kind(body["owner"])
        self.world.links.append((key, True))
        url = f"{shapes.SITE}/d/c{len(self.world.links):03}-brv8/{self.world.kinds[key].slug or key}"
        link = {"booking_url": url, "owner": body["owner"], "owner_type": "EventType"}
        return JSONResponse({"resource": link}, 201)


async def _body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = await request.json() if await request.body() else {}
    return found


def _must_be_schedule(request: Request) -> None:
    if not shapes.SCHEDULE.endswith("/" + request.path_params["uuid"]):
        raise missing()
