"""A model of moving a booking by booking anew, small enough to try every order in which three callers can meet.

Each caller is a generator that yields the step it takes next, and of what: what it does after that, until it yields
again, is one moment. Steps are what a service or the database sees: `read` a booking, `journal` a change (one at a
time for a booking), `book`, `cancel`, `name` the new id as what the old one stands for, `wait` for the end of a change
that the journal has. Two callers move the same booking, each in a process of its own; a third one cancels it,
through the gateway or, as the guest can, at the service itself.

Left out: what goes wrong at the service and processes that die (test_troubles.py, test_machine.py, test_crashes.py),
and the requests that decide nothing (event types, slots, lists).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Step = tuple[str, int]
Caller = Generator[Step, None, str]
LENGTH = 30
"""Minutes that a meeting takes."""


@dataclass
class Meeting:
    start: int
    live: bool = True


@dataclass
class Service:
    """Meetings by the order in which they were made; the first is the one that is moved."""

    meetings: list[Meeting]
    names: dict[int, int] = field(default_factory=dict)
    under_way: list[int] = field(default_factory=list)
    """What the journal has of changes that are not over: which meetings they change."""

    def lives(self, id: int) -> bool:
        return self.meetings[id].live

    def book(self, start: int) -> int | None:
        if any(each.live and abs(each.start - start) < LENGTH for each in self.meetings):
            return None
        self.meetings.append(Meeting(start))
        return len(self.meetings) - 1

    def cancel(self, id: int) -> bool:
        was = self.meetings[id].live
        self.meetings[id].live = False
        return was

    def name(self, old: int, new: int) -> None:
        self.names = {one: new if other == old else other for one, other in self.names.items() if one not in (old, new)}
        self.names[old] = new

    def newest(self, id: int) -> int:
        """What an id stands for."""
        while not self.lives(id) and id in self.names:
            id = self.names[id]
        return id


def find(service: Service, id: int) -> Generator[Step, None, int]:
    while True:
        yield "read", id
        if service.lives(id) or id not in service.names:
            return id
        id = service.names[id]


def found(service: Service, id: int) -> Generator[Step, None, int]:
    """What an id stands for, when nobody is known to change it."""
    id = yield from find(service, id)
    while id in service.under_way:
        yield "wait", id
        id = yield from find(service, id)
    return id


def move(service: Service, to: int) -> Caller:
    while True:
        old = yield from found(service, 0)
        was_live, start = service.lives(old), service.meetings[old].start
        if was_live and start == to:
            return "moved"
        yield "journal", old
        if old in service.under_way:
            continue
        if not was_live:
            return "refused"
        service.under_way.append(old)
        yield "read", old
        if service.lives(old):
            break
        service.under_way.remove(old)
    steps = cancel_then_book if abs(to - start) < LENGTH else book_then_cancel
    new, answer = yield from steps(service, old, to)
    if new is not None:
        yield "name", new
        service.name(old, new)
    service.under_way.remove(old)
    return answer


def book_then_cancel(service: Service, old: int, to: int) -> Generator[Step, None, tuple[int | None, str]]:
    yield "book", to
    new = service.book(to)
    if new is None:
        return None, "taken"
    yield "cancel", old
    if service.cancel(old):
        return new, "moved"
    yield "read", old  # somebody else was quicker
    yield "cancel", new
    service.cancel(new)
    return None, "refused"


def cancel_then_book(service: Service, old: int, to: int) -> Generator[Step, None, tuple[int | None, str]]:
    yield "cancel", old
    if not service.cancel(old):
        yield "read", old
        return None, "refused"
    for _ in range(2):
        yield "book", to
        if (new := service.book(to)) is not None:
            return new, "moved"
    back = service.meetings[old].start
    for _ in range(4):
        yield "book", back
        if (new := service.book(back)) is not None:
            return new, "restored"
    return None, "stranded"


def cancel(service: Service) -> Caller:
    old = yield from found(service, 0)
    while service.lives(old):
        yield "journal", old
        if old in service.under_way:
            old = yield from found(service, 0)
            continue
        service.under_way.append(old)
        yield "cancel", old
        was_live = service.cancel(old)
        service.under_way.remove(old)
        if was_live:
            return "cancelled"
        old = yield from found(service, old)
    return "was, and is moving" if old in service.under_way else "was"


def guest(service: Service) -> Caller:
    """Cancels what it was told of first, whatever became of that."""
    yield "guest", 0
    return "cancelled by the guest" if service.cancel(0) else "too late"


@dataclass
class Run:
    """What came of one order of steps."""

    order: tuple[int, ...]
    service: Service
    waiting: dict[int, Step]
    """The step that each caller takes next."""
    answers: dict[int, str]
    taken: tuple[tuple[int, Step], ...]

    @property
    def key(self) -> object:
        """Runs alike in this go on alike: what there is, and where each caller is, which tells what it has seen."""
        service = self.service
        meetings = tuple((each.start, each.live) for each in service.meetings)
        names, under_way = tuple(sorted(service.names.items())), tuple(sorted(service.under_way))
        callers = {*self.waiting, *self.answers}
        own = tuple((tuple(s for by, s in self.taken if by == who), self.waiting.get(who)) for who in callers)
        return meetings, names, under_way, own, tuple(sorted(self.answers.items()))

    @property
    def ready(self) -> list[int]:
        """The callers that can go on: who waits for a move needs its end."""
        return [who for who, (name, id) in self.waiting.items() if name != "wait" or id not in self.service.under_way]

    @property
    def trace(self) -> list[tuple[int, str]]:
        return [(who, name) for who, (name, _) in self.taken]

    @property
    def writes(self) -> tuple[tuple[int, str], ...]:
        """What reaches the service and changes it."""
        return tuple(each for each in self.trace if each[1] in ("book", "cancel", "guest"))

    @property
    def live(self) -> list[int]:
        return [each.start for each in self.service.meetings if each.live]


def play(callers: Sequence[Callable[[Service], Caller]], start: int, order: tuple[int, ...]) -> Run:
    """Let the callers take their steps in that order."""
    service = Service([Meeting(start)])
    running = [each(service) for each in callers]
    waiting = {who: next(each) for who, each in enumerate(running)}
    answers: dict[int, str] = {}
    taken = []
    for who in order:
        taken.append((who, waiting[who]))
        try:
            waiting[who] = next(running[who])
        except StopIteration as end:
            answers[who] = end.value
            del waiting[who]
    return Run(order, service, waiting, answers, tuple(taken))


def explore(callers: Sequence[Callable[[Service], Caller]], start: int, key: Callable[[Run], object]) -> Iterator[Run]:
    """Breadth first, one run of those that `key` tells not apart: every state there is, with `Run.key`."""
    runs = [play(callers, start, ())]
    while runs:
        yield from runs
        following: dict[object, Run] = {}
        for run in runs:
            for who in run.ready:
                after = play(callers, start, (*run.order, who))
                following.setdefault(key(after), after)
        runs = list(following.values())


def interleavings(callers: Sequence[Callable[[Service], Caller]], start: int) -> int:
    """How many there are: runs alike go on alike, so those that lead to one state are counted, not played."""
    total, runs = 0, {None: (play(callers, start, ()), 1)}
    while runs:
        following: dict[Any, tuple[Run, int]] = {}
        for run, number in runs.values():
            total += 0 if run.waiting else number
            for who in run.ready:
                after = play(callers, start, (*run.order, who))
                following[after.key] = (after, number + following.get(after.key, (after, 0))[1])
        runs = following
    return total
