"""How an account signs in: what its configuration says, as the `httpx2.Auth` that its adapter is handed."""

from collections.abc import Generator
from typing import Any

import httpx2

from providers.base import BearerAuth


def credentials(config: Any) -> httpx2.Auth | None:
    """The credentials of an account; None if its service asks for none, or its adapter sees to that itself."""
    auth = getattr(config, "auth", None)
    return Bearer(auth) if isinstance(auth, BearerAuth) else None


class Bearer(httpx2.Auth):
    """The token in the header of every request (RFC 6750, 2.1)."""

    def __init__(self, auth: BearerAuth) -> None:
        self._token = auth.token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request
