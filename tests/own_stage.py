"""Two people behind one gateway, each with a key, a browser and an account of their own at two vendors.

Whatever is Anna's has `anna` in it, wherever it is to be seen: names, addresses, titles and ids; so has Bert's. The
network notes, of each request to a vendor, who was calling and whose token went with it.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import httpx2
from sqlalchemy import select
from starlette.types import ASGIApp

from gateway.callers import Caller, caller, kept_as
from providers.google_calendar.auth import SCOPES
from providers.storage.tables import audit, journal
from tests.agent import Agent
from tests.emulators import calendly_mcp, google
from tests.emulators.authorization import AuthorizationServer, Grant
from tests.emulators.wire import TOKEN
from tests.keyed import LOCAL, Keyed
from tests.sign_in_stage import Browser
from tests.world import HOST_EMAIL, KINDS, Clock, World

ID, SECRET = "own-client.apps.example", "s3cret-of-the-client"
CALENDLY = ("mcp:scheduling:write", "mcp:scheduling:read")
METADATA = {
    "authorization_servers": ["https://calendly.com/"],
    "scopes_supported": list(CALENDLY),
    "bearer_methods_supported": ["header"],
}
WORK = {"provider": "calendly", "via": "mcp", "auth": {"type": "oauth"}}
CAL = {
    "provider": "google_calendar",
    "auth": {"type": "google", "client_id": ID, "client_secret": SECRET},
    "event_types": [
        {"slug": "intro", "title": "Intro", "duration_minutes": 30},
        {"slug": "approval", "title": "On approval", "duration_minutes": 30, "requires_confirmation": True},
    ],
}
OWN = {"owner": "caller"}
LIMITS = {"per_minute": 100_000, "at_once": 1000}
WHO = "x-person"
"""A header of a person's browser that tells a vendor who signs in there, as its own cookie would."""


@dataclass
class OwnWorld(World):
    """One person's, whose ids have their name in them."""

    who: str = ""

    def book(self, kind: str, start: datetime, email: str, **details: Any) -> str:
        id = super().book(kind, start, email, **details)
        made, own = self.appointments.pop(id), f"{id}-{self.who}"
        self.appointments[own] = replace(made, event=own if made.event == id else made.event)
        return own


class Asked(NamedTuple):
    """A request to a vendor: who was calling, whose token it had, and where it went."""

    caller: str
    whose: str
    host: str


class Person:
    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.world = OwnWorld(clock, who=name)
        kinds = {"intro": KINDS["intro"], "review": KINDS["review"]}
        self.world.kinds = {f"{id}-{name}": replace(kind, title=f"{id} of {name}") for id, kind in kinds.items()}
        self.key = ""
        apps: dict[str, ASGIApp] = {"mcp.calendly.com": calendly_mcp.app(self.world, metadata=METADATA)}
        apps["www.googleapis.com"] = google.app(self.world)
        self.services = {host: httpx2.ASGITransport(app) for host, app in apps.items()}

    @property
    def caller(self) -> Caller:
        return Caller(f"key:{self.name}")

    def kept_as(self, account: str) -> str:
        return kept_as(account, self.caller.owner)

    def guest(self, number: int = 0) -> dict[str, str]:
        return {"attendee_name": f"Guest of {self.name}", "attendee_email": f"guest-{number}@{self.name}.example"}

    def emails(self) -> list[str]:
        """Of everybody who has a meeting, at either vendor."""
        events = google.calendars(self.world).events[HOST_EMAIL].values()
        invited = [each["email"] for event in events for each in event.get("attendees", ())]
        booked = [each.email for each in self.world.appointments.values()]
        return [*(each for each in invited if each != HOST_EMAIL), *booked]


class Vendors(httpx2.AsyncBaseTransport):
    """The network: both vendors, where whoever has a person's token finds that person's world."""

    def __init__(self, clock: Clock, people: list[Person]) -> None:
        self.people = {person.name: person for person in people}
        self.seen: list[Asked] = []
        self.dies_at_a_booking = False
        """Whether the next answer that says what was booked, and every one after it, is lost."""
        self._is_dead = False
        self._who: dict[str, str] = {}
        """Who consented, by the code that came of it."""
        paths = ("/o/oauth2/v2/auth", "/token", "/revoke")
        at_google: dict[str, Any] = {"clients": {ID: SECRET}, "registration": "none", "paths": paths, "offline": True}
        at_google |= {"methods": ("client_secret_post",), "scopes": SCOPES, "life": 3599, "rotates": False}
        self.calendly = AuthorizationServer(clock, "https://calendly.com", scopes=CALENDLY)
        self.google = AuthorizationServer(clock, "https://accounts.google.com", **at_google)
        self._consent: dict[str, ASGIApp] = {
            "calendly.com": self.calendly.app,
            "accounts.google.com": self.google.app,
            "oauth2.googleapis.com": self.google.app,
        }

    def grants(self, who: str) -> list[Grant]:
        """Everything that a person consented to, at either vendor."""
        codes = {**self.calendly.codes, **self.google.codes}
        return [code.brought for id, code in codes.items() if code.brought and self._who.get(id) == who]

    def revive(self) -> None:
        self.dies_at_a_booking = self._is_dead = False

    def secrets(self) -> list[str]:
        return [*self.calendly.tokens(), *self.google.tokens()]

    def _whose(self, token: str) -> str | None:
        if self.calendly.holder(token) is None and self.google.holder(token) is None:
            return None
        return next((who for who in self.people for grant in self.grants(who) if token in grant.access), None)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._is_dead:
            raise httpx2.ConnectError("the network is gone")
        if request.url.host in self._consent:
            answer = await httpx2.ASGITransport(self._consent[request.url.host]).handle_async_request(request)
            code = dict(parse_qsl(urlsplit(answer.headers.get("location", "")).query)).get("code")
            if code is not None:
                self._who[code] = request.headers[WHO]
            return answer
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        whose = self._whose(token)
        if whose is not None:
            self.seen.append(Asked(caller().name, whose, request.url.host))
        who = whose or next(iter(self.people))
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        if whose is not None:
            headers["authorization"] = f"Bearer {TOKEN}"
        body = _renamed(await request.aread(), f"{who}@example.com", HOST_EMAIL)
        asked = httpx2.Request(request.method, request.url, headers=headers, content=body)
        booked = len(self.people[who].emails())
        answer = await self.people[who].services[request.url.host].handle_async_request(asked)
        if self.dies_at_a_booking and len(self.people[who].emails()) > booked:
            self._is_dead = True
            raise httpx2.ReadError("the network is gone")
        told = _renamed(await answer.aread(), HOST_EMAIL, f"{who}@example.com")
        told = _renamed(told, '"Host"', f'"{who.title()}"')
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return httpx2.Response(answer.status_code, headers=headers, content=told, request=request)


def _renamed(body: bytes, old: str, new: str) -> bytes:
    return body.replace(old.encode(), new.encode())


class Shared(Keyed):
    """The gateway of both, with `work` and `cal`, which are each caller's own, and `home`, which is everybody's."""

    def __init__(self, folder: Path, policies: Any = None, **more: Any) -> None:
        clock = Clock()
        self.anna, self.bert = self.people = [Person(name, clock) for name in ("anna", "bert")]
        self.vendors = Vendors(clock, self.people)
        accounts = {"work": {**WORK, **OWN}, "cal": {**CAL, **OWN}, "home": LOCAL, **more}
        super().__init__(folder, accounts, policies, clock=clock, network=self.vendors, limits=LIMITS)

    async def keys(self, policy: str = "default") -> None:
        for person in self.people:
            person.key = await self.key(person.name, policy)

    @asynccontextmanager
    async def agents(self) -> AsyncIterator[tuple[Agent, Agent]]:
        async with self.agent(self.anna.key) as anna, self.agent(self.bert.key) as bert:
            yield anna, bert

    @asynccontextmanager
    async def browser(self, person: Person) -> AsyncIterator[Browser]:
        """Theirs: it reaches the gateway by its address, and the vendors by the network."""
        async with Browser() as browser:
            await browser.client.aclose()
            browser.client = httpx2.AsyncClient(mounts={"https://": self.vendors}, headers={WHO: person.name})
            yield browser

    async def link(self, agent: Agent, account: str) -> str:
        """Where that account is connected, as the list of accounts has it."""
        accounts = {each["account"]: each for each in (await agent.list_accounts())["accounts"]}
        assert accounts[account]["state"] == "needs_connection", accounts[account]
        url: str = accounts[account]["connect_url"]
        return url

    async def connects(self, person: Person, *accounts: str) -> None:
        """From the link through their signing in here and their consent there."""
        async with self.agent(person.key) as agent, self.browser(person) as browser:
            for account in accounts or ("work", "cal"):
                page = await self.opened(browser, await self.link(agent, account), person)
                assert (page.status_code, f"{account} is connected" in page.text) == (200, True), page.text

    async def accounts_page(self, browser: Browser, person: Person) -> httpx2.Response:
        page = await self.opened(browser, f"{self.url}/accounts", person)
        assert page.url.path == "/accounts"
        return page

    async def opened(self, browser: Browser, url: str, person: Person) -> httpx2.Response:
        """The page, after signing in where that is asked for."""
        page: Any = await browser.open(url)
        if page.url.path == "/signin":
            page = await browser.submit(page, key=person.key)
        shown: httpx2.Response = page
        return shown

    async def press(self, browser: Browser, page: httpx2.Response, path: str) -> httpx2.Response:
        """Send the form of a page to some path, as its button would or somebody who made that up."""
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        form = {"csrf": csrf[1] if csrf else ""}
        sent = await browser.client.post(f"{self.url}{path}", data=form, headers={"Origin": self.url})
        shown: Any = await browser.open(f"{self.url}{sent.headers['location']}") if sent.is_redirect else sent
        answer: httpx2.Response = shown
        return answer

    async def audited(self, tool: str) -> list[tuple[str, str]]:
        """Caller and account of each such line."""
        async with self.gateway.storage.read() as connection:
            lines = [json.loads(each) for each in await connection.scalars(select(audit.c.line))]
        return [(each["caller"], each["account"]) for each in lines if each["tool"] == tool]

    async def journaled(self) -> list[tuple[str, str, str, str]]:
        """Caller, account, tool and outcome of each write."""
        async with self.gateway.storage.read() as connection:
            rows = await connection.execute(select(journal).order_by(journal.c.created, journal.c.id))
            return [(row.caller, row.account, row.tool, row.outcome) for row in rows]


def holds(answer: Any, person: Person) -> bool:
    """Whether there is anything of a person's in it."""
    return person.name in json.dumps(answer).casefold()
