"""What every model of the vocabulary shares."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen, and closed to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
