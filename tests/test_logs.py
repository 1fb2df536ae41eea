"""The log: lines that tie a call to what was asked of its service, and secrets in none of them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import logs
from gateway.callers import Caller, calling
from gateway.config import Config, parse_config
from gateway.observing import calling as call_of
from gateway.requests import identified
from gateway.server import build_server
from schemas import NotConnected
from tests import loopback
from tests.agent import connected
from tests.emulators import calcom
from tests.emulators.identity import IdentityProvider
from tests.emulators.wire import TOKEN
from tests.over_http import agent, configured, process
from tests.sign_in_stage import House
from tests.stages import STAGES
from tests.world import Clock, World

pytestmark = pytest.mark.anyio

SECRET = "a-s3cret-of-the-file"


def config(folder: Path, **log: str) -> Config:
    account = {"provider": "calcom", "auth": {"type": "bearer", "token": SECRET}}
    text = json.dumps({"accounts": {"team": account}, "server": {"log": log}})
    return parse_config(text, {}, folder=folder)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Whatever is configured is undone."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, {name: logging.getLogger(name).level for name in logs.OURS})
    yield logging.getLogger("gateway.some")
    root.handlers[:], levels = before[0], before[2]
    root.setLevel(before[1])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


# One process: what an operator sees


class Labelled:
    """A service that says what it knows each request by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", b"vendor-77")]}
            await send(message)

        await self._app(scope, receive, labelled)


async def test_a_call_and_what_it_asked_of_its_service_are_tied_by_the_request(tmp_path: Path) -> None:
    server = {"log": {"format": "json", "level": "info"}}
    with loopback.served(Labelled(calcom.app(World(Clock())))) as service:
        file = configured(tmp_path, service, server=server)
        with process(file) as (_, url):
            async with agent(url, headers={"X-Request-ID": "mine-1"}) as client:
                await client.list_event_types()
    said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    of_mine = [line for line in said if line.get("request_id") == "mine-1"]
    [call] = [line for line in of_mine if line["message"].startswith("call")]
    told = {name: call[name] for name in ("level", "caller", "tool", "account", "outcome")}
    assert told == {
        "level": "info",
        "caller": "local",
        "tool": "list_event_types",
        "account": "team",
        "outcome": "ok",
    }
    assert call["duration_ms"] >= 0
    requests = [line for line in of_mine if line["message"].startswith("request")]
    assert requests
    for line in requests:
        told = {name: line[name] for name in ("tool", "account", "method", "host", "status", "upstream_request_id")}
        assert told == {
            "tool": "list_event_types",
            "account": "team",
            "method": "GET",
            "host": "127.0.0.1",
            "status": 200,
            "upstream_request_id": "vendor-77",
        }
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in said))
    assert {line["logger"].partition(".")[0] for line in said} <= {"gateway", "providers", "uvicorn"}


@pytest.mark.parametrize("level", ["debug", "warning"])
@pytest.mark.parametrize("format", ["json", "text"])
async def test_no_secret_and_no_word_of_an_attendee_is_in_the_log_at_any_level(
    tmp_path: Path, format: str, level: str
) -> None:
    world = World(Clock())
    with loopback.served(calcom.app(world)) as service:
        file = configured(tmp_path, service, server={"log": {"format": format, "level": level}})
        with process(file) as (_, url):
            async with agent(url, headers={"Authorization": "Bearer from-a-client"}) as client:
                await client.list_event_types()
                await client.list_bookings(query="Nora Unspeakable", attendee_email="nora@secret.example")
                world.failures.append(httpx2.ReadError("x"))
                async with httpx2.AsyncClient() as browser:
                    await browser.get(f"{url}/connect/team?ticket=t1cket-s3cret")
                    await browser.get(f"{url}/booked/l1nk-s3cret")
    said = (tmp_path / "log").read_text()
    assert "answers at" in said
    for secret in (TOKEN, "from-a-client", "t1cket-s3cret", "l1nk-s3cret", "Unspeakable", "nora@"):
        assert secret not in said, secret


@pytest.mark.parametrize("kind", ["toy", "calendly via mcp", "google_calendar via mcp"])
async def test_each_request_to_a_service_is_told_of_whichever_way_it_goes(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.observing")
    stage = STAGES[kind](kind, tmp_path)
    async with connected(build_server(stage.gateway)) as client:
        await client.list_event_types()
        sent = stage.sent()
        stage.world.failures.append(httpx2.ReadError("broken"))
        await client.list_bookings()
        host = httpx2.URL(stage.gateway.accounts["acme"].address).host  # type: ignore[attr-defined]  # of REST accounts
        told: list[dict[str, Any]] = [
            vars(record)["fields"] for record in caplog.records if record.message.startswith("request")
        ]
        assert len(told) >= stage.sent() > sent
    assert {line["account"] for line in told} == {"acme"}
    assert {line["host"] for line in told} == {host}
    assert [line["error"] for line in told if line["status"] is None] == ["ReadError"]


@pytest.mark.parametrize("format", ["text", "json"])
async def test_what_comes_back_from_a_sign_in_is_not_in_the_log(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    identity = IdentityProvider(Clock())
    with loopback.served(identity.app) as identity.issuer:
        async with House(tmp_path, identity).open() as at, httpx2.AsyncClient() as browser:
            logs.start(config(tmp_path, format=format))
            told = {"error": "x1-unspeakable", "error_description": "ben@secret.example", "state": "st4te"}
            await browser.get(f"{at.url}/auth/callback", params=told)
            await browser.get(f"{at.url}/auth/callback", params={"code": "c0de", "state": "st4te"})
    said = "\n".join(lines(capsys))
    assert "IdP callback error: *** - ***" in said
    assert "IdP callback with invalid transaction ID: ***" in said
    for word in ("unspeakable", "ben@", "st4te", "c0de"):
        assert word not in said


# Lines


def test_a_line_of_text_says_when_where_what_and_of_whom(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.start(config(tmp_path))
    with identified("r1"), calling(Caller("key:ci")), call_of("find_slots") as call:
        call.accounts.add("team")
        logger.warning("it is %s", "late")
    [line] = lines(capsys)
    time, _, rest = line.partition(" ")
    assert (len(time), time[-1]) == (24, "Z")
    assert rest == "WARNING gateway.some: it is late [request_id=r1 caller=key:ci tool=find_slots account=team]"


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    ("message", "secret"),
    [
        (f"sent {SECRET} there", SECRET),
        ("Authorization: Bearer eyJhbGciOi.abc-_~+/=", "eyJhbGciOi"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
        ("GET https://example.com/cb?code=c0de&state=x HTTP/1.1", "c0de"),
        ("postgresql://me:p4ss@db/gateway is down", "p4ss"),
    ],
)
def test_a_secret_that_somebody_logs_is_hidden(
    tmp_path: Path,
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    format: str,
    message: str,
    secret: str,
) -> None:
    logs.start(config(tmp_path, format=format))
    logger.warning("%s", message)
    try:
        raise NotConnected(message)
    except NotConnected:
        logger.exception("failed")
    said = "\n".join(lines(capsys))
    assert (secret in said, said.count(logs.HIDDEN)) == (False, 2)
    assert "NotConnected" in said


@pytest.mark.parametrize("format", ["text", "json"])
def test_words_of_others_begin_no_line(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    logs.start(config(tmp_path, format=format))
    forged = "x\n2030-01-01T00:00:00.000Z ERROR gateway: forged\r\u202e"
    logger.warning("said %s", forged)
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed")
    begun = [line for line in lines(capsys) if not line.startswith("  ")]
    assert len(begun) == 2
    assert not any(line.startswith("2030") for line in begun)


def test_the_level_is_for_our_own_loggers_and_of_others_warnings_are_enough(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.start(config(tmp_path, level="debug", format="json"))
    others = [logging.getLogger(name) for name in ("httpx2", "mcp.server", "fastmcp.server", "sqlalchemy.engine")]
    for each in (logger, *others):
        each.debug("detail")
        each.info("news")
        each.warning("beware")
    said: list[dict[str, Any]] = [json.loads(line) for line in lines(capsys)]
    assert [line["message"] for line in said if line["logger"] == logger.name] == ["detail", "news", "beware"]
    assert [line["message"] for line in said if line["logger"] != logger.name] == ["beware"] * len(others)
