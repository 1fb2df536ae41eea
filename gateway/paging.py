"""Pages of a long answer. A cursor is opaque, good only with the arguments it came from, and remembers who failed."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from schemas import ERRORS, InvalidRequest


def digest(*parts: object) -> str:
    """A short, stable name for these values."""
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


FAR = 10_000_000_000
"""No meeting begins this many seconds after 1970."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """`position`: the start of the last item given, in seconds of the epoch, and its id.

    `failed`: accounts that had failed by then, with their codes.
    """

    bound: str
    position: tuple[Any, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None, *arguments: object) -> "Cursor":
        """The cursor that `text` is, or the beginning. Raises InvalidRequest."""
        bound = digest(*arguments)[:16]
        if text is None:
            return cls(bound)
        try:
            said, position, failed = json.loads(base64.urlsafe_b64decode(text.encode()))
            at, last = position
            if not (isinstance(at, int | float) and 0 <= at < FAR and isinstance(last, str)):
                raise ValueError
            cursor = cls(str(said), tuple(position), {str(name): ERRORS[code].code for name, code in failed.items()})
        except (ValueError, TypeError, AttributeError, LookupError, binascii.Error):
            raise InvalidRequest("cursor: is not one that this tool gave. Leave it out to begin again.") from None
        if cursor.bound != bound:
            raise InvalidRequest("cursor: belongs to other arguments. Repeat them, or leave it out to begin again.")
        return cursor

    def next(self, position: tuple[Any, ...], failed: dict[str, str]) -> str:
        """What to call with for what follows `position`."""
        text = json.dumps([self.bound, position, failed], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode()
