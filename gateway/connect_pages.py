"""The pages of connecting: where a link begins, and where the vendor sends the browser back to."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.connecting import CALLBACK, DOCUMENT, START, TICKET, account_of
from gateway.core import Gateway
from gateway.pages.shown import HEADERS, Handler, message
from schemas import SchedulingError

HOLDER = "connecting"
"""The cookie, one for each account, that tells whether it is the same browser."""

AHEAD = ("sec-purpose", "purpose", "x-moz")
"""Headers by which a browser says that it only looks ahead."""


def routes(gateway: Gateway) -> list[Route]:
    async def start(request: Request) -> Response:
        await gateway.open()
        account, ticket = request.url.path.rpartition("/")[2], request.query_params.get("ticket", "")
        address, holder, kept_as = await gateway.connecting.start(account, ticket)
        answer = RedirectResponse(address, 302, headers=HEADERS)
        answer.set_cookie(
            f"{HOLDER}-{kept_as}",
            holder,
            max_age=int(TICKET.total_seconds()),
            path=cookie_path(gateway),
            httponly=True,
            samesite="lax",
            secure=(gateway.connecting.url or "").startswith("https://"),
        )
        return answer

    async def callback(request: Request) -> Response:
        if "ticket" in request.query_params:  # an account may be called so
            return await start(request)
        await gateway.open()
        answer = dict(request.query_params)
        holder = request.cookies.get(f"{HOLDER}-{account_of(answer)}", "")
        provider = await gateway.connecting.finish(answer, holder)
        who = await gateway.connecting.greeted(provider)
        accounts = (f"{urlsplit(gateway.connecting.url or '').path}/accounts", "All accounts")
        connected = message(f"{provider.account} is connected", f"{who} You can close this window.", 200, accounts)
        connected.delete_cookie(f"{HOLDER}-{provider.kept_as}", path=cookie_path(gateway))
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


def cookie_path(gateway: Gateway) -> str:
    """Where a browser finds these pages, be it below a path of a proxy's."""
    return f"{urlsplit(gateway.connecting.url or '').path}{START}"


def told(handler: Handler) -> Handler:
    """What fails is said on a page. Whoever only looks at a link is told nothing, and uses nothing up."""

    async def handle(request: Request) -> Response:
        if request.method == "HEAD" or any("prefetch" in request.headers.get(name, "") for name in AHEAD):
            return Response(status_code=503, headers=HEADERS)
        try:
            return await handler(request)
        except SchedulingError as error:
            return message("This did not work", error.message, 400)

    return handle
