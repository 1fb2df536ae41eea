"""What Cal ID's REST API tells of its user: event types, slots and hours. Bookings are in `calid`."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request

from tests.emulators import calid_shapes as shapes
from tests.emulators.calid_rules import Refused, instant, missing
from tests.emulators.calid_shapes import Answer, stamp
from tests.emulators.numbers import event_type_id, made_anew
from tests.world import DAYS, Kind, World

FIRST_ROW = 701
USERNAME = "host"


def done(data: Any, message: str | None = None, status: int = 200) -> Answer:
    told = {} if message is None else {"message": message}
    return Answer({"success": True, "data": data} | told, status)


def paged(
    found: Sequence[Any],
    query: Mapping[str, str],
    limit: int,
    message: str,
    shape: Callable[[Any], Any] = lambda each: each,
) -> Answer:
    """A page of what was found; `shape` is how each of it is shown."""
    page, limit = int(query.get("page", 1)), int(query.get("limit", limit))
    counted = {"page": page, "limit": limit, "total": len(found), "totalPages": -(-len(found) // limit)}
    shown = [shape(each) for each in found[(page - 1) * limit : page * limit]]
    return Answer({"success": True, "data": shown, "message": message, "meta": {"pagination": counted}})


@dataclass(frozen=True)
class Reservation:
    key: str
    start: datetime
    end: datetime
    until: datetime


@dataclass(frozen=True)
class Row:
    """Hours of some days of the week, or of one date."""

    id: int
    days: tuple[str, ...]
    hours: str
    date: str | None = None


class Catalog:
    def __init__(self, world: World, no_fields: bool) -> None:
        self._world = world
        self._no_fields = no_fields
        self._schedule_name = "Working Hours"
        self._sent: dict[str, dict[str, Any]] = defaultdict(dict)  # settings of event types that the world lacks
        self._noted: dict[str, dict[str, Any]] = defaultdict(dict)  # the same of appointments
        self._reserved: dict[str, Reservation] = {}
        self._reservations = 0
        self._kept: list[Row] = []
        self._row = FIRST_ROW

    async def me(self, _: Request) -> Answer:
        return done(shapes.me(), "User profile retrieved")

    # Event types

    def _type(self, key: str) -> dict[str, Any]:
        id = int(event_type_id(self._world, key))
        return shapes.event_type(id, key, self._world.kinds[key], self._sent.get(key, {}))

    def _key(self, id: object) -> str | None:
        return next((key for key in self._world.kinds if event_type_id(self._world, key) == str(id)), None)

    def _key_of_slug(self, slug: object) -> str | None:
        return next((key for key, kind in self._world.kinds.items() if (kind.slug or key) == slug), None)

    def _asked_key(self, request: Request) -> str:
        if (key := self._key(request.path_params["id"])) is None:
            raise missing("Event type")
        return key

    async def event_types(self, request: Request) -> Answer:
        query = request.query_params
        types = [self._type(key) for key in self._world.kinds]
        # Both contain what is asked, whatever the case (calid API source, 2025-09)
        for name in ("title", "slug"):
            types = [each for each in types if query.get(name, "").casefold() in each[name].casefold()]
        if "hidden" in query:
            types = [each for each in types if each["hidden"] == (query["hidden"] == "true")]
        by = query.get("orderBy", "id")
        # The newest first unless told otherwise (calid API source, 2025-09)
        types.sort(key=lambda each: each[by], reverse=query.get("orderDir", "desc") == "desc")
        return paged(types, query, 10, "Event types list retrieved successfully")

    async def event_type(self, request: Request) -> Answer:
        key = self._asked_key(request)
        # Told to one client, missed by another (2026)
        fields = {} if self._no_fields else {"bookingFields": shapes.booking_fields(self._world.kinds[key])}
        return done(self._type(key) | fields, "Event type details retrieved")

    def _keep(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if "slug" in body and self._key_of_slug(body["slug"]) not in (None, key):
            raise Refused(409, "Event type with this slug already exists for this user", "CONFLICT")
        # Also at PATCH what is omitted falls back to the default (measured on the API source, 2026-11)
        given = dict(shapes.DEFAULTS) | dict(body)
        before = self._world.kinds.get(key, Kind("", 0))
        self._world.kinds[key] = replace(before, **shapes.kind_changes(given))
        self._sent[key] |= {name: value for name, value in given.items() if name not in shapes.HELD}
        return self._type(key)

    async def create_event_type(self, request: Request) -> Answer:
        body = await request.json()
        key = body["slug"] if body["slug"] not in self._world.kinds else f"{body['slug']}-{len(self._world.kinds)}"
        if self._key_of_slug(body["slug"]) is None:
            made_anew(self._world, key)
            self._sent.pop(key, None)
        return done(self._keep(key, body), "Event type created successfully", 201)

    async def update_event_type(self, request: Request) -> Answer:
        shown = self._keep(self._asked_key(request), await request.json())
        return done(shown, "Event type updated successfully")

    async def delete_event_type(self, request: Request) -> Answer:
        del self._world.kinds[self._asked_key(request)]
        return done(None, "Event type deleted successfully")

    # Slots

    def _is_reserved(self, key: str, start: datetime, end: datetime) -> bool:
        now = self._world.clock.now()
        live = [each for each in self._reserved.values() if each.key == key and each.until > now]
        return any(each.start < end and start < each.end for each in live)

    async def slots(self, request: Request) -> Answer:
        query = request.query_params
        # A slug alone does not do (live client, 2026-09)
        owner, _, slug = query.get("eventTypeSlug", "").rpartition("/")
        named = self._key_of_slug(slug) if owner == USERNAME else None
        key = self._key(query["eventTypeId"]) if "eventTypeId" in query else named
        if key is None:
            raise Refused(500, "NOT_FOUND", thrown=True)
        zone, length = ZoneInfo(query.get("timeZone", "UTC")), timedelta(minutes=self._world.kinds[key].minutes)
        found: dict[str, list[dict[str, str]]] = defaultdict(list)
        # duration, format and bookingUidToReschedule are not used (calid API source, 2025-09)
        for at in self._world.free(key, instant(query["start"]), instant(query["end"])):
            if not self._is_reserved(key, at, at + length):
                found[f"{at.astimezone(zone):%Y-%m-%d}"].append({"time": stamp(at)})
        return done({"slots": found}, "User slots")

    def _reserve(self, uid: str, body: Mapping[str, Any]) -> Answer:
        """Looks at the event type's own bookings alone, not at the host's time (calid API source, 2025-09)."""
        key = self._key(body["eventTypeId"])
        if key is None:
            raise Refused(500, f"Event Type with ID={body['eventTypeId']} not found")
        if uid in self._reserved and self._reserved[uid].key != key:
            raise Refused(500, "Cannot change event type when editing a reservation")
        if "slotDuration" in body:
            words = "You passed 'slotDuration' but this event type is not a variable length event type."
            raise Refused(500, words)
        kind, start, now = self._world.kinds[key], instant(body["slotStart"]), self._world.clock.now()
        end = start + timedelta(minutes=kind.minutes)
        there = [each for each in self._world.appointments.values() if each.live and each.kind == key]
        there = [each for each in there if each.start < end and start < each.end]
        if kind.seats > 1 and len(there) >= kind.seats:
            raise Refused(500, "Booking has no more seats left")
        if there and kind.seats == 1:
            raise Refused(500, "Can't reserve a slot if the event is already booked.")
        if self._is_reserved(key, start, end):
            # A reservation that moves stands in its own way (calid API source, 2025-09)
            words = "This time slot is already reserved by another user. Please choose a different time."
            raise Refused(500, words)
        minutes = body.get("reservationDuration", 5)
        self._reserved[uid] = Reservation(key, start, end, now + timedelta(minutes=minutes))
        return done(
            {
                "eventTypeId": body["eventTypeId"],
                "slotStart": stamp(start),
                "slotEnd": stamp(end),
                "slotDuration": kind.minutes,
                "reservationUid": uid,
                "reservationDuration": minutes,
                "reservationUntil": stamp(now + timedelta(minutes=minutes)),
            }
        )

    def _asked_reservation(self, request: Request) -> str:
        uid: str = request.path_params["uid"]
        if uid not in self._reserved:
            raise missing("Slot")
        return uid

    async def reserve(self, request: Request) -> Answer:
        answer = self._reserve(f"3f0e6c0e-0000-4000-8000-{self._reservations + 1:012x}", await request.json())
        self._reservations += 1
        return answer

    async def reservation(self, request: Request) -> Answer:
        uid = self._asked_reservation(request)
        each = self._reserved[uid]
        shown = {
            "id": list(self._reserved).index(uid) + 1,
            "eventTypeId": int(event_type_id(self._world, each.key)),
            "userId": shapes.HOST_ID,
            "slotUtcStartDate": stamp(each.start),
            "slotUtcEndDate": stamp(each.end),
            "uid": uid,
            "releaseAt": stamp(each.until),
            "isSeat": False,
        }
        return done(shown, "Selected slot")

    async def move_reservation(self, request: Request) -> Answer:
        return self._reserve(self._asked_reservation(request), await request.json())

    async def release(self, request: Request) -> Answer:
        del self._reserved[self._asked_reservation(request)]
        return Answer({"success": True, "message": "Deleted slot"})

    # Hours

    def _rows(self) -> list[Row]:
        """The rows of the schedule, made anew when the world's hours were changed behind them."""
        weekly = [row for row in self._kept if row.date is None]
        dated = [row for row in self._kept if row.date is not None]
        if _hours(weekly) != {day: sorted(hours) for day, hours in self._world.hours.items() if hours}:
            grouped: dict[str, list[str]] = {}
            for day in DAYS:
                for hours in self._world.hours.get(day, []):
                    grouped.setdefault(hours, []).append(day)
            weekly = [self._new(tuple(days), hours) for hours, days in grouped.items()]
        overrides = [
            (date, hours) for date, given in self._world.overrides.items() for hours in given or ["00:00-00:00"]
        ]
        if [(row.date, row.hours) for row in dated] != overrides:
            dated = [self._new((), hours, date) for date, hours in overrides]
        self._kept = weekly + dated
        return self._kept

    def _new(self, days: tuple[str, ...], hours: str, date: str | None = None) -> Row:
        self._row += 1
        return Row(self._row - 1, days, hours, date)

    def _show_row(self, row: Row) -> dict[str, Any]:
        opens, closes = row.hours.split("-")
        return {
            "id": row.id,
            "userId": shapes.HOST_ID,
            "eventTypeId": None,
            "days": sorted(shapes.day_number(day) for day in row.days),
            "startTime": shapes.wire_time(opens),
            "endTime": shapes.wire_time(closes),
            "date": f"{row.date}T00:00:00.000Z" if row.date else None,
            "scheduleId": shapes.SCHEDULE_ID,
        }

    def _schedule(self) -> dict[str, Any]:
        return {
            "id": shapes.SCHEDULE_ID,
            "userId": shapes.HOST_ID,
            "name": self._schedule_name,
            "availability": [self._show_row(row) for row in self._rows()],
            "timeZone": self._world.zone,
        }

    async def schedules(self, _: Request) -> Answer:
        return done([self._schedule()], "User schedules retrieved")

    async def update_schedule(self, request: Request) -> Answer:
        if request.path_params["id"] != str(shapes.SCHEDULE_ID):
            raise Refused(403, "Forbidden", "FORBIDDEN")
        body = await request.json()
        self._schedule_name, self._world.zone = body["name"], body["timeZone"]
        return done(self._schedule(), "Schedule updated")

    def _write(self, rows: Iterable[Row]) -> None:
        self._kept = list(rows)
        self._world.hours = _hours(row for row in self._kept if row.date is None)
        dates: dict[str, list[str]] = {}
        for row in self._kept:
            if row.date:
                dates.setdefault(row.date, []).extend([] if row.hours == "00:00-00:00" else [row.hours])
        self._world.overrides = dates

    def _asked_row(self, request: Request) -> Row:
        asked = [row for row in self._rows() if str(row.id) == request.path_params["id"]]
        if not asked:
            raise Refused(403, "Forbidden", "FORBIDDEN")
        return asked[0]

    def _check_schedule(self, body: Mapping[str, Any]) -> None:
        if body["scheduleId"] != shapes.SCHEDULE_ID:
            raise Refused(403, "Forbidden", "FORBIDDEN")

    async def create_row(self, request: Request) -> Answer:
        body = await request.json()
        self._check_schedule(body)
        rows = self._rows()
        made = self._new(tuple(shapes.days_of(body["days"])), shapes.world_hours(body))
        self._write([*rows, made])
        return self._row_answer(made, "Availability created")

    async def update_row(self, request: Request) -> Answer:
        row, body = self._asked_row(request), await request.json()
        self._check_schedule(body)
        # The date of a row cannot be written (calid API source, 2025-09)
        made = replace(row, days=tuple(shapes.days_of(body["days"])), hours=shapes.world_hours(body))
        self._write(made if each == row else each for each in self._rows())
        return self._row_answer(made, "Availability updated")

    async def delete_row(self, request: Request) -> Answer:
        row = self._asked_row(request)
        self._write(each for each in self._rows() if each != row)
        return Answer({"success": True, "message": "Availability deleted"})

    def _row_answer(self, row: Row, message: str) -> Answer:
        return done(self._show_row(row) | {"Schedule": {"userId": shapes.HOST_ID}}, message)

    async def availability(self, request: Request) -> Answer:
        query = request.query_params
        start, end = instant(query["dateFrom"]), instant(query["dateTo"])
        live = [each for each in self._world.appointments.values() if each.live]
        busy = [
            {"start": stamp(each.start), "end": stamp(each.end), "title": self._title(each.kind)}
            for each in live
            if each.start < end and start < each.end
        ]
        busy += [{"start": stamp(at), "end": stamp(to)} for at, to in self._world.elsewhere if at < end and start < to]
        open_hours = list(self._open(start, end))
        weekly = [row for row in self._rows() if row.date is None]
        shown: dict[str, Any] = {
            "busy": busy,
            "timeZone": self._world.zone,
            "dateRanges": [{"start": stamp(at), "end": stamp(to)} for at, to in open_hours],
            "oooExcludedDateRanges": [{"start": stamp(at), "end": stamp(to)} for at, to in open_hours],
            "workingHours": [_minutes(row) for row in weekly],
            "dateOverrides": [_override(row) for row in self._rows() if row.date],
            "currentSeats": None,
            "datesOutOfOffice": {},
        }
        return done(shown, "User availability retrieved")

    def _title(self, key: str) -> str:
        return self._world.kinds[key].title if key in self._world.kinds else key

    def _open(self, start: datetime, end: datetime) -> Iterable[tuple[datetime, datetime]]:
        zone = ZoneInfo(self._world.zone)
        day = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        while day < end:
            for opens, closes in self._world._open(day):
                if opens < end and start < closes:
                    yield max(opens, start), min(closes, end)
            day += timedelta(days=1)


def _hours(rows: Iterable[Row]) -> dict[str, list[str]]:
    hours: dict[str, list[str]] = {}
    for row in rows:
        for day in row.days:
            hours[day] = sorted([*hours.get(day, []), row.hours])
    return hours


def _minutes(row: Row) -> dict[str, Any]:
    """Minutes from midnight (live client, 2026)."""
    opens, closes = (int(clock[:2]) * 60 + int(clock[3:]) for clock in row.hours.split("-"))
    days = sorted(shapes.day_number(day) for day in row.days)
    return {"days": days, "startTime": opens, "endTime": closes, "userId": shapes.HOST_ID}


def _override(row: Row) -> dict[str, Any]:
    opens, closes = row.hours.split("-")
    day = datetime.fromisoformat(f"{row.date}T00:00").replace(tzinfo=UTC)
    times = [day + timedelta(hours=int(clock[:2]), minutes=int(clock[3:])) for clock in (opens, closes)]
    return {"start": stamp(times[0]), "end": stamp(times[1]), "userId": shapes.HOST_ID}
