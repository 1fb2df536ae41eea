"""What an account at Google Calendar is configured with."""

from typing import Annotated

from pydantic import Field, field_validator

from providers.auth import BearerAuth
from providers.base import AccountConfig
from providers.google_calendar.auth import EVENTS, LASTING, SCOPES, GoogleAuth
from providers.hosted import HostedConfig
from providers.oauth import Target
from providers.own import OwnEventTypes
from providers.rest import RestConfig
from schemas import Line, WeeklyHours

PRIMARY = "primary"


class CalendarConfig(AccountConfig):
    """Bookings are written to `calendar`, which blocks slots as the `busy_calendars` do.

    `working_hours` default to the calendar's own, where they can be read, and else to Monday to Friday 9 to 17. The
    time zone is the calendar's.
    """

    calendar: Line = PRIMARY
    busy_calendars: tuple[Line, ...] = (PRIMARY,)
    working_hours: WeeklyHours | None = None
    event_types: OwnEventTypes | None = None


class GoogleConfig(RestConfig, CalendarConfig):
    base_url: str = "https://www.googleapis.com/calendar/v3"
    auth: Annotated[GoogleAuth | BearerAuth, Field(discriminator="type")]

    def target(self) -> Target:
        return _target(self.auth, SCOPES)


class GoogleMcpConfig(HostedConfig, CalendarConfig):
    url: str = "https://calendarmcp.googleapis.com/mcp/v1"
    auth: Annotated[GoogleAuth | BearerAuth, Field(discriminator="type")]

    @field_validator("auth")
    @classmethod
    def _is_a_person(cls, auth: GoogleAuth | BearerAuth) -> GoogleAuth | BearerAuth:
        if isinstance(auth, GoogleAuth) and not auth.is_browser:
            raise ValueError("needs client_id and client_secret: this server takes a person's consent in the browser")
        return auth

    def target(self) -> Target:
        return _target(self.auth, (EVENTS,))


def _target(auth: GoogleAuth | BearerAuth, scopes: tuple[str, ...]) -> Target:
    """Where to consent; the MCP server's own metadata names the same (2026-09), and is not needed for it."""
    endpoints = auth.endpoints() if isinstance(auth, GoogleAuth) else None
    return Target(resource=None, endpoints=endpoints, scopes=scopes, extra=LASTING)
