"""Whether requests may be sent to a gateway: `/ready`, and a stop that ends nothing halfway."""

import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.door import at_door
from gateway.policy import Policy
from gateway.ready import PATIENCE
from gateway.server import build_app, build_server
from gateway.server_config import KeysAuth, ServerConfig
from schemas import ProviderDown
from tests import loopback
from tests.agent import connected
from tests.emulators import calcom
from tests.over_http import agent, configured, process, served
from tests.stages import LocalStage
from tests.test_connecting import Office, link
from tests.world import Clock, World

pytestmark = pytest.mark.anyio


async def asked(url: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{url}/ready", headers=headers)
    return answer.status_code, answer.json()


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    office = Office(tmp_path)
    async with office.open():
        yield office


async def test_it_tells_the_state_of_each_account_without_asking_its_service(office: Office) -> None:
    await office.gateway.open()
    told = await asked(office.url)
    accounts = {"work": "needs_connection", "home": "configured"}
    assert told == (200, {"storage": "ok", "audit": "ok", "draining": False, "accounts": accounts})
    assert (office.world.requests, office.consent.asked) == ([], [])


async def test_an_account_that_was_connected_is_ready(office: Office) -> None:
    async with office.agent() as client:
        await office.visit(await link(client))
    before = (list(office.world.requests), list(office.consent.asked))
    status, told = await asked(office.url)
    assert (status, told["accounts"]["work"]) == (200, "ready")
    assert (office.world.requests, office.consent.asked) == before


async def test_before_the_accounts_are_open_it_is_not(office: Office) -> None:
    status, told = await asked(office.url)
    assert (status, told["storage"], set(told["accounts"].values())) == (503, "failing", {"unknown"})


async def test_a_database_that_fails_makes_it_unready_but_not_dead(local: LocalStage, tmp_path: Path) -> None:
    async with served(local.gateway, local.clock) as url:
        await local.gateway.open()
        await local.gateway.storage.close()
        (tmp_path / "gateway.db").write_bytes(b"this is no database" * 100)
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"gateway.db{suffix}").unlink(missing_ok=True)
        status, told = await asked(url)
        async with httpx2.AsyncClient() as client:
            health = await client.get(f"{url}/health")
    assert (status, told["storage"], health.status_code) == (503, "failing", 200)


async def test_a_database_that_does_not_answer_is_not_waited_for(
    local: LocalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await local.gateway.open()

    class Silent:
        async def __aenter__(self) -> None:
            local.clock.run_out(PATIENCE)
            await anyio.sleep_forever()

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(local.gateway.storage, "read", Silent)
    async with served(local.gateway, local.clock) as url:
        status, told = await asked(url)
    assert (status, told["storage"]) == (503, "failing")


@pytest.mark.parametrize(("who", "told"), [(None, None), ("nobody", None), ("barred", {}), ("good", ["acme"])])
async def test_where_one_has_to_sign_in_the_accounts_are_told_to_who_may_use_them(
    local: LocalStage, who: str | None, told: list[str] | None
) -> None:
    await local.gateway.open()
    barred = Policy(accounts=())
    settings = ServerConfig(auth=KeysAuth(type="keys", policies={"barred": barred, "good": Policy()}))
    local.gateway.config = local.gateway.config.model_copy(update={"server": settings})
    keys = {name: await local.gateway.keys.add(name, name, None) for name in ("barred", "good")}
    server = build_server(local.gateway, await at_door(local.gateway, "http://localhost"))
    transport = httpx2.ASGITransport(build_app(server, settings))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/ready", headers={"Authorization": f"Bearer {keys.get(who, who)}"} if who else {})
    accounts = answer.json().get("accounts")
    assert (answer.status_code, accounts and list(accounts)) == (200, told)


async def test_over_stdio_a_stop_refuses_nothing(local: LocalStage) -> None:
    async with connected(build_server(local.gateway)) as client:
        assert (await client.list_accounts())["accounts"]


# A process


class Gate:
    """A service that keeps a request until it is let go."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.has_come = threading.Event()
        self.may_go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.has_come.set()
        await anyio.to_thread.run_sync(self.may_go.wait)
        await self._app(scope, receive, send)


async def test_told_to_stop_it_says_so_takes_nothing_new_and_finishes_what_it_has(tmp_path: Path) -> None:
    gate = Gate(calcom.app(World(Clock())))
    answers: list[Any] = []
    with loopback.served(gate) as service, process(configured(tmp_path, service)) as (running, url):
        try:
            async with agent(url) as client, anyio.create_task_group() as tasks:
                assert (await asked(url))[0] == 200

                async def list_types() -> None:
                    answers.append(await client.list_event_types())

                tasks.start_soon(list_types)
                await anyio.to_thread.run_sync(gate.has_come.wait)
                running.send_signal(signal.SIGTERM)
                while (told := await asked(url))[0] == 200:  # until the signal has arrived
                    await anyio.lowlevel.checkpoint()
                assert told == (
                    503,
                    {"storage": "ok", "audit": "ok", "draining": True, "accounts": {"team": "configured"}},
                )
                async with agent(url) as late:
                    with pytest.raises(ProviderDown, match="being stopped"):
                        await late.list_accounts()
                assert answers == []
                gate.may_go.set()
        finally:
            gate.may_go.set()
        assert running.wait(timeout=60) == 0
    [answer] = answers
    assert answer["event_types"]
    assert not answer.get("unavailable")


async def test_with_nothing_under_way_it_stops_at_once(tmp_path: Path) -> None:
    with process(configured(tmp_path, "http://127.0.0.1:9")) as (running, url):
        assert (await asked(url))[0] == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
