"""Ten thousand steps of the machine (tests/machine.py), on each provider its share: `python -m` runs it."""

import logging
import sys
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine import Machine, machine
from tests.machine_guests import STAGES

STEPS = 10_000
AT_ONCE = 50


def run(provider: str, steps: int) -> type[Machine]:
    """At least so many steps. Raises what does not hold, with the shortest way to it."""
    tortured = machine(provider)
    few = settings(
        max_examples=max(1, steps // AT_ONCE // 4),
        stateful_step_count=AT_ONCE,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    while tortured.steps.get("steps", 0) < steps:
        run_state_machine_as_test(tortured, settings=few)
    return tortured


def main(steps: int = STEPS) -> None:
    logging.disable()  # of what the gateway says of each fault
    total, began = 0, time.monotonic()
    for provider in STAGES:
        made = dict(run(provider, -(-steps // len(STAGES))).steps)
        total += made["steps"]
        print(f"{provider}: {made.pop('steps')} steps; " + ", ".join(f"{n} × {what}" for what, n in made.items()))  # noqa: T201 - a command's answer
    print(f"{total} steps in {time.monotonic() - began:.0f} s, and everything held")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
