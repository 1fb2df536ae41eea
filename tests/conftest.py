"""Fixtures of every test: a stage (an account and the world behind it) and an agent that talks to its gateway."""

import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from gateway.server import build_server
from providers import PROVIDERS, Faces
from tests.agent import TRANSPORTS, Agent, connected
from tests.postgres import KINDS, databases
from tests.stages import STAGES, LocalStage, Stage

OVER_HTTP = [each for each in TRANSPORTS if each != "memory"]
HTTP_FOR = {"local": ("http", "http-legacy")}
"""Which accounts the suite runs on over HTTP too."""


MEMORY, ROOM = Path("/dev/shm"), 2**30


def pytest_configure() -> None:
    """Nothing a test writes has to outlast a power cut. Waiting for a disk that it would takes a third of the time, so
    where memory is a folder with room, temporary files are there."""
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """What is marked so is not measured for coverage."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(cast("Any", None))
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(cast("Any", in_threads))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Behind the gateway's own transports an account differs by provider alone: not each needs all of them."""
    items[:] = [item for item in items if not _is_twice(getattr(item, "callspec", None))]


def _is_twice(call: Any) -> bool:
    stage, transport = (str((call.params if call else {}).get(name)) for name in ("stage", "transport"))
    return transport in OVER_HTTP and stage in STAGES and transport not in HTTP_FOR.get(stage, ())


@pytest.fixture(autouse=True, scope="session")
def _schemas_are_looked_at_once() -> Iterator[None]:
    """Each client sees for itself whether the schema of a tool is one, which takes longer than the call."""
    real, sound = Draft202012Validator.check_schema, set[str]()

    def check_schema(schema: Any) -> None:
        if (said := json.dumps(schema, sort_keys=True)) not in sound:
            real(schema)
            sound.add(said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft202012Validator, "check_schema", staticmethod(check_schema))
        yield


@pytest.fixture(autouse=True)
def _test_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(PROVIDERS, dict)
    monkeypatch.setitem(PROVIDERS, "toy", Faces(api="tests.toy:Toy"))
    monkeypatch.setitem(PROVIDERS, "nothing", Faces(api="tests.toy:Nothing"))


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody's own configuration or database is read or written."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("SCHEDULING_GATEWAY_CONFIG", raising=False)
    monkeypatch.chdir(home)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a stage keeps, on each database in turn, for the tests that use this. The others are on SQLite."""
    databases.kind = kind = request.param
    try:
        yield kind
    finally:
        databases.kind = "sqlite"
        databases.drop()


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Every adapter in turn, on its own world."""
    stage = STAGES[request.param](request.param, tmp_path)
    yield stage
    await stage.gateway.close()
    assert stage.world.violations == [], "the vendor's published schema refuses a request of ours"


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def agent(stage: Stage, transport: str) -> AsyncIterator[Agent]:
    async with connected(build_server(stage.gateway), transport) as agent:
        yield agent


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalStage]:
    """The embedded calendar alone, for what only it can show."""
    stage = LocalStage("local", tmp_path)
    yield stage
    await stage.gateway.close()


@pytest.fixture
async def local_agent(local: LocalStage) -> AsyncIterator[Agent]:
    async with connected(build_server(local.gateway)) as agent:
        yield agent
