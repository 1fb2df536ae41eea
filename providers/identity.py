"""OpenID Connect providers that are known by a name, for signing in to the gateway itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """`extra` goes into every authorization request."""

    issuer: str
    extra: Mapping[str, str] = field(default_factory=dict)


PRESETS: Mapping[str, Identity] = {
    # A refresh token comes with the first consent alone, unless consent is asked for anew.
    # https://developers.google.com/identity/openid-connect/openid-connect#authenticationuriparameters (2026-11)
    "google": Identity("https://accounts.google.com", {"access_type": "offline", "prompt": "consent"}),
}
