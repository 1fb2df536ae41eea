"""What a write is about to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.callers import parted
from schemas import ProviderDown

OPEN = ("sent", "unknown")
"""Outcomes of which it is not known what came of the write."""

SPANS = {3600: "an hour", 86_400: "a day"}


@dataclass(frozen=True, slots=True)
class Brake:
    """At most `most` bookings (or moves) in so many seconds: in all of an account, or for one attendee of it, or by one
    caller in any account."""

    most: int
    seconds: int
    of: str = "account"


@dataclass(frozen=True, slots=True)
class Held:
    """A row of the journal that one process goes on with. `tries` tells whether it still does: who takes it counts."""

    id: str
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Intent:
    """A write about to be made. `digest` stands for its arguments, `claim` for what makes another one the same.

    `keep` is how long the claim lasts, in seconds. `kept` is what it takes to find out what came of it, and is
    forgotten when that is known; `parent` is the move that this is a step of. `changes` is the booking that nothing
    else may be changing meanwhile, where its service does not keep two changes apart.
    """

    caller: str
    account: str
    tool: str
    digest: str
    claim: str | None = None
    keep: int = 0
    attendee: str | None = None
    kept: Mapping[str, Any] | None = None
    parent: str | None = None
    brakes: tuple[Brake, ...] = ()
    changes: str | None = None


class BeingChanged(ProviderDown):
    """Another change of the booking is not over. Nothing happened. `passes`: it is under way right now."""

    def __init__(self, account: str, tool: str, *, passes: bool) -> None:
        now = "is under way" if passes else "is not settled: the gateway goes on with it by itself"
        super().__init__(
            f"An earlier {tool} of this booking {now}. Nothing was sent. Ask get_booking in a minute, then try again.",
            account=parted(account)[0],
            retry_after=60,
        )
        self.passes = passes


def changed_by(kept: Mapping[str, Any] | None) -> str | None:
    """The booking that a write is to change, from what is kept of it."""
    booking = (kept or {}).get("booking")
    return None if booking is None else str(booking["id"])
