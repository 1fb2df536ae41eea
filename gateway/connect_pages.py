"""The pages of connecting: where a link begins, and where the vendor sends the browser back to."""

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.callers import calling
from gateway.connecting import CALLBACK, DOCUMENT, START, TICKET, account_of
from gateway.core import Gateway
from gateway.pages.accounts import ACCOUNTS
from gateway.pages.shown import HEADERS, below, message, told
from gateway.pages.signin import to_sign_in, visitor

HOLDER = "connecting"
"""The cookie, one for each account, that tells whether it is the same browser."""


def routes(gateway: Gateway) -> list[Route]:
    async def start(request: Request) -> Response:
        await gateway.open()
        account, ticket = request.url.path.rpartition("/")[2], request.query_params.get("ticket", "")
        if (who := await visitor(gateway, request)) is None:
            return to_sign_in(gateway, request)
        with calling(who):
            address, holder, kept_as = await gateway.connecting.start(account, ticket)
        answer = RedirectResponse(address, 302, headers=HEADERS)
        answer.set_cookie(
            f"{HOLDER}-{kept_as}",
            holder,
            max_age=int(TICKET.total_seconds()),
            path=below(gateway, START),
            httponly=True,
            samesite="lax",
            secure=(gateway.connecting.url or "").startswith("https://"),
        )
        return answer

    async def callback(request: Request) -> Response:
        if "ticket" in request.query_params:  # an account may be called so
            return await start(request)
        await gateway.open()
        if (visits := await visitor(gateway, request)) is None:
            return to_sign_in(gateway, request)
        answer = dict(request.query_params)
        holder = request.cookies.get(f"{HOLDER}-{account_of(answer)}", "")
        with calling(visits):
            provider = await gateway.connecting.finish(answer, holder)
            who = await gateway.connecting.greeted(provider)
        accounts = (below(gateway, ACCOUNTS), "All accounts")
        connected = message(f"{provider.account} is connected", f"{who} You can close this window.", 200, accounts)
        connected.delete_cookie(f"{HOLDER}-{provider.kept_as}", path=below(gateway, START))
        return connected

    async def document(request: Request) -> Response:
        from providers.oauth import client_document

        url = gateway.connecting.url
        return JSONResponse(client_document(f"{url}{DOCUMENT}", [f"{url}{CALLBACK}"]))

    return [
        Route(CALLBACK, told(callback), methods=["GET"]),
        Route(DOCUMENT, document, methods=["GET"]),
        Route(f"{START}/{{account}}", told(start), methods=["GET"]),
    ]
