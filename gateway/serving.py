"""Serving until told to stop: over HTTP on one address, or over stdio for one desktop app."""

import json
import logging
import os
import signal
import socket
from functools import partial
from typing import Any

import anyio
import uvicorn
from fastmcp import FastMCP

from gateway import logs, telemetry
from gateway.config import Config, ConfigError
from gateway.connections import HEADERS_BYTES, KEEP_ALIVE, LAST, Connection, Server
from gateway.core import Gateway
from gateway.server import NAME, build_app, build_server
from gateway.server_config import NoAuth
from providers import Clock
from schemas import ProviderDown, SchedulingError

BACKLOG = 2048
log = logging.getLogger(__name__)

FIRST_SWEEP, SWEEP = 1.0, 60.0
"""How long after an app has started us, and how often, it is looked for writes that nobody saw the end of, in seconds:
the app has its list of tools before."""


def http(config: Config) -> int:
    """Serve over HTTP. Raises ConfigError where that would let strangers in, ProviderDown where it cannot start."""
    if isinstance(config.server.auth, NoAuth) and (reasons := config.server.exposed):
        raise ConfigError(
            [
                f"{reason}, and nobody has to sign in: anyone who reaches it could read and book these calendars. Set "
                "server.auth to keys or oauth, or serve on 127.0.0.1 without public_url"
                for reason in reasons
            ]
        )
    from gateway.door import at_door  # with the database's library, which no desktop app waits for

    logs.start(config)
    telemetry.start()
    gateway = Gateway(config)

    async def run(listener: socket.socket) -> int:
        # Opened before the first client comes: a database that cannot be used is better known now.
        await gateway.open()
        await gateway.audit.start()
        gateway.connecting.url = own_url(config, listener)
        auth = await at_door(gateway, gateway.connecting.url)
        server = http_server(build_server(gateway, auth), config)
        host, port = listener.getsockname()[:2]
        logs.say(f"{NAME} with {_accounts(config)}")
        own = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        public = (config.server.public_url or own).rstrip("/")
        logs.say(f"answers at {own}{config.server.path}" + ("" if public == own else f", for clients {public}"))
        logs.say(to_paste(f"{public}{config.server.path}"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_sweep, gateway)
            await server.serve(sockets=[listener])
            tasks.cancel_scope.cancel()
        return 130 if server.is_interrupted else 0

    try:
        with listen(config.server.host, config.server.port) as listener:
            return anyio.run(run, listener)
    finally:
        telemetry.stop()


def own_url(config: Config, listener: socket.socket) -> str:
    """Where a browser finds our pages. Vendors take plain http for a redirect to `localhost` alone."""
    return (config.server.public_url or "").rstrip("/") or f"http://localhost:{listener.getsockname()[1]}"


def http_server(server: FastMCP[Any], config: Config, clock: Clock | None = None) -> Server:
    """The uvicorn server around `server`, not yet serving."""
    front = build_app(server, config.server, clock)
    served = uvicorn.Config(
        front,
        host=config.server.host,
        http=Connection,
        h11_max_incomplete_event_size=HEADERS_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST,
    )
    return Server(served, front, clock)


def stdio(config: Config, *, legacy: bool) -> int:
    """Serve one client over stdin and stdout, in both eras of the protocol or the handshake era alone."""
    logs.start(config)
    telemetry.start()
    gateway = Gateway(config)
    server = build_server(gateway)
    logs.say(f"{NAME} with {_accounts(config)} waits for an MCP client on stdin. Stop with Ctrl-C.")

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            if os.name == "posix":  # elsewhere asyncio has no such receiver, and Ctrl-C ends the process by itself
                tasks.start_soon(_end_on_signal, gateway)
            tasks.start_soon(partial(_sweep, gateway, first=FIRST_SWEEP))
            await (_legacy_stdio(server) if legacy else _stdio(server))
            tasks.cancel_scope.cancel()

    try:
        anyio.run(run)
    finally:
        telemetry.stop()
    return 0


async def _sweep(gateway: Gateway, *, first: float = 0.0) -> None:
    """Settle what a process before this one, or another one, has left; at the start and from then on."""
    await anyio.sleep(first)
    while True:
        gateway.audit.say_head_hourly()
        try:
            await gateway.open()
            await gateway.settling.sweep()
            await gateway.pool.tidy()
            telemetry.UNSETTLED.set(await gateway.settling.unsettled())
        except SchedulingError:
            log.exception("the journal could not be swept")
        await anyio.sleep(SWEEP)


async def _end_on_signal(gateway: Gateway) -> None:
    """Finish what is being written, then end: 130 when interrupted, 0 when told to stop.

    At once, for the thread that reads stdin can be neither interrupted nor waited for while a client holds it open.
    """
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            await gateway.close()
            telemetry.stop()
            os._exit(130 if number == signal.SIGINT else 0)


async def _stdio(server: FastMCP[Any]) -> None:
    await server.run_stdio_async(show_banner=False)


async def _legacy_stdio(server: FastMCP[Any]) -> None:
    # FastMCP 4.1 has no switch for an era. Its own stdio loop settles on that of the first request, and some clients
    # probe with `server/discover` and then shake hands, which it refuses (seen 2026-10).
    from fastmcp.server.context import reset_transport, set_transport
    from mcp.server.runner import serve_loop
    from mcp.server.stdio import stdio_server

    token = set_transport("stdio")
    try:
        async with server._lifespan_manager(), stdio_server() as (reading, writing):
            low = server._mcp_server
            await serve_loop(
                low,
                reading,
                writing,
                lifespan_state=server._lifespan_result,
                init_options=low.create_initialization_options(),
            )
    finally:
        reset_transport(token)


def to_paste(url: str) -> str:
    """What to paste where, for whoever started the server."""
    snippet = json.dumps({"mcpServers": {"scheduling": {"type": "http", "url": url}}}, indent=2)
    return (
        f"\nClaude Code:  claude mcp add --transport http scheduling {url}\n"
        f"Cursor and others, in their MCP configuration:\n{snippet}\n\nStop with Ctrl-C."
    )


def _accounts(config: Config) -> str:
    """Which accounts, and where they keep what they keep: a client may have started us in another folder."""
    names = ", ".join(f"{name} ({account.provider})" for name, account in config.accounts.items())
    return f"accounts {names}, storage {config.storage.url},"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ProviderDown, with what to do, if it cannot."""
    # With the protocol named: asyncio turns Nagle's algorithm off for such sockets alone, and with it on each answer
    # that is sent in two parts waits 40 ms for an acknowledgement (CPython 3.11 to 3.14).
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        raise ProviderDown(
            f"Port {port} on {host} cannot be used: {error.strerror}. Choose another one with --port."
        ) from None
