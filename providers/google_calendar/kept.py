"""What the gateway keeps of events in its own storage, where Google's tools have no field for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from providers.google_calendar.events import Json

if TYPE_CHECKING:
    from providers.storage import Storage

AT_ONCE = 500


@dataclass(slots=True)
class Kept:
    """Properties that only we see; and the event as it was last, if we called it off."""

    private: dict[str, str] = field(default_factory=dict)
    cancelled: Json | None = None


class KeptEvents:
    """The rows of one account, by the marker of a booking of ours or the id of another event."""

    def __init__(self, storage: "Storage", account: str) -> None:
        self._storage = storage
        self._account = account

    async def of(self, keys: Iterable[str]) -> dict[str, Kept]:
        from sqlalchemy import select

        from providers.storage.tables import kept_events

        wanted, found = sorted(set(keys)), dict[str, Kept]()
        async with self._storage.read() as connection:
            for at in range(0, len(wanted), AT_ONCE):
                some = kept_events.c.id.in_(wanted[at : at + AT_ONCE])
                rows = await connection.execute(select(kept_events).where(kept_events.c.account == self._account, some))
                found |= {row.id: Kept(row.private, row.cancelled) for row in rows}
        return found

    async def cancelled(self) -> list[Kept]:
        from sqlalchemy import select

        from providers.storage.tables import kept_events

        query = select(kept_events).where(kept_events.c.account == self._account, kept_events.c.cancelled.is_not(None))
        async with self._storage.read() as connection:
            return [Kept(row.private, row.cancelled) for row in await connection.execute(query)]

    async def keep(self, key: str, kept: Kept) -> None:
        """What is called off stays called off, whatever else changes."""
        from sqlalchemy import insert, update

        from providers.storage.tables import kept_events

        values = {"private": kept.private, **({"cancelled": kept.cancelled} if kept.cancelled else {})}
        this = (kept_events.c.account == self._account, kept_events.c.id == key)
        async with self._storage.write(alone=f"event {self._account} {key}") as connection:
            changed = await connection.execute(update(kept_events).where(*this).values(**values))
            if changed.rowcount == 0:
                await connection.execute(insert(kept_events).values(account=self._account, id=key, **values))

    async def drop(self, key: str) -> None:
        from sqlalchemy import delete

        from providers.storage.tables import kept_events

        this = (kept_events.c.account == self._account, kept_events.c.id == key)
        async with self._storage.write() as connection:
            await connection.execute(delete(kept_events).where(*this))
