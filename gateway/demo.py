"""`scheduling-gateway demo`: all the way from an MCP client to a booked meeting, on a calendar that is thrown away."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.config import Config, StorageConfig
from gateway.core import Gateway
from gateway.server import build_server
from gateway.server_config import ServerConfig
from gateway.serving import http_server, listen
from providers import PROVIDERS
from schemas import OutcomeUnknown


def run() -> int:
    """Show it on the terminal. 0 if every step went as it should."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="scheduling-gateway-demo-") as folder:
        anyio.run(_run, console, Path(folder))
    console.print("\nThat was a real server on loopback and a real MCP client. Nothing is left of it.")
    console.print(
        "Next: install it as the README says, run [bold]scheduling-gateway serve[/], and paste what it prints."
    )
    return 0


async def _run(console: Console, folder: Path) -> None:
    async with _server(folder) as url, Client(StreamableHttpTransport(url)) as client:
        console.print(f"[bold]A gateway with one embedded calendar answers at[/] {url}\n")
        await _Demo(console, client).play()


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = Config(
        accounts={"home": PROVIDERS["local"]["api"].Config(provider="local")},
        server=ServerConfig(port=port),
        storage=StorageConfig(url=f"sqlite:///{folder / 'demo.db'}"),
    )
    server = http_server(build_server(Gateway(config)), config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{port}{config.server.path}"
    finally:
        server.should_exit = True
        await serving


class _Demo:
    def __init__(self, console: Console, client: Client[Any]) -> None:
        self._console = console
        self._client = client
        self._step = 0

    async def play(self) -> None:
        accounts = await self._call("Which calendars are there?", "list_accounts")
        account = accounts["accounts"][0]
        self._say(f"[bold]{account['account']}[/] ({account['detail']}), {account['state']}, {account['time_zone']}")
        event_types = await self._call("What can be booked?", "list_event_types")
        for each in event_types["event_types"]:
            self._say(f"{escape(each['title'])} [dim]{each['id']}[/]")
        event_type = event_types["event_types"][0]["id"]

        now = datetime.fromisoformat(accounts["now"])
        window = {"start": now.isoformat(), "end": (now + timedelta(days=14)).isoformat()}
        asked: dict[str, Any] = {"event_type_ids": [event_type], "limit": 4, **window}
        slots = (await self._call("When is there time?", "find_slots", **asked))["slots"]
        for slot in slots:
            self._say(_when(slot))

        ben: dict[str, Any] = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
        booking: dict[str, Any] = {"event_type_id": event_type, "start": slots[0]["start"]}
        booked = await self._call("Book the first one for Ben.", "create_booking", **booking, **ben)
        self._show(booked)
        again = await self._call(
            "The same call again, as a client may after a lost answer.", "create_booking", **booking, **ben
        )
        self._must(again["id"] == booked["id"], "the same booking, not a second one")

        zoe: dict[str, Any] = {"attendee_name": "Zoe", "attendee_email": "zoe@example.com"}
        refused = await self._call("Zoe wants that slot too.", "create_booking", fails=True, **booking, **zoe)
        self._must(refused["code"] == "slot_taken", f"[{refused['code']}] {refused['message']}")

        moved = await self._call(
            "Move Ben's call to the last of these slots.",
            "reschedule_booking",
            booking_id=booked["id"],
            start=slots[-1]["start"],
        )
        self._show(moved)
        cancelled = await self._call(
            "Ben cannot make it after all.", "cancel_booking", booking_id=moved["id"], reason="Ben is ill"
        )
        self._show(cancelled)
        left = await self._call("What is left?", "list_bookings")
        self._must(left["bookings"] == [], "no upcoming meeting")

    async def _call(self, why: str, tool: str, *, fails: bool = False, **arguments: Any) -> dict[str, Any]:
        self._step += 1
        self._console.print(f"[bold]{self._step}. {escape(why)}[/] [dim]{tool}[/]")
        result = await self._client.call_tool(tool, arguments, raise_on_error=False)
        answer: dict[str, Any] = result.structured_content or {}
        if result.is_error != fails:
            raise OutcomeUnknown(f"The demo went wrong at {tool}: {answer.get('message', answer)}")
        return answer

    def _say(self, text: str) -> None:
        self._console.print(f"   {text}")

    def _must(self, true: bool, text: str) -> None:
        if not true:
            raise OutcomeUnknown(f"The demo went wrong at step {self._step}: not {text}")
        self._say(f"[green]✓[/] {escape(text)}")

    def _show(self, booking: dict[str, Any]) -> None:
        table = Table(show_header=False, box=None, padding=(0, 1, 0, 3))
        guest = booking["attendees"][0]
        for name, value in (
            ("", f"[bold]{escape(booking['title'])}[/]"),
            ("when", _when(booking)),
            ("who", escape(f"{guest['name']} <{guest['email']}>")),
            ("status", booking["status"]),
            ("id", booking["id"]),
        ):
            table.add_row(f"[dim]{name}[/]", value)
        self._console.print(table)


def _when(slot: dict[str, Any]) -> str:
    start, end = (datetime.fromisoformat(slot[name]) for name in ("start", "end"))
    return f"{slot['weekday']} {start:%Y-%m-%d %H:%M}–{end:%H:%M} [dim]{start:%z}[/]"
