"""What a caller may do: which accounts and tools, how many bookings, and until when."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from schemas import Feature, Instant, Model

ADMIN = "admin"
"""Connecting and disconnecting accounts that are everybody's, and taking back links."""

SETS: Mapping[str, frozenset[str]] = {
    "read": frozenset(
        {
            "list_accounts",
            Feature.LIST_EVENT_TYPES,
            Feature.FIND_SLOTS,
            Feature.FIND_BUSY_TIMES,
            Feature.LIST_BOOKINGS,
            Feature.GET_BOOKING,
            Feature.LIST_SCHEDULES,
        }
    ),
    "book": frozenset(
        {
            Feature.CREATE_BOOKING,
            Feature.RESCHEDULE_BOOKING,
            Feature.CANCEL_BOOKING,
            Feature.RESPOND_TO_BOOKING,
            Feature.CREATE_SCHEDULING_LINK,
        }
    ),
    "manage": frozenset({Feature.SAVE_EVENT_TYPE, Feature.DELETE_EVENT_TYPE, Feature.UPDATE_SCHEDULE}),
    ADMIN: frozenset({ADMIN}),
}
"""The sets that a policy may name instead of single tools. Every tool is in one."""

ALL = frozenset().union(*SETS.values())


class PerSpan(Model):
    """How many bookings in an hour and in a day."""

    hour: int = Field(ge=1)
    day: int = Field(ge=1)


class Policy(Model):
    """`subjects` and `groups` say for whom it holds, of those who sign in; the first that fits holds."""

    subjects: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    accounts: tuple[str, ...] | None = None
    tools: tuple[str, ...] = ("read", "book", "manage")
    read_only: bool = False
    bookings: PerSpan | None = None
    expires: Instant | None = None

    @field_validator("tools")
    @classmethod
    def _are_tools(cls, tools: tuple[str, ...]) -> tuple[str, ...]:
        if not all(tool in SETS or tool in ALL for tool in tools):
            raise ValueError(f"must be sets ({', '.join(SETS)}) or names of tools")
        return tools

    @property
    def allowed(self) -> frozenset[str]:
        """The tools, and `admin`."""
        named = frozenset().union(*(SETS.get(tool, {tool}) for tool in self.tools))
        return named & SETS["read"] if self.read_only else named

    def may_use(self, account: str) -> bool:
        return self.accounts is None or account in self.accounts

    def is_over(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now

    def holds_for(self, claims: Mapping[str, Any], groups: Iterable[str]) -> bool:
        """Whether it is the policy of who signed in with these claims of an ID token.

        An address counts only where its provider says that it was proven to be the person's.
        """
        email = claims.get("email") if claims.get("email_verified") is True else None
        is_meant = any(_fits(subject, claims["sub"], email) for subject in self.subjects)
        return is_meant or not set(groups).isdisjoint(self.groups)


def _fits(subject: str, sub: str, email: object) -> bool:
    """`*` is anyone, `*@example.com` everybody with a proven address there, what has no @ a subject itself."""
    if "@" not in subject:
        return subject in ("*", sub)
    if not isinstance(email, str):
        return False
    meant, has = subject.lower(), email.lower()
    return has.endswith(meant[1:]) if meant.startswith("*@") else has == meant


EVERYTHING = Policy(tools=tuple(SETS))
"""What the person whose machine this is may do."""

NOTHING = Policy(accounts=(), tools=())
"""What somebody may do who signed in and whom no policy is for."""

DEFAULT = Policy()
"""What a key may do that was made without a policy."""
