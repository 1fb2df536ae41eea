"""Ten thousand hostile requests, from tests/hostile.py, and again at a gateway that asks for a key, by somebody who has
one. `python -m` runs it, `… SEED NUMBER` one of them again, at both.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio

from tests.hostile import KINDS, Hostile
from tests.siege import Siege, guarded_siege, siege

REQUESTS, WARM = 10_000, 2_000
"""How many, and after how many of them what the process needs is there."""

GROWTH = 32
"""What it may grow from then on, in MiB."""


SIEGES: dict[str, Callable[[Path], AbstractAsyncContextManager[Siege]]] = {
    "open to this machine": siege,
    "with a key": guarded_siege,
}


async def run(name: str, seed: int, numbers: range) -> list[str]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        async with SIEGES[name](Path(folder)) as attacked:
            hostile = Hostile(seed, attacked.target)
            middle = min(numbers.stop, numbers.start + WARM)
            wrong = await attacked.play(hostile, range(numbers.start, middle))
            warm = peak = attacked.resident
            for begin in range(middle, numbers.stop, 500):
                wrong += await attacked.play(hostile, range(begin, min(begin + 500, numbers.stop)))
                peak = max(peak, attacked.resident)
            if not attacked.hangs:
                await attacked.is_well()
            wrong += attacked.afterwards()
            if peak - warm > GROWTH:
                wrong.append(f"grew by {peak - warm:.0f} MiB after {WARM} requests; at most {GROWTH}")
            for kind in KINDS:
                statuses = Counter({status: n for (k, status), n in attacked.statuses.items() if k == kind})
                told = ", ".join(f"{n} × {status}" for status, n in sorted(statuses.items()))
                say(f"{kind}: {sum(statuses.values())} answers; {told}")
            slowest, number = attacked.slowest
            say(f"{name}, seed {seed}: {len(numbers)} requests in {time.perf_counter() - began:.0f} s")
            say(f"slowest answer {slowest:.2f} s (request {number})")
            say(f"memory {warm:.0f} MiB after {WARM}, at most {peak:.0f} MiB from then on (growth {peak - warm:.0f})")
    return wrong


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's answer


def main(seed: int = 20261120, number: int | None = None, stop: int | None = None) -> int:
    numbers = range(REQUESTS) if number is None else range(number, stop or number + 1)
    wrong = [f"{name}: {each}" for name in SIEGES for each in anyio.run(run, name, seed, numbers)]
    say("\n\n".join(wrong[:40]) or "no failure, no secret, nobody was kept waiting, and memory is flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
