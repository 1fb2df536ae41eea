"""The commands. Results go to stdout, everything else to stderr; on stdio nothing but the protocol is on stdout.

Exit codes: 0 fine, 1 an account or connection failed, 2 configuration or usage, 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from gateway.config import Config, ConfigError, find_config, load_config
from gateway.server import NAME, VERSION
from schemas import SchedulingError

ConfigFile = Annotated[
    Path | None,
    Parameter(
        help="The configuration file. Otherwise $SCHEDULING_GATEWAY_CONFIG, ./config.yaml, or config.yaml in the "
        "user's config folder; with none of them, one embedded calendar."
    ),
]

CONNECT_PORT = 8976

app = App(
    name=NAME,
    version=VERSION,
    help="One MCP server in front of Calendly, Cal.com, Cal ID and Google Calendar: find slots, book, move and cancel.",
    help_epilogue="Exit codes: 0 fine, 1 an account or connection failed, 2 configuration or usage, 130 interrupted.",
)


@app.command
def serve(
    *,
    config: ConfigFile = None,
    transport: Annotated[
        Literal["http", "stdio"], Parameter(help="http for one URL and many clients, stdio for a desktop app.")
    ] = "http",
    host: Annotated[str | None, Parameter(help="Address to listen on; beats the file's server.host.")] = None,
    port: Annotated[int | None, Parameter(help="Port to listen on, 0 for any; beats the file's server.port.")] = None,
    legacy: Annotated[
        bool,
        Parameter(
            negative="",
            help="With stdio: speak the handshake era of MCP (2025-11-25 and before) alone, for clients that stumble "
            "over two.",
        ),
    ] = False,
) -> int:
    """Answer MCP clients until interrupted."""
    from gateway import serving

    settings = load_config(config)
    if transport == "stdio":
        if host is not None or port is not None:
            raise ConfigError(["--host and --port go with --transport http"])
        return serving.stdio(settings, legacy=legacy)
    if legacy:
        raise ConfigError(["--legacy goes with --transport stdio; over HTTP each request says its own era"])
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(["--port: must be 0 to 65535"])
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return serving.http(settings.model_copy(update={"server": settings.server.model_copy(update=given)}))


@app.command
def check(
    *,
    config: ConfigFile = None,
    offline: Annotated[bool, Parameter(negative="", help="Look at the file alone; ask no account.")] = False,
) -> int:
    """Check the configuration, and that each account answers: as whom, and what it cannot do."""
    from gateway.checking import check as run

    settings: Config = load_config(config)
    return run(settings, find_config(config), offline=offline)


AccountName = Annotated[str, Parameter(help="The account's name in the configuration.")]


@app.command
def connect(
    account: AccountName,
    *,
    config: ConfigFile = None,
    port: Annotated[
        int, Parameter(help="The local port that the consent comes back to; the vendor has to know it.")
    ] = CONNECT_PORT,
    browser: Annotated[bool, Parameter(help="Open a browser; the link is printed either way.")] = True,
) -> int:
    """Connect an account: sign in and consent in a browser. Ends in a check of the account."""
    from gateway.connect_command import connect as run

    if not 0 < port <= 65535:
        raise ConfigError(["--port: must be 1 to 65535"])
    return run(load_config(config), account, port=port, browser=browser)


@app.command
def disconnect(account: AccountName, *, config: ConfigFile = None) -> int:
    """Revoke an account's consent where the service can do that, and forget it."""
    from gateway.connect_command import disconnect as run

    return run(load_config(config), account)


@app.command
def journal(
    *,
    config: ConfigFile = None,
    unsettled: Annotated[
        bool, Parameter(negative="", help="Only writes of which it is not known what came of them.")
    ] = False,
    limit: Annotated[int, Parameter(help="How many to show.")] = 50,
) -> int:
    """Show the writes that were made, newest first. Nobody's words are in it."""
    from gateway.journal_command import journal as run

    if not 1 <= limit <= 10_000:
        raise ConfigError(["--limit: must be 1 to 10000"])
    return run(load_config(config), most=limit, unsettled=unsettled)


keys = App(name="keys", help="Keys that let clients in, where `server.auth` takes them.")
app.command(keys)


@keys.command(name="add")
def add_key(
    name: Annotated[str, Parameter(help="What it is called, in the journal and the audit too.")],
    *,
    config: ConfigFile = None,
    policy: Annotated[str, Parameter(help="What it may do: a name in server.auth.policies.")] = "default",
    expires: Annotated[str | None, Parameter(help="Until when: 90d, or a day like 2027-01-31; else for ever.")] = None,
) -> int:
    """Make a key and print it, once."""
    from gateway.keys_command import add as run

    return run(load_config(config), name, policy, expires)


@keys.command(name="list")
def list_keys(*, config: ConfigFile = None) -> int:
    """Show which keys there are. None can be shown again."""
    from gateway.keys_command import show as run

    return run(load_config(config))


@keys.command(name="revoke")
def revoke_key(name: Annotated[str, Parameter(help="What it is called.")], *, config: ConfigFile = None) -> int:
    """Take a key back, for good. Its name is not given again."""
    from gateway.keys_command import revoke as run

    return run(load_config(config), name)


@app.command
def audit(
    *,
    config: ConfigFile = None,
    limit: Annotated[int, Parameter(help="How many to show.")] = 50,
    caller: Annotated[str | None, Parameter(help="Only lines of this caller, like local or key:NAME.")] = None,
    account: Annotated[str | None, Parameter(help="Only lines of this account.")] = None,
    heads: Annotated[
        bool, Parameter(negative="", help="Print where each chain has got to, to be kept elsewhere.")
    ] = False,
    verify: Annotated[bool, Parameter(negative="", help="Check that nothing was changed or taken out.")] = False,
    against: Annotated[
        Path | None, Parameter(help="With --verify: a file of heads, all of which have to be there still.")
    ] = None,
    file: Annotated[
        tuple[Path, ...], Parameter(help="Read these files of lines, as put away by log rotation. May be repeated.")
    ] = (),
) -> int:
    """Show who did what, newest first; or check that it is as it was written. Nobody's words are in it."""
    from gateway import audit_command as run

    if not 1 <= limit <= 10_000:
        raise ConfigError(["--limit: must be 1 to 10000"])
    if heads and verify:
        raise ConfigError(["--heads and --verify: say one of them"])
    if against is not None and not verify:
        raise ConfigError(["--against goes with --verify"])
    settings = load_config(config)
    if heads:
        return run.heads(settings, file)
    if verify:
        return run.verify(settings, file, against)
    return run.show(settings, file, most=limit, caller=caller, account=account)


@app.command
def demo() -> int:
    """Book, move and cancel a meeting on an embedded calendar, through a real MCP client. Leaves nothing behind."""
    from gateway.demo import run

    return run()


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command and exits with its code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        code = 2
    except ConfigError as error:
        _complain(f"The configuration cannot be used.\n{error}")
        code = 2
    except SchedulingError as error:
        _complain(error.message)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _complain(text: str) -> None:
    sys.stderr.write(f"{NAME}: {text}\n")


if __name__ == "__main__":
    main()
