"""Signing in to Google: what the configuration says of it, and access tokens that google-auth gets and renews.

https://developers.google.com/identity/protocols/oauth2

Quirks:
- A consent to a Google Cloud app whose publishing status is "testing" ends after 7 days.
  https://support.google.com/cloud/answer/15549945
- Renewing a person's token names no scopes, so that a consent to broader ones serves; what was granted comes with the
  answer. A service account names those that it needs.
- google-auth (2.62.2) tries a token request three times, sleeping in between; here the first failure is raised, and
  `RestProvider.call` tries again. Its `default` runs gcloud and asks a metadata server; here its two files are read.
"""

import os
import re
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import anyio
import httpx2
from anyio import from_thread, to_thread
from pydantic import SecretStr, ValidationInfo, field_validator, model_validator

from providers.base import Services
from providers.clock import Clock
from providers.google_calendar.credentials import PRINTED, contents, is_web, usual_file
from providers.oauth import Endpoints, OAuthAuth
from providers.oauth.config import SignedIn
from providers.pace import retry_after
from providers.rest import said
from schemas import Model, NotConnected, ProviderDown, RateLimited, SchedulingError

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
AUTH_URI, ISSUER = "https://accounts.google.com/o/oauth2/v2/auth", "https://accounts.google.com"
# Without these a second consent brings no refresh token.
LASTING = {"access_type": "offline", "prompt": "consent"}
AHEAD = timedelta(seconds=60)
"""A token is renewed so long before it expires."""
USUAL_LIFE, LONGEST_LIFE = 3600, 24 * 3600
TIMEOUT = httpx2.Timeout(10)

_SCOPE = "https://www.googleapis.com/auth/calendar"
# The narrowest scope of each method that is called, and the broader ones that do as well.
# https://www.googleapis.com/discovery/v1/apis/calendar/v3/rest, `methods.*.scopes` (2026-11)
EVENTS = f"{_SCOPE}.events"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    EVENTS: (_SCOPE,),
    # `calendar.freebusy` shows the person's own calendars alone, and a busy calendar may be someone else's.
    f"{_SCOPE}.events.freebusy": (_SCOPE, f"{_SCOPE}.readonly", f"{_SCOPE}.freebusy"),
    # Time zone and working hours.
    f"{_SCOPE}.calendars.readonly": (_SCOPE, f"{_SCOPE}.readonly", f"{_SCOPE}.calendars"),
}
SCOPES = tuple(_NEEDED)
"""The smallest set that reads and writes events and reads busy times, time zones and working hours."""

_AGAIN = "Nothing happened; try again later."
_TESTING = "Where the Google Cloud app is in testing, a consent ends after 7 days: publish the app."
_CONSENT = (
    f"The consent has expired or was withdrawn. Consent again, so that its credentials file is made anew. {_TESTING}"
)
_CLIENT = "The OAuth client in its credentials file is gone or has another secret; make the file anew."
_ALLOW = f"An administrator of the domain has to allow its client id these scopes: {', '.join(SCOPES)}."
# What a code of the token endpoint means. Nothing else that it says is repeated: it may hold a secret.
ADVICE: Mapping[str, Mapping[str, str]] = {
    "authorized_user": {"invalid_grant": _CONSENT, "invalid_client": _CLIENT, "unauthorized_client": _CLIENT},
    "service_account": {
        "invalid_grant": "See that its key still exists, that `subject` is of the domain, and that the clock is right.",
        **dict.fromkeys(("unauthorized_client", "invalid_scope", "access_denied"), _ALLOW),
    },
}
OVERLOADED = ("server_error", "temporarily_unavailable", "internal_failure")


class GoogleAuth(Model):
    """`auth: {type: google}`: a credentials file, or else the application default credentials of this machine."""

    type: Literal["google"]
    credentials_file: Path | None = None
    subject: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    token_uri: str | None = None
    auth_uri: str | None = None

    @field_validator("credentials_file")
    @classmethod
    def _is_read(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None:
            return path
        folder: Path = (info.context or {}).get("folder", Path.cwd())
        path = folder / os.path.expanduser(path)
        contents(path)
        return path

    @field_validator("token_uri", "auth_uri")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is not None and not is_web(url):
            raise ValueError("is written like https://accounts.example.com/token")
        return url

    @model_validator(mode="after")
    def _can_sign_in(self) -> "GoogleAuth":
        if self.is_browser:
            if self.client_id is None or self.client_secret is None:
                raise ValueError("to sign in through the browser, give both client_id and client_secret")
            if self.credentials_file is not None or self.subject is not None:
                raise ValueError("client_id is for signing in through the browser, without a credentials_file")
            return self
        if self.auth_uri is not None:
            raise ValueError("auth_uri is for signing in through the browser, with client_id and client_secret")
        if self._contents()["type"] == "service_account":
            self.signer()
        elif self.subject is not None:
            raise ValueError("subject is for the credentials_file of a service account")
        return self

    @property
    def is_browser(self) -> bool:
        """Whether somebody consents in a browser."""
        return self.client_id is not None or self.client_secret is not None

    def credentials(self, services: Services, account: str, config: SignedIn) -> httpx2.Auth:
        """What signs the requests of an account."""
        if self.is_browser:
            from providers.google_calendar.consent import GoogleConsent

            auth = OAuthAuth(type="oauth", client_id=self.client_id, client_secret=self.client_secret)
            needed = {scope: _NEEDED[scope] for scope in config.target().scopes}
            return GoogleConsent(auth.client(services, account, config), needed)
        return GoogleSignIn(self, services.clock, services.transport)

    def endpoints(self) -> Endpoints:
        """Google's authorization server. https://developers.google.com/identity/protocols/oauth2/web-server"""
        token = self.token_uri or TOKEN_URI
        return Endpoints(
            authorization=self.auth_uri or AUTH_URI,
            token=token,
            revocation=str(httpx2.URL(token).join("/revoke")),
            issuer=ISSUER if self.auth_uri is None else None,
            ends=_TESTING,
        )

    @property
    def is_delegated(self) -> bool:
        """Whether it acts for a person, so that it may invite others."""
        return self.is_browser or self.subject is not None or self._contents()["type"] != "service_account"

    def signer(self) -> tuple[str, Any]:
        """The type of the credentials that the file has now, and google-auth's object of them. Raises ValueError."""
        info = self._contents()
        # Imported on first use: not every start needs it (2026-11: 80 ms, 10 ms beside a server).
        if info["type"] == "authorized_user":
            from google.oauth2.credentials import Credentials

            return info["type"], Credentials(  # type: ignore[no-untyped-call]  # google-auth has no types
                None,
                refresh_token=info["refresh_token"],
                token_uri=self.token_uri or TOKEN_URI,
                client_id=info["client_id"],
                client_secret=info["client_secret"],
                quota_project_id=info.get("quota_project_id"),
            )
        from google.oauth2.service_account import Credentials as ServiceAccount

        info |= {"token_uri": self.token_uri or info["token_uri"]}
        try:
            account = ServiceAccount.from_service_account_info(info)  # type: ignore[no-untyped-call]  # google-auth has no types
            account.sign_bytes(b"")
        except Exception:  # of many kinds, and some quote the key
            raise ValueError("the private_key of the service account cannot be read, or is not RSA") from None
        return info["type"], account.with_scopes(SCOPES).with_subject(self.subject)

    def _contents(self) -> dict[str, Any]:
        which = "credentials_file" if self.credentials_file else "the application default credentials file"
        try:
            return contents(self.credentials_file or usual_file())
        except ValueError as error:
            raise ValueError(f"{which} {error}") from None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Token:
    """What every request carries, and from when on another is to be had."""

    headers: Mapping[str, str]
    until: datetime


class GoogleSignIn(httpx2.Auth):
    """The access token in the header of every request: renewed before it expires, and once when it is refused.

    Raises: a SchedulingError where there is no token to be had; the request was not sent then, or was refused.
    """

    missing: tuple[str, ...] = ()
    """Scopes that are needed and were not granted, where Google says which were."""

    def __init__(self, config: GoogleAuth, clock: Clock, transport: httpx2.AsyncBaseTransport | None) -> None:
        self._config = config
        self._clock = clock
        self._transport = transport
        self._renewing = anyio.Lock()
        self._signer: tuple[str, Any] | None = None
        self._token: _Token | None = None
        self._failure: SchedulingError | None = None

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        raise RuntimeError("signs the requests of an AsyncClient only")

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token = await self._good()
        request.headers.update(token.headers)
        response = yield request
        if response.status_code == 401:
            request.headers.update((await self._good(token)).headers)
            yield request

    async def _good(self, refused: _Token | None = None) -> _Token:
        """A token that is not to be renewed yet, nor the one that was refused."""
        known = self._failure
        async with self._renewing:
            if self._token and self._token is not refused and self._clock.now() < self._token.until:
                return self._token
            if self._failure and self._failure is not known:  # someone else tried while we waited
                raise type(self._failure)(self._failure.message, retry_after=self._failure.retry_after)
            try:
                self._token = await to_thread.run_sync(self._renewed)
            except SchedulingError as error:
                self._failure = error
                raise
            return self._token

    def _renewed(self) -> _Token:
        """A new token. Runs in a worker thread: google-auth blocks, and signing takes a while."""
        try:
            kind, credentials = self._signer = self._signer or self._config.signer()
        except ValueError as error:
            raise NotConnected(f"Cannot sign in to Google: {error}.") from None
        answer: dict[str, Any] = {}
        begun = self._clock.now()
        try:
            credentials.refresh(partial(self._ask, kind, answer))
            if not re.fullmatch(PRINTED, credentials.token):
                raise ValueError
            life = timedelta(seconds=max(0, min(int(answer.get("expires_in", USUAL_LIFE)), LONGEST_LIFE)))
            headers: dict[str, str] = {}
            credentials.apply(headers)
        except SchedulingError as error:
            if isinstance(error, NotConnected):
                self._signer = None  # read the file again: it may have been made anew
            raise
        except Exception as error:  # whatever google-auth makes of an odd answer; it may quote it
            self._signer = None
            what = f"Google's sign-in sent an answer that cannot be read ({type(error).__name__})."
            raise ProviderDown(f"{what} {_AGAIN}") from None
        granted = answer.get("scope")
        self.missing = missing(granted.split()) if isinstance(granted, str) else ()
        return _Token(headers, begun + life - min(AHEAD, life / 2))

    def _ask(
        self, kind: str, answer: dict[str, Any], *, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> SimpleNamespace:
        """The `google.auth.transport.Request` by which google-auth asks; what it is told goes into `answer` too."""
        # Made here, off the event loop: it reads the certificates.
        client = httpx2.AsyncClient(transport=self._transport, timeout=TIMEOUT)
        response = from_thread.run(self._send, client, client.build_request(method, url, content=body, headers=headers))
        if response.status_code != 200:
            raise _failure(kind, response, self._clock.now())
        answer.update(said(response))
        return SimpleNamespace(status=response.status_code, headers=response.headers, data=response.content)

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
        try:
            return await client.send(request)
        except httpx2.HTTPError as error:
            where = f"Google's sign-in could not be reached at {request.url.host} ({type(error).__name__})."
            raise ProviderDown(f"{where} {_AGAIN}") from None
        finally:
            if self._transport is None:  # another one is not ours to close
                await client.aclose()


def _failure(kind: str, response: httpx2.Response, now: datetime) -> SchedulingError:
    """What an answer of the token endpoint means, said in our own words."""
    status, code = response.status_code, said(response).get("error")
    if status == 429:
        wait = retry_after(response.headers, now)
        return RateLimited("Google's sign-in takes no more requests for now. Try again later.", retry_after=wait)
    if not 400 <= status < 500 or status == 408 or code in OVERLOADED:
        return ProviderDown(f"Google's sign-in answered HTTP {status}. {_AGAIN}")
    advice = ADVICE[kind].get(code) if isinstance(code, str) else None
    if advice is None:
        return NotConnected(f"Google refused the sign-in with HTTP {status}. Check the account's credentials.")
    return NotConnected(f"Google refused the sign-in ({code}). {advice}")


def missing(granted: Iterable[str], needed: Mapping[str, tuple[str, ...]] = _NEEDED) -> tuple[str, ...]:
    """Those that are needed and neither granted themselves nor by a broader one."""
    scopes = set(granted)
    return tuple(scope for scope, broader in needed.items() if not {scope, *broader} & scopes)
