"""A line of the audit: canonical JSON that names the line before by its hash, and is named so by the next one.

Canonical is what `json.dumps(line, sort_keys=True, separators=(",", ":"))` writes. The hash is SHA-256 over that,
without `hash` itself. A chain begins with a line of the tool `started`, whose `reference` is the version, and where the
process had a chain before that, ` after ` and its head: `0.1.0 after CHAIN:NUMBER:HASH`.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

Said = Mapping[str, str | int | None]

FIELDS = frozenset(
    {
        *("at", "caller", "tool", "account", "outcome", "reference", "milliseconds", "request"),
        *("chain", "number", "previous", "hash"),
    }
)
NUMBERS = ("milliseconds", "number")
STARTED, STOPPED = "started", "stopped"
ZEROS = "0" * 64

_AFTER = re.compile(r"\S+ after ([0-9a-f]{32}):([0-9]{1,18}):([0-9a-f]{64})")


class Head(NamedTuple):
    """Where a chain has got to: whoever keeps it elsewhere can tell whether anything up to there was changed."""

    chain: str
    number: int
    hash: str

    def __str__(self) -> str:
        return canonical(self._asdict())


class Line(NamedTuple):
    """`at` is in seconds of the epoch; `text` is the line as it is kept."""

    head: Head
    at: int
    text: str


def sealed(said: Said, before: Head) -> Line:
    """The line after that one."""
    body = {**said, "chain": before.chain, "number": before.number + 1, "previous": before.hash}
    head = Head(before.chain, before.number + 1, hashed(body))
    return Line(head, seconds(str(said["at"])), canonical({**body, "hash": head.hash}))


def canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def hashed(body: Mapping[str, Any]) -> str:
    return sha256(canonical(body).encode()).hexdigest()


def parsed(text: str) -> dict[str, Any] | None:
    """What a line says, intact or not; None if it is no line."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.keys() != FIELDS:
        return None
    texts = [each for name, each in said.items() if name not in NUMBERS]
    if not all(type(said[name]) is int for name in NUMBERS) or not all(isinstance(each, str | None) for each in texts):
        return None
    return said if re.fullmatch(r"[0-9a-f]{32}", said["chain"] or "") and _is_dated(said["at"] or "") else None


def is_intact(said: Mapping[str, Any], text: str) -> bool:
    """Whether it is as it was written."""
    body = {name: value for name, value in said.items() if name != "hash"}
    return canonical(said) == text and hashed(body) == said["hash"]


def version_after(version: str, before: Head | None) -> str:
    return version if before is None else f"{version} after {':'.join(map(str, before))}"


def predecessor(said: Mapping[str, Any]) -> Head | None:
    """The head that a first line names."""
    named = _AFTER.fullmatch(str(said["reference"]))
    return None if named is None else Head(named[1], int(named[2]), named[3])


def instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())


def _is_dated(at: str) -> bool:
    try:
        return datetime.fromisoformat(at).tzinfo is not None
    except ValueError:
        return False
