"""Who we are to an authorization server: a client of the operator's, a document of ours, or one registered here."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field, ValidationError

from providers.clock import Clock
from providers.oauth.config import METHODS, Method, OAuthAuth
from providers.oauth.discovery import Kept, Server
from providers.oauth.wire import AGAIN, Wire, body, host, is_loopback, is_overload, safe
from schemas import NotConnected, ProviderDown

if TYPE_CHECKING:
    from providers.vault import Vault

NAME = "Scheduling gateway"
"""Letters, digits, spaces and hyphens alone: Calendly takes no others (2026-09)."""
GRANTS = ("authorization_code", "refresh_token")
MOST_REDIRECTS = 8
_BY_HAND = "Register a client there by hand and set the account's `auth.client_id`"


class Registered(Kept):
    """A client of an authorization server."""

    id: str
    secret: str | None = Field(default=None, repr=False)
    method: Method = "none"
    kept_as: str | None = None
    """Under which name the vault has it, if it was registered by itself."""

    def sign(self, form: Mapping[str, str]) -> dict[str, Any]:
        """A request with `form` that shows who sends it (RFC 6749, 2.3.1)."""
        headers = {"Accept": "application/json"}
        if self.method == "client_secret_basic" and self.secret is not None:
            pair = f"{quote(self.id, safe='')}:{quote(self.secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
            return {"data": dict(form), "headers": headers}
        data = {**form, "client_id": self.id}
        if self.method == "client_secret_post" and self.secret is not None:
            data["client_secret"] = self.secret
        return {"data": data, "headers": headers}


class _Row(Kept):
    """A registration as it is kept."""

    client: Registered
    redirect_uris: tuple[str, ...]
    until: datetime | None = None


def configured(auth: OAuthAuth, server: Server) -> Registered | None:
    """The operator's own client."""
    if auth.client_id is None:
        return None
    if auth.client_secret is None:
        return Registered(id=auth.client_id)
    # A server that does not say takes Basic (RFC 8414, 2).
    offered = server.methods or ("client_secret_basic",)
    method: Method = "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"
    return Registered(id=auth.client_id, secret=auth.client_secret.get_secret_value(), method=method)


def client_document(url: str, redirect_uris: Sequence[str]) -> dict[str, Any]:
    """The Client ID Metadata Document to be served at `url`, which is then our id wherever documents are taken."""
    return {"client_id": url, **_metadata(redirect_uris, "none")}


async def registered(
    server: Server, redirect_uri: str, document: str | None, vault: "Vault", clock: Clock, wire: Wire
) -> Registered:
    """The deployment's client at this server: by the address of its document, or registered once and kept.

    Raises: NotConnected if the server takes no clients, or not this one.
    """
    if document is not None and server.takes_documents:
        return Registered(id=document)
    if server.registration is None:
        raise NotConnected(
            f"{host(server.authorization)} registers no clients by itself. {_BY_HAND}; its redirect URI is "
            f"{redirect_uri}."
        )
    name = _name(server, redirect_uri)
    async with vault.lease(f"client:{name}"):
        row = await _kept(vault, name)
        known = row.redirect_uris if row else ()
        is_over = row is not None and row.until is not None and row.until <= clock.now()
        if row is None or is_over or redirect_uri not in known:
            others = [uri for uri in known if uri != redirect_uri]
            row = await _register(server, name, (redirect_uri, *others)[:MOST_REDIRECTS], wire)
            await vault.put("client", name, row.model_dump(mode="json"))
        return row.client


async def forget(client: Registered, vault: "Vault") -> None:
    """The server does not know this client any more: another is registered next time."""
    if client.kept_as is None:
        return
    async with vault.lease(f"client:{client.kept_as}"):
        row = await _kept(vault, client.kept_as)
        if row is not None and row.client.id == client.id:
            await vault.drop("client", client.kept_as)


def _name(server: Server, redirect_uri: str) -> str:
    # Servers that follow OpenID Connect take no mixture of addresses of this machine and of the web.
    return f"{server.issuer} {_kind([redirect_uri])}"


def _kind(redirect_uris: Sequence[str]) -> str:
    return "native" if all(is_loopback(uri) for uri in redirect_uris) else "web"


def _metadata(redirect_uris: Sequence[str], method: str) -> dict[str, Any]:
    return {
        "client_name": NAME,
        "redirect_uris": list(redirect_uris),
        "grant_types": list(GRANTS),
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": _kind(redirect_uris),
    }


async def _register(server: Server, name: str, redirect_uris: Sequence[str], wire: Wire) -> _Row:
    from mcp.shared.auth import OAuthClientInformationFull

    assert server.registration is not None  # noqa: S101 - for the type checker
    where = host(server.registration)
    offered = server.methods or ("none",)
    method: str | None = next((method for method in METHODS if method in offered), None)
    if method is None:
        raise NotConnected(f"{where} wants clients to show who they are in a way that is not built here. {_BY_HAND}.")
    response = await wire.send("POST", server.registration, json=_metadata(redirect_uris, method))
    if is_overload(response):
        raise ProviderDown(f"{where} answered HTTP {response.status_code} to the registration of a client. {AGAIN}")
    if response.status_code not in (200, 201):
        why = "; ".join(_refusals(body(response))) or f"HTTP {response.status_code}"
        raise NotConnected(f"{where} refused to register this gateway ({safe(why)}). {_BY_HAND}.")
    try:
        answer = OAuthClientInformationFull.model_validate(body(response))
        # The server may choose another way than was asked for (RFC 7591, 3.2.1).
        method = answer.token_endpoint_auth_method or method
        secret = answer.client_secret if method != "none" else None
        client = Registered.model_validate(
            {"id": answer.client_id, "secret": secret, "method": method, "kept_as": name}
        )
        until = (
            datetime.fromtimestamp(answer.client_secret_expires_at, UTC) if answer.client_secret_expires_at else None
        )
    except (ValidationError, ValueError, OverflowError, OSError):
        raise NotConnected(f"{where} registered this gateway in a way that cannot be used. {_BY_HAND}.") from None
    if client.method != "none" and client.secret is None:
        raise NotConnected(f"{where} registered this gateway without the secret that it asks for. {_BY_HAND}.")
    return _Row(client=client, redirect_uris=tuple(redirect_uris), until=until)


def _refusals(said: Mapping[str, Any]) -> list[str]:
    """What a registration was refused for, field by field where the server says so."""
    found = [said[key] for key in ("error", "error_description") if isinstance(said.get(key), str)]
    return found + [f"{field}: {what}" for field, what in _fields(said.get("errors"))]


def _fields(errors: object, path: str = "") -> list[tuple[str, str]]:
    if isinstance(errors, Mapping):
        return [
            each
            for name, inner in list(errors.items())[:20]
            for each in _fields(inner, f"{path}.{name}" if path else str(name))
        ]
    if isinstance(errors, list):
        return [(path, what) for what in errors[:5] if isinstance(what, str)]
    return [(path, errors)] if isinstance(errors, str) else []


async def _kept(vault: "Vault", name: str) -> _Row | None:
    """A registration that cannot be read, for whatever reason, is made anew."""
    try:
        return _Row.model_validate(await vault.get("client", name))
    except (ValidationError, NotConnected):
        return None
