"""`scheduling-gateway journal`: the writes there were, newest first, and which of them are not settled."""

from datetime import UTC, datetime

import anyio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.config import Config
from gateway.core import Gateway

OUTCOMES = {
    "done": "[green]done[/]",
    "failed": "nothing happened",
    "sent": "[yellow]sent[/]",
    "unknown": "[red]unknown[/]",
}


def journal(config: Config, *, most: int, unsettled: bool) -> int:
    """Print them. 1 if one of those shown is of unknown outcome. Raises ProviderDown without its storage."""
    return anyio.run(_journal, config, most, unsettled)


async def _journal(config: Config, most: int, unsettled: bool) -> int:
    gateway = Gateway(config)
    await gateway.open()
    try:
        rows = await gateway.journal.recent(most, unsettled=unsettled)
    finally:
        await gateway.close()
    console = Console(highlight=False)
    if not rows:
        console.print("Every write is settled." if unsettled else "No write was made yet.")
        return 0
    table = Table("When (UTC)", "Caller", "Account", "Tool", "Outcome", "What it made", "Error", "Id")
    for row in rows:
        when = datetime.fromtimestamp(row.created, UTC).strftime("%Y-%m-%d %H:%M:%S")
        tool = f"  {row.tool}" if row.parent else row.tool
        made, error = escape(row.reference or ""), row.error or ""
        table.add_row(when, escape(row.caller), row.account, tool, OUTCOMES[row.outcome], made, error, row.id[:8])
    console.print(table)
    return 1 if any(row.outcome == "unknown" for row in rows) else 0
