"""What FastMCP keeps of clients and sign-ins, in the vault: its key-value protocol over our encrypted rows.

https://github.com/strawgate/py-key-value
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, SupportsFloat

from providers import Clock
from providers.vault import Vault
from schemas import NotConnected

KIND = 32
"""How long the kind of a row in the vault may be."""

DAY = timedelta(days=1)
"""How long what was put without a time to live stays when nobody ever asks for it. Clients register unasked, without
end."""

UNUSED = timedelta(days=90)
"""How long it stays after somebody has asked for it."""


class VaultStore:
    """A row that cannot be decrypted, for its key is gone, is a row that is not there."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        value, _ = await self.ttl(key, collection=collection)
        return value

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """The value, and for how many seconds it is kept; None for one that is kept while it is used."""
        try:
            row, until = await self._vault.get_until(_kind(collection), key)
        except NotConnected:
            return None, None
        if row is None or until is None:
            return None, None
        value: dict[str, Any] = row["value"]
        if not row["while_used"]:
            return value, (until - self._clock.now()).total_seconds()
        await self._used(key, collection, until)
        return value, None

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        life = DAY if ttl is None else _life(ttl)
        row = {"value": dict(value), "while_used": ttl is None}
        await self._vault.put(_kind(collection), key, row, until=self._clock.now() + life)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Whether it was there: of many who delete it at once, in whichever processes, one is told so."""
        return await self._vault.drop(_kind(collection), key)

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return [await self.get(key, collection=collection) for key in keys]

    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None
    ) -> list[tuple[dict[str, Any] | None, float | None]]:
        return [await self.ttl(key, collection=collection) for key in keys]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        for key, value in list(zip(keys, values, strict=True)):
            await self.put(key, value, collection=collection, ttl=ttl)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return sum([await self.delete(key, collection=collection) for key in keys])

    async def _used(self, key: str, collection: str | None, until: datetime) -> None:
        """Somebody asked for it: it stays longer. Written down once a day."""
        kept = self._clock.now() + UNUSED
        if kept - until >= DAY:
            await self._vault.keep(_kind(collection), key, kept)


def _kind(collection: str | None) -> str:
    kind = f"kv {collection or 'default'}"
    return kind if len(kind) <= KIND else f"kv {sha256(kind.encode()).hexdigest()}"[:KIND]


def _life(ttl: object) -> timedelta:
    """A time to live; the vault keeps whole seconds. Raises InvalidTTLError."""
    from key_value.aio.errors import InvalidTTLError

    if isinstance(ttl, bool) or not isinstance(ttl, SupportsFloat) or not float(ttl) > 0:
        raise InvalidTTLError(ttl=ttl)
    return timedelta(seconds=-(-float(ttl) // 1))
