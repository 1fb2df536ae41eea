"""What a caller may do: which tools and accounts, how many bookings, until when; and for whom a policy holds."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from gateway.config import ConfigError, parse_config
from gateway.policy import ADMIN, SETS
from gateway.tools import TOOLS
from providers.storage.tables import journal
from schemas import PolicyDenied, SchedulingError
from tests.agent import Agent
from tests.emulators import toy
from tests.emulators.identity import ANA, CLIENT, SECRET, IdentityProvider
from tests.keyed import LOCAL, Keyed
from tests.loopback import served
from tests.over_http import JSON_RPC
from tests.postgres import on_sqlite
from tests.sign_in_stage import Program
from tests.stage import Stage
from tests.world import BEGIN, MONDAY, NINE, TEN, Clock, World

pytestmark = pytest.mark.anyio

NAMES = [spec.name for spec in TOOLS]
HALF_HOUR = timedelta(minutes=30)
GUEST = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=1)).isoformat()}
INTRO = {"slug": "intro", "title": "Intro call", "duration_minutes": 30}
ACCOUNTS = {
    "home": {**LOCAL, "event_types": [INTRO]},
    "work": {"provider": "toy", **Stage.settings},
}
CALLS: Mapping[str, Mapping[str, Any]] = {
    "list_accounts": {},
    "list_event_types": {},
    "save_event_type": {"account": "home", "title": "Deep dive", "duration_minutes": 90},
    "delete_event_type": {"event_type_id": "home:deep"},
    "find_slots": {"event_type_ids": ["home:intro"], **WINDOW},
    "find_busy_times": WINDOW,
    "create_booking": {"event_type_id": "home:intro", "start": TEN.isoformat(), **GUEST},
    "list_bookings": {},
    "get_booking": {"booking_id": "home:b1"},
    "reschedule_booking": {"booking_id": "home:b1", "start": NINE.isoformat()},
    "cancel_booking": {"booking_id": "home:b1"},
    "respond_to_booking": {"booking_id": "home:b1", "response": "confirm"},
    "list_schedules": {},
    "update_schedule": {"schedule_id": "home:default", "time_zone": "Europe/Berlin"},
    "create_scheduling_link": {"event_type_id": "home:intro"},
}
"""A call of each tool that is well-formed; what it is about need not be there."""

AT_WORK: Mapping[str, Any] = {
    "account": "work",
    "accounts": ["home", "work"],
    "free_in": ["work"],
    "event_type_ids": ["home:intro", "work:intro"],
    "event_type_id": "work:intro",
    "booking_id": "work:b1",
    "schedule_id": "work:default",
}
"""Every argument that says which account, as it names the one called `work`."""


def routing() -> list[tuple[str, str]]:
    """Each tool with each argument that says which account it is for."""
    return [
        (spec.name, name)
        for spec in TOOLS
        for name in spec.input_schema["properties"]
        if name in ("account", "accounts", "free_in") or re.fullmatch(r".*_ids?", name)
    ]


class House(Keyed):
    """Two accounts, one of them at a service behind a network that notes what it was asked."""

    def __init__(self, folder: Path, policy: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.world = World(Clock())
        settings = {"policies": {} if policy is None else {"it": policy}, **settings}
        network = httpx2.ASGITransport(toy.app(self.world))
        super().__init__(folder, ACCOUNTS, clock=self.world.clock, network=network, **settings)

    @asynccontextmanager
    async def caller(self, mode: str = "auto", name: str = "laptop", policy: str = "it") -> AsyncIterator[Agent]:
        async with self.agent(await self.key(name, policy), mode) as agent:
            yield agent

    async def journaled(self) -> int:
        async with self.gateway.storage.read() as connection:
            return int(await connection.scalar(select(func.count()).select_from(journal)) or 0)

    async def must_be_untouched(self) -> None:
        assert self.world.requests == []
        assert await self.journaled() == 0


async def listed(agent: Agent) -> set[str]:
    return {tool.name for tool in await agent.client.list_tools()}


# Tools


def test_every_tool_is_in_one_set_and_no_set_names_another() -> None:
    counted = Counter(str(tool) for name, tools in SETS.items() for tool in tools if name != ADMIN)
    assert counted == Counter(NAMES)
    assert SETS[ADMIN] == {ADMIN}


def test_every_tool_is_called_here() -> None:
    assert list(CALLS) == NAMES
    assert {argument for _, argument in routing()} == set(AT_WORK)


POLICIES = [
    *({"tools": [name]} for name in (*SETS, *NAMES)),
    {},
    {"tools": []},
    {"tools": ["read", "manage"]},
    {"tools": ["book", "find_slots"]},
    {"read_only": True},
    {"tools": list(SETS), "read_only": True},
    {"tools": ["book", "find_slots"], "read_only": True},
    {"tools": ["create_booking"], "read_only": True},
]


def allowed(policy: Mapping[str, Any]) -> set[str]:
    """As the documentation has it, in other words than the code."""
    named = policy.get("tools", ["read", "book", "manage"])
    may = {tool for name in named for tool in SETS.get(name, [name])} - {ADMIN}
    is_read = {spec.name for spec in TOOLS if spec.annotations.read_only_hint}
    return {str(tool) for tool in may if not policy.get("read_only") or tool in is_read}


@pytest.mark.parametrize("policy", POLICIES, ids=json.dumps)
async def test_what_is_not_allowed_is_neither_listed_nor_done(tmp_path: Path, policy: dict[str, Any]) -> None:
    may = allowed(policy)
    async with House(tmp_path, policy).open() as at:
        assert isinstance(at, House)
        for mode in ("auto", "legacy"):
            async with at.caller(mode, mode) as agent:
                assert await listed(agent) == may
                for tool in set(NAMES) - may:
                    with pytest.raises(PolicyDenied, match=f"You may not use {tool}: "):
                        await getattr(agent, tool)(**CALLS[tool])
                    with pytest.raises(PolicyDenied):
                        await getattr(agent, tool)(nonsense=1)
        await at.must_be_untouched()


@pytest.mark.parametrize("tool", NAMES)
async def test_what_is_allowed_alone_is_done(tmp_path: Path, tool: str) -> None:
    async with House(tmp_path, {"tools": [tool]}).open() as at, at.agent(await at.key("laptop", "it")) as agent:
        answer = await agent.client.call_tool(tool, dict(CALLS[tool]), raise_on_error=False)
        assert answer.structured_content is not None
        assert answer.structured_content.get("code") in (None, "not_found"), "what it is about is not there"


async def test_what_was_never_a_tool_is_not_said_to_be_forbidden(tmp_path: Path) -> None:
    async with House(tmp_path, {"tools": ["read"]}).open() as at, at.agent(await at.key("laptop", "it")) as agent:
        result = await agent.client.call_tool("drop_tables", {}, raise_on_error=False)
        assert result.is_error
        assert result.structured_content is None


@pytest.mark.parametrize("tools", [["raed"], ["Read"], ["list_account"], "read"])
def test_a_policy_that_names_no_tool_there_is_is_a_mistake(tools: Any) -> None:
    auth = {"type": "keys", "policies": {"it": {"tools": tools}}}
    config = {"accounts": {"home": LOCAL}, "server": {"auth": auth}}
    with pytest.raises(ConfigError, match=r"server\.auth\S*\.policies\.it\.tools"):
        parse_config(json.dumps(config), {}, folder=Path())


# Accounts


@pytest.mark.parametrize(("tool", "argument"), routing())
async def test_an_account_that_is_barred_is_refused_by_every_argument_that_can_name_it(
    tmp_path: Path, tool: str, argument: str
) -> None:
    call = {**CALLS[tool], argument: AT_WORK[argument]}
    async with House(tmp_path, {"accounts": ["home"]}).open() as at:
        assert isinstance(at, House)
        async with at.caller() as agent:
            with pytest.raises(PolicyDenied) as caught:
                await getattr(agent, tool)(**call)
        assert caught.value.account == "work"
        assert "The accounts are: home." in caught.value.message
        await at.must_be_untouched()


async def test_what_asks_all_accounts_asks_those_that_are_allowed_alone(tmp_path: Path) -> None:
    async with House(tmp_path, {"accounts": ["home"]}).open() as at:
        assert isinstance(at, House)
        async with at.caller() as agent:
            assert [each["account"] for each in (await agent.list_accounts())["accounts"]] == ["home"]
            answers = [
                await agent.list_event_types(),
                await agent.list_bookings(status="all"),
                await agent.list_schedules(),
                await agent.find_busy_times(**WINDOW),
            ]
            assert [each.get("unavailable", []) for each in answers] == [[]] * 4
            assert (await agent.save_event_type(title="Deep", duration_minutes=90))["account"] == "home", "there is one"
            with pytest.raises(SchedulingError, match=r"no such account. The accounts are: home\."):
                await agent.list_bookings(account="nowhere")
        assert at.world.requests == []


async def test_a_client_is_not_told_what_accounts_cannot_do_that_it_may_not_use(tmp_path: Path) -> None:
    async with House(tmp_path, {"accounts": ["home"]}).open() as at, at.agent(await at.key("laptop", "it")) as agent:
        for tool in await agent.client.list_tools():
            assert not re.search(r"\bwork\b.*\b(cannot|note)\b", tool.description or ""), tool.name
        async with at.agent(await at.key("all")) as other:
            said = "".join(tool.description or "" for tool in await other.client.list_tools())
        assert re.search(r"\bwork\b.*\b(cannot|note)\b", said)


async def test_who_may_use_no_account_is_told_so(tmp_path: Path) -> None:
    async with House(tmp_path, {"accounts": []}).open() as at, at.agent(await at.key("laptop", "it")) as agent:
        assert (await agent.list_accounts())["accounts"] == []
        with pytest.raises(PolicyDenied, match="The accounts are: none"):
            await agent.list_bookings(account="home")


# How many, and until when


async def test_bookings_of_a_caller_are_counted_over_all_accounts_by_hour_and_by_day(
    database: str, tmp_path: Path
) -> None:
    policy = {"bookings": {"hour": 2, "day": 3}}
    async with House(tmp_path, policy).open() as at:
        assert isinstance(at, House)
        async with at.caller() as agent, at.caller(name="other") as other:

            async def book(agent: Agent, account: str, number: int) -> Any:
                start = NINE + number * HALF_HOUR
                guest = {"attendee_name": "Ben", "attendee_email": f"guest-{number}@example.com"}
                return await agent.create_booking(event_type_id=f"{account}:intro", start=start.isoformat(), **guest)

            first = await book(agent, "home", 0)
            await book(agent, "work", 1)
            sent, rows = len(at.world.writes), await at.journaled()
            with pytest.raises(PolicyDenied, match="2 bookings for you in an hour") as caught:
                await book(agent, "work", 2)
            assert (len(at.world.writes), await at.journaled()) == (sent, rows)
            assert caught.value.retry_after
            assert (await book(agent, "home", 0))["id"] == first["id"], "the same once more is none more"
            await book(other, "home", 3)
            at.clock.advance(timedelta(seconds=caught.value.retry_after))
            await book(agent, "work", 2)
            at.clock.advance(timedelta(hours=2))
            with pytest.raises(PolicyDenied, match="3 bookings for you in a day"):
                await book(agent, "home", 5)


@on_sqlite
async def test_moves_of_a_caller_are_counted_too(database: str, tmp_path: Path) -> None:
    async with House(tmp_path, {"bookings": {"hour": 2, "day": 9}}).open() as at:
        assert isinstance(at, House)
        async with at.caller() as agent:
            booked = await agent.create_booking(event_type_id="home:intro", start=NINE.isoformat(), **GUEST)
            for number in (1, 2):
                start = (NINE + number * HALF_HOUR).isoformat()
                assert (await agent.reschedule_booking(booking_id=booked["id"], start=start))["start"] == start
            with pytest.raises(PolicyDenied, match="2 moves for you in an hour"):
                await agent.reschedule_booking(booking_id=booked["id"], start=(NINE + 3 * HALF_HOUR).isoformat())
            assert (await agent.get_booking(booking_id=booked["id"]))["start"] == start


async def test_bookings_at_once_in_several_accounts_do_not_get_past_the_count(database: str, tmp_path: Path) -> None:
    accounts = dict.fromkeys("abcdefgh", ACCOUNTS["home"])
    async with Keyed(tmp_path, accounts, {"it": {"bookings": {"hour": 1, "day": 9}}}).open() as at:
        for round in range(4):
            async with at.agent(await at.key(f"laptop-{round}", "it")) as agent:
                start = (NINE + round * HALF_HOUR).isoformat()
                calls = (agent.create_booking(event_type_id=f"{each}:intro", start=start, **GUEST) for each in accounts)
                made = await asyncio.gather(*calls, return_exceptions=True)
            denied = [each for each in made if isinstance(each, PolicyDenied)]
            booked = [each for each in made if isinstance(each, dict)]
            assert (len(booked) <= 1, len(denied) + len(booked)) == (True, len(accounts)), made


async def test_a_policy_ends(tmp_path: Path) -> None:
    end = BEGIN + timedelta(days=1)
    async with House(tmp_path, {"expires": end.isoformat()}).open() as at:
        assert isinstance(at, House)
        async with at.caller() as agent:
            at.clock.advance(timedelta(days=1, seconds=-1))
            assert await listed(agent)
            await agent.list_bookings(account="home")
            at.clock.advance(timedelta(seconds=1))
            assert await listed(agent) == set()
            for tool in NAMES:
                with pytest.raises(PolicyDenied, match="Your access has ended"):
                    await getattr(agent, tool)(**CALLS[tool])
        await at.must_be_untouched()


# For whom


@pytest.fixture
def identity() -> Iterator[IdentityProvider]:
    identity = IdentityProvider(Clock())
    with served(identity.app) as identity.issuer:
        yield identity


@asynccontextmanager
async def company(folder: Path, identity: IdentityProvider, policies: Mapping[str, Any]) -> AsyncIterator[House]:
    """A gateway that people of a company sign in to."""
    settings: dict[str, Any] = {"type": "oauth", "client_id": CLIENT, "client_secret": SECRET}
    house = House(folder, issuer=identity.issuer, policies=policies, **settings)
    identity.clock = house.clock
    async with house.open() as at:
        identity.redirect_uris += [f"{at.url}/auth/callback", f"{at.url}/signin/callback"]
        yield house


async def may_use(at: House, identity: IdentityProvider, person: Mapping[str, Any]) -> set[str]:
    """The tools that somebody has who signs in; the others answer that they are not theirs."""
    identity.person = dict(person)
    async with Program(at.url) as program:
        token = (await program.signs_in())["access_token"]
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        headers = {**JSON_RPC, "Authorization": f"Bearer {token}"}
        answer = await program.http.post(f"{at.url}/mcp", json=call, headers=headers)
        said = re.search(r"^data: (.*)$", answer.text, re.M)
        tools = {each["name"] for each in json.loads(said[1] if said else answer.text)["result"]["tools"]}
        for tool in set(NAMES) - tools:
            assert (await program.calls(token, tool, **CALLS[tool]))["code"] == "policy_denied"
    return tools


STAFF = {
    "boss": {"subjects": ["ana-1"], "tools": ["list_accounts"]},
    "named": {"subjects": ["ben@example.com"], "tools": ["list_event_types"]},
    "firm": {"subjects": ["*@example.com"], "tools": ["list_bookings"]},
    "group": {"groups": ["helpers", "guests"], "tools": ["list_schedules"]},
}
PROVEN = {"email_verified": True}
PEOPLE: list[tuple[dict[str, Any], str | None]] = [
    (ANA, "list_accounts"),
    ({"sub": "ana-1", "groups": ["guests"]}, "list_accounts"),
    ({"sub": "x", "email": "ben@example.com", **PROVEN}, "list_event_types"),
    ({"sub": "x", "email": "Ben@Example.COM", **PROVEN}, "list_event_types"),
    ({"sub": "x", "email": "carl@example.com", **PROVEN}, "list_bookings"),
    ({"sub": "x", "groups": ["others", "guests"]}, "list_schedules"),
    ({"sub": "x", "email": "ben@example.com", "email_verified": False}, None),
    ({"sub": "x", "email": "carl@example.com", "email_verified": False}, None),
    ({"sub": "x", "email": "carl@example.com", "email_verified": "true"}, "list_bookings"),
    ({"sub": "x", "email": "carl@example.com", "email_verified": "false"}, None),
    ({"sub": "x", "email": "carl@example.com"}, None),
    ({"sub": "x", "email": "carl@example.com.evil.test", **PROVEN}, None),
    ({"sub": "x", "email": "carl@evilexample.com", **PROVEN}, None),
    ({"sub": "x", "email": "carl@sub.example.com", **PROVEN}, None),
    ({"sub": "x", "email": "example.com", **PROVEN}, None),
    ({"sub": "x", "email": ["carl@example.com"], **PROVEN}, None),
    ({"sub": "x", "groups": "guests"}, "list_schedules"),
    ({"sub": "x", "groups": "guests, others"}, None),
    ({"sub": "x", "groups": [["guests"]]}, None),
    ({"sub": "x", "groups": ["Guests"]}, None),
    # What looks like an address is none: anybody may choose it, at some providers.
    ({"sub": "ben@example.com"}, None),
    ({"sub": "carl@example.com", **PROVEN}, None),
    ({"sub": "ANA-1"}, None),
    ({"sub": "*"}, None),
    ({"sub": "*@example.com"}, None),
]


async def test_the_first_policy_that_fits_somebody_who_signs_in_is_theirs(
    tmp_path: Path, identity: IdentityProvider
) -> None:
    async with company(tmp_path, identity, STAFF) as at:
        for person, tool in PEOPLE:
            assert await may_use(at, identity, person) == ({tool} if tool else set()), person
        assert at.world.requests == []


async def test_anyone_may_come_in_where_that_is_said(tmp_path: Path, identity: IdentityProvider) -> None:
    anyone = {"subjects": ["*"], "tools": ["get_booking"]}
    async with company(tmp_path, identity, {**STAFF, "anyone": anyone}) as at:
        assert await may_use(at, identity, ANA) == {"list_accounts"}
        assert await may_use(at, identity, {"sub": "somebody"}) == {"get_booking"}


async def test_a_policy_that_is_asked_for_by_name_alone_holds_for_nobody_who_signs_in(
    tmp_path: Path, identity: IdentityProvider
) -> None:
    async with company(tmp_path, identity, {"default": {"tools": ["read"]}, **STAFF}) as at:
        assert await may_use(at, identity, {"sub": "somebody"}) == set()
