"""The MCP project's conformance suite, a Node program from npm: how to run it, and whether it can be had."""

import shutil
import subprocess
import sys


def suite(version: str) -> tuple[str, ...]:
    """The command that is the suite. It needs Node 22, which npm brings along (2026-11)."""
    return ("npx", "-y", "-p", "node@22", "-p", f"@modelcontextprotocol/conformance@{version}", "conformance")


def is_there(version: str) -> bool:
    """Whether the suite can be had; says why not. What was not run has not passed."""
    if shutil.which("npx") is None:
        say("npx was not found: install Node (https://nodejs.org), which brings it, and run this again")
        return False
    got = subprocess.run([*suite(version), "--version"], capture_output=True, text=True)
    if got.returncode != 0:
        say(f"npm does not give version {version} of the suite: {got.stderr.strip()[-300:]}")
    return got.returncode == 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
