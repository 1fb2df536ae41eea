"""What only Google Calendar shows: other people's events, what blocks a slot, and the words of its errors.

Booking and moving are in test_google_bookings.py.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse

from providers.google_calendar.config import GoogleConfig
from schemas import NotFound, PermissionDenied, ProviderDown, RateLimited, SlotTaken, Unsupported
from tests import google_desk
from tests.agent import Agent
from tests.emulators.google import READONLY, TEAM
from tests.emulators.wire import TOKEN, Altered, Lost
from tests.google_desk import DAY, MEETING, PEOPLE, WINDOW, At, Made, Make, booking, events, kept, offered, timed, times
from tests.google_stage import GoogleStage
from tests.world import DAYS, ELEVEN, HOST_EMAIL, MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio
make, google = google_desk.make, google_desk.google


def all_day(first: str, after: str, **more: Any) -> dict[str, Any]:
    return {"summary": "Away", "start": {"date": first}, "end": {"date": after}, **more}


INVITED = [*PEOPLE, {"email": HOST_EMAIL, "responseStatus": "needsAction"}]
BOSS = {"organizer": {"email": "boss@example.com", "displayName": "Boss"}}


def invite(stage: GoogleStage, **more: Any) -> str:
    event = kept(stage).insert("primary", timed(attendees=INVITED, **more))
    event["organizer"] = BOSS["organizer"]
    return f"acme:{event['id']}"


class Answers(deque[Any]):
    """Every answer of that method for events is changed."""

    def __init__(self, stage: GoogleStage, method: str, change: Callable[[Any], Any]) -> None:
        super().__init__([None] * 50)
        self._stage, self._method, self._change = stage, method, change

    def popleft(self) -> Any:
        method, path = self._stage.world.requests[-1]
        return Altered(self._change) if method == self._method and "/events" in path else None


# Other people's events


async def test_an_event_with_others_is_a_booking_and_one_without_is_not(google: Made) -> None:
    stage, agent = google
    kept(stage).insert("primary", timed(NINE))
    kept(stage).insert("primary", all_day("2030-01-08", "2030-01-09", attendees=PEOPLE))
    shared = kept(stage).insert("primary", timed(TEN, attendees=PEOPLE, location="Room 1"))
    [found] = (await agent.list_bookings())["bookings"]
    assert (found["id"], found["title"], found["location"]) == (f"acme:{shared['id']}", "Plan", "Room 1")
    assert "event_type_id" not in found
    busy = (await agent.find_busy_times(**WINDOW))["busy"]
    assert [(each["start"], each["title"]) for each in busy] == [(NINE.isoformat(), "Plan"), (TEN.isoformat(), "Plan")]


def weekly(stage: GoogleStage) -> Any:
    times = {name: {**each, "timeZone": "Europe/Berlin"} for name, each in timed().items() if name != "summary"}
    series = {"summary": "Weekly", **times, "attendees": PEOPLE, "recurrence": ["RRULE:FREQ=WEEKLY;COUNT=3"]}
    return kept(stage).insert("primary", series)


async def test_a_series_is_its_instances(google: Made) -> None:
    stage, agent = google
    series = weekly(stage)
    first, second, third = (await agent.list_bookings())["bookings"]
    with pytest.raises(NotFound):
        await agent.cancel_booking(booking_id=f"acme:{series['id']}")
    await agent.cancel_booking(booking_id=second["id"])
    assert [each["id"] for each in (await agent.list_bookings())["bookings"]] == [first["id"], third["id"]]
    moved = await agent.reschedule_booking(booking_id=third["id"], start=(TEN + 15 * DAY).isoformat())
    assert (moved["id"], moved["start"]) == (third["id"], (TEN + 15 * DAY).isoformat())


async def series_of(stage: GoogleStage, agent: Agent) -> list[Any]:
    weekly(stage)
    found: list[Any] = (await agent.list_bookings())["bookings"]
    return found


async def test_an_instance_that_was_called_off_is_told_of(google: Made) -> None:
    stage, agent = google
    _, second, _ = await series_of(stage, agent)
    assert (await agent.cancel_booking(booking_id=second["id"]))["status"] == "cancelled"
    again = await agent.cancel_booking(booking_id=second["id"])
    assert (again["status"], again["note"]) == ("cancelled", "It was cancelled already.")
    assert {name: again[name] for name in ("id", "start", "end", "title")} == {
        name: second[name] for name in ("id", "start", "end", "title")
    }
    assert len([each for each in kept(stage).notices if each.kind == "cancelled"]) == 1


async def test_an_instance_whose_cancelling_has_lost_its_answer_is_found(google: Made) -> None:
    stage, agent = google
    first, second, third = await series_of(stage, agent)
    stage.world.failures = At(stage, PATCH=Lost)
    assert (await agent.cancel_booking(booking_id=second["id"]))["status"] == "cancelled"
    assert [each["id"] for each in (await agent.list_bookings())["bookings"]] == [first["id"], third["id"]]


async def test_a_meeting_that_was_called_off_may_have_lost_its_details(google: Made) -> None:
    stage, agent = google
    event = kept(stage).insert("primary", timed(attendees=PEOPLE))
    stage.world.failures = Answers(stage, "PATCH", lambda raw: {**raw, "attendees": []})
    cancelled = await agent.cancel_booking(booking_id=f"acme:{event['id']}", reason="ill")
    assert (cancelled["status"], cancelled["cancellation_reason"]) == ("cancelled", "ill")


async def test_of_what_was_deleted_nothing_but_its_id_may_be_left(google: Made) -> None:
    stage, agent = google
    await stage.book("intro", TEN)
    left = {"kind": "calendar#event", "id": "abcde12345"}
    stage.world.failures = Answers(stage, "GET", lambda raw: {**raw, "items": [left, *raw["items"]]})
    assert len((await agent.list_bookings(status="all"))["bookings"]) == 1


async def test_a_page_of_the_past_goes_on_with_what_began_before_and_lasted(google: Made) -> None:
    stage, agent = google
    kept(stage).insert("primary", timed(NINE, ELEVEN, attendees=PEOPLE, summary="Long"))
    kept(stage).insert("primary", timed(TEN, attendees=PEOPLE, summary="Short"))
    stage.clock.advance(2 * DAY)
    asked = {"status": "past", "start": (TEN + timedelta(minutes=15)).isoformat(), "limit": 1}
    page = await agent.list_bookings(**asked)
    rest = await agent.list_bookings(**asked, cursor=page["next_cursor"])
    assert [each["title"] for each in (*page["bookings"], *rest["bookings"])] == ["Short", "Long"]


async def test_who_alone_was_invited_sees_who_invited(google: Made) -> None:
    stage, agent = google
    event = kept(stage).insert("primary", timed(attendees=INVITED[1:]))
    event["organizer"] = BOSS["organizer"]
    [found] = (await agent.list_bookings())["bookings"]
    assert [each["email"] for each in found["attendees"]] == ["boss@example.com", HOST_EMAIL]
    answered = await agent.respond_to_booking(booking_id=found["id"], response="confirm")
    assert answered["status"] == "confirmed"
    assert [each["email"] for each in events(stage)[0]["attendees"]] == [HOST_EMAIL]


async def test_guests_whom_we_are_not_shown_stay(google: Made) -> None:
    stage, agent = google
    id = invite(stage)

    def seen(raw: Any) -> Any:
        own = [each for each in raw["attendees"] if each.get("self")]
        return {**raw, "attendees": own, "attendeesOmitted": True}

    stage.world.failures = Answers(stage, "GET", seen)
    await agent.respond_to_booking(booking_id=id, response="confirm")
    [event] = events(stage)
    answers = {each["email"]: each["responseStatus"] for each in event["attendees"]}
    assert answers == {"ana@example.com": "needsAction", HOST_EMAIL: "accepted"}


@pytest.mark.parametrize(("response", "status"), [("confirm", "confirmed"), ("decline", "declined")])
async def test_an_invitation_is_answered_for_oneself_alone(google: Made, response: str, status: str) -> None:
    stage, agent = google
    id = invite(stage)
    assert (await agent.get_booking(booking_id=id))["status"] == "pending"
    assert (await agent.respond_to_booking(booking_id=id, response=response))["status"] == status
    [event] = events(stage)
    assert event["status"] == "confirmed"
    answers = {each["email"]: each["responseStatus"] for each in event["attendees"]}
    said = {"confirm": "accepted", "decline": "declined"}[response]
    assert answers == {"ana@example.com": "needsAction", HOST_EMAIL: said}


async def test_what_somebody_else_organises_cannot_be_changed(google: Made) -> None:
    stage, agent = google
    id = invite(stage)
    with pytest.raises(Unsupported, match="Boss"):
        await agent.cancel_booking(booking_id=id)
    with pytest.raises(Unsupported, match="Boss"):
        await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    assert not stage.world.writes


async def test_an_event_of_ones_own_moves_only_to_a_free_time(google: Made) -> None:
    stage, agent = google
    event = kept(stage).insert("primary", timed(attendees=PEOPLE, description="Agenda", colorId="5"))
    kept(stage).insert("primary", timed(ELEVEN))
    with pytest.raises(SlotTaken):
        await agent.reschedule_booking(booking_id=f"acme:{event['id']}", start=ELEVEN.isoformat())
    await agent.reschedule_booking(booking_id=f"acme:{event['id']}", start=NINE.isoformat())
    moved = kept(stage).events[HOST_EMAIL][event["id"]]
    assert (moved["description"], moved["colorId"], len(moved["attendees"])) == ("Agenda", "5", 1)
    assert [each.kind for each in kept(stage).notices] == ["updated"]


# Slots


@pytest.mark.parametrize(
    ("more", "is_free"),
    [
        ({}, False),
        ({"status": "tentative"}, False),
        ({"transparency": "transparent"}, True),
        ({"status": "cancelled"}, True),
        ({"attendees": [{"email": HOST_EMAIL, "responseStatus": "declined"}]}, True),
        ({"attendees": [{"email": HOST_EMAIL, "responseStatus": "needsAction"}]}, False),
    ],
)
async def test_only_what_is_opaque_and_live_blocks(google: Made, more: dict[str, Any], is_free: bool) -> None:
    stage, agent = google
    kept(stage).insert("primary", timed(**more))
    assert ("2030-01-07T10:00" in await offered(stage, agent)) == is_free


async def test_an_all_day_event_blocks_its_days_across_a_clock_change(google: Made) -> None:
    stage, agent = google
    kept(stage).insert("primary", all_day("2030-03-29", "2030-04-01"))
    window = {"start": "2030-03-28T00:00:00+01:00", "end": "2030-04-02T00:00:00+02:00"}
    assert {start[:10] for start in await offered(stage, agent, **window)} == {"2030-03-28", "2030-04-01"}


async def test_an_all_day_event_blocks_its_whole_days_and_no_more(make: Make) -> None:
    always = {day: ["00:00-24:00"] for day in DAYS}
    stage, agent = await make(settings={"working_hours": always})
    kept(stage).insert("primary", all_day("2030-03-31", "2030-04-01"))
    window = {"start": "2030-03-30T00:00:00+01:00", "end": "2030-04-02T00:00:00+02:00"}
    found = await offered(stage, agent, **window)
    assert [sum(start.startswith(day) for start in found) for day in ("2030-03-30", "2030-03-31")] == [48, 0]
    assert (len(found), "2030-03-30T23:30" in found, "2030-04-01T00:00" in found) == (96, True, True)


async def test_every_kind_of_event_that_is_busy_blocks(google: Made) -> None:
    stage, agent = google
    kept(stage).insert("primary", timed(NINE, eventType="outOfOffice"))
    kept(stage).insert("primary", timed(TEN, eventType="focusTime"))
    for kind in ("workingLocation", "birthday"):
        kept(stage).insert("primary", all_day("2030-01-07", "2030-01-08", eventType=kind))
    found = await offered(stage, agent)
    assert [start[11:] for start in found[:3]] == ["09:30", "10:30", "11:00"]


async def test_an_event_of_many_days_blocks_them_all(google: Made) -> None:
    stage, agent = google
    kept(stage).insert("primary", timed(NINE - 30 * DAY, NINE + 30 * DAY))
    assert await offered(stage, agent) == []
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))


async def test_an_event_without_a_time_is_not_free_time(google: Made) -> None:
    stage, agent = google
    await stage.book("intro", TEN)
    times = ("start", "end")
    bare = Answers(
        stage,
        "GET",
        lambda raw: {**raw, "items": [{n: v for n, v in each.items() if n not in times} for each in raw["items"]]},
    )
    stage.world.failures = bare
    with pytest.raises(ProviderDown):
        await offered(stage, agent)


async def test_in_another_ones_calendar_who_signs_in_is_a_guest_like_others(make: Make) -> None:
    stage, agent = await make(settings={"calendar": TEAM, "busy_calendars": [TEAM]})
    at = datetime(2030, 1, 7, 15, tzinfo=UTC)
    declined = {"email": HOST_EMAIL, "responseStatus": "declined"}
    kept(stage).insert(TEAM, timed(at, attendees=[declined, *PEOPLE]))
    assert "2030-01-07T15:00" not in await offered(stage, agent, time_zone="UTC")
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, at))


async def test_ones_own_calendar_may_go_by_its_address(make: Make) -> None:
    sooner = {"event_types": [{**MEETING, "slot_step_minutes": 15}]}
    stage, agent = await make(settings={"calendar": HOST_EMAIL, **sooner})
    booked = await agent.create_booking(**booking(stage, event_type_id="acme:meeting"))
    assert len((await agent.find_busy_times(**WINDOW))["busy"]) == 1
    later = TEN + timedelta(minutes=15)
    await agent.reschedule_booking(booking_id=booked["id"], start=later.isoformat())
    assert list(times(stage).values()) == [later]


async def test_other_busy_calendars_block_too_and_are_never_guessed(make: Make) -> None:
    stage, agent = await make(settings={"busy_calendars": ["primary", TEAM, READONLY]})
    kept(stage).insert(TEAM, timed())
    assert "2030-01-07T10:00" not in await offered(stage, agent)
    before = stage.sent()
    assert await offered(stage, agent, end=(MONDAY + 56 * DAY).isoformat())
    assert stage.sent() - before == 2
    assert TEN.isoformat() in [each["start"] for each in (await agent.find_busy_times(**WINDOW))["busy"]]


@pytest.mark.parametrize("calendar", [TEAM, "gone@example.com"])
async def test_a_calendar_that_cannot_be_seen_is_not_free(make: Make, calendar: str) -> None:
    stage, agent = await make(settings={"busy_calendars": ["primary", calendar]}, unreadable=[TEAM])
    with pytest.raises(ProviderDown, match=calendar):
        await agent.find_slots(event_type_ids=[stage.intro], **WINDOW)


@pytest.mark.parametrize(
    ("settings", "quirks", "expected"),
    [
        ({"working_hours": {"monday": ["09:00-10:00"]}}, {}, {"monday": ["09:00-10:00"]}),
        ({}, {"workspace": False}, {day: ["09:00-17:00"] for day in ("monday", "tuesday", "wednesday")}),
    ],
)
async def test_hours_are_those_of_the_file_or_else_the_usual(
    make: Make, settings: dict[str, Any], quirks: dict[str, Any], expected: dict[str, Any]
) -> None:
    _, agent = await make(settings=settings, **quirks)
    [schedule] = (await agent.list_schedules())["schedules"]
    assert schedule["weekly_hours"] | expected == schedule["weekly_hours"]
    assert len(schedule["weekly_hours"]) == (1 if settings else 5)


async def test_hours_are_those_of_the_calendar(google: Made) -> None:
    stage, agent = google
    stage.world.hours = {"tuesday": ["13:00-14:00", "09:00-10:30"]}
    [schedule] = (await agent.list_schedules())["schedules"]
    assert schedule["weekly_hours"] == {"tuesday": ["09:00-10:30", "13:00-14:00"]}


async def test_short_and_empty_pages_are_not_the_last(make: Make) -> None:
    stage, agent = await make(short_pages=True)
    for hour in range(5):
        await stage.book("intro", NINE + timedelta(hours=hour))
    assert len((await agent.list_bookings())["bookings"]) == 5
    assert len(await offered(stage, agent)) == 11


async def test_another_calendar_has_its_own_zone_and_the_accounts_address(make: Make) -> None:
    stage, agent = await make(settings={"calendar": TEAM})
    [account] = (await agent.list_accounts())["accounts"]
    assert (account["time_zone"], account["email"]) == ("America/New_York", HOST_EMAIL)
    booked = await agent.create_booking(**booking(stage, datetime(2030, 1, 7, 15, tzinfo=UTC)))
    assert booked["start"] == "2030-01-07T10:00:00-05:00"
    assert len(kept(stage).events[TEAM]) == 1


# Errors


@pytest.mark.parametrize("limit_as", [403, 429])
async def test_too_many_requests_are_said_in_two_ways(make: Make, limit_as: int) -> None:
    stage, agent = await make(limit_as=limit_as)
    stage.world.allowance = 0
    with pytest.raises(RateLimited):
        await agent.list_bookings()


async def test_a_day_s_quota_that_is_spent_is_no_missing_permission(google: Made) -> None:
    stage, agent = google
    error = {"errors": [{"domain": "usageLimits", "reason": "dailyLimitExceeded"}], "message": "Daily Limit Exceeded"}
    stage.world.failures.extend([JSONResponse({"error": error}, 403)] * 9)
    with pytest.raises(RateLimited):
        await agent.list_bookings()


async def test_a_missing_scope_is_named(make: Make) -> None:
    _, agent = await make(scopes=["calendar.events"])
    [account] = (await agent.list_accounts())["accounts"]
    assert account["state"] == "failing"
    assert "https://www.googleapis.com/auth/calendar.readonly" in account["detail"]


async def test_a_calendar_that_can_only_be_read_takes_no_booking(make: Make) -> None:
    stage, agent = await make(settings={"calendar": READONLY})
    with pytest.raises(PermissionDenied):
        await agent.create_booking(**booking(stage))


async def test_a_token_is_never_repeated(google: Made) -> None:
    stage, agent = google
    error = {"error": {"errors": [{"reason": "forbidden"}], "message": "Bad token ya29.a0Abc-d_e for it"}}
    stage.world.failures.append(JSONResponse(error, 403))
    with pytest.raises(PermissionDenied) as caught:
        await agent.list_bookings()
    assert "ya29" not in caught.value.message


async def test_ids_are_quoted_in_paths(make: Make) -> None:
    stage, agent = await make(settings={"calendar": "en.german#holiday@group.v.calendar.google.com"})
    with pytest.raises(NotFound):
        await agent.list_bookings()
    assert stage.world.requests[-1][1].endswith("/calendars/en.german%23holiday@group.v.calendar.google.com")


def test_a_configuration_may_be_bare() -> None:
    config = GoogleConfig(provider="google_calendar", auth={"type": "bearer", "token": TOKEN})
    assert (config.calendar, config.busy_calendars, config.event_types) == ("primary", ("primary",), None)
