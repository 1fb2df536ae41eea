"""What an account of the embedded calendar is configured with, and begins with."""

from providers.base import AccountConfig
from providers.own import OwnEventType, OwnEventTypes
from schemas import WeeklyHours, ZoneName

SEEDS = (
    OwnEventType(slug="30-minute-meeting", title="30 minute meeting", duration_minutes=30, minimum_notice_minutes=60),
    OwnEventType(slug="60-minute-meeting", title="60 minute meeting", duration_minutes=60, minimum_notice_minutes=60),
)


class LocalConfig(AccountConfig):
    """`working_hours` default to Monday to Friday 9 to 17, `time_zone` to this machine's."""

    time_zone: ZoneName | None = None
    working_hours: WeeklyHours | None = None
    event_types: OwnEventTypes | None = None
