"""What only Cal.com can show: its versions, requests, slots, lists, hours and event types.

Bookings are in test_calcom_bookings.py.
"""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from gateway.server import build_server
from providers.rest import KEPT
from schemas import InvalidRequest, NotFound, ProviderDown
from tests import calcom_desk, wired
from tests.agent import Agent, connected
from tests.calcom_desk import VERSIONS, configure, emails, live, made, starts, vendor
from tests.stages import ACCOUNT, Stage
from tests.wired import DAY, HALF_HOUR, HOUR, SCHEDULE, Request_, Sent, Wire, at, requests, window
from tests.world import BERLIN, ELEVEN, HOST_EMAIL, KINDS, NINE, TEN, Appointment

pytestmark = pytest.mark.anyio
stage, wire, agent = calcom_desk.stage, wired.wire, wired.agent


# Versions and addresses


async def test_each_resource_is_asked_in_its_documented_version(agent: Agent, stage: Stage, wire: Wire) -> None:
    await agent.list_event_types()
    await agent.find_slots(event_type_ids=[stage.intro], **window())
    booked = await agent.create_booking(**at(TEN, stage.intro))
    await agent.get_booking(booking_id=booked["id"])
    await agent.update_schedule(schedule_id=SCHEDULE, weekly_hours={"friday": []})
    await agent.create_scheduling_link(event_type_id=stage.intro)
    await agent.find_busy_times(**window())
    asked = {(each.path.split("/")[2], each.version) for each in wire.sent}
    assert asked == {*VERSIONS.items(), ("me", None), ("calendars", None)}


@pytest.mark.parametrize(
    ("resource", "ask"),
    [
        ("bookings", lambda agent, _: agent.list_bookings()),
        ("event_types", lambda agent, _: agent.list_event_types()),
        ("schedules", lambda agent, _: agent.list_schedules()),
        ("slots", lambda agent, stage: agent.find_slots(event_type_ids=[stage.intro], **window())),
    ],
)
async def test_a_configured_version_is_asked_for_and_its_refusal_told(stage: Stage, resource: str, ask: Any) -> None:
    stage._app = wire = Wire(stage)
    configure(stage, api_versions={resource: "2031-01-01"})
    async with connected(build_server(stage.gateway)) as agent:
        with pytest.raises(NotFound):
            await ask(agent, stage)
    assert wire.last.version == "2031-01-01"
    [violation] = stage.world.violations
    assert "cal-api-version" in violation
    stage.world.violations.clear()


@pytest.mark.parametrize(
    ("base_url", "host", "prefix"),
    [
        ("https://api.cal.com", "api.cal.com", ""),
        ("https://api.cal.com/", "api.cal.com", ""),
        ("https://api.cal.com/v2", "api.cal.com", ""),
        ("https://api.cal.com/v2/", "api.cal.com", ""),
        ("https://cal.example.org", "cal.example.org", ""),
        ("http://localhost:5555/v2", "localhost:5555", ""),
        ("https://example.org/api/v2", "example.org", "/api"),
    ],
)
async def test_the_address_may_be_written_with_or_without_the_version(
    stage: Stage, base_url: str, host: str, prefix: str
) -> None:
    stage._app = wire = Wire(stage)
    wire.prefix = prefix
    configure(stage, base_url=base_url)
    async with connected(build_server(stage.gateway)) as agent:
        [account] = (await agent.list_accounts())["accounts"]
    assert (account["state"], wire.last.host, wire.last.path) == ("ready", host, f"{prefix}/v2/me")


# How many requests a call takes

TYPE = ("GET", "/event-types/101")
ME = ("GET", "/me")


async def test_a_read_takes_one_request_and_at_first_one_more_for_who_we_are(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    uid = id.partition(":")[2]
    calls: list[tuple[Callable[[], Any], list[Request_], list[Request_]]] = [
        (lambda: agent.find_slots(event_type_ids=[stage.intro], **window()), [("GET", "/slots")], [ME, TYPE]),
        (lambda: agent.get_booking(booking_id=id), [("GET", f"/bookings/{uid}")], [ME]),
        (lambda: agent.list_bookings(), [("GET", "/bookings")], [ME]),
    ]
    for call, warm, cold in calls:
        assert sorted(await requests(stage, call())) == sorted([*cold, *warm])
        assert await requests(stage, call()) == warm
        stage.clock.advance(KEPT)
    for _ in range(2):
        assert await requests(stage, agent.list_event_types()) == [("GET", "/event-types")]
    named = agent.get_booking(booking_id=id, time_zone="Asia/Tokyo")
    assert await requests(stage, named) == [("GET", f"/bookings/{uid}")]


async def test_a_write_is_one_request_when_what_it_needs_was_read(agent: Agent, stage: Stage) -> None:
    await agent.list_event_types()
    await agent.find_slots(event_type_ids=[stage.intro], **window())
    booking = agent.create_booking(**at(TEN, stage.intro))
    assert await requests(stage, booking) == [("POST", "/bookings")]
    [uid] = {each.event for each in stage.world.appointments.values()}
    moving = agent.reschedule_booking(booking_id=f"{ACCOUNT}:{uid}", start=ELEVEN.isoformat())
    assert await requests(stage, moving) == [("GET", f"/bookings/{uid}"), ("POST", f"/bookings/{uid}/reschedule")]
    [new] = {each.event for each in stage.world.appointments.values() if each.live}
    ending = agent.cancel_booking(booking_id=f"{ACCOUNT}:{new}")
    assert await requests(stage, ending) == [("GET", f"/bookings/{new}"), ("POST", f"/bookings/{new}/cancel")]


async def test_event_types_are_kept_for_a_while_and_until_a_write(agent: Agent, stage: Stage) -> None:
    post = ("POST", "/bookings")
    assert await requests(stage, agent.create_booking(**at(NINE, stage.intro))) == [ME, TYPE, post]
    assert await requests(stage, agent.create_booking(**at(TEN, stage.intro))) == [TYPE, post]
    await agent.list_event_types()
    stage.clock.advance(KEPT - timedelta(seconds=1))
    assert await requests(stage, agent.create_booking(**at(ELEVEN, stage.intro))) == [post]
    await agent.list_event_types()
    stage.clock.advance(KEPT)
    assert await requests(stage, agent.create_booking(**at(ELEVEN + HOUR, stage.intro))) == [ME, TYPE, post]


async def test_a_change_of_the_event_type_is_seen_by_the_next_booking(agent: Agent, stage: Stage) -> None:
    await agent.list_event_types()
    await agent.save_event_type(event_type_id=stage.intro, active=False)
    with pytest.raises(InvalidRequest, match="active"):
        await agent.create_booking(**at(TEN, stage.intro))
    assert live(stage) == []


# Slots


async def test_slots_beyond_the_asked_end_are_cut_off(agent: Agent, stage: Stage, wire: Wire) -> None:
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(NINE, TEN))
    assert starts(found) == [NINE.isoformat(), (NINE + HALF_HOUR).isoformat()]
    told = await vendor(stage, "GET", f"/slots?{wire.last.query}")
    assert sum(map(len, told.values())) == 16


async def test_an_end_at_midnight_in_utc_is_not_the_end_of_that_day(agent: Agent, stage: Stage, wire: Wire) -> None:
    start = datetime(2030, 1, 7, tzinfo=UTC)
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(start, start + DAY), limit=500)
    assert {each[:10] for each in starts(found)} == {"2030-01-07"}
    assert (wire.last["start"], wire.last["end"]) == ("2030-01-07T00:00:00Z", "2030-01-07T23:59:59Z")


async def test_slots_are_asked_in_the_zone_of_the_account_and_shown_in_another(
    agent: Agent, stage: Stage, wire: Wire
) -> None:
    found = await agent.find_slots(
        event_type_ids=[stage.intro], **window(NINE, NINE + HALF_HOUR), time_zone="Asia/Tokyo"
    )
    assert (starts(found), found["time_zone"]) == (["2030-01-07T17:00:00+09:00"], "Asia/Tokyo")
    assert wire.last["timeZone"] == "Europe/Berlin"


@pytest.mark.parametrize(("date", "count"), [((2030, 3, 31), 10), ((2030, 10, 27), 14)])
async def test_where_clocks_change_each_slot_is_offered_once(
    agent: Agent, stage: Stage, date: tuple[int, int, int], count: int
) -> None:
    stage.world.hours["sunday"] = ["00:00-06:00"]
    day = datetime(*date, tzinfo=BERLIN)
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(day, day + HOUR * 24), limit=500)
    instants = [datetime.fromisoformat(each).astimezone(UTC) for each in starts(found)]
    begin = day.astimezone(UTC)
    assert instants == [begin + HALF_HOUR * n for n in range(count)]
    assert {datetime.fromisoformat(each).utcoffset() for each in starts(found)} == {HOUR, 2 * HOUR}
    assert all(
        datetime.fromisoformat(each["end"]) - datetime.fromisoformat(each["start"]) == HALF_HOUR
        for each in found["slots"]
    )


async def test_a_booking_about_to_move_does_not_stand_in_its_own_way(agent: Agent, stage: Stage, wire: Wire) -> None:
    id = await stage.book("intro", TEN)
    asked = {"event_type_ids": [stage.intro], **window(TEN, TEN + HALF_HOUR)}
    assert starts(await agent.find_slots(**asked)) == []
    assert starts(await agent.find_slots(**asked, booking_id=id)) == [TEN.isoformat()]
    assert wire.last["bookingUidToReschedule"] == id.partition(":")[2]


async def test_an_event_type_of_several_lengths_is_asked_and_booked_in_one_of_them(
    agent: Agent, stage: Stage, wire: Wire
) -> None:
    id = await made(stage, lengthInMinutesOptions=[15, 30, 60])
    [shown] = (await agent.list_event_types(query="special"))["event_types"]
    assert shown["durations_minutes"] == [30, 15, 60]
    asked = {"event_type_ids": [id], **window(NINE, ELEVEN)}
    for minutes, count in ((None, 4), (15, 8), (30, 4), (60, 2)):
        found = (await agent.find_slots(**asked, duration_minutes=minutes))["slots"]
        ends = [datetime.fromisoformat(each["end"]) - datetime.fromisoformat(each["start"]) for each in found]
        assert ends == [timedelta(minutes=minutes or 30)] * count
    before = stage.sent()
    with pytest.raises(InvalidRequest, match="duration_minutes"):
        await agent.find_slots(**asked, duration_minutes=45)
    assert stage.sent() == before
    booked = await agent.create_booking(**at(TEN, id, duration_minutes=60))
    assert booked["end"] == ELEVEN.isoformat()
    assert [each.end for each in await stage.appointments()] == [ELEVEN]


# Other people's meetings and other calendars


@pytest.mark.parametrize("stage", [{"colleagues": True}], indirect=True)
async def test_a_colleagues_booking_is_none_of_ours(agent: Agent, stage: Stage) -> None:
    await stage.book("intro", TEN)
    for status, expected in {"upcoming": ["ana@example.com"], "all": ["ana@example.com"], "past": []}.items():
        assert emails(await agent.list_bookings(status=status)) == expected
    assert [each["start"] for each in (await agent.find_busy_times(**window()))["busy"]] == [TEN.isoformat()]
    everybodys = await vendor(stage, "GET", "/bookings")
    assert len(everybodys) == 2


async def test_busy_times_are_our_bookings_and_the_calendars_without_doubles(
    agent: Agent, stage: Stage, wire: Wire
) -> None:
    await stage.book("intro", TEN)
    stage.world.elsewhere = [(TEN, TEN + HALF_HOUR), (ELEVEN, ELEVEN + HOUR), (ELEVEN + DAY, ELEVEN + DAY + HOUR)]
    busy = (await agent.find_busy_times(**window()))["busy"]
    assert [(each["start"], each["end"]) for each in busy] == [
        (TEN.isoformat(), (TEN + HALF_HOUR).isoformat()),
        (ELEVEN.isoformat(), (ELEVEN + HOUR).isoformat()),
    ]
    assert busy[0]["title"].startswith("Intro call")
    [asked] = [each for each in wire.sent if each.path.endswith("busy-times")]
    assert "calendarsToLoad[0][credentialId]=135" in asked.query
    assert asked["calendarsToLoad[0][externalId]"] == HOST_EMAIL
    assert "holidays" not in unquote(asked.query)


@pytest.mark.parametrize("stage", [{"broken_calendar": True}], indirect=True)
async def test_where_a_calendar_cannot_be_read_nothing_is_called_free(agent: Agent, stage: Stage) -> None:
    with pytest.raises(ProviderDown):
        await agent.find_busy_times(**window())
    found = await agent.find_slots(event_type_ids=[stage.intro], **window(), free_in=[ACCOUNT])
    assert (found["slots"], [each["code"] for each in found["unavailable"]]) == ([], ["provider_down"])


@pytest.mark.parametrize("stage", [{"broken_calendar": True}], indirect=True)
async def test_a_calendar_that_could_not_be_read_is_looked_at_again(agent: Agent, stage: Stage) -> None:
    for _ in range(2):
        with pytest.raises(ProviderDown):
            await agent.find_busy_times(**window())
    assert stage.world.requests.count(("GET", "/v2/calendars")) == 2


# Lists


async def test_each_of_the_vendors_statuses_is_one_of_ours(agent: Agent, stage: Stage) -> None:
    statuses = ("confirmed", "pending", "cancelled", "declined")
    for n, status in enumerate(statuses):
        await stage.book("intro", NINE + n * HALF_HOUR, f"{status}@example.com", status=status)
    told = [each["status"] for each in await vendor(stage, "GET", "/bookings?status=upcoming,cancelled&sortStart=asc")]
    assert told == ["accepted", "pending", "cancelled", "rejected"]
    listed = (await agent.list_bookings(status="all"))["bookings"]
    assert [each["status"] for each in listed] == list(statuses)
    stage.clock.advance(2 * DAY)
    expected = {"upcoming": [], "pending": [], "past": ["pending", "confirmed"], "cancelled": ["declined", "cancelled"]}
    for asked, names in expected.items():
        assert emails(await agent.list_bookings(status=asked)) == [f"{name}@example.com" for name in names], asked


def fill(stage: Stage, count: int, first: datetime = NINE) -> list[str]:
    """So many bookings, an hour apart; the addresses of their guests in order."""
    for n in range(count):
        start = first.astimezone(UTC) + n * HOUR
        stage.world.appointments[f"b{n}"] = Appointment("intro", start, start + HALF_HOUR, f"guest{n}@example.com")
    return [f"guest{n}@example.com" for n in range(count)]


async def pages(agent: Agent, **asked: Any) -> AsyncIterator[list[str]]:
    cursor: dict[str, str] = {}
    while True:
        page = await agent.list_bookings(**asked, **cursor)
        yield emails(page)
        if "next_cursor" not in page:
            return
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize(
    ("status", "limit", "count"),
    [
        ("upcoming", 200, 260),
        ("upcoming", 70, 260),
        ("upcoming", 200, 2000),
        ("cancelled", 200, 260),
        ("past", 70, 260),
    ],
)
async def test_pages_go_on_over_more_bookings_than_the_service_gives_at_once(
    agent: Agent, stage: Stage, status: str, limit: int, count: int
) -> None:
    guests = fill(stage, count)
    if status == "cancelled":
        for id in list(stage.world.appointments):
            stage.world.change(id, status="cancelled")
    stage.clock.advance(30 * DAY if status == "past" else timedelta())
    found = [email async for page in pages(agent, status=status, limit=limit) for email in page]
    assert found == (guests if status == "upcoming" else guests[::-1])
    assert stage.sent() - 1 <= (limit // 100 + 2) * (count // limit + 1)


async def test_of_ten_thousand_bookings_the_next_ones_take_few_requests(agent: Agent, stage: Stage) -> None:
    guests = fill(stage, 10_000)
    await agent.get_booking(booking_id=f"{ACCOUNT}:b0")
    before = stage.sent()
    assert emails(await agent.list_bookings()) == guests[:50]
    assert stage.sent() - before == 1


async def test_a_booking_made_between_two_pages_hides_and_doubles_none(agent: Agent, stage: Stage) -> None:
    guests = fill(stage, 150)
    found: list[str] = []
    async for page in pages(agent, limit=60):
        found += page
        start = NINE - len(found) * HOUR
        stage.world.appointments[f"late{len(found)}"] = Appointment("intro", start, start + HOUR, "late@example.com")
    assert [each for each in found if each.startswith("guest")] == guests


@pytest.mark.parametrize("change", ["made", "cancelled"])
async def test_what_changes_while_one_page_is_read_hides_and_doubles_no_other(
    agent: Agent, stage: Stage, wire: Wire, change: str
) -> None:
    guests = fill(stage, 250)

    def meanwhile(sent: Sent) -> None:
        if sent.path == "/v2/bookings" and [each.path for each in wire.sent].count(sent.path) == 2:
            if change == "made":
                start = NINE - HALF_HOUR
                stage.world.appointments["new"] = Appointment("intro", start, NINE, "new@example.com")
            else:
                stage.world.change("b3", status="cancelled")

    wire.meanwhile = meanwhile
    assert emails(await agent.list_bookings(limit=200)) == guests[:200]


# Hours


async def test_hours_come_and_go_in_the_vendors_way(agent: Agent, stage: Stage, wire: Wire) -> None:
    stage.world.overrides = {"2029-12-24": [], "2030-01-09": ["20:00-24:00", "08:00-10:00"]}
    stage.world.hours["monday"] = ["09:00-12:00", "13:00-24:00"]
    [before] = (await agent.list_schedules())["schedules"]
    assert before["date_overrides"] == {"2029-12-24": [], "2030-01-09": ["08:00-10:00", "20:00-24:00"]}
    assert before["weekly_hours"]["monday"] == ["09:00-12:00", "13:00-24:00"]
    changed = await agent.update_schedule(
        schedule_id=before["id"],
        weekly_hours={"friday": ["18:00-24:00", "09:00-10:00"], "tuesday": []},
        date_overrides={"2030-01-10": ["10:00-11:00", "12:00-24:00"], "2030-01-11": []},
        time_zone="America/New_York",
    )
    assert (await agent.list_schedules())["schedules"] == [changed]
    assert stage.world.hours == {
        "monday": ["09:00-12:00", "13:00-24:00"],
        "wednesday": ["09:00-17:00"],
        "thursday": ["09:00-17:00"],
        "friday": ["09:00-10:00", "18:00-24:00"],
    }
    assert stage.world.overrides == {
        "2029-12-24": [],
        "2030-01-09": ["08:00-10:00", "20:00-24:00"],
        "2030-01-10": ["10:00-11:00", "12:00-24:00"],
        "2030-01-11": [],
    }
    assert stage.world.zone == "America/New_York"
    assert all(each["endTime"] != "24:00" for each in wire.sent[-2].body["overrides"])


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({"date_overrides": {"2030-01-08": []}}, {"overrides"}),
        ({"date_overrides": {"2030-01-09": None}}, {"overrides"}),
        ({"weekly_hours": {"monday": []}}, {"availability"}),
        ({"time_zone": "Asia/Tokyo"}, {"timeZone"}),
    ],
)
async def test_only_what_changes_of_the_hours_is_sent(
    agent: Agent, stage: Stage, wire: Wire, change: Any, sent: set[str]
) -> None:
    stage.world.overrides = {"2029-12-24": [], "2030-01-09": ["08:00-10:00"]}
    await agent.update_schedule(schedule_id=SCHEDULE, **change)
    assert (wire.last.method, set(wire.last.body)) == ("PATCH", sent)
    assert "2029-12-24" in stage.world.overrides
    assert len(stage.world.hours) == (4 if "weekly_hours" in change else 5)


# Event types and links


async def test_a_slug_is_made_that_no_other_event_type_has(agent: Agent, stage: Stage, wire: Wire) -> None:
    slugs = [(await agent.save_event_type(title=t, duration_minutes=30))["slug"] for t in ("Intro", "Intro", "Größe!")]
    assert slugs == ["intro-2", "intro-3", "groe"]
    assert len(stage.world.kinds) == len(KINDS) + 3
    with pytest.raises(InvalidRequest, match="slug"):
        await agent.save_event_type(title="Other", duration_minutes=30, slug="intro")


@pytest.mark.parametrize(
    ("word", "sent"),
    [
        ("zoom", {"type": "integration", "integration": "zoom"}),
        ("https://meet.example.com/a", {"type": "link", "link": "https://meet.example.com/a", "public": True}),
        ("+4930123456", {"type": "phone", "phone": "+4930123456", "public": True}),
        ("attendeeAddress", {"type": "attendeeAddress"}),
        ("Main Street 1", {"type": "address", "address": "Main Street 1", "public": True}),
    ],
)
async def test_a_location_becomes_what_its_words_say(
    agent: Agent, stage: Stage, wire: Wire, word: str, sent: Any
) -> None:
    saved = await agent.save_event_type(title="Talk", duration_minutes=30, location=word)
    assert (saved["locations"], wire.last.body["locations"]) == ([word], [sent])


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({"title": "New"}, {"title": "New"}),
        ({"active": False}, {"hidden": True}),
        ({"active": True}, {"hidden": False}),
        ({"buffer_before_minutes": 0}, {"beforeEventBuffer": 0}),
        ({"minimum_notice_minutes": 90}, {"minimumBookingNotice": 90}),
        ({"duration_minutes": 60}, {"lengthInMinutes": 60}),
        ({"duration_minutes": 45}, {"lengthInMinutes": 45, "lengthInMinutesOptions": [15, 45, 60]}),
    ],
)
async def test_only_what_changes_of_an_event_type_is_sent(
    agent: Agent, stage: Stage, wire: Wire, change: Any, sent: Any
) -> None:
    id = await made(stage, lengthInMinutesOptions=[15, 30, 60], description="Long")
    saved = await agent.save_event_type(event_type_id=id, **change)
    assert (wire.last.method, wire.last.body) == ("PATCH", sent)
    [shown] = (await agent.list_event_types(query=saved["slug"], include_inactive=True))["event_types"]
    assert (shown, stage.world.kinds["special"].active) == (saved, change.get("active", True))


async def test_a_link_is_private_for_one_guest_or_the_public_page(agent: Agent, stage: Stage) -> None:
    private = await agent.create_scheduling_link(event_type_id=stage.intro)
    assert private == {"url": "https://cal.com/d/000000000001/intro", "single_use": True}
    assert stage.world.links == [("intro", True)]
    public = await agent.create_scheduling_link(event_type_id=stage.intro, single_use=False)
    assert public == {"url": "https://cal.com/host/intro", "single_use": False}
    assert len(stage.world.writes) == 1
