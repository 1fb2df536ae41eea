"""What the suite needs of each account it runs on: how to configure it, and how to look behind it.

A stage sets up the world as a service has it and tells, afterwards, what happened there, whatever the gateway said.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from providers import PROVIDERS
from providers.local.store import Store
from providers.storage.tables import bookings
from schemas import Attendee, Booking
from tests.emulators import calcom, calendly, calendly_mcp, calid, calid_mcp
from tests.emulators.wire import TOKEN
from tests.google_stage import GoogleMcpStage, GoogleStage
from tests.stage import ACCOUNT, EVENT_TYPES, Stage
from tests.toy import Nothing
from tests.world import BERLIN, KINDS, Appointment

__all__ = ["ACCOUNT", "STAGES", "CalcomStage", "CalendlyStage", "CalidStage", "LocalStage", "NothingStage", "Stage"]


class NothingStage(Stage):
    adapter = Nothing
    settings = {}

    async def book(self, kind: str, start: datetime, email: str = "ana@example.com", **details: Any) -> str:
        return f"{ACCOUNT}:none"


class LocalStage(Stage):
    """The embedded calendar has no wire: the stage writes and reads its rows."""

    adapter = PROVIDERS["local"]["api"]
    settings = {
        "time_zone": BERLIN.key,
        "event_types": EVENT_TYPES,
    }

    async def book(self, kind: str, start: datetime, email: str = "ana@example.com", **details: Any) -> str:
        await self.gateway.open()
        provider = self.gateway.accounts[ACCOUNT]
        own = (await provider.list_event_types())[list(KINDS).index(kind)]
        status = details.pop("status", "pending" if KINDS[kind].approval else "confirmed")
        name = details.pop("name", "Ana")
        booking = Booking(
            id=f"b{len(await self.appointments()) + 1}",
            event_type_id=own.id,
            title=f"{own.title} with {name}",
            status=status,
            start=start.astimezone(UTC),
            end=start.astimezone(UTC) + timedelta(minutes=KINDS[kind].minutes),
            attendees=(
                Attendee(name=name, email=email),
                *(Attendee(name=guest, email=guest) for guest in details.pop("guests", ())),
            ),
            marker=uuid4().hex,
            **details,
        )
        store = Store(self.gateway.storage, ACCOUNT)
        async with store.change() as (connection, _):
            await store.add(connection, booking, provider._in_file[kind])  # type: ignore[attr-defined]  # the local one has it
        return f"{ACCOUNT}:{booking.id}"

    def event_type(self, kind: str) -> str:
        return f"{ACCOUNT}:{kind}"

    async def appointments(self) -> list[Appointment]:
        await self.gateway.open()
        async with self.gateway.storage.read() as connection:
            rows = await connection.execute(select(bookings).order_by(bookings.c.starts, bookings.c.id))
            return [_appointment(Booking.model_validate(row.data)) for row in rows]

    def sent(self) -> int:
        return 0


def _appointment(booking: Booking) -> Appointment:
    guest, *others = booking.attendees
    return Appointment(
        kind=booking.event_type_id or "",
        start=booking.start,
        end=booking.end,
        email=guest.email,
        name=guest.name,
        zone=guest.time_zone or "",
        status=booking.status,
        guests=tuple(each.email for each in others),
        answers=booking.answers,
        place=booking.location,
        notes=booking.notes,
        reason=booking.cancellation_reason,
        no_show=bool(guest.no_show),
        marker=booking.marker or "",
    )


class CalcomStage(Stage):
    adapter = PROVIDERS["calcom"]["api"]
    emulator = calcom
    settings = {"auth": {"type": "bearer", "token": TOKEN}}


class CalidStage(Stage):
    adapter = PROVIDERS["calid"]["api"]
    emulator = calid
    busy_path = "availability"
    settings = {"auth": {"type": "bearer", "token": TOKEN}}


class CalendlyStage(Stage):
    writes_of = {"reschedule_booking": 2}
    adapter = PROVIDERS["calendly"]["api"]
    emulator = calendly
    settings = {"auth": {"type": "bearer", "token": TOKEN}}


class CalendlyMcpStage(CalendlyStage):
    via = "mcp"
    adapter = PROVIDERS["calendly"]["mcp"]
    emulator = calendly_mcp

    @property
    def changeable(self) -> dict[str, str]:
        return {"event_type_id": self.intro}


class CalidMcpStage(CalidStage):
    via = "mcp"
    adapter = PROVIDERS["calid"]["mcp"]
    emulator = calid_mcp


class NestedCalidMcpStage(CalidMcpStage):
    """The arguments of its tools lie under `path`, `query` and `body`."""

    quirks = {"shape": "nested"}


STAGES: dict[str, type[Stage]] = {
    "local": LocalStage,
    "calcom": CalcomStage,
    "calid": CalidStage,
    "calendly": CalendlyStage,
    "calendly via mcp": CalendlyMcpStage,
    "calid via mcp": CalidMcpStage,
    "calid via mcp, nested": NestedCalidMcpStage,
    "google_calendar": GoogleStage,
    "google_calendar via mcp": GoogleMcpStage,
    "toy": Stage,
    "nothing": NothingStage,
}
"""Every registered provider has its stage here; `toy` and `nothing` exist for the tests alone."""
