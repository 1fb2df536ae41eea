"""Cal ID's bookings in our words, and a booking as a request. `raw` is a booking's JSON, whole as lists have it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.calid.event_types import OWN_ARGUMENTS, PHONE, chosen, responses
from schemas import Attendee, Booking, BookingQuery, BookingRequest, InvalidRequest

STATUS = {
    "ACCEPTED": "confirmed",
    "PENDING": "pending",
    "AWAITING_HOST": "pending",
    "CANCELLED": "cancelled",
    "REJECTED": "declined",
}
MARKER = "schedulingGateway"
SECOND = timedelta(seconds=1)


def written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def body(raw: Any, request: BookingRequest) -> dict[str, Any]:
    """A booking of the event type `raw`, with everything that the service would fill in by itself.

    Raises: InvalidRequest for what can be known to be refused.
    """
    if request.guests and raw.get("disableGuests"):
        raise InvalidRequest("guests: this event type takes none. Leave them out.")
    said = {
        **responses(raw, request.answers),
        "name": request.attendee_name,
        "email": request.attendee_email,
        "location": chosen(raw, request.location),
        "guests": list(request.guests),
    }
    said.setdefault(PHONE, "")  # or the guest gets a made-up number
    if request.notes:
        said["notes"] = request.notes
    return {
        "eventTypeId": raw["id"],
        "start": written(request.start),
        "end": written(request.start + timedelta(minutes=raw["length"])),
        "timeZone": request.attendee_time_zone,
        "language": "en",
        "responses": said,
        "metadata": {MARKER: request.marker} if request.marker else {},
    }


def booking(raw: Any) -> Booking:
    said = raw.get("responses") or {}
    metadata = raw.get("metadata") or {}
    join_url = metadata.get("videoCallUrl")
    location = raw.get("location")
    return Booking(
        id=str(raw["id"]),
        event_type_id=_event_type_id(raw),
        title=raw["title"] or "Meeting",
        status=STATUS[raw["status"]],
        start=raw["startTime"],
        end=raw["endTime"],
        attendees=tuple(_attendees(raw, said)),
        location=_address(said) or location,
        join_url=join_url or (location if location and location.startswith(("https://", "http://")) else None),
        answers={key: _answer(value) for key, value in said.items() if _is_answer(key, value)},
        notes=said.get("notes") or None,
        cancellation_reason=raw.get("cancellationReason") or raw.get("rejectionReason"),
        created_at=raw["createdAt"],
        marker=metadata.get(MARKER),
        shared=len(raw.get("seatsReferences") or ()) > 1,
    )


def _event_type_id(raw: Any) -> str | None:
    id = (raw.get("eventType") or {}).get("id") or raw.get("eventTypeId")
    return None if id is None else str(id)


def _address(said: Any) -> str | None:
    location = said.get("location")
    return location.get("optionValue") or None if isinstance(location, dict) else None


def _attendees(raw: Any, said: Any) -> Iterator[Attendee]:
    """Whoever booked, then the guests, whom some answers have among the attendees and some apart."""
    listed = {each["email"].lower(): each for each in reversed(raw["attendees"])}
    booker = str(said.get("email", "")).lower()
    first = listed.get(booker) or (raw["attendees"][0] if raw["attendees"] else None)
    known: set[str] = set()
    for each in [*([first] if first else []), *raw["attendees"], *({"email": e} for e in said.get("guests") or ())]:
        if each["email"].lower() not in known:
            known.add(each["email"].lower())
            yield _attendee(each)


def _attendee(raw: Any) -> Attendee:
    return Attendee(
        name=raw.get("name") or raw["email"],
        email=raw["email"],
        time_zone=raw.get("timeZone"),
        no_show=True if raw.get("noShow") else None,
    )


def _is_answer(key: str, value: object) -> bool:
    return key not in OWN_ARGUMENTS and value not in (None, "", [])


def _answer(value: Any) -> Any:
    return str(value.get("value", value)) if isinstance(value, dict) else value


def buckets(query: BookingQuery, now: datetime) -> list[str]:
    """The lists in which bookings like that are; there is none of all."""
    ahead = query.ends_after is not None and query.ends_after >= now - SECOND
    live = ["unconfirmed"] if query.pending else ["upcoming", "unconfirmed", "recurring", *([] if ahead else ["past"])]
    return {True: live, False: ["cancelled"], None: ["upcoming", "unconfirmed", "recurring", "past", "cancelled"]}[
        query.live
    ]


def list_query(query: BookingQuery, longest: timedelta) -> dict[str, Any]:
    """What Cal ID can narrow: by start and end."""
    earliest, latest = query.starts(longest)
    params: dict[str, Any] = {"sortStart": "desc" if query.newest_first else "asc"}
    if earliest is not None:
        params["afterStartDate"] = written(earliest)
    if latest is not None:
        params["beforeEndDate"] = written(latest + longest)
    return params
