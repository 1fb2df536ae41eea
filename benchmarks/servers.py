"""The servers that are measured: how they are started, and what they are asked first."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from benchmarks.wire import Call, http_rate

BARE = [sys.executable, "-m", "benchmarks.bare"]
GATEWAY = [sys.executable, "-m", "gateway", "serve"]
CONNECTIONS = 8

UNLIMITED = "server: {limits: {per_minute: 1000000000}}\n"
"""For a configuration: a measurement asks for more in a minute than anyone may."""


def a_week(event_type_id: str) -> Call:
    start = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    window = {"start": start.isoformat(), "end": (start + timedelta(days=7)).isoformat()}
    return Call("find_slots", {"event_type_ids": [event_type_id], **window})


@contextmanager
def serving(command: list[str], port: int, call: Call | None = None, key: str | None = None) -> Iterator[None]:
    """The server, warm."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        if call is not None:
            asyncio.run(http_rate(port, call, CONNECTIONS, 1, key))
        yield
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
