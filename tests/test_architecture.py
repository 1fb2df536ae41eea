"""What holds between the files: who imports whom, what every adapter declares, and that each feature is proven."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers import PROVIDERS, Provider
from schemas import Feature
from tests import behaviour
from tests.stages import STAGES
from tests.toy import Nothing, Toy

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "providers", "gateway")
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SUITE = sorted((ROOT / "tests").glob("test_conformance*.py"))

# About 300; the slack is for a file that would only be torn apart.
LONGEST_FILE = 320

# A new one needs a reason.
STACK = {"pydantic", "httpx2", "anyio", "sqlalchemy"}
SERVING = {
    "pydantic_core",
    "fastmcp",
    "mcp",
    "mcp_types",
    "starlette",
    "uvicorn",
    "yaml",
    "platformdirs",
    "cyclopts",
    "rich",
    "h11",
    "opentelemetry",
}
MAY_IMPORT = {
    "schemas": {"schemas", "pydantic", "pydantic_core"},
    "providers": {"schemas", "providers", "alembic", "tenacity", "tzlocal"} | STACK,
    "gateway": {"schemas", "providers", "gateway"} | STACK | SERVING,
}
# Slow to import and seldom needed: only inside the function that uses it.
MAY_IMPORT_LATE = {
    "schemas": {"email_validator"},
    "providers": {"google", "cryptography", "joserfc", "fastmcp", "mcp", "mcp_types", "asyncpg"},
    "gateway": {"jinja2", "icalendar", "key_value"},
}
DRIVERS = {"aiosqlite", "asyncpg"}
COLD = {"sqlalchemy", "alembic", "tenacity", "tzlocal", "email_validator", "google", "jinja2", "icalendar"} | DRIVERS
COLD_PARTS = ("cryptography.", "joserfc.", "opentelemetry.sdk", "opentelemetry.exporter", "starlette.templating")
BESIDE_FASTMCP = {"h11"}

# What lies in `providers` and is no adapter.
SHARED = {
    *(
        "__init__",
        "auth",
        "base",
        "bridge",
        "clock",
        "hosted",
        "identity",
        "keys",
        "oauth",
        "own",
        "own_store",
        "pace",
        "places",
    ),
    *("rest", "slots", "storage", "upstream", "vault", "watch"),
}

REGISTERED = [PROVIDERS[name][via] for name in PROVIDERS for via in PROVIDERS[name]]
ADAPTERS = [*REGISTERED, Toy, Nothing]
ADAPTER_MODULES = {adapter.__module__.split(".")[1] for adapter in REGISTERED}
OPERATIONS = [feature for feature in Feature if feature.is_operation]
# Methods of a provider that are no feature: nobody can lack them, or they come with another one.
NO_FEATURE = {
    "close",
    "require",
    "notes",
    "must_take",
    "forget",
    "whoami",
    "identity",
    "get_event_type",
    "check_booking",
    "get_schedule",
    "lists",
}

VENDOR = re.compile(r"(?<![a-z])(calendly|google|cal\.com|calcom|cal[ _-]?id(?![a-z]))", re.IGNORECASE)

every_file = pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS)


# Imports


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The dotted names a module imports, and whether it does so only when needed."""
    late = {id(node) for scope in ast.walk(tree) if _is_late(scope) for node in ast.walk(scope)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", id(node) in late) for alias in node.names)


def _is_late(node: ast.AST) -> bool:
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return is_for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def foreign(package: str, tree: ast.Module) -> list[str]:
    """Imports that this package may not make, or not at its start."""
    return [
        name
        for name, late in imported(tree)
        if (top := name.partition(".")[0]) not in MAY_IMPORT[package] | sys.stdlib_module_names
        and not (late and top in MAY_IMPORT_LATE.get(package, ()))
    ]


def adapters_named(tree: ast.Module, adapters: set[str]) -> set[str]:
    """The adapters that are imported, or named as a module in a text."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    names = [name for name, _ in imported(tree)] + [text for text in texts if text.startswith("providers.")]
    parts = [re.split(r"[.:]", name) for name in names]
    return {each[1] for each in parts if each[0] == "providers" and len(each) > 1} & adapters


@every_file
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert foreign(package, parsed(path)) == []


@pytest.mark.parametrize("path", [path for path in CODE if path.is_relative_to(ROOT / "gateway")], ids=lambda p: p.stem)
def test_the_gateway_names_no_adapter_but_asks_the_registry(path: Path) -> None:
    assert adapters_named(parsed(path), ADAPTER_MODULES) == set()


@pytest.mark.parametrize(
    "path",
    [path for path in CODE if path.is_relative_to(ROOT / "providers")],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_adapters_stand_alone(path: Path) -> None:
    """None knows another, and what they share knows none of them; the registry names them all."""
    own = path.relative_to(ROOT / "providers").with_suffix("").parts[0]
    if own != "__init__":
        assert adapters_named(parsed(path), ADAPTER_MODULES - {own}) == set()


def test_every_module_of_providers_is_shared_or_a_registered_adapter() -> None:
    found = {
        path.stem for path in (ROOT / "providers").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found == SHARED | ADAPTER_MODULES


@pytest.mark.parametrize(
    ("package", "line", "is_foreign"),
    [
        ("schemas", "import providers.base", True),
        ("schemas", "from gateway import core", True),
        ("schemas", "import email_validator", True),
        ("schemas", "def f():\n    from email_validator import validate_email", False),
        ("schemas", "import httpx2", True),
        ("schemas", "from pydantic import Field", False),
        ("schemas", "from . import errors", True),
        ("providers", "from gateway.core import Gateway", True),
        ("providers", "def f():\n    import gateway", True),
        ("providers", "if TYPE_CHECKING:\n    from gateway.core import Gateway", True),
        ("providers", "import fastmcp", True),
        ("providers", "import aiosqlite", True),
        ("gateway", "from tests.toy import Toy", True),
        ("gateway", "from zoneinfo import ZoneInfo", False),
    ],
)
def test_a_wrong_import_would_be_seen(package: str, line: str, is_foreign: bool) -> None:
    assert bool(foreign(package, ast.parse(line))) == is_foreign


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("from providers.local import Local", {"local"}),
        ("from providers.local.store import Store", {"local"}),
        ("from providers import local", {"local"}),
        ("import providers.local", {"local"}),
        ("def f():\n    import providers.local.adapter as a", {"local"}),
        ("import_module('providers.local:Local')", {"local"}),
        ("from providers import PROVIDERS", set()),
        ("from providers.slots import merged", set()),
        ("from providers.remote import Remote", set()),
    ],
)
def test_a_named_adapter_would_be_seen(line: str, named: set[str]) -> None:
    assert adapters_named(ast.parse(line), {"local"}) == named


UNTIL_THE_TOOLS_ARE_LISTED = """
import asyncio, sys
from fastmcp import FastMCP
before = set(sys.modules)
import gateway.serving
server = gateway.serving.build_server(gateway.serving.Gateway(gateway.config.default_config()))
assert len(asyncio.run(server.list_tools(run_middleware=True))) > 10
print(*before)
print(*set(sys.modules) - before)
"""


def test_a_desktop_app_has_the_tools_before_anything_is_imported_that_only_some_calls_need() -> None:
    """Over stdio each start is waited for: beyond FastMCP itself there is little."""
    command = [sys.executable, "-c", UNTIL_THE_TOOLS_ARE_LISTED]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    theirs, ours = (line.split() for line in loaded.stdout.splitlines())
    of_theirs, of_ours = ({name.partition(".")[0] for name in names} for names in (theirs, ours))
    assert COLD & (of_theirs | of_ours) == set()
    assert of_ours - of_theirs - sys.stdlib_module_names == {*PACKAGES, *BESIDE_FASTMCP}
    assert [name for name in ours if name.startswith(COLD_PARTS)] == []


# Files


@every_file
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_the_suite_names_no_vendor() -> None:
    """It runs over all of them, so nothing in it may be about one."""
    assert SUITE
    assert {path.name: found for path in SUITE if (found := VENDOR.findall(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize("path", [path for path in CODE if path.is_relative_to(ROOT / "gateway")], ids=lambda p: p.stem)
def test_the_code_of_the_gateway_names_no_vendor(path: Path) -> None:
    assert vendors(parsed(path)) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("if account.provider == 'calendly': pass", ["calendly"]),
        ("GOOGLE = 1", ["GOOGLE"]),
        ("x = a.calcom_url", ["calcom"]),
        ("x = a.cal_id", ["cal_id"]),
        ("def calid(): pass", ["calid"]),
        ("def f(google): pass", ["google"]),
        ("f(google=1)", ["google"]),
        ("import google.auth", ["google"]),
        ("x = f'https://api.cal.com/{y}'", ["cal.com"]),
        ("x = 'local.common, local id'", []),
        ("'''Not Google.'''\nx = 1  # Calendly", []),
        ("def f():\n    '''As Calendly does.'''", []),
        ("app(help='Calendly and Google')", []),
    ],
)
def test_a_vendor_would_be_seen(code: str, found: list[str]) -> None:
    assert vendors(ast.parse(code)) == found


def vendors(tree: ast.Module) -> list[str]:
    """The vendors named in code: in names and texts, not in docstrings, helps or comments."""
    prose = {id(node) for text in _prose(tree) for node in ast.walk(text)}
    words = [word for node in ast.walk(tree) if id(node) not in prose for word in _words(node)]
    return [found for word in words for found in VENDOR.findall(word)]


def _prose(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or (isinstance(node, ast.keyword) and node.arg == "help"):
            yield node


def _words(node: ast.AST) -> Iterator[str]:
    for field in ("id", "attr", "arg", "name", "module", "value"):
        if isinstance(word := getattr(node, field, None), str):
            yield word


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# Adapters


def own_methods(adapter: type[Provider]) -> set[str]:
    return {feature for feature in OPERATIONS if getattr(adapter, feature) is not getattr(Provider, feature)}


@every_adapter
def test_an_operation_is_either_a_gap_or_a_method(adapter: type[Provider]) -> None:
    gaps = {feature for feature in OPERATIONS if feature in adapter.gaps}
    if adapter.rebooks:  # then the gateway does it
        assert Feature.RESCHEDULE_BOOKING in adapter.caveats
        gaps.add(Feature.RESCHEDULE_BOOKING)
    if adapter.guest_page:
        assert Feature.CREATE_SCHEDULING_LINK in adapter.caveats
        gaps.add(Feature.CREATE_SCHEDULING_LINK)
    assert own_methods(adapter) == set(OPERATIONS) - gaps


@every_adapter
def test_an_adapter_says_who_is_signed_in_and_shows_the_event_types_it_lists(adapter: type[Provider]) -> None:
    assert adapter.whoami is not Provider.whoami
    lists = Feature.LIST_EVENT_TYPES not in adapter.gaps
    assert (adapter.get_event_type is not Provider.get_event_type) == lists


@every_adapter
def test_what_an_adapter_declares_is_a_sentence_about_a_feature(adapter: type[Provider]) -> None:
    assert adapter.title.strip()
    for feature, text in [*adapter.gaps.items(), *adapter.caveats.items()]:
        assert isinstance(feature, Feature)
        assert len(text.split()) > 1
        assert text == " ".join(text.split())
        assert text.endswith(".")


@every_adapter
def test_nothing_is_both_a_gap_and_a_caveat(adapter: type[Provider]) -> None:
    assert set(adapter.gaps) & set(adapter.caveats) == set()


def test_the_features_are_the_operations_of_a_provider_and_their_parts() -> None:
    methods = {name for name, _ in inspect.getmembers(Provider, inspect.isfunction) if not name.startswith("_")}
    assert {str(feature) for feature in OPERATIONS} == methods - NO_FEATURE
    assert all(feature.operation in OPERATIONS for feature in Feature)


def test_every_registered_provider_has_a_stage() -> None:
    ways = {name if via == "api" else f"{name} via {via}" for name in PROVIDERS for via in PROVIDERS[name]}
    assert ways - set(STAGES) == set()


def test_every_feature_is_proven_by_the_suite() -> None:
    assert SUITE
    for path in SUITE:
        importlib.import_module(f"tests.{path.stem}")
    assert set(Feature) == behaviour.PROVEN
