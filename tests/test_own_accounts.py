"""Accounts that are each caller's own: what is one person's is never another's, whatever both do at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse_config
from gateway.pool import IDLE
from gateway.tools import TOOLS
from schemas import NotConnected, NotFound, SchedulingError
from tests.agent import Agent
from tests.own_stage import CAL, OWN, WORK, Person, Shared, holds
from tests.test_pages import Visitor
from tests.world import MONDAY, NINE, TEN

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
HALF_HOUR = timedelta(minutes=30)
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + 5 * DAY).isoformat()}
ACCOUNTS = ("work", "cal")
OAUTH = {"provider": "calendly", "via": "mcp", "auth": {"type": "oauth"}}


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    """Both have keys, and nobody is connected."""
    shared = Shared(tmp_path)
    async with shared.open():
        await shared.keys()
        yield shared


@pytest.fixture
async def both(shared: Shared) -> Shared:
    """Both are connected everywhere."""
    for person in shared.people:
        await shared.connects(person)
    shared.vendors.seen.clear()
    return shared


def other(shared: Shared, person: Person) -> Person:
    return shared.bert if person is shared.anna else shared.anna


def must_be_apart(shared: Shared) -> None:
    """Nobody's token went along with what another asked for."""
    wrong = [each for each in shared.vendors.seen if each.caller not in (f"key:{each.whose}", "guest")]
    assert wrong == []
    assert {each.whose for each in shared.vendors.seen} == {"anna", "bert"}


async def states(agent: Agent) -> dict[str, str]:
    return {each["account"]: each["state"] for each in (await agent.list_accounts())["accounts"]}


# Configuration


@pytest.mark.parametrize(
    "account",
    [
        {"provider": "local", "time_zone": "Europe/Berlin"},
        {"provider": "calcom", "auth": {"type": "bearer", "token": "x"}},
        {"provider": "calendly", "auth": {"type": "bearer", "token": "x"}},
        {"provider": "calendly", "via": "mcp", "auth": {"type": "bearer", "token": "x"}},
        {"provider": "google_calendar", "auth": {"type": "google", "credentials_file": "x.json"}},
    ],
)
def test_an_account_that_nobody_consents_to_cannot_be_each_caller_s_own(
    tmp_path: Path, account: dict[str, Any]
) -> None:
    credentials = {"type": "authorized_user", "client_id": "x", "client_secret": "y", "refresh_token": "z"}
    (tmp_path / "x.json").write_text(json.dumps(credentials))
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"accounts": {"work": {**account, **OWN}}}), {}, folder=tmp_path)
    said = "accounts.work.owner: caller is for accounts that are connected in a browser, by each caller anew"
    assert caught.value.mistakes == [said]


@pytest.mark.parametrize("owner", ["me", "callers", "", "~", 1])
def test_an_owner_that_there_is_not_is_a_mistake(owner: Any) -> None:
    with pytest.raises(ConfigError, match=r"accounts\.work\.owner"):
        parse_config(json.dumps({"accounts": {"work": {**WORK, "owner": owner}}}), {}, folder=Path())


@pytest.mark.parametrize("account", [WORK, CAL])
def test_an_account_that_is_connected_in_a_browser_may_be_each_caller_s_own(account: dict[str, Any]) -> None:
    config = parse_config(json.dumps({"accounts": {"work": {**account, **OWN}}}), {}, folder=Path())
    assert config.accounts["work"].owner == "caller"


# Connecting


async def test_each_connects_their_own_and_sees_their_own(shared: Shared) -> None:
    async with shared.agents() as (anna, bert):
        fresh = {"work": "needs_connection", "cal": "needs_connection", "home": "ready"}
        assert (await states(anna), await states(bert)) == (fresh, fresh)
        await shared.connects(shared.anna)
        connected = {"work": "ready", "cal": "ready", "home": "ready"}
        assert (await states(anna), await states(bert)) == (connected, fresh)
        with pytest.raises(NotConnected):
            await bert.list_event_types(account="work")
        await shared.connects(shared.bert)
        assert await states(bert) == connected
        for agent, person in ((anna, shared.anna), (bert, shared.bert)):
            told = {each["account"]: each.get("email") for each in (await agent.list_accounts())["accounts"]}
            assert told["work"] == f"{person.name}@example.com"
    tokens = [next(iter(grant.access)) for who in ("anna", "bert") for grant in shared.vendors.grants(who)]
    assert len(set(tokens)) == 4
    must_be_apart(shared)
    owners = [(person.caller.name, person.kept_as(each)) for person in shared.people for each in ACCOUNTS]
    assert sorted(await shared.audited("connect_account")) == sorted(owners)


async def test_a_link_opened_by_somebody_else_is_refused_and_still_good(shared: Shared) -> None:
    async with shared.agents() as (anna, _):
        link = await shared.link(anna, "work")
    async with shared.browser(shared.bert) as browser:
        page: Any = await browser.open(link)
        assert page.url.path == "/signin", "who that is has to be known"
        page = await browser.submit(page, key=shared.bert.key)
        assert page.status_code == 400
        assert "made for somebody else" in page.text
    assert shared.vendors.calendly.authorized == []
    assert shared.vendors.grants("bert") == shared.vendors.grants("anna") == []
    async with shared.browser(shared.anna) as browser:
        page = await shared.opened(browser, link, shared.anna)
        assert "work is connected" in page.text
    async with shared.agents() as (anna, bert):
        assert ((await states(anna))["work"], (await states(bert))["work"]) == ("ready", "needs_connection")


async def test_who_has_signed_out_meanwhile_is_asked_again_and_one_s_consent_is_not_another_s(shared: Shared) -> None:
    async with shared.agents() as (anna, bert), shared.browser(shared.anna) as browser:
        await shared.accounts_page(browser, shared.anna)
        begun = await browser.client.get(await shared.link(anna, "work"))
        back = await browser.client.get(begun.headers["location"])
        browser.client.cookies.delete("session")
        # Somebody else sits down at the same browser.
        page = await shared.opened(browser, back.headers["location"], shared.bert)
        assert (page.status_code, "not begun here" in page.text) == (400, True)
        browser.client.cookies.delete("session")
        page = await shared.opened(browser, back.headers["location"], shared.anna)
        assert (page.status_code, "work is connected" in page.text) == (200, True)
        assert ((await states(anna))["work"], (await states(bert))["work"]) == ("ready", "needs_connection")


async def test_a_link_of_an_account_that_is_everybody_s_is_for_who_asked_for_it_too(tmp_path: Path) -> None:
    async with Shared(tmp_path, {"boss": {"tools": ["read", "admin"]}}, team=OAUTH).open() as at:
        assert isinstance(at, Shared)
        await at.keys("boss")
        async with at.agents() as (anna, bert):
            link = await at.link(anna, "team")
            async with at.browser(at.bert) as browser:
                page = await at.opened(browser, link, at.bert)
                assert (page.status_code, "made for somebody else" in page.text) == (400, True)
            await at.connects(at.anna, "team")
            assert ((await states(bert))["team"], (await states(bert))["work"]) == ("ready", "needs_connection")


async def test_who_may_not_administer_gets_no_link_for_what_is_everybody_s_and_cannot_end_it(tmp_path: Path) -> None:
    policies = {"boss": {"tools": ["read", "book", "admin"]}}
    async with Shared(tmp_path, policies, team=OAUTH).open() as at:
        assert isinstance(at, Shared)
        at.anna.key, at.bert.key = await at.key("anna", "boss"), await at.key("bert")
        async with at.agents() as (anna, bert):
            [team] = [each for each in (await bert.list_accounts())["accounts"] if each["account"] == "team"]
            assert (team["state"], "connect_url" in team) == ("needs_connection", False)
            with pytest.raises(NotConnected) as caught:
                await bert.list_event_types(account="team")
            assert "connect_url" not in (caught.value.details or {})
            assert "/connect/" not in caught.value.message
            for said in (caught.value.message, team["detail"]):
                assert said.endswith("ask whoever runs this gateway.")
            await at.connects(at.anna, "team")
            async with at.browser(at.bert) as browser:
                page = await at.accounts_page(browser, at.bert)
                assert "/accounts/team/disconnect" not in page.text
                refused = await at.press(browser, page, "/accounts/team/disconnect")
                assert (refused.status_code, "everybody" in refused.text) == (400, True)
                assert (await states(bert))["team"] == "ready"
            async with at.browser(at.anna) as browser:
                page = await at.accounts_page(browser, at.anna)
                assert (await at.press(browser, page, "/accounts/team/disconnect")).status_code == 200
                assert (await states(anna))["team"] == "needs_connection"


async def test_who_may_not_administer_takes_back_no_link_of_what_is_everybody_s(tmp_path: Path) -> None:
    event_types = [{"slug": "intro", "title": "Intro", "duration_minutes": 30}]
    home = {"provider": "local", "time_zone": "Europe/Berlin", "event_types": event_types}
    async with Shared(tmp_path, {"boss": {"tools": ["read", "book", "admin"]}}, home=home).open() as at:
        assert isinstance(at, Shared)
        at.anna.key, at.bert.key = await at.key("anna", "boss"), await at.key("bert")
        async with at.agents() as (_, bert):
            url = (await bert.create_scheduling_link(event_type_id="home:intro"))["url"]
        [link] = await at.gateway.links.live()
        async with Visitor(at.url) as guest:
            for person, status in ((at.bert, 200), (at.anna, 410)):
                async with at.browser(person) as browser:
                    page = await at.accounts_page(browser, person)
                    assert (link.id in page.text) == (person is at.anna)
                    await at.press(browser, page, f"/accounts/links/{link.id}/revoke")
                assert (await guest.get(url)).status_code == status


async def test_nobody_sees_or_takes_back_the_links_of_another(both: Shared) -> None:
    async with both.agents() as (anna, _):
        url = (await anna.create_scheduling_link(event_type_id="cal:intro"))["url"]
        [link] = await both.gateway.links.live()
        assert link.account == both.anna.kept_as("cal")
        async with Visitor(both.url) as guest:
            for person, status in ((both.bert, 200), (both.anna, 410)):
                async with both.browser(person) as browser:
                    page = await both.accounts_page(browser, person)
                    assert (link.id in page.text) == (person is both.anna)
                    assert not holds(page.text, other(both, person))
                    await both.press(browser, page, f"/accounts/links/{link.id}/revoke")
                assert (await guest.get(url)).status_code == status


# Everything at once


async def prepared(agent: Agent, shared: Shared, person: Person) -> Mapping[str, list[dict[str, Any]]]:
    """Calls of each tool, enough to overlap with those of the other, and about things that are there."""
    world, intro = person.world, f"work:intro-{person.name}"

    async def made(number: int, event_type: str = "cal:intro", day: int = 1) -> str:
        start = NINE + day * DAY + number * HALF_HOUR
        booked = await agent.create_booking(
            event_type_id=event_type, start=start.isoformat(), notes=f"note of {person.name}", **person.guest(number)
        )
        id: str = booked["id"]
        return id

    def elsewhere(number: int, day: int) -> str:
        id = world.book(
            f"intro-{person.name}", NINE + day * DAY + number * HALF_HOUR, f"g@{person.name}.example", name=person.name
        )
        return f"work:{id}/i-{id}"

    to_move = [*[await made(n) for n in range(3)], *(elsewhere(n, 1) for n in range(2))]
    to_cancel = [*[await made(n) for n in range(4, 7)], *(elsewhere(n, 2) for n in range(3))]
    pending = [await made(n, "cal:approval", 2) for n in range(3)]
    own_types = [
        (await agent.save_event_type(account="cal", title=f"Own {n} of {person.name}", duration_minutes=30))["id"]
        for n in range(3)
    ]
    [schedule, *_] = (await agent.list_schedules(event_type_id=intro))["schedules"]
    starts = [(NINE + 3 * DAY + n * HALF_HOUR).isoformat() for n in range(6)]
    moved = [(NINE + 4 * DAY + n * HALF_HOUR).isoformat() for n in range(6)]
    reads: list[dict[str, Any]] = [{"account": account} for account in ACCOUNTS for _ in range(3)]
    guests = [person.guest(number) for number in range(6)]
    return {
        "list_accounts": [{}] * 4,
        "list_event_types": [{}, *reads],
        "save_event_type": [
            *({"account": "cal", "title": f"New {n} of {person.name}", "duration_minutes": 45} for n in range(3)),
            {"event_type_id": intro, "description": f"for {person.name}"},
        ],
        "delete_event_type": [{"event_type_id": each} for each in own_types],
        "find_slots": [{"event_type_ids": [intro, "cal:intro"], "free_in": list(ACCOUNTS), **WINDOW}] * 4,
        "find_busy_times": [WINDOW, *({"accounts": [each], **WINDOW} for each in ACCOUNTS)] * 2,
        "create_booking": [
            {"event_type_id": event_type, "start": start, **guest}
            for event_type in (intro, "cal:intro")
            for start, guest in zip(starts[:3], guests, strict=False)
        ],
        "list_bookings": [{"status": "all"}, *({**each, "status": "all"} for each in reads)],
        "get_booking": [{"booking_id": each} for each in (*to_move, *pending)],
        "reschedule_booking": [
            {"booking_id": id, "start": start, "reason": f"because of {person.name}"}
            for id, start in zip(to_move, moved, strict=False)
        ],
        "cancel_booking": [{"booking_id": each, "reason": f"for {person.name}"} for each in to_cancel],
        "respond_to_booking": [{"booking_id": each, "response": "confirm"} for each in pending],
        "list_schedules": [{}, {"event_type_id": intro}, *reads],
        "update_schedule": [{"schedule_id": schedule["id"], "weekly_hours": {"friday": ["09:00-16:00"]}}] * 2,
        "create_scheduling_link": [{"event_type_id": each} for each in (intro, "cal:intro") for _ in range(2)],
    }


async def called(agent: Agent, tool: str, arguments: dict[str, Any]) -> tuple[str, bool, Any]:
    """What a tool answered, whole: with its text, and what is beside it."""
    result = await agent.client.call_tool(tool, arguments, raise_on_error=False)
    whole = [result.structured_content, [str(each) for each in result.content], result.meta]
    return tool, result.is_error, whole


async def all_at_once(
    both: Shared, agents: Sequence[Agent], ready: Sequence[Mapping[str, Any]], tools: set[str]
) -> list[tuple[Person, Any]]:
    """What each is answered by these tools, all called together; there is nothing of the other's in it."""
    calls = [
        (person, called(agent, tool, arguments))
        for tool in tools
        for pair in _paired(ready[0][tool], ready[1][tool])
        for arguments, agent, person in zip(pair, agents, both.people, strict=True)
    ]
    answers = await asyncio.gather(*(call for _, call in calls))
    told = [(person, answer) for (person, _), answer in zip(calls, answers, strict=True)]
    for person, answer in told:
        assert not holds(answer, other(both, person)), (person.name, answer)
    return told


def _done(told: list[tuple[Person, Any]], person: Person) -> set[str]:
    return {tool for whose, (tool, failed, _) in told if whose is person and not failed}


async def test_every_tool_used_by_both_at_once_works_on_what_is_one_s_own_alone(
    both: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with both.agents() as agents:
        ready = [await prepared(agent, both, person) for agent, person in zip(agents, both.people, strict=True)]
        assert all(set(each) == _names() for each in ready), "no tool is left out"
        for tool in _names():
            told = await all_at_once(both, agents, ready, {tool})
            assert all(_done(told, person) == {tool} for person in both.people), told
    must_be_apart(both)
    _must_be_kept_apart(both, await both.journaled())
    for secret in both.vendors.secrets():
        assert secret not in caplog.text


async def test_all_tools_at_once_work_on_what_is_one_s_own_alone(both: Shared) -> None:
    async with both.agents() as agents:
        ready = [await prepared(agent, both, person) for agent, person in zip(agents, both.people, strict=True)]
        told = await all_at_once(both, agents, ready, _names())
        assert all(_done(told, person) == _names() for person in both.people)
    must_be_apart(both)
    _must_be_kept_apart(both, await both.journaled())


def _names() -> set[str]:
    return {spec.name for spec in TOOLS}


def _paired(one: list[Any], two: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(one, two, strict=True))


def _must_be_kept_apart(shared: Shared, rows: list[tuple[str, str, str, str]]) -> None:
    """The journal, and what there is at the vendors, is of who asked for it."""
    owned = {(person.caller.name, person.kept_as(account)) for person in shared.people for account in ACCOUNTS}
    assert {(caller, account) for caller, account, _, _ in rows} == owned
    for person in shared.people:
        assert person.emails()
        assert not [each for each in person.emails() if other(shared, person).name in each]


async def test_ids_of_another_s_are_not_found(both: Shared) -> None:
    async with both.agents() as (anna, bert):
        mine = await prepared(anna, both, both.anna)
        before, rows = both.anna.emails(), sorted(await both.journaled())
        both.vendors.seen.clear()
        tools = ("get_booking", "reschedule_booking", "cancel_booking", "respond_to_booking", "delete_event_type")
        own = [(tool, arguments) for tool in tools for arguments in mine[tool]]
        intro = f"work:intro-{both.anna.name}"
        own += [
            ("create_booking", {**mine["create_booking"][0], "event_type_id": intro}),
            ("save_event_type", {"event_type_id": intro, "title": "Mine now"}),
            ("save_event_type", {**mine["delete_event_type"][0], "title": "Mine now"}),
            ("create_scheduling_link", mine["delete_event_type"][0]),
            ("list_schedules", {"event_type_id": intro}),
            ("update_schedule", mine["update_schedule"][0]),
            ("find_slots", {"event_type_ids": [intro], **WINDOW}),
            ("find_slots", {"event_type_ids": ["cal:intro"], **WINDOW, **mine["get_booking"][0]}),
        ]
        for tool, arguments in own:
            with pytest.raises(NotFound):
                await getattr(bert, tool)(**arguments)
        assert both.anna.emails() == before
        assert both.bert.emails() == []
        assert sorted(row for row in await both.journaled() if row[0] == "key:anna") == rows
        assert {row[3] for row in await both.journaled() if row[0] == "key:bert"} == {"failed"}
    assert {(each.caller, each.whose) for each in both.vendors.seen} == {("key:bert", "bert")}


async def test_the_same_request_of_two_is_two_requests(both: Shared) -> None:
    """With the same words, and the same key of idempotency."""
    guest = {"attendee_name": "Guest", "attendee_email": "guest@example.org", "idempotency_key": "once"}
    call = {"event_type_id": "cal:intro", "start": TEN.isoformat(), **guest}
    async with both.agents() as agents:
        made = await asyncio.gather(*(agent.create_booking(**call) for agent in agents for _ in range(3)))
    assert len({each["id"] for each in made}) == 2
    assert [person.emails() for person in both.people] == [["guest@example.org"]] * 2
    must_be_apart(both)


async def test_a_move_is_known_to_whose_it_is_alone(both: Shared) -> None:
    """On a service that moves by booking anew, the earlier id leads on; for nobody else."""
    async with both.agents() as (anna, bert):
        event_type = f"work:intro-{both.anna.name}"
        first = await anna.create_booking(event_type_id=event_type, start=TEN.isoformat(), **both.anna.guest())
        moved = await anna.reschedule_booking(booking_id=first["id"], start=(TEN + DAY).isoformat())
        assert moved["id"] != first["id"]
        assert (await anna.get_booking(booking_id=first["id"]))["id"] == moved["id"]
        for id in (first["id"], moved["id"]):
            with pytest.raises(NotFound):
                await bert.get_booking(booking_id=id)


# What ends


async def test_a_consent_that_one_takes_back_at_the_vendor_is_missed_by_that_one_alone(both: Shared) -> None:
    for grant in both.vendors.grants("anna"):
        grant.revoked = True
    async with both.agents() as (anna, bert):
        assert await states(anna) == {"work": "needs_connection", "cal": "needs_connection", "home": "ready"}
        assert await states(bert) == {"work": "ready", "cal": "ready", "home": "ready"}
        with pytest.raises(NotConnected) as caught:
            await anna.list_event_types(account="work")
        assert (caught.value.details or {})["connect_url"].startswith(f"{both.url}/connect/work?ticket=")
        assert (await bert.list_event_types(account="work"))["event_types"]
        await both.connects(both.anna)
        assert (await states(anna))["work"] == "ready"


async def test_who_disconnects_leaves_the_other_connected(both: Shared) -> None:
    async with both.agents() as (anna, bert):
        async with both.browser(both.anna) as browser:
            page = await both.accounts_page(browser, both.anna)
            for account in ACCOUNTS:
                assert (await both.press(browser, page, f"/accounts/{account}/disconnect")).status_code == 200
        assert await states(anna) == {"work": "needs_connection", "cal": "needs_connection", "home": "ready"}
        assert await states(bert) == {"work": "ready", "cal": "ready", "home": "ready"}
        assert (await bert.list_bookings(account="cal"))["bookings"] == []
    assert all(grant.revoked for grant in both.vendors.grants("anna"))
    assert not any(grant.revoked for grant in both.vendors.grants("bert"))


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_after_a_restart_what_was_lost_is_looked_for_with_the_grant_of_whose_it_was(
    tmp_path: Path, account: str
) -> None:
    shared = Shared(tmp_path)
    async with shared.open():
        await shared.keys()
        for person in shared.people:
            await shared.connects(person)
        async with shared.agents() as agents:
            for agent, person in zip(agents, shared.people, strict=True):
                event_type = {"work": f"work:intro-{person.name}", "cal": "cal:intro"}[account]
                assert (await agent.list_event_types(account=account))["event_types"]
                shared.vendors.dies_at_a_booking = True
                with pytest.raises(SchedulingError):
                    await agent.create_booking(event_type_id=event_type, start=TEN.isoformat(), **person.guest())
                shared.vendors.revive()
        assert [row[3] for row in await shared.journaled()] == ["unknown", "unknown"]
    shared.restarted()
    shared.clock.advance(timedelta(minutes=20))
    shared.vendors.seen.clear()
    async with shared.open():
        assert await shared.gateway.settling.sweep() == 2
        assert sorted(await shared.journaled()) == [
            (person.caller.name, person.kept_as(account), "create_booking", "done") for person in shared.people
        ]
    must_be_apart(shared)
    assert [len(person.emails()) for person in shared.people] == [1, 1]


# Guests


async def test_guests_of_one_s_link_meet_that_one_alone(both: Shared) -> None:
    async with both.agents() as agents, Visitor(both.url) as guest:
        links = [
            (await agent.create_scheduling_link(event_type_id="cal:intro", single_use=False))["url"] for agent in agents
        ]
        booked = []
        for link, person in zip(links, both.people, strict=True):
            week = await guest.get(link, params={"week": "2030-01-07"})
            assert (week.status_code, holds(week.text, other(both, person))) == (200, False)
            # The same guest, time and kind of meeting each time.
            page = await guest.fill_in(link, TEN.isoformat(), name="Carl", email="carl@example.org")
            assert page.url.path.startswith("/booked/"), page.text
            assert not holds(page.text, other(both, person))
            booked.append(page.url.path)
        assert [person.emails() for person in both.people] == [["carl@example.org"]] * 2
        later = (TEN + DAY).isoformat()
        moved = await guest.post(f"{booked[0]}/move", data={"start": later})
        assert moved.status_code == 200, moved.text
        for agent, start in zip(agents, (later, TEN.isoformat()), strict=True):
            [found] = (await agent.list_bookings(account="cal"))["bookings"]
            assert datetime.fromisoformat(found["start"]) == datetime.fromisoformat(start)
        assert (await guest.post(f"{booked[1]}/cancel", data={})).status_code == 200
        assert [len((await agent.list_bookings(account="cal"))["bookings"]) for agent in agents] == [1, 0]
    must_be_apart(both)
    rows = [(caller, account) for caller, account, tool, _ in await both.journaled() if tool == "create_booking"]
    assert sorted(rows) == sorted(("guest", person.kept_as("cal")) for person in both.people)


async def test_what_a_guest_of_one_s_did_is_not_looked_for_at_another_s(both: Shared) -> None:
    async with both.agents() as agents, Visitor(both.url) as guest:
        first, second = [
            (await agent.create_scheduling_link(event_type_id="cal:intro", single_use=False))["url"] for agent in agents
        ]
        both.vendors.dies_at_a_booking = True
        lost = await guest.fill_in(first, TEN.isoformat(), name="Carl", email="carl@example.org")
        assert lost.status_code == 502
        both.vendors.revive()
        made = await guest.fill_in(second, TEN.isoformat(), name="Carl", email="carl@example.org")
        assert made.url.path.startswith("/booked/")
    told = {account: outcome for _, account, tool, outcome in await both.journaled() if tool == "create_booking"}
    assert told == {both.anna.kept_as("cal"): "unknown", both.bert.kept_as("cal"): "done"}
    both.clock.advance(timedelta(minutes=20))
    await both.gateway.settling.sweep()
    told = {account: outcome for _, account, tool, outcome in await both.journaled() if tool == "create_booking"}
    assert set(told.values()) == {"done"}


async def test_a_link_is_of_no_use_while_whose_it_is_is_not_connected(both: Shared) -> None:
    async with both.agents() as (anna, _), Visitor(both.url) as guest:
        link = (await anna.create_scheduling_link(event_type_id="cal:intro"))["url"]
        for grant in both.vendors.grants("anna"):
            grant.revoked = True
        both.vendors.seen.clear()
        page = await guest.get(link)
        assert "does not answer" in page.text
        assert not holds(page.text, both.bert)
        assert [each for each in both.vendors.seen if each.whose == "bert"] == []


# What is held open


async def test_what_a_caller_has_not_used_for_an_hour_is_given_back_and_made_anew(both: Shared) -> None:
    async with both.agents() as (anna, bert):
        await anna.list_bookings()
        await bert.list_bookings()
        pool = both.gateway.pool
        before = {each.kept_as: each for each in pool.made}
        assert set(before) == {"home", *(person.kept_as(each) for person in both.people for each in ACCOUNTS)}
        both.clock.advance(IDLE)
        await bert.list_bookings()
        await pool.tidy()
        assert set(before) == {each.kept_as for each in pool.made}, "an hour is not over"
        both.clock.advance(timedelta(seconds=1))
        await pool.tidy()
        kept = {each.kept_as for each in pool.made}
        assert kept == {"home", *(both.bert.kept_as(each) for each in ACCOUNTS)}
        assert (await states(anna))["work"] == "ready", "and nobody has to consent again"
        assert (await anna.list_event_types(account="work"))["event_types"]
        made = {each.kept_as: each for each in pool.made}
        for account in ACCOUNTS:
            assert made[both.anna.kept_as(account)] is not before[both.anna.kept_as(account)]
            assert made[both.bert.kept_as(account)] is before[both.bert.kept_as(account)]
    must_be_apart(both)


async def test_what_was_given_back_holds_no_connection(both: Shared) -> None:
    async with both.agents() as (anna, _):
        await anna.list_bookings()
        [old] = [each for each in both.gateway.pool.made if each.kept_as == both.anna.kept_as("cal")]
        await both.gateway.pool.tidy()
        both.clock.advance(IDLE + timedelta(seconds=1))
        await both.gateway.pool.tidy()
        assert old._http.is_closed  # type: ignore[attr-defined]  # of REST accounts
