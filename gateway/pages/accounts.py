"""`/accounts`: what is connected, as whom, and what cannot be done there; and the links that guests book by.

Each sees what is theirs; where nobody has to sign in, it answers on loopback alone.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.allowed import must_be_allowed
from gateway.answers import AccountAnswer
from gateway.callers import Caller, calling
from gateway.connecting import consent_of, may_connect
from gateway.core import Gateway
from gateway.pages.sessions import begin, extend, may, new, session_of
from gateway.pages.shown import HEADERS, below, form, message, render
from gateway.pages.signin import to_sign_in, visitor
from gateway.pages.week import MONTHS
from gateway.requests import admitted
from gateway.server_config import LOOPBACK
from schemas import RateLimited, SchedulingError

if TYPE_CHECKING:
    from gateway.links import Link

ACCOUNTS = "/accounts"
TOO_OLD = ("This page was open too long", "Nothing was changed. Go back to the accounts and press it again.")


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
        return self._to_accounts()

    async def show(self, request: Request) -> Response:
        await self._gateway.open()
        if isinstance(who := await self._visitor(request), Response):
            return who
        try:
            with admitted(who.name), calling(who):
                return await self._shown(request, who)
        except SchedulingError as error:
            return message("This did not work", error.message, _status(error, 503))

    async def disconnect(self, request: Request) -> Response:
        """Revoke an account's consent, and forget it."""
        return await self._done(request, self._disconnect)

    async def revoke(self, request: Request) -> Response:
        """Take back a link; bookings made by it stay."""
        return await self._done(request, self._revoke)

    async def _visitor(self, request: Request) -> Caller | Response:
        """Who looks at the page, or why nobody may."""
        if self._gateway.door is None and request.url.hostname not in LOOPBACK:
            return message("Not from there", "This page answers on the gateway's own machine alone.", 403)
        if (who := await visitor(self._gateway, request)) is None:
            return to_sign_in(self._gateway, request)
        try:
            must_be_allowed(self._gateway, who, "list_accounts")
        except SchedulingError as error:
            return message("You may not see this", error.message, 403)
        return who

    async def _shown(self, request: Request, who: Caller) -> Response:
        known = await session_of(self._gateway, request)
        session = known or new()
        answers = (await self._gateway.catalog.list_accounts()).accounts
        shown = await asyncio.gather(*(self._account(each) for each in answers))
        links = [await self._link(each) for each in await self._links()]
        url = f"{self._gateway.connecting.url}{self._gateway.config.server.path}"
        page = render(
            "accounts.html",
            title="Accounts",
            accounts=shown,
            links=links,
            csrf=session.csrf,
            snippets=snippets(url),
            url=url,
            signed_in=None if self._gateway.door is None else who.name,
        )
        await (begin if known is None else extend)(self._gateway, request, page, session)
        return page

    async def _done(self, request: Request, what: Callable[[Request], Awaitable[Response]]) -> Response:
        """Do what a form asks, if a page of ours sent it, for who was shown that."""
        await self._gateway.open()
        if isinstance(who := await self._visitor(request), Response):
            return who
        try:
            session = await session_of(self._gateway, request)
            if not may(session, await form(request)):
                return message(*TOO_OLD, 403, self._back)
            with admitted(who.name), calling(who):
                return await what(request)
        except SchedulingError as error:
            return message("This did not work", error.message, _status(error, 400), self._back)

    async def _disconnect(self, request: Request) -> Response:
        if not await self._gateway.connecting.disconnect(request.path_params["name"]):
            text = "The consent is forgotten here. The service was not told: remove the app in its settings too."
            return message("Disconnected", text, 200, self._back)
        return self._to_accounts()

    async def _revoke(self, request: Request) -> Response:
        links = {link.id: link for link in await self._links()}
        if (link := links.get(request.path_params["id"])) is not None and await self._gateway.links.revoke(link.id):
            await self._gateway.audit.record("revoke_link", account=link.account, reference=link.id)
        return self._to_accounts()

    async def _links(self) -> "list[Link]":
        """The links that are the caller's to see and to take back."""
        mine = {each.kept_as for each in self._gateway.accounts.values() if may_connect(each)}
        return [link for link in await self._gateway.links.live() if link.account in mine]

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
            "can_disconnect": client is not None and may_connect(provider) and await client.is_connected(),
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

    @property
    def _back(self) -> tuple[str, str]:
        return (below(self._gateway, ACCOUNTS), "Back to the accounts")

    def _to_accounts(self) -> Response:
        return RedirectResponse(below(self._gateway, ACCOUNTS), 303, headers=HEADERS)

    def _when(self, at: datetime | None) -> str | None:
        return None if at is None else f"{at.day} {MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def _status(error: SchedulingError, otherwise: int) -> int:
    return 429 if isinstance(error, RateLimited) else otherwise


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
