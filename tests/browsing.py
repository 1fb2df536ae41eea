"""A real browser for tests of pages: Debian's Chromium, driven by Playwright. Only loopback is within its reach.

A module of such tests takes the fixtures by name; a test then asks for `page`, or for `browser` and opens a `window`:

    anyio_backend, browser, page = browsing.anyio_backend, browsing.browser, browsing.page

Its tests share an event loop, because a browser cannot outlive the one it was started on; all others keep their own.
A test waits by `expect(page.get_by_role(…))` and by what clicks wait for anyway, never by sleeping.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    async_playwright,
    expect,
)

ROOT = Path(__file__).parent.parent

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=360, height=740)
WIDEST_PHONE = 600

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-proxy-server"),
    # A request to anywhere else is noticed by `window`; this keeps it, and whatever else, from leaving the machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE ::1",
)

# Everything axe looks at unasked, good practice included, and the size of what is touched, which is new in WCAG 2.2.
AXE_OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}

# How long a thing may take to show, in milliseconds, on a machine that has other work: a deadline, not a wait.
expect.set_options(timeout=15_000)


def chromium() -> str:
    """Where it is. Skips the test where there is none, but fails it in continuous integration."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found:
        return found
    missing = "no chromium here: install it (apt-get install chromium) or say where it is in $CHROMIUM"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As everybody's, but for the module: its tests share the loop that the browser is on."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One for all tests of a module in a worker, started by the first that asks."""
    program, home = chromium(), str(tmp_path_factory.mktemp("chromium"))
    # Nobody's own profile is read or written.
    env: dict[str, str | float | bool] = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS, env=env)
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A window as most people have it: wide, light, in English, at UTC, with scripts."""
    async with window(browser) as page:
        yield page


@asynccontextmanager
async def window(
    browser: Browser,
    *,
    size: ViewportSize = DESKTOP,
    dark: bool = False,
    zone: str = "UTC",
    locale: str = "en-GB",
    scripts: bool = True,
) -> AsyncIterator[Page]:
    """A page with cookies of its own. Narrow ones are phones: touched, and as wide as the page says they are.

    Leaving it raises AssertionError if it asked another host for anything, or if an error reached its console: one a
    script raised, a policy that was violated, a file that was not there. A page may itself be an error, like a 404.
    """
    phone = size["width"] < WIDEST_PHONE
    context = await browser.new_context(
        viewport=size,
        is_mobile=phone,
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        # What moves is neither shown nor measured halfway.
        reduced_motion="reduce",
        timezone_id=zone,
        locale=locale,
        java_script_enabled=scripts,
    )
    troubles = _troubles(context)
    try:
        yield await context.new_page()
    except BaseException as error:
        # Often the reason why what the test waited for never came.
        for trouble in troubles:
            error.add_note(trouble)
        raise
    finally:
        await context.close()
    assert not troubles, "\n".join(troubles)


def _troubles(context: BrowserContext) -> list[str]:
    """What goes wrong in it, from now on."""
    troubles: list[str] = []
    pages: set[str] = set()

    def asked(url: str) -> None:
        host = urlsplit(url).hostname
        # `data:`, `blob:` and `about:` have none.
        if host is not None and host not in LOOPBACK:
            troubles.append(f"asked another host: {url}")

    def requested(request: Request) -> None:
        if request.is_navigation_request():
            pages.add(request.url)
        asked(request.url)

    def said(message: ConsoleMessage) -> None:
        url = message.location["url"]
        # Chromium asks for an icon unasked, and once for all windows.
        not_there = url in pages or urlsplit(url).path == "/favicon.ico"
        if message.type == "error" and not (not_there and message.text.startswith("Failed to load resource")):
            troubles.append(f"console: {message.text} ({url})")

    context.on("request", requested)
    context.on("console", said)
    context.on("weberror", lambda raised: troubles.append(f"script: {raised.error.stack or raised.error}"))
    # These are no requests to Playwright.
    context.on("page", lambda page: page.on("websocket", lambda socket: asked(socket.url)))
    return troubles


async def axe(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is now, a line for each element.

    Raises TimeoutError where scripts are off: axe is one.
    """
    with anyio.fail_after(30):
        found = await Axe().run(page, options=AXE_OPTIONS)
    return [
        f"{violation['id']} at {node['target']}: {' '.join(node['failureSummary'].split())}"
        for violation in found.response["violations"]
        for node in violation["nodes"]
    ]


async def screenshot(page: Page, name: str) -> None:
    """The whole page as `name`.png, for somebody to look at; only where $SCREENSHOTS names a folder.

    One without a leading slash is in the repository: where a test runs is a folder that is thrown away.
    """
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=ROOT / folder / f"{name}.png", full_page=True)
