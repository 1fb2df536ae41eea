"""What it costs to ask who comes in, to look up what they may do, and to write down what they did.

Gateways that differ in that alone, asked in turn, so that whatever else the machine does meets all of them.
"""

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.servers import CONNECTIONS, GATEWAY, a_week, free_port, serving
from benchmarks.wire import Call, http_rate
from schemas.hours import DAYS

ROUNDS = 12
SECONDS = 1
MANY = {"hour": 1_000_000, "day": 1_000_000}
POLICY = {"accounts": ["home", "desk"], "tools": ["read", "book"], "bookings": MANY, "expires": "2100-01-01T00:00:00Z"}
KEYS = {"type": "keys", "policies": {"bench": POLICY}}
READ, CHANGE = "find_slots (a week)", "create_booking"
OPEN = "no key, no audit"
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    OPEN: ({"type": "none"}, {"to": "none"}),
    "key, policy, audit of changes": (KEYS, {"to": "database", "calls": "changes"}),
    "key, policy, audit of every call": (KEYS, {"to": "database", "calls": "all"}),
}
ACCOUNTS = {
    "home": {"provider": "local", "time_zone": "Europe/Berlin"},
    # Open day and night, so that there are enough times to book; its bookings are in nobody's week.
    "desk": {
        "provider": "local",
        "time_zone": "UTC",
        "working_hours": {day: ["00:00-24:00"] for day in DAYS},
        "event_types": [{"slug": "quarter", "title": "Quarter", "duration_minutes": 15, "slot_step_minutes": 15}],
    },
}
WEEK = a_week("home:30-minute-meeting")


@dataclass
class Variant:
    port: int
    key: str | None
    bookings: Iterator[Call]


def measure(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Calls a second in each round, by what was called and of which gateway; the open one first.

    A booking is three commits without an audit, and has to wait for a fourth with one.
    """
    with ExitStack() as stack:
        variants = {name: _started(stack, folder / f"guarded{at}", name) for at, name in enumerate(VARIANTS)}
        rates: dict[str, dict[str, list[float]]] = {READ: {}, CHANGE: {}}
        for _ in range(ROUNDS):
            for name, each in variants.items():
                for what, calls in ((READ, WEEK), (CHANGE, each.bookings)):
                    rate = asyncio.run(http_rate(each.port, calls, CONNECTIONS, SECONDS, each.key))[0]
                    rates[what].setdefault(name, []).append(rate)
    return rates


def _started(stack: ExitStack, folder: Path, name: str) -> Variant:
    folder.mkdir()
    auth, audit = VARIANTS[name]
    settings = {
        "accounts": ACCOUNTS,
        "server": {"auth": auth, "limits": {"per_minute": 1_000_000_000}},
        "brakes": {"account": MANY},
        "audit": audit,
        "storage": {"url": "sqlite:///gateway.db"},
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))
    key = None
    if auth is KEYS:
        adding = [sys.executable, "-m", "gateway", "keys", "add", "bench", "--policy", "bench", "--config", str(config)]
        key = subprocess.run(adding, capture_output=True, text=True, check=True).stdout.strip()
    port = free_port()
    stack.enter_context(serving([*GATEWAY, "--config", str(config), "--port", str(port)], port, WEEK, key))
    return Variant(port, key, _bookings())


def _bookings() -> Iterator[Call]:
    """Each of another guest and at another time."""
    first = (datetime.now(UTC) + timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in itertools.count():
        start = first + timedelta(minutes=15 * number)
        guest = {"attendee_name": "Guest", "attendee_email": f"guest{number}@example.com"}
        yield Call("create_booking", {"event_type_id": "desk:quarter", "start": start.isoformat(), **guest})
