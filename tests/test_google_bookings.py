"""Booking and moving in Google Calendar: holds, who came first, and what somebody changes meanwhile."""

from collections import deque
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from httpx2 import ReadTimeout
from starlette.responses import JSONResponse

from gateway.server import build_server
from providers.google_calendar.availability import HOLDS
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
from schemas import InvalidRequest, NotFound, OutcomeUnknown, PermissionDenied, ProviderDown, SchedulingError, SlotTaken
from tests import google_desk
from tests.agent import Agent, connected
from tests.emulators.google import TEAM
from tests.emulators.wire import Lost
from tests.google_desk import (
    DAY,
    HALF_HOUR,
    MEETING,
    PEOPLE,
    At,
    Made,
    Make,
    booking,
    events,
    kept,
    offered,
    timed,
    times,
)
from tests.google_stage import GoogleStage
from tests.world import ELEVEN, HOST_EMAIL, NINE, TEN

pytestmark = pytest.mark.anyio
make, google = google_desk.make, google_desk.google


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


# Moving


async def moving(stage: GoogleStage) -> str:
    id = await stage.book("intro", ELEVEN)
    kept(stage).notices.clear()
    return id


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
