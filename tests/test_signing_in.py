"""Clients sign in: they register here, their person signs in at a provider, and what they get opens this gateway."""

import base64
import hashlib
import json
import logging
import re
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.auth import OAuth
from fastmcp.server.auth import cimd
from mcp.client.auth import AuthorizationCodeResult
from pydantic import ValidationError
from sqlalchemy import func, select
from starlette.responses import JSONResponse

from gateway import signing_in
from gateway.config import ConfigError
from gateway.door import at_door
from gateway.server_config import OAuthAuth, ServerConfig
from gateway.signing_in import signing_key
from gateway.vault_store import VaultStore
from providers.oauth.id_token import Untrue
from providers.oauth.openid import OpenId
from providers.storage.tables import vault
from schemas import ProviderDown, RateLimited
from tests import sign_in_stage
from tests.emulators.identity import ANA, BEN, CLIENT, SECRET, IdentityProvider, key
from tests.loopback import served
from tests.postgres import on_sqlite
from tests.sign_in_stage import CALLBACK, Browser, House, Program, Served

pytestmark = pytest.mark.anyio
identity, house = sign_in_stage.identity, sign_in_stage.house

OTHER = key("other")


class SigningIn(OAuth):
    """FastMCP's own client, whose person has a browser."""

    async def redirect_handler(self, authorization_url: str) -> None:
        async with Browser() as browser:
            self.answer = await browser.consents(authorization_url, until=str(self._redirect()))

    async def callback_handler(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=self.answer["code"], state=self.answer.get("state"), iss=self.answer.get("iss")
        )

    def _redirect(self) -> str:
        uris = self.context.client_metadata.redirect_uris
        assert uris
        return str(uris[0])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_registers_signs_its_person_in_and_calls(house: House, mode: Any) -> None:
    async with AsyncExitStack() as open:
        at = await open.enter_async_context(house.open())
        signing_in = SigningIn(f"{at.url}/mcp", token_storage=VaultStore(at.gateway.vault, house.clock))
        client = await open.enter_async_context(Client(f"{at.url}/mcp", auth=signing_in, mode=mode))
        assert "find_slots" in {tool.name for tool in await client.list_tools()}
        assert (await client.call_tool("who")).structured_content == {
            "claims": {"iss": house.identity.issuer, **ANA},
            "subject": "ana-1",
        }


async def test_what_a_client_may_find_out_before_it_signs_in(house: House) -> None:
    async with house.open() as at, Program(at.url) as program:
        refusal = await program.calls(None)
        assert refusal.status_code == 401
        where = re.search(r'resource_metadata="([^"]+)"', refusal.headers["www-authenticate"])
        assert where
        assert where[1] == f"{at.url}/.well-known/oauth-protected-resource/mcp"
        resource = (await program.http.get(where[1])).json()
        assert resource["resource"] == f"{at.url}/mcp"
        assert resource["authorization_servers"] == [f"{at.url}/"]
        server = (await program.http.get(f"{at.url}/.well-known/oauth-authorization-server")).json()
        assert server["client_id_metadata_document_supported"] is True
        assert server["authorization_response_iss_parameter_supported"] is True
        assert "none" in server["token_endpoint_auth_methods_supported"]
        assert server["code_challenge_methods_supported"] == ["S256"]


@pytest.mark.parametrize("token", ["nonsense", "a.b.c"])
async def test_a_wrong_token_is_refused_with_where_to_get_a_right_one(house: House, token: str) -> None:
    async with house.open() as at, Program(at.url) as program:
        refusal = await program.calls(token)
        assert refusal.status_code == 401
        assert "resource_metadata=" in refusal.headers["www-authenticate"]


async def test_a_token_of_the_provider_s_own_is_none_of_ours(house: House) -> None:
    async with house.open() as at, Program(at.url) as program:
        await program.signs_in()
        for token in house.identity.tokens:
            assert (await program.calls(token)).status_code == 401


async def test_the_provider_is_asked_for_what_the_operator_wants_to_know_whatever_a_client_asks_for(
    house: House,
) -> None:
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers(scope="openid offline_access")
        answer = await browser.consents(program.address(scope="openid"))
        assert (await program.exchanges(answer["code"])).json()["scope"] == "openid"
        (asked,) = house.identity.asked
        assert asked["scope"] == "openid email profile offline_access"
        assert asked["redirect_uri"] == f"{at.url}/auth/callback"
        assert "resource" not in asked


async def test_scopes_that_are_configured_are_asked_for_as_they_are(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, scopes=["openid", "email"])
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        assert house.identity.asked[0]["scope"] == "openid email"
        who = await program.calls(tokens["access_token"])
        assert who["claims"] == {"iss": identity.issuer, **{name: ANA[name] for name in ANA if name != "groups"}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"email_verified": "true"}, {"email_verified": True}),
        ({"email_verified": "false"}, {"email_verified": False}),
        ({"email_verified": None}, {"email_verified": False}),
        ({"groups": "staff"}, {"groups": ["staff"]}),
        ({"groups": ["staff", 7]}, {"groups": ["staff"]}),
    ],
)
async def test_what_providers_say_in_their_own_ways_is_told_in_one(
    house: House, given: dict[str, Any], told: dict[str, Any]
) -> None:
    house.identity.person = ANA | given
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        assert (await program.calls(tokens["access_token"]))["claims"] == {"iss": house.identity.issuer, **ANA, **told}


# Who is refused


@pytest.mark.parametrize(
    "uri", ["https://evil.test/callback", "http://localhost.evil.test/", "https://claude.ai.evil.test/", "javascript:x"]
)
async def test_a_client_that_wants_its_answer_sent_elsewhere_is_not_registered(house: House, uri: str) -> None:
    async with house.open() as at, Program(at.url) as program:
        assert (await program.registers(uri)).status_code == 400


async def test_an_answer_goes_nowhere_but_where_its_client_registered(house: House) -> None:
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers()
        for uri in ("https://evil.test/", "http://localhost:33418/another", "https://claude.ai/api/mcp/auth_callback"):
            answer = await browser.client.get(program.address(redirect_uri=uri))
            assert answer.status_code == 400
            assert "location" not in answer.headers
        # Programs are given another port of their machine each time (RFC 8252, 7.3).
        assert (await browser.client.get(program.address(redirect_uri=CALLBACK.replace("33418", "4")))).is_redirect


async def test_a_client_that_was_given_our_id_at_the_provider_need_not_register(house: House) -> None:
    """Some have people type it in."""
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        program.id = CLIENT
        answer = await browser.consents(program.address())
        tokens = (await program.exchanges(answer["code"])).json()
        assert (await program.calls(tokens["access_token"]))["subject"] == "ana-1"
        evil = await browser.client.get(program.address(redirect_uri="https://evil.test/"))
        assert evil.status_code == 400


async def test_the_operators_own_list_of_addresses_holds(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, redirect_uris=["https://app.example.com/*"])
    async with house.open() as at, Program(at.url) as program:
        assert (await program.registers()).status_code == 400
        assert (await program.registers("https://app.example.com/back")).status_code == 201
    house.auth["redirect_uris"] = ["https://other.example.com/*"]
    async with house.open(at.url) as at, Browser() as browser:
        program.url = at.url
        answer = await browser.client.get(program.address(redirect_uri="https://app.example.com/back"))
        assert answer.status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "192.168.1.1"])
async def test_a_client_document_on_this_machine_or_its_network_is_not_fetched(house: House, host: str) -> None:
    asked: list[str] = []

    async def document(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await JSONResponse({})(scope, receive, send)

    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        with served(document) as there:
            port = there.rpartition(":")[2]
            program.id = f"https://{host}:{port}/client.json"
            answer = await browser.client.get(program.address())
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert asked == []


async def test_a_client_with_a_document_needs_no_registration(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the fetching, which takes https and a public address."""
    url = "https://client.example.com/client.json"
    document = {"client_id": url, "client_name": "By document", "redirect_uris": [CALLBACK]}
    said = {**document, "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none"}

    async def fetched(self: Any, address: str) -> cimd.CIMDDocument:
        assert address == url
        return cimd.CIMDDocument.model_validate(said)

    monkeypatch.setattr(cimd.CIMDFetcher, "fetch", fetched)
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        program.id = url
        answer = await browser.consents(program.address())
        tokens = (await program.exchanges(answer["code"])).json()
        assert (await program.calls(tokens["access_token"]))["subject"] == "ana-1"
        evil = await browser.client.get(program.address(redirect_uri="http://localhost:1/elsewhere"))
        assert evil.status_code == 400


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param({"aud": "another-client"}, id="another audience"),
        pytest.param({"aud": [CLIENT, "another-client"]}, id="shared audience"),
        pytest.param({"azp": "another-client"}, id="made for another party"),
        pytest.param({"iss": "https://evil.test"}, id="another issuer"),
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"exp": None}, id="without end"),
        pytest.param({"iat": 4_000_000_000}, id="from the future"),
        pytest.param({"sub": ""}, id="about nobody"),
        pytest.param({"sub": "x" * 256}, id="about somebody too long"),
    ],
)
async def test_an_id_token_that_proves_nothing_signs_nobody_in(house: House, alter: dict[str, Any]) -> None:
    house.identity.alter = lambda claims: claims | alter
    await _is_not_let_in(house)


async def test_an_id_token_that_another_key_signed_signs_nobody_in(house: House) -> None:
    house.identity.named, house.identity.keys = house.identity.keys, [OTHER]
    await _is_not_let_in(house)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256", "crit": ["b64"], "b64": True}])
async def test_an_id_token_is_taken_with_its_issuers_signature_alone(house: House, header: dict[str, Any]) -> None:
    gateway = house.gateway()
    assert isinstance(gateway.config.server.auth, OAuthAuth)
    tokens = (await OpenId(gateway.config.server.auth, house.clock).known()).tokens
    good = house.identity.id_token(ANA, ("openid",), None)
    assert (await tokens.person(good)).claims["sub"] == "ana-1"
    _, payload, signature = good.split(".")
    head = base64.urlsafe_b64encode(json.dumps({"kid": "first", **header}).encode()).decode().rstrip("=")
    hmac = base64.urlsafe_b64encode(hashlib.sha256(SECRET.encode()).digest()).decode().rstrip("=")
    signed = [f"{head}.{payload}.{each}" for each in (signature, hmac, "")]
    for bad in (*signed, "..", "no token", "", f"{good}x", good.replace(".", "", 1)):
        with pytest.raises(Untrue):
            await tokens.person(bad)


async def test_a_key_that_the_provider_made_since_is_found(house: House) -> None:
    async with house.open() as at, Program(at.url) as program:
        await program.signs_in()
        house.identity.keys = [OTHER, *house.identity.keys]
        house.clock.advance(timedelta(minutes=1))
        tokens = await program.signs_in()
        assert (await program.calls(tokens["access_token"]))["subject"] == "ana-1"


async def test_who_declines_at_the_provider_is_not_signed_in_and_the_client_is_told(house: House) -> None:
    house.identity.consents = False
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers()
        answer = await browser.consents(program.address())
        assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "the-state", f"{at.url}/")


async def test_the_page_that_asks_says_who_and_where_to_and_asks_no_other_host(house: House) -> None:
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers(client_name="<script>alert(1)</script>")
        page = await browser.open(program.address())
        assert isinstance(page, httpx2.Response)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "<script>" not in page.text
        assert CALLBACK in page.text
        assert page.headers["x-frame-options"] == "DENY"
        (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]+)"', page.text)
        assert "http" not in policy


async def test_who_declines_on_our_page_never_gets_to_the_provider(house: House) -> None:
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers()
        answer = await browser.consents(program.address(), action="deny")
        assert answer["error"] == "access_denied"
        assert house.identity.asked == []


async def test_a_browser_that_was_not_asked_here_cannot_finish_what_another_began(house: House) -> None:
    async with house.open() as at, Program(at.url) as program, Browser() as mine, Browser() as victims:
        await program.registers()
        page = await mine.open(program.address())
        assert isinstance(page, httpx2.Response)
        sent = await mine.sent(page, action="approve")
        stopped = await victims.open(sent.headers["location"], until=CALLBACK)
        assert isinstance(stopped, httpx2.Response)
        assert stopped.status_code == 403


async def test_a_code_is_good_once_and_for_who_began(house: House) -> None:
    async with house.open() as at, Program(at.url) as program, Program(at.url) as other, Browser() as browser:
        await program.registers()
        await other.registers()
        answer = await browser.consents(program.address())
        assert (await other.exchanges(answer["code"])).status_code == 401
        assert (await program.exchanges(answer["code"])).status_code == 200
        assert (await program.exchanges(answer["code"])).status_code == 401


async def test_clients_register_at_a_bounded_rate(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_in, "REGISTRATIONS", 5)
    async with house.open() as at, Program(at.url) as program:
        answers = [(await program.registers()).status_code for _ in range(6)]
        assert answers == [201] * 5 + [429]
        house.clock.advance(timedelta(minutes=1))
        assert (await program.registers()).status_code == 201


@pytest.mark.parametrize("step", ["authorize", "consent"])
async def test_people_are_sent_to_sign_in_at_a_bounded_rate(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(signing_in, "SIGN_INS", 5)
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers()
        address = program.address() if step == "authorize" else f"{at.url}/consent?txn_id=x"
        answers = [(await browser.client.get(address)).status_code for _ in range(6)]
        assert 429 not in answers[:5]
        assert answers[5] == 429
        house.clock.advance(timedelta(minutes=1))
        assert (await browser.client.get(address)).status_code == answers[0]


@pytest.mark.parametrize(
    "said",
    [
        {"client_name": "x" * 5000},
        {"client_name": "x" * 900_000},
        {"redirect_uris": [f"http://localhost:{n}/x" for n in range(21)]},
        {"redirect_uris": [f"http://localhost:{n}/x" for n in range(25_000)]},
    ],
    ids=["a long name", "a far too long name", "many addresses", "far too many addresses"],
)
async def test_a_client_that_says_too_much_of_itself_is_not_kept(house: House, said: dict[str, Any]) -> None:
    async with house.open() as at, Program(at.url) as program:
        before = await _rows(at)
        assert (await program.registers(**said)).status_code in (400, 413)
        assert await _rows(at) == before
        few = [f"http://localhost:{n}/x" for n in range(20)]
        assert (await program.registers(redirect_uris=few, client_name="x" * 2000)).status_code == 201


@pytest.mark.parametrize("length", [5000, 900_000])
async def test_a_sign_in_with_too_long_a_state_is_not_kept(house: House, length: int) -> None:
    async with house.open() as at, Program(at.url) as program:
        await program.registers()
        before = await _rows(at)
        asked = dict(parse_qsl(urlsplit(program.address()).query)) | {"state": "x" * length}
        answer = await program.http.post(f"{at.url}/authorize", data=asked)
        assert "/consent" not in answer.headers.get("location", "")
        assert await _rows(at) == before
        assert "/consent" in (await program.http.get(program.address(state="x" * 2000))).headers["location"]


# Renewing


async def test_a_renewal_brings_new_tokens_and_what_the_provider_says_by_now(house: House) -> None:
    async with house.open() as at, Program(at.url) as program:
        first = await program.signs_in()
        house.identity.person = ANA | {"groups": ["board"]}
        house.clock.advance(timedelta(minutes=1))
        second = (await program.renews(first["refresh_token"])).json()
        who = await program.calls(second["access_token"])
        assert who["claims"]["groups"] == ["board"]
        assert (await program.renews(first["refresh_token"])).status_code == 401


async def test_a_sign_in_that_is_about_to_end_is_renewed_while_a_client_calls(house: House) -> None:
    house.identity.life = 5
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        assert tokens["expires_in"] == 24 * 3600
        house.identity.life = 3600
        house.identity.person = ANA | {"groups": ["board"]}
        house.clock.advance(timedelta(minutes=5))  # what was signed has expired by our clock too
        assert (await program.calls(tokens["access_token"]))["claims"]["groups"] == ["board"]
        assert house.identity.renewals == 1


async def test_of_many_calls_at_two_gateways_one_renews(house: House) -> None:
    """A provider takes a refresh token that comes twice for a stolen one."""
    house.identity.life = 5
    async with house.open() as at, house.open(at.url) as beside, Program(at.url) as program:
        tokens = await program.signs_in()
        house.identity.life = 3600
        house.clock.advance(timedelta(minutes=5))
        answers: list[Any] = []

        async def call(url: str) -> None:
            answers.append(await program.calls(tokens["access_token"], url=url))

        async with anyio.create_task_group() as tasks:
            for url in (at.url, beside.url) * 4:
                tasks.start_soon(call, url)
        assert {answer["subject"] for answer in answers} == {"ana-1"}
        assert house.identity.renewals == 1


async def test_where_a_renewal_does_not_say_who_it_is_the_sign_in_is_over(house: House) -> None:
    house.identity.renews = False
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        assert (await program.calls(tokens["access_token"]))["subject"] == "ana-1"
        house.clock.advance(timedelta(hours=2))
        assert (await program.calls(tokens["access_token"])).status_code == 401
        renewal = await program.renews(tokens["refresh_token"])
        assert (renewal.status_code, renewal.json()["error"]) == (401, "invalid_grant")


async def test_who_is_no_longer_welcome_at_the_provider_is_not_here_either(house: House) -> None:
    house.identity.life = 5
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        house.identity.end()
        house.clock.advance(timedelta(minutes=5))
        assert (await program.calls(tokens["access_token"])).status_code == 401
        assert (await program.renews(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_provider_that_is_down_ends_no_sign_in(house: House) -> None:
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        house.identity.failures.append(JSONResponse({}, 503))
        assert (await program.renews(tokens["refresh_token"])).status_code == 503
        assert (await program.renews(tokens["refresh_token"])).status_code == 200


async def test_a_provider_that_is_down_while_a_client_calls_ends_no_sign_in(house: House) -> None:
    house.identity.life = 5
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        house.identity.life = 3600
        house.clock.advance(timedelta(minutes=5))
        house.identity.failures.append(JSONResponse({}, 503))
        assert (await program.calls(tokens["access_token"])).status_code == 503
        assert (await program.calls(tokens["access_token"]))["subject"] == "ana-1"


@pytest.mark.parametrize("status", [503, 429])
async def test_keys_that_were_named_hold_for_a_day_while_the_provider_names_none(house: House, status: int) -> None:
    house.identity.life = 2 * 86400
    gateway = house.gateway()
    assert isinstance(gateway.config.server.auth, OAuthAuth)
    tokens = (await OpenId(gateway.config.server.auth, house.clock).known()).tokens
    good = house.identity.id_token(ANA, ("openid",), None)
    assert (await tokens.person(good)).claims["sub"] == "ana-1"
    house.identity.no_keys = JSONResponse({}, status)
    house.clock.advance(timedelta(hours=23))
    assert (await tokens.person(good)).claims["sub"] == "ana-1"
    house.clock.advance(timedelta(hours=1))
    with pytest.raises((ProviderDown, RateLimited)):
        await tokens.person(good)
    house.identity.no_keys = None
    house.clock.advance(timedelta(minutes=1))
    assert (await tokens.person(good)).claims["sub"] == "ana-1"


async def test_where_it_is_not_known_who_signed_a_token_its_client_is_not_turned_away(house: House) -> None:
    async with AsyncExitStack() as first, Program("") as program:
        at = await first.enter_async_context(house.open())
        program.url = at.url
        tokens = await program.signs_in()
        house.identity.no_keys = JSONResponse({}, 503)
        async with house.open(at.url) as beside:
            assert (await program.calls(tokens["access_token"], url=beside.url)).status_code == 503


async def test_of_many_calls_that_want_the_keys_one_asks_for_them(house: House) -> None:
    house.identity.life = 86400
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        for keys in (JSONResponse({}, 503), None):
            house.identity.no_keys = keys
            house.clock.advance(timedelta(hours=2))
            before, answers = house.identity.named_keys, list[Any]()

            async def call(answers: list[Any] = answers) -> None:
                answers.append(await program.calls(tokens["access_token"]))

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(call)
            assert {answer["subject"] for answer in answers} == {"ana-1"}
            assert house.identity.named_keys == before + 1


async def test_a_database_that_is_down_ends_no_sign_in(house: House) -> None:
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        await _changes(at, "ALTER TABLE vault RENAME TO gone")
        refused = await program.calls(tokens["access_token"])
        assert (refused.status_code, "database" in refused.json()["error"]) == (503, True)
        assert (await program.calls("nonsense")).status_code == 401
        await _changes(at, "ALTER TABLE gone RENAME TO vault")
        assert (await program.calls(tokens["access_token"]))["subject"] == "ana-1"


# Several processes


async def test_a_token_is_good_after_a_restart_and_at_another_gateway_on_the_database(
    house: House, database: str
) -> None:
    async with AsyncExitStack() as first, Program("") as program:
        at = await first.enter_async_context(house.open())
        program.url = at.url
        tokens = await program.signs_in()
        async with house.open(at.url) as beside:
            assert (await program.calls(tokens["access_token"], url=beside.url))["subject"] == "ana-1"
        await first.aclose()
        async with house.open(at.url) as again:
            assert (await program.calls(tokens["access_token"], url=again.url))["subject"] == "ana-1"


async def test_every_step_of_a_sign_in_may_be_at_another_gateway(house: House, database: str) -> None:
    async with house.open() as at, house.open(at.url) as beside, Program(at.url) as program, Browser() as browser:
        await program.registers()
        elsewhere = program.address().replace(at.url, beside.url, 1)
        sent = await browser.client.get(elsewhere)
        page = await browser.client.get(sent.headers["location"])
        assert page.url.port == httpx2.URL(at.url).port
        answer = await browser.submit(page, CALLBACK, action="approve")
        program.url = beside.url
        tokens = (await program.exchanges(answer["code"])).json()
        assert (await program.calls(tokens["access_token"], url=at.url))["subject"] == "ana-1"


async def test_gateways_that_start_at_once_sign_with_one_key(house: House, database: str) -> None:
    gateways = [house.gateway() for _ in range(4)]
    keys: list[bytes] = []

    async def starts(gateway: Any) -> None:
        keys.append(await signing_key(gateway.vault))

    try:
        for gateway in gateways:
            await gateway.open()
            assert await gateway.vault.get("grant", "none") is None  # connected, so that none has a start
        async with anyio.create_task_group() as tasks:
            for gateway in gateways:
                tasks.start_soon(starts, gateway)
    finally:
        for gateway in gateways:
            await gateway.close()
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32


# Starting


async def test_a_provider_that_does_not_answer_is_said_at_the_start(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, issuer="http://127.0.0.1:9")
    with pytest.raises(ProviderDown, match=r"127\.0\.0\.1:9"):
        await _started(house)


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "http://login.example.com/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": None},
        {"code_challenge_methods_supported": ["plain"]},
    ],
)
async def test_a_provider_that_one_must_not_sign_in_at_is_refused_at_the_start(
    house: House, metadata: dict[str, Any]
) -> None:
    house.identity.metadata = metadata
    with pytest.raises(ConfigError, match=r"server\.auth"):
        await _started(house)


@pytest.mark.parametrize("wrong", [{"client_secret": "with space"}, {"client_id": ""}, {"client_secret": "é"}])
def test_a_client_that_cannot_be_is_a_mistake_in_the_file(house: House, wrong: dict[str, Any]) -> None:
    house.auth |= wrong
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ServerConfig.model_validate({"auth": house.auth})


# What is told


@pytest.mark.usefixtures("database")
@on_sqlite
async def test_no_secret_is_logged_or_kept_in_the_clear(
    house: House, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("fastmcp").addHandler(caplog.handler)
    # The browser and the client are in this process too, and what they say is theirs.
    for name in ("httpx2", "httpcore2", "fastmcp.client", "mcp.client"):
        caplog.set_level(logging.WARNING, name)
    house.identity.life = 5
    async with house.open() as at, Program(at.url) as program:
        tokens = await program.signs_in()
        await program.calls(tokens["access_token"])
        house.clock.advance(timedelta(minutes=5))
        renewed = (await program.renews(tokens["refresh_token"])).json()
        house.identity.failures.append(JSONResponse({"error": "invalid_grant", "error_description": SECRET}, 400))
        await program.renews(renewed["refresh_token"])
    logging.getLogger("fastmcp").removeHandler(caplog.handler)
    given = [tokens["access_token"], tokens["refresh_token"], renewed["access_token"], renewed["refresh_token"]]
    kept = _kept(tmp_path)
    assert len(house.identity.tokens) > 4
    for secret in (*house.identity.tokens, *given, SECRET):
        assert secret not in caplog.text
        assert secret.encode() not in kept
    assert BEN["email"].encode() not in kept
    assert ANA["email"].encode() not in kept


def _kept(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("gateway.db*"))


async def _rows(at: Served) -> int:
    async with at.gateway.storage.read() as connection:
        return await connection.scalar(select(func.count()).select_from(vault)) or 0


async def _changes(at: Served, statement: str) -> None:
    async with at.gateway.storage.write() as connection:
        await connection.exec_driver_sql(statement)


async def _is_not_let_in(house: House) -> None:
    async with house.open() as at, Program(at.url) as program, Browser() as browser:
        await program.registers()
        page = await browser.open(program.address())
        assert isinstance(page, httpx2.Response)
        refused = await browser.submit(page, CALLBACK, action="approve")
        assert isinstance(refused, httpx2.Response)
        assert refused.status_code == 500
        assert "ID token" in refused.text


async def _started(house: House) -> Served:
    gateway = house.gateway()
    try:
        await at_door(gateway, "http://localhost:1")
    finally:
        await gateway.close()
    raise AssertionError("it started")
