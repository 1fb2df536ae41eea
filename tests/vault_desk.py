"""A vault in a folder, as each process that has it opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from providers import Clock
from providers.keys import KeyRing
from providers.vault import Vault
from tests import world
from tests.postgres import databases


@asynccontextmanager
async def opened(folder: Path, clock: Clock | None = None, given: str | None = None) -> AsyncIterator[Vault]:
    """The vault in that folder, as a process of its own has it."""
    storage = databases.opened(folder)
    await storage.open()
    yield Vault(storage, KeyRing(SecretStr(given) if given else None, folder / "gateway.key"), clock or world.Clock())
    await storage.close()


@pytest.fixture
def clock() -> world.Clock:
    return world.Clock()


@pytest.fixture
async def kept(tmp_path: Path, clock: world.Clock) -> AsyncIterator[Vault]:
    databases.newest(tmp_path)
    async with opened(tmp_path, clock) as kept:
        yield kept
