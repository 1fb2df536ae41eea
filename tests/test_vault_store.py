"""The vault as FastMCP's key-value store: what py-key-value promises, on each database."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.fernet import Fernet
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.errors import InvalidTTLError
from key_value.aio.protocols import AsyncKeyValue
from pydantic import BaseModel, SecretStr
from sqlalchemy import select

from gateway.vault_store import DAY, UNUSED, VaultStore
from providers.keys import KeyRing
from providers.storage.tables import vault
from providers.vault import Vault
from tests.postgres import databases
from tests.world import Clock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("database")]

KEY = Fernet.generate_key().decode()
VALUE: dict[str, Any] = {"token": "s3cret", "nested": {"list": [1, 2.5, None, True]}, "text": "é✓\u0000"}
CLIENTS = "mcp-oauth-proxy-clients"
MANY = 16


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def safe(tmp_path: Path) -> AsyncIterator[Vault]:
    storage = databases.opened(tmp_path)
    await storage.open()
    yield Vault(storage, KeyRing(SecretStr(KEY), None), Clock())
    await storage.close()


@pytest.fixture
def store(safe: Vault, clock: Clock) -> VaultStore:
    safe._clock = clock
    return VaultStore(safe, clock)


async def stored(safe: Vault) -> list[Any]:
    async with safe._storage.read() as connection:
        return list(await connection.execute(select(vault)))


async def test_it_is_what_the_library_asks_for(store: VaultStore) -> None:
    as_it_asks: AsyncKeyValue = store
    assert isinstance(as_it_asks, VaultStore)


async def test_what_was_put_is_got_until_it_is_put_again_or_deleted(store: VaultStore) -> None:
    assert await store.get("a") is None
    await store.put("a", VALUE)
    assert await store.get("a") == VALUE
    await store.put("a", {"other": 1})
    assert await store.get("a") == {"other": 1}
    assert await store.delete("a") is True
    assert await store.get("a") is None
    assert await store.delete("a") is False


async def test_collections_are_apart_and_none_is_one_of_its_own(store: VaultStore) -> None:
    names = [None, "one", "two", "x" * 500, "x" * 501, "two words/and ✓"]
    for number, name in enumerate(names):
        await store.put("a", {"number": number}, collection=name)
    assert [await store.get("a", collection=name) for name in names] == [{"number": n} for n in range(len(names))]
    assert await store.delete("a", collection="one") is True
    assert await store.get("a", collection="two") == {"number": 2}


async def test_a_value_is_kept_for_its_time_to_live(store: VaultStore, clock: Clock) -> None:
    await store.put("a", VALUE, ttl=60)
    assert await store.ttl("a") == (VALUE, 60.0)
    clock.advance(timedelta(seconds=59))
    assert await store.ttl("a") == (VALUE, 1.0)
    clock.advance(timedelta(seconds=1))
    assert await store.ttl("a") == (None, None)
    assert await store.get("a") is None
    assert await store.delete("a") is False, "what is over is not there"


async def test_part_of_a_second_is_a_whole_one(store: VaultStore, clock: Clock) -> None:
    await store.put("a", VALUE, ttl=0.1)
    assert await store.get("a") == VALUE
    clock.advance(timedelta(seconds=1))
    assert await store.get("a") is None


@pytest.mark.parametrize("ttl", [0, -1, True, "60", float("nan")])
async def test_a_time_to_live_that_is_none_is_refused(store: VaultStore, ttl: Any) -> None:
    with pytest.raises(InvalidTTLError):
        await store.put("a", VALUE, ttl=ttl)


async def test_many_at_once(store: VaultStore, clock: Clock) -> None:
    await store.put_many(["a", "b"], [{"n": 1}, {"n": 2}], collection="c", ttl=60)
    assert await store.get_many(["b", "x", "a"], collection="c") == [{"n": 2}, None, {"n": 1}]
    assert await store.ttl_many(["a", "x"], collection="c") == [({"n": 1}, 60.0), (None, None)]
    assert await store.delete_many(["a", "x", "b"], collection="c") == 2
    with pytest.raises(ValueError, match="zip"):
        await store.put_many(["a", "b"], [{"n": 1}])
    assert await store.get("a") is None


async def test_the_librarys_own_adapter_works_over_it(store: VaultStore) -> None:
    class Kept(BaseModel):
        name: str

    adapter = PydanticAdapter[Kept](store, Kept, default_collection=CLIENTS)
    await adapter.put(key="a", value=Kept(name="x"))
    assert await adapter.get(key="a") == Kept(name="x")
    assert await adapter.delete(key="a") is True


async def test_what_is_kept_tells_nobody_what_or_under_which_name(store: VaultStore, safe: Vault) -> None:
    await store.put("the-code", VALUE, collection=CLIENTS)
    (row,) = await stored(safe)
    assert "s3cret" not in str(row)
    assert "the-code" not in str(row)
    assert row.kind == f"kv {CLIENTS}"


async def test_what_nobody_asks_for_is_forgotten_the_next_day_and_what_is_asked_for_stays(
    store: VaultStore, safe: Vault, clock: Clock
) -> None:
    await store.put("used", VALUE, collection=CLIENTS)
    await store.put("unused", VALUE, collection=CLIENTS)
    assert await store.get("used", collection=CLIENTS) == VALUE
    clock.advance(DAY)
    assert await store.get("unused", collection=CLIENTS) is None
    for _ in range(3):
        assert await store.ttl("used", collection=CLIENTS) == (VALUE, None)
        clock.advance(UNUSED - DAY)
    await store.put("another", VALUE)
    assert len(await stored(safe)) == 2, "its row is gone too"
    clock.advance(UNUSED)
    assert await store.get("used", collection=CLIENTS) is None


async def test_asking_often_is_written_down_once_a_day(store: VaultStore, safe: Vault, clock: Clock) -> None:
    await store.put("a", VALUE)
    await store.get("a")
    before = await stored(safe)
    clock.advance(DAY - timedelta(seconds=1))
    await store.get("a")
    assert await stored(safe) == before
    clock.advance(timedelta(seconds=1))
    await store.get("a")
    assert [row.expires - old.expires for row, old in zip(await stored(safe), before, strict=True)] == [86400]


async def test_what_cannot_be_decrypted_is_not_there_and_can_be_deleted(store: VaultStore, safe: Vault) -> None:
    await store.put("a", VALUE)
    safe._keys = KeyRing(SecretStr(Fernet.generate_key().decode()), None)
    assert await store.get("a") is None
    assert await store.delete("a") is True


async def test_of_many_who_delete_one_row_one_is_told_that_it_was_there(tmp_path: Path, clock: Clock) -> None:
    """Each as a process of its own has it: with its own connections."""
    storages = [databases.opened(tmp_path) for _ in range(4)]
    for storage in storages:
        await storage.open()
    stores = [VaultStore(Vault(storage, KeyRing(SecretStr(KEY), None), clock), clock) for storage in storages]
    await stores[0].put("a", VALUE)
    told: list[bool] = []

    async def delete(store: VaultStore) -> None:
        told.append(await store.delete("a"))

    async with anyio.create_task_group() as tasks:
        for number in range(MANY):
            tasks.start_soon(delete, stores[number % len(stores)])
    for storage in storages:
        await storage.close()
    assert sorted(told) == [False] * (MANY - 1) + [True]
