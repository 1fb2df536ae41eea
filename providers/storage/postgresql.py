"""PostgreSQL, through asyncpg: for several gateway processes on one database.

Transactions are READ COMMITTED, so a statement sees what was committed before it began, and who reads to decide what to
write first takes a lock: the row of an embedded calendar's account, or a name (`Storage.write(alone=…)`). What must be
there once is the primary key or a unique index. A transaction takes one name at most, and takes it first; no two
can wait for each other.

Quirks:
- A connection that broke while a COMMIT was under way leaves it unknown whether that was carried out.
- Settings are made by statements after connecting: PgBouncer refuses those that come with the connection.
- `connect_timeout` would be sent to the server as a setting (asyncpg 0.32), so it is taken out here.
"""

from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECT_TIMEOUT = 10
COMMAND_TIMEOUT = 60
RECYCLE = 300
"""How old a connection may get, in seconds: something between us and the server may have forgotten it."""

# A process that froze within a transaction gives its locks back; and nobody waits for one for ever.
SESSION = """
SET lock_timeout = '15s';
SET idle_in_transaction_session_timeout = '60s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
PATIENCE = "SET LOCAL lock_timeout = '50s'"

LOCK = text("SELECT pg_advisory_xact_lock(:key)")

# https://www.postgresql.org/docs/current/errcodes-appendix.html: the whole code, or the two letters of its class.
TROUBLES = {
    "28": "refuses to let this user in. Check user and password in `storage.url`.",
    "3D000": "has no database of that name. Create it, or correct `storage.url`.",
    "42501": "does not let this user do that. Make it the owner of the database, or GRANT it CREATE on the schema.",
    "53100": "cannot grow: the disk is full. Free some space.",
    "53300": "takes no more connections. Raise its max_connections, or run fewer gateways.",
    "25006": "is read-only here, as on a standby. Name the primary in `storage.url`.",
    "22001": "was handed a text that is longer than its column.",
    "55P03": "is busy: another process holds what is needed. Try again in a moment.",
    "40": "is busy: another process was faster. Try again in a moment.",
    "57": "is starting or stopping. Try again in a moment.",
    "08": "cannot be reached, or the connection was lost. Try again in a moment; see that it runs.",
}
UNREACHABLE = "cannot be reached{why}. See that it runs, and check host, port and sslmode in `storage.url`."


class Postgresql:
    """The database at `url`, which has no password in it."""

    def __init__(self, url: str, password: SecretStr | None) -> None:
        address, _, query = url.partition("?")
        settings = dict(parse_qsl(query))
        self._timeout = int(settings.pop("connect_timeout", CONNECT_TIMEOUT))
        settings.setdefault("application_name", "scheduling-gateway")
        self._dsn = f"{address}?{urlencode(settings)}"
        self._password = password

    async def prepare(self) -> None:
        """The database has to be there."""

    def reads(self) -> AsyncEngine:
        return self._engine(isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)

    def writes(self) -> AsyncEngine:
        # Of their own, so that those who wait for each other leave connections for those who only look.
        return self._engine()

    def _engine(self, **options: Any) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=5,
            max_overflow=5,
            pool_timeout=60,
            pool_recycle=RECYCLE,
            **options,
        )
        event.listen(engine.sync_engine, "checkout", _must_be_open)
        return engine

    async def _connect(self) -> Any:
        import asyncpg

        password = None if self._password is None else self._password.get_secret_value()
        connection = await asyncpg.connect(
            self._dsn, password=password, timeout=self._timeout, command_timeout=COMMAND_TIMEOUT
        )
        await connection.execute(SESSION)
        return connection

    async def lock(self, connection: AsyncConnection, name: str, *, patient: bool = False) -> None:
        """Wait until no other transaction has that name."""
        if patient:
            await connection.execute(text(PATIENCE))
        digest = sha256(f"scheduling-gateway\n{name}".encode()).digest()
        await connection.execute(LOCK, {"key": int.from_bytes(digest[:8], signed=True)})

    def is_unsure(self, error: Exception) -> bool:
        """Whether a COMMIT that ended so may have been carried out: anything but a refusal of the server's."""
        code = _code(error)
        return code is None or code == "40003" or code[:2] in ("08", "57", "58", "XX")

    def unhurried(self) -> AbstractContextManager[object]:
        return nullcontext()

    def trouble(self, error: Exception) -> str | None:
        import asyncpg

        if code := _code(error):
            return TROUBLES.get(code) or TROUBLES.get(code[:2])
        origin = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig is not None else error
        if isinstance(origin, asyncpg.exceptions.ClientConfigurationError):
            return f"cannot be reached with the settings in `storage.url`: {origin.args[0]}."
        if isinstance(origin, asyncpg.exceptions.TargetServerAttributeNotMatched):
            return "has no server of the kind that target_session_attrs asks for in `storage.url`."
        if isinstance(origin, OSError):
            why = " in time" if isinstance(origin, TimeoutError) else f" ({origin.strerror or type(origin).__name__})"
            return UNREACHABLE.format(why=why)
        if isinstance(origin, asyncpg.InterfaceError):
            return TROUBLES["08"]
        return None


def _code(error: BaseException | None) -> str | None:
    """The SQLSTATE of what went wrong, from the driver or from what SQLAlchemy made of it."""
    if isinstance(error, DBAPIError):
        error = error.orig
    code = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) else None


def _must_be_open(connection: Any, *_: Any) -> None:
    # What SQLAlchemy's own look would cost is three trips to the server before each transaction.
    if connection.driver_connection.is_closed():
        raise DisconnectionError
