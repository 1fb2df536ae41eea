"""Which booking an earlier id stands for, where a service cannot move one and it was booked anew."""

from collections.abc import Iterable

from sqlalchemy import delete, insert, select, update

from providers import Clock
from providers.slots import seconds
from providers.storage import Storage
from providers.storage.tables import moves


class Moves:
    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def add(self, account: str, old: str, new: str) -> None:
        """From now on `old`, and whatever stood for it, stands for `new`."""
        here = moves.c.account == account
        row = {"account": account, "old_id": old, "new_id": new, "created": seconds(self._clock.now())}
        async with self._storage.write() as connection:
            await connection.execute(delete(moves).where(here, moves.c.old_id.in_([old, new])))
            await connection.execute(update(moves).where(here, moves.c.new_id == old).values(new_id=new))
            await connection.execute(insert(moves).values(**row))

    async def newest(self, account: str, ids: Iterable[str]) -> dict[str, str]:
        """What those of the ids stand for that stand for another one."""
        wanted = select(moves.c.old_id, moves.c.new_id).where(moves.c.account == account, moves.c.old_id.in_(list(ids)))
        async with self._storage.read() as connection:
            return {row.old_id: row.new_id for row in await connection.execute(wanted)}
