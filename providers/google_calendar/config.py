"""What an account at Google Calendar is configured with."""

from typing import Annotated

from pydantic import Field

from providers.auth import BearerAuth
from providers.google_calendar.auth import GoogleAuth
from providers.own import OwnEventTypes
from providers.rest import RestConfig
from schemas import Line, WeeklyHours

PRIMARY = "primary"


class GoogleConfig(RestConfig):
    """Bookings are written to `calendar`, which blocks slots as the `busy_calendars` do.

    `working_hours` default to the calendar's own, and where it has none to Monday to Friday 9 to 17. The time zone is
    the calendar's.
    """

    base_url: str = "https://www.googleapis.com/calendar/v3"
    auth: Annotated[GoogleAuth | BearerAuth, Field(discriminator="type")]
    calendar: Line = PRIMARY
    busy_calendars: tuple[Line, ...] = (PRIMARY,)
    working_hours: WeeklyHours | None = None
    event_types: OwnEventTypes | None = None
