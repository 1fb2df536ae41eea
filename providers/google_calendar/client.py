"""Talking to Google Calendar: its events one by one and page by page, and what its errors mean.

Also the event types of an account, which Google has none of.
"""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote
from uuid import uuid4

import httpx2

from providers.base import AccountConfig, Services
from providers.google_calendar.auth import GoogleAuth
from providers.google_calendar.config import PRIMARY, GoogleConfig
from providers.google_calendar.events import Json, whole, written
from providers.google_calendar.hours import Unseen, busy_of
from providers.own import OwnEventType, made, only_read, slug_in_use
from providers.rest import RestProvider, an_id, said
from schemas import (
    BusyTime,
    EventType,
    EventTypeChange,
    Identity,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProviderDown,
    RateLimited,
    SchedulingError,
    TimeRange,
)

PAGE = 2500
EVENT_ID = r"[A-Za-z0-9_-]{1,1024}"
# The true limit is not published: others split at 90 days (calcom/cal.diy#11962, noted 2026-11).
BUSY_SPAN, BUSY_CALENDARS = timedelta(days=90), 50
SPENT = ("rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded")
FEW_SCOPES = ("insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT")
BARE = "forbiddenForServiceAccounts"
SECRETS = re.compile(r"ya29\.\S+")
# Sent along with every write: a conference is not kept otherwise (discovery document, 2026-10).
CONFERENCES = {"conferenceDataVersion": 1}


class Changed(InvalidRequest):
    """An event is not what it was when it was read."""


class Duplicate(InvalidRequest):
    """There is an event with that id."""


class GoogleClient(RestProvider):
    Config: ClassVar[type[AccountConfig]] = GoogleConfig
    title = "Google Calendar"
    cool_down = 60.0

    def __init__(self, account: str, config: GoogleConfig, services: Services) -> None:
        super().__init__(account, config, services)
        self._in_file = {kind.slug: kind for kind in config.event_types or ()}
        self._path = f"/calendars/{quote(config.calendar, safe='')}"
        self._is_delegated = not isinstance(config.auth, GoogleAuth) or config.auth.is_delegated

    # The calendar

    async def calendar(self) -> Any:
        """The calendar that bookings are written to: its time zone, and its working hours."""
        return await self.kept("calendar", lambda: self.call("GET", self._path, _calendar))

    def forget(self) -> None:
        # None of our writes changes the calendar itself.
        kept = self._kept.get("calendar")
        super().forget()
        if kept is not None:
            self._kept["calendar"] = kept

    async def whoami(self) -> Identity:
        calendar = self.keep("calendar", await self.call("GET", self._path, _calendar))
        email = calendar["id"]
        if self.config.calendar != PRIMARY:
            email = (await self.call("GET", f"/calendars/{PRIMARY}", _calendar))["id"]
        identity = {"time_zone": calendar["timeZone"], "email": email}
        return self.keep("whoami", self.mapped(Identity.model_validate, identity))

    # Events

    async def event(self, event_id: str) -> Any:
        raw = await self.call("GET", self._event_path(event_id), _event)
        if "start" in raw or "originalStartTime" not in raw:
            return raw
        series = await self.call("GET", self._event_path(str(raw["recurringEventId"])), _event)
        return self.mapped(lambda series: whole(raw, series), series)

    async def events(self, params: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Events in a window, series as their instances. A short or empty page is not the last one."""
        asked = {"singleEvents": "true", "maxResults": PAGE, **params}
        while True:
            page = await self.call("GET", f"{self._path}/events", _page, params=asked)
            for raw in page["items"]:
                yield raw
            if not (token := page.get("nextPageToken")):
                return
            asked = {**asked, "pageToken": token}

    async def insert(self, event: Json) -> Any:
        params = {"sendUpdates": "none", **CONFERENCES}
        return await self.call("POST", f"{self._path}/events", _event, params=params, json=event)

    async def patch(self, raw: Any, changes: Json, tell: bool) -> Any:
        """Change an event as it was read. Raises Changed, if it is not that any more."""
        params = {"sendUpdates": "all" if tell else "none", **CONFERENCES}
        path, match = self._event_path(raw["id"]), {"If-Match": raw["etag"]}
        return await self.call("PATCH", path, _event, params=params, headers=match, json=changes)

    async def change(self, raw: Any, changes: Callable[[Any], Json], tell: bool = True) -> Any:
        """Change an event as it was read; read it again, once, where somebody was quicker."""
        try:
            return await self.patch(raw, changes(raw), tell)
        except (Changed, NotFound):  # what was deleted can be read still
            raw = await self.event(raw["id"])
            return await self.patch(raw, changes(raw), tell)

    async def remove(self, raw: Any) -> None:
        """Delete an event that nobody was told of. Raises Changed, if it is not what it was."""
        path, match = self._event_path(raw["id"]), {"If-Match": raw["etag"]}
        try:
            await self.call("DELETE", path, _nothing, params={"sendUpdates": "none"}, headers=match)
        except NotFound:
            return  # somebody else did

    def _event_path(self, event_id: str) -> str:
        return f"{self._path}/events/{an_id(event_id, 'booking', EVENT_ID)}"

    async def busy_elsewhere(self, window: TimeRange) -> list[BusyTime]:
        """When the other busy calendars are not free."""
        own, primary = {self.config.calendar}, {PRIMARY, (await self.identity()).email}
        own |= primary if own & primary else set()  # under either name
        others = [id for id in dict.fromkeys(self.config.busy_calendars) if id not in own]
        found: list[BusyTime] = []
        for part in window.split(BUSY_SPAN) if others else ():
            for at in range(0, len(others), BUSY_CALENDARS):
                found += await self._busy(part, others[at : at + BUSY_CALENDARS])
        return found

    async def _busy(self, window: TimeRange, calendars: list[str]) -> list[BusyTime]:
        asked = {
            "timeMin": written(window.start),
            "timeMax": written(window.end),
            "items": [{"id": id} for id in calendars],
            "calendarExpansionMax": BUSY_CALENDARS,
        }
        answer = await self.call("POST", "/freeBusy", _busy_answer, read=True, json=asked)
        try:
            return self.mapped(lambda raw: list(busy_of(raw, calendars)), answer)
        except Unseen as unseen:
            what = f"could not look at the calendar {unseen.calendar} ({unseen.reason})"
            advice = "Try again; if that stays, check `busy_calendars` and that the account may see it"
            raise self._failure(ProviderDown, what, advice=advice) from None

    @property
    def missing(self) -> tuple[str, ...]:
        """Scopes that were not granted, as far as Google has said which were."""
        missing: tuple[str, ...] = getattr(self.services.auth, "missing", ())
        return missing

    # Errors

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        reasons = _reasons(response)
        if response.status_code in (403, 429) and reasons & {*SPENT, "RATE_LIMIT_EXCEEDED"}:
            return RateLimited
        if reasons & {BARE, *FEW_SCOPES}:
            return PermissionDenied
        return {409: Duplicate, 412: Changed}.get(response.status_code)

    def complaint(self, response: httpx2.Response) -> str:
        error = said(response).get("error")
        message = error.get("message") if isinstance(error, dict) else None
        return SECRETS.sub("***", str(message or response.text))

    def advise(self, response: httpx2.Response) -> str | None:
        reasons = _reasons(response)
        if reasons & set(FEW_SCOPES) and self.missing:
            return f"Sign in again with what is missing: {' '.join(self.missing)}"
        if reasons & set(FEW_SCOPES):
            named = re.search(r'scope="([^"]*)"', response.headers.get("www-authenticate", ""))
            scopes = f", one of: {' '.join(named[1].split()[:3])}" if named else ""
            return f"Sign in again with the scope that is missing{scopes}"
        if BARE in reasons:
            return "Give the service account a `subject` with domain-wide delegation, or sign in as a person"
        if response.status_code == 412:
            return "Somebody changed it meanwhile; look at it and try again"
        if response.status_code == 409:
            return "Look whether it is the booking that you want, or book again"
        return None

    # Event types, which the gateway keeps

    async def kinds(self) -> dict[str, OwnEventType]:
        # Imported on first use: SQLAlchemy takes longer to import than a client waits for the list of tools.
        from providers import own_store

        async with self.services.storage.read() as connection:
            return {**await own_store.load(connection, self.kept_as), **self._in_file}

    async def kind(self, event_type_id: str) -> OwnEventType:
        return _known(self._in_file.get(event_type_id) or (await self.kinds()).get(event_type_id))

    async def bookable(self, event_type_id: str) -> OwnEventType:
        kind = await self.kind(event_type_id)
        if not kind.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type, or use another one.")
        return kind

    async def list_event_types(self) -> list[EventType]:
        # They can only be booked where the account works, so one that does not must not seem to.
        await self.identity()
        return [kind.shown(id) for id, kind in (await self.kinds()).items()]

    async def get_event_type(self, event_type_id: str) -> EventType:
        return (await self.kind(event_type_id)).shown(event_type_id)

    async def save_event_type(self, event_type_id: str | None, change: EventTypeChange) -> EventType:
        from providers import own_store

        if event_type_id in self._in_file:
            raise only_read(event_type_id)
        async with self.services.storage.write(alone=own_store.name(self.kept_as)) as connection:
            kinds = {**await own_store.load(connection, self.kept_as), **self._in_file}
            if event_type_id is None:
                ids = await own_store.used_ids(connection, self.kept_as)
                used = [*ids, *kinds, *(kind.slug for kind in kinds.values())]
                kind = made(change, used)
                event_type_id = kind.slug if kind.slug not in used else f"{kind.slug}-{uuid4().hex[:6]}"
            else:
                kind = _known(kinds.get(event_type_id)).changed(change)
            if any(kind.slug == other.slug and id != event_type_id for id, other in kinds.items()):
                raise slug_in_use(kind.slug)
            await own_store.put(connection, self.kept_as, event_type_id, kind)
        return kind.shown(event_type_id)

    async def delete_event_type(self, event_type_id: str) -> EventType:
        from providers import own_store

        if event_type_id in self._in_file:
            raise only_read(event_type_id)
        async with self.services.storage.write(alone=own_store.name(self.kept_as)) as connection:
            kind = _known((await own_store.load(connection, self.kept_as)).get(event_type_id))
            await own_store.delete(connection, self.kept_as, event_type_id)
        return kind.shown(event_type_id)


def _known(kind: OwnEventType | None) -> OwnEventType:
    if kind is None:
        raise NotFound("There is no such event type. list_event_types has the ids.")
    return kind


def _reasons(response: httpx2.Response) -> set[str]:
    """Every word for it in an error of the older and the newer form."""
    error = said(response).get("error")
    if not isinstance(error, dict):
        return set()
    each = [*(error.get("errors") or ()), *(error.get("details") or ())]
    return {str(part.get("reason")) for part in each if isinstance(part, dict)}


def _calendar(raw: Any) -> Any:
    return {**raw, "id": str(raw["id"]), "timeZone": str(raw["timeZone"])}


def _event(raw: Any) -> Any:
    return {**raw, "id": str(raw["id"]), "etag": str(raw["etag"]), "status": str(raw["status"])}


def _page(raw: Any) -> Any:
    return {**raw, "items": [_event(each) for each in raw["items"] if not _is_a_trace(each)]}


def _is_a_trace(raw: Any) -> bool:
    """Of what was deleted, nothing but its id is sure to be told (discovery document, Event.status, 2026-10)."""
    return "start" not in raw and raw.get("status", "cancelled") == "cancelled"


def _busy_answer(raw: Any) -> Any:
    return {"calendars": dict(raw["calendars"])}


def _nothing(raw: Any) -> None:
    """An answer that tells nothing but that it was done."""
