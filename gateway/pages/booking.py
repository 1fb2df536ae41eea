"""`/book/<token>`: a guest picks a time, answers the questions and books. No account, no script, and nothing of others.

The link is the permission. A cookie tells one visitor from another, so that of two who press the button on a link for
one meeting one books it, and who presses twice books once.
"""

import re
import secrets
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.accounts import zone_of
from gateway.answers import EventTypeAnswer
from gateway.callers import calling, guest_of
from gateway.core import Gateway
from gateway.pages import BOOK, BOOKED
from gateway.pages.free import next_free, slots_of
from gateway.pages.sessions import is_encrypted
from gateway.pages.shown import HEADERS, below, form, message, render
from gateway.pages.week import WEEK, Day, days, first_day, monday, spoken, wanted_zone
from gateway.times import an_instant
from gateway.tools import TOOLS
from schemas import InvalidRequest, NotFound, OutcomeUnknown, SchedulingError, SlotTaken
from schemas.problems import problems

if TYPE_CHECKING:
    from gateway.links import Link

VISITOR = "visitor"
PER_HOUR, PER_DAY = 10, 50
"""How many meetings a link for many books."""

VIEWS = 120
"""How often a link's pages are shown in a minute."""

CREATE = next(spec for spec in TOOLS if spec.name == "create_booking")
FIELDS = {"attendee_name": "name", "attendee_email": "email", "notes": "notes"}

GONE = ("This link is not good any more", "It was used already or taken back. Ask for a new one.")
UNKNOWN = ("There is no such page", "Check that the address is complete, or ask for a new link.")
BUSY = ("Too many visits", "This page is asked for very often just now. Try again in a minute.")
DOWN = "The calendar does not answer right now, so no times can be shown. Try again in a few minutes."
TAKEN = "That time was just taken. Please choose another one."
UNSURE = "It is not certain yet whether this was booked. Wait a minute and press the button again: it is booked once."


class BookingPages:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._views: dict[str, deque[datetime]] = {}

    def routes(self) -> list[Route]:
        path = f"{BOOK}/{{token}}"
        return [Route(path, self.show, methods=["GET"]), Route(path, self.book, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        """The week, or the form for the time that was chosen."""
        link, refusal = await self._link(request)
        if link is None:
            return refusal
        start = request.query_params.get("start")
        try:
            with calling(guest_of(link.account)):
                if start is None:
                    answer = await self._week(request, link)
                else:
                    answer = await self._details(link, start, request.query_params.get("zone"), {}, {})
        except SchedulingError as error:
            answer = failed(error)
        return self._known(request, answer)

    async def book(self, request: Request) -> Response:
        link, refusal = await self._link(request)
        if link is None:
            return refusal
        visitor = request.cookies.get(VISITOR)
        if visitor is None:
            again = (self._here(request), "Choose a time")
            return message("This page was open too long", "Choose your time once more, then book.", 400, again)
        try:
            given = await form(request)
            with calling(guest_of(link.account, visitor)):
                answer = await self._booked(request, link, visitor, given)
        except SchedulingError as error:
            answer = failed(error)
        return self._known(request, answer)

    async def _link(self, request: Request) -> "tuple[Link | None, Response]":
        await self._gateway.open()
        link = await self._gateway.links.find(request.path_params["token"])
        if link is None or self._gateway.pool.named(link.account) is None:
            return None, message(*UNKNOWN, 404)
        if not link.is_for(request.cookies.get(VISITOR, "")):
            return None, message(*GONE, 410)
        if self._is_flooded(link):
            return None, message(*BUSY, 429)
        return link, Response()

    def _is_flooded(self, link: "Link") -> bool:
        now, seen = self._gateway.clock.now(), self._views.setdefault(link.id, deque(maxlen=VIEWS))
        is_flooded = len(seen) == VIEWS and now - seen[0] < timedelta(minutes=1)
        if not is_flooded:
            seen.append(now)
        return is_flooded

    async def _event_type(self, link: "Link") -> EventTypeAnswer:
        provider = self._gateway.accounts[link.name]
        event_type = await provider.get_event_type(link.event_type_id)
        if not event_type.active:
            raise NotFound("This event type is not active.")
        return EventTypeAnswer.of(link.name, event_type)

    async def _week(self, request: Request, link: "Link", problem: str | None = None, status: int = 200) -> Response:
        event_type = await self._event_type(link)
        asked, wrong = wanted_zone(request.query_params.get("zone"))
        tz = asked or await zone_of(self._gateway.accounts[link.name])
        now = self._gateway.clock.now().astimezone(tz)
        first = first_day(request.query_params.get("week"), now.date())
        problem, shown = problem or wrong, list[Day]()
        first_free: str | None = None

        def week(day: date) -> str:
            return f"{self._here(request)}?{urlencode({'zone': tz.key, 'week': day.isoformat()})}"

        try:
            shown = list(days(await slots_of(self._gateway, event_type.id, first, tz), first, tz))
            if not any(day.slots for day in shown):
                free = await next_free(self._gateway, event_type.id, first + WEEK, tz)
                first_free = week(free) if free else None
        except SchedulingError:
            shown, problem = [], DOWN
        return render(
            "book.html",
            status,
            title=event_type.title,
            description=event_type.description,
            minutes=event_type.durations_minutes[0],
            location=event_type.locations[0] if event_type.locations else None,
            host=await self._host(link),
            days=shown,
            zone=tz.key,
            earlier=week(first - WEEK) if first > monday(now.date()) else None,
            later=week(first + WEEK),
            first_free=first_free,
            problem=problem,
            action=self._here(request),
            week_start=first.isoformat(),
        )

    async def _host(self, link: "Link") -> str:
        """Whom a guest meets, by the name that the service has, or else the account's."""
        provider = self._gateway.accounts[link.name]
        return (await provider.identity()).name or provider.account

    async def _details(
        self,
        link: "Link",
        start: str,
        zone_name: str | None,
        values: Mapping[str, Any],
        mistakes: Mapping[str, str],
        problem: str | None = None,
        status: int = 200,
    ) -> Response:
        event_type = await self._event_type(link)
        asked, _ = wanted_zone(zone_name)
        tz = asked or await zone_of(self._gateway.accounts[link.name])
        at = an_instant(start, None, "start", zone_argument=None)
        end = at + timedelta(minutes=event_type.durations_minutes[0])
        provider = self._gateway.accounts[link.name]
        return render(
            "details.html",
            status,
            title=event_type.title,
            host=await self._host(link),
            problem=problem,
            when=spoken(at, end, tz),
            zone=tz.key,
            start=start,
            questions=[
                {**question.model_dump(), "value": values.get(f"answers.{question.key}")}
                for question in event_type.questions
            ],
            takes_notes="create_booking.notes" not in provider.gaps,
            values={name: values.get(name, "") for name in ("name", "email", "notes")},
            problems=dict(mistakes),
            back=f"?{urlencode({'zone': tz.key, 'week': monday(at.astimezone(tz).date()).isoformat()})}",
        )

    async def _booked(self, request: Request, link: "Link", visitor: str, given: Mapping[str, list[str]]) -> Response:
        event_type = await self._event_type(link)
        values = _values(given, event_type)
        start, zone_name = values["start"], values["zone"]

        async def again(mistakes: Mapping[str, str], problem: str | None = None, status: int = 400) -> Response:
            return await self._details(link, start, zone_name, values, mistakes, problem, status)

        arguments, mistakes = _arguments(event_type, values)
        if mistakes:
            return await again(mistakes)
        links = self._gateway.links
        if link.single_use and not await links.claim(link, visitor):
            return message(*GONE, 410)
        if not link.single_use and (
            await links.booked(link, 3600) >= PER_HOUR or await links.booked(link, 86_400) >= PER_DAY
        ):
            return message("Too many bookings", "This link has booked many meetings lately. Try again later.", 429)
        # Whoever has the link for one meeting asks for the same one each time.
        key = f"link {link.id}" if link.single_use else None
        try:
            create = partial(self._gateway.bookings.create, **arguments, idempotency_key=key)
            booking = await self._gateway.audit.call(CREATE.name, create)
        except OutcomeUnknown:
            return await again({}, UNSURE, 502)
        except SchedulingError as error:
            if link.single_use:
                await links.release(link, visitor)
            if isinstance(error, SlotTaken):
                return await self._week(request, link, TAKEN, 409)
            if isinstance(error, InvalidRequest):
                mistakes = _explained(error.message)
                return await again(mistakes, None if mistakes else error.message)
            raise
        own = booking.id.partition(":")[2]
        token = await links.let_in(link, visitor, own, arguments["attendee_time_zone"])
        return RedirectResponse(below(self._gateway, f"{BOOKED}/{token}"), 303, headers=HEADERS)

    def _here(self, request: Request) -> str:
        return below(self._gateway, request.url.path)

    def _known(self, request: Request, answer: Response) -> Response:
        """The answer, with a cookie for a visitor who has none yet."""
        if VISITOR not in request.cookies:
            answer.set_cookie(
                VISITOR,
                secrets.token_urlsafe(24),
                max_age=86_400,
                path=self._here(request),
                httponly=True,
                samesite="lax",
                secure=is_encrypted(self._gateway, request),
            )
        return answer


def failed(error: SchedulingError) -> Response:
    """What a guest is told of an error; what the service said of the account is not theirs to read."""
    if isinstance(error, NotFound):
        return message(*GONE, 410)
    if isinstance(error, InvalidRequest):
        return message("That cannot be done", error.message, 400)
    return message("The calendar does not answer", "Nothing was changed. Try again in a few minutes.", 503)


def _values(given: Mapping[str, list[str]], event_type: EventTypeAnswer) -> dict[str, Any]:
    """What was filled in, by the names of the form."""
    values: dict[str, Any] = {name: given.get(name, [""])[0] for name in ("start", "zone", "name", "email", "notes")}
    for question in event_type.questions:
        said = [each for each in given.get(f"answers.{question.key}", ()) if each.strip()]
        values[f"answers.{question.key}"] = said if question.type == "choices" else "".join(said[:1])
    return values


def _arguments(event_type: EventTypeAnswer, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of a booking, and what is wrong with what was filled in."""
    said = {question.key: values[f"answers.{question.key}"] for question in event_type.questions}
    given = {
        "event_type_id": event_type.id,
        "start": values["start"],
        "attendee_name": values["name"],
        "attendee_email": values["email"],
        "attendee_time_zone": values["zone"],
        "notes": values["notes"] or None,
        "answers": {key: each for key, each in said.items() if each not in ("", [])},
    }
    try:
        checked = CREATE.arguments.model_validate(given)
    except ValidationError as error:
        told = (problem.partition(": ") for problem in problems(error, given))
        return {}, {FIELDS.get(name, name): _said(why) for name, _, why in told}
    names = (*given, "duration_minutes", "guests", "location")
    arguments = {name: getattr(checked, name) for name in names}
    return arguments | {"guests": arguments["guests"] or [], "answers": arguments["answers"] or {}}, {}


def _explained(text: str) -> dict[str, str]:
    """Which answers an error is about, and what is wrong with each."""
    found = re.findall(r"(answers\.\w+): ([^;.]+)", text)
    return {name: _said(why.strip()) for name, why in found}


def _said(why: str) -> str:
    """What is wrong with a field, to somebody who fills it in."""
    if why == "takes a number":
        return "Enter a number."
    if options := re.match(r"(?:is required \(.*\), one of|takes) (.+)", why):
        return f"Choose one: {options[1]}."
    return "Please fill this in." if why.startswith("is required") or why == "is empty" else f"This {why}."
