"""Calendly's events and their invitees as bookings, and a booking as a request. `raw` is an invitee's JSON."""

import re
from datetime import datetime, timedelta
from typing import Any

from providers.calendly.event_types import asked, chosen, keyed, where
from providers.calendly.wire import uuid, written
from schemas import Attendee, Booking, BookingQuery, BookingRequest, InvalidRequest
from schemas.text import ANSWER_LENGTH

MOST_GUESTS = 10
TRACKED = ("utm_campaign", "utm_source", "utm_medium", "utm_term", "salesforce_uuid")
STATUS = {"active": "confirmed", "canceled": "cancelled"}


def booking_body(raw: Any, request: BookingRequest) -> dict[str, Any]:
    if len(request.guests) > MOST_GUESTS:
        raise InvalidRequest(f"guests: this service takes {MOST_GUESTS} at most.")
    questions, location = asked(raw), chosen(raw, request.location)
    utm = {name: request.carried.get(name) for name in TRACKED}
    reminder = request.carried.get("text_reminder_number")
    return {
        "event_type": raw["uri"],
        "start_time": written(request.start),
        "invitee": {
            "name": request.attendee_name,
            "email": request.attendee_email,
            "timezone": request.attendee_time_zone,
            **({"text_reminder_number": reminder} if reminder else {}),
        },
        "questions_and_answers": [
            {"question": questions[key]["name"], "answer": _text(answer), "position": questions[key]["position"]}
            for key, answer in request.answers.items()
        ],
        "event_guests": list(request.guests),
        "tracking": {**utm, "utm_content": request.marker or None},
        **({"location": location} if location else {}),
    }


def _text(answer: object) -> str:
    if isinstance(answer, tuple):
        return "\n".join(map(str, answer))
    return {True: "Yes", False: "No"}[answer] if isinstance(answer, bool) else str(answer)


def expected_event(raw: Any, request: BookingRequest, invitee: Any) -> dict[str, Any]:
    """An event that was made just now and could not be read."""
    return {
        "uri": invitee["event"],
        "name": raw["name"],
        "status": "active",
        "event_type": raw["uri"],
        "start_time": request.start,
        "end_time": request.start + timedelta(minutes=raw["duration"]),
        "location": None,
        "event_guests": [{"email": email} for email in request.guests],
        "invitees_counter": {"active": 1},
    }


def booking(event: Any, raw: Any, kind: Any = None) -> Booking:
    """One invitee of an event; `kind` is its event type, if known, which tells like questions apart."""
    status = {STATUS[event["status"]], STATUS[raw["status"]]}
    shared = event["invitees_counter"]["active"] > 1
    location, join_url = where(event["location"])
    cancellation = raw.get("cancellation") or event.get("cancellation") or {}
    # Whose guests they are, Calendly does not say of a group.
    guests = () if shared else event["event_guests"]
    return Booking(
        id=_booking_id(raw["uri"]),
        event_type_id=uuid(event["event_type"]),
        title=event["name"] or "Meeting",
        status="cancelled" if "cancelled" in status else "confirmed",
        start=event["start_time"],
        end=event["end_time"],
        attendees=(
            Attendee(
                name=raw["name"] or raw["email"],
                email=raw["email"],
                time_zone=raw["timezone"],
                no_show=True if raw["no_show"] else None,
            ),
            *(Attendee(name=each["email"], email=each["email"]) for each in guests),
        ),
        location=location,
        join_url=join_url,
        answers=_answers(raw, kind),
        cancel_url=raw["cancel_url"],
        reschedule_url=raw["reschedule_url"],
        rescheduled_from=_booking_id(raw["old_invitee"]),
        rescheduled_to=_booking_id(raw["new_invitee"]),
        cancellation_reason=cancellation.get("reason"),
        created_at=raw["created_at"],
        marker=raw["tracking"]["utm_content"],
        shared=shared,
        bound=_bound(raw),
        carried={name: value for name, value in _beside(raw).items() if value},
    )


def _beside(raw: Any) -> dict[str, Any]:
    """What a booking anew must be given again, and nobody else is shown."""
    return {name: raw["tracking"].get(name) for name in TRACKED} | {"text_reminder_number": raw["text_reminder_number"]}


def _bound(raw: Any) -> str | None:
    if raw.get("payment"):
        return "it was paid for"
    if any(len(each["answer"] or "") > ANSWER_LENGTH for each in raw["questions_and_answers"]):
        return "an answer is too long to be sent again"
    return None


def _answers(raw: Any, kind: Any) -> dict[str, Any]:
    given = [each for each in raw["questions_and_answers"] if each["answer"] is not None]
    given.sort(key=lambda each: each["position"])
    if kind is None:
        return {key: each["answer"] for key, each in keyed(given, "question").items()}
    keys = {(each["name"], each["position"]): key for key, each in asked(kind).items()}
    known = {keys.get((each["question"], each["position"])): each["answer"] for each in given}
    # What is asked no more keeps a key of its own.
    gone = [each for each in given if (each["question"], each["position"]) not in keys]
    rest = {key: each["answer"] for key, each in keyed(gone, "question").items() if key not in known}
    return {key: answer for key, answer in known.items() if key is not None} | rest


def _booking_id(uri: str | None) -> str | None:
    """Event and invitee, out of an invitee's URI."""
    match = re.search(r"/scheduled_events/([^/]+)/invitees/([^/]+)$", uri or "")
    return f"{match[1]}/{match[2]}" if match else None


def events_query(query: BookingQuery, longest: timedelta) -> dict[str, Any]:
    """What Calendly can narrow: by status and by start."""
    earliest, latest = query.starts(longest)
    params: dict[str, Any] = {"sort": f"start_time:{'desc' if query.newest_first else 'asc'}"}
    if query.live:  # a seat may be given up in a group meeting that goes on
        params["status"] = "active"
    if earliest is not None:
        params["min_start_time"] = written(earliest)
    if latest is not None:
        params["max_start_time"] = written(latest)
    return params


def may_be_meant(raw: Any, query: BookingQuery) -> bool:
    """Whether an event needs to be asked for its invitees: each costs a request."""
    seats = raw["invitees_counter"]
    if query.live is False and raw["status"] == "active" and seats["total"] == seats["active"]:
        return False
    return query.ends_after is None or datetime.fromisoformat(raw["end_time"]) > query.ends_after
