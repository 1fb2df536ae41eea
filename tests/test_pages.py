"""The pages, as a browser without scripts has them: what a guest books by a link, and what an operator sees."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from gateway.config import Config
from gateway.core import Gateway
from gateway.pages.booking import PER_HOUR
from gateway.server_config import ServerConfig
from providers import PROVIDERS
from schemas import ProviderDown
from tests.loopback import serving
from tests.postgres import databases
from tests.stages import STAGES
from tests.world import MONDAY, NINE, Clock

pytestmark = pytest.mark.anyio

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{7777*7777}}{% for x in y %}",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "&lt;b&gt;",
]
INTRO = {
    "slug": "intro",
    "title": "Intro call",
    "description": "A first conversation.",
    "duration_minutes": 30,
    "location": "Main Street 1",
}
ASKING = {
    "slug": "asking",
    "title": "Consultation",
    "duration_minutes": 60,
    "questions": [
        {"key": "company", "label": "Company", "required": True},
        {"key": "topic", "label": "Topic", "type": "choice", "options": ["Sales", "Support"]},
        {"key": "areas", "label": "Areas", "type": "choices", "options": ["North", "South", "West"]},
        {"key": "agreed", "label": "I agree", "type": "boolean", "required": True},
        {"key": "people", "label": "People", "type": "number"},
    ],
}


class House:
    """A gateway on loopback with an embedded calendar, and visitors who have no scripts."""

    def __init__(self, folder: Path, **account: Any) -> None:
        self.clock = Clock()
        settings = {"provider": "local", "time_zone": "Europe/Berlin", "event_types": [INTRO, ASKING], **account}
        self.config = Config(
            accounts={"home": PROVIDERS["local"]["api"].Config.model_validate(settings)},
            server=ServerConfig(port=0),
            storage=databases.newest(folder),
        )
        self.gateway = Gateway(self.config, clock=self.clock)
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with serving(self.gateway, self.config) as self.url:
            await self.gateway.open()
            yield

    def visitor(self) -> "Visitor":
        return Visitor(self.url)

    async def link(self, slug: str = "intro", *, single_use: bool = True) -> str:
        return (await self.gateway.catalog.create_scheduling_link(f"home:{slug}", single_use)).url

    async def booked(self, status: Any = "all") -> list[Any]:
        found = await self.gateway.listing.find(None, status, None, None, None, None, None, 200, None)
        return list(found.bookings)


class Visitor(httpx2.AsyncClient):
    """A browser: cookies, and no scripts."""

    def __init__(self, url: str, network: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(base_url=url, transport=network, follow_redirects=True)

    async def week(self, link: str, **query: str) -> list[str]:
        """The starts that are on offer."""
        page = await self.get(link, params={"week": "2030-01-07", **query})
        assert page.status_code == 200, page.text
        return [parse_qs(urlsplit(each).query)["start"][0] for each in links(page.text) if "start=" in each]

    async def fill_in(self, link: str, start: str, zone: str = "Europe/Berlin", **fields: Any) -> httpx2.Response:
        """Look at the form, fill it in and send it."""
        await self.get(link, params={"start": start, "zone": zone})
        form = {"start": start, "zone": zone, "name": "Ben", "email": "ben@example.com", "notes": ""}
        return await self.post(link, data=form | {name.replace("__", "."): each for name, each in fields.items()})


class Proxy(httpx2.AsyncBaseTransport):
    """It ends TLS, and passes on what is below `public`, and that alone, to where the gateway is."""

    def __init__(self, public: str, own: str) -> None:
        self._public, self._own = public, own
        self._network = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not str(request.url).startswith(f"{self._public}/"):
            return httpx2.Response(404)
        url = str(request.url).replace(self._public, self._own, 1)
        headers = {**request.headers, "host": urlsplit(self._own).netloc}
        passed = httpx2.Request(request.method, url, headers=headers, stream=request.stream)
        return await self._network.handle_async_request(passed)

    async def aclose(self) -> None:
        await self._network.aclose()


def links(html: str) -> list[str]:
    return [unescape(each) for each in re.findall(r'href="([^"]*)"', html)]


def actions(html: str) -> list[str]:
    return [unescape(each) for each in re.findall(r'<form[^>]*action="([^"]*)"', html)]


@pytest.fixture
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, **getattr(request, "param", {}))
    async with house.open():
        yield house


# Booking


async def test_a_guest_picks_a_time_books_and_finds_the_meeting_again(house: House) -> None:
    link = await house.link()
    async with house.visitor() as guest:
        starts = await guest.week(link, zone="America/New_York", week="2030-01-07")
        assert starts[0] == "2030-01-07T03:00:00-05:00"
        page = await guest.fill_in(link, starts[0], "America/New_York", notes="Hello")
        assert (page.status_code, page.url.path.startswith("/booked/")) == (200, True)
        assert "Monday 7 January 2030, 03:00 to 03:30" in page.text
        assert "Main Street 1" in page.text
    [booking] = await house.booked()
    assert (booking.start, booking.attendees[0].email, booking.notes) == (NINE, "ben@example.com", "Hello")
    assert booking.attendees[0].time_zone == "America/New_York"


async def test_the_week_that_is_asked_for_is_shown_in_the_zone_that_is_asked_for(house: House) -> None:
    link = await house.link()
    async with house.visitor() as guest:
        here = await guest.week(link, week="2030-01-09")
        assert [here[0], len({each[:10] for each in here})] == ["2030-01-07T09:00:00+01:00", 5]
        there = await guest.week(link, week="2030-01-09", zone="Asia/Tokyo")
        assert there[0] == "2030-01-07T17:00:00+09:00"
        wrong = await guest.get(link, params={"zone": "Mars/Olympus"})
        assert (wrong.status_code, 'role="alert"' in wrong.text, "is not known" in wrong.text) == (200, True, True)
        assert (await guest.get(link, params={"week": "<script>"})).text == (await guest.get(link)).text


@pytest.mark.parametrize(
    "house",
    [{"time_zone": "America/New_York", "working_hours": {"sunday": ["00:00-04:00"]}}],
    indirect=True,
)
async def test_both_readings_of_an_hour_that_comes_twice_are_offered_and_booked_apart(house: House) -> None:
    link = await house.link(single_use=False)
    async with house.visitor() as guest:
        page = await guest.get(link, params={"week": "2030-10-28"})
        starts = [parse_qs(urlsplit(each).query)["start"][0] for each in links(page.text) if "start=" in each]
        twice = [each for each in starts if each.startswith("2030-11-03T01:00")]
        assert twice == ["2030-11-03T01:00:00-04:00", "2030-11-03T01:00:00-05:00"]
        assert "UTC-04:00" in page.text
        for start in twice:
            assert (await guest.fill_in(link, start, "America/New_York")).status_code == 200
    assert len({booking.start.timestamp() for booking in await house.booked()}) == 2


async def test_questions_are_asked_and_what_is_missing_is_said_beside_what_was_filled_in(house: House) -> None:
    link = await house.link("asking")
    async with house.visitor() as guest:
        start = (await guest.week(link))[0]
        page = await guest.fill_in(link, start, name="", email="nobody", answers__topic="Sales", notes="Please")
        assert page.status_code == 400
        for said in ("Company", "I agree", "Please", 'value="nobody"'):
            assert said in page.text
        assert page.text.count('aria-invalid="true"') >= 2
        page = await guest.fill_in(link, start, answers__topic="Sales")
        assert (page.status_code, "Please fill this in" in page.text) == (400, True)
        done = await guest.fill_in(
            link,
            start,
            answers__company="ACME",
            answers__topic="Support",
            answers__areas=["North", "West"],
            answers__agreed="true",
            answers__people="3",
        )
        assert done.status_code == 200
    [booking] = await house.booked()
    assert booking.answers == {
        "company": "ACME",
        "topic": "Support",
        "areas": ("North", "West"),
        "agreed": "true",
        "people": "3",
    }


async def test_a_link_for_one_meeting_is_used_up(house: House) -> None:
    link = await house.link()
    async with house.visitor() as ben, house.visitor() as eve:
        starts = await ben.week(link)
        assert (await ben.fill_in(link, starts[0])).status_code == 200
        for page in (await eve.get(link), await eve.fill_in(link, starts[1])):
            assert page.status_code == 410
            assert "Ben" not in page.text
    assert len(await house.booked()) == 1


async def test_of_two_who_press_at_once_one_books(house: House) -> None:
    link = await house.link()
    async with house.visitor() as ben, house.visitor() as eve:
        starts = await ben.week(link)
        await eve.week(link)
        pages = await asyncio.gather(
            ben.fill_in(link, starts[0]), eve.fill_in(link, starts[1], name="Eve", email="eve@example.com")
        )
    assert sorted(page.status_code for page in pages) == [200, 410]
    assert len(await house.booked()) == 1


async def test_who_presses_twice_books_once_and_gets_the_same_page(house: House) -> None:
    for single_use in (True, False):
        link = await house.link(single_use=single_use)
        async with house.visitor() as guest:
            start = (await guest.week(link))[0]
            pages = [await guest.fill_in(link, start) for _ in range(2)]
            assert len({str(page.url) for page in pages}) == 1
            assert [page.status_code for page in pages] == [200, 200]
    assert len(await house.booked()) == 2


async def test_a_booking_that_fails_gives_the_link_back(house: House) -> None:
    link, other = await house.link(), await house.link()
    async with house.visitor() as ben, house.visitor() as eve:
        starts = await ben.week(link)
        assert (await eve.fill_in(other, starts[0], email="eve@example.com")).status_code == 200
        taken = await ben.fill_in(link, starts[0])
        assert (taken.status_code, "just taken" in taken.text) == (409, True)
        assert (await ben.fill_in(link, starts[1])).status_code == 200
    assert len(await house.booked()) == 2


async def test_a_link_for_many_books_many_but_not_too_many_at_once(house: House) -> None:
    link = await house.link(single_use=False)
    async with house.visitor() as guest:
        starts = await guest.week(link)
        for number, start in enumerate(starts[:PER_HOUR]):
            assert (await guest.fill_in(link, start, email=f"guest{number}@example.com")).status_code == 200
        assert (await guest.fill_in(link, starts[PER_HOUR])).status_code == 429
        house.clock.advance(timedelta(hours=1))
        assert (await guest.fill_in(link, starts[PER_HOUR])).status_code == 200


async def test_a_page_that_is_asked_for_too_often_waits(house: House) -> None:
    link = await house.link(single_use=False)
    async with house.visitor() as guest:
        answers = [(await guest.get(link, params={"start": NINE.isoformat()})).status_code for _ in range(125)]
        assert (answers[0], answers[-1]) == (200, 429)
        house.clock.advance(timedelta(minutes=2))
        assert (await guest.get(link)).status_code == 200


async def test_links_are_unguessable_revocable_and_tell_nothing(house: House) -> None:
    link = await house.link(single_use=False)
    token = link.rpartition("/")[2]
    assert len(token) >= 32
    for file in Path(house.config.storage.url.removeprefix("sqlite:///")).parent.glob("gateway.db*"):
        assert token.encode() not in file.read_bytes()
    async with house.visitor() as guest:
        for made_up in ("/book/x", f"/book/{token[:-1]}", "/booked/x", "/booked/x/meeting.ics", "/booked/x/move"):
            assert (await guest.get(made_up)).status_code == 404
        [row] = await house.gateway.links.live()
        assert await house.gateway.links.revoke(row.id)
        assert (await guest.get(link)).status_code == 410
        assert (await guest.get(f"/book/{row.id}")).status_code == 404


async def test_a_calendar_that_does_not_answer_is_not_a_week_without_times(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await house.link()

    async def down(*_: Any) -> Any:
        raise ProviderDown("s3cret trouble", account="home")

    monkeypatch.setattr(house.gateway.accounts["home"], "find_slots", down)
    async with house.visitor() as guest:
        page = await guest.get(link)
    assert "does not answer" in page.text
    assert "s3cret" not in page.text
    assert "No free time" not in page.text
    assert "no free time" not in page.text


async def test_a_week_without_times_says_where_the_next_are(house: House) -> None:
    link = await house.link()
    house.clock.advance(datetime(2030, 1, 12, 12, tzinfo=MONDAY.tzinfo) - house.clock.now())
    async with house.visitor() as guest:
        page = await guest.get(link)
        assert [each for each in links(page.text) if "week=2030-01-14" in each]
        assert (await guest.week(link, week="2030-01-14"))[0] == "2030-01-14T09:00:00+01:00"


async def test_a_guest_books_at_an_account_whose_service_has_no_page(tmp_path: Path) -> None:
    stage = STAGES["google_calendar"]("google_calendar", tmp_path)
    house = House(tmp_path)
    house.config, house.gateway, house.clock = stage.config, stage.gateway, stage.clock
    async with house.open(), house.visitor() as guest:
        link = (await house.gateway.catalog.create_scheduling_link(stage.intro, True)).url
        assert link.startswith(f"{house.url}/book/")
        starts = await guest.week(link)
        page = await guest.fill_in(link, starts[0])
        assert page.status_code == 200, page.text
        moved = await guest.post(f"{page.url.path}/move", data={"start": starts[-1]})
        assert (moved.status_code, moved.url.path) == (200, page.url.path)
    assert [each.start for each in await stage.appointments()] == [datetime.fromisoformat(starts[-1])]


# Afterwards


async def test_a_guest_saves_moves_and_cancels_by_a_link_of_their_own(house: House) -> None:
    link = await house.link()
    async with house.visitor() as guest:
        starts = await guest.week(link)
        page = await guest.fill_in(link, starts[0])
        own = page.url.path
        saved = await guest.get(f"{own}/meeting.ics")
        assert saved.headers["content-type"].startswith("text/calendar")
        lines = saved.text.split("\r\n")
        assert lines[0] == "BEGIN:VCALENDAR"
        assert {"SUMMARY:Intro call with Ben", "LOCATION:Main Street 1", "STATUS:CONFIRMED"} <= set(lines)
        assert any(line.startswith("DTSTART:") and line.endswith("Z") for line in lines)
        week = await guest.week(f"{own}/move")
        assert starts[0] not in week
        chosen = await guest.get(f"{own}/move", params={"start": week[3]})
        assert f"{own}/move" in actions(chosen.text)
        moved = await guest.post(f"{own}/move", data={"start": week[3]})
        assert (moved.status_code, moved.url.path) == (200, own)
        assert [each.start.isoformat() for each in await house.booked()] == [week[3]]
        gone = await guest.post(f"{own}/cancel", data={"reason": "ill"})
        assert (gone.status_code, "cancelled" in gone.text) == (200, True)
        assert f"{own}/cancel" not in actions(gone.text)
        assert (await guest.post(f"{own}/move", data={"start": week[4]})).status_code == 409
    [booking] = await house.booked()
    assert (booking.status, booking.cancellation_reason) == ("cancelled", "ill")


async def test_what_is_over_is_neither_moved_nor_cancelled(house: House) -> None:
    async with house.visitor() as guest:
        link = await house.link()
        page = await guest.fill_in(link, (await guest.week(link))[0])
        house.clock.advance(timedelta(days=30))
        own = page.url.path
        shown = await guest.get(own)
        assert not [each for each in (*links(shown.text), *actions(shown.text)) if each.startswith(f"{own}/m")][1:]
        for path in ("move", "cancel"):
            assert (await guest.post(f"{own}/{path}", data={"start": NINE.isoformat()})).status_code == 409


# The operator's


async def test_accounts_are_shown_with_what_they_cannot_do_and_how_to_add_the_gateway(house: House) -> None:
    async with house.visitor() as operator:
        page = await operator.get("/")
        assert (page.status_code, page.url.path) == (200, "/accounts")
        for said in ("home", "Embedded calendar", f"{house.url}/mcp", "claude mcp add"):
            assert said in unescape(page.text)


async def test_a_link_is_taken_back_on_the_page(house: House) -> None:
    link = await house.link(single_use=False)
    async with house.visitor() as operator:
        page = await operator.get("/accounts")
        [action] = [each for each in actions(page.text) if each.endswith("/revoke")]
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        for data in ({}, {"csrf": "x"}, {"csrf": "ü"}):
            assert (await operator.post(action, data=data)).status_code == 403
        async with house.visitor() as stranger:
            assert (await stranger.post(action, data={"csrf": csrf[1]})).status_code == 403
        assert (await operator.get(link)).status_code == 200
        assert (await operator.post(action, data={"csrf": csrf[1]})).status_code == 200
        assert (await operator.get(link)).status_code == 410


async def test_a_session_ends_after_an_hour(house: House) -> None:
    await house.link(single_use=False)
    async with house.visitor() as operator:
        page = await operator.get("/accounts")
        [action] = [each for each in actions(page.text) if each.endswith("/revoke")]
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        house.clock.advance(timedelta(hours=1))
        late = await operator.post(action, data={"csrf": csrf[1]})
        assert (late.status_code, "open too long" in late.text) == (403, True)
    assert len(await house.gateway.links.live()) == 1


# All of them


async def test_below_a_path_of_a_proxy_every_link_form_and_cookie_leads_there(house: House) -> None:
    own, public = house.url, "https://example.com/sched"
    house.gateway.connecting.url = public
    link = await house.link(single_use=False)
    async with Visitor("https://example.com", Proxy(public, own)) as guest:
        early = await guest.post(link)
        assert (await guest.get(links(early.text)[-1])).status_code == 200
        [start, *_] = await guest.week(link)
        [cookie] = guest.cookies.jar
        assert (cookie.path, cookie.secure) == (urlsplit(link).path, True)
        booked = await guest.fill_in(link, start)
        assert (booked.status_code, booked.url.path.startswith("/sched/booked/")) == (200, True)
        choosing = await guest.get(next(each for each in links(booked.text) if "/move" in each))
        asked = await guest.get(next(each for each in links(choosing.text) if "start=" in each))
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.text))
        moved = await guest.post(actions(asked.text)[-1], data=fields)
        assert (moved.status_code, moved.url) == (200, booked.url)
        cancelled = await guest.post(actions(moved.text)[-1])
        assert "This meeting is cancelled" in cancelled.text
        accounts = await guest.get(f"{public}/")
        assert (accounts.status_code, accounts.url.path) == (200, "/sched/accounts")
        action = str(accounts.url.join(actions(accounts.text)[-1]))
        too_old = await guest.post(action)
        assert links(too_old.text)[-1] == "/sched/accounts"
        fields = dict(re.findall(r'name="(csrf)" value="([^"]*)"', accounts.text))
        back = await guest.post(action, data=fields)
        assert (back.status_code, back.url.path, await house.gateway.links.live()) == (200, "/sched/accounts", [])


async def test_no_page_answers_on_a_foreign_host(house: House) -> None:
    link = await house.link()
    async with house.visitor() as stranger:
        for path in ("/", "/accounts", urlsplit(link).path, "/booked/x", "/connect/home"):
            answer = await stranger.get(path, headers={"Host": "evil.example"})
            assert answer.status_code >= 400, path
            assert "Embedded" not in answer.text


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_others_wrote_is_text(tmp_path: Path, text: str) -> None:
    hostile = {**INTRO, "title": text, "description": text, "location": text}
    question = {"key": "q", "label": text, "type": "choice", "options": [text, "b"]}
    house = House(tmp_path, event_types=[{**hostile, "questions": [question]}])
    async with house.open(), house.visitor() as guest:
        link = await house.link(single_use=False)
        start = (await guest.week(link))[0]
        pages = [
            await guest.get(link, params={"zone": text}),
            await guest.get(link, params={"week": text}),
            await guest.get(link, params={"start": text, "zone": text}),
            await guest.get(link, params={"start": start, "zone": text}),
            await guest.fill_in(link, start, name=text, email=text, notes=text, answers__q=text),
            await guest.fill_in(link, start, name=text, notes=text, answers__q=text),
            await guest.get("/accounts"),
            await guest.get(f"/book/{text}"),
        ]
        own = pages[5].url.path
        assert own.startswith("/booked/")
        pages += [await guest.get(f"{own}/move"), await guest.post(f"{own}/cancel", data={"reason": text})]
        saved = await guest.get(f"{own}/meeting.ics")
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
        assert "60481729" not in re.sub(r"\d{3,}|\d:\d\d", "", page.text) or "{{7777*7777}}" not in text
        assert not re.search(r'href="javascript:', page.text)
    assert "\r\nBEGIN:VALARM" not in saved.text


async def test_every_page_has_its_headers_and_is_small(house: House) -> None:
    link = await house.link("asking", single_use=False)
    async with house.visitor() as guest:
        start = (await guest.week(link))[0]
        booked = await guest.fill_in(link, start, answers__company="ACME", answers__agreed="true")
        own = booked.url.path
        paths = ["/accounts", link, f"{link}?start={start.replace('+', '%2B')}", own, f"{own}/move", "/book/none"]
        for path in paths:
            page = await guest.get(path)
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("same-origin", "no-store")
            assert page.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page.text), path
            size = len(page.content)
            for asset in re.findall(r'(?:href|src)="(/pages/[^"]+)"', page.text):
                found = await guest.get(asset)
                assert "immutable" in found.headers["cache-control"]
                size += len(found.content)
            assert size < 50_000, (path, size)
            assert all(each.startswith(("/", "?", "#", house.url)) for each in links(page.text)), links(page.text)
