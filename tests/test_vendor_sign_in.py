"""Vendors at which the operator registers a client: from the link through the vendor's consent to a booked meeting."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from providers.calcom.client import SCOPES as CALCOM_SCOPES
from providers.google_calendar.auth import EVENTS, SCOPES
from schemas import NotConnected, PermissionDenied
from tests.emulators import calcom, calendly, google, google_mcp
from tests.emulators.authorization import AuthorizationServer, hosts
from tests.emulators.google import calendars
from tests.emulators.google_events import Grant
from tests.emulators.wire import TOKEN
from tests.test_connecting import BEN, WINDOW, Office, link
from tests.world import HOST_EMAIL, World

pytestmark = pytest.mark.anyio

ID, SECRET = "own-client.apps.example", "s3cret-of-the-client"
OWN = {"client_id": ID, "client_secret": SECRET}
HOURS = {"monday": ["09:00-17:00"]}
INTRO = {"slug": "intro", "title": "Intro", "duration_minutes": 30}


def by_token(app: ASGIApp, consent: AuthorizationServer, world: World | None = None) -> ASGIApp:
    """An API that lets in whoever has a token of that server; with `world`, as far as Google's scopes go."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        sent = dict(scope["headers"]).get(b"authorization", b"").decode()
        token = sent.removeprefix("Bearer ")
        scopes = consent.holder(token)
        if world is not None:
            ends = world.clock.now() + timedelta(hours=1 if scopes is not None else -1)
            calendars(world).grants[token] = Grant(frozenset(scopes or ()), ends)
        elif scopes is not None:
            others = [each for each in scope["headers"] if each[0] != b"authorization"]
            scope = {**scope, "headers": [*others, (b"authorization", f"Bearer {TOKEN}".encode())]}
        await app(scope, receive, send)

    return checked


def split(parts: Mapping[str, ASGIApp], rest: ASGIApp) -> ASGIApp:
    """One host, with something else at some paths."""

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        await parts.get(scope["path"], rest)(scope, receive, send)

    return chosen


class Desk(Office):
    """A gateway with one account `work` at a vendor, and a client that was registered there by hand."""

    def __init__(self, folder: Path, vendor: str, **quirks: Any) -> None:
        super().__init__(folder)
        apps, account = getattr(self, f"_{vendor}")(quirks)
        self.network = httpx2.ASGITransport(hosts(apps))
        self.restarted(self.configured(folder, work=account))

    def _consent(self, issuer: str, quirks: dict[str, Any], **more: Any) -> AuthorizationServer:
        self.consent = AuthorizationServer(
            self.clock, issuer, clients={ID: SECRET}, registration="none", **{**more, **quirks}
        )
        return self.consent

    def _google_server(self, quirks: dict[str, Any]) -> AuthorizationServer:
        """https://developers.google.com/identity/protocols/oauth2/web-server"""
        return self._consent(
            "https://accounts.google.com",
            quirks,
            paths=("/o/oauth2/v2/auth", "/token", "/revoke"),
            methods=("client_secret_post",),
            scopes=SCOPES,
            life=3599,
            rotates=False,
            offline=True,
        )

    def _google(self, quirks: dict[str, Any]) -> tuple[dict[str, ASGIApp], dict[str, Any]]:
        consent = self._google_server(quirks)
        api = by_token(google.app(self.world), consent, self.world)
        apps = {"accounts.google.com": consent.app, "oauth2.googleapis.com": consent.app, "www.googleapis.com": api}
        return apps, {"provider": "google_calendar", "auth": {"type": "google", **OWN}, "event_types": [INTRO]}

    def _google_mcp(self, quirks: dict[str, Any]) -> tuple[dict[str, ASGIApp], dict[str, Any]]:
        consent = self._google_server(quirks)
        tools = google_mcp.app(self.world, let_in=lambda token: EVENTS in (consent.holder(token) or ()))
        apps = {"accounts.google.com": consent.app, "oauth2.googleapis.com": consent.app}
        account = {"provider": "google_calendar", "via": "mcp", "auth": {"type": "google", **OWN}}
        return {**apps, "calendarmcp.googleapis.com": tools}, {**account, "event_types": [INTRO]}

    def _calendly(self, quirks: dict[str, Any]) -> tuple[dict[str, ASGIApp], dict[str, Any]]:
        """https://developer.calendly.com/how-to-access-calendly-data-on-behalf-of-authenticated-users"""
        consent = self._consent("https://auth.calendly.com", quirks, methods=("client_secret_basic",))
        api = by_token(calendly.app(self.world), consent)
        apps = {"auth.calendly.com": consent.app, "api.calendly.com": api}
        return apps, {"provider": "calendly", "auth": {"type": "oauth", **OWN}}

    def _calcom(self, quirks: dict[str, Any]) -> tuple[dict[str, ASGIApp], dict[str, Any]]:
        """https://cal.com/docs/api-reference/v2/oauth"""
        paths = ("/auth/oauth2/authorize", "/v2/auth/oauth2/token", "/none")
        secret = {"methods": ("client_secret_post",), "pkce_with_secret": False, "revocation": False}
        consent = self._consent("https://app.cal.com", quirks, paths=paths, scopes=CALCOM_SCOPES, **secret)
        api = split({paths[1]: consent.app}, by_token(calcom.app(self.world), consent))
        apps = {"app.cal.com": consent.app, "api.cal.com": api}
        return apps, {"provider": "calcom", "auth": {"type": "oauth", **OWN}}

    def booked(self) -> list[str]:
        """The mail addresses of those who have a meeting."""
        events = calendars(self.world).events[HOST_EMAIL].values()
        guests = [each["email"] for event in events for each in event.get("attendees", ())]
        return [each for each in guests if each != HOST_EMAIL] or [
            each.email for each in self.world.appointments.values()
        ]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def made(vendor: str, **quirks: Any) -> Desk:
            desk = Desk(tmp_path, vendor, **quirks)
            await stack.enter_async_context(desk.open())
            return desk

        yield made


VENDORS = ("google", "google_mcp", "calendly", "calcom")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_from_the_link_to_a_booked_meeting_and_on_after_a_restart(make: Any, vendor: str) -> None:
    desk = await make(vendor)
    async with desk.agent() as agent:
        page = await desk.visit(await link(agent))
        assert (page.status_code, "signed in as" in page.text) == (200, True), page.text
        [event_type, *_] = (await agent.list_event_types(account="work"))["event_types"]
        [slot, *_] = (await agent.find_slots(event_type_ids=[event_type["id"]], **WINDOW))["slots"]
        booked = await agent.create_booking(event_type_id=event_type["id"], start=slot["start"], **BEN)
        accounts = (await agent.list_accounts())["accounts"]
    assert (booked["status"], desk.booked()) == ("confirmed", ["ben@example.com"])
    assert accounts[0]["state"] == "ready"
    assert desk.world.violations == []
    await desk.gateway.close()
    for _ in range(2):
        desk.clock.advance(timedelta(days=1))
        desk.restarted()
        async with desk.open(), desk.agent() as agent:
            assert (await agent.list_bookings(account="work", status="all"))["bookings"]
    sent = [form["refresh_token"] for form in desk.consent.sent("refresh_token")]
    assert len(sent) == 2
    assert len(set(sent)) == (1 if "google" in vendor else 2)


async def test_google_is_asked_for_what_lasts_and_for_no_scope_too_many(make: Any) -> None:
    for vendor, scopes in (("google", SCOPES), ("google_mcp", (EVENTS,))):
        desk = await make(vendor)
        async with desk.agent() as agent:
            await desk.visit(await link(agent))
        [asked] = desk.consent.authorized
        assert asked["scope"].split() == list(scopes)
        assert (asked["access_type"], asked["prompt"]) == ("offline", "consent")
        assert "resource" not in asked
        assert SECRET not in str(asked)
        await desk.gateway.connecting.client("work").disconnect()
        assert all(grant.revoked for grant in desk.consent.grants)


async def test_a_scope_that_a_person_left_out_is_named_and_asked_for_again(make: Any) -> None:
    lacking = SCOPES[1]
    desk = await make("google", unticks=[lacking])
    account: dict[str, Any] = {"provider": "google_calendar", "auth": {"type": "google", **OWN}, "event_types": [INTRO]}
    account["busy_calendars"] = ["primary", google.TEAM]
    await desk.gateway.close()
    desk.restarted(desk.configured(desk.key_file.parent, work=account))
    async with desk.open(), desk.agent() as agent:
        await desk.visit(await link(agent))
        [work, _] = (await agent.list_accounts())["accounts"]
        assert work["notes"]["list_accounts"].startswith(f"the sign-in lacks {lacking};")
        with pytest.raises(PermissionDenied, match=f"lacks {re.escape(lacking)}, .*gateway connect work`") as caught:
            await agent.find_slots(event_type_ids=["work:intro"], **WINDOW)
        details = caught.value.details
        assert details is not None
        assert details["missing_scopes"] == [lacking]
        desk.consent.unticks = ()
        assert (await desk.visit(details["connect_url"])).status_code == 200
        assert desk.consent.authorized[-1]["scope"].split() == list(SCOPES)
        assert (await agent.find_slots(event_type_ids=["work:intro"], **WINDOW))["slots"]
        [work, _] = (await agent.list_accounts())["accounts"]
        assert "lacks" not in work["notes"].get("list_accounts", "")


async def test_a_person_who_left_out_everything_is_told_on_the_page(make: Any) -> None:
    desk = await make("google", unticks=SCOPES)
    async with desk.agent() as agent:
        page = await desk.visit(await link(agent))
        [work, _] = (await agent.list_accounts())["accounts"]
    assert SCOPES[2] in page.text
    assert (work["state"], SCOPES[2] in work["detail"]) == ("failing", True)
    desk.consent.unticks = ()
    assert "signed in as" in (await desk.visit(work["connect_url"])).text


async def test_nobody_is_asked_in_the_middle_of_a_call_for_a_scope_that_was_left_out(make: Any) -> None:
    """They may have left it out on purpose."""

    async def never(*_: Any) -> Any:
        raise AssertionError

    desk = await make("google", unticks=SCOPES)
    async with desk.agent() as agent:
        await desk.visit(await link(agent))
    async with desk.agent(elicitation_handler=never) as agent:
        with pytest.raises(PermissionDenied):
            await agent.list_bookings(account="work")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_consent_that_has_ended_says_what_to_do(make: Any, vendor: str) -> None:
    desk = await make(vendor)
    async with desk.agent() as agent:
        await desk.visit(await link(agent))
        desk.consent.withdraw()
        with pytest.raises(NotConnected, match="scheduling-gateway connect work`") as caught:
            await agent.list_bookings(account="work")
        assert ("7 days" in caught.value.message) == ("google" in vendor)
        assert SECRET not in caught.value.message
        assert caught.value.details is not None
        assert (await desk.visit(caught.value.details["connect_url"])).status_code == 200
        await agent.list_bookings(account="work")
