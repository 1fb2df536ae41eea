"""What every HTTP request goes through: its id, its bounds, the headers of its answer; and the limits of a caller."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from anyio.abc import ByteStream
from mcp.shared.exceptions import MCPError
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import limits
from gateway.connections import Connection
from gateway.limits import Limits
from gateway.requests import BODY, LONGEST, PAGE, Front, request_id
from gateway.server import build_server
from gateway.server_config import LimitsConfig, ServerConfig
from gateway.serving import listen
from providers.rest import ATTEMPTS, LONGEST_ANSWER
from schemas import OutcomeUnknown, ProviderDown, RateLimited
from tests.agent import connected
from tests.keyed import Keyed
from tests.over_http import JSON_RPC, Held, agent, served
from tests.sign_in_stage import Browser
from tests.stages import LocalStage, Stage
from tests.world import TEN, Clock

pytestmark = pytest.mark.anyio

BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
FEW = {"request_bytes": 2000, "per_minute": 600, "at_once": 32}


@pytest.fixture
async def url(local: LocalStage) -> AsyncIterator[str]:
    async with served(local.gateway, local.clock, limits=FEW) as url:
        yield url


@pytest.fixture
async def browser() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


def front(app: ASGIApp, **server: Any) -> Front:
    return Front(app, ServerConfig(**server), Clock())


async def asked(app: ASGIApp, method: str = "GET", path: str = "/", **request: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        return await client.request(method, path, **request)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage("toy", tmp_path)
    yield stage
    await stage.gateway.close()


@pytest.fixture
def held(stage: Stage) -> Held:
    """What the stage's service is reached through."""
    assert stage.gateway._transport is not None
    stage.gateway._transport = held = Held(stage.gateway._transport)
    return held


# Ids


async def test_every_answer_names_its_request(url: str, browser: httpx2.AsyncClient) -> None:
    ids = [(await browser.get(f"{url}{path}")).headers["x-request-id"] for path in ("/health", "/nowhere", "/mcp")]
    assert all(re.fullmatch(r"[0-9a-f]{32}", id) for id in ids)
    assert len(set(ids)) == 3


async def test_an_id_that_a_request_brings_is_taken_over(url: str, browser: httpx2.AsyncClient) -> None:
    answer = await browser.get(f"{url}/health", headers={"X-Request-ID": "proxy-1.a_b"})
    assert answer.headers["x-request-id"] == "proxy-1.a_b"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "evil\tone", "<script>"])
async def test_an_id_that_is_no_plain_word_is_not(url: str, browser: httpx2.AsyncClient, given: str) -> None:
    answer = await browser.get(f"{url}/health", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_the_id_is_known_while_the_request_is_answered_and_not_after() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(str(request_id()))(scope, receive, send)

    answer = await asked(front(app), headers={"X-Request-ID": "mine"})
    assert (answer.text, request_id()) == ("mine", None)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_error_nobody_foresaw_says_where_the_log_has_it(
    local: LocalStage, monkeypatch: pytest.MonkeyPatch, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(local.gateway.catalog, "list_accounts", broken)
    async with (
        served(local.gateway, local.clock) as url,
        agent(url, mode, {"X-Request-ID": "trace-me"}) as client,
    ):
        with pytest.raises(ProviderDown, match="under request trace-me"):
            await client.list_accounts()
    assert "ZeroDivisionError" in caplog.text


async def test_who_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    caplog.set_level("INFO")
    await front(app)({"type": "http", "method": "POST", "path": "/mcp", "headers": []}, gone, send)
    assert (sent, caplog.text) == ([], "")


@pytest.mark.parametrize(("wait", "told"), [(None, None), (6.5, "7")])
async def test_what_the_database_or_a_provider_cannot_do_now_is_said_to_be_for_now(
    wait: float | None, told: str | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ProviderDown("The database is busy.", retry_after=wait)

    answer = await asked(front(app))
    assert (answer.status_code, answer.json()["error"]) == (503, "The database is busy.")
    assert answer.headers.get("retry-after") == told


async def test_a_page_that_fails_says_where_the_log_has_it_and_no_path(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    answer = await asked(front(app), path="/booked/a-secret-link", headers={"X-Request-ID": "trace-me"})
    assert (answer.status_code, "trace-me" in answer.json()["error"]) == (500, True)
    assert "a-secret-link" not in caplog.text
    assert "/booked" in caplog.text


# How long, and how large


@pytest.mark.parametrize("sent", ["at once", "in parts"])
async def test_a_request_that_is_too_long_is_refused(url: str, browser: httpx2.AsyncClient, sent: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(21):
            yield b"x" * 100

    content: Any = b"x" * 2001 if sent == "at once" else parts()
    answer = await browser.post(f"{url}/mcp", content=content, headers=JSON_RPC)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/json")
    assert "2000 bytes" in answer.json()["error"]


async def test_a_request_that_says_it_is_too_long_need_not_be_sent(url: str) -> None:
    async with await connection(url) as stream:
        await stream.send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2001\r\n\r\n")
        assert (await whole(stream)).startswith(b"HTTP/1.1 413 ")


async def test_a_request_of_just_that_length_is_read_whole(local: LocalStage) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        await PlainTextResponse(str((len(message["body"]), message["more_body"])))(scope, receive, send)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    assert (await asked(front(app, limits=FEW), "POST", content=parts())).text == "(2000, False)"


async def test_a_page_takes_less_than_the_server_does() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("taken")(scope, receive, send)

    for path, length, status in (("/mcp", PAGE + 1, 200), ("/register", PAGE, 200), ("/register", PAGE + 1, 413)):
        assert (await asked(front(app), "POST", path, content=b"x" * length)).status_code == status


async def test_a_request_that_does_not_come_is_given_up(local: LocalStage, url: str) -> None:
    async with await connection(url) as stream:
        await stream.send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        await ran_out(local.clock, BODY)
        assert (await whole(stream)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b"POST /mcp HT", b"GET /health HTTP/1.1\r\nHost: local"])
async def test_a_connection_on_which_no_request_begins_is_closed(
    url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(Connection, "headers_within", 0.01)
    async with await connection(url) as stream:
        await stream.send(sent)
        assert await whole(stream) == b""


async def test_a_second_request_that_does_not_come_is_not_waited_for_either(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "headers_within", 0.01)
    async with await connection(url) as stream:
        await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
        await stream.send(b"GET /hea")
        assert b"HTTP/1.1" not in await whole(stream)


async def test_headers_that_are_too_long_are_refused(url: str) -> None:
    async with await connection(url) as stream:
        await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000)
        assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_takes_no_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "taken_within", 0.01)
    is_over = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"x" * 50_000_000)(scope, receive, send)
        is_over.set()

    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_config=None, lifespan="off", ws="none"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await is_over.wait()
                assert len(await whole(stream)) < 50_000_000
            server.should_exit = True


async def test_a_page_that_takes_too_long_is_given_up() -> None:
    clock = Clock()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.run_out(LONGEST)
        await anyio.sleep_forever()

    answer = await asked(Front(app, ServerConfig(), clock))
    assert (answer.status_code, "error" in answer.json()) == (503, True)


async def connection(url: str) -> ByteStream:
    return await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))


async def whole(stream: ByteStream) -> bytes:
    """All that still comes."""
    said = b""
    try:
        async for part in stream:
            said += part
    except anyio.BrokenResourceError:  # closed at once, not in the course of things
        pass
    return said


async def ran_out(clock: Clock, seconds: float) -> None:
    """Let so many seconds have passed for what waits that long, when it does."""
    while not clock.run_out(seconds):
        await anyio.lowlevel.checkpoint()


# Headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/health", 200), ("GET", "/nowhere", 404), ("GET", "/mcp", 405)]
)
async def test_every_answer_is_hardened(
    url: str, browser: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await browser.request(method, f"{url}{path}")
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in HARD} == HARD
    assert "strict-transport-security" not in answer.headers


HARD = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


async def test_what_a_page_says_for_itself_stands(url: str, browser: httpx2.AsyncClient) -> None:
    page = await browser.get(f"{url}/accounts")
    assert "style-src 'self'" in page.headers["content-security-policy"]
    [asset] = set(re.findall(r'href="[^"]*(/pages/[^"]+\.css)"', page.text))
    assert "immutable" in (await browser.get(f"{url}{asset}")).headers["cache-control"]
    for name in ("content-security-policy", "cache-control", "referrer-policy", "x-frame-options"):
        assert len(page.headers.get_list(name)) == 1


async def test_a_page_that_has_its_rules_in_its_text_keeps_its_style() -> None:
    answer = await asked(front(HTMLResponse("<meta http-equiv='Content-Security-Policy' …>")))
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize(("address", "is_https"), [("https://sched.example.com", True), ("http://localhost:1", False)])
async def test_where_it_is_reached_by_https_it_is_by_that_alone(address: str, is_https: bool) -> None:
    answer = await asked(front(PlainTextResponse("x"), public_url=address))
    assert ("strict-transport-security" in answer.headers) == is_https


async def test_a_stream_is_not_held_back(browser: httpx2.AsyncClient) -> None:
    may_go = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await may_go.wait()
        await send({"type": "http.response.body", "body": b"two"})

    with listen("127.0.0.1", 0) as listener:
        running = uvicorn.Server(uvicorn.Config(front(app), log_config=None, lifespan="off", ws="none"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.serve, [listener])
            async with browser.stream("POST", f"http://127.0.0.1:{listener.getsockname()[1]}", content=b"x") as answer:
                said = []
                async for part in answer.aiter_bytes():
                    said.append(part)
                    may_go.set()  # the second part is sent when the first has come
            running.should_exit = True
    assert said == [b"one", b"two"]


# Callers


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_caller_may_make_so_many_calls_a_minute(local: LocalStage, mode: str) -> None:
    async with (
        served(local.gateway, local.clock, limits={"per_minute": 3}) as url,
        agent(url, mode) as client,
    ):
        for _ in range(3):
            await client.list_accounts()
        with pytest.raises(RateLimited) as caught:
            await client.list_accounts()
        assert caught.value.retry_after == 20
        local.clock.advance(timedelta(seconds=20))
        await client.list_accounts()
        with pytest.raises(RateLimited):
            await client.list_accounts()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_lists_of_tools_are_counted_apart_from_calls(local: LocalStage, mode: str) -> None:
    async with (
        served(local.gateway, local.clock, limits={"per_minute": 3}) as url,
        agent(url, mode) as client,
    ):
        for _ in range(3):
            assert await client.client.list_tools()
        with pytest.raises(MCPError, match="3 calls a minute") as caught:
            await client.client.list_tools()
        assert caught.value.error.data == {
            "code": "rate_limited",
            "message": "You may make 3 calls a minute. Try again in 20 seconds.",
            "retry_after": 20,
        }
        await client.list_accounts()


async def test_pages_count_as_calls_of_who_looks_at_them(tmp_path: Path) -> None:
    async with Keyed(tmp_path, limits={"per_minute": 3}).open() as at, Browser() as browser:
        key = await at.key("laptop")
        await browser.submit(await browser.client.get(f"{at.url}/signin"), key=key)
        assert browser.pages[-1].url.path == "/accounts"
        for _ in range(2):
            shown = await browser.client.get(f"{at.url}/accounts")
            assert shown.status_code == 200
        late = await browser.client.get(f"{at.url}/accounts")
        assert (late.status_code, "You may make 3 calls a minute" in late.text) == (429, True)
        csrf = re.findall(r'name="csrf" value="([^"]+)"', shown.text)[0]
        pressed = await browser.client.post(f"{at.url}/accounts/home/disconnect", data={"csrf": csrf})
        assert pressed.status_code == 429
        async with at.agent(key) as client:
            with pytest.raises(RateLimited):
                await client.list_accounts()
        async with at.agent(await at.key("desk")) as client:
            await client.list_accounts()
        assert (await browser.client.post(f"{at.url}/signout", data={"csrf": csrf})).status_code == 200


async def test_a_caller_may_make_so_many_calls_at_once(stage: Stage, held: Held) -> None:
    answers: list[Any] = []
    async with (
        served(stage.gateway, stage.clock, limits={"at_once": 1}) as url,
        agent(url) as client,
        anyio.create_task_group() as tasks,
    ):

        async def list_types() -> None:
            answers.append(await client.list_event_types())

        tasks.start_soon(list_types)
        await held.has_come.wait()
        with pytest.raises(RateLimited) as caught:
            await client.list_accounts()
        assert caught.value.retry_after == 1
        held.may_go.set()
        while not answers:
            await anyio.lowlevel.checkpoint()
        await client.list_accounts()


async def test_over_stdio_and_in_process_nobody_is_limited(local: LocalStage) -> None:
    config = local.gateway.config
    local.gateway.config = config.model_copy(update={"server": ServerConfig(limits=LimitsConfig(per_minute=1))})
    async with connected(build_server(local.gateway)) as client:
        for _ in range(3):
            await client.list_accounts()


def test_each_caller_has_limits_of_ones_own() -> None:
    bounds = Limits(LimitsConfig(per_minute=1, at_once=1), Clock())
    with bounds.admitted("key:one"), bounds.admitted("key:two"), pytest.raises(RateLimited):
        bounds.admitted("key:two").__enter__()


def test_a_refused_call_costs_nothing_and_a_clock_that_is_set_back_gives_nothing() -> None:
    clock = Clock()
    bounds = Limits(LimitsConfig(per_minute=60), clock)
    waits = [taken(bounds) for _ in range(62)]
    assert waits == [None] * 60 + [1, 1]
    clock.advance(timedelta(hours=-1))
    assert taken(bounds) == 1
    clock.advance(timedelta(seconds=1))
    assert [taken(bounds), taken(bounds)] == [None, 1]


def test_of_callers_that_come_and_go_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 3)
    bounds = Limits(LimitsConfig(per_minute=1), Clock())
    assert [taken(bounds, name) for name in "abcd"] == [None] * 4
    assert [taken(bounds, name) for name in "dcb"] == [60] * 3
    assert taken(bounds, "a") is None
    assert (len(bounds._left), len(bounds._at_once)) == (3, 0)


def taken(bounds: Limits, name: str = "key:one") -> float | None:
    """How long to wait for a call; None if it was made."""
    try:
        with bounds.admitted(name):
            return None
    except RateLimited as error:
        return error.retry_after


# Time


@pytest.mark.parametrize("transport", ["memory", "http", "http-legacy"])
async def test_a_read_that_takes_too_long_is_given_up(stage: Stage, held: Held, transport: str) -> None:
    async with connected(build_server(stage.gateway), transport) as client, anyio.create_task_group() as tasks:

        async def list_types() -> None:
            with pytest.raises(ProviderDown, match="240 seconds"):
                await client.list_event_types()

        tasks.start_soon(list_types)
        await held.has_come.wait()
        stage.clock.run_out(LONGEST)


async def test_a_write_that_takes_too_long_is_unknown_and_goes_on_to_its_end(stage: Stage, held: Held) -> None:
    held.may_go.set()
    async with connected(build_server(stage.gateway)) as client:
        await client.list_event_types()
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                with pytest.raises(OutcomeUnknown, match="240 seconds"):
                    await client.cancel_booking(booking_id=id)

            id = await stage.book("intro", TEN)
            await client.get_booking(booking_id=id)
            held.may_go, held.has_come = anyio.Event(), anyio.Event()
            tasks.start_soon(cancel)
            await held.has_come.wait()
            held.may_go.set()  # the reads before it
            held.may_go = anyio.Event()
            await written(stage)
            stage.clock.run_out(LONGEST)
        assert await stage.journaled() == [("cancel_booking", "acme", "sent")]
        held.may_go.set()
        await stage.gateway._writes.drain(30)
    assert await stage.journaled() == [("cancel_booking", "acme", "done")]
    assert [each.status for each in await stage.appointments()] == ["cancelled"]


async def written(stage: Stage) -> None:
    """When a write is in the journal."""
    while not await stage.journaled():
        await anyio.lowlevel.checkpoint()


async def test_an_answer_that_never_ends_is_not_waited_for(stage: Stage, held: Held) -> None:
    given_up = 0
    async with connected(build_server(stage.gateway)) as client, anyio.create_task_group() as tasks:

        async def list_types() -> None:
            with pytest.raises(ProviderDown, match="did not answer"):
                await client.list_event_types()
            tasks.cancel_scope.cancel()

        tasks.start_soon(list_types)
        while True:
            await held.has_come.wait()
            given_up += stage.clock.run_out(LONGEST_ANSWER)
            await anyio.lowlevel.checkpoint()
    assert given_up == ATTEMPTS
