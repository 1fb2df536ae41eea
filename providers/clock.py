"""Time, handed in rather than looked up, so that tests decide what it is."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Protocol

import anyio

from schemas import zone


class Clock(Protocol):
    def now(self) -> datetime:
        """The present, in UTC, to the second."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""

    def within(self, seconds: float) -> AbstractContextManager[object]:
        """What is waited for in there takes no longer. Raises TimeoutError."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def within(self, seconds: float) -> AbstractContextManager[object]:
        return anyio.fail_after(seconds)


def machine_zone() -> str:
    """The IANA name of this machine's time zone; UTC where it has none."""
    from tzlocal import get_localzone_name

    try:
        return zone(get_localzone_name()).key
    except Exception:  # whatever is wrong with the machine's settings, UTC is a zone
        return "UTC"
