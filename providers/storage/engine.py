"""One database: opened and brought up to date once, read in autocommit, written in transactions that lock first."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from providers.storage.tables import HEAD
from schemas import ProviderDown

BUSY_TIMEOUT = 10.0
"""How long SQLite waits for another process that writes, in seconds."""


PAUSE = 0.05
"""Between two tries where SQLite itself does not wait, in seconds."""


class StorageError(ProviderDown):
    """The gateway's own database does not work. Nothing was changed."""


class Storage:
    """The database at `url` (`sqlite:///…`).

    On SQLite all writes of a process go through one connection, in turn, and each takes the database's write lock
    before it reads, as other processes do: what a transaction has read is still so when it commits.
    """

    def __init__(self, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.url = make_url(url).set(drivername="sqlite+aiosqlite")
        self._busy_timeout = int(busy_timeout * 1000)
        self._reads: AsyncEngine | None = None
        self._writes: AsyncEngine | None = None
        self._opening = anyio.Lock()

    async def open(self) -> None:
        """Connect, and create or upgrade the schema. Raises StorageError."""
        async with self._opening:
            if self._reads is not None:
                return
            with _explained():
                await anyio.to_thread.run_sync(_make_folder, Path(self.url.database or "").parent)
            writes = create_async_engine(self.url, pool_size=1, max_overflow=0, pool_timeout=60)
            event.listen(writes.sync_engine, "connect", self._on_connect)
            event.listen(writes.sync_engine, "begin", _lock_first)
            try:
                with _explained():
                    async with writes.begin() as connection:
                        await connection.run_sync(_upgrade)
            except BaseException:
                await writes.dispose()
                raise
            reads = create_async_engine(
                self.url, pool_size=4, max_overflow=12, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
            )
            event.listen(reads.sync_engine, "connect", self._on_connect)
            self._writes, self._reads = writes, reads

    async def close(self) -> None:
        for engine in (self._reads, self._writes):
            if engine is not None:
                await engine.dispose()
        self._reads = self._writes = None

    def _on_connect(self, connection: Any, _: Any) -> None:
        # SQLAlchemy's own advice for SQLite: let it, not the driver, begin transactions.
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout = {self._busy_timeout}")
            connection.run_async(self._journal_ahead)
            cursor.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        cursor.close()

    async def _journal_ahead(self, connection: Any) -> None:
        # SQLite does not wait for another process here, whatever its busy timeout (seen with 3.40, 2026-11): two
        # gateways that begin at once on a new file would meet.
        for _ in range(self._busy_timeout // int(PAUSE * 1000)):
            try:
                await connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                await anyio.sleep(PAUSE)
            else:
                return
        await connection.execute("PRAGMA journal_mode = WAL")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for single reads, each of which sees what is committed by then."""
        if self._reads is None:
            await self.open()
        assert self._reads is not None  # noqa: S101 - for the type checker
        with _explained():
            async with self._reads.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it, or, if anything is raised, nothing."""
        if self._writes is None:
            await self.open()
        assert self._writes is not None  # noqa: S101 - for the type checker
        with _explained():
            async with self._writes.begin() as connection:
                yield connection


class _explained:  # noqa: N801 - reads as a statement
    """Turns what a database driver raises into a StorageError that says what to do."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise StorageError(
                f"The gateway's database cannot be opened: {error.strerror}. Check `storage.url`."
            ) from error
        if isinstance(error, SQLAlchemyError) and not isinstance(error, IntegrityError):
            raise StorageError(f"The gateway's database {_trouble(error)} Nothing was changed.") from error


def _trouble(error: SQLAlchemyError) -> str:
    said = str(error.orig).lower() if isinstance(error, DBAPIError) else ""
    if "locked" in said or "busy" in said or "timeout" in type(error).__name__.lower():
        return "is busy: another program holds it. Try again in a moment."
    if "readonly" in said or "read-only" in said or "permission" in said:
        return "cannot be written. Make its file and folder writable for this user, or change `storage.url`."
    if "unable to open" in said:
        return "cannot be opened. Check the path in `storage.url` and its permissions."
    if "full" in said:
        return "cannot grow: the disk is full. Free some space."
    if "not a database" in said or "malformed" in said:
        return "is damaged, or the file in `storage.url` is no database. Restore it from a backup."
    return f"failed ({type(error).__name__}). See the log."


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _lock_first(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD. Without Alembic, which takes 0.2 s to import, where it is there already."""
    found = None
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StorageError(
            f"The gateway's database is of a newer version ({found}) than this program knows ({HEAD}). "
            "Update scheduling-gateway, or point `storage.url` at another file."
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "providers.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
