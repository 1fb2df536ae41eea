"""Signing in to Google: which files do, when a token is renewed, and what is said when Google will not give one."""

import json
import logging
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.oauth2.credentials import Credentials
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from providers.base import Services
from providers.google_calendar.auth import SCOPES, TOKEN_URI, GoogleAuth, GoogleSignIn
from providers.rest import ATTEMPTS, RestConfig, RestProvider
from schemas import NotConnected, ProviderDown, RateLimited, SchedulingError
from tests.world import Clock

pytestmark = pytest.mark.anyio

SELF_HOSTED = "https://sign-in.test/token"
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
PERSON = {
    "type": "authorized_user",
    "client_id": "gateway.apps.googleusercontent.com",
    "client_secret": "GOCSPX-s3cret",
    "refresh_token": "1//refr3sh",
}
CALENDAR = "https://www.googleapis.com/auth/calendar"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def robot(**other: Any) -> dict[str, Any]:
    info = {"type": "service_account", "client_email": "robot@project.iam.gserviceaccount.com", "token_uri": TOKEN_URI}
    return {**info, "private_key": pem(rsa_key()), **other}


class Google:
    """The token endpoint and an API that takes the newest token only. A failure is an exception, or an answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.served: list[str] = []
        self.headers: list[Any] = []
        self.failures: deque[Exception | Callable[[str], Response]] = deque()
        self.refuses: Callable[[str], bool] = lambda token: token != self.token
        self.more: dict[str, Any] = {"expires_in": 3599}
        self.open = anyio.Event()
        self.open.set()
        routes = [
            Route("/token", self._token, methods=["POST"]),
            Route("/events", self._events, methods=["GET", "POST"]),
        ]
        self.transport = httpx2.ASGITransport(Starlette(routes=routes))

    @property
    def token(self) -> str:
        return f"ya29.t0ken-{len(self.asked)}"

    async def _token(self, request: Request) -> Response:
        body = (await request.body()).decode()
        self.asked.append({name: value for name, [value] in parse_qs(body).items()} | {"host": request.url.netloc})
        await self.open.wait()
        failure = self.failures.popleft() if self.failures else None
        if isinstance(failure, Exception):
            raise failure
        return failure(body) if failure else JSONResponse({"access_token": self.token, **self.more})

    async def _events(self, request: Request) -> Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.headers.append(request.headers)
        if self.refuses(token):
            return JSONResponse({"error": {"code": 401}}, 401)
        self.served.append(f"{request.method} {token} {(await request.body()).decode()}".strip())
        return JSONResponse({})


def answer(status: int, error: str, headers: dict[str, str] | None = None) -> Callable[[str], Response]:
    """An error, with all that was sent in its description."""
    return lambda body: JSONResponse({"error": error, "error_description": f"no: {body}"}, status, headers)


class Calendar(RestProvider):
    title = "Calendar"


def signed(auth: GoogleAuth, clock: Clock, transport: Any) -> GoogleSignIn:
    nothing: Any = None
    credentials = auth.credentials(Services(clock, nothing, nothing, transport=transport), "cal", nothing)
    assert isinstance(credentials, GoogleSignIn)
    return credentials


class Desk:
    """An account that signs in to Google, and the Google it does so at."""

    def __init__(self, folder: Path, info: dict[str, Any], **keys: Any) -> None:
        self.file = folder / "google.json"
        self.file.write_text(json.dumps(info))
        self.google, self.clock = Google(), Clock()
        self.config = configured(folder, credentials_file="google.json", **keys)
        self.auth = signed(self.config, self.clock, self.google.transport)
        nothing: Any = None
        services = Services(self.clock, nothing, nothing, auth=self.auth, transport=self.google.transport)
        self.calendar = Calendar("cal", RestConfig(provider="calendar", base_url="https://api.test"), services)

    async def call(self, method: str = "GET") -> None:
        await self.calendar.call(method, "/events", lambda _: None, json={} if method == "POST" else None)

    async def failing(self, method: str = "POST") -> SchedulingError:
        with pytest.raises(SchedulingError) as caught:
            await self.call(method)
        return caught.value


def configured(folder: Path, **keys: Any) -> GoogleAuth:
    return GoogleAuth.model_validate({"type": "google", **keys}, context={"folder": folder})


@pytest.fixture(autouse=True)
def _no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, PERSON)


# Tokens


async def test_a_person_signs_in_with_the_consent_in_the_file(desk: Desk) -> None:
    await desk.call()
    # No scopes: a consent to broader ones serves too.
    [asked] = desk.google.asked
    assert asked == {
        "grant_type": "refresh_token",
        "host": "oauth2.googleapis.com",
        **{key: PERSON[key] for key in ("client_id", "client_secret", "refresh_token")},
    }
    assert desk.google.served == ["GET ya29.t0ken-1"]
    assert "x-goog-user-project" not in desk.google.headers[0]


@pytest.mark.parametrize("subject", [None, "host@example.com"])
async def test_a_service_account_asks_for_the_smallest_scopes_on_behalf_of_its_subject(
    tmp_path: Path, subject: str | None
) -> None:
    desk = Desk(tmp_path, robot(), subject=subject)
    await desk.call()
    [asked] = desk.google.asked
    assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(asked["assertion"], rsa_key().public_key(), algorithms=["RS256"], audience=TOKEN_URI)
    assert claims["iss"] == robot()["client_email"]
    assert claims.get("sub") == subject
    assert claims["scope"].split() == list(SCOPES)
    assert desk.google.served == ["GET ya29.t0ken-1"]


@pytest.mark.parametrize("info", [PERSON, robot()], ids=["person", "service account"])
async def test_a_token_comes_from_the_address_that_the_configuration_names(
    tmp_path: Path, info: dict[str, Any]
) -> None:
    desk = Desk(tmp_path, info, token_uri=SELF_HOSTED)
    await desk.call()
    assert [asked["host"] for asked in desk.google.asked] == ["sign-in.test"]


async def test_the_project_that_pays_is_named_where_the_file_names_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {**PERSON, "quota_project_id": "my-project"})
    await desk.call()
    assert desk.google.headers[0]["x-goog-user-project"] == "my-project"


async def test_requests_at_once_make_one_token_off_the_event_loop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, refresh = [], Credentials.refresh

    def watched(credentials: Credentials, request: Any) -> None:
        threads.append(threading.current_thread())
        refresh(credentials, request)  # type: ignore[no-untyped-call]  # google-auth has no types

    monkeypatch.setattr(Credentials, "refresh", watched)
    desk.google.open = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(desk.call)
        await anyio.wait_all_tasks_blocked()
        desk.google.open.set()
    assert desk.google.served == ["GET ya29.t0ken-1"] * 20
    assert len(threads) == len(desk.google.asked) == 1
    assert threads[0] is not threading.main_thread()


async def test_a_token_is_renewed_a_minute_before_it_expires_by_the_clock_that_was_handed_in(desk: Desk) -> None:
    await desk.call()
    desk.clock.advance(HOUR - 62 * SECOND)
    await desk.call()
    assert len(desk.google.asked) == 1
    desk.clock.advance(SECOND)
    await desk.call()
    assert desk.google.served == ["GET ya29.t0ken-1"] * 2 + ["GET ya29.t0ken-2"]
    assert [asked["refresh_token"] for asked in desk.google.asked] == [PERSON["refresh_token"]] * 2


@pytest.mark.parametrize(
    ("told", "life"), [({}, HOUR), ({"expires_in": "40"}, 40 * SECOND), ({"expires_in": 0}, SECOND)]
)
async def test_a_token_of_odd_length_is_kept_for_no_longer_than_it_lasts(
    desk: Desk, told: dict[str, Any], life: timedelta
) -> None:
    desk.google.more = told
    await desk.call()
    desk.clock.advance(life)
    await desk.call()
    assert len(desk.google.asked) == 2


async def test_a_new_refresh_token_is_used_from_then_on(desk: Desk) -> None:
    desk.google.more = {"expires_in": 3599, "refresh_token": "1//rotated"}
    await desk.call()
    desk.clock.advance(HOUR)
    desk.google.failures = deque([httpx2.ReadError("cut")])
    await desk.call()
    assert [asked["refresh_token"] for asked in desk.google.asked[1:]] == ["1//rotated"] * 2


async def test_a_token_that_the_service_refuses_is_renewed_once_for_all_who_had_it(desk: Desk) -> None:
    await desk.call()
    desk.google.refuses = lambda token: token == "ya29.t0ken-1"
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(desk.call, "POST")
    assert len(desk.google.asked) == 2
    assert desk.google.served[1:] == ["POST ya29.t0ken-2 {}"] * 5


async def test_a_second_refusal_stands(desk: Desk) -> None:
    desk.google.refuses = lambda _: True
    assert isinstance(await desk.failing(), NotConnected)
    assert len(desk.google.asked) == len(desk.google.headers) == 2


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (None, []),
        (" ".join(SCOPES), []),
        (CALENDAR, []),
        (f"{CALENDAR}.events {CALENDAR}.readonly", []),
        (f"{CALENDAR}.readonly", ["events"]),
        (f"{CALENDAR}.events openid", [scope.rpartition("/calendar.")[2] for scope in SCOPES[1:]]),
    ],
    ids=["unsaid", "ours", "everything", "broader", "reading only", "events only"],
)
async def test_scopes_that_were_not_granted_are_named(desk: Desk, granted: str | None, missing: list[str]) -> None:
    desk.google.more = {"expires_in": 3599, **({"scope": granted} if granted else {})}
    await desk.call()
    assert list(desk.auth.missing) == [f"{CALENDAR}.{scope}" for scope in missing]


# No token to be had


async def test_a_consent_that_has_ended_is_not_connected_and_the_seven_days_are_named(desk: Desk) -> None:
    desk.google.failures = deque([answer(400, "invalid_grant")])
    error = await desk.failing("GET")
    assert isinstance(error, NotConnected)
    assert "invalid_grant" in error.message
    assert "7 days" in error.message
    assert len(desk.google.asked) == 1
    assert not desk.google.headers


async def test_a_file_that_was_made_anew_is_read_without_a_restart(desk: Desk) -> None:
    desk.google.failures = deque([answer(400, "invalid_grant")])
    await desk.failing()
    desk.file.write_text("{")
    assert isinstance(await desk.failing(), NotConnected)
    desk.file.write_text(json.dumps({**PERSON, "refresh_token": "1//anew"}))
    await desk.call()
    assert [asked["refresh_token"] for asked in desk.google.asked] == [PERSON["refresh_token"], "1//anew"]


@pytest.mark.parametrize(
    ("code", "named"),
    [("invalid_grant", "`subject`"), ("unauthorized_client", SCOPES[0]), ("invalid_client", "HTTP 401")],
)
async def test_a_service_account_gets_advice_of_its_own(tmp_path: Path, code: str, named: str) -> None:
    desk = Desk(tmp_path, robot(), subject="host@example.com")
    desk.google.failures = deque([answer(401, code)])
    error = await desk.failing()
    assert isinstance(error, NotConnected)
    assert named in error.message


WEATHER = [
    (answer(500, "internal_failure"), ProviderDown),
    (answer(503, ""), ProviderDown),
    (answer(400, "temporarily_unavailable"), ProviderDown),
    (answer(429, "rate_limit_exceeded", {"Retry-After": "7"}), RateLimited),
    (answer(403, "admin_policy_enforced"), NotConnected),
    (answer(404, "invalid"), NotConnected),
    (lambda body: PlainTextResponse(body), ProviderDown),
    (lambda body: JSONResponse({"scope": body}), ProviderDown),
    (lambda body: JSONResponse({"access_token": f"{body}\r\nX: y"}), ProviderDown),
    (lambda body: JSONResponse({"access_token": 5}), ProviderDown),
    (lambda body: JSONResponse({"access_token": "a", "expires_in": body}), ProviderDown),
    (lambda body: JSONResponse([{"error": body}], 400), NotConnected),
    (lambda body: JSONResponse({"error": {"message": body}}, 400), NotConnected),
    (httpx2.ConnectError("refused"), ProviderDown),
    (httpx2.ReadError("cut"), ProviderDown),
    (httpx2.ReadTimeout("slow"), ProviderDown),
]


@pytest.mark.parametrize(("failure", "kind"), WEATHER)
async def test_a_write_that_could_not_be_signed_did_not_happen(desk: Desk, failure: Any, kind: type) -> None:
    desk.google.failures = deque([failure])
    error = await desk.failing("POST")
    assert type(error) is kind
    assert error.retry_after == (7 if kind is RateLimited else None)
    assert len(desk.google.asked) == 1
    assert not desk.google.headers
    await desk.call("POST")
    assert len(desk.google.served) == 1


@pytest.mark.parametrize(("failure", "kind"), WEATHER[:4])
async def test_a_write_whose_token_was_refused_and_not_renewed_did_not_happen_either(
    desk: Desk, failure: Any, kind: type
) -> None:
    await desk.call()
    desk.google.refuses = lambda token: token == "ya29.t0ken-1"
    desk.google.failures = deque([failure])
    assert type(await desk.failing("POST")) is kind


async def test_a_read_waits_and_tries_again_by_the_clock_that_was_handed_in(desk: Desk) -> None:
    desk.google.failures = deque([answer(503, "")] * (ATTEMPTS - 1))
    await desk.call()
    assert desk.clock.waits == [0.5, 1, 2]
    assert desk.google.served == [f"GET {desk.google.token}"]


async def test_those_who_waited_for_a_token_in_vain_do_not_ask_for_it_one_after_the_other(desk: Desk) -> None:
    desk.google.open = anyio.Event()
    desk.google.failures = deque([answer(400, "invalid_grant")])
    failed: list[SchedulingError] = []

    async def fail() -> None:
        failed.append(await desk.failing("POST"))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(fail)
        await anyio.wait_all_tasks_blocked()
        desk.google.open.set()
    assert len(desk.google.asked) == 1
    assert len({id(error) for error in failed}) == 5
    assert {type(error) for error in failed} == {NotConnected}


async def test_a_caller_who_goes_away_leaves_the_token_to_the_others(desk: Desk) -> None:
    desk.google.open = anyio.Event()
    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def leave() -> None:
            with first:
                await desk.call()

        tasks.start_soon(leave)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(desk.call)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        desk.google.open.set()
    assert desk.google.served == [f"GET {desk.google.token}"]


@pytest.mark.parametrize("is_lent", [True, False], ids=["lent", "own"])
async def test_a_connection_is_closed_unless_it_was_lent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_lent: bool
) -> None:
    closed = []

    class Network(httpx2.AsyncBaseTransport):
        def __init__(self, **_: Any) -> None: ...

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return await desk.google.transport.handle_async_request(request)

        async def aclose(self) -> None:
            closed.append(self)

    monkeypatch.setattr("httpx2._client.AsyncHTTPTransport", Network)
    auth = signed(desk.config, desk.clock, Network() if is_lent else None)
    async with httpx2.AsyncClient(auth=auth, transport=desk.google.transport) as client:
        assert (await client.get("https://api.test/events")).status_code == 200
    assert len(closed) == (0 if is_lent else 1)


def test_it_signs_no_requests_of_a_client_that_would_block(desk: Desk) -> None:
    def served(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError

    with (
        httpx2.Client(auth=desk.auth, transport=httpx2.MockTransport(served)) as client,
        pytest.raises(RuntimeError),
    ):
        client.get("https://api.test/events")


# Secrets


@pytest.mark.parametrize("failure", [None, *(failure for failure, _ in WEATHER), answer(400, "invalid_grant")])
@pytest.mark.parametrize("info", [PERSON, robot()], ids=["person", "service account"])
async def test_no_secret_is_in_a_message_a_repr_or_a_log(
    tmp_path: Path, info: dict[str, Any], failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="google")
    desk = Desk(tmp_path, info)
    said: list[Any] = [desk.config, desk.config.model_dump(), desk.auth, vars(desk.auth)]
    if failure is None:
        await desk.call("POST")
    else:
        desk.google.failures = deque([failure])
        error = await desk.failing()
        said += [error, error.message, "".join(traceback.format_exception(error))]
    said += [desk.auth, vars(desk.auth), [vars(record) for record in caplog.records]]
    [asked] = desk.google.asked
    key = info.get("private_key", "").splitlines()
    secrets = [asked[name] for name in ("refresh_token", "client_secret", "assertion") if name in asked]
    for secret in (*secrets, *key[1:-1], "ya29.t0ken"):
        assert secret not in f"{said!r} {caplog.text}"


# Files


def refused(folder: Path, **keys: Any) -> tuple[list[Any], str]:
    """Where the mistake is, and what is said of it."""
    with pytest.raises(ValidationError) as caught:
        configured(folder, **keys)
    [detail] = caught.value.errors()
    assert "s3cret" not in detail["msg"]
    return list(detail["loc"]), detail["msg"].removeprefix("Value error, ")


def without(info: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key not in keys}


FILES = {
    "{s3cret": "is not JSON",
    "[" * 100_000: "is not JSON",
    '["s3cret"]': "is not a JSON object",
    "{}": "must be of the type authorized_user or service_account; no other is built",
    '{"type": ["s3cret"]}': "must be of the type authorized_user or service_account; no other is built",
    '{"type": "external_account"}': "must be of the type authorized_user or service_account; no other is built",
    '{"installed": {"client_secret": "s3cret"}}': (
        "is an OAuth client, with which nobody has signed in yet; give the file that signing in makes"
    ),
    json.dumps(without(PERSON, "refresh_token", "client_id")): "has no client_id, refresh_token",
    json.dumps(robot(private_key=["s3cret"], client_email="")): "has no client_email, private_key",
    json.dumps(robot(token_uri="s3cret")): "has a token_uri that is no address",
    json.dumps(robot(universe_domain="s3cret.test")): "is not for googleapis.com, where Google Calendar is",
    json.dumps({**PERSON, "quota_project_id": "s3cret\r\nX: y"}): "has a quota_project_id that is no name",
    json.dumps({**PERSON, "quota_project_id": 5}): "has a quota_project_id that is no name",
}


@pytest.mark.parametrize(("text", "mistake"), FILES.items(), ids=range(len(FILES)))
def test_a_file_that_is_no_credentials_is_refused_at_the_start(tmp_path: Path, text: str, mistake: str) -> None:
    (tmp_path / "google.json").write_text(text)
    assert refused(tmp_path, credentials_file="google.json") == (["credentials_file"], mistake)


def test_a_file_that_cannot_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    where = ["credentials_file"]
    assert refused(tmp_path, credentials_file="s3cret") == (where, "cannot be read: No such file or directory")
    assert refused(tmp_path, credentials_file="~nobody-here/x") == (where, "cannot be read: No such file or directory")
    assert refused(tmp_path, credentials_file=".") == (where, "cannot be read: Is a directory")
    assert refused(tmp_path, credentials_file="binary") == (where, "is not JSON")


@pytest.mark.parametrize("key", ["s3cret", pem(ec.generate_private_key(ec.SECP256R1()))], ids=["no key", "not RSA"])
def test_a_key_that_cannot_sign_is_refused_at_the_start(tmp_path: Path, key: str) -> None:
    (tmp_path / "google.json").write_text(json.dumps(robot(private_key=key)))
    mistake = "the private_key of the service account cannot be read, or is not RSA"
    assert refused(tmp_path, credentials_file="google.json") == ([], mistake)


def test_a_path_starts_at_the_folder_of_the_configuration_or_at_home(tmp_path: Path) -> None:
    for path in (tmp_path / "google.json", Path.home() / "google.json"):
        path.write_text(json.dumps(PERSON))
        named = "google.json" if path.parent == tmp_path else "~/google.json"
        assert configured(tmp_path, credentials_file=named).credentials_file == path


def test_settings_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "google.json").write_text(json.dumps(PERSON))
    browser = {"client_id": "x", "client_secret": "s3cret"}
    for name in browser:
        assert "give both client_id and client_secret" in refused(tmp_path, **{name: browser[name]})[1]
    for keys in ({"credentials_file": "google.json"}, {"subject": "host@example.com"}):
        assert "without a credentials_file" in refused(tmp_path, **browser, **keys)[1]
    address = "https://accounts.example.com/authorize"
    assert "through the browser" in refused(tmp_path, credentials_file="google.json", auth_uri=address)[1]
    assert "service account" in refused(tmp_path, credentials_file="google.json", subject="host@example.com")[1]
    for address in ("s3cret", "ftp://s3cret", "https://", "https://s3cret:x/"):
        assert refused(tmp_path, credentials_file="google.json", token_uri=address)[0] == ["token_uri"]


# Application default credentials


def test_without_a_file_and_without_defaults_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    where, mistake = refused(tmp_path)
    assert where == []
    assert "is not there; give a credentials_file, or run `gcloud auth application-default login`" in mistake


@pytest.mark.parametrize("place", ["named", "gcloud", "moved"])
async def test_the_default_credentials_of_the_machine_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    name = "application_default_credentials.json"
    path = Path.home() / ".config/gcloud" / name if place == "gcloud" else tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(PERSON))
    if place != "gcloud":
        variable = {"named": "GOOGLE_APPLICATION_CREDENTIALS", "moved": "CLOUDSDK_CONFIG"}[place]
        monkeypatch.setenv(variable, str(path if place == "named" else tmp_path))
    google = Google()
    auth = signed(configured(tmp_path, credentials_file=None), Clock(), google.transport)
    async with httpx2.AsyncClient(auth=auth, transport=google.transport) as client:
        assert (await client.get("https://api.test/events")).status_code == 200


def test_defaults_that_cannot_be_used_are_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "s3cret"))
    mistake = "the application default credentials file cannot be read: No such file or directory"
    assert refused(tmp_path) == ([], mistake)


# Imports


def test_google_auth_is_imported_when_it_is_needed() -> None:
    say = "import providers.google_calendar.auth, sys; print('google.auth' in sys.modules)"
    root = Path(__file__).parent.parent
    loaded = subprocess.run([sys.executable, "-c", say], cwd=root, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
