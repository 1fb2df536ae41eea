"""`/accounts`: what is connected, as whom, and what cannot be done there; and the links that guests book by.

On loopback alone, while nobody has to sign in to the gateway itself.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.answers import AccountAnswer
from gateway.connecting import consent_of
from gateway.core import Gateway
from gateway.pages.sessions import begin, may, new, session_of
from gateway.pages.shown import HEADERS, form, message, render
from gateway.pages.week import MONTHS
from gateway.server_config import LOOPBACK
from schemas import SchedulingError

if TYPE_CHECKING:
    from gateway.links import Link

ACCOUNTS = "/accounts"
TOO_OLD = ("This page was open too long", "Nothing was changed. Go back to the accounts and press it again.")
BACK = (ACCOUNTS, "Back to the accounts")


class AccountsPages:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        return [
            Route("/", self.home, methods=["GET"]),
            Route(ACCOUNTS, self.show, methods=["GET"]),
            Route(f"{ACCOUNTS}/links/{{id}}/revoke", self.revoke, methods=["POST"]),
            Route(f"{ACCOUNTS}/{{name}}/disconnect", self.disconnect, methods=["POST"]),
        ]

    async def home(self, _: Request) -> Response:
        return RedirectResponse(ACCOUNTS, 303, headers=HEADERS)

    async def show(self, request: Request) -> Response:
        if not _is_here(request):
            return message("Not from there", "This page answers on the gateway's own machine alone.", 403)
        await self._gateway.open()
        try:
            session = await session_of(self._gateway, request) or new()
            answers = (await self._gateway.catalog.list_accounts()).accounts
            shown = await asyncio.gather(*(self._account(each) for each in answers))
            links = [await self._link(each) for each in await self._gateway.links.live()]
        except SchedulingError as error:
            return message("This did not work", error.message, 503)
        url = f"{self._gateway.connecting.url}{self._gateway.config.server.path}"
        page = render(
            "accounts.html",
            title="Accounts",
            accounts=shown,
            links=links,
            csrf=session.csrf,
            snippets=snippets(url),
            url=url,
        )
        await begin(self._gateway, request, page, session)
        return page

    async def disconnect(self, request: Request) -> Response:
        """Revoke an account's consent, and forget it."""
        if (refusal := await self._refusal(request)) is not None:
            return refusal
        try:
            was_told = await self._gateway.connecting.disconnect(request.path_params["name"])
        except SchedulingError as error:
            return message("This did not work", error.message, 400, BACK)
        if not was_told:
            text = "The consent is forgotten here. The service was not told: remove the app in its settings too."
            return message("Disconnected", text, 200, BACK)
        return RedirectResponse(ACCOUNTS, 303, headers=HEADERS)

    async def revoke(self, request: Request) -> Response:
        """Take back a link; bookings made by it stay."""
        if (refusal := await self._refusal(request)) is not None:
            return refusal
        accounts = {link.id: link.account for link in await self._gateway.links.live()}
        if await self._gateway.links.revoke(id := request.path_params["id"]):
            await self._gateway.audit.record("revoke_link", account=accounts.get(id), reference=id)
        return RedirectResponse(ACCOUNTS, 303, headers=HEADERS)

    async def _refusal(self, request: Request) -> Response | None:
        """Why a form does nothing."""
        await self._gateway.open()
        try:
            session = await session_of(self._gateway, request)
            is_ours = _is_here(request) and may(session, await form(request))
        except SchedulingError as error:
            return message("This did not work", error.message, 400, BACK)
        return None if is_ours else message(*TOO_OLD, 403, BACK)

    async def _account(self, answer: AccountAnswer) -> dict[str, Any]:
        provider = self._gateway.accounts[answer.account]
        client = consent_of(provider)
        link = answer.connect_url or await self._gateway.connecting.link(answer.account)
        return {
            "name": answer.account,
            "provider": answer.provider,
            "via": answer.via,
            "title": provider.title,
            "state": answer.state,
            "detail": answer.detail,
            "email": answer.email,
            "time_zone": answer.time_zone,
            "last_used": self._when(self._gateway.pool.used(provider)),
            "cannot": list(answer.cannot.items()),
            "notes": list(answer.notes.items()),
            "connect_url": link,
            "can_disconnect": client is not None and await client.is_connected(),
        }

    async def _link(self, link: "Link") -> dict[str, Any]:
        return {
            "id": link.id,
            "account": link.name,
            "event_type": await self._title(link),
            "single_use": link.single_use,
            "created": self._when(datetime.fromtimestamp(link.created, UTC)),
            "used": link.used is not None,
        }

    async def _title(self, link: "Link") -> str:
        """What is booked by a link; its id, if that cannot be told."""
        if (provider := self._gateway.pool.named(link.account)) is None:
            return link.event_type_id
        try:
            return (await provider.get_event_type(link.event_type_id)).title
        except SchedulingError:
            return link.event_type_id

    def _when(self, at: datetime | None) -> str | None:
        return None if at is None else f"{at.day} {MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def _is_here(request: Request) -> bool:
    return request.url.hostname in LOOPBACK


def snippets(url: str) -> list[dict[str, str]]:
    """How to add this gateway to a client, to be pasted as it is."""
    server = {"mcpServers": {"scheduling": {"type": "http", "url": url}}}
    return [
        {
            "client": "Claude Code",
            "how": "In a terminal:",
            "code": f"claude mcp add --transport http scheduling {url}",
        },
        {
            "client": "Cursor",
            "how": "In ~/.cursor/mcp.json:",
            "code": json.dumps(server, indent=2),
        },
        {
            "client": "Others",
            "how": "The address of the MCP server (streamable HTTP):",
            "code": url,
        },
    ]
