"""How a page is shown: templates that escape everything, the headers of each answer, and style and script beside."""

from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from schemas import InvalidRequest, SchedulingError

if TYPE_CHECKING:
    from jinja2 import Environment

    from gateway.core import Gateway

Handler = Callable[[Request], Awaitable[Response]]

HERE = Path(__file__).parent
ASSETS = "/pages"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
AHEAD = ("sec-purpose", "purpose", "x-moz")
"""Headers by which a browser says that it only looks ahead."""

FORM, FIELDS = 32_000, 200
"""How long a form may be, in bytes and in fields."""

HEADERS = {
    "Cache-Control": "no-store",
    # `no-referrer` would have browsers send forms with the origin "null", which the server refuses.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@cache
def templates() -> "Environment":
    # Imported on first use: who only calls tools needs no pages.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = address
    return environment


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(templates().get_template(template).render(values), status, headers=HEADERS)


def message(title: str, text: str, status: int = 400, link: tuple[str, str] | None = None) -> HTMLResponse:
    """A page that says one thing; `link` is an address and its text."""
    shown = None if link is None else {"href": link[0], "text": link[1]}
    return render("message.html", status, title=title, text=text, link=shown)


def below(gateway: "Gateway", path: str) -> str:
    """Where a browser finds a page, be it below a path of a proxy's."""
    return urlsplit(gateway.connecting.url or "").path + path


@cache
def _asset(name: str) -> tuple[str, bytes]:
    content = (HERE / "static" / name).read_bytes()
    return sha256(content).hexdigest()[:12], content


def source(name: str) -> str:
    """An asset as text, for what has to bring it along."""
    return _asset(name)[1].decode()


def address(name: str) -> str:
    """Where an asset is; another one when it changes, so that it may be kept for ever."""
    return f"{ASSETS}/{_asset(name)[0]}/{name}"


async def asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in {path.name for path in (HERE / "static").iterdir()}:
        return Response("There is no such file.", 404)
    digest, content = _asset(name)
    is_current = request.path_params["digest"] == digest
    kept = "public, max-age=31536000, immutable" if is_current else "no-store"
    headers = {"Cache-Control": kept, "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type=TYPES[Path(name).suffix], headers=headers)


async def form(request: Request) -> dict[str, list[str]]:
    """The fields of a form, each with all its values. Raises InvalidRequest for one that no page of ours sends."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM:
            raise InvalidRequest("The form is too long. Shorten what you wrote.")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError:
        raise InvalidRequest("The form cannot be read. Go back and send it again.") from None


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


ROUTES = [Route(f"{ASSETS}/{{digest}}/{{name}}", asset, methods=["GET"])]
