"""Documents that cannot lie: what they show is what the code says and does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.config import parse_config
from gateway.matrix import BEGIN, all_adapters, filled, table
from gateway.tools import TOOLS
from providers import PROVIDERS
from schemas import ERRORS, Feature
from tests.toy import Nothing, Toy

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "config.example.yaml").read_text(encoding="utf-8")


def test_the_readmes_capabilities_are_what_the_adapters_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("toy", "nothing"):  # the tests' own, which no reader meets
        monkeypatch.delitem(PROVIDERS, name)
    assert BEGIN in README
    assert filled(README, all_adapters()) == README, "run `make readme`"


def test_each_service_has_its_limits_and_quirks_in_the_readme() -> None:
    for name in set(all_adapters()) - {"toy", "nothing", "local"}:
        _, _, section = README.partition(f"<!-- {name}: begin -->")
        numbers, _, quirks = section.partition(f"<!-- {name}: end -->")[0].partition("**Quirks**")
        assert "\n- " in numbers or name.endswith("(mcp)"), name
        assert "\n- " in quirks, name


def test_the_capability_table_tells_gaps_from_caveats() -> None:
    rows = table({"toy": Toy, "nothing": Nothing}).splitlines()
    cells = {row.split("`")[1]: row.split("|")[2].strip() for row in rows if row.startswith("| `")}
    assert cells.keys() == set(Feature)
    assert cells["find_slots"] == "✓"
    assert cells["cancel_booking"].startswith("✓ [")
    assert cells["save_event_type"].startswith("– [")
    assert cells["create_scheduling_link.reusable"] == "–"


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_every_tool_is_in_the_readme(spec: Any) -> None:
    assert f"`{spec.name}`" in README


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_code_is_in_the_readme(code: str) -> None:
    assert f"`{code}`" in README


TOKENS = {
    "CALENDLY_TOKEN": "a-token",
    "CALCOM_API_KEY": "cal_a_key",
    "CALID_TOKEN": "calid_a_key",
    "GOOGLE_CLIENT_ID": "an-id",
    "GOOGLE_CLIENT_SECRET": "a-secret",
}


@pytest.fixture(autouse=True)
def _google_credentials(tmp_path: Path) -> None:
    keys = ("client_id", "client_secret", "refresh_token")
    (tmp_path / "google.json").write_text(json.dumps({"type": "authorized_user", **dict.fromkeys(keys, "a-secret")}))


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    config = parse_config(EXAMPLE, TOKENS, folder=tmp_path)
    ways = {(name, via) for name in set(PROVIDERS) - {"toy", "nothing"} for via in PROVIDERS[name]}
    assert {(account.provider, account.via) for account in config.accounts.values()} == ways


def test_the_example_configuration_shows_the_defaults(tmp_path: Path) -> None:
    for account in parse_config(EXAMPLE, TOKENS, folder=tmp_path).accounts.values():
        needed = {name: getattr(account, name) for name in ("provider", "via", "auth") if hasattr(account, name)}
        if "auth" in needed:
            assert type(account)(**needed) == account


@pytest.mark.parametrize("provider", ["local", "calcom", "calendly", "calid", "google_calendar"])
def test_the_example_configuration_has_every_key(provider: str) -> None:
    for faces in (PROVIDERS[provider],):
        for adapter in faces.values():
            keys = set(adapter.Config.model_fields) - {"via"}
            assert all(re.search(rf"\b{key}:", EXAMPLE) for key in keys), keys


def test_yaml_in_the_readme_is_valid_configuration(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        parse_config(block, TOKENS, folder=tmp_path)


def test_commands_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([a-z]+)`", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.txt")) + sorted(ROOT.glob("*.toml")), ids=lambda path: path.name)
def test_pins_carry_no_addresses(path: Path) -> None:
    assert not re.search(r"https?://|file:", path.read_text(encoding="utf-8"))


def test_the_token_counts_in_the_readme_are_the_snapshots() -> None:
    snapshot = json.loads((ROOT / "tests" / "snapshots" / "tools.json").read_text(encoding="utf-8"))
    for count in (snapshot["tokens_for_the_model"], snapshot["tokens_in_all"]):
        assert f"{count:,}" in README
