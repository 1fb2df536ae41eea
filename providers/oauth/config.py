"""What an account may say of its sign-in, and what it is signed in to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import SecretStr, field_validator, model_validator

from providers.base import Services
from schemas import Model

if TYPE_CHECKING:
    from providers.oauth.client import OAuthClient
    from providers.oauth.sign_in import OAuthSignIn

Method = Literal["none", "client_secret_post", "client_secret_basic"]
"""How a client shows at the token endpoint who it is (RFC 7591, 2)."""
METHODS: tuple[Method, ...] = ("none", "client_secret_post", "client_secret_basic")

_PRINTED = re.compile(r"[\x21-\x7e]+")
# RFC 6749, 3.3
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A vendor's authorization server, where none is to be looked for.

    `method` is how a client's secret is sent; without `pkce_with_secret` a client that has one sends no PKCE. `ends` is
    what to know of how long a consent lasts there.
    """

    authorization: str
    token: str
    revocation: str | None = None
    issuer: str | None = None
    method: Method = "client_secret_post"
    pkce_with_secret: bool = True
    ends: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What an account is signed in to.

    `resource` is the URL of an MCP server: looking for its authorization server begins there. With `endpoints` nothing
    is looked for; a REST API has no resource. `scopes` are asked for when neither the configuration nor the server
    says; `extra` goes into every authorization request.
    """

    resource: str | None
    endpoints: Endpoints | None = None
    scopes: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a grant is for: one of another target is never used."""
        return self.resource or (self.endpoints.token if self.endpoints else "")


class SignedIn(Protocol):
    """The configuration of an account that can be signed in to by OAuth."""

    def target(self) -> Target: ...


class OAuthAuth(Model):
    """`auth: {type: oauth}`: a consent in the browser, with a client of the operator's or one registered by itself."""

    type: Literal["oauth"]
    client_id: str | None = None
    client_secret: SecretStr | None = None
    scopes: tuple[str, ...] = ()

    @field_validator("client_id", "client_secret")
    @classmethod
    def _is_printed(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not _PRINTED.fullmatch(text):
            raise ValueError("is empty, or has a space or another character that none has")
        return value

    @field_validator("scopes")
    @classmethod
    def _are_scopes(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_SCOPE.fullmatch(scope) for scope in scopes):
            raise ValueError("is a list of scopes, each without spaces or quotes")
        return scopes

    @model_validator(mode="after")
    def _has_an_id(self) -> "OAuthAuth":
        if self.client_secret is not None and self.client_id is None:
            raise ValueError("client_secret needs the client_id it belongs to")
        return self

    @property
    def is_browser(self) -> bool:
        """Whether somebody consents in a browser."""
        return True

    def client(self, services: Services, account: str, config: SignedIn) -> "OAuthClient":
        """What an account's consent is begun, finished, renewed and ended with."""
        from providers.oauth.client import OAuthClient

        lent = (services.vault, services.clock, services.transport)
        return OAuthClient(account, self, config.target(), *lent, services.kept_as)

    def credentials(self, services: Services, account: str, config: SignedIn) -> "OAuthSignIn":
        """What signs the requests of an account; its `client` is what connects it."""
        from providers.oauth.sign_in import OAuthSignIn

        return OAuthSignIn(self.client(services, account, config))
