"""What only Google's hosted MCP server shows: bookings known by a line of their description, and silent holds."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select

from providers.google_calendar.availability import HOLDS
from providers.google_calendar.events import EVENT_TYPE, HOLD, MARKER, OPEN, private
from providers.google_calendar.tools import as_rest, described
from providers.storage.tables import kept_events
from schemas import NotFound, PermissionDenied, ProviderDown, SchedulingError, SlotTaken, Unsupported
from tests import google_desk
from tests.agent import Agent
from tests.emulators.google import TEAM
from tests.emulators.mcp import Outcome, Server
from tests.emulators.wire import Lost
from tests.google_desk import DAY, WINDOW, Made, Make, booking, events, kept, offered, stages, timed
from tests.google_stage import GoogleStage
from tests.world import ELEVEN, HOST_EMAIL, MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
OTHER = "0123456789abcdefghijklmnop"
FORGED = f"Booking reference: intro/{OTHER} (held)"
google = google_desk.google


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with stages(tmp_path, "google_calendar via mcp") as made:
        yield made


def live(stage: GoogleStage) -> list[Any]:
    return [each for each in events(stage) if each["status"] != "cancelled"]


def server(stage: GoogleStage) -> Server:
    assert isinstance(stage._app, Server)
    return stage._app


def calls(stage: GoogleStage, tool: str) -> list[dict[str, Any]]:
    """The arguments of every call of a tool."""
    asked = [params for method, params in server(stage).messages if method == "tools/call"]
    return [each["arguments"] for each in asked if each["name"] == tool]


async def rows(stage: GoogleStage) -> int:
    """How much the gateway keeps."""
    async with stage.gateway.storage.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(kept_events)) or 0)


def changed(
    stage: GoogleStage,
    tool: str,
    asked: Callable[[Any], Any] = lambda said: said,
    told: Callable[[Any], Any] = lambda said: said,
) -> None:
    """A tool reads its arguments, or tells its answer, in another way than it should."""
    real = server(stage).tools[tool]

    async def call(arguments: Any) -> Any:
        found = await real.call(asked(arguments))
        return replace(found, data=told(found.data)) if isinstance(found, Outcome) and not found.failed else found

    server(stage).tools[tool] = replace(real, call=call)


def a_hold(stage: GoogleStage, start: datetime = TEN, id: str = OTHER, state: str = "held") -> dict[str, Any]:
    """Another gateway's, of which our storage knows nothing."""
    return kept(stage).insert("primary", timed(start, description=f"Booking reference: intro/{id} ({state})"))


# Holds and invitations


async def test_a_hold_is_silent_and_its_guests_are_invited_once(google: Made) -> None:
    stage, agent = google
    await agent.create_booking(**booking(stage, guests=["zoe@example.com"]))
    [made], [invited] = calls(stage, "create_event"), calls(stage, "update_event")
    assert made["notificationLevel"] == "NONE"
    assert "attendees" not in made
    assert invited["notificationLevel"] == "ALL"
    assert [each["email"] for each in invited["addedAttendees"]] == ["ben@example.com", "zoe@example.com"]
    assert [(each.kind, each.addresses) for each in kept(stage).notices] == [
        ("invited", ("ben@example.com", "zoe@example.com"))
    ]


@pytest.mark.parametrize(
    ("apart", "guests", "winners"),
    [(timedelta(0), 2, {0}), (SECOND, 2, {1}), (timedelta(0), 8, {0, 1}), (SECOND, 8, {1})],
)
async def test_of_many_at_two_gateways_with_storages_of_their_own_one_gets_the_slot_at_most(
    google: Made, make: Make, apart: timedelta, guests: int, winners: set[int]
) -> None:
    stage, agent = google
    _, other = await make(beside=stage)
    stage.world.failures = Ticking(stage, apart)
    real, waiting, both = server(stage).tools["create_event"], list[Any](), anyio.Event()
    booked: list[str] = []

    async def together(arguments: Any) -> Any:
        """Both have looked before either holds the time."""
        waiting.append(arguments)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        return await real.call(arguments)

    async def book(by: Agent, number: int) -> None:
        guest = {"attendee_name": f"Guest {number}", "attendee_email": f"guest{number}@example.com"}
        try:
            booked.append((await by.create_booking(**(booking(stage) | guest)))["id"])
        except SlotTaken:
            return

    server(stage).tools["create_event"] = replace(real, call=together)
    async with anyio.create_task_group() as group:
        for number in range(guests):
            group.start_soon(book, (agent, other)[number % 2], number)
    assert len(live(stage)) == len(booked)
    assert len(booked) in winners
    assert len(kept(stage).notices) == len(booked)


class Ticking(deque[Any]):
    """Time passes at every write. As many requests go well as there are."""

    def __init__(self, stage: GoogleStage, by: timedelta) -> None:
        super().__init__([None] * 2000)
        self._stage, self._by = stage, by

    def popleft(self) -> Any:
        if self._stage.world.requests[-1][0] == "POST":
            self._stage.clock.advance(self._by)


class Once(deque[Any]):
    """What happens when the calendar is asked by that method, the first time."""

    def __init__(self, stage: GoogleStage, method: str, happens: Callable[[], Any]) -> None:
        super().__init__([None] * 2000)
        self._stage, self._method, self._happens = stage, method, [happens]

    def popleft(self) -> Any:
        return self._happens.pop()() if self._stage.world.requests[-1][0] == self._method and self._happens else None


@pytest.mark.parametrize(("later", "wins"), [(timedelta(0), False), (-SECOND, False), (SECOND, True)])
async def test_of_two_holds_the_earlier_stays_and_of_one_second_none(
    google: Made, later: timedelta, wins: bool
) -> None:
    stage, agent = google

    def meanwhile() -> None:
        now = stage.clock.now()
        stage.clock.advance(later)
        a_hold(stage)
        stage.clock.advance(now - stage.clock.now())

    stage.world.failures = Once(stage, "POST", meanwhile)
    if wins:
        assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
    else:
        with pytest.raises(SlotTaken):
            await agent.create_booking(**booking(stage))
    assert len(live(stage)) == 1 + wins
    assert len(kept(stage).notices) == wins


async def test_a_hold_that_somebody_removed_is_no_booking(google: Made) -> None:
    stage, agent = google
    stage.world.failures = Once(stage, "PATCH", lambda: None)

    async def removed(arguments: Any) -> Any:
        for each in live(stage):
            kept(stage).delete("primary", each["id"])
        return await real.call(arguments)

    real = server(stage).tools["get_event"]
    server(stage).tools["get_event"] = replace(real, call=removed)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage))
    assert live(stage) == kept(stage).notices == []


async def test_a_hold_that_a_crash_left_over_blocks_for_minutes_alone_and_is_removed(google: Made) -> None:
    stage, agent = google
    a_hold(stage)
    assert "2030-01-07T10:00" not in await offered(stage, agent)
    stage.clock.advance(HOLDS + SECOND)
    assert "2030-01-07T10:00" in await offered(stage, agent)
    booked = await agent.create_booking(**booking(stage))
    assert [f"acme:{each['id']}" for each in live(stage)] == [booked["id"]]


async def test_a_hold_whose_answer_is_lost_becomes_the_booking(google: Made) -> None:
    stage, agent = google
    stage.world.failures = Once(stage, "POST", Lost)
    assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
    assert len(live(stage)) == len(kept(stage).notices) == 1


# What the server made of a request


def hour_later(said: dict[str, Any]) -> dict[str, Any]:
    return {
        **said,
        "startTime": said["startTime"].replace("T10:", "T11:"),
        "endTime": said["endTime"].replace("T10:", "T11:"),
    }


MISREADINGS: dict[str, Callable[[Any], Any]] = {
    "another hour": hour_later,
    "another end": lambda said: {**said, "endTime": said["endTime"].replace("T10:30", "T11:30")},
    "no description": lambda said: {name: value for name, value in said.items() if name != "description"},
}


@pytest.mark.parametrize("misread", MISREADINGS.values(), ids=MISREADINGS)
async def test_a_hold_that_is_another_one_than_was_asked_for_is_removed_and_nobody_invited(
    google: Made, misread: Callable[[Any], Any]
) -> None:
    stage, agent = google
    changed(stage, "create_event", asked=misread)
    with pytest.raises(ProviderDown, match="removed"):
        await agent.create_booking(**booking(stage))
    assert live(stage) == kept(stage).notices == []


@pytest.mark.parametrize("offset", ["+02:00", "+01:00"])
async def test_an_hour_that_a_day_has_twice_is_booked_as_meant(make: Make, offset: str) -> None:
    stage, agent = await make(settings={"working_hours": {"sunday": ["00:00-06:00"]}})
    stage.clock.advance(datetime.fromisoformat("2030-10-26T12:00Z") - stage.clock.now())
    booked = await agent.create_booking(**booking(stage) | {"start": f"2030-10-27T02:30:00{offset}"})
    assert datetime.fromisoformat(booked["start"]) == datetime.fromisoformat(f"2030-10-27T02:30:00{offset}")
    [event] = live(stage)
    assert datetime.fromisoformat(event["start"]["dateTime"]) == datetime.fromisoformat(booked["start"])


async def test_notes_as_long_as_may_be_leave_the_line_whole(make: Make) -> None:
    questions = [{"key": key, "label": key} for key in "abcd"]
    kinds = [{"slug": "long", "title": "Long", "duration_minutes": 30, "questions": questions}]
    stage, agent = await make(settings={"event_types": kinds})
    changed(stage, "create_event", asked=lambda said: {**said, "description": said["description"][:8192]})
    words: dict[str, Any] = {"answers": dict.fromkeys("abcd", "w" * 2000), "notes": "n" * 5000}
    booked = await agent.create_booking(**booking(stage, event_type_id="acme:long", **words))
    assert {name: booked[name] for name in words} == words
    assert (await agent.get_booking(booking_id=booked["id"]))["event_type_id"] == "acme:long"


# Answers that are none


NOTHING: dict[str, Any] = {
    "nothing": {},
    "an error": {"error": {"code": 404, "message": "Not Found", "status": "NOT_FOUND"}},
}


@pytest.mark.parametrize("answer", NOTHING.values(), ids=NOTHING)
async def test_an_answer_without_a_calendar_is_no_empty_list(google: Made, answer: dict[str, Any]) -> None:
    stage, agent = google
    await stage.book("intro", TEN)
    await agent.list_accounts()  # who is signed in is known
    changed(stage, "list_events", told=lambda _: answer)
    asks: dict[str, dict[str, Any]] = {
        "list_bookings": {},
        "find_busy_times": WINDOW,
        "find_slots": {"event_type_ids": [stage.intro], **WINDOW},
        "create_booking": booking(stage),
    }
    for tool, arguments in asks.items():
        with pytest.raises(ProviderDown):
            await getattr(agent, tool)(**arguments)
    assert len(live(stage)) == 1


async def test_events_may_be_left_out_where_there_are_none(google: Made) -> None:
    stage, agent = google
    changed(stage, "list_events", told=lambda said: {name: each for name, each in said.items() if name != "events"})
    assert "2030-01-07T10:00" in await offered(stage, agent)


async def test_a_series_that_is_listed_as_one_event_is_no_free_time(google: Made) -> None:
    stage, agent = google
    await stage.book("intro", ELEVEN)
    weekly = {"recurrence": ["RRULE:FREQ=WEEKLY"]}
    changed(stage, "list_events", told=lambda said: {**said, "events": [{**each, **weekly} for each in said["events"]]})
    with pytest.raises(ProviderDown, match="via: api"):
        await offered(stage, agent)
    with pytest.raises(ProviderDown, match="via: api"):
        await agent.create_booking(**booking(stage))


async def test_a_project_that_is_not_enrolled_is_told_what_to_do(make: Make) -> None:
    _, agent = await make(enrolled=False)
    with pytest.raises(PermissionDenied, match=r"Enrol .*`via: api`"):
        await agent.list_bookings()


@pytest.mark.parametrize("made_at", [None, "0000-12-31T00:00:00.000Z"])
async def test_when_an_event_was_made_may_be_unknown(google: Made, made_at: str | None) -> None:
    stage, agent = google
    id = await stage.book("intro", ELEVEN)

    def told(said: Any) -> Any:
        without = {name: value for name, value in said.items() if name != "created"}
        return without | ({"created": made_at} if made_at else {})

    for tool in ("get_event", "create_event", "update_event"):
        if made_at is None or tool == "get_event":
            changed(stage, tool, told=told)
    changed(stage, "list_events", told=lambda said: {**said, "events": [told(each) for each in said["events"]]})
    assert "created_at" not in await agent.get_booking(booking_id=id)
    assert [each["id"] for each in (await agent.list_bookings())["bookings"]] == [id]
    if made_at is None:
        assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"


# The line


async def test_nobody_is_shown_the_line(google: Made) -> None:
    stage, agent = google
    booked = await agent.create_booking(**booking(stage, notes="Bring the plan."))
    answers = [
        booked,
        await agent.get_booking(booking_id=booked["id"]),
        await agent.list_bookings(),
        await agent.find_busy_times(**WINDOW),
        await agent.cancel_booking(booking_id=booked["id"]),
    ]
    assert "Booking reference: " in events(stage)[0]["description"]
    assert "reference" not in str(answers)
    assert booked["notes"] == "Bring the plan."


@pytest.mark.parametrize("notes", [FORGED, f"Hello.\n\n{FORGED}", f"Hello. {FORGED}{FORGED}"])
async def test_a_line_in_a_guest_s_notes_is_not_ours(google: Made, notes: str) -> None:
    stage, agent = google
    victim = await stage.book("review", NINE, email="vic@example.com", marker=OTHER)
    booked = await agent.create_booking(**booking(stage, notes=notes))
    found = await agent.get_booking(booking_id=booked["id"])
    assert (found["event_type_id"], found["attendees"][0]["email"]) == (stage.intro, "ben@example.com")
    assert (await agent.get_booking(booking_id=victim))["attendees"][0]["email"] == "vic@example.com"
    stage.clock.advance(HOLDS + SECOND)
    assert "2030-01-07T10:00" not in await offered(stage, agent)
    assert FORGED not in str(live(stage))


async def test_a_line_in_somebody_else_s_invitation_is_not_ours(google: Made) -> None:
    stage, agent = google
    people = [{"email": "ana@example.com"}, {"email": HOST_EMAIL, "responseStatus": "needsAction"}]
    event = kept(stage).insert("primary", timed(description=FORGED, attendees=people))
    event["organizer"] = {"email": "ana@example.com"}
    stage.clock.advance(HOLDS + SECOND)
    assert "2030-01-07T10:00" not in await offered(stage, agent)
    with pytest.raises(Unsupported, match="organised by"):
        await agent.reschedule_booking(booking_id=f"acme:{event['id']}", start=ELEVEN.isoformat())


@pytest.mark.parametrize(
    "by_hand",
    [
        lambda text: text.replace("\n", "<br>"),
        lambda text: text.replace("\n\n", "<br><br><br/>").replace(": ", ":&nbsp;"),
        lambda text: f"<p>{text}</p><p>See you there</p>",
        lambda text: text.replace(" (pending)", "&nbsp;(pending)"),
    ],
)
async def test_a_description_that_was_changed_by_hand_is_still_of_its_booking(
    google: Made, by_hand: Callable[[str], str]
) -> None:
    stage, agent = google
    id = (await agent.create_booking(**booking(stage) | {"event_type_id": stage.approval}, notes="Plan."))["id"]
    [event] = live(stage)
    kept(stage).patch("primary", event["id"], {"description": by_hand(event["description"])})
    found = await agent.get_booking(booking_id=id)
    assert (found["status"], found["event_type_id"]) == ("pending", stage.approval)
    assert (await agent.respond_to_booking(booking_id=id, response="confirm"))["status"] == "confirmed"
    assert "pending" not in live(stage)[0]["description"]
    assert [each.kind for each in kept(stage).notices] == ["invited"]


def test_what_stands_before_the_line_is_given_back_without_its_breaks() -> None:
    raw = {"id": "1", "status": "confirmed", "organizer": {"self": True}, "updated": "2030-01-01T00:00:00Z"}
    for between in ("\n\n", "<br><br>", "<br/>\n<br />", " &nbsp;<br>"):
        said = as_rest({**raw, "description": f"Plan.{between}{FORGED}"}, {})
        assert (said["description"], private(said)[MARKER], private(said)[HOLD]) == ("Plan.", OTHER, OPEN)


def test_a_description_of_blanks_takes_no_time() -> None:
    raw = {"id": "1", "status": "confirmed", "organizer": {"self": True}, "description": f"a{' ' * 8000}b"}
    begun = perf_counter()
    as_rest(raw, {})
    described({**raw, "extendedProperties": {"private": {MARKER: OTHER, EVENT_TYPE: "intro"}}})
    assert perf_counter() - begun < 0.5


async def test_a_booking_that_lost_its_line_is_a_meeting_like_others(google: Made) -> None:
    stage, agent = google
    id = (await agent.create_booking(**booking(stage)))["id"]
    kept(stage).patch("primary", id.partition(":")[2], {"description": "By hand."})
    found = await agent.get_booking(booking_id=id)
    assert (found["status"], found["notes"], "event_type_id" in found) == ("confirmed", "By hand.", False)
    assert (await agent.cancel_booking(booking_id=id))["status"] == "cancelled"


# What is kept


async def test_cancelled_bookings_are_remembered_and_what_was_put_back_is_live(google: Made) -> None:
    stage, agent = google
    ids = [(await agent.create_booking(**booking(stage, start)))["id"] for start in (NINE, TEN)]
    for id in ids:
        await agent.cancel_booking(booking_id=id, reason="Ill")
    found = (await agent.list_bookings(status="cancelled"))["bookings"]
    assert [(each["id"], each["cancellation_reason"]) for each in found] == [(id, "Ill") for id in reversed(ids)]
    kept(stage).events[HOST_EMAIL][ids[0].partition(":")[2]]["status"] = "confirmed"
    assert [(each["id"], each["status"]) for each in (await agent.list_bookings(status="all"))["bookings"]] == [
        (ids[0], "confirmed"),
        (ids[1], "cancelled"),
    ]


async def test_nothing_is_kept_of_holds(google: Made) -> None:
    stage, agent = google
    id = (await agent.create_booking(**booking(stage)))["id"]
    assert await rows(stage) == 1
    await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    assert await rows(stage) == 1
    stage.world.failures = Once(stage, "POST", lambda: a_hold(stage, NINE))
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, NINE))
    changed(stage, "create_event", asked=lambda said: {**said, "timeZone": "Mars/Base"})
    with pytest.raises(SchedulingError):
        await agent.create_booking(**booking(stage, TEN))
    assert await rows(stage) == 1


async def test_what_is_noted_of_a_cancelled_booking_does_not_bring_it_back(google: Made) -> None:
    stage, agent = google
    id = await stage.book("intro", TEN)
    provider = stage.gateway.accounts["acme"]
    before = await provider.get_booking(id.partition(":")[2])
    await agent.cancel_booking(booking_id=id)
    with pytest.raises(SchedulingError):
        await provider.respond_to_booking(before, "no_show", None)
    assert (await agent.get_booking(booking_id=id))["status"] == "cancelled"
    assert len((await agent.list_bookings(status="cancelled"))["bookings"]) == 1


# Events of others, and other calendars


async def test_a_meeting_that_was_not_booked_here_cannot_be_confirmed_and_says_so(google: Made) -> None:
    stage, agent = google
    event = kept(stage).insert("primary", timed(status="tentative", attendees=[{"email": "ana@example.com"}]))
    with pytest.raises(Unsupported, match="via: api"):
        await agent.respond_to_booking(booking_id=f"acme:{event['id']}", response="confirm")
    assert (await agent.get_booking(booking_id=f"acme:{event['id']}"))["status"] == "pending"


async def test_a_meeting_that_was_not_booked_here_moves_to_a_free_time_alone(google: Made) -> None:
    stage, agent = google
    await stage.book("intro", ELEVEN)
    event = kept(stage).insert("primary", timed(attendees=[{"email": "ana@example.com"}], description="Agenda"))
    with pytest.raises(SlotTaken):
        await agent.reschedule_booking(booking_id=f"acme:{event['id']}", start=ELEVEN.isoformat())
    moved = await agent.reschedule_booking(booking_id=f"acme:{event['id']}", start=NINE.isoformat())
    assert (moved["id"], datetime.fromisoformat(moved["start"])) == (f"acme:{event['id']}", NINE)
    assert len(live(stage)) == 2
    assert kept(stage).events[HOST_EMAIL][event["id"]]["description"] == "Agenda"


async def test_a_day_in_another_calendar_is_a_day_of_its_zone(make: Make) -> None:
    stage, agent = await make(settings={"busy_calendars": ["primary", TEAM]})
    kept(stage).insert(TEAM, {"summary": "Away", "start": {"date": "2030-01-07"}, "end": {"date": "2030-01-08"}})
    # It begins at midnight in New York, which is at six in Berlin, and ends so.
    found = await agent.find_busy_times(start=MONDAY.isoformat(), end=(MONDAY + 2 * DAY).isoformat())
    [busy] = found["busy"]
    assert [busy["start"][:16], busy["end"][:16]] == ["2030-01-07T06:00", "2030-01-08T06:00"]


async def test_an_event_that_is_gone_is_not_found(google: Made) -> None:
    _, agent = google
    with pytest.raises(NotFound):
        await agent.get_booking(booking_id=f"acme:{OTHER}")
