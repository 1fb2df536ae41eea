"""PostgreSQL beneath several gateways, each a process of its own: one booking, no deadlock, nothing lost."""

import asyncio
import json
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from pydantic import SecretStr
from sqlalchemy import insert, select, text

from gateway.checking import check
from gateway.config import Config, StorageConfig, load_config
from gateway.core import Gateway
from gateway.intents import Brake, Intent
from gateway.journal import Journal
from gateway.links import Links
from gateway.moves import Moves
from gateway.server import build_server
from providers import PROVIDERS
from providers.keys import KeyRing
from providers.storage import Storage, StorageError, StorageUnsure, postgresql
from providers.storage.tables import HEAD, accounts, bookings, guests, journal, leases, moves
from providers.vault import Vault
from schemas import BookingRequest, ProviderDown, SchedulingError
from tests import postgres
from tests.agent import Agent, connected
from tests.postgres import PASSWORD, QUOTED, Server
from tests.world import Clock

pytestmark = pytest.mark.anyio

GUESTS = 64
MONDAY = (datetime.now(UTC) + timedelta(days=10)).replace(hour=9, minute=0, second=0, microsecond=0)
MONDAY -= timedelta(days=MONDAY.weekday())
INTRO = {"slug": "intro", "title": "Intro", "duration_minutes": 30}
ACCOUNT = {"provider": "local", "time_zone": "UTC", "event_types": [INTRO]}
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}


@pytest.fixture
def server() -> Server:
    return postgres.server()


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    url = server.new()
    yield url
    server.drop(url)


@pytest.fixture
async def storage(url: str) -> AsyncIterator[Storage]:
    storage = opened(url)
    yield storage
    await storage.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[Storage]:
    """The same database, as another process has it."""
    storage = opened(url)
    yield storage
    await storage.close()


def opened(url: str) -> Storage:
    return postgres.opened(StorageConfig(url=url))


def configured(folder: Path, url: str, **more: Any) -> Path:
    file = folder / "config.yaml"
    file.write_text(json.dumps({"accounts": {"home": ACCOUNT}, "storage": {"url": url, **more}}))
    return file


@asynccontextmanager
async def gateways(folder: Path, url: str, number: int = 2) -> AsyncIterator[list[Agent]]:
    """That many processes that serve, and who talks to them."""
    command = ["-m", "gateway", "serve", "--transport", "stdio", "--config", str(configured(folder, url))]
    async with AsyncExitStack() as stack:
        agents = []
        for each in range(number):
            transport = StdioTransport(sys.executable, command, keep_alive=False, log_file=folder / f"log{each}")
            agents.append(Agent(await stack.enter_async_context(Client(transport))))
        yield agents


async def outcome(call: Awaitable[Any]) -> str:
    try:
        return str((await call)["id"])
    except SchedulingError as error:
        return error.code


async def outcomes(calls: Any) -> Counter[str]:
    return Counter(await asyncio.gather(*map(outcome, calls)))


def deadlocks(server: Server, url: str) -> int:
    server.run("SELECT pg_stat_force_next_flush()", url.rpartition("/")[2])
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    [row] = server.run(query, url.rpartition("/")[2])
    return int(row["deadlocks"])


# Two gateways


async def test_of_64_clients_of_two_gateways_one_gets_the_slot(tmp_path: Path, server: Server) -> None:
    url = server.new(empty=True)  # which both make at the same moment
    async with gateways(tmp_path, url) as agents:
        await asyncio.gather(*(agent.list_accounts() for agent in agents))
        came = await outcomes(
            agents[number % 2].create_booking(
                event_type_id="home:intro",
                start=MONDAY.isoformat(),
                attendee_name=f"Guest {number}",
                attendee_email=f"guest{number}@example.com",
            )
            for number in range(GUESTS)
        )
        assert came.pop("slot_taken") == GUESTS - 1
        [(booked, _)] = came.items()
        same = await outcomes(
            agent.create_booking(event_type_id="home:intro", start=MONDAY.replace(hour=14).isoformat(), **BEN)
            for agent in agents * (GUESTS // 2)
        )
        assert list(same.values()) == [GUESTS]
        keyed = await outcomes(
            agent.create_booking(
                event_type_id="home:intro", start=MONDAY.replace(hour=15).isoformat(), **BEN, idempotency_key="k"
            )
            for agent in agents * 8
        )
        assert list(keyed.values()) == [16]
    storage = opened(url)
    async with storage.read() as connection:
        rows = (await connection.execute(select(journal.c.outcome, journal.c.reference, journal.c.tool))).all()
        live = list(await connection.scalars(select(bookings.c.id).where(bookings.c.live)))
    await storage.close()
    # Every write has its row: the 64 of the slot, and one for each of those that were asked for many times.
    assert Counter(row.outcome for row in rows) == {"failed": GUESTS - 1, "done": 3}
    assert sorted(row.reference for row in rows if row.outcome == "done") == sorted(live)
    assert {f"home:{id}" for id in live} == {booked, *same, *keyed}
    assert deadlocks(server, url) == 0
    server.drop(url)


async def test_moves_and_cancellations_of_two_gateways_leave_one_booking_a_slot(
    tmp_path: Path, server: Server, url: str
) -> None:
    starts = [MONDAY + timedelta(minutes=30 * step) for step in range(8)]
    async with gateways(tmp_path, url) as agents:
        made = [
            (
                await agents[0].create_booking(
                    event_type_id="home:intro",
                    start=start.isoformat(),
                    attendee_name="Guest",
                    attendee_email=f"guest{start:%H%M}@example.com",
                )
            )["id"]
            for start in starts[:4]
        ]
        calls = [
            agents[(each + step) % 2].reschedule_booking(booking_id=id, start=start.isoformat())
            for each, id in enumerate(made)
            for step, start in enumerate(starts[2:])
        ]
        calls += [agent.cancel_booking(booking_id=made[0]) for agent in agents]
        came = await outcomes(calls)
    assert came.keys() <= {*made, "slot_taken", "invalid_request"}
    storage = opened(url)
    async with storage.read() as connection:
        live = (await connection.execute(select(bookings.c.id, bookings.c.starts).where(bookings.c.live))).all()
        rows = (await connection.execute(select(journal.c.outcome))).all()
    await storage.close()
    assert {f"home:{row.id}" for row in live} == set(made[1:])
    assert len({row.starts for row in live}) == 3
    assert {row.outcome for row in rows} == {"done", "failed"}
    assert deadlocks(server, url) == 0


@pytest.mark.parametrize("number", [8])
async def test_of_many_that_begin_on_an_empty_database_one_makes_the_schema(server: Server, number: int) -> None:
    url = server.new(empty=True)
    each = [opened(url) for _ in range(number)]
    await asyncio.gather(*(storage.open() for storage in each))
    async with each[0].read() as connection:
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
    for storage in each:
        await storage.close()
    server.drop(url)


async def test_of_many_that_make_an_account_at_once_one_does(url: str) -> None:
    config = Config(accounts={"home": PROVIDERS["local"]["api"].Config(provider="local")}, storage={"url": url})
    each = [Gateway(config, clock=Clock()) for _ in range(6)]

    async def kinds(gateway: Gateway) -> int:
        async with connected(build_server(gateway)) as agent:
            return len((await agent.list_event_types())["event_types"])

    assert await asyncio.gather(*map(kinds, each)) == [2] * len(each)


async def test_times_that_overlap_are_booked_once_though_they_begin_at_different_ones(url: str) -> None:
    """No unique index helps here: the account's row is the lock."""
    kind = INTRO | {"slot_step_minutes": 5}
    account = PROVIDERS["local"]["api"].Config.model_validate(ACCOUNT | {"event_types": [kind]})
    each = [Gateway(Config(accounts={"home": account}, storage={"url": url})) for _ in range(2)]
    for gateway in each:
        await gateway.open()

    async def book(number: int, day: int) -> str:
        request = BookingRequest(
            event_type_id="intro",
            start=MONDAY + timedelta(days=day, minutes=5 * (number % 6)),
            attendee_name="Guest",
            attendee_email=f"guest{number}@example.com",
            attendee_time_zone="UTC",
            marker=f"{day} {number}",
        )
        try:
            await each[number % 2].accounts["home"].create_booking(request)
        except SchedulingError as error:
            return error.code
        return "booked"

    for day in range(3):  # on the first, connections are still to be made, and who has one is alone
        came = await asyncio.gather(*(book(number, day) for number in range(24)))
        assert Counter(came) == {"booked": 1, "slot_taken": 23}
    for gateway in each:
        await gateway.close()


async def test_an_event_type_that_many_make_at_once_gets_a_slug_for_each(url: str) -> None:
    config = Config(accounts={"home": PROVIDERS["local"]["api"].Config(provider="local")}, storage={"url": url})
    gateways = [Gateway(config, clock=Clock()) for _ in range(3)]

    async def make(agent: Agent) -> str:
        return str((await agent.save_event_type(title="Deep dive", duration_minutes=30))["slug"])

    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(connected(build_server(gateway))) for gateway in gateways]
        slugs = await asyncio.gather(*(make(agent) for agent in agents * 3))
    assert len(set(slugs)) == 9


# One storage and another


async def test_transactions_with_one_name_wait_for_each_other(storage: Storage, other: Storage) -> None:
    """Without it, each would read before the other writes, and write the same."""
    await storage.open()
    await other.open()

    async def add(each: Storage) -> None:
        async with each.write(alone="sums") as connection:
            count = len((await connection.execute(select(accounts))).all())
            await anyio.sleep(0.005)
            await connection.execute(insert(accounts).values(name=f"a{count}", revision=count))

    await asyncio.gather(*(add(each) for each in [storage, other] * 8))
    async with storage.read() as connection:
        assert len((await connection.execute(select(accounts))).all()) == 16


async def test_transactions_with_other_names_do_not(storage: Storage, other: Storage) -> None:
    async with storage.write(alone="one"), other.write(alone="two"), other.write():
        pass


async def test_who_waits_too_long_is_told_that_it_is_busy(
    storage: Storage, other: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SESSION", "SET lock_timeout = '50ms'")
    async with storage.write(alone="one"):
        with pytest.raises(StorageError, match="busy"):
            async with other.write(alone="one"):
                pytest.fail("nobody may be in here")


async def test_a_guests_link_that_is_asked_for_twice_at_once_is_one(storage: Storage, other: Storage) -> None:
    each = [Links(one, Clock()) for one in (storage, other)]
    link = await each[0].find(await each[0].make("home", "intro", single_use=True, caller="local"))
    assert link is not None
    claims = await asyncio.gather(*(links.claim(link, f"v{n}") for n, links in enumerate(each * 4)))
    assert sorted(claims) == [False] * 7 + [True]
    tokens = await asyncio.gather(*(links.let_in(link, "visitor", "b1", "UTC") for links in each * 4))
    assert len(set(tokens)) == 1
    async with storage.read() as connection:
        assert len((await connection.execute(select(guests))).all()) == 1


async def test_moves_that_are_kept_at_once_are_all_kept(
    server: Server, url: str, storage: Storage, other: Storage
) -> None:
    each = [Moves(one, Clock()) for one in (storage, other)]
    await asyncio.gather(*(each[n % 2].add("home", f"old{n % 6}", f"new{n}") for n in range(24)))
    async with storage.read() as connection:
        assert len((await connection.execute(select(moves))).all()) == 6
    assert deadlocks(server, url) == 0


async def test_the_vault_of_two_processes(server: Server, url: str, storage: Storage, other: Storage) -> None:
    """Puts of one name at once, taking once, a lease at a time; and what is over is forgotten without a deadlock."""
    clock = Clock()
    key = KeyRing(SecretStr("b2" * 21 + "A="), None)
    each = [Vault(one, key, clock) for one in (storage, other)]
    soon = clock.now() + timedelta(seconds=5)
    await asyncio.gather(*(each[n % 2].put("state", str(n), {"n": n}, until=soon) for n in range(24)))
    clock.advance(timedelta(seconds=6))
    await asyncio.gather(*(each[n % 2].put("grant", str(n % 3), {"n": n}) for n in range(24)))
    taken = await asyncio.gather(*(vault.take("grant", "0") for vault in each * 4))
    assert len([each for each in taken if each]) == 1
    holders: list[int] = []

    async def hold(n: int) -> None:
        async with each[n % 2].lease("turn"):
            holders.append(n)
            assert holders == [n]
            await anyio.sleep(0.002)
            holders.remove(n)

    await asyncio.gather(*(hold(n) for n in range(8)))
    async with storage.read() as connection:
        assert not (await connection.execute(select(leases))).all()
        assert await connection.scalar(text("SELECT count(*) FROM vault")) == 2
    assert deadlocks(server, url) == 0


async def test_a_sign_in_cannot_be_kept_without_a_key_and_the_error_says_so(url: str) -> None:
    config = Config(accounts={"home": PROVIDERS["local"]["api"].Config(provider="local")}, storage={"url": url})
    assert config.storage.key_file is None
    gateway = Gateway(config, clock=Clock())
    await gateway.open()
    assert await gateway.vault.get("grant", "work") is None
    with pytest.raises(ProviderDown, match=r"Set `storage\.encryption_key`"):
        await gateway.vault.put("grant", "work", {"token": "t"})
    await gateway.close()


async def test_a_brake_holds_for_two_processes_together(storage: Storage, other: Storage) -> None:
    each = [Journal(one, Clock()) for one in (storage, other)]

    async def sent(_: str) -> None: ...

    async def book(number: int) -> str:
        intent = Intent("local", "home", "create_booking", str(number), brakes=(Brake(5, 3600),))
        try:
            await each[number % 2].record(intent, sent)
        except SchedulingError as error:
            return error.code
        return "booked"

    assert Counter(await asyncio.gather(*map(book, range(16)))) == {"booked": 5, "policy_denied": 11}


async def test_the_longest_id_of_a_service_can_be_kept(storage: Storage) -> None:
    kept, longest = Moves(storage, Clock()), f"{'e' * 1024}/{'a' * 242}@example.com"
    await kept.add("home", longest, "new")
    assert await kept.newest("home", longest) == "new"


# What goes wrong


async def test_a_server_that_restarts_is_found_again_and_nothing_is_booked_twice(
    tmp_path: Path, server: Server, url: str
) -> None:
    async with gateways(tmp_path, url) as agents:
        await asyncio.gather(*(agent.list_accounts() for agent in agents))
        came: list[tuple[int, str]] = []

        async def book(number: int) -> None:
            await anyio.sleep(number * 0.01)
            agent, start = agents[number % 2], MONDAY + timedelta(minutes=30 * (number % 16))
            guest = {"attendee_name": "Guest", "attendee_email": f"guest{number}@example.com"}
            call = agent.create_booking(event_type_id="home:intro", start=start.isoformat(), **guest)
            came.append((number, await outcome(call)))

        async with anyio.create_task_group() as group:
            for number in range(48):
                group.start_soon(book, number)
            await anyio.sleep(0.2)
            await anyio.to_thread.run_sync(server.stop)
            await anyio.sleep(0.2)
            with pytest.raises(ProviderDown, match="cannot be reached"):
                await agents[0].list_bookings()
            await anyio.to_thread.run_sync(server.start)
        assert {word for _, word in came if not word.startswith("home:")} <= {
            "slot_taken",
            "provider_down",
            "outcome_unknown",
        }
        for agent in agents:  # the first call finds it again: no connection of before is used
            assert len((await agent.list_bookings(limit=200))["bookings"]) <= 16
    storage = opened(url)
    async with storage.read() as connection:
        live = {row.id: row.attendee_email for row in await connection.execute(select(bookings).where(bookings.c.live))}
        rows = (await connection.execute(select(journal))).all()
    await storage.close()
    for number, word in came:  # what is said to have done nothing has done nothing
        assert (
            word == "outcome_unknown" or word.startswith("home:") or f"guest{number}@example.com" not in live.values()
        )
    told = [word.removeprefix("home:") for _, word in came if word.startswith("home:")]
    assert len(told) == len(set(told))
    assert set(told) <= live.keys()
    assert {word for _, word in came} >= {"provider_down"}
    # A booking of which nobody was told has a row that says so, or the look for it found it.
    unsure = [row for row in rows if row.outcome in ("sent", "unknown")]
    assert len(live.keys() - set(told)) <= len(unsure)


async def test_no_connection_of_before_a_restart_is_used(server: Server, storage: Storage) -> None:
    async def look() -> None:
        async with storage.read() as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))

    async def write() -> None:
        async with storage.write() as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(*(work() for work in [look, write] * 4))
    await anyio.to_thread.run_sync(server.restart)
    await asyncio.gather(*(work() for work in [look, write] * 4))


async def test_a_commit_whose_end_nobody_saw_is_not_called_a_failure(
    server: Server, url: str, storage: Storage
) -> None:
    async def write() -> None:
        async with storage.write() as connection:
            await connection.execute(insert(accounts).values(name="maybe", revision=1))
            (await connection.get_raw_connection()).driver_connection.terminate()  # type: ignore[union-attr]  # it is connected

    with pytest.raises(StorageUnsure):
        await write()
    async with storage.read() as connection:
        assert not (await connection.execute(select(accounts))).all()


async def test_a_transaction_whose_connection_breaks_is_a_failure(server: Server, storage: Storage) -> None:
    async def write() -> None:
        async with storage.write() as connection:
            await connection.execute(insert(accounts).values(name="never", revision=1))
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            server.run(f"SELECT pg_terminate_backend({pid})")
            await connection.execute(insert(accounts).values(name="nor this", revision=1))

    with pytest.raises(StorageError, match="Try again in a moment"):
        await write()
    async with storage.read() as connection:
        assert not (await connection.execute(select(accounts))).all()


async def test_several_hosts_may_be_named(url: str) -> None:
    before, _, after = url.partition("127.0.0.1:")
    port, _, name = after.partition("/")
    storage = opened(f"{before}127.0.0.1:{port},127.0.0.1:{port}/{name}?target_session_attrs=read-write")
    await storage.open()
    async with storage.read() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await storage.close()


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    monkeypatch.setattr(postgresql, "COMMAND_TIMEOUT", 0.05)
    with pytest.raises(StorageError, match="cannot be reached in time"):
        async with storage.read() as connection:
            await connection.execute(text("SELECT pg_sleep(5)"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda url: url.replace(QUOTED, "wrong-one"), "refuses to let this user in"),
        (lambda url: url.replace("gateway:", "nobody:"), "refuses to let this user in"),
        (lambda url: url + "-gone", "no database of that name"),
        (lambda url: url.replace("127.0.0.1", "[::1]"), "cannot be reached"),
        (lambda url: url.replace("127.0.0.1", "nowhere.invalid"), "cannot be reached"),
        (lambda url: url + "?sslmode=require", "sslmode"),
        (lambda url: url + "?sslmode=verify-full", "root certificate"),
        (lambda url: url + "?target_session_attrs=standby", "no server of the kind"),
    ],
)
async def test_what_is_wrong_with_the_url_is_said_without_the_password(
    url: str, wrong: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = opened(wrong(url))
    with pytest.raises(StorageError, match=said) as caught:
        await storage.open()
    everything = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(storage.url)
    for secret in (PASSWORD, QUOTED, "wrong-one"):
        assert secret not in everything


async def test_a_user_who_may_make_no_tables_is_told(server: Server) -> None:
    url = server.new(empty=True)
    name = url.rpartition("/")[2]
    server.run(f"CREATE USER guest_{name} PASSWORD 'pw'")
    storage = opened(url.replace(f"{postgres.USER}:{QUOTED}", f"guest_{name}:pw"))
    with pytest.raises(StorageError, match="GRANT"):
        await storage.open()
    server.drop(url)
    server.run(f"DROP USER guest_{name}")


def test_check_and_the_start_line_show_no_password(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configured(tmp_path, url)
    assert check(load_config(file), file, offline=False) == 0
    shown = url.replace(f":{QUOTED}", "")
    said = capsys.readouterr().out
    assert f"Storage: {shown}: fine" in said
    command = [sys.executable, "-m", "gateway", "serve", "--transport", "stdio", "--config", str(file)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert shown in ended.stderr
    for secret in (PASSWORD, QUOTED):
        assert secret not in said + ended.stderr + ended.stdout
