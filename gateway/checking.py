"""`scheduling-gateway check`: the configuration, and each account asked who it is."""

from pathlib import Path

import anyio
from rich.console import Console
from rich.markup import escape

from gateway.answers import AccountAnswer
from gateway.config import Config
from gateway.core import Gateway
from gateway.server_config import NoAuth

STATES = {"ready": "[green]ready[/]", "needs_connection": "[yellow]needs connection[/]", "failing": "[red]failing[/]"}


def check(config: Config, source: Path | None, *, offline: bool) -> int:
    """Print what was found. 0 if all is fine, 1 if an account fails, 2 if HTTP would not start.

    Raises ProviderDown if the storage cannot be opened.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Configuration: {escape(str(source)) if source else 'none found; one embedded calendar'}: fine")
    exposed = config.server.exposed if isinstance(config.server.auth, NoAuth) else []
    for reason in exposed:
        console.print(f"[yellow]Over HTTP it will not start:[/] {escape(reason)}, and nobody has to sign in.")
    if offline:
        for name, account in config.accounts.items():
            console.print(f"  {name}: {account.provider} via {account.via}")
        return 2 if exposed else 0
    answers = anyio.run(_ask, config)
    console.print(f"Storage: {escape(config.storage.url)}: fine\n")
    for answer in answers:
        show(console, answer)
    if exposed:
        return 2
    # What is each caller's own is connected by each of them, and not from here.
    mine = [each for each in answers if config.accounts[each.account].owner is None]
    return 0 if all(answer.state == "ready" for answer in mine) else 1


async def _ask(config: Config) -> tuple[AccountAnswer, ...]:
    gateway = Gateway(config)
    await gateway.open()
    try:
        return (await gateway.catalog.list_accounts()).accounts
    finally:
        await gateway.close()


def show(console: Console, answer: AccountAnswer) -> None:
    """An account in a line, and under it what it cannot do and its notes; what is the same of several stands once."""
    who = ", ".join(filter(None, (answer.email, answer.time_zone)))
    console.print(
        f"{answer.account}: {STATES[answer.state]}: {escape(answer.detail)}{escape(f' ({who})' if who else '')}"
    )
    for word, said in (("cannot", answer.cannot), ("note on", answer.notes)):
        together: dict[str, list[str]] = {}
        for feature, text in said.items():
            together.setdefault(text, []).append(feature)
        for text, features in together.items():
            console.print(f"  {word} {', '.join(features)}: {escape(text)}")
