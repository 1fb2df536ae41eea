"""The embedded calendar's rows: what one account has, and how it is changed.

Every change first raises the account's revision. That row is the queue: on SQLite the transaction already holds the
write lock, on PostgreSQL the update waits for whoever holds the row, and what is read after it was committed before;
so what a change reads is true until it commits. Before there is a row, its name is the queue.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import anyio
from sqlalchemy import ColumnElement, and_, bindparam, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from providers import own_store
from providers.own import OwnEventType
from providers.slots import Span, seconds
from providers.storage import Storage
from providers.storage.tables import accounts, bookings, schedules
from schemas import LIVE, Booking, BookingQuery, Schedule, SlotTaken

PAGE = 200


@dataclass(frozen=True, slots=True)
class State:
    """An account's schedule and event types at one revision."""

    revision: int
    schedule: Schedule
    event_types: Mapping[str, OwnEventType]


@dataclass(frozen=True, slots=True)
class Taken:
    """A live booking as the slot engine sees it."""

    blocks: Span
    starts: int
    event_type_id: str
    booking_id: str


class Store:
    def __init__(self, storage: Storage, account: str) -> None:
        self._storage = storage
        self._account = account
        self._state: State | None = None
        self._prepared = False
        self._preparing = anyio.Lock()

    async def prepare(self, configured: dict[str, Any], schedule: Schedule, seeds: Sequence[OwnEventType]) -> None:
        """Make the account on first use, and apply what the configuration says of its schedule when that changed."""
        async with self._preparing:
            if self._prepared:
                return
            known = select(schedules.c.configured).where(schedules.c.account == self._account)
            async with self._storage.read() as connection:
                found = (await connection.execute(known)).first()
            if found is None or found.configured != configured:
                async with self._storage.write(alone=f"account {self._account}") as connection:
                    found = (await connection.execute(known)).first()
                    if found is None:
                        await self._seed(connection, configured, schedule, seeds)
                    elif found.configured != configured:
                        await self._raise_revision(connection)
                        now = (await self._load(connection)).schedule
                        await self.put_schedule(
                            connection, now.model_copy(update=_said(configured, schedule)), configured
                        )
            self._prepared = True

    async def _seed(
        self, connection: AsyncConnection, configured: dict[str, Any], schedule: Schedule, seeds: Sequence[OwnEventType]
    ) -> None:
        await connection.execute(insert(accounts).values(name=self._account, revision=1))
        await connection.execute(
            insert(schedules).values(
                account=self._account, id=schedule.id, data=schedule.model_dump(mode="json"), configured=configured
            )
        )
        for seed in seeds:
            await self.put_event_type(connection, seed.slug, seed)

    async def state(self) -> State:
        """The account as it is now. What is remembered serves only while the database has the same revision."""
        async with self._storage.read() as connection:
            revision = await connection.scalar(_REVISION, {"account": self._account})
            if self._state is None or self._state.revision != revision:
                self._state = await self._load(connection)
            return self._state

    @asynccontextmanager
    async def change(self) -> AsyncIterator[tuple[AsyncConnection, State]]:
        """A transaction over this account, alone, with its state. Nothing is kept if anything is raised."""
        async with self._storage.write() as connection:
            await self._raise_revision(connection)
            yield connection, await self._load(connection)

    async def _raise_revision(self, connection: AsyncConnection) -> None:
        await connection.execute(
            update(accounts).where(accounts.c.name == self._account).values(revision=accounts.c.revision + 1)
        )

    async def _load(self, connection: AsyncConnection) -> State:
        # The revision is read first: a change in between is then seen as one at the next look.
        revision = await connection.scalar(_REVISION, {"account": self._account})
        schedule = await connection.scalar(select(schedules.c.data).where(schedules.c.account == self._account))
        return State(
            revision=revision or 0,
            schedule=Schedule.model_validate(schedule),
            event_types=await own_store.load(connection, self._account),
        )

    async def put_schedule(
        self, connection: AsyncConnection, schedule: Schedule, configured: dict[str, Any] | None = None
    ) -> None:
        values: dict[str, Any] = {"data": schedule.model_dump(mode="json")}
        if configured is not None:
            values["configured"] = configured
        await connection.execute(update(schedules).where(schedules.c.account == self._account).values(**values))

    async def put_event_type(self, connection: AsyncConnection, event_type_id: str, kind: OwnEventType) -> None:
        await own_store.put(connection, self._account, event_type_id, kind)

    async def delete_event_type(self, connection: AsyncConnection, event_type_id: str) -> None:
        await own_store.delete(connection, self._account, event_type_id)

    async def used_ids(self, connection: AsyncConnection) -> list[str]:
        return await own_store.used_ids(connection, self._account)

    async def state_and_taken(self, window: Span) -> tuple[State, list[Taken]]:
        """The account, and its live bookings that with their buffers touch `window`: one look at one moment."""
        async with self._storage.read() as connection:
            rows = (await connection.execute(_TAKEN, self._around(window))).all()
            if self._state is None or self._state.revision != rows[0][0]:
                self._state = await self._load(connection)
            return self._state, _taken(rows)

    async def taken(self, window: Span, connection: AsyncConnection) -> list[Taken]:
        """The live bookings that with their buffers touch `window`, within a change."""
        return _taken((await connection.execute(_TAKEN, self._around(window))).all())

    def _around(self, window: Span) -> dict[str, Any]:
        return {"account": self._account, "begins": window[0], "ends": window[1]}

    async def get(self, booking_id: str, connection: AsyncConnection | None = None) -> Booking | None:
        query = select(bookings.c.data).where(bookings.c.account == self._account, bookings.c.id == booking_id)
        async with self._reading(connection) as reading:
            data = await reading.scalar(query)
        return None if data is None else Booking.model_validate(data)

    def _reading(self, connection: AsyncConnection | None) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._storage.read() if connection is None else nullcontext(connection)

    async def add(self, connection: AsyncConnection, booking: Booking, kind: OwnEventType) -> None:
        row = insert(bookings).values(
            account=self._account,
            id=booking.id,
            event_type_id=booking.event_type_id,
            attendee_email=booking.attendees[0].email.lower(),
            marker=booking.marker,
            **_columns(booking, kind.rules.buffer_before, kind.rules.buffer_after),
        )
        with _alone():
            await connection.execute(row)

    async def put(self, connection: AsyncConnection, booking: Booking, kind: OwnEventType | None = None) -> None:
        """Keep a changed booking: with the buffers of `kind` now, or else those it has."""
        this = (bookings.c.account == self._account, bookings.c.id == booking.id)
        if kind is None:
            row = (await connection.execute(select(bookings).where(*this))).one()
            values = _columns(booking, row.starts - row.blocks_from, row.blocks_until - row.ends)
        else:
            values = _columns(booking, kind.rules.buffer_before, kind.rules.buffer_after)
        with _alone():
            await connection.execute(update(bookings).where(*this).values(**values))

    async def find(self, query: BookingQuery) -> AsyncGenerator[Booking, None]:
        order = bookings.c.starts.desc() if query.newest_first else bookings.c.starts.asc()
        wanted = select(bookings.c.starts, bookings.c.id, bookings.c.data).where(*self._narrowed(query))
        wanted = wanted.order_by(order, bookings.c.id.asc()).limit(PAGE)
        after: ColumnElement[bool] | None = None
        while True:
            async with self._storage.read() as connection:
                rows = (await connection.execute(wanted if after is None else wanted.where(after))).all()
            for row in rows:
                yield Booking.model_validate(row.data)
            if len(rows) < PAGE:
                return
            starts, last = rows[-1].starts, rows[-1].id
            beyond = bookings.c.starts < starts if query.newest_first else bookings.c.starts > starts
            after = or_(beyond, and_(bookings.c.starts == starts, bookings.c.id > last))

    def _narrowed(self, query: BookingQuery) -> Iterator[ColumnElement[bool]]:
        yield bookings.c.account == self._account
        if query.live is not None:
            yield bookings.c.live == query.live
        if query.ends_after is not None:
            yield bookings.c.ends > seconds(query.ends_after)
        if query.starts_before is not None:
            yield bookings.c.starts <= seconds(query.starts_before)
        if query.resume_at is not None:
            bound = seconds(query.resume_at)
            yield bookings.c.starts <= bound if query.newest_first else bookings.c.starts >= bound


@contextmanager
def _alone() -> Iterator[None]:
    """The database's last word: no two live bookings begin together."""
    try:
        yield
    except IntegrityError:
        raise SlotTaken("Another booking begins at that time. find_slots has the times that are free.") from None


def _columns(booking: Booking, before: int, after: int) -> dict[str, Any]:
    starts, ends = seconds(booking.start), seconds(booking.end)
    return {
        "live": booking.status in LIVE,
        "starts": starts,
        "ends": ends,
        "blocks_from": starts - before,
        "blocks_until": ends + after,
        "data": booking.model_dump(mode="json", exclude_defaults=True),
    }


def _said(configured: dict[str, Any], schedule: Schedule) -> dict[str, Any]:
    """The parts of `schedule` that the configuration speaks of; the others stay as the tools left them."""
    fields = {"time_zone": "time_zone", "working_hours": "weekly_hours"}
    return {field: getattr(schedule, field) for key, field in fields.items() if configured.get(key) is not None}


_REVISION = select(accounts.c.revision).where(accounts.c.name == bindparam("account"))
_TAKEN = (
    select(
        accounts.c.revision,
        bookings.c.id,
        bookings.c.blocks_from,
        bookings.c.blocks_until,
        bookings.c.starts,
        bookings.c.event_type_id,
    )
    .select_from(
        accounts.outerjoin(
            bookings,
            and_(
                bookings.c.account == accounts.c.name,
                bookings.c.live,
                bookings.c.blocks_until > bindparam("begins"),
                bookings.c.blocks_from < bindparam("ends"),
            ),
        )
    )
    .where(accounts.c.name == bindparam("account"))
)


def _taken(rows: Sequence[Any]) -> list[Taken]:
    return [Taken((row[2], row[3]), row[4], row[5], row[1]) for row in rows if row[1] is not None]
