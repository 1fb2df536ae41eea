"""A service to call: an emulator on a loopback port, and a FastMCP server whose one tool makes the same request.

`python -m benchmarks.upstream emulator PORT` and `python -m benchmarks.upstream bare PORT URL`.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import uvicorn
from fastmcp import FastMCP

from tests.emulators import calcom
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


def emulator(port: int) -> None:
    world = World(Clock(datetime.now(UTC)))
    day = datetime.now(UTC) + timedelta(days=1)
    [start, *_] = world.free("intro", day, day + timedelta(days=7))
    world.book("intro", start, "ana@example.com")
    uvicorn.run(calcom.app(world), port=port, log_config=None, access_log=False, server_header=False, ws="none")


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
    emulator(int(number)) if what == "emulator" else bare(int(number), *rest)
