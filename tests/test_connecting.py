"""Connecting an account, from the first refused call to a booked meeting: over HTTP and by command."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from cryptography.fernet import Fernet
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp.types import ElicitResult
from sqlalchemy import select
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import Config
from gateway.connecting import CALLBACK, DOCUMENT
from gateway.core import Gateway
from gateway.pool import IDLE
from gateway.server import build_server
from gateway.server_config import ServerConfig
from gateway.serving import listen, own_url
from providers import PROVIDERS
from providers.storage.tables import journal
from schemas import InvalidRequest, NotConnected
from tests.agent import Agent
from tests.emulators import calendly_mcp
from tests.emulators.authorization import AuthorizationServer, hosts
from tests.loopback import served, serving
from tests.postgres import databases
from tests.test_cli import run as typed
from tests.world import MONDAY, Clock, World

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=1)).isoformat()}
OAUTH = {"provider": "calendly", "via": "mcp", "auth": {"type": "oauth"}}
METADATA = {
    "authorization_servers": ["https://calendly.com/"],
    "scopes_supported": ["mcp:scheduling:write", "mcp:scheduling:read"],
    "bearer_methods_supported": ["header"],
}


class Office:
    """A gateway served on loopback with an account that nobody has connected yet, and Calendly behind it."""

    def __init__(self, folder: Path, **quirks: Any) -> None:
        self.clock = Clock()
        self.world = World(self.clock)
        self.consent = AuthorizationServer(
            self.clock, "https://calendly.com", scopes=tuple(METADATA["scopes_supported"]), **quirks
        )
        tools = calendly_mcp.app(
            self.world, let_in=lambda token: self.consent.holder(token) is not None, metadata=METADATA
        )
        self.network = httpx2.ASGITransport(hosts({"calendly.com": self.consent.app, "mcp.calendly.com": tools}))
        self.key_file = folder / "gateway.key"
        self.config = self.configured(folder, work=OAUTH)
        self.gateway = self.restarted()
        self.url = ""

    def configured(self, folder: Path, key: str | None = None, **accounts: dict[str, Any]) -> Config:
        """These accounts, and one that signs in by itself."""
        accounts["home"] = {"provider": "local", "time_zone": "Europe/Berlin"}
        made = {
            name: PROVIDERS[each["provider"]][each.get("via", "api")].Config.model_validate(each)
            for name, each in accounts.items()
        }
        return Config(accounts=made, server=ServerConfig(port=0), storage=databases.newest(folder, encryption_key=key))

    def restarted(self, config: Config | None = None) -> Gateway:
        self.config = config or self.config
        self.gateway = Gateway(self.config, clock=self.clock, transport=self.network)
        return self.gateway

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with serving(self.gateway, self.config) as self.url:
            yield

    @asynccontextmanager
    async def agent(self, **client: Any) -> AsyncIterator[Agent]:
        async with Client(StreamableHttpTransport(f"{self.url}/mcp"), **client) as connected:
            yield Agent(connected)

    def browser(self) -> httpx2.AsyncClient:
        """One that reaches the gateway by its address and the vendor by the emulated network."""
        return httpx2.AsyncClient(mounts={"https://": self.network}, follow_redirects=True)

    async def visit(self, link: str) -> httpx2.Response:
        async with self.browser() as browser:
            return await browser.get(link)


@pytest.fixture
async def office(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    office = Office(tmp_path, **getattr(request, "param", {}))
    async with office.open():
        yield office


async def link(agent: Agent, account: str = "work") -> str:
    with pytest.raises(NotConnected) as caught:
        await agent.list_event_types(account=account)
    assert caught.value.details is not None
    url: str = caught.value.details["connect_url"]
    assert url in caught.value.message
    return url


# Over HTTP


async def test_from_the_first_refused_call_to_a_booked_meeting(office: Office) -> None:
    async with office.agent() as agent:
        page = await office.visit(await link(agent))
        assert (page.status_code, "work is connected" in page.text) == (200, True)
        [event_type, *_] = (await agent.list_event_types(account="work"))["event_types"]
        [slot, *_] = (await agent.find_slots(event_type_ids=[event_type["id"]], **WINDOW))["slots"]
        booked = await agent.create_booking(event_type_id=event_type["id"], start=slot["start"], **BEN)
        [account] = [each for each in (await agent.list_accounts())["accounts"] if each["account"] == "work"]
    assert booked["status"] == "confirmed"
    assert [each.email for each in office.world.appointments.values()] == ["ben@example.com"]
    assert (account["state"], "connect_url" in account) == ("ready", False)


async def test_after_a_restart_with_an_expired_token_nobody_has_to_consent(office: Office) -> None:
    async with office.agent() as agent:
        await office.visit(await link(agent))
    await office.gateway.close()
    office.clock.advance(timedelta(days=30))
    office.restarted()
    async with office.open(), office.agent() as agent:
        assert (await agent.list_event_types(account="work"))["event_types"]
    assert len(office.consent.sent("refresh_token")) == 1


async def test_accounts_say_where_they_are_connected_and_only_those_that_can_be(office: Office) -> None:
    async with office.agent() as agent:
        work, home = (await agent.list_accounts())["accounts"]
        assert (work["state"], home["state"]) == ("needs_connection", "ready")
        assert "connect_url" not in home
        assert (await office.visit(work["connect_url"])).status_code == 200


async def test_what_several_accounts_answer_is_not_lost_for_one_that_is_not_connected(office: Office) -> None:
    async with office.agent() as agent:
        answer = await agent.list_event_types()
    assert answer["event_types"]
    assert [(each["account"], each["code"]) for each in answer["unavailable"]] == [("work", "not_connected")]


async def test_a_link_is_good_once_and_for_ten_minutes_and_for_its_account(office: Office) -> None:
    async with office.agent() as agent, office.browser() as browser:
        used = await link(agent)
        begun = await browser.get(used, follow_redirects=False)
        assert (begun.status_code, httpx2.URL(begun.headers["location"]).host) == (302, "calendly.com")
        again = await browser.get(used)
        assert (again.status_code, "not good any more" in again.text) == (400, True)
        late = await link(agent)
        office.clock.advance(timedelta(minutes=10))
        assert (await browser.get(late)).status_code == 400
        other = (await link(agent)).replace("/connect/work", "/connect/home")
        assert (await browser.get(other)).status_code == 400
        for made_up in (f"{office.url}/connect/work", f"{office.url}/connect/work?ticket=x"):
            assert (await browser.get(made_up)).status_code == 400
    assert office.consent.sent("authorization_code") == []


async def test_only_the_browser_that_began_can_finish_and_only_once(office: Office) -> None:
    async with office.agent() as agent:
        async with office.browser() as browser:
            begun = await browser.get(await link(agent), follow_redirects=False)
            back = await browser.get(begun.headers["location"], follow_redirects=False)
            async with office.browser() as thief:
                stolen = await thief.get(back.headers["location"])
                assert stolen.status_code == 400
        async with office.browser() as browser:
            begun = await browser.get(await link(agent), follow_redirects=False)
            back = await browser.get(begun.headers["location"], follow_redirects=False)
            assert (await browser.get(back.headers["location"])).status_code == 200
            assert (await browser.get(back.headers["location"])).status_code == 400


@pytest.mark.parametrize("office", [{"consents": False}], indirect=True)
async def test_a_consent_that_is_denied_is_said_and_connects_nothing(office: Office) -> None:
    async with office.agent() as agent:
        page = await office.visit(await link(agent))
        assert (page.status_code, "This did not work" in page.text) == (400, True)
        await link(agent)


@pytest.mark.parametrize("office", [{"registration": "refused"}], indirect=True)
async def test_a_server_that_registers_nobody_is_said(office: Office) -> None:
    async with office.agent() as agent:
        page = await office.visit(await link(agent))
    assert (page.status_code, "registration" in page.text or "register" in page.text) == (400, True)


async def test_pages_are_not_kept_hold_no_script_and_show_text_as_text(office: Office) -> None:
    async with office.browser() as browser:
        hostile = "<script>alert(1)</script>"
        answers = [
            await browser.get(f"{office.url}/connect/callback", params={"state": hostile, "error": hostile}),
            await browser.get(f"{office.url}/connect/{hostile.replace('/', '')}", params={"ticket": hostile}),
            await browser.get(f"{office.url}/connect/callback", params={"state": "work.x", "code": "y"}),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert "<script>" not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_no_secret_is_in_a_page_or_an_answer(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with office.agent() as agent:
        page = await office.visit(await link(agent))
        said = json.dumps(await agent.list_accounts())
    [asked] = office.consent.sent("authorization_code")
    for name in ("code", "code_verifier"):
        assert asked[name] not in page.text + said
    for token in office.consent.tokens():
        assert token not in page.text + said + caplog.text


async def test_a_client_that_can_open_links_is_asked_and_its_call_goes_on(office: Office) -> None:
    asked: list[Any] = []

    async def consent(message: str, response_type: Any, params: Any, context: Any) -> ElicitResult:
        asked.append(params)
        assert (await office.visit(params.url)).status_code == 200
        return ElicitResult(action="accept")

    async with office.agent(elicitation_handler=consent) as agent:
        assert (await agent.list_event_types(account="work"))["event_types"]
    assert [(each.mode, "work" in each.message) for each in asked] == [("url", True)]


async def test_a_client_whose_user_declines_gets_the_error(office: Office) -> None:
    async def decline(message: str, response_type: Any, params: Any, context: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    async with office.agent(elicitation_handler=decline) as agent:
        await link(agent)


async def test_over_stdio_there_is_no_link(tmp_path: Path) -> None:
    office = Office(tmp_path)
    async with Client(build_server(office.gateway)) as client:
        with pytest.raises(NotConnected, match="scheduling-gateway connect") as caught:
            await Agent(client).list_event_types(account="work")
    assert caught.value.details is None


async def test_an_account_that_signs_in_by_itself_is_not_connected(tmp_path: Path) -> None:
    office = Office(tmp_path)
    await office.gateway.open()
    with pytest.raises(InvalidRequest, match="needs no connecting"):
        office.gateway.connecting.client("home")
    assert await office.gateway.connecting.link("home") is None
    await office.gateway.close()


async def test_no_page_answers_to_the_name_of_another_host(office: Office) -> None:
    """A name of somebody else's may lead here (DNS rebinding)."""
    async with office.browser() as browser:
        for path in ("/connect/work?ticket=x", CALLBACK, DOCUMENT, "/health", "/mcp"):
            answer = await browser.get(f"{office.url}{path}", headers={"Host": "evil.example"})
            assert answer.status_code == 421, path


@pytest.mark.parametrize(
    "ahead", [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch"), ("x-moz", "prefetch")]
)
async def test_who_looks_ahead_does_not_use_a_link_up(office: Office, ahead: tuple[str, str]) -> None:
    async with office.agent() as agent, office.browser() as browser:
        url = await link(agent)
        assert "location" not in (await browser.head(url, follow_redirects=False)).headers
        assert "location" not in (await browser.get(url, headers=[ahead], follow_redirects=False)).headers
        assert (await browser.get(url)).status_code == 200


async def test_one_browser_may_connect_several_accounts_at_once(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.restarted(office.configured(tmp_path, work=OAUTH, callback=OAUTH))
    async with office.open(), office.agent() as agent, office.browser() as browser:
        begun = [
            await browser.get(await link(agent, account), follow_redirects=False) for account in ("work", "callback")
        ]
        for each in begun:
            assert (await browser.get(each.headers["location"])).status_code == 200
        accounts = (await agent.list_accounts())["accounts"]
    assert [each["state"] for each in accounts] == ["ready"] * 3


@pytest.mark.parametrize("url", ["https://example.com/sched", "https://example.com/sched/"])
async def test_behind_a_path_of_a_proxy_the_browser_that_began_can_finish(office: Office, url: str) -> None:
    config = office.config.model_copy(update={"server": ServerConfig(port=0, public_url=url)})
    with listen("127.0.0.1", 0) as listener:
        assert own_url(config, listener) == "https://example.com/sched"
        office.gateway.connecting.url = own_url(config, listener)
    async with office.agent() as agent:
        begin = await link(agent)
    assert begin.startswith("https://example.com/sched/connect/work?")
    async with office.browser() as browser:
        begun = await browser.get(begin.replace("https://example.com/sched", office.url), follow_redirects=False)
    assert "Path=/sched/connect" in begun.headers["set-cookie"]
    assert "Secure" in begun.headers["set-cookie"]
    assert office.consent.clients["client-1"]["redirect_uris"] == ["https://example.com/sched/connect/callback"]


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[Office]:
    """An office where everyone connects an account of their own."""
    office = Office(tmp_path)
    office.restarted(office.configured(tmp_path, work={**OAUTH, "owner": "caller"}))
    async with office.open():
        yield office


async def test_an_answer_to_nothing_makes_no_account(private: Office) -> None:
    await private.gateway.open()
    made = len(private.gateway.pool.made)
    for number in range(3):
        answer = await private.visit(f"{private.url}{CALLBACK}?state=work~nobody{number}.x&code=x")
        assert (answer.status_code, "was not begun here" in answer.text) == (400, True)
    assert len(private.gateway.pool.made) == made
    async with private.agent() as agent:
        assert "work is connected" in (await private.visit(await link(agent))).text


async def test_an_account_of_ones_own_that_is_looked_at_stays_open(private: Office) -> None:
    await private.gateway.open()
    gateway = private.gateway
    looked_at = gateway.accounts["work"]
    for _ in range(2):
        await gateway.pool.tidy()
        private.clock.advance(IDLE)
        assert gateway.accounts["work"] is looked_at
    await gateway.pool.tidy()
    assert looked_at in gateway.pool.made
    assert gateway.pool.used(looked_at) is None, "nobody has asked it for anything"
    private.clock.advance(IDLE + timedelta(seconds=1))
    await gateway.pool.tidy()
    assert looked_at not in gateway.pool.made


async def test_a_link_is_still_good_where_the_vendor_was_down(office: Office) -> None:
    async with office.agent() as agent:
        url = await link(agent)
        whole, office.network.app = office.network.app, PlainTextResponse("down", 503)
        page = await office.visit(url)
        assert (page.status_code, "503" in page.text) == (400, True)
        office.network.app = whole
        assert (await office.visit(url)).status_code == 200


async def test_the_page_says_who_signed_in_and_nobody_else_is_remembered(office: Office) -> None:
    """Else whoever was tricked into the consent of another person would not see it."""
    async with office.agent() as agent:
        await office.visit(await link(agent))
        await agent.list_event_types(account="work")
        office.consent.withdraw()
        office.consent.expire()
        begin, asked = await link(agent), len(office.world.requests)
        page = await office.visit(begin)
        assert "signed in as" in page.text
        assert ("GET", "/users/me") in office.world.requests[asked:]


async def test_a_consent_that_was_withdrawn_is_said_by_a_call_and_mended_by_its_link(office: Office) -> None:
    async with office.agent() as agent:
        await office.visit(await link(agent))
        await agent.list_event_types(account="work")
        office.consent.withdraw()
        with pytest.raises(NotConnected, match="scheduling-gateway connect work`") as caught:
            await agent.list_bookings(account="work")
        assert caught.value.details is not None
        assert (await office.visit(caught.value.details["connect_url"])).status_code == 200
        await agent.list_bookings(account="work")


@pytest.mark.parametrize("given", [True, False])
async def test_without_the_key_an_account_is_not_connected_and_can_be_again(tmp_path: Path, given: bool) -> None:
    office = Office(tmp_path)
    keys = [Fernet.generate_key().decode() if given else None for _ in range(2)]
    office.restarted(office.configured(tmp_path, keys[0], work=OAUTH))
    async with office.open(), office.agent() as agent:
        await office.visit(await link(agent))
    if not given:
        office.key_file.unlink()
    office.restarted(office.configured(tmp_path, keys[1], work=OAUTH))
    async with office.open(), office.agent() as agent:
        work, home = (await agent.list_accounts())["accounts"]
        assert (work["state"], home["state"]) == ("needs_connection", "ready")
        assert "scheduling-gateway connect work`" in work["detail"]
        assert (await office.visit(work["connect_url"])).status_code == 200
        await agent.list_event_types(account="work")


async def test_a_new_key_in_front_of_the_old_one_loses_nothing(tmp_path: Path) -> None:
    office = Office(tmp_path)
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    office.restarted(office.configured(tmp_path, old, work=OAUTH))
    async with office.open(), office.agent() as agent:
        await office.visit(await link(agent))
    for keys, hours in ((f"{new},{old}", 3), (new, 6)):  # what is renewed is encrypted with the newest
        office.clock.advance(timedelta(hours=hours))
        office.restarted(office.configured(tmp_path, keys, work=OAUTH))
        async with office.open(), office.agent() as agent:
            await agent.list_event_types(account="work")


async def test_a_key_that_cannot_be_made_hides_no_other_account(office: Office) -> None:
    office.key_file.mkdir()
    async with office.agent() as agent:
        work, home = (await agent.list_accounts())["accounts"]
    assert (work["state"], "connect_url" in work, home["state"]) == ("needs_connection", False, "ready")


async def test_a_stop_amid_a_renewal_loses_no_token(office: Office) -> None:
    async with office.agent() as agent:
        await office.visit(await link(agent))
    office.clock.advance(timedelta(hours=3))
    whole, reached, go_on = office.network.app, anyio.Event(), anyio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/oauth/token":
            reached.set()
            await go_on.wait()
        await whole(scope, receive, send)

    office.network.app = slow
    client = office.gateway.connecting.client("work")
    async with anyio.create_task_group() as callers:
        callers.start_soon(client.token)
        await reached.wait()
        callers.cancel_scope.cancel()
    async with anyio.create_task_group() as stopping:
        stopping.start_soon(office.gateway.close)
        await anyio.wait_all_tasks_blocked()
        assert office.gateway.is_open, "the process would end"
        go_on.set()
    office.restarted()
    async with office.open(), office.agent() as agent:
        assert (await agent.list_event_types(account="work"))["event_types"]


async def test_a_write_that_asked_for_a_consent_first_happens_once(office: Office) -> None:
    async def consent(message: str, response_type: Any, params: Any, context: Any) -> ElicitResult:
        assert (await office.visit(params.url)).status_code == 200
        return ElicitResult(action="accept")

    async with office.agent() as agent:
        await office.visit(await link(agent))
        [event_type, *_] = (await agent.list_event_types(account="work"))["event_types"]
        [slot, *_] = (await agent.find_slots(event_type_ids=[event_type["id"]], **WINDOW))["slots"]
    office.consent.withdraw()
    asked = {"event_type_id": event_type["id"], "start": slot["start"], **BEN, "idempotency_key": "k"}
    async with office.agent(elicitation_handler=consent) as agent:
        booked = await agent.create_booking(**asked)
        assert (await agent.create_booking(**asked))["id"] == booked["id"]
    assert len(office.world.appointments) == 1
    async with office.gateway.storage.read() as connection:
        rows = await connection.execute(select(journal.c.outcome).order_by(journal.c.created))
        assert [row.outcome for row in rows] == ["failed", "done"]


async def test_a_client_that_goes_on_before_its_user_is_not_asked_again(office: Office) -> None:
    asked: list[Any] = []

    async def hasty(message: str, response_type: Any, params: Any, context: Any) -> ElicitResult:
        asked.append(params.url)
        return ElicitResult(action="accept")

    async with office.agent(elicitation_handler=hasty) as agent:
        again = await link(agent)
        assert len(asked) == 1
        assert (await office.visit(asked[0])).status_code == 200  # the first link is as good
        assert again != asked[0]
        assert (await agent.list_event_types(account="work"))["event_types"]


# By command


class Vendor:
    """Calendly on two loopback ports."""

    def __init__(self, stack: ExitStack, **quirks: Any) -> None:
        class Later:
            app: ASGIApp

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await self.app(scope, receive, send)

        there, tools = Later(), Later()
        issuer, self.url = stack.enter_context(served(there)), stack.enter_context(served(tools))
        clock = Clock(datetime.now(UTC))
        self.world = World(clock)
        self.consent = AuthorizationServer(clock, issuer, scopes=tuple(METADATA["scopes_supported"]), **quirks)
        there.app = self.consent.app
        tools.app = calendly_mcp.app(
            self.world,
            let_in=lambda token: self.consent.holder(token) is not None,
            metadata=METADATA | {"authorization_servers": [issuer]},
        )


@pytest.fixture
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    with ExitStack() as stack:
        yield Vendor(stack, **getattr(request, "param", {}))


@pytest.fixture
def config(vendor: Vendor, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        "accounts:\n"
        f"  work: {{provider: calendly, via: mcp, url: '{vendor.url}', auth: {{type: oauth}}}}\n"
        "  home: {provider: local, time_zone: Europe/Berlin}\n"
        "storage: {url: 'sqlite:///gateway.db'}\n"
    )
    return path


def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def connecting(config: Path, *arguments: Any, **streams: Any) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command under way, and the address that it printed."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gateway", "connect", "work", "--config", str(config), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--no-browser", *arguments],
        cwd=ROOT,
        stdin=streams.get("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"https?://\S+", line):
                yield process, found[0]
                break
        else:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read())
    finally:
        process.kill()
        process.communicate()


def test_the_command_connects_ends_in_a_check_and_lasts(vendor: Vendor, config: Path) -> None:
    with connecting(config) as (process, address):
        page = httpx2.get(address, follow_redirects=True)
        assert (page.status_code, "Connected" in page.text) == (200, True)
        said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert "work: ready: Calendly, signed in as" in said
    secrets = vendor.consent.tokens()
    assert secrets
    assert all(token not in said + complaint for token in secrets)
    vendor.consent.expire()
    assert "work: ready" in run("check", "--config", config).stdout
    for kept in config.parent.glob("gateway.db*"):
        assert all(token.encode() not in kept.read_bytes() for token in vendor.consent.tokens())
    gone = run("disconnect", "work", "--config", config)
    assert (gone.returncode, "revoked at the service" in gone.stdout) == (0, True)
    assert all(grant.revoked for grant in vendor.consent.grants)
    after = run("check", "--config", config)
    assert (after.returncode, "work: needs connection" in after.stdout) == (1, True)


def test_the_address_may_be_pasted_where_the_browser_is_elsewhere(vendor: Vendor, config: Path) -> None:
    terminal, ours = os.openpty()
    with connecting(config, stdin=ours) as (process, address):
        answer = httpx2.get(address, follow_redirects=False)
        assert answer.is_redirect
        os.write(terminal, f"no address\n{answer.headers['location']}\n".encode())
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, "work: ready" in said) == (0, True)
    os.close(terminal)
    os.close(ours)


@pytest.mark.parametrize("vendor", [{"consents": False}], indirect=True)
def test_a_person_who_declines_ends_the_command(vendor: Vendor, config: Path) -> None:
    with connecting(config) as (process, address):
        assert httpx2.get(address, follow_redirects=True).status_code == 400
        _, complaint = process.communicate(timeout=60)
    assert (process.returncode, "declined" in complaint or "denied" in complaint) == (1, True), complaint


@pytest.mark.parametrize("command", ["connect", "disconnect"])
def test_an_account_that_cannot_be_connected_is_a_mistake_in_usage(
    config: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(command, "wurk", "--config", str(config)) == 2
    assert "the accounts are work, home" in capsys.readouterr().err
    assert typed(command, "home", "--config", str(config)) == 2
    assert "needs no connecting" in capsys.readouterr().err


def test_what_was_pasted_in_vain_is_said(vendor: Vendor, config: Path) -> None:
    terminal, ours = os.openpty()
    with connecting(config, stdin=ours) as (process, address):
        back = httpx2.get(address, follow_redirects=False).headers["location"]
        os.write(terminal, b"http://localhost/callback?state=work.other&code=x\n")
        assert process.stdout is not None
        said = ""
        while "no answer to the sign-in" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        os.write(terminal, f"{back}\n".encode())
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, "work: ready" in said) == (0, True)
    os.close(terminal)
    os.close(ours)


def test_a_consent_that_came_to_nothing_ends_the_command(vendor: Vendor, config: Path) -> None:
    with connecting(config) as (process, address):
        vendor.consent.failures.append(PlainTextResponse("down", 503))
        page = httpx2.get(address, follow_redirects=True)
        assert (page.status_code, "503" in page.text) == (400, True)
        _, complaint = process.communicate(timeout=20)
    assert (process.returncode, "503" in complaint) == (1, True)


def test_ctrl_c_ends_it_at_once(config: Path) -> None:
    terminal, ours = os.openpty()
    with connecting(config, stdin=ours) as (process, _):
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in complaint) == (130, False), complaint
    os.close(terminal)
    os.close(ours)


def test_no_other_account_is_asked(vendor: Vendor, config: Path) -> None:
    with listen("127.0.0.1", 0) as silent:
        slow = f"  slow: {{provider: calcom, base_url: 'http://127.0.0.1:{silent.getsockname()[1]}', "
        before = config.read_text()
        config.write_text(before.replace("storage:", slow + "auth: {type: bearer, token: x}}\nstorage:"))
        with connecting(config) as (process, address):
            httpx2.get(address, follow_redirects=True)
            said, complaint = process.communicate(timeout=60)
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert (process.returncode, "work: ready" in said) == (0, True), complaint


def test_two_at_once_do_not_disturb_each_other(vendor: Vendor, config: Path) -> None:
    with connecting(config) as (one, first), connecting(config) as (two, second):
        for process, address in ((two, second), (one, first)):
            assert httpx2.get(address, follow_redirects=True).status_code == 200
            said, complaint = process.communicate(timeout=60)
            assert (process.returncode, "work: ready" in said) == (0, True), complaint


def test_what_was_not_connected_is_not_said_to_be_revoked(
    vendor: Vendor, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("disconnect", "work", "--config", str(config)) == 0
    assert "was not connected" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_said(config: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At either address: a browser may take `localhost` for both."""
    with listen(address, 0) as taken:
        port = str(taken.getsockname()[1])
        assert typed("connect", "work", "--config", str(config), "--port", port, "--no-browser") == 1
    assert "--port" in capsys.readouterr().err
