"""SQLite: a file, which one transaction at a time may write."""

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

PAUSE = 0.05
"""Between two tries where SQLite itself does not wait, in seconds."""


class Sqlite:
    """All writes of a process go through one connection, in turn, and each takes the database's write lock before it
    reads, as other processes do: what a transaction has read is still so when it commits.
    """

    def __init__(self, url: URL, busy_timeout: float) -> None:
        self._url = url.set(drivername="sqlite+aiosqlite")
        self.busy_timeout = int(busy_timeout * 1000)

    async def prepare(self) -> None:
        await anyio.to_thread.run_sync(_make_folder, Path(self._url.database or "").parent)

    def reads(self) -> AsyncEngine:
        engine = create_async_engine(
            self._url, pool_size=4, max_overflow=12, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
        )
        event.listen(engine.sync_engine, "connect", self._on_connect)
        return engine

    def writes(self) -> AsyncEngine:
        engine = create_async_engine(self._url, pool_size=1, max_overflow=0, pool_timeout=60)
        event.listen(engine.sync_engine, "connect", self._on_connect)
        event.listen(engine.sync_engine, "begin", _lock_first)
        return engine

    async def lock(self, connection: AsyncConnection, name: str, *, patient: bool = False) -> None:
        """Every transaction is alone already."""

    def is_unsure(self, error: Exception) -> bool:
        return False

    def unhurried(self) -> AbstractContextManager[object]:
        # Who is told to stop waits for the statement's end: cut off, it would cost the connection, and SQLAlchemy then
        # leaves a task behind that never ends (2.1 with aiosqlite 0.22, 2026-11).
        return anyio.CancelScope(shield=True)

    def trouble(self, error: Exception) -> str | None:
        if isinstance(error, OSError):
            return f"cannot be opened: {error.strerror}. Check `storage.url`."
        said = str(error.orig).lower() if isinstance(error, DBAPIError) else ""
        if "locked" in said or "busy" in said:
            return "is busy: another program holds it. Try again in a moment."
        if "readonly" in said or "read-only" in said or "permission" in said:
            return "cannot be written. Make its file and folder writable for this user, or change `storage.url`."
        if "unable to open" in said:
            return "cannot be opened. Check the path in `storage.url` and its permissions."
        if "full" in said:
            return "cannot grow: the disk is full. Free some space."
        if "not a database" in said or "malformed" in said:
            return "is damaged, or the file in `storage.url` is no database. Restore it from a backup."
        return None

    def _on_connect(self, connection: Any, _: Any) -> None:
        # SQLAlchemy's own advice for SQLite: let it, not the driver, begin transactions.
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout = {self.busy_timeout}")
            connection.run_async(self._journal_ahead)
            cursor.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        cursor.close()

    async def _journal_ahead(self, connection: Any) -> None:
        # SQLite does not wait for another process here, whatever its busy timeout (seen with 3.40, 2026-11): two
        # gateways that begin at once on a new file would meet.
        for _ in range(self.busy_timeout // int(PAUSE * 1000)):
            try:
                await connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                await anyio.sleep(PAUSE)
            else:
                return
        await connection.execute("PRAGMA journal_mode = WAL")


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _lock_first(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
