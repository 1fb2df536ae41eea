"""What only Cal.com can show: its versions, requests, booking fields, moves, seats, series, lists, hours and errors."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx2
import pytest
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.server import build_server
from providers.rest import KEPT
from providers.storage.tables import journal
from schemas import InvalidRequest, NotFound, ProviderDown, SchedulingError, SlotTaken, Unsupported
from tests.agent import Agent, connected
from tests.emulators.wire import TOKEN, Lost
from tests.stages import ACCOUNT, STAGES, Stage
from tests.world import BEGIN, BERLIN, ELEVEN, HOST_EMAIL, KINDS, MONDAY, NINE, TEN, Appointment, Kind

pytestmark = pytest.mark.anyio

DAY, HOUR, HALF_HOUR = timedelta(days=1), timedelta(hours=1), timedelta(minutes=30)
ANA, BEN, ZOE = ({"attendee_name": n, "attendee_email": f"{n.lower()}@example.com"} for n in ("Ana", "Ben", "Zoe"))
SCHEDULE, GROUP = f"{ACCOUNT}:254", Kind("Workshop", 60, seats=3)
VERSIONS = {"bookings": "2024-08-13", "event-types": "2024-06-14", "schedules": "2024-06-11", "slots": "2024-09-04"}

Request_ = tuple[str, str]


@dataclass
class Sent:
    """A request as it came to the service."""

    method: str
    host: str
    path: str
    query: str
    version: str | None
    body: Any

    def __getitem__(self, name: str) -> str:
        [value] = parse_qs(self.query)[name]
        return value


class Wire:
    """Stands before the service: writes down what comes, and can have an answer replaced or something happen first."""

    def __init__(self, stage: Stage) -> None:
        self._app, self.sent = stage._app, list[Sent]()
        self.prefix = ""
        self.meanwhile: Callable[[Sent], None] = lambda _: None
        self.instead: Response | None = None
        """What answers the next write, which takes effect."""

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        path, query = request.url.path, scope["query_string"].decode()
        version = request.headers.get("cal-api-version")
        host = request.headers["host"]
        self.sent.append(Sent(request.method, host, path, query, version, json.loads(body) if body else None))
        self.meanwhile(self.last)

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def nowhere(_: object) -> None: ...

        spoiled = self.instead if request.method != "GET" else None
        inner = {**scope, "path": path.removeprefix(self.prefix), "raw_path": b""}
        await self._app(inner, again, nowhere if spoiled else send)
        if spoiled:
            self.instead = None
            await spoiled(scope, again, send)


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """`request.param`, if any, are the emulator's quirks."""
    stage = STAGES["calcom"]("calcom", tmp_path, **getattr(request, "param", {}))
    yield stage
    await stage.gateway.close()
    assert stage.world.violations == []


@pytest.fixture
def wire(stage: Stage) -> Wire:
    stage._app = wire = Wire(stage)
    stage.restarted()
    return wire


@pytest.fixture
async def agent(stage: Stage, wire: Wire) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway)) as agent:
        yield agent


@asynccontextmanager
async def after_a_restart(stage: Stage) -> AsyncIterator[Agent]:
    await stage.gateway.close()
    async with connected(build_server(stage.restarted())) as agent:
        yield agent


async def vendor(stage: Stage, method: str, path: str, **request: Any) -> Any:
    """What the service says to somebody else than the gateway."""
    headers = {"authorization": f"Bearer {TOKEN}", "cal-api-version": VERSIONS[path.split("/")[1].partition("?")[0]]}
    transport = httpx2.ASGITransport(app=stage._app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://api.cal.com/v2", headers=headers) as client:
        response = await client.request(method, path.removeprefix("/"), **request)
    assert response.is_success, response.text
    return response.json()["data"]


async def made(stage: Stage, **settings: Any) -> str:
    """An event type made on cal.com."""
    said = {"title": "Special", "slug": "special", "lengthInMinutes": 30, **settings}
    return f"{ACCOUNT}:{(await vendor(stage, 'POST', '/event-types', json=said))['id']}"


def configure(stage: Stage, **settings: Any) -> None:
    account = stage.adapter.Config(provider="calcom", **stage.settings | settings)
    stage.config = stage.config.model_copy(update={"accounts": {ACCOUNT: account}})
    stage.restarted()


def at(start: datetime, event_type_id: str, **more: Any) -> dict[str, Any]:
    return {"event_type_id": event_type_id, "start": start.isoformat(), **BEN, **more}


def start_at(start: datetime) -> dict[str, str]:
    return {"start": start.isoformat()}


def window(start: datetime = MONDAY, end: datetime = MONDAY + DAY) -> dict[str, str]:
    return {"start": start.isoformat(), "end": end.isoformat()}


def starts(found: Any) -> list[str]:
    return [each["start"] for each in found["slots"]]


def emails(found: Any) -> list[str]:
    return [each["attendees"][0]["email"] for each in found["bookings"]]


def live(stage: Stage) -> list[tuple[str, datetime]]:
    return sorted((each.email, each.start) for each in stage.world.appointments.values() if each.live)


async def requests(stage: Stage, call: Awaitable[Any]) -> list[Request_]:
    """What a call of a tool asks of the service."""
    before = len(stage.world.requests)
    await call
    return [(method, path.removeprefix("/v2")) for method, path in stage.world.requests[before:]]


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


# What a booking carries


def field(type: str, *options: str, slug: str = "field", **more: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"type": type, "slug": slug, "label": slug.title(), "required": True, "hidden": False}
    asked |= {"options": list(options)} if options else {}
    return asked | ({} if type in ("boolean", "multiselect", "checkbox", "radio") else {"placeholder": ""}) | more


LANGUAGES, PHONE = ("js", "py"), "attendeePhoneNumber"
LOCATIONS = [
    {"type": "integration", "integration": "cal-video"},
    {"type": "integration", "integration": "zoom"},
    {"type": "address", "address": "Main Street 1", "public": True},
    {"type": "address", "address": "Side Street 2", "public": True},
    {"type": "link", "link": "https://meet.example.com/room", "public": True},
    {"type": "phone", "phone": "+4930123456", "public": True},
    {"type": "attendeeAddress"},
    {"type": "attendeePhone"},
    {"type": "attendeeDefined"},
]


@pytest.mark.parametrize(
    ("type", "options", "answer", "sent"),
    [
        ("text", (), "ACME", "ACME"),
        ("textarea", (), "Two\nlines", "Two\nlines"),
        ("number", (), "12", 12),
        ("number", (), 2.5, 2.5),
        ("boolean", (), "yes", True),
        ("boolean", (), False, False),
        ("phone", (), "+4930123456", "+4930123456"),
        ("url", (), "https://example.com", "https://example.com"),
        ("address", (), "Elm Road 5", "Elm Road 5"),
        ("select", LANGUAGES, "py", "py"),
        ("radio", LANGUAGES, ["py"], "py"),
        ("multiselect", LANGUAGES, ["py", "js"], ["py", "js"]),
        ("multiselect", LANGUAGES, "py", ["py"]),
        ("checkbox", LANGUAGES, ["js"], ["js"]),
        ("multiemail", (), ["max@example.com", "eva@example.com"], ["max@example.com", "eva@example.com"]),
    ],
)
async def test_an_answer_goes_out_in_the_type_of_its_field_and_comes_back_alone(
    agent: Agent, stage: Stage, type: str, options: Any, answer: Any, sent: Any
) -> None:
    id = await made(stage, bookingFields=[field(type, *options)])
    asked = at(TEN, id, answers={"field": answer}, notes="Hi", guests=["zoe@example.com"])
    booked = await agent.create_booking(**asked)
    [appointment] = await stage.appointments()
    assert (json.dumps(appointment.answers), appointment.notes) == (json.dumps({"field": sent}), "Hi")
    assert (await agent.get_booking(booking_id=booked["id"]))["answers"] == booked["answers"] == {"field": sent}


@pytest.mark.parametrize(
    ("wanted", "sent", "place"),
    [
        ("cal-video", {"type": "integration", "integration": "cal-video"}, "cal-video"),
        ("Zoom", {"type": "integration", "integration": "zoom"}, "zoom"),
        ("main street 1", {"type": "address"}, "Main Street 1"),
        ("https://meet.example.com/room", {"type": "link"}, "https://meet.example.com/room"),
        ("+4930123456", {"type": "phone"}, "+4930123456"),
        ("attendeeAddress: Elm Road 5", {"type": "attendeeAddress", "address": "Elm Road 5"}, "Elm Road 5"),
        ("attendeePhone: +491511", {"type": "attendeePhone", "phone": "+491511"}, "+491511"),
        ("attendeeDefined: By the lake", {"type": "attendeeDefined", "location": "By the lake"}, "By the lake"),
    ],
)
async def test_every_sort_of_location_can_be_chosen(
    agent: Agent, stage: Stage, wire: Wire, wanted: str, sent: Any, place: str
) -> None:
    id = await made(stage, locations=LOCATIONS)
    booked = await agent.create_booking(**at(TEN, id, location=wanted))
    assert wire.last.body["location"] == sent
    assert [each.place for each in await stage.appointments()] == [place]
    assert (await agent.get_booking(booking_id=booked["id"]))["location"] == booked["location"]


@pytest.mark.parametrize(
    ("settings", "asked", "word"),
    [
        *(
            ({"bookingFields": [field(type, *options)]}, {"answers": {"field": answer}}, "answers.field")
            for type, options, answer in (
                ("text", (), ["a", "b"]),
                ("text", (), ""),
                ("number", (), "many"),
                ("number", (), "inf"),
                ("number", (), "nan"),
                ("boolean", (), "maybe"),
                ("select", LANGUAGES, "rust"),
                ("select", LANGUAGES, ["js", "py"]),
                ("radio", LANGUAGES, "rust"),
                ("multiselect", LANGUAGES, ["js", "rust"]),
                ("checkbox", LANGUAGES, "rust"),
            )
        ),
        ({"bookingFields": [field("text")]}, {}, "answers.field"),
        ({"bookingFields": [field("text", hidden=True, required=False)]}, {"answers": {"field": "x"}}, "answers.field"),
        ({"bookingFields": [{"slug": "notes", "required": True}]}, {}, "notes"),
        ({"bookingFields": [{"slug": "guests", "required": True}]}, {}, "guests"),
        ({"disableGuests": True}, {"guests": ["zoe@example.com"]}, "guests"),
        ({"locations": LOCATIONS}, {"location": "The moon"}, "location"),
        ({"locations": LOCATIONS}, {"location": "google-meet"}, "location"),
        ({"locations": LOCATIONS}, {"location": "Side Street 2"}, "location"),
        ({"locations": LOCATIONS}, {"location": "attendeeAddress: "}, "location"),
    ],
)
async def test_what_the_event_type_will_not_take_is_not_sent(
    agent: Agent, stage: Stage, settings: Any, asked: Any, word: str
) -> None:
    id = await made(stage, **settings)
    before = len(stage.world.writes)
    with pytest.raises(InvalidRequest, match=word):
        await agent.create_booking(**at(TEN, id, **asked))
    assert (len(stage.world.writes), await stage.appointments()) == (before, [])


async def test_only_what_is_left_to_ask_is_a_question(agent: Agent, stage: Stage) -> None:
    name, notes = {"type": "name", "label": "Who", "placeholder": ""}, {"slug": "notes", "required": True}
    secret = field("text", slug="secret", hidden=True, required=False)
    id = await made(stage, bookingFields=[name, notes, secret, field("select", *LANGUAGES)], locations=LOCATIONS)
    [shown] = (await agent.list_event_types(query="special"))["event_types"]
    asked = {"key": "field", "label": "Field", "type": "choice", "required": True, "options": ["js", "py"]}
    assert (shown["id"], shown["questions"]) == (id, [asked])
    given = ["cal-video", "zoom", "Main Street 1", "Side Street 2", "https://meet.example.com/room", "+4930123456"]
    assert shown["locations"] == [*given, "attendeeAddress", "attendeePhone", "attendeeDefined"]
    booked = await agent.create_booking(**at(TEN, id, answers={"field": "js"}, notes="Hi"))
    assert (booked["answers"], booked["notes"]) == ({"field": "js"}, "Hi")


@pytest.mark.parametrize(
    ("required", "number"), [(False, "+4930123456"), (True, "+4930123456"), (False, "+49 30 123-456")]
)
async def test_the_guests_phone_number_is_told_of_the_guest(
    agent: Agent, stage: Stage, wire: Wire, required: bool, number: str
) -> None:
    id = await made(stage, bookingFields=[field("phone", slug=PHONE, required=required)])
    booked = await agent.create_booking(**at(TEN, id, answers={PHONE: number}))
    assert wire.last.body["attendee"]["phoneNumber"] == "+4930123456"
    assert (booked["status"], booked["answers"]) == ("confirmed", {})


# Moves


async def test_a_move_makes_a_new_booking_and_links_both(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    moved = await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat(), reason="traffic")
    assert (moved["method"], moved["rescheduled_from"], moved["status"]) == ("native", id, "confirmed")
    assert moved["id"] != id
    old, new = stage.world.appointments.values()
    assert (old.status, old.moved_to, new.status, new.moved_from) == ("cancelled", "b2", "confirmed", "b1")
    [gone] = (await agent.list_bookings(status="cancelled"))["bookings"]
    assert (gone["id"], gone["rescheduled_to"]) == (id, moved["id"])
    [stands] = (await agent.list_bookings())["bookings"]
    assert (stands["id"], stands["rescheduled_from"]) == (moved["id"], id)


async def test_every_earlier_id_stands_for_the_newest_booking(agent: Agent, stage: Stage) -> None:
    ids = [await stage.book("approval", NINE)]
    for start in (TEN, ELEVEN, ELEVEN + HOUR):
        ids.append((await agent.reschedule_booking(booking_id=ids[0], start=start.isoformat()))["id"])
    assert len(set(ids)) == 4
    async with after_a_restart(stage) as agent:
        for id in ids:
            found = await agent.get_booking(booking_id=id)
            assert (found["id"], found["start"]) == (ids[-1], (ELEVEN + HOUR).isoformat())
            slots = await agent.find_slots(
                event_type_ids=[stage.approval], booking_id=id, **window(ELEVEN + HOUR, ELEVEN + 2 * HOUR)
            )
            assert (ELEVEN + HOUR).isoformat() in starts(slots)
        confirmed = await agent.respond_to_booking(booking_id=ids[0], response="confirm")
        assert (confirmed["id"], confirmed["status"]) == (ids[-1], "confirmed")
        moved = await agent.reschedule_booking(booking_id=ids[1], start=NINE.isoformat())
        assert moved["rescheduled_from"] == ids[1]
        assert live(stage) == [("ana@example.com", NINE)]
        await agent.cancel_booking(booking_id=ids[0])
    assert live(stage) == []


async def test_a_booking_that_somebody_moved_on_the_page_is_found_by_its_old_id(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    stage.world.move_anew("b1", ELEVEN)
    found = await agent.get_booking(booking_id=id)
    assert (found["id"], found["start"], found["rescheduled_from"]) == (f"{ACCOUNT}:b2", ELEVEN.isoformat(), id)
    [gone] = (await agent.list_bookings(status="cancelled"))["bookings"]
    assert (gone["id"], gone["rescheduled_to"]) == (id, found["id"])
    await agent.cancel_booking(booking_id=id)
    assert live(stage) == []


@pytest.mark.parametrize("status", ["pending", "confirmed"])
async def test_a_move_leaves_open_or_confirmed_what_is(agent: Agent, stage: Stage, status: str) -> None:
    id = await stage.book("approval", TEN, status=status)
    assert (await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat()))["status"] == status
    assert [each.status for each in await stage.appointments()] == ["cancelled", status]


async def test_a_cancelled_booking_is_not_moved(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    await agent.reschedule_booking(booking_id=id, start=ELEVEN.isoformat())
    await agent.cancel_booking(booking_id=id)
    before = len(stage.world.writes)
    with pytest.raises(InvalidRequest):
        await agent.reschedule_booking(booking_id=id, start=NINE.isoformat())
    assert (len(stage.world.writes), live(stage)) == (before, [])


async def test_a_move_with_a_key_is_made_once_also_after_a_restart(agent: Agent, stage: Stage) -> None:
    id = await stage.book("intro", TEN)
    asked = {"booking_id": id, "start": ELEVEN.isoformat(), "idempotency_key": "k1"}
    first = await agent.reschedule_booking(**asked)
    async with after_a_restart(stage) as agent:
        assert await agent.reschedule_booking(**asked) == first
    assert len(stage.world.writes) == 1


# Seats


@pytest.fixture
async def group(stage: Stage) -> str:
    stage.world.kinds["group"] = GROUP
    return stage.event_type("group")


async def seats(agent: Agent, group: str, start: datetime = NINE) -> tuple[str, str]:
    """Ana's and Ben's."""
    ana, ben = [(await agent.create_booking(**at(start, group) | each))["id"] for each in (ANA, BEN)]
    return ana, ben


async def test_each_seat_is_a_booking_of_its_own(agent: Agent, stage: Stage, group: str) -> None:
    ana, ben = await seats(agent, group)
    assert (ana, ben) == (f"{ACCOUNT}:b1/seat-b1", f"{ACCOUNT}:b1/seat-b2")
    listed = (await agent.list_bookings())["bookings"]
    assert [(each["id"], [who["email"] for who in each["attendees"]]) for each in listed] == [
        (ana, ["ana@example.com"]),
        (ben, ["ben@example.com"]),
    ]
    for each in listed:
        assert await agent.get_booking(booking_id=each["id"]) == each
    await agent.create_booking(**at(NINE, group) | ZOE)
    with pytest.raises(SlotTaken):
        await agent.create_booking(**at(NINE, group, attendee_email="max@example.com"))


async def test_cancelling_a_seat_leaves_the_others(agent: Agent, stage: Stage, group: str) -> None:
    ana, ben = await seats(agent, group)
    assert (await agent.cancel_booking(booking_id=ana))["status"] == "cancelled"
    assert live(stage) == [("ben@example.com", NINE)]
    with pytest.raises(NotFound):
        await agent.get_booking(booking_id=ana)
    assert (await agent.get_booking(booking_id=ben))["status"] == "confirmed"
    await agent.cancel_booking(booking_id=ben)
    assert live(stage) == []
    assert (await agent.get_booking(booking_id=ben))["status"] == "cancelled"


async def test_moving_a_seat_leaves_the_others_and_its_old_id_goes_along(
    agent: Agent, stage: Stage, group: str
) -> None:
    ana, ben = await seats(agent, group)
    moved = await agent.reschedule_booking(booking_id=ana, start=ELEVEN.isoformat(), reason="traffic")
    assert (moved["method"], moved["rescheduled_from"]) == ("native", ana)
    assert live(stage) == [("ana@example.com", ELEVEN), ("ben@example.com", NINE)]
    async with after_a_restart(stage) as agent:
        assert (await agent.get_booking(booking_id=ana))["id"] == moved["id"]
        assert (await agent.get_booking(booking_id=ben))["id"] == ben
        await agent.cancel_booking(booking_id=ana)
    assert live(stage) == [("ben@example.com", NINE)]


async def test_the_only_seat_of_a_meeting_moves_alone_and_its_old_id_goes_along(
    agent: Agent, stage: Stage, group: str
) -> None:
    zoe = (await agent.create_booking(**at(NINE, group) | ZOE))["id"]
    await seats(agent, group, ELEVEN)
    moved = await agent.reschedule_booking(booking_id=zoe, start=ELEVEN.isoformat())
    assert live(stage) == [("ana@example.com", ELEVEN), ("ben@example.com", ELEVEN), ("zoe@example.com", ELEVEN)]
    assert [each["email"] for each in moved["attendees"]] == ["zoe@example.com"]
    async with after_a_restart(stage) as agent:
        found = await agent.get_booking(booking_id=zoe)
        assert (found["id"], [each["email"] for each in found["attendees"]]) == (moved["id"], ["zoe@example.com"])
        await agent.cancel_booking(booking_id=zoe)
    assert live(stage) == [("ana@example.com", ELEVEN), ("ben@example.com", ELEVEN)]


async def test_the_id_of_a_whole_meeting_cancels_and_moves_nobodys_seat(agent: Agent, stage: Stage, group: str) -> None:
    ana, _ = await seats(agent, group)
    whole = ana.partition("/")[0]
    for tool, more in (("cancel_booking", {}), ("reschedule_booking", start_at(ELEVEN))):
        with pytest.raises(SchedulingError):
            await getattr(agent, tool)(booking_id=whole, **more)
    assert live(stage) == [("ana@example.com", NINE), ("ben@example.com", NINE)]


@pytest.mark.parametrize("alone", [True, False])
async def test_where_a_seat_was_moved_no_list_names_the_whole_meeting(
    agent: Agent, stage: Stage, group: str, alone: bool
) -> None:
    ben = (await agent.create_booking(**at(NINE, group)))["id"] if alone else (await seats(agent, group))[1]
    await agent.reschedule_booking(booking_id=ben, start=ELEVEN.isoformat())
    listed = (await agent.list_bookings(status="all"))["bookings"]
    named = [each.get(name) for each in listed for name in ("id", "rescheduled_from", "rescheduled_to")]
    assert [id for id in named if id and "/seat-" not in id] == []
    assert len(listed) == 2


@pytest.mark.parametrize("response", ["confirm", "decline"])
async def test_a_seat_cannot_be_answered_alone(agent: Agent, stage: Stage, group: str, response: str) -> None:
    stage.world.kinds["group"] = replace(GROUP, approval=True)
    ana, _ = await seats(agent, group)
    before = len(stage.world.writes)
    with pytest.raises(Unsupported):
        await agent.respond_to_booking(booking_id=ana, response=response)
    assert (len(stage.world.writes), [each.status for each in await stage.appointments()]) == (before, ["pending"] * 2)


async def test_one_of_a_group_did_not_come(agent: Agent, stage: Stage, group: str) -> None:
    _, ben = await seats(agent, group)
    stage.clock.advance(ELEVEN - BEGIN)
    for response, absent in (("no_show", True), ("clear_no_show", False)):
        answered = await agent.respond_to_booking(booking_id=ben, response=response)
        assert [bool(each.get("no_show")) for each in answered["attendees"]] == [absent]
        told = {each.email: each.no_show for each in await stage.appointments()}
        assert told == {"ana@example.com": False, "ben@example.com": absent}


# Series, and the end of a booking


async def test_a_series_is_booked_whole_and_its_meetings_end_one_by_one(agent: Agent, stage: Stage) -> None:
    stage.world.kinds["weekly"] = Kind("Weekly", 30)
    first = await agent.create_booking(**at(TEN, stage.event_type("weekly")))
    assert (first["start"], len(await stage.appointments())) == (TEN.isoformat(), 4)
    weeks = [TEN + week * 7 * DAY for week in range(4)]
    assert [each.start for each in await stage.appointments()] == weeks
    assert [each["start"] for each in (await agent.list_bookings())["bookings"]] == [at.isoformat() for at in weeks]
    await agent.cancel_booking(booking_id=first["id"])
    assert [start for _, start in live(stage)] == weeks[1:]
    second = (await agent.list_bookings())["bookings"][0]["id"]
    await agent.reschedule_booking(booking_id=second, start=(weeks[1] + HOUR).isoformat())
    assert [start for _, start in live(stage)] == [weeks[1] + HOUR, *weeks[2:]]


async def test_a_cancellation_needs_no_reason(agent: Agent, stage: Stage, wire: Wire) -> None:
    id = await stage.book("intro", TEN)
    assert (await agent.cancel_booking(booking_id=id))["status"] == "cancelled"
    assert live(stage) == []
    assert wire.last.body["cancellationReason"]


async def test_a_decline_keeps_its_reason_and_a_confirmation_its_booking(agent: Agent, stage: Stage) -> None:
    id, other = await stage.book("approval", TEN), await stage.book("approval", ELEVEN)
    declined = await agent.respond_to_booking(booking_id=id, response="decline", reason="no time")
    assert (declined["status"], declined["cancellation_reason"]) == ("declined", "no time")
    assert (await agent.respond_to_booking(booking_id=other, response="confirm"))["status"] == "confirmed"
    assert [(e.status, e.reason) for e in await stage.appointments()] == [("declined", "no time"), ("confirmed", None)]


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


# Errors


def a(status: int, message: str, code: str = "BadRequestException", **details: Any) -> JSONResponse:
    error = {"code": code, "message": message, "details": details or {"message": message, "statusCode": status}}
    return JSONResponse({"status": "error", "path": "/v2/bookings", "error": error}, status)


def b(status: int, message: str) -> JSONResponse:
    return JSONResponse({"statusCode": status, "message": message}, status)


SOON = "The event type can't be booked at the \"start\" time provided. This could be because it's too soon."
ERRORS = [
    (a(400, "User either already has booking at this time or is not available"), "slot_taken"),
    (a(400, "One of the hosts either already has booking at this time or is not available"), "slot_taken"),
    (b(409, "booking_conflict_error"), "slot_taken"),
    (a(409, "Invalid Input: Trying to create a record that already exists.", "CONFLICT"), "slot_taken"),
    (a(400, SOON), "slot_taken"),
    (a(409, "No more seats left at this seated booking.", "ConflictException"), "slot_taken"),
    (a(400, "Attempting to book a meeting in the past."), "invalid_request"),
    (a(400, "Missing required booking field response: company - it is required"), "invalid_request"),
    (a(400, "Missing attendee phone number - it is required by the event type."), "invalid_request"),
    (a(400, "Invalid option 'rust' for booking field 'language'. Allowed options are: js, py."), "invalid_request"),
    (a(400, "Can't specify 'lengthInMinutes' because event type does not have multiple"), "invalid_request"),
    (a(400, "Booking location with type phone not valid for event type with id=101"), "invalid_request"),
    (a(400, "Attendee with this email can't book because the maximum number of active"), "invalid_request"),
    (a(400, "start property is wrong,start must be a valid ISO 8601 date string "), "invalid_request"),
    (a(400, "Bad Request Exception", errors=[{"property": "x", "constraints": {"isString": "x"}}]), "invalid_request"),
    (a(404, "Event type with id 101 not found.", "NotFoundException"), "not_found"),
    (a(401, "CustomThrottlerGuard - Invalid API Key", "UnauthorizedException"), "not_connected"),
    (a(401, "ApiAuthStrategy - api key - Your api key is expired", "UnauthorizedException"), "not_connected"),
    (a(403, "insufficient scope", "ForbiddenException"), "permission_denied"),
    (a(429, "CustomThrottlerGuard - Too many requests. Please try again later.", "ThrottlerException"), "rate_limited"),
    (b(500, "Internal server error"), "provider_down"),
    (a(500, "Internal server error", "INTERNAL_SERVER_ERROR"), "provider_down"),
    (HTMLResponse("<html><h1>502 Bad Gateway</h1></html>", 502), "provider_down"),
]


@pytest.mark.parametrize(("answer", "code"), ERRORS)
async def test_what_the_service_refuses_has_a_name_of_ours(agent: Agent, stage: Stage, answer: Any, code: str) -> None:
    """Of an HTTP 500 nothing has happened here, which is looked up."""
    await agent.list_event_types()
    await agent.list_bookings()
    stage.world.failures.append(answer)
    with pytest.raises(SchedulingError) as refusal:
        await agent.create_booking(**at(TEN, stage.intro))
    assert (refusal.value.code, refusal.value.retry_after) == (code, 60 if code == "rate_limited" else None)
    assert (stage.world.writes, live(stage)) == ([("POST", "/v2/bookings")], [])
    assert await stage.journaled() == [("create_booking", ACCOUNT, "failed")]


@pytest.mark.parametrize(
    ("tool", "message", "code"),
    [
        ("reschedule_booking", "Can't reschedule booking with uid=b1 because it has been cancelled", "invalid_request"),
        ("reschedule_booking", "User either already has booking at this time or is not available", "slot_taken"),
        ("cancel_booking", "This event type does not allow cancellations", "invalid_request"),
        ("cancel_booking", "Cancellation reason is required when you are the host", "invalid_request"),
    ],
)
@pytest.mark.parametrize("shape", [a, b])
async def test_both_shapes_of_errors_are_understood(
    agent: Agent, stage: Stage, tool: str, message: str, code: str, shape: Any
) -> None:
    id = await stage.book("intro", TEN)
    await agent.get_booking(booking_id=id)
    stage.world.failures.extend([None, shape(400, message)])
    with pytest.raises(SchedulingError, match=message[:20]) as refusal:
        await getattr(agent, tool)(booking_id=id, **(start_at(ELEVEN) if tool == "reschedule_booking" else {}))
    assert refusal.value.code == code
    assert live(stage) == [("ana@example.com", TEN)]


@pytest.mark.parametrize("answer", [b(500, "Internal server error"), HTMLResponse("<html>502</html>", 502)])
async def test_a_server_error_after_booking_is_looked_up_and_not_sent_again(
    agent: Agent, stage: Stage, wire: Wire, answer: Response
) -> None:
    wire.instead = answer
    booked = await agent.create_booking(**at(TEN, stage.intro))
    assert (booked["start"], stage.world.writes) == (TEN.isoformat(), [("POST", "/v2/bookings")])
    assert live(stage) == [("ben@example.com", TEN)]


async def test_the_key_is_not_told_when_the_service_repeats_it(agent: Agent, stage: Stage) -> None:
    stage.world.failures.append(a(401, f"Your api key {TOKEN} is expired", "UnauthorizedException"))
    with pytest.raises(SchedulingError, match="is expired") as refusal:
        await agent.list_bookings()
    assert TOKEN not in str(refusal.value)


# Lost answers


async def test_a_booking_carries_the_id_of_its_row_in_the_journal(agent: Agent, stage: Stage, wire: Wire) -> None:
    await agent.create_booking(**at(TEN, stage.intro))
    async with stage.gateway.storage.read() as connection:
        [id] = await connection.scalars(select(journal.c.id))
    assert wire.last.body["metadata"] == {"schedulingGateway": id}
    assert [each.marker for each in await stage.appointments()] == [id]


@pytest.mark.parametrize("kind", ["intro", "group", "weekly"])
async def test_a_booking_whose_answer_is_lost_is_found_by_its_marker(agent: Agent, stage: Stage, kind: str) -> None:
    stage.world.kinds |= {"group": GROUP, "weekly": Kind("Weekly", 30)}
    await agent.list_event_types()
    await agent.list_bookings()
    stage.world.failures.append(Lost())
    booked = await agent.create_booking(**at(TEN, stage.event_type(kind)))
    assert (booked["start"], booked["attendees"][0]["email"]) == (TEN.isoformat(), "ben@example.com")
    assert await agent.get_booking(booking_id=booked["id"]) == booked
    assert stage.world.writes == [("POST", "/v2/bookings")]


@pytest.mark.parametrize(
    ("tool", "asked", "kind", "is_done"),
    [
        ("reschedule_booking", start_at(ELEVEN), "intro", lambda e: e.moved_to == "b2"),
        ("cancel_booking", {"reason": "ill"}, "intro", lambda e: (e.status, e.reason) == ("cancelled", "ill")),
        ("respond_to_booking", {"response": "confirm"}, "approval", lambda e: e.status == "confirmed"),
        ("respond_to_booking", {"response": "decline"}, "approval", lambda e: e.status == "declined"),
        ("respond_to_booking", {"response": "no_show"}, "intro", lambda e: e.no_show),
    ],
)
async def test_a_change_whose_answer_is_lost_is_found_and_sent_once(
    agent: Agent, stage: Stage, tool: str, asked: Any, kind: str, is_done: Any
) -> None:
    id = await stage.book(kind, TEN)
    stage.clock.advance(TEN + timedelta(minutes=5) - BEGIN if "no_show" in asked.values() else timedelta())
    await agent.list_bookings()
    stage.world.failures.extend([None, Lost()])
    answer = await getattr(agent, tool)(booking_id=id, **asked)
    answer.pop("method", None)
    assert await agent.get_booking(booking_id=answer["id"]) == answer
    assert (len(stage.world.writes), bool(is_done(stage.world.appointments["b1"]))) == (1, True)
    assert await stage.journaled() == [(tool, ACCOUNT, "done")]


@pytest.mark.parametrize("alone", [True, False])
async def test_a_seat_whose_move_is_not_answered_is_found_and_moved_once(
    agent: Agent, stage: Stage, group: str, alone: bool
) -> None:
    ben = (await agent.create_booking(**at(NINE, group)))["id"] if alone else (await seats(agent, group))[1]
    before = len(stage.world.writes)
    stage.world.failures.extend([None, Lost()])
    moved = await agent.reschedule_booking(booking_id=ben, start=ELEVEN.isoformat())
    assert (moved["start"], len(stage.world.writes)) == (ELEVEN.isoformat(), before + 1)
    assert [each["email"] for each in moved["attendees"]] == ["ben@example.com"]
    assert ("ben@example.com", ELEVEN) in live(stage)
    assert (await agent.get_booking(booking_id=ben))["id"] == moved["id"]


@pytest.mark.parametrize(
    ("tool", "asked", "is_done"),
    [
        (
            "update_schedule",
            {"schedule_id": SCHEDULE, "weekly_hours": {"friday": []}},
            lambda world: not world.hours.get("friday"),
        ),
        ("delete_event_type", {"event_type_id": f"{ACCOUNT}:101"}, lambda world: "intro" not in world.kinds),
    ],
)
async def test_hours_and_event_types_whose_change_is_not_answered_are_looked_at(
    agent: Agent, stage: Stage, tool: str, asked: Any, is_done: Any
) -> None:
    """Each is read, and then changed."""
    stage.world.failures.extend([None, Lost()])
    assert (await getattr(agent, tool)(**asked))["account"] == ACCOUNT
    assert (len(stage.world.writes), is_done(stage.world)) == (1, True)
    assert await stage.journaled() == [(tool, ACCOUNT, "done")]


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
