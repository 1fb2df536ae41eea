"""`scheduling-gateway keys`: keys made, shown and revoked."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import anyio
from rich.console import Console
from rich.table import Table

from gateway.config import Config, ConfigError
from gateway.core import Gateway
from gateway.server_config import KeysAuth, NoAuth, OAuthAuth
from schemas import SchedulingError

T = TypeVar("T")


def add(config: Config, name: str, policy: str, expires: str | None) -> int:
    """Print a new key, once. Raises ConfigError for a policy, a name or a time that will not do."""
    auth = _auth(config)
    if auth.policy(policy) is None:
        known = ", ".join(["default", *(each for each in auth.policies if each != "default")])
        raise ConfigError([f"--policy: must be one of {known}; policies stand in server.auth.policies"])

    async def make(gateway: Gateway) -> str:
        until = _until(expires, gateway.clock.now())
        try:
            key = await gateway.keys.add(name, policy, until)
        except SchedulingError as error:
            raise ConfigError([error.message]) from None
        await gateway.audit.record("add_key", reference=name)
        return key

    key = _run(config, make)
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    console.print(f"The key {name}, under the policy {policy}. It is shown once, here:\n")
    # Alone on stdout, to be piped.
    Console(highlight=False, soft_wrap=True).print(key)
    console.print("\nA client sends it as `Authorization: Bearer KEY`.")
    return 0


def show(config: Config) -> int:
    """Print which keys there are. 0, be there any or not."""

    async def read(gateway: Gateway) -> tuple[list[tuple[str, ...]], int]:
        now = int(gateway.clock.now().timestamp())
        found = await gateway.keys.all()
        return [(k.name, k.policy, k.state(now), _day(k.created), _day(k.expires)) for k in found], now

    rows, _ = _run(config, read)
    console = Console(highlight=False)
    if not rows:
        console.print("There are no keys. Make one with: scheduling-gateway keys add NAME")
        return 0
    table = Table("Name", "Policy", "State", "Made (UTC)", "Until (UTC)")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return 0


def revoke(config: Config, name: str) -> int:
    """Take a key back. 1 if there is none of that name that is good."""

    console = Console(highlight=False)

    async def take_back(gateway: Gateway) -> bool:
        if not await gateway.keys.revoke(name):
            return False
        await gateway.audit.record("revoke_key", reference=name)
        links = await gateway.links.revoke_of(f"key:{name}")
        if links:
            console.print(f"Taken back with it: {links} links to book that it had made.")
        return True

    if not _run(config, take_back):
        console.print(f"There is no key called {name} that is not revoked. See: scheduling-gateway keys list")
        return 1
    console.print(f"{name} is revoked. Gateways that run take it for at most two more seconds.")
    return 0


def _run(config: Config, work: Callable[[Gateway], Awaitable[T]]) -> T:
    async def run() -> T:
        gateway = Gateway(config)
        await gateway.open()
        try:
            return await work(gateway)
        finally:
            await gateway.close()

    return anyio.run(run)


def _auth(config: Config) -> KeysAuth | OAuthAuth:
    auth = config.server.auth
    if isinstance(auth, NoAuth) or (isinstance(auth, OAuthAuth) and not auth.keys):
        raise ConfigError(["server.auth takes no keys; set `type: keys`, or `keys: true` beside `type: oauth`"])
    return auth


def _until(given: str | None, now: datetime) -> int | None:
    """When a key ends: after so many days, or at the end of a day in UTC."""
    if given is None:
        return None
    if days := re.fullmatch(r"([1-9][0-9]{0,3})d", given):
        return int((now + timedelta(days=int(days[1]))).timestamp())
    try:
        end = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except ValueError:
        raise ConfigError(["--expires: is written like 90d or 2027-01-31"]) from None
    if end <= now:
        raise ConfigError(["--expires: is in the past"])
    return int(end.timestamp())


def _day(at: int | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
