"""The rows of event types that the gateway itself keeps, within a transaction of whoever keeps them.

They are read to see what may be written, so whoever writes must be alone with the account: by its row, or by `name`.
"""

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from providers.own import OwnEventType
from providers.storage.tables import event_types


def name(account: str) -> str:
    return f"event types {account}"


async def load(connection: AsyncConnection, account: str) -> dict[str, OwnEventType]:
    """An account's event types by id, in their order."""
    rows = await connection.execute(
        select(event_types.c.id, event_types.c.data)
        .where(event_types.c.account == account, ~event_types.c.deleted)
        .order_by(event_types.c.id)
    )
    return {row.id: OwnEventType.model_validate(row.data) for row in rows}


async def put(connection: AsyncConnection, account: str, event_type_id: str, kind: OwnEventType) -> None:
    values = {"slug": kind.slug, "deleted": False, "data": kind.model_dump(mode="json")}
    changed = await connection.execute(update(event_types).where(*_this(account, event_type_id)).values(**values))
    if changed.rowcount == 0:
        await connection.execute(insert(event_types).values(account=account, id=event_type_id, **values))


async def delete(connection: AsyncConnection, account: str, event_type_id: str) -> None:
    """Its row stays, so that its id is never another's."""
    await connection.execute(update(event_types).where(*_this(account, event_type_id)).values(deleted=True))


async def used_ids(connection: AsyncConnection, account: str) -> list[str]:
    return list(await connection.scalars(select(event_types.c.id).where(event_types.c.account == account)))


def _this(account: str, event_type_id: str) -> tuple[ColumnElement[bool], ...]:
    return (event_types.c.account == account, event_types.c.id == event_type_id)
