"""What Cal.com's API v2 refuses, and in which words. Which routes there are is in `calcom`."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from starlette.requests import Request

from tests.emulators.calcom_shapes import Answer, local, locations, stamp
from tests.emulators.contract import Contract
from tests.world import Kind, World

CONTRACT = Contract(Path(__file__).with_name("calcom_schema.json"))
CODES = {
    400: ("BadRequestException", "Bad Request"),
    401: ("UnauthorizedException", "Unauthorized"),
    404: ("NotFoundException", "Not Found"),
    409: ("ConflictException", "Conflict"),
    429: ("ThrottlerException", "Too Many Requests"),
    500: ("InternalServerErrorException", "Internal Server Error"),
}
PAST = "Attempting to book a meeting in the past."
OUT_OF_BOUNDS = (
    "The event type can't be booked at the \"start\" time provided. This could be because it's too soon (violating "
    "the minimum booking notice) or too far in the future (outside the event's scheduling window). Try fetching "
    'available slots first using the GET /v2/slots endpoint and then make a booking with "start" time equal to one of '
    "the available slots: https://cal.com/docs/api-reference/v2/slots"
)
TAKEN = "User either already has booking at this time or is not available"
FULL = "No more seats left at this seated booking."
NO_SELECTOR = "Either eventTypeId or eventTypeSlug + username or eventTypeSlug + teamSlug must be provided"
NO_CONTACT = "Attendee must have at least one contact method (email or phone number)"
SINGLE_LENGTH = (
    "Can't specify 'lengthInMinutes' because event type does not have multiple possible lengths. Please, remove the "
    "'lengthInMinutes' field from the request."
)
BAD_METADATA = (
    "Metadata must have at most 50 keys, each key up to 40 characters, and string values up to 500 characters."
)
NO_SEAT = "Invalid seatUid: this seat does not exist or has already been cancelled."
NO_REASON = "Cancellation reason is required when you are the host"
ENDED = "Cannot cancel a booking that has already ended"
UNREADABLE = "Unable to fetch connected calendars events."
# Which parameters of GET /v2/slots go with which selector (calcom API v2 source get-slots-input.pipe.ts, 2025-07)
SELECTORS = (
    {"eventTypeId"},
    {"eventTypeSlug", "username", "organizationSlug"},
    {"eventTypeSlug", "teamSlug", "organizationSlug"},
    {"usernames", "organizationSlug"},
)
# These have a validation of their own with messages in one line (calcom API v2 source, 2025-07)
OWN_PIPES = re.compile(r"/v2/(slots|bookings|bookings/[^/]+/(reschedule|cancel))")


class Refused(Exception):
    """The service says no. A `bare` refusal passes the error filters by and has another shape."""

    def __init__(self, status: int, message: str, code: str | None = None, bare: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.bare = status, message, code, bare

    def answer(self, request: Request, now: datetime) -> Answer:
        if self.bare:
            # An HttpError of the library that no filter catches (calcom API v2 e2e tests, 2025-07)
            body: dict[str, Any] = {"statusCode": self.status, "message": self.message}
            return Answer(body, self.status, {"X-Request-Id": request_id(now)})
        details = {"message": self.message, "error": CODES[self.status][1], "statusCode": self.status}
        # The tRPC filter leaves `details` out (calcom API v2 source, 2025-07)
        return failed(request, now, self.status, self.message, None if self.code else details, self.code)


def failed(
    request: Request,
    now: datetime,
    status: int,
    message: str,
    details: Mapping[str, Any] | None,
    code: str | None = None,
) -> Answer:
    """The shape of all but library errors (calcom API v2 source http-exception.filter.ts, 2025-07)."""
    error = {"code": code or CODES[status][0], "message": message} | ({"details": details} if details else {})
    body = {"status": "error", "timestamp": stamp(now), "path": target(request), "error": error}
    return Answer(body, status, {"X-Request-Id": request_id(now)})


def request_id(now: datetime) -> str:
    return f"req-{int(now.timestamp() * 1000):x}"


def target(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


class CalcomDialect:
    def __init__(self, world: World) -> None:
        self._world = world

    def _no(self, request: Request, status: int, message: str) -> Answer:
        return Refused(status, message).answer(request, self._world.clock.now())

    def unauthorized(self, request: Request) -> Answer:
        # A wrong key dies in the throttler already (calcom API v2 source throttler-guard.ts, 2025-07)
        return self._no(request, 401, "CustomThrottlerGuard - Invalid API Key")

    def too_many(self, request: Request, reset: int) -> Answer:
        # No Retry-After (calcom API v2 source throttler-guard.ts, 2025-07)
        return self._no(request, 429, "CustomThrottlerGuard - Too many requests. Please try again later.")

    def limits(self, limit: int, remaining: int, reset: int) -> Mapping[str, str]:
        """`Reset` is in seconds (calcom API v2 source throttler-guard.ts, 2025-07)."""
        values = {"Limit": limit, "Remaining": remaining, "Reset": reset}
        return {f"X-RateLimit-{name}-Default": str(value) for name, value in values.items()}

    def refuse(self, request: Request, body: Any) -> str | None:
        return CONTRACT.refuse(request, body) or next(iter(_unsaid(request, body or {})), None)

    def malformed(self, request: Request, why: str) -> Answer:
        if why.startswith(("header", "no such operation")):
            # Nest finds no route for that version (calcom/companion config.ts, 2026-08)
            return self._no(request, 404, f"Cannot {request.method} {target(request)}")
        if NO_SELECTOR in why:
            return self._no(request, 400, NO_SELECTOR)
        constraints = _constraints(why)
        if OWN_PIPES.fullmatch(request.url.path) and (request.method, request.url.path) != ("GET", "/v2/bookings"):
            told = ", ".join(f"{name} property is wrong,{text} " for name, text in constraints)
            return self._no(request, 400, told)
        errors = [{"property": name, "children": [], "constraints": {"rule": text}} for name, text in constraints]
        return failed(request, self._world.clock.now(), 400, "Bad Request Exception", {"errors": errors})


def _unsaid(request: Request, body: Mapping[str, Any]) -> list[str]:
    """What the validation refuses and the published schema does not say."""
    query, call = request.query_params, f"{request.method} {request.url.path}"
    zones = [(f"query {name}", query[name]) for name in ("timeZone", "loggedInUsersTz") if name in query]
    zones += [("body $.timeZone", body["timeZone"])] if "timeZone" in body else []
    wrong = []
    if call == "GET /v2/slots":
        given = {name for name in query if any(name in each for each in SELECTORS)}
        by = next((each for each in SELECTORS if each & given - {"organizationSlug", "eventTypeSlug"}), SELECTORS[-1])
        wrong += [f"query {name}: is not known" for name in sorted(given - by)]
        needed = by & {"eventTypeSlug"} or by & {"usernames"}
        wrong += [f"query {name}: must be a string" for name in sorted(needed - given)]
        if "usernames" in query and query["usernames"].count(",") == 0:
            wrong.append("query usernames: The array must contain at least 2 elements.")
    if call == "POST /v2/bookings":
        slug = "eventTypeSlug" in body and ("username" in body or "teamSlug" in body)
        wrong += [] if "eventTypeId" in body or slug else [f"body $: {NO_SELECTOR}"]
        contact = "email" in body["attendee"] or "phoneNumber" in body["attendee"]
        wrong += [] if contact else [f"body $.attendee: {NO_CONTACT}"]
        zones.append(("body $.attendee.timeZone", body["attendee"]["timeZone"]))
    return wrong + [f"{where}: must be a valid IANA time-zone" for where, zone in zones if not _is_zone(zone)]


def _is_zone(name: str) -> bool:
    return name in available_timezones()


def _constraints(why: str) -> list[tuple[str, str]]:
    """Each property that is wrong, and how the vendor says so."""
    where, _, text = why.partition(": ")
    name = where.removeprefix("query ").removeprefix("body $").split(".")[-1] or "body"
    if text == "is not known":
        return [(name, f"property {name} should not exist")]
    if text.startswith("Additional properties"):
        return [(each, f"property {each} should not exist") for each in re.findall(r"'([^']+)'", text)]
    if where.startswith("body $.metadata"):
        return [("metadata", BAD_METADATA)]
    if missing := re.fullmatch(r"'(.+)' is a required property", text):
        name = missing[1]
    if name in ("start", "end"):
        text = f"{name} must be a valid ISO 8601 date string"
    elif text == "must be a valid IANA time-zone":
        text = f"{name} {text}"
    return [(name, text)]


# The rules of POST /v2/bookings in the order in which they are checked (calcom API v2 source input.service.ts, 2025-07)


def check_length(body: Mapping[str, Any], sent: Mapping[str, Any]) -> int | None:
    wanted, lengths = body.get("lengthInMinutes"), sent.get("lengthInMinutesOptions")
    if wanted and not lengths:
        raise Refused(400, SINGLE_LENGTH)
    if wanted and lengths and wanted not in lengths:
        possible = ", ".join(str(each) for each in lengths)
        raise Refused(
            400,
            "Provided 'lengthInMinutes' is not one of the possible lengths for the event type. The possible lengths "
            f"are: {possible}",
        )
    return int(wanted) if wanted else None


def check_responses(body: Mapping[str, Any], kind: Kind, id: int) -> dict[str, Any]:
    given = body.get("bookingFieldsResponses", {})
    for question in kind.questions:
        slug, type = question["key"], question["type"]
        if given.get(slug) in (None, "", []):
            if question.get("required"):
                raise Refused(
                    400,
                    f"Missing required booking field response: {slug} - it is required by the event type booking "
                    "fields, but missing in the bookingFieldsResponses. You can fetch the event type with ID "
                    f"{id} to see the required fields.",
                )
            continue
        _check_response(slug, type, list(question.get("options", ())), given[slug])
    return dict(given)


def _check_response(slug: str, type: str, options: list[str], value: Any) -> None:
    several = type in ("choices", "multiselect", "checkbox")
    expected: Any = (
        list if several or type == "multiemail" else {"number": (int, float), "boolean": bool}.get(type, str)
    )
    if not isinstance(value, expected) or (type == "number" and isinstance(value, bool)):
        named = "array" if expected is list else type if type in ("number", "boolean") else "string"
        field = {"choice": "select", "choices": "multiselect", "long_text": "textarea", "email": "text"}.get(type, type)
        kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
        received = next((name for each, name in kinds.items() if isinstance(value, each)), "object")
        raise Refused(
            400,
            f"Invalid type for booking field '{slug}'. Expected type {named} (compatible with field type '{field}'), "
            f"but received {received}.",
        )
    allowed = ", ".join(options)
    if type in ("choice", "select", "radio") and value not in options:
        raise Refused(400, f"Invalid option '{value}' for booking field '{slug}'. Allowed options are: {allowed}.")
    if several and any(each not in options for each in value):
        raise Refused(400, f"One or more invalid options for booking field '{slug}'. Allowed options are: {allowed}.")


def check_location(body: Mapping[str, Any], kind: Kind, sent: Mapping[str, Any], id: int) -> dict[str, Any]:
    """The location of the booking: the first of the event type's unless one is asked for."""
    configured = locations(kind, sent)
    if "location" not in body:
        return configured[0] if configured else {"type": "integration", "integration": "cal-video"}
    asked: Mapping[str, Any] = body["location"]
    of_type = [each for each in configured if each["type"] == asked["type"]]
    if not of_type:
        types = ", ".join(each["type"] for each in configured)
        raise Refused(
            400,
            f"Booking location with type {asked['type']} not valid for event type with id={id}. The event type has "
            f"following location types: {types}, and only these types are allowed for booking location.",
        )
    if asked["type"] == "integration" and dict(asked) not in of_type:
        apps = ", ".join(each["integration"] for each in of_type)
        raise Refused(
            400,
            f"Booking location with integration {asked['integration']} not valid for event type with id={id}. The "
            f"event type has following integrations: {apps}, and only these are allowed for booking location.",
        )
    return of_type[0] | dict(asked)


def place(where: Mapping[str, Any]) -> str:
    """What the world calls a location."""
    names = ("address", "location", "phone", "link", "integration")
    return next((str(where[name]) for name in names if name in where), json.dumps(dict(where)))


def too_early_to_judge(now: datetime, start: datetime) -> Refused:
    return Refused(
        400,
        "Bookings can only be marked as absent after their scheduled start time. Current time in UTC+0: "
        f"{local(now, 'UTC')}, Booking start time in UTC+0: {local(start, 'UTC')}",
    )


def instant(text: str, at: time = time()) -> datetime:
    """A date means `at` of that day in UTC (calcom API v2 source, 2025-07)."""
    given = datetime.fromisoformat(text)
    return given.astimezone(UTC) if given.tzinfo else datetime.combine(given, at, UTC)


# Which bookings a list has


def is_in(state: str, each: Mapping[str, Any], now: str) -> bool:
    """What the states of the list mean (calcom source bookings/get.handler.ts, 2025-07)."""
    over, dead = each["end"] <= now, each["status"] in ("cancelled", "rejected")
    return {
        "upcoming": each["end"] >= now and not dead,
        "recurring": "recurringBookingUid" in each and not over and not dead,
        "past": over and not dead,
        "cancelled": dead,
        "unconfirmed": each["status"] == "pending" and not over,
    }[state]


def matches(each: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    emails = [person["email"] for person in each["attendees"]]
    names = [person["name"] for person in each["attendees"]]
    types = query.get("eventTypeIds", query.get("eventTypeId"))

    def bound(name: str) -> str:
        return stamp(instant(query[name]))

    return all(
        (
            "attendeeEmail" not in query or query["attendeeEmail"] in emails,
            "attendeeName" not in query or query["attendeeName"] in names,
            "bookingUid" not in query or query["bookingUid"] == each["uid"],
            types is None or str(each["eventTypeId"]) in types.split(","),
            "teamId" not in query and "teamsIds" not in query,
            "afterStart" not in query or each["start"] >= bound("afterStart"),
            "beforeEnd" not in query or each["end"] <= bound("beforeEnd"),
            "afterCreatedAt" not in query or each["createdAt"] >= bound("afterCreatedAt"),
            "beforeCreatedAt" not in query or each["createdAt"] <= bound("beforeCreatedAt"),
            "afterUpdatedAt" not in query or updated(each) >= bound("afterUpdatedAt"),
            "beforeUpdatedAt" not in query or updated(each) <= bound("beforeUpdatedAt"),
        )
    )


def updated(each: Mapping[str, Any]) -> str:
    return str(each["updatedAt"] or each["createdAt"])


def page(found: Sequence[dict[str, Any]], take: int, skip: int) -> dict[str, Any]:
    total, shown = len(found), found[skip : skip + take]
    return {
        "status": "success",
        "data": shown,
        "pagination": {
            "returnedItems": len(shown),
            "totalItems": total,
            "itemsPerPage": take,
            "remainingItems": max(0, total - skip - take),
            "currentPage": skip // take + 1,
            "totalPages": -(-total // take),
            "hasNextPage": skip + take < total,
            "hasPreviousPage": skip > 0,
        },
    }
