"""What only Google Calendar shows: holds, invitations, other people's events, and the words of its errors."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from httpx2 import ReadTimeout
from starlette.responses import JSONResponse

from gateway.server import build_server
from providers.google_calendar.availability import HOLDS
from providers.google_calendar.config import GoogleConfig
from providers.google_calendar.events import (
    CLAIMED,
    EVENT_TYPE,
    HOLD,
    MARKER,
    MOST_DATA,
    OPEN,
    data,
    private,
    with_data,
)
from schemas import (
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
    Unsupported,
)
from tests.agent import Agent, connected
from tests.emulators.google import READONLY, TEAM, Calendars, calendars
from tests.emulators.wire import TOKEN, Altered, Lost
from tests.google_stage import GoogleStage
from tests.world import DAYS, ELEVEN, HOST_EMAIL, MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio

DAY, HALF_HOUR = timedelta(days=1), timedelta(minutes=30)
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + DAY).isoformat()}
MEETING: dict[str, Any] = {"slug": "meeting", "title": "Meeting", "duration_minutes": 30}
Made = tuple[GoogleStage, Agent]
Make = Callable[..., Any]


@asynccontextmanager
async def stages(folder: Path) -> AsyncIterator[Make]:
    """What makes stages with other settings or quirks, and an agent on each."""
    async with AsyncExitStack() as stack:

        async def made(*, settings: dict[str, Any] | None = None, **quirks: Any) -> Made:
            class Set(GoogleStage):
                pass

            Set.settings = {**GoogleStage.settings, **(settings or {})}
            stage = Set("google_calendar", folder, **quirks)
            stack.push_async_callback(stage.gateway.close)
            agent = await stack.enter_async_context(connected(build_server(stage.gateway)))
            return stage, agent

        yield made


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with stages(tmp_path) as made:
        yield made


@pytest.fixture
async def google(make: Make) -> Made:
    made: Made = await make()
    return made


def kept(stage: GoogleStage) -> Calendars:
    return calendars(stage.world)


def events(stage: GoogleStage) -> list[Any]:
    return list(kept(stage).events[HOST_EMAIL].values())


def timed(start: datetime = TEN, end: datetime | None = None, **more: Any) -> dict[str, Any]:
    """An event as somebody has made it in Google's own page."""
    times = {"start": {"dateTime": start.isoformat()}, "end": {"dateTime": (end or start + HALF_HOUR).isoformat()}}
    return {"summary": "Plan", **times, **more}


def all_day(first: str, after: str, **more: Any) -> dict[str, Any]:
    return {"summary": "Away", "start": {"date": first}, "end": {"date": after}, **more}


def booking(stage: GoogleStage, start: datetime = TEN, **more: Any) -> dict[str, Any]:
    return {"event_type_id": stage.intro, "start": start.isoformat(), **BEN, **more}


async def offered(stage: GoogleStage, agent: Agent, **more: Any) -> list[str]:
    found = await agent.find_slots(event_type_ids=[stage.intro], limit=500, **{**WINDOW, **more})
    return [slot["start"][:16] for slot in found["slots"]]


PEOPLE = [{"email": "ana@example.com", "displayName": "Ana"}]
INVITED = [*PEOPLE, {"email": HOST_EMAIL, "responseStatus": "needsAction"}]
BOSS = {"organizer": {"email": "boss@example.com", "displayName": "Boss"}}


def invite(stage: GoogleStage, **more: Any) -> str:
    event = kept(stage).insert("primary", timed(attendees=INVITED, **more))
    event["organizer"] = BOSS["organizer"]
    return f"acme:{event['id']}"


# Booking


async def test_a_guest_is_invited_once_and_after_the_hold_alone(google: Made) -> None:
    stage, agent = google
    booked = await agent.create_booking(**booking(stage, guests=["zoe@example.com"]))
    assert [(each.kind, each.addresses) for each in kept(stage).notices] == [
        ("invited", ("ben@example.com", "zoe@example.com"))
    ]
    assert [method for method, _ in stage.world.writes] == ["POST", "PATCH"]
    [event] = events(stage)
    assert (f"acme:{event['id']}", event["status"]) == (booked["id"], "confirmed")
    assert private(event)[MARKER] == event["id"]
    assert HOLD not in private(event)


@pytest.mark.parametrize("moves", [False, True])
async def test_of_many_guests_at_two_gateways_one_gets_the_slot_and_nothing_is_left(google: Made, moves: bool) -> None:
    stage, agent = google
    first = stage.gateway
    moving = await stage.book("intro", ELEVEN)
    kept(stage).notices.clear()
    outcomes: list[str] = []

    async def book(by: Agent, number: int) -> None:
        guest = {"attendee_name": f"Guest {number}", "attendee_email": f"guest{number}@example.com"}
        try:
            await by.create_booking(**(booking(stage) | guest))
        except SchedulingError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("booked")

    async def move() -> None:
        try:
            await agent.reschedule_booking(booking_id=moving, start=TEN.isoformat())
        except SchedulingError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("booked")

    second = stage.restarted()
    async with connected(build_server(second)) as other:
        async with anyio.create_task_group() as group:
            for number in range(32):
                group.start_soon(book, (agent, other)[number % 2], number)
            if moves:
                group.start_soon(move)
        await first.close()
    assert sorted(outcomes) == ["booked"] + ["slot_taken"] * (31 + moves)
    live = [each for each in events(stage) if each["status"] != "cancelled"]
    assert [each["start"]["dateTime"] for each in live if datetime.fromisoformat(each["start"]["dateTime"]) == TEN]
    assert len(live) == 2
    assert {each["status"] for each in live} == {"confirmed"}
    assert len(kept(stage).notices) == 1


class At(deque[Any]):
    """What happens at the first request of each method for events, before it is answered or instead of that."""

    def __init__(self, stage: GoogleStage, path: str = "/events", **happens: Callable[[], Any]) -> None:
        super().__init__([None] * 50)
        self._stage, self._path, self._happens = stage, path, happens

    def popleft(self) -> Any:
        method, path = self._stage.world.requests[-1]
        return self._happens.pop(method, lambda: None)() if self._path in path else None


class Answers(deque[Any]):
    """Every answer of that method for events is changed."""

    def __init__(self, stage: GoogleStage, method: str, change: Callable[[Any], Any]) -> None:
        super().__init__([None] * 50)
        self._stage, self._method, self._change = stage, method, change

    def popleft(self) -> Any:
        method, path = self._stage.world.requests[-1]
        return Altered(self._change) if method == self._method and "/events" in path else None


class Meanwhile(deque[Any]):
    """While the first hold is made another one is; `then` is what the removal of an event is answered with."""

    def __init__(self, stage: GoogleStage, id: str, then: Any = None, hold: str = OPEN) -> None:
        super().__init__([None] * 50)
        self._stage, self._id, self._then, self._hold = stage, id, then, hold

    def popleft(self) -> Any:
        method, _ = self._stage.world.requests[-1]
        if method == "POST":
            ours = {"private": {MARKER: self._id, HOLD: self._hold}}
            kept(self._stage).insert("primary", timed(id=self._id, status="tentative", extendedProperties=ours))
        if method == "DELETE":
            then, self._then = self._then, None
            return then
        return None


@pytest.mark.parametrize(("id", "wins"), [("f" * 32, True), ("0" * 32, False)])
async def test_of_two_holds_of_one_second_the_lower_id_wins(google: Made, id: str, wins: bool) -> None:
    stage, agent = google
    stage.world.failures = Meanwhile(stage, id)
    if wins:
        assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
    else:
        with pytest.raises(SlotTaken):
            await agent.create_booking(**booking(stage))
    other = kept(stage).events[HOST_EMAIL][id]
    assert other["status"] == ("cancelled" if wins else "tentative")
    assert [each["status"] for each in events(stage) if each is not other] == ["confirmed" if wins else "cancelled"]


async def test_a_later_hold_that_has_become_a_booking_wins(google: Made) -> None:
    stage, agent = google
    stage.world.failures = Meanwhile(stage, "f" * 32, then=_stale())
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert sorted(each["status"] for each in events(stage)) == ["cancelled", "tentative"]


async def test_a_later_hold_that_becomes_a_booking_is_not_removed(google: Made) -> None:
    stage, agent = google
    ours = {"private": {MARKER: "f" * 32, HOLD: OPEN}}

    def made() -> None:
        kept(stage).insert("primary", timed(id="f" * 32, status="tentative", extendedProperties=ours))

    def confirmed() -> None:
        changes = {"status": "confirmed", "extendedProperties": {"private": {HOLD: None}}}
        kept(stage).patch("primary", "f" * 32, changes)

    stage.world.failures = At(stage, POST=made, DELETE=confirmed)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert times(stage) == {"f" * 32: TEN}
    assert kept(stage).notices == []


async def test_a_later_hold_that_another_booking_moves_to_wins(google: Made) -> None:
    stage, agent = google
    stage.world.failures = Meanwhile(stage, "f" * 32, hold=CLAIMED)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert kept(stage).events[HOST_EMAIL]["f" * 32]["status"] == "tentative"
    assert sorted(each["status"] for each in events(stage)) == ["cancelled", "tentative"]
    assert kept(stage).notices == []


async def test_the_hold_that_came_first_wins_over_a_later_one(google: Made) -> None:
    stage, agent = google
    ours = {"private": {MARKER: "f" * 32, HOLD: "1"}}
    kept(stage).insert("primary", timed(id="f" * 32, status="tentative", extendedProperties=ours))
    stage.clock.advance(timedelta(seconds=5))
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert kept(stage).notices == []


async def test_a_hold_that_was_left_over_is_removed(google: Made) -> None:
    stage, agent = google
    ours = {"private": {MARKER: "f" * 32, HOLD: "1"}}
    kept(stage).insert("primary", timed(id="f" * 32, status="tentative", extendedProperties=ours))
    assert "2030-01-07T10:00" not in await offered(stage, agent)
    stage.clock.advance(HOLDS + timedelta(seconds=1))
    assert "2030-01-07T10:00" in await offered(stage, agent)
    assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
    assert kept(stage).events[HOST_EMAIL]["f" * 32]["status"] == "cancelled"
    assert (await agent.list_bookings(status="cancelled"))["bookings"] == []
    with pytest.raises(NotFound):
        await agent.get_booking(booking_id=f"acme:{'f' * 32}")


async def test_a_hold_whose_answer_is_lost_becomes_the_booking(google: Made) -> None:
    stage, agent = google
    stage.world.failures.extend([None, None, Lost()])
    booked = await agent.create_booking(**booking(stage))
    assert booked["status"] == "confirmed"
    assert [each.kind for each in kept(stage).notices] == ["invited"]


async def test_an_invitation_whose_answer_is_lost_is_found(google: Made) -> None:
    stage, agent = google
    stage.world.failures.extend([None, None, None, None, Lost()])
    assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
    assert len(events(stage)) == 1


async def test_an_invitation_that_was_not_sent_leaves_no_hold(google: Made) -> None:
    stage, agent = google
    stage.world.failures.extend([None, None, None, None, JSONResponse({}, 500)])
    with pytest.raises(ProviderDown):
        await agent.create_booking(**booking(stage))
    assert [each["status"] for each in events(stage)] == ["cancelled"]
    assert kept(stage).notices == []


async def test_a_service_account_without_delegation_invites_nobody(make: Make) -> None:
    stage, agent = await make(service_account=True)
    with pytest.raises(PermissionDenied, match="delegation"):
        await agent.create_booking(**booking(stage))
    assert [each["status"] for each in events(stage)] == ["cancelled"]


async def test_a_meeting_online_has_a_link(make: Make) -> None:
    stage, agent = await make(settings={"event_types": [{**MEETING, "location": "google_meet"}]})
    booked = await agent.create_booking(**booking(stage, event_type_id="acme:meeting"))
    assert booked.get("join_url", "").startswith("https://meet.google.com/")
    assert booked["location"] == "google_meet"


async def test_a_booking_on_approval_invites_nobody_before_it_is_confirmed(google: Made) -> None:
    stage, agent = google
    asked: dict[str, Any] = {"event_type_id": stage.approval, "guests": ["zoe@example.com"]}
    booked = await agent.create_booking(**booking(stage, **asked))
    assert (booked["status"], kept(stage).notices) == ("pending", [])
    assert [each["email"] for each in booked["attendees"]] == ["ben@example.com", "zoe@example.com"]
    await agent.respond_to_booking(booking_id=booked["id"], response="confirm")
    assert [each.addresses for each in kept(stage).notices] == [("ben@example.com", "zoe@example.com")]


async def test_long_words_are_kept_whole_and_too_long_ones_refused(google: Made) -> None:
    stage, agent = google
    notes = "ä" * 4000
    assert (await agent.create_booking(**booking(stage, notes=notes)))["notes"] == notes
    with pytest.raises(InvalidRequest):
        await agent.create_booking(**booking(stage, ELEVEN, notes="ä" * 5000, answers={}))
    assert len([each for each in events(stage) if each["status"] != "cancelled"]) == 1


def test_what_is_kept_of_a_booking_is_cut_into_pieces_and_put_together() -> None:
    long = {"notes": "x" * 2500}
    event = {"extendedProperties": {"private": with_data({}, long)}}
    assert data(event) == long
    assert [len(each or "") <= 1000 for each in private(event).values()] == [True] * 3
    assert with_data(event, {"notes": "y"}) == {
        "schedData0": '{"notes":"y"}',
        "schedData1": None,
        "schedData2": None,
    }
    with pytest.raises(InvalidRequest):
        with_data({}, {"notes": "x" * MOST_DATA})


class Behind:
    """Google's clock, some minutes behind ours."""

    def __init__(self, stage: GoogleStage) -> None:
        self._clock = stage.clock

    def now(self) -> datetime:
        return self._clock.now() - HOLDS - timedelta(minutes=1)


async def test_what_another_one_claimed_is_respected_whatever_our_clock_shows(google: Made) -> None:
    stage, agent = google
    vars(stage.world)["clock"] = Behind(stage)
    stage.world.failures = Meanwhile(stage, "f" * 32, hold=CLAIMED)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert times(stage) == {"f" * 32: TEN}


async def test_what_is_booked_meanwhile_in_another_busy_calendar_wins(make: Make) -> None:
    stage, agent = await make(settings={"busy_calendars": ["primary", TEAM]})
    stage.world.failures = At(stage, POST=lambda: kept(stage).insert(TEAM, timed()) and None)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert [each["status"] for each in events(stage)] == ["cancelled"]
    assert kept(stage).notices == []


@pytest.mark.parametrize(("id", "hold", "wins"), [("f", OPEN, True), ("0", OPEN, False), ("f", None, False)])
async def test_a_day_is_not_filled_beyond_its_most_by_two_at_once(
    make: Make, id: str, hold: str | None, wins: bool
) -> None:
    stage, agent = await make(settings={"event_types": [{**MEETING, "max_per_day": 1}]})
    ours = {MARKER: id * 32, EVENT_TYPE: "meeting"} | ({HOLD: hold} if hold else {})

    def made() -> None:
        kept(stage).insert("primary", timed(NINE, id=id * 32, extendedProperties={"private": ours}))

    stage.world.failures = At(stage, POST=made)
    if wins:
        await agent.create_booking(**booking(stage, event_type_id="acme:meeting"))
    else:
        with pytest.raises(SlotTaken):
            await agent.create_booking(**booking(stage, event_type_id="acme:meeting"))
    assert list(times(stage).values()) == [TEN if wins else NINE]
    assert len(kept(stage).notices) == wins


async def test_a_guest_s_booking_is_of_its_event_type(google: Made) -> None:
    stage, agent = google
    id = (await agent.create_booking(**booking(stage)))["id"]
    assert (await agent.get_booking(booking_id=id)).get("event_type_id") == stage.intro


async def test_who_is_named_twice_is_invited_once(google: Made) -> None:
    stage, agent = google
    await agent.create_booking(**booking(stage, guests=["Ben@example.com", "zoe@example.com", "zoe@example.com"]))
    [event] = events(stage)
    assert [(each["email"], each.get("displayName")) for each in event["attendees"]] == [
        ("ben@example.com", "Ben"),
        ("zoe@example.com", None),
    ]


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


async def test_a_series_is_its_instances(google: Made) -> None:
    stage, agent = google
    times = {name: {**each, "timeZone": "Europe/Berlin"} for name, each in timed().items() if name != "summary"}
    series = kept(stage).insert(
        "primary", {"summary": "Weekly", **times, "attendees": PEOPLE, "recurrence": ["RRULE:FREQ=WEEKLY;COUNT=3"]}
    )
    first, second, third = (await agent.list_bookings())["bookings"]
    with pytest.raises(NotFound):
        await agent.cancel_booking(booking_id=f"acme:{series['id']}")
    await agent.cancel_booking(booking_id=second["id"])
    assert [each["id"] for each in (await agent.list_bookings())["bookings"]] == [first["id"], third["id"]]
    moved = await agent.reschedule_booking(booking_id=third["id"], start=(TEN + 15 * DAY).isoformat())
    assert (moved["id"], moved["start"]) == (third["id"], (TEN + 15 * DAY).isoformat())


async def series_of(stage: GoogleStage, agent: Agent) -> list[Any]:
    times = {name: {**each, "timeZone": "Europe/Berlin"} for name, each in timed().items() if name != "summary"}
    weekly = {"summary": "Weekly", **times, "attendees": PEOPLE, "recurrence": ["RRULE:FREQ=WEEKLY;COUNT=3"]}
    kept(stage).insert("primary", weekly)
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


# Moving


async def moving(stage: GoogleStage) -> str:
    id = await stage.book("intro", ELEVEN)
    kept(stage).notices.clear()
    return id


def times(stage: GoogleStage) -> dict[str, datetime]:
    """When what is live begins, by its id."""
    live = [each for each in events(stage) if each["status"] != "cancelled"]
    return {each["id"]: datetime.fromisoformat(each["start"]["dateTime"]) for each in live}


async def test_a_move_holds_its_new_time_until_it_is_there(google: Made) -> None:
    stage, agent = google
    id = await moving(stage)
    moved = await agent.reschedule_booking(booking_id=id, start=TEN.isoformat())
    assert (moved["start"], moved["method"]) == (TEN.isoformat(), "native")
    assert [method for method, _ in stage.world.writes] == ["POST", "PATCH", "PATCH", "DELETE"]
    assert times(stage) == {id.removeprefix("acme:"): TEN}
    assert [each.kind for each in kept(stage).notices] == ["updated"]


async def test_a_move_may_overlap_the_time_that_it_leaves(make: Make) -> None:
    stage, agent = await make(settings={"event_types": [{**MEETING, "slot_step_minutes": 15}]})
    booked = await agent.create_booking(**booking(stage, event_type_id="acme:meeting"))
    later = TEN + timedelta(minutes=15)
    assert (await agent.reschedule_booking(booking_id=booked["id"], start=later.isoformat()))["method"] == "native"
    assert list(times(stage).values()) == [later]


@pytest.mark.parametrize(("id", "hold", "wins"), [("f", OPEN, True), ("0", OPEN, False), ("f", CLAIMED, False)])
async def test_a_move_and_a_booking_of_the_same_second_are_one(google: Made, id: str, hold: str, wins: bool) -> None:
    stage, agent = google
    own = await moving(stage)
    stage.world.failures = Meanwhile(stage, id * 32, hold=hold)
    if wins:
        await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    else:
        with pytest.raises(SlotTaken):
            await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    own = own.removeprefix("acme:")
    assert times(stage) == ({own: TEN} if wins else {own: ELEVEN, id * 32: TEN})
    assert len(kept(stage).notices) == wins


async def test_the_buffers_of_a_move_count(make: Make) -> None:
    buffers = {"buffer_before_minutes": 30, "buffer_after_minutes": 15}
    stage, agent = await make(settings={"event_types": [{**MEETING, **buffers}]})
    guest = await agent.create_booking(**booking(stage, ELEVEN + timedelta(hours=3), event_type_id="acme:meeting"))
    stage.world.failures = Meanwhile(stage, "0" * 32)
    with pytest.raises(SlotTaken):
        await agent.reschedule_booking(booking_id=guest["id"], start=(TEN + HALF_HOUR).isoformat())
    [hold] = [each for each in events(stage) if HOLD in private(each) and each["id"] != "0" * 32]
    assert data(hold) == {"before": 30 * 60, "after": 15 * 60}


async def test_a_move_whose_hold_was_removed_by_another_does_not_happen(google: Made) -> None:
    stage, agent = google
    own = await moving(stage)

    def removed() -> None:
        [hold] = [each["id"] for each in events(stage) if HOLD in private(each)]
        kept(stage).patch("primary", hold, {"status": "cancelled"})

    stage.world.failures = At(stage, PATCH=removed)
    with pytest.raises(SlotTaken):
        await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    assert times(stage) == {own.removeprefix("acme:"): ELEVEN}
    assert kept(stage).notices == []


@pytest.mark.parametrize("failure", [Lost(), JSONResponse({}, 500), JSONResponse({}, 403)])
async def test_a_move_whose_hold_cannot_be_claimed_leaves_nothing(google: Made, failure: Any) -> None:
    stage, agent = google
    own = await moving(stage)
    stage.world.failures = At(stage, PATCH=lambda: failure)
    with pytest.raises((ProviderDown, PermissionDenied)):
        await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    assert times(stage) == {own.removeprefix("acme:"): ELEVEN}
    assert kept(stage).notices == []


async def test_a_move_that_was_held_up_does_not_happen(google: Made) -> None:
    stage, agent = google
    own = await moving(stage)
    stage.world.failures = At(stage, PATCH=lambda: stage.clock.advance(HOLDS))
    with pytest.raises(ProviderDown):
        await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    assert times(stage) == {own.removeprefix("acme:"): ELEVEN}
    assert kept(stage).notices == []


class OnTheWay(deque[Any]):
    """The change that moves the event times out. `arrives` does the rest of its way, if it is not out of date."""

    def __init__(self, stage: GoogleStage, own: str, then: Any = None) -> None:
        super().__init__([None] * 50)
        self._stage, self._id, self._then, self._etag = stage, own.removeprefix("acme:"), then, ""

    def popleft(self) -> Any:
        method, path = self._stage.world.requests[-1]
        if method != "PATCH" or not path.endswith(self._id):
            return None
        if self._etag:
            return self._then
        self._etag = kept(self._stage).events[HOST_EMAIL][self._id]["etag"]
        return ReadTimeout("slow")

    @property
    def arrives(self) -> bool:
        return bool(kept(self._stage).events[HOST_EMAIL][self._id]["etag"] == self._etag)


async def test_a_move_that_did_not_arrive_in_time_never_does(google: Made) -> None:
    stage, agent = google
    own = await moving(stage)
    stage.world.failures = late = OnTheWay(stage, own)
    with pytest.raises(ProviderDown):
        await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    assert times(stage) == {own.removeprefix("acme:"): ELEVEN}
    assert (late.arrives, kept(stage).notices) == (False, [])
    assert (await agent.reschedule_booking(booking_id=own, start=TEN.isoformat()))["start"] == TEN.isoformat()


async def test_a_move_that_may_still_arrive_keeps_its_hold(google: Made) -> None:
    stage, agent = google
    own = await moving(stage)
    stage.world.failures = late = OnTheWay(stage, own, then=JSONResponse({}, 500))
    with pytest.raises((OutcomeUnknown, ProviderDown)):
        await agent.reschedule_booking(booking_id=own, start=TEN.isoformat())
    assert late.arrives
    assert sorted(times(stage).values()) == [TEN, ELEVEN]


async def test_a_move_whose_answer_is_lost_is_found(google: Made) -> None:
    stage, agent = google
    own = await moving(stage)
    stage.world.failures.extend([None] * 8 + [Lost()])
    assert (await agent.reschedule_booking(booking_id=own, start=TEN.isoformat()))["start"] == TEN.isoformat()
    assert times(stage) == {own.removeprefix("acme:"): TEN}
    assert [each.kind for each in kept(stage).notices] == ["updated"]


@pytest.mark.parametrize(
    "changes",
    [
        {"end": {"dateTime": (ELEVEN + 2 * DAY).isoformat()}},
        {"start": {"dateTime": None, "date": "2030-01-09"}, "end": {"dateTime": None, "date": "2030-01-10"}},
        {"status": "cancelled"},
    ],
    ids=["longer", "all day", "cancelled"],
)
async def test_a_move_gives_way_to_what_somebody_did_meanwhile(google: Made, changes: dict[str, Any]) -> None:
    stage, agent = google
    own = (await moving(stage)).removeprefix("acme:")
    theirs: list[Any] = []

    def changed() -> None:
        theirs.append(kept(stage).patch("primary", own, changes))

    stage.world.failures = At(stage, f"/events/{own}", PATCH=changed)
    with pytest.raises(InvalidRequest):
        await agent.reschedule_booking(booking_id=f"acme:{own}", start=TEN.isoformat())
    assert theirs == [kept(stage).events[HOST_EMAIL][own]]
    assert [each["status"] for each in events(stage) if each["id"] != own] == ["cancelled"]
    assert kept(stage).notices == []


class Quicker(deque[Any]):
    """Somebody else changes the only event just before our first change of it arrives."""

    def __init__(self, stage: GoogleStage, changes: dict[str, Any]) -> None:
        super().__init__([None] * 50)
        self._stage, self._changes = stage, changes

    def popleft(self) -> Any:
        if self._stage.world.requests[-1][0] == "PATCH" and self._changes:
            [event] = events(self._stage)
            kept(self._stage).patch("primary", event["id"], self._changes)
            self._changes = {}


async def test_what_others_changed_meanwhile_survives(google: Made) -> None:
    stage, agent = google
    id = await stage.book("intro", TEN)
    stage.world.failures = Quicker(stage, {"attendees": [*PEOPLE, {"email": "zoe@example.com"}]})
    await agent.respond_to_booking(booking_id=id, response="tentative")
    [event] = events(stage)
    assert [each["email"] for each in event["attendees"]] == ["ana@example.com", "zoe@example.com", HOST_EMAIL]


async def test_a_hold_that_was_removed_meanwhile_is_not_revived(google: Made) -> None:
    stage, agent = google
    stage.world.failures = Quicker(stage, {"status": "cancelled"})
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert [each["status"] for each in events(stage)] == ["cancelled"]
    assert kept(stage).notices == []


async def test_an_event_that_was_changed_meanwhile_is_read_again(google: Made) -> None:
    stage, agent = google
    id = await stage.book("intro", TEN)
    stage.world.failures.extend([None] * 3 + [_stale()])
    assert (await agent.cancel_booking(booking_id=id, reason="ill"))["status"] == "cancelled"
    other = await stage.book("intro", TEN)
    stage.world.failures.clear()
    stage.world.failures.extend([None] * 2 + [_stale(), None, _stale()])
    with pytest.raises(InvalidRequest, match="meanwhile"):
        await agent.cancel_booking(booking_id=other)


@pytest.mark.parametrize("status", [404, 410, 412])
async def test_an_event_that_was_deleted_meanwhile_was_cancelled_already(google: Made, status: int) -> None:
    stage, agent = google
    id = await stage.book("intro", TEN)

    def gone() -> JSONResponse:
        kept(stage).delete("primary", id.removeprefix("acme:"))
        return JSONResponse({"error": {"message": "Gone"}}, status)

    stage.world.failures = At(stage, PATCH=gone)
    assert (await agent.cancel_booking(booking_id=id))["note"] == "It was cancelled already."


def _stale() -> JSONResponse:
    return JSONResponse({"error": {"errors": [{"reason": "conditionNotMet"}], "message": "Precondition Failed"}}, 412)


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
