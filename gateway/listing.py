"""Which bookings there are, over all accounts, page by page."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from gateway.accounts import unavailable, zone_of
from gateway.answers import BookingAnswer, BookingsAnswer, routed
from gateway.paging import Cursor
from gateway.times import a_zone, an_instant
from providers import Provider
from schemas import LIVE, Booking, BookingQuery, Feature, InvalidRequest

if TYPE_CHECKING:
    from gateway.core import Gateway

Status = Literal["upcoming", "past", "cancelled", "pending", "all"]
Entry = tuple[tuple[float, str], Booking, ZoneInfo]
"""A booking, before it where it stands in the order and after it the zone it is shown in."""


class Listing:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def find(
        self,
        account: str | None,
        status: Status,
        query: str | None,
        start: str | None,
        end: str | None,
        attendee_email: str | None,
        time_zone: str | None,
        limit: int,
        cursor: str | None,
    ) -> BookingsAnswer:
        accounts, now = self._gateway.accounts, self._gateway.clock.now()
        tz = a_zone(time_zone)
        begins = an_instant(start, tz, "start") if start else None
        ends = an_instant(end, tz, "end") if end else None
        if begins and ends and ends <= begins:
            raise InvalidRequest("end: must be after start.")
        if ends and ends <= now and status in ("upcoming", "pending"):
            raise InvalidRequest("end: is in the past, where nothing is upcoming. Ask with status past or all.")
        page = Cursor.read(cursor, "list_bookings", account, status, query, start, end, attendee_email, time_zone)
        wanted, is_wanted = _wanted(status, now, begins, ends, attendee_email, query)
        if page.position:
            wanted = wanted.model_copy(update={"resume_at": datetime.fromtimestamp(page.position[0], now.tzinfo)})

        sign = -1 if wanted.newest_first else 1
        last = (sign * page.position[0], page.position[1]) if page.position else None

        async def of(provider: Provider) -> list[Entry]:
            provider.require(Feature.LIST_BOOKINGS)
            shown = tz or await zone_of(provider)
            found: list[Entry] = []
            async with aclosing(provider.list_bookings(wanted)) as bookings:
                async for booking in bookings:
                    at = (sign * booking.start.timestamp(), routed(provider.account, booking.id))
                    if len(found) > limit and at[0] > found[-1][0][0]:
                        break
                    if is_wanted(booking) and (last is None or at > last):
                        found.append((at, booking, shown))
            return await self._with_moves(provider, found)

        found = (await accounts.ask(accounts.chosen([account] if account else None), of, page.failed)).any()
        entries = sorted(
            ((at, name, booking, shown) for name, each in found.answers.items() for at, booking, shown in each),
            key=lambda entry: entry[0],
        )
        more = len(entries) > limit
        failed = {name: error.code for name, error in found.errors.items()}
        position = (entries[limit - 1][2].start.timestamp(), entries[limit - 1][0][1]) if more else ()
        return BookingsAnswer(
            bookings=tuple(BookingAnswer.of(name, booking, shown) for _, name, booking, shown in entries[:limit]),
            now=now.astimezone(tz or next((entry[3] for entry in entries), None)),
            unavailable=tuple(unavailable(found.errors)),
            next_cursor=page.next(position, failed) if more else None,
        )

    async def _with_moves(self, provider: Provider, found: list[Entry]) -> list[Entry]:
        """What was moved by booking anew says where to: its service does not know."""
        gone = [booking.id for _, booking, _ in found if booking.status not in LIVE and not booking.rescheduled_to]
        if not gone:
            return found
        to = await self._gateway.moves.of(provider.kept_as, gone)
        return [(at, _moved(booking, to.get(booking.id)), shown) for at, booking, shown in found]


def _moved(booking: Booking, to: str | None) -> Booking:
    return booking if to is None else booking.model_copy(update={"rescheduled_to": to})


def _wanted(
    status: Status,
    now: datetime,
    begins: datetime | None,
    ends: datetime | None,
    attendee_email: str | None,
    words: str | None,
) -> tuple[BookingQuery, Callable[[Booking], bool]]:
    """What to ask a provider for, and which of what it lists is really meant."""
    live = {"upcoming": True, "pending": True, "past": True, "cancelled": False, "all": None}[status]
    ahead, over = status in ("upcoming", "pending"), status == "past"
    bounds: dict[str, Any] = {
        "ends_after": max(filter(None, (begins, now if ahead else None)), default=None),
        "starts_before": min(filter(None, (ends, now if over else None)), default=None),
    }
    email, sought = (attendee_email or "").lower(), (words or "").casefold().split()

    def is_wanted(booking: Booking) -> bool:
        people = "\n".join(f"{each.name}\n{each.email}" for each in booking.attendees)
        return (
            (live is None or (booking.status in LIVE) == live)
            and (status != "pending" or booking.status == "pending")
            and (not ahead or booking.end > now)
            and (not over or booking.end <= now)
            and (begins is None or booking.end > begins)
            and (ends is None or booking.start < ends)
            and (not email or any(each.email.lower() == email for each in booking.attendees))
            and all(word in f"{booking.title}\n{people}".casefold() for word in sought)
        )

    order, pending = status in ("past", "cancelled"), status == "pending"
    query = BookingQuery(live=live, pending=pending, attendee_email=attendee_email, newest_first=order, **bounds)
    return query, is_wanted
