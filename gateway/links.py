"""Links of our own: to a page where a guest books, and from there to the guest's own booking.

What a link has in it is known to whoever got it alone: here is its hash.
"""

import base64
import secrets
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy.engine import Row

from gateway.callers import parted
from providers import Clock
from providers.storage import Storage
from providers.storage.tables import guests, links


@dataclass(frozen=True, slots=True)
class Link:
    """A link to book one event type; ids as the service has them, instants in seconds."""

    id: str
    account: str
    event_type_id: str
    single_use: bool
    caller: str
    created: int
    used: int | None
    used_by: str | None
    revoked: int | None

    @property
    def name(self) -> str:
        """The account's name, as tools know it; `account` is the one its rows are kept under."""
        return parted(self.account)[0]

    def is_for(self, visitor: str) -> bool:
        """Whether it is still good, for whoever that is; who used it up may look at what came of it."""
        return self.revoked is None and (self.used is None or self.used_by == hashed(visitor))


@dataclass(frozen=True, slots=True)
class Guest:
    """What a guest's own link leads to."""

    account: str
    booking_id: str
    time_zone: str

    @property
    def name(self) -> str:
        """The account's name, as tools know it; `account` is the one its rows are kept under."""
        return parted(self.account)[0]


class Links:
    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def make(self, account: str, event_type_id: str, single_use: bool, caller: str) -> str:
        """A new link, made by that caller; what it has in it is not to be had again."""
        token = secrets.token_urlsafe(24)
        row = {
            "account": account,
            "event_type_id": event_type_id,
            "single_use": single_use,
            "caller": caller,
            "created": self._now(),
        }
        async with self._storage.write() as connection:
            await connection.execute(insert(links).values(id=hashed(token), **row))
        return token

    async def find(self, token: str) -> Link | None:
        async with self._storage.read() as connection:
            row = (await connection.execute(select(links).where(links.c.id == hashed(token)))).one_or_none()
        return None if row is None else _link(row)

    async def live(self) -> list[Link]:
        """Those that are not revoked, newest first."""
        query = select(links).where(links.c.revoked.is_(None)).order_by(links.c.created.desc(), links.c.id)
        async with self._storage.read() as connection:
            return [_link(row) for row in await connection.execute(query)]

    async def claim(self, link: Link, visitor: str) -> bool:
        """Use up a link for what `visitor` is about to book: of many who ask one gets it, and may ask again."""
        mine = hashed(visitor)
        free = or_(links.c.used.is_(None), links.c.used_by == mine)
        return await self._change(link.id, free, used=self._now(), used_by=mine)

    async def release(self, link: Link, visitor: str) -> None:
        """Nothing was booked."""
        await self._change(link.id, links.c.used_by == hashed(visitor), used=None, used_by=None)

    async def revoke(self, id: str) -> bool:
        return await self._change(id, revoked=self._now())

    async def revoke_of(self, caller: str) -> int:
        """Take back all that a caller has made; how many there were."""
        mine = (links.c.caller == caller, links.c.revoked.is_(None))
        async with self._storage.write() as connection:
            changed = await connection.execute(update(links).where(*mine).values(revoked=self._now()))
        return changed.rowcount

    async def let_in(self, link: Link, visitor: str, booking_id: str, time_zone: str) -> str:
        """The guest's own link to a booking; the same one if the same visitor booked it before."""
        token = _derived(visitor, link.id, booking_id)
        row = {
            "link": link.id,
            "account": link.account,
            "booking_id": booking_id,
            "time_zone": time_zone,
            "created": self._now(),
        }
        async with self._storage.write(alone=f"guest {hashed(token)}") as connection:
            known = await connection.scalar(select(guests.c.id).where(guests.c.id == hashed(token)))
            if known is None:
                await connection.execute(insert(guests).values(id=hashed(token), **row))
        return token

    async def guest(self, token: str) -> Guest | None:
        wanted = select(guests.c.account, guests.c.booking_id, guests.c.time_zone).where(guests.c.id == hashed(token))
        async with self._storage.read() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else Guest(*row)

    async def booked(self, link: Link, seconds: int) -> int:
        """How many bookings a link has made in so many seconds."""
        since = self._now() - seconds
        query = select(func.count()).select_from(guests).where(guests.c.link == link.id, guests.c.created > since)
        async with self._storage.read() as connection:
            return int(await connection.scalar(query) or 0)

    async def _change(self, id: str, *conditions: ColumnElement[bool], **values: object) -> bool:
        this = (links.c.id == id, links.c.revoked.is_(None), *conditions)
        async with self._storage.write() as connection:
            changed = await connection.execute(update(links).where(*this).values(**values))
        return changed.rowcount == 1

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _derived(*parts: str) -> str:
    """A secret made of others, the same each time."""
    digest = sha256("\n".join(("guest", *parts)).encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _link(row: Row[tuple[object, ...]]) -> Link:
    return Link(**row._mapping)
