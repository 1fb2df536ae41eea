"""`RestProvider.call` at work in the toy adapter: what a failure is called, what is tried again, what never shows."""

import logging
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import select
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.config import Config
from gateway.core import LOOKS, Gateway
from gateway.server import build_server
from providers import Services
from providers.rest import ATTEMPTS, LONGEST_WAIT, RestConfig
from providers.storage.tables import journal
from schemas import (
    BookingQuery,
    BookingRequest,
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
from tests.agent import Agent, connected
from tests.emulators import toy
from tests.emulators.wire import TOKEN, Lost
from tests.postgres import databases
from tests.stages import LocalStage
from tests.toy import Toy, ToyConfig
from tests.world import BEGIN, ELEVEN, MONDAY, NINE, TEN, Clock, World

pytestmark = pytest.mark.anyio

TUESDAY, SATURDAY, SUNDAY = (MONDAY + timedelta(days=days) for days in (1, 5, 6))
LONGEST_MESSAGE = 400
FOREVER = 200
REQUEST = BookingRequest(
    event_type_id="intro",
    start=TEN,
    attendee_name="Ana",
    attendee_email="ana@example.com",
    attendee_time_zone="Europe/Berlin",
    marker="m1",
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


@pytest.fixture
async def provider(world: World) -> AsyncIterator[Toy]:
    provider = a_toy(world)
    yield provider
    await provider.close()


def a_toy(world: World, config: ToyConfig | None = None, adapter: type[Toy] = Toy) -> Toy:
    # The toy keeps nothing, so it is lent no storage and no vault.
    nothing: Any = None
    services = Services(world.clock, nothing, nothing, transport=httpx2.ASGITransport(app=toy.app(world)))
    return adapter("acme", config or a_config(), services)


def a_config(token: str = TOKEN) -> ToyConfig:
    return ToyConfig(provider="toy", base_url="https://toy.example", token=SecretStr(token))


def status(code: int, body: str = "no", **headers: str) -> Response:
    return Response(body, code, headers={name.replace("_", "-"): value for name, value in headers.items()})


# What a service does, what a read of it is called, and what a write is.
REFUSALS: list[tuple[Any, type[SchedulingError]]] = [
    (status(400), InvalidRequest),
    (status(401), NotConnected),
    (status(403), PermissionDenied),
    (status(404), NotFound),
    (status(409), SlotTaken),  # the toy's own `explain`
    (status(410), NotFound),
    (status(418), InvalidRequest),
    (status(422), InvalidRequest),
    (status(429), RateLimited),
]
UNSENT: list[Any] = [
    httpx2.ConnectError("refused"),
    httpx2.ConnectTimeout("slow"),
    httpx2.PoolTimeout("full"),
    httpx2.UnsupportedProtocol("gopher"),
]
LOST: list[Any] = [
    status(302, location="https://elsewhere.example/"),
    status(500),
    status(502),
    status(503),
    HTMLResponse("<h1>Down for maintenance</h1>"),
    Response(b""),
    Response(b"\xff\xfe"),
    Response(b"no", headers={"content-encoding": "gzip"}),
    *map(JSONResponse, [None, {}, [], "text", 7, {"id": 7}, {"email": {}, "name": [], "zone": "Mars"}]),
    httpx2.ReadTimeout("slow"),
    httpx2.WriteTimeout("slow"),
    httpx2.ReadError("reset"),
    httpx2.WriteError("reset"),
    httpx2.CloseError("reset"),
    httpx2.RemoteProtocolError("cut off"),
    httpx2.LocalProtocolError("muddled"),
    Lost(),
]
FAILURES = [
    *((failure, name, name) for failure, name in REFUSALS),
    *((failure, ProviderDown, ProviderDown) for failure in UNSENT),
    *((failure, ProviderDown, OutcomeUnknown) for failure in LOST),
]


def called(failure: object) -> str:
    if isinstance(failure, Response):
        return f"{failure.status_code} {bytes(failure.body)!r:.30}"
    return failure.__name__ if isinstance(failure, type) else type(failure).__name__


every_failure = pytest.mark.parametrize(
    ("failure", "as_read", "as_write"), FAILURES, ids=[called(each[0]) for each in FAILURES]
)
WRITES: dict[str, Callable[[Toy], Any]] = {
    "create": lambda toy: toy.create_booking(REQUEST),
    "move": lambda toy: _of(toy, lambda booking: toy.reschedule_booking(booking, ELEVEN, None)),
    "cancel": lambda toy: _of(toy, lambda booking: toy.cancel_booking(booking, "ill")),
    "respond": lambda toy: _of(toy, lambda booking: toy.respond_to_booking(booking, "decline", None)),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


async def _of(toy: Toy, write: Callable[[Any], Any]) -> Any:
    return await write(await toy.get_booking("b1"))


class At(deque[Any]):
    """Failures for the requests that `wanted` picks; the others go through."""

    def __init__(self, world: World, wanted: Callable[[str, str], bool], failures: list[Any]) -> None:
        super().__init__(failures)
        self._world, self._wanted = world, wanted

    def popleft(self) -> Any:
        return super().popleft() if self._wanted(*self._world.requests[-1]) else None


def fail_writes(world: World, *failures: Any) -> None:
    world.failures = At(world, lambda method, _: method != "GET", list(failures))


# Names


@every_failure
async def test_a_failed_read_has_one_name(
    world: World, provider: Toy, failure: Any, as_read: type[SchedulingError], as_write: type[SchedulingError]
) -> None:
    world.failures.extend([failure] * ATTEMPTS)
    with pytest.raises(SchedulingError) as caught:
        await provider.whoami()
    assert type(caught.value) is as_read
    assert caught.value.account == "acme"


@every_failure
async def test_a_failed_write_has_one_name_and_was_sent_once(
    world: World, provider: Toy, failure: Any, as_read: type[SchedulingError], as_write: type[SchedulingError]
) -> None:
    world.failures.append(failure)
    with pytest.raises(SchedulingError) as caught:
        await provider.create_booking(REQUEST)
    assert type(caught.value) is as_write
    assert caught.value.account == "acme"
    assert world.writes == [("POST", "/bookings")]
    assert not world.clock.waits


@every_write
@pytest.mark.parametrize(
    "failure",
    [status(429, retry_after="1"), status(503), httpx2.ConnectError("refused"), httpx2.ReadError("reset"), Lost()],
    ids=called,
)
async def test_no_write_is_sent_twice(world: World, provider: Toy, write: Any, failure: Any) -> None:
    world.book("intro", TEN, "ben@example.com")
    fail_writes(world, failure)
    with pytest.raises(SchedulingError):
        await write(provider)
    assert len(world.writes) == 1
    assert not world.clock.waits


async def test_a_service_may_know_its_own_error_better_than_its_status(world: World) -> None:
    class Odd(Toy):
        def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
            return SlotTaken if "already_filled" in response.text else None

    provider = a_toy(world, adapter=Odd)
    world.failures.extend([status(500, "already_filled"), status(409)])
    with pytest.raises(SlotTaken):
        await provider.create_booking(REQUEST)
    with pytest.raises(InvalidRequest):
        await provider.create_booking(REQUEST)
    await provider.close()


@pytest.mark.parametrize("body", [{"days": 10**12}, {"days": 1e300}])
async def test_a_number_too_big_to_be_a_time_is_an_answer_that_cannot_be_read(
    world: World, provider: Toy, body: Any
) -> None:
    world.failures.extend([JSONResponse(body)] * ATTEMPTS)
    with pytest.raises(ProviderDown):
        await provider.call("GET", "/length", lambda raw: timedelta(days=raw["days"]))


async def test_json_too_deep_to_be_read_is_an_answer_that_cannot_be_read(world: World, provider: Toy) -> None:
    world.failures.append(Response(b"[" * 100_000))
    with pytest.raises(OutcomeUnknown):
        await provider.create_booking(REQUEST)


async def test_an_empty_answer_is_read_as_none(world: World, provider: Toy) -> None:
    world.failures.append(Response(status_code=204))
    assert await provider.call("DELETE", "/bookings/b1", lambda raw: [raw]) == [None]


# Trying again


async def test_a_read_that_succeeds_at_the_second_try_answers(world: World, provider: Toy) -> None:
    world.failures.append(status(502))
    assert await provider.whoami() == Identity(email="host@example.com", name="Host", time_zone="Europe/Berlin")
    assert world.requests == [("GET", "/me")] * 2
    assert len(world.clock.waits) == 1


@pytest.mark.parametrize("failure", [*LOST, *UNSENT, status(429)], ids=called)
async def test_a_read_is_tried_a_few_times_and_then_says_so(world: World, provider: Toy, failure: Any) -> None:
    world.failures.extend([failure] * FOREVER)
    with pytest.raises((ProviderDown, RateLimited)):
        await provider.whoami()
    assert world.requests == [("GET", "/me")] * ATTEMPTS
    assert world.clock.waits == [0.5, 1, 2]


@pytest.mark.parametrize("failure", [failure for failure, name in REFUSALS if name is not RateLimited], ids=called)
async def test_what_the_service_refuses_is_not_asked_again(world: World, provider: Toy, failure: Any) -> None:
    world.failures.append(failure)
    with pytest.raises(SchedulingError):
        await provider.whoami()
    assert len(world.requests) == 1
    assert not world.clock.waits


async def test_a_post_that_only_reads_is_tried_again(world: World, provider: Toy) -> None:
    world.failures.extend([httpx2.ReadTimeout("slow"), JSONResponse({"found": 1})])
    assert await provider.call("POST", "/search", lambda raw: raw["found"], read=True) == 1
    assert len(world.requests) == 2


async def test_a_get_that_changes_something_is_sent_once(world: World, provider: Toy) -> None:
    world.failures.append(httpx2.ReadTimeout("slow"))
    with pytest.raises(OutcomeUnknown):
        await provider.call("GET", "/confirm", lambda raw: raw, read=False)
    assert len(world.requests) == 1


def http_date(seconds: float) -> str:
    return format_datetime(Clock().now() + timedelta(seconds=seconds), usegmt=True)


WAITS = {
    "seconds": ({"retry-after": "7"}, 7),
    "a fraction": ({"retry-after": "1.5"}, 1.5),
    "none": ({"retry-after": "0"}, 0),
    "date": ({"retry-after": http_date(7)}, 7),
    "date gone by": ({"retry-after": http_date(-60)}, 0),
    "reset in": ({"x-ratelimit-reset": "7"}, 7),
    "reset at": ({"x-ratelimit-reset": str(int(BEGIN.timestamp()) + 7)}, 7),
    "reset gone by": ({"x-ratelimit-reset": str(int(BEGIN.timestamp()) - 60)}, 0),
    "reset, standard": ({"ratelimit-reset": "7"}, 7),
    "both": ({"retry-after": "3", "x-ratelimit-reset": "7"}, 3),
    "longest": ({"retry-after": str(LONGEST_WAIT - 1)}, LONGEST_WAIT - 1),
    "words": ({"retry-after": "soon"}, 0.5),
    "nothing": ({}, 0.5),
}


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("headers", "seconds"), WAITS.values(), ids=WAITS)
async def test_a_read_waits_as_long_as_the_service_asks(
    world: World, provider: Toy, code: int, headers: dict[str, str], seconds: float
) -> None:
    world.failures.append(Response("slower", code, headers=headers))
    await provider.whoami()
    assert world.clock.waits == [seconds]


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own clock is nine hours ahead."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize(
    "date", [http_date(7), f"{Clock().now() + timedelta(seconds=7):%a %b %d %H:%M:%S %Y}"], ids=["imf", "asctime"]
)
async def test_a_date_to_wait_for_is_in_utc_wherever_the_gateway_runs(world: World, provider: Toy, date: str) -> None:
    """The old form names no zone and must still be understood, as UTC (RFC 9110, 5.6.7)."""
    world.failures.append(status(429, retry_after=date))
    await provider.whoami()
    assert world.clock.waits == [7]


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": str(LONGEST_WAIT + 1)},
        {"retry-after": http_date(LONGEST_WAIT + 1)},
        {"x-ratelimit-reset": str(LONGEST_WAIT + 1)},
        {"x-ratelimit-reset": str(BEGIN.timestamp() + LONGEST_WAIT + 1)},
    ],
    ids=str,
)
async def test_a_wait_nobody_can_bear_is_told_instead(world: World, provider: Toy, headers: dict[str, str]) -> None:
    world.failures.append(Response("slower", 429, headers=headers))
    with pytest.raises(RateLimited) as caught:
        await provider.whoami()
    assert caught.value.retry_after == LONGEST_WAIT + 1
    assert not world.clock.waits
    assert len(world.requests) == 1


async def test_a_write_that_is_rate_limited_tells_how_long_to_wait(world: World, provider: Toy) -> None:
    world.failures.append(status(429, retry_after="7"))
    with pytest.raises(RateLimited) as caught:
        await provider.create_booking(REQUEST)
    assert caught.value.retry_after == 7
    assert world.writes == [("POST", "/bookings")]


async def test_what_was_read_while_something_changed_is_not_remembered(provider: Toy) -> None:
    async def then_changed() -> list[str]:
        provider.forget()
        return ["old"]

    assert await provider.fresh("all", then_changed, lambda item: ("one", item)) == ["old"]
    assert (provider.known("all"), provider.known(("one", "old"))) == (None, None)


# Lost answers


@every_write
async def test_a_write_whose_answer_is_lost_happened_once_and_is_unknown(
    world: World, provider: Toy, write: Any
) -> None:
    if write is not WRITES["create"]:
        world.book("intro", TEN, "ana@example.com")
    before = dict(world.appointments)
    fail_writes(world, Lost())
    with pytest.raises(OutcomeUnknown):
        await write(provider)
    assert len(world.writes) == 1
    assert len(world.appointments) == 1
    assert world.appointments != before


async def test_a_lost_read_changes_nothing_and_is_tried_again(world: World, provider: Toy) -> None:
    world.book("intro", TEN, "ana@example.com")
    world.failures.append(Lost())
    assert [each.id async for each in provider.list_bookings(BookingQuery())] == ["b1"]
    assert world.requests == [("GET", "/bookings")] * 2


# Secrets and bounds

LEAKS: dict[str, Any] = {
    "error body": status(400, f"bad token {TOKEN}"),
    "error body, twice": status(403, f"{TOKEN} is not {TOKEN}"),
    "error body, long": status(422, "x" * 270 + f"{TOKEN} " + "y" * 1000),
    # Controls are taken out of a message; what they part must not come together then.
    "error body, parted": status(422, f"{TOKEN[:4]}\x00{TOKEN[4:]}"),
    "error page": HTMLResponse(f"<h1>Authorization: Bearer {TOKEN}</h1>", 500),
    "rate limit": status(429, TOKEN, retry_after="60"),
    "answer of the wrong shape": JSONResponse({"email": TOKEN, "name": TOKEN, "zone": TOKEN, "id": TOKEN}),
    "answer with the wrong status": JSONResponse(
        {"id": "b1", "kind": "intro", "title": "Intro", "state": TOKEN, "from": TOKEN, "to": TOKEN, "others": []}
        | {"guest": {"name": "A", "email": "a@example.com", "missed": False}, "answers": {}, "notes": None}
        | {"reason": None, "marker": "", "email": TOKEN, "name": TOKEN, "zone": TOKEN}
    ),
    "answer that is no JSON": Response(f"token={TOKEN}"),
    # As HTTP libraries put it, of a token with a line break at its end.
    "local error": httpx2.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}\\n'"),
}
OPERATIONS: dict[str, Callable[[Toy], Any]] = {
    "read": lambda toy: toy.whoami(),
    "write": lambda toy: toy.create_booking(REQUEST),
}
every_leak = pytest.mark.parametrize("failure", LEAKS.values(), ids=LEAKS)
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@every_leak
@every_operation
async def test_a_secret_shows_in_no_error_and_no_log(
    world: World, provider: Toy, failure: Any, operation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.failures.extend([failure] * ATTEMPTS)
    with pytest.raises(SchedulingError) as caught:
        await operation(provider)
    error = caught.value
    assert TOKEN[:6] not in f"{error} {error!r} {error.message} {error.details} {vars(error)}"
    assert TOKEN not in caplog.text
    assert TOKEN not in repr([vars(record) for record in caplog.records])


@every_leak
@every_operation
async def test_a_secret_shows_in_no_traceback(world: World, provider: Toy, failure: Any, operation: Any) -> None:
    """Whoever logs the error with its causes logs what those say."""
    world.failures.extend([failure] * ATTEMPTS)
    with pytest.raises(SchedulingError) as caught:
        await operation(provider)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_secret_shows_in_nothing_that_holds_it(world: World) -> None:
    provider = a_toy(world)
    for holder in (provider, provider.config, provider.services, provider._http, provider._http.headers):
        assert TOKEN not in f"{holder} {holder!r}"


class Keys(ToyConfig):
    older: SecretStr
    newer: dict[str, list[SecretStr]]


async def test_every_secret_of_a_configuration_is_hidden_wherever_it_stands(world: World) -> None:
    provider = a_toy(
        world,
        Keys(
            provider="toy",
            base_url="https://toy.example",
            token=SecretStr(TOKEN),
            older=SecretStr("0lder"),
            newer={"keys": [SecretStr("0lder-and-newer")]},
        ),
    )
    world.failures.append(status(400, f"{TOKEN} 0lder-and-newer 0lder"))
    with pytest.raises(InvalidRequest) as caught:
        await provider.whoami()
    for part in (TOKEN, "0lder", "newer"):
        assert part not in caught.value.message
    await provider.close()


async def test_a_secret_that_is_empty_hides_nothing(world: World) -> None:
    """As `${VAR:-}` gives it, where the variable is not set."""
    provider = a_toy(world, a_config(token=""))
    with pytest.raises(NotConnected) as caught:
        await provider.whoami()
    assert "answered HTTP 401" in caught.value.message
    await provider.close()


@every_operation
@pytest.mark.parametrize(
    "body",
    ["", "x" * 10_000, "a\nb\r\nc\td " * 100, "<html>\n<body>\n" * 500, "\x00\x1b[31mred\x9b \u202egnol\u2028line"],
    ids=["empty", "long", "lines", "page", "controls"],
)
async def test_a_message_is_one_bounded_line(world: World, provider: Toy, operation: Any, body: str) -> None:
    world.failures.extend([status(500, body)] * ATTEMPTS)
    with pytest.raises(SchedulingError) as caught:
        await operation(provider)
    message = caught.value.message
    assert "HTTP 500" in message
    assert len(message) <= LONGEST_MESSAGE
    assert message.isprintable()
    assert message.endswith(".")
    assert ":." not in message


@pytest.mark.parametrize("url", ["toy.example", "", "gopher://toy.example", "https://toy.example:port", "https://"])
def test_a_base_url_that_is_none_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ValidationError):
        RestConfig(provider="toy", base_url=url)


# Through the gateway: two accounts, of which one fails


@dataclass
class Pair:
    """`acme` is at the toy service and `home` is embedded; `home` has three bookings of its own."""

    world: World
    gateway: Gateway
    agent: Agent
    event_types: list[str]

    def fail(self, failure: Any) -> None:
        self.world.failures.extend([failure] * FOREVER)

    def recover(self) -> None:
        self.world.failures.clear()
        self.world.clock.advance(timedelta(minutes=2))  # it takes requests again

    async def journaled(self) -> list[Any]:
        async with self.gateway.storage.read() as connection:
            return list(await connection.execute(select(journal)))

    async def outcomes(self) -> list[str]:
        """Of the writes to `acme`, in no order: the clock stands still."""
        return sorted(row.outcome for row in await self.journaled() if row.account == "acme")


@pytest.fixture
async def pair(tmp_path: Path, world: World) -> AsyncIterator[Pair]:
    home = LocalStage.adapter.Config(provider="local", **LocalStage.settings)
    gateway = a_gateway(tmp_path, world, acme=a_config(), home=home)
    async with connected(build_server(gateway)) as agent:
        for at in (NINE, TEN, ELEVEN):
            await agent.create_booking(**a_booking("home:intro", at))
        yield Pair(world, gateway, agent, ["acme:intro", "home:intro"])


def a_gateway(folder: Path, world: World, **accounts: Any) -> Gateway:
    transport = httpx2.ASGITransport(app=toy.app(world))
    return Gateway(Config(accounts=accounts, storage=databases.newest(folder)), clock=world.clock, transport=transport)


def a_booking(event_type_id: str = "acme:intro", start: datetime = TEN, **more: Any) -> dict[str, Any]:
    who = {"attendee_name": "Ana", "attendee_email": "ana@example.com"}
    return {"event_type_id": event_type_id, "start": start.isoformat(), **who, **more}


DAY = {"start": MONDAY.isoformat(), "end": TUESDAY.isoformat()}
SEARCHES: dict[str, dict[str, Any]] = {
    "list_event_types": {},
    "find_slots": {"event_type_ids": ["acme:intro", "home:intro"], **DAY},
    "find_busy_times": DAY,
    "list_bookings": {},
}
LISTED = {
    "list_event_types": "event_types",
    "find_slots": "slots",
    "find_busy_times": "busy",
    "list_bookings": "bookings",
}
TROUBLE = {
    "provider_down": httpx2.ConnectError("refused"),
    "not_connected": status(401),
    "permission_denied": status(403),
    "rate_limited": status(429, retry_after="60"),
}
every_search = pytest.mark.parametrize(("tool", "arguments"), SEARCHES.items(), ids=SEARCHES)
every_trouble = pytest.mark.parametrize(("code", "failure"), TROUBLE.items(), ids=TROUBLE)


def failed(answer: dict[str, Any]) -> dict[str, str]:
    """The accounts under `unavailable`, each of which says why, and their codes."""
    assert all(each["message"] for each in answer["unavailable"])
    return {each["account"]: each["code"] for each in answer["unavailable"]}


def owners(items: list[dict[str, Any]]) -> set[str]:
    return {each.get("account") or each["event_type_id"].partition(":")[0] for each in items}


@every_search
@every_trouble
async def test_an_account_that_fails_is_named_and_the_others_answer(
    pair: Pair, tool: str, arguments: dict[str, Any], code: str, failure: Any
) -> None:
    pair.world.book("intro", NINE, "ben@example.com")
    pair.fail(failure)
    answer = await getattr(pair.agent, tool)(**arguments)
    assert failed(answer) == {"acme": code}
    assert owners(answer[LISTED[tool]]) == {"home"}
    pair.recover()
    answer = await getattr(pair.agent, tool)(**arguments)
    assert failed(answer) == {}
    assert owners(answer[LISTED[tool]]) == {"acme", "home"}


@every_search
@every_trouble
async def test_if_every_account_fails_the_call_is_an_error(
    tmp_path: Path, world: World, tool: str, arguments: dict[str, Any], code: str, failure: Any
) -> None:
    world.failures.extend([failure] * FOREVER)
    gateway = a_gateway(tmp_path, world, acme=a_config(), spare=a_config())
    renamed = {"event_type_ids": ["acme:intro", "spare:intro"]} if tool == "find_slots" else {}
    async with connected(build_server(gateway)) as agent:
        with pytest.raises(SchedulingError) as caught:
            await getattr(agent, tool)(**arguments | renamed)
    assert caught.value.code == code
    assert caught.value.details is not None
    assert failed(dict(caught.value.details)) == {"acme": code, "spare": code}


@every_search
async def test_an_account_asked_alone_fails_by_name(pair: Pair, tool: str, arguments: dict[str, Any]) -> None:
    alone = {"find_slots": {"event_type_ids": ["acme:intro"]}, "find_busy_times": {"accounts": ["acme"]}}
    pair.fail(status(401))
    with pytest.raises(NotConnected) as caught:
        await getattr(pair.agent, tool)(**arguments | alone.get(tool, {"account": "acme"}))
    assert caught.value.account == "acme"


@pytest.mark.parametrize("order", [["acme:intro", "home:intro"], ["home:intro", "acme:intro"]], ids=str)
async def test_no_slots_of_one_account_are_an_answer_though_the_other_fails(pair: Pair, order: list[str]) -> None:
    pair.fail(status(401))
    answer = await pair.agent.find_slots(event_type_ids=order, start=SATURDAY.isoformat(), end=SUNDAY.isoformat())
    assert answer["slots"] == []
    assert failed(answer) == {"acme": "not_connected"}


@every_search
async def test_an_account_that_fails_halfway_does_not_take_the_others_with_it(
    pair: Pair, tool: str, arguments: dict[str, Any]
) -> None:
    """It answers what was asked for, and then not who it is, which only the time zone of the answer hangs on."""
    pair.world.failures = At(pair.world, lambda _, path: path == "/me", [status(401)] * FOREVER)
    answer = await getattr(pair.agent, tool)(**arguments)
    assert "home" in owners(answer[LISTED[tool]])


@every_trouble
async def test_a_time_that_could_not_be_checked_is_not_offered(pair: Pair, code: str, failure: Any) -> None:
    pair.world.book("intro", NINE + timedelta(minutes=30), "ben@example.com")
    wanted = {"event_type_ids": ["home:intro"], "free_in": ["acme"], **DAY}
    pair.fail(failure)
    answer = await pair.agent.find_slots(**wanted)
    assert answer["slots"] == []
    assert failed(answer) == {"acme": code}
    pair.recover()
    answer = await pair.agent.find_slots(**wanted)
    assert failed(answer) == {}
    starts = [datetime.fromisoformat(slot["start"]) for slot in answer["slots"]]
    # 9:00, 10:00 and 11:00 are booked at home, 9:30 is at acme.
    assert starts[:2] == [TEN + timedelta(minutes=30), ELEVEN + timedelta(minutes=30)]


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (status(401), "needs_connection"),
        (status(403), "failing"),
        (status(500), "failing"),
        (status(429, retry_after="60"), "failing"),
        (httpx2.ConnectError("refused"), "failing"),
        (Response(b""), "failing"),
    ],
    ids=called,
)
async def test_accounts_are_listed_with_the_state_they_are_in(pair: Pair, failure: Any, state: str) -> None:
    pair.fail(failure)
    acme, home = (await pair.agent.list_accounts())["accounts"]
    assert (acme["account"], acme["state"]) == ("acme", state)
    assert acme["detail"]
    assert "email" not in acme
    assert (home["account"], home["state"]) == ("home", "ready")
    pair.recover()
    acme, home = (await pair.agent.list_accounts())["accounts"]
    assert (acme["state"], acme["email"], home["state"]) == ("ready", "host@example.com", "ready")


PAGED: dict[str, dict[str, Any]] = {
    "list_bookings": {"limit": 2},
    "find_slots": {**SEARCHES["find_slots"], "limit": 10},
}
every_page = pytest.mark.parametrize(("tool", "arguments"), PAGED.items(), ids=PAGED)


async def pages(agent: Agent, tool: str, arguments: dict[str, Any], cursor: str | None = None) -> list[dict[str, Any]]:
    """This page and all that follow."""
    answer = await getattr(agent, tool)(**arguments, **({"cursor": cursor} if cursor else {}))
    rest = await pages(agent, tool, arguments, answer["next_cursor"]) if "next_cursor" in answer else []
    return [answer, *rest]


@every_page
async def test_an_account_that_failed_stays_out_of_the_following_pages(
    pair: Pair, tool: str, arguments: dict[str, Any]
) -> None:
    for start in (NINE, TEN, ELEVEN):
        pair.world.book("intro", start, "ben@example.com")
    pair.fail(status(401))
    first = await getattr(pair.agent, tool)(**arguments)
    assert failed(first) == {"acme": "not_connected"}
    pair.recover()
    asked = len(pair.world.requests)
    following = await pages(pair.agent, tool, arguments, first["next_cursor"])
    assert all(failed(page) == {"acme": "not_connected"} for page in following)
    assert not [request for request in pair.world.requests[asked:] if request[1] in ("/bookings", "/slots")]
    items = [item for page in (first, *following) for item in page[LISTED[tool]]]
    assert owners(items) == {"home"}
    assert len(items) == {"list_bookings": 3, "find_slots": 13}[tool]
    anew = await pages(pair.agent, tool, arguments)
    assert all(failed(page) == {} for page in anew)
    items = [item for page in anew for item in page[LISTED[tool]]]
    assert owners(items) == {"acme", "home"}
    assert len(items) == {"list_bookings": 6, "find_slots": 26}[tool]


@every_page
async def test_an_account_that_fails_on_a_later_page_is_named_from_there_on(
    pair: Pair, tool: str, arguments: dict[str, Any]
) -> None:
    for start in (NINE, TEN, ELEVEN):
        pair.world.book("intro", start, "ben@example.com")
    first = await getattr(pair.agent, tool)(**arguments)
    assert failed(first) == {}
    pair.fail(status(401))
    second, *others = await pages(pair.agent, tool, arguments, first["next_cursor"])
    assert failed(second) == {"acme": "not_connected"}
    assert all(failed(page) == {"acme": "not_connected"} for page in others)
    assert owners(second[LISTED[tool]]) == {"home"}


async def test_slots_that_can_be_checked_no_more_are_not_offered_on_a_later_page(pair: Pair) -> None:
    wanted = {"event_type_ids": ["home:intro"], "free_in": ["acme"], "limit": 3, **DAY}
    first = await pair.agent.find_slots(**wanted)
    assert len(first["slots"]) == 3
    pair.fail(status(401))
    second = await pair.agent.find_slots(**wanted, cursor=first["next_cursor"])
    assert second["slots"] == []
    assert failed(second) == {"acme": "not_connected"}


# Through the gateway: writes


with_and_without_key = pytest.mark.parametrize("key", [{}, {"idempotency_key": "k1"}], ids=["without key", "with key"])
LOST_WRITES = [Lost(), status(500), Response(b"")]


class Deaf(deque[Any]):
    """The first write fails as told; whatever comes after it finds the service down."""

    def __init__(self, world: World, failure: Any) -> None:
        super().__init__([None] * FOREVER)
        self._world, self._failure = world, failure

    def popleft(self) -> Any:
        if not self._world.writes:
            return None
        is_write = self._world.requests[-1][0] != "GET"
        return self._failure if is_write else httpx2.ConnectError("refused")


@with_and_without_key
async def test_a_booking_whose_answer_was_lost_is_found_by_its_marker(pair: Pair, key: dict[str, Any]) -> None:
    fail_writes(pair.world, Lost())
    booked = await pair.agent.create_booking(**a_booking(**key))
    assert (booked["id"], booked["start"]) == ("acme:b1", TEN.isoformat())
    assert await pair.agent.create_booking(**a_booking(**key)) == booked
    assert pair.world.writes == [("POST", "/bookings")]
    assert await pair.outcomes() == ["done"]


@with_and_without_key
@pytest.mark.parametrize("lost", LOST_WRITES[1:], ids=called)
async def test_a_booking_that_was_looked_for_and_is_not_there_may_be_made_again(
    pair: Pair, key: dict[str, Any], lost: Any
) -> None:
    fail_writes(pair.world, lost)
    waited = len(pair.world.clock.waits)
    with pytest.raises(ProviderDown) as caught:
        await pair.agent.create_booking(**a_booking(**key))
    assert caught.value.account == "acme"
    assert pair.world.clock.waits[waited:] == [pause for pause in LOOKS if pause]
    assert len(pair.world.writes) == 1
    assert (await pair.agent.create_booking(**a_booking(**key)))["id"] == "acme:b1"
    assert await pair.outcomes() == ["done", "failed"]


@with_and_without_key
@pytest.mark.parametrize("lost", LOST_WRITES, ids=called)
async def test_a_request_whose_outcome_cannot_be_known_is_not_sent_again(
    pair: Pair, key: dict[str, Any], lost: Any
) -> None:
    pair.world.failures = Deaf(pair.world, lost)
    for _ in range(3):
        with pytest.raises((OutcomeUnknown, ProviderDown)) as caught:
            await pair.agent.create_booking(**a_booking(**key))
        assert caught.value.account == "acme"
    assert pair.world.writes == [("POST", "/bookings")]
    assert len(pair.world.appointments) == (1 if isinstance(lost, Lost) else 0)
    assert await pair.outcomes() == ["unknown"]
    pair.world.failures = deque()
    if isinstance(lost, Lost):  # found by whoever asks again
        assert (await pair.agent.create_booking(**a_booking(**key)))["id"] == "acme:b1"
        assert len(pair.world.appointments) == 1


async def test_a_booking_of_somebody_else_is_not_taken_for_ours(pair: Pair) -> None:
    """The same guest at the same time, made by another gateway, or before the request."""
    for marker in ("another", ""):
        pair.world.appointments.clear()
        pair.world.book("intro", TEN, "ana@example.com", marker=marker, created=BEGIN - timedelta(days=1))
        fail_writes(pair.world, status(500))
        with pytest.raises(ProviderDown):
            await pair.agent.create_booking(**a_booking())


@pytest.mark.parametrize("failure", [*UNSENT, status(401), status(429, retry_after="7")], ids=called)
async def test_a_request_that_did_not_happen_may_be_made_again(pair: Pair, failure: Any) -> None:
    fail_writes(pair.world, failure)
    with pytest.raises((ProviderDown, NotConnected, RateLimited)):
        await pair.agent.create_booking(**a_booking())
    booked = await pair.agent.create_booking(**a_booking())
    assert booked["id"] == "acme:b1"
    assert await pair.outcomes() == ["done", "failed"]


async def test_a_booking_that_could_not_be_looked_at_first_is_not_sent(pair: Pair) -> None:
    pair.fail(status(500))
    with pytest.raises(ProviderDown):
        await pair.agent.create_booking(**a_booking())
    assert not pair.world.writes


@pytest.mark.parametrize("tool", ["list_bookings", "create_booking"])
@pytest.mark.parametrize(
    ("stated", "told"), [("60", 60), ("59.2", 60), (http_date(60), 60)], ids=["seconds", "fraction", "date"]
)
async def test_an_agent_is_told_to_wait_in_whole_seconds(pair: Pair, tool: str, stated: str, told: int) -> None:
    pair.fail(status(429, retry_after=stated))
    with pytest.raises(RateLimited) as caught:
        await getattr(pair.agent, tool)(**{"list_bookings": {"account": "acme"}, "create_booking": a_booking()}[tool])
    assert caught.value.retry_after == told
    assert caught.value.account == "acme"


@pytest.mark.parametrize("stated", ["inf", "nan", "1e400", "-1", "Mon, 01 Jan 9999 23:00:00 GMT"])
async def test_a_wait_that_is_no_time_is_still_an_answer_with_a_name(pair: Pair, stated: str) -> None:
    pair.fail(status(429, retry_after=stated))
    with pytest.raises(RateLimited):
        await pair.agent.list_bookings(account="acme")


@pytest.mark.parametrize("failure", LEAKS.values(), ids=LEAKS)
async def test_a_secret_shows_in_no_answer_no_log_and_no_journal(
    pair: Pair, failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fail_writes(pair.world, failure)
    with pytest.raises(SchedulingError) as caught:
        await pair.agent.create_booking(**a_booking())
    assert len(pair.world.writes) == 1
    pair.world.failures = deque([failure] * FOREVER)
    answers = [caught.value, await pair.agent.list_accounts(), await pair.agent.list_bookings()]
    assert TOKEN not in repr(answers)
    rows = await pair.journaled()
    assert TOKEN not in repr(rows)
    # Nor anything else that a service said.
    assert {row.error for row in rows} == {None, caught.value.code}
    assert TOKEN not in caplog.text
