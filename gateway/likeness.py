"""Whether a booking is what a request asked for: services give things back in words of their own."""

from schemas import LIVE, Answer, Booking, BookingRequest, BookingResponse


def unlike(booking: Booking, request: BookingRequest) -> str | None:
    """What the answer must say where the request is answered with a booking that was there before."""
    if booking.status not in LIVE:
        return f"This key made that booking, which is {booking.status} by now. Use a new key to book again."
    if booking.start != request.start:
        return "This key made that booking, which was moved since. Use a new key to book again."
    guest, *others = booking.attendees
    same = {
        "attendee_name": guest.name == request.attendee_name,
        "guests": not request.guests or {each.email for each in others} >= set(request.guests),
        "answers": all(_told(booking.answers.get(key)) == _told(each) for key, each in request.answers.items()),
        "location": _is_at(booking, request.location),
        "notes": request.notes in (None, booking.notes),
    }
    if unlike := [name for name, is_same in same.items() if not is_same]:
        return f"It was booked before, and is not changed by this call: {', '.join(unlike)}. No tool changes them."
    return None


def _is_at(booking: Booking, wanted: str | None) -> bool:
    """Services show where a meeting is in words of their own: a link, or the guest's number alone."""
    at = booking.location or ""
    return wanted is None or wanted.endswith(at) or at.startswith(("https://", "http://"))


def _told(answer: Answer | None) -> str:
    """An answer as services give it back: some know text alone."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return ("\n".join(map(str, answer)) if isinstance(answer, tuple) else str(answer)).casefold()


def is_alike(booking: Booking, request: BookingRequest) -> bool:
    is_same_guest = request.attendee_email.lower() in [each.email.lower() for each in booking.attendees[:1]]
    return is_same_guest and (booking.event_type_id, booking.start) == (request.event_type_id, request.start)


def has_answer(booking: Booking, response: BookingResponse) -> bool:
    match response:
        case "confirm":
            return booking.status == "confirmed"
        case "decline":
            return booking.status == "declined"
        case "no_show" | "clear_no_show":
            return any(each.no_show for each in booking.attendees[:1]) == (response == "no_show")
        case "tentative":
            return any(each.response == "tentative" for each in booking.attendees)
