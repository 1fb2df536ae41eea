"""Keys that let a client in: made by a command, kept as hashes, each under a policy and perhaps for a time."""

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from providers import Clock
from providers.slots import seconds
from providers.storage import Storage
from providers.storage.tables import keys
from schemas import InvalidRequest

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

PREFIX = "sgw_"
"""What a key begins with, so that one that leaked is known for what it is."""


@dataclass(frozen=True, slots=True)
class Key:
    """Instants in seconds of the epoch."""

    name: str
    policy: str
    created: int
    expires: int | None
    revoked: int | None

    def state(self, now: int) -> str:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "good"


class Keys:
    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def add(self, name: str, policy: str, expires: int | None) -> str:
        """A new key, which is not to be had again. Raises InvalidRequest for a name that was given before.

        A name is not given twice: what a revoked key leaves, connected accounts among that, is not the next one's.
        """
        if not NAME.fullmatch(name):
            raise InvalidRequest("A key's name is a-z, 0-9, . _ and -, 64 characters at most.")
        key = f"{PREFIX}{secrets.token_urlsafe(32)}"
        row = {"name": name, "policy": policy, "created": seconds(self._clock.now()), "expires": expires}
        try:
            async with self._storage.write() as connection:
                await connection.execute(insert(keys).values(id=_hash(key), **row))
        except IntegrityError:
            raise InvalidRequest(f"There is, or was, a key called {name}. Choose another name.") from None
        return key

    async def all(self) -> list[Key]:
        """Every key, revoked ones too, by name."""
        return await self._of(select(keys).order_by(keys.c.name))

    async def find(self, key: str) -> Key | None:
        """Whose key that is, be it good or not."""
        found = await self._of(select(keys).where(keys.c.id == _hash(key)))
        return found[0] if found else None

    async def revoke(self, name: str) -> bool:
        """Whether there was such a key that was not revoked."""
        live = update(keys).where(keys.c.name == name, keys.c.revoked.is_(None))
        async with self._storage.write() as connection:
            revoked = await connection.execute(live.values(revoked=seconds(self._clock.now())))
        return revoked.rowcount == 1

    async def _of(self, query: Select[tuple[object, ...]]) -> list[Key]:
        async with self._storage.read() as connection:
            rows = await connection.execute(query)
            return [Key(row.name, row.policy, row.created, row.expires, row.revoked) for row in rows]


def _hash(key: str) -> str:
    # 256 random bits need no slow hash.
    return sha256(key.encode()).hexdigest()
