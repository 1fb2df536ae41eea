"""Cal ID's event types, their booking fields and locations, in our words and back. `raw` is an event type's JSON."""

from collections.abc import Mapping
from typing import Any

from providers.places import Place, choose
from schemas import Answer, EventType, EventTypeChange, InvalidRequest, Question

QUESTION_TYPES = {
    "text": "text",
    "textarea": "long_text",
    "number": "number",
    "boolean": "boolean",
    "phone": "phone",
    "url": "url",
    "address": "address",
    "select": "choice",
    "radio": "choice",
    "multiselect": "choices",
    "checkbox": "choices",
    "multiemail": "choices",
}
# What is asked of every guest has arguments of its own, or is the service's own business.
OWN_ARGUMENTS = ("name", "email", "location", "title", "notes", "guests", "rescheduleReason", "rescheduledReason")
PHONE = "phone"
SHORTEST_MINUTES, SHORTEST_NAME = 10, 4
# The key under which a location of an event type has its address; of these the guest gives it.
ADDRESS = {"inPerson": "address", "link": "link", "userPhone": "hostPhoneNumber"}
BY_GUEST = ("attendeeInPerson", "attendeePhone", "phone", "somewhereElse")
VIDEO = "integrations:daily"
# What an answer has beside what a request may have.
READ_ONLY = (
    *("id", "bookingFields", "userId", "teamId", "profileId", "secondaryEmailId", "users", "hosts", "owner"),
    *("createdDate", "updatedDate", "lockTimeZoneToggleOnBookingPage", "lockedTimeZone"),
)


def event_type(raw: Any) -> EventType:
    return EventType(
        id=str(raw["id"]),
        title=raw["title"],
        slug=raw["slug"],
        durations_minutes=(raw["length"],),
        active=not raw["hidden"],
        description=raw.get("description") or None,
        locations=tuple(place.shown for place in _places(raw)),
        questions=tuple(_question(each) for each in fields(raw).values()),
        buffer_before_minutes=raw.get("beforeEventBuffer"),
        buffer_after_minutes=raw.get("afterEventBuffer"),
        minimum_notice_minutes=raw.get("minimumBookingNotice"),
    )


def fields(raw: Any) -> dict[str, Any]:
    """The booking fields that are questions of this event type, by name."""
    asked = (each for each in raw.get("bookingFields") or () if not each.get("hidden"))
    return {each["name"]: each for each in asked if each["name"] not in OWN_ARGUMENTS}


def _question(raw: Any) -> Question:
    options = [each["label"] if isinstance(each, dict) else each for each in raw.get("options") or ()]
    return Question.model_validate(
        {
            "key": raw["name"],
            "label": raw.get("label") or raw["name"],
            "type": QUESTION_TYPES.get(raw["type"], "text"),
            "required": raw.get("required", False),
            "options": options,
        }
    )


def responses(raw: Any, answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Answers as Cal ID wants them."""
    types = {name: QUESTION_TYPES.get(each["type"], "text") for name, each in fields(raw).items()}
    return {name: _typed(answer, types[name]) for name, answer in answers.items()}


def _typed(answer: Answer, type: str) -> Any:
    match type:
        case "choices":
            return list(answer) if isinstance(answer, tuple) else [str(answer)]
        case "number":
            number = float(str(answer))
            return int(number) if number.is_integer() else number
        case "boolean":
            return answer if isinstance(answer, bool) else str(answer).lower() in ("true", "yes")
        case _:
            return str(answer[0] if isinstance(answer, tuple) else answer)


def body(change: EventTypeChange, now: Any = None) -> dict[str, Any]:
    """A change as a request: the whole event type, for what is left out goes back to the service's defaults."""
    for name in ("title", "slug"):
        if (text := getattr(change, name)) is not None and len(text) < SHORTEST_NAME:
            raise InvalidRequest(f"{name}: this service takes {SHORTEST_NAME} characters at least.")
    if change.duration_minutes is not None and change.duration_minutes < SHORTEST_MINUTES:
        raise InvalidRequest(f"duration_minutes: this service takes {SHORTEST_MINUTES} at least.")
    said = {
        "title": change.title,
        "slug": change.slug,
        "length": change.duration_minutes,
        "description": change.description,
        "locations": None if change.location is None else [_location(change.location)],
        "hidden": None if change.active is None else not change.active,
        "beforeEventBuffer": change.buffer_before_minutes,
        "afterEventBuffer": change.buffer_after_minutes,
        "minimumBookingNotice": change.minimum_notice_minutes,
    }
    kept = {name: value for name, value in (now or {}).items() if name not in READ_ONLY and value is not None}
    return kept | {name: value for name, value in said.items() if value is not None}


# Locations


def _places(raw: Any) -> list[Place]:
    return [Place(_shown(each), each["type"] in BY_GUEST) for each in raw.get("locations") or ()]


def _shown(raw: Any) -> str:
    """By its address, link or number; by its type where the guest gives the address, or it is an app."""
    return str(raw.get(ADDRESS.get(raw["type"], "")) or raw["type"])


def _location(text: str) -> dict[str, Any]:
    if text in BY_GUEST or text.startswith("integrations:"):
        return {"type": text}
    type = "link" if text.startswith(("https://", "http://")) else "userPhone" if text.startswith("+") else "inPerson"
    return {"type": type, ADDRESS[type]: text, "displayLocationPublicly": True}


def chosen(raw: Any, wanted: str | None) -> dict[str, str]:
    """One of the event type's locations, as a booking names it; the service would choose one of its own otherwise."""
    places = _places(raw)
    if not places and wanted is None:
        return {"value": VIDEO, "optionValue": ""}
    index, address = choose(places, wanted)
    return {"value": raw["locations"][index]["type"], "optionValue": address or ""}
