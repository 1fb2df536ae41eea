"""What a provider is asked to do. Checked by the gateway before an adapter sees it."""

from datetime import datetime, timedelta

from pydantic import Field

from schemas.base import Instant, Model
from schemas.features import Feature
from schemas.hours import DateChanges, WeeklyHours
from schemas.models import Answer, Schedule
from schemas.zones import ZoneName

SECOND = timedelta(seconds=1)


class BookingRequest(Model):
    """Book `event_type_id` at `start` for one guest. `marker` is our id of this write, for a field kept for us.

    `carried` comes from a booking that this one takes the place of.
    """

    event_type_id: str
    start: Instant
    attendee_name: str
    attendee_email: str
    attendee_time_zone: ZoneName
    duration_minutes: int | None = None
    guests: tuple[str, ...] = ()
    answers: dict[str, Answer] = {}
    location: str | None = None
    notes: str | None = None
    marker: str = ""
    carried: dict[str, str] = {}

    @property
    def features(self) -> tuple[Feature, ...]:
        """Everything the provider must be able to do for this."""
        parts = {
            Feature.CREATE_BOOKING_GUESTS: self.guests,
            Feature.CREATE_BOOKING_LOCATION: self.location,
            Feature.CREATE_BOOKING_NOTES: self.notes,
        }
        return (Feature.CREATE_BOOKING, *(feature for feature, wanted in parts.items() if wanted))


class BookingQuery(Model):
    """Which bookings to list. Adapters narrow by what their service can, the gateway drops the rest.

    `ends_after` and `starts_before` bound the time a booking must touch. `live` is confirmed and pending ones (True) or
    the others (False), `pending` those alone. `newest_first` is the order of `start`, `resume_at` where in it to go on.
    """

    ends_after: Instant | None = None
    starts_before: Instant | None = None
    live: bool | None = None
    pending: bool = False
    attendee_email: str | None = None
    newest_first: bool = False
    resume_at: Instant | None = None

    def starts(self, longest: timedelta) -> tuple[datetime | None, datetime | None]:
        """The earliest and the latest start to ask for, where no meeting is longer than `longest`.

        A page goes on a second before the last one ended: some services leave out the bounds themselves.
        """
        earliest = self.ends_after and self.ends_after - longest
        latest = self.starts_before
        if self.resume_at is not None and self.newest_first:
            latest = min(filter(None, (latest, self.resume_at + SECOND)))
        elif self.resume_at is not None:
            earliest = max(filter(None, (earliest, self.resume_at - SECOND)))
        return earliest, latest


class EventTypeChange(Model):
    """What to create an event type with, or what to change in one; None leaves it as it is."""

    title: str | None = None
    duration_minutes: int | None = Field(None, ge=1, le=24 * 60)
    slug: str | None = None
    description: str | None = None
    location: str | None = None
    active: bool | None = None
    buffer_before_minutes: int | None = None
    buffer_after_minutes: int | None = None
    minimum_notice_minutes: int | None = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Everything the provider must be able to do for this."""
        parts = {
            Feature.SAVE_EVENT_TYPE_SLUG: self.slug,
            Feature.SAVE_EVENT_TYPE_MINIMUM_NOTICE: self.minimum_notice_minutes,
        }
        return (Feature.SAVE_EVENT_TYPE, *(feature for feature, wanted in parts.items() if wanted is not None))


class ScheduleChange(Model):
    """What to change in a schedule: only the days and dates given; None leaves all as it is."""

    weekly_hours: WeeklyHours | None = None
    date_overrides: DateChanges | None = None
    time_zone: ZoneName | None = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Everything the provider must be able to do for this."""
        return (Feature.UPDATE_SCHEDULE, *((Feature.UPDATE_SCHEDULE_DATES,) if self.date_overrides else ()))

    def is_in(self, schedule: Schedule) -> bool:
        """Whether the schedule has it."""
        return (
            self.time_zone in (None, schedule.time_zone)
            and all(schedule.weekly_hours.get(day, ()) == hours for day, hours in (self.weekly_hours or {}).items())
            and all(schedule.date_overrides.get(day) == hours for day, hours in (self.date_overrides or {}).items())
        )

    def applied_to(self, now: Schedule) -> Schedule:
        """The schedule with the change made."""
        dates = now.date_overrides | (self.date_overrides or {})
        return Schedule(
            id=now.id,
            name=now.name,
            is_default=now.is_default,
            time_zone=self.time_zone or now.time_zone,
            weekly_hours=now.weekly_hours | (self.weekly_hours or {}),
            date_overrides={date: hours for date, hours in sorted(dates.items()) if hours is not None},
        )
