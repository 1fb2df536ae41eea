"""The week of free times as an app, for clients that show one; for the others nothing changes."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from mcp.client import advertise

from gateway.config import Config, StorageConfig
from gateway.core import Gateway
from gateway.pages.app import EXTENSION, MIME_TYPE, SHOWN, URI
from gateway.server import build_server
from providers import PROVIDERS
from tests.world import MONDAY, Clock

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>"
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY.replace(day=MONDAY.day + 10)).isoformat()}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    kind = {"slug": "intro", "title": HOSTILE, "duration_minutes": 30}
    settings = {"provider": "local", "time_zone": "Europe/Berlin", "event_types": [kind]}
    account = PROVIDERS["local"]["api"].Config.model_validate(settings)
    storage = StorageConfig(url=f"sqlite:///{tmp_path / 'gateway.db'}")
    return Gateway(Config(accounts={"home": account}, storage=storage), clock=Clock())


async def slots(gateway: Gateway, *, shows_apps: bool, **arguments: Any) -> Any:
    extensions = [advertise(EXTENSION, {"mimeTypes": [MIME_TYPE]})] if shows_apps else []
    async with Client(build_server(gateway), extensions=extensions) as client:
        return await client.call_tool_mcp("find_slots", {"event_type_ids": ["home:intro"], **WINDOW, **arguments})


async def test_the_tool_names_its_app_and_the_app_is_a_whole_page(gateway: Gateway) -> None:
    async with Client(build_server(gateway)) as client:
        tools = {tool.name: tool.meta for tool in await client.list_tools()}
        assert tools["find_slots"] == {"ui": {"resourceUri": URI}}
        assert [name for name, meta in tools.items() if meta] == ["find_slots"]
        [resource] = await client.list_resources()
        assert (str(resource.uri), resource.mime_type) == (URI, MIME_TYPE)
        [page] = await client.read_resource(URI)
    text = getattr(page, "text", "")
    assert page.mime_type == MIME_TYPE
    assert not re.search(r'(src|href)="', text)
    assert "https://" not in text.replace("https://github.com", "")
    assert len(text) < 50_000


async def test_a_client_that_shows_apps_gets_the_grid_and_the_same_answer(gateway: Gateway) -> None:
    shown, plain = await slots(gateway, shows_apps=True), await slots(gateway, shows_apps=False)
    assert (shown.structured_content["slots"], shown.content[0].text) == (
        plain.structured_content["slots"],
        plain.content[0].text,
    )
    assert SHOWN not in (plain.meta or {})
    html = shown.meta[SHOWN]
    starts = re.findall(r'data-start="([^"]+)"', html)
    assert starts == [slot["start"] for slot in shown.structured_content["slots"]]
    assert 'aria-label="Monday 7 January, 09:00 to 09:30"' in html
    assert "<script" not in html


async def test_the_grid_says_when_there_is_nothing_and_when_there_is_more(gateway: Gateway) -> None:
    nothing = await slots(gateway, shows_apps=True, end=WINDOW["start"].replace("T00", "T01"))
    assert "No free time" in nothing.meta[SHOWN]
    more = await slots(gateway, shows_apps=True, limit=3)
    assert "There are more" in more.meta[SHOWN]
