"""Cal.com's event types, their booking fields and locations, in our words and back. `raw` is an event type's JSON."""

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
PHONE = "attendeePhoneNumber"
# What is asked of every guest has arguments of its own.
OWN_ARGUMENTS = ("name", "email", "location", "title", "notes", "guests", "rescheduleReason", "rescheduledReason")
# The key under which a location has its address; of these the guest gives it.
ADDRESS = {"address": "address", "link": "link", "phone": "phone", "integration": "integration"}
BY_GUEST = {"attendeeAddress": "address", "attendeePhone": "phone", "attendeeDefined": "location"}
INTEGRATIONS = (
    "cal-video",
    "google-meet",
    "zoom",
    "office365-video",
    "webex-video",
    "jitsi",
    "whereby-video",
    "discord-video",
)


def event_type(raw: Any) -> EventType:
    default = raw["lengthInMinutes"]
    return EventType(
        id=str(raw["id"]),
        title=raw["title"],
        slug=raw["slug"],
        durations_minutes=(default, *(each for each in raw.get("lengthInMinutesOptions") or () if each != default)),
        active=not raw["hidden"],
        description=raw["description"] or None,
        booking_url=raw.get("bookingUrl"),
        locations=tuple(shown(each) for each in raw["locations"]),
        questions=tuple(_question(each) for each in fields(raw).values()),
        buffer_before_minutes=raw.get("beforeEventBuffer"),
        buffer_after_minutes=raw.get("afterEventBuffer"),
        minimum_notice_minutes=raw.get("minimumBookingNotice"),
    )


def fields(raw: Any) -> dict[str, Any]:
    """The booking fields that are questions of this event type, by slug."""
    asked = (each for each in raw["bookingFields"] if not each.get("hidden"))
    return {each["slug"]: each for each in asked if each["slug"] not in OWN_ARGUMENTS}


def _question(raw: Any) -> Question:
    return Question.model_validate(
        {
            "key": raw["slug"],
            "label": raw.get("label") or raw["slug"],
            "type": QUESTION_TYPES.get(raw["type"], "text"),
            "required": raw.get("required", False),
            "options": raw.get("options") or (),
        }
    )


def responses(raw: Any, answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Answers as Cal.com wants them: it checks the type of each."""
    types = {slug: QUESTION_TYPES.get(each["type"], "text") for slug, each in fields(raw).items()}
    return {slug: _typed(answer, types[slug]) for slug, answer in answers.items() if slug != PHONE}


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


def must_have(raw: Any, slug: str, argument: object) -> None:
    """Raises InvalidRequest if an event type wants what is asked of every guest, and it is not given."""
    for each in raw["bookingFields"]:
        if each["slug"] == slug and each.get("required") and not each.get("hidden") and not argument:
            raise InvalidRequest(f"{slug}: is required by this event type.")


def body(change: EventTypeChange, now: Any = None) -> dict[str, Any]:
    """A change as a request; `now` is the event type as it is."""
    said = {
        "title": change.title,
        "slug": change.slug,
        "lengthInMinutes": change.duration_minutes,
        "lengthInMinutesOptions": _options(change.duration_minutes, now),
        "description": change.description,
        "locations": None if change.location is None else [_location(change.location)],
        "hidden": None if change.active is None else not change.active,
        "beforeEventBuffer": change.buffer_before_minutes,
        "afterEventBuffer": change.buffer_after_minutes,
        "minimumBookingNotice": change.minimum_notice_minutes,
    }
    return {name: value for name, value in said.items() if value is not None}


def _options(minutes: int | None, now: Any) -> list[int] | None:
    """The lengths to choose from must hold the default one."""
    options = (now or {}).get("lengthInMinutesOptions")
    if minutes is None or not options or minutes in options:
        return None
    return sorted({minutes, *options} - {now["lengthInMinutes"]})


# Locations


def shown(raw: Any) -> str:
    """By its address, link, number or app; by its type where the guest gives the address."""
    return str(raw.get(ADDRESS.get(raw["type"], "")) or raw["type"])


def _location(text: str) -> dict[str, Any]:
    """A location for an event type, out of what somebody wrote."""
    if (app := text.casefold().replace(" ", "-")) in INTEGRATIONS:
        return {"type": "integration", "integration": app}
    if text in BY_GUEST:
        return {"type": text}
    type = "link" if text.startswith(("https://", "http://")) else "phone" if text.startswith("+") else "address"
    return {"type": type, type: text, "public": True}


def chosen(raw: Any, wanted: str) -> dict[str, Any]:
    """One of the event type's locations, as a booking asks for it. Raises InvalidRequest."""
    index, address = choose([Place(shown(each), each["type"] in BY_GUEST) for each in raw["locations"]], wanted)
    location = raw["locations"][index]
    type = location["type"]
    if address is not None:
        return {"type": type, BY_GUEST[type]: address}
    if type == "integration":
        return {"type": type, "integration": location["integration"]}
    if type in [each["type"] for each in raw["locations"][:index]]:
        raise InvalidRequest(f"location: this service books only the first {type} of an event type.")
    return {"type": type}
