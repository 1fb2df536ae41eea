"""`scheduling-gateway connect` and `disconnect`: consent in a browser, for whoever has a terminal."""

import asyncio
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from socket import socket
from urllib.parse import parse_qsl, urlsplit

import anyio
import uvicorn
from rich.console import Console
from rich.markup import escape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.checking import show
from gateway.config import Config, ConfigError
from gateway.connecting import CALLBACK, TICKET
from gateway.core import Gateway
from gateway.pages.shown import ROUTES, message
from gateway.serving import listen
from schemas import InvalidRequest, NotConnected, SchedulingError


def connect(config: Config, account: str, *, port: int, browser: bool) -> int:
    """Have the account's owner consent, then see that it works: 0 if it does.

    Raises: ConfigError for an account that there is not, or that needs no connecting; NotConnected without a consent.
    """
    return anyio.run(_connect, config, account, port, browser)


def disconnect(config: Config, account: str) -> int:
    """Revoke the consent at the vendor, and forget it. Raises ConfigError as `connect` does."""
    return anyio.run(_disconnect, config, account)


async def _connect(config: Config, account: str, port: int, browser: bool) -> int:
    console = Console(highlight=False, soft_wrap=True)
    with _listening(port) as listeners:
        gateway = await _opened(config, account)
        try:
            gateway.connecting.url = f"http://localhost:{port}"
            consent = _Consent(gateway, console)
            address = await consent.begin(account)
            if config.accounts[account].owner == "caller":
                console.print(f"{account} is each caller's own: connected here it is this user's, over stdio.\n")
            server = uvicorn.Server(
                uvicorn.Config(consent.app, log_config=None, access_log=False, lifespan="off", ws="none")
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, listeners)
                try:
                    await _asked(console, consent, account, address, browser=browser)
                finally:
                    server.should_exit = True
            if consent.error is not None:
                raise consent.error
            if not consent.over.is_set():
                raise NotConnected("Nobody consented in time. Run the command again.", account=account)
            [answer] = (await gateway.catalog.list_accounts()).accounts
        finally:
            await gateway.close()
    show(console, answer)
    return 0 if answer.state == "ready" else 1


async def _asked(console: Console, consent: "_Consent", account: str, address: str, *, browser: bool) -> None:
    console.print(f"To connect {account}, sign in and consent at\n\n  {escape(address)}\n")
    if browser and await anyio.to_thread.run_sync(webbrowser.open, address):
        console.print("A browser was opened there.")
    if sys.stdin.isatty():
        console.print("On another machine? Paste here the address that its browser ends at, and press Enter.")
        _read_lines(asyncio.get_running_loop(), consent.pasted)
    minutes = TICKET // timedelta(minutes=1)
    with console.status(f"Waiting for the consent, {minutes} minutes at most. Ctrl-C gives up."):
        with anyio.move_on_after(TICKET.total_seconds()):
            await consent.over.wait()


class _Consent:
    """One consent: begun here, and finished by the browser or by what was pasted."""

    def __init__(self, gateway: Gateway, console: Console) -> None:
        self._gateway, self._console = gateway, console
        # Whoever finishes it has the link, and the link was shown here alone.
        self._holder = secrets.token_urlsafe(32)
        self._state = ""
        self.over = anyio.Event()
        self.error: SchedulingError | None = None
        self.app = Starlette(routes=[Route(CALLBACK, self._callback, methods=["GET"]), *ROUTES])
        self._finishing: set[asyncio.Task[object]] = set()

    async def begin(self, account: str) -> str:
        address = await self._gateway.connecting.begin(account, self._holder)
        self._state = dict(parse_qsl(urlsplit(address).query))["state"]
        return address

    async def finish(self, answer: dict[str, str]) -> SchedulingError | None:
        """How it went. An answer to something else ends nothing: it may be anybody's."""
        if not self._state or answer.get("state") != self._state:
            return InvalidRequest("That is no answer to the sign-in that was begun here, or it came before.")
        self._state = ""  # it is good once
        try:
            await self._gateway.connecting.finish(answer, self._holder)
        except SchedulingError as error:
            self.error = error
        finally:
            self.over.set()
        return self.error

    def pasted(self, line: str) -> None:
        if line.strip():
            task = asyncio.ensure_future(self._take(line))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _take(self, line: str) -> None:
        try:
            answer = dict(parse_qsl(urlsplit(line.strip()).query))
        except ValueError:
            answer = {}
        error = await self.finish(answer)
        if error is not None and not self.over.is_set():
            self._console.print(f"{error.message} Paste the whole address that the browser ends at.")

    async def _callback(self, request: Request) -> Response:
        if (error := await self.finish(dict(request.query_params))) is not None:
            return message("This did not work", error.message, 400)
        return message("Connected", "You can close this window and go back to the terminal.", 200)


def _read_lines(loop: asyncio.AbstractEventLoop, take: Callable[[str], None]) -> None:
    """Hand on each line of stdin, from a thread that ends with the process: no read can be called off."""

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(take, line)

    threading.Thread(target=read, daemon=True).start()


async def _disconnect(config: Config, account: str) -> int:
    gateway = await _opened(config, account)
    try:
        client = gateway.connecting.client(account)
        was_connected, was_told = await client.is_connected(), await gateway.connecting.disconnect(account)
    finally:
        await gateway.close()
    console = Console(highlight=False, soft_wrap=True)
    if not was_connected and not was_told:
        console.print(
            f"{account} was not connected. Nothing was revoked at the service; whatever was kept is forgotten."
        )
        return 0
    vendor = "revoked at the service" if was_told else "not revoked at the service: remove the app in its settings"
    console.print(f"{account} is disconnected. The consent is forgotten here, and {vendor}.")
    return 0


@contextmanager
def _listening(port: int) -> Iterator[list[socket]]:
    """At each address that `localhost` may be to a browser: another program at one of them would get the consent."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(listen("127.0.0.1", port))]
        try:
            listen("::1", 0).close()
        except SchedulingError:
            pass  # this machine has no IPv6
        else:
            listeners.append(stack.enter_context(listen("::1", port)))
        yield listeners


async def _opened(config: Config, account: str) -> Gateway:
    """A gateway with that account alone."""
    if account not in config.accounts:
        raise ConfigError([f"there is no account {account}; the accounts are {', '.join(config.accounts)}"])
    gateway = Gateway(config.model_copy(update={"accounts": {account: config.accounts[account]}}))
    await gateway.open()
    try:
        gateway.connecting.client(account)
    except SchedulingError as error:
        await gateway.close()
        raise ConfigError([error.message]) from None
    return gateway
