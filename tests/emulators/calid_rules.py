"""What Cal ID's REST API refuses, and in which words. Which routes there are is in `calid`."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from starlette.requests import Request

from tests.emulators.calid_shapes import Answer, stamp
from tests.emulators.contract import Contract
from tests.world import Kind, World

CONTRACT = Contract(Path(__file__).with_name("calid_schema.json"))
NAMES = {400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}
NO_ROUTE = "no such operation"
NO_BODY = "Body cannot be empty when content-type is set to 'application/json'"
# Only the root of a group is also answered without its slash (measured on the API source, 2026-11)
ROOTS = ("/booking", "/event-types", "/slots", "/schedule", "/availability")
NUMBERED = re.compile(r"/(booking|event-types|schedule|availability)/([^/]+)(/.*)?")
# These declare what a 400 looks like, in which Fastify's own does not fit (calid API source, 2025-09)
MASKED = re.compile(r"(GET|POST|PATCH|DELETE) /event-types.*|(POST|PATCH) /booking.*")
WORDS = (
    (r"'(\w+)' is a required property", r"must have required property '\1'"),
    (r"does not match '\^\[1-9\]", "must be integer"),
    (r"is not of type (.*)", r"must be \1"),
    (r"is greater than the maximum of (.*)", r"must be <= \1"),
    (r"is less than the minimum of (.*)", r"must be >= \1"),
    (r"is not one of", "must be equal to one of the allowed values"),
    (r"is not a '(.*)'", r'must match format "\1"'),
    (r"is too short", "must NOT have fewer characters"),
    (r"is too long", "must NOT have more characters"),
)


class Refused(Exception):
    """The service says no. A `thrown` refusal is Fastify's own, without the envelope."""

    def __init__(self, status: int, message: str, code: str = "INTERNAL_ERROR", thrown: bool = False) -> None:
        # Most refusals have no code of their own and so this one, even at 400 (calid API source, 2025-09)
        super().__init__(message)
        self.status, self.message, self.code, self.thrown = status, message, code, thrown

    def answer(self) -> Answer:
        if self.thrown:
            return fastify(self.status, self.message)
        error = {"code": self.code, "message": self.message}
        return Answer({"success": False, "message": self.message, "error": error}, self.status)


def fastify(status: int, message: str, code: str | None = None) -> Answer:
    body: dict[str, Any] = {"statusCode": status, "error": NAMES[status], "message": message}
    return Answer(body | ({"code": code} if code else {}), status)


def missing(what: str) -> Refused:
    return Refused(404, f"{what} not found", "NOT_FOUND")


def masked(message: str) -> Answer:
    """Fastify's error in a route whose schema of errors it does not fit (measured on the API source, 2026-11)."""
    why = f'Failed to serialize an error. Error: "success" is required!. Original error: {message}'
    return Answer({"statusCode": 500, "code": "FST_ERR_FAILED_ERROR_SERIALIZATION", "message": why}, 500)


class CalidDialect:
    def __init__(self, world: World, masked_errors: bool) -> None:
        self._world, self._masked = world, masked_errors

    def unauthorized(self, request: Request) -> Answer:
        # Without the prefix a token is taken for an OAuth one (calid API source, 2025-09)
        given = request.headers.get("authorization", "")
        known = "Invalid API key" if given.startswith("Bearer calid_") else "Invalid bearer token"
        why = known if given.startswith("Bearer ") else "Bearer token required"
        return masked(why) if self._masked else Refused(401, why, "UNAUTHORIZED").answer()

    def too_many(self, request: Request, reset: int) -> Answer:
        # The instant of the reset is taken for a duration, so Retry-After is an epoch (calid API source, 2025-09)
        instant = self._world.clock.now() + timedelta(seconds=reset)
        seconds = int(instant.timestamp())
        body = {
            "error": "Rate limit exceeded",
            "message": "Too many requests. Please try again later.",
            "retryAfter": seconds,
        }
        late = self._world.clock.now() + timedelta(seconds=seconds)
        return Answer(body, 429, {"X-RateLimit-Reset": stamp(late), "Retry-After": str(seconds)})

    def limits(self, limit: int, remaining: int, reset: int) -> Mapping[str, str]:
        """Without the reset (calid API source rateLimit.ts, 2025-09)."""
        return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(remaining)}

    def refuse(self, request: Request, body: Any) -> str | None:
        path = request.url.path
        rooted = Request(dict(request.scope) | {"path": f"{path}/"}) if path in ROOTS else request
        why = CONTRACT.refuse(rooted, body)
        if why == NO_ROUTE:
            return why
        # Paths take the number of a booking, never its uid (measured on the API source, 2026-11)
        if (found := NUMBERED.fullmatch(path)) and not re.fullmatch(r"[1-9]\d*", found[2]):
            return f"params/{'id' if found[1] in ('booking', 'event-types') else found[1]} must be integer"
        if body is None and request.method != "GET":
            if request.headers.get("content-type", "").startswith("application/json"):
                return NO_BODY
            if request.method != "DELETE":
                return "body must be object"
        if why is None and isinstance(body, Mapping):
            zone = body.get("timeZone")
            return None if zone is None or zone in available_timezones() else "body/timeZone Invalid timezone"
        return why

    def malformed(self, request: Request, why: str) -> Answer:
        method, path = request.method, request.url.path
        if why == NO_ROUTE:
            message = f"Route {method}:{path} not found"
            return Answer({"message": message, "error": "Not Found", "statusCode": 404}, 404)
        if why == NO_BODY:
            return fastify(400, why, "FST_ERR_CTP_EMPTY_JSON_BODY")
        told = ajv(why)
        if path.rstrip("/") == "/booking" and method == "POST" and "date-time" in told:
            return Refused(400, "Validation failed: Invalid datetime").answer()
        if self._masked and MASKED.fullmatch(f"{method} {path}"):
            return masked(told)
        return fastify(400, told, "FST_ERR_VALIDATION")


def ajv(why: str) -> str:
    """What the schema says, in the words of the real validator where they are known."""
    if why.startswith("query "):
        name, _, text = why.removeprefix("query ").partition(": ")
        if text == "is required":
            return f"querystring must have required property '{name}'"
        where, text = f"querystring/{name}", text.removeprefix("$: ")
    elif why.startswith("body $"):
        path, _, text = why.removeprefix("body $").partition(": ")
        where = "body" + re.sub(r"[.\[]", "/", path).replace("]", "")
    else:
        return why
    for pattern, words in WORDS:
        if found := re.search(pattern, text):
            return f"{where} {found.expand(words)}".replace("'integer'", "integer").replace("'string'", "string")
    return f"{where} {text}"


def instant(text: str) -> datetime:
    """A date alone is midnight UTC, as in JavaScript."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def unbookable(world: World, key: str, start: datetime) -> str:
    """Why a time cannot be had, in the words of the engine (calid source errorCodes.ts, 2025-09)."""
    kind = world.kinds[key]
    if start < world.clock.now() + timedelta(minutes=kind.notice):
        return "booking_time_out_of_bounds_error"
    there = [each for each in world.appointments.values() if each.live and (each.kind, each.start) == (key, start)]
    return "booking_seats_full_error" if len(there) >= kind.seats > 1 else "no_available_users_found_error"


def check_responses(kind: Kind, responses: Mapping[str, Any]) -> None:
    """Questions without an answer come out as the validator's text (calid source handleNewBooking, 2025-09)."""
    found = []
    for question in kind.questions:
        slug, answer = question["key"], responses.get(question["key"])
        if answer in (None, "", []):
            if question.get("required"):
                found.append(f"{{{slug}}}error_required_field")
        elif question["type"] in ("choices", "multiselect", "checkbox"):
            if not isinstance(answer, list):
                found.append(f"{{{slug}}}Invalid array of strings")
        elif question["type"] not in ("boolean", "number") and not isinstance(answer, str):
            found.append(f"{{{slug}}}Invalid string")
    if found:
        issues = [{"code": "custom", "message": each, "path": ["responses"]} for each in found]
        raise Refused(500, json.dumps(issues, indent=2))
