"""Google's own Python client drives the emulator: what an independent client understands is Google's language."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from tests.emulators import google
from tests.emulators.wire import TOKEN
from tests.loopback import served
from tests.world import BEGIN, NINE, TEN, Clock, World


@pytest.fixture
def world() -> World:
    return World(Clock())


@pytest.fixture
def service(world: World) -> Iterator[Any]:
    """The client, at an emulator on a loopback port."""
    with served(google.app(world)) as url:
        credentials = Credentials(TOKEN)  # type: ignore[no-untyped-call]  # google-auth has no types
        options = {"api_endpoint": f"{url}/calendar/v3/"}
        with build("calendar", "v3", credentials=credentials, client_options=options) as client:
            yield client


def event(**more: Any) -> dict[str, Any]:
    return {
        "summary": "Intro call",
        "start": {"dateTime": TEN.isoformat()},
        "end": {"dateTime": TEN.replace(minute=30).isoformat()},
        "attendees": [{"email": "ana@example.com"}],
        **more,
    }


def test_an_event_is_made_found_changed_and_cancelled(service: Any, world: World) -> None:
    events = service.events()
    made = events.insert(calendarId="primary", body=event(id="abcde12345"), sendUpdates="all").execute()
    assert (made["id"], made["status"], made["organizer"]["self"]) == ("abcde12345", "confirmed", True)
    window = {"timeMin": NINE.isoformat(), "timeMax": TEN.replace(hour=12).isoformat()}
    found = events.list(calendarId="primary", singleEvents=True, orderBy="startTime", **window).execute()
    assert [each["id"] for each in found["items"]] == ["abcde12345"]
    moved = {"start": {"dateTime": NINE.isoformat()}, "end": {"dateTime": NINE.replace(minute=30).isoformat()}}
    request = events.patch(calendarId="primary", eventId=made["id"], body=moved, sendUpdates="all")
    request.headers["If-Match"] = made["etag"]
    assert request.execute()["start"]["dateTime"].startswith("2030-01-07T09:00:00")
    request.headers["If-Match"] = made["etag"]  # of before the move
    with pytest.raises(HttpError) as stale:
        request.execute()
    assert stale.value.status_code == 412
    events.delete(calendarId="primary", eventId=made["id"], sendUpdates="all").execute()
    assert events.get(calendarId="primary", eventId=made["id"]).execute()["status"] == "cancelled"
    assert [kind for _, kind, _ in google.calendars(world).notices] == ["invited", "updated", "cancelled"]
    assert world.violations == []


def test_an_id_serves_once(service: Any) -> None:
    service.events().insert(calendarId="primary", body=event(id="abcde12345")).execute()
    with pytest.raises(HttpError) as taken:
        service.events().insert(calendarId="primary", body=event(id="abcde12345")).execute()
    assert (taken.value.status_code, taken.value.error_details[0]["reason"]) == (409, "duplicate")


def test_busy_times_of_a_calendar_that_is_not_there_are_an_error_and_not_free(service: Any) -> None:
    service.events().insert(calendarId="primary", body=event()).execute()
    asked = {
        "timeMin": BEGIN.isoformat(),
        "timeMax": TEN.replace(hour=12).isoformat(),
        "items": [{"id": "primary"}, {"id": "nobody@example.com"}],
    }
    found = service.freebusy().query(body=asked).execute()["calendars"]
    assert len(found["primary"]["busy"]) == 1
    assert [each["reason"] for each in found["nobody@example.com"]["errors"]] == ["notFound"]


def test_pages_are_followed_to_their_end(service: Any) -> None:
    for hour in range(9, 14):
        times = {
            name: {"dateTime": TEN.replace(hour=hour + plus).isoformat()} for name, plus in (("start", 0), ("end", 1))
        }
        service.events().insert(calendarId="primary", body=event(**times)).execute()
    found: list[Any] = []
    request = service.events().list(calendarId="primary", maxResults=2)
    while request is not None:
        page = request.execute()
        found += page["items"]
        request = service.events().list_next(request, page)
    assert len({each["id"] for each in found}) == 5
