"""Calendly's event types, their questions and locations, in our words and back. `raw` is an event type's JSON."""

import re
from collections.abc import Iterable
from typing import Any

from providers.calendly.wire import uuid
from providers.places import Place, choose
from schemas import EventType, EventTypeChange, InvalidRequest, Question

QUESTION_TYPES = {
    "string": "text",
    "text": "long_text",
    "phone_number": "phone",
    "single_select": "choice",
    "multi_select": "choices",
}
LONGEST_MINUTES = 720
BUFFERS = (0, 5, 10, 15, 30, 45, 60, 90, 120, 150, 180)
# Shown by their address; of the others the kind is shown, and of these the guest gives the address.
BY_ADDRESS = ("physical", "custom")
BY_GUEST = ("ask_invitee", "outbound_call")
CONFERENCES = (
    "google_conference",
    "gotomeeting_conference",
    "inbound_call",
    "microsoft_teams_conference",
    "webex_conference",
    "zoom_conference",
)
# Two kinds have another name in an event than in a request (API reference, 2026-10).
KIND_OF_TYPE = {"zoom": "zoom_conference", "gotomeeting": "gotomeeting_conference"}


def event_type(raw: Any) -> EventType:
    # For a round robin the host that it falls to has the location.
    locations = () if raw["pooling_type"] == "round_robin" else raw["locations"] or ()
    return EventType(
        id=uuid(raw["uri"]),
        title=raw["name"] or "Untitled",
        slug=raw["slug"] or "",
        durations_minutes=(raw["duration"],),
        active=raw["active"],
        description=raw["description_plain"],
        booking_url=raw["scheduling_url"],
        locations=tuple(place(each["kind"], each) for each in locations),
        questions=tuple(_question(key, each) for key, each in asked(raw).items()),
        buffer_before_minutes=raw.get("before_buffer"),
        buffer_after_minutes=raw.get("after_buffer"),
    )


def asked(raw: Any) -> dict[str, Any]:
    """The questions that are asked, each by a key made of its text, which is all that Calendly knows it by."""
    questions = sorted(raw["custom_questions"], key=lambda each: each["position"])
    return keyed([each for each in questions if each["enabled"]], "name")


def keyed(items: Iterable[Any], name: str) -> dict[str, Any]:
    keyed: dict[str, Any] = {}
    for item in items:
        key = plain = re.sub(r"\W+", "_", item[name].casefold()).strip("_")[:80] or "question"
        number = 1
        while key in keyed:
            number += 1
            key = f"{plain}_{number}"
        keyed[key] = item
    return keyed


def _question(key: str, raw: Any) -> Question:
    choices, kind = raw["answer_choices"] or (), QUESTION_TYPES.get(raw["type"], "text")
    if raw["include_other"]:  # any text will do
        label, several = f"{raw['name']} ({', '.join(choices)}, …)", kind == "choices"
        return Question(key=key, label=label, type="choices" if several else "text", required=raw["required"])
    return Question.model_validate(
        {"key": key, "label": raw["name"], "type": kind, "required": raw["required"], "options": choices}
    )


def event_type_body(change: EventTypeChange) -> dict[str, Any]:
    for name in ("buffer_before_minutes", "buffer_after_minutes"):
        if getattr(change, name) not in (None, *BUFFERS):
            raise InvalidRequest(f"{name}: this service takes {', '.join(map(str, BUFFERS))}.")
    if change.duration_minutes is not None and change.duration_minutes > LONGEST_MINUTES:
        raise InvalidRequest(f"duration_minutes: this service takes {LONGEST_MINUTES} at most.")
    location = None if change.location is None else [_location(change.location)]
    body = {
        "name": change.title,
        "duration": change.duration_minutes,
        "description": change.description,
        "locations": location,
        "active": change.active,
        "before_buffer": change.buffer_before_minutes,
        "after_buffer": change.buffer_after_minutes,
    }
    return {name: value for name, value in body.items() if value is not None}


def ignored(change: EventTypeChange, saved: EventType) -> list[str]:
    """What was asked for and is not so."""
    same = {
        "title": saved.title,
        "duration_minutes": saved.durations_minutes[0],
        "active": saved.active,
        "buffer_before_minutes": saved.buffer_before_minutes,
        "buffer_after_minutes": saved.buffer_after_minutes,
        "location": change.location if _is_at(change.location, saved) else None,
        # It may come back with other white space.
        "description": change.description if _words(change.description) == _words(saved.description) else None,
    }
    return [name for name, value in same.items() if getattr(change, name) not in (None, value)]


def _location(text: str) -> dict[str, str]:
    """A location for an event type, out of what somebody wrote: `zoom` is a conference, not an address."""
    word = text.casefold().replace(" ", "_").removesuffix("_conference")
    kinds = {kind.removesuffix("_conference"): kind for kind in (*CONFERENCES, *BY_GUEST)}
    return {"kind": kinds[word]} if word in kinds else {"kind": "physical", "location": text}


def _is_at(text: str | None, saved: EventType) -> bool:
    location = _location(text or "")
    return place(location["kind"], location) in saved.locations


def _words(text: str | None) -> list[str]:
    return (text or "").split()


def place(kind: str, raw: Any) -> str:
    address = raw.get("location")
    return str(address) if address and kind in BY_ADDRESS else kind


def chosen(raw: Any, wanted: str | None) -> dict[str, Any] | None:
    """The location to book: one of the event type's, as Calendly wants it. Raises InvalidRequest."""
    kinds = () if raw["pooling_type"] == "round_robin" else raw["locations"] or ()
    if not kinds:
        if wanted is not None:
            raise InvalidRequest("location: this event type sets it itself. Leave it out.")
        return None
    places = [Place(place(each["kind"], each), each["kind"] in BY_GUEST) for each in kinds]
    index, address = choose(places, wanted)
    kind = kinds[index]["kind"]
    if kind in BY_ADDRESS:
        address = places[index].shown
    return {"kind": kind, "location": address} if address else {"kind": kind}


def where(raw: Any) -> tuple[str | None, str | None]:
    """Where an event is, in the words that book it, and the link to join it."""
    if not raw:
        return None, None
    kind = KIND_OF_TYPE.get(raw["type"], raw["type"])
    address = raw.get("location")
    shown = f"{kind}: {address}" if kind in BY_GUEST and address else place(kind, raw)
    return shown, raw.get("join_url")
