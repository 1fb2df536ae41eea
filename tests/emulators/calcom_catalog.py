"""What Cal.com's API v2 tells of its user: event types, slots, schedules and calendars. Bookings are in `calcom`."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request

from tests.emulators import calcom_rules as rules
from tests.emulators import calcom_shapes as shapes
from tests.emulators.calcom_rules import Refused, instant
from tests.emulators.calcom_shapes import Answer, stamp
from tests.emulators.numbers import event_type_id, made_anew
from tests.world import HOST_EMAIL, Kind, World


def is_seated(world: World, key: str) -> bool:
    return key in world.kinds and world.kinds[key].seats > 1


def done(data: Any, status: int = 200) -> Answer:
    return Answer({"status": "success", "data": data}, status)


class Catalog:
    def __init__(self, world: World, colleagues: bool, broken_calendar: bool) -> None:
        self._world = world
        self._colleagues = colleagues
        self._broken_calendar = broken_calendar
        self._schedule_name = "Working hours"
        self._sent: dict[str, dict[str, Any]] = defaultdict(dict)  # settings of event types that the world lacks
        self._noted: dict[str, dict[str, Any]] = defaultdict(dict)  # the same of appointments
        self._left: set[str] = set()  # seats given up one by one
        self._links = 0

    async def me(self, _: Request) -> Answer:
        return done(shapes.me(self._world))

    # Event types

    def _type(self, key: str) -> dict[str, Any]:
        return shapes.event_type(
            int(event_type_id(self._world, key)), key, self._world.kinds[key], self._sent.get(key, {})
        )

    def _key(self, id: object) -> str | None:
        return next((key for key in self._world.kinds if event_type_id(self._world, key) == str(id)), None)

    def _key_of_slug(self, slug: object) -> str | None:
        return next((key for key, kind in self._world.kinds.items() if (kind.slug or key) == slug), None)

    def _asked_key(self, request: Request) -> str:
        id = request.path_params["id"]
        if (key := self._key(id)) is None:
            raise Refused(404, f"Event type with id {id} not found")
        return key

    async def event_types(self, request: Request) -> Answer:
        query = request.query_params
        types = [self._type(key) for key in self._world.kinds]
        if query.get("username", shapes.USERNAME) != shapes.USERNAME or "usernames" in query:
            types = []
        if "eventSlug" in query:
            types = [each for each in types if each["slug"] == query["eventSlug"]]
        return done(types[::-1] if query.get("sortCreatedAt") == "desc" else types)

    async def event_type(self, request: Request) -> Answer:
        return done(self._type(self._asked_key(request)))

    def _keep(self, key: str, body: Mapping[str, Any]) -> Answer:
        if "slug" in body and self._key_of_slug(body["slug"]) not in (None, key):
            raise Refused(400, "User already has an event type with this slug.")
        before = self._world.kinds.get(key, Kind("", 0))
        self._world.kinds[key] = replace(before, **shapes.kind_changes(body))
        self._sent[key] |= {name: value for name, value in body.items() if name not in shapes.HELD}
        return done(self._type(key), 200)

    async def create_event_type(self, request: Request) -> Answer:
        body = await request.json()
        if self._key_of_slug(body["slug"]) is not None:
            raise Refused(400, "User already has an event type with this slug.")
        key = body["slug"] if body["slug"] not in self._world.kinds else f"{body['slug']}-{len(self._world.kinds)}"
        made_anew(self._world, key)
        self._sent.pop(key, None)
        made = self._keep(key, body)
        made.status_code = 201
        return made

    async def update_event_type(self, request: Request) -> Answer:
        return self._keep(self._asked_key(request), await request.json())

    async def delete_event_type(self, request: Request) -> Answer:
        key = self._asked_key(request)
        gone = self._type(key)
        del self._world.kinds[key]
        return done({name: gone[name] for name in ("id", "lengthInMinutes", "title", "slug")})

    async def create_private_link(self, request: Request) -> Answer:
        key = self._asked_key(request)
        body = await request.json() if await request.body() else {}
        self._links += 1
        id = f"{self._links:012x}"
        slug = self._world.kinds[key].slug or key
        uses = None if "expiresAt" in body else int(body.get("maxUsageCount", 1))
        self._world.links.append((key, uses == 1))
        link = {
            "linkId": id,
            "eventTypeId": int(event_type_id(self._world, key)),
            "isExpired": False,
            "bookingUrl": f"https://cal.com/d/{id}/{slug}",
        }
        link |= {"expiresAt": body["expiresAt"]} if uses is None else {"maxUsageCount": uses, "usageCount": 0}
        return done(link, 201)

    # Slots

    def _slots_key(self, query: Mapping[str, str]) -> str:
        if "organizationSlug" in query:
            slug = query["organizationSlug"]
            raise Refused(404, f"slots-input.service.ts: Organization with slug {slug} not found")
        if "teamSlug" in query:
            raise Refused(404, f"Team with slug {query['teamSlug']} not found")
        if query.get("username", shapes.USERNAME) != shapes.USERNAME:
            raise Refused(404, f"User with username {query['username']} not found")
        by_id = "eventTypeId" in query
        key = self._key(query["eventTypeId"]) if by_id else self._key_of_slug(query.get("eventTypeSlug"))
        if key is None:
            raise Refused(404, "Event Type not found")
        return key

    async def slots(self, request: Request) -> Answer:
        query = request.query_params
        key, zone = self._slots_key(query), query.get("timeZone", "UTC")
        start, end = instant(query["start"], time()), instant(query["end"], time(23, 59, 59))
        if end.time() == time():
            # Exactly midnight means the end of that day (calcom API v2 source slots-input.service.ts, 2025-07)
            end += timedelta(hours=23, minutes=59, seconds=59)
        if start >= end:
            raise Refused(400, "Invalid time range given - check the 'start' and 'end' query parameters.")
        # Slots later on the last day are told too, though outside what was asked (issue #24260, 2025-10)
        last = datetime.combine(end.astimezone(ZoneInfo(zone)).date(), time.max, ZoneInfo(zone))
        # Only a type of several lengths heeds `duration` (calcom API v2 document, 2026-03)
        wanted = int(query.get("duration", 0))
        lengths = self._sent.get(key, {}).get("lengthInMinutesOptions", [])
        minutes = wanted if wanted in lengths else self._world.kinds[key].minutes
        moving = next(iter(self._meetings().get(query.get("bookingUidToReschedule", ""), [])), None)
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for at in self._world.free(key, start, max(last, end), moving, minutes):
            slot: dict[str, Any] = {"start": shapes.local(at, zone)}
            if query.get("format") == "range":
                slot["end"] = shapes.local(at.astimezone(UTC) + timedelta(minutes=minutes), zone)
            if is_seated(self._world, key):
                slot |= self._seats_at(key, at)
            found[f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d}"].append(slot)
        return done(found)

    def _seats_at(self, key: str, at: datetime) -> dict[str, Any]:
        seats = self._world.kinds[key].seats
        live = [
            each for each in self._world.appointments.values() if each.live and (each.kind, each.start) == (key, at)
        ]
        told: dict[str, Any] = {
            "seatsBooked": len(live),
            "seatsRemaining": seats - len(live),
            "seatsTotal": seats,
        }
        return told | ({"bookingUid": live[0].event} if live else {})

    def _meetings(self) -> dict[str, list[str]]:
        """The appointments of each booking uid: several where they are seats."""
        found: dict[str, list[str]] = defaultdict(list)
        for id, each in self._world.appointments.items():
            found[each.event or id].append(id)
        return found

    # Schedules and calendars

    def _schedule(self) -> dict[str, Any]:
        return shapes.schedule(self._world, self._schedule_name)

    def _check_schedule(self, request: Request) -> None:
        if (id := request.path_params["id"]) != str(shapes.SCHEDULE_ID):
            raise Refused(404, f"Schedule with ID={id} does not exist.")

    async def schedules(self, _: Request) -> Answer:
        return done([self._schedule()])

    async def default_schedule(self, _: Request) -> Answer:
        return done(self._schedule())

    async def schedule(self, request: Request) -> Answer:
        self._check_schedule(request)
        return done(self._schedule())

    async def update_schedule(self, request: Request) -> Answer:
        self._check_schedule(request)
        body = await request.json()
        self._schedule_name = body.get("name", self._schedule_name)
        self._world.zone = body.get("timeZone", self._world.zone)
        # Lists replace wholly (calcom API v2 document, 2026-03)
        if "availability" in body:
            self._world.hours = shapes.world_hours(body["availability"])
        if "overrides" in body:
            self._world.overrides = shapes.world_overrides(body["overrides"])
        return done(self._schedule())

    async def calendars(self, _: Request) -> Answer:
        return done(shapes.calendars(self._broken_calendar))

    async def busy_times(self, request: Request) -> Answer:
        """Concrete calendars must be named; nothing gives all busy times (calcom/companion fix #75, 2026-08)."""
        query = request.query_params
        if self._broken_calendar:
            raise Refused(500, rules.UNREADABLE)
        zone = ZoneInfo(query.get("timeZone", query.get("loggedInUsersTz", "UTC")))
        start, end = (datetime.fromisoformat(query[name]).replace(tzinfo=zone) for name in ("dateFrom", "dateTo"))
        loaded = {value for name, value in query.items() if name.endswith("[externalId]")}
        busy = self._world.elsewhere if HOST_EMAIL in loaded else []
        return done(
            [
                {"start": stamp(begins), "end": stamp(ends), "source": "google_calendar"}
                for begins, ends in busy
                if begins < end + timedelta(days=1) and start < ends
            ]
        )
