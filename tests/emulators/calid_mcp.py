"""Cal ID's hosted MCP server, in front of the emulated REST API. https://cal.id/docs/mcp

Emulated:
- the 57 tools of the vendor's page by their names and descriptions, each one REST operation
- sessions: an id given by `initialize` and wanted from then on; the API's own key is good here too
- results are the API's envelope as text, without structured content

Not documented, so quirks: `shape` of arguments, "flat" or "nested" in path, query and body; `errors` of the API as the
"json" of an error's text, as its "status" and JSON ("HTTP 404: {...}"), or "plain", in a result that is none.

Weaknesses:
- What the REST emulator has no route for (teams, webhooks, contacts, reassigning, profiles, making schedules) answers
  that it is not emulated, without asking it; of its arguments only those in the path are known.
- Names and types of arguments are those of the API. What is in a body is left to the API to check, but for the names
  at its top; unknown ones are refused.
- Guesses, for want of a source: all words of refused arguments, that whoever has no key is refused at once and
  by 401, that a delete answers the API's envelope like everything else.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator
from starlette.responses import Response

from tests.emulators import calid
from tests.emulators.calid import booking_id, event_type_id
from tests.emulators.mcp import Handler, Json, Outcome, Quirks, Rest, Server, Tool
from tests.world import World

__all__ = ["app", "booking_id", "event_type_id"]

# Tool, REST operation and description (the page, 2026-11; the routes are of the API's source, 2025-09)
TOOLS = """
create_availability POST /availability/: Create availability for the current user and given schedule
create_schedule POST /schedule/: Create a schedule
delete_availability DELETE /availability/{availability}: Delete an availability
delete_schedule DELETE /schedule/{schedule}: Delete a schedule for the current user
get_availability GET /availability/: Get current user availability
get_schedule GET /schedule/: Get current user schedules
update_availability PATCH /availability/{availability}: Update an availability
update_schedule PATCH /schedule/{schedule}: Update a schedule for the current user
create_booking POST /booking/: Create a new booking
get_booking GET /booking/: Get current user bookings
get_booking_by_id GET /booking/{id}: Get booking by id
update_booking_reassignbookingautomatically PATCH /booking/{id}/reassignBookingAutomatically: Reassign booking to automatically via round robin
update_booking_reassignbookingtouser PATCH /booking/{id}/reassignBookingToUser: Reassign round robin booking to a certain user
create_contact POST /contacts/: Create a contact for the current user
delete_contact DELETE /contacts/{id}: Delete contact by id
get_contact GET /contacts/{id}: Get contact by id
get_contact_meetings GET /contacts/{id}/meetings: Get contact meeting history
update_contact PATCH /contacts/{id}: Update contact by id
get_event_types GET /event-types/: Get all event types for the authenticated user (paginated)
get_event_types_by_id GET /event-types/{id}: Get event type by ID for the authenticated user
create_eventtype POST /event-types/: Create a new event type for the authenticated user
delete_eventtype DELETE /event-types/{id}: Delete event type for the authenticated user
update_eventtype PATCH /event-types/{id}: Update event type details for the authenticated user
add_team_member POST /teams/{teamId}/memberships: Create a team membership
cancel_booking POST /booking/{id}/cancel: Cancel booking by id Optional request body field controls for cancellation scope, seated-event seat cancellation, and payment refund handling.
change_booking_confirmation_status PATCH /booking/{id}/change_confirmation: Change booking confirmation status (accept or decline)
list_contacts GET /contacts/: List current user contacts
remove_team_member DELETE /teams/{teamId}/memberships/{membershipId}: Delete a membership of a team
reschedule_booking PATCH /booking/{id}/reschedule: Reschedule booking by id
create_slots_reserve POST /slots/reserve: Reserve a given slot
delete_slots DELETE /slots/{uid}: Delete slot by id
get_slot GET /slots/{uid}: Get slot by uid
get_slots GET /slots/: Get available slots for an event type or users
update_slots PATCH /slots/{uid}: Update slot by id
create_team POST /teams/: Create a new team for the authenticated user
create_team_eventtype POST /teams/{teamId}/event-types: Create an event type for a team
delete_team DELETE /teams/{teamId}: Delete team for the authenticated user
delete_team_eventtype DELETE /teams/{teamId}/event-types/{eventTypeId}: Delete a team event type
get_team GET /teams/{teamId}: Get team by ID for the authenticated user
get_team_event_type GET /teams/{teamId}/event-types/{eventTypeId}: Get a team event type by ID
get_team_event_types GET /teams/{teamId}/event-types: Get event types for a team
get_team_membership GET /teams/{teamId}/memberships/{membershipId}: Get a specific membership of a team
get_team_memberships GET /teams/{teamId}/memberships: Get memberships of a team
get_team_schedules GET /teams/{teamId}/schedules: Get all team members' schedules
get_teams GET /teams/: Get all teams for the authenticated user (paginated)
update_team_details PATCH /teams/{teamId}: Update team details for the authenticated user
update_team_eventtype PATCH /teams/{teamId}/event-types/{eventTypeId}: Update a team event type
update_team_membership PATCH /teams/{teamId}/memberships/{membershipId}: Update a membership of a team
update_user_profile PUT /users/edit-profile: Edit user profile
create_users_edit_profile_avatar POST /users/edit-profile/avatar: Upload avatar via multipart/form-data
get_users GET /users/{user}: Get user public events
get_users_me GET /users/me: Get current user profile
create_webhook POST /webhook/: Created webhook by id
delete_webhook DELETE /webhook/{id}: Delete webhook by id
get_webhook GET /webhook/: Get user webhooks
get_webhook_by_id GET /webhook/{id}: Get webhook by id
update_webhook PATCH /webhook/{id}: Update webhook by id
"""  # noqa: E501 - a line each
TEXTS = ("uid", "user")
"""What stands in a path and is no number."""
LISTS = ("teamIds", "userIds", "eventTypeIds")
"""Parameters that are repeated (calid API source, 2025-09)."""
PARTS = ("path", "query", "body")


def app(world: World, *, shape: str = "flat", errors: str = "json", **quirks: Any) -> Server:
    """`quirks` are those of `mcp.Quirks` and of the API's emulator."""
    assert shape in ("flat", "nested")
    assert errors in ("json", "status", "plain")
    own, of_api = Quirks.of(quirks, name="Cal ID", sessions=True, results="text")
    rest = Rest(calid.app(world, **of_api))
    return Server([_tool(rest, line, shape, errors) for line in TOOLS.strip().splitlines()], own, wrong)


def _operations() -> dict[str, Json]:
    document = json.loads(Path(__file__).with_name("calid_schema.json").read_text(encoding="utf-8"))
    return {re.sub(r"{\w+}", "{}", name): each for name, each in document["operations"].items()}


EMULATED = _operations()


def _tool(rest: Rest, line: str, shape: str, errors: str) -> Tool:
    head, _, description = line.partition(": ")
    name, method, path = head.split()
    in_path = re.findall(r"{(\w+)}", path)
    operation = EMULATED.get(re.sub(r"{\w+}", "{}", f"{method} {path}"))
    parts = {part: _object({}, ()) for part in PARTS}
    parts["path"] = _object({each: {"type": "string" if each in TEXTS else "integer"} for each in in_path}, in_path)
    if operation is not None:
        query = {
            each: {"type": "array", "items": {"type": "integer"}} if each in LISTS else schema
            for each, schema in operation.get("query", {}).items()
        }
        parts["query"] = _object(query, operation.get("required", ()))
        parts["body"] |= operation.get("body", {})
    places = {each: part for part in PARTS for each in parts[part]["properties"]}
    if shape == "flat":
        properties = {each: schema for part in PARTS for each, schema in parts[part]["properties"].items()}
        takes = _object(properties, [each for part in PARTS for each in parts[part].get("required", ())])
    else:
        used = {part: parts[part] for part in PARTS if parts[part]["properties"]}
        takes = _object(used, [part for part in used if part == "body" or parts[part].get("required")])
    call = (
        _forwarded(rest, method, path, places, shape, errors) if operation is not None else _missing(f"{method} {path}")
    )
    return Tool(name, description, takes, call)


def _object(properties: Json, required: Iterable[str]) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _missing(operation: str) -> Handler:
    async def call(arguments: Json) -> Outcome | Response:
        return Outcome(f"{operation} is not emulated", failed=True)

    return call


def _forwarded(rest: Rest, method: str, path: str, places: dict[str, str], shape: str, errors: str) -> Handler:
    async def call(arguments: Json) -> Outcome | Response:
        given: dict[str, Json] = {part: {} for part in PARTS}
        if shape == "flat":
            for name, value in arguments.items():
                given[places[name]][name] = value
        else:
            given |= arguments
        at = path
        for name, value in given["path"].items():
            at = at.replace(f"{{{name}}}", quote(str(value), safe=""))
        query = [
            (name, each)
            for name, value in given["query"].items()
            for each in (value if isinstance(value, list) else [value])
        ]
        found = await rest.ask(method, at, query, given["body"] if method in ("POST", "PATCH") else None)
        if isinstance(found, Response) or not found.failed or errors == "json":
            return found
        return Outcome(found.text) if errors == "plain" else Outcome(f"HTTP {found.status}: {found.text}", failed=True)

    return call


def wrong(tool: Tool, arguments: Json) -> str | None:
    """The first argument that is unknown, missing or no value for a path or a query."""
    known = tool.takes["properties"]
    nested = {each: arguments.get(each, {}) for each in PARTS if each in known}
    if not nested:
        return _mistake("", tool.takes, arguments)
    if unknown := [each for each in arguments if each not in known]:
        return f"Invalid arguments: unrecognized key {unknown[0]!r}"
    mistakes = (_mistake(f"{part}.", known[part], given) for part, given in nested.items())
    return next((each for each in mistakes if each), None)


def _mistake(at: str, takes: Json, given: Any) -> str | None:
    if not isinstance(given, dict):
        return f"Invalid arguments: {at.rstrip('.')} must be object"
    for each in given:
        if each not in takes["properties"]:
            return f"Invalid arguments: unrecognized key {at + each!r}"
    for each in takes.get("required", ()):
        if each not in given:
            return f"Invalid arguments: {at}{each} is required"
    for each, value in given.items():
        kind = takes["properties"][each].get("type")
        if kind and not Draft202012Validator({"type": kind}).is_valid(value):
            return f"Invalid arguments: {at}{each} must be {kind}"
    return None
