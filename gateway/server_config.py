"""`server:` of the configuration: where the gateway listens, who may come in, and how much."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from schemas import Model

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _url_path(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("is written like /mcp")
    return path


class AuthConfig(Model):
    """Who may come in. `none`: whoever is on this machine."""

    type: Literal["none"] = "none"


class ServerConfig(Model):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    path: Annotated[str, AfterValidator(_url_path)] = "/mcp"
    public_url: str | None = None
    auth: AuthConfig = AuthConfig()

    @field_validator("public_url")
    @classmethod
    def _is_https(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise ValueError("is written like https://sched.example.com")
        return url

    @property
    def exposed(self) -> list[str]:
        """Why others than this machine's users can reach the server, in words; empty if they cannot."""
        reasons = ["server.host is not loopback"] if self.host not in LOOPBACK else []
        return reasons + (["server.public_url is set"] if self.public_url else [])
