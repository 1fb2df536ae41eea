"""Signing in by OAuth: one consent in the browser, what it brings back, how it ends, and that no secret shows."""

import logging
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import pytest
from pydantic import ValidationError
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from providers.oauth import Endpoints, OAuthAuth, OAuthClient, Target
from schemas import InvalidRequest, NotConnected, ProviderDown, SchedulingError
from tests import conformance_client, oauth_desk
from tests.emulators.authorization import browser, hosts
from tests.oauth_desk import BACK, HOUR, ISSUER, MINUTE, OWN, REST, ROOT, SCOPES, SERVER, Made, instead, rest

pytestmark = pytest.mark.anyio
clock, kept, desk = oauth_desk.clock, oauth_desk.kept, oauth_desk.desk


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

    it.network._app = instead(it.network._app, "/oauth/token", echo)
    with pytest.raises(NotConnected) as raised:
        await it.client.finish(answer)
    told.append(raised.value)
    it.network._app = hosts({"auth.test": server, "mcp.test": it.protected})
    await it.connected()
    [grant] = it.server.grants
    secrets = [OWN["client_secret"], grant.refresh, *grant.access, answer["code"], answer["state"]]
    it.network._app = instead(it.network._app, "/oauth/token", echo)
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
