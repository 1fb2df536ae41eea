"""Calendly's hosted MCP server, in front of the emulated API v2. https://developer.calendly.com/docs/mcp

Emulated, as the tools were seen in 2026-06 (scalekit-inc/developer-docs) and used by Calendly's own test harness:
- 34 tools, each one REST operation; nothing moves a meeting, nothing deletes an event type
- whatever has an id is named by its full URI, also in place of a path; bodies are wrapped in an object of their own
- unknown arguments are refused: "Got unexpected keyword argument(s): uuid" (2026-05-08, when `uuid` became `uri`)
- results are structured content and the same JSON as text, errors the API's body as text
- without a token 401 that names the protected resource's metadata (checked live, 2026-08)

Weaknesses:
- The two tools that list and load guides are missing. What the REST emulator has no route for answers that it is not
  emulated, without asking it.
- The same token as for the REST API is good; the vendor's two are different worlds.
- Guesses, for want of a source: the words for missing and mistyped arguments and for a URI of something else, the
  names of annotations, that no output schema is declared, no session id given and that a tool's 204 is an empty text.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator
from starlette.responses import Response

from tests.emulators import calendly
from tests.emulators.calendly import booking_id, event_type_id
from tests.emulators.calendly_shapes import API, invalid
from tests.emulators.mcp import Handler, Json, Outcome, Quirks, Rest, Server, Tool
from tests.world import World

__all__ = ["app", "booking_id", "event_type_id"]

METADATA = {
    "authorization_servers": ["https://calendly.com/"],
    "scopes_supported": ["mcp:scheduling:write", "mcp:scheduling:read"],
    "bearer_methods_supported": ["header"],
}
# Tool, REST operation with the arguments that stand in its path, the other arguments (* required). What ends in
# `_request` is the body (scalekit-inc/developer-docs, 2026-06; mkimelblat/mcp-testing, 2026-06)
TOOLS = """
users-get_current_user                              GET /users/me
users-get_user                                      GET /users/{uri}
event_types-list_event_types                        GET /event_types active:boolean admin_managed:boolean organization user user_availability_schedule sort count:integer page_token
event_types-get_event_type                          GET /event_types/{uri}
event_types-create_event_type                       POST /event_types create_event_type_request*
event_types-update_event_type                       PATCH /event_types/{uri} update_event_type_request*
event_types-list_event_type_available_times         GET /event_type_available_times event_type* start_time* end_time*
event_types-list_event_type_availability_schedule   GET /event_type_availability_schedules event_type*
event_types-update_event_type_availability_schedule PATCH /event_type_availability_schedules event_type* update_event_type_availability_request*
locations-list_user_meeting_locations               GET /locations user*
meetings-list_events                                GET /scheduled_events user organization group invitee_email status sort min_start_time max_start_time count:integer page_token
meetings-get_event                                  GET /scheduled_events/{uri}
meetings-cancel_event                               POST /scheduled_events/{uri}/cancellation create_scheduled_event_cancellation_request
meetings-create_invitee                             POST /invitees post_invitee_request*
meetings-list_event_invitees                        GET /scheduled_events/{uri}/invitees status email sort count:integer page_token
meetings-get_event_invitee                          GET /scheduled_events/{event_uri}/invitees/{invitee_uri}
meetings-create_invitee_no_show                     POST /invitee_no_shows create_invitee_no_show_request*
meetings-get_invitee_no_show                        GET /invitee_no_shows/{uri}
meetings-delete_invitee_no_show                     DELETE /invitee_no_shows/{uri}
availability-list_user_availability_schedules       GET /user_availability_schedules user*
availability-get_user_availability_schedule         GET /user_availability_schedules/{uri}
availability-list_user_busy_times                   GET /user_busy_times user* start_time* end_time*
scheduling_links-create_single_use_scheduling_link  POST /scheduling_links create_scheduling_link_request*
shares-create_share                                 POST /shares create_share_request*
routing_forms-list_routing_forms                    GET /routing_forms organization* sort count:integer page_token
routing_forms-get_routing_form                      GET /routing_forms/{uri}
routing_forms-list_routing_form_submissions         GET /routing_form_submissions form* sort count:integer page_token
routing_forms-get_routing_form_submission           GET /routing_form_submissions/{uri}
organizations-get_organization                      GET /organizations/{uri}
organizations-list_organization_memberships         GET /organization_memberships organization user email role count:integer page_token
organizations-get_organization_membership           GET /organization_memberships/{uri}
organizations-list_organization_invitations         GET /organizations/{uri}/invitations email status sort count:integer page_token
organizations-create_organization_invitation        POST /organizations/{uri}/invitations create_organization_invitation_request*
organizations-revoke_organization_invitation        DELETE /organizations/{org_uri}/invitations/{uri}
"""  # noqa: E501 - a line each


def app(world: World, **quirks: Any) -> Server:
    """`quirks` are those of `mcp.Quirks` and of the API's emulator."""
    own, of_api = Quirks.of(quirks, path="/", name="Calendly", metadata=METADATA)
    rest = Rest(calendly.app(world, **of_api))
    return Server([_tool(rest, line) for line in TOOLS.strip().splitlines()], own, wrong)


def _tool(rest: Rest, line: str) -> Tool:
    name, method, path, *spelled = line.split()
    in_path = re.findall(r"{(\w+)}", path)
    properties: dict[str, Json] = {each: {"type": "string", "description": "A full URI."} for each in in_path}
    required = list(in_path)
    for each in spelled:
        argument, _, kind = each.rstrip("*").partition(":")
        schema: Json = {"type": "object" if argument.endswith("_request") else kind or "string"}
        if each.endswith("*"):
            required.append(argument)
        else:
            schema = {"anyOf": [schema, {"type": "null"}], "default": None}
        properties[argument] = schema
    takes = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    known = re.sub(r"{\w+}", "{}", f"{method} {path}") in EMULATED
    call = _forwarded(rest, method, path) if known else _missing(f"{method} {path}")
    hints = {"readOnlyHint": method == "GET", "destructiveHint": method == "DELETE" or name == "meetings-cancel_event"}
    return Tool(
        name,
        f"Use: {method} {path}. URIs are not a browsable link, never show them to users.",
        takes,
        call,
        hints=hints,
    )


def _operations() -> frozenset[str]:
    document = json.loads(Path(__file__).with_name("calendly_schema.json").read_text(encoding="utf-8"))
    return frozenset(re.sub(r"{\w+}", "{}", each) for each in document["operations"])


EMULATED = _operations()


def _missing(operation: str) -> Handler:
    async def call(arguments: Json) -> Outcome | Response:
        return Outcome(f"{operation} is not emulated", failed=True)

    return call


def _forwarded(rest: Rest, method: str, path: str) -> Handler:
    in_path = re.findall(r"(\w+)/{(\w+)}", path)

    async def call(arguments: Json) -> Outcome | Response:
        left, at, body = dict(arguments), path, None
        for kind, argument in in_path:
            uri = left.pop(argument)
            found = re.fullmatch(rf"{re.escape(API)}/(?:\w+/[^/?#]+/)?{kind}/([^/?#]+)", uri)
            if found is None:
                return Outcome(bytes(invalid(argument, "is invalid").answer.body).decode(), failed=True)
            at = at.replace(f"{{{argument}}}", quote(found[1]))
        for argument in [each for each in left if each.endswith("_request")]:
            body = left.pop(argument)
        return await rest.ask(method, at, left.items(), body)

    return call


def wrong(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """As FastMCP says it (seen by Calendly's own scripts, 2026-05-08)."""
    if unknown := [each for each in arguments if each not in tool.takes["properties"]]:
        return f"Got unexpected keyword argument(s): {', '.join(unknown)}"
    if lacking := [each for each in tool.takes["required"] if each not in arguments]:
        return f"Missing required argument(s): {', '.join(lacking)}"
    found = next(Draft202012Validator(tool.takes).iter_errors(arguments), None)
    return f"Input validation error: {found.json_path}: {found.message}" if found else None
