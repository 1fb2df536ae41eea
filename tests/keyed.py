"""A gateway that lets nobody in unknown, on loopback and on a clock of the test's, and the clients of its callers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from pydantic import SecretStr

from gateway.config import Config
from gateway.core import Gateway
from gateway.door import at_door
from gateway.server import build_server
from gateway.server_config import ServerConfig
from gateway.serving import http_server, listen
from providers import PROVIDERS
from tests import over_http
from tests.agent import Agent
from tests.postgres import databases
from tests.sign_in_stage import ENCRYPTION
from tests.world import Clock

LOCAL = {"provider": "local", "time_zone": "Europe/Berlin"}


class Keyed:
    """`policies` are those of its keys; other `settings` are of the configuration's `server.auth`."""

    def __init__(
        self,
        folder: Path,
        accounts: Mapping[str, Mapping[str, Any]] | None = None,
        policies: Mapping[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        network: httpx2.AsyncBaseTransport | None = None,
        limits: Mapping[str, int] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.network = network
        self.url = ""
        self.auth = {"type": "keys", "policies": policies or {}, **settings}
        self.config = Config(
            accounts={
                name: PROVIDERS[each["provider"]][each.get("via", "api")].Config.model_validate(each)
                for name, each in (accounts or {"home": LOCAL}).items()
            },
            server=ServerConfig.model_validate({"port": 0, "auth": self.auth, "limits": limits or {}}),
            storage=databases.newest(folder, encryption_key=SecretStr(ENCRYPTION)),
        )
        self.gateway = self.restarted()

    def restarted(self) -> Gateway:
        """The gateway as a new process has it: the same file and database."""
        self.gateway = Gateway(self.config, clock=self.clock, transport=self.network)
        return self.gateway

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Keyed"]:
        with listen("127.0.0.1", 0) as listener:
            self.url = self.gateway.connecting.url = f"http://localhost:{listener.getsockname()[1]}"
            await self.gateway.open()
            auth = await at_door(self.gateway, self.url)
            server = http_server(build_server(self.gateway, auth), self.gateway.config, self.clock)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listener])
                try:
                    yield self
                finally:
                    server.should_exit = True

    async def key(self, name: str, policy: str = "default", expires: int | None = None) -> str:
        await self.gateway.open()
        return await self.gateway.keys.add(name, policy, expires)

    @asynccontextmanager
    async def agent(self, key: str, mode: Any = "auto", **client: Any) -> AsyncIterator[Agent]:
        async with over_http.agent(self.url, mode, {"Authorization": f"Bearer {key}"}, **client) as agent:
            yield agent

    async def asked(self, key: str | None = None, path: str = "/mcp", scheme: str = "Bearer") -> httpx2.Response:
        """What a bare request for the list of tools is answered, with or without a key."""
        headers = {**over_http.JSON_RPC, **({"Authorization": f"{scheme} {key}"} if key is not None else {})}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        async with httpx2.AsyncClient() as client:
            return await client.post(f"{self.url}{path}", json=call, headers=headers)
