"""One request of a sign-in, and what its failure is called. Nothing that was sent is ever repeated in a message."""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

import anyio
import httpx2

from providers.clock import Clock
from providers.pace import retry_after
from providers.rest import tls
from schemas import NotConnected, ProviderDown, RateLimited
from schemas.text import shown

TIMEOUT = httpx2.Timeout(10)
PATIENCE = 30
"""How long one request may take in all, in seconds; a lease holds for longer."""
LONGEST = 256 * 1024
"""No answer of a sign-in is longer, in bytes."""
_TOLD = ("error", "error_description")
AGAIN = "Nothing happened; try again later."


class Wire:
    """The way to authorization servers. `transport` stands in for the network in tests."""

    def __init__(self, clock: Clock, transport: httpx2.AsyncBaseTransport | None) -> None:
        self._clock = clock
        self._transport = transport

    async def send(self, method: str, url: str, *, read: bool = True, **request: Any) -> httpx2.Response:
        """The answer; without its body unless `read`. Redirects are not followed.

        Raises: ProviderDown if there was none or it is far too long, RateLimited for 429.
        """
        verify = self._transport is not None or tls()
        client = httpx2.AsyncClient(transport=self._transport, timeout=TIMEOUT, verify=verify)
        try:
            with anyio.fail_after(PATIENCE):
                async with client.stream(method, url, **request) as response:
                    content = await _content(response) if read else b""
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            where = f"The sign-in could not be reached at {host(url)} ({type(error).__name__})."
            raise ProviderDown(f"{where} {AGAIN}") from None
        finally:
            if self._transport is None:  # another one is not ours to close
                await client.aclose()
        if response.status_code == 429:
            wait = retry_after(response.headers, self._clock.now())
            raise RateLimited(f"The sign-in at {host(url)} takes no more requests for now.", retry_after=wait)
        # The body is decoded by now, whatever the headers say.
        headers = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
        return httpx2.Response(response.status_code, headers=headers, content=content)


async def _content(response: httpx2.Response) -> bytes:
    content = b""
    async for part in response.aiter_bytes():
        content += part
        if len(content) > LONGEST:
            raise ProviderDown(f"The answer of {host(str(response.url))} to a sign-in is too long to be one. {AGAIN}")
    return content


def is_overload(response: httpx2.Response) -> bool:
    """Whether an answer says nothing about what was asked, only that it is to be asked later."""
    return response.status_code >= 500 or response.status_code == 408


def host(url: str) -> str:
    """Where an address points, for a message."""
    try:
        return str(shown(httpx2.URL(url).netloc.decode("ascii", "replace"), length=100)) or "an address without a host"
    except httpx2.InvalidURL:
        return "an address that cannot be read"


def is_loopback(url: str) -> bool:
    name = httpx2.URL(url).host
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_here(url: str) -> bool:
    """Whether it leads to this machine or its own network segment, in whichever spelling."""
    name = httpx2.URL(url).host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or address.is_link_local


def checked(url: str, what: str, *, named_by: str | None = None) -> str:
    """`url`, if a secret may be sent there. `named_by` is the server that names it.

    Raises: NotConnected for plain http, which is for this machine alone, and for this machine named by another one.
    """
    try:
        parsed = httpx2.URL(url)
        is_web = parsed.scheme in ("http", "https") and bool(parsed.host)
    except httpx2.InvalidURL:
        is_web = False
    if not is_web or parsed.userinfo or parsed.fragment:
        raise NotConnected(f"Cannot sign in: {what} is no plain web address. Tell whoever runs the server.")
    if named_by is not None and is_here(url) and not is_here(named_by):
        raise NotConnected(f"Cannot sign in: {host(named_by)} names an address of this machine as {what}.")
    if parsed.scheme == "http" and not is_loopback(url):
        raise NotConnected(f"Cannot sign in: {what} at {host(url)} is not encrypted (http). It has to be https.")
    return url


def body(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty if it has none."""
    try:
        said = response.json()
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def complaint(said: Mapping[str, Any], hidden: Collection[str | None] = ()) -> str:
    """` (code: description)` of an OAuth error; empty if it has none, or none without what is hidden in it."""
    code, description = (said.get(key) if isinstance(said.get(key), str) else "" for key in _TOLD)
    for text in (safe(f"{code}: {description}" if description else f"{code}"), safe(f"{code}")):
        # A server may echo what it was sent, in whichever form.
        forms = (text, unquote(text), unquote_plus(text))
        if text and not any(secret in form for secret in hidden if secret for form in forms):
            return f" ({text})"
    return ""


def safe(text: str) -> str:
    """In one line and bounded."""
    return " ".join(str(shown(text)).split())[:300].rstrip(" .")
