"""`scheduling-gateway connect` and `disconnect`: consent in a browser, for whoever has a terminal."""

import asyncio
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable
from datetime import timedelta
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
from gateway.connect_pages import page
from gateway.connecting import CALLBACK, TICKET
from gateway.core import Gateway
from gateway.serving import listen
from schemas import NotConnected, SchedulingError


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
    gateway = Gateway(config)
    with listen("127.0.0.1", port) as listener:
        await _opened(gateway, account)
        try:
            gateway.connecting.url = f"http://localhost:{listener.getsockname()[1]}"
            consent = _Consent(gateway)
            address = await consent.begin(account)
            server = uvicorn.Server(
                uvicorn.Config(consent.app, log_config=None, access_log=False, lifespan="off", ws="none")
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listener])
                try:
                    await _asked(console, consent, account, address, browser=browser)
                finally:
                    server.should_exit = True
            if consent.error is not None:
                raise consent.error
            if not consent.over.is_set():
                raise NotConnected("Nobody consented in time. Run the command again.", account=account)
            answers = (await gateway.catalog.list_accounts()).accounts
        finally:
            await gateway.close()
    [answer] = [each for each in answers if each.account == account]
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

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # Whoever finishes it has the link, and the link was shown here alone.
        self._holder = secrets.token_urlsafe(32)
        self.over = anyio.Event()
        self.error: SchedulingError | None = None
        self.app = Starlette(routes=[Route(CALLBACK, self._callback, methods=["GET"])])
        self._finishing: set[asyncio.Task[object]] = set()

    async def begin(self, account: str) -> str:
        return await self._gateway.connecting.begin(account, self._holder)

    async def finish(self, answer: dict[str, str]) -> SchedulingError | None:
        """How it went. An answer to something else ends nothing: it may be anybody's."""
        try:
            await self._gateway.connecting.finish(answer, self._holder)
        except NotConnected as error:
            self.error = error
        except SchedulingError as error:
            return error
        self.over.set()
        return self.error

    def pasted(self, line: str) -> None:
        task = asyncio.ensure_future(self.finish(dict(parse_qsl(urlsplit(line.strip()).query))))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _callback(self, request: Request) -> Response:
        if (error := await self.finish(dict(request.query_params))) is not None:
            return page("This did not work", error.message, 400)
        return page("Connected", "You can close this window and go back to the terminal.")


def _read_lines(loop: asyncio.AbstractEventLoop, take: Callable[[str], None]) -> None:
    """Hand on each line of stdin, from a thread that ends with the process: no read can be called off."""

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(take, line)

    threading.Thread(target=read, daemon=True).start()


async def _disconnect(config: Config, account: str) -> int:
    gateway = Gateway(config)
    await _opened(gateway, account)
    try:
        was_told = await gateway.connecting.client(account).disconnect()
    finally:
        await gateway.close()
    vendor = "revoked at the service" if was_told else "not revoked at the service: remove the app in its settings"
    Console(highlight=False, soft_wrap=True).print(
        f"{account} is disconnected. The consent is forgotten here, and {vendor}."
    )
    return 0


async def _opened(gateway: Gateway, account: str) -> None:
    if account not in gateway.config.accounts:
        raise ConfigError([f"there is no account {account}; the accounts are {', '.join(gateway.config.accounts)}"])
    await gateway.open()
    try:
        gateway.connecting.client(account)
    except SchedulingError as error:
        await gateway.close()
        raise ConfigError([error.message]) from None
