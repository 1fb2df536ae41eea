"""Which booking an earlier id stands for, where its service does not say: it was booked anew, or is forgotten there."""

import logging
from collections.abc import Iterable

from sqlalchemy import delete, insert, select, update

from providers import Clock
from providers.slots import seconds
from providers.storage import Storage
from providers.storage.tables import moves
from schemas import SchedulingError

log = logging.getLogger(__name__)


class Moves:
    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def add(self, account: str, old: str, new: str) -> None:
        """From now on `old`, and whatever stood for it, stands for `new`."""
        # The move has happened, whether or not it can be kept.
        try:
            await self._add(account, old, new)
        except SchedulingError:
            log.exception("that %s:%s stands for %s by now could not be kept", account, old, new)

    async def _add(self, account: str, old: str, new: str) -> None:
        here = moves.c.account == account
        row = {"account": account, "old_id": old, "new_id": new, "created": seconds(self._clock.now())}
        async with self._storage.write(alone=f"moves {account}") as connection:
            await connection.execute(delete(moves).where(here, moves.c.old_id.in_([old, new])))
            await connection.execute(update(moves).where(here, moves.c.new_id == old).values(new_id=new))
            await connection.execute(insert(moves).values(**row))

    async def newest(self, account: str, id: str) -> str | None:
        """What that id stands for, if it stands for another one."""
        return (await self.of(account, [id])).get(id)

    async def of(self, account: str, ids: Iterable[str]) -> dict[str, str]:
        """The same for several: those that stand for another one."""
        wanted = select(moves.c.old_id, moves.c.new_id).where(moves.c.account == account, moves.c.old_id.in_(list(ids)))
        async with self._storage.read() as connection:
            return {row.old_id: row.new_id for row in await connection.execute(wanted)}
