"""`server:` of the configuration: where the gateway listens, who may come in, and how much of each."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, SecretStr, Tag, field_validator, model_validator

from gateway.policy import DEFAULT, Policy
from providers.identity import PRESETS, Identity
from schemas import Model

LOOPBACK = ("127.0.0.1", "localhost", "::1")

CLIENTS = (
    "https://claude.ai/api/mcp/auth_callback",
    "https://claude.com/api/mcp/auth_callback",
    "https://chatgpt.com/connector_platform_oauth_redirect",
    "https://chatgpt.com/connector/oauth/*",
    "https://vscode.dev/redirect",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "http://localhost:*",
    "http://127.0.0.1:*",
)
"""Where clients that sign in by OAuth may have their answer sent: those of Claude, ChatGPT, VS Code and Cursor, and
programs on the user's own machine."""


def _url_path(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("is written like /mcp")
    return path


class NoAuth(Model):
    """Whoever is on this machine may come in."""

    type: Literal["none"] = "none"


class _Guarded(Model):
    policies: Mapping[str, Policy] = Field(default_factory=dict)

    def policy(self, name: str) -> Policy | None:
        """A policy by its name; None if there is none of that name (any more)."""
        return self.policies.get(name) or (DEFAULT if name == "default" else None)


class KeysAuth(_Guarded):
    """Keys that `scheduling-gateway keys` makes, each under the policy that it was made for."""

    type: Literal["keys"]

    @model_validator(mode="after")
    def _names_nobody(self) -> "KeysAuth":
        if any(policy.subjects or policy.groups for policy in self.policies.values()):
            raise ValueError("subjects and groups are of who signs in with `type: oauth`; a key is made for its policy")
        return self


class OAuthAuth(_Guarded):
    """People who sign in at an OpenID Connect provider; with `keys`, keys too."""

    type: Literal["oauth"]
    keys: bool = False
    provider: str | None = None
    issuer: str | None = None
    client_id: str
    client_secret: SecretStr
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    groups_claim: str = "groups"
    redirect_uris: tuple[str, ...] = CLIENTS

    @field_validator("provider")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(f"must be one of {', '.join(PRESETS)}; for any other give its issuer")
        return name

    @field_validator("client_id", "client_secret")
    @classmethod
    def _is_printed(cls, value: str | SecretStr) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not re.fullmatch(r"[\x21-\x7e]+", text):
            raise ValueError("is empty, or has a space or another character that none has")
        return value

    @field_validator("issuer")
    @classmethod
    def _is_https(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(
            r"(https|http(?=://(127\.0\.0\.1|localhost)[:/]))://[^\s/?#@]+(/[^\s?#]*)?", url
        ):
            raise ValueError("is written like https://login.example.com")
        return url and url.rstrip("/")

    @model_validator(mode="after")
    def _knows_whom_to_ask_and_whom_to_let_in(self) -> "OAuthAuth":
        if (self.provider is None) == (self.issuer is None):
            raise ValueError("takes either a `provider` that is known here, or another one's `issuer`")
        if "openid" not in self.scopes:
            raise ValueError("scopes must have openid")
        if not any(policy.subjects or policy.groups for policy in self.policies.values()):
            raise ValueError(
                "policies: say who may come in, like `policies: {team: {subjects: ['*@example.com']}}`; anyone at all "
                "is written ['*']"
            )
        return self

    @property
    def identity(self) -> Identity:
        """The provider, known or given."""
        return PRESETS[self.provider] if self.provider else Identity(self.issuer or "")


def _type(value: object) -> str:
    return f"auth[{value.get('type', 'none') if isinstance(value, dict) else getattr(value, 'type', '')}]"


Auth = Annotated[
    # Tags that do not look like keys, for the paths of mistakes.
    Annotated[NoAuth, Tag("auth[none]")]
    | Annotated[KeysAuth, Tag("auth[keys]")]
    | Annotated[OAuthAuth, Tag("auth[oauth]")],
    Discriminator(_type, custom_error_type="type", custom_error_message="must have a type: none, keys or oauth"),
]


class LimitsConfig(Model):
    """What one caller may ask of one process of the gateway: bytes a request, calls a minute, calls at once."""

    request_bytes: int = Field(1_048_576, ge=1024)
    per_minute: int = Field(600, ge=1)
    at_once: int = Field(32, ge=1)


class LogConfig(Model):
    """The log on stderr."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "warning"


class ServerConfig(Model):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    path: Annotated[str, AfterValidator(_url_path)] = "/mcp"
    public_url: str | None = None
    auth: Auth = NoAuth()
    limits: LimitsConfig = LimitsConfig()
    log: LogConfig = LogConfig()

    @field_validator("public_url")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise ValueError("is written like https://sched.example.com")
        return url

    @model_validator(mode="after")
    def _is_found_by_browsers(self) -> "ServerConfig":
        if isinstance(self.auth, OAuthAuth):
            if self.public_url is None and self.host not in LOOPBACK:
                raise ValueError("public_url: people are sent there to sign in, so with `type: oauth` say which")
            if (self.public_url or "").startswith("http://") and urlsplit(self.public_url).hostname not in LOOPBACK:
                raise ValueError("public_url: must be https, or who signs in could be overheard")
        return self

    @property
    def exposed(self) -> list[str]:
        """Why others than this machine's users can reach the server, in words; empty if they cannot."""
        reasons = ["server.host is not loopback"] if self.host not in LOOPBACK else []
        return reasons + (["server.public_url is set"] if self.public_url else [])
