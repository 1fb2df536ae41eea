"""Talking to Cal.com: the configuration, the version of each resource, who is signed in, and what its errors mean."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

import httpx2
from pydantic import Field, field_validator, model_validator

from providers.auth import BearerAuth
from providers.base import AccountConfig
from providers.calcom.bookings import Me, me
from providers.oauth import Endpoints, OAuthAuth, Target
from providers.rest import RestConfig, RestProvider, an_id, said
from schemas import Model, SchedulingError, SlotTaken

T = TypeVar("T")

NUMBER = r"\d{1,18}"
# Prose, not codes: parts of sentences (source of July 2025, ee/bookings/2024-08-13/services/errors.service.ts).
TAKEN = (
    "already has booking at this time or is not available",
    'can\'t be booked at the "start" time provided',
    "booking_conflict_error",
    "no more seats left",
    "a record that already exists",
)


API = "https://api.cal.com"


class ApiVersions(Model):
    """The `cal-api-version` of each resource. https://cal.com/docs/api-reference/v2/v1-v2-differences (2026-08)"""

    bookings: str = "2024-08-13"
    event_types: str = "2024-06-14"
    schedules: str = "2024-06-11"
    slots: str = "2024-09-04"


# https://cal.com/docs/api-reference/v2/oauth (2026-11)
SIGN_IN = Endpoints(
    authorization="https://app.cal.com/auth/oauth2/authorize",
    token="https://api.cal.com/v2/auth/oauth2/token",  # noqa: S106 - an address
    pkce_with_secret=False,
)
SCOPES = (
    *("EVENT_TYPE_READ", "EVENT_TYPE_WRITE", "BOOKING_READ", "BOOKING_WRITE"),
    *("SCHEDULE_READ", "SCHEDULE_WRITE", "PROFILE_READ"),
)


class CalcomConfig(RestConfig):
    base_url: str = API
    auth: Annotated[BearerAuth | OAuthAuth, Field(discriminator="type")]
    api_versions: ApiVersions = ApiVersions()

    @field_validator("auth")
    @classmethod
    def _has_a_client(cls, auth: BearerAuth | OAuthAuth) -> BearerAuth | OAuthAuth:
        if isinstance(auth, OAuthAuth) and auth.client_id is None:
            raise ValueError("needs the client_id of an OAuth client made at app.cal.com/settings/developer/oauth")
        return auth

    def target(self) -> Target:
        return Target(resource=None, endpoints=SIGN_IN, scopes=SCOPES)

    @model_validator(mode="after")
    def _signs_in_where_it_is(self) -> Self:
        # Its consent is cal.com's, whose token must reach nobody else.
        if isinstance(self.auth, OAuthAuth) and self.base_url != API:
            raise ValueError("auth of the type oauth is for cal.com itself; use a key for a server of your own")
        return self

    @field_validator("base_url")
    @classmethod
    def _without_version(cls, url: str) -> str:
        return url.rstrip("/").removesuffix("/v2")


class CalcomClient(RestProvider):
    Config: ClassVar[type[AccountConfig]] = CalcomConfig
    title = "Cal.com"
    cool_down = 60.0

    async def ask(self, method: str, path: str, into: Callable[[Any], T], **request: Any) -> T:
        """`call`, in the version of that resource, for the data in the envelope."""
        resource = path.split("/")[1].replace("-", "_")
        version = getattr(self.config.api_versions, resource, None)
        headers = {"cal-api-version": version} if version else {}
        return await self.call(method, f"/v2{path}", lambda raw: into(raw["data"]), headers=headers, **request)

    async def page(self, path: str, params: dict[str, Any]) -> tuple[list[Any], bool]:
        """A page of a list, and whether there are more."""

        def read(raw: Any) -> tuple[list[Any], bool]:
            items = list(raw["data"])
            pages = raw.get("pagination") or {}
            return items, pages.get("hasNextPage", len(items) >= params["take"])

        headers = {"cal-api-version": self.config.api_versions.bookings}
        return await self.call("GET", f"/v2{path}", read, headers=headers, params=params)

    async def whoami(self) -> Me:
        return self.keep("whoami", await self.ask("GET", "/me", me))

    async def me(self) -> Me:
        return cast(Me, await self.identity())

    async def event_types(self) -> list[Any]:
        return await self.fresh(
            "event types",
            lambda: self.ask("GET", "/event-types", list),
            lambda raw: ("event type", str(raw["id"])),
        )

    async def event_type(self, event_type_id: str) -> Any:
        path = f"/event-types/{an_id(event_type_id, 'event type', NUMBER)}"
        return await self.kept(("event type", event_type_id), lambda: self.ask("GET", path, dict))

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        is_booking = "/bookings" in response.request.url.path
        message = self.complaint(response).lower()
        is_taken = response.status_code in (400, 409) and any(each in message for each in TAKEN)
        return SlotTaken if is_booking and is_taken else None

    def complaint(self, response: httpx2.Response) -> str:
        body = said(response)
        error = body.get("error")
        if not isinstance(error, dict):
            return str(body.get("message") or body.get("error_description") or error or response.text)
        details = error.get("details")
        wrong = details.get("errors") if isinstance(details, dict) else None
        parts = [str(error.get("message") or error.get("code") or "")]
        parts += [str(each.get("constraints") or each) for each in wrong or () if isinstance(each, dict)]
        return "; ".join(parts)

    def advise(self, response: httpx2.Response) -> str | None:
        if response.status_code == 403:
            return "Use a key, or a sign-in, whose user owns this and that has the scope it needs."
        if "cal-api-version" in response.text:
            return "Set the account's api_versions to what this server takes."
        return None
