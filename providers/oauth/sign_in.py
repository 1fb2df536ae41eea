"""The access token in the header of every request (RFC 6750)."""

from collections.abc import AsyncGenerator, Generator

import httpx2

from providers.oauth.client import OAuthClient
from providers.oauth.tokens import connect
from providers.oauth.wire import safe
from schemas import NotConnected, PermissionDenied


class OAuthSignIn(httpx2.Auth):
    """Signs the requests of an account: with a token that is renewed before it expires, and once when it is refused.

    Raises: NotConnected, ProviderDown or RateLimited where there is no token to be had, PermissionDenied where the
    consent does not go so far; the request was not sent then, or was refused.
    """

    def __init__(self, client: OAuthClient) -> None:
        self.client = client

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        raise RuntimeError("signs the requests of an AsyncClient only")

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token = await self.client.token()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            token = await self.client.token(refused=token)
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            if response.status_code == 401:
                raise NotConnected(f"The server refused the sign-in, also after it was renewed. {self._advice}.")
        if response.status_code == 403 and is_few_scopes(response) and (scopes := self.lacking(response)):
            await self.client.lacks(scopes)
            first = "Add that to the account's `auth.scopes`. " if self.client.has_fixed_scopes else ""
            what = f"The consent lacks {safe(', '.join(scopes))}, which this needs."
            told = f"{what} {first}{self._advice}, and consent to all of it."
            raise PermissionDenied(told, details={"missing_scopes": list(scopes)})

    def lacking(self, response: httpx2.Response) -> tuple[str, ...]:
        """The scopes that a refused request needs and its token lacks, where the server says which (RFC 6750, 3.1)."""
        from mcp.client.auth.utils import extract_scope_from_www_auth

        return tuple((extract_scope_from_www_auth(response) or "").split())[:20]

    @property
    def _advice(self) -> str:
        return connect(self.client.kept_as)


def is_few_scopes(response: httpx2.Response) -> bool:
    from mcp.client.auth.utils import extract_field_from_www_auth

    return extract_field_from_www_auth(response, "error") == "insufficient_scope"
