"""Events of Google's MCP server, read and written as those of the REST API are."""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import httpx2

from providers.base import AccountConfig, Services
from providers.google_calendar import events
from providers.google_calendar.client import EVENT_ID, Changed, GoogleClient
from providers.google_calendar.config import PRIMARY, GoogleMcpConfig
from providers.google_calendar.events import Json
from providers.google_calendar.hours import is_busy, span
from providers.google_calendar.kept import Kept, KeptEvents
from providers.google_calendar.tools import as_rest, changed, described, key, own_answer, span_of, times
from providers.hosted import HostedProvider, Operation
from providers.rest import an_id
from providers.upstream import Tools
from schemas import (
    BusyTime,
    Identity,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderDown,
    SchedulingError,
    TimeRange,
    Unsupported,
    zone,
)

PAGE = 250
DAY = timedelta(days=1)
ALL, NONE = "ALL", "NONE"
NOT_ENROLLED = "developer preview"
REFUSED = re.compile(r"invalid value at|missing required field|invalid json payload", re.IGNORECASE)
# What is compared, to see whether an event is still what it was.
SAME = ("updated", "status", "start", "end", "summary", "description", "location", "attendees")


class GoogleTools(HostedProvider, GoogleClient):
    Config: ClassVar[type[AccountConfig]] = GoogleMcpConfig

    def __init__(self, account: str, config: GoogleMcpConfig, services: Services) -> None:
        super().__init__(account, config, services)
        self._memory = KeptEvents(services.storage, services.kept_as or account)

    # The server

    def place(self, operation: Operation, tools: Tools) -> tuple[str, dict[str, Any]]:
        name = operation.path
        if name not in tools:
            raise self.lacking(name)
        return name, {**operation.params, **(operation.body or {})}

    def status(self, error: Mapping[str, Any]) -> int | None:
        inner = error.get("error")
        code = inner.get("code") if isinstance(inner, dict) else None
        return code if isinstance(code, int) and 400 <= code < 600 else None

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        if NOT_ENROLLED in response.text.lower():
            return PermissionDenied
        return InvalidRequest if REFUSED.search(response.text) else super().explain(response)

    def advise(self, response: httpx2.Response) -> str | None:
        if NOT_ENROLLED in response.text.lower():
            return "Enrol the project of the OAuth client, or configure the account with `via: api`"
        return super().advise(response)

    async def _read(self, tool: str, **arguments: Any) -> Any:
        return await self.call("GET", tool, _object, params=arguments)

    async def _write(self, tool: str, **arguments: Any) -> Any:
        return await self.call("POST", tool, _an_event, json={"calendarId": self.config.calendar, **arguments})

    # The calendar

    async def calendar(self) -> Any:
        return await self.kept("calendar", lambda: self._envelope(self.config.calendar))

    async def _envelope(self, calendar: str) -> Any:
        """A calendar has no tool of its own, but a list of events is headed by it."""
        now = self.clock.now()
        first = {"startTime": events.written(now), "endTime": events.written(now + timedelta(seconds=1)), "pageSize": 1}
        raw = await self._read("list_events", calendarId=calendar, **first)
        return self.mapped(lambda raw: {"id": raw.get("summary"), "timeZone": str(raw["timeZone"])}, raw)

    async def whoami(self) -> Identity:
        calendar = self.keep("calendar", await self._envelope(self.config.calendar))
        primary = calendar if self.config.calendar == PRIMARY else await self._envelope(PRIMARY)
        # The primary calendar is named after its owner, unless somebody renamed it.
        email = primary["id"] if "@" in str(primary["id"]) else None
        identity = {"time_zone": calendar["timeZone"], "email": email}
        return self.keep("whoami", self.mapped(Identity.model_validate, identity))

    # Events

    async def event(self, event_id: str) -> Any:
        id = an_id(event_id, "booking", EVENT_ID)
        try:
            raw = await self._read("get_event", calendarId=self.config.calendar, eventId=id)
        except NotFound:
            for kept in await self._memory.cancelled():
                if kept.cancelled and kept.cancelled["id"] == id:
                    return as_rest(kept.cancelled, kept.private)
            raise
        if raw.get("status") == "cancelled":
            await self._remember(raw)
        return (await self._known([raw]))[0]

    async def _remember(self, raw: Any) -> None:
        """A cancelled event, which no list has any more."""
        id = self.mapped(key, raw)
        kept = (await self._memory.of([id])).get(id)
        if kept is not None and kept.cancelled is None:
            await self._memory.keep(id, Kept(kept.private, raw))

    async def events(self, params: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        window = TimeRange(
            start=datetime.fromisoformat(params["timeMin"]) - DAY, end=datetime.fromisoformat(params["timeMax"])
        )
        gone = await self._cancelled(window) if params.get("showDeleted") == "true" else []
        async for raw, _ in self._listed(self.config.calendar, window):
            # What was called off and is there has been put back by hand.
            gone = [each for each in gone if each[1]["id"] != raw["id"]]
            while gone and gone[0][0] < span_of(raw)[0]:
                yield gone.pop(0)[1]
            if "eventTypes" not in params or raw["eventType"] == params["eventTypes"]:
                yield raw
        for _, raw in gone:
            yield raw

    async def _listed(self, calendar: str, window: TimeRange) -> AsyncGenerator[tuple[Json, ZoneInfo], None]:
        """The events of a calendar, each with the zone that its days are those of."""
        asked = {
            "calendarId": calendar,
            "startTime": events.written(window.start),
            "endTime": events.written(window.end),
            "orderBy": "startTime",
            "pageSize": PAGE,
        }
        while True:
            page = await self._read("list_events", **asked)
            raws, tz = self.mapped(_page, page)
            for raw in await self._known(raws):
                if "recurrence" in raw:
                    what = "lists a series as one event, so that it is not known when it takes place"
                    raise self._failure(ProviderDown, what, advice="Configure the account with `via: api`")
                yield raw, tz
            if not (token := page.get("nextPageToken")):
                return
            asked["pageToken"] = token

    async def _known(self, raws: Sequence[Any]) -> list[Json]:
        """Events of a tool with what we keep of them."""
        keys = self.mapped(lambda raws: [key(raw) for raw in raws], raws)
        kept = await self._memory.of(keys)
        nothing = Kept()
        return [
            self.mapped(lambda raw, id=id: as_rest(raw, kept.get(id, nothing).private), raw)  # type: ignore[misc]  # mypy reads no default of a lambda
            for id, raw in zip(keys, raws, strict=True)
        ]

    async def _cancelled(self, window: TimeRange) -> list[tuple[datetime, Json]]:
        """Those that we cancelled, by their beginning."""
        found = [as_rest(kept.cancelled, kept.private) for kept in await self._memory.cancelled()]
        within = [(span_of(raw)[0], raw) for raw in found if window.overlaps(*span_of(raw))]
        return sorted(within, key=lambda each: each[0])

    async def busy_elsewhere(self, window: TimeRange) -> list[BusyTime]:
        own, primary = {self.config.calendar}, {PRIMARY, (await self.identity()).email}
        own |= primary if own & primary else set()  # under either name
        found: list[BusyTime] = []
        for calendar in dict.fromkeys(self.config.busy_calendars):
            if calendar in own:
                continue
            async for raw, tz in self._listed(calendar, TimeRange(start=window.start - DAY, end=window.end)):
                if self.mapped(is_busy, raw):
                    start, end = (datetime.fromtimestamp(at, tz) for at in self.mapped(partial(span, zone=tz), raw))
                    found.append(BusyTime(start=start, end=end))
        return found

    async def insert(self, event: Json) -> Any:
        private = event["extendedProperties"]["private"]
        marker = private[events.MARKER]
        # First, so that whatever becomes of the request is known again.
        await self._memory.keep(marker, Kept(_to_keep(event)))
        place = {"location": event["location"]} if "location" in event else {}
        try:
            made = await self._write(
                "create_event",
                summary=event["summary"],
                description=described(event),
                notificationLevel=NONE,
                **times(event),
                **place,
            )
        except OutcomeUnknown:
            raise
        except SchedulingError:
            await self._memory.drop(marker)
            raise
        [raw] = await self._known([made])
        if span_of(raw) != span_of(event) or key(made) != marker:
            with suppress(SchedulingError):
                await self.remove(raw)
            what = "made the event at another time, or with another description, than it was asked for"
            raise self._failure(ProviderDown, what, advice="Nobody was told of it, and it was removed")
        return raw

    async def patch(self, raw: Any, changes: Json, tell: bool) -> Any:
        await self._must_be(raw)
        event = _merged(raw, changes)
        before, after = _to_keep(raw), _to_keep(event)
        id = _marker_or_id(raw)
        if before != after:  # first, so that it is known whatever becomes of the request
            await self._memory.keep(id, Kept(after))
        try:
            return await self._sent(raw, event, tell)
        except OutcomeUnknown:
            raise
        except SchedulingError:
            if before != after:
                await self._memory.keep(id, Kept(before))
            raise

    async def _sent(self, raw: Any, event: Json, tell: bool) -> Any:
        level = {"eventId": raw["id"], "notificationLevel": ALL if tell else NONE}
        told: Any = None
        if event["status"] == "cancelled":
            told = {**await self._write("delete_event", **level), "status": "cancelled"}
            with suppress(SchedulingError):  # it is done, whether or not that can be kept
                await self._memory.keep(self.mapped(key, told), Kept(_to_keep(event), told))
        elif event["status"] != raw["status"] and not events.is_ours(raw):
            raise Unsupported(
                f"{self.title}'s MCP server has no tool that confirms an event that was not booked here. Confirm it in "
                "Google Calendar, or configure the account with `via: api`.",
                account=self.account,
            )
        else:
            if arguments := dict(changed(raw, event)):
                told = await self._write("update_event", **level, **arguments)
            if response := own_answer(raw, event):
                told = await self._write("respond_to_event", **level, responseStatus=response)
            if told is None:
                return event
        return (await self._known([told]))[0]

    async def remove(self, raw: Any) -> None:
        with suppress(NotFound):
            await self._must_be(raw)
            await self._write("delete_event", eventId=raw["id"], notificationLevel=NONE)
        # What never was a booking is not remembered.
        await self._memory.drop(_marker_or_id(raw))

    async def _must_be(self, raw: Any) -> None:
        """Raises Changed if an event is not what it was when it was read."""
        now = await self.event(raw["id"])
        if any(now.get(name) != raw.get(name) for name in SAME):
            raise Changed("Somebody changed it meanwhile; look at it and try again.", account=self.account)


def _object(raw: Any) -> Any:
    return {**raw}


def _marker_or_id(raw: Any) -> str:
    """What an event is kept under."""
    return str(events.private(raw).get(events.MARKER, raw["id"]))


def _merged(raw: Any, changes: Json) -> Json:
    """An event as it is to be."""
    event = {**raw, **changes}
    if "extendedProperties" in changes:
        private = {**events.private(raw), **changes["extendedProperties"]["private"]}
        event["extendedProperties"] = {"private": {n: value for n, value in private.items() if value is not None}}
    return event


def _page(raw: Any) -> tuple[list[Any], ZoneInfo]:
    """The events of a page, which are left out where there are none; the zone never is."""
    return list(raw.get("events") or ()), zone(str(raw["timeZone"]))


def _an_event(raw: Any) -> Any:
    as_rest(raw, {})
    return {**raw}


def _to_keep(event: Json) -> dict[str, str]:
    return {name: value for name, value in events.private(event).items() if name != events.HOLD}
