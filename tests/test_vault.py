"""The vault: what is stored is unreadable to whoever has the database alone, and what one may have, two never get.

Run as a module (`python -m tests.test_vault PART FOLDER`), it is one of several processes at the same vault.
"""

import json
import logging
import os
import shlex
import stat
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from gateway.config import ConfigError, StorageConfig, parse_config
from gateway.core import Gateway
from providers import SystemClock
from providers import vault as vaults
from providers.keys import HOW_TO_MAKE_ONE, KeyRing, listed
from providers.storage.tables import leases, vault
from providers.vault import LEASE, PAUSE, Vault
from schemas import NotConnected, ProviderDown, SchedulingError
from tests import vault_desk, world
from tests.postgres import databases, on_sqlite, refuse_writes
from tests.vault_desk import at_once, opened, say, started
from tests.world import BEGIN

if TYPE_CHECKING:
    from tests.stages import LocalStage

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("database")]
clock, kept = vault_desk.clock, vault_desk.kept

SECRET = "hunter2-and-more"
GRANT = {"access_token": SECRET, "expires": 17, "scopes": ["a", "b"]}
# Always the same: they are in the names of tests, which several processes have to agree on.
OLD, NEW = (urlsafe_b64encode(letter * 32).decode() for letter in (b"o", b"n"))
MANY = 24


class Patient(world.Clock):
    """Waiting takes no time, but lets the others go on."""

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await anyio.lowlevel.checkpoint()


async def rows(kept: Vault, table: Any = vault) -> int:
    async with kept._storage.read() as connection:
        return await connection.scalar(select(func.count()).select_from(table)) or 0


async def token(kept: Vault, kind: str = "grant") -> str:
    """What is stored for the one value of that kind, encrypted."""
    async with kept._storage.read() as connection:
        return str((await connection.execute(select(vault.c.data).where(vault.c.kind == kind))).scalar_one())


async def tamper(kept: Vault, kind: str, data: str) -> None:
    async with kept._storage.write() as connection:
        assert (await connection.execute(update(vault).where(vault.c.kind == kind).values(data=data))).rowcount == 1


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


# Several processes.


async def puts(folder: Path) -> None:
    async with opened(folder) as kept:
        started()
        await kept.put("grant", f"of {os.getpid()}", {"token": SECRET})
        say(str(os.getpid()))


async def takes(folder: Path) -> None:
    async with opened(folder) as kept:
        started()
        say(json.dumps([n for n in range(MANY) if await kept.take("consent", str(n))]))


async def takes_turns(folder: Path) -> None:
    async with opened(folder, SystemClock()) as kept:
        started()
        for _ in range(5):
            async with kept.lease("work"):
                os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))
                for _ in range(10):
                    await kept.get("grant", "work")
                (folder / "alone").unlink()


async def dies(folder: Path) -> None:
    async with opened(folder) as kept, kept.lease("work"):
        started()
        os._exit(9)


PARTS = {part.__name__: part for part in (puts, takes, takes_turns, dies)}


def played(part: Any, folder: Path, processes: int) -> list[str]:
    """What that many processes say that play the part at the same time."""
    databases.url(folder)  # which they find there
    ended = at_once(processes, "tests.test_vault", part.__name__, str(folder))
    assert {code for _, code in ended} == {9 if part is dies else 0}
    return [said for said, _ in ended]


# What is stored.


async def test_what_was_put_is_got_until_it_is_dropped(kept: Vault) -> None:
    assert await kept.get("grant", "work") is None
    await kept.put("grant", "work", GRANT)
    assert await kept.get("grant", "work") == GRANT
    assert await kept.get("grant", "team") is None
    assert await kept.get("client", "work") is None
    await kept.put("grant", "work", {"access_token": "newer"})
    assert await kept.get("grant", "work") == {"access_token": "newer"}
    await kept.drop("grant", "work")
    assert await kept.get("grant", "work") is None
    await kept.drop("grant", "work")


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as before:
        await before.put("grant", "work", GRANT)
    async with opened(tmp_path) as after:
        assert await after.get("grant", "work") == GRANT


@on_sqlite
async def test_neither_value_nor_name_is_readable_in_the_database_or_a_log(
    tmp_path: Path, kept: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    name = "the-secret-of-a-link"
    await kept.put("ticket", name, GRANT)
    assert await kept.get("ticket", name) == GRANT
    found = files(tmp_path, "gateway.db*")
    assert (await token(kept, "ticket")).encode() in b"".join(found.values()), (
        "what was written is in what is looked at"
    )
    assert "gateway.db-wal" in found
    assert "INSERT INTO vault" in caplog.text
    for secret in (SECRET, name):
        for form in (secret.encode(), b64encode(secret.encode()).rstrip(b"=")):
            assert not [name for name, content in found.items() if form in content]
        assert secret not in caplog.text
    key = (tmp_path / "gateway.key").read_text().strip()
    assert not [name for name, content in found.items() if key.encode() in content]
    assert key not in caplog.text


async def test_a_row_cannot_stand_for_another(kept: Vault) -> None:
    await kept.put("grant", "work", GRANT)
    await kept.put("client", "work", {"other": SECRET})
    grant, client = await token(kept, "grant"), await token(kept, "client")
    await tamper(kept, "grant", client)
    await tamper(kept, "client", grant)
    for kind in ("grant", "client"):
        for reads in (kept.get, kept.take):
            with pytest.raises(NotConnected, match="something else") as caught:
                await reads(kind, "work")
            assert SECRET not in repr(caught.value)


async def test_an_account_cannot_have_anothers_grant(kept: Vault) -> None:
    await kept.put("grant", "work", GRANT)
    stolen = await token(kept)
    await kept.drop("grant", "work")
    await kept.put("grant", "team", {"other": 1})
    await tamper(kept, "grant", stolen)
    with pytest.raises(NotConnected, match="something else"):
        await kept.get("grant", "team")


async def test_a_row_that_was_changed_is_not_believed(kept: Vault) -> None:
    await kept.put("grant", "work", GRANT)
    whole = await token(kept)
    await tamper(kept, "grant", whole[:40] + ("A" if whole[40] != "A" else "B") + whole[41:])
    with pytest.raises(NotConnected, match="another key"):
        await kept.get("grant", "work")


async def test_a_value_is_there_until_its_time(kept: Vault, clock: world.Clock) -> None:
    until = BEGIN + timedelta(minutes=10)
    await kept.put("consent", "one", {"n": 1}, until=until)
    await kept.put("consent", "two", {"n": 2}, until=until)
    await kept.put("grant", "work", GRANT)
    clock.advance(timedelta(minutes=10, seconds=-1))
    assert await kept.get("consent", "one") == {"n": 1}
    assert await kept.take("consent", "two") == {"n": 2}
    clock.advance(timedelta(seconds=1))
    assert await kept.get("consent", "one") is None
    assert await kept.take("consent", "one") is None
    assert await kept.get("grant", "work") == GRANT
    assert await rows(kept) == 2
    await kept.put("consent", "three", {"n": 3}, until=until + timedelta(minutes=10))
    assert await rows(kept) == 2, "what is past is not kept"
    await kept.put("consent", "three", {"n": 3})
    clock.advance(timedelta(days=1))
    assert await kept.get("consent", "three") == {"n": 3}, "put anew without a time"


async def test_a_value_that_another_process_was_first_to_put_is_replaced(
    kept: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses the second of two rows that are inserted at once; SQLite puts them in a queue."""
    write = kept._write

    async def after_another(*row: Any) -> None:
        monkeypatch.undo()
        await write(*row)
        raise IntegrityError("INSERT", {}, Exception("UNIQUE"))

    monkeypatch.setattr(kept, "_write", after_another)
    await kept.put("grant", "work", GRANT)
    assert await kept.get("grant", "work") == GRANT
    assert await rows(kept) == 1


# Taken once.


async def test_of_many_tasks_one_takes_it(tmp_path: Path, kept: Vault) -> None:
    taken: list[Any] = []

    async def take(of: Vault) -> None:
        taken.append(await of.take("consent", "state"))

    async with opened(tmp_path) as other:
        await kept.put("consent", "state", {"verifier": SECRET})
        async with anyio.create_task_group() as group:
            for each in (kept, other) * (MANY // 2):
                group.start_soon(take, each)
    assert len(taken) == MANY
    assert [value for value in taken if value is not None] == [{"verifier": SECRET}]
    assert await rows(kept) == 0


async def test_of_two_processes_one_takes_it(tmp_path: Path, kept: Vault) -> None:
    for number in range(MANY):
        await kept.put("consent", str(number), {"n": number})
    one, other = map(json.loads, played(takes, tmp_path, 2))
    assert sorted(one + other) == list(range(MANY))


# Keys.


async def test_a_new_key_is_put_in_front_and_the_old_one_still_reads(tmp_path: Path) -> None:
    async with opened(tmp_path, given=OLD) as before:
        await before.put("grant", "work", GRANT)
        await before.put("grant", "team", GRANT)
    async with opened(tmp_path, given=f"{NEW},{OLD}") as both:
        assert await both.get("grant", "work") == GRANT
        await both.put("grant", "work", GRANT)
    async with opened(tmp_path, given=NEW) as after:
        assert await after.get("grant", "work") == GRANT
        with pytest.raises(NotConnected, match="another key"):
            await after.get("grant", "team")
    assert not (tmp_path / "gateway.key").exists()


@pytest.mark.parametrize("given", [None, NEW], ids=["file lost", "another one configured"])
async def test_without_its_key_an_account_is_not_connected_but_can_be_again(tmp_path: Path, given: str | None) -> None:
    async with opened(tmp_path) as before:
        await before.put("grant", "work", GRANT)
        await before.put("grant", "team", GRANT)
    (tmp_path / "gateway.key").rename(tmp_path / "elsewhere")
    async with opened(tmp_path, given=given) as after:
        for reads in (after.get, after.take):
            with pytest.raises(NotConnected, match=r"storage\.encryption_key") as caught:
                await reads("grant", "work")
            assert SECRET not in str(caught.value)
        assert not (tmp_path / "gateway.key").exists(), "a new key would not have made it"
        assert await rows(after) == 2, "the key may come back"
        await after.drop("grant", "team")
        assert await after.get("grant", "team") is None
        await after.put("grant", "work", {"new": 1})
        assert await after.get("grant", "work") == {"new": 1}


async def test_a_key_that_comes_back_is_found_without_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as before:
        await before.put("grant", "work", GRANT)
    (tmp_path / "gateway.key").rename(tmp_path / "elsewhere")
    async with opened(tmp_path) as after:
        with pytest.raises(NotConnected):
            await after.get("grant", "work")
        (tmp_path / "elsewhere").rename(tmp_path / "gateway.key")
        assert await after.get("grant", "work") == GRANT


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def test_a_key_that_another_process_made_for_a_lost_one_is_found_without_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        await running.put("grant", "home", {"token": "old"})
        (tmp_path / "gateway.key").unlink()
        async with opened(tmp_path) as command:
            await command.put("grant", "work", {"token": "new"})
        assert await running.get("grant", "work") == {"token": "new"}
        assert await running.get("grant", "home") == {"token": "old"}
        await running.put("grant", "home", {"token": "renewed"})
    async with opened(tmp_path) as restarted:
        assert await restarted.get("grant", "home") == {"token": "renewed"}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
async def test_the_key_file_is_for_its_user_alone(tmp_path: Path) -> None:
    ring = KeyRing(None, tmp_path / "new" / "gateway.key")
    with umask(0):
        await ring.encrypt(b"x", 0)
    (file,) = (tmp_path / "new").iterdir()
    assert file.name == "gateway.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(listed(file.read_text())) == 1


@on_sqlite
async def test_a_key_is_made_when_something_is_first_stored(local: "LocalStage") -> None:
    await local.gateway.open()
    file = local.config.storage.key_file
    assert file is not None
    assert await local.gateway.vault.get("grant", "work") is None
    assert not file.exists()
    await local.gateway.vault.put("grant", "work", GRANT)
    assert file.name == "gateway.key"
    assert file.parent == Path(local.gateway.storage.url.removeprefix("sqlite:///")).parent
    assert len(listed(file.read_text())) == 1


async def test_the_configured_key_is_used(local: "LocalStage") -> None:
    storage = local.config.storage.model_copy(update={"encryption_key": SecretStr(OLD)})
    gateway = Gateway(local.config.model_copy(update={"storage": storage}), clock=local.clock)
    await gateway.open()
    await gateway.vault.put("grant", "work", GRANT)
    assert SECRET in Fernet(OLD).decrypt(await token(gateway.vault)).decode()
    assert storage.key_file is None or not storage.key_file.exists()
    await gateway.close()


async def test_of_several_processes_that_begin_at_once_one_makes_the_key(tmp_path: Path, kept: Vault) -> None:
    makers = played(puts, tmp_path, 3)
    for maker in makers:
        assert await kept.get("grant", f"of {maker.strip()}") == {"token": SECRET}
    assert list(files(tmp_path, "*.key*")) == ["gateway.key"]


async def test_the_key_that_another_process_made_meanwhile_holds(
    tmp_path: Path, kept: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(draft: str, file: Path) -> None:
        file.write_text(OLD)
        link(draft, file)

    monkeypatch.setattr(os, "link", late)
    await kept.put("grant", "work", GRANT)
    assert files(tmp_path, "*.key*") == {"gateway.key": OLD.encode()}
    async with opened(tmp_path, given=OLD) as other:
        assert await other.get("grant", "work") == GRANT


@pytest.mark.parametrize("content", ["", f"{SECRET}\n", "ключ", OLD[:-2], f"{OLD}, {SECRET}"])
async def test_a_key_file_that_holds_no_key_is_named_and_left_alone(tmp_path: Path, kept: Vault, content: str) -> None:
    (tmp_path / "gateway.key").write_text(content)
    with pytest.raises(ProviderDown, match=r"gateway\.key .*holds something else") as caught:
        await kept.put("grant", "work", GRANT)
    for secret in (SECRET, OLD):
        assert secret not in repr(caught.value)
    assert (tmp_path / "gateway.key").read_text() == content
    assert await rows(kept) == 0


async def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path, kept: Vault) -> None:
    (tmp_path / "gateway.key").mkdir()
    with pytest.raises(ProviderDown, match=r"gateway\.key .*cannot be used: Is a directory"):
        await kept.put("grant", "work", GRANT)


async def test_a_file_system_on_which_no_key_can_be_made_is_named(
    tmp_path: Path, kept: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(ProviderDown, match=r"Operation not permitted.*storage\.encryption_key"):
        await kept.put("grant", "work", GRANT)
    assert files(tmp_path, "*.key*") == {}


async def test_no_key_shows_itself(tmp_path: Path, kept: Vault) -> None:
    ring = KeyRing(SecretStr(OLD), tmp_path / "gateway.key")
    await ring.encrypt(b"x", 0)
    storage = StorageConfig(url="sqlite:///gateway.db", encryption_key=SecretStr(OLD))
    for shown in (ring, vars(ring), storage, storage.model_dump(), storage.model_dump_json(), Vault, vars(kept)):
        assert OLD not in f"{shown!r} {shown!s}"


# Leases.


async def test_one_task_at_a_time_holds_a_lease_over_several_vaults(tmp_path: Path) -> None:
    holders: list[int] = []
    held = 0

    async def hold(of: Vault, number: int) -> None:
        nonlocal held
        async with of.lease("work"):
            holders.append(number)
            for _ in range(5):
                await of.get("grant", "work")
                assert holders[-1] == number
            held += 1

    patient = Patient()
    async with opened(tmp_path, patient) as one, opened(tmp_path, patient) as other:
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(hold, (one, other)[number % 2], number)
        assert await rows(one, leases) == 0
    assert sorted(holders) == list(range(12))
    assert held == 12
    assert set(patient.waits) == {PAUSE}


async def test_a_lease_that_nobody_waits_for_leaves_nothing_behind(kept: Vault) -> None:
    began = anyio.Event()

    async def holds() -> None:
        async with kept.lease(f"renewal:{SECRET}"):
            began.set()
            assert SECRET not in str(dict(kept._turns))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(holds)
        await began.wait()
        assert len(kept._turns) == 1
    assert len(kept._turns) == 0


async def test_one_process_at_a_time_holds_a_lease(tmp_path: Path, kept: Vault) -> None:
    played(takes_turns, tmp_path, 2)
    assert await rows(kept, leases) == 0


async def test_leases_of_other_names_do_not_wait(tmp_path: Path, kept: Vault, clock: world.Clock) -> None:
    async with opened(tmp_path, clock) as other, kept.lease("work"), kept.lease("team"), other.lease("home"):
        assert await rows(kept, leases) == 3
    assert clock.waits == []


async def test_the_lease_of_a_process_that_died_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vaults, "PAUSE", LEASE / 2)
    played(dies, tmp_path, 1)
    clock = world.Clock()  # it began when the other process's did
    async with opened(tmp_path, clock) as kept:
        assert await rows(kept, leases) == 1
        async with kept.lease("work"):
            assert clock.waits == [LEASE / 2, LEASE / 2]
        assert await rows(kept, leases) == 0


async def test_who_held_a_lease_for_too_long_does_not_end_the_next_ones(
    tmp_path: Path, clock: world.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, clock) as slow, opened(tmp_path, clock) as next_one, AsyncExitStack() as stack:
        async with slow.lease("work"):
            clock.advance(timedelta(seconds=LEASE))
            await stack.enter_async_context(next_one.lease("work"))
        assert "took longer" in caplog.text
        assert await rows(slow, leases) == 1


async def test_of_two_who_find_a_lease_free_one_gets_it(tmp_path: Path) -> None:
    patient = Patient()
    async with opened(tmp_path, patient) as one, opened(tmp_path, patient) as other:
        read = other._storage.read

        @asynccontextmanager
        async def slow_read() -> AsyncIterator[Any]:
            async with read() as connection:
                yield connection
            if not patient.waits:
                await stack.enter_async_context(one.lease("work"))  # just after the other saw that it is free

        other._storage.read = slow_read  # type: ignore[method-assign]  # in its place
        async with AsyncExitStack() as stack:
            assert not await other._acquired("work", "late")


@pytest.mark.parametrize("ends", ["raises", "is cancelled"])
async def test_a_lease_is_given_back_however_its_holder_ends(tmp_path: Path, clock: world.Clock, ends: str) -> None:
    async def hold(kept: Vault) -> None:
        async with kept.lease("work"):
            if ends == "raises":
                raise LookupError
            scope.cancel()
            await anyio.sleep_forever()

    async with opened(tmp_path, clock) as one, opened(tmp_path, clock) as other:
        with anyio.CancelScope() as scope:
            try:
                await hold(one)
            except LookupError:
                assert ends == "raises"
        for each in (other, one):
            async with each.lease("work"):
                pass
    assert clock.waits == []


async def test_a_lease_that_cannot_be_given_back_undoes_nothing(kept: Vault, caplog: pytest.LogCaptureFixture) -> None:
    async with kept.lease("work"):
        await refuse_writes(kept._storage)
    assert "could not be given back" in caplog.text
    assert await rows(kept, leases) == 1


async def test_a_lease_that_cannot_be_had_is_an_error_with_a_name(kept: Vault) -> None:
    await refuse_writes(kept._storage)
    with pytest.raises(SchedulingError, match=r"writable|read-only"):
        async with kept.lease("work"):
            pytest.fail("nobody may be in here")


# The configuration.


def storage(key: str) -> StorageConfig:
    settings = {
        "accounts": {"home": {"provider": "local"}},
        "storage": {"url": "sqlite:///a.db", "encryption_key": key},
    }
    return parse_config(json.dumps(settings), {"KEY": OLD}, folder=Path("/etc/gateway")).storage


@pytest.mark.parametrize(
    ("given", "found"), [("${KEY}", OLD), (f" {NEW} , {OLD}\n", f"{NEW},{OLD}"), (f"{NEW},{OLD}", f"{NEW},{OLD}")]
)
def test_keys_are_configured_newest_first(given: str, found: str) -> None:
    kept = storage(given).encryption_key
    assert kept is not None
    assert kept.get_secret_value() == found


def test_the_key_file_lies_beside_the_database() -> None:
    assert storage(OLD).key_file == Path("/etc/gateway/a.key")
    assert StorageConfig(url="sqlite:////tmp/with.dots/data").key_file == Path("/tmp/with.dots/data.key")


@pytest.mark.parametrize(
    "given",
    ["", ",", SECRET, f"{OLD},", f"{OLD},{SECRET}", f"{OLD} {NEW}", OLD[:-1], f"{OLD[:-5]}+/+/=", f"{OLD}\n{NEW}"],
)
def test_what_is_no_key_is_refused_with_how_to_make_one_and_not_repeated(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        storage(given)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith("storage.encryption_key: ")
    assert mistake.endswith(HOW_TO_MAKE_ONE)
    for secret in (SECRET, OLD[:20], NEW[:20]):
        assert secret not in repr(caught.value)


def test_a_key_made_as_the_error_says_is_one() -> None:
    python, *arguments = shlex.split(HOW_TO_MAKE_ONE)
    assert python == "python"
    made = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
    assert storage(made).encryption_key == SecretStr(made.strip())


if __name__ == "__main__":
    anyio.run(PARTS[sys.argv[1]], Path(sys.argv[2]))
