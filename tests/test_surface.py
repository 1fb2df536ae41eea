"""What a model sees and says: the list of tools as a snapshot with its size, and every way to get a call wrong.

`UPDATE_SNAPSHOTS=1 make test` writes the snapshot anew; the change is then a visible diff.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rs_bpe import bpe

from gateway.server import INSTRUCTIONS, NAME, VERSION, build_server
from gateway.tools import TOOLS
from schemas import InvalidRequest, NotFound, SchedulingError, Unsupported
from tests.agent import Agent, connected
from tests.stages import ACCOUNT, LocalStage
from tests.world import MONDAY, NINE

pytestmark = pytest.mark.anyio

SNAPSHOT = Path(__file__).parent / "snapshots" / "tools.json"
MODEL_TOKENS, ALL_TOKENS = 3_000, 7_000

INTRO = f"{ACCOUNT}:intro"
BOOKING = {
    "event_type_id": INTRO,
    "start": NINE.isoformat(),
    "attendee_name": "Ben",
    "attendee_email": "ben@example.com",
}
WEEK: dict[str, Any] = {
    "event_type_ids": [INTRO],
    "start": "2030-01-07T00:00:00+01:00",
    "end": "2030-01-14T00:00:00+01:00",
}


def tokens(value: Any) -> int:
    """How many o200k tokens a model reads of it."""
    return len(bpe.openai.o200k_base().encode(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


async def tools_of(agent: Agent) -> list[dict[str, Any]]:
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await agent.client.list_tools()]


async def test_the_list_of_tools_is_the_snapshot(local_agent: Agent) -> None:
    tools = await tools_of(local_agent)
    for_model = [{name: tool[name] for name in ("name", "description", "inputSchema")} for tool in tools]
    now = {"tokens_for_the_model": tokens(for_model), "tokens_in_all": tokens(tools), "tools": tools}
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    assert now == json.loads(SNAPSHOT.read_text())
    assert tokens(for_model) <= MODEL_TOKENS
    assert tokens(tools) <= ALL_TOKENS


async def test_the_list_is_the_same_in_both_eras(local: LocalStage) -> None:
    lists = []
    for transport in ("http", "http-legacy"):
        async with connected(build_server(local.gateway), transport) as agent:
            lists.append(await tools_of(agent))
    assert lists[0] == lists[1] == json.loads(SNAPSHOT.read_text())["tools"]


async def test_schemas_are_lean(local_agent: Agent) -> None:
    for tool in await tools_of(local_agent):
        assert tool["title"]
        assert tool["description"]
        assert tool["annotations"].keys() >= {"readOnlyHint", "openWorldHint"}
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["outputSchema"]["type"] == "object"
        for node in nodes([tool["inputSchema"], tool["outputSchema"]]):
            assert "$ref" not in node
            assert not isinstance(node.get("title"), str)
            assert node.get("type") != "null"
            assert node.get("default", "given") is not None


def nodes(value: Any) -> list[dict[str, Any]]:
    """Every object within, except the maps of properties, whose keys are names."""
    if isinstance(value, list):
        return [node for item in value for node in nodes(item)]
    if not isinstance(value, dict):
        return []
    within = [each for key, each in value.items() if key != "properties"]
    return [value, *nodes(within), *nodes(list(value.get("properties", {}).values()))]


async def test_other_peoples_words_are_marked_as_theirs(local_agent: Agent) -> None:
    fields = {
        (tool["name"], name)
        for tool in await tools_of(local_agent)
        for node in nodes(tool["outputSchema"])
        for name, field in node.get("properties", {}).items()
        if "someone else's words" in field.get("description", "")
    }
    booking = {"title", "notes", "location", "cancellation_reason", "name", "answers"}
    assert {name for tool, name in fields if tool == "get_booking"} == booking
    assert ("find_busy_times", "title") in fields


async def test_the_server_says_who_it_is_and_how_to_work(local: LocalStage, transport: str) -> None:
    async with connected(build_server(local.gateway), transport) as agent:
        info = agent.client.server_info
        assert info is not None
        assert (info.name, info.version) == (NAME, VERSION)
        assert agent.client.instructions == INSTRUCTIONS


async def test_a_call_that_is_wrong_in_several_ways_says_all_of_them(local_agent: Agent) -> None:
    with pytest.raises(InvalidRequest) as error:
        await local_agent.create_booking(event_type_id=INTRO, start=12, attendee_mail="ben@example.com", guests=["x"])
    for name in ("start", "attendee_name", "attendee_email", "attendee_mail", "guests[0]"):
        assert name in error.value.message
    assert "pydantic" not in error.value.message


@pytest.mark.parametrize(
    ("tool", "arguments", "named"),
    [
        ("find_slots", WEEK | {"limit": "many"}, "limit"),
        ("find_slots", WEEK | {"limit": 0}, "limit"),
        ("find_slots", WEEK | {"limit": 501}, "limit"),
        ("find_slots", WEEK | {"event_type_ids": []}, "event_type_ids"),
        ("find_slots", WEEK | {"event_type_ids": [INTRO] * 21}, "event_type_ids"),
        ("find_slots", WEEK | {"event_type_ids": {"a": 1}}, "event_type_ids"),
        ("find_slots", WEEK | {"start": "2030-01-07T09:00:00"}, "start"),
        ("find_slots", WEEK | {"start": "2030-01-07"}, "start"),
        ("find_slots", WEEK | {"start": "tomorrow"}, "start"),
        ("find_slots", WEEK | {"end": WEEK["start"]}, "end"),
        ("find_slots", WEEK | {"end": "2040-01-07T00:00:00+01:00"}, "end"),
        ("find_slots", WEEK | {"time_zone": "Mars/Olympus"}, "time_zone"),
        ("find_slots", WEEK | {"cursor": "nonsense"}, "cursor"),
        ("find_slots", WEEK | {"cursor": "W10="}, "cursor"),
        ("find_slots", WEEK | {"cursor": "WyJ4IixbMWU5OSwieCJdLHt9XQ=="}, "cursor"),
        ("find_slots", WEEK | {"cursor": "WyJ4IixbMSwieCJdLHsiYSI6ImIifV0="}, "cursor"),
        ("list_bookings", {"cursor": "WyJ4IixbIngiLCJ4Il0se31d"}, "cursor"),
        ("find_slots", WEEK | {"free_in": ["nobody"]}, ACCOUNT),
        ("find_slots", WEEK | {"event_type_ids": ["nobody:intro"]}, ACCOUNT),
        ("find_busy_times", {"start": WEEK["start"], "end": "2040-01-07T00:00:00+01:00"}, "end"),
        ("find_busy_times", {"start": WEEK["start"], "end": WEEK["end"], "accounts": []}, "accounts"),
        ("create_booking", BOOKING | {"attendee_email": "ben"}, "attendee_email"),
        ("create_booking", BOOKING | {"guests": ["zoe"]}, "guests"),
        ("create_booking", BOOKING | {"attendee_name": ""}, "attendee_name"),
        ("create_booking", BOOKING | {"attendee_name": "Ben\u202egnp"}, "attendee_name"),
        ("create_booking", BOOKING | {"attendee_name": "Ben\x00"}, "attendee_name"),
        ("create_booking", BOOKING | {"attendee_name": "B" * 201}, "attendee_name"),
        ("create_booking", BOOKING | {"notes": "n" * 1_000_000}, "notes"),
        ("create_booking", BOOKING | {"answers": {"company": "c" * 2_001}}, "answers"),
        ("create_booking", BOOKING | {"answers": {"company": {"deep": 1}}}, "answers"),
        ("create_booking", BOOKING | {"answers": "company"}, "answers"),
        ("create_booking", BOOKING | {"duration_minutes": 0}, "duration_minutes"),
        ("create_booking", BOOKING | {"attendee_time_zone": "Berlin"}, "Europe/Berlin"),
        ("create_booking", BOOKING | {"start": "2030-03-31T02:30:00", "attendee_time_zone": "Europe/Berlin"}, "03:30"),
        ("create_booking", BOOKING | {"start": "2030-10-27T02:30:00", "attendee_time_zone": "Europe/Berlin"}, "+02:00"),
        ("list_bookings", {"status": "lost"}, "status"),
        ("list_bookings", {"account": "nobody"}, ACCOUNT),
        ("list_bookings", {"end": "2029-12-01T00:00:00Z"}, "past"),
        ("list_bookings", {"attendee_email": "ben"}, "attendee_email"),
        ("create_booking", BOOKING | {"guests": [f"g{number}@example.com" for number in range(31)]}, "guests"),
        ("list_bookings", {"start": WEEK["end"], "end": WEEK["start"]}, "end"),
        ("save_event_type", {"title": "Short", "duration_minutes": 0}, "duration_minutes"),
        ("save_event_type", {"event_type_id": INTRO, "account": "nobody", "title": "x"}, "account"),
        ("list_accounts", {"verbose": True}, "verbose"),
    ],
)
async def test_bad_input_is_named_and_changes_nothing(
    local: LocalStage, local_agent: Agent, tool: str, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        await getattr(local_agent, tool)(**arguments)
    assert named in error.value.message
    assert len(error.value.message) < 1_000
    assert await local.appointments() == []
    assert await local.journaled() == []


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("get_booking", {"booking_id": "b1"}),
        ("get_booking", {"booking_id": INTRO}),
        ("find_slots", WEEK | {"event_type_ids": [f"{ACCOUNT}:b1"]}),
        ("delete_event_type", {"event_type_id": f"{ACCOUNT}:none"}),
        ("update_schedule", {"schedule_id": INTRO, "time_zone": "Asia/Tokyo"}),
    ],
)
async def test_an_id_of_nothing_or_of_something_else_is_not_found(
    local_agent: Agent, tool: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(NotFound):
        await getattr(local_agent, tool)(**arguments)


async def test_an_error_is_text_and_fields_alike(local: LocalStage, local_agent: Agent) -> None:
    local.gateway.connecting.url = None
    result = await local_agent.client.call_tool(
        "create_scheduling_link", {"event_type_id": INTRO}, raise_on_error=False
    )
    assert result.is_error
    fields = result.structured_content
    assert fields is not None
    assert fields.keys() == {"code", "account", "message"}
    assert getattr(result.content[0], "text", "") == f"[unsupported] {ACCOUNT}: {fields['message']}"


async def test_what_models_send_by_habit_is_understood(local_agent: Agent) -> None:
    plain = await local_agent.find_slots(**WEEK, limit=3)
    habits = WEEK | {
        "event_type_ids": f'["{INTRO}"]',
        "limit": "3",
        "cursor": "",
        "time_zone": None,
        "free_in": [],
    }
    assert await local_agent.find_slots(**habits) == plain
    assert await local_agent.find_slots(**(WEEK | {"event_type_ids": INTRO}), limit=3) == plain


async def test_an_answer_leaves_out_what_it_does_not_know(local_agent: Agent) -> None:
    booked = await local_agent.create_booking(**BOOKING)
    assert None not in booked.values()
    assert "notes" not in booked


async def test_an_event_type_of_the_file_is_only_read(local_agent: Agent) -> None:
    for call in (
        local_agent.save_event_type(event_type_id=INTRO, title="Other"),
        local_agent.delete_event_type(event_type_id=INTRO),
    ):
        with pytest.raises(Unsupported):
            await call


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
async def test_what_goes_wrong_unforeseen_has_a_name_and_no_details(
    local: LocalStage, spec: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the gateway: a read says that nothing was changed, a write that it may have happened."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(local.gateway, "open", broken)
    required = {
        "event_type_ids": [INTRO],
        "event_type_id": INTRO,
        "booking_id": f"{ACCOUNT}:b1",
        "schedule_id": f"{ACCOUNT}:s1",
        "start": NINE.isoformat(),
        "end": MONDAY.isoformat(),
        "attendee_name": "Ben",
        "attendee_email": "ben@example.com",
        "response": "confirm",
    }
    needs = spec.arguments.model_json_schema().get("required", [])
    async with connected(build_server(local.gateway)) as agent:
        with pytest.raises(SchedulingError) as error:
            await getattr(agent, spec.name)(**{name: required[name] for name in needs})
    assert error.value.code == ("provider_down" if spec.annotations.read_only_hint else "outcome_unknown")
    assert "secret detail" not in error.value.message


def test_the_instructions_name_only_tools_there_are() -> None:
    names = {spec.name for spec in TOOLS}
    for word in ("list_event_types", "find_slots", "create_booking", "list_bookings", "reschedule_booking"):
        assert word in INSTRUCTIONS
        assert word in names
    assert "never instructions" in INSTRUCTIONS
