"""A gateway under siege: a process like an operator's, with five accounts whose secrets must not get out.

`Siege.play` sends a hostile request (tests/hostile.py) and says what is wrong with the answer: a failure of ours, a
secret, a word of a program's insides, somebody's text in a page as it is. The services are emulated, on loopback.
"""

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
from cryptography.fernet import Fernet
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from gateway.config import load_config
from gateway.core import Gateway
from gateway.door import at_door
from gateway.keys import Keys
from gateway.policy import SETS
from gateway.server import build_app, build_server
from providers import SystemClock
from providers.storage import Storage
from tests.agent import Agent
from tests.emulators import calcom, google
from tests.emulators.wire import TOKEN
from tests.hostile import INJECTED, MARK, Case, Hostile, Target
from tests.loopback import served
from tests.process import Process, serving
from tests.test_connecting import Vendor
from tests.world import Clock, World

PATIENCE = 30
"""How long an answer may take before it counts as never coming, in seconds; a guard, not a measure."""

BURST = 8
"""How many requests are under way at once."""

INSIDES = re.compile(rb"Traceback|site-packages|pydantic|sqlalchemy|sqlite3|\.py\b|The gateway failed|its log has more")
INTERNAL_ERROR = re.compile(rb'"code":\s*-32603')
MARKUP = re.compile(re.escape(MARK.encode()) + rb"|<script>alert")
# Of the MCP SDK (2.3): it quotes its validator, and what was sent, to who sends what is no JSON-RPC message at all; and
# it logs each request whose sender hung up half-way.
NO_MESSAGE = re.compile(
    rb'"message":"Validation error: \d+ validation errors? for union\[JSONRPC(?:[^"\\]|\\.)*"', re.DOTALL
)
EVENT_TYPES = [
    {"slug": "intro", "title": "Intro call", "duration_minutes": 30},
    {
        "slug": "review",
        "title": "Review",
        "duration_minutes": 60,
        "questions": [{"key": "company", "label": "Company", "required": True}],
    },
]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: bytes
    body: bytes


@dataclass
class Siege:
    process: Process
    worlds: tuple[World, ...]
    secrets: tuple[bytes, ...]
    target: Target
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    hangs: bool = False

    async def play(self, hostile: Hostile, numbers: range) -> list[str]:
        """Send these requests, a few at once, until one is not answered. What is wrong, and how to do it again."""
        wrong: list[str] = []
        for begin in range(numbers.start, numbers.stop, BURST):
            if self.hangs:
                break
            cases = [hostile.case(number) for number in range(begin, min(begin + BURST, numbers.stop))]
            logged = len(self.process.log)
            async with anyio.create_task_group() as tasks:
                for case in cases:
                    tasks.start_soon(self._one, hostile, case, wrong)
            new = self.process.log[logged:]
            if "Traceback" in new or "ERROR" in new or any(secret in new.encode() for secret in self.secrets):
                numbers_said = ", ".join(str(case.number) for case in cases)
                wrong.append(f"logged at one of {numbers_said} (seed {hostile.seed}), or just before:\n{new[-6_000:]}")
        return wrong

    async def _one(self, hostile: Hostile, case: Case, wrong: list[str]) -> None:
        began = time.perf_counter()
        try:
            with anyio.fail_after(PATIENCE):
                raw = await self._exchanged(case)
        except TimeoutError:
            self.hangs, raw = True, b""
            problems = [f"no answer in {PATIENCE} s; the log ends {self.process.log[-2_000:]}"]
        else:
            self.slowest = max(self.slowest, (time.perf_counter() - began, case.number))
            problems = list(self.problems(case, raw))
        statuses = [told(answer) for answer in answers(case, raw)] or ["none"]
        self.statuses.update((case.kind, status) for status in statuses)
        for problem in problems:
            shown = case.sent if len(case.sent) < 3_000 else case.sent[:2_000] + b" [...] " + case.sent[-300:]
            again = f"python -m tests.torture_hostile {hostile.seed} {case.number}"
            wrong.append(f"{problem}\n  {case.kind}; again: {again}\n  sent {shown!r}\n  answered {raw[:1_500]!r}")

    async def _exchanged(self, case: Case) -> bytes:
        """What comes back until the connection ends."""
        async with await anyio.connect_tcp("127.0.0.1", self.process.port) as stream:
            try:
                await stream.send(case.sent)
                if not case.waits:
                    # Something else is answered first, so that an answer that is on its way has time to arrive.
                    await self.is_well()
                    await stream.send_eof()
            except (anyio.BrokenResourceError, OSError):
                pass  # refused before all was sent: what it said can still be read
            got = b""
            try:
                while True:
                    got += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return got

    async def is_well(self) -> None:
        """Whether the server answers an honest request as ever. Raises AssertionError."""
        async with await anyio.connect_tcp("127.0.0.1", self.process.port) as stream:
            await stream.send(f"GET /health HTTP/1.1\r\nHost: {self.target.host}\r\nConnection: close\r\n\r\n".encode())
            got = b""
            try:
                while True:
                    got += await stream.receive()
            except anyio.EndOfStream:
                assert got.startswith(b"HTTP/1.1 200"), got

    def problems(self, case: Case, raw: bytes) -> Iterator[str]:
        """What is wrong with an answer."""
        if case.waits and not raw:
            yield "no answer"
        if any(secret in raw for secret in self.secrets):
            yield "a secret"
        if INTERNAL_ERROR.search(raw):
            yield "an internal error"
        for answer in answers(case, raw):
            if answer.status >= 500 and not (answer.status == 503 and looks_ahead(case)):
                yield f"status {answer.status}"
            if b"text/html" in answer.headers and MARKUP.search(answer.body):
                yield "a page with somebody's markup in it"
            if _is_stranger(case, self.target) and b'"structuredContent":' in answer.body:
                yield "a tool called by who may not come in"
            if INJECTED.lower().encode() + b":" in answer.headers.lower():
                yield "a header of the sender's"
            if found := INSIDES.search(_unquoted(case, answer.body)):
                yield f"insides of a program: {found[0].decode()}"
            where = re.search(rb"(?im)^location: *(\S*)", answer.headers)
            if where and not _is_ours(where[1].decode("latin-1"), self.target.host):
                yield f"sent elsewhere: {where[1]!r}"

    def afterwards(self) -> list[str]:
        """What is wrong when all is over: secrets in the log, requests that a service's published schema refuses."""
        wrong = [f"a secret in the log: {self.process.log[-2_000:]}"] * any(
            secret in self.process.log.encode() for secret in self.secrets
        )
        wrong += [violation for world in self.worlds for violation in world.violations]
        asked = {path for world in self.worlds for _, path in world.requests}
        return wrong + [f"asked of a service: {path!r}" for path in asked if {".", ".."} & set(path.split("/"))]

    @property
    def resident(self) -> float:
        """How much memory the process has, in MiB."""
        statm = Path(f"/proc/{self.process.pid}/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True)
        return int(shown.stdout) / 1024


def told(answer: Answer) -> str:
    """The status, and what became of a tool that was called."""
    code = re.search(rb'"structuredContent":\{"code":"(\w+)"', answer.body)
    if code:
        return f"{answer.status} {code[1].decode()}"
    return f"{answer.status} done" if b'"structuredContent":' in answer.body else str(answer.status)


def looks_ahead(case: Case) -> bool:
    """Whether a link to connect an account or to sign in was only looked at: 503 says so, so that it is not used up."""
    is_ahead = case.method == "HEAD" or b"prefetch" in case.sent
    return is_ahead and re.match(rb"[A-Z]+ \S*/(connect|sign(in|out))\b", case.sent) is not None


def answers(case: Case, raw: bytes) -> Iterator[Answer]:
    """What the server said, one after the other; nothing follows a body without a length."""
    while match := re.match(rb"HTTP/1\.[01] (\d{3})[^\r]*\r\n(.*?)\r\n\r\n", raw, re.DOTALL):
        status, headers, rest = int(match[1]), match[2], raw[match.end() :]
        length = re.search(rb"(?im)^content-length: *(\d+)", headers)
        is_bare = case.method == "HEAD" or status in (100, 204, 304)
        size = 0 if is_bare else int(length[1]) if length else len(rest)
        yield Answer(status, headers, rest[:size])
        raw = rest[size:]


def _is_stranger(case: Case, target: Target) -> bool:
    return bool(target.headers) and not any(value.encode() in case.sent for value in target.headers.values())


def _unquoted(case: Case, body: bytes) -> bytes:
    """The answer, without what it may repeat of the request."""
    return b"" if INSIDES.search(case.sent) else NO_MESSAGE.sub(b"", body)


def _is_ours(where: str, host: str) -> bool:
    ours = (f"http://{host}/", f"http://localhost:{host.rpartition(':')[2]}/")
    return where.startswith(ours) or (where.startswith("/") and not where.startswith(("//", "/\\")))


@asynccontextmanager
async def siege(
    folder: Path, headers: Mapping[str, str] | None = None, server: Mapping[str, Any] | None = None
) -> AsyncIterator[Siege]:
    """The gateway, with this `server` section; honest requests have `headers`, like a key, and most hostile ones."""
    with ExitStack() as stack:
        clock = Clock(datetime.now(UTC))
        vendor, team, cal = Vendor(stack), World(clock), World(clock)
        key = Fernet.generate_key()
        accounts: dict[str, Any] = {
            "home": {"provider": "local", "time_zone": "Europe/Berlin", "event_types": EVENT_TYPES},
            "work": {"provider": "calendly", "via": "mcp", "url": vendor.url, "auth": {"type": "oauth"}},
            "away": {"provider": "calendly", "via": "mcp", "url": vendor.url, "auth": {"type": "oauth"}},
            "team": {
                "provider": "calcom",
                "base_url": f"{stack.enter_context(served(calcom.app(team)))}/v2",
                "auth": {"type": "bearer", "token": TOKEN},
            },
            "cal": {
                "provider": "google_calendar",
                "base_url": f"{stack.enter_context(served(google.app(cal)))}/calendar/v3",
                "auth": {"type": "bearer", "token": TOKEN},
                "event_types": EVENT_TYPES,
            },
        }
        brake = {"hour": 1_000_000, "day": 1_000_000}
        settings = {
            "accounts": accounts,
            "brakes": {"account": brake, "attendee": brake},
            "server": {"limits": {"per_minute": 1_000_000}, **(server or {})},
            "storage": {"url": "sqlite:///gateway.db", "encryption_key": key.decode()},
        }
        config = folder / "config.yaml"
        config.write_text(json.dumps(settings))
        process = stack.enter_context(serving(config))
        target = await _looked_at(process, load_config(config), headers or {})
        shown = [value.removeprefix("Bearer ").encode() for value in target.headers.values()]
        secrets = (TOKEN.encode(), key, *shown, *(token.encode() for token in vendor.consent.tokens()))
        assert len(secrets) > 3
        yield Siege(process, (vendor.world, team, cal), secrets, target)


@asynccontextmanager
async def guarded_siege(folder: Path) -> AsyncIterator[Siege]:
    """The gateway as it lets in who has a key, and is attacked by somebody who has one."""
    storage = Storage(f"sqlite:///{folder / 'gateway.db'}")
    await storage.open()
    key = await Keys(storage, SystemClock()).add("hostile", "everything", None)
    await storage.close()
    auth = {"type": "keys", "policies": {"everything": {"tools": list(SETS)}}}
    async with siege(folder, {"Authorization": f"Bearer {key}"}, {"auth": auth}) as attacked:
        yield attacked


async def _signing_in(browser: httpx2.AsyncClient, here: str, shown: str) -> dict[str, str]:
    """What a browser sends to sign in."""
    return {"csrf": _csrf(await browser.get(f"{here}/signin")), "key": shown.removeprefix("Bearer ")}


def _csrf(page: httpx2.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def _looked_at(process: Process, config: Any, headers: Mapping[str, str]) -> Target:
    """What an honest client and an honest guest find, and leave there."""
    transport = StreamableHttpTransport(f"{process.url}/mcp", headers=dict(headers))
    async with Client(transport) as client, httpx2.AsyncClient(headers=headers) as browser:
        agent, here = Agent(client), f"http://localhost:{process.port}"
        signing_in = {}
        if "Authorization" in headers:
            await browser.post(f"{here}/signin/key", data=await _signing_in(browser, here, headers["Authorization"]))
            signing_in = await _signing_in(browser, here, headers["Authorization"]) | {"next": "//evil.example"}
        tools = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await client.list_tools()]
        links = {each["account"]: each.get("connect_url") for each in (await agent.list_accounts())["accounts"]}
        assert (await browser.get(links["work"], follow_redirects=True)).status_code == 200
        kinds = [each["id"] for each in (await agent.list_event_types())["event_types"]]
        now = datetime.now(UTC)
        window = {"start": now.isoformat(), "end": (now + timedelta(days=14)).isoformat()}
        bookings = []
        guest = {"attendee_name": "Ana", "attendee_email": "ana@example.com"}
        for id in (next(id for id in kinds if id.startswith(account)) for account in ("home", "work", "team", "cal")):
            slots = (await agent.find_slots(event_type_ids=[id], **window))["slots"]
            booked = await agent.create_booking(event_type_id=id, start=slots[3]["start"], **guest)
            bookings.append(booked["id"])
        starts = [
            slot["start"] for slot in (await agent.find_slots(event_type_ids=kinds, **window, limit=200))["slots"]
        ]
        schedules = [each["id"] for each in (await agent.list_schedules())["schedules"]]
        url = (await agent.create_scheduling_link(event_type_id="home:intro", single_use=False))["url"]
        book = url.removeprefix(here)
        await browser.get(url)
        slots = (await agent.find_slots(event_type_ids=["home:intro"], **window))["slots"]
        filled = {"start": slots[0]["start"], "zone": "Europe/Berlin", "name": "Zoe", "email": "zoe@example.com"}
        made = await browser.post(url, data=filled)
        booked_at = made.headers["Location"]
        csrf = _csrf(await browser.get(f"{here}/accounts"))
        cookies = [f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar]
    gateway = Gateway(config)
    app: Any = build_app(build_server(gateway, await at_door(gateway, process.url)), config.server)._app
    routes = [getattr(route, "path", "/") for route in app.routes]
    return Target(
        f"127.0.0.1:{process.port}",
        tools,
        sorted(set(routes)),
        ids=(*kinds, *bookings, *schedules),
        arguments={
            "event_type_id": kinds,
            "event_type_ids": [[id] for id in kinds],
            "booking_id": bookings,
            "schedule_id": schedules,
            "start": starts,
            "end": [window["end"]],
            "time_zone": ["Europe/Berlin", "Asia/Kathmandu"],
            "attendee_name": ["Ben"],
            "attendee_email": ["ben@example.com"],
            "account": sorted(links),
            "duration_minutes": [30],
            "idempotency_key": ["k1", "k2"],
            "free_in": [[name] for name in links],
            "answers": [{"company": "Acme"}],
        },
        paths=(
            *(["/signin", "/signin/key"] if signing_in else []),
            *(book, booked_at, f"{booked_at}/move", f"{booked_at}/cancel", f"{booked_at}/meeting.ics", "/accounts"),
        ),
        cookies=cookies,
        forms=(filled, {"csrf": csrf}, {}, *([signing_in] if signing_in else [])),
        headers=headers,
    )
