"""Where the lines of the audit are kept: the gateway's database, or a file that several processes may share."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
from sqlalchemy import func, insert, select

from gateway.audit_lines import Head, Line, parsed
from providers.storage import Storage
from providers.storage.tables import audit

PAGE = 1000


class Kept(NamedTuple):
    """A line as it was found. `where` is for people; `chain`, `number` and `at` are what its place says of it."""

    text: str
    where: str = ""
    chain: str | None = None
    number: int | None = None
    at: int | None = None


class Place(Protocol):
    async def write(self, lines: Sequence[Line]) -> None:
        """Keep them for good, in their order. If it raises, `head` says which of them are there."""

    async def head(self, chain: str) -> Head | None:
        """The last line of a chain of this process's; None if there is none."""


class Database:
    """`storage` opens it, if need be."""

    def __init__(self, storage: Callable[[], Awaitable[Storage]]) -> None:
        self._storage = storage

    async def write(self, lines: Sequence[Line]) -> None:
        rows = [
            {"chain": line.head.chain, "number": line.head.number, "at": line.at, "line": line.text} for line in lines
        ]
        storage = await self._storage()
        async with storage.write() as connection:
            await connection.execute(insert(audit), rows)

    async def head(self, chain: str) -> Head | None:
        last = select(audit.c.line).where(audit.c.chain == chain).order_by(audit.c.number.desc()).limit(1)
        storage = await self._storage()
        async with storage.read() as connection:
            said = parsed(await connection.scalar(last) or "")
        return None if said is None else Head(chain, said["number"], said["hash"])

    async def lines(self) -> AsyncGenerator[Kept, None]:
        """All of them, chain by chain, as they were at one moment."""
        storage = await self._storage()
        ends = select(audit.c.chain, func.max(audit.c.number)).group_by(audit.c.chain).order_by(func.min(audit.c.at))
        async with storage.read() as connection:
            for chain, end in (await connection.execute(ends)).all():
                wanted = select(audit).where(audit.c.chain == chain, audit.c.number <= end).order_by(audit.c.number)
                last = None
                while last is None or last < end:
                    page = wanted if last is None else wanted.where(audit.c.number > last)
                    rows = (await connection.execute(page.limit(PAGE))).all()
                    for row in rows:
                        yield Kept(row.line, "", row.chain, row.number, row.at)
                    last = rows[-1].number if rows else end

    async def newest(self) -> AsyncGenerator[Kept, None]:
        storage = await self._storage()
        wanted = select(audit).order_by(audit.c.at.desc(), audit.c.chain, audit.c.number.desc()).limit(PAGE)
        seen = 0
        async with storage.read() as connection:
            while rows := (await connection.execute(wanted.offset(seen))).all():
                seen += len(rows)
                for row in rows:
                    yield Kept(row.line, "", row.chain, row.number, row.at)


class File:
    """Opened anew for each write, so that whoever rotates logs may rename it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Head | None = None

    async def write(self, lines: Sequence[Line]) -> None:
        await anyio.to_thread.run_sync(self._append, lines)

    async def head(self, chain: str) -> Head | None:
        return self._last if self._last is not None and self._last.chain == chain else None

    def _append(self, lines: Sequence[Line]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            for line in lines:
                # What another process, or this one, was stopped in the middle of must not spoil this line too.
                data = (b"" if _ends_whole(file) else b"\n") + line.text.encode() + b"\n"
                if os.write(file, data) != len(data):
                    raise OSError("the disk is full: a line was written in part")
                self._last = line.head
            os.fsync(file)
        finally:
            os.close(file)


class Files:
    """Lines in files that are read alone: the one in use, and others that were put away."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    async def lines(self) -> AsyncGenerator[Kept, None]:
        """In the order they were written: a file whose first line is older comes first."""
        files = [await anyio.to_thread.run_sync(_read, path) for path in self._paths]
        for lines in sorted(files, key=_begun):
            for line in lines:
                yield line

    async def newest(self) -> AsyncGenerator[Kept, None]:
        for line in reversed([line async for line in self.lines()]):
            yield line


def _ends_whole(file: int) -> bool:
    size = os.fstat(file).st_size
    if size == 0:
        return True
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1) == b"\n"


def _read(path: Path) -> list[Kept]:
    text = path.read_bytes().decode(errors="replace")
    return [Kept(line, f"{path}, line {at}") for at, line in enumerate(text.split("\n"), 1) if line]


def _begun(lines: Sequence[Kept]) -> tuple[str, int]:
    first = next(filter(None, (parsed(line.text) for line in lines)), None)
    return ("", 0) if first is None else (first["at"], first["number"])
