"""Taking a time that Google would give to two: a hold first, silent and without guests, and only the first one stays.

A hold is respected for HOLDS, counted from when Google made it. It is an event like others, so that other gateways on
the same calendar see it; what nobody made a booking of is removed by whoever comes next.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from providers.google_calendar import events
from providers.google_calendar.availability import TAKEN, GoogleAvailability, Taken, around
from providers.google_calendar.client import Changed, Duplicate
from providers.slots import Rules, seconds
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
            listed = await self.taken(around(TimeRange(start=start, end=end)))
            others = [each for each in listed if each.raw["id"] not in (held["id"], moving)]
            rivals = [each for each in others if each.meets(start, end, rules)]
            if any(self._counts(each, held) and self.comes_before(each, held) for each in rivals):
                raise SlotTaken(TAKEN)
            rivals += await self._too_many(others, held, rules)
            # Who holds this time in a calendar of their own is not to be told from a meeting there: neither gets it.
            window = TimeRange(
                start=start - timedelta(seconds=rules.buffer_before), end=end + timedelta(seconds=rules.buffer_after)
            )
            if any(window.overlaps(each.start, each.end) for each in await self.busy_elsewhere(window)):
                raise SlotTaken(TAKEN)
            await self.drive_out(list({each.raw["id"]: each.raw for each in rivals}.values()))
        except OutcomeUnknown as error:
            await self.let_go(held)
            raise unchanged(error) from None
        except SchedulingError:
            await self.let_go(held)
            raise

    def comes_before(self, taken: Taken, held: Any) -> bool:
        """What is no hold always does, nor can what is claimed be driven out."""
        return not events.is_open_hold(taken.raw) or events.rank(taken.raw) < events.rank(held)

    def _counts(self, taken: Taken, held: Any) -> bool:
        """By Google's clock, whatever ours shows: what another one claimed must not seem to be left over."""
        return self.counts(taken, events.created(held))

    async def _too_many(self, others: Sequence[Taken], held: Any, rules: Rules) -> list[Taken]:
        """The later holds that the day has no room for beside this one. Raises SlotTaken, if it has none for it."""
        if rules.max_per_day is None:
            return []
        (_, tz), kind = await self.me(), events.private(held).get(events.EVENT_TYPE)

        def day(at: int) -> date:
            return datetime.fromtimestamp(at, tz).date()

        today = day(seconds(datetime.fromisoformat(held["start"]["dateTime"])))
        alike = [each for each in others if each.event_type_id == kind and day(each.times[0]) == today]
        alike = [each for each in alike if self._counts(each, held)]
        room = rules.max_per_day - sum(self.comes_before(each, held) for each in alike) - 1
        if room < 0:
            raise SlotTaken(TAKEN)
        later = [each for each in alike if not self.comes_before(each, held)]
        return sorted(later, key=lambda each: events.rank(each.raw))[room:]

    async def drive_out(self, holds: Sequence[Any]) -> None:
        """Remove later holds, each as it was read. Raises SlotTaken if one of them has become a booking."""
        try:
            for each in holds:
                await self.remove(each)
        except Changed:
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
