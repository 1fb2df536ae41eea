"""Where people sign in to a server: from its 401 to its metadata (RFC 9728), and on to its authorization server's.

https://modelcontextprotocol.io/specification/2025-11-25/basic/authorization

Quirks:
- Google names `https://accounts.google.com/` as authorization server, whose own metadata lacks the slash, and Calendly
  has it either way: a last slash tells no issuers apart. (2026-11)
- A server may let anyone in until a tool is called, so it may be asked without its 401. (Google, 2026-11)
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from providers.oauth.config import Endpoints, Target
from providers.oauth.wire import AGAIN, Wire, body, checked, host, is_overload, safe
from schemas import NotConnected, ProviderDown

if TYPE_CHECKING:
    from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata

M = TypeVar("M", bound=BaseModel)

_ACCEPT = {"Accept": "application/json"}
# Asks for nothing, and wherever a sign-in is needed it is refused.
_PING: Mapping[str, Any] = {
    "headers": {"Accept": "application/json, text/event-stream"},
    "json": {"jsonrpc": "2.0", "id": 1, "method": "ping"},
}


class Kept(BaseModel):
    """What is kept in the vault, maybe by a newer version of this program."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Server(Kept):
    """An authorization server, as far as it is used."""

    issuer: str | None
    authorization: str
    token: str
    revocation: str | None = None
    registration: str | None = None
    methods: tuple[str, ...] | None = None
    """How it lets clients show who they are, where it says."""
    takes_documents: bool = False
    """A client's id may be the address of a document about it."""
    names_itself: bool = False
    """Its answers to the browser have `iss` (RFC 9207)."""
    pkce_with_secret: bool = True


class Found(Kept):
    """Where to sign in, for what, and what to ask for."""

    server: Server
    resource: str | None
    scopes: tuple[str, ...] = ()


def fixed(target: Target, endpoints: Endpoints) -> Found:
    """Nothing is to be found out."""
    for url in (endpoints.authorization, endpoints.token, endpoints.revocation):
        if url is not None:
            checked(url, "the vendor's sign-in")
    server = Server(
        issuer=endpoints.issuer,
        authorization=endpoints.authorization,
        token=endpoints.token,
        revocation=endpoints.revocation,
        methods=(endpoints.method,),
        pkce_with_secret=endpoints.pkce_with_secret,
    )
    return Found(server=server, resource=target.resource, scopes=target.scopes)


async def discover(target: Target, wire: Wire) -> Found:
    """Raises: NotConnected if one cannot, or must not, sign in there; ProviderDown if that cannot be told now."""
    if target.endpoints is not None:
        return fixed(target, target.endpoints)
    # Imported on first use: half a second, unless a server runs (2026-11).
    from mcp.client.auth import utils
    from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata

    url = checked(target.resource or "", "the server")
    refusal = await wire.send("POST", url, read=False, **_PING)
    is_refusal = refusal.status_code in (401, 403)
    hint = utils.extract_field_from_www_auth(refusal, "resource_metadata") if is_refusal else None
    if hint is not None and _origin(hint) != _origin(url):
        raise NotConnected(f"Cannot sign in: {host(url)} has its metadata at another host, {host(hint)}.")
    places = utils.build_protected_resource_metadata_discovery_urls(hint, url)
    protected = await _first(ProtectedResourceMetadata, places, wire)
    if protected is not None:
        _check_resource(protected, url)
    issuer = checked(str(protected.authorization_servers[0]), "its sign-in", named_by=url) if protected else None
    places = utils.build_oauth_authorization_server_metadata_discovery_urls(issuer, url)
    metadata = await _first(OAuthMetadata, places, wire)
    if metadata is None:
        raise NotConnected(f"{host(issuer or url)} does not say how to sign in. Check the account's `url`.")
    server = described(metadata, issuer, url)
    asked = utils.extract_field_from_www_auth(refusal, "scope") if is_refusal else None
    scopes = _scopes(asked, protected) or target.scopes
    if scopes and "offline_access" in (metadata.scopes_supported or ()) and "offline_access" not in scopes:
        scopes += ("offline_access",)
    return Found(server=server, resource=str(protected.resource) if protected else url, scopes=scopes)


async def _first(model: type[M], places: list[str], wire: Wire) -> M | None:
    """The first document of that kind; None if all places are known to have none."""
    down = None
    for place in places:
        response = await wire.send("GET", place, headers=_ACCEPT)
        if response.is_success:
            try:
                return model.model_validate(body(response))
            except ValidationError:
                continue
        if is_overload(response):
            down = f"{host(place)} answered HTTP {response.status_code} when asked how to sign in. {AGAIN}"
    if down is not None:
        raise ProviderDown(down)
    return None


def _check_resource(protected: "ProtectedResourceMetadata", url: str) -> None:
    from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url

    named = str(protected.resource)
    if not check_resource_allowed(resource_url_from_server_url(url), named):
        raise NotConnected(f"Cannot sign in: the metadata of {url} is for another resource, {safe(named)}.")


def described(metadata: "OAuthMetadata", issuer: str | None, url: str) -> Server:
    """A server by its own metadata, which must be that of `issuer`; `url` is where looking for it began."""
    named = str(metadata.issuer)
    # Where nobody named a server (the specification of 2025-03-26), it is the one that is asked.
    is_it = is_same_issuer(named, issuer) if issuer is not None else _origin(named) == _origin(url)
    if not is_it:
        raise NotConnected(
            f"Cannot sign in: the metadata of {issuer or host(url)} is for another server, {safe(named)}."
        )
    proofs = metadata.code_challenge_methods_supported
    if proofs is not None and "S256" not in proofs:
        raise NotConnected(f"Cannot sign in: {host(named)} does not take PKCE with S256, which keeps others out.")

    def endpoint(address: object, what: str) -> str:
        return checked(str(address), what, named_by=url)

    revocation, registration = metadata.revocation_endpoint, metadata.registration_endpoint
    methods = metadata.token_endpoint_auth_methods_supported
    return Server(
        issuer=named,
        authorization=endpoint(metadata.authorization_endpoint, "its authorization endpoint"),
        token=endpoint(metadata.token_endpoint, "its token endpoint"),
        revocation=revocation and endpoint(revocation, "its revocation endpoint"),
        registration=registration and endpoint(registration, "its registration endpoint"),
        methods=None if methods is None else tuple(methods),
        takes_documents=bool(metadata.client_id_metadata_document_supported),
        names_itself=bool(metadata.authorization_response_iss_parameter_supported),
    )


def _scopes(asked: str | None, protected: "ProtectedResourceMetadata | None") -> tuple[str, ...]:
    if asked is not None:
        return tuple(asked.split())
    return tuple(protected.scopes_supported or ()) if protected else ()


def is_same_issuer(one: str, other: str) -> bool:
    return one.removesuffix("/") == other.removesuffix("/")


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return ("", "", None)
    return parsed.scheme, parsed.host, parsed.port
