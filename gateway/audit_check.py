"""Whether the lines of an audit are those that were written, and all of them.

Within a chain nothing can be changed, taken out or put elsewhere unseen. That its end was cut off, or that all of it is
gone, shows by a head that was kept elsewhere; so does a chain that was written anew from its first line.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.audit_lines import STARTED, ZEROS, Head, is_intact, parsed, predecessor, seconds
from gateway.audit_places import Kept


class Wrong(NamedTuple):
    """What is wrong with a line, or with a chain from there on."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class _Chain:
    last: Head
    after: Head | None = None
    hashes: dict[int, str] = field(default_factory=dict)
    """Of the lines that somebody asks for."""


class Check:
    """Fed with the lines in their order; `kept` are heads that were kept elsewhere."""

    def __init__(self, kept: Iterable[Head] = ()) -> None:
        self._kept = tuple(kept)
        self._asked = {(head.chain, head.number) for head in self._kept}
        self._chains: dict[str, _Chain] = {}
        self.wrong: list[Wrong] = []
        self.lines = 0

    @property
    def heads(self) -> list[Head]:
        """Where each chain has got to."""
        return [chain.last for chain in self._chains.values()]

    def add(self, kept: Kept) -> None:
        self.lines += 1
        said = parsed(kept.text)
        if said is None:
            self._complain(_place(kept, kept.chain, kept.number), "is no line of an audit")
            return
        where = _place(kept, said["chain"], said["number"])
        if not is_intact(said, kept.text):
            self._complain(where, "was changed: its hash is not that of what it says")
        if kept.chain is not None and (kept.chain, kept.number) != (said["chain"], said["number"]):
            self._complain(where, f"stands in the place of {_named(kept.chain, kept.number)}")
        elif kept.at is not None and kept.at != seconds(said["at"]):
            self._complain(where, "stands at another time than it says")
        self._follow(said, where)

    def end(self) -> None:
        """When there are no more."""
        for head in self._kept:
            if head.chain not in self._chains:
                self._complain(_named(head.chain, head.number), "is gone, and so is its whole chain")
            else:
                self._must_have(head, "the head that was kept elsewhere")
        for chain in self._chains.values():
            # One that is not there was removed whole, which is how old ones are.
            if (after := chain.after) is not None and after.chain in self._chains:
                self._must_have(after, f"the beginning of chain {chain.last.chain}")
                if self._chains[after.chain].last.number > after.number:
                    where = _named(after.chain, after.number + 1)
                    self._complain(where, f"came when chain {chain.last.chain} had been begun in its stead")

    def _follow(self, said: dict[str, Any], where: str) -> None:
        """Whether it comes right after the one before."""
        head = Head(said["chain"], said["number"], said["hash"])
        chain = self._chains.get(head.chain)
        if chain is None:
            chain = self._chains[head.chain] = _Chain(head)
            if head.number != 1:
                self._complain(where, "is the first that is there: the beginning of its chain is missing")
            elif said["tool"] != STARTED or said["previous"] != ZEROS:
                self._complain(where, f"is no beginning: a chain begins with `{STARTED}`, after nothing")
            else:
                chain.after = predecessor(said)
        elif head.number <= chain.last.number:
            self._complain(where, f"comes twice, or too late: {chain.last.number} was there before")
            return
        elif head.number > chain.last.number + 1:
            self._complain(where, f"comes after {chain.last.number}: what was between is missing")
        elif said["previous"] != chain.last.hash:
            self._complain(where, "does not follow the line before it: one of them was changed")
        chain.last = head
        if (head.chain, head.number) in self._asked:
            chain.hashes[head.number] = head.hash

    def _must_have(self, head: Head, who: str) -> None:
        chain = self._chains[head.chain]
        found = chain.last.hash if chain.last.number == head.number else chain.hashes.get(head.number)
        if chain.last.number < head.number:
            what = f"is missing: the end of the chain was cut off after {chain.last.number} ({who} names it)"
            self._complain(_named(head.chain, head.number), what)
        elif found is not None and found != head.hash:
            self._complain(_named(head.chain, head.number), f"is not the line that {who} names")

    def _complain(self, where: str, what: str) -> None:
        self.wrong.append(Wrong(where, what))


def _place(kept: Kept, chain: str | None, number: int | None) -> str:
    named = None if chain is None else _named(chain, number)
    return ", ".join(filter(None, (kept.where, named)))


def _named(chain: str, number: int | None) -> str:
    return f"chain {chain}, number {number}"
