"""The tools. A function each: arguments in, one call of the gateway, a model out; the docstring is the description."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from mcp.types import ToolAnnotations
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from gateway.answers import (
    AccountsAnswer,
    BookingAnswer,
    BookingsAnswer,
    BusyTimesAnswer,
    EventTypeAnswer,
    EventTypesAnswer,
    LinkAnswer,
    MovedAnswer,
    ScheduleAnswer,
    SchedulesAnswer,
    SlotsAnswer,
)
from gateway.core import Gateway
from gateway.listing import Status
from gateway.pages import app
from gateway.surface import ADD, ADD_EACH_TIME, CHANGE, CHANGE_EACH_TIME, READ, App, Spec, as_json
from schemas import Answer, BookingResponse, Email, Line, Prose
from schemas.hours import DateChanges, WeeklyHours
from schemas.text import ANSWER_LENGTH
from schemas.text import checked as checked_text

F = TypeVar("F", bound=Callable[..., Awaitable[BaseModel]])

TOOLS: list[Spec] = []


def tool(title: str, annotations: ToolAnnotations, app: App | None = None) -> Callable[[F], F]:
    """Register a function as a tool."""

    def register(function: F) -> F:
        TOOLS.append(Spec(function, title, annotations, app))
        return function

    return register


def _answers(value: object) -> object:
    value = as_json(value)
    if isinstance(value, dict):
        for given in value.values():
            for text in given if isinstance(given, list) else [given]:
                if isinstance(text, str):
                    checked_text(text, length=ANSWER_LENGTH, lines=True)
                elif not isinstance(text, bool | int | float):
                    raise ValueError("each answer is a text, a number, true or false, or a list of texts")
    return value


def _one(value: object) -> object:
    value = as_json(value)
    return [value] if isinstance(value, str) else value


Id = Annotated[str, AfterValidator(lambda id: checked_text(id, length=1000, lines=False))]
Instant = Annotated[str, Field(description="RFC 3339 with offset (2026-11-20T15:00:00+01:00), or local with time_zone")]
Zone = Annotated[str, Field(description="IANA zone for local input and for output")]
Limit = Annotated[int, Field(ge=1, le=200)]
Names = Annotated[list[Line], BeforeValidator(_one)]


def _object(description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "object", "description": description})


Answers = Annotated[dict[str, Answer], BeforeValidator(_answers), _object("answer by question key")]
Hours = Annotated[
    WeeklyHours, BeforeValidator(as_json), _object('{"monday": ["09:00-12:00", "13:00-17:00"], "friday": []}')
]
Overrides = Annotated[
    DateChanges, BeforeValidator(as_json), _object('{"2026-12-24": []}; null: back to the weekly hours')
]
Minutes = Annotated[int, Field(ge=1, le=1440)]
Buffer = Annotated[int, Field(ge=0)]
Reason = Annotated[Prose, Field(description="the guest may read it")]
Key = Annotated[Line, Field(description="same key, same booking: reuse it when repeating a call")]


@tool("List accounts", READ)
async def list_accounts(gateway: Gateway) -> AccountsAnswer:
    """The connected calendars: state, time zone, and what each cannot do. `now` is the current time."""
    return await gateway.catalog.list_accounts()


@tool("List event types", READ)
async def list_event_types(
    gateway: Gateway, account: Id | None = None, query: Line | None = None, include_inactive: bool = False
) -> EventTypesAnswer:
    """What can be booked: kinds of meetings, with durations, locations and the questions a guest must answer."""
    return await gateway.catalog.list_event_types(account, query, include_inactive)


@tool("Create or change an event type", CHANGE_EACH_TIME)
async def save_event_type(
    gateway: Gateway,
    event_type_id: Annotated[Id, Field(description="omit to create")] | None = None,
    account: Annotated[Id, Field(description="for a new one, if there are several")] | None = None,
    title: Line | None = None,
    duration_minutes: Minutes | None = None,
    slug: Line | None = None,
    description: Prose | None = None,
    location: Annotated[Line, Field(description="as `locations` has them; replaces all")] | None = None,
    active: bool | None = None,
    buffer_before_minutes: Buffer | None = None,
    buffer_after_minutes: Buffer | None = None,
    minimum_notice_minutes: Buffer | None = None,
) -> EventTypeAnswer:
    """Create an event type (title and duration_minutes needed), or change the given fields of one."""
    return await gateway.catalog.save_event_type(
        event_type_id,
        account,
        {
            "title": title,
            "duration_minutes": duration_minutes,
            "slug": slug,
            "description": description,
            "location": location,
            "active": active,
            "buffer_before_minutes": buffer_before_minutes,
            "buffer_after_minutes": buffer_after_minutes,
            "minimum_notice_minutes": minimum_notice_minutes,
        },
    )


@tool("Delete an event type", CHANGE)
async def delete_event_type(gateway: Gateway, event_type_id: Id) -> EventTypeAnswer:
    """Delete an event type for good. Its bookings stay but cannot be moved; to pause it, save it with active=false."""
    return await gateway.catalog.delete_event_type(event_type_id)


@tool("Find free slots", READ, App(app.URI, app.shown))
async def find_slots(
    gateway: Gateway,
    event_type_ids: Names,
    start: Instant,
    end: Instant,
    time_zone: Zone | None = None,
    duration_minutes: Minutes | None = None,
    free_in: Annotated[Names, Field(description="accounts that must be free too")] | None = None,
    booking_id: Annotated[Id, Field(description="the booking to be moved; its own time counts as free")] | None = None,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> SlotsAnswer:
    """Times that can be booked, starting from `start` up to `end` (92 days at most), for any of the event types.

    Look here before create_booking or reschedule_booking and use a start exactly as given. Accounts under
    `unavailable` could not be checked: unknown, not free.
    """
    return await gateway.availability.find_slots(
        event_type_ids, start, end, time_zone, duration_minutes, free_in or [], booking_id, limit, cursor
    )


@tool("Find busy times", READ)
async def find_busy_times(
    gateway: Gateway, start: Instant, end: Instant, accounts: Names | None = None, time_zone: Zone | None = None
) -> BusyTimesAnswer:
    """When the user is busy (366 days at most). For bookable times use find_slots, which knows working hours too."""
    return await gateway.availability.find_busy_times(start, end, accounts, time_zone)


@tool("Book a meeting", ADD)
async def create_booking(
    gateway: Gateway,
    event_type_id: Id,
    start: Annotated[str, Field(description="a start from find_slots; a local time is in attendee_time_zone")],
    attendee_name: Line,
    attendee_email: Email,
    attendee_time_zone: Annotated[str, Field(description="the guest's IANA zone")] | None = None,
    duration_minutes: Minutes | None = None,
    guests: Annotated[list[Email], BeforeValidator(_one), Field(max_length=30, description="more e-mail addresses")]
    | None = None,
    answers: Answers | None = None,
    location: Line | None = None,
    notes: Prose | None = None,
    idempotency_key: Key | None = None,
) -> BookingAnswer:
    """Book a slot for a guest. Repeating the same call returns the same booking.

    slot_taken: look in find_slots again. outcome_unknown: look in list_bookings before repeating.
    """
    return await gateway.bookings.create(
        event_type_id,
        start,
        attendee_name,
        attendee_email,
        attendee_time_zone,
        duration_minutes,
        guests or [],
        answers or {},
        location,
        notes,
        idempotency_key,
    )


@tool("List bookings", READ)
async def list_bookings(
    gateway: Gateway,
    account: Id | None = None,
    status: Annotated[Status, Field(description="upcoming: not over yet; all: cancelled ones too")] = "upcoming",
    query: Annotated[Line, Field(description="a name or e-mail alone is best; every word must occur")] | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    attendee_email: Email | None = None,
    time_zone: Zone | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> BookingsAnswer:
    """Find meetings, by person, time or status, over all accounts. Past and cancelled ones come newest first."""
    return await gateway.listing.find(account, status, query, start, end, attendee_email, time_zone, limit, cursor)


@tool("Show a booking", READ)
async def get_booking(gateway: Gateway, booking_id: Id, time_zone: Zone | None = None) -> BookingAnswer:
    """One booking, with attendees, answers and links. An id from before a move finds the moved one."""
    return await gateway.bookings.get(booking_id, time_zone)


@tool("Move a booking", CHANGE)
async def reschedule_booking(
    gateway: Gateway,
    booking_id: Id,
    start: Annotated[str, Field(description="a start from find_slots (call it with this booking_id), with offset")],
    reason: Reason | None = None,
    idempotency_key: Key | None = None,
) -> MovedAnswer:
    """Move a booking to another start, whatever service it is in. Never cancel and rebook yourself."""
    return await gateway.moving.reschedule(booking_id, start, reason, idempotency_key)


@tool("Cancel a booking", CHANGE)
async def cancel_booking(gateway: Gateway, booking_id: Id, reason: Reason | None = None) -> BookingAnswer:
    """Cancel a booking for good. Be sure that the user means this one."""
    return await gateway.bookings.cancel(booking_id, reason)


@tool("Answer a booking", CHANGE)
async def respond_to_booking(
    gateway: Gateway, booking_id: Id, response: BookingResponse, reason: Reason | None = None
) -> BookingAnswer:
    """Confirm or decline a pending booking, answer an invitation, or note after its start whether the guest came."""
    return await gateway.bookings.respond(booking_id, response, reason)


@tool("List schedules", READ)
async def list_schedules(
    gateway: Gateway, account: Id | None = None, event_type_id: Id | None = None
) -> SchedulesAnswer:
    """Working hours: weekly hours and single dates, in the schedule's own time zone."""
    return await gateway.catalog.list_schedules(account, event_type_id)


@tool("Change a schedule", CHANGE)
async def update_schedule(
    gateway: Gateway,
    schedule_id: Id,
    weekly_hours: Hours | None = None,
    date_overrides: Overrides | None = None,
    time_zone: Annotated[str, Field(description="IANA zone of the hours")] | None = None,
) -> ScheduleAnswer:
    """Change working hours. Only the days and dates given change; [] closes one. Bookings there already stay."""
    return await gateway.catalog.update_schedule(
        schedule_id, {"weekly_hours": weekly_hours, "date_overrides": date_overrides, "time_zone": time_zone}
    )


@tool("Create a scheduling link", ADD_EACH_TIME)
async def create_scheduling_link(gateway: Gateway, event_type_id: Id, single_use: bool = True) -> LinkAnswer:
    """A link where a guest picks a time without us."""
    return await gateway.catalog.create_scheduling_link(event_type_id, single_use)
