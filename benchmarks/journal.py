"""What the journal adds to a write: the time of a write that does nothing."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway.config import Config, StorageConfig
from gateway.core import Gateway
from providers import PROVIDERS
from schemas import Feature
from tests.postgres import Missing, server_or_why

WRITES = 400


def measure(url: str | None = None) -> float:
    """Milliseconds at the median; on a new SQLite file, or on that database."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(url or f"sqlite:///{Path(folder) / 'journal.db'}"))


async def _measure(url: str) -> float:
    account = PROVIDERS["local"]["api"].Config.model_validate({"provider": "local", "time_zone": "Europe/Berlin"})
    gateway = Gateway(Config(accounts={"home": account}, storage=StorageConfig(url=url)))
    await gateway.open()

    async def nothing(_: str) -> Any:
        return None

    times = []
    for number in range(WRITES):
        start = time.perf_counter()
        kept = {"booking_id": f"b{number}"}
        await gateway.write(gateway.accounts["home"], Feature.CANCEL_BOOKING, number, nothing, kept=kept)
        times.append(time.perf_counter() - start)
    await gateway.close()
    return statistics.median(times[50:]) * 1e3


def on_postgresql() -> float | str:
    """The same on the tests' PostgreSQL, made to wait for its disk; or why there is none."""
    server = server_or_why()
    if isinstance(server, Missing):
        return str(server)
    server.run("ALTER SYSTEM SET fsync = on")
    server.run("SELECT pg_reload_conf()")
    return measure(server.new())
