"""What is wrong with a value, in words for whoever wrote it: each mistake by its path, none with the value itself."""

import re
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)

_SAID = {
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must hold names and values",
    "model_type": "must hold names and values",
}
# What pydantic adds to a path, for the branches of a union and for validators, unless it is a key that is there.
_NOISE = re.compile(r"(str|int|float|bool|tuple|list|dict|constrained-.*|.*\[.*|nullable)")


def problems(error: ValidationError, values: object) -> list[str]:
    """One sentence a mistake in `values`, `path: what is wrong`; the first for a path that has several."""
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        found.setdefault(_path(detail, values), _words(detail))
    return [f"{path}: {what}" if path else what for path, what in found.items()]


def checked(model: type[M], values: object) -> M:
    """`values` as that model. Raises InvalidRequest naming every mistake."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest("; ".join(problems(error, values)) + ".") from None


def _path(detail: ErrorDetails, values: object) -> str:
    path = ""
    at = values
    for part in detail["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
            at = at[part] if isinstance(at, list | tuple) and part < len(at) else None
            continue
        is_key = isinstance(at, Mapping) and part in at
        if is_key or not _NOISE.fullmatch(part):
            path += f".{part}" if path else part
            at = at[part] if isinstance(at, Mapping) and is_key else None
    return path


def _words(detail: ErrorDetails) -> str:
    said = _SAID.get(detail["type"]) or detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return said.replace("Input should be ", "must be ").replace("Value should have ", "must have ").rstrip(".")
