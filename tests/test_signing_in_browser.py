"""The page of signing in, in a real browser."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from tests import browsing, sign_in_stage
from tests.browsing import DESKTOP, PHONE, axe, screenshot, window
from tests.emulators.identity import IdentityProvider
from tests.sign_in_stage import KEY, House

anyio_backend, browser, page = browsing.anyio_backend, browsing.browser, browsing.page

pytestmark = pytest.mark.anyio
identity = sign_in_stage.identity


@pytest.fixture
def house(tmp_path: Path, identity: IdentityProvider) -> House:
    return House(tmp_path, identity, keys=True)


async def test_a_key_signs_in_by_keyboard_without_scripts(browser: Browser, house: House) -> None:
    async with house.open() as at, window(browser, scripts=False) as page:
        await page.goto(f"{at.url}/private")
        await page.get_by_label("Or with a key").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("does not let anybody in")
        await page.get_by_label("Or with a key").fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator("body")).to_have_text("key:laptop")


async def test_the_provider_signs_in(page: Page, house: House) -> None:
    async with house.open() as at:
        await page.goto(f"{at.url}/private")
        await page.get_by_role("link", name="Sign in with your account").click()
        await expect(page.locator("body")).to_have_text(f"user:ana-1@{house.identity.issuer}")


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone"])
async def test_everybody_can_use_the_page(browser: Browser, house: House, size: ViewportSize, dark: bool) -> None:
    async with house.open() as at, window(browser, size=size, dark=dark) as page:
        await page.goto(f"{at.url}/signin")
        assert await axe(page) == []
        await screenshot(page, f"signin-{'dark' if dark else 'light'}")
        await page.get_by_label("Or with a key").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        assert await axe(page) == []
