"""The MCP project's own suite for clients that sign in by OAuth, run against ours. tests/README.md says what comes out.

`python -m tests.conformance_client` runs the suite, which is a Node program from npm. It runs this module again for
each scenario, with the URL of a server: then it is a client, and the person who consents.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from providers import SystemClock
from providers.keys import KeyRing
from providers.oauth import OAuthAuth, OAuthClient, OAuthSignIn, Target
from providers.storage import Storage
from providers.vault import Vault
from schemas import NotConnected, PermissionDenied, SchedulingError
from tests.conformance_suite import is_there, say, suite
from tests.emulators.authorization import browser

VERSION = "0.1.16"
ROOT = Path(__file__).parent.parent
SCENARIOS = (
    *("metadata-default", "metadata-var1", "metadata-var2", "metadata-var3", "basic-cimd", "pre-registration"),
    *("scope-from-www-authenticate", "scope-from-scopes-supported", "scope-omitted-when-undefined", "scope-step-up"),
    *("scope-retry-limit", "offline-access-scope", "offline-access-not-supported", "resource-mismatch"),
    *("token-endpoint-auth-basic", "token-endpoint-auth-post", "token-endpoint-auth-none"),
    "2025-03-26-oauth-metadata-backcompat",
)
NOT_OURS = {
    "2025-03-26-oauth-endpoint-fallback": "endpoints are guessed where there is no metadata: no longer in the protocol",
    "client-credentials-jwt": "a program signs in as itself; the gateway acts for a person",
    "client-credentials-basic": "a program signs in as itself; the gateway acts for a person",
    "cross-app-access-complete-flow": "a company's identity provider consents in the person's place",
}
"""Scenarios of the suite that do not apply, and why."""
BACK = "http://localhost:8976/oauth/callback"
# The suite's own client is said to be at this address.
DOCUMENT = "https://conformance-test.local/client-metadata.json"
CONSENTS = 3
"""How often a person consents anew before giving up."""


def run() -> int:
    """1 if a scenario that applies fails, or the suite cannot be had."""
    if not is_there(VERSION):
        return 1
    command = f"{sys.executable} -m tests.conformance_client"
    failed = 0
    # One by one: all at once, which the suite offers, the start of so many programs takes longer than it waits.
    for scenario in SCENARIOS:
        line = [*suite(VERSION), "client", "--command", command, "--scenario", f"auth/{scenario}"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
        checks = re.search(r"Passed: .*", done.stderr + done.stdout)
        say(f"{'ok    ' if done.returncode == 0 else 'FAILED'}  {scenario}  ({checks[0] if checks else 'no result'})")
        if done.returncode != 0:
            failed = 1
            say(done.stderr + done.stdout)
    for scenario, why in NOT_OURS.items():
        say(f"not ours  {scenario}  ({why})")
    return failed


async def act(url: str) -> None:
    """Use the server as the gateway does: call, and let the person sign in whenever that is needed."""
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    auth = OAuthAuth(type="oauth", client_id=given.get("client_id"), client_secret=given.get("client_secret"))
    with tempfile.TemporaryDirectory() as folder:
        storage, clock = Storage(f"sqlite:///{folder}/gateway.db"), SystemClock()
        await storage.open()
        kept = Vault(storage, KeyRing(None, Path(folder) / "gateway.key"), clock)
        client = OAuthClient("work", auth, Target(url), kept, clock, None)
        try:
            for _ in range(CONSENTS):
                try:
                    await use(url, client)
                    return
                except (NotConnected, PermissionDenied) as error:
                    last = error
                await client.finish(await browser(await client.begin(BACK, document=DOCUMENT), None, BACK))
            raise last
        finally:
            await storage.close()


async def use(url: str, client: OAuthClient) -> None:
    """List the tools and call them. Raises what the sign-in raised, wherever it is in what the client raises."""
    try:
        async with Client(StreamableHttpTransport(url, auth=OAuthSignIn(client)), mode="legacy", timeout=10) as server:
            for tool in await server.list_tools():
                await server.call_tool(tool.name, {})
    except Exception as error:
        ours = next((each for each in causes(error) if isinstance(each, SchedulingError)), None)
        raise ours or error from None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            yield from causes(inner)
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    if len(sys.argv) == 1:
        sys.exit(run())
    try:
        anyio.run(act, sys.argv[1])
    except (SchedulingError, httpx2.HTTPError) as error:
        sys.exit(str(error))
