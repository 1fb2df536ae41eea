"""Every crash point, one thing at a time, of the embedded calendar, a service that moves and one that does not.

`make torture` has the other services, and a second thing behind each.
"""

import os
import re
import subprocess
import sys

import pytest

from tests.torture import BOUNDED


@pytest.mark.parametrize("account", BOUNDED)
def test_whenever_the_process_is_killed_no_booking_is_lost_doubled_or_half_moved(account: str) -> None:
    # A process of its own: it forks, which one with threads should not. Its children die before they could say what
    # they covered.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", "tests.torture", account, "--bounded", "--jobs=1"]
    tried = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    points = re.search(r"(\d+) points", tried.stdout)
    assert points is not None
    assert int(points[1]) > 30
