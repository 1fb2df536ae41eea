"""The places of an event type, in words: how a caller chooses one, whichever service it is.

A place is written as it is shown: by its address, link, number or kind. Where the guest gives the address, it is
written "kind: address".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas import InvalidRequest


@dataclass(frozen=True, slots=True)
class Place:
    shown: str
    by_guest: bool = False


def choose(places: Sequence[Place], wanted: str | None) -> tuple[int, str | None]:
    """Which of the places is meant, and the address that the guest gives; without a wish the first that needs none.

    Raises InvalidRequest, naming what there is to choose from.
    """
    for index, place in enumerate(places):
        if place.by_guest:
            kind, colon, address = (wanted or "").partition(":")
            if colon and kind.strip() == place.shown and address.strip():
                return index, address.strip()
        elif wanted is None or wanted.casefold() == place.shown.casefold():
            return index, None
    takes = [f'"{place.shown}: …"' if place.by_guest else place.shown for place in places]
    raise InvalidRequest(f"location: this event type takes {' or '.join(takes) or 'none'}.")
