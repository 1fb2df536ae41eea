"""The pages of connecting: where a link begins, and where the vendor sends the browser back to."""

from collections.abc import Awaitable, Callable
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.connecting import CALLBACK, DOCUMENT, START, TICKET
from gateway.core import Gateway
from schemas import SchedulingError

HOLDER = "connecting"
"""The cookie that tells whether it is the same browser."""

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
STYLE = "body{font:1rem/1.5 system-ui;max-width:32rem;margin:15vh auto;padding:0 1rem}:root{color-scheme:light dark}"

Handler = Callable[[Request], Awaitable[Response]]


def routes(gateway: Gateway) -> list[Route]:
    async def start(request: Request) -> Response:
        await gateway.open()
        account, ticket = request.path_params["account"], request.query_params.get("ticket", "")
        address, holder = await gateway.connecting.start(account, ticket)
        answer = RedirectResponse(address, 302, headers=HEADERS)
        answer.set_cookie(
            HOLDER,
            holder,
            max_age=int(TICKET.total_seconds()),
            path=START,
            httponly=True,
            samesite="lax",
            secure=(gateway.connecting.url or "").startswith("https://"),
        )
        return answer

    async def callback(request: Request) -> Response:
        await gateway.open()
        return await finished(gateway, request, request.cookies.get(HOLDER, ""))

    async def document(request: Request) -> Response:
        from providers.oauth import client_document

        url = gateway.connecting.url
        return JSONResponse(client_document(f"{url}{DOCUMENT}", [f"{url}{CALLBACK}"]))

    return [
        Route(CALLBACK, told(callback), methods=["GET"]),
        Route(DOCUMENT, document, methods=["GET"]),
        Route(f"{START}/{{account}}", told(start), methods=["GET"]),
    ]


async def finished(gateway: Gateway, request: Request, holder: str) -> Response:
    account = await gateway.connecting.finish(dict(request.query_params), holder)
    answer = page(f"{account} is connected", "You can close this window.")
    answer.delete_cookie(HOLDER, path=START)
    return answer


def told(handler: Handler) -> Handler:
    """What fails is said on a page."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except SchedulingError as error:
            return page("This did not work", error.message, 400)

    return handle


def page(title: str, text: str, status: int = 200) -> HTMLResponse:
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    body = f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1><p>{escape(text)}</p></html>"
    return HTMLResponse(head + body, status, headers=HEADERS)
