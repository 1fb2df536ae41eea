"""An emulator or a gateway on a loopback port, for what runs in a process of its own or brings its own HTTP client."""

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


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The URL at which it is, meanwhile."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        serving = threading.Thread(target=server.run, args=([listener],))
        serving.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
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
