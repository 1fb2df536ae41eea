"""What is told of each request to a service: to whom it went and how it fared, and nothing of what it was."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import httpx2

REFERENCES = ("x-request-id", "request-id", "x-amzn-requestid", "x-goog-request-id", "cf-ray", "x-vercel-id")
"""Headers in which services, and what stands in front of them, say what they know a request by."""


@dataclass(slots=True)
class Exchange:
    """`status` is None where there was no answer; `reference` is what the service knows the request by."""

    account: str
    method: str
    host: str
    status: int | None = None
    reference: str | None = None

    def answered(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        stated = (response.headers.get(name, "") for name in REFERENCES)
        self.reference = next((each for each in stated if re.fullmatch(r"[\w.:/+=-]{1,128}", each, re.ASCII)), None)


Watch = Callable[[str, str, str], AbstractContextManager[Exchange]]
"""Handed account, method and host, before a request; over when its answer has come."""


@contextmanager
def unwatched(account: str, method: str, host: str) -> Iterator[Exchange]:
    """Nobody is told."""
    yield Exchange(account, method, host)


Watched = Callable[[str, str], AbstractContextManager[Exchange]]
"""The same, of one account."""

NOBODY: Watched = partial(unwatched, "")
