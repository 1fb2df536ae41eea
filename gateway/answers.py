"""What the tools answer: the vocabulary with routed ids, and every time in one zone with its weekday.

The docstrings and descriptions here reach a model only where they tell it more than the field's name does.
"""

from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime

from providers import Provider
from schemas import (
    Attendee,
    Booking,
    BookingStatus,
    BusyTime,
    EventType,
    Model,
    Outsider,
    Question,
    Schedule,
    weekday,
)
from schemas.hours import DateOverrides, WeeklyHours
from schemas.models import Answers


class Unavailable(Model):
    """An account that could not be asked, so that nothing is known of it."""

    account: str
    code: str
    message: str


class AccountAnswer(Model):
    account: str
    provider: str
    via: str
    state: Literal["ready", "needs_connection", "failing"]
    detail: str
    connect_url: str | None = None
    time_zone: str | None = None
    email: str | None = None
    cannot: dict[str, str]
    notes: dict[str, str]


class AccountsAnswer(Model):
    accounts: tuple[AccountAnswer, ...]
    now: AwareDatetime
    weekday: str


class EventTypeAnswer(Model):
    id: str
    account: str
    title: Outsider
    slug: str
    description: Outsider | None = None
    durations_minutes: tuple[int, ...]
    active: bool
    booking_url: str | None = None
    locations: tuple[str, ...]
    questions: tuple[Question, ...]
    buffer_before_minutes: int | None = None
    buffer_after_minutes: int | None = None
    minimum_notice_minutes: int | None = None

    @classmethod
    def of(cls, account: str, event_type: EventType) -> "EventTypeAnswer":
        return cls(
            **{name: getattr(event_type, name) for name in EventType.model_fields if name != "id"},
            id=routed(account, event_type.id),
            account=account,
        )


class EventTypesAnswer(Model):
    event_types: tuple[EventTypeAnswer, ...]
    unavailable: tuple[Unavailable, ...]


class SlotAnswer(Model):
    start: AwareDatetime
    end: AwareDatetime
    weekday: str
    event_type_id: str

    @classmethod
    def of(cls, start: datetime, end: datetime, event_type_id: str, tz: ZoneInfo) -> "SlotAnswer":
        start = start.astimezone(tz)
        return cls(start=start, end=end.astimezone(tz), weekday=weekday(start), event_type_id=event_type_id)


class SlotsAnswer(Model):
    slots: tuple[SlotAnswer, ...]
    time_zone: str
    now: AwareDatetime
    unavailable: tuple[Unavailable, ...]
    next_cursor: str | None = None


class BusyAnswer(Model):
    start: AwareDatetime
    end: AwareDatetime
    account: str
    title: Outsider | None = None

    @classmethod
    def of(cls, account: str, busy: BusyTime, tz: ZoneInfo) -> "BusyAnswer":
        return cls(start=busy.start.astimezone(tz), end=busy.end.astimezone(tz), account=account, title=busy.title)


class BusyTimesAnswer(Model):
    busy: tuple[BusyAnswer, ...]
    time_zone: str
    now: AwareDatetime
    unavailable: tuple[Unavailable, ...]


class BookingAnswer(Model):
    """`note`, if any, says what the gateway did other than asked: nothing, because it was done before."""

    id: str
    account: str
    event_type_id: str | None = None
    title: Outsider
    status: BookingStatus
    start: AwareDatetime
    end: AwareDatetime
    weekday: str
    time_zone: str
    attendees: tuple[Attendee, ...]
    location: Outsider | None = None
    join_url: str | None = None
    answers: Answers
    notes: Outsider | None = None
    cancel_url: str | None = None
    reschedule_url: str | None = None
    rescheduled_from: str | None = None
    rescheduled_to: str | None = None
    cancellation_reason: Outsider | None = None
    created_at: AwareDatetime | None = None
    note: str | None = None

    @classmethod
    def of(
        cls, account: str, booking: Booking, tz: ZoneInfo, note: str | None = None, asked_for: str | None = None
    ) -> "BookingAnswer":
        """`asked_for` is the id it was found by, which an earlier one of a moved booking may be."""
        said = _said(account, booking, tz)
        if asked_for is not None and asked_for != said["id"]:
            said["rescheduled_from"] = asked_for
        return cls(**said, note=note)


class MovedAnswer(BookingAnswer):
    method: Literal["native", "rebooked"]

    @classmethod
    def moved(
        cls, provider: Provider, booking: Booking, tz: ZoneInfo, asked_for: str, note: str | None = None
    ) -> "MovedAnswer":
        said = _said(provider.account, booking, tz) | {"rescheduled_from": asked_for}
        return cls(**said, note=note, method="rebooked" if provider.rebooks else "native")


class BookingsAnswer(Model):
    bookings: tuple[BookingAnswer, ...]
    now: AwareDatetime
    unavailable: tuple[Unavailable, ...]
    next_cursor: str | None = None


class ScheduleAnswer(Model):
    id: str
    account: str
    name: Outsider
    time_zone: str
    is_default: bool
    weekly_hours: WeeklyHours
    date_overrides: DateOverrides

    @classmethod
    def of(cls, account: str, schedule: Schedule) -> "ScheduleAnswer":
        values = {name: getattr(schedule, name) for name in Schedule.model_fields if name != "id"}
        return cls(**values, id=routed(account, schedule.id), account=account)


class SchedulesAnswer(Model):
    schedules: tuple[ScheduleAnswer, ...]
    unavailable: tuple[Unavailable, ...]


class LinkAnswer(Model):
    url: str
    single_use: bool


def routed(account: str, id: str) -> str:
    """A provider's id as callers see it."""
    return f"{account}:{id}"


def _said(account: str, booking: Booking, tz: ZoneInfo) -> dict[str, Any]:
    shown = Booking.model_fields.keys() - {"marker", "shared", "bound", "carried"}
    values: dict[str, Any] = {name: getattr(booking, name) for name in shown}
    for name in ("id", "event_type_id", "rescheduled_from", "rescheduled_to"):
        if (id := values[name]) is not None:
            values[name] = routed(account, str(id))
    for name in ("start", "end", "created_at"):
        if isinstance(at := values[name], datetime):
            values[name] = at.astimezone(tz)
    return values | {"account": account, "weekday": weekday(booking.start.astimezone(tz)), "time_zone": tz.key}
