"""An emulator or a gateway on a loopback port, for what runs in a process of its own or brings its own HTTP client."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from gateway.config import Config
from gateway.core import Gateway
from gateway.server import build_server
from gateway.serving import http_server, listen, own_url


class Prompt(uvicorn.Server):
    """Ends when it is told to, whoever is still connected: uvicorn's own looks every tenth of a second, and waits."""

    _loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._told = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The URL at which it is, meanwhile."""
    with listen("127.0.0.1", 0) as listener:
        server = Prompt(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        serving = threading.Thread(target=server.run, args=([listener],))
        serving.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            serving.join()


@asynccontextmanager
async def serving(gateway: Gateway, config: Config) -> AsyncIterator[str]:
    """The URL at which that gateway is, meanwhile: in this event loop."""
    with listen("127.0.0.1", 0) as listener:
        gateway.connecting.url = own_url(config, listener)
        server = http_server(build_server(gateway), config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            try:
                yield gateway.connecting.url
            finally:
                server.should_exit = True
