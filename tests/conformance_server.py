"""The MCP project's own suite for servers, run against ours: `scheduling-gateway serve`, over HTTP, in both eras.

`python -m tests.conformance_server` runs it. Every scenario that the suite has is run, and is in one of the tables
below: those that apply must pass, to each check; those that do not must not begin to; and one that is in no table, or
in a table and not in the suite, fails the run. `python -m tests.conformance_server table` prints what is in
tests/README.md.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.conformance_suite import is_there, say, suite
from tests.process import serving

HANDSHAKE, STATELESS = "0.1.16", "0.2.0-alpha.12"


class Run(NamedTuple):
    """A version of the suite, and the revision of the protocol that it speaks; None: each scenario its newest."""

    version: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.version}, {self.revision or 'extensions'}"

    @property
    def shakes_hands(self) -> bool:
        return self.revision is not None and self.revision < "2026-07-28"


RUNS = (
    Run(HANDSHAKE, "2025-11-25"),
    Run(STATELESS, "2025-06-18"),
    Run(STATELESS, "2025-11-25"),
    Run(STATELESS, "2026-07-28"),
    Run(STATELESS, None),
)

APPLIES = {
    "server-initialize": "the handshake: version, capabilities, who we are",
    "server-stateless": "requests without a handshake: `_meta`, `server/discover`, versions, methods that are gone",
    "server-sse-multiple-streams": "several requests at once, each with its own stream",
    "http-header-validation": "`Mcp-Method` and `Mcp-Name` agree with the body, or the request is refused",
    "caching": "`ttlMs` and `cacheScope` on every list and resource",
    "dns-rebinding-protection": "a foreign `Host` or `Origin` is turned away",
    "ping": "an answer to `ping`",
    "logging-set-level": "`logging/setLevel`, where that is still in the protocol",
    "tools-list": "the tools: their shape, their names, the same order each time",
    "resources-list": "the resources: the page that shows free times",
    "sep-2164-resource-not-found": "a resource that is not there is an error, with its code",
    "prompts-list": "no prompts, said so",
    "input-required-result-unsupported-methods": "nobody is asked for input by a list",
}
"""What passes, and what each looks at."""

OWN_TOOL = "calls a tool of the suite's own example server"
SAYS_NOTHING = {
    "tools-call-simple-text": f"{OWN_TOOL}; that there is none is a text too",
    "tools-call-error": f"{OWN_TOOL} that fails; that there is none is a failure too",
    "input-required-result-ignore-extra-params": f"{OWN_TOOL}, which ignores what it does not know",
}
"""What passes for the wrong reason. It must not fail, for all that the server sends is held against the schema."""

CONTENT = f"{OWN_TOOL}; ours answer with text and structured content"
PROMPT = "asks for a prompt of the suite's own example server; there are none here"
RESOURCE = "reads a resource of the suite's own example server; ours is a page"
ASKS = "asks the client for something: the server keeps no session to ask in, and asks in the stateless era alone"
INPUT = f"{OWN_TOOL} that asks for input; ours asks only for a link to be opened, which tests/test_connecting.py shows"
SKILLS = "an extension that we do not have: skills"
TASKS = "an extension that we do not have: tasks; no call here takes longer than a client waits"
NOT_OURS = {
    "completion-complete": "there is nothing to complete: not declared, and refused as an unknown method",
    "tools-call-image": CONTENT,
    "tools-call-audio": CONTENT,
    "tools-call-embedded-resource": CONTENT,
    "tools-call-mixed-content": CONTENT,
    "tools-call-with-logging": f"{OWN_TOOL} that logs to the client; ours do not",
    "tools-call-with-progress": f"{OWN_TOOL} that tells of its progress; ours answer within seconds",
    "tools-call-sampling": ASKS,
    "tools-call-elicitation": ASKS,
    "elicitation-sep1034-defaults": ASKS,
    "elicitation-sep1330-enums": ASKS,
    "json-schema-2020-12": "looks for a tool of its own example server, with `$defs`; our schemas have no references",
    "server-sse-polling": "resumes a stream: the server keeps no session, and a call's answer is the only event",
    "resources-read-text": RESOURCE,
    "resources-read-binary": RESOURCE,
    "resources-templates-read": RESOURCE,
    "resources-subscribe": "resources that change: ours does not; not declared, and refused as an unknown method",
    "resources-unsubscribe": "resources that change: ours does not; not declared, and refused as an unknown method",
    "prompts-get-simple": PROMPT,
    "prompts-get-with-args": PROMPT,
    "prompts-get-embedded-resource": PROMPT,
    "prompts-get-with-image": PROMPT,
    "http-custom-header-server-validation": "arguments as headers (`x-mcp-header`): no tool asks for that",
    "input-required-result-basic-elicitation": INPUT,
    "input-required-result-basic-sampling": INPUT,
    "input-required-result-basic-list-roots": INPUT,
    "input-required-result-request-state": INPUT,
    "input-required-result-multiple-input-requests": INPUT,
    "input-required-result-multi-round": INPUT,
    "input-required-result-missing-input-response": INPUT,
    "input-required-result-non-tool-request": PROMPT,
    "input-required-result-result-type": INPUT,
    "input-required-result-tampered-state": INPUT,
    "input-required-result-capability-check": INPUT,
    "input-required-result-validate-input": INPUT,
    "sep-2640-skills-directory": SKILLS,
    "sep-2640-skills-enumeration": SKILLS,
    "sep-2640-skills-manifest": SKILLS,
    "tasks-lifecycle": TASKS,
    "tasks-capability-negotiation": TASKS,
    "tasks-wire-fields": TASKS,
    "tasks-request-state-removal": TASKS,
    "tasks-mrtr-input": TASKS,
    "tasks-request-headers": TASKS,
    "tasks-dispatch-and-envelope": TASKS,
    "tasks-status-notifications": TASKS,
    "tasks-required-task-error": TASKS,
    "tasks-mrtr-composition": TASKS,
}
"""What does not apply, and why."""

NO_SESSION = {
    "server-session-lifecycle": "the server keeps no session: any replica answers any request",
    "server-sse-multiple-streams": "streams of one session; the server keeps none",
}
"""What does not apply in the era of the handshake."""

NOT_OUR_CHECKS = {
    "sep-2575-server-rejects-undeclared-capability": f"{OWN_TOOL}, `test_missing_capability`",
    "sep-2575-missing-capability-http-400": f"{OWN_TOOL}, `test_missing_capability`",
}
"""Single checks, of scenarios that apply, that do not. They must not begin to pass either."""


def run() -> int:
    """1 if anything is not as the tables have it, or the suite cannot be had."""
    if not all(map(is_there, (HANDSHAKE, STATELESS))):
        return 1
    wrong: list[str] = []
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            "accounts: {home: {provider: local, time_zone: Europe/Berlin}}\nstorage: {url: 'sqlite:///gateway.db'}\n"
        )
        with serving(config) as server:
            for each in RUNS:
                found = results(each, f"{server.url}/mcp", Path(folder) / str(each))
                said = {scenario: verdict(scenario, checks, each) for scenario, checks in found.items()}
                passed = [name for name, problem in said.items() if problem is None and applies(name, each)]
                say(f"{each}: {len(found)} scenarios run; {len(passed)} apply and pass: {', '.join(passed)}")
                wrong += [f"{each}: {name}: {problem}" for name, problem in said.items() if problem]
                wrong += [] if found else [f"{each}: nothing was run"]
                seen |= found.keys()
            if "Traceback" in server.log:
                wrong.append(f"the server logged a failure:\n{server.log}")
    wrong += [f"{name}: in a table, and not in the suite" for name in {*ours(), *NOT_OURS, *NO_SESSION} - seen]
    say("\n".join(f"FAILED  {each}" for each in wrong) or "all that applies passes")
    return 1 if wrong else 0


def ours() -> set[str]:
    return {*APPLIES, *SAYS_NOTHING}


def applies(scenario: str, each: Run) -> bool:
    return scenario in APPLIES and not (each.shakes_hands and scenario in NO_SESSION)


def results(each: Run, url: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What the suite found, by scenario; without a revision, of the extensions alone."""
    revision = ("--spec-version", each.revision) if each.revision else ()
    line = [*suite(each.version), "server", "--url", url, "--suite", "all", *revision, "-o", str(folder)]
    subprocess.run(line, capture_output=True)
    found = {}
    for file in sorted(folder.glob("*/checks.json")):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name)
        if each.revision or NOT_OURS.get(name) in (SKILLS, TASKS) or name not in {*ours(), *NOT_OURS, *NO_SESSION}:
            found[name] = json.loads(file.read_text())
    return found


def verdict(scenario: str, checks: Iterable[Mapping[str, Any]], each: Run) -> str | None:
    """What is wrong with what a scenario found; None if it is as the tables have it."""
    checks = list(checks)
    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    good = {check["id"] for check in checks if check["status"] == "SUCCESS" and check["id"] != "wire-schema-valid"}
    if (each.shakes_hands and scenario in NO_SESSION) or scenario in NOT_OURS:
        off_schema = [check for check in bad if check["id"] == "wire-schema-valid"]
        return _told(off_schema) or ("is listed as not ours, and passes" if good and not bad else None)
    if scenario not in ours():
        return "is in no table"
    if now := good & NOT_OUR_CHECKS.keys():
        return f"{', '.join(sorted(now))}: listed as not ours, and passes"
    real = [check for check in bad if check["id"] not in NOT_OUR_CHECKS]
    return _told(real) or (None if good else "nothing was checked")


def _told(checks: Iterable[Mapping[str, Any]]) -> str | None:
    return "; ".join(f"{check['id']}: {check.get('errorMessage') or check.get('details')}" for check in checks) or None


def table() -> str:
    """The scenarios, for people."""
    before = {name: f"; in the era of the handshake it does not apply: {why}" for name, why in NO_SESSION.items()}
    none = NOT_OURS | {name: why for name, why in NO_SESSION.items() if name not in APPLIES}
    rows = [([name], what, f"pass{before.get(name, '')}") for name, what in APPLIES.items()]
    rows += [([name], why, "passes, and says nothing of us") for name, why in SAYS_NOTHING.items()]
    for reasons in (NOT_OUR_CHECKS, none):
        for why in dict.fromkeys(reasons.values()):
            rows.append(([name for name in reasons if reasons[name] == why], why, "does not apply"))
    lines = [f"| {', '.join(f'`{name}`' for name in names)} | {what} | {result} |" for names, what, result in rows]
    return "\n".join(["| Scenario or check | What it looks at | Result |", "|---|---|---|", *lines])


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        say(table())
    else:
        sys.exit(run())
