"""How accounts sign in: what a configuration has under `auth`, and the `httpx2.Auth` it makes for an adapter."""

from collections.abc import Generator
from typing import Literal

import httpx2
from pydantic import SecretStr, field_validator

from providers.base import Services
from schemas import Model


class BearerAuth(Model):
    """A token that the operator has: an API key or a personal access token."""

    type: Literal["bearer"]
    token: SecretStr

    @field_validator("token")
    @classmethod
    def _is_set(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value().strip()
        if not text:
            raise ValueError("is empty; set the token, or the environment variable that has it")
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError("has a character that no token has, like a space or a line break")
        return SecretStr(text)

    def credentials(self, services: Services, account: str, config: object) -> httpx2.Auth:
        return _Bearer(self.token)


class _Bearer(httpx2.Auth):
    """The token in the header of every request (RFC 6750, 2.1)."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request
