"""What is made of the findings of the MCP project's suite for servers; `make conformance` runs it."""

from pathlib import Path
from typing import Any

import pytest

from tests.conformance_server import (
    APPLIES,
    NO_SESSION,
    NOT_OUR_CHECKS,
    NOT_OURS,
    RUNS,
    SAYS_NOTHING,
    Run,
    table,
    verdict,
)

STATELESS, BEFORE = Run("2", "2026-07-28"), Run("1", "2025-11-25")
EXCUSED = next(iter(NOT_OUR_CHECKS))


def checks(**statuses: str) -> list[dict[str, Any]]:
    return [{"id": id.replace("_", "-"), "status": status} for id, status in statuses.items()]


@pytest.mark.parametrize(
    ("scenario", "found", "run", "is_right"),
    [
        ("tools-list", checks(tools="SUCCESS"), STATELESS, True),
        ("tools-list", checks(tools="SUCCESS", more="SKIPPED"), STATELESS, True),
        ("tools-list", checks(tools="SUCCESS", more="FAILURE"), STATELESS, False),
        ("tools-list", checks(tools="SUCCESS", more="WARNING"), STATELESS, False),
        ("tools-list", checks(tools="SKIPPED"), STATELESS, False),
        ("tools-list", checks(wire_schema_valid="SUCCESS"), STATELESS, False),
        ("tools-list", [], STATELESS, False),
        ("tools-call-image", checks(image="FAILURE"), STATELESS, True),
        ("tools-call-image", checks(image="SKIPPED"), STATELESS, True),
        ("tools-call-image", checks(image="SUCCESS"), STATELESS, False),
        ("tools-call-image", checks(image="FAILURE", wire_schema_valid="FAILURE"), STATELESS, False),
        ("tools-call-simple-text", checks(text="SUCCESS"), BEFORE, True),
        ("tools-call-simple-text", checks(text="FAILURE"), BEFORE, False),
        ("server-sse-multiple-streams", checks(session="WARNING"), BEFORE, True),
        ("server-sse-multiple-streams", checks(session="WARNING"), STATELESS, False),
        ("server-sse-multiple-streams", checks(session="SUCCESS"), BEFORE, False),
        ("server-stateless", [*checks(meta="SUCCESS"), {"id": EXCUSED, "status": "FAILURE"}], STATELESS, True),
        ("server-stateless", [*checks(meta="SUCCESS"), {"id": EXCUSED, "status": "SUCCESS"}], STATELESS, False),
        ("server-stateless", [*checks(meta="FAILURE"), {"id": EXCUSED, "status": "FAILURE"}], STATELESS, False),
        ("tools-call-by-post", checks(tools="SUCCESS"), STATELESS, False),
    ],
)
def test_what_is_not_as_listed_is_told(scenario: str, found: list[dict[str, Any]], run: Run, is_right: bool) -> None:
    assert (verdict(scenario, found, run) is None) == is_right


def test_a_scenario_is_listed_once() -> None:
    listed = [*APPLIES, *SAYS_NOTHING, *NOT_OURS]
    assert len(listed) == len(set(listed))
    assert not NO_SESSION.keys() & (SAYS_NOTHING.keys() | NOT_OURS.keys())


def test_both_eras_are_run() -> None:
    assert {run.shakes_hands for run in RUNS if run.revision} == {True, False}


def test_the_readme_of_the_tests_lists_the_scenarios() -> None:
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- server scenarios: begin -->\n")[2].partition("\n<!-- server scenarios: end -->")[0]
    assert shown == table(), "python -m tests.conformance_server table"
