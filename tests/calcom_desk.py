"""What tests of Cal.com ask for."""

from datetime import datetime
from typing import Any

from tests import wired
from tests.stages import ACCOUNT, Stage
from tests.wired import told

VERSIONS = {"bookings": "2024-08-13", "event-types": "2024-06-14", "schedules": "2024-06-11", "slots": "2024-09-04"}

stage = wired.stage_of("calcom")


async def vendor(stage: Stage, method: str, path: str, **request: Any) -> Any:
    version = {"cal-api-version": VERSIONS[path.split("/")[1].partition("?")[0]]}
    return await told(stage, "https://api.cal.com/v2", method, path, version, **request)


async def made(stage: Stage, **settings: Any) -> str:
    """An event type made on cal.com."""
    said = {"title": "Special", "slug": "special", "lengthInMinutes": 30, **settings}
    return f"{ACCOUNT}:{(await vendor(stage, 'POST', '/event-types', json=said))['id']}"


def configure(stage: Stage, **settings: Any) -> None:
    account = stage.adapter.Config(provider="calcom", **stage.settings | settings)
    stage.config = stage.config.model_copy(update={"accounts": {ACCOUNT: account}})
    stage.restarted()


def start_at(start: datetime) -> dict[str, str]:
    return {"start": start.isoformat()}


def starts(found: Any) -> list[str]:
    return [each["start"] for each in found["slots"]]


def emails(found: Any) -> list[str]:
    return [each["attendees"][0]["email"] for each in found["bookings"]]


def live(stage: Stage) -> list[tuple[str, datetime]]:
    return sorted((each.email, each.start) for each in stage.world.appointments.values() if each.live)
