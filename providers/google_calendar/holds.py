"""Taking a time that Google would give to two: a hold first, silent and without guests, and only the first one stays.

A hold is respected for HOLDS, counted from when Google made it. It is an event like others, so that other gateways on
the same calendar see it; what nobody made a booking of is removed by whoever comes next.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from providers.google_calendar import events
from providers.google_calendar.availability import TAKEN, GoogleAvailability, around
from providers.google_calendar.client import Changed, Duplicate
from providers.slots import Rules
from schemas import NotFound, OutcomeUnknown, ProviderDown, SchedulingError, SlotTaken, TimeRange


class GoogleHolds(GoogleAvailability):
    async def held(self, event: events.Json) -> Any:
        """The hold, made now or, if its answer was lost, found."""
        try:
            return await self.insert(event)
        except (OutcomeUnknown, Duplicate) as error:
            try:
                found = await self.event(event["id"])
            except SchedulingError:
                raise error from None
            if found["status"] == "cancelled" or events.private(found).get(events.MARKER) != event["id"]:
                raise
            return found

    async def must_come_first(self, held: Any, rules: Rules, *, moving: str | None = None) -> None:
        """Those that a hold comes before are removed. Raises SlotTaken where others came first; it is let go then."""
        try:
            start, end = (datetime.fromisoformat(held[name]["dateTime"]) for name in ("start", "end"))
            others = [
                each
                for each in await self.taken(around(TimeRange(start=start, end=end)))
                if each.raw["id"] not in (held["id"], moving) and each.meets(start, end, rules)
            ]
            if any(self.counts(each) and each.comes_before(held) for each in others):
                raise SlotTaken(TAKEN)
            await self._remove([each.raw for each in others])
        except OutcomeUnknown as error:
            await self.let_go(held)
            raise unchanged(error) from None
        except SchedulingError:
            await self.let_go(held)
            raise

    async def _remove(self, holds: Sequence[Any]) -> None:
        try:
            for each in holds:
                await self.remove(each)
        except Changed:  # it has become a booking
            raise SlotTaken(TAKEN) from None

    async def claimed(self, held: Any) -> Any:
        """The hold as nobody may remove it any more, because another event moves to its time at once."""
        try:
            return await self.patch(
                held, {"extendedProperties": {"private": {events.HOLD: events.CLAIMED}}}, tell=False
            )
        except (Changed, NotFound):  # somebody who came before removed it
            raise SlotTaken(TAKEN) from None
        except OutcomeUnknown as error:
            await self.let_go(held)
            raise unchanged(error) from None
        except SchedulingError:
            await self.let_go(held)
            raise

    async def let_go(self, held: Any) -> bool:
        """Remove a hold of ours. One that cannot be removed is not respected for long."""
        try:
            try:
                await self.remove(held)
            except Changed:
                now = await self.event(held["id"])
                if not events.is_hold(now):
                    return False
                await self.remove(now)
        except SchedulingError:
            return False
        return True


def unchanged(error: OutcomeUnknown) -> ProviderDown:
    return ProviderDown(f"{error.message.partition('. ')[0]}. Nobody was told of anything; try again.")
