"""The vault: what must stay secret, encrypted in the gateway's database, and leases on names.

Rows are found by the hash of their name, for some names are secrets themselves. What is encrypted says which row it is
of, so none can stand for another.
"""

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

import anyio
from sqlalchemy import ColumnElement, delete, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from providers.clock import Clock
from providers.keys import KeyRing
from providers.slots import seconds
from providers.storage import Storage
from providers.storage.tables import leases, vault
from schemas import NotConnected, SchedulingError

log = logging.getLogger(__name__)

LEASE = 120
"""How long a lease holds if nobody gives it back, in seconds; longer than what is done under one may take."""

PAUSE = 0.1
"""Between two looks whether a lease is free, in seconds."""


class Vault:
    """Secrets by kind and name. Of two things put under one name the later holds."""

    def __init__(self, storage: Storage, keys: KeyRing, clock: Clock) -> None:
        self._storage = storage
        self._keys = keys
        self._clock = clock
        # Tasks of this process queue here; who is first asks the database for all of them. By the hash of a name, and
        # as long as somebody is in the queue.
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """What was put there; None if nothing was, or if its time is over.

        Raises NotConnected if it was encrypted with a key that is not here.
        """
        value, _ = await self.get_until(kind, name)
        return value

    async def get_until(self, kind: str, name: str) -> tuple[dict[str, Any] | None, datetime | None]:
        """What was put there, as `get` has it, and until when it is kept; None for ever."""
        wanted = select(vault.c.data, vault.c.expires).where(*_row(kind, name), self._is_live())
        async with self._storage.read() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        if row is None:
            return None, None
        until = None if row.expires is None else datetime.fromtimestamp(row.expires, UTC)
        return await self._decrypted(kind, name, row.data), until

    async def put(self, kind: str, name: str, value: Mapping[str, Any], *, until: datetime | None = None) -> None:
        """Keep a value that is JSON, encrypted with the newest key; with `until`, for so long."""
        now = self._now()
        said = json.dumps({"kind": kind, "name": name, "value": dict(value)})
        data = await self._keys.encrypt(said.encode(), now)
        row = {"data": data, "expires": None if until is None else seconds(until), "updated": now}
        try:
            await self._write(kind, name, row)
        except IntegrityError:
            # Another process was the first to put it (not on SQLite, which lets one write at a time): now it is there.
            await self._write(kind, name, row)

    async def take(self, kind: str, name: str) -> dict[str, Any] | None:
        """`get` and `drop` in one: of many who ask, one gets it. What cannot be decrypted stays."""
        row = _row(kind, name)
        async with self._storage.write() as connection:
            data = await connection.scalar(select(vault.c.data).where(*row, self._is_live()))
            if data is None:
                return None
            value = await self._decrypted(kind, name, data)
            taken = await connection.execute(delete(vault).where(*row, vault.c.data == data))
        return value if taken.rowcount else None

    async def drop(self, kind: str, name: str) -> bool:
        """Forget it, whether or not it can be decrypted. Of many who do so at once, one is told that it was there."""
        row = _row(kind, name)
        async with self._storage.write() as connection:
            dropped = await connection.execute(delete(vault).where(*row, self._is_live()))
            if dropped.rowcount == 0:  # what nobody gets any more need not stay either
                await connection.execute(delete(vault).where(*row))
        return dropped.rowcount == 1

    async def keep(self, kind: str, name: str, until: datetime) -> None:
        """Keep what is there, if it is still, until another time."""
        this = update(vault).where(*_row(kind, name), self._is_live())
        async with self._storage.write() as connection:
            await connection.execute(this.values(expires=seconds(until)))

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncGenerator[None, None]:
        """One holder at a time, over all tasks and processes; the others wait. Not to be asked for twice by one holder.

        The lease of a process that died ends by itself after LEASE seconds.
        """
        holder = uuid4().hex
        turn = self._turns.setdefault(_hash(name), anyio.Lock())
        async with turn:
            while not await self._acquired(name, holder):
                await self._clock.sleep(PAUSE)
            try:
                yield
            finally:
                await self._release(name, holder)

    async def _write(self, kind: str, name: str, row: Mapping[str, Any]) -> None:
        async with self._storage.write() as connection:
            # Rows that another process is just forgetting are left to it: two that wait for each other would not end.
            over = select(vault.c.kind, vault.c.name).where(vault.c.expires <= self._now())
            over = over.with_for_update(skip_locked=True)
            await connection.execute(delete(vault).where(tuple_(vault.c.kind, vault.c.name).in_(over)))
            changed = await connection.execute(update(vault).where(*_row(kind, name)).values(**row))
            if changed.rowcount == 0:
                await connection.execute(insert(vault).values(kind=kind, name=_hash(name), **row))

    async def _decrypted(self, kind: str, name: str, data: str) -> dict[str, Any]:
        said = await self._keys.decrypt(data)
        if said is None:
            raise NotConnected(
                f"The {kind} that is stored was encrypted with another key. "
                "Bring back the key it was made with (`storage.encryption_key`, or the .key file), or connect anew."
            )
        row = json.loads(said)
        if (row["kind"], row["name"]) != (kind, name):
            raise NotConnected(f"The {kind} that is stored was put there for something else. Connect again.")
        value: dict[str, Any] = row["value"]
        return value

    async def _acquired(self, name: str, holder: str) -> bool:
        """Whether the lease is the holder's by now."""
        now = self._now()
        this = leases.c.name == _hash(name)
        async with self._storage.read() as connection:  # a look that puts no other writer off
            until = await connection.scalar(select(leases.c.until).where(this))
        if until is not None and until > now:
            return False
        mine = {"holder": holder, "until": now + LEASE}
        with anyio.CancelScope(shield=True):  # else it might be taken and nobody know
            try:
                async with self._storage.write() as connection:
                    taken = await connection.execute(update(leases).where(this, leases.c.until <= now).values(**mine))
                    if taken.rowcount == 0:
                        await connection.execute(insert(leases).values(name=_hash(name), **mine))
            except IntegrityError:  # another one took it just now
                return False
        return True

    async def _release(self, name: str, holder: str) -> None:
        # What was done under the lease is done, whether or not it can be given back; it ends by itself.
        mine = delete(leases).where(leases.c.name == _hash(name), leases.c.holder == holder)
        with anyio.CancelScope(shield=True):
            try:
                async with self._storage.write() as connection:
                    given = await connection.execute(mine)
            except SchedulingError:
                log.exception("a lease could not be given back; it ends within %d s", LEASE)
            else:
                if given.rowcount == 0:
                    log.warning("what was done under a lease took longer than %d s", LEASE)

    def _now(self) -> int:
        return seconds(self._clock.now())

    def _is_live(self) -> ColumnElement[bool]:
        return or_(vault.c.expires.is_(None), vault.c.expires > self._now())


def _row(kind: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return (vault.c.kind == kind, vault.c.name == _hash(name))


def _hash(name: str) -> str:
    return sha256(name.encode()).hexdigest()
