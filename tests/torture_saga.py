"""How two moves and a cancellation can meet, replayed: to each end by each order of writes; `python -m` runs it."""

import asyncio
import logging
import tempfile
import time
from itertools import product
from pathlib import Path

from tests.saga import interleavings
from tests.test_saga import MEETINGS, TEN, THIRDS, Theatre, callers, orders_of_writes


async def main() -> None:
    logging.disable()
    total = every = 0
    began = time.monotonic()
    for meeting, third in product(MEETINGS, THIRDS):
        runs = orders_of_writes(meeting, third, thorough=True)
        all_of_them = interleavings(callers(meeting, third), TEN)
        with tempfile.TemporaryDirectory() as folder:
            theatre = Theatre(Path(folder))
            await theatre.open()
            for run in runs:
                await theatre.play(meeting, third, run)
            await theatre.close()
        said = f"{len(runs)} orders replayed, of {all_of_them} interleavings"
        print(f"{meeting}, cancelled by {third}: {said}", flush=True)  # noqa: T201 - a command's answer
        total, every = total + len(runs), every + all_of_them
    print(f"{total} orders, which stand for {every} interleavings, in {time.monotonic() - began:.0f} s: all agree")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    asyncio.run(main())
