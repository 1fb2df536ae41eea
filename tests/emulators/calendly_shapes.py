"""Calendly's objects, refusals and pages: functions from the world to the vendor's JSON, with every key it sends.

Keys and nullability: (Calendly OpenAPI, 2026-10), examples: (Calendly OpenAPI, 2023-04), newer keys as noted.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import available_timezones

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.world import BEGIN, DAYS, HOST, HOST_EMAIL, Appointment, Kind, World

API = "https://api.calendly.com"
SITE = "https://calendly.com"
USER = f"{API}/users/HOSTUUID"
ORGANIZATION = f"{API}/organizations/ORGUUID"
INVALID = "The supplied parameters are invalid."
SCHEDULE = f"{API}/user_availability_schedules/SCHED1"
PAGE_SLUG = "host"

QUESTION_TYPES = {
    "text": "string",
    "long_text": "text",
    "choice": "single_select",
    "choices": "multi_select",
    "phone": "phone_number",
}
WEEK = (DAYS[-1], *DAYS[:-1])  # the vendor's week begins on Sunday
# Two kinds are called otherwise in answers than in requests (Calendly OpenAPI, 2026-10).
TYPE_OF_KIND = {"zoom_conference": "zoom", "gotomeeting_conference": "gotomeeting"}
CALLS = {f"{name}_conference" for name in ("zoom", "google", "gotomeeting", "microsoft_teams", "webex")}


@dataclass
class Records:
    """What the vendor keeps and the world does not know."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was written to an event type, by its kind."""
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The bodies of POST /invitees, by appointment."""
    canceled: dict[str, datetime] = field(default_factory=dict)
    no_shows: dict[str, datetime] = field(default_factory=dict)
    schedule_name: str = "Working hours"


def stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def event_of(id: str, appointment: Appointment) -> str:
    return appointment.event or id


def invitee_uri(id: str, appointment: Appointment) -> str:
    return f"{API}/scheduled_events/{event_of(id, appointment)}/invitees/i-{id}"


def user(world: World) -> dict[str, Any]:
    return {
        "avatar_url": None,
        "created_at": stamp(BEGIN),
        "current_organization": ORGANIZATION,
        "email": HOST_EMAIL,
        "locale": "en",
        "name": HOST,
        "resource_type": "User",
        "scheduling_url": f"{SITE}/{PAGE_SLUG}",
        "slug": PAGE_SLUG,
        "time_notation": "24h",
        "timezone": world.zone,
        "updated_at": stamp(BEGIN),
        "uri": USER,
    }


def locations(records: Records, key: str, kind: Kind) -> list[dict[str, Any]] | None:
    """What one can choose from; null where nothing was configured."""
    written = records.settings.get(key, {})
    if "locations" in written:
        found: list[dict[str, Any]] | None = written["locations"]
        return found
    return [{"kind": "zoom_conference"}, *({"kind": "physical", "location": place} for place in kind.places)]


def scheduling_url(key: str, kind: Kind) -> str:
    return f"{SITE}/{PAGE_SLUG}/{kind.slug or key}"


def pooling_type(key: str) -> str | None:
    return "round_robin" if key.startswith("robin") else None


def event_type(world: World, records: Records, key: str) -> dict[str, Any]:
    kind, written = world.kinds[key], records.settings.get(key, {})
    return {
        "active": kind.active,
        "admin_managed": False,
        "booking_method": "instant",
        "color": written.get("color", "#8247f5"),
        "created_at": stamp(written.get("created_at", BEGIN)),
        "custom_questions": [_question(position, asked) for position, asked in enumerate(kind.questions)],
        "deleted_at": None,
        "description_html": f"<p>{kind.description}</p>" if kind.description else None,
        "description_plain": kind.description,
        "duration": kind.minutes,
        "duration_options": written.get("duration_options"),
        "internal_note": None,
        "is_paid": False,
        "kind": "group" if kind.seats > 1 else "solo",
        "locale": written.get("locale", "en"),
        "locations": locations(records, key, kind),
        "name": kind.title,
        "pooling_type": pooling_type(key),
        "position": list(world.kinds).index(key),
        "profile": {"type": "User", "name": HOST, "owner": USER},
        "scheduling_url": scheduling_url(key, kind),
        "secret": False,
        "slug": kind.slug or key,
        "type": "StandardEventType",
        "updated_at": stamp(written.get("updated_at", BEGIN)),
        "uri": f"{API}/event_types/{key}",
        # Since 2026-11-13 (Calendly release note of that day).
        "start_time_increment": written.get("start_time_increment", kind.minutes),
        "before_buffer": kind.before,
        "after_buffer": kind.after,
    }


def _question(position: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": asked["label"],
        "type": QUESTION_TYPES[asked["type"]],
        "position": position,
        "enabled": True,
        "required": asked.get("required", False),
        "answer_choices": list(asked.get("options", ())),
        "include_other": False,
    }


def available_time(world: World, key: str, at: datetime) -> dict[str, Any]:
    kind, start = world.kinds[key], at.astimezone(UTC)
    seated = [e for e in world.appointments.values() if e.live and (e.kind, e.start) == (key, at)]
    query = f"month={start:%Y-%m}&date={start:%Y-%m-%d}"
    return {
        "status": "available",
        "invitees_remaining": kind.seats - len(seated),
        "start_time": stamp(start),
        "scheduling_url": f"{scheduling_url(key, kind)}/{start:%Y-%m-%dT%H:%M:%SZ}?{query}",
    }


def event(world: World, records: Records, uuid: str, ids: Sequence[str]) -> dict[str, Any]:
    """A meeting of one or several appointments; it is on as long as one of them is."""
    members = [world.appointments[id] for id in ids]
    live = [each for each in members if each.live]
    first = (live or members)[0]
    kind = world.kinds.get(first.kind)
    found = {
        "calendar_event": {"kind": "google", "external_id": f"g{uuid}"},
        "created_at": stamp(min(each.created for each in members)),
        "end_time": stamp(first.end),
        "event_guests": [
            {"email": email, "created_at": stamp(each.created), "updated_at": stamp(each.created)}
            for each in live or members
            for email in each.guests
        ],
        "event_memberships": [{"user": USER, "user_email": HOST_EMAIL, "user_name": HOST, **buffered(world, first)}],
        "event_type": f"{API}/event_types/{first.kind}",
        "invitees_counter": {"total": len(members), "active": len(live), "limit": kind.seats if kind else 1},
        "location": location(world, records, uuid, ids),
        "meeting_notes_html": "",
        "meeting_notes_plain": None,
        "name": kind.title if kind else None,
        "start_time": stamp(first.start),
        "status": "active" if live else "canceled",
        "updated_at": stamp(max(records.canceled.get(id, world.appointments[id].created) for id in ids)),
        "uri": f"{API}/scheduled_events/{uuid}",
    }
    return found if live else found | {"cancellation": cancellation(world, records, ids[-1])}


def buffered(world: World, appointment: Appointment) -> dict[str, str]:
    kind = world.kinds.get(appointment.kind)
    before, after = (timedelta(minutes=minutes) for minutes in ((kind.before, kind.after) if kind else (0, 0)))
    return {
        "buffered_start_time": stamp(appointment.start - before),
        "buffered_end_time": stamp(appointment.end + after),
    }


def location(world: World, records: Records, uuid: str, ids: Iterable[str]) -> dict[str, Any]:
    """Where the meeting is, as answers have it: by `type`; join_url only where the status is pushed."""
    id = next((id for id in ids if world.appointments[id].live), next(iter(ids)))
    appointment = world.appointments[id]
    sent = records.sent.get(id, {}).get("location") or {}
    kind = sent.get("kind") or _kind_of_place(world, records, appointment)
    if kind in CALLS:
        type = TYPE_OF_KIND.get(kind, kind)
        call = {"type": type, "status": "pushed", "join_url": f"https://{type.split('_')[0]}.example/{uuid}"}
        # Google's is the only one without data.
        return call if type == "google_conference" else call | {"data": _conference(type, uuid)}
    if kind == "physical":
        return {"type": "physical", "location": sent.get("location", appointment.place), "additional_info": None}
    if kind == "inbound_call":
        return {"type": "inbound_call", "location": "+1 555 0100", "additional_info": None}
    return {"type": kind or "custom", "location": sent.get("location")}


def _kind_of_place(world: World, records: Records, appointment: Appointment) -> str | None:
    """Where the appointment was not made through the API, its place alone tells."""
    place, kind = appointment.place, world.kinds.get(appointment.kind)
    offered = locations(records, appointment.kind, kind) if kind else None
    if place is None:
        return offered[0]["kind"] if offered else None
    return place if place in CALLS | {"inbound_call"} else "physical"


def _conference(type: str, uuid: str) -> dict[str, Any] | None:
    if type != "zoom":
        return None
    url = f"https://zoom.example/{uuid}"
    return {"id": uuid, "settings": {"global_dial_in_numbers": []}, "extra": {"intl_numbers_url": url}}


def cancellation(world: World, records: Records, id: str) -> dict[str, Any]:
    """Hosts cancel and decline; a guest who moves the meeting on its page cancels the old one by that."""
    appointment = world.appointments[id]
    by_guest = appointment.moved_to is not None
    return {
        "canceled_by": appointment.name if by_guest else HOST,
        "reason": appointment.reason,
        "canceler_type": "invitee" if by_guest else "host",
        "created_at": stamp(records.canceled.get(id, appointment.created)),
    }


def invitee(world: World, records: Records, id: str) -> dict[str, Any]:
    each = world.appointments[id]
    sent = records.sent.get(id, {})
    no_tracking = dict.fromkeys(
        ("utm_campaign", "utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid")
    )
    found = {
        "cancel_url": f"{SITE}/cancellations/i-{id}",
        "created_at": stamp(each.created),
        "email": each.email,
        "event": f"{API}/scheduled_events/{event_of(id, each)}",
        "first_name": None,
        "invitee_scheduled_by": USER if sent else None,
        "last_name": None,
        "name": each.name,
        "new_invitee": _moved(world, each.moved_to),
        "no_show": no_show(world, records, id) if each.no_show else None,
        "old_invitee": _moved(world, each.moved_from),
        "payment": None,
        "questions_and_answers": _answers(world, each),
        "reconfirmation": None,
        "reschedule_url": f"{SITE}/reschedulings/i-{id}",
        "rescheduled": each.moved_to is not None,
        "routing_form_submission": None,
        "scheduling_method": "api" if sent else None,
        "status": "active" if each.live else "canceled",
        "text_reminder_number": sent.get("invitee", {}).get("text_reminder_number"),
        "timezone": each.zone,
        "tracking": no_tracking | sent.get("tracking", {}) | {"utm_content": each.marker or None},
        "updated_at": stamp(records.canceled.get(id, each.created)),
        "uri": invitee_uri(id, each),
    }
    return found if each.live else found | {"cancellation": cancellation(world, records, id)}


def _moved(world: World, id: str | None) -> str | None:
    return invitee_uri(id, world.appointments[id]) if id in world.appointments else None


def _answers(world: World, appointment: Appointment) -> list[dict[str, Any]]:
    """Answers are text; several choices stand on a line each (Calendly OpenAPI, 2023-04, checkbox example)."""
    kind = world.kinds.get(appointment.kind)
    found = []
    for position, asked in enumerate(kind.questions if kind else ()):
        if (answer := appointment.answers.get(asked["key"])) is not None:
            text = "\n".join(answer) if isinstance(answer, list | tuple) else str(answer)
            found.append({"question": asked["label"], "answer": text, "position": position})
    return found


def no_show(world: World, records: Records, id: str) -> dict[str, str]:
    created = records.no_shows.get(id, world.appointments[id].created)
    return {"uri": f"{API}/invitee_no_shows/n-{id}", "created_at": stamp(created)}


def rules(world: World) -> list[dict[str, Any]]:
    """All seven weekdays, [] for a closed one, and then the dates (Calendly OpenAPI, 2026-10)."""
    week = [{"type": "wday", "wday": day, "intervals": _intervals(world.hours.get(day, ()))} for day in WEEK]
    dates = [
        {"type": "date", "date": date, "intervals": _intervals(hours)}
        for date, hours in sorted(world.overrides.items())
    ]
    return week + dates


def _intervals(hours: Iterable[str]) -> list[dict[str, str]]:
    return [dict(zip(("from", "to"), each.split("-"), strict=True)) for each in hours]


def schedule(world: World, records: Records) -> dict[str, Any]:
    return {
        "default": True,
        "name": records.schedule_name,
        "rules": rules(world),
        "timezone": world.zone,
        "uri": SCHEDULE,
        "user": USER,
    }


def event_type_schedule(world: World, records: Records, key: str) -> dict[str, Any]:
    rule = {name: value for name, value in schedule(world, records).items() if name != "default"}
    return {"event_type": f"{API}/event_types/{key}", "availability_setting": "host", "availability_rule": rule}


# Refusals


class Refused(Exception):
    def __init__(self, status: int, title: str, message: str, **more: Any) -> None:
        self.answer = JSONResponse({"title": title, "message": message, **more}, status)


def invalid(parameter: str, why: str, message: str = INVALID, **code: str) -> Refused:
    """The envelope of a 400 (Calendly OpenAPI, 2023-04)."""
    details = [{"parameter": parameter, "message": why, **code}]
    return Refused(400, "Invalid Argument", message, details=details)


def denied(message: str) -> Refused:
    return Refused(403, "Permission Denied", message)


def missing() -> Refused:
    # (Calendly OpenAPI, 2023-04; later documents print other titles, which is an artefact)
    return Refused(404, "Resource Not Found", "The server could not find the requested resource.")


def insufficient(scope: str) -> Refused:
    message = "This operation requires the scopes listed in the 'required_scopes' array."
    return Refused(403, "Insufficient scope", message, required_scopes=[scope])


def unpaid() -> Refused:
    # What free plans were told until 2026-11-03 (Calendly OpenAPI, 2026-10).
    upgrade = "Upgrade your plan to access this feature."
    return denied(f"The Scheduling API is only available on paid Calendly plans. {upgrade}")


def too_many() -> Refused:
    # The body is not documented, and no Retry-After comes with it (Calendly rate limits page, 2026-10).
    return Refused(429, "Too Many Requests", "You have exceeded the rate limit. Please try again later.")


def filled() -> Refused:
    # Not 409 (error bodies observed in production, 2026-10-09).
    return invalid("event.start_time", "That start time has been filled", code="already_filled")


def wrong_location() -> Refused:
    # (error bodies observed in production, 2026-10-09)
    return invalid(
        "event.location_configuration.location",
        "invalid location choice",
        "Specified location kind is not configured for this event type.",
        code="invalid_location_choice",
    )


# What is asked, read


def must_be_host(user: str) -> None:
    if user != USER:
        raise denied("This user is not in your organization")


def must_own(query: Mapping[str, str]) -> None:
    must_be_host(query.get("user", USER))
    if query.get("organization", ORGANIZATION) != ORGANIZATION:
        raise denied("You do not have permission to access this resource.")


def check_window(start: datetime, end: datetime, days: int) -> None:
    if end <= start:
        raise invalid("end_time", "end_time must be after start_time")
    if end - start > timedelta(days=days):
        raise invalid("end_time", f"date range can be no greater than {days} days")


def known_zone(parameter: str, name: str) -> str:
    if name not in available_timezones():
        raise invalid(parameter, "is invalid")
    return name


def read_answers(kind: Kind, sent: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Answers by the keys of their questions, which are named by their exact text (Calendly OpenAPI, 2026-10)."""
    asked = {each["label"]: each for each in kind.questions}
    found: dict[str, Any] = {}
    for index, each in enumerate(sent):
        if each["question"] not in asked:
            raise invalid(f"questions_and_answers[{index}].question", "is invalid")
        question = asked[each["question"]]
        if each["answer"]:
            found[question["key"]] = each["answer"].split("\n") if question["type"] == "choices" else each["answer"]
    for position, question in enumerate(kind.questions):
        if question.get("required") and question["key"] not in found:
            raise invalid(f"questions_and_answers[{position}].question", "is missing")
    return found


def in_order(found: Sequence[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """By comma-separated field:direction, where ascending goes without saying (Calendly OpenAPI, 2023-04)."""
    result = sorted(found, key=lambda each: str(each["uri"]))
    for each in reversed(order.split(",")):
        name, _, direction = each.partition(":")
        result.sort(key=lambda one, name=name: one[name], reverse=direction == "desc")  # type: ignore[misc]  # mypy reads no default of a lambda
    return result


def page(request: Request, found: Sequence[Mapping[str, Any]]) -> Response:
    """Twenty rows unless asked otherwise; all five keys of the pagination, null at the ends (Calendly OpenAPI)."""
    size = int(request.query_params.get("count", 20))
    begin = _row(request.query_params["page_token"]) if "page_token" in request.query_params else 0
    rows = found[begin : begin + size]
    after = _token(begin + size) if begin + size < len(found) else None
    before = _token(max(begin - size, 0)) if begin else None

    def link(token: str | None) -> str | None:
        query = dict(request.query_params) | {"count": str(size), "page_token": token}
        return f"{API}{request.url.path}?{urlencode(query)}" if token else None

    pagination = {
        "count": len(rows),
        "next_page": link(after),
        "previous_page": link(before),
        "next_page_token": after,
        "previous_page_token": before,
    }
    return JSONResponse({"collection": list(rows), "pagination": pagination})


def _token(row: int) -> str:
    return base64.urlsafe_b64encode(f"row {row:08}".encode()).decode().rstrip("=")


def _row(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().removeprefix("row "))
    except ValueError:
        raise invalid("page_token", "is invalid") from None
