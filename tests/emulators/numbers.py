"""Event types of services that count them: numbered in the order of first sight, and no number is used again."""

from tests.world import World

FIRST_TYPE = 101


def event_type_id(world: World, kind: str) -> str:
    numbers = _numbers(world)
    if kind not in numbers:
        for key in world.kinds:
            numbers.setdefault(key, _next(numbers))
    return str(numbers[kind])


def made_anew(world: World, kind: str) -> None:
    """A deleted one may have had the same key."""
    numbers = _numbers(world)
    if kind in numbers:
        numbers[kind] = _next(numbers)


def _numbers(world: World) -> dict[str, int]:
    numbers: dict[str, int] = vars(world).setdefault("event_type_numbers", {})
    return numbers


def _next(numbers: dict[str, int]) -> int:
    return max(numbers.values(), default=FIRST_TYPE - 1) + 1
