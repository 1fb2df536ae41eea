"""The base of every adapter that speaks REST: one `call()`, the only place that talks HTTP, retries or names a failure.

Reads are retried a few times, as long as the service asks for and we can bear. Writes are sent once: when the answer to
one is lost the outcome is unknown, and saying so beats a second booking. Neither is sent while the service is known to
take no more requests. What seldom changes is kept for a while (`kept`), until a write.
"""

import math
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

import httpx2
from pydantic import AfterValidator, ValidationError

from providers.base import AccountConfig, Provider, Services
from providers.pace import Pace, retry_after
from schemas import (
    Identity,
    InvalidRequest,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
)
from schemas.problems import problems
from schemas.text import shown

T = TypeVar("T")

ATTEMPTS = 4
LONGEST_WAIT = 30.0
KEPT = timedelta(minutes=2)
MOST_KEPT = 1000
KEEPING = (
    f"Who is signed in, event types and the like are remembered for {KEPT // timedelta(minutes=1)} minutes, or until a "
    f"write. A read is tried {ATTEMPTS} times and waits {LONGEST_WAIT:.0f} seconds at most for the service to take it."
)
# As many of the last tokens are known as may be under way at once while one takes another's place.
TOKENS = 4
TIMEOUT = httpx2.Timeout(10, read=30)
# An answer that comes byte by byte is within those for ever. With it whatever signing in takes.
LONGEST_ANSWER = 90.0

# The request cannot have reached the service.
UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
BY_STATUS: Mapping[int, type[SchedulingError]] = {
    401: NotConnected,
    403: PermissionDenied,
    404: NotFound,
    410: NotFound,
    429: RateLimited,
}
ADVICE: Mapping[type[SchedulingError], str] = {
    NotConnected: "Its operator has to renew the token in the configuration and restart the gateway",
    PermissionDenied: "Give the account's credentials the missing permission",
    NotFound: "List event types or bookings again for a current id",
    RateLimited: "Wait a minute, then try again",
    ProviderDown: "Nothing happened; try again later",
    OutcomeUnknown: "It may have happened: look before trying again",
    InvalidRequest: "Change the arguments as it says",
}


def _url(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("is written like https://api.example.com")
    return url


Url = Annotated[str, AfterValidator(_url)]


class RestConfig(AccountConfig):
    """Keys of every account that is reached over REST."""

    base_url: Url


class RestProvider(Provider):
    Config: ClassVar[type[AccountConfig]] = RestConfig
    cool_down: ClassVar[float | None] = None
    """Seconds to wait after an HTTP 429 that does not say."""

    def __init__(self, account: str, config: AccountConfig, services: Services) -> None:
        super().__init__(account, config, services)
        # The longest first: one secret may be the beginning of another.
        self._hidden = sorted(filter(None, config.secrets()), key=len, reverse=True)
        self._http = httpx2.AsyncClient(
            base_url=self.address,
            auth=services.auth,
            transport=services.transport,
            timeout=TIMEOUT,
            verify=services.transport is not None or tls(),
            event_hooks={"response": [self._note_token]},
        )
        self._tokens = deque[str](maxlen=TOKENS)
        self._pace = Pace(self.clock)
        self._kept: dict[Hashable, tuple[datetime, Any]] = {}
        self._changes = 0

    @property
    def address(self) -> str:
        """Where the service is reached."""
        return str(self.config.base_url)

    async def close(self) -> None:
        await self._http.aclose()

    async def identity(self) -> Identity:
        return await self.kept("whoami", self.whoami)

    def must_take(self, requests: int) -> None:
        if wait := self._pace.wait(requests):
            raise self._failure(RateLimited, f"takes fewer than {requests} more requests for now", retry_after=wait)

    async def kept(self, key: Hashable, fetch: Callable[[], Awaitable[T]]) -> T:
        """What `fetch` answers, for KEPT or until the next write."""
        known: T | None = self.known(key)
        if known is not None:
            return known
        changes, value = self._changes, await fetch()
        # What was read while something was changed may be of before.
        return self.keep(key, value) if changes == self._changes else value

    async def fresh(
        self, key: Hashable, fetch: Callable[[], Awaitable[list[T]]], each: Callable[[T], Hashable]
    ) -> list[T]:
        """What `fetch` answers now; the list is remembered, and each item of it by a key of its own."""
        changes, items = self._changes, await fetch()
        if changes == self._changes:
            for item in items:
                self.keep(each(item), item)
            self.keep(key, items)
        return items

    def known(self, key: Hashable) -> Any:
        """What is remembered, or None."""
        kept = self._kept.get(key)
        return kept[1] if kept and kept[0] > self.clock.now() else None

    def keep(self, key: Hashable, value: T) -> T:
        """Remember what was just read."""
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[key] = (self.clock.now() + KEPT, value)
        return value

    def forget(self) -> None:
        self._changes += 1
        # Whoever we are, we still are.
        self._kept = {key: value for key, value in self._kept.items() if key == "whoami"}

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        """Recognise this service's own error bodies; None leaves it to the status code."""
        return None

    def complaint(self, response: httpx2.Response) -> str:
        """What the service says went wrong."""
        return response.text

    def advise(self, response: httpx2.Response) -> str | None:
        """What to do about it, where that is not what one always does about such an error."""
        return None

    async def call(
        self, method: str, path: str, into: Callable[[Any], T], *, read: bool | None = None, **request: Any
    ) -> T:
        """Send one request and map its answer; `read` marks a POST that changes nothing.

        Raises: a SchedulingError for everything that can go wrong.
        """
        if not (method == "GET" if read is None else read):
            try:
                return await self._send(method, path, into, OutcomeUnknown, **request)
            finally:
                self.forget()
        # Imported on first use: not every start needs it (2026-11: 25 ms).
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_before_delay

        attempts = AsyncRetrying(
            retry=retry_if_exception_type((ProviderDown, RateLimited)),
            wait=_wait,
            stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(LONGEST_WAIT),
            sleep=self.clock.sleep,
            reraise=True,
        )
        return await attempts(self._send, method, path, into, ProviderDown, **request)

    async def _send(
        self, method: str, path: str, into: Callable[[Any], T], lost: type[SchedulingError], **request: Any
    ) -> T:
        if wait := self._pace.wait():
            raise self._failure(RateLimited, "takes no more requests for now", retry_after=wait)
        self._pace.took()
        try:
            with self.clock.within(LONGEST_ANSWER):
                response = await self._exchange(method, path, **request)
        except UNSENT as error:
            where = f"could not be reached at {self.address} ({getattr(error, 'why', type(error).__name__)})"
            raise self._failure(ProviderDown, where) from None
        except (httpx2.HTTPError, TimeoutError) as error:
            raise self._failure(lost, f"did not answer ({type(error).__name__})") from None
        if method == "GET":  # a write may have limits of its own under the same names
            self._pace.learn(response.headers)
        if not response.is_success:
            status = response.status_code
            kind = self.explain(response) or BY_STATUS.get(status) or (InvalidRequest if 400 <= status < 500 else lost)
            # A service that is overloaded says so before it acts.
            after = retry_after(response.headers, self.clock.now()) if status in (429, 503) else None
            if status == 429:
                after = self.cool_down if after is None else after
                if method == "GET":
                    self._pace.stop(after or 0)
            complaint = self.complaint(response).strip()
            said = f"answered HTTP {status}{': ' if complaint else ''}{complaint}"
            raise self._failure(kind, said, retry_after=after, advice=self.advise(response))
        return self.mapped(lambda _: into(response.json() if response.content else None), response, lost)

    async def _exchange(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """One request and its answer, whatever it says. Raises httpx2.HTTPError if there is none."""
        with self.services.watch(self.account, method, self._http.base_url.join(path).host) as exchange:
            response = await self._http.request(method, path, **request)
            exchange.answered(response)
        return response

    def mapped(self, into: Callable[[Any], T], raw: Any, lost: type[SchedulingError] = ProviderDown) -> T:
        """What an answer says. Raises `lost` if it cannot be read."""
        try:
            return into(raw)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            # From None, here and above: the causes quote values, and a secret may be among them.
            raise self._failure(lost, f"sent an answer that cannot be read ({_trouble(error)})") from None

    def _failure(
        self, kind: type[SchedulingError], what: str, *, retry_after: float | None = None, advice: str | None = None
    ) -> SchedulingError:
        said = f"{self.title} {self._safe(what)}."
        if kind is SlotTaken:
            message = f"That time is not free, or not on offer; find_slots has the times that are. {said}"
        elif kind is RateLimited and retry_after:
            message = f"{said} Try again in {math.ceil(retry_after)} seconds."
        else:
            advice = self._safe(advice) if advice else ADVICE[kind]
            message = f"{said} {advice}."
        return kind(message, account=self.account, retry_after=retry_after)

    async def _note_token(self, response: httpx2.Response) -> None:
        """What we signed in with, which no configuration has where somebody consented in a browser."""
        token = response.request.headers.get("authorization", "").rpartition(" ")[2]
        if token and token not in self._tokens:
            self._tokens.append(token)

    def _safe(self, text: str) -> str:
        """In one line, bounded, without secrets: a service may echo what it was sent."""
        # In this order: taking a control out of its middle could make a secret whole.
        text = " ".join(str(shown(text)).split())
        for secret in (*self._hidden, *self._tokens):
            text = text.replace(secret, "***")
        return text[:300].rstrip(" .")


@cache
def tls() -> ssl.SSLContext:
    """What every connection trusts, made once: it takes 15 ms (2026-11)."""
    return httpx2.create_ssl_context()


def said(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object that an error came with; empty if it came with none."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def an_id(id: str, what: str, pattern: str = r"[A-Za-z0-9_-]{1,255}") -> str:
    """`id`, which can stand in a path. Raises NotFound for what cannot be an id of the service."""
    if not re.fullmatch(pattern, id, re.ASCII):
        raise NotFound(f"There is no such {what}. {ADVICE[NotFound]}.")
    return id


def _trouble(error: Exception) -> str:
    """What could not be read, by its place alone."""
    if isinstance(error, ValidationError):
        return "; ".join(problems(error, None))
    return f"no {error.args[0]}" if isinstance(error, KeyError) and error.args else type(error).__name__


def _wait(state: Any) -> float:
    """As long as the service asks for, else half a second, doubling."""
    error = state.outcome.exception()
    if error.retry_after is not None:
        return float(error.retry_after)
    return float(0.5 * 2 ** (state.attempt_number - 1))
