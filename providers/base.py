"""The adapter contract: what every service is asked, in the gateway's words.

The gateway checks everything that holds for all services before it calls, so an adapter shapes a request, makes it and
maps the answer. Ids here are the service's own. What a service cannot do stands in `gaps`, with advice; what it does
with a reservation in `caveats`. Both are written once and read by the refusal, `list_accounts`, the tool descriptions,
the README and the conformance suite.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import httpx2
from pydantic import BaseModel, SecretStr

from providers.clock import Clock
from providers.watch import Watch, unwatched
from schemas import (
    Booking,
    BookingQuery,
    BookingRequest,
    BookingResponse,
    BusyTime,
    EventType,
    EventTypeChange,
    Feature,
    Identity,
    Model,
    Offer,
    Schedule,
    ScheduleChange,
    SchedulingLink,
    TimeRange,
    Unsupported,
)

if TYPE_CHECKING:
    from providers.storage import Storage
    from providers.vault import Vault


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` in any `seconds`."""

    most: int
    seconds: int


class AccountConfig(Model):
    """What stands under an account's name in the configuration. Adapters add their own keys in a subclass."""

    provider: str
    via: str = "api"
    owner: Literal["caller"] | None = None
    """Whose the account is: everybody's who may use it, or each caller's own."""

    def secrets(self) -> tuple[str, ...]:
        """Every secret value in here, so that none is ever shown."""
        return tuple(secrets_in(self))


@dataclass(frozen=True, slots=True)
class Services:
    """What the gateway lends an adapter. `transport` stands in for the network in tests.

    `kept_as` is the name that the account's rows are kept under: with whose it is, where each caller has one's own.
    """

    clock: Clock
    storage: "Storage"
    vault: "Vault"
    auth: httpx2.Auth | None = None
    transport: httpx2.AsyncBaseTransport | None = None
    kept_as: str | None = None
    watch: Watch = unwatched


class Provider:
    """One account at one service. A method that is left out must be declared in `gaps`."""

    title: ClassVar[str]
    gaps: ClassVar[Mapping[Feature, str]] = {}
    caveats: ClassVar[Mapping[Feature, str]] = {}
    rebooks: ClassVar[bool] = False
    """The service cannot move a booking: the gateway books anew and cancels, instead of `reschedule_booking`."""
    overwrites: ClassVar[bool] = False
    """The service takes a change whatever has become of the booking: one that arrives late undoes a newer one."""
    offers_own_time: ClassVar[bool] = True
    """`find_slots` counts the time of the booking to be moved as free."""
    guest_page: ClassVar[bool] = False
    """The service has no page where guests book: the gateway's own stands in, instead of `create_scheduling_link`."""
    only_emulated: ClassVar[bool] = False
    """This adapter was only ever run against an emulator of the service."""
    limits: ClassVar[tuple[str, ...]] = ()
    """What the service or the adapter puts a number to, in sentences for the README."""
    booking_limits: tuple[Limit, ...] = ()
    """How many bookings the service lets us make; the gateway counts them."""
    Config: ClassVar[type[AccountConfig]] = AccountConfig

    def __init__(self, account: str, config: Any, services: Services) -> None:
        self.account = account
        self.kept_as = services.kept_as or account
        self.config = config
        self.clock = services.clock
        self.services = services

    @property
    def changes_alone(self) -> bool:
        """A booking may be changed by one call at a time: the service does not keep two of them apart."""
        return self.rebooks or self.overwrites

    async def close(self) -> None:
        """Give back what is held open."""

    def notes(self) -> dict[str, str]:
        """What this very account does with a reservation: the caveats, and what is known of it alone by now."""
        return {str(feature): caveat for feature, caveat in self.caveats.items()}

    def require(self, *features: Feature) -> None:
        """Refuse, with the declared advice, what this service cannot do. Nothing has been sent by then."""
        for feature in features:
            if feature in self.gaps:
                raise Unsupported(f"{feature}: {self.gaps[feature]}", account=self.account)

    def forget(self) -> None:
        """Drop what is remembered of the service, for a request that must not rest on it."""

    def must_take(self, requests: int) -> None:
        """Raise RateLimited if the service is known to take fewer requests for now."""

    async def whoami(self) -> Identity:
        """Who is signed in; proves that the account works."""
        raise NotImplementedError

    async def identity(self) -> Identity:
        """The same as `whoami`, but may be remembered from a while ago."""
        return await self.whoami()

    async def list_event_types(self) -> list[EventType]:
        """All event types, inactive ones too."""
        raise NotImplementedError

    async def get_event_type(self, event_type_id: str) -> EventType:
        """One event type; NotFound if there is none."""
        raise NotImplementedError

    async def save_event_type(self, event_type_id: str | None, change: EventTypeChange) -> EventType:
        """Create (no id; title and duration are given) or change an event type."""
        raise NotImplementedError

    async def delete_event_type(self, event_type_id: str) -> EventType:
        """Delete an event type and answer what it was. Bookings stay."""
        raise NotImplementedError

    async def find_slots(
        self, event_type_id: str, window: TimeRange, duration_minutes: int | None, moving: str | None
    ) -> Offer:
        """The slots that start in `window`. The booking `moving` counts as free, where the service can do that."""
        raise NotImplementedError

    async def find_busy_times(self, window: TimeRange) -> list[BusyTime]:
        """When the owner is not free."""
        raise NotImplementedError

    async def check_booking(self, request: BookingRequest) -> None:
        """Raise InvalidRequest for what the service is known to refuse. Nothing is sent that changes anything."""

    async def lists(self, request: BookingRequest) -> bool:
        """Whether `list_bookings` shows what this request makes, whoever becomes its host."""
        return True

    async def create_booking(self, request: BookingRequest) -> Booking:
        """Book. SlotTaken if the time is not on offer (any more)."""
        raise NotImplementedError

    def list_bookings(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        """The bookings in order of their start. More than was asked for is fine, fewer is not."""
        raise NotImplementedError

    async def get_booking(self, booking_id: str) -> Booking:
        """One booking, cancelled ones too; NotFound if there is none."""
        raise NotImplementedError

    async def reschedule_booking(self, booking: Booking, start: datetime, reason: str | None) -> Booking:
        """Move a live booking. SlotTaken if the time is not on offer."""
        raise NotImplementedError

    async def cancel_booking(self, booking: Booking, reason: str | None) -> Booking:
        """Cancel a live booking."""
        raise NotImplementedError

    async def respond_to_booking(self, booking: Booking, response: BookingResponse, reason: str | None) -> Booking:
        """Confirm, decline or tentatively accept a booking, or note whether the guest came."""
        raise NotImplementedError

    async def list_schedules(self, event_type_id: str | None) -> list[Schedule]:
        """All schedules, or those that an event type follows."""
        raise NotImplementedError

    async def get_schedule(self, schedule_id: str) -> Schedule:
        """One schedule; NotFound if there is none."""
        raise NotImplementedError

    async def update_schedule(self, old: Schedule, change: ScheduleChange) -> Schedule:
        """Change the days and dates given, leave the others, and answer the whole as the service now has it."""
        raise NotImplementedError

    async def create_scheduling_link(self, event_type_id: str, single_use: bool) -> SchedulingLink:
        """A link to a page where a guest books."""
        raise NotImplementedError


def secrets_in(value: object) -> Iterator[str]:
    """Every secret value of a configuration, or of a part of one."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from secrets_in(item)
