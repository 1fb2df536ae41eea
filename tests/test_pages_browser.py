"""The pages in a real browser: with and without scripts, by keyboard, on a phone, and looked over by axe."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp.client import advertise
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from gateway.config import Config, StorageConfig
from gateway.core import Gateway
from gateway.pages.app import EXTENSION, MIME_TYPE, URI
from providers import PROVIDERS
from tests import browsing
from tests.browsing import DESKTOP, PHONE, axe, screenshot, window
from tests.loopback import served
from tests.test_connecting import Vendor
from tests.test_pages import House
from tests.world import MONDAY, NINE

pytestmark = pytest.mark.anyio

anyio_backend, browser, page = browsing.anyio_backend, browsing.browser, browsing.page

WEEK = "week=2030-01-07"


@pytest.fixture
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, **getattr(request, "param", {}))
    async with house.open():
        yield house


async def sound(page: Page, name: str) -> None:
    """Nothing that axe knows is wrong with it; and a picture to look at."""
    await screenshot(page, name)
    assert await axe(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
async def test_every_page_is_sound_in_both_themes_and_at_both_widths(
    house: House, browser: Browser, dark: bool, is_phone: bool
) -> None:
    look = f"{'phone' if is_phone else 'desktop'}-{'dark' if dark else 'light'}"
    await house.link(single_use=False)
    link = await house.link("asking", single_use=False)
    async with window(browser, size=PHONE if is_phone else DESKTOP, dark=dark, zone="Europe/Berlin") as page:
        await page.goto(f"{link}?{WEEK}&zone=Europe/Berlin")
        await sound(page, f"week-{look}")
        await page.goto(link)
        await sound(page, f"empty-week-{look}")
        await page.goto(f"{link}?{WEEK}&zone=Europe/Berlin")
        await page.get_by_role("link", name="Tuesday 8 January, 10:00").click()
        await sound(page, f"details-{look}")
        await page.get_by_label("Your name").fill("Ben")
        await page.get_by_label("Your email").fill("ben@example")
        await page.locator("form").last.evaluate("form => form.noValidate = true")
        await page.get_by_role("button", name="Book").click()
        await sound(page, f"mistakes-{look}")
        await page.get_by_label("Your email").fill("ben@example.com")
        await page.get_by_label("Company").fill("ACME")
        await page.get_by_label("Yes").check()
        await page.get_by_role("button", name="Book").click()
        await expect(page.get_by_text("Tuesday 8 January 2030, 10:00 to 11:00").first).to_be_visible()
        await sound(page, f"booked-{look}")
        await page.get_by_role("link", name="Move").click()
        await sound(page, f"move-{look}")
        await page.get_by_role("link", name="Wednesday 9 January, 11:00").click()
        await sound(page, f"moving-{look}")
        await page.goto(f"{house.url}/book/none")
        await sound(page, f"message-{look}")
        await page.goto(f"{house.url}/accounts")
        await sound(page, f"accounts-{look}")


@pytest.mark.parametrize(
    "house", [{"time_zone": "Europe/Berlin", "working_hours": {"monday": ["09:00-12:00"]}}], indirect=True
)
async def test_a_guest_in_another_zone_books_across_a_change_of_clocks(house: House, browser: Browser) -> None:
    """New York leaves summer time a week after Berlin: 9:00 there is 4:00 here, and 3:00 a week before and after."""
    link = await house.link(single_use=False)
    async with window(browser, zone="America/New_York", size=PHONE) as page:
        for week, shown in (("2030-10-21", "03:00"), ("2030-10-28", "04:00"), ("2030-11-04", "03:00")):
            await page.goto(f"{link}?week={week}")
            # The page finds the guest's own zone out.
            await expect(page.get_by_label("Your time zone")).to_have_value("America/New_York")
            await expect(page.locator("a.slot").first).to_have_text(shown)
            await page.locator("a.slot").first.click()
            await page.get_by_label("Your name").fill("Ben")
            await page.get_by_label("Your email").fill("ben@example.com")
            await page.get_by_role("button", name="Book").click()
            await expect(page.get_by_text(f"{shown} to").first).to_be_visible()
    starts = sorted(booking.start.isoformat() for booking in await house.booked())
    assert starts == ["2030-10-21T09:00:00+02:00", "2030-10-28T09:00:00+01:00", "2030-11-04T09:00:00+01:00"]


async def test_without_scripts_and_by_keyboard_alone_everything_can_be_done(house: House, browser: Browser) -> None:
    link = await house.link()
    async with window(browser, scripts=False) as page:
        await page.goto(f"{link}?{WEEK}")
        await into(page, "Your time zone")
        await page.keyboard.press("Control+A")
        await page.keyboard.type("Asia/Tokyo")
        await page.keyboard.press("Enter")
        await expect(page.locator("a.slot").first).to_have_text("17:00")
        await onto(page, "Monday 7 January, 17:00")
        await page.keyboard.press("Enter")
        await into(page, "Your name")
        await page.keyboard.type("Ben")
        await into(page, "Your email")
        await page.keyboard.type("ben@example.com")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Monday 7 January 2030, 17:00 to 17:30").first).to_be_visible()
        await onto(page, "Move")
        await page.keyboard.press("Enter")
        await onto(page, "Tuesday 8 January, 18:00")
        await page.keyboard.press("Enter")
        await onto(page, "Move the meeting")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Tuesday 8 January 2030, 18:00 to 18:30").first).to_be_visible()
        [moved] = await house.booked()
        await page.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        await onto(page, "Cancel")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("This meeting is cancelled").first).to_be_visible()
    [booking] = await house.booked()
    assert (moved.start, booking.status) == (NINE + timedelta(days=1, hours=1), "cancelled")


async def into(page: Page, label: str) -> None:
    await _tab(page, lambda name: name.startswith(label), "input, textarea, select")


async def onto(page: Page, name: str) -> None:
    await _tab(page, lambda each: each.startswith(name), "a, button, summary")


async def _tab(page: Page, is_it: Any, kind: str) -> None:
    """Press the tab key until there; fails where the keyboard cannot get."""
    for _ in range(200):
        await page.keyboard.press("Tab")
        focused = page.locator("*:focus")
        if await focused.count() == 0 or not await focused.evaluate(f"each => each.matches('{kind}')"):
            continue
        said = await focused.evaluate(
            "each => each.getAttribute('aria-label') || each.labels?.[0]?.innerText || each.innerText"
        )
        if is_it(" ".join(said.split())):
            outline = await focused.evaluate(
                "each => getComputedStyle(each).outlineStyle + getComputedStyle(each).boxShadow"
            )
            assert outline != "nonenone", "what has the focus has to look like it"
            return
    raise AssertionError("the keyboard does not get there")


async def test_two_guests_race_for_one_link(house: House, browser: Browser) -> None:
    link = await house.link()
    async with window(browser) as ben, window(browser) as eve:
        for page, name in ((ben, "Ben"), (eve, "Eve")):
            await page.goto(f"{link}?{WEEK}&zone=Europe/Berlin")
            await page.get_by_role("link", name="Monday 7 January, 09:00").click()
            await page.get_by_label("Your name").fill(name)
            await page.get_by_label("Your email").fill(f"{name}@example.com")
        await asyncio.gather(*(page.get_by_role("button", name="Book").click() for page in (ben, eve)))
        heads = [await page.get_by_role("heading", level=1).inner_text() for page in (ben, eve)]
        assert sorted("not good any more" in head for head in heads) == [False, True]
        [loser] = [page for page, head in zip((ben, eve), heads, strict=True) if "not good" in head]
        await sound(loser, "used-link")
    assert len(await house.booked()) == 1


async def test_an_operator_takes_a_link_back_and_a_page_that_is_too_old_says_so(house: House, page: Page) -> None:
    await house.link(single_use=False)
    await page.goto(f"{house.url}/accounts")
    house.clock.advance(timedelta(hours=2))
    await revoke(page)
    await expect(page.get_by_text("open too long").first).to_be_visible()
    await sound(page, "too-old")
    await page.get_by_role("link", name="Back to the accounts").click()
    await revoke(page)
    await expect(page.get_by_text("Booking links")).to_have_count(0)
    assert await house.gateway.links.live() == []


async def revoke(page: Page) -> None:
    await page.locator("summary", has_text="Revoke").click()
    await page.get_by_role("button", name="Revoke the link").click()


# The consent


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with ExitStack() as stack:
        yield Vendor(stack)


async def test_from_the_connect_button_to_a_booked_meeting(vendor: Vendor, page: Page, tmp_path: Path) -> None:
    house = House(tmp_path)
    account = PROVIDERS["calendly"]["mcp"].Config.model_validate(
        {"provider": "calendly", "via": "mcp", "url": vendor.url, "auth": {"type": "oauth"}}
    )
    house.config = Config(
        accounts={"work": account}, server=house.config.server, storage=StorageConfig(url=house.config.storage.url)
    )
    house.gateway = Gateway(house.config, clock=vendor.world.clock)
    async with house.open():
        await page.goto(f"{house.url}/accounts")
        await expect(page.get_by_text("Not connected").first).to_be_visible()
        await page.get_by_role("link", name="Connect").first.click()
        await expect(page.get_by_role("heading", name="work is connected")).to_be_visible()
        await sound(page, "connected")
        await page.goto(f"{house.url}/accounts")
        await expect(page.locator("summary", has_text="Disconnect")).to_be_visible()
        await sound(page, "accounts-connected")
        async with Client(StreamableHttpTransport(f"{house.url}/mcp")) as client:
            kinds = await client.call_tool("list_event_types", {})
            event_type = kinds.structured_content["event_types"][0]["id"]
            now = vendor.world.clock.now()
            window_ = {"start": (now + timedelta(days=1)).isoformat(), "end": (now + timedelta(days=8)).isoformat()}
            slots = await client.call_tool("find_slots", {"event_type_ids": [event_type], **window_})
            start = slots.structured_content["slots"][0]["start"]
            guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
            await client.call_tool("create_booking", {"event_type_id": event_type, "start": start, **guest})
        await page.locator("summary", has_text="Disconnect").click()
        await page.get_by_role("button", name="Disconnect").click()
        await expect(page.get_by_text("Not connected").first).to_be_visible()
    assert [each.start for each in vendor.world.appointments.values()] == [datetime.fromisoformat(start)]
    assert all(grant.revoked for grant in vendor.consent.grants)


# The app


HOST = """<!doctype html><html lang="en"><head><title>A client</title></head><body><h1>A client</h1>
<iframe title="Free times" sandbox="allow-scripts" src="/app" width="900" height="700"></iframe><pre id="said"></pre>
<script src="/host.js"></script></body></html>"""
SCRIPT = """
const frame = document.querySelector("iframe").contentWindow;
addEventListener("message", (event) => {
  const message = event.data;
  const reply = (more) => frame.postMessage({jsonrpc: "2.0", ...more}, "*");
  if (message.method === "ui/initialize") {
    reply({id: message.id, result: {protocolVersion: "2026-01-26", hostContext: {theme: "dark"}, hostInfo: {}}});
  } else if (message.method === "ui/notifications/initialized") {
    reply({method: "ui/notifications/tool-input", params: {arguments: {}}});
    reply({method: "ui/notifications/tool-result", params: RESULT});
  } else if (message.method === "ui/message") {
    document.getElementById("said").textContent += message.params.content.text;
    reply({id: message.id, result: {}});
  } else if (message.method === "ui/notifications/size-changed") {
    document.title = `A client of height ${message.params.height > 100}`;
  }
});
"""


async def test_a_time_is_picked_in_the_app(house: House, page: Page) -> None:
    week = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=7)).isoformat()}
    async with Client(
        StreamableHttpTransport(f"{house.url}/mcp"), extensions=[advertise(EXTENSION, {"mimeTypes": [MIME_TYPE]})]
    ) as client:
        found = await client.call_tool_mcp("find_slots", {"event_type_ids": ["home:intro"], **week, "limit": 100})
        [document] = await client.read_resource(URI)
    result = found.model_dump_json(by_alias=True, exclude_none=True)

    async def app(_: Request) -> HTMLResponse:
        # As hosts have it: what comes with the page runs, and nothing is fetched (MCP Apps, 2026-01-26).
        policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
        return HTMLResponse(getattr(document, "text", ""), headers={"Content-Security-Policy": policy})

    async def host(_: Request) -> HTMLResponse:
        return HTMLResponse(HOST)

    async def script(_: Request) -> HTMLResponse:
        return HTMLResponse(SCRIPT.replace("RESULT", result), media_type="text/javascript")

    routes = [Route("/", host), Route("/app", app), Route("/host.js", script)]
    with served(Starlette(routes=routes)) as url:
        await page.goto(url)
        frame = page.frame_locator("iframe")
        await frame.get_by_role("button", name="Tuesday 8 January, 10:00").click()
        await expect(page.locator("#said")).to_have_text(
            "I choose Tuesday 8 January, 10:00 to 10:30 (2030-01-08T10:00:00+01:00)."
        )
        await expect(page).to_have_title("A client of height true")
        await screenshot(page, "app")
