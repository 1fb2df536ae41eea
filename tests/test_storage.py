"""The gateway's own database: its schema's history, and what is said when it cannot be used."""

import gc
import sqlite3
from pathlib import Path
from typing import Literal

import anyio
import anyio.lowlevel
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, text

from gateway.core import Gateway
from gateway.server import build_server
from providers.storage import Storage, StorageError, sqlite
from providers.storage.tables import HEAD, accounts, metadata
from schemas import ProviderDown
from tests.agent import connected
from tests.postgres import databases, refuse_writes
from tests.stages import ACCOUNT, LocalStage
from tests.world import NINE

pytestmark = pytest.mark.anyio

on_each_database = pytest.mark.usefixtures("database")

BOOKING = {
    "event_type_id": f"{ACCOUNT}:intro",
    "start": NINE.isoformat(),
    "attendee_name": "Ben",
    "attendee_email": "ben@example.com",
}


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def differences(connection: Connection) -> object:
    """What the schema is and the code does not believe, or the other way round."""
    return compare_metadata(MigrationContext.configure(connection), metadata)


@on_each_database
async def test_the_migrations_make_what_the_code_believes(tmp_path: Path) -> None:
    storage = databases.opened(tmp_path)
    async with storage.write() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
    await storage.close()


def test_the_newest_migration_is_the_head() -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", "providers.storage:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def older(connection: Connection, revision: str) -> None:
    """An account in a database as that version had it."""
    config = AlembicConfig()
    config.set_main_option("script_location", "providers.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.execute(insert(accounts).values(name="kept", revision=7))


@on_each_database
@pytest.mark.parametrize("revision", ["0001", "0002", "0006"])
async def test_a_database_of_an_older_version_is_upgraded_and_keeps_what_is_there(
    tmp_path: Path, revision: str
) -> None:
    storage = databases.opened(tmp_path)
    engine = storage.database.writes()
    async with engine.begin() as connection:
        if databases.kind == "postgresql":
            await connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            await connection.exec_driver_sql("CREATE SCHEMA public")
        await connection.run_sync(older, revision)
    await engine.dispose()
    async with storage.write() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
        assert await connection.scalar(text("SELECT revision FROM accounts WHERE name = 'kept'")) == 7
    await storage.close()


@on_each_database
async def test_opening_twice_keeps_what_is_there(tmp_path: Path) -> None:
    for revision in (1, 2):
        storage = databases.opened(tmp_path)
        await storage.open()
        async with storage.write() as connection:
            await connection.execute(insert(accounts).values(name=f"a{revision}", revision=revision))
        await storage.close()
    storage = databases.opened(tmp_path)
    async with storage.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM accounts")) == 2
    await storage.close()


@on_each_database
async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    storage = databases.opened(tmp_path)

    async def fail() -> None:
        async with storage.write() as connection:
            await connection.execute(insert(accounts).values(name="half", revision=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with storage.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM accounts")) == 0
    await storage.close()


@on_each_database
async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    storage = databases.opened(tmp_path)
    async with storage.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await storage.close()
    with pytest.raises(StorageError, match="newer version"):
        await databases.opened(tmp_path).open()


@pytest.mark.parametrize("content", [b"This is no database at all, but long enough to be looked at." * 99])
async def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "letter.db").write_bytes(content)
    with pytest.raises(StorageError, match="no database"):
        await Storage(url(tmp_path / "letter.db")).open()
    assert (tmp_path / "letter.db").read_bytes() == content


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be opened"):
        await Storage(url(tmp_path / "file" / "gateway.db")).open()


async def test_a_new_database_that_another_process_is_just_making_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    async def until_it_is_done(seconds: float) -> None:
        waits.append(seconds)
        holder.rollback()
        holder.close()

    monkeypatch.setattr(anyio, "sleep", until_it_is_done)
    storage = Storage(url(tmp_path / "gateway.db"))
    await storage.open()
    await storage.close()
    assert waits == [sqlite.PAUSE]


async def test_a_database_held_by_another_program_is_busy_and_nothing_is_half_written(local: LocalStage) -> None:
    await local.book("intro", NINE)
    await local.gateway.close()
    gateway = Gateway(local.config, clock=local.clock)
    await gateway.open()
    assert isinstance(gateway.storage.database, sqlite.Sqlite)
    gateway.storage.database.busy_timeout = 1  # a millisecond, for connections yet to come
    await gateway.storage.close()
    holder = sqlite3.connect(gateway.storage.url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        async with connected(build_server(gateway)) as agent:
            with pytest.raises(ProviderDown, match="busy"):
                await agent.create_booking(**BOOKING)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert len(await local.appointments()) == 1
    assert await local.journaled() == []


@on_each_database
async def test_a_database_that_cannot_be_written_says_how_to_mend_it(local: LocalStage) -> None:
    await local.book("intro", NINE)
    before = await local.appointments()
    await refuse_writes(local.gateway.storage)
    async with connected(build_server(local.gateway)) as agent:
        with pytest.raises(ProviderDown, match=r"writable|read-only"):
            await agent.create_booking(**BOOKING | {"start": NINE.replace(hour=11).isoformat()})
        assert len((await agent.list_bookings())["bookings"]) == 1
    assert await local.appointments() == before


async def test_who_stops_waiting_for_an_answer_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement that was cut off cost its connection, whose end left a task behind that waited for ever."""
    storage = Storage(url(tmp_path / "gateway.db"))
    await storage.open()

    async def use(kind: Literal["read", "write"]) -> None:
        async with getattr(storage, kind)() as connection:
            await connection.scalar(text("SELECT 1"))

    for kind in ("read", "write"):
        for moments in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, kind)
                for _ in range(moments):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
    await storage.close()
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
