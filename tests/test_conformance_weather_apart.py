"""Bad weather for accounts whose service keeps itself what others leave to the gateway."""

from collections import deque
from datetime import timedelta
from typing import Any

import pytest

from schemas import Feature, NotFound, OutcomeUnknown
from tests.agent import Agent
from tests.behaviour import behaviour
from tests.emulators.wire import Lost
from tests.stages import STAGES, Stage
from tests.test_conformance_weather import BEN, FOREVER, WINDOW, WIRED, OnWrites, happens_or_not, page, settled
from tests.world import BEGIN, TEN

APART = [name for name in WIRED if STAGES[name].keeps_event_types]
NOTING = [name for name in WIRED if STAGES[name].keeps_no_shows]

LINKING = [name for name in WIRED if not STAGES[name].adapter.guest_page]

with_event_types = pytest.mark.parametrize("stage", APART, indirect=True)
with_links = pytest.mark.parametrize("stage", LINKING, indirect=True)
with_no_shows = pytest.mark.parametrize("stage", NOTING, indirect=True)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.untraced,
    pytest.mark.parametrize("transport", ["memory"], indirect=True),
]


@with_event_types
@behaviour(Feature.SAVE_EVENT_TYPE)
@happens_or_not
async def test_a_change_of_an_event_type_is_looked_up(agent: Agent, stage: Stage, lost: Any) -> None:
    asked = {"title": "First call", "duration_minutes": 45, "buffer_after_minutes": 10, "location": "Room 1"}
    saved = await settled(stage, lambda: agent.save_event_type(event_type_id=stage.intro, **asked), lost)
    assert (saved["title"], saved["durations_minutes"], saved["locations"]) == ("First call", [45], ["Room 1"])
    assert (stage.world.kinds["intro"].title, stage.world.kinds["intro"].after) == ("First call", 10)
    assert len(stage.world.writes) == (1 if isinstance(lost, Lost) else 2)


@with_event_types
@behaviour(Feature.SAVE_EVENT_TYPE)
async def test_a_new_event_type_whose_answer_is_lost_is_unknown(agent: Agent, stage: Stage) -> None:
    stage.world.failures = OnWrites(stage, Lost())
    with pytest.raises(OutcomeUnknown):
        await agent.save_event_type(title="First call", duration_minutes=45)
    assert len(stage.world.writes) == 1


@with_event_types
@behaviour(Feature.DELETE_EVENT_TYPE)
@happens_or_not
async def test_the_end_of_an_event_type_is_looked_up(agent: Agent, stage: Stage, lost: Any) -> None:
    intro = stage.intro
    assert (await settled(stage, lambda: agent.delete_event_type(event_type_id=intro), lost))["id"] == intro
    assert "intro" not in stage.world.kinds
    assert len(stage.world.writes) == (1 if isinstance(lost, Lost) else 2)


@with_event_types
@behaviour(Feature.CREATE_BOOKING)
async def test_an_event_type_that_was_deleted_meanwhile_is_not_found(agent: Agent, stage: Stage) -> None:
    await agent.find_slots(event_type_ids=[stage.intro], **WINDOW)
    intro = stage.intro
    del stage.world.kinds["intro"]
    with pytest.raises(NotFound):
        await agent.create_booking(event_type_id=intro, start=TEN.isoformat(), **BEN)
    assert await stage.appointments() == []
    stage.clock.advance(timedelta(minutes=6))
    with pytest.raises(NotFound):
        await agent.find_slots(event_type_ids=[intro], **WINDOW)


@with_event_types
@behaviour(Feature.FIND_BUSY_TIMES)
async def test_a_time_that_could_not_be_checked_is_not_offered(agent: Agent, stage: Stage) -> None:
    offered = await agent.find_slots(event_type_ids=[stage.intro], **WINDOW, free_in=["acme"])
    assert offered["slots"]
    stage.world.failures = Paths(stage, stage.busy_path, page(500))
    found = await agent.find_slots(event_type_ids=[stage.intro], **WINDOW, free_in=["acme"])
    assert found["slots"] == []
    assert [each["code"] for each in found["unavailable"]] == ["provider_down"]


@with_no_shows
@behaviour(Feature.RESPOND_NO_SHOW)
@happens_or_not
async def test_whether_a_guest_came_is_looked_up(agent: Agent, stage: Stage, lost: Any) -> None:
    id = await stage.book("intro", TEN)
    stage.clock.advance(TEN + timedelta(minutes=5) - BEGIN)
    noted = await settled(stage, lambda: agent.respond_to_booking(booking_id=id, response="no_show"), lost)
    assert noted["attendees"][0]["no_show"] is True
    assert [each.no_show for each in await stage.appointments()] == [True]
    assert len(stage.world.writes) == (1 if isinstance(lost, Lost) else 2)


@with_links
@behaviour(Feature.CREATE_SCHEDULING_LINK)
async def test_a_link_whose_answer_is_lost_is_unknown(agent: Agent, stage: Stage) -> None:
    stage.world.failures = OnWrites(stage, Lost())
    with pytest.raises(OutcomeUnknown):
        await agent.create_scheduling_link(event_type_id=stage.intro)
    assert stage.world.links == [("intro", True)]


class Paths(deque[Any]):
    """A failure for requests whose path has that word."""

    def __init__(self, stage: Stage, word: str, failure: Any) -> None:
        super().__init__([None] * FOREVER)
        self._world, self._word, self._failure = stage.world, word, failure

    def popleft(self) -> Any:
        return self._failure if self._word in self._world.requests[-1][1] else None
