"""An account, what it signs in to by OAuth, and the network between them: the stage of the tests of signing in."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from providers.oauth import Endpoints, OAuthAuth, OAuthClient, OAuthSignIn, Target
from providers.vault import Vault
from tests import vault_desk, world
from tests.emulators.authorization import AuthorizationServer, Protected, browser, hosts

ROOT = Path(__file__).parent.parent
SERVER, ISSUER = "https://mcp.test/mcp", "https://auth.test"
BACK = "http://127.0.0.1:8080/oauth/callback"
WEB = "https://gateway.example.com/oauth/callback"
SCOPES = ("scheduling:read", "scheduling:write")
REST = Endpoints(f"{ISSUER}/oauth/authorize", f"{ISSUER}/oauth/token", f"{ISSUER}/oauth/revoke", ISSUER)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"done": True})(scope, receive, send)


class Network:
    """What there is to reach: an authorization server, and one that asks it. Notes the paths; may hold an answer."""

    def __init__(self, server: AuthorizationServer, protected: Protected, **others: ASGIApp) -> None:
        self.paths: list[str] = []
        self.held: dict[str, anyio.Event] = {}
        self.waiting = anyio.Event()
        self._app = hosts({"auth.test": server.app, "mcp.test": protected, **others})
        self.transport = httpx2.ASGITransport(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        if scope["path"] not in self.held:
            await self._app(scope, receive, send)
            return
        answer: list[Message] = []

        async def hold(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, hold)
        self.waiting.set()
        await self.held[scope["path"]].wait()
        for message in answer:
            await send(message)


class Desk:
    """An account and what it signs in to."""

    def __init__(
        self,
        kept: Vault,
        *,
        clock: world.Clock | None = None,
        target: Target | None = None,
        auth: dict[str, Any] | None = None,
        protected: dict[str, Any] | None = None,
        others: dict[str, ASGIApp] | None = None,
        **quirks: Any,
    ) -> None:
        self.vault, self.clock = kept, clock or world.Clock()
        self.target = target or Target(SERVER)
        self.auth = OAuthAuth(type="oauth", **(auth or {}))
        self.server = AuthorizationServer(self.clock, **{"resources": (SERVER, None), **quirks})
        self.protected = Protected(everything, self.server, SERVER, **(protected or {}))
        self.network = Network(self.server, self.protected, **(others or {}))
        self.client = self.another()

    def another(self, account: str = "work", **changes: Any) -> OAuthClient:
        """Another account, or the same one as another process has it."""
        of = {"auth": self.auth, "target": self.target, "vault": self.vault, **changes}
        return OAuthClient(account, **of, clock=self.clock, transport=self.network.transport)

    async def consented(self, client: OAuthClient | None = None, back: str = BACK) -> dict[str, str]:
        """What the browser comes back with."""
        return await browser(await (client or self.client).begin(back), self.network.transport, back)

    async def connected(self) -> "Desk":
        await self.client.finish(await self.consented())
        self.network.paths.clear()
        return self

    async def call(self, client: OAuthClient | None = None) -> Any:
        """Ask the server for something."""
        auth = OAuthSignIn(client or self.client)
        async with httpx2.AsyncClient(transport=self.network.transport, auth=auth) as http:
            return (await http.post(SERVER, json={})).json()

    async def works(self, client: OAuthClient | None = None) -> bool:
        return bool(await self.call(client) == {"done": True})


clock, kept = vault_desk.clock, vault_desk.kept


@pytest.fixture
def desk(kept: Vault, clock: world.Clock) -> Callable[..., Desk]:
    return lambda **quirks: Desk(kept, clock=clock, **quirks)


Made = Callable[..., Desk]


def rest(**other: Any) -> Target:
    return Target(None, REST, **other)


OWN = {"client_id": "own:id", "client_secret": "s3cr+t/&:%41"}


def instead(app: ASGIApp, path: str, answer: ASGIApp) -> ASGIApp:
    """`app`, with something else at that path."""

    async def changed(scope: Scope, receive: Receive, send: Send) -> None:
        await (answer if scope["path"] == path else app)(scope, receive, send)

    return changed
