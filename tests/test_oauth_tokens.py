"""The tokens of an account: renewed in time and once, whatever the weather and whoever else renews them.

Run as a module (`python -m tests.test_oauth_tokens FOLDER URL`), it is one of several processes that share a grant.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from providers import SystemClock
from providers.base import Services
from providers.oauth import OAuthAuth, OAuthClient, OAuthSignIn, Target
from providers.vault import Vault
from schemas import NotConnected, ProviderDown, RateLimited, SchedulingError
from tests import oauth_desk, world
from tests.emulators.authorization import AuthorizationServer, Protected, browser
from tests.emulators.wire import Lost
from tests.loopback import served
from tests.oauth_desk import BACK, HOUR, MINUTE, SCOPES, SERVER, Desk, Made, everything, instead
from tests.vault_desk import at_once, opened, say, started

pytestmark = pytest.mark.anyio
clock, kept, desk = oauth_desk.clock, oauth_desk.kept, oauth_desk.desk


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
        ended = at_once(2, "tests.test_oauth_tokens", str(tmp_path), f"{url}/")
    assert ended == [("32\n", 0)] * 2
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

            await anyio.to_thread.run_sync(started)
            async with anyio.create_task_group() as group:
                for _ in range(32):
                    group.start_soon(one)
    say(str(done))


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
    it.network._app = instead(it.network._app, "/mcp", JSONResponse({"message": "not yours"}, 403))
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


if __name__ == "__main__":
    anyio.run(calls, Path(sys.argv[1]), sys.argv[2])
