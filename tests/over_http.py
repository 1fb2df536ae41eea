"""The gateway as it is served: in this process over loopback, on a clock of the test's, or as a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from gateway.core import Gateway
from gateway.server import build_server
from gateway.server_config import ServerConfig
from gateway.serving import http_server, listen
from tests.agent import Agent
from tests.emulators.wire import TOKEN
from tests.world import Clock

JSON_RPC = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@asynccontextmanager
async def served(gateway: Gateway, clock: Clock, **server: Any) -> AsyncIterator[str]:
    """Its URL, without the path of the tools."""
    with listen("127.0.0.1", 0) as listener:
        settings = ServerConfig(port=listener.getsockname()[1], **server)
        gateway.config = gateway.config.model_copy(update={"server": settings})
        running = http_server(build_server(gateway), gateway.config, clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.serve, [listener])
            try:
                yield f"http://127.0.0.1:{settings.port}"
            finally:
                running.should_exit = True


@asynccontextmanager
async def agent(
    url: str, mode: Any = "auto", headers: Mapping[str, str] | None = None, **client: Any
) -> AsyncIterator[Agent]:
    transport = StreamableHttpTransport(f"{url}/mcp", headers=dict(headers or {}))
    async with Client(transport, mode=mode, **client) as connected:
        yield Agent(connected)


class Held(httpx2.AsyncBaseTransport):
    """A network that keeps what is sent until it is let go."""

    def __init__(self, network: httpx2.AsyncBaseTransport) -> None:
        self._network = network
        self.has_come = anyio.Event()
        self.may_go = anyio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.has_come.set()
        await self.may_go.wait()
        return await self._network.handle_async_request(request)


def configured(folder: Path, url: str, **settings: Any) -> Path:
    """A file with an account whose service is at that URL."""
    account = {"provider": "calcom", "base_url": url, "auth": {"type": "bearer", "token": TOKEN}}
    whole = {"accounts": {"team": account}, "storage": {"url": "sqlite:///gateway.db"}, **settings}
    file = folder / "config.yaml"
    file.write_text(json.dumps(whole))
    return file


@contextmanager
def process(file: Path, **environ: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A gateway that serves, and its URL without the path of the tools. Its log is in `log` beside the file."""
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(file), "--port", "0"]
    log = file.with_name("log")
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stderr=stderr, text=True, env={**os.environ, **environ}) as running,
    ):
        try:
            yield running, _url(running, log)
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGKILL)


def _url(running: "subprocess.Popen[str]", log: Path) -> str:
    with log.open() as said:
        while True:
            line = said.readline()
            if found := re.search(r"answers at (http://\S+?)/mcp\b", line):
                return found[1]
            assert line or running.poll() is None, log.read_text()
