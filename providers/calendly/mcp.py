"""Calendly through its hosted MCP server. https://developer.calendly.com/docs/mcp/calendly-mcp-server

Quirks:
- Its tools are operations of the API: bodies go in under a name of their own, things are named by their full URIs.
  (names and arguments as listed 2026-10-02; bare ids were taken until 2026-05-08)
- It signs in by OAuth alone, with clients that register themselves; tokens of the REST API are refused, and the other
  way round.
- There is no tool that moves a booking, deletes an event type or changes a schedule of the user's own.
- An error of the API arrives as a tool's error with the API's body and no HTTP status; its title tells which it was.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from providers.auth import BearerAuth
from providers.base import AccountConfig
from providers.bridge import object_of
from providers.calendly.api import OF_EVENT_TYPE, CalendlyApi
from providers.calendly.client import BookingLimits
from providers.hosted import HostedConfig, HostedProvider, Operation
from providers.oauth import OAuthAuth, Target
from providers.upstream import Told, Tools
from schemas import Feature, Schedule, ScheduleChange, Unsupported

API = "https://api.calendly.com"
"""What URIs begin with, on whichever host one speaks to Calendly."""

# https://developer.calendly.com/api-docs (errors, 2026-10-09); an error without a title here is one of the server's.
TITLES = {
    "Invalid Argument": 400,
    "Unauthenticated": 401,
    "Permission Denied": 403,
    "Insufficient scope": 403,
    "Resource Not Found": 404,
    "Already Exists": 409,
    "External Calendar Error": 424,
    "Too Many Requests": 429,
}


class Named(NamedTuple):
    """A tool: which operation it is, the names of the URIs in its path, and the name that its body goes by."""

    method: str
    path: str
    tool: str
    uris: tuple[str, ...] = ()
    body: str | None = None


_ONE = ("uri",)
TOOLS = (
    Named("GET", "/users/me", "users-get_current_user"),
    Named("GET", "/event_types", "event_types-list_event_types"),
    Named("POST", "/event_types", "event_types-create_event_type", (), "create_event_type_request"),
    Named("GET", "/event_types/*", "event_types-get_event_type", _ONE),
    Named("PATCH", "/event_types/*", "event_types-update_event_type", _ONE, "update_event_type_request"),
    Named("GET", "/event_type_available_times", "event_types-list_event_type_available_times"),
    Named("GET", "/event_type_availability_schedules", "event_types-list_event_type_availability_schedule"),
    Named(
        "PATCH",
        "/event_type_availability_schedules",
        "event_types-update_event_type_availability_schedule",
        (),
        "update_event_type_availability_request",
    ),
    Named("GET", "/scheduled_events", "meetings-list_events"),
    Named("GET", "/scheduled_events/*", "meetings-get_event", _ONE),
    Named(
        "POST",
        "/scheduled_events/*/cancellation",
        "meetings-cancel_event",
        _ONE,
        "create_scheduled_event_cancellation_request",
    ),
    Named("GET", "/scheduled_events/*/invitees", "meetings-list_event_invitees", _ONE),
    Named("GET", "/scheduled_events/*/invitees/*", "meetings-get_event_invitee", ("event_uri", "invitee_uri")),
    Named("POST", "/invitees", "meetings-create_invitee", (), "post_invitee_request"),
    Named("POST", "/invitee_no_shows", "meetings-create_invitee_no_show", (), "create_invitee_no_show_request"),
    Named("DELETE", "/invitee_no_shows/*", "meetings-delete_invitee_no_show", _ONE),
    Named("GET", "/user_availability_schedules", "availability-list_user_availability_schedules"),
    Named("GET", "/user_availability_schedules/*", "availability-get_user_availability_schedule", _ONE),
    Named("GET", "/user_busy_times", "availability-list_user_busy_times"),
    Named(
        "POST",
        "/scheduling_links",
        "scheduling_links-create_single_use_scheduling_link",
        (),
        "create_scheduling_link_request",
    ),
)


class CalendlyMcpConfig(HostedConfig):
    url: str = "https://mcp.calendly.com"
    auth: Annotated[OAuthAuth | BearerAuth, Field(discriminator="type")]
    booking_limits: BookingLimits = BookingLimits()

    def target(self) -> Target:
        return Target(resource=self.url)


class CalendlyMcp(HostedProvider, CalendlyApi):
    Config: ClassVar[type[AccountConfig]] = CalendlyMcpConfig
    caveats = {
        **CalendlyApi.caveats,
        Feature.UPDATE_SCHEDULE: "of an event type only (list_schedules with event_type_id); the user's own schedules "
        "are changed on calendly.com, or with the account `via: api`.",
    }

    async def update_schedule(self, old: Schedule, change: ScheduleChange) -> Schedule:
        if not old.id.startswith(OF_EVENT_TYPE):
            raise self._without("changes a schedule of the user's own, only that of an event type")
        return await super().update_schedule(old, change)

    def place(self, operation: Operation, tools: Tools) -> tuple[str, dict[str, Any]]:
        for named in TOOLS:
            if named.method == operation.method and (uris := _uris(named.path, operation.path)) is not None:
                break
        else:
            raise self._without("does this")
        if named.tool not in tools:
            raise self.lacking(named.tool)
        arguments = {**operation.params, **dict(zip(named.uris, uris, strict=True))}
        if named.body is not None and operation.body:
            arguments[named.body] = operation.body
        return named.tool, arguments

    def _without(self, tool: str) -> Unsupported:
        return Unsupported(
            f"{self.title}'s MCP server has no tool that {tool}. Do it on calendly.com, or configure the account with "
            "`via: api`.",
            account=self.account,
        )

    def is_error(self, told: Told) -> bool:
        # A tool may pass an error on as if it were none.
        found = object_of(told.text)
        return told.is_error or ({"title", "message"} <= found.keys() and "resource" not in found)

    def status(self, error: Mapping[str, Any]) -> int | None:
        return TITLES.get(str(error.get("title")))


def _uris(pattern: str, path: str) -> list[str] | None:
    """The full URIs of what a path names, if the pattern fits it."""
    match = re.fullmatch(re.sub(r"\*", "([^/]+)", pattern), path)
    return [f"{API}{path[: match.end(group)]}" for group in range(1, len(match.groups()) + 1)] if match else None
