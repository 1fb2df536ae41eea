"""The configured accounts: which one a request is for, and asking several without hiding that one failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar
from zoneinfo import ZoneInfo

from gateway import audited, observing
from gateway.answers import Unavailable
from gateway.callers import Caller
from providers import Provider
from schemas import (
    ERRORS,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PolicyDenied,
    ProviderDown,
    SchedulingError,
    zone,
)

if TYPE_CHECKING:
    from gateway.pool import Pool

T = TypeVar("T")
log = logging.getLogger(__name__)


class Accounts(Mapping[str, Provider]):
    """Those that a caller may use, each as it is for that caller."""

    def __init__(self, names: Sequence[str], pool: "Pool", caller: Caller) -> None:
        self._names = [name for name in names if caller.policy.may_use(name)]
        self._barred = frozenset(names) - set(self._names)
        self._pool = pool
        self._caller = caller

    def __getitem__(self, name: str) -> Provider:
        if name in self._names:
            return self._pool.of(name, self._caller.owner)
        which = f"The accounts are: {', '.join(self._names) or 'none'}."
        if name in self._barred:
            raise PolicyDenied(f"You may not use this account. {which}", account=name)
        raise InvalidRequest(f"There is no such account. {which}")

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def chosen(self, names: Sequence[str] | None) -> list[str]:
        """Those accounts, or all."""
        return list(self._names) if names is None else [self[name].account for name in dict.fromkeys(names)]

    def only(self, name: str | None) -> Provider:
        """That account, or the one there is."""
        if name is None and len(self) != 1:
            raise InvalidRequest(f"account: say which. The accounts are: {', '.join(self)}.")
        return self._used(next(iter(self)) if name is None else name)

    def route(self, id: str, what: str) -> tuple[Provider, str]:
        """The account that an id names, and the id as its provider knows it."""
        account, colon, own = id.strip().partition(":")
        if not (colon and own and account):
            like = next(iter(self), "account")
            raise NotFound(f"{what}: no such id. Ids look like {like}:… and come from the list tools.")
        audited.asked(own)
        return self._used(account), own

    def _used(self, name: str) -> Provider:
        provider = self[name]
        self._pool.use(provider)
        audited.used(provider.kept_as)
        observing.asked(name)
        return provider

    async def ask(
        self, names: Iterable[str], question: Callable[[Provider], Awaitable[T]], failed: Mapping[str, str]
    ) -> "Found[T]":
        """Ask these accounts at once. Those in `failed` failed on an earlier page and must not join in midway."""
        names = list(dict.fromkeys(names))
        asked = [name for name in names if name not in failed]
        outcomes = await asyncio.gather(*(_outcome(self._used(name), question) for name in asked))
        found: Found[T] = Found({}, {n: ERRORS[failed[n]](MIDWAY, account=n) for n in names if n in failed})
        for name, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, SchedulingError):
                found.errors[name] = outcome
            else:
                found.answers[name] = outcome
        return found


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What several accounts answered, and why the others did not."""

    answers: dict[str, T]
    errors: dict[str, SchedulingError]

    def any(self) -> Self:
        """Raises the first error if nobody answered: an empty list would be a claim."""
        if self.errors and not self.answers:
            error = next(iter(self.errors.values()))
            if len(self.errors) > 1:
                error.details = {"unavailable": [each.model_dump() for each in unavailable(self.errors)]}
            raise error
        return self


def unavailable(errors: Mapping[str, SchedulingError]) -> list[Unavailable]:
    return [Unavailable(account=name, code=error.code, message=error.message) for name, error in errors.items()]


MIDWAY = "It failed on an earlier page. Begin again without the cursor to ask it once more."


async def _outcome(provider: Provider, question: Callable[[Provider], Awaitable[T]]) -> T | SchedulingError:
    try:
        return await reading(provider, question(provider))
    except SchedulingError as error:
        return error


async def reading(provider: Provider, answer: Awaitable[T]) -> T:
    """Wait for a read; whatever goes wrong has a name and an account."""
    return await _named(provider, answer, ProviderDown, "Nothing was changed.")


async def writing(provider: Provider, answer: Awaitable[T]) -> T:
    """Wait for a write; what goes wrong unforeseen may have happened."""
    return await _named(provider, answer, OutcomeUnknown, "It may have happened: look before trying again.")


async def _named(provider: Provider, answer: Awaitable[T], unforeseen: type[SchedulingError], advice: str) -> T:
    try:
        return audited.shown(await answer)
    except SchedulingError as error:
        error.account = error.account or provider.account
        raise
    except Exception as error:
        log.exception("account %s failed in a way nobody foresaw", provider.account)
        what = f"The gateway failed at this ({type(error).__name__}); {observing.more()}. {advice}"
        raise unforeseen(what, account=provider.account) from error


async def zone_of(provider: Provider) -> ZoneInfo:
    return zone((await reading(provider, provider.identity())).time_zone)
