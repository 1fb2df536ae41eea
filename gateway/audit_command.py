"""`scheduling-gateway audit`: the newest lines, the heads to keep elsewhere, and whether all is as it was written."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from gateway.audit_check import Check
from gateway.audit_lines import Head, parsed
from gateway.audit_places import Database, Files
from gateway.callers import parted
from gateway.config import Config, ConfigError
from providers.storage import Storage


class _Kept(BaseModel):
    """A head, as it was kept elsewhere."""

    model_config = ConfigDict(strict=True, extra="forbid")

    chain: str
    number: int
    hash: str


def heads(config: Config, files: Sequence[Path]) -> int:
    """Print where each chain has got to. Raises ProviderDown without its storage."""
    return anyio.run(_heads, config, files)


def verify(config: Config, files: Sequence[Path], against: Path | None) -> int:
    """Print what is wrong; 1 if anything is. Raises ConfigError if a file cannot be read."""
    return anyio.run(_verify, config, files, [] if against is None else _kept_heads(against))


def show(config: Config, files: Sequence[Path], *, most: int, caller: str | None, account: str | None) -> int:
    """Print the newest lines."""
    return anyio.run(_show, config, files, most, caller, account)


async def _heads(config: Config, files: Sequence[Path]) -> int:
    for head in (await _checked(config, files, [])).heads:
        _say(str(head))
    return 0


async def _verify(config: Config, files: Sequence[Path], kept: Sequence[Head]) -> int:
    check = await _checked(config, files, kept)
    for wrong in check.wrong:
        _say(str(wrong))
    count = len(check.wrong)
    found = {0: "nothing is wrong", 1: "1 thing is wrong"}.get(count, f"{count} things are wrong")
    against = f", against {_count(len(kept), 'head')}" if kept else ""
    _say(f"{_count(check.lines, 'line')} in {_count(len(check.heads), 'chain')}{against}: {found}.")
    return 1 if count else 0


async def _checked(config: Config, files: Sequence[Path], kept: Sequence[Head]) -> Check:
    check = Check(kept)
    async with _opened(config, files) as place, aclosing(place.lines()) as lines:
        async for line in lines:
            check.add(line)
    check.end()
    return check


async def _show(config: Config, files: Sequence[Path], most: int, caller: str | None, account: str | None) -> int:
    rows: list[dict[str, Any]] = []
    async with _opened(config, files) as place, aclosing(place.newest()) as lines:
        async for line in lines:
            said = parsed(line.text)
            if said is None or caller not in (None, said["caller"]):
                continue
            if account is None or account in (said["account"], parted(said["account"] or "")[0]):
                rows.append(said)
            if len(rows) == most:
                break
    if not rows:
        _say("There is no such line.")
        return 0
    table = Table(Column("When (UTC)", no_wrap=True), "Caller", "Tool", "Account", "Outcome", "Reference", "ms", "Line")
    for said in rows:
        when = datetime.fromisoformat(said["at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        told = [_plain(said[name]) for name in ("caller", "tool", "account", "outcome", "reference", "milliseconds")]
        table.add_row(when, *told, f"{said['chain'][:8]} {said['number']}")
    Console(highlight=False).print(table)
    return 0


@asynccontextmanager
async def _opened(config: Config, files: Sequence[Path]) -> "AsyncIterator[Database | Files]":
    """Those files, or else what is configured."""
    to = config.audit.to
    if not files and to == "none":
        raise ConfigError(["audit.to: is none; say which files to read with --file"])
    if files or to != "database":
        try:
            # The configured one is not there before its first line is.
            yield Files(files or [path for path in [Path(to)] if path.exists()])
        except OSError as error:
            raise ConfigError([f"{error.filename}: cannot be read: {error.strerror}"]) from None
        return
    storage = Storage(config.storage.url, password=config.storage.password)
    await storage.open()

    async def opened() -> Storage:
        return storage

    try:
        yield Database(opened)
    finally:
        await storage.close()


def _kept_heads(path: Path) -> list[Head]:
    """What `--heads` printed once. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Head(**_Kept.model_validate_json(line).model_dump()) for line in lines if line.strip()]
    except OSError as error:
        raise ConfigError([f"--against: cannot be read: {error.strerror}"]) from None
    except ValueError:
        raise ConfigError(["--against: has a line that is no head; give what `audit --heads` printed"]) from None


def _plain(value: object) -> str:
    """As text that can do nothing to a terminal, whoever has changed it."""
    return escape("".join(each if each.isprintable() else "?" for each in str("" if value is None else value)))


def _say(text: str) -> None:
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
