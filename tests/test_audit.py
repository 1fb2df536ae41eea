"""The audit: a line for each thing somebody did, with nobody's words in it, in chains that show what was changed."""

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from sqlalchemy import delete, insert, select, text, update

from gateway.audit import CHAIN
from gateway.audit_lines import Line, parsed, seconds
from gateway.audit_places import Database, File
from gateway.callers import Caller, calling
from gateway.cli import main
from gateway.config import AuditConfig, BrakesConfig, Config, ConfigError, parse_config
from gateway.core import Gateway
from gateway.policy import PerSpan
from gateway.server import VERSION, build_server
from gateway.tools import TOOLS
from providers.storage.tables import audit
from schemas import SchedulingError
from tests.agent import Agent, connected
from tests.emulators.wire import Lost
from tests.postgres import KINDS, databases
from tests.stages import ACCOUNT, LocalStage, Stage
from tests.test_connecting import Office, link
from tests.test_pages import House, actions
from tests.test_writes import Slow
from tests.world import MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio

FIELDS = {
    *("at", "caller", "tool", "account", "outcome", "reference", "milliseconds", "request"),
    *("chain", "number", "previous", "hash"),
}
GUEST = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
INTRO = {"event_type_id": f"{ACCOUNT}:intro", "start": TEN.isoformat(), **GUEST}
WEEK = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=7)).isoformat()}
IN_FILE = "who.jsonl"


class Book:
    """A stage whose audit is in one of the places, and that place as somebody has it who can write there."""

    def __init__(self, stage: Stage, folder: Path, place: str, **config: Any) -> None:
        self.stage, self.place, self.file = stage, place, folder / IN_FILE
        to = str(self.file) if place == "file" else "database"
        stage.config = stage.config.model_copy(update={"audit": AuditConfig(to=to, **config)})
        self.gateway = stage.restarted()
        self.settings = folder / "config.yaml"
        self.settings.write_text(
            json.dumps(
                {
                    "accounts": {ACCOUNT: {"provider": "local"}},
                    "storage": {"url": databases.url(folder)},
                    "audit": {"to": to},
                }
            )
        )

    async def texts(self) -> list[str]:
        if self.place == "file":
            return self.file.read_text().splitlines() if self.file.exists() else []
        await self.gateway.open()
        async with self.gateway.storage.read() as connection:
            return list(await connection.scalars(select(audit.c.line).order_by(audit.c.at, audit.c.number)))

    async def lines(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in await self.texts()]

    async def told(self) -> list[tuple[str, str | None, str, str | None]]:
        """What each call left: tool, account, outcome and reference."""
        names = ("tool", "account", "outcome", "reference")
        lines = [each for each in await self.lines() if each["tool"] not in ("started", "stopped")]
        return [tuple(each[name] for name in names) for each in lines]

    async def change(self, change: Callable[[list[str]], list[str]]) -> None:
        """Put other lines in the place of those that are there."""
        texts = change(await self.texts())
        if self.place == "file":
            self.file.write_text("".join(f"{each}\n" for each in texts))
            return
        async with self.gateway.storage.write() as connection:
            await connection.execute(delete(audit))
            taken = set()
            for at, each in enumerate(texts):
                said = parsed(each) or parsed(texts[0]) or {}
                place = (said["chain"], said["number"])
                if place in taken or parsed(each) is None:  # two cannot have one number
                    place = (said["chain"], 1000 + at)
                taken.add(place)
                row = {"chain": place[0], "number": place[1], "at": seconds(said["at"]), "line": each}
                await connection.execute(insert(audit).values(**row))


@pytest.fixture(params=["sqlite", "postgresql", "file"])
def place(request: pytest.FixtureRequest) -> Any:
    """Where the audit is; a file stands beside a database on SQLite."""
    databases.kind = "postgresql" if request.param == "postgresql" else "sqlite"
    try:
        yield request.param
    finally:
        databases.kind = "sqlite"
        databases.drop()


@pytest.fixture
async def book(place: str, tmp_path: Path) -> AsyncIterator[Book]:
    book = Book(LocalStage("local", tmp_path), tmp_path, place)
    yield book
    await book.gateway.close()


@pytest.fixture
async def agent(book: Book) -> AsyncIterator[Agent]:
    await book.gateway.open()
    async with connected(build_server(book.gateway)) as agent:
        yield agent


on_file = pytest.mark.parametrize("place", ["file"], indirect=True)
on_database = pytest.mark.parametrize("place", KINDS, indirect=True)


async def command(*arguments: str, book: Book) -> int:
    """The code that `audit` ends with, run as by somebody beside the server."""

    def run() -> int:
        with pytest.raises(SystemExit) as end:
            main(["audit", "--config", str(book.settings), *arguments])
        assert isinstance(end.value.code, int)
        return end.value.code

    return await anyio.to_thread.run_sync(run)


async def code(call: Any) -> str:
    try:
        await call
    except SchedulingError as error:
        return error.code
    return "ok"


def failing(book: Book) -> bool:
    return book.gateway.audit.failing


def own(answer: dict[str, Any]) -> str:
    return str(answer["id"]).partition(":")[2]


# What is written


async def test_each_tool_that_changes_something_leaves_a_line(book: Book, agent: Agent) -> None:
    made = await agent.save_event_type(title="Chat", duration_minutes=15)
    changed = await agent.save_event_type(event_type_id=made["id"], title="Long chat")
    await agent.delete_event_type(event_type_id=made["id"])
    booked = await agent.create_booking(**INTRO)
    moved = await agent.reschedule_booking(booking_id=booked["id"], start=NINE.isoformat())
    await agent.cancel_booking(booking_id=moved["id"])
    pending = await agent.create_booking(**INTRO | {"event_type_id": f"{ACCOUNT}:approval"})
    await agent.respond_to_booking(booking_id=pending["id"], response="confirm")
    [schedule] = (await agent.list_schedules())["schedules"]
    await agent.update_schedule(schedule_id=schedule["id"], weekly_hours={"monday": ["09:00-12:00"]})
    await agent.create_scheduling_link(event_type_id=f"{ACCOUNT}:intro")
    assert await book.told() == [
        ("save_event_type", ACCOUNT, "ok", own(made)),
        ("save_event_type", ACCOUNT, "ok", own(changed)),
        ("delete_event_type", ACCOUNT, "ok", own(made)),
        ("create_booking", ACCOUNT, "ok", own(booked)),
        ("reschedule_booking", ACCOUNT, "ok", own(moved)),
        ("cancel_booking", ACCOUNT, "ok", own(moved)),
        ("create_booking", ACCOUNT, "ok", own(pending)),
        ("respond_to_booking", ACCOUNT, "ok", own(pending)),
        ("update_schedule", ACCOUNT, "ok", own(schedule)),
        ("create_scheduling_link", ACCOUNT, "ok", "intro"),
    ]
    changing = {spec.name for spec in TOOLS if not spec.annotations.read_only_hint}
    assert {line[0] for line in await book.told()} == changing


READS: dict[str, dict[str, Any]] = {
    "list_accounts": {},
    "list_event_types": {},
    "find_slots": {"event_type_ids": [f"{ACCOUNT}:intro"], **WEEK},
    "find_busy_times": WEEK,
    "list_bookings": {},
    "get_booking": {},
    "list_schedules": {"event_type_id": f"{ACCOUNT}:intro"},
}


@pytest.mark.parametrize("calls", ["changes", "all"])
@on_file
async def test_who_looks_leaves_a_line_only_where_that_is_asked_for(place: str, tmp_path: Path, calls: str) -> None:
    stage = LocalStage("local", tmp_path)
    book = Book(stage, tmp_path, place, calls=calls)
    booking = await stage.book("intro", NINE)
    reads = READS | {"get_booking": {"booking_id": booking}}
    assert reads.keys() == {spec.name for spec in TOOLS if spec.annotations.read_only_hint}
    async with connected(build_server(book.gateway)) as agent:
        for tool, arguments in reads.items():
            await getattr(agent, tool)(**arguments)
        assert await code(agent.get_booking(booking_id=f"{ACCOUNT}:nothing")) == "not_found"
    told = await book.told()
    if calls == "changes":
        assert await book.lines() == []
        return
    assert [(tool, outcome) for tool, _, outcome, _ in told] == [
        *((tool, "ok") for tool in reads),
        ("get_booking", "not_found"),
    ]
    assert {tool: reference for tool, _, outcome, reference in told if outcome == "ok" and reference} == {
        "get_booking": booking.partition(":")[2]
    }


async def test_who_looks_waits_for_no_line_and_who_changes_something_does(tmp_path: Path) -> None:
    book = Book(LocalStage("local", tmp_path), tmp_path, "file", calls="all")
    place = Stuck(book.file)
    book.gateway.audit._place = place
    async with connected(build_server(book.gateway)) as agent:
        booking = asyncio.create_task(agent.create_booking(**INTRO))
        await place.asked.wait()
        with anyio.fail_after(30):
            await agent.list_bookings()
        assert not booking.done()
        assert await book.told() == []
        place.go.set()
        await booking
        assert [tool for tool, *_ in await book.told()][:1] == ["create_booking"]
    assert [tool for tool, *_ in await book.told()] == ["create_booking", "list_bookings"]


class Stuck(File):
    """A file that is not written until that is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def write(self, lines: Sequence[Line]) -> None:
        self.asked.set()
        await self.go.wait()
        await super().write(lines)


async def test_a_line_is_canonical_json_that_names_the_line_before(book: Book, agent: Agent) -> None:
    for hour in (9, 11, 13):
        await agent.create_booking(**INTRO | {"start": f"2030-01-07T{hour:02}:00:00+01:00"})
    texts, lines = await book.texts(), await book.lines()
    assert [line["tool"] for line in lines] == ["started", *["create_booking"] * 3]
    assert [line["number"] for line in lines] == [1, 2, 3, 4]
    assert len({line["chain"] for line in lines}) == 1
    for text_, line in zip(texts, lines, strict=True):
        assert line.keys() == FIELDS
        rest = {name: value for name, value in line.items() if name != "hash"}
        assert text_ == json.dumps(line, sort_keys=True, separators=(",", ":"))
        assert line["hash"] == sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"])
        assert datetime.fromisoformat(line["at"]) == book.stage.clock.now()
    assert [line["previous"] for line in lines] == ["0" * 64, *(line["hash"] for line in lines[:-1])]
    assert (lines[0]["reference"], lines[0]["account"], lines[1]["caller"]) == (VERSION, None, "local")


async def test_refusals_are_written_with_their_code_and_no_more_of_what_was_asked(tmp_path: Path) -> None:
    stage = LocalStage("local", tmp_path)
    stage.config = stage.config.model_copy(update={"brakes": BrakesConfig(attendee=PerSpan(hour=1, day=1))})
    book = Book(stage, tmp_path, "file")
    async with connected(build_server(book.gateway)) as agent:
        booked = await agent.create_booking(**INTRO)
        late = INTRO | {"start": NINE.isoformat()}
        assert await code(agent.create_booking(**late)) == "policy_denied"
        assert await code(agent.create_booking(**INTRO | {"attendee_email": "ana@example.com"})) == "slot_taken"
        assert await code(agent.create_booking(**INTRO | {"guests": "?"})) == "invalid_request"
        assert await code(agent.cancel_booking(booking_id=f"{ACCOUNT}:secret")) == "not_found"
        assert await code(agent.cancel_booking(booking_id="secret:1")) == "invalid_request"
        assert await code(agent.delete_event_type(event_type_id=f"{ACCOUNT}:intro")) == "unsupported"
        responded = agent.respond_to_booking(booking_id=booked["id"], response="no_show")
        assert await code(responded) == "invalid_request"
    assert await book.told() == [
        ("create_booking", ACCOUNT, "ok", own(booked)),
        ("create_booking", ACCOUNT, "policy_denied", None),
        ("create_booking", ACCOUNT, "slot_taken", "intro"),
        ("create_booking", None, "invalid_request", None),
        ("cancel_booking", ACCOUNT, "not_found", None),
        ("cancel_booking", None, "invalid_request", None),
        ("delete_event_type", ACCOUNT, "unsupported", "intro"),
        ("respond_to_booking", ACCOUNT, "invalid_request", own(booked)),
    ]


async def test_a_write_of_unknown_outcome_says_so_and_what_it_was_about(tmp_path: Path) -> None:
    stage = Stage("toy", tmp_path)
    book = Book(stage, tmp_path, "file")
    booking = await stage.book("intro", NINE)
    async with connected(build_server(book.gateway)) as agent:
        await agent.get_booking(booking_id=booking)
        stage.world.failures.extend([None, *[Lost()] * 20])
        assert await code(agent.cancel_booking(booking_id=booking)) == "outcome_unknown"
        assert (await book.told())[-1] == ("cancel_booking", ACCOUNT, "outcome_unknown", booking.partition(":")[2])
        stage.world.failures.clear()
        stage.clock.advance(timedelta(minutes=5))
        asked = len(stage.world.requests)
        assert await code(agent.create_booking(**INTRO | {"event_type_id": f"{ACCOUNT}:nothing"})) == "not_found"
        assert [path for _, path in stage.world.requests[asked:] if "bookings/" in path], "that one was settled first"
    assert (await book.told())[-1] == ("create_booking", ACCOUNT, "not_found", None)


async def test_who_calls_is_named(book: Book, agent: Agent) -> None:
    who = Caller("key:laptop")
    with calling(Caller("local")):
        await book.gateway.audit.record("add_key", reference="laptop", request="r-1")
    with calling(who):
        await book.gateway.audit.record("revoke_key", reference="laptop", request="not an id\n")
    assert [(line["caller"], line["tool"], line["reference"], line["request"]) for line in await book.lines()][1:] == [
        ("local", "add_key", "laptop", "r-1"),
        ("key:laptop", "revoke_key", "laptop", None),
    ]


CANARY = "canary"


def canary(name: str, kind: Any) -> Any:
    """Something for an argument that is well-formed where that can be."""
    if "email" in name or name == "guests":
        address = f"{CANARY}-{name}@example.com"
        return [address] if name == "guests" else address
    if name.endswith("_id"):
        return f"{ACCOUNT}:{CANARY}-{name}"
    if name in ("answers", "weekly_hours", "date_overrides"):
        return {f"{CANARY}-{name}": CANARY}
    if kind.get("type") in ("integer", "boolean"):
        return 1
    if kind.get("type") == "array":
        return [f"{ACCOUNT}:{CANARY}"]
    if "enum" in kind:
        return kind["enum"][0]
    return TEN.isoformat() if name == "start" else WEEK["end"] if name == "end" else f"{CANARY}-{name}"


@pytest.mark.parametrize("kind", ["local", "toy"])
@pytest.mark.parametrize("is_down", [False, True])
async def test_no_word_of_an_argument_is_in_the_audit(tmp_path: Path, kind: str, is_down: bool) -> None:
    stage = LocalStage("local", tmp_path) if kind == "local" else Stage("toy", tmp_path)
    book = Book(stage, tmp_path, "file", calls="all")
    booking = await stage.book("intro", NINE)
    [seen, others] = [booking, f"{ACCOUNT}:intro"]
    known = {"booking_id": seen, "event_type_id": others, "event_type_ids": [others], "account": ACCOUNT}
    async with connected(build_server(book.gateway)) as agent:
        await agent.list_accounts()
        if is_down:
            stage.world.failures.extend([Lost()] * 1000)
        for spec in TOOLS:
            kinds = spec.input_schema["properties"]
            wild = {name: canary(name, kind) for name, kind in kinds.items()}
            calls = [wild, {name: value for name, value in wild.items() if name not in ("answers", "time_zone")}]
            calls += [each | {name: known[name] for name in known if name in kinds} for each in calls]
            calls += [{name: f"{CANARY} {name}" for name in kinds}, {CANARY: CANARY}]
            calls += [{k: v for k, v in wild.items() if k in spec.input_schema.get("required", ())}]
            if spec.name == "save_event_type":  # on a calendar of ours the slug becomes the id, which is in the audit
                calls += [{"title": CANARY, "description": CANARY, "duration_minutes": 30, "slug": "plain"}]
            for arguments in calls:
                await code(getattr(agent, spec.name)(**arguments))
    lines = await book.lines()
    assert len(lines) > len(TOOLS) * 6
    assert [line for line in lines if line["outcome"] == "ok" and line["tool"] != "started"]
    assert {line["tool"] for line in lines} >= {spec.name for spec in TOOLS}
    assert CANARY not in book.file.read_text()
    assert {line["account"] for line in lines} == {None, ACCOUNT}


# What is done outside of tools


@asynccontextmanager
async def filed(place: Any) -> AsyncIterator[Path]:
    """A house or an office whose audit is in a file."""
    folder = Path(place.config.storage.url.removeprefix("sqlite:///")).parent
    place.config = place.config.model_copy(update={"audit": AuditConfig(to=str(folder / IN_FILE))})
    place.gateway = Gateway(place.config, clock=place.clock, transport=getattr(place, "network", None))
    async with place.open():
        yield folder / IN_FILE


def said(file: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    names = ("caller", "tool", "account", "outcome")
    return [tuple(line[name] for name in names) for line in lines if line["tool"] not in ("started", "stopped")]


async def test_what_guests_do_on_pages_is_written(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with filed(house) as file:
        url = await house.link()
        async with house.visitor() as guest:
            starts = await guest.week(url)
            assert (await guest.fill_in(url, "2030-01-12T09:00:00+01:00")).status_code == 409
            page = await guest.fill_in(url, starts[0], notes="Hello")
            path = page.url.path
            assert (await guest.post(f"{path}/move", data={"start": starts[2]})).status_code == 200
            assert (await guest.post(f"{path}/cancel", data={"reason": "Hello"})).status_code == 200
        [booking] = await house.booked()
        assert said(file) == [
            ("guest", "create_booking", "home", "slot_taken"),
            ("guest", "create_booking", "home", "ok"),
            ("guest", "reschedule_booking", "home", "ok"),
            ("guest", "cancel_booking", "home", "ok"),
        ]
        assert json.loads(file.read_text().splitlines()[-1])["reference"] == booking.id.partition(":")[2]
        assert "Hello" not in file.read_text()
        assert "ben@" not in file.read_text()


async def test_a_link_taken_back_is_written(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with filed(house) as file:
        url = await house.link()
        [row] = await house.gateway.links.live()
        async with house.visitor() as operator:
            page = await operator.get("/accounts")
            [action] = [each for each in actions(page.text) if each.endswith("/revoke")]
            csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
            assert csrf is not None
            await operator.post(action, data={"csrf": "x"})
            for path in (action, action, action.replace(row.id, "nothing")):
                await operator.post(path, data={"csrf": csrf[1]})
        assert said(file) == [("local", "revoke_link", "home", "ok")]
        assert json.loads(file.read_text().splitlines()[-1])["reference"] == row.id
        assert url.rpartition("/")[2] not in file.read_text()


async def test_an_account_connected_and_disconnected_is_written(tmp_path: Path) -> None:
    office = Office(tmp_path)
    async with filed(office) as file:
        async with office.agent() as agent:
            assert (await office.visit(await link(agent))).status_code == 200
            for made_up in ("?code=x&state=x", "?code=x&state=work.x", "?error=no&state=work"):
                assert (await office.visit(f"{office.url}/connect/callback{made_up}")).status_code == 400
        assert await office.gateway.connecting.disconnect("work")
        assert said(file) == [("local", "connect_account", "work", "ok"), ("local", "disconnect_account", "work", "ok")]


# How it is written


async def test_calls_at_once_are_numbered_in_the_order_they_are_kept_in(book: Book, agent: Agent) -> None:
    starts = [MONDAY + timedelta(days=day, hours=hour) for day in range(2) for hour in range(11, 16)]

    async def make(start: datetime) -> None:
        await agent.create_booking(**INTRO | {"start": start.isoformat()})

    async with anyio.create_task_group() as tasks:
        for start in starts:
            tasks.start_soon(make, start)
        for number in range(50):
            tasks.start_soon(partial(book.gateway.audit.record, "add_key", reference=f"k{number}"))
    lines = await book.lines()
    assert [line["number"] for line in lines] == list(range(1, len(starts) + 52))
    assert [line["reference"] for line in lines if line["tool"] == "add_key"] == [f"k{number}" for number in range(50)]
    assert all(after["previous"] == before["hash"] for before, after in pairwise(lines))
    assert {line["outcome"] for line in lines} == {"ok"}
    assert await command("--verify", book=book) == 0


async def test_a_caller_who_goes_away_leaves_the_line_of_what_was_finished_without_it(tmp_path: Path) -> None:
    book = Book(LocalStage("local", tmp_path), tmp_path, "file")
    await book.gateway.open()
    slow = Slow(book.gateway)
    tool = await build_server(book.gateway).get_tool("create_booking")
    assert tool is not None
    call = asyncio.create_task(tool.run(INTRO))
    await slow.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await book.told() == []
    slow.go.set()
    await book.gateway.close()
    [appointment] = await book.stage.appointments()
    await book.gateway.close()
    assert [(tool, outcome) for tool, _, outcome, _ in await book.told()] == [("create_booking", "ok")]
    assert (await book.lines())[-1]["tool"] == "stopped"
    assert appointment.live


async def test_a_caller_who_goes_away_before_anything_was_sent_leaves_nothing_but_that(tmp_path: Path) -> None:
    book = Book(LocalStage("local", tmp_path), tmp_path, "file")
    await book.gateway.open()
    begun = asyncio.Event()

    async def never() -> Any:
        begun.set()
        await asyncio.Event().wait()

    book.gateway.accounts[ACCOUNT].identity = never  # type: ignore[method-assign]  # in its place
    tool = await build_server(book.gateway).get_tool("create_booking")
    assert tool is not None
    call = asyncio.create_task(tool.run(INTRO))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await book.gateway.close()
    assert await book.told() == [("create_booking", ACCOUNT, "cancelled", None)]
    assert await book.stage.journaled() == []
    await book.gateway.close()


@on_file
async def test_a_file_is_for_its_owner_alone_and_may_be_put_away_under_another_name(book: Book, agent: Agent) -> None:
    await agent.create_booking(**INTRO)
    assert book.file.stat().st_mode & 0o777 == 0o600
    old = book.file.rename(book.file.with_name("who.1.jsonl"))
    await agent.create_booking(**INTRO | {"start": NINE.isoformat()})
    assert len(await book.lines()) == 1
    assert await command("--verify", book=book) == 1
    assert await command("--verify", "--file", str(book.file), "--file", str(old), book=book) == 0


@on_file
async def test_half_a_line_in_a_file_spoils_no_other(
    book: Book, agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    await agent.create_booking(**INTRO)
    with book.file.open("a") as file:
        file.write('{"account":"ac')
    await agent.create_booking(**INTRO | {"start": NINE.isoformat()})
    assert [json.loads(each)["number"] for each in await book.texts() if each.endswith("}")] == [1, 2, 3]
    assert await command("--verify", book=book) == 1
    [wrong, count] = capsys.readouterr().out.splitlines()
    assert f"{book.file}, line 3: is no line" in wrong
    assert "1 thing is wrong" in count


@on_file
async def test_what_cannot_be_written_stands_all_the_same_and_is_logged(
    book: Book, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    await agent.create_booking(**INTRO)
    away = book.file.rename(book.file.with_name("away.jsonl"))
    book.file.mkdir()
    booked = await agent.create_booking(**INTRO | {"start": NINE.isoformat()})
    assert booked["status"] == "confirmed"
    assert failing(book)
    [logged] = [each for each in caplog.records if each.name == "gateway.audit" and each.levelname == "ERROR"]
    assert own(booked) in logged.getMessage()
    book.file.rmdir()
    away.rename(book.file)
    await agent.cancel_booking(booking_id=booked["id"])
    assert not failing(book)
    assert [line["tool"] for line in await book.lines()] == ["started", "create_booking", "cancel_booking"]
    assert await command("--verify", book=book) == 0


@on_database
async def test_a_database_that_fails_costs_its_own_line_alone(book: Book, agent: Agent) -> None:
    async def run(query: str) -> None:
        async with book.gateway.storage.write() as connection:
            await connection.execute(text(query))

    await run("ALTER TABLE audit RENAME TO elsewhere")
    booked = await agent.create_booking(**INTRO)
    assert failing(book)
    await run("ALTER TABLE elsewhere RENAME TO audit")
    await agent.cancel_booking(booking_id=booked["id"])
    assert not failing(book)
    assert [line["tool"] for line in await book.lines()] == ["started", "cancel_booking"]
    assert await command("--verify", book=book) == 0


class Unsure(Database):
    """Keeps lines, and is lost before it can say so."""

    async def write(self, lines: Any) -> None:
        await super().write(lines)
        raise TimeoutError


@pytest.mark.parametrize("nth", [0, 1])
@on_database
async def test_a_line_that_arrived_though_nobody_knew_is_not_numbered_again(book: Book, agent: Agent, nth: int) -> None:
    async def storage() -> Any:
        return book.gateway.storage

    if nth:
        await agent.create_booking(**INTRO)
    book.gateway.audit._place = Unsure(storage)
    booked = await agent.create_booking(**INTRO | {"start": NINE.isoformat()})
    assert failing(book)
    book.gateway.audit._place = Database(storage)
    await agent.cancel_booking(booking_id=booked["id"])
    assert not failing(book)
    tools = ["started", *["create_booking"] * nth, "create_booking", "cancel_booking"]
    assert [line["tool"] for line in await book.lines()] == tools
    assert await command("--verify", book=book) == 0


async def test_after_a_day_a_new_chain_begins_that_names_the_head_of_the_one_before(book: Book, agent: Agent) -> None:
    booked = await agent.create_booking(**INTRO | {"start": "2030-01-09T11:00:00+01:00"})
    first = book.gateway.audit.head
    assert first is not None
    book.stage.clock.advance(CHAIN)
    await agent.cancel_booking(booking_id=booked["id"])
    lines = await book.lines()
    assert [(line["number"], line["tool"]) for line in lines] == [
        (1, "started"),
        (2, "create_booking"),
        (1, "started"),
        (2, "cancel_booking"),
    ]
    assert lines[2]["reference"] == f"{VERSION} after {first.chain}:2:{first.hash}"
    assert lines[2]["previous"] == "0" * 64
    assert await command("--verify", book=book) == 0
    await book.change(lambda texts: [texts[0], *texts[2:]])
    assert await command("--verify", book=book) == 1, "the beginning of the next chain tells where this one ended"
    await book.change(lambda texts: texts[1:])
    assert await command("--verify", book=book) == 0, "a chain removed whole"


async def test_the_head_is_logged_at_the_start_each_hour_and_at_the_end(
    book: Book, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.audit")
    await agent.create_booking(**INTRO)
    book.gateway.audit.say_head_hourly()
    await agent.create_booking(**INTRO | {"start": NINE.isoformat()})
    book.stage.clock.advance(timedelta(hours=1))
    book.gateway.audit.say_head_hourly()
    book.gateway.audit.say_head_hourly()
    await book.gateway.close()
    logged = [each.getMessage() for each in caplog.records if each.name == "gateway.audit"]
    said = [json.loads(each.removeprefix("audit head ")) for each in logged]
    lines = await book.lines()
    heads = [{name: line[name] for name in ("chain", "number", "hash")} for line in lines]
    assert said == [heads[1], heads[2], heads[3]]
    assert lines[3]["tool"] == "stopped"


async def test_with_none_there_is_no_audit(tmp_path: Path) -> None:
    stage = LocalStage("local", tmp_path)
    stage.config = stage.config.model_copy(update={"audit": AuditConfig(to="none", calls="all")})
    async with connected(build_server(stage.restarted())) as agent:
        await agent.create_booking(**INTRO)
        async with stage.gateway.storage.read() as connection:
            assert (await connection.execute(select(audit))).all() == []
    assert stage.gateway.audit.head is None


def test_a_place_is_the_database_none_or_a_file_beside_the_configuration(tmp_path: Path) -> None:
    def configured(to: str) -> str:
        return parse_config(f"accounts: {{a: {{provider: local}}}}\naudit: {{to: {to}}}", {}, folder=tmp_path).audit.to

    assert configured("database") == Config(accounts={}).audit.to == "database"
    assert configured("none") == "none"
    assert configured(IN_FILE) == str(tmp_path / IN_FILE)
    for wrong in ("who.log", "nowhere", "''"):
        with pytest.raises(ConfigError, match=r"audit\.to: must be"):
            configured(wrong)


# Processes


@asynccontextmanager
async def serving(book: Book, folder: Path) -> AsyncIterator[tuple[Agent, int]]:
    """A server in a process of its own, and the number of that."""
    await anyio.Path(folder).mkdir()
    run = (
        "import os, sys; from pathlib import Path; from gateway.cli import main; "
        "Path(sys.argv[1]).write_text(str(os.getpid())); main(['serve', '--transport', 'stdio', *sys.argv[2:]])"
    )
    arguments = ["-c", run, str(folder / "pid"), "--config", str(book.settings)]
    transport = StdioTransport(
        sys.executable, arguments, env=dict(os.environ), keep_alive=False, log_file=folder / "log"
    )
    async with Client(transport) as client:
        yield Agent(client), int(await anyio.Path(folder / "pid").read_text())


async def book_one(agent: Agent, slot: int) -> str:
    event_type = (await agent.list_event_types())["event_types"][0]["id"]
    now = datetime.fromisoformat((await agent.list_accounts())["now"])
    window = {"start": now.isoformat(), "end": (now + timedelta(days=30)).isoformat()}
    slots = (await agent.find_slots(event_type_ids=[event_type], **window))["slots"]
    return own(await agent.create_booking(event_type_id=event_type, start=slots[slot]["start"], **GUEST))


async def test_two_processes_have_two_chains(book: Book, tmp_path: Path) -> None:
    references: dict[int, list[str]] = {0: [], 1: []}
    async with AsyncExitStack() as stack:
        agents = [(await stack.enter_async_context(serving(book, tmp_path / name)))[0] for name in ("one", "two")]

        async def several(number: int) -> None:
            for each in range(3):
                references[number].append(await book_one(agents[number], 20 * number + 5 * each))

        async with anyio.create_task_group() as tasks:
            for number in references:
                tasks.start_soon(several, number)
    lines = await book.lines()
    chains = {line["chain"]: [each for each in lines if each["chain"] == line["chain"]] for line in lines}
    for chain in chains.values():
        assert [line["reference"] for line in chain][1:-1] in references.values()
        assert [line["tool"] for line in chain] == ["started", *["create_booking"] * 3, "stopped"]
        assert [line["number"] for line in chain] == [1, 2, 3, 4, 5]
    assert len(chains) == 2
    assert await command("--verify", book=book) == 0


async def test_a_killed_process_leaves_a_chain_without_an_end_that_is_whole(book: Book, tmp_path: Path) -> None:
    with suppress(Exception):  # what a client says of a server that is gone
        async with serving(book, tmp_path / "one") as (agent, pid):
            await book_one(agent, 0)
            os.kill(pid, signal.SIGKILL)
    assert [line["tool"] for line in await book.lines()] == ["started", "create_booking"]
    assert await command("--verify", book=book) == 0


# What was changed shows


Change = Callable[[list[str]], list[str]]


def reworded(texts: list[str], nth: int, **values: Any) -> list[str]:
    """One line says something else, by somebody who knows nothing of hashes."""
    line = {**json.loads(texts[nth]), **values}
    return [*texts[:nth], json.dumps(line, sort_keys=True, separators=(",", ":")), *texts[nth + 1 :]]


def forged(texts: list[str], nth: int, **values: Any) -> list[str]:
    """One line says something else, and has the right hash for it."""
    line = {**json.loads(texts[nth]), **values}
    rest = {name: value for name, value in line.items() if name != "hash"}
    hash = sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return reworded(texts, nth, **values, hash=hash)


def rewritten(texts: list[str]) -> list[str]:
    """All lines from the second on are forged, each after the one before."""
    for at in range(1, len(texts)):
        texts = forged(texts, at, previous=json.loads(texts[at - 1])["hash"], outcome="not_found")
    return texts


def says(name: str, value: Any) -> Change:
    return lambda texts: reworded(texts, 3, **{name: value})


OTHER = {
    "at": "2030-01-06T12:00:01.000Z",
    "caller": "key:laptop",
    "tool": "get_booking",
    "account": "home",
    "outcome": "not_found",
    "reference": None,
    "milliseconds": 999_999,
    "request": "r-1",
    "chain": "0" * 32,
    "number": 40,
    "previous": "0" * 64,
    "hash": "0" * 64,
}
CHANGES: dict[str, Change] = {
    **{f"another {name}": says(name, value) for name, value in OTHER.items()},
    "another outcome, with its hash": lambda texts: forged(texts, 3, outcome="not_found"),
    "another first line": lambda texts: forged(texts, 0, tool="get_booking"),
    "other spaces": lambda texts: [*texts[:3], json.dumps(json.loads(texts[3]), sort_keys=True), *texts[4:]],
    "one more field": lambda texts: reworded(texts, 3, more="x"),
    "a chain of another kind": lambda texts: reworded(texts, 3, chain="x"),
    "no JSON": lambda texts: [*texts[:3], "no JSON", *texts[4:]],
    "a line in the middle taken out": lambda texts: [*texts[:3], *texts[4:]],
    "the first line taken out": lambda texts: texts[1:],
    "a line twice": lambda texts: [*texts[:4], texts[3], *texts[4:]],
    "a line twice, the second at the end": lambda texts: [*texts, texts[3]],
}
NEED_HEADS: dict[str, Change] = {
    "the last line cut off": lambda texts: texts[:-1],
    "the end cut off": lambda texts: texts[:2],
    "the whole chain taken away": lambda texts: [],
    "all of it written anew": rewritten,
}


async def some_lines(book: Book, agent: Agent) -> None:
    """A chain of five."""
    booked = await agent.create_booking(**INTRO)
    for hour in (11, 12):
        await agent.reschedule_booking(booking_id=booked["id"], start=TEN.replace(hour=hour).isoformat())
    await agent.cancel_booking(booking_id=booked["id"])
    assert [line["number"] for line in await book.lines()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_shows(
    book: Book, agent: Agent, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await some_lines(book, agent)
    assert await command("--verify", book=book) == 0
    assert capsys.readouterr().out == "5 lines in 1 chain: nothing is wrong.\n"
    await book.change(CHANGES[change])
    assert await command("--verify", book=book) == 1
    *wrong, count = capsys.readouterr().out.splitlines()
    assert wrong
    assert f": {len(wrong)} thing" in count
    assert re.search(r"number (1|2|4|5|40)\b|, line 4", wrong[0])


@on_file
async def test_lines_in_another_order_show(book: Book, agent: Agent) -> None:
    await some_lines(book, agent)
    await book.change(lambda texts: [*texts[:2], texts[3], texts[2], texts[4]])
    assert await command("--verify", book=book) == 1


@on_database
@pytest.mark.parametrize("column", ["line", "at"])
async def test_what_two_rows_have_exchanged_shows(
    book: Book, agent: Agent, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await some_lines(book, agent)
    texts = await book.texts()
    other: dict[int, dict[str, Any]] = {
        3: {"line": texts[3]} if column == "line" else {"at": 1},
        4: {"line": texts[2]} if column == "line" else {"at": 2},
    }
    async with book.gateway.storage.write() as connection:
        for number, values in other.items():
            await connection.execute(update(audit).where(audit.c.number == number).values(**values))
    assert await command("--verify", book=book) == 1
    said = capsys.readouterr().out
    assert "number 3: stands" in said
    assert "number 4: stands" in said


@pytest.mark.parametrize("change", NEED_HEADS)
async def test_what_no_line_tells_of_is_told_by_a_head_that_was_kept_elsewhere(
    book: Book, agent: Agent, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await some_lines(book, agent)
    assert await command("--heads", book=book) == 0
    heads = tmp_path / "heads.jsonl"
    heads.write_text(capsys.readouterr().out)
    last = (await book.lines())[-1]
    assert json.loads(heads.read_text()) == {name: last[name] for name in ("chain", "number", "hash")}
    await agent.create_booking(**INTRO | {"start": NINE.isoformat()})
    against = ("--verify", "--against", str(heads))
    assert await command(*against, book=book) == 0, "a chain may have grown since"
    assert "6 lines in 1 chain, against 1 head: nothing is wrong" in capsys.readouterr().out
    await book.change(lambda texts: NEED_HEADS[change](texts[:5]))
    assert await command("--verify", book=book) == 0
    capsys.readouterr()
    assert await command(*against, book=book) == 1
    assert f"chain {last['chain']}, number 5: is" in capsys.readouterr().out


# The command


async def test_the_newest_lines_are_shown_first(
    book: Book, agent: Agent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert await command(book=book) == 0
    assert capsys.readouterr().out == "There is no such line.\n"
    await some_lines(book, agent)
    with calling(Caller("key:admin")):
        await book.gateway.audit.record("revoke_key", reference="laptop")
    await book.gateway.audit.record("connect_account", account=f"other~{'0' * 24}")

    async def shown(*arguments: str) -> list[str]:
        assert await command(*arguments, book=book) == 0
        return re.findall("started|create_b|reschedule_b|cancel_b|revoke_k|connect_a", capsys.readouterr().out)

    old = ["cancel_b", "reschedule_b", "reschedule_b", "create_b", "started"]
    assert await shown() == ["connect_a", "revoke_k", *old]
    assert await shown("--limit", "3") == ["connect_a", "revoke_k", "cancel_b"]
    assert await shown("--caller", "key:admin") == ["revoke_k"]
    assert await shown("--account", ACCOUNT) == old[:-1]
    assert await shown("--account", "other") == ["connect_a"]
    assert await shown("--account", "nobody") == []


@on_file
async def test_a_line_that_was_changed_does_nothing_to_the_terminal(
    book: Book, agent: Agent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    await some_lines(book, agent)
    await book.change(lambda texts: reworded(texts, 3, caller="\x1b[2J[bold]", chain="\x1b[2J"))
    await book.change(lambda texts: reworded(texts, 2, caller="\x1b[2J[bold]"))
    for arguments in ((), ("--verify",), ("--heads",)):
        await command(*arguments, book=book)
    said = capsys.readouterr().out
    assert "[bold]" in said
    assert "\x1b[2J" not in said


@on_file
@pytest.mark.parametrize(
    "arguments",
    [
        ("--limit", "0"),
        ("--heads", "--verify"),
        ("--against", "heads"),
        ("--verify", "--against", "nothing"),
        ("--verify", "--against", "wrong"),
        ("--verify", "--file", "nothing"),
    ],
    ids=" ".join,
)
async def test_wrong_usage_ends_with_2(book: Book, arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text('{"chain": "x"}')
    (tmp_path / "heads").write_text("")
    named = [str(tmp_path / each) if each in ("heads", "nothing", "wrong") else each for each in arguments]
    assert await command(*named, book=book) == 2


@on_file
async def test_where_there_is_none_files_have_to_be_named(book: Book, agent: Agent) -> None:
    await some_lines(book, agent)
    book.settings.write_text(book.settings.read_text().replace(json.dumps(str(book.file)), '"none"'))
    assert await command("--verify", book=book) == 2
    assert await command("--verify", "--file", str(book.file), book=book) == 0
