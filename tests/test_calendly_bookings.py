"""What only Calendly's bookings show: places and questions, seats, and moves that book anew.

However a move goes wrong, how many bookings its guest has in the end is what the answer says.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.anew import MOVED
from providers.rest import KEPT
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
from tests import calendly_desk
from tests.agent import Agent, after_a_restart
from tests.calendly_desk import (
    ANA,
    BOOK,
    CANCEL,
    DEAF,
    DENIED,
    EVENT,
    FILLED,
    GONE,
    HOUR,
    INVITEE,
    LISTED,
    MINUTE,
    NEAR,
    NEW,
    OLD,
    QUARTER,
    TYPES,
    Failure,
    Watched,
    booking,
    move,
    window,
)
from tests.emulators.calendly_shapes import missing, too_many
from tests.emulators.wire import Lost
from tests.stages import ACCOUNT
from tests.world import BEGIN, ELEVEN, NINE, TEN, Kind

pytestmark = pytest.mark.anyio
quirks, stage, agent = calendly_desk.quirks, calendly_desk.stage, calendly_desk.agent


# Places

OFFERED = (
    {"kind": "physical", "location": "Main Street 1"},
    {"kind": "physical", "location": "Market 2"},
    {"kind": "custom", "location": "By the fountain"},
    {"kind": "zoom_conference"},
    {"kind": "google_conference"},
    {"kind": "inbound_call"},
    {"kind": "ask_invitee"},
    {"kind": "outbound_call"},
)


@pytest.mark.parametrize(
    ("wanted", "shown", "sent"),
    [
        (None, "Main Street 1", OFFERED[0]),
        ("market 2", "Market 2", OFFERED[1]),
        ("By the fountain", "By the fountain", OFFERED[2]),
        ("zoom_conference", "zoom_conference", OFFERED[3]),
        ("Google_Conference", "google_conference", OFFERED[4]),
        ("inbound_call", "inbound_call", OFFERED[5]),
        ("ask_invitee: Café 3", "ask_invitee: Café 3", {"kind": "ask_invitee", "location": "Café 3"}),
        ("outbound_call:+49301234", "outbound_call: +49301234", {"kind": "outbound_call", "location": "+49301234"}),
    ],
)
async def test_a_place_is_chosen_shown_and_kept_by_a_move(
    agent: Agent, stage: Watched, wanted: str | None, shown: str, sent: Mapping[str, str]
) -> None:
    await stage.offer("intro", *OFFERED)
    booked = await agent.create_booking(**booking(stage, location=wanted))
    moved = await move(agent, booked["id"], NEW)
    assert [each["location"] for each in (booked, moved)] == [shown, shown]
    assert [each.body["location"] for each in stage.wire.sent(BOOK)] == [sent, sent]
    assert ("join_url" in booked) == shown.endswith("conference")
    assert "note" not in booked, "it was not booked before"
    [listed] = (await agent.list_event_types(query="intro"))["event_types"]
    assert listed["locations"] == [each.get("location", each["kind"]) for each in OFFERED]


@pytest.mark.parametrize("kind", ["robin", "deep-dive"])
async def test_an_event_type_without_a_choice_takes_no_place(agent: Agent, stage: Watched, kind: str) -> None:
    """A round robin leaves it to the host that it falls to; another event type may have none."""
    stage.world.kinds["robin"] = Kind("Robin", 30)
    await agent.save_event_type(title="Deep dive", duration_minutes=30)
    [listed] = (await agent.list_event_types(query=kind.replace("-", " ")))["event_types"]
    assert listed["locations"] == []
    with pytest.raises(InvalidRequest, match="location"):
        await agent.create_booking(**booking(stage, kind=kind, location="zoom_conference"))
    assert not stage.wire.sent(BOOK)
    booked = await agent.create_booking(**booking(stage, kind=kind))
    await move(agent, booked["id"], NEW)
    assert ["location" in each.body for each in stage.wire.sent(BOOK)] == [False, False]
    assert stage.live("ben@example.com") == [NEW]


async def test_a_type_of_place_that_is_not_known_is_shown_as_it_is(agent: Agent, stage: Watched) -> None:
    id = await stage.book("intro", OLD)
    place = {"location": {"type": "holodeck_conference", "status": "pushed", "join_url": "https://deck.example/3"}}
    stage.wire.breaks(EVENT, lambda answer: {"resource": answer["resource"] | place})
    found = await agent.get_booking(booking_id=id)
    assert (found["location"], found["join_url"]) == ("holodeck_conference", "https://deck.example/3")


# Questions

ASKS = Kind(
    "Asks",
    30,
    questions=(
        {"key": "size", "label": "Größe?", "type": "text"},
        {"key": "firm", "label": "会社名", "type": "long_text"},
        {"key": "topic", "label": "Topic?", "type": "choice", "required": True, "options": ["Sales", "Support"]},
        {"key": "topics", "label": "Topic!", "type": "choices", "options": ["A", "B", "C"]},
        {"key": "what", "label": "???", "type": "phone"},
    ),
)


def open_ended(answer: Any) -> Any:
    """The second question that is asked lets the guest write something else, and the last one is switched off."""
    for event_type in answer["collection"]:
        for question in event_type["custom_questions"][3:]:
            question.update(include_other=question["name"] == "Topic!", enabled=question["name"] != "???")
    return answer


async def test_questions_have_keys_made_of_their_text(agent: Agent, stage: Watched) -> None:
    stage.world.kinds["asks"] = ASKS
    keys = ["grösse", "会社名", "topic", "topic_2", "question"]
    labels = ["Größe?", "会社名", "Topic?", "Topic!", "???"]
    types, options = ["text", "long_text", "choice", "choices", "phone"], [[], [], ["Sales", "Support"], [*"ABC"], []]
    expected = [
        {"key": key, "label": label, "type": type, "required": label == "Topic?", "options": choices}
        for key, label, type, choices in zip(keys, labels, types, options, strict=True)
    ]
    [listed] = (await agent.list_event_types(query="asks"))["event_types"]
    assert listed["questions"] == expected
    stage.wire.breaks(TYPES, open_ended)
    [listed] = (await agent.list_event_types(query="asks"))["event_types"]
    other = {"key": "topic_2", "label": "Topic! (A, B, C, …)", "type": "choices", "required": False, "options": []}
    assert listed["questions"] == [*expected[:3], other]
    booked = await agent.create_booking(**booking(stage, kind="asks", answers={"topic": "Sales", "topic_2": "D"}))
    assert booked["answers"] == {"topic": "Sales", "topic_2": "D"}


@pytest.mark.parametrize("answer", [["A"], ["A", "C"]], ids=["one-choice", "choices"])
async def test_answers_reach_the_booking_and_survive_a_move(agent: Agent, stage: Watched, answer: list[str]) -> None:
    stage.world.kinds["asks"] = ASKS
    answers = {"topic": "Sales", "topic_2": answer, "grösse": "44\ncm", "会社名": "ACME"}
    booked = await agent.create_booking(**booking(stage, kind="asks", answers=answers))
    await move(agent, booked["id"], NEW)
    kept = {"topic": "Sales", "topics": answer, "size": "44\ncm", "firm": "ACME"}
    assert [(each.live, each.answers) for each in await stage.appointments()] == [(False, kept), (True, kept)]


async def test_a_repeated_request_with_choices_differs_in_nothing(agent: Agent, stage: Watched) -> None:
    stage.world.kinds["asks"] = ASKS
    asked = booking(stage, kind="asks", answers={"topic": "Sales", "topic_2": ["A", "C"]})
    first = await agent.create_booking(**asked)
    assert "note" not in first, "it was not booked before"
    assert await agent.create_booking(**asked) == first


async def test_an_answer_keeps_its_question_though_a_like_one_has_none(agent: Agent, stage: Watched) -> None:
    questions = tuple({"key": label, "label": label, "type": "text"} for label in ("Topic?", "Topic!"))
    stage.world.kinds["asks"] = replace(ASKS, questions=questions)
    booked = await agent.create_booking(**booking(stage, kind="asks", answers={"topic_2": "Sales"}))
    assert booked["answers"] == {"topic_2": "Sales"}
    await move(agent, booked["id"], NEW)
    assert [each.answers for each in await stage.appointments()] == [{"Topic!": "Sales"}] * 2


def wrong(word: str, tool: str = "create_booking", **arguments: Any) -> Any:
    return pytest.param(tool, arguments, word, id=f"{word}={str(*arguments.values())[:30]}")


@pytest.mark.parametrize(
    ("tool", "arguments", "word"),
    [
        *(
            wrong("location", location=place)
            for place in ("Moon", "ask_invitee: ", "outbound_call", "webex_conference")
        ),
        wrong("answers", answers={}),
        wrong("answers", answers={"topic": ""}),
        wrong("answers", answers={"topic": "Gossip"}),
        wrong("answers", answers={"topic": ["Sales", "Support"]}),
        wrong("answers", answers={"topic": "Sales", "topic_2": ["A", "Z"]}),
        wrong("answers", answers={"topic": "Sales", "Größe?": "44"}),
        wrong("guests", guests=[f"guest{n}@example.com" for n in range(11)]),
        wrong("buffer_before_minutes", "save_event_type", buffer_before_minutes=7),
        wrong("buffer_after_minutes", "save_event_type", buffer_after_minutes=240),
        wrong("duration_minutes", "save_event_type", duration_minutes=721),
    ],
)
async def test_what_the_service_would_not_take_is_refused_before_it_is_sent(
    agent: Agent, stage: Watched, tool: str, arguments: Any, word: str
) -> None:
    stage.world.kinds["asks"] = ASKS
    await stage.offer("asks", *OFFERED)
    if tool == "create_booking":
        arguments = booking(stage, kind="asks") | {"answers": {"topic": "Sales"}} | arguments
    with pytest.raises(InvalidRequest, match=word):
        await getattr(agent, tool)(**{"event_type_id": stage.event_type("asks")} | arguments)
    assert stage.world.writes == []


# Seats


@pytest.fixture
async def seats(stage: Watched) -> list[str]:
    stage.world.kinds["group"] = Kind("Workshop", 60, seats=3)
    return [await stage.book("group", TEN, email) for email in (ANA, "zoe@example.com")]


async def test_each_seat_is_a_booking_of_its_own(agent: Agent, stage: Watched, seats: list[str]) -> None:
    booked = await agent.create_booking(**booking(stage, kind="group"))
    assert [each["id"] for each in (await agent.list_bookings())["bookings"]] == [*seats, booked["id"]]
    stage.world.change("b2", status="cancelled")  # by its guest
    last = await stage.book("group", TEN, "max@example.com")
    listed = (await agent.list_bookings())["bookings"]
    guests = [(each["id"], [who["email"] for who in each["attendees"]]) for each in listed]
    assert guests == [(seats[0], [ANA]), (booked["id"], ["ben@example.com"]), (last, ["max@example.com"])]
    with pytest.raises(SlotTaken):
        await agent.create_booking(**booking(stage, kind="group", attendee_email="tom@example.com"))


async def test_a_seat_beside_others_is_neither_cancelled_nor_moved(
    agent: Agent, stage: Watched, seats: list[str]
) -> None:
    with pytest.raises(Unsupported, match="cancellations/i-b1"):
        await agent.cancel_booking(booking_id=seats[0])
    with pytest.raises(Unsupported, match="reschedulings/i-b1"):
        await move(agent, seats[0], NEW + HOUR)
    assert stage.world.writes == []
    assert (stage.live(), stage.live("zoe@example.com")) == ([TEN], [TEN])


async def test_the_only_seat_taken_can_be_moved_and_cancelled(agent: Agent, stage: Watched, seats: list[str]) -> None:
    stage.world.change("b2", status="cancelled")
    moved = await move(agent, seats[0], NEW)
    assert (moved["start"], stage.live()) == (NEW.isoformat(), [NEW])
    assert (await agent.cancel_booking(booking_id=seats[0]))["status"] == "cancelled"
    assert stage.live() == []


@pytest.mark.parametrize("deleted", [False, True], ids=["", "of-an-event-type-that-is-gone"])
async def test_a_seat_given_up_is_listed_as_cancelled_though_the_meeting_goes_on(
    agent: Agent, stage: Watched, seats: list[str], deleted: bool
) -> None:
    stage.world.change("b2", status="cancelled")
    if deleted:
        del stage.world.kinds["group"]
    await stage.book("intro", NINE, status="cancelled")
    found = {status: (await agent.list_bookings(status=status))["bookings"] for status in ("upcoming", "cancelled")}
    ids = {status: [each["id"] for each in bookings] for status, bookings in found.items()}
    assert ids == {"upcoming": [seats[0]], "cancelled": [seats[1], f"{ACCOUNT}:b3/i-b3"]}


async def test_one_seat_is_noted_as_missed(agent: Agent, stage: Watched, seats: list[str]) -> None:
    stage.clock.advance(ELEVEN - BEGIN)
    for _ in range(2):
        noted = await agent.respond_to_booking(booking_id=seats[1], response="no_show")
        assert noted["attendees"][0]["no_show"] is True
    assert len(stage.world.writes) == 1
    assert [each.no_show for each in await stage.appointments()] == [False, True]
    for _ in range(2):
        await agent.respond_to_booking(booking_id=seats[1], response="clear_no_show")
    assert len(stage.world.writes) == 2
    assert [each.no_show for each in await stage.appointments()] == [False, False]


# Moving


async def test_a_move_books_anew_and_cancels_then(agent: Agent, stage: Watched) -> None:
    details: Any = {"guests": ["zoe@example.com"], "attendee_time_zone": "Asia/Tokyo", "answers": {"company": "ACME"}}
    booked = await agent.create_booking(**booking(stage, kind="review", location="Main Street 1", **details))
    stage.world.requests.clear()
    moved = await move(agent, booked["id"], NEW, reason="traffic")
    assert stage.world.writes == [("POST", "/invitees"), ("POST", "/scheduled_events/b1/cancellation")]
    differs = {"id": f"{ACCOUNT}:b2/i-b2", "start": NEW.isoformat(), "end": (NEW + HOUR).isoformat()}
    links = {name: booked[name].replace("b1", "b2") for name in ("cancel_url", "reschedule_url")}
    assert moved == booked | differs | links | {"rescheduled_from": booked["id"], "method": "rebooked"}
    old, new = await stage.appointments()
    assert (old.status, old.reason) == ("cancelled", "traffic")
    assert len({old.marker, new.marker}) == 2
    back: Any = {"start": old.start, "end": old.end, "event": old.event, "marker": old.marker}
    assert replace(new, **back) == replace(old, status="confirmed", reason=None)
    steps = ["create_booking", "create_booking", "cancel_booking", "reschedule_booking"]
    assert sorted(await stage.journaled()) == sorted((tool, ACCOUNT, "done") for tool in steps)


@pytest.mark.parametrize("why", ["the meetings overlap", "a buffer lies between them"])
async def test_where_the_times_touch_the_old_one_goes_first(agent: Agent, stage: Watched, why: str) -> None:
    to = NEAR if why == "the meetings overlap" else OLD + 2 * QUARTER
    stage.shift()
    if to != NEAR:
        stage.world.kinds["intro"] = Kind("Intro call", 30, after=15)
    id = await stage.book("intro", OLD)
    assert (await move(agent, id, to))["start"] == to.isoformat()
    assert stage.world.writes == [("POST", "/scheduled_events/b1/cancellation"), ("POST", "/invitees")]
    assert stage.live() == [to]
    assert (await agent.get_booking(booking_id=id))["start"] == to.isoformat()


TOO_MUCH, SILENCE = too_many().answer, True
"""`SILENCE`: nothing is answered any more after the last of these failures."""

MOVES: dict[str, tuple[datetime, str, list[Failure], bool, type[SchedulingError] | None, str, list[datetime]]] = {
    "apart, booking lost": (NEW, BOOK, [Lost()], False, None, "", [NEW]),
    "apart, booking never arrives": (NEW, BOOK, [DEAF], False, ProviderDown, "did not happen", [OLD]),
    "apart, booking lost, silence": (NEW, BOOK, [Lost()], SILENCE, OutcomeUnknown, "stands", [OLD, NEW]),
    "apart, event unreadable": (NEW, "GET /scheduled_events/b2", [missing().answer], False, None, "", [NEW]),
    "apart, cancel lost": (NEW, CANCEL, [Lost()], False, None, "", [NEW]),
    "apart, cancel refused": (NEW, CANCEL, [DENIED], False, PermissionDenied, "given back", [OLD]),
    "apart, cancel unreachable once": (NEW, CANCEL, [GONE], False, None, "", [NEW]),
    "apart, cancel unreachable": (NEW, CANCEL, [GONE] * 3, False, ProviderDown, "given back", [OLD]),
    "apart, cancel never arrives": (NEW, CANCEL, [DEAF] * 3, False, ProviderDown, "given back", [OLD]),
    "apart, cancel too much once": (NEW, CANCEL, [TOO_MUCH], False, None, "", [NEW]),
    "apart, cancel too much": (NEW, CANCEL, [TOO_MUCH] * 3, False, RateLimited, "given back", [OLD]),
    "apart, cancel lost, silence": (NEW, CANCEL, [Lost()], SILENCE, OutcomeUnknown, "may or may not", [NEW]),
    "apart, cancel in vain, silence": (NEW, CANCEL, [DEAF], SILENCE, OutcomeUnknown, "may or may not", [OLD, NEW]),
    "apart, no way back": (NEW, CANCEL, [DENIED] * 2, False, OutcomeUnknown, "one of the two", [OLD, NEW]),
    "apart, way back lost": (NEW, CANCEL, [DENIED, Lost()], False, PermissionDenied, "given back", [OLD]),
    "apart, way back lost, silence": (NEW, CANCEL, [DENIED, Lost()], SILENCE, OutcomeUnknown, "may or may not", [OLD]),
    "near, cancel refused": (NEAR, CANCEL, [DENIED], False, PermissionDenied, "allowed", [OLD]),
    "near, cancel lost": (NEAR, CANCEL, [Lost()], False, None, "", [NEAR]),
    "near, cancel arrives at last": (NEAR, CANCEL, [DEAF], False, None, "", [NEAR]),
    "near, cancel never arrives": (NEAR, CANCEL, [DEAF] * 3, False, ProviderDown, "did not happen", [OLD]),
    "near, cancel lost, silence": (NEAR, CANCEL, [Lost()], SILENCE, OutcomeUnknown, "without a booking", []),
    "near, booking lost": (NEAR, BOOK, [Lost()], False, None, "", [NEAR]),
    "near, booking lost, silence": (NEAR, BOOK, [Lost()], SILENCE, OutcomeUnknown, "not known", [NEAR]),
    "near, booking in vain, silence": (NEAR, BOOK, [DEAF], SILENCE, OutcomeUnknown, "not known", []),
    "near, booking never arrives": (NEAR, BOOK, [DEAF] * 2, False, ProviderDown, "old time again", [OLD]),
    "near, taken for a moment": (NEAR, BOOK, [FILLED], False, None, "", [NEAR]),
    "near, taken": (NEAR, BOOK, [FILLED] * 2, False, SlotTaken, "old time again", [OLD]),
    "near, unreachable": (NEAR, BOOK, [GONE] * 2, False, ProviderDown, "old time again", [OLD]),
    "near, too much": (NEAR, BOOK, [TOO_MUCH] * 4, False, RateLimited, "old time again", [OLD]),
    "near, both taken": (NEAR, BOOK, [FILLED] * 6, False, OutcomeUnknown, "without a booking", []),
    "near, both too much": (NEAR, BOOK, [TOO_MUCH] * 6, False, OutcomeUnknown, "without a booking", []),
    "near, way back lost": (NEAR, BOOK, [FILLED, FILLED, Lost()], False, SlotTaken, "old time again", [OLD]),
    "near, no way back known": (NEAR, BOOK, [FILLED, FILLED, Lost()], SILENCE, OutcomeUnknown, "may or may not", [OLD]),
}


@pytest.mark.parametrize("what", MOVES)
async def test_a_move_that_goes_wrong_says_what_is_booked(agent: Agent, stage: Watched, what: str) -> None:
    stage.shift()
    id = await stage.book("intro", OLD)
    to, request, failures, silence, error, word, expected = MOVES[what]
    stage.wire.breaks(request, *failures, then_down=silence)
    if error is None:
        moved = await move(agent, id, to)
        assert (moved["start"], moved["rescheduled_from"]) == (to.isoformat(), id)
    else:
        with pytest.raises(error, match=word):
            await move(agent, id, to)
    assert stage.live() == expected
    outcome = "done" if error is None else "unknown" if error is OutcomeUnknown else "failed"
    assert ("reschedule_booking", ACCOUNT, outcome) in await stage.journaled()
    writes = [(each.line, (each.body or {}).get("start_time")) for each in stage.wire.sent("POST .*")]
    assert len(writes) - len(set(writes)) <= sum(not isinstance(each, Lost) for each in failures), "sent twice"
    if error is not OutcomeUnknown:
        async with after_a_restart(stage) as again:
            assert (await again.get_booking(booking_id=id))["start"] == expected[0].isoformat()


async def test_a_booking_put_back_is_named_and_found_by_its_old_id(agent: Agent, stage: Watched) -> None:
    stage.shift()
    id = await stage.book("intro", OLD)
    await stage.book("intro", OLD + 2 * QUARTER, "zoe@example.com")
    with pytest.raises(SlotTaken) as failed:
        await move(agent, id, NEAR)
    assert failed.value.details == {"booking_id": f"{ACCOUNT}:b3/i-b3"}
    found = await agent.get_booking(booking_id=id)
    assert (found["id"], found["status"], found["start"]) == (f"{ACCOUNT}:b3/i-b3", "confirmed", OLD.isoformat())
    steps = {("cancel_booking", "done"), ("create_booking", "failed"), ("create_booking", "done")}
    assert {(tool, outcome) for tool, _, outcome in await stage.journaled()} == steps | {
        ("reschedule_booking", "failed")
    }
    assert (stage.live(), stage.live("zoe@example.com")) == ([OLD], [OLD + 2 * QUARTER])


async def test_a_booking_called_off_by_its_guest_midway_is_not_said_to_stay(agent: Agent, stage: Watched) -> None:
    id = await stage.book("intro", OLD)

    def meanwhile(answer: Any) -> Any:
        stage.world.change("b1", status="cancelled")
        return answer

    stage.wire.breaks(BOOK, meanwhile)
    claim = ""
    try:
        await move(agent, id, NEW)
    except SchedulingError as error:
        claim = error.message
    assert "stays" not in claim
    assert "as it was" not in claim
    assert stage.live() == ([] if claim else [NEW])


@pytest.mark.parametrize("to", [NEW, NEAR])
async def test_a_booking_whose_place_is_offered_no_more_is_left_alone(
    agent: Agent, stage: Watched, to: datetime
) -> None:
    stage.shift()
    booked = await agent.create_booking(**booking(stage, location="zoom_conference"))
    await stage.offer("intro", {"kind": "google_conference"})
    stage.clock.advance(KEPT)
    with pytest.raises(InvalidRequest, match="location"):
        await move(agent, booked["id"], to)
    assert stage.world.writes == []
    assert stage.live("ben@example.com") == [OLD]


@pytest.mark.parametrize("now", [replace(ASKS, minutes=45, questions=()), replace(ASKS, active=False), None, ASKS])
async def test_a_booking_that_could_not_be_made_again_is_left_alone(
    agent: Agent, stage: Watched, now: Kind | None
) -> None:
    """Its event type takes longer by now, is not active, is gone, or asks a question that nobody answered."""
    stage.world.kinds["asks"] = replace(ASKS, questions=())
    id = await stage.book("asks", OLD)
    stage.world.kinds.pop("asks")
    if now is not None:
        stage.world.kinds["asks"] = now
    with pytest.raises(InvalidRequest):
        await move(agent, id, NEW)
    assert (stage.world.writes, stage.live()) == ([], [OLD])


@pytest.mark.parametrize(
    "bound",
    [
        {"payment": {"amount": 10.0, "currency": "EUR"}},
        {"questions_and_answers": [{"question": "Why?", "answer": "a" * 2001, "position": 0}]},
    ],
    ids=["paid-for", "long-answer"],
)
async def test_what_could_not_be_booked_anew_as_it_is_is_not_moved(agent: Agent, stage: Watched, bound: Any) -> None:
    id = await stage.book("intro", OLD)
    stage.wire.breaks(INVITEE, lambda answer: {"resource": answer["resource"] | bound})
    with pytest.raises(Unsupported, match="reschedulings/i-b1"):
        await move(agent, id, NEW)
    assert (stage.world.writes, stage.live()) == ([], [OLD])


async def test_a_meeting_that_has_begun_is_not_moved_to_where_it_touches_itself(agent: Agent, stage: Watched) -> None:
    stage.shift()
    id = await stage.book("intro", OLD)
    stage.clock.advance(OLD + 5 * MINUTE - BEGIN)
    with pytest.raises(InvalidRequest, match="begun"):
        await move(agent, id, NEAR)
    assert (stage.world.writes, stage.live()) == ([], [OLD])
    await move(agent, id, NEW)
    assert stage.live() == [NEW]


async def test_every_earlier_id_stands_for_the_booking_whoever_moved_it(agent: Agent, stage: Watched) -> None:
    ids = [await stage.book("intro", OLD)]
    ids.append((await move(agent, ids[0], NEW))["id"])
    stage.world.move_anew("b2", NEW + HOUR)  # the guest, on the service's page
    ids.append(f"{ACCOUNT}:b3/i-b3")
    async with after_a_restart(stage) as again:
        ids.append((await move(again, ids[0], NEW + 2 * HOUR))["id"])
        assert len(set(ids)) == 4
        for id in ids:
            found = await again.get_booking(booking_id=id)
            assert (found["id"], found["start"]) == (ids[-1], (NEW + 2 * HOUR).isoformat())
            assert found.get("rescheduled_from", id) == id or id == ids[-1]
        listed = (await again.list_bookings(status="cancelled"))["bookings"]
        assert [each["id"] for each in listed] == [ids[2], ids[1], ids[0]]
        assert all("rescheduled_to" in each for each in listed)
        await again.cancel_booking(booking_id=ids[0])
    assert stage.live() == []


async def test_a_move_with_a_key_happens_once_across_a_restart(agent: Agent, stage: Watched) -> None:
    id = await stage.book("intro", OLD)
    first = await move(agent, id, NEW, idempotency_key="k1")
    async with after_a_restart(stage) as again:
        assert await move(again, id, NEW, idempotency_key="k1") == first
    assert len(stage.world.writes) == 2
    assert stage.live() == [NEW]


async def test_a_move_with_an_unknown_end_names_the_bookings_and_is_not_repeated(agent: Agent, stage: Watched) -> None:
    id = await stage.book("intro", OLD)
    stage.wire.breaks(CANCEL, DENIED, DENIED)
    with pytest.raises(OutcomeUnknown) as failed:
        await move(agent, id, NEW, idempotency_key="k1")
    assert failed.value.details == {"booking_ids": [id, f"{ACCOUNT}:b2/i-b2"]}
    with pytest.raises(OutcomeUnknown):
        await move(agent, id, NEW, idempotency_key="k1")
    assert (len(stage.wire.sent(BOOK)), stage.live()) == (1, [OLD, NEW])
    journaled = [("cancel_booking", "failed")] * 2 + [("create_booking", "done"), ("reschedule_booking", "unknown")]
    assert sorted((tool, outcome) for tool, _, outcome in await stage.journaled()) == journaled


async def test_a_cancel_that_arrives_late_was_ours_and_the_move_is_done(agent: Agent, stage: Watched) -> None:
    """It is looked for in vain, tried again, and refused then because the first try has arrived by now."""
    id = await stage.book("intro", OLD)

    def late(answer: Any) -> Any:
        stage.world.change("b1", status="cancelled", reason=MOVED)
        return answer

    # Found, read again, and looked at three times; after the last look it arrives.
    stage.wire.breaks("GET /scheduled_events/b1", None, None, None, None, late)
    stage.wire.breaks(CANCEL, DEAF)
    assert (await move(agent, id, NEW))["start"] == NEW.isoformat()
    assert stage.live() == [NEW]


async def test_a_booking_that_arrives_late_is_not_taken_for_somebody_elses(agent: Agent, stage: Watched) -> None:
    """Booked anew after the old one was cancelled; the second try meets the first one, which took its time."""
    stage.shift()
    id = await stage.book("intro", OLD)

    def late(answer: Any) -> Any:
        [sent, *_] = stage.wire.sent(BOOK)
        stage.world.book("intro", NEAR, ANA, marker=sent.body["tracking"]["utm_content"])
        return answer

    stage.wire.breaks(BOOK, DEAF)
    stage.wire.breaks("GET /scheduled_events", None, None, late)
    assert (await move(agent, id, NEAR))["start"] == NEAR.isoformat()
    assert stage.live() == [NEAR]


@pytest.mark.parametrize("quirks", [{"booking_limits": (3, 50, 100), "settings": {"booking_limits": {"minute": 3}}}])
async def test_moves_at_once_do_not_take_each_others_room(agent: Agent, stage: Watched) -> None:
    stage.shift()
    guests = {f"guest{hour}@example.com": OLD + timedelta(hours=hour) for hour in range(3)}
    ids = [await stage.book("intro", start, email) for email, start in guests.items()]
    moves = [move(agent, id, start + QUARTER) for id, start in zip(ids, guests.values(), strict=True)]
    done = await asyncio.gather(*moves, return_exceptions=True)
    assert [type(each) for each in done if isinstance(each, Exception)] == [RateLimited]
    for email, start in guests.items():
        assert len(stage.live(email)) == 1
        assert stage.live(email)[0] - start in (timedelta(0), QUARTER)


async def test_a_booking_that_may_have_fallen_to_a_colleague_is_not_said_to_be_absent(
    agent: Agent, stage: Watched
) -> None:
    stage.world.kinds["robin"] = Kind("Round robin", 30)
    stage.wire.breaks(BOOK, DEAF)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await agent.create_booking(**booking(stage, kind="robin"))
    assert len(stage.wire.sent(BOOK)) == 1


# Booking


@pytest.mark.parametrize("edit", [{"status": "postponed"}, {"start_time": "soon"}, {"invitees_counter": None}])
async def test_a_booking_whose_event_cannot_be_read_is_found_and_not_made_twice(
    agent: Agent, stage: Watched, edit: Any
) -> None:
    stage.wire.breaks(EVENT, lambda answer: {"resource": answer["resource"] | edit})
    booked = await agent.create_booking(**booking(stage))
    assert (booked["status"], booked["start"], len(stage.wire.sent(BOOK))) == ("confirmed", OLD.isoformat(), 1)
    assert await stage.journaled() == [("create_booking", ACCOUNT, "done")]


@pytest.mark.parametrize("place", [None, "zoom_conference"])
async def test_a_booking_is_told_though_its_event_is_not(agent: Agent, stage: Watched, place: str | None) -> None:
    stage.wire.breaks(EVENT, missing().answer)
    told = await agent.create_booking(**booking(stage, guests=["zoe@example.com"], location=place))
    whole = await agent.get_booking(booking_id=told["id"])
    assert told == {name: value for name, value in whole.items() if name not in ("location", "join_url")}


@pytest.mark.parametrize("which", ["event", "invitee"])
async def test_a_status_that_is_not_known_is_an_error_and_no_guess(agent: Agent, stage: Watched, which: str) -> None:
    id = await stage.book("intro", OLD)
    await stage.book("intro", NEW)
    odd = {"status": "postponed"}

    def edit(answer: Any) -> Any:
        if "resource" in answer:
            return {"resource": answer["resource"] | odd}
        return answer | {"collection": [each | odd for each in answer["collection"]]}

    path = f"{EVENT}|{LISTED}" if which == "event" else f"{INVITEE}|{EVENT}/invitees"
    stage.wire.breaks(path, *[edit] * 4)
    with pytest.raises(ProviderDown):
        await agent.get_booking(booking_id=id)
    with pytest.raises(ProviderDown):
        await agent.list_bookings()


@pytest.mark.parametrize("warm", [True, False])
async def test_an_event_type_that_went_meanwhile_is_not_found(agent: Agent, stage: Watched, warm: bool) -> None:
    id = await stage.book("intro", OLD)
    if warm:
        await agent.list_event_types()
    del stage.world.kinds["intro"]
    for call in (agent.create_booking(**booking(stage, NEW)), agent.find_slots(**window(stage))):
        with pytest.raises(NotFound):
            await call
    assert [each["id"] for each in (await agent.list_bookings())["bookings"]] == [id]
    assert (await agent.cancel_booking(booking_id=id))["status"] == "cancelled"
    assert stage.live("ben@example.com") == []


async def test_a_start_at_which_the_event_type_never_begins_costs_no_booking(agent: Agent, stage: Watched) -> None:
    id = await stage.book("intro", OLD)
    with pytest.raises(SlotTaken, match="Nothing was changed"):
        await move(agent, id, OLD + timedelta(minutes=7))
    assert (stage.world.writes, stage.live()) == ([], [OLD])


async def test_what_a_booking_carries_unseen_goes_along(agent: Agent, stage: Watched) -> None:
    id = await stage.book("intro", OLD)
    beside = {"text_reminder_number": "+4930123456"}
    campaign = dict.fromkeys(("utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid"))
    tracking = {"tracking": {"utm_campaign": "spring", **campaign}}
    stage.wire.breaks(INVITEE, *[lambda answer: {"resource": answer["resource"] | beside | tracking}] * 2)
    await move(agent, id, NEW)
    [sent] = stage.wire.sent(BOOK)
    assert sent.body["invitee"]["text_reminder_number"] == "+4930123456"
    assert (sent.body["tracking"]["utm_campaign"], len(sent.body["tracking"]["utm_content"])) == ("spring", 32)
