"""The browser that tests of pages use: it notices what they rely on it to notice."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests import browsing
from tests.browsing import DESKTOP, PHONE, axe, chromium, screenshot, window
from tests.loopback import served

pytestmark = pytest.mark.anyio

anyio_backend, browser, page = browsing.anyio_backend, browsing.browser, browsing.page

# As strict as pages get: nothing but files of their own.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src *; connect-src *; form-action 'self'"

PAGE = """<!doctype html><html lang=en><head><title>A page</title><meta name=viewport content="width=device-width">
<script src="/script.js" defer></script></head><body><main><h1>A page</h1><p>No scripts</p>{}</main></body></html>"""
SCRIPTS = {
    "/script.js": """document.querySelector("p").textContent = [
      Intl.DateTimeFormat().resolvedOptions().timeZone, navigator.language, innerWidth,
      matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
    ].join(" ");""",
    "/complaint.js": "console.error('planted')",
    "/error.js": "throw Error('planted')",
    "/socket.js": "new WebSocket('wss://example.com/')",
}


async def _page(request: Request) -> Response:
    """Says what it is asked to, and has a script that says where it is."""
    return HTMLResponse(PAGE.format(request.query_params.get("body", "")), headers={"Content-Security-Policy": POLICY})


async def _script(request: Request) -> Response:
    return PlainTextResponse(SCRIPTS[request.url.path], media_type="text/javascript")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(Starlette(routes=[Route("/", _page), *(Route(path, _script) for path in SCRIPTS)])) as url:
        yield url


async def test_a_page_is_shown_wide_light_and_at_utc_unless_told(page: Page, url: str) -> None:
    await page.goto(url)
    await expect(page.get_by_text(f"UTC en-GB {DESKTOP['width']} light")).to_be_visible()


async def test_a_window_is_as_wide_dark_and_far_away_as_asked(browser: Browser, url: str) -> None:
    async with window(browser, size=PHONE, dark=True, zone="Asia/Tokyo", locale="ja-JP") as page:
        await page.goto(url)
        await expect(page.get_by_text(f"Asia/Tokyo ja-JP {PHONE['width']} dark")).to_be_visible()


async def test_scripts_can_be_off(browser: Browser, url: str) -> None:
    async with window(browser, scripts=False) as page:
        await page.goto(url)
        await expect(page.get_by_text("No scripts")).to_be_visible()


async def test_axe_has_nothing_to_say_of_a_sound_page(page: Page, url: str) -> None:
    await page.goto(url)
    assert await axe(page) == []


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<input>", "label"),
        ("<a href='/'>a</a> <a href='/'>b</a>" * 20, "target-size"),
    ],
)
async def test_axe_finds_what_is_wrong(page: Page, url: str, body: str, rule: str) -> None:
    await page.goto(f"{url}?body={body}")
    assert {each.split(" at ")[0] for each in await axe(page)} == {rule}


@pytest.mark.parametrize(
    ("body", "address"),
    [
        ("<img alt='' src='http://example.com/a.png'>", "http://example.com/a.png"),
        ("<img alt='' src='http://192.0.2.1/a.png'>", "http://192.0.2.1/a.png"),
    ],
)
async def test_a_request_to_another_host_is_noticed(browser: Browser, url: str, body: str, address: str) -> None:
    with pytest.raises(AssertionError, match=f"asked another host: {address}"):
        async with window(browser) as page:
            await page.goto(f"{url}?body={body}")


async def test_a_socket_to_another_host_is_noticed(browser: Browser, url: str) -> None:
    async def test() -> None:
        async with window(browser) as page, page.expect_websocket():
            await page.goto(f"{url}?body=<script src='/socket.js'></script>")

    with pytest.raises(AssertionError, match="asked another host: wss://example"):
        await test()


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("<script src='/complaint.js'></script>", "console: planted"),
        ("<script src='/error.js'></script>", "script: Error: planted"),
        ("<script>1</script>", "console: .*Content Security Policy"),
        ("<img alt='' src='/missing.png'>", "console: .*404.*/missing.png"),
    ],
)
async def test_an_error_on_the_console_is_noticed(browser: Browser, url: str, body: str, trouble: str) -> None:
    with pytest.raises(AssertionError, match=trouble):
        async with window(browser) as page:
            await page.goto(f"{url}?body={body}")


async def test_a_page_may_be_an_error(page: Page, url: str) -> None:
    answer = await page.goto(f"{url}/missing")
    assert answer is not None
    assert answer.status == 404
    await expect(page.get_by_text("Not Found")).to_be_visible()


async def test_a_failing_test_says_what_went_wrong_in_the_page(browser: Browser, url: str) -> None:
    async def test() -> None:
        async with window(browser) as page:
            await page.goto(f"{url}?body=<script src='/error.js'></script>")
            raise ValueError("the test failed")

    with pytest.raises(ValueError, match="the test failed") as failed:
        await test()
    (note,) = failed.value.__notes__
    assert note.startswith("script: Error: planted")


async def test_pictures_are_taken_only_where_they_are_wanted(
    page: Page, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCREENSHOTS", raising=False)
    await page.goto(url)
    await screenshot(page, "unwanted")
    monkeypatch.setenv("SCREENSHOTS", str(tmp_path))
    await screenshot(page, "wanted")
    assert os.listdir(tmp_path) == ["wanted.png"]


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_browser_skips_a_test_but_not_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no chromium here") as left:
        chromium()
    assert left.type is outcome
