"""Whatever happens between a gateway, its database and a service: no booking is lost, doubled or half-moved.

`make torture` makes ten thousand steps (tests/torture_machine.py); these are few, and the same ones each time.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine import machine
from tests.machine_guests import STAGES

FEW = settings(
    max_examples=12,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.untraced
@pytest.mark.parametrize("provider", STAGES)
def test_what_the_answers_say_is_what_happened(provider: str) -> None:
    run_state_machine_as_test(machine(provider), settings=FEW)
