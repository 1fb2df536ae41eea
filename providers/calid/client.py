"""Talking to Cal ID: the envelope, lists page by page, and what its three kinds of errors mean."""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar, TypeVar

import httpx2

from providers.auth import BearerAuth
from providers.base import AccountConfig
from providers.rest import RestConfig, RestProvider, an_id, said
from schemas import InvalidRequest, NotConnected, NotFound, SchedulingError, SlotTaken

T = TypeVar("T")

NUMBER = r"\d{1,18}"
PAGE = 100
# What the booking engine says, with HTTP 500 (source of 2025-09, packages/lib/errorCodes.ts).
TAKEN = (
    "no_available_users_found_error",
    "booking_conflict_error",
    "fixed_hosts_unavailable_for_booking",
    "round_robin_hosts_unavailable_for_booking",
    "booking_time_out_of_bounds_error",
    "booking_seats_full_error",
    "not_enough_available_seats_error",
    "conflicting reschedule",
)
REFUSED = (
    "already_signed_up_for_this_booking_error",
    "booker_limit_exceeded_error",
    "cancelled_bookings_cannot_be_rescheduled",
    "booking_not_allowed_by_restriction_schedule_error",
    "request_body_invalid_error",
    "booking already confirmed",
    "error_required_field",
    "invalid string",
    "invalid array of strings",
)
# An error of the server's own that it could not put into its answer's form (measured 2026-11 on its framework).
MASKED = re.compile(r"original error: (?P<what>.*)", re.IGNORECASE | re.DOTALL)
SIGN_IN = (
    "bearer token required",
    "invalid api key",
    "api key has expired",
    "invalid bearer token",
    "no user associated",
)


class CalidConfig(RestConfig):
    base_url: str = "https://api.cal.id"
    auth: BearerAuth


class CalidClient(RestProvider):
    Config: ClassVar[type[AccountConfig]] = CalidConfig
    title = "Cal ID"
    cool_down = 60.0

    async def ask(self, method: str, path: str, into: Callable[[Any], T], **request: Any) -> T:
        """`call`, for the data in the envelope."""
        return await self.call(method, path, lambda raw: into(raw["data"]), **request)

    async def pages(self, path: str, params: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Every item of a list, page after page."""
        number = 1
        while True:
            asked = {**params, "page": number, "limit": PAGE}
            items = await self.ask("GET", path, list, params=asked)
            for item in items:
                yield item
            if len(items) < PAGE:
                return
            number += 1

    async def event_type(self, event_type_id: str) -> Any:
        path = f"/event-types/{an_id(event_type_id, 'event type', NUMBER)}"
        return await self.kept(("event type", event_type_id), lambda: self.ask("GET", path, dict))

    def explain(self, response: httpx2.Response) -> type[SchedulingError] | None:
        message, status = self.complaint(response).lower(), response.status_code
        if masked := MASKED.search(message):
            what = masked["what"].strip()
            if what.startswith(SIGN_IN):
                return NotConnected
            if what.startswith(("body", "params", "querystring")):
                return InvalidRequest
        if "/booking" in response.request.url.path and status in (400, 409, 500):
            if any(each in message for each in TAKEN):
                return SlotTaken
            if "event_type_not_found" in message:
                return NotFound
            if any(each in message for each in REFUSED):
                return InvalidRequest
        return None

    def complaint(self, response: httpx2.Response) -> str:
        body = said(response)
        error = body.get("error")
        inner = error.get("message") if isinstance(error, dict) else None
        return str(inner or body.get("message") or error or response.text)
