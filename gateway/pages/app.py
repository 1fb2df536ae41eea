"""The week of free times as an MCP App: clients that show apps show it beside the answer of `find_slots`.

The page is always the same and comes as a resource; what it shows comes with the answer, made by the template that the
pages have. https://github.com/modelcontextprotocol/ext-apps/blob/main/specification/2026-01-26/apps.mdx
"""

from datetime import date, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from gateway.answers import SlotsAnswer
from gateway.pages.shown import source, templates
from gateway.pages.week import days, monday

URI = "ui://scheduling-gateway/slots"
EXTENSION, MIME_TYPE = "io.modelcontextprotocol/ui", "text/html;profile=mcp-app"
SHOWN = "scheduling-gateway/slots"
"""The name, in the metadata of an answer, of what the app shows."""


def document() -> str:
    """The app, whole: a client shows it without a network."""
    values = {"style": source("style.css"), "script": source("app.js"), "shown": SHOWN}
    return templates().get_template("app.html").render(values)


def shown(answer: SlotsAnswer) -> dict[str, Any]:
    """What the app shows of an answer, week by week."""
    tz = ZoneInfo(answer.time_zone)

    def week(slot: Any) -> date:
        return monday(slot.start.astimezone(tz).date())

    weeks = [
        {
            "days": days([(slot.start, slot.end) for slot in slots], first, tz),
            "begins": first.isoformat(),
            "ends": (first + timedelta(days=6)).isoformat(),
        }
        for first, slots in groupby(answer.slots, week)
    ]
    values = {
        "weeks": weeks,
        "zone": tz.key,
        "more": answer.next_cursor is not None,
        "unavailable": [each.account for each in answer.unavailable],
    }
    return {SHOWN: templates().get_template("slots.html").render(values)}
