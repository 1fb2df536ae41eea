"""What the audit will say of a call, gathered while it goes on: which account, and which thing of it.

Only what an account has shown, or the gateway has made, counts as a thing: what a caller merely wrote is nobody's id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from schemas import Booking, EventType, Schedule

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """`asked` are ids in its arguments, `shown` the first thing that an account has shown for it."""

    accounts: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    shown: str | None = None
    goes_on: bool = False
    """Without its caller too: something was sent, or is about to be."""

    @property
    def account(self) -> str | None:
        """The account it was for, if for one."""
        return next(iter(self.accounts)) if len(self.accounts) == 1 else None


_call: ContextVar[Call | None] = ContextVar("audited", default=None)


@contextmanager
def going_on(call: Call | None) -> Iterator[None]:
    """What is done here, and in the tasks begun here, is done for that call; None: for none."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


def used(account: str) -> None:
    if (call := _call.get()) is not None:
        call.accounts.add(account)


def asked(id: str) -> None:
    if (call := _call.get()) is not None:
        call.asked.add(id)


def shown(answer: T) -> T:
    """What an account has answered."""
    if (call := _call.get()) is not None and call.shown is None and isinstance(answer, Booking | EventType | Schedule):
        call.shown = answer.id
    return answer


def writing() -> None:
    if (call := _call.get()) is not None:
        call.goes_on = True
