"""What keeps a write from being begun: another change of the same booking, and too many bookings or moves."""

from collections.abc import Mapping

from sqlalchemy import ScalarSelect, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.callers import parted
from gateway.intents import OPEN, SPANS, BeingChanged, Brake, Intent, changed_by
from providers.storage.tables import journal
from schemas import Feature, PolicyDenied

WHAT: Mapping[str, str] = {
    Feature.CREATE_BOOKING: "bookings",
    Feature.RESCHEDULE_BOOKING: "moves",
    Feature.CREATE_SCHEDULING_LINK: "links to book",
}


async def must_be_alone(connection: AsyncConnection, intent: Intent, marker: str) -> None:
    """Raises BeingChanged, so that nothing is begun. Cancelling waits for moves alone: twice is as good as once."""
    others = (Feature.RESCHEDULE_BOOKING, Feature.CANCEL_BOOKING)
    query = select(journal).where(
        journal.c.account == intent.account,
        journal.c.outcome.in_(OPEN),
        journal.c.parent.is_(None),
        journal.c.tool.in_(others[:1] if intent.tool == Feature.CANCEL_BOOKING else others),
        journal.c.id != marker,
    )
    for row in await connection.execute(query):
        if changed_by(row.kept) == intent.changes:
            raise BeingChanged(intent.account, row.tool, passes=row.outcome == "sent")


async def must_not_exceed(connection: AsyncConnection, intent: Intent, now: int) -> None:
    """Raises PolicyDenied, so that nothing is begun, where a booking or a move would be one too many.

    The steps of a move do not count: the move does.
    """
    # Asked all at once, for others wait meanwhile.
    asked = select(*(_one_too_many(brake, intent, now) for brake in intent.brakes))
    for brake, made in zip(intent.brakes, (await connection.execute(asked)).one(), strict=True):
        if made is not None:
            raise _refusal(brake, intent, made + brake.seconds - now)


def _one_too_many(brake: Brake, intent: Intent, now: int) -> ScalarSelect[int]:
    """When that was made which has to be over before there may be another; null if there may."""
    whose = {
        "account": [journal.c.account == intent.account],
        "attendee": [journal.c.account == intent.account, journal.c.attendee == intent.attendee],
        "caller": [journal.c.caller == intent.caller],
    }
    # A link may be one booking more of whoever made it.
    booked = (Feature.CREATE_BOOKING, Feature.CREATE_SCHEDULING_LINK)
    alike = booked if brake.of == "caller" and intent.tool in booked else (intent.tool,)
    mine = (
        *whose[brake.of],
        journal.c.tool.in_(alike),
        journal.c.parent.is_(None),
        journal.c.outcome != "failed",
        journal.c.created > now - brake.seconds,
    )
    newest_first = select(journal.c.created).where(*mine).order_by(journal.c.created.desc())
    return newest_first.offset(brake.most).limit(1).scalar_subquery()


def _refusal(brake: Brake, intent: Intent, wait: int) -> PolicyDenied:
    what = WHAT[intent.tool]
    of = {"account": "in this account", "attendee": "for this attendee", "caller": "for you"}[brake.of]
    key = "the caller's policy" if brake.of == "caller" else "`brakes`"
    return PolicyDenied(
        f"The gateway makes {brake.most} {what} {of} in {SPANS[brake.seconds]}, and they were made. If more are meant, "
        f"the operator raises {key} in the configuration; if not, look whether something books in a loop.",
        account=parted(intent.account)[0],
        retry_after=max(wait, 1),
    )
