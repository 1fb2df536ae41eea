"""Cal.com's bookings and seats in our words, and a booking as a request. `raw` is a booking's JSON."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from providers.calcom.event_types import OWN_ARGUMENTS, PHONE, chosen, fields, must_have, responses
from schemas import Attendee, Booking, BookingRequest, Identity, InvalidRequest

STATUS = {"accepted": "confirmed", "pending": "pending", "cancelled": "cancelled", "rejected": "declined"}
MARKER = "schedulingGateway"


class Me(Identity):
    id: int


def me(raw: Any) -> Me:
    return Me(id=raw["id"], email=raw["email"], name=raw["name"], time_zone=raw["timeZone"])


def written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def body(raw: Any, request: BookingRequest) -> dict[str, Any]:
    """A booking of the event type `raw`. Raises InvalidRequest for what can be known to be refused."""
    for slug, argument in (("notes", request.notes), ("guests", request.guests)):
        must_have(raw, slug, argument)
    if request.guests and raw.get("disableGuests"):
        raise InvalidRequest("guests: this event type takes none. Leave them out.")
    attendee = {
        "name": request.attendee_name,
        "email": request.attendee_email,
        "timeZone": request.attendee_time_zone,
    }
    if phone := request.answers.get(PHONE):
        attendee["phoneNumber"] = re.sub(r"[^\d+]", "", str(phone))
    answers = responses(raw, request.answers) | ({"notes": request.notes} if request.notes else {})
    if PHONE in fields(raw) and phone:
        answers[PHONE] = attendee["phoneNumber"]
    said = {
        "start": written(request.start),
        "eventTypeId": raw["id"],
        "attendee": attendee,
        "guests": list(request.guests),
        "bookingFieldsResponses": answers,
        "location": chosen(raw, request.location) if request.location else None,
        # Refused where there is nothing to choose from.
        "lengthInMinutes": request.duration_minutes if raw.get("lengthInMinutesOptions") else None,
        "metadata": {MARKER: request.marker} if request.marker else None,
    }
    return {name: value for name, value in said.items() if value not in (None, [], {})}


def bookings(raw: Any) -> Iterator[Booking]:
    """One, or one for each seat; none of a seated meeting that everybody left."""
    seats = _seats(raw)
    for seat in seats:
        yield _booking(raw, seat, shared=len(seats) > 1)
    if not seats and "seatUid" not in raw:
        yield _booking(raw, None, shared=False)


def find(raw: Any, seat_uid: str | None) -> Booking | None:
    """That seat, or the booking where there are no seats; None if there is no such."""
    raw = raw[0] if isinstance(raw, list) else raw  # a series: its first meeting
    seats = _seats(raw)
    if seat_uid is None and not seats:
        return _booking(raw, None, shared=False)
    wanted = [each for each in seats if each["seatUid"] == seat_uid]
    if seat_uid is None and len(seats) == 1:
        wanted = seats
    return _booking(raw, wanted[0], shared=len(seats) > 1) if wanted else None


def made(raw: Any) -> Booking:
    """What a request has made or changed: the seat that the answer names, or the booking."""
    raw = raw[0] if isinstance(raw, list) else raw
    if (booking := find(raw, raw.get("seatUid"))) is None:
        raise LookupError("seatUid")
    return booking


def moved(raw: Any, old: Booking) -> Booking:
    """The same for a move: a seat has a new uid then, and its guest is the same."""
    if "/" not in old.id or raw.get("seatUid"):
        return made(raw)
    email = old.attendees[0].email.lower()
    for each in bookings(raw):
        if each.attendees[0].email.lower() == email:
            return each
    raise LookupError("attendees")


def _seats(raw: Any) -> list[Any]:
    return [each for each in raw["attendees"] if each.get("seatUid")]


def _booking(raw: Any, seat: Any, *, shared: bool) -> Booking:
    said = (seat or raw).get("bookingFieldsResponses") or {}
    url = raw.get("meetingUrl") or raw["location"]
    marks = (seat or raw).get("metadata") or {}
    return Booking(
        id=f"{raw['uid']}/{seat['seatUid']}" if seat else raw["uid"],
        event_type_id=_event_type_id(raw),
        title=raw["title"],
        status=STATUS[raw["status"]],
        start=raw["start"],
        end=raw["end"],
        attendees=(_attendee(seat),) if seat else tuple(_attendees(raw, said)),
        location=raw["location"] or None,
        join_url=url if url and url.startswith(("https://", "http://")) else None,
        answers={key: _answer(value) for key, value in said.items() if _is_answer(key, value)},
        notes=said.get("notes") or None,
        # Of a seat it would name the meeting of all.
        rescheduled_from=None if seat else raw.get("rescheduledFromUid"),
        rescheduled_to=None if seat else raw.get("rescheduledToUid"),
        cancellation_reason=raw.get("cancellationReason") or None,
        created_at=raw["createdAt"],
        marker=marks.get(MARKER),
        shared=shared,
    )


def _event_type_id(raw: Any) -> str | None:
    id = (raw.get("eventType") or {}).get("id") or raw.get("eventTypeId")
    return None if id is None else str(id)


def _attendees(raw: Any, said: Any) -> Iterator[Attendee]:
    """Whoever booked, then the guests, whom some answers have among the attendees and some apart."""
    listed = {each["email"].lower(): each for each in reversed(raw["attendees"])}
    booker = str(said.get("email", "")).lower()
    first = listed.get(booker) or (raw["attendees"][0] if raw["attendees"] else None)
    if first:
        yield _attendee(first)
    known = {first["email"].lower()} if first else set()
    for email in [*(each["email"] for each in raw["attendees"]), *(raw.get("guests") or ())]:
        if email.lower() not in known:
            known.add(email.lower())
            yield _attendee(listed.get(email.lower()) or {"name": "", "email": email})


def _attendee(raw: Any) -> Attendee:
    return Attendee(
        name=raw["name"] or raw["email"],
        email=raw["email"],
        time_zone=raw.get("timeZone"),
        no_show=True if raw.get("absent") else None,
    )


def _is_answer(key: str, value: object) -> bool:
    return key not in (*OWN_ARGUMENTS, PHONE) and value not in (None, "", [])


def _answer(value: Any) -> Any:
    """A radio's answer is wrapped."""
    return str(value.get("value", value)) if isinstance(value, dict) else value
