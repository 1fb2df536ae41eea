"""The suite and the emulators kept honest: each fault is planted in the code, and a behaviour must notice it.

A fault that nobody notices is a test that cannot fail, or an emulator more patient than its service.
"""

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from gateway import core
from gateway.bookings import Bookings
from gateway.looking import Looking
from gateway.moves import Moves
from gateway.server import build_server
from providers import hosted, upstream
from providers.calcom import api as calcom
from providers.calcom import bookings as calcom_bookings
from providers.calcom import hours as calcom_hours
from providers.calcom.client import CalcomClient
from providers.calendly import api as calendly
from providers.calendly import bookings as calendly_bookings
from providers.calendly import hours as calendly_hours
from providers.calendly import mcp as calendly_mcp
from providers.calid import api as calid
from providers.calid import bookings as calid_bookings
from providers.calid import event_types as calid_event_types
from providers.calid import mcp as calid_mcp
from providers.google_calendar import api as google
from providers.google_calendar import availability as google_availability
from providers.google_calendar import client as google_client
from providers.google_calendar import events as google_events
from providers.google_calendar import hours as google_hours
from providers.google_calendar import tool_client as google_tools
from providers.google_calendar import tools as google_events_of_tools
from providers.google_calendar.client import GoogleClient
from providers.google_calendar.holds import GoogleHolds
from providers.google_calendar.kept import KeptEvents
from providers.google_calendar.mcp import GoogleCalendarMcp
from providers.rest import RestProvider
from providers.upstream import Upstream
from schemas import Booking, InvalidRequest, NotFound, OutcomeUnknown, ProviderDown, ScheduleChange, SchedulingError
from tests import test_calendly_mcp as on_calendly_mcp
from tests import test_calid_mcp as on_calid_mcp
from tests import test_conformance_bookings as bookings
from tests import test_conformance_catalog as catalog
from tests import test_conformance_slots as slots
from tests import test_conformance_weather as weather
from tests import test_google_bookings as on_google_bookings
from tests import test_google_calendar as on_google
from tests import test_google_mcp as on_google_mcp
from tests import test_upstream as on_upstream
from tests.agent import Agent, connected
from tests.google_desk import stages
from tests.stages import STAGES, Stage
from tests.world import MONDAY

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

Plant = Callable[[pytest.MonkeyPatch, Stage], None]
BOTH = ("calcom", "calendly")
EVERY = (*BOTH, "calid")
GOOGLE = ("google_calendar",)
GOOGLE_MCP, CALENDLY_MCP, CALID_MCP = ("google_calendar via mcp",), ("calendly via mcp",), ("calid via mcp",)


@dataclass(frozen=True)
class Fault:
    name: str
    plant: Plant
    noticed_by: Callable[..., Awaitable[None]]
    providers: tuple[str, ...] = EVERY
    params: dict[str, Any] = field(default_factory=dict)
    quirks: dict[str, Any] = field(default_factory=dict)


def replaced(holder: Any, name: str, value: Any) -> Plant:
    return lambda patch, stage: patch.setattr(holder, name, value)


def wrapped(holder: Any, name: str, change: Callable[[Any], Any]) -> Plant:
    """What the function answers, changed."""

    def plant(patch: pytest.MonkeyPatch, stage: Stage) -> None:
        real = getattr(holder, name)
        if inspect.iscoroutinefunction(real):

            async def later(*args: Any, **kwargs: Any) -> Any:
                return change(await real(*args, **kwargs))

            patch.setattr(holder, name, later)
        else:
            patch.setattr(holder, name, lambda *args, **kwargs: change(real(*args, **kwargs)))

    return plant


async def again_and_again(self: Any, method: str, path: str, into: Any, **request: Any) -> Any:
    """As `RestProvider.call`, but a write that fails is sent again."""
    request.pop("read", None)
    try:
        return await self._send(method, path, into, ProviderDown, **request)
    except ProviderDown:
        return await self._send(method, path, into, ProviderDown, **request)


async def never_empty_handed(self: Any, query: Any) -> AsyncIterator[Booking]:
    """As `list_bookings`, but what goes wrong is nothing."""
    try:
        for each in await self.call("GET", "/nothing", lambda raw: raw):
            yield each
    except Exception:
        return


def followed(patch: pytest.MonkeyPatch, stage: Stage) -> None:
    real = httpx2.AsyncClient.__init__
    patch.setattr(httpx2.AsyncClient, "__init__", lambda self, **given: real(self, **given, follow_redirects=True))


def forgetful(self: Any, *_: Any) -> Any:
    async def nothing() -> None: ...

    return nothing()


async def no_cancel(self: Any, provider: Any, booking: Booking, reason: str | None) -> Booking:
    return booking.model_copy(update={"status": "cancelled"})


async def forty_days(agent: Agent, stage: Stage) -> None:
    """A behaviour of its own: the suite's windows are shorter than what any service limits."""
    window = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=40)).isoformat()}
    found = await agent.find_slots(event_type_ids=[stage.review], **window, limit=500)
    assert len(found["slots"]) == len(list(stage.world.free("review", MONDAY, MONDAY + timedelta(days=40))))
    await agent.find_busy_times(**window)


async def paused(agent: Agent, stage: Stage) -> None:
    window = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=1)).isoformat()}
    [slot, *_] = (await agent.find_slots(event_type_ids=[stage.intro], **window))["slots"]
    await agent.save_event_type(event_type_id=stage.intro, active=False)
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    with pytest.raises(InvalidRequest):
        await agent.create_booking(event_type_id=stage.intro, start=slot["start"], **guest)


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda said: {name: value for name, value in said.items() if name not in names}


def only_what_changes(self: ScheduleChange, now: Any) -> Any:
    return now.model_copy(update={"weekly_hours": self.weekly_hours or {}, "date_overrides": self.date_overrides or {}})


class Anything(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "confirmed"


def credulous(patch: pytest.MonkeyPatch) -> None:
    for module in (calcom_bookings, calendly_bookings, calid_bookings):
        patch.setattr(module, "STATUS", Anything(module.STATUS))


def chainless(patch: pytest.MonkeyPatch, stage: Stage) -> None:
    patch.setattr(Moves, "add", forgetful)
    wrapped(calcom_bookings, "_booking", lambda each: each.model_copy(update={"rescheduled_to": None}))(patch, stage)


def nameless(real: Any) -> Any:
    async def call(self: Any, *given: Any, **request: Any) -> Any:
        return await real(self, *given, **request | {"headers": {}})

    return call


async def one_page(self: Any, path: str, params: Any) -> Any:
    found, _ = await CalcomClient.page(self, path, params)
    return found, False


# Google Calendar


async def anyway(self: Any, *_: Any, **__: Any) -> None:
    """As what checks something, but nothing is wrong with it."""


def anyway_now(self: Any, *_: Any) -> None:
    """As `anyway`."""


async def as_it_is(self: Any, held: Any) -> Any:
    return held


async def elsewhere_free(self: Any, window: Any) -> list[Any]:
    return []


def never_elsewhere_again(patch: pytest.MonkeyPatch, stage: Stage) -> None:
    """Other calendars are asked before the hold alone."""
    real, check = GoogleClient.busy_elsewhere, GoogleHolds.must_come_first

    async def first(self: Any, *given: Any, **more: Any) -> None:
        patch.setattr(GoogleClient, "busy_elsewhere", elsewhere_free)
        await check(self, *given, **more)
        patch.setattr(GoogleClient, "busy_elsewhere", real)

    patch.setattr(GoogleHolds, "must_come_first", first)


def sent_without(*names: str, method: str, header: str = "", plus: dict[str, Any] | None = None) -> Plant:
    """Requests of that method lack these parameters, or that header; or have more parameters."""

    def plant(patch: pytest.MonkeyPatch, stage: Stage) -> None:
        real = RestProvider.call

        async def call(self: Any, sent: str, path: str, into: Any, **request: Any) -> Any:
            if sent == method:
                request = {**request, "params": without(*names)(request.get("params") or {}) | (plus or {})}
                request["headers"] = without(header)(request.get("headers") or {})
            return await real(self, sent, path, into, **request)

        patch.setattr(RestProvider, "call", call)

    return plant


async def first_page(self: Any, params: Any) -> AsyncIterator[Any]:
    asked = {"singleEvents": "true", **params}
    for raw in (await self.call("GET", f"{self._path}/events", google_client._page, params=asked))["items"]:
        yield raw


def trusting(answer: Any, calendars: Any) -> Any:
    """As `busy_of`, but a calendar that could not be looked at is free."""
    seen = [id for id in calendars if not (answer["calendars"].get(id) or {"errors": 1}).get("errors")]
    return google_hours.busy_of(answer, seen)


def busy_if(change: Callable[[Any], Any]) -> Plant:
    """Whether an event is busy is asked of it changed."""
    return replaced(google_availability, "is_busy", lambda raw: google_hours.is_busy(change(raw)))


def opaque(raw: Any) -> Any:
    return {**raw, "transparency": "opaque"}


def sure_alone(raw: Any) -> Any:
    return raw if raw["status"] == "confirmed" else {**raw, "status": "cancelled"}


def all_as_self(raw: Any) -> Any:
    return {**raw, "attendees": [{**each, "self": True} for each in raw.get("attendees", ())]}


def all_day_in_utc(raw: Any, zone: Any) -> Any:
    return google_hours.span(raw, ZoneInfo("UTC") if "date" in raw["start"] else zone)


def own_answer_alone(raw: Any, email: Any, response: str) -> Any:
    return {"attendees": [{"email": email, "responseStatus": response}]}


def private_without(name: str) -> Callable[[Any], Any]:
    def change(event: Any) -> Any:
        kept = event["extendedProperties"]["private"]
        return {**event, "extendedProperties": {"private": without(name)(kept)}}

    return change


def invited(event: Any) -> Any:
    return {**event, "attendees": [{"email": "ben@example.com"}]}


def invited_at_once(patch: pytest.MonkeyPatch, stage: Stage) -> None:
    wrapped(google_events, "hold", invited)(patch, stage)
    sent_without(method="POST", plus={"sendUpdates": "all"})(patch, stage)


# Hosted MCP servers


async def each_for_itself(self: Any) -> Any:
    """As `_connected`, but what came of somebody else's attempt does not count."""
    async with self._connecting:
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection


def blurted(self: Any, text: str, real: Any = RestProvider._safe) -> str:
    self._tokens.clear()
    return str(real(self, text))


def squeezed(*given: Any, real: Any = calid_mcp._placed) -> Any:
    return real(*given) or {}


def bare(pattern: str, path: str, real: Any = calendly_mcp._uris) -> Any:
    uris = real(pattern, path)
    return uris and [each.rpartition("/")[2] for each in uris]


def not_later(self: Any, taken: Any, held: Any) -> bool:
    """As `comes_before`, but of two in the same second neither does."""
    return google_events.created(taken.raw) < google_events.created(held)


def any_line(patch: pytest.MonkeyPatch, stage: Stage) -> None:
    """Whoever writes the first line decides which booking it is."""

    def first(raw: Any) -> Any:
        return google_events_of_tools.REFERENCE.search(raw.get("description") or "")

    def as_it_stands(event: Any) -> str:
        return f"{event.get('description', '')}\n\n{google_events_of_tools.reference(event)}"

    patch.setattr(google_events_of_tools, "_found", first)
    patch.setattr(google_tools, "described", as_it_stands)


def any_page(zone: str) -> Any:
    return lambda raw: (list(raw.get("events") or ()), ZoneInfo(zone))


def by_the_wall_clock(event: Any) -> Any:
    zone = event["start"]["timeZone"]
    begins, ends = (
        datetime.fromisoformat(event[name]["dateTime"]).astimezone(ZoneInfo(zone)) for name in ("start", "end")
    )
    return {"startTime": begins.isoformat(), "endTime": ends.isoformat(), "timeZone": zone}


async def none_of_them(self: Any) -> list[Any]:
    return []


page_of_html = {"read": weather.READS["list_bookings"], "trouble": weather.page(500)}
write_lost = {"tool": "create_booking", "write": weather.WRITES["create_booking"]}

FAULTS = [
    Fault("a window is not split", replaced(calendly, "SLOTS_AT_ONCE", timedelta(days=92)), forty_days, ("calendly",)),
    Fault("busy times are not split", replaced(calendly, "BUSY_AT_ONCE", timedelta(99)), forty_days, ("calendly",)),
    Fault(
        "a failure is an empty list",
        lambda patch, stage: patch.setattr(stage.adapter, "list_bookings", never_empty_handed),
        weather.test_a_read_that_fails_is_tried_again_and_is_never_empty,
        params=page_of_html,
    ),
    Fault(
        "a write is sent again",
        replaced(RestProvider, "call", again_and_again),
        weather.test_a_write_that_did_not_arrive_is_looked_for_and_may_be_made_again,
        params={**write_lost, "trouble": weather.page(500)},
    ),
    Fault(
        "a lost answer is not looked for",
        replaced(core, "LOOKS", ()),
        weather.test_a_write_whose_answer_is_lost_is_found_and_answered,
        params=write_lost,
    ),
    Fault(
        "a look finds nothing",
        replaced(Looking, "booked", forgetful),
        weather.test_a_write_whose_answer_is_lost_is_found_and_answered,
        params=write_lost,
    ),
    Fault(
        "a redirect is followed",
        followed,
        weather.test_a_read_that_fails_is_tried_again_and_is_never_empty,
        params={**page_of_html, "trouble": weather.TROUBLES["a redirect to another host"]},
    ),
    Fault(
        "an unknown status is taken for confirmed",
        lambda patch, stage: credulous(patch),
        weather.test_a_status_that_nobody_knows_is_an_error_and_no_guess,
        params={"read": weather.READS["list_bookings"]},
    ),
    Fault(
        "the marker is not sent",
        wrapped(calcom, "body", without("metadata")),
        bookings.test_a_write_carries_our_marker,
        ("calcom",),
    ),
    Fault(
        "the marker is not sent",
        wrapped(calendly, "booking_body", without("tracking")),
        bookings.test_a_write_carries_our_marker,
        ("calendly",),
    ),
    Fault(
        "the marker is not sent",
        wrapped(calid, "body", without("metadata")),
        bookings.test_a_write_carries_our_marker,
        ("calid",),
    ),
    Fault(
        "the guest's zone is left to the server",
        wrapped(calid, "body", without("timeZone")),
        bookings.test_a_guest_keeps_their_own_zone,
        ("calid",),
    ),
    Fault(
        "the event type is changed by what changes alone",
        replaced(calid_event_types, "body", lambda change, now=None, real=calid_event_types.body: real(change)),
        catalog.test_only_what_is_given_changes,
        ("calid",),
    ),
    Fault(
        "a key is sent that nobody knows",
        wrapped(calcom, "body", lambda said: said | {"idempotencyKey": "k"}),
        bookings.test_a_booking_takes_the_slot,
        ("calcom",),
    ),
    Fault(
        "a location is left out",
        wrapped(calendly, "booking_body", without("location")),
        bookings.test_a_booking_takes_the_slot,
        ("calendly",),
    ),
    Fault(
        "answers are left out",
        wrapped(calcom, "body", without("bookingFieldsResponses")),
        bookings.test_answers_reach_the_booking,
        ("calcom",),
    ),
    Fault(
        "guests are left out",
        wrapped(calendly, "booking_body", without("event_guests")),
        bookings.test_guests_are_attendees_after_the_first,
        ("calendly",),
    ),
    Fault(
        "no reason is given",
        replaced(calcom, "NO_REASON", ""),
        bookings.test_a_key_of_a_cancelled_booking_says_so,
        ("calcom",),
    ),
    Fault(
        "the version is not named",
        lambda patch, stage: patch.setattr(RestProvider, "call", nameless(RestProvider.call)),
        slots.test_slots_are_what_the_service_has_on_offer,
        ("calcom",),
    ),
    Fault(
        "a list stops at its first page",
        lambda patch, stage: patch.setattr(calcom.CalcomApi, "page", one_page),
        bookings.test_a_list_is_whole_beyond_two_pages_of_the_service,
        ("calcom",),
        {"status": "upcoming", "newest_first": False},
    ),
    Fault(
        "a list without status is believed",
        wrapped(calcom, "_query", without("status")),
        bookings.test_each_status_lists_its_own,
        ("calcom",),
    ),
    Fault(
        "hours are replaced and not merged",
        replaced(ScheduleChange, "applied_to", only_what_changes),
        catalog.test_only_the_days_given_change,
        BOTH,
    ),
    Fault(
        "a day off is left out",
        replaced(calcom_hours, "CLOSED", ("09:00", "09:30")),
        catalog.test_single_dates_have_hours_of_their_own,
        ("calcom",),
    ),
    Fault(
        "closed days are left out",
        replaced(calendly_hours, "DAYS", ("monday",)),
        catalog.test_only_the_days_given_change,
        ("calendly",),
    ),
    Fault(
        "what is remembered outlives a change",
        replaced(RestProvider, "forget", lambda self: None),
        paused,
    ),
    Fault(
        "the old booking is not cancelled",
        replaced(Bookings, "call_off", no_cancel),
        bookings.test_a_move_takes_the_new_time_and_frees_the_old,
        ("calendly",),
    ),
    Fault(
        "a move is not remembered",
        replaced(Moves, "add", forgetful),
        bookings.test_a_move_takes_the_new_time_and_frees_the_old,
        ("calendly",),
    ),
    Fault(
        "a new uid is not followed",
        lambda patch, stage: chainless(patch, stage),
        bookings.test_a_move_takes_the_new_time_and_frees_the_old,
        ("calcom",),
    ),
    Fault(
        "a taken slot is an invalid request",
        lambda patch, stage: patch.setattr(stage.adapter, "explain", lambda self, response: InvalidRequest),
        bookings.test_a_taken_slot_says_so_and_changes_nothing,
    ),
]

GOOGLE_FAULTS = [
    Fault(
        "nobody looks who came first",
        replaced(GoogleHolds, "must_come_first", anyway),
        on_google_bookings.test_of_two_holds_of_one_second_the_lower_id_wins,
        params={"id": "0" * 32, "wins": False},
    ),
    Fault(
        "a move does not look who came first",
        replaced(GoogleHolds, "must_come_first", anyway),
        on_google_bookings.test_a_move_and_a_booking_of_the_same_second_are_one,
        params={"id": "0", "hold": google_events.OPEN, "wins": False},
    ),
    Fault(
        "the later holds stay",
        replaced(GoogleHolds, "drive_out", anyway),
        on_google_bookings.test_of_two_holds_of_one_second_the_lower_id_wins,
        params={"id": "f" * 32, "wins": True},
    ),
    Fault(
        "a hold has guests already",
        wrapped(google_events, "hold", invited),
        on_google_bookings.test_a_guest_is_invited_once_and_after_the_hold_alone,
    ),
    Fault(
        "a hold is told of",
        invited_at_once,
        on_google_bookings.test_a_later_hold_that_becomes_a_booking_is_not_removed,
    ),
    Fault(
        "an event is changed whatever it is by now",
        sent_without(method="PATCH", header="If-Match"),
        on_google_bookings.test_a_hold_that_was_removed_meanwhile_is_not_revived,
    ),
    Fault(
        "a hold is removed whatever it is by now",
        sent_without(method="DELETE", header="If-Match"),
        on_google_bookings.test_a_later_hold_that_becomes_a_booking_is_not_removed,
    ),
    Fault(
        "a hold is not let go",
        replaced(GoogleHolds, "let_go", anyway),
        on_google_bookings.test_an_invitation_that_was_not_sent_leaves_no_hold,
    ),
    Fault(
        "the hold of a move is not claimed",
        replaced(GoogleHolds, "claimed", as_it_is),
        on_google_bookings.test_a_move_holds_its_new_time_until_it_is_there,
    ),
    Fault(
        "the hold of a move has no buffers",
        wrapped(google_events, "hold_for", private_without("schedData0")),
        on_google_bookings.test_the_buffers_of_a_move_count,
    ),
    Fault(
        "a move may take for ever",
        replaced(google, "LONGEST", timedelta(days=1)),
        on_google_bookings.test_a_move_that_was_held_up_does_not_happen,
    ),
    Fault(
        "a lost move may arrive later",
        replaced(google_events, "touched", dict),
        on_google_bookings.test_a_move_that_did_not_arrive_in_time_never_does,
    ),
    Fault(
        "a hold is respected for ever",
        replaced(google_availability, "HOLDS", timedelta(days=999)),
        on_google_bookings.test_a_hold_that_was_left_over_is_removed,
    ),
    Fault(
        "a hold is as old as our clock says",
        replaced(
            GoogleHolds,
            "counts",
            lambda self, each, now=None, real=GoogleHolds.counts: real(self, each),
        ),
        on_google_bookings.test_what_another_one_claimed_is_respected_whatever_our_clock_shows,
    ),
    Fault(
        "the day is not counted again",
        replaced(GoogleHolds, "_too_many", lambda self, *_: elsewhere_free(self, None)),
        on_google_bookings.test_a_day_is_not_filled_beyond_its_most_by_two_at_once,
        params={"id": "0", "hold": None, "wins": False},
    ),
    Fault(
        "other calendars are not asked again",
        never_elsewhere_again,
        on_google_bookings.test_what_is_booked_meanwhile_in_another_busy_calendar_wins,
    ),
    Fault(
        "other calendars are not asked",
        replaced(GoogleClient, "busy_elsewhere", elsewhere_free),
        on_google.test_other_busy_calendars_block_too_and_are_never_guessed,
    ),
    Fault(
        "a calendar that cannot be seen is free",
        replaced(google_client, "busy_of", trusting),
        on_google.test_a_calendar_that_cannot_be_seen_is_not_free,
        params={"calendar": "gone@example.com"},
    ),
    Fault(
        "transparent events are busy",
        busy_if(opaque),
        on_google.test_only_what_is_opaque_and_live_blocks,
        params={"more": {"transparency": "transparent"}, "is_free": True},
    ),
    Fault(
        "tentative events are free",
        busy_if(sure_alone),
        on_google.test_only_what_is_opaque_and_live_blocks,
        params={"more": {"status": "tentative"}, "is_free": False},
    ),
    Fault(
        "what anybody declined is free",
        busy_if(all_as_self),
        on_google.test_in_another_ones_calendar_who_signs_in_is_a_guest_like_others,
    ),
    Fault(
        "a day is one of UTC",
        replaced(google_availability, "span", all_day_in_utc),
        on_google.test_an_all_day_event_blocks_its_whole_days_and_no_more,
    ),
    Fault(
        "the hours of the calendar are ignored",
        replaced(google_hours, "_weekly", lambda calendar: {}),
        on_google.test_hours_are_those_of_the_calendar,
    ),
    Fault(
        "a list stops at its first page",
        replaced(GoogleClient, "events", first_page),
        on_google.test_short_and_empty_pages_are_not_the_last,
    ),
    Fault(
        "other attendees are left out",
        replaced(google_events, "answered", own_answer_alone),
        on_google_bookings.test_what_others_changed_meanwhile_survives,
    ),
    Fault(
        "the organizer is not asked",
        replaced(google.GoogleCalendarApi, "_must_organise", lambda self, raw: None),
        on_google.test_what_somebody_else_organises_cannot_be_changed,
    ),
    Fault(
        "nobody is told",
        sent_without("sendUpdates", method="PATCH"),
        on_google_bookings.test_a_guest_is_invited_once_and_after_the_hold_alone,
    ),
    Fault(
        "a link is not kept",
        sent_without("conferenceDataVersion", method="PATCH"),
        on_google_bookings.test_a_meeting_online_has_a_link,
    ),
    Fault(
        "the id is the server's",
        wrapped(google_events, "hold", without("id")),
        on_google_bookings.test_a_guest_is_invited_once_and_after_the_hold_alone,
    ),
    Fault(
        "the marker is not sent",
        wrapped(google_events, "hold", private_without(google_events.MARKER)),
        on_google_bookings.test_a_hold_whose_answer_is_lost_becomes_the_booking,
    ),
    Fault(
        "the event type is not kept",
        wrapped(google_events, "hold", private_without(google_events.EVENT_TYPE)),
        on_google_bookings.test_a_guest_s_booking_is_of_its_event_type,
    ),
    Fault(
        "too many requests are a missing permission",
        replaced(google_client, "SPENT", ()),
        on_google.test_too_many_requests_are_said_in_two_ways,
        params={"limit_as": 403},
    ),
]
FAULTS += [replace(fault, providers=GOOGLE) for fault in GOOGLE_FAULTS]

UPSTREAM_FAULTS = [
    Fault(
        "a session that was forgotten is gone on with",
        replaced(upstream, "NO_SESSION", re.compile("(?!)")),
        on_upstream.test_a_session_that_the_server_forgot_is_begun_anew_and_nothing_is_done_twice,
        quirks={"sessions": True, "forgotten": 400},
    ),
    Fault(
        "a connection that nobody waits for stays",
        replaced(upstream, "_close", anyway),
        on_upstream.test_who_gives_up_while_it_connects_leaves_no_connection,
        quirks={"sessions": True},
    ),
    Fault(
        "everybody waits for a connection of their own",
        replaced(Upstream, "_connected", each_for_itself),
        on_upstream.test_those_who_wait_for_a_connection_that_fails_do_not_each_wait_for_one_of_their_own,
    ),
    Fault(
        "a server that is gone is a booking that is gone",
        replaced(upstream, "ABSENT", ()),
        on_upstream.test_a_server_that_is_not_there_any_more_says_nothing_of_a_booking,
        params={"answer": on_upstream.page(404)},
    ),
    Fault(
        "any number is a status",
        replaced(hosted, "STATED", re.compile(rb"[^{]{0,40}?\b([45]\d\d)\b")),
        on_upstream.test_a_status_is_read_where_a_server_states_one_and_not_guessed,
        params={"text": "The host has 404 other meetings.", "error": OutcomeUnknown},
    ),
    Fault(
        "what an API refuses is a tool that changed",
        replaced(upstream, "STATED", re.compile(rb"(?!)")),
        on_upstream.test_a_status_is_read_where_a_server_states_one_and_not_guessed,
        params={"text": "HTTP error 400: Bad Request - missing required field", "error": InvalidRequest},
    ),
    Fault(
        "a token is repeated",
        replaced(RestProvider, "_safe", blurted),
        on_upstream.test_a_token_that_is_repeated_is_not_shown,
    ),
    Fault(
        "the tools of yesterday are called",
        replaced(Upstream, "_leave", anyway_now),
        on_upstream.test_a_tool_that_goes_overnight_is_named_and_one_that_comes_back_is_used,
    ),
    Fault(
        "an error that is called none is none",
        replaced(calendly_mcp.CalendlyMcp, "is_error", lambda self, told: told.is_error),
        on_calendly_mcp.test_an_error_is_known_by_its_title_whether_or_not_it_is_called_one,
        params={"said": on_calendly_mcp.GONE, "error": NotFound, "is_error": False},
    ),
    Fault(
        "ids are sent instead of URIs",
        replaced(calendly_mcp, "_uris", bare),
        on_calendly_mcp.test_a_reason_may_be_left_out,
    ),
]
FAULTS += [replace(fault, providers=CALENDLY_MCP) for fault in UPSTREAM_FAULTS]
CALID_MCP_FAULTS = [
    Fault(
        "an error that is called none is none",
        replaced(calid_mcp.CalidMcp, "is_error", lambda self, told: told.is_error),
        on_calid_mcp.test_an_error_has_its_name_in_every_style_and_is_never_taken_for_done,
        params={"style": "plain", "status": 404, "said": on_calid_mcp.NO_ROUTE, "error": NotFound},
    ),
    Fault(
        "an argument without a place is left out",
        replaced(calid_mcp, "_placed", squeezed),
        on_calid_mcp.test_a_tool_without_a_place_for_its_arguments_is_named,
    ),
]
FAULTS += [replace(fault, providers=CALID_MCP) for fault in CALID_MCP_FAULTS]

GOOGLE_MCP_FAULTS = [
    Fault(
        "a hold is told of",
        replaced(google_tools, "NONE", google_tools.ALL),
        on_google_mcp.test_a_hold_is_silent_and_its_guests_are_invited_once,
    ),
    Fault(
        "nobody is told",
        replaced(google_tools, "ALL", google_tools.NONE),
        on_google_mcp.test_a_hold_is_silent_and_its_guests_are_invited_once,
    ),
    Fault(
        "of two in one second both stay",
        replaced(GoogleCalendarMcp, "comes_before", not_later),
        on_google_mcp.test_of_two_holds_the_earlier_stays_and_of_one_second_none,
        params={"later": timedelta(0), "wins": False},
    ),
    Fault(
        "nobody looks who came first",
        replaced(GoogleHolds, "must_come_first", anyway),
        on_google_mcp.test_of_many_at_two_gateways_with_storages_of_their_own_one_gets_the_slot_at_most,
        params={"apart": timedelta(0), "guests": 2, "winners": {0}},
    ),
    Fault(
        "an event is changed whatever it is by now",
        replaced(google_tools.GoogleTools, "_must_be", anyway),
        on_google_mcp.test_a_hold_that_somebody_removed_is_no_booking,
    ),
    Fault(
        "the server is believed to have read the hour",
        replaced(google_tools, "span_of", lambda raw: (datetime.min.replace(tzinfo=UTC),) * 2),
        on_google_mcp.test_a_hold_that_is_another_one_than_was_asked_for_is_removed_and_nobody_invited,
        params={"misread": on_google_mcp.hour_later},
    ),
    Fault(
        "an hour that a day has twice is one",
        replaced(google_tools, "times", by_the_wall_clock),
        on_google_mcp.test_an_hour_that_a_day_has_twice_is_booked_as_meant,
        params={"offset": "+01:00"},
    ),
    Fault(
        "a guest's notes say which booking it is",
        any_line,
        on_google_mcp.test_a_line_in_a_guest_s_notes_is_not_ours,
        params={"notes": on_google_mcp.FORGED},
    ),
    Fault(
        "somebody else's line is ours",
        replaced(google_events_of_tools, "organises", lambda raw: True),
        on_google_mcp.test_a_line_in_somebody_else_s_invitation_is_not_ours,
    ),
    Fault(
        "an answer without a calendar is an empty list",
        replaced(google_tools, "_page", any_page("UTC")),
        on_google_mcp.test_an_answer_without_a_calendar_is_no_empty_list,
        params={"answer": {}},
    ),
    Fault(
        "a day is one of our zone",
        replaced(google_tools, "_page", any_page("Europe/Berlin")),
        on_google_mcp.test_a_day_in_another_calendar_is_a_day_of_its_zone,
    ),
    Fault(
        "a series is its first event",
        wrapped(google_tools, "as_rest", without("recurrence")),
        on_google_mcp.test_a_series_that_is_listed_as_one_event_is_no_free_time,
    ),
    Fault(
        "what was called off is forgotten",
        replaced(KeptEvents, "cancelled", none_of_them),
        on_google_mcp.test_cancelled_bookings_are_remembered_and_what_was_put_back_is_live,
    ),
    Fault(
        "what is kept of a hold stays",
        replaced(KeptEvents, "drop", anyway),
        on_google_mcp.test_nothing_is_kept_of_holds,
    ),
]
FAULTS += [replace(fault, providers=GOOGLE_MCP) for fault in GOOGLE_MCP_FAULTS]


CASES = [pytest.param(fault, name, id=f"{fault.name}-{name}") for fault in FAULTS for name in fault.providers]


@asynccontextmanager
async def on_stage(fault: Fault, provider: str, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """What tests take, by its name."""
    stage = STAGES[provider](provider, folder, **fault.quirks)
    known: dict[str, Any] = {"stage": stage, **fault.params}
    if "hosted" in inspect.signature(fault.noticed_by).parameters:
        known["hosted"] = on_upstream.Hosted(stage)
    async with connected(build_server(stage.gateway)) as agent, stages(folder, provider) as make:
        yield known | {"agent": agent, "make": make, "google": (stage, agent)}
    await stage.gateway.close()


async def behaves(fault: Fault, provider: str, folder: Path, patch: pytest.MonkeyPatch | None) -> None:
    async with AsyncExitStack() as stack:
        known = await stack.enter_async_context(on_stage(fault, provider, folder))
        if patch is not None:
            fault.plant(patch, known["stage"])
        await known["stage"].gateway.open()
        test = inspect.unwrap(fault.noticed_by)
        await test(**{name: known[name] for name in inspect.signature(test).parameters})
        assert known["stage"].world.violations == []


@pytest.mark.parametrize(("fault", "provider"), CASES)
async def test_a_planted_fault_is_noticed(
    fault: Fault, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sound").mkdir()
    (tmp_path / "planted").mkdir()
    await behaves(fault, provider, tmp_path / "sound", None)
    # Noticed by what the test says, not by a crash of the fault itself.
    with pytest.raises((AssertionError, SchedulingError, pytest.fail.Exception)):
        await behaves(fault, provider, tmp_path / "planted", monkeypatch)
