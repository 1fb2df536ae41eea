"""People sign in to our own pages with a browser: at the provider, or with a key."""

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest
from starlette.responses import JSONResponse

from gateway.pages import signin
from gateway.pages.sessions import LASTS, SESSION, Session
from gateway.pages.signin import MINUTES, SIGNED_IN, STARTED
from tests import sign_in_stage
from tests.emulators.identity import ANA, BEN, CLIENT, SECRET, IdentityProvider
from tests.keyed import Keyed
from tests.sign_in_stage import KEY, Browser, House, Program, Served
from tests.world import Clock

pytestmark = pytest.mark.anyio
identity, house = sign_in_stage.identity, sign_in_stage.house

KEYS_ALONE = {"type": "keys"}


async def page(browser: Browser, url: str) -> httpx2.Response:
    shown = await browser.open(url)
    assert isinstance(shown, httpx2.Response)
    return shown


def came_to(shown: httpx2.Response) -> str:
    return f"{shown.url.path}{'?' + shown.url.query.decode() if shown.url.query else ''}"


def name(identity: IdentityProvider) -> str:
    return f"user:ana-1@{identity.issuer}"


# At the provider


async def test_who_has_to_sign_in_is_sent_to_the_provider_and_comes_back_to_the_same_page(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        shown = await page(browser, f"{at.url}/private?a=1&b=/x")
        assert (shown.text, came_to(shown)) == (name(house.identity), "/private?a=1&b=/x")
        (asked,) = house.identity.asked
        assert asked["redirect_uri"] == f"{at.url}/signin/callback"
        assert asked["scope"] == "openid email profile"
        assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
        assert (await page(browser, f"{at.url}/private")).text == name(house.identity)
        assert len(house.identity.asked) == 1, "it is remembered"


async def test_clients_and_pages_ask_the_provider_once_what_it_is(tmp_path: Path, identity: IdentityProvider) -> None:
    identity.clock = clock = Clock()
    client: dict[str, Any] = {"issuer": identity.issuer, "client_id": CLIENT, "client_secret": SECRET}
    gate = Keyed(tmp_path, policies={"staff": {"groups": ["staff"]}}, clock=clock, type="oauth", **client)
    async with gate.open(), Browser() as browser:
        identity.redirect_uris = [f"{gate.url}/{path}" for path in ("auth/callback", "signin/callback")]
        shown = await page(browser, f"{gate.url}/accounts")
        assert (shown.status_code, came_to(shown)) == (200, "/accounts")
        async with Program(gate.url) as program:
            tokens = await program.signs_in()
            assert (await program.calls(tokens["access_token"], "list_accounts"))["accounts"]
    assert (identity.discovered, identity.named_keys) == (1, 1)


async def test_the_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        sent = await browser.client.get(f"{at.url}/signin")
        back = await browser.client.get(sent.headers["location"])
        done = await browser.client.get(back.headers["location"])
        cookies = done.headers.get_list("set-cookie")
        (session,) = (each for each in cookies if each.startswith(f"{SESSION}="))
        assert "HttpOnly" in session
        assert "SameSite=lax" in session
        assert "Max-Age=3600" in session


async def test_who_nobody_has_let_in_is_told_so_and_has_no_session(house: House) -> None:
    house.identity.person = BEN
    async with house.open() as at, Browser() as browser:
        shown = await page(browser, f"{at.url}/private")
        assert shown.status_code == 403
        assert "ben@example.com" in shown.text
        assert SESSION not in browser.client.cookies


async def test_who_is_let_in_no_longer_is_asked_again_at_once(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        await page(browser, f"{at.url}/private")
        house.door.open = False
        assert (await page(browser, f"{at.url}/private")).status_code == 403


@pytest.mark.parametrize("used", [True, False])
async def test_a_session_ends_when_it_is_not_used_and_at_the_latest_after_a_day_s_work(
    house: House, used: bool
) -> None:
    async with house.open() as at, Browser() as browser:
        await page(browser, f"{at.url}/private")
        passed = timedelta()
        while passed < (SIGNED_IN if used else LASTS):
            step = LASTS - timedelta(minutes=1) if used else LASTS
            house.clock.advance(step)
            passed += step
            if used and passed < SIGNED_IN:
                await _uses(at, browser)
        answer = await browser.client.get(f"{at.url}/private")
        assert answer.is_redirect


@pytest.mark.parametrize(
    "elsewhere",
    [
        *("https://evil.test/", "//evil.test", "/\\evil.test", "/\t/evil.test", "\\\\evil.test", "evil", ""),
        *("javascript:alert(1)", "/ok\r\nLocation: https://evil.test", "https:evil.test", "/" + "x" * 3000),
    ],
)
async def test_signing_in_leads_to_a_page_of_ours_alone(tmp_path: Path, house: House, elsewhere: str) -> None:
    for auth in ({}, KEYS_ALONE):
        here = House(tmp_path / str(len(auth)), house.identity, **auth)
        here.folder.mkdir(exist_ok=True)
        async with here.open() as at, Browser() as browser:
            sent = await browser.client.get(f"{at.url}/signin", params={"next": elsewhere})
            if not auth:
                back = await browser.client.get(sent.headers["location"])
                done = await browser.client.get(back.headers["location"])
            else:
                done = await browser.sent(sent, key=KEY, next=elsewhere)
            assert (done.status_code, done.headers["location"]) == (303, "/accounts")


@pytest.mark.parametrize(
    "alter",
    [{"nonce": "another"}, {"nonce": None}, {"aud": "another"}, {"iss": "https://evil.test"}, {"exp": 1}],
    ids=lambda alter: next(iter(alter)),
)
async def test_an_id_token_that_was_not_made_for_this_sign_in_is_not_taken(house: House, alter: dict[str, Any]) -> None:
    house.identity.alter = lambda claims: claims | alter
    async with house.open() as at, Browser() as browser:
        shown = await page(browser, f"{at.url}/private")
        assert shown.status_code == 400
        assert "ID token" in shown.text
        assert SESSION not in browser.client.cookies


async def test_an_answer_that_another_browser_brings_is_not_taken(house: House) -> None:
    async with house.open() as at, Browser() as mine, Browser() as victims:
        sent = await mine.client.get(f"{at.url}/signin")
        back = await mine.client.get(sent.headers["location"])
        for browser in (victims, mine):  # whoever brings it first, it is used up
            shown = await page(browser, back.headers["location"])
            assert shown.status_code == 400
            assert SESSION not in browser.client.cookies


async def test_an_answer_is_good_once_and_for_minutes(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        for wait in (timedelta(), MINUTES):
            sent = await browser.client.get(f"{at.url}/signin")
            back = (await browser.client.get(sent.headers["location"])).headers["location"]
            house.clock.advance(wait)
            first = await browser.client.get(back)
            assert first.status_code == (400 if wait else 303)
            assert (await browser.client.get(back)).status_code == 400


async def test_an_answer_of_another_provider_is_not_taken(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        sent = await browser.client.get(f"{at.url}/signin")
        back = httpx2.URL((await browser.client.get(sent.headers["location"])).headers["location"])
        for named in ({"iss": "https://evil.test"}, {}):
            query = {name: value for name, value in parse_qsl(back.query.decode()) if name != "iss"} | named
            assert (await browser.client.get(back.copy_with(params=query))).status_code == 400


@pytest.mark.parametrize("query", ["", "?state=", "?state=x&code=y", "?error=access_denied", "?state=%ff&code=é"])
async def test_an_answer_to_nothing_is_refused(house: House, query: str) -> None:
    async with house.open() as at, Browser() as browser:
        browser.client.cookies.set(STARTED, "x")
        assert (await page(browser, f"{at.url}/signin/callback{query}")).status_code == 400


async def test_who_declines_may_try_again(house: House) -> None:
    house.identity.consents = False
    async with house.open() as at, Browser() as browser:
        shown = await page(browser, f"{at.url}/private")
        assert shown.status_code == 400
        house.identity.consents = True
        again = re.search(r'href="(/signin\?[^"]+)"', shown.text)
        assert again
        assert (await page(browser, f"{at.url}{again[1]}")).text == name(house.identity)


async def test_a_provider_that_is_down_is_said(house: House) -> None:
    house.identity.failures.append(JSONResponse({}, 503))
    async with house.open() as at, Browser() as browser:
        shown = await page(browser, f"{at.url}/private")
        assert (shown.status_code, "503" in shown.text) == (400, True)


async def test_looking_ahead_signs_nobody_in(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        ahead = await browser.client.get(f"{at.url}/signin", headers={"Sec-Purpose": "prefetch"})
        assert ahead.status_code == 503
        assert house.identity.asked == []


async def test_people_are_sent_to_the_provider_at_a_bounded_rate(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "STARTS", 3)
    async with house.open() as at, Browser() as browser:
        codes = [(await browser.client.get(f"{at.url}/signin{path}")).status_code for path in ("/start", "") * 2]
        assert codes == [303] * 3 + [429]
        house.clock.advance(timedelta(minutes=1))
        assert (await page(browser, f"{at.url}/private")).text == name(house.identity)


# With a key


async def test_a_key_in_a_form_signs_in(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, **KEYS_ALONE)
    async with house.open() as at, Browser() as browser:
        form = await page(browser, f"{at.url}/private?a=1")
        assert "Sign in with your account" not in form.text
        shown = await browser.submit(form, key=f" {KEY}\n")
        assert (shown.text, came_to(shown)) == ("key:laptop", "/private?a=1")
        house.door.keys.clear()
        assert (await browser.client.get(f"{at.url}/private")).is_redirect, "a key that was taken back lets nobody in"
        assert (await browser.client.get(f"{at.url}/signin/start")).status_code == 404


@pytest.mark.parametrize("key", ["", "wrong", "é", KEY.upper(), "x" * 5000])
async def test_a_wrong_key_is_refused_and_not_shown(tmp_path: Path, identity: IdentityProvider, key: str) -> None:
    house = House(tmp_path, identity, **KEYS_ALONE)
    async with house.open() as at, Browser() as browser:
        refused = await browser.submit(await page(browser, f"{at.url}/private"), key=key)
        assert refused.status_code == 403
        assert 'role="alert"' in refused.text
        assert not key or f'"{key}"' not in refused.text
        assert SESSION not in browser.client.cookies
        assert (await browser.submit(refused, key=KEY)).text == "key:laptop"


async def test_wrong_keys_of_one_browser_keep_no_other_out(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, **KEYS_ALONE)
    async with house.open() as at, Browser() as browser, Browser() as other:
        form = await page(browser, f"{at.url}/private")
        codes = {(await browser.sent(form, key=f"wrong {n}")).status_code for n in range(30)}
        assert codes == {403}
        assert (await other.submit(await page(other, f"{at.url}/private"), key=KEY)).text == "key:laptop"


async def test_a_key_is_taken_from_our_own_form_alone(tmp_path: Path, identity: IdentityProvider) -> None:
    """Else a page of others could sign their visitor in as somebody."""
    house = House(tmp_path, identity, **KEYS_ALONE)
    async with house.open() as at, Browser() as browser, Browser() as other:
        form = await page(browser, f"{at.url}/private")
        for sender, fields in ((other, {}), (browser, {"csrf": "wrong"}), (browser, {"csrf": "é"})):
            refused = await sender.sent(form, key=KEY, **fields)
            assert refused.status_code == 403
            assert SESSION not in sender.client.cookies
        cross = {"key": KEY, "csrf": re.findall('name="csrf" value="([^"]+)"', form.text)[0]}
        sent = await browser.client.post(f"{at.url}/signin/key", data=cross, headers={"Origin": "https://evil.test"})
        assert sent.status_code == 403
        assert (await browser.client.get(f"{at.url}/signin/key", params={"key": KEY})).status_code == 405


async def test_where_both_are_taken_the_page_offers_both(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, keys=True)
    async with house.open() as at, Browser() as browser, Browser() as other:
        both = await page(browser, f"{at.url}/private?a=1")
        assert (await browser.submit(both, key=KEY)).text == "key:laptop"
        both = await page(other, f"{at.url}/private?a=1")
        start = re.search(r'href="(/signin/start\?[^"]+)"', both.text)
        assert start
        shown = await page(other, f"{at.url}{start[1]}")
        assert (shown.text, came_to(shown)) == (name(identity), "/private?a=1")


async def test_where_keys_are_not_taken_there_is_no_form(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        sent = await browser.client.post(f"{at.url}/signin/key", data={"key": KEY})
        assert sent.status_code == 404


async def test_signing_in_makes_a_new_session(house: House) -> None:
    """One that somebody else put into the browser is worth nothing afterwards."""
    async with house.open() as at, Browser() as browser:
        await page(browser, f"{at.url}/private")
        planted = browser.client.cookies[SESSION]
        await page(browser, f"{at.url}/signin?next=/private")
        assert browser.client.cookies[SESSION] != planted
        async with Browser() as other:
            other.client.cookies.set(SESSION, planted)
            assert (await other.client.get(f"{at.url}/private")).is_redirect


# Signing out


async def test_signing_out_ends_the_session_for_whoever_has_it(house: House) -> None:
    async with house.open() as at, Browser() as browser:
        await page(browser, f"{at.url}/private")
        key = browser.client.cookies[SESSION]
        kept = await at.gateway.vault.get(SESSION, key)
        assert kept is not None
        for wrong in ({}, {"csrf": "wrong"}, {"csrf": "é"}):
            assert (await browser.client.post(f"{at.url}/signout", data=wrong)).status_code == 403
        out = await browser.client.post(f"{at.url}/signout", data={"csrf": kept["csrf"]})
        assert out.status_code == 200
        assert SESSION not in browser.client.cookies
        assert await at.gateway.vault.get(SESSION, key) is None
        assert (await browser.client.post(f"{at.url}/signout")).status_code == 200


async def test_a_page_that_is_still_loading_undoes_no_sign_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house.open() as at, Browser() as browser, Browser() as other_tab:
        await page(browser, f"{at.url}/private")
        key = browser.client.cookies[SESSION]
        kept = await at.gateway.vault.get(SESSION, key)
        assert kept is not None
        other_tab.client.cookies.set(SESSION, key)
        list_accounts = at.gateway.catalog.list_accounts

        async def slow() -> Any:
            out = await other_tab.client.post(f"{at.url}/signout", data={"csrf": kept["csrf"]})
            assert out.status_code == 200
            return await list_accounts()

        monkeypatch.setattr(at.gateway.catalog, "list_accounts", slow)
        late = await browser.client.get(f"{at.url}/accounts")
        assert (late.status_code, "set-cookie" in late.headers) == (200, False)
        assert await at.gateway.vault.get(SESSION, key) is None
        assert (await browser.client.get(f"{at.url}/private")).is_redirect


# What is told


async def test_no_key_and_no_session_is_logged_or_kept_in_the_clear(
    tmp_path: Path, identity: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for ours in ("httpx2", "httpcore2"):  # the browser's
        caplog.set_level(logging.WARNING, ours)
    house = House(tmp_path, identity, keys=True)
    async with house.open() as at, Browser() as browser, Browser() as other:
        await browser.submit(await page(browser, f"{at.url}/private"), key=KEY)
        await page(other, f"{at.url}/signin/start")
        secrets = [KEY, SECRET, *identity.tokens, *(b.client.cookies[SESSION] for b in (browser, other))]
        assert all(KEY not in str(shown.url) and KEY not in shown.text for shown in browser.pages)
    kept = _kept(tmp_path)
    for secret in secrets:
        assert secret not in caplog.text
        assert secret.encode() not in kept
    assert ANA["email"].encode() not in kept


def test_a_session_does_not_say_what_is_secret_in_it() -> None:
    shown = repr(Session("the-key", "the-word", {"sub": "the-subject"}, "the-token"))
    assert re.findall("the-[a-z]+", shown) == []


async def test_pages_of_signing_in_are_as_closed_as_all_others(tmp_path: Path, identity: IdentityProvider) -> None:
    house = House(tmp_path, identity, keys=True)
    async with house.open() as at, Browser() as browser:
        for path in ("/signin", "/signin/callback", "/signin/start"):
            shown = await browser.client.get(f"{at.url}{path}")
            assert shown.headers["cache-control"] == "no-store", path
            assert "frame-ancestors 'none'" in shown.headers["content-security-policy"], path


def _kept(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("gateway.db*"))


async def _uses(at: Served, browser: Browser) -> None:
    """As the page of accounts does each time it is shown."""
    key = browser.client.cookies[SESSION]
    kept = await at.gateway.vault.get(SESSION, key)
    assert kept is not None, "the session ended too early"
    await page(browser, f"{at.url}/accounts")
