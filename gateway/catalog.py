"""Accounts, event types, schedules and links: what there is to book, and when."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gateway.accounts import reading, unavailable
from gateway.answers import (
    AccountAnswer,
    AccountsAnswer,
    EventTypeAnswer,
    EventTypesAnswer,
    LinkAnswer,
    ScheduleAnswer,
    SchedulesAnswer,
)
from gateway.callers import caller
from gateway.connecting import ASK, is_curable, is_others
from gateway.pages import BOOK
from providers import Provider
from schemas import (
    EventType,
    EventTypeChange,
    Feature,
    InvalidRequest,
    NotConnected,
    NotFound,
    OutcomeUnknown,
    PolicyDenied,
    Schedule,
    ScheduleChange,
    SchedulingError,
    SchedulingLink,
    Unsupported,
    weekday,
    zone,
)
from schemas.problems import checked

if TYPE_CHECKING:
    from gateway.core import Gateway


UNPROVEN = "so far only ever run against an emulator of this service."


class Catalog:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def list_accounts(self) -> AccountsAnswer:
        answers = [await self._account(provider) for provider in self._gateway.accounts.values()]
        zones = [answer.time_zone for answer in answers if answer.time_zone]
        now = self._gateway.clock.now().astimezone(zone(zones[0] if zones else "UTC"))
        return AccountsAnswer(accounts=tuple(answers), now=now, weekday=weekday(now))

    async def _account(self, provider: Provider) -> AccountAnswer:
        told: dict[str, Any] = {}
        try:
            identity = await reading(provider, provider.whoami())
        except SchedulingError as error:
            told["state"] = "needs_connection" if isinstance(error, NotConnected) else "failing"
            told["detail"] = error.message
            if is_curable(error):
                if is_others(provider):
                    told["detail"] = f"{error.message} {ASK}"
                with suppress(SchedulingError):  # a vault that is out of order hides no account
                    told["connect_url"] = await self._gateway.connecting.link(provider.account)
            if isinstance(error, NotFound):
                told["detail"] = f"{error.message} Is the account's base_url right?"
        else:
            signed_in = f"{provider.title}, signed in as {identity.name}" if identity.name else provider.title
            told = {"state": "ready", "detail": signed_in, "time_zone": identity.time_zone, "email": identity.email}
        return AccountAnswer(
            account=provider.account,
            provider=provider.config.provider,
            via=provider.config.via,
            cannot={str(feature): advice for feature, advice in provider.gaps.items()},
            notes=_notes(provider),
            **told,
        )

    async def list_event_types(
        self, account: str | None, query: str | None, include_inactive: bool
    ) -> EventTypesAnswer:
        async def of(provider: Provider) -> list[EventType]:
            provider.require(Feature.LIST_EVENT_TYPES)
            return await provider.list_event_types()

        accounts = self._gateway.accounts
        found = (await accounts.ask(accounts.chosen([account] if account else None), of, {})).any()
        words = (query or "").casefold().split()
        return EventTypesAnswer(
            event_types=tuple(
                EventTypeAnswer.of(name, event_type)
                for name, event_types in found.answers.items()
                for event_type in event_types
                if (event_type.active or include_inactive) and all(word in _words(event_type) for word in words)
            ),
            unavailable=tuple(unavailable(found.errors)),
        )

    async def save_event_type(
        self, event_type_id: str | None, account: str | None, changes: Mapping[str, Any]
    ) -> EventTypeAnswer:
        accounts = self._gateway.accounts
        own: str | None = None
        if event_type_id is None:
            provider = accounts.only(account)
        else:
            provider, own = accounts.route(event_type_id, "event_type_id")
            _same_account(account, provider)
        provider.require(Feature.SAVE_EVENT_TYPE)
        for name in ("title", "duration_minutes"):
            if own is None and changes[name] is None:
                raise InvalidRequest(f"{name}: a new event type needs it. To change one, give its event_type_id.")
        change = checked(EventTypeChange, changes)
        provider.require(*change.features)
        if not change.model_dump(exclude_none=True):
            raise InvalidRequest(f"Say what to change: {', '.join(EventTypeChange.model_fields)}.")

        async def look(_: str, __: int) -> EventType | None:
            now = await provider.get_event_type(own or "")
            return now if _has_change(now, change) else None

        saved = await self._gateway.write(
            provider,
            Feature.SAVE_EVENT_TYPE,
            [event_type_id, changes],
            lambda _: provider.save_event_type(own, change),
            None if own is None else look,
        )
        return EventTypeAnswer.of(provider.account, saved)

    async def delete_event_type(self, event_type_id: str) -> EventTypeAnswer:
        provider, own = self._gateway.accounts.route(event_type_id, "event_type_id")
        provider.require(Feature.DELETE_EVENT_TYPE)
        was = await reading(provider, provider.get_event_type(own))

        async def look(_: str, __: int) -> EventType | None:
            try:
                await provider.get_event_type(own)
            except NotFound:
                return was
            return None

        deleted = await self._gateway.write(
            provider, Feature.DELETE_EVENT_TYPE, event_type_id, lambda _: provider.delete_event_type(own), look
        )
        return EventTypeAnswer.of(provider.account, deleted)

    async def list_schedules(self, account: str | None, event_type_id: str | None) -> SchedulesAnswer:
        accounts = self._gateway.accounts
        own: str | None = None
        if event_type_id is not None:
            provider, own = accounts.route(event_type_id, "event_type_id")
            _same_account(account, provider)
            account = provider.account

        async def of(provider: Provider) -> list[ScheduleAnswer]:
            provider.require(Feature.LIST_SCHEDULES)
            return [ScheduleAnswer.of(provider.account, each) for each in await provider.list_schedules(own)]

        found = (await accounts.ask(accounts.chosen([account] if account else None), of, {})).any()
        return SchedulesAnswer(
            schedules=tuple(each for schedules in found.answers.values() for each in schedules),
            unavailable=tuple(unavailable(found.errors)),
        )

    async def update_schedule(self, schedule_id: str, changes: Mapping[str, Any]) -> ScheduleAnswer:
        provider, own = self._gateway.accounts.route(schedule_id, "schedule_id")
        provider.require(Feature.UPDATE_SCHEDULE)
        change = checked(ScheduleChange, changes)
        provider.require(*change.features)
        if not change.model_dump(exclude_none=True):
            raise InvalidRequest(f"Say what to change: {', '.join(ScheduleChange.model_fields)}.")

        old = await reading(provider, provider.get_schedule(own))

        async def look(_: str, __: int) -> Schedule | None:
            now = await provider.get_schedule(own)
            if change.is_in(now):
                return now
            if now != old:
                raise OutcomeUnknown("It was changed in part.")
            return None

        saved = await self._gateway.write(
            provider,
            Feature.UPDATE_SCHEDULE,
            [schedule_id, changes],
            lambda _: provider.update_schedule(old, change),
            look,
        )
        return ScheduleAnswer.of(provider.account, saved)

    async def create_scheduling_link(self, event_type_id: str, single_use: bool) -> LinkAnswer:
        provider, own = self._gateway.accounts.route(event_type_id, "event_type_id")
        provider.require(Feature.CREATE_SCHEDULING_LINK)
        if not single_use:
            provider.require(Feature.CREATE_SCHEDULING_LINK_REUSABLE)
            if caller().policy.bookings is not None:
                raise PolicyDenied(
                    "Your bookings are counted, and those at this link would not be. Make one that is good once "
                    "(single_use).",
                    account=provider.account,
                )
        page = await self._page(provider, own) if provider.guest_page else None

        async def make(_: str) -> SchedulingLink:
            if page is None:
                return await provider.create_scheduling_link(own, single_use)
            token = await self._gateway.links.make(provider.kept_as, own, single_use, caller().name)
            return SchedulingLink(url=f"{page}/{token}", single_use=single_use)

        link = await self._gateway.write(provider, Feature.CREATE_SCHEDULING_LINK, [event_type_id, single_use], make)
        return LinkAnswer(url=link.url, single_use=link.single_use)

    async def _page(self, provider: Provider, event_type_id: str) -> str:
        """Where our own page is. Raises Unsupported where there is none."""
        event_type = await reading(provider, provider.get_event_type(event_type_id))
        if not event_type.active:
            raise InvalidRequest("This event type is not active. Activate it with save_event_type first.")
        if (url := self._gateway.connecting.url) is None:
            raise Unsupported(
                "The page for guests is the gateway's own, which is there only while it is served over HTTP "
                "(`scheduling-gateway serve`). Find a slot and book it for the guest instead.",
                account=provider.account,
            )
        return f"{url}{BOOK}"


def _notes(provider: Provider) -> dict[str, str]:
    notes = provider.notes()
    if provider.only_emulated:
        notes["list_accounts"] = " ".join(filter(None, [notes.get("list_accounts"), UNPROVEN]))
    return notes


def _has_change(now: EventType, change: EventTypeChange) -> bool:
    """Whether an event type is as it was to become."""
    same = {
        "duration_minutes": now.durations_minutes[0],
        "location": change.location if change.location in now.locations else None,
    }
    wanted = change.model_dump(exclude_none=True)
    return all(value == (same[name] if name in same else getattr(now, name)) for name, value in wanted.items())


def _words(event_type: EventType) -> str:
    return f"{event_type.title}\n{event_type.slug}\n{event_type.description or ''}".casefold()


def _same_account(account: str | None, provider: Provider) -> None:
    if account is not None and account != provider.account:
        raise InvalidRequest("account: the id names another one. Leave account out.")
