"""The embedded calendar: what only it promises, above all that a slot is booked once, whoever asks how often."""

import asyncio
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.config import parse_config
from gateway.core import Gateway
from gateway.server import build_server
from schemas import InvalidRequest, SchedulingError, SlotTaken
from tests.agent import Agent, connected
from tests.postgres import databases, on_sqlite
from tests.stages import ACCOUNT, LocalStage
from tests.world import BEGIN, ELEVEN, MONDAY, NINE, TEN, Clock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("database")]

INTRO = f"{ACCOUNT}:intro"
BEN = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
GUESTS = 64


async def outcomes(calls: Any) -> list[Any]:
    """What each of these calls made, or the code of its error."""

    async def outcome(call: Any) -> Any:
        try:
            return (await call)["id"]
        except SchedulingError as error:
            return error.code

    return list(await asyncio.gather(*map(outcome, calls)))


async def test_sixty_four_guests_at_once_get_one_slot(local: LocalStage, local_agent: Agent) -> None:
    came = await outcomes(
        local_agent.create_booking(
            event_type_id=INTRO, start=TEN.isoformat(), attendee_name="Guest", attendee_email=f"g{number}@example.com"
        )
        for number in range(GUESTS)
    )
    assert Counter(came)["slot_taken"] == GUESTS - 1
    [appointment] = await local.appointments()
    assert appointment.live


async def test_sixty_four_equal_calls_are_one_booking_and_one_answer(local: LocalStage, local_agent: Agent) -> None:
    came = await outcomes(
        local_agent.create_booking(event_type_id=INTRO, start=TEN.isoformat(), **BEN) for _ in range(GUESTS)
    )
    assert len(set(came)) == 1
    assert came[0].startswith(f"{ACCOUNT}:")
    assert len(await local.appointments()) == 1
    assert await local.journaled() == [("create_booking", ACCOUNT, "done")]


async def test_overlapping_meetings_of_two_kinds_exclude_each_other(local: LocalStage, local_agent: Agent) -> None:
    review = {"event_type_id": f"{ACCOUNT}:review", "answers": {"company": "ACME"}}
    came = await outcomes(
        local_agent.create_booking(
            **(review | {"start": TEN.isoformat()})
            if number % 2
            else {"event_type_id": INTRO, "start": (TEN + timedelta(minutes=30)).isoformat()},
            attendee_name="Guest",
            attendee_email=f"g{number}@example.com",
        )
        for number in range(16)
    )
    assert Counter(came)["slot_taken"] == 15
    assert len(await local.appointments()) == 1


async def test_two_bookings_moved_to_one_time_do_not_share_it(local: LocalStage, local_agent: Agent) -> None:
    first = await local.book("intro", NINE)
    second = await local.book("intro", TEN, "zoe@example.com")
    came = await outcomes(
        local_agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat()) for id in (first, second)
    )
    assert sorted(each == "slot_taken" for each in came) == [False, True]
    assert [each.start for each in await local.appointments()].count(ELEVEN) == 1


RACER = """
import asyncio, sys
from pathlib import Path
from fastmcp import Client
from gateway.config import load_config
from gateway.core import Gateway
from gateway.server import build_server
from tests.agent import Agent
from tests.test_local import outcomes
from tests.world import Clock, TEN

async def main(name):
    async with Client(build_server(Gateway(load_config(Path("race.yaml")), clock=Clock()))) as client:
        agent = Agent(client)
        await agent.list_accounts()
        print("ready", flush=True)
        sys.stdin.readline()
        calls = [
            agent.create_booking(event_type_id="home:intro", start=TEN.isoformat(), attendee_name="Guest",
                                 attendee_email=f"{name}{number}@example.com")
            for number in range(16)
        ]
        same = [
            agent.create_booking(event_type_id="home:intro", start=TEN.replace(hour=14).isoformat(),
                                 attendee_name="Same", attendee_email="same@example.com")
            for _ in range(16)
        ]
        print(*await outcomes(calls), "|", *await outcomes(same))

asyncio.run(main(sys.argv[1]))
"""


@on_sqlite
def test_two_processes_do_not_book_one_slot_twice(tmp_path: Path) -> None:
    (tmp_path / "race.yaml").write_text(
        "accounts: {home: {provider: local, time_zone: Europe/Berlin,"
        " event_types: [{slug: intro, title: Intro, duration_minutes: 30}]}}\n"
        "storage: {url: 'sqlite:///race.db'}\n"
    )
    root = Path(__file__).parent.parent
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, name],
            cwd=tmp_path,
            env={"PYTHONPATH": str(root), "PATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for racer in racers:  # both have opened the database, made at the same moment by both, before either books
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    said = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=120)
        assert racer.returncode == 0
        said.append(out.split("|"))
    guests = Counter(word for each, _ in said for word in each.split())
    assert guests.pop("slot_taken") == 31
    assert list(guests.values()) == [1]
    same = Counter(word for _, each in said for word in each.split())
    assert list(same.values()) == [32]


async def test_a_fresh_calendar_can_be_booked_at_once(tmp_path: Path) -> None:
    account, url = "{provider: local, time_zone: Europe/Berlin}", databases.url(tmp_path)
    config = parse_config(f"accounts: {{home: {account}}}\nstorage: {{url: '{url}'}}", {}, folder=tmp_path)
    async with connected(build_server(Gateway(config, clock=Clock()))) as agent:
        event_types = (await agent.list_event_types())["event_types"]
        assert [each["durations_minutes"] for each in event_types] == [[30], [60]]
        [schedule] = (await agent.list_schedules())["schedules"]
        assert schedule["weekly_hours"]["monday"] == ["09:00-17:00"]
        booked = await agent.create_booking(event_type_id=event_types[0]["id"], start=NINE.isoformat(), **BEN)
        assert booked["status"] == "confirmed"


async def test_the_file_speaks_of_working_hours_when_it_changes(tmp_path: Path) -> None:
    async def hours(account: str, change: Any = None) -> Any:
        config = parse_config(
            f"accounts: {{home: {account}}}\nstorage: {{url: '{databases.url(tmp_path)}'}}", {}, folder=tmp_path
        )
        async with connected(build_server(Gateway(config, clock=Clock()))) as agent:
            [schedule] = (await agent.list_schedules())["schedules"]
            if change:
                schedule = await agent.update_schedule(schedule_id=schedule["id"], **change)
            return schedule["weekly_hours"].get("monday"), schedule["time_zone"]

    first = "{provider: local, time_zone: Europe/Berlin, working_hours: {monday: ['08:00-12:00']}}"
    other = "{provider: local, time_zone: Europe/Berlin, working_hours: {monday: ['10:00-11:00']}}"
    assert await hours(first) == (["08:00-12:00"], "Europe/Berlin")
    changed = {"weekly_hours": {"monday": ["13:00-14:00"]}, "time_zone": "Asia/Tokyo"}
    assert await hours(first, changed) == (["13:00-14:00"], "Asia/Tokyo")
    assert await hours(first) == (["13:00-14:00"], "Asia/Tokyo")
    assert await hours(other) == (["10:00-11:00"], "Europe/Berlin")


async def test_every_rule_of_a_configured_event_type_holds(tmp_path: Path) -> None:
    config = parse_config(
        """
        accounts:
          home:
            provider: local
            time_zone: Europe/Berlin
            event_types:
              - {slug: strict, title: Strict, duration_minutes: 30, slot_step_minutes: 60, buffer_before_minutes: 15,
                 minimum_notice_minutes: 1440, booking_window_days: 3, max_per_day: 2}
        """
        f"storage: {{url: '{databases.url(tmp_path)}'}}",
        {},
        folder=tmp_path,
    )
    async with connected(build_server(Gateway(config, clock=Clock()))) as agent:

        async def days() -> dict[str, list[str]]:
            window = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=7)).isoformat()}
            found = await agent.find_slots(event_type_ids=["home:strict"], **window, limit=500)
            each: dict[str, list[str]] = {}
            for slot in found["slots"]:
                each.setdefault(slot["weekday"], []).append(slot["start"][11:16])
            return each

        # Sunday noon: a day's notice ends on Monday noon, and three days on is Wednesday.
        before = await days()
        assert before.keys() == {"Monday", "Tuesday", "Wednesday"}
        assert before["Monday"] == ["12:00", "13:00", "14:00", "15:00", "16:00"]
        for hour in (10, 14):
            start = (MONDAY + timedelta(days=1, hours=hour)).isoformat()
            await agent.create_booking(event_type_id="home:strict", start=start, **BEN)
        assert (await days()).keys() == {"Monday", "Wednesday"}


async def test_moving_keeps_a_bookings_length_and_checks_all_of_it(local: LocalStage, local_agent: Agent) -> None:
    made = await local_agent.save_event_type(title="Long", duration_minutes=120)
    booked = await local_agent.create_booking(event_type_id=made["id"], start=NINE.isoformat(), **BEN)
    await local.book("intro", NINE.replace(hour=14), "zoe@example.com")
    await local_agent.save_event_type(event_type_id=made["id"], duration_minutes=60)
    with pytest.raises(SlotTaken):
        await local_agent.reschedule_booking(booking_id=booked["id"], start=NINE.replace(hour=13).isoformat())
    moved = await local_agent.reschedule_booking(booking_id=booked["id"], start=NINE.replace(hour=15).isoformat())
    assert moved["end"] == NINE.replace(hour=17).isoformat()


async def test_a_booking_of_a_deleted_event_type_says_what_to_do(local_agent: Agent) -> None:
    made = await local_agent.save_event_type(title="Gone", duration_minutes=30)
    booked = await local_agent.create_booking(event_type_id=made["id"], start=NINE.isoformat(), **BEN)
    await local_agent.delete_event_type(event_type_id=made["id"])
    with pytest.raises(InvalidRequest, match="another event type"):
        await local_agent.reschedule_booking(booking_id=booked["id"], start=TEN.isoformat())
    again = await local_agent.save_event_type(title="Gone", duration_minutes=30)
    assert again["id"] != made["id"]
    assert again["slug"] == "gone-2"


async def test_a_confirmed_booking_is_cancelled_not_declined(local: LocalStage, local_agent: Agent) -> None:
    id = await local.book("intro", TEN)
    with pytest.raises(InvalidRequest, match="cancel_booking"):
        await local_agent.respond_to_booking(booking_id=id, response="decline")


async def test_what_another_process_writes_is_seen_at_once(local: LocalStage, local_agent: Agent) -> None:
    window = {"start": NINE.isoformat(), "end": ELEVEN.isoformat()}
    before = await local_agent.find_slots(event_type_ids=[INTRO], **window)
    other = Gateway(local.config, clock=local.clock)
    async with connected(build_server(other)) as elsewhere:
        await elsewhere.create_booking(event_type_id=INTRO, start=NINE.isoformat(), **BEN)
        hours = {"monday": ["09:00-10:30"]}
        await elsewhere.update_schedule(schedule_id=f"{ACCOUNT}:working-hours", weekly_hours=hours)
    after = await local_agent.find_slots(event_type_ids=[INTRO], **window)
    assert len(before["slots"]) == 4
    assert [slot["start"][11:16] for slot in after["slots"]] == ["09:30", "10:00"]


async def test_an_hour_that_clocks_show_twice_is_offered_twice_in_order(tmp_path: Path) -> None:
    config = parse_config(
        """
        accounts:
          home:
            provider: local
            time_zone: Europe/Berlin
            working_hours: {sunday: ["02:00-03:00"]}
            event_types: [{slug: night, title: Night, duration_minutes: 30}]
        """
        f"storage: {{url: '{databases.url(tmp_path)}'}}",
        {},
        folder=tmp_path,
    )
    night = {"start": "2030-10-27T00:00:00+02:00", "end": "2030-10-27T12:00:00+01:00"}
    async with connected(build_server(Gateway(config, clock=Clock()))) as agent:
        found = await agent.find_slots(event_type_ids=["home:night"], free_in=["home"], **night)
        assert [slot["start"] for slot in found["slots"]] == [
            "2030-10-27T02:00:00+02:00",
            "2030-10-27T02:30:00+02:00",
            "2030-10-27T02:00:00+01:00",
            "2030-10-27T02:30:00+01:00",
        ]
        second = found["slots"][3]["start"]
        booked = await agent.create_booking(event_type_id="home:night", start=second, **BEN)
        assert (booked["start"], booked["end"]) == (second, "2030-10-27T03:00:00+01:00")
        again = await agent.find_slots(event_type_ids=["home:night"], **night)
        assert [slot["start"] for slot in again["slots"]] == [slot["start"] for slot in found["slots"][:3]]


async def test_no_two_live_bookings_begin_together_whatever_the_code_believes(local: LocalStage) -> None:
    await local.book("intro", TEN)
    with pytest.raises(SlotTaken):
        await local.book("intro", TEN, "zoe@example.com")
    async with local.gateway.storage.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM bookings")) == 1
    assert BEGIN < TEN
