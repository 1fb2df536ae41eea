"""Talking to Calendly: the configuration, who is signed in, lists page by page, and what its errors mean."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, ClassVar, cast

import httpx2
from pydantic import Field, field_validator

from providers.auth import BearerAuth
from providers.base import AccountConfig, Limit
from providers.calendly.bookings import booking
from providers.calendly.wire import Host, codes, complaint, host, page, uuid
from providers.oauth import Endpoints, OAuthAuth, Target
from providers.rest import RestConfig, RestProvider, an_id, said
from schemas import Booking, InvalidRequest, Model, ProviderDown, SchedulingError, SlotTaken

PAGE = 100


class BookingLimits(Model):
    """How many bookings the plan lets one make through the API. https://developer.calendly.com/api-docs/overview/rate-limits
    (2026-04-15: 10, 50 and 100 on paid plans; trials and Enterprise differ)."""

    minute: int = Field(10, ge=1)
    hour: int = Field(50, ge=1)
    day: int = Field(100, ge=1)


SIGN_IN = Endpoints(
    authorization="https://auth.calendly.com/oauth/authorize",
    token="https://auth.calendly.com/oauth/token",  # noqa: S106 - an address
    revocation="https://auth.calendly.com/oauth/revoke",
    method="client_secret_basic",
)


class CalendlyConfig(RestConfig):
    base_url: str = "https://api.calendly.com"
    auth: Annotated[BearerAuth | OAuthAuth, Field(discriminator="type")]
    booking_limits: BookingLimits = BookingLimits()

    @field_validator("auth")
    @classmethod
    def _has_a_client(cls, auth: BearerAuth | OAuthAuth) -> BearerAuth | OAuthAuth:
        if isinstance(auth, OAuthAuth) and auth.client_id is None:
            raise ValueError("needs the client_id of an OAuth app made at developer.calendly.com")
        return auth

    def target(self) -> Target:
        """https://developer.calendly.com/how-to-access-calendly-data-on-behalf-of-authenticated-users (2026-11)"""
        return Target(resource=None, endpoints=SIGN_IN)


class CalendlyClient(RestProvider):
    Config: ClassVar[type[AccountConfig]] = CalendlyConfig
    title = "Calendly"
    cool_down = 60.0

    @property
    def booking_limits(self) -> tuple[Limit, ...]:  # type: ignore[override]  # here it is configured
        limits: BookingLimits = self.config.booking_limits
        return Limit(limits.minute, 60), Limit(limits.hour, 3600), Limit(limits.day, 86_400)

    async def whoami(self) -> Host:
        return self.keep("whoami", await self.call("GET", "/users/me", host))

    async def me(self) -> Host:
        return cast(Host, await self.identity())

    async def pages(self, path: str, params: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Every item of a list, page after page."""
        token: str | None = None
        while True:
            asked = {"count": PAGE, **params, **({"page_token": token} if token else {})}
            items, token = await self.call("GET", path, page, params=asked)
            for item in items:
                yield item
            if token is None:
                return

    async def event_types(self) -> list[Any]:
        host = await self.me()

        async def fetch() -> list[Any]:
            return [each async for each in self.pages("/event_types", {"user": host.uri})]

        return await self.fresh("event types", fetch, lambda raw: ("event type", uuid(raw["uri"])))

    async def event_type(self, event_type_id: str) -> Any:
        path = f"/event_types/{an_id(event_type_id, 'event type')}"
        return await self.kept(("event type", event_type_id), lambda: self.call("GET", path, resource))

    async def change(self, path: str, body: dict[str, Any]) -> Any:
        return await self.call("PATCH", path, resource, json=body)

    async def event(self, event_id: str) -> Any:
        return await self.call("GET", f"/scheduled_events/{event_id}", resource)

    async def bookings(self, events: Sequence[Any]) -> list[Booking]:
        """Every seat of these events, in their order."""
        invitees = await asyncio.gather(*(self._invitees(event) for event in events))
        pairs = ((event, each) for event, seats in zip(events, invitees, strict=True) for each in seats)
        return [self.booking(event, invitee) for event, invitee in pairs]

    def booking(
        self, event: Any, invitee: Any, lost: type[SchedulingError] = ProviderDown, kind: Any = None
    ) -> Booking:
        kind = kind or self.known(("event type", uuid(event["event_type"])))
        return self.mapped(lambda _: booking(event, invitee, kind), None, lost)

    async def _invitees(self, event: Any) -> list[Any]:
        async def fetch() -> list[Any]:
            return [each async for each in self.pages(f"/scheduled_events/{uuid(event['uri'])}/invitees", {})]

        seats = event["invitees_counter"]
        # Whatever happens to a seat changes one of these.
        version = (event["uri"], event["updated_at"], event["status"], seats["total"], seats["active"])
        return await self.kept(("invitees", *version), fetch)

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        body, status = said(response), response.status_code
        if status == 400 and "already_filled" in codes(body):
            return SlotTaken
        if status == 403 and str(body.get("message")) in ("Event is already canceled", "Event in the past"):
            return InvalidRequest
        # A calendar of the user's that Calendly cannot read: what is in it is unknown.
        return ProviderDown if status == 424 else None

    def complaint(self, response: httpx2.Response) -> str:
        return complaint(said(response)) or response.text

    def advise(self, response: httpx2.Response) -> str | None:
        body = said(response)
        if response.status_code == 424:
            return "Reconnect the calendar on calendly.com; until then it is not known when the user is busy."
        if response.status_code != 403 or self.explain(response):
            return None
        if scopes := body.get("required_scopes"):
            named = ", ".join(map(str, scopes))
            is_token = isinstance(self.config.auth, BearerAuth)
            return f"Make a new token that has the scopes {named}." if is_token else f"Connect it anew with {named}."
        if "upgrade" in str(body.get("message")).lower():
            return "The plan of this Calendly account lacks it: upgrade the plan, or do without."
        return "The user of this token lacks the role: ask an owner or admin of the organization."


def resource(raw: Any) -> Any:
    return {**raw["resource"]}
