"""Google's sign-in, from the credentials file to a tool's answer: a person's consent and a service account."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.server import build_server
from providers.google_calendar.auth import GoogleAuth
from schemas import NotConnected, PermissionDenied
from tests.agent import Agent, connected
from tests.emulators.google import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Calendars, calendars
from tests.google_stage import GoogleStage
from tests.world import BEGIN, HOST_EMAIL, MONDAY, TEN

pytestmark = pytest.mark.anyio

CALENDAR = "https://www.googleapis.com/auth/calendar"
PERSON = {
    "type": "authorized_user",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "refresh_token": REFRESH_TOKEN,
}
WINDOW = {"start": MONDAY.isoformat(), "end": (MONDAY + timedelta(days=1)).isoformat()}
Make = Callable[..., Any]


def robot() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    token_uri = "https://oauth2.googleapis.com/token"
    email = "robot@project.iam.gserviceaccount.com"
    return {
        "type": "service_account",
        "client_email": email,
        "private_key": key.private_bytes(*form).decode(),
        "token_uri": token_uri,
    }


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def made(
            info: dict[str, str], *, busy: tuple[str, ...] = ("primary",), subject: str | None = None, **quirks: Any
        ) -> tuple[GoogleStage, Agent]:
            (tmp_path / "google.json").write_text(json.dumps(info))
            auth = {"type": "google", "credentials_file": tmp_path / "google.json", "subject": subject}

            class SignedIn(GoogleStage):
                settings = {**GoogleStage.settings, "auth": GoogleAuth.model_validate(auth), "busy_calendars": busy}

            stage = SignedIn("google_calendar", tmp_path, **quirks)
            stack.push_async_callback(stage.gateway.close)
            return stage, await stack.enter_async_context(connected(build_server(stage.gateway)))

        yield made


def kept(stage: GoogleStage) -> Calendars:
    return calendars(stage.world)


def asked(stage: GoogleStage) -> int:
    """How many times a token was asked for."""
    return sum(path == "/token" for _, path in stage.world.requests)


def booking(stage: GoogleStage) -> dict[str, Any]:
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    return {"event_type_id": stage.intro, "start": TEN.isoformat(), **guest}


async def test_a_person_books_and_the_token_is_renewed_before_it_ends(make: Make) -> None:
    stage, agent = await make(PERSON)
    assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
    assert asked(stage) == 1
    stage.clock.advance(timedelta(minutes=59, seconds=30))
    assert len((await agent.list_bookings())["bookings"]) == 1
    assert asked(stage) == 2


@pytest.mark.parametrize("tool", ["list_accounts", "find_slots", "create_booking"])
async def test_a_consent_that_was_withdrawn_is_not_connected_and_says_what_to_do(make: Make, tool: str) -> None:
    stage, agent = await make(PERSON)
    kept(stage).refresh_tokens.clear()
    if tool == "list_accounts":
        [account] = (await agent.list_accounts())["accounts"]
        assert account["state"] == "needs_connection"
        told = account["detail"]
    else:
        arguments = booking(stage) if tool == "create_booking" else {"event_type_ids": [stage.intro], **WINDOW}
        with pytest.raises(NotConnected) as caught:
            await getattr(agent, tool)(**arguments)
        told = caught.value.message
    assert "7 days" in told
    assert not any(secret in told for secret in (CLIENT_SECRET, REFRESH_TOKEN, "ya29"))
    assert kept(stage).events[HOST_EMAIL] == {}


async def test_a_token_that_is_taken_away_early_is_renewed_once(make: Make) -> None:
    stage, agent = await make(PERSON)
    await agent.list_bookings()
    kept(stage).grants.clear()
    await agent.list_bookings()
    assert asked(stage) == 2


async def test_what_was_not_granted_is_named_before_and_when_it_is_needed(make: Make) -> None:
    busy = ("primary", "team@example.com")
    stage, agent = await make(PERSON, busy=busy)
    kept(stage).refresh_tokens[REFRESH_TOKEN] = frozenset({f"{CALENDAR}.events", f"{CALENDAR}.calendars.readonly"})
    [account] = (await agent.list_accounts())["accounts"]
    lacks = f"{CALENDAR}.events.freebusy"
    assert account["state"] == "ready"
    assert account["notes"]["list_accounts"].startswith(f"the sign-in lacks {lacks}; what needs that is refused.")
    with pytest.raises(PermissionDenied, match=f"missing: {lacks}"):
        await agent.find_slots(event_type_ids=[stage.intro], **WINDOW)


@pytest.mark.parametrize("subject", [None, HOST_EMAIL])
async def test_a_service_account_invites_guests_for_a_person_only(make: Make, subject: str | None) -> None:
    stage, agent = await make(robot(), subject=subject)
    stage.clock.advance(datetime.now(UTC) - BEGIN)  # a signed request bears google-auth's own time
    [account] = (await agent.list_accounts())["accounts"]
    assert account["state"] == "ready"
    if subject:
        assert "create_booking" not in account["notes"]
        assert (await agent.create_booking(**booking(stage)))["status"] == "confirmed"
        return
    assert "subject" in account["notes"]["create_booking"]
    with pytest.raises(PermissionDenied, match="delegation"):
        await agent.create_booking(**booking(stage))
    assert {each["status"] for each in kept(stage).events[HOST_EMAIL].values()} == {"cancelled"}
    assert kept(stage).notices == []


async def test_a_delegation_that_was_not_allowed_says_who_has_to_allow_it(make: Make) -> None:
    stage, agent = await make(robot(), subject=HOST_EMAIL, service_account=True)
    stage.clock.advance(datetime.now(UTC) - BEGIN)
    with pytest.raises(NotConnected, match="administrator of the domain"):
        await agent.list_bookings()


async def test_hours_say_where_they_come_from(make: Make) -> None:
    _, agent = await make(PERSON, workspace=False)
    [account] = (await agent.list_accounts())["accounts"]
    assert account["notes"]["find_slots"].startswith("Monday to Friday 9 to 17 only, as no working hours are set")
