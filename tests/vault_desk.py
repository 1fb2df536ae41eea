"""A vault in a folder, as each process that has it opens it, and processes that do so at the same time."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from providers import Clock
from providers.keys import KeyRing
from providers.vault import Vault
from tests import world
from tests.postgres import databases

ROOT = Path(__file__).parent.parent


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


def at_once(processes: int, module: str, *arguments: str) -> list[tuple[str, int]]:
    """What each of that many processes of a module says, and how it ends: all begin when the last one is `started`."""
    command = [sys.executable, "-m", module, *arguments]
    with ExitStack() as stack:
        each = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for _ in range(processes)
        ]
        for process in each:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in each:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [(process.communicate()[0], process.returncode) for process in each]


def started() -> None:
    """In such a process: say so, and wait for the others."""
    say("ready")
    sys.stdin.readline()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
