"""What Google refuses, and in which words: the dialect, the checks of an event, and the token endpoint."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.emulators.contract import Contract
from tests.emulators.google_events import (
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPES,
    Calendars,
    Grant,
    instant,
    recurrence_rule,
    starts,
)
from tests.emulators.google_shapes import Json
from tests.world import HOST_EMAIL, World

CONTRACT = Contract(Path(__file__).with_name("google_schema.json"))
ZONES = available_timezones()
REALM = 'Bearer realm="https://accounts.google.com/"'
TOKEN_URI, JWT_GRANT = "https://oauth2.googleapis.com/token", "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = timedelta(hours=1)
BAD_ID = "Invalid resource id value."
NO_START, NO_END = "Missing start time.", "Missing end time."
MIXED = "Start and end times must either both be date or both be dateTime."
NO_ZONE = "Missing time zone definition for start time."
BAD_ZONE = "Invalid time zone definition for start time."
EMPTY = "The specified time range is empty."
TOO_LONG = "The requested time range is too long."
BAD_RULE = "Invalid recurrence rule."
BAD_REMINDERS = "Cannot specify both default reminders and overrides at the same time."
BAD_STATUS_EVENT = "Invalid status event."
BAD_CONFERENCE = "Invalid conference type value."
BAD_BOUNDS = "Bad Request"
# The reason that goes with a message, and the domain (guide on errors; openclaw/gogcli#347 and #97, 2026)
REASONS = {
    NO_START: ("global", "required"),
    NO_END: ("global", "required"),
    NO_ZONE: ("global", "required"),
    EMPTY: ("calendar", "timeRangeEmpty"),
    TOO_LONG: ("calendar", "timeRangeTooLong"),
    BAD_REMINDERS: ("calendar", "cannotUseDefaultRemindersAndSpecifyOverride"),
    BAD_BOUNDS: ("global", "badRequest"),
}
SERVER_HEADERS = {
    "Server": "ESF",
    "Vary": "Origin, X-Origin, Referer",
    "Cache-Control": "private",
    "X-XSS-Protection": "0",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
}

# Which scopes do, after .../auth/ (discovery document, 2026-10)
WRITING = ("calendar", "calendar.events", "calendar.events.owned", "calendar.app.created")
READING = (
    *WRITING,
    "calendar.readonly",
    "calendar.events.readonly",
    "calendar.events.owned.readonly",
    "calendar.events.freebusy",
    "calendar.events.public.readonly",
)
LISTING = ("calendar", "calendar.readonly", "calendar.calendarlist", "calendar.calendarlist.readonly")
SETTINGS = ("calendar", "calendar.readonly", "calendar.settings", "calendar.settings.readonly")
ENOUGH = {
    "Events.Insert": WRITING,
    "Events.Update": WRITING,
    "Events.Patch": WRITING,
    "Events.Delete": WRITING,
    "Events.Get": READING,
    "Events.List": READING,
    "Events.Instances": READING,
    "Freebusy.Query": ("calendar", "calendar.readonly", "calendar.freebusy", "calendar.events.freebusy"),
    "CalendarList.List": LISTING,
    "CalendarList.Get": (*LISTING, "calendar.app.created"),
    "Calendars.Get": (
        "calendar",
        "calendar.readonly",
        "calendar.app.created",
        "calendar.calendars",
        "calendar.calendars.readonly",
    ),
    "Settings.List": SETTINGS,
    "Settings.Get": SETTINGS,
}


class Refused(Exception):
    """The service says no; `where` is the type and the name of what is to blame."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        domain: str = "global",
        where: tuple[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.domain = status, reason, message, domain
        self.where, self.more, self.headers = where, more or {}, headers

    def answer(self) -> Response:
        """The shape of errors (guide on errors, 2026)."""
        error = {"domain": self.domain, "reason": self.reason, "message": self.message}
        error |= {"locationType": self.where[0], "location": self.where[1]} if self.where else {}
        body = {"error": {"errors": [error], "code": self.status, "message": self.message} | dict(self.more)}
        return JSONResponse(body, self.status, self.headers)


def bad(message: str, where: tuple[str, str] | None = None) -> Refused:
    domain, reason = REASONS.get(message, ("global", "invalid"))
    return Refused(400, reason, message, domain, where)


def not_found() -> Refused:
    return Refused(404, "notFound", "Not Found")


def few_scopes(method: str) -> Refused:
    """analogdotnow/Analog#296 (2025-08); the header as in mtanda/grafana-google-calendar-datasource#22 (2019-11)."""
    message = "Request had insufficient authentication scopes."
    metadata = {"service": "calendar-json.googleapis.com", "method": f"calendar.v3.{method}"}
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": metadata,
    }
    wanted = " ".join(SCOPES + each for each in ENOUGH[method])
    return Refused(
        403,
        "insufficientPermissions",
        "Insufficient Permission",
        more={"message": message, "status": "PERMISSION_DENIED", "details": [info]},
        headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{wanted}"'},
    )


class GoogleDialect:
    def __init__(self, limit_as: int, retry_after: bool) -> None:
        self._limit_as, self._retry_after = limit_as, retry_after

    def unauthorized(self, request: Request) -> Response:
        known = "authorization" in request.headers
        headers = {"WWW-Authenticate": REALM + (', error="invalid_token"' if known else "")}
        where = ("header", "Authorization")
        return Refused(401, "authError", "Invalid Credentials", where=where, headers=headers).answer()

    def too_many(self, request: Request, reset: int) -> Response:
        """403 or 429, both in use (quota guide, 2026). No Retry-After is documented."""
        headers = {"Retry-After": str(reset)} if self._retry_after else None
        message = "Rate Limit Exceeded"
        return Refused(self._limit_as, "rateLimitExceeded", message, "usageLimits", headers=headers).answer()

    def limits(self, limit: int, remaining: int, reset: int) -> Mapping[str, str]:
        """Google does not tell how much is left (quota guide, 2026)."""
        return SERVER_HEADERS

    def refuse(self, request: Request, body: Any) -> str | None:
        """Also what the discovery document only says in prose."""
        if request.method in ("POST", "PUT") and "/events" in request.url.path and isinstance(body, dict):
            if request.method == "POST" and "id" in body and not re.fullmatch(r"[0-9a-v]{5,1024}", str(body["id"])):
                return BAD_ID
            for name, missing in (("start", NO_START), ("end", NO_END)):
                if not body.get(name):
                    return missing
        if why := CONTRACT.refuse(request, body):
            return why
        if isinstance(body, dict) and "/events" in request.url.path:
            return wrong_event(body, whole=request.method != "PATCH")
        if request.url.path.endswith("/freeBusy"):
            return wrong_window(body)
        if "syncToken" in request.query_params:
            fixed = ("iCalUID", "orderBy", "privateExtendedProperty", "q", "sharedExtendedProperty")
            given = any(name in request.query_params for name in (*fixed, "timeMin", "timeMax", "updatedMin"))
            if given or request.query_params.get("showDeleted") == "false":
                return "Sync token cannot be used with other restrictions."
        return None

    def malformed(self, request: Request, why: str) -> Response:
        if found := re.match(r"query (\w+): ", why):
            if found[1] in ("timeMin", "timeMax", "updatedMin"):
                # Without an offset (openclaw/openclaw#104, noted 2026-11)
                return bad(BAD_BOUNDS).answer()
            where = ("parameter", found[1])
            return Refused(400, "invalidParameter", why.removeprefix(f"{found[0]}$: "), where=where).answer()
        return bad(why, ("parameter", "timeMax") if why == EMPTY else None).answer()


def wrong_window(body: Mapping[str, Any]) -> str | None:
    begin, end = (datetime.fromisoformat(body[name]) for name in ("timeMin", "timeMax"))
    if body.get("timeZone", "UTC") not in ZONES:
        return "Invalid time zone."
    # The true limit is not published: callers split at 90 days (calcom/cal.diy#11962, noted 2026-11)
    return EMPTY if end <= begin else TOO_LONG if end - begin > timedelta(days=90) else None


def wrong_event(event: Mapping[str, Any], whole: bool) -> str | None:
    """What is wrong with an event, of which PATCH sends a part."""
    start, end = event.get("start") or {}, event.get("end") or {}
    sides = [{name: value for name, value in each.items() if value is not None} for each in (start, end) if each]
    for each in sides:
        if "timeZone" in each and each["timeZone"] not in ZONES:
            return BAD_ZONE
        # An offset, or else a zone (discovery document, EventDateTime.dateTime, 2026-10)
        if "dateTime" in each and "timeZone" not in each and datetime.fromisoformat(each["dateTime"]).tzinfo is None:
            return NO_ZONE
        if whole and ("date" in each) == ("dateTime" in each):
            return MIXED
    if len(sides) == 2 and ("date" in sides[0]) != ("date" in sides[1]):
        return MIXED
    reminders = event.get("reminders") or {}
    if reminders.get("useDefault") and reminders.get("overrides"):
        return BAD_REMINDERS
    if lines := event.get("recurrence"):
        if whole and start.get("dateTime") and not start.get("timeZone"):
            return NO_ZONE
        # Other frequencies are beyond this emulator
        if recurrence_rule(lines).get("FREQ") not in ("DAILY", "WEEKLY"):
            return BAD_RULE
    return None


def check_kept(calendars: Calendars, calendar_id: str, event: Json, before: Json | None = None) -> None:
    """Whether an event may be kept as it would be after a change."""
    if why := wrong_event(event, whole=True):
        raise bad(why)
    zone = calendars.zone(calendar_id)
    begins, ends = instant(event["start"], zone), instant(event["end"], zone)
    # A timed event may take no time, the exclusive end of a day is the next day
    if ends < begins or ("date" in event["start"] and ends == begins):
        raise bad(EMPTY, ("parameter", "timeMax"))
    if "recurrence" in event:
        try:
            next(starts(event, zone), None)
        except (ValueError, KeyError):
            raise bad(BAD_RULE) from None
    kind = event.get("eventType", "default")
    # It cannot be modified (discovery document, Event.eventType, 2026-10; the words are made up)
    if before is not None and kind != before.get("eventType", "default"):
        raise Refused(400, "eventTypeRestriction", "Event type cannot be changed.", "calendar")
    if kind in ("focusTime", "outOfOffice", "workingLocation"):
        check_status_event(calendar_id, kind, event)
    elif kind == "fromGmail" and before is None:
        raise bad("Invalid value for: event type.")


def check_status_event(calendar_id: str, kind: str, event: Json) -> None:
    """On the primary calendar alone, and busy or free as the kind wants (guide on calendar status, 2026)."""
    opaque = event.get("transparency", "opaque") == "opaque"
    if kind == "workingLocation":
        right = not opaque and event.get("visibility") == "public" and "workingLocationProperties" in event
    else:
        right = opaque and "dateTime" in event["start"]
    if not right or calendar_id != HOST_EMAIL:
        raise bad(BAD_STATUS_EVENT)


# The token endpoint


def denied(error: str, why: str, status: int = 400) -> Response:
    return JSONResponse({"error": error, "error_description": why}, status)


def issue_token(world: World, calendars: Calendars, form: FormData, delegated: bool) -> Response:
    """Another access token, for an hour (google-auth 2.62, seen on the wire, 2026-11)."""
    asked = {name: str(value) for name, value in form.items()}
    if asked.get("grant_type") == JWT_GRANT:
        granted = _of_service_account(world, asked.get("assertion", ""), delegated)
    elif asked.get("grant_type") == "refresh_token":
        granted = _of_user(calendars, asked)
    else:
        return denied("unsupported_grant_type", f"Invalid grant_type: {asked.get('grant_type', '')}")
    if isinstance(granted, Response):
        return granted
    token = f"ya29.t0ken-{len(calendars.grants) + 1}"
    calendars.grants[token] = Grant(granted.scopes, world.clock.now() + LIFETIME, granted.bare)
    body = {"access_token": token, "expires_in": 3599, "scope": " ".join(sorted(granted.scopes))}
    return JSONResponse(body | {"token_type": "Bearer"})


def _of_user(calendars: Calendars, asked: Mapping[str, str]) -> Grant | Response:
    if "client_secret" not in asked:
        return denied("invalid_request", "client_secret is missing.")
    if (asked.get("client_id"), asked["client_secret"]) != (CLIENT_ID, CLIENT_SECRET):
        return denied("invalid_client", "The OAuth client was not found.", 401)
    scopes = calendars.refresh_tokens.get(asked.get("refresh_token", ""))
    # Revoked, expired and unknown look the same (calcom/cal.diy#7564, noted 2026-11)
    if scopes is None:
        return denied("invalid_grant", "Token has been expired or revoked.")
    wanted = frozenset(asked["scope"].split()) if "scope" in asked else scopes
    return Grant(wanted) if wanted <= scopes else denied("invalid_scope", "Some requested scopes were invalid.")


def _of_service_account(world: World, assertion: str, delegated: bool) -> Grant | Response:
    """The signature is taken on trust, the claims are not."""
    try:
        header, claims, signature = (_decoded(part) for part in assertion.split("."))
        head, said = json.loads(header), json.loads(claims)
        begins, ends = int(said["iat"]), int(said["exp"])
    except (ValueError, KeyError, TypeError):
        return denied("invalid_grant", "Invalid JWT: Failed to parse.")
    if head.get("alg") != "RS256" or not signature:
        return denied("invalid_grant", "Invalid JWT Signature.")
    if said.get("aud") != TOKEN_URI or not said.get("iss"):
        return denied("invalid_grant", "Invalid JWT: Failed audience check.")
    now = world.clock.now().timestamp()
    # googleapis/google-api-php-client#1429 (2018-05); clocks may differ by some minutes
    if not (begins - 300 <= now < ends and 0 < ends - begins <= LIFETIME.total_seconds()):
        return denied(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat "
            "and exp values in the JWT claim.",
        )
    scopes = frozenset(str(said.get("scope", "")).split())
    if not scopes:
        return denied("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    if said.get("sub") and not delegated:
        return denied(
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of "
            "the scopes requested.",
            401,
        )
    return Grant(scopes, bare="sub" not in said)


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError from error
