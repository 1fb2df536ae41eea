"""What Google's emulated MCP server has of its own, and not in common with others (test_mcp_emulators.py)."""

import json
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from fastmcp import Client

from tests import mcp_servers
from tests.emulators import google_mcp
from tests.emulators.google import READONLY, SCOPES, TEAM
from tests.mcp_servers import MODES, URLS, Json, connected, text
from tests.world import ELEVEN, HOST_EMAIL, MONDAY, NINE, TEN, World

pytestmark = pytest.mark.anyio
world = mcp_servers.world


def google(world: World, mode: str = "auto", **quirks: Any) -> AbstractAsyncContextManager[Client[Any]]:
    return connected(google_mcp.app(world, **quirks), URLS[google_mcp], mode)


async def told(client: Client[Any], name: str, **arguments: Any) -> Any:
    """What a tool answers, held to its output schema by the client."""
    result = await client.call_tool(name, arguments)
    return result.structured_content


INTRO = {"summary": "Intro", "startTime": "2030-01-07T10:00:00+01:00", "endTime": "2030-01-07T10:30:00+01:00"}


@pytest.mark.parametrize("mode", MODES)
async def test_google_makes_changes_and_deletes_events(world: World, mode: str) -> None:
    async with google(world, mode) as client:
        made = await told(
            client,
            "create_event",
            **INTRO,
            description="<b>hello</b>",
            attendees=[{"email": "ana@example.com", "displayName": "Ana"}],
            availability="AVAILABILITY_FREE",
            visibility="private",
            addGoogleMeetUrl=True,
            overrideReminders=[{"method": "popup", "minutes": 5}],
            guestPermissions={"guestsCanSeeGuests": False},
        )
        read = await told(client, "get_event", eventId=made["id"])
        moved = await told(client, "update_event", eventId=made["id"], startTime="2030-01-07T14:00:00+01:00")
        met = await told(client, "update_event", eventId=made["id"], addGoogleMeetUrl=True)
        gone = await told(client, "delete_event", eventId=made["id"], notificationLevel="NONE")

    assert (read, met) == (made, moved)
    assert made["start"] == {"dateTime": "2030-01-07T10:00:00+01:00", "timeZone": "Europe/Berlin"}
    host = {"email": HOST_EMAIL, "self": True}
    assert (made["organizer"], made["creator"]) == (host, host)
    assert made["attendees"] == [
        host | {"organizer": True, "responseStatus": "accepted"},
        {"email": "ana@example.com", "displayName": "Ana", "responseStatus": "needsAction"},
    ]
    assert (made["availability"], made["transparency"]) == ("AVAILABILITY_FREE", "transparent")
    assert (made["visibility"], made["eventType"], made["status"]) == ("private", "DEFAULT", "confirmed")
    assert made["conferenceUrl"].startswith("https://meet.google.com/")
    assert made["overrideReminders"] == [{"method": "popup", "minutes": 5}]
    assert made["guestPermissions"] == {"guestsCanSeeGuests": False}
    assert not {"etag", "iCalUID", "extendedProperties", "hangoutLink", "reminders", "sequence"} & set(made)
    assert (moved["start"]["dateTime"], moved["end"]["dateTime"]) == (
        "2030-01-07T14:00:00+01:00",
        "2030-01-07T14:30:00+01:00",
    )
    assert gone == moved | {"status": "cancelled", "updated": gone["updated"]}
    kept = google_mcp.calendars(world)
    assert [(each.kind, each.addresses) for each in kept.notices] == [
        ("invited", ("ana@example.com",)),
        ("updated", ("ana@example.com",)),
    ]
    assert [method for method, _ in world.requests] == ["POST", "GET", "PATCH", "PATCH", "DELETE"]
    assert world.violations == []


@pytest.mark.parametrize(
    ("start", "zone", "expected"),
    [
        ("2030-01-07T10:00:00", None, {"dateTime": "2030-01-07T10:00:00+01:00", "timeZone": "Europe/Berlin"}),
        ("2030-01-07T09:00:00Z", None, {"dateTime": "2030-01-07T10:00:00+01:00", "timeZone": "Europe/Berlin"}),
        # A zone overrides the offset
        (
            "2030-01-07T10:00:00+01:00",
            "America/New_York",
            {"dateTime": "2030-01-07T16:00:00+01:00", "timeZone": "America/New_York"},
        ),
    ],
)
async def test_google_reads_times_by_zone_or_offset(world: World, start: str, zone: str | None, expected: Json) -> None:
    when = {"startTime": start, "endTime": start.replace("T10:00", "T11:00").replace("T09:00", "T10:00")}

    async with google(world) as client:
        made = await told(client, "create_event", summary="Intro", **when, **({"timeZone": zone} if zone else {}))

    assert made["start"] == expected
    assert "attendees" not in made


async def test_google_shows_days_as_midnight_utc(world: World) -> None:
    day = {"startTime": "2030-01-07T00:00:00Z", "endTime": "2030-01-08T00:00:00Z", "allDay": True}

    async with google(world) as client:
        made = await told(client, "create_event", summary="Off", **day)
        moved = await told(client, "update_event", eventId=made["id"], startTime="2030-01-09T00:00:00Z")
        timed = await told(
            client,
            "update_event",
            eventId=made["id"],
            allDay=False,
            startTime="2030-01-09T09:00:00+01:00",
            endTime="2030-01-09T10:00:00+01:00",
        )
        again = await told(client, "update_event", eventId=made["id"], **day)
        half = await client.call_tool_mcp("update_event", {"eventId": made["id"], "allDay": False})

    assert (made["start"], made["end"]) == ({"date": "2030-01-07T00:00:00Z"}, {"date": "2030-01-08T00:00:00Z"})
    assert (moved["start"], moved["end"]) == ({"date": "2030-01-09T00:00:00Z"}, {"date": "2030-01-10T00:00:00Z"})
    assert timed["start"] == {"dateTime": "2030-01-09T09:00:00+01:00", "timeZone": "Europe/Berlin"}
    assert (again["start"], again["end"]) == (made["start"], made["end"])
    assert half.is_error
    assert world.violations == []


async def test_google_adds_and_removes_guests(world: World) -> None:
    guests = {"attendees": [{"email": "ana@example.com"}], "attendeeEmails": ["bob@example.com"]}

    async with google(world) as client:
        made = await told(client, "create_event", **INTRO, **guests, notificationLevel="NONE")
        changed = await told(
            client,
            "update_event",
            eventId=made["id"],
            addedAttendees=[{"email": "zoe@example.com"}, {"email": "ana@example.com"}],
            addedAttendeeEmails=["tom@example.org"],
            removedAttendeeEmails=["BOB@example.com"],
            notificationLevel="EXTERNAL_ONLY",
        )
        untouched = await told(client, "update_event", eventId=made["id"], summary="Other")

    emails = [each["email"] for each in changed["attendees"]]
    assert emails == [HOST_EMAIL, "ana@example.com", "zoe@example.com", "tom@example.org"]
    assert untouched["attendees"] == changed["attendees"]
    mailed = [(each.kind, each.addresses) for each in google_mcp.calendars(world).notices]
    assert ("invited", ("tom@example.org",)) in mailed


@pytest.mark.parametrize(("silent", "mails"), [(False, 1), (True, 0)])
async def test_google_mails_by_a_default_that_differs(world: World, silent: bool, mails: int) -> None:
    async with google(world, silent=silent) as client:
        await told(client, "create_event", **INTRO, attendees=[{"email": "ana@example.com"}])

    assert len(google_mcp.calendars(world).notices) == mails


async def test_google_lists_events_page_by_page(world: World) -> None:
    kept = google_mcp.calendars(world)
    for hour in (11, 9, 10):
        at = MONDAY + timedelta(hours=hour)
        end = at + timedelta(minutes=30)
        times = {"start": {"dateTime": at.isoformat()}, "end": {"dateTime": end.isoformat()}}
        kept.insert("primary", {"summary": f"At {hour}", "location": "Room", **times})
    later = MONDAY + timedelta(days=20, hours=9)
    times = {"start": {"dateTime": later.isoformat()}, "end": {"dateTime": (later + timedelta(hours=1)).isoformat()}}
    kept.insert("primary", {"summary": "Later", **times})

    async def names(client: Client[Any], **query: Any) -> list[str]:
        found: list[str] = []
        while True:
            page = await told(client, "list_events", pageSize=2, **query)
            found += [each["summary"] for each in page["events"]]
            if "nextPageToken" not in page:
                return found
            query["pageToken"] = page["nextPageToken"]

    async with google(world) as client:
        assert await names(client, orderBy="startTime") == ["At 9", "At 10", "At 11"]
        assert await names(client, orderBy="startTimeDesc") == ["At 11", "At 10", "At 9"]
        assert await names(client) == ["At 11", "At 9", "At 10"]
        assert await names(client, fullText="room 10") == ["At 10"]
        assert await names(client, startTime="2030-01-27T09:00:00", endTime="2030-01-27T10:00:00") == ["Later"]
        assert await names(client, eventType=["FOCUS_TIME"]) == []
        page = await told(client, "list_events")
        found = await told(client, "search_events", query="later")
    async with google(world, unbounded=True) as client:
        assert len(await names(client)) == 4

    assert (page["timeZone"], page["accessRole"], page["summary"]) == ("Europe/Berlin", "owner", HOST_EMAIL)
    assert set(found) == {"events"}
    assert [each["summary"] for each in found["events"]] == ["Later"]
    assert world.violations == []


async def test_google_lists_the_instances_of_a_series(world: World) -> None:
    async with google(world) as client:
        rule = {"recurrenceData": ["RRULE:FREQ=DAILY;COUNT=3"]}
        made = await told(client, "create_event", **INTRO, **rule)
        listed = await told(client, "list_events")

    assert made["recurrence"] == rule["recurrenceData"]
    assert [each["recurringEventId"] for each in listed["events"]] == [made["id"]] * 3
    assert listed["events"][1]["originalStartTime"]["dateTime"] == "2030-01-08T10:00:00+01:00"


async def test_google_lists_calendars_and_keeps_apart_what_they_allow(world: World) -> None:
    async with google(world) as client:
        first = await told(client, "list_calendars", pageSize=1)
        rest = await told(client, "list_calendars", pageToken=first["nextPageToken"])
        made = await told(client, "create_event", **INTRO, calendarId=TEAM, attendees=[{"email": "ana@example.com"}])
        refused = await client.call_tool_mcp("create_event", INTRO | {"calendarId": READONLY})
        missing = await client.call_tool_mcp("get_event", {"eventId": made["id"]})
        nowhere = await client.call_tool_mcp("update_event", {"eventId": made["id"], "calendarId": "x@example.com"})

    assert first["calendars"] == [{"id": HOST_EMAIL, "summary": HOST_EMAIL, "timeZone": "Europe/Berlin"}]
    assert [each["id"] for each in rest["calendars"]] == [TEAM, READONLY]
    assert [each["email"] for each in made["attendees"]] == ["ana@example.com"]
    codes = [json.loads(text(each))["error"]["code"] for each in (refused, missing, nowhere)]
    assert codes == [403, 404, 404]


async def test_google_answers_invitations(world: World) -> None:
    theirs = {
        "summary": "Theirs",
        "start": {"dateTime": NINE.isoformat()},
        "end": {"dateTime": TEN.isoformat()},
        "attendees": [{"email": HOST_EMAIL}, {"email": "ana@example.com"}],
    }
    id = google_mcp.calendars(world).insert("primary", theirs)["id"]

    async with google(world) as client:
        said = await told(client, "respond_to_event", eventId=id, responseStatus="declined", responseComment="ill")
        never = await client.call_tool_mcp("respond_to_event", {"eventId": id, "responseStatus": "needsAction"})
        alone = await told(client, "create_event", **INTRO)
        uninvited = await client.call_tool_mcp(
            "respond_to_event", {"eventId": alone["id"], "responseStatus": "accepted"}
        )
        missing = await client.call_tool_mcp("respond_to_event", {"eventId": "nope0", "responseStatus": "accepted"})

    assert [(each["responseStatus"], each.get("comment")) for each in said["attendees"]] == [
        ("declined", "ill"),
        ("needsAction", None),
    ]
    assert (never.is_error, uninvited.is_error) == (True, True)
    assert json.loads(text(missing))["error"]["code"] == 404


async def test_google_suggests_what_is_free(world: World) -> None:
    world.elsewhere += [(NINE, TEN), (TEN + timedelta(minutes=20), ELEVEN)]
    window = {"startTime": "2030-01-07T08:00:00", "endTime": "2030-01-08T12:00:00", "timeZone": "Europe/Berlin"}
    hours = {"startHour": "09:30", "endHour": "12:00"}

    async with google(world) as client:
        whole = await told(client, "suggest_time", attendeeEmails=["primary"], **window)
        asked = {"attendeeEmails": ["primary"], "preferences": hours, "durationMinutes": 45}
        some = await told(client, "suggest_time", **asked, **window)
        one = await told(client, "suggest_time", **asked | {"preferences": hours | {"pageSize": 1}}, **window)
        unreadable = await client.call_tool_mcp("suggest_time", {"attendeeEmails": ["x@example.com"], **window})
        weekend = {"startTime": "2030-01-12T08:00:00Z", "endTime": "2030-01-13T20:00:00Z"}
        none = await told(
            client, "suggest_time", attendeeEmails=[HOST_EMAIL], preferences={"excludeWeekends": True}, **weekend
        )
        utc = await told(client, "suggest_time", attendeeEmails=[HOST_EMAIL, TEAM], **weekend)

    spans = [(each["startTime"], each["endTime"], each["durationMinutes"]) for each in whole["timeSlots"]]
    assert spans == [
        ("2030-01-07T08:00:00+01:00", "2030-01-07T09:00:00+01:00", 60),
        ("2030-01-07T11:00:00+01:00", "2030-01-08T12:00:00+01:00", 25 * 60),
    ]
    begins = [each["start"]["dateTime"] for each in some["timeSlots"]]
    assert begins == ["2030-01-07T11:00:00+01:00", "2030-01-08T09:30:00+01:00"]
    assert one["timeSlots"] == some["timeSlots"][:1]
    assert unreadable.is_error
    assert none["timeSlots"] == []
    assert utc["timeSlots"][0]["start"] == {"dateTime": "2030-01-12T08:00:00Z"}
    assert world.violations == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("create_event", INTRO | {"id": "bk00000"}),
        ("create_event", INTRO | {"start_time": "2030-01-07T10:00:00Z"}),
        ("create_event", {"summary": "Intro"}),
        ("create_event", INTRO | {"attendees": ["ana@example.com"]}),
        ("create_event", INTRO | {"attendees": [{"displayName": "Ana"}]}),
        ("create_event", INTRO | {"notificationLevel": "SOME"}),
        ("create_event", INTRO | {"startTime": "tomorrow"}),
        ("create_event", INTRO | {"timeZone": "Mars/Olympus"}),
        ("update_event", {"eventId": "e0000", "recurrence": []}),
        ("list_events", {"pageSize": 251}),
        ("list_events", {"orderBy": "endTime"}),
        ("list_events", {"timeMin": "2030-01-07T00:00:00Z"}),
        ("search_events", {"query": "x", "calendarId": "primary"}),
    ],
)
async def test_google_refuses_wrong_arguments_itself(world: World, name: str, arguments: Json) -> None:
    async with google(world) as client:
        found = await client.call_tool_mcp(name, arguments)

    assert found.is_error
    assert world.requests == []


async def test_google_wants_projects_enrolled(world: World) -> None:
    async with google(world, enrolled=False) as client:
        found = await client.call_tool_mcp("list_calendars", {})

    assert found.is_error
    assert "Developer Preview Program" in text(found)
    assert world.requests == []


async def test_google_has_the_quirks_of_its_api(world: World) -> None:
    async with google(world, scopes=["calendar.events"]) as client:
        found = await client.call_tool_mcp("list_calendars", {})
        made = await told(client, "create_event", **INTRO)
        await told(client, "delete_event", eventId=made["id"])
        twice = await client.call_tool_mcp("delete_event", {"eventId": made["id"]})

    error = json.loads(text(found))["error"]
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    assert f"{SCOPES}calendar.events" not in error["message"]
    assert json.loads(text(twice))["error"]["code"] == 410
