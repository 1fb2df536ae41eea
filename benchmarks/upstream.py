"""Services to call: emulators on a loopback port, and a FastMCP server whose one tool makes the same request.

`python -m benchmarks.upstream calcom PORT`, `… google PORT`, `… hosted PORT` and `… bare PORT URL`.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import uvicorn
from fastmcp import FastMCP

from tests.emulators import calcom, calendly_mcp, google
from tests.emulators.calendly_shapes import USER
from tests.emulators.wire import TOKEN
from tests.world import Clock, World

BOOKING = "b1"
PATH = f"/v2/bookings/{BOOKING}"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "cal-api-version": "2024-08-13"}
CONFIG = """\
accounts:
  team: {{provider: calcom, base_url: "{url}", auth: {{type: bearer, token: {token}}}}}
storage: {{url: 'sqlite:///bench.db'}}
"""

# Eight weeks of Google Calendar, with three busy calendars: the one that is booked, and two others.
MONDAY = datetime(2030, 1, 7, tzinfo=UTC)
WEEKS = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(weeks=8)).isoformat()}
OTHERS = [google.TEAM, google.READONLY]
GOOGLE_CONFIG = """\
accounts:
  cal:
    provider: google_calendar
    base_url: "{url}/calendar/v3"
    auth: {{type: bearer, token: {token}}}
    busy_calendars: [primary, "{others[0]}", "{others[1]}"]
    event_types: [{{slug: intro, title: Intro call, duration_minutes: 30}}]
storage: {{url: 'sqlite:///google.db'}}
"""

# A hosted MCP server, and the call that the gateway makes of it for one of its own.
HOSTED_CONFIG = """\
accounts:
  work: {{provider: calendly, via: mcp, url: "{url}", auth: {{type: bearer, token: {token}}}}}
storage: {{url: 'sqlite:///hosted.db'}}
"""
SCHEDULES = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "availability-list_user_availability_schedules",
        "arguments": {"user": USER},
    },
}


def emulated_calcom(port: int) -> None:
    world = World(Clock(datetime.now(UTC)))
    day = datetime.now(UTC) + timedelta(days=1)
    [start, *_] = world.free("intro", day, day + timedelta(days=7))
    world.book("intro", start, "ana@example.com")
    uvicorn.run(calcom.app(world), port=port, log_config=None, access_log=False, server_header=False, ws="none")


def emulated_google(port: int) -> None:
    world = World(Clock())
    calendars = google.calendars(world)
    for day in range(0, 56, 2):
        for hour, calendar in enumerate(["primary", *OTHERS], 9):
            begin = MONDAY + timedelta(days=day, hours=hour)
            times = {"start": begin, "end": begin + timedelta(minutes=30)}
            event = {name: {"dateTime": at.isoformat()} for name, at in times.items()}
            calendars.insert(calendar, {"summary": "Busy", **event})
    uvicorn.run(google.app(world), port=port, log_config=None, access_log=False, server_header=False, ws="none")


def emulated_hosted(port: int) -> None:
    app = calendly_mcp.app(World(Clock(datetime.now(UTC))))
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False, ws="none", lifespan="off")


def bare(port: int, url: str) -> None:
    server: FastMCP[Any] = FastMCP("bare")
    client = httpx2.AsyncClient(base_url=url, headers=HEADERS)

    @server.tool
    async def get_booking() -> dict[str, Any]:
        """The booking."""
        found: dict[str, Any] = (await client.get(PATH)).json()
        return found

    app = server.http_app(stateless_http=True, host_origin_protection=True)
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False, ws="none")


if __name__ == "__main__":
    what, number, *rest = sys.argv[1:]
    if what == "bare":
        bare(int(number), *rest)
    else:
        {"calcom": emulated_calcom, "google": emulated_google, "hosted": emulated_hosted}[what](int(number))
