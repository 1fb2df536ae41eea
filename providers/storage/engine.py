"""One database: opened and brought up to date once, read in autocommit, written in transactions."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol

import anyio
from pydantic import SecretStr
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from providers.storage.postgresql import Postgresql
from providers.storage.sqlite import Sqlite
from providers.storage.tables import HEAD
from schemas import OutcomeUnknown, ProviderDown

BUSY_TIMEOUT = 10.0
"""How long SQLite waits for another process that writes, in seconds."""

SCHEMA = "the schema"
"""What a process has alone that creates or upgrades it."""


class StorageError(ProviderDown):
    """The gateway's own database does not work. Nothing was changed."""


class StorageUnsure(OutcomeUnknown):
    """The gateway's own database was lost just as it was to keep something; nobody knows whether it did."""


class Database(Protocol):
    """What SQLite and PostgreSQL do in different ways."""

    async def prepare(self) -> None:
        """See to what must be there before connecting."""

    def reads(self) -> AsyncEngine: ...

    def writes(self) -> AsyncEngine: ...

    async def lock(self, connection: AsyncConnection, name: str, *, patient: bool = False) -> None:
        """Have that name alone until the transaction ends; if `patient`, wait for it longer."""

    def is_unsure(self, error: Exception) -> bool:
        """Whether a commit that failed so may have happened."""

    def unhurried(self) -> AbstractContextManager[object]:
        """What a connection is used within."""

    def trouble(self, error: Exception) -> str | None:
        """What is wrong and what to do, as it goes on after "The gateway's database"; None if that is not known."""


class Storage:
    """The database at `url` (`sqlite:///…` or `postgresql://…`)."""

    def __init__(self, url: str, *, password: SecretStr | None = None, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.url = url
        is_file = url.startswith("sqlite:")
        # Only PostgreSQL's own driver knows several hosts in one URL.
        self.database: Database = Sqlite(make_url(url), busy_timeout) if is_file else Postgresql(url, password)
        self._reads: AsyncEngine | None = None
        self._writes: AsyncEngine | None = None
        self._opening = anyio.Lock()

    async def open(self) -> None:
        """Connect, and create or upgrade the schema. Raises StorageError."""
        async with self._opening:
            if self._reads is not None:
                return
            with self._explained():
                await self.database.prepare()
            writes = self.database.writes()
            try:
                with self._explained():
                    async with writes.begin() as connection:
                        await self.database.lock(connection, SCHEMA, patient=True)
                        await connection.run_sync(_upgrade)
            except BaseException:
                await writes.dispose()
                raise
            self._writes, self._reads = writes, self.database.reads()

    async def close(self) -> None:
        for engine in (self._reads, self._writes):
            if engine is not None:
                await engine.dispose()
        self._reads = self._writes = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for single reads, each of which sees what is committed by then."""
        if self._reads is None:
            await self.open()
        assert self._reads is not None  # noqa: S101 - for the type checker
        with self._explained(), self.database.unhurried():
            async with self._reads.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, *, alone: str | tuple[str, ...] = ()) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it, or, if anything is raised, nothing. Raises StorageUnsure if nobody can tell.

        Several may be under way at once, in this process and in others. Of those that are `alone` with one name each
        waits for the one before: what it has read and only such others change is still so when it commits. With several
        names it waits for each in turn, so that all who do have to name them in one order.
        """
        if self._writes is None:
            await self.open()
        assert self._writes is not None  # noqa: S101 - for the type checker
        is_over = False
        with self._explained(), self.database.unhurried():
            try:
                async with self._writes.begin() as connection:
                    for name in (alone,) if isinstance(alone, str) else alone:
                        await self.database.lock(connection, name)
                    yield connection
                    is_over = True
            except Exception as error:
                if is_over and self.database.is_unsure(error):
                    raise StorageUnsure(
                        "The gateway's database was lost while it was written, so what was asked may have happened. "
                        "Look before trying again."
                    ) from error
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a database driver raises into a StorageError that says what to do."""
        try:
            yield
        except IntegrityError:
            raise  # the callers' own
        except NoConnectionLeft as error:
            raise StorageError(
                "The gateway's database is busy: too many requests wait for it. Try again in a moment. "
                "Nothing was changed."
            ) from error
        except Exception as error:
            said = self.database.trouble(error)
            if said is None and not isinstance(error, SQLAlchemyError):
                raise
            cause = error.orig if isinstance(error, DBAPIError) else error
            said = said or f"failed ({type(cause).__name__}). See the log."
            raise StorageError(f"The gateway's database {said} Nothing was changed.") from error


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
            "Update scheduling-gateway, or point `storage.url` at another one."
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "providers.storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
