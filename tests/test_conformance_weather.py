"""What every account at a service over the network owes in bad weather: a right name, nothing lost, nothing false."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.core import LOOKS
from providers.rest import LONGEST_WAIT
from schemas import (
    Feature,
    NotConnected,
    OutcomeUnknown,
    PermissionDenied,
    ProviderDown,
    RateLimited,
    SchedulingError,
    SlotTaken,
)
from tests.agent import Agent
from tests.behaviour import behaviour
from tests.emulators.wire import Altered, Lost
from tests.stages import STAGES, LocalStage, NothingStage, Stage
from tests.world import ELEVEN, MONDAY, NINE, TEN, Appointment

WIRED = [name for name, stage in STAGES.items() if stage not in (LocalStage, NothingStage)]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.untraced,
    pytest.mark.parametrize("stage", WIRED, indirect=True),
    pytest.mark.parametrize("transport", ["memory"], indirect=True),
]

DAY = timedelta(days=1)
FOREVER = 500
Call = Callable[[Agent, Stage, str], Any]

WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + DAY).isoformat()}
READS: dict[str, Call] = {
    "list_event_types": lambda agent, stage, id: agent.list_event_types(),
    "find_slots": lambda agent, stage, id: agent.find_slots(event_type_ids=[stage.intro], **WINDOW),
    "find_busy_times": lambda agent, stage, id: agent.find_busy_times(**WINDOW),
    "list_bookings": lambda agent, stage, id: agent.list_bookings(),
    "get_booking": lambda agent, stage, id: agent.get_booking(booking_id=id),
}
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
WRITES: dict[str, Call] = {
    "create_booking": lambda agent, stage, id: agent.create_booking(
        event_type_id=stage.intro, start=NINE.isoformat(), **BEN
    ),
    "reschedule_booking": lambda agent, stage, id: agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat()),
    "cancel_booking": lambda agent, stage, id: agent.cancel_booking(booking_id=id, reason="ill"),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)
every_write = pytest.mark.parametrize(("tool", "write"), WRITES.items(), ids=WRITES)


def page(status: int, **headers: str) -> Response:
    return HTMLResponse("<h1>Sorry</h1>", status, headers={name.replace("_", "-"): v for name, v in headers.items()})


REFUSALS: dict[str, tuple[Any, type[SchedulingError]]] = {
    "a revoked key": (page(401), NotConnected),
    "a missing permission": (page(403), PermissionDenied),
    "too many requests": (page(429, retry_after="3600"), RateLimited),
    "too many requests, no word how long": (page(429), RateLimited),
    "connection refused": (httpx2.ConnectError("refused"), ProviderDown),
}
TROUBLES: dict[str, Any] = {
    "a page of HTML": page(500),
    "a gateway's page": page(502),
    "JSON cut off": Response(b'{"status": "success", "data": [{"id": 1', media_type="application/json"),
    "HTML that succeeds": page(200),
    "an empty answer": Response(b""),
    "a redirect to another host": RedirectResponse("https://elsewhere.example/steal"),
    "connection closed": httpx2.RemoteProtocolError("closed"),
    "no answer in time": httpx2.ReadTimeout("slow"),
}
every_refusal = pytest.mark.parametrize(("failure", "code"), REFUSALS.values(), ids=REFUSALS)
every_trouble = pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)


class OnWrites(deque[Any]):
    """Failures for writes alone; with `then`, whatever comes after the first write fails as that."""

    def __init__(self, stage: Stage, *failures: Any, then: Any = None) -> None:
        super().__init__([None] * FOREVER)
        self._world, self._failures, self._then = stage.world, deque(failures), then

    def popleft(self) -> Any:
        if self._world.requests[-1][0] != "GET" and self._failures:
            return self._failures.popleft()
        return self._then if self._world.writes else None


@every_read
@every_refusal
async def test_a_read_that_is_refused_says_why(
    agent: Agent, stage: Stage, read: Call, failure: Any, code: type[SchedulingError]
) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures.extend([failure] * FOREVER)
    with pytest.raises(code) as caught:
        await read(agent, stage, id)
    assert (type(caught.value), caught.value.account) == (code, "acme")
    assert sum(stage.clock.waits) <= LONGEST_WAIT


@every_read
@every_trouble
async def test_a_read_that_fails_is_tried_again_and_is_never_empty(
    agent: Agent, stage: Stage, read: Call, trouble: Any
) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures.extend([trouble] * FOREVER)
    with pytest.raises(ProviderDown):
        await read(agent, stage, id)
    stage.world.failures.clear()
    stage.world.failures.append(trouble)
    at_last, again = await read(agent, stage, id), await read(agent, stage, id)
    assert at_last | {"now": ""} == again | {"now": ""}
    assert not any("elsewhere" in path or "steal" in path for _, path in stage.world.requests)


@every_read
async def test_a_read_waits_as_long_as_it_is_told(agent: Agent, stage: Stage, read: Call) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures.append(page(429, retry_after="7"))
    await read(agent, stage, id)
    assert stage.clock.waits == [7]


@behaviour(Feature.CREATE_BOOKING, Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
@every_write
@every_refusal
async def test_a_write_that_is_refused_changes_nothing(
    agent: Agent, stage: Stage, tool: str, write: Call, failure: Any, code: type[SchedulingError]
) -> None:
    id = await stage.book("intro", TEN)
    before = await stage.appointments()
    stage.world.failures = OnWrites(stage, failure)
    with pytest.raises(code) as caught:
        await write(agent, stage, id)
    assert type(caught.value) is code
    assert await stage.appointments() == before
    assert len(stage.world.writes) == 1
    assert {outcome for _, _, outcome in await stage.journaled()} == {"failed"}


@behaviour(Feature.CREATE_BOOKING, Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
@every_write
@every_trouble
async def test_a_write_that_did_not_arrive_is_looked_for_and_may_be_made_again(
    agent: Agent, stage: Stage, tool: str, write: Call, trouble: Any
) -> None:
    id = await stage.book("intro", TEN)
    before = await stage.appointments()
    stage.world.failures = OnWrites(stage, trouble)
    with pytest.raises(ProviderDown):
        await write(agent, stage, id)
    assert await stage.appointments() == before
    assert stage.clock.waits == [pause for pause in LOOKS if pause]
    assert len(stage.world.writes) == 1
    await write(agent, stage, id)
    assert happened(tool, await stage.appointments())


@behaviour(Feature.CREATE_BOOKING, Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
@every_write
async def test_a_write_whose_answer_is_lost_is_found_and_answered(
    agent: Agent, stage: Stage, tool: str, write: Call
) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures = OnWrites(stage, Lost())
    answer = await write(agent, stage, id)
    assert happened(tool, await stage.appointments())
    assert len(stage.world.writes) == stage.writes_of.get(tool, 1)
    assert {outcome for _, _, outcome in await stage.journaled()} == {"done"}
    stage.world.failures.clear()
    now = await agent.get_booking(booking_id=answer["id"])
    assert (now["start"], now["status"]) == (answer["start"], answer["status"])


@behaviour(Feature.CREATE_BOOKING, Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
@every_write
async def test_a_write_whose_answer_cannot_be_read_is_found_too(
    agent: Agent, stage: Stage, tool: str, write: Call
) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures = OnWrites(stage, Altered(lambda _: {"resource": {}, "data": {}}))
    assert (await write(agent, stage, id))["account"] == "acme"
    assert happened(tool, await stage.appointments())


happens_or_not = pytest.mark.parametrize("lost", [Lost(), page(502)], ids=["done", "not done"])


async def settled(stage: Stage, change: Any, lost: Any) -> Any:
    """What a change answers whose own answer is lost: what it made, or that it may be made again."""
    stage.world.failures = OnWrites(stage, lost)
    if isinstance(lost, Lost):
        return await change()
    with pytest.raises(ProviderDown):
        await change()
    return await change()


@behaviour(Feature.UPDATE_SCHEDULE, Feature.LIST_SCHEDULES)
@happens_or_not
async def test_a_change_of_hours_is_looked_up(agent: Agent, stage: Stage, lost: Any) -> None:
    [schedule] = (await agent.list_schedules(**stage.changeable))["schedules"]
    asked = {"time_zone": "Europe/Paris"}
    saved = await settled(stage, lambda: agent.update_schedule(schedule_id=schedule["id"], **asked), lost)
    assert (saved["time_zone"], stage.world.zone) == ("Europe/Paris", "Europe/Paris")
    assert len(stage.world.writes) == (1 if isinstance(lost, Lost) else 2)


@behaviour(Feature.RESPOND_CONFIRM, Feature.RESPOND_DECLINE)
@pytest.mark.parametrize(("response", "status"), [("confirm", "confirmed"), ("decline", "declined")])
@happens_or_not
async def test_an_answer_to_a_booking_is_looked_up(
    agent: Agent, stage: Stage, response: str, status: str, lost: Any
) -> None:
    id = await stage.book("approval", TEN)
    answered = await settled(stage, lambda: agent.respond_to_booking(booking_id=id, response=response), lost)
    assert answered["status"] == status
    assert [each.status for each in await stage.appointments()] == [status]
    assert len(stage.world.writes) == (1 if isinstance(lost, Lost) else 2)


@behaviour(Feature.CREATE_BOOKING, Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
@every_write
@pytest.mark.parametrize("lost", [Lost(), page(500)], ids=["done", "not done"])
async def test_a_write_that_cannot_be_looked_for_is_unknown_and_not_sent_again(
    agent: Agent, stage: Stage, tool: str, write: Call, lost: Any
) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures = OnWrites(stage, lost, then=httpx2.ConnectError("refused"))
    with pytest.raises(OutcomeUnknown) as caught:
        await write(agent, stage, id)
    assert caught.value.account == "acme"
    assert len(stage.world.writes) == 1
    assert {outcome for _, _, outcome in await stage.journaled()} == {"unknown"}


@every_read
async def test_what_nobody_knew_of_in_an_answer_is_passed_over(agent: Agent, stage: Stage, read: Call) -> None:
    id = await stage.book("intro", TEN, answers={"company": "ACME"})
    usual = await read(agent, stage, id)
    stage.clock.advance(timedelta(minutes=6))  # nothing is remembered
    stage.world.failures.extend([Altered(_with_news)] * FOREVER)
    assert await read(agent, stage, id) | {"now": ""} == usual | {"now": ""}


@pytest.mark.parametrize("read", [READS["list_bookings"], READS["get_booking"]], ids=["list_bookings", "get_booking"])
async def test_a_status_that_nobody_knows_is_an_error_and_no_guess(agent: Agent, stage: Stage, read: Call) -> None:
    id = await stage.book("intro", TEN)
    stage.world.failures.extend([Altered(_of_unknown_status)] * FOREVER)
    with pytest.raises(ProviderDown):
        await read(agent, stage, id)


@behaviour(Feature.LIST_BOOKINGS)
async def test_ten_thousand_bookings_are_listed_page_by_page(agent: Agent, stage: Stage) -> None:
    for number in range(10_000):
        start = TEN + DAY + number * timedelta(minutes=1)
        end = start + timedelta(minutes=1)
        stage.world.appointments[f"b{number}"] = Appointment("intro", start, end, "ana@example.com", event=f"b{number}")
    first = await agent.list_bookings(limit=50)
    assert len({each["id"] for each in first["bookings"]}) == 50
    assert stage.sent() <= 70
    second = await agent.list_bookings(limit=50, cursor=first["next_cursor"])
    starts = [each["start"] for each in (*first["bookings"], *second["bookings"])]
    assert starts == sorted(set(starts))
    assert len(starts) == 100
    newest = await agent.list_bookings(status="all", start=(TEN + 7 * DAY).isoformat(), limit=5)
    assert len(newest["bookings"]) == 5


@behaviour(Feature.CREATE_BOOKING)
async def test_a_slot_lost_since_it_was_found_is_taken(agent: Agent, stage: Stage) -> None:
    [slot, *_] = (await agent.find_slots(event_type_ids=[stage.intro], **WINDOW))["slots"]
    await stage.book("intro", NINE, "zoe@example.com")
    with pytest.raises(SlotTaken):
        await agent.create_booking(event_type_id=stage.intro, start=slot["start"], **BEN)
    assert [each.email for each in await stage.appointments()] == ["zoe@example.com"]


def happened(tool: str, appointments: list[Appointment]) -> bool:
    live = [each for each in appointments if each.live]
    return {
        "create_booking": [(each.start, each.email) for each in live]
        == [(NINE, "ben@example.com"), (TEN, "ana@example.com")],
        "reschedule_booking": [each.start for each in live] == [ELEVEN],
        "cancel_booking": [each.status for each in appointments] == ["cancelled"],
    }[tool]


def _with_news(value: Any) -> Any:
    """The same with a field more in every object that has an id of some kind."""
    if isinstance(value, list):
        return [_with_news(each) for each in value]
    if isinstance(value, dict):
        named = {"id", "uid", "uri", "start", "start_time", "resource", "title"} & value.keys()
        return {key: _with_news(each) for key, each in value.items()} | ({"news": {"of": [1]}} if named else {})
    return value


def _of_unknown_status(value: Any) -> Any:
    if isinstance(value, list):
        return [_of_unknown_status(each) for each in value]
    if isinstance(value, dict):
        return {
            key: "quantum" if key in ("status", "state") and each != "success" else _of_unknown_status(each)
            for key, each in value.items()
        }
    return value
