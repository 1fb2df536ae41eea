"""The stage of Google Calendar, which knows neither kinds nor appointments: they are event types of the account's own,
and events of its calendar."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from providers.google_calendar.api import GoogleCalendarApi
from providers.google_calendar.events import EVENT_TYPE, HOLD, MARKER, data, private, with_data
from providers.google_calendar.kept import Kept, KeptEvents
from providers.google_calendar.mcp import UNTOLD, GoogleCalendarMcp
from providers.google_calendar.tools import as_rest, described, key
from tests.emulators import google, google_mcp, google_mcp_shapes
from tests.emulators.wire import TOKEN
from tests.stage import ACCOUNT, EVENT_TYPES, Stage
from tests.world import HOST_EMAIL, KINDS, Appointment, World

CALENDAR = "primary"
STATUS = {"confirmed": "confirmed", "tentative": "pending", "cancelled": "cancelled"}


class GoogleStage(Stage):
    adapter: Any = GoogleCalendarApi
    emulator = google
    writes_of = {"create_booking": 2, "reschedule_booking": 4}
    keeps_event_types = False
    own_notes = {"find_slots": "within the working hours that are set in Google Calendar."}
    settings = {
        "auth": {"type": "bearer", "token": TOKEN},
        "event_types": EVENT_TYPES,
    }

    def __init__(self, provider: str, folder: Path, **quirks: Any) -> None:
        super().__init__(provider, folder, **quirks)
        self.world.appointments = _Written(self.world)

    def event_type(self, kind: str) -> str:
        return f"{ACCOUNT}:{kind}"

    async def book(self, kind: str, start: datetime, email: str = "ana@example.com", **details: Any) -> str:
        appointment = Appointment(
            kind,
            start,
            start.astimezone(UTC) + timedelta(minutes=KINDS[kind].minutes),
            email,
            **{"status": "pending" if KINDS[kind].approval else "confirmed", **details},
        )
        return f"{ACCOUNT}:{await self.write(appointment)}"

    async def write(self, appointment: Appointment) -> str:
        """An event behind the gateway's back; its id."""
        return write(self.world, appointment)

    async def appointments(self) -> list[Appointment]:
        kept = google.calendars(self.world).events[HOST_EMAIL].values()
        # A hold that was let go never was an appointment.
        ours = [each for each in kept if MARKER in private(each) and HOLD not in private(each)]
        return sorted(map(_appointment, ours), key=lambda each: each.start)


class GoogleMcpStage(GoogleStage):
    """An event has no field of the gateway's own there: its description says which booking it is."""

    via = "mcp"
    adapter = GoogleCalendarMcp
    emulator = google_mcp
    keeps_no_shows = False
    own_notes = {"find_slots": UNTOLD}

    async def write(self, appointment: Appointment) -> str:
        event = written(appointment)
        await self.gateway.open()
        kept = KeptEvents(self.gateway.storage, ACCOUNT)
        await kept.keep(event["id"], Kept(dict(private(event))))
        status = "cancelled" if event["status"] == "cancelled" else "confirmed"
        shown = {name: value for name, value in event.items() if name not in ("id", "extendedProperties")}
        made = google.calendars(self.world).insert(
            CALENDAR, shown | {"description": described(event), "status": status}
        )
        if status == "cancelled":
            await kept.keep(event["id"], Kept(dict(private(event)), google_mcp_shapes.event(made)))
        return str(made["id"])

    async def appointments(self) -> list[Appointment]:
        await self.gateway.open()
        shown = [google_mcp_shapes.event(each) for each in google.calendars(self.world).events[HOST_EMAIL].values()]
        kept = await KeptEvents(self.gateway.storage, ACCOUNT).of(map(key, shown))
        found = [as_rest(each, kept[key(each)].private) for each in shown if key(each) in kept]
        ours = [each for each in found if MARKER in private(each) and HOLD not in private(each)]
        return sorted(map(_appointment, ours), key=lambda each: each.start)


class _Written(dict[str, Appointment]):
    """Appointments that a test puts into the world by hand: they are events at once."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def __setitem__(self, key: str, appointment: Appointment) -> None:
        write(self._world, appointment)


def written(appointment: Appointment) -> dict[str, Any]:
    """An event as the gateway makes them."""
    id = appointment.marker or uuid4().hex
    is_confirmed, pending = appointment.status == "confirmed", appointment.status == "pending"
    kept: dict[str, Any] = {
        "guest": {"name": appointment.name, "email": appointment.email, "zone": appointment.zone},
        "guests": list(appointment.guests),
        "answers": appointment.answers,
        "notes": appointment.notes,
        "location": appointment.place,
        "reason": appointment.reason,
        "no_show": appointment.no_show,
        "declined": appointment.status == "declined",
    }
    people = [{"email": appointment.email, "displayName": appointment.name}]
    return {
        "id": id,
        "summary": f"{KINDS[appointment.kind].title} with {appointment.name}",
        "status": "confirmed" if is_confirmed else "tentative" if pending else "cancelled",
        "start": {"dateTime": appointment.start.isoformat()},
        "end": {"dateTime": appointment.end.isoformat()},
        "attendees": [] if pending else [*people, *({"email": each} for each in appointment.guests)],
        "extendedProperties": {
            "private": {
                EVENT_TYPE: appointment.kind,
                MARKER: id,
                **with_data({}, {name: value for name, value in kept.items() if value}),
            }
        },
    }


def write(world: World, appointment: Appointment) -> str:
    return str(google.calendars(world).insert(CALENDAR, written(appointment))["id"])


def _appointment(raw: Any) -> Appointment:
    kept = data(raw)
    guest, is_off = kept["guest"], raw["status"] == "cancelled"
    listed = [each["email"] for each in raw.get("attendees", ()) if each["email"] not in (HOST_EMAIL, guest["email"])]
    return Appointment(
        kind=private(raw)[EVENT_TYPE],
        start=datetime.fromisoformat(raw["start"]["dateTime"]),
        end=datetime.fromisoformat(raw["end"]["dateTime"]),
        email=guest["email"],
        name=guest["name"],
        zone=guest.get("zone", ""),
        status="declined" if is_off and kept.get("declined") else STATUS[raw["status"]],
        guests=tuple(listed),
        answers=kept.get("answers", {}),
        place=kept.get("location"),
        notes=kept.get("notes"),
        reason=kept.get("reason") if is_off else None,
        no_show=bool(kept.get("no_show")),
        marker=private(raw)[MARKER],
    )
