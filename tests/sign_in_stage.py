"""Gateways that people sign in to, on loopback, with the provider they sign in at, their browser and their client."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import anyio
import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway import door
from gateway.callers import LOCAL, Caller
from gateway.config import Config
from gateway.core import Gateway
from gateway.pages import signin
from gateway.server import build_server
from gateway.server_config import OAuthAuth, ServerConfig
from gateway.serving import http_server, listen
from gateway.signing_in import provider
from providers import PROVIDERS
from providers.oauth.openid import OpenId
from tests.emulators.identity import CLIENT, SECRET, IdentityProvider
from tests.loopback import served
from tests.postgres import databases
from tests.world import Clock

ENCRYPTION = base64.urlsafe_b64encode(b"e" * 32).decode()
KEY = "sgk_a-key-of-somebody"
CALLBACK = "http://localhost:33418/callback"
"""Where a client waits for its answer; nobody is there."""


class Door(door.Door):
    """Lets in who is in the group `staff`, and whoever has a key that is in `keys`. The tools are everybody's."""

    def __init__(self) -> None:
        self.keys = {KEY}
        self.open = True
        self.openid: OpenId | None = None

    async def by_claims(self, claims: Mapping[str, Any]) -> Caller | None:
        is_staff = self.open and "staff" in claims.get("groups", ())
        return Caller(f"user:{claims['sub']}@{claims['iss']}") if is_staff else None

    async def by_key(self, token: str) -> Caller | None:
        return Caller("key:laptop") if token in self.keys else None

    def caller(self) -> Caller:
        return LOCAL


class House:
    """`open` serves a gateway of these settings, again for one that was stopped, or one more beside another."""

    def __init__(self, folder: Path, identity: IdentityProvider, **auth: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.identity = identity
        identity.clock = self.clock
        self.door = Door()
        self.auth = (
            auth
            if auth.get("type") == "keys"
            else {
                "type": "oauth",
                "issuer": identity.issuer,
                "client_id": CLIENT,
                "client_secret": SECRET,
                "policies": {"staff": {"groups": ["staff"]}},
                **auth,
            }
        )

    def gateway(self) -> Gateway:
        home = PROVIDERS["local"]["api"].Config.model_validate({"provider": "local", "time_zone": "Europe/Berlin"})
        return Gateway(
            Config(
                accounts={"home": home},
                server=ServerConfig.model_validate({"port": 0, "auth": self.auth}),
                storage=databases.newest(self.folder, encryption_key=SecretStr(ENCRYPTION)),
            ),
            clock=self.clock,
        )

    @asynccontextmanager
    async def open(self, url: str | None = None) -> AsyncIterator["Served"]:
        """With `url`, a gateway that clients know by that address, whichever its own is."""
        gateway = self.gateway()
        with listen("127.0.0.1", 0) as listener:
            own = f"http://localhost:{listener.getsockname()[1]}"
            gateway.connecting.url = url or own
            self.identity.redirect_uris += [f"{url or own}{path}" for path in ("/auth/callback", "/signin/callback")]
            gateway.door = self.door
            server = build_server(gateway)
            if isinstance(auth := gateway.config.server.auth, OAuthAuth):
                self.door.openid = OpenId(auth, self.clock)
                server.auth = await provider(gateway, gateway.config.server, url or own, self.door.openid)
            _tells_who(server)
            _has_a_page(server, gateway)
            http = http_server(server, gateway.config)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(http.serve, [listener])
                try:
                    yield Served(gateway, own)
                finally:
                    http.should_exit = True


@pytest.fixture
def identity() -> Iterator[IdentityProvider]:
    identity = IdentityProvider(Clock())
    with served(identity.app) as identity.issuer:
        yield identity


@pytest.fixture
def house(tmp_path: Path, identity: IdentityProvider) -> House:
    return House(tmp_path, identity)


def _tells_who(server: FastMCP[Any]) -> None:
    @server.tool
    def who() -> dict[str, Any]:
        token = get_access_token()
        assert token is not None
        return {"claims": token.claims, "subject": token.subject}


def _has_a_page(server: FastMCP[Any], gateway: Gateway) -> None:
    async def private(request: Request) -> Response:
        await gateway.open()
        caller = await signin.visitor(gateway, request)
        return PlainTextResponse(caller.name) if caller else signin.to_sign_in(gateway, request)

    server.custom_route("/private", methods=["GET"])(private)


class Served:
    def __init__(self, gateway: Gateway, url: str) -> None:
        self.gateway = gateway
        self.url = url


class Browser:
    """One person's: it keeps cookies, and clicks through to wherever `until` says."""

    def __init__(self) -> None:
        self.client = httpx2.AsyncClient()
        self.pages: list[httpx2.Response] = []

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def open(self, url: str, until: str | None = None) -> httpx2.Response | dict[str, str]:
        """Follow redirects; the last page, or the query that it is sent to `until` with."""
        return await self._followed(await self.client.get(url), until)

    async def consents(self, url: str, until: str = CALLBACK, action: str = "approve") -> Mapping[str, str]:
        """Open an authorization, say yes on our own page, sign in, and come back to the client."""
        page = await self.open(url)
        assert isinstance(page, httpx2.Response)
        assert page.status_code == 200, page.text
        answer = await self.submit(page, until, action=action)
        assert isinstance(answer, dict), answer.text
        return answer

    async def submit(self, page: httpx2.Response, until: str | None = None, **fields: str) -> Any:
        """Send the form of a page, with what is in it and these fields."""
        return await self._followed(await self.sent(page, **fields), until)

    async def sent(self, page: httpx2.Response, **fields: str) -> httpx2.Response:
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
        action = re.search(r'<form[^>]* action="([^"]*)"', page.text)
        target = urljoin(str(page.url), unescape(action[1])) if action and action[1] else str(page.url)
        given = {name: unescape(value) for name, value in hidden} | fields
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(str(page.url)))
        return await self.client.post(target, data=given, headers={"Origin": origin})

    async def _followed(self, answer: httpx2.Response, until: str | None) -> httpx2.Response | dict[str, str]:
        while answer.is_redirect:
            target = urljoin(str(answer.url), answer.headers["location"])
            if until is not None and target.startswith(until):
                return dict(parse_qsl(urlsplit(target).query))
            answer = await self.client.get(target)
        self.pages.append(answer)
        return answer


class Program:
    """A client that speaks the protocol of signing in itself, to look at each step of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx2.AsyncClient()
        self.id = ""
        self.verifier = secrets.token_urlsafe(48)

    async def __aenter__(self) -> "Program":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def registers(self, redirect_uri: str = CALLBACK, **said: Any) -> httpx2.Response:
        said = {"client_name": "Program", "redirect_uris": [redirect_uri], **said}
        answer = await self.http.post(f"{self.url}/register", json=said)
        self.id = answer.json().get("client_id", "")
        return answer

    def address(self, **asked: str) -> str:
        """Where the person consents."""
        proof = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": CALLBACK,
            "state": "the-state",
            "code_challenge": proof,
            "code_challenge_method": "S256",
            "resource": f"{self.url}/mcp",
            **asked,
        }
        return str(httpx2.URL(f"{self.url}/authorize").copy_merge_params(query))

    async def exchanges(self, code: str) -> httpx2.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        return await self._token({**form, "code_verifier": self.verifier})

    async def renews(self, refresh_token: str) -> httpx2.Response:
        return await self._token({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def signs_in(self) -> dict[str, Any]:
        """All of it: the tokens."""
        assert (await self.registers()).status_code == 201
        async with Browser() as browser:
            answer = await browser.consents(self.address())
        tokens = await self.exchanges(answer["code"])
        assert tokens.status_code == 200, tokens.text
        said: dict[str, Any] = tokens.json()
        return said

    async def calls(self, token: str | None, tool: str = "who", url: str | None = None, **arguments: Any) -> Any:
        """The answer of a tool, or the response that refused it."""
        headers = {"Accept": "application/json, text/event-stream"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        answer = await self.http.post(f"{url or self.url}/mcp", json=call, headers=headers)
        if answer.status_code != 200:
            return answer
        said = re.search(r"^data: (.*)$", answer.text, re.M)
        return json.loads(said[1] if said else answer.text)["result"]["structuredContent"]

    async def _token(self, form: dict[str, str]) -> httpx2.Response:
        return await self.http.post(f"{self.url}/token", data={**form, "client_id": self.id})
