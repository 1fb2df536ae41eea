"""Who calls, while a call goes on: whose accounts are meant, and what the caller may do."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from gateway.policy import EVERYTHING, Policy

OWNED = "~"
"""Between an account's name and whose it is, in the name that its rows are kept under."""


@dataclass(frozen=True)
class Caller:
    """`name` is what the journal and the audit know the caller by, the same at each call.

    `local`: the person whose machine this is. `key:NAME`: a key. `user:SUBJECT@ISSUER`: who signed in, the issuer as a
    digest. `guest`: whoever has a link to a page of ours, and nothing but what that is for.
    """

    name: str
    policy: Policy = EVERYTHING
    acts_for: str | None = None
    """Whose accounts a guest's page works with."""
    visitor: str | None = field(default=None, repr=False)
    """Which of the guests, who have no names."""

    @cached_property
    def owner(self) -> str:
        """Whose accounts are meant where each caller has one's own.

        Vendors see it, in the `state` of a consent. It does not say the name; who guesses the name can check the guess.
        """
        return self.acts_for or sha256(self.name.encode()).hexdigest()[:24]


LOCAL = Caller("local")


def guest_of(kept_as: str, visitor: str | None = None) -> Caller:
    """Whoever has a link to a page of ours for that account; each visitor's requests are their own."""
    account, owner = parted(kept_as)
    return Caller("guest", EVERYTHING.model_copy(update={"accounts": (account,)}), owner, visitor)


_calling: ContextVar[Caller] = ContextVar("calling", default=LOCAL)


def caller() -> Caller:
    """Who calls now."""
    return _calling.get()


@contextmanager
def calling(who: Caller) -> Iterator[None]:
    """What is done here, and in the tasks begun here, is done for them."""
    token = _calling.set(who)
    try:
        yield
    finally:
        _calling.reset(token)


def kept_as(account: str, owner: str | None) -> str:
    """The name that an account's rows are kept under: its own, or with whose it is where each caller has one's own."""
    return account if owner is None else f"{account}{OWNED}{owner}"


def parted(kept_as: str) -> tuple[str, str | None]:
    """The account's name, and whose it is where each caller has one's own."""
    account, _, owner = kept_as.partition(OWNED)
    return account, owner or None
