"""A vendor's published schema, distilled to what a request may be: which operations, parameters, headers and bodies.

One JSON file a vendor, beside this one:

    source, dated     where it comes from
    known_errors      where the published schema is wrong, each with `operation`, `what`, `source` and `dated`; the
                      operations below have it as it should be
    operations        "GET /v2/slots": {query: {name: JSON Schema}, required: [name], headers: {name: JSON Schema},
                      body: JSON Schema}; an operation without `body` takes none
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from starlette.requests import Request

FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _date_time(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


@FORMATS.checks("date", raises=ValueError)
def _date(text: object) -> bool:
    return not isinstance(text, str) or re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None


@FORMATS.checks("uri")
def _uri(text: object) -> bool:
    return not isinstance(text, str) or bool(urlsplit(text).scheme and urlsplit(text).netloc)


@FORMATS.checks("email")
def _email(text: object) -> bool:
    return not isinstance(text, str) or "@" in text


class Contract:
    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        self.known_errors: list[Mapping[str, str]] = document["known_errors"]
        self._operations = [
            (method, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))), operation)
            for (method, template), operation in (
                (name.split(" "), operation) for name, operation in document["operations"].items()
            )
        ]

    def refuse(self, request: Request, body: Any) -> str | None:
        """Why the schema refuses this request; None if it does not."""
        for method, path, operation in self._operations:
            if method == request.method and path.fullmatch(request.url.path):
                return next(iter(_mistakes(operation, request, body)), None)
        return "no such operation"


def _mistakes(operation: Mapping[str, Any], request: Request, body: Any) -> list[str]:
    known: Mapping[str, Any] = operation.get("query", {})
    given = dict(request.query_params)
    wrong = [f"query {name}: is not known" for name in given if name not in known]
    wrong += [f"query {name}: is required" for name in operation.get("required", ()) if name not in given]
    for name, schema in known.items():
        if name in given:
            wrong += [f"query {name}: {each}" for each in _errors(schema, _typed(given[name], schema))]
    for name, schema in operation.get("headers", {}).items():
        wrong += [f"header {name}: {each}" for each in _errors(schema, request.headers.get(name))]
    if "body" in operation:
        wrong += [f"body {each}" for each in _errors(operation["body"], {} if body is None else body)]
    elif body not in (None, {}):
        wrong.append("body: takes none")
    return wrong


def _errors(schema: Mapping[str, Any], value: Any) -> list[str]:
    found = Draft202012Validator(schema, format_checker=FORMATS).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A query parameter as what its schema says it is, if it can be read so."""
    match schema.get("type"):
        case "number" | "integer":
            return json.loads(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text
        case "boolean":
            return {"true": True, "false": False}.get(text, text)
        case "array":
            return text.split(",")
        case _:
            return text
