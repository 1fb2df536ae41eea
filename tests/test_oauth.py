"""Signing in by OAuth: one consent in the browser, and then no more of them, whatever the weather.

Run as a module (`python -m tests.test_oauth FOLDER URL`), it is one of several processes that share a grant.
"""

import logging
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx2
import pytest
from pydantic import ValidationError
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from providers import Clock, SystemClock
from providers.base import Services
from providers.keys import KeyRing
from providers.oauth import Endpoints, OAuthAuth, OAuthClient, OAuthSignIn, Target, client_document
from providers.storage import Storage
from providers.vault import Vault
from schemas import (
    InvalidRequest,
    NotConnected,
    PermissionDenied,
    ProviderDown,
    RateLimited,
    SchedulingError,
)
from tests import conformance_client, world
from tests.emulators.authorization import AuthorizationServer, Protected, browser, hosts
from tests.emulators.wire import Lost
from tests.loopback import served
from tests.stage import _empty_database

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
SERVER, ISSUER = "https://mcp.test/mcp", "https://auth.test"
BACK = "http://127.0.0.1:8080/oauth/callback"
WEB = "https://gateway.example.com/oauth/callback"
SCOPES = ("scheduling:read", "scheduling:write")
REST = Endpoints(f"{ISSUER}/oauth/authorize", f"{ISSUER}/oauth/token", f"{ISSUER}/oauth/revoke", ISSUER)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"done": True})(scope, receive, send)


class Network:
    """What there is to reach: an authorization server, and one that asks it. Notes the paths; may hold an answer."""

    def __init__(self, server: AuthorizationServer, protected: Protected, **others: ASGIApp) -> None:
        self.paths: list[str] = []
        self.held: dict[str, anyio.Event] = {}
        self.waiting = anyio.Event()
        self._app = hosts({"auth.test": server.app, "mcp.test": protected, **others})
        self.transport = httpx2.ASGITransport(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        if scope["path"] not in self.held:
            await self._app(scope, receive, send)
            return
        answer: list[Message] = []

        async def hold(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, hold)
        self.waiting.set()
        await self.held[scope["path"]].wait()
        for message in answer:
            await send(message)


class Desk:
    """An account and what it signs in to."""

    def __init__(
        self,
        kept: Vault,
        *,
        clock: world.Clock | None = None,
        target: Target | None = None,
        auth: dict[str, Any] | None = None,
        protected: dict[str, Any] | None = None,
        others: dict[str, ASGIApp] | None = None,
        **quirks: Any,
    ) -> None:
        self.vault, self.clock = kept, clock or world.Clock()
        self.target = target or Target(SERVER)
        self.auth = OAuthAuth(type="oauth", **(auth or {}))
        self.server = AuthorizationServer(self.clock, **{"resources": (SERVER, None), **quirks})
        self.protected = Protected(everything, self.server, SERVER, **(protected or {}))
        self.network = Network(self.server, self.protected, **(others or {}))
        self.client = self.another()

    def another(self, account: str = "work", **changes: Any) -> OAuthClient:
        """Another account, or the same one as another process has it."""
        of = {"auth": self.auth, "target": self.target, "vault": self.vault, **changes}
        return OAuthClient(account, **of, clock=self.clock, transport=self.network.transport)

    async def consented(self, client: OAuthClient | None = None, back: str = BACK) -> dict[str, str]:
        """What the browser comes back with."""
        return await browser(await (client or self.client).begin(back), self.network.transport, back)

    async def connected(self) -> "Desk":
        await self.client.finish(await self.consented())
        self.network.paths.clear()
        return self

    async def call(self, client: OAuthClient | None = None) -> Any:
        """Ask the server for something."""
        auth = OAuthSignIn(client or self.client)
        async with httpx2.AsyncClient(transport=self.network.transport, auth=auth) as http:
            return (await http.post(SERVER, json={})).json()

    async def works(self, client: OAuthClient | None = None) -> bool:
        return bool(await self.call(client) == {"done": True})


@asynccontextmanager
async def opened(folder: Path, clock: Clock) -> AsyncIterator[Vault]:
    if not (folder / "gateway.db").exists():
        shutil.copy(_empty_database(), folder / "gateway.db")
    storage = Storage(f"sqlite:///{folder / 'gateway.db'}")
    await storage.open()
    yield Vault(storage, KeyRing(None, folder / "gateway.key"), clock)
    await storage.close()


@pytest.fixture
def clock() -> world.Clock:
    return world.Clock()


@pytest.fixture
async def kept(tmp_path: Path, clock: world.Clock) -> AsyncIterator[Vault]:
    async with opened(tmp_path, clock) as kept:
        yield kept


@pytest.fixture
def desk(kept: Vault, clock: world.Clock) -> Callable[..., Desk]:
    return lambda **quirks: Desk(kept, clock=clock, **quirks)


Made = Callable[..., Desk]


# Signing in.


async def test_one_consent_and_the_account_works(desk: Made) -> None:
    it = desk()
    url = await it.client.begin(BACK)
    answer = await browser(url, it.network.transport, BACK)
    await it.client.finish(answer)
    assert await it.works()
    assert await it.client.is_connected()
    assert await it.client.granted() == SCOPES
    [asked] = it.server.authorized
    assert asked["state"].startswith("work.")
    assert OAuthClient.account_of(asked["state"]) == "work"
    [client] = it.server.clients.values()
    assert asked | {"state": "", "code_challenge": ""} == {
        "response_type": "code",
        "client_id": client["client_id"],
        "redirect_uri": BACK,
        "state": "",
        "code_challenge": "",
        "code_challenge_method": "S256",
        "scope": " ".join(SCOPES),
        "resource": SERVER,
    }
    assert client["client_name"] == "Scheduling gateway"
    [exchanged] = it.server.sent("authorization_code")
    assert exchanged["resource"] == SERVER
    assert "client_secret" not in exchanged


async def test_metadata_is_looked_for_where_the_refusal_says_and_then_by_path(desk: Made) -> None:
    it = desk(protected={"hint": None})
    await it.consented()
    assert it.network.paths[:3] == [
        "/mcp",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
    ]


async def test_a_server_that_lets_anyone_in_for_now_is_signed_in_to_all_the_same(desk: Made) -> None:
    it = desk()
    it.server.holder = lambda token: SCOPES  # type: ignore[method-assign]  # in its place
    await it.client.finish(await it.consented())
    assert await it.client.is_connected()


@pytest.mark.parametrize("issuer", ["https://auth.test", "https://auth.test/", "https://auth.test/tenant/"])
@pytest.mark.parametrize("at", ["oauth", "openid"])
async def test_a_last_slash_tells_no_issuers_apart(desk: Made, issuer: str, at: str) -> None:
    other = issuer.removesuffix("/") if issuer.endswith("/") else f"{issuer}/"
    it = await desk(issuer=issuer, protected={"issuer": other}, at=at).connected()
    assert await it.works()


@pytest.mark.parametrize("issuer", ["https://mcp.test", "https://evil.test"])
async def test_a_server_without_metadata_of_its_own_is_asked_as_an_authorization_server(
    desk: Made, issuer: str
) -> None:
    """The way of the specification of 2025-03-26."""
    it = desk()
    metadata = AuthorizationServer(it.clock, issuer)

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if "protected" in path:
            await PlainTextResponse("none", 404)(scope, receive, send)
        else:
            await (it.protected if path == "/mcp" else metadata.app)(scope, receive, send)

    it.network._app = hosts({"mcp.test": both})
    it.protected.server = metadata
    if issuer == "https://evil.test":
        with pytest.raises(NotConnected, match="another server"):
            await it.client.begin(BACK)
    else:
        await it.client.finish(await it.consented())
        assert await it.works()


async def test_a_resource_is_called_as_its_metadata_does(desk: Made) -> None:
    it = await desk(protected={"named": "https://mcp.test/"}, resources=("https://mcp.test/",)).connected()
    it.clock.advance(3 * HOUR)
    assert await it.works()
    sent = it.server.authorized + it.server.sent("authorization_code") + it.server.sent("refresh_token")
    assert [form["resource"] for form in sent] == ["https://mcp.test/"] * 3


# Which scopes are asked for.


async def test_scopes_of_the_configuration_are_asked_for_alone(desk: Made) -> None:
    it = await desk(auth={"scopes": ["scheduling:read"]}).connected()
    assert it.server.authorized[0]["scope"] == "scheduling:read"
    assert await it.client.granted() == ("scheduling:read",)


async def test_scopes_of_the_target_are_asked_for_where_the_server_says_none(desk: Made) -> None:
    none = {"alter": lambda metadata: {**metadata, "scopes_supported": None}}
    it = await desk(target=Target(SERVER, scopes=("scheduling:read",)), protected=none).connected()
    assert it.server.authorized[0]["scope"] == "scheduling:read"


async def test_where_nobody_says_which_scopes_none_are_asked_for(desk: Made) -> None:
    it = await desk(protected={"alter": lambda metadata: {**metadata, "scopes_supported": None}}).connected()
    assert "scope" not in it.server.authorized[0]
    assert await it.client.granted() == SCOPES


async def test_a_refresh_token_is_asked_for_where_that_is_a_scope(desk: Made) -> None:
    offered = {"alter": lambda metadata: {**metadata, "scopes_supported": [*SCOPES, "offline_access"]}}
    it = await desk(**offered, scopes=(*SCOPES, "offline_access"), protected={}).connected()
    assert it.server.authorized[0]["scope"].split().count("offline_access") == 1


async def test_a_scope_that_is_lacking_is_named_and_asked_for_next_time(desk: Made) -> None:
    narrow = {"alter": lambda metadata: {**metadata, "scopes_supported": ["scheduling:read"]}}
    it = await desk(protected=narrow).connected()
    it.protected.needs = ("scheduling:write",)
    with pytest.raises(PermissionDenied, match=r"scheduling:write.*`scheduling-gateway connect work`") as caught:
        await it.call()
    assert "auth.scopes" not in caught.value.message
    fixed = it.another(auth=OAuthAuth(type="oauth", scopes=("scheduling:read",)))
    with pytest.raises(PermissionDenied, match=r"Add that to the account's `auth\.scopes`"):
        await it.call(fixed)
    await it.connected()
    assert it.server.authorized[-1]["scope"] == "scheduling:read scheduling:write"
    assert await it.works()


# Who we are there.


async def test_one_registration_serves_all_accounts_at_a_server(desk: Made) -> None:
    it = await desk().connected()
    other = it.another("team")
    await other.finish(await it.consented(other))
    assert await it.works(other)
    assert len(it.server.clients) == 1


async def test_accounts_that_begin_at_once_register_once(desk: Made) -> None:
    it = desk()
    async with anyio.create_task_group() as group:
        for account in ("work", "team", "home"):
            group.start_soon(it.another(account).begin, BACK)
    assert len(it.server.clients) == 1


async def test_another_redirect_uri_is_registered_beside_the_first(desk: Made) -> None:
    it = await desk().connected()
    again = BACK.replace("8080", "9090")
    await it.client.finish(await it.consented(back=again))
    await it.consented(back=BACK)
    assert [client["redirect_uris"] for client in it.server.clients.values()] == [[BACK], [again, BACK]]
    await it.consented(back=WEB)
    assert [client["redirect_uris"] for client in it.server.clients.values()][2:] == [[WEB]]


async def test_a_refused_registration_is_told_field_by_field(desk: Made) -> None:
    it = desk()
    with pytest.raises(NotConnected, match=r"redirect_uri: must start with https in Production.*auth\.client_id"):
        await it.client.begin("http://gateway.example.com/callback")


@pytest.mark.parametrize(
    "errors",
    [{"scopes": {"0": ["must be one of: a"]}}, {"scopes": "x" * 100_000}, [], "no", {"deep": {"er": {"est": [{}]}}}],
)
async def test_a_refused_registration_is_told_however_it_is_said(desk: Made, errors: object) -> None:
    it = desk()
    refusal = JSONResponse({"error": "invalid_client_metadata", "errors": errors}, 400)
    it.network._app = _instead(it.network._app, "/oauth/register", refusal)
    with pytest.raises(NotConnected, match="invalid_client_metadata") as raised:
        await it.client.begin(BACK)
    assert len(raised.value.message) < 600


@pytest.mark.parametrize(("registration", "said"), [("refused", "Not for you"), ("none", "client_id.*127.0.0.1:8080")])
async def test_a_server_that_registers_nobody_wants_a_client_made_by_hand(
    desk: Made, registration: str, said: str
) -> None:
    it = desk(registration=registration)
    with pytest.raises(NotConnected, match=said):
        await it.client.begin(BACK)
    it = await desk(registration=registration, clients={"mine": None}, auth={"client_id": "mine"}).connected()
    assert await it.works()


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_client_that_was_given_a_secret_shows_it(desk: Made, method: str) -> None:
    it = await desk(methods=(method,)).connected()
    it.clock.advance(3 * HOUR)
    assert await it.works()
    assert await it.client.disconnect()
    forms = [form for _, form in it.server.asked]
    assert len(forms) == 4
    assert all(("client_secret" in form) == (method == "client_secret_post") for form in forms)


async def test_a_secret_that_has_ended_is_registered_anew(desk: Made) -> None:
    it = await desk(methods=("client_secret_post",), secret_life=HOUR).connected()
    await it.connected()
    assert len(it.server.clients) == 1
    it.clock.advance(HOUR)
    await it.connected()
    assert len(it.server.clients) == 2


async def test_a_client_that_the_server_has_forgotten_is_registered_anew(desk: Made) -> None:
    it = await desk().connected()
    it.server.clients.clear()
    it.clock.advance(3 * HOUR)
    with pytest.raises(NotConnected, match="invalid_client"):
        await it.call()
    await it.connected()
    assert await it.works()


async def test_an_address_of_a_document_is_our_id_where_documents_are_taken(desk: Made) -> None:
    ours = "https://gateway.example.com/oauth/client.json"
    document = client_document(ours, [WEB])
    it = desk(documents={ours: document})
    answer = await browser(await it.client.begin(WEB, document=ours), it.network.transport, WEB)
    await it.client.finish(answer)
    assert await it.works()
    assert it.server.clients == {}
    without = desk()
    assert "client_id=client-1" in await without.client.begin(WEB, document=ours)


# A client of the operator's at a vendor without discovery.


def rest(**other: Any) -> Target:
    return Target(None, REST, **other)


OWN = {"client_id": "own:id", "client_secret": "s3cr+t/&:%41"}


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_vendor_that_is_known_is_not_looked_for(desk: Made, method: Any) -> None:
    it = desk(
        target=Target(None, Endpoints(REST.authorization, REST.token, REST.revocation, ISSUER, method)),
        auth=OWN,
        clients={OWN["client_id"]: OWN["client_secret"]},
        methods=(method,),
    )
    await it.client.finish(await it.consented())
    assert set(it.network.paths) == {"/oauth/authorize", "/oauth/token"}
    assert "resource" not in it.server.authorized[0]
    it.clock.advance(3 * HOUR)
    assert await it.works()
    assert await it.client.disconnect()


async def test_what_a_vendor_wants_besides_goes_into_the_request(desk: Made) -> None:
    extra = {"access_type": "offline", "prompt": "consent"}
    it = desk(target=rest(extra=extra, scopes=SCOPES), auth={"client_id": "own"}, clients={"own": None}, rotates=False)
    await it.client.finish(await it.consented())
    assert it.server.authorized[0].items() >= extra.items()
    for _ in range(3):
        it.clock.advance(3 * HOUR)
        assert await it.works()
    assert len({form["refresh_token"] for form in it.server.sent("refresh_token")}) == 1


async def test_a_vendor_that_takes_no_proof_beside_a_secret_gets_none(desk: Made) -> None:
    known = Endpoints(REST.authorization, REST.token, issuer=ISSUER, pkce_with_secret=False)
    own = {"clients": {OWN["client_id"]: OWN["client_secret"]}, "methods": ("client_secret_post", "none")}
    it = desk(target=Target(None, known), auth=OWN, pkce_with_secret=False, **own)
    await it.client.finish(await it.consented())
    assert "code_challenge" not in it.server.authorized[0]
    public = desk(target=Target(None, known), auth={"client_id": "own"}, clients={"own": None})
    await public.client.finish(await public.consented())
    assert public.server.authorized[0]["code_challenge_method"] == "S256"


async def test_a_known_vendor_of_an_mcp_server_is_signed_in_to_for_it(desk: Made) -> None:
    it = desk(target=Target(SERVER, REST), auth={"client_id": "own"}, clients={"own": None})
    await it.client.finish(await it.consented())
    assert it.server.authorized[0]["resource"] == SERVER
    assert await it.works()


async def test_the_operators_secret_is_read_from_the_configuration_each_time(desk: Made, tmp_path: Path) -> None:
    it = await desk(
        target=rest(), auth=OWN, clients={OWN["client_id"]: OWN["client_secret"]}, methods=("client_secret_post",)
    ).connected()
    assert OWN["client_secret"] not in str(await it.vault.get("grant", "work"))
    it.server.clients[OWN["client_id"]]["client_secret"] = "rolled"
    it.clock.advance(3 * HOUR)
    with pytest.raises(NotConnected, match="invalid_client"):
        await it.client.token()
    rolled = OAuthAuth(type="oauth", client_id=OWN["client_id"], client_secret="rolled")
    assert await it.works(it.another(auth=rolled))


# Tokens.


async def test_after_a_restart_a_call_works_without_a_browser(tmp_path: Path, clock: world.Clock) -> None:
    async with opened(tmp_path, clock) as before:
        it = await Desk(before, clock=clock).connected()
    clock.advance(3 * HOUR)
    async with opened(tmp_path, clock) as after:
        assert await it.works(it.another(vault=after))
    assert it.network.paths == ["/oauth/token", "/mcp"]


async def test_a_token_is_renewed_before_it_ends(desk: Made) -> None:
    it = await desk().connected()
    it.clock.advance(2 * HOUR - 2 * MINUTE)
    assert await it.works()
    assert it.server.sent("refresh_token") == []
    it.clock.advance(MINUTE)
    assert await it.works()
    assert len(it.server.sent("refresh_token")) == 1
    assert len(set(it.protected.seen)) == 2


async def test_a_token_that_lives_for_seconds_is_used_while_it_does(desk: Made) -> None:
    it = await desk(life=30).connected()
    assert await it.works()
    assert it.server.sent("refresh_token") == []


async def test_a_token_that_is_refused_is_renewed_once_and_the_request_is_sent_again(desk: Made) -> None:
    it = await desk(life=None).connected()
    it.server.expire()
    assert await it.works()
    assert len(it.server.sent("refresh_token")) == 1
    assert it.network.paths == ["/mcp", "/oauth/token", "/mcp"]


async def test_a_server_that_refuses_every_token_is_not_connected(desk: Made) -> None:
    it = await desk().connected()
    it.server.holder = lambda token: None  # type: ignore[method-assign]  # in its place
    with pytest.raises(NotConnected, match="also after it was renewed"):
        await it.call()
    assert it.network.paths == ["/mcp", "/oauth/token", "/mcp"]


async def test_without_a_refresh_token_the_end_is_the_end(desk: Made) -> None:
    it = await desk(renews=False).connected()
    assert await it.works()
    it.clock.advance(3 * HOUR)
    assert not await it.client.is_connected()
    with pytest.raises(NotConnected, match="nothing came with it to renew it"):
        await it.call()


async def test_a_consent_that_was_withdrawn_is_not_connected_and_not_asked_again(desk: Made) -> None:
    it = await desk().connected()
    it.server.withdraw()
    with pytest.raises(NotConnected, match="invalid_grant"):
        await it.call()
    assert not await it.client.is_connected()
    with pytest.raises(NotConnected, match="Nobody has signed in"):
        await it.call()
    assert len(it.server.sent("refresh_token")) == 1
    await it.connected()
    assert await it.works()


async def test_many_tasks_renew_once(desk: Made) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    done: list[bool] = []

    async def one(client: OAuthClient) -> None:
        done.append(await it.works(client))

    async with anyio.create_task_group() as group:
        for client in (it.client, it.another()) * 32:
            group.start_soon(one, client)
    assert done == [True] * 64
    assert len(it.server.sent("refresh_token")) == 1


async def test_many_tasks_are_told_of_one_failure(desk: Made) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    it.server.failures.append(PlainTextResponse("down", 503))
    told: list[SchedulingError] = []

    async def one() -> None:
        with pytest.raises(ProviderDown) as raised:
            await it.client.token()
        told.append(raised.value)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(one)
    assert len({id(error) for error in told}) == 8
    assert len(it.server.sent("refresh_token")) == 1
    assert await it.works()


@pytest.mark.parametrize("expired", [True, False], ids=["expired", "refused"])
def test_two_processes_renew_once(tmp_path: Path, expired: bool) -> None:
    """No refresh token is sent twice, and all calls succeed."""
    clock = SystemClock()
    server = AuthorizationServer(clock)
    protected = Protected(everything, server, "")

    async def network(scope: Scope, receive: Receive, send: Send) -> None:
        is_its = scope["path"].startswith("/oauth") or scope["path"].endswith("authorization-server")
        await (server.app if is_its else protected)(scope, receive, send)

    with served(network) as url:
        server.issuer = protected.issuer = url
        protected.named = protected.resource = f"{url}/"
        protected.hint = None

        async def sign_in() -> None:
            past = world.Clock(clock.now() - 3 * HOUR if expired else clock.now())
            async with opened(tmp_path, past) as kept:
                client = OAuthClient("work", OAuthAuth(type="oauth"), Target(f"{url}/"), kept, past, None)
                await client.finish(await browser(await client.begin(BACK), None, BACK))

        anyio.run(sign_in)
        server.expire()
        command = [sys.executable, "-m", "tests.test_oauth", str(tmp_path), f"{url}/"]
        with ExitStack() as stack:
            both = [
                stack.enter_context(
                    subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
                for _ in range(2)
            ]
            for process in both:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in both:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            said = [process.communicate()[0] for process in both]
    assert said == ["32\n", "32\n"]
    assert len(server.sent("refresh_token")) == 1


async def calls(folder: Path, url: str) -> None:
    """32 at once, when told to."""
    clock = SystemClock()
    async with opened(folder, clock) as kept:
        client = OAuthClient("work", OAuthAuth(type="oauth"), Target(url), kept, clock, None)
        async with httpx2.AsyncClient(auth=OAuthSignIn(client)) as http:
            done = 0

            async def one() -> None:
                nonlocal done
                answer = await http.post(url, json={})
                done += answer.json() == {"done": True}

            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await anyio.to_thread.run_sync(sys.stdin.readline)
            async with anyio.create_task_group() as group:
                for _ in range(32):
                    group.start_soon(one)
    sys.stdout.write(f"{done}\n")


class Late:
    """A vault that shows what was there before, the first two times."""

    def __init__(self, kept: Vault, before: dict[str, Any]) -> None:
        self._kept, self._before, self._looks = kept, before, 0

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        self._looks += 1
        return self._before if self._looks < 3 else await self._kept.get(kind, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)


@pytest.mark.parametrize("serves", [True, False])
async def test_a_token_that_another_process_renewed_outside_the_lease_is_kept(desk: Made, serves: bool) -> None:
    """A process that was stopped for longer than a lease holds comes back with a token that is spent."""
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    spent = await it.vault.get("grant", "work")
    assert spent is not None
    await it.client.token()
    newest = await it.vault.get("grant", "work")
    assert newest is not None
    it.server.grants[0].spent.clear()  # lest the server ends the grant, which is not what is looked at here
    late = it.another(vault=Late(it.vault, spent))
    if serves:
        assert await late.token() == newest["access"]
    else:
        it.clock.advance(3 * HOUR)
        with pytest.raises(NotConnected):
            await late.token()
    assert await it.vault.get("grant", "work") == newest
    assert await it.works()


async def test_a_lost_answer_is_tried_again_and_told_when_the_token_is_spent(desk: Made) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    it.server.failures.append(Lost())
    with pytest.raises(ProviderDown, match="try again later"):
        await it.client.token()
    assert await it.client.is_connected()
    with pytest.raises(NotConnected, match=r"invalid_grant.*Connect"):
        await it.client.token()
    assert not await it.client.is_connected()


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (httpx2.ConnectError("no way"), ProviderDown),
        (PlainTextResponse("<html>", 403), ProviderDown),
        (JSONResponse({"error": "temporarily_unavailable"}, 400), ProviderDown),
        (JSONResponse({"error": ["invalid_grant"]}, 400), ProviderDown),
        (JSONResponse([], 200), ProviderDown),
        (JSONResponse({"access_token": "two\nlines", "token_type": "bearer"}, 200), ProviderDown),
        (JSONResponse({"access_token": "t", "token_type": "mac"}, 200), ProviderDown),
        (JSONResponse({"access_token": "t", "and": "x" * 1_000_000}, 200), ProviderDown),
        (PlainTextResponse("", 302, {"location": "https://evil.test/"}), ProviderDown),
        (PlainTextResponse("slow", 429, {"retry-after": "7"}), RateLimited),
        (JSONResponse({"error": "invalid_request"}, 400), NotConnected),
    ],
    ids=lambda value: "",
)
async def test_bad_weather_at_the_token_endpoint_keeps_the_grant(
    desk: Made, failure: Any, error: type[SchedulingError]
) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    it.server.failures.append(failure)
    with pytest.raises(error):
        await it.call()
    assert it.network.paths == ["/oauth/token"]
    assert await it.works()


async def test_who_joins_the_renewal_of_another_process_gets_no_token_that_was_refused(
    desk: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    joined: list[str | None] = []
    renewed, found = it.client._renewed, []

    async def counted(refused: str | None) -> Any:
        joined.append(refused)
        return await renewed(refused)

    async def refused() -> None:
        found.append(await it.client.token(refused="of another process"))

    monkeypatch.setattr(it.client, "_renewed", counted)
    async with anyio.create_task_group() as group, it.vault.lease("grant:work"):
        group.start_soon(it.client.token)
        await until(lambda: len(joined) == 1)
        stored = await it.vault.get("grant", "work")
        assert stored is not None
        theirs = {"access": "of another process", "renew": (it.clock.now() + HOUR).isoformat()}
        await it.vault.put("grant", "work", stored | theirs)
        group.start_soon(refused)
        await until(lambda: len(joined) == 2)
    assert joined == [None, "of another process", "of another process"]
    assert it.server.holder(found[0]) == SCOPES


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await anyio.lowlevel.checkpoint()


async def test_a_caller_who_leaves_does_not_lose_the_new_token(desk: Made) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    answered = it.network.held["/oauth/token"] = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(it.client.token)
        await it.network.waiting.wait()
        group.cancel_scope.cancel()
    answered.set()
    assert await it.works()
    assert len(it.server.sent("refresh_token")) == 1


async def test_a_grant_is_never_used_for_another_address_or_client(desk: Made) -> None:
    it = await desk().connected()
    for changed in (
        it.another(target=Target("https://evil.test/mcp")),
        it.another(auth=OAuthAuth(type="oauth", client_id="another")),
        it.another("team"),
    ):
        assert not await changed.is_connected()
        with pytest.raises(NotConnected):
            await changed.token()
    assert it.network.paths == []
    assert await it.works()


async def test_a_refusal_that_names_no_scope_is_the_callers_to_read(desk: Made) -> None:
    it = await desk().connected()
    it.network._app = _instead(it.network._app, "/mcp", JSONResponse({"message": "not yours"}, 403))
    assert await it.call() == {"message": "not yours"}


async def test_the_configuration_makes_what_signs_an_accounts_requests(desk: Made) -> None:
    it = await desk().connected()

    class Config:
        def target(self) -> Target:
            return it.target

    services = Services(it.clock, it.vault._storage, it.vault, transport=it.network.transport)
    sign_in = it.auth.credentials(services, "work", Config())
    assert await it.works(sign_in.client)
    with pytest.raises(RuntimeError):
        httpx2.Client(auth=sign_in).get(SERVER)


async def test_a_grant_that_no_key_opens_is_not_connected_and_can_be_replaced(
    tmp_path: Path, clock: world.Clock
) -> None:
    async with opened(tmp_path, clock) as kept:
        await Desk(kept, clock=clock).connected()
    (tmp_path / "gateway.key").unlink()
    async with opened(tmp_path, clock) as kept:
        it = Desk(kept, clock=clock)
        assert not await it.client.is_connected()
        with pytest.raises(NotConnected, match="another key"):
            await it.client.token()
        await it.connected()
        assert await it.works()
        await it.client.disconnect()


async def test_what_is_kept_by_another_version_is_not_connected(desk: Made) -> None:
    it = await desk().connected()
    await it.vault.put("grant", "work", {"access": "only"})
    with pytest.raises(NotConnected):
        await it.client.token()
    await it.connected()
    assert await it.works()


# What the browser brings back.


async def test_an_answer_is_taken_once(desk: Made) -> None:
    it = desk()
    answer = await it.consented()
    await it.client.finish(answer)
    with pytest.raises(InvalidRequest, match="finished already"):
        await it.client.finish(answer)
    assert len(it.server.sent("authorization_code")) == 1
    assert await it.works()


@pytest.mark.parametrize("state", ["", "work.forged", None])
async def test_an_answer_to_nothing_that_was_asked_is_not_taken(desk: Made, state: str | None) -> None:
    it = desk()
    answer = await it.consented()
    forged = {"code": answer["code"], "iss": ISSUER} | ({"state": state} if state is not None else {})
    with pytest.raises(InvalidRequest, match="Begin again"):
        await it.client.finish(forged)
    assert it.server.sent("authorization_code") == []
    await it.client.finish(answer)


async def test_an_answer_is_taken_from_whom_it_was_begun_for(desk: Made) -> None:
    it = desk()
    for finish in (
        lambda answer: it.client.finish(answer, holder="somebody else"),
        it.another("team").finish,
        it.another(target=Target("https://other.test/")).finish,
    ):
        with pytest.raises(InvalidRequest):
            await finish(await it.consented())
    assert it.server.sent("authorization_code") == []


async def test_an_answer_after_ten_minutes_is_too_late(desk: Made) -> None:
    it = desk()
    answer = await it.consented()
    it.clock.advance(10 * MINUTE)
    with pytest.raises(InvalidRequest, match="ten minutes"):
        await it.client.finish(answer)


@pytest.mark.parametrize("iss", ["https://evil.test", None])
async def test_an_answer_of_another_server_is_not_taken(desk: Made, iss: str | None) -> None:
    it = desk()
    answer = await it.consented()
    del answer["iss"]
    with pytest.raises(InvalidRequest, match="another server"):
        await it.client.finish(answer | ({"iss": iss} if iss else {}))
    assert it.server.sent("authorization_code") == []


async def test_a_server_that_does_not_name_itself_is_believed(desk: Made) -> None:
    it = await desk(names_itself=False).connected()
    assert await it.works()


async def test_a_vendor_of_which_it_is_not_known_how_it_calls_itself_may_say_so(desk: Made) -> None:
    known = Endpoints(REST.authorization, REST.token)
    it = desk(target=Target(None, known), auth={"client_id": "own"}, clients={"own": None})
    answer = await it.consented()
    assert answer["iss"] == ISSUER
    await it.client.finish(answer)
    assert await it.client.is_connected()


async def test_a_person_who_declines_is_told_so(desk: Made) -> None:
    it = desk(consents=False)
    with pytest.raises(NotConnected, match="declined"):
        await it.client.finish(await it.consented())
    assert not await it.client.is_connected()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"error": "server_error"}, ProviderDown),
        ({"error": "invalid_scope", "error_description": "No \x1b[31msuch\u202e scope"}, NotConnected),
        ({}, NotConnected),
    ],
)
async def test_an_error_that_the_browser_brings_is_told(
    desk: Made, said: dict[str, str], error: type[SchedulingError]
) -> None:
    it = desk()
    answer = await it.consented()
    del answer["code"]
    with pytest.raises(error) as raised:
        await it.client.finish(answer | said)
    assert raised.value.message.isprintable()


async def test_a_code_that_somebody_used_before_brings_nothing(desk: Made) -> None:
    it = desk()
    answer = await it.consented()
    it.server.codes[answer["code"]].until = it.clock.now()
    with pytest.raises(NotConnected, match="invalid_grant"):
        await it.client.finish(answer)
    assert not await it.client.is_connected()


@pytest.mark.parametrize("life", ["3600", 3600.5, None, "soon", -1, 0, [], 10**400, True])
async def test_whatever_an_answer_says_of_its_life_its_tokens_are_kept(desk: Made, life: object) -> None:
    it = desk()
    answer = await it.consented()
    it.server.failures.append(
        JSONResponse({"access_token": "new", "refresh_token": "r", "expires_in": life, "scope": ["a"]}, 200)
    )
    await it.client.finish(answer)
    assert await it.client.token() == "new"
    assert await it.client.granted() == SCOPES


@pytest.mark.parametrize(
    "answer",
    [
        {"client_id": ""},
        {"client_id": "a", "token_endpoint_auth_method": "private_key_jwt"},
        {"client_id": "a", "token_endpoint_auth_method": "client_secret_basic"},
        {"client_id": "a", "client_secret_expires_at": 10**20},
        {},
    ],
)
async def test_a_registration_that_cannot_be_used_is_not_kept(desk: Made, answer: dict[str, Any]) -> None:
    it = desk()
    whole = it.network._app
    it.network._app = _instead(whole, "/oauth/register", JSONResponse(answer, 201))
    with pytest.raises(NotConnected, match="registered this gateway"):
        await it.client.begin(BACK)
    it.network._app = _instead(whole, "/oauth/register", PlainTextResponse("", 503))
    with pytest.raises(ProviderDown):
        await it.client.begin(BACK)
    it.network._app = whole
    await it.connected()


# Metadata that is not to be believed.


def changed(**values: Any) -> dict[str, Any]:
    return {"alter": lambda metadata: {**metadata, **values}}


@pytest.mark.parametrize(
    ("quirks", "said"),
    [
        ({"protected": changed(resource="https://evil.test/mcp")}, "another resource, https://evil.test/mcp"),
        ({"protected": changed(resource="https://mcp.test/other")}, "another resource"),
        ({"protected": changed(authorization_servers=["http://auth.test"])}, "not encrypted"),
        ({"protected": changed(authorization_servers=["http://127.0.0.1:9"])}, "an address of this machine"),
        ({"protected": changed(authorization_servers=["https://localhost:9"])}, "an address of this machine"),
        ({"protected": changed(authorization_servers=["https://me:pw@auth.test"])}, "no plain web address"),
        ({"protected": {"hint": "https://evil.test/metadata"}}, "another host, evil.test"),
        ({"protected": {"hint": "http://mcp.test/metadata"}}, "another host"),
        (changed(issuer="https://evil.test"), "another server, https://evil.test"),
        (changed(issuer="https://auth.test/tenant"), "another server"),
        (changed(authorization_endpoint="http://auth.test/oauth/authorize"), "authorization endpoint.*not encrypted"),
        (changed(token_endpoint="http://auth.test/oauth/token"), "token endpoint.*not encrypted"),
        (changed(token_endpoint="https://127.0.0.2/oauth/token"), "this machine as its token endpoint"),
        (changed(registration_endpoint="http://auth.test/oauth/register"), "registration endpoint.*not encrypted"),
        (changed(revocation_endpoint="http://auth.test/oauth/revoke"), "revocation endpoint.*not encrypted"),
        (changed(code_challenge_methods_supported=["plain"]), "S256"),
        (changed(token_endpoint_auth_methods_supported=["private_key_jwt"]), "not built"),
    ],
)
async def test_metadata_that_leads_astray_is_not_followed(desk: Made, quirks: dict[str, Any], said: str) -> None:
    it = desk(**quirks)
    with pytest.raises(NotConnected, match=said):
        await it.client.begin(BACK)
    assert it.server.clients == {}


@pytest.mark.parametrize(
    "host",
    [
        *("localhost.", "a.localhost", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"),  # noqa: S104 - it is refused
        *("169.254.169.254", "[fe80::1]"),
    ],
)
async def test_a_server_elsewhere_names_no_address_of_this_machine_however_it_is_written(desk: Made, host: str) -> None:
    for endpoint in ("token_endpoint", "registration_endpoint", "revocation_endpoint"):
        it = desk(**changed(**{endpoint: f"https://{host}/oauth"}))
        with pytest.raises(NotConnected, match=r"this machine|no plain web address|does not say"):
            await it.client.begin(BACK)


async def test_endpoints_of_another_host_are_its_own_business(desk: Made) -> None:
    it = desk(others={}, **changed(token_endpoint="https://token.test/oauth/token"))
    it.network._app = hosts({"mcp.test": it.protected, "auth.test": it.server.app, "token.test": it.server.app})
    await it.connected()
    assert await it.works()


@pytest.mark.parametrize("target", [Target("http://mcp.test/mcp"), Target(None, Endpoints("http://a.test", "", None))])
async def test_nobody_signs_in_where_it_is_not_encrypted(desk: Made, target: Target) -> None:
    it = desk(target=target)
    with pytest.raises(NotConnected):
        await it.client.begin(BACK)
    assert it.network.paths == []


async def test_a_server_that_says_nothing_of_signing_in_cannot_be_signed_in_to(desk: Made) -> None:
    it = desk(others={})
    it.network._app = hosts({"mcp.test": PlainTextResponse("none", 404)})
    with pytest.raises(NotConnected, match="does not say how to sign in"):
        await it.client.begin(BACK)


@pytest.mark.parametrize("path", ["oauth-protected-resource/mcp", "oauth-authorization-server"])
async def test_a_server_that_is_down_is_asked_later(desk: Made, path: str) -> None:
    it = desk()
    whole = it.network._app
    it.network._app = _instead(whole, f"/.well-known/{path}", PlainTextResponse("", 502))
    with pytest.raises(ProviderDown):
        await it.client.begin(BACK)
    it.network._app = whole
    await it.connected()


async def test_metadata_that_is_none_is_looked_for_elsewhere(desk: Made) -> None:
    it = desk(protected={"hint": "https://mcp.test/nonsense"})
    it.network._app = _instead(it.network._app, "/nonsense", JSONResponse({"resource": 1}))
    await it.connected()
    assert await it.works()


# The end of it.


async def test_whoever_disconnects_is_forgotten_here_and_there(desk: Made) -> None:
    it = await desk().connected()
    assert await it.client.disconnect()
    assert it.server.grants[0].revoked
    assert [form["token_type_hint"] for form in it.server.sent("revoke")] == ["refresh_token", "access_token"]
    assert await it.vault.get("grant", "work") is None
    assert not await it.client.is_connected()
    assert not await it.client.disconnect()


async def test_half_a_revocation_is_one(desk: Made) -> None:
    it = await desk().connected()
    whole, asked = it.network._app, []

    async def once(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        if len(asked) > 1:
            raise httpx2.ConnectError("no way")
        await whole(scope, receive, send)

    it.network._app = once
    assert await it.client.disconnect()
    assert it.server.grants[0].revoked


@pytest.mark.parametrize("renewed", [True, False])
async def test_what_is_disconnected_amid_a_renewal_stays_so(desk: Made, renewed: bool) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    answered = it.network.held["/oauth/token"] = anyio.Event()
    it.server.failures.extend([] if renewed else [PlainTextResponse("down", 503)])
    async with anyio.create_task_group() as group:
        group.start_soon(_whatever, it.client.token)
        await it.network.waiting.wait()
        group.start_soon(it.another().disconnect)
        await anyio.wait_all_tasks_blocked()
        answered.set()
    assert await it.vault.get("grant", "work") is None
    assert it.server.grants[0].revoked
    with pytest.raises(NotConnected):
        await it.client.token()


async def test_a_consent_amid_a_renewal_of_another_process_is_what_stays(desk: Made) -> None:
    it = await desk().connected()
    it.clock.advance(3 * HOUR)
    answer = await it.consented()
    answered = it.network.held["/oauth/token"] = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(it.another().token)
        await it.network.waiting.wait()
        group.start_soon(it.client.finish, answer)
        await anyio.wait_all_tasks_blocked()
        answered.set()
    stored = await it.vault.get("grant", "work")
    assert stored is not None
    assert stored["access"] in it.server.grants[1].access
    assert await it.works()


async def _whatever(work: Callable[[], Any]) -> None:
    with suppress(SchedulingError):
        await work()


@pytest.mark.parametrize("weather", ["no endpoint", "down", "refused"])
async def test_who_cannot_be_told_is_forgotten_all_the_same(desk: Made, weather: str) -> None:
    it = await desk(revocation=weather != "no endpoint").connected()
    if weather == "down":
        it.network._app = hosts({})
    if weather == "refused":
        it.server.clients.clear()
    assert not await it.client.disconnect()
    assert not await it.client.is_connected()


# Secrets.


async def test_no_secret_is_in_an_error_a_log_or_an_address(
    desk: Made, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    it = desk(
        target=rest(), auth=OWN, clients={OWN["client_id"]: OWN["client_secret"]}, methods=("client_secret_post",)
    )
    url = await it.client.begin(BACK)
    answer = await browser(url, it.network.transport, BACK)
    told = []
    server = it.server.app

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"].decode()
        said = {"error": "invalid_grant", "error_description": f"no: {body} {httpx2.QueryParams(body)}"}
        await JSONResponse(said, 400)(scope, receive, send)

    it.network._app = _instead(it.network._app, "/oauth/token", echo)
    with pytest.raises(NotConnected) as raised:
        await it.client.finish(answer)
    told.append(raised.value)
    it.network._app = hosts({"auth.test": server, "mcp.test": it.protected})
    await it.connected()
    [grant] = it.server.grants
    secrets = [OWN["client_secret"], grant.refresh, *grant.access, answer["code"], answer["state"]]
    it.network._app = _instead(it.network._app, "/oauth/token", echo)
    it.clock.advance(3 * HOUR)
    with pytest.raises(NotConnected) as raised:
        await it.call()
    told.append(raised.value)
    shown = "".join(repr(error) + "".join(traceback.format_exception(error)) for error in told)
    shown += repr(it.client) + repr(it.auth)
    # What the browser asked for is logged by the test's own browser.
    shown += "".join(line for line in caplog.text.splitlines() if "/oauth/authorize" not in line)
    assert "invalid_grant" in shown
    for secret in secrets:
        assert secret
        assert secret not in shown
        assert quote(secret, safe="") not in shown
        assert secret not in url.replace(answer["state"], "") or secret == answer["state"]
    stored = b"".join([(tmp_path / name).read_bytes() for name in ("gateway.db", "gateway.db-wal")])
    assert not [secret for secret in secrets if secret and secret.encode() in stored]


@pytest.mark.parametrize(
    "auth",
    [
        {"client_secret": "without-an-id"},
        {"client_id": " "},
        {"client_id": "a", "client_secret": "two\nlines"},
        {"scopes": ["a b"]},
        {"scopes": [""]},
        {"client_id": "a", "tenant": "x"},
    ],
)
def test_a_sign_in_that_cannot_be_meant_is_refused(auth: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        OAuthAuth(type="oauth", **auth)
    assert "two\nlines" not in str(raised.value.errors(include_input=False))


def test_the_readme_names_every_scenario_of_the_conformance_suite() -> None:
    named = re.findall(r"`([\w-]+)`", (ROOT / "tests" / "README.md").read_text(encoding="utf-8"))
    assert {*conformance_client.SCENARIOS, *conformance_client.NOT_OURS} <= set(named)


def _instead(app: ASGIApp, path: str, answer: ASGIApp) -> ASGIApp:
    """`app`, with something else at that path."""

    async def changed(scope: Scope, receive: Receive, send: Send) -> None:
        await (answer if scope["path"] == path else app)(scope, receive, send)

    return changed


if __name__ == "__main__":
    anyio.run(calls, Path(sys.argv[1]), sys.argv[2])
