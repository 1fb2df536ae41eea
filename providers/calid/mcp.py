"""Cal ID through its hosted MCP server. https://cal.id/docs/mcp

Quirks:
- Its tools are the routes of the API, one each; which names their arguments have is not written anywhere. They are
  placed by the tool's own inputSchema: flat, or under `path`, `query` and `body`. (2026-11-20)
- It takes the API's own key, and speaks the session-based protocol of before 2026.
- An answer is the API's envelope as text; an error has the envelope and no HTTP status.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from providers.auth import BearerAuth
from providers.base import AccountConfig
from providers.bridge import object_of
from providers.calid.api import CalidApi
from providers.hosted import HostedConfig, HostedProvider, Operation
from providers.upstream import Told, Tool, Tools

# The routes that the adapter uses, and the tools that they are (https://cal.id/docs/mcp, 2026-11-20).
TOOLS = {
    ("GET", "/users/me"): "get_users_me",
    ("GET", "/event-types/"): "get_event_types",
    ("POST", "/event-types/"): "create_eventtype",
    ("GET", "/event-types/*"): "get_event_types_by_id",
    ("PATCH", "/event-types/*"): "update_eventtype",
    ("DELETE", "/event-types/*"): "delete_eventtype",
    ("GET", "/slots/"): "get_slots",
    ("GET", "/availability/"): "get_availability",
    ("POST", "/availability/"): "create_availability",
    ("PATCH", "/availability/*"): "update_availability",
    ("DELETE", "/availability/*"): "delete_availability",
    ("GET", "/booking/"): "get_booking",
    ("POST", "/booking/"): "create_booking",
    ("GET", "/booking/*"): "get_booking_by_id",
    ("PATCH", "/booking/*/reschedule"): "reschedule_booking",
    ("POST", "/booking/*/cancel"): "cancel_booking",
    ("PATCH", "/booking/*/change_confirmation"): "change_booking_confirmation_status",
    ("GET", "/schedule/"): "get_schedule",
    ("PATCH", "/schedule/*"): "update_schedule",
}
PLACES = {"path": ("path", "params", "pathParams"), "query": ("query", "queryParams"), "body": ("body", "requestBody")}
"""What a tool may call the parts of a request that it nests."""

# Its errors say what happened in words; the code is mostly INTERNAL_ERROR. (source of 2025-09)
STATUS = {
    "BAD_REQUEST": 400,
    "VALIDATION_ERROR": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "RATE_LIMIT_EXCEEDED": 429,
}


class CalidMcpConfig(HostedConfig):
    url: str = "https://mcp.cal.id/mcp"
    auth: BearerAuth


class CalidMcp(HostedProvider, CalidApi):
    Config: ClassVar[type[AccountConfig]] = CalidMcpConfig

    def place(self, operation: Operation, tools: Tools) -> tuple[str, dict[str, Any]]:
        # Every id in a path is a number.
        ids = re.findall(r"/(\d+)(?=/|$)", operation.path)
        name = TOOLS[operation.method, re.sub(r"/\d+(?=/|$)", "/*", operation.path)]
        if name not in tools:
            raise self.lacking(name)
        arguments = _placed(tools[name], ids, operation)
        if arguments is None:
            raise self.lacking(name)
        return name, arguments

    def is_error(self, told: Told) -> bool:
        # A tool may pass an error on as if it were none, in any of the API's shapes.
        return told.is_error or object_of(told.text).get("success") is not True

    def status(self, error: Mapping[str, Any]) -> int | None:
        inner = error.get("error")
        code = inner.get("code") if isinstance(inner, dict) else None
        message = str(error.get("message")).lower()
        if isinstance(error.get("statusCode"), int):
            return super().status(error)
        if (status := STATUS.get(str(code))) is not None:
            return status
        if message.endswith("not found"):
            return 404
        return 429 if message.startswith("too many requests") else None


def _placed(tool: Tool, ids: list[str], operation: Operation) -> dict[str, Any] | None:
    """The arguments as the tool's schema has them; None if it has no place for one."""
    properties = tool.input_schema.get("properties", {})
    parts: dict[str, Any] = {
        "path": ids,
        "query": {name: value for name, value in operation.params.items() if value is not None},
        "body": operation.body,
    }
    placed: dict[str, Any] = {}
    for part, value in parts.items():
        nested = next((name for name in PLACES[part] if _is_object(properties.get(name))), None)
        inside = properties[nested].get("properties", {}) if nested else properties
        if part == "path":
            value = _path(ids, inside, operation)
            if value is None:
                return None
        if not value:
            continue
        if nested:
            placed[nested] = value
        elif all(name in inside for name in value):
            placed |= value
        else:
            return None
    return placed


def _path(ids: list[str], properties: Mapping[str, Any], operation: Operation) -> dict[str, Any] | None:
    """The ids of the path under the names that the tool has for them."""
    if not ids:
        return {}
    taken = {*operation.params, *(operation.body or {})}
    what = operation.path.strip("/").partition("/")[0].rstrip("s")
    usual = ("id", what, f"{what}Id", f"{what}_id", "eventTypeId")
    named = [name for name in usual if name in properties and name not in taken]
    if not named:
        return None
    wants_text = "string" in _types(properties[named[0]])
    return {named[0]: ids[0] if wants_text else int(ids[0])}


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    stated = schema.get("type", ())
    yield from [stated] if isinstance(stated, str) else stated
    for each in schema.get("anyOf", ()):
        yield from _types(each)


def _is_object(schema: Any) -> bool:
    return isinstance(schema, Mapping) and "object" in _types(schema)
