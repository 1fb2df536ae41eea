"""What every model of the vocabulary shares."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen, and closed to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A moment, kept in UTC.

Two datetimes in one zone are compared and subtracted by what clocks show, so in the hour that clocks show twice the
later one may come first. In UTC that cannot happen; zones are for showing.
"""
