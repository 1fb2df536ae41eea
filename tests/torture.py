"""Every crash point: `python -m tests.torture [ACCOUNT…] [--bounded]`.

Each scenario (`torture_scenarios`) runs once unharmed, to see which points it comes to (`torture_process`); then once
for each point and each thing that may happen there: the process is killed before and after it; a write of the
service's arrives only after the kill, or its answer is lost, or it is, or it arrives when the gateway has looked for it
already, or twice. Then the gateway starts again on the same database and settles, and what must hold is looked at;
once in that order, and once with whoever asked asking again first.

Whoever is next may also cancel the booking, move it elsewhere or book anew before anything is settled.

Without `--bounded`, each of those is tried with a second thing behind it: a write that went wrong and a kill at each
later point; and a kill at each point of the process that settles after the first kill.

Not covered:
- a kill between two instructions that leave nothing behind: it is the same as one at the next point.
- what arrives later than a request waits for its twin (`gateway.journal.WAIT`): no look can know of it.
- requests under way at once: here the network takes one at a time (the state machine and the races do that).
- power cuts, and PostgreSQL: a killed client's transaction is the server's to roll back (`test_postgres`).
- seats of shared meetings, and answers to bookings.
"""

import argparse
import asyncio
import gc
import logging
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from gateway.core import Gateway
from providers import Provider
from tests.stages import STAGES, Stage
from tests.torture_process import AFTER, BEFORE, ECHOED, KILLS, LATE, TROUBLE, Point, Run, Told, arrive, run
from tests.torture_scenarios import ASKED_AGAIN, SCENARIOS, SETTLED, Create, Far, Near, Scenario, restarted, wrong

API = ("local", "calcom", "calid", "calendly", "google_calendar")
ACCOUNTS = (*API, *(f"{account} via mcp" for account in ("calendly", "calid", "google_calendar")))
BOUNDED = ("local", "calcom", "calendly")

Faults = dict[int, str]
Harm = tuple[int, str]


class Case(NamedTuple):
    """`first` befalls the call, `second` the process that settles what is left of it, where that is one of its own."""

    account: str
    scenario: type[Scenario]
    key: bool
    then: str
    first: Faults
    second: Faults | None = None

    def __str__(self) -> str:
        how = f"{'with' if self.key else 'without'} a key, {self.then}"
        return f"{self.account}: {self.scenario.name} ({how})"


class Outcome(NamedTuple):
    first: Run
    second: Run | None
    wrong: list[str]


def tried(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        return _tried(case, Path(folder))


def _tried(case: Case, folder: Path) -> Outcome:
    scenario = case.scenario(key=case.key, echoed=ECHOED in case.first.values())

    async def prepared() -> Stage:
        stage = STAGES[case.account](case.account, folder)
        await scenario.prepare(stage)
        await stage.gateway.close()
        return stage

    stage = asyncio.run(prepared())

    async def act(gateway: Gateway) -> str | None:
        await gateway.open()
        return await scenario.act(gateway, stage)

    first, second = run(stage, act, case.first), None
    found = _astray(case.first, first)
    if case.second is not None:
        asyncio.run(arrive(stage, first))
        second = run(stage, partial(restarted, stage), case.second)
        found += _astray(case.second, second)
    if not found:
        arriving = partial(arrive, stage, first)
        found = asyncio.run(wrong(stage, scenario, first.told or Told(), case.then, arriving))
    return Outcome(first, second, found)


def _astray(faults: Faults, run: Run) -> list[str]:
    """What went wrong with the trial itself."""
    if run.hung:
        return [f"the process hung, or broke, after {len(run.points)} points"]
    if run.killed != any(how in KILLS for how in faults.values()):
        return [f"the process never came to the point: {run.points}"]
    return []


def harms(points: list[Point], *, since: int = 0, bounded: bool = False, kills: bool = False) -> Iterator[Harm]:
    """Everything that may happen, at each of these points; `kills` alone, if so.

    What is read changes nothing, and what is killed before a write leaves what is killed after the one before: where
    it is `bounded`, both are left out.
    """
    for at, point in enumerate(points[since:], since):
        if not bounded:
            yield at, BEFORE
        if not bounded or point.kind != "read":
            yield at, AFTER
        if point.kind == "write" and not kills:
            yield from ((at, how) for how in (LATE, *TROUBLE))


def cases(account: str, *, bounded: bool) -> Iterator[Case]:
    """The scenarios of an account, unharmed."""
    adapter: type[Provider] = STAGES[account].adapter
    for scenario in SCENARIOS:
        if not scenario.concerns(adapter) or (bounded and scenario is Far and not adapter.rebooks):
            continue
        yield Case(account, scenario, True, SETTLED, {})
        if not bounded or scenario in (Create, Near):
            yield from (Case(account, scenario, False, then, {}) for then in scenario.thens if then != SETTLED)
        if scenario.takes_key and not bounded:
            yield Case(account, scenario, False, SETTLED, {})
            yield Case(account, scenario, True, ASKED_AGAIN, {})


def tree(case: Case, harm: Harm, *, bounded: bool) -> Iterator[tuple[Case, Outcome]]:
    """A harm, and, unless it is to be bounded, whatever may follow it."""
    at, how = harm
    hurt = case._replace(first={at: how})
    outcome = tried(hurt)
    yield hurt, outcome
    if bounded or case.then != SETTLED or not case.key:
        return
    if how not in KILLS:
        for later, kill in harms(outcome.first.points, since=at + 1, kills=True):
            worse = case._replace(first={at: how, later: kill})
            yield worse, tried(worse)
    else:
        again = hurt._replace(second={})
        outcome = tried(again)
        yield again, outcome
        for later, more in harms(outcome.second.points if outcome.second else []):
            worse = hurt._replace(second={later: more})
            yield worse, tried(worse)


def _memory() -> str | None:
    """Where files are quick: what a killed process wrote is there without a disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def described(case: Case, outcome: Outcome) -> str:
    lines = [str(case)]
    for faults, each in ((case.first, outcome.first), (case.second or {}, outcome.second)):
        for at, how in faults.items() if each else ():
            point = each.points[at] if each and at < len(each.points) else None
            what = f"{point.kind} {point.what}" if point else "a request"
            lines.append(f"  {'settling: ' if each is outcome.second else ''}{how} at point {at}: {what}")
    if outcome.first.told:
        lines.append(f"  it answered {outcome.first.told}")
    return "\n".join([*lines, *(f"  WRONG: {each}" for each in outcome.wrong)])


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the gateway at every point, and see that nothing is lost.")
    parser.add_argument("accounts", nargs="*", metavar="ACCOUNT", help=f"of {', '.join(ACCOUNTS)}")
    parser.add_argument("--bounded", action="store_true", help="as within make test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--points", action="store_true", help="show the points of each scenario, and try none")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, failed, total = time.monotonic(), 0, Counter[str]()
    for account in given.accounts or (BOUNDED if given.bounded else ACCOUNTS):
        since, count = time.monotonic(), 0
        work, unharmed = [], []
        for case in cases(account, bounded=given.bounded):
            outcome = tried(case)
            unharmed.append((case, outcome))
            if given.points:
                say(str(case), *(f"  {point.kind} {point.what}" for point in outcome.first.points))
            kills = given.bounded and case.then != SETTLED
            work += [(case, harm) for harm in harms(outcome.first.points, bounded=given.bounded, kills=kills)]
        results = iter(()) if given.points else _spread(work, given.bounded, given.jobs)
        for case, outcome in chain(unharmed, results):
            count += 1
            if outcome.wrong:
                failed += 1
                say(described(case, outcome))
            elif count % 50 == 0 and sys.stderr.isatty():
                sys.stderr.write(f"\r{account}: {count} tried\r")
        total[account] = count
        say(f"{account}: {count} points in {time.monotonic() - since:.0f} s")
    say(f"{total.total()} points in {time.monotonic() - began:.0f} s, {failed} wrong")
    return 1 if failed else 0


def _spread(work: list[Any], bounded: bool, jobs: int) -> Iterator[tuple[Case, Outcome]]:
    """Every piece of work by one of so many processes, and what they report as they go."""
    gc.freeze()
    workers, readers = [], list[Connection]()
    for job in range(jobs):
        reader, writer = Pipe(duplex=False)
        if (pid := os.fork()) == 0:
            _work(work[job::jobs], bounded, writer)
        writer.close()
        workers.append(pid)
        readers.append(reader)
    while readers:
        for reader in [each for each in wait(readers) if isinstance(each, Connection)]:
            try:
                yield reader.recv()
            except EOFError:
                readers.remove(reader)
    if any(os.waitpid(pid, 0)[1] for pid in workers):
        raise SystemExit("a process that tries the points broke")


def _work(work: list[Any], bounded: bool, writer: Any) -> NoReturn:
    status = 1
    try:
        for case, harm in work:
            for result in tree(case, harm, bounded=bounded):
                writer.send(result)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
