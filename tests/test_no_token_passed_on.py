"""What a caller comes in with is for the gateway alone: no service is ever sent it, whichever way it is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from gateway.door import at_door
from gateway.server import build_server
from gateway.server_config import ServerConfig
from gateway.serving import http_server, listen
from tests.emulators.identity import CLIENT, SECRET, IdentityProvider
from tests.loopback import served
from tests.sign_in_stage import Program
from tests.stages import STAGES, Stage
from tests.world import TEN, Clock

pytestmark = pytest.mark.anyio

SERVICES = [kind for kind in STAGES if kind.partition(" ")[0] in ("calendly", "calcom", "calid", "google_calendar")]


class Heard(httpx2.AsyncBaseTransport):
    """A network that remembers all that it was sent."""

    def __init__(self, network: httpx2.AsyncBaseTransport) -> None:
        self._network = network
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return await self._network.handle_async_request(request)

    def said(self) -> str:
        return "\n".join(
            f"{each.method} {each.url} {each.headers.multi_items()} {each.content!r}" for each in self.requests
        )


@pytest.mark.parametrize("kind", SERVICES)
async def test_no_service_is_sent_a_key_of_ours(kind: str, tmp_path: Path) -> None:
    stage = STAGES[kind](kind, tmp_path)
    async with _open(stage, {"type": "keys"}) as (url, heard), Program(url) as program:
        key = await stage.gateway.keys.add("laptop-of-ana", "default", None)
        await _uses(stage, program, key)
        _was_sent(heard, key, "laptop-of-ana")


@pytest.mark.parametrize("kind", SERVICES)
async def test_no_service_is_sent_what_somebody_signed_in_with(kind: str, tmp_path: Path) -> None:
    identity = IdentityProvider(Clock())
    stage = STAGES[kind](kind, tmp_path)
    identity.clock = stage.clock
    with served(identity.app) as identity.issuer:
        client = {"issuer": identity.issuer, "client_id": CLIENT, "client_secret": SECRET}
        auth = {"type": "oauth", **client, "policies": {"staff": {"groups": ["staff"]}}}
        async with _open(stage, auth) as (url, heard), Program(url) as program:
            identity.redirect_uris.append(f"{url}/auth/callback")
            tokens = await program.signs_in()
            await _uses(stage, program, tokens["access_token"])
            _was_sent(heard, tokens["access_token"], tokens["refresh_token"], SECRET, *identity.tokens)


@asynccontextmanager
async def _open(stage: Stage, auth: Any) -> AsyncIterator[tuple[str, Heard]]:
    gateway = stage.gateway
    assert gateway._transport is not None
    gateway._transport = heard = Heard(gateway._transport)
    gateway.config = gateway.config.model_copy(update={"server": ServerConfig.model_validate({"auth": auth})})
    with listen("127.0.0.1", 0) as listener:
        url = gateway.connecting.url = f"http://localhost:{listener.getsockname()[1]}"
        await gateway.open()
        server = http_server(build_server(gateway, await at_door(gateway, url)), gateway.config, stage.clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            try:
                yield url, heard
            finally:
                server.should_exit = True


async def _uses(stage: Stage, program: Program, token: str) -> None:
    """Reads and a write."""
    assert (await program.calls(token, "list_event_types"))["event_types"]
    await program.calls(token, "list_bookings")
    guest = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
    await program.calls(token, "create_booking", event_type_id=stage.intro, start=TEN.isoformat(), **guest)
    assert len(await stage.appointments()) == 1


def _was_sent(heard: Heard, *secrets: str) -> None:
    said = heard.said()
    assert "Bearer " in said, "each request bears what the account has"
    assert "ben@example.com" in said
    for secret in secrets:
        assert secret not in said
