"""Bookings as Google Calendar keeps them: events, in our words and back. `raw` is an event's JSON.

What an event has no field for stands in its private properties, which no guest sees: `schedEventType`, `schedMarker`,
`schedHold` while it is not sure yet that it may stay (1) or for a booking that is about to move there (2),
`schedTouched` where a change must not arrive late, and the rest as JSON in pieces, `schedData0`, `schedData1` …
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from providers.google_calendar.hours import mine, moment
from providers.own import OwnEventType
from providers.slots import Span
from schemas import Attendee, Booking, BookingQuery, BookingRequest, InvalidRequest

Json = dict[str, Any]

OPEN, CLAIMED = "1", "2"
EVENT_TYPE, MARKER, HOLD, DATA = "schedEventType", "schedMarker", "schedHold", "schedData"
TOUCHED = "schedTouched"
# A value takes 1,024 characters and all together 32 KB (nspady/google-calendar-mcp, registry, 2026-03).
PIECE, MOST_DATA = 1000, 30_000
MEET = "google_meet"
STATUS = {"confirmed": "confirmed", "tentative": "pending", "cancelled": "cancelled"}
RESPONSES = {"accepted": "accepted", "declined": "declined", "tentative": "tentative", "needsAction": "needs_action"}
BY_RESPONSE = {"accepted": "confirmed", "declined": "declined", "tentative": "pending", "needsAction": "pending"}
REACH = timedelta(days=730)
"""How far back and ahead is looked, where a list has no bounds of its own."""
SECOND = timedelta(seconds=1)


def private(raw: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = (raw.get("extendedProperties") or {}).get("private") or {}
    return found


def is_ours(raw: Any) -> bool:
    return MARKER in private(raw)


def is_hold(raw: Any) -> bool:
    return HOLD in private(raw)


def is_open_hold(raw: Any) -> bool:
    """One that whoever comes first may remove."""
    return private(raw).get(HOLD) == OPEN


def organises(raw: Any) -> bool:
    return bool((raw.get("organizer") or {}).get("self"))


def data(raw: Any) -> Json:
    """What we keep of a booking beside its event."""
    held = private(raw)
    pieces: list[str] = []
    while (key := f"{DATA}{len(pieces)}") in held:
        pieces.append(held[key])
    found: Json = json.loads("".join(pieces) or "{}")
    return found


def with_data(raw: Any, changes: Json) -> dict[str, str | None]:
    """Private properties that change what we keep of a booking; None takes one away."""
    text = json.dumps({**data(raw), **changes}, separators=(",", ":"))
    if len(text) > MOST_DATA:
        raise InvalidRequest(f"answers, notes, reason: are longer together than {MOST_DATA} characters. Shorten them.")
    pieces = {f"{DATA}{at // PIECE}": text[at : at + PIECE] for at in range(0, len(text), PIECE)}
    return {**{key: None for key in private(raw) if key.startswith(DATA)}, **pieces}


def is_booking(raw: Any, email: str | None) -> bool:
    """Ours, or a timed event with somebody else; never what only holds a time, has lost its details, or is a series."""
    if is_hold(raw) or "dateTime" not in raw.get("start", {}) or "recurrence" in raw:
        return False
    if is_ours(raw) and "guest" in data(raw):
        return True
    return raw.get("eventType", "default") == "default" and bool(_others(raw, email))


def _others(raw: Any, email: str | None) -> list[Any]:
    """The other people; whoever invited us need not be among the attendees, nor may we see those."""
    own, listed = mine(raw, email), raw.get("attendees", ())
    others = [each for each in listed if each.get("email") and not each.get("resource") and each not in own]
    if others or not own or organises(raw):
        return others
    return [each for each in [raw.get("organizer") or {}] if each.get("email")]


def booking(raw: Any, email: str | None, zone: ZoneInfo) -> Booking:
    kept, held = data(raw), private(raw)
    location, join_url = kept.get("location") or raw.get("location"), raw.get("hangoutLink")
    if not join_url and str(location).startswith("https://"):
        join_url = location
    return Booking(
        id=raw["id"],
        event_type_id=held.get(EVENT_TYPE),
        title=raw.get("summary") or "Meeting",
        status=_status(raw, kept, email),
        start=moment(raw["start"], zone),
        end=moment(raw["end"], zone),
        attendees=tuple(_attendees(raw, kept, email)),
        location=location,
        join_url=join_url,
        answers={key: tuple(each) if isinstance(each, list) else each for key, each in kept.get("answers", {}).items()},
        notes=kept.get("notes") if is_ours(raw) else raw.get("description"),
        cancellation_reason=kept.get("reason") if raw["status"] == "cancelled" else None,
        created_at=_created_at(raw),
        marker=held.get(MARKER),
    )


def _created_at(raw: Any) -> str | None:
    """Of what was imported Google may not know it. (nextcloud/calendar#2213, 2020-04)"""
    text: str | None = raw.get("created")
    return text if text and not text.startswith("0000") else None


def _status(raw: Any, kept: Json, email: str | None) -> str:
    """Of an invitation our own answer tells, of all else the event."""
    status = STATUS[raw["status"]]
    if status == "cancelled":
        return "declined" if kept.get("declined") else "cancelled"
    if not organises(raw) and (own := mine(raw, email)):
        return BY_RESPONSE[own[0].get("responseStatus", "needsAction")]
    return status


def _attendees(raw: Any, kept: Json, email: str | None) -> Iterator[Attendee]:
    """Whoever booked, those who came along, and last the account's own answer, where it has given one."""
    listed = {each["email"].lower(): each for each in _others(raw, email)}
    # Nobody is invited before it is confirmed.
    guests = () if listed else kept.get("guests", ())
    guest = kept.get("guest")
    if guest:
        known = listed.pop(guest["email"].lower(), {})
        yield _attendee({**known, "email": guest["email"], "displayName": guest["name"]}, guest.get("zone"), kept)
    for each in guests:
        yield Attendee(name=each, email=each)
    for index, each in enumerate(listed.values()):
        yield _attendee(each, None, kept if not guest and index == 0 else {})
    for each in mine(raw, email):
        if each.get("email"):
            yield _attendee(each, None, {})


def _attendee(raw: Any, zone: str | None, kept: Json) -> Attendee:
    response = raw.get("responseStatus")
    return Attendee(
        name=raw.get("displayName") or raw["email"],
        email=raw["email"],
        time_zone=zone,
        response=None if response is None else RESPONSES[response],
        no_show=True if kept.get("no_show") else None,
    )


# Writing


def when(start: datetime, end: datetime, zone: str) -> Json:
    return {name: {"dateTime": written(at), "timeZone": zone} for name, at in (("start", start), ("end", end))}


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def hold(request: BookingRequest, kind: OwnEventType, zone: str) -> Json:
    """A booking that nobody is told of yet."""
    end = request.start + timedelta(minutes=kind.duration_minutes)
    location = request.location or kind.location
    kept = {
        "guest": {
            "name": request.attendee_name,
            "email": request.attendee_email,
            "zone": request.attendee_time_zone,
        },
        "guests": list(request.guests),
        "answers": request.answers,
        "notes": request.notes,
        "location": location,
        "before": kind.rules.buffer_before,
        "after": kind.rules.buffer_after,
    }
    kept = {name: value for name, value in kept.items() if value not in (None, {}, [], 0)}
    own = {EVENT_TYPE: request.event_type_id, MARKER: request.marker, HOLD: OPEN}
    event: Json = {
        "id": request.marker,
        "summary": f"{kind.title} with {request.attendee_name}",
        "status": "tentative",
        "extendedProperties": {"private": own | with_data({}, kept)},
        **when(request.start, end, zone),
    }
    labels = {question.key: question.label for question in kind.questions}
    lines = [f"{labels.get(key, key)}: {_words(answer)}" for key, answer in request.answers.items()]
    if description := "\n".join([*lines, *filter(None, [request.notes])]):
        event["description"] = description
    if location and location != MEET:
        event["location"] = location
    return event


def hold_for(raw: Any, start: datetime, end: datetime, zone: str) -> Json:
    """A hold of the time that an event is to move to, with the buffers it was booked with."""
    id = uuid4().hex
    kept = {name: data(raw).get(name, 0) for name in ("before", "after")}
    own = {name: value for name, value in private(raw).items() if name == EVENT_TYPE} | {MARKER: id, HOLD: OPEN}
    return {
        "id": id,
        "summary": f"Held for a move: {raw.get('summary') or 'Meeting'}",
        "status": "tentative",
        "extendedProperties": {"private": own | with_data({}, kept)},
        **when(start, end, zone),
    }


def touched() -> Json:
    """A change that nobody sees, and that makes an event another one than it was."""
    return {"extendedProperties": {"private": {TOUCHED: uuid4().hex}}}


def _words(answer: object) -> str:
    return ", ".join(map(str, answer)) if isinstance(answer, tuple) else str(answer)


def confirmed(raw: Any, email: str | None) -> Json:
    """What makes a hold or a pending booking a confirmed one: its guests are invited, and may meet online."""
    kept = data(raw)
    guest = kept.get("guest")
    there = {each.get("email", "").lower() for each in raw.get("attendees", ())}
    wanted: list[Json] = [{"email": guest["email"], "displayName": guest["name"]}] if guest else []
    wanted += [{"email": each} for each in kept.get("guests", ())]
    once = {each["email"].lower(): each for each in reversed(wanted)}  # the first of each
    invited = [each for name, each in reversed(once.items()) if name not in there]
    changes: Json = {
        "status": "confirmed",
        "attendees": [*_answering(raw, email, "accepted"), *invited],
        "extendedProperties": {"private": {HOLD: None}},
    }
    if kept.get("location") == MEET and not raw.get("conferenceData"):
        key = {"type": "hangoutsMeet"}
        changes["conferenceData"] = {"createRequest": {"requestId": raw["id"], "conferenceSolutionKey": key}}
    return changes


def _answering(raw: Any, email: str | None, response: str) -> list[Json]:
    """The attendees as they are, but for our own answer."""
    own = mine(raw, email)
    return [{**each, "responseStatus": response} if each in own else each for each in raw.get("attendees", ())]


def answered(raw: Any, email: str | None, response: str) -> Json:
    """The attendees with our own answer, given for the first time or anew."""
    if own := mine(raw, email):
        if raw.get("attendeesOmitted"):  # those that we are not shown stay as they are (discovery document, 2026-10)
            return {"attendees": [{**each, "responseStatus": response} for each in own], "attendeesOmitted": True}
        return {"attendees": _answering(raw, email, response)}
    return {"attendees": [*raw.get("attendees", ()), {"email": email, "responseStatus": response}]}


# Looking


def whole(raw: Any, series: Any) -> Json:
    """An instance that was called off, of which Google is not sure to tell more than which one it was."""
    start, (begins, ends) = raw["originalStartTime"], (series["start"], series["end"])
    event: Json = {name: value for name, value in series.items() if name != "recurrence"} | raw | {"start": start}
    if "dateTime" in start:
        length = moment(ends, ZoneInfo("UTC")) - moment(begins, ZoneInfo("UTC"))
        event["end"] = {"dateTime": (moment(start, ZoneInfo("UTC")) + length).isoformat()}
    return event


def blocks(raw: Any, own: Span) -> Span:
    """The time that an event takes, with the buffers it was booked with."""
    kept = data(raw)
    return own[0] - kept.get("before", 0), own[1] + kept.get("after", 0)


def times(raw: Any) -> tuple[datetime, datetime] | None:
    """When a timed event begins and ends."""
    if "dateTime" not in raw.get("start", {}):
        return None
    return moment(raw["start"], ZoneInfo("UTC")), moment(raw["end"], ZoneInfo("UTC"))


def created(raw: Any) -> datetime:
    """By Google's clock."""
    return datetime.fromisoformat(raw["created"])


def rank(raw: Any) -> tuple[datetime, str]:
    """Of two holds the one that came first stays."""
    return created(raw), raw["id"]


def bounds(query: BookingQuery, now: datetime) -> tuple[datetime, datetime]:
    """The time that listed events must touch."""
    earliest, latest = query.ends_after, query.starts_before and query.starts_before + SECOND
    if query.resume_at is not None and query.newest_first:
        latest = min(filter(None, (latest, query.resume_at + SECOND)))
    elif query.resume_at is not None:
        earliest = max(filter(None, (earliest, query.resume_at - SECOND)))
    earliest = earliest or min(now, latest or now) - REACH
    # A page may go on before the earliest: what began there and lasts until then is wanted still.
    return earliest, max(latest or max(now, earliest) + REACH, earliest + SECOND)
