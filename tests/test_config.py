"""The configuration file: what it may say, where it is found, and how its mistakes are told without telling secrets."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from platformdirs import user_config_path, user_data_path
from pydantic import SecretStr

from gateway.config import (
    APP,
    Config,
    ConfigError,
    default_config,
    find_config,
    load_config,
    parse_config,
)
from gateway.server_config import ServerConfig
from providers import AccountConfig
from providers.local.config import LocalConfig
from providers.own import OwnEventType, OwnQuestion
from schemas import Model

HOME = "accounts: {home: {provider: local}}\n"
FOLDER = Path("/srv/gateway")
SECRET = "hunter2"  # a word that any rule for slugs and keys lets pass


def parsed(text: str, **environ: str) -> Config:
    return parse_config(text, environ, folder=FOLDER)


def refused(text: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parsed(text, **environ)
    assert caught.value.mistakes
    return caught.value


def paths(error: ConfigError) -> list[str]:
    return [mistake.partition(": ")[0] for mistake in error.mistakes]


INTRO = "slug: intro, title: Intro, duration_minutes: 30"


def account(keys: str) -> str:
    return f"accounts: {{home: {{provider: local, {keys}}}}}"


def event_type(keys: str) -> str:
    return account(f"event_types: [{{{keys}}}]")


def intro(keys: str) -> str:
    return event_type(f"{INTRO}, {keys}")


def question(keys: str) -> str:
    return intro(f"questions: [{{{keys}}}]")


KIND = "accounts.home.event_types[0]"
QUESTION = f"{KIND}.questions[0]"


# What a file may say.


def test_an_account_needs_its_provider_alone() -> None:
    assert parsed(HOME).accounts == {"home": LocalConfig(provider="local", via="api")}


def test_every_documented_key_of_a_local_account_arrives() -> None:
    config = parsed("""
accounts:
  home:
    provider: local
    via: api
    time_zone: Europe/Berlin
    working_hours:
      monday: ["09:00-12:00", "13:00-17:00"]
      friday: 09:00-12:00
      sunday: []
    event_types:
      - slug: intro-call
        title: Intro call
        duration_minutes: 30
        description: |
          We talk.
          Bring tea.
        location: Room 5
        active: false
        buffer_before_minutes: 5
        buffer_after_minutes: 10
        minimum_notice_minutes: 60
        slot_step_minutes: 15
        booking_window_days: 14
        max_per_day: 3
        requires_confirmation: true
        questions:
          - {key: company, label: Company, required: true}
          - {key: topic, label: Topic, type: choice, options: [Sales, Support]}
""")
    assert config.accounts["home"] == LocalConfig(
        provider="local",
        time_zone="Europe/Berlin",
        working_hours={"monday": ("09:00-12:00", "13:00-17:00"), "friday": ("09:00-12:00",), "sunday": ()},
        event_types=(
            OwnEventType(
                slug="intro-call",
                title="Intro call",
                duration_minutes=30,
                description="We talk.\nBring tea.",
                location="Room 5",
                active=False,
                buffer_before_minutes=5,
                buffer_after_minutes=10,
                minimum_notice_minutes=60,
                slot_step_minutes=15,
                booking_window_days=14,
                max_per_day=3,
                requires_confirmation=True,
                questions=(
                    OwnQuestion(key="company", label="Company", required=True),
                    OwnQuestion(key="topic", label="Topic", type="choice", options=("Sales", "Support")),
                ),
            ),
        ),
    )


def test_an_event_type_that_says_no_more_is_active_unrestricted_and_confirmed_at_once() -> None:
    (found,) = parsed(event_type(INTRO)).accounts["home"].event_types
    assert found.model_dump() == {
        "slug": "intro",
        "title": "Intro",
        "duration_minutes": 30,
        "description": None,
        "location": None,
        "active": True,
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 0,
        "minimum_notice_minutes": 0,
        "slot_step_minutes": None,
        "booking_window_days": None,
        "max_per_day": None,
        "requires_confirmation": False,
        "questions": (),
    }


def test_the_server_is_set_by_its_keys() -> None:
    config = parsed(HOME + "server: {host: '::1', port: 9000, path: /a/b, public_url: https://sched.example.com}")
    assert config.server == ServerConfig(host="::1", port=9000, path="/a/b", public_url="https://sched.example.com")


def test_the_server_listens_on_this_machine_alone_unless_told() -> None:
    assert parsed(HOME).server == ServerConfig(host="127.0.0.1", port=8080, path="/mcp", public_url=None)


def test_several_accounts_may_share_a_provider() -> None:
    config = parsed("accounts: {home: {provider: local}, club: {provider: local, time_zone: Asia/Tokyo}}")
    assert {name: account.time_zone for name, account in config.accounts.items()} == {
        "home": None,
        "club": "Asia/Tokyo",
    }


def test_a_merge_key_shares_settings_between_accounts() -> None:
    config = parsed("""
accounts:
  home: &usual {provider: local, time_zone: Asia/Tokyo}
  club:
    <<: *usual
    working_hours: {}
""")
    assert config.accounts["club"] == LocalConfig(provider="local", time_zone="Asia/Tokyo", working_hours={})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(HOME, encoding="utf-8-sig")
    assert list(load_config(file).accounts) == ["home"]


@pytest.mark.parametrize("name", ["a", "a" * 32, "work-2_x"])
def test_an_account_name_is_lower_case_letters_digits_and_dashes(name: str) -> None:
    assert list(parsed(f"accounts: {{{name}: {{provider: local}}}}").accounts) == [name]


# Variables.


def title(value: str, **environ: str) -> Any:
    """What becomes of `value` in a place that takes any text."""
    config = parsed(event_type(f"slug: intro, duration_minutes: 30, title: {value}"), **environ)
    return config.accounts["home"].event_types[0].title


@pytest.mark.parametrize(
    ("written", "environ", "read"),
    [
        ('"${A}"', {"A": "x"}, "x"),
        ('"<${A}${B}>"', {"A": "x", "B": "y"}, "<xy>"),
        ('"${A:-z}"', {"A": "x"}, "x"),
        ('"${A:-z}"', {}, "z"),
        ('"${A:-z}"', {"A": ""}, "z"),
        ('"${A:-a b: c}"', {}, "a b: c"),
        ('"z${A:-}"', {}, "z"),
        ('"z${A}"', {"A": ""}, "z"),
        ('"$${A}"', {"A": "x"}, "${A}"),
        ('"$${A:-z}"', {}, "${A:-z}"),
        ('"$${A} ${A}"', {"A": "x"}, "${A} x"),
        ('"$A costs 5 $"', {"A": "x"}, "$A costs 5 $"),
        # Read after the YAML: what a variable holds is never more than text.
        ("'${A}'", {"A": "a: b # c"}, "a: b # c"),
        ("'${A}'", {"A": "[1, 2]"}, "[1, 2]"),
        ("'${A}'", {"A": "${B}", "B": "x"}, "${B}"),
    ],
)
def test_a_variable_is_read_from_the_environment(written: str, environ: dict[str, str], read: str) -> None:
    assert title(written, **environ) == read


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("duration_minutes", "45", 45),
        ("buffer_before_minutes", "5", 5),
        ("buffer_after_minutes", "5", 5),
        ("minimum_notice_minutes", "5", 5),
        ("slot_step_minutes", "5", 5),
        ("booking_window_days", "5", 5),
        ("max_per_day", "5", 5),
        ("active", "false", False),
        ("requires_confirmation", "true", True),
    ],
)
def test_numbers_and_booleans_come_out_of_variables(key: str, text: str, value: object) -> None:
    others = "slug: intro, title: Intro" + ("" if key == "duration_minutes" else ", duration_minutes: 30")
    config = parsed(event_type(f"{others}, {key}: '${{IT}}'"), IT=text)
    assert getattr(config.accounts["home"].event_types[0], key) == value


def test_the_port_comes_out_of_a_variable() -> None:
    assert parsed(HOME + "server: {port: '${PORT:-9000}'}").server.port == 9000


def test_variables_are_read_deep_inside_lists() -> None:
    text = "accounts: {home: {provider: local, working_hours: {monday: ['${OPEN}-12:00', '13:00-${CLOSE}']}}}"
    config = parsed(text, OPEN="08:00", CLOSE="18:00")
    assert config.accounts["home"].working_hours == {"monday": ("08:00-12:00", "13:00-18:00")}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (HOME + "server: {host: '${NOPE}'}", "server.host"),
        (event_type("slug: intro, title: 'a ${NOPE}', duration_minutes: 30"), f"{KIND}.title"),
        # What stands in its place until then is not a mistake of its own.
        (HOME + "server: {port: '${NOPE}'}", "server.port"),
    ],
)
def test_an_unset_variable_is_a_mistake_at_its_place(text: str, path: str) -> None:
    error = refused(text)
    assert paths(error) == [path]
    assert "NOPE" in error.mistakes[0]


@pytest.mark.parametrize("written", ["${", "${}", "${1A}", "${A", "${A-b}", "${A:b}"])
def test_a_reference_that_names_no_variable_is_a_mistake(written: str) -> None:
    error = refused(HOME + f"server: {{host: 'x{written}'}}", A="x")
    assert paths(error) == ["server.host"]
    assert "$${" in error.mistakes[0], "it should say how a literal one is written"


def test_keys_hold_no_variables() -> None:
    assert paths(refused("accounts: {'${NAME}': {provider: local}}", NAME="home")) == ["accounts.${NAME}"]


def test_comments_hold_no_variables() -> None:
    assert parsed(HOME + "# ${NOPE}").accounts


# Mistakes.


def test_all_mistakes_of_a_file_are_told_at_once_by_their_paths() -> None:
    error = refused(
        """
accounts:
  home: {provider: local, time_zone: Europe/Nowhere, colour: red}
  Work: {provider: local}
  cal:
    provider: local
    event_types: [{slug: intro, title: Intro, duration_minutes: ages}]
server: {port: 99999, host: "${NOPE}"}
"""
    )
    assert sorted(paths(error)) == [
        "accounts.Work",
        "accounts.cal.event_types[0].duration_minutes",
        "accounts.home.colour",
        "accounts.home.time_zone",
        "server.host",
        "server.port",
    ]
    assert "6 mistakes" in str(error)
    assert all(mistake in str(error) for mistake in error.mistakes)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (HOME + "acounts: {}", "acounts"),
        (HOME + "server: {prot: 1}", "server.prot"),
        (HOME + "storage: {url: 'sqlite:///a.db', uri: x}", "storage.uri"),
        (account("timezone: UTC"), "accounts.home.timezone"),
        (intro("length: 5"), f"{KIND}.length"),
        (question("key: a, label: A, hint: b"), f"{QUESTION}.hint"),
        # Words that also stand in pydantic's own paths.
        (HOME + "list: 1", "list"),
        (HOME + "server: {tuple: 1}", "server.tuple"),
        (account("str: 1"), "accounts.home.str"),
        (HOME + "'a[0]': 1", "a[0]"),
    ],
)
def test_an_unknown_key_is_a_mistake(text: str, path: str) -> None:
    assert paths(refused(text)) == [path]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("server: {}", "accounts"),
        ("accounts:", "accounts"),
        ("accounts: {}", "accounts"),
        ("accounts: [home]", "accounts"),
        ("accounts: home", "accounts"),
        ("accounts: {home: }", "accounts.home"),
        ("accounts: {home: local}", "accounts.home"),
        ("accounts: {home: {}}", "accounts.home.provider"),
        (account("time_zone: 5"), "accounts.home.time_zone"),
        (account("working_hours: {montag: []}"), "accounts.home.working_hours.montag"),
        (account("working_hours: {monday: 9-5}"), "accounts.home.working_hours.monday"),
        (account("event_types: {}"), "accounts.home.event_types"),
        (event_type("title: A, duration_minutes: 30"), f"{KIND}.slug"),
        (event_type("slug: a b, title: A, duration_minutes: 30"), f"{KIND}.slug"),
        (event_type("slug: a, title: '', duration_minutes: 30"), f"{KIND}.title"),
        (event_type("slug: a, title: A, duration_minutes: 0"), f"{KIND}.duration_minutes"),
        (intro("active: perhaps"), f"{KIND}.active"),
        (intro("max_per_day: 0"), f"{KIND}.max_per_day"),
        (intro("questions: [{key: a, label: A}, {key: a, label: B}]"), KIND),
        (question("key: A, label: A"), f"{QUESTION}.key"),
        (question("key: a, label: A, type: x"), f"{QUESTION}.type"),
        (question("key: a, label: A, type: choice"), QUESTION),
        (question("key: a, label: A, options: [B]"), QUESTION),
        (HOME + "server:", "server"),
        (HOME + "server: 8080", "server"),
        (HOME + "server: {port: -1}", "server.port"),
        (HOME + "server: {port: 65536}", "server.port"),
        (HOME + "server: {port: 1.5}", "server.port"),
        (HOME + "server: {path: mcp}", "server.path"),
        (HOME + "server: {path: /}", "server.path"),
        (HOME + "server: {path: /a b}", "server.path"),
        (HOME + "server: {public_url: sched.example.com}", "server.public_url"),
        (HOME + "server: {public_url: 'ftp://sched.example.com'}", "server.public_url"),
        (HOME + "storage: {}", "storage.url"),
    ],
)
def test_a_wrong_value_is_told_by_its_path(text: str, path: str) -> None:
    assert paths(refused(text)) == [path]


def test_an_unknown_provider_is_told_what_is_built() -> None:
    error = refused("accounts: {cal: {provider: google_wave}}")
    assert paths(error) == ["accounts.cal.provider"]
    assert "local" in error.mistakes[0]


def test_an_unknown_via_is_told_what_is_built() -> None:
    error = refused("accounts: {cal: {provider: local, via: mcp}}")
    assert paths(error) == ["accounts.cal.via"]
    assert "api" in error.mistakes[0]


@pytest.mark.parametrize("name", ["Work", "1st", "_a", "a b", "a.b", "a:b", "ärzte", "", "a" * 33])
def test_a_bad_account_name_is_a_mistake(name: str) -> None:
    assert paths(refused(f"accounts: {{'{name}': {{provider: local}}}}")) == [f"accounts.{name}"]


def test_event_types_of_one_account_have_a_slug_each() -> None:
    twin = "title: Intro again, duration_minutes: 30, slug: INTRO"
    assert paths(refused(account(f"event_types: [{{{INTRO}}}, {{{twin}}}]"))) == ["accounts.home.event_types"]


def test_event_types_of_two_accounts_may_share_a_slug() -> None:
    kinds = f"{{provider: local, event_types: [{{{INTRO}}}]}}"
    config = parsed(f"accounts: {{home: {kinds}, club: {kinds}}}")
    assert config.accounts["home"] == config.accounts["club"]


# Text that is no configuration.


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("accounts:\n  home: {provider: local}\n  home: {provider: local}\n", 3, "home"),
        ("accounts: {home: {provider: local}}\nserver: {}\naccounts: {}\n", 3, "accounts"),
        ("accounts:\n  home:\n    provider: local\n    provider: local\n", 4, "provider"),
        ("accounts:\n  home:\n    'provider': local\n    provider: local\n", 4, "provider"),
    ],
)
def test_a_key_that_stands_twice_is_a_mistake_at_its_line(text: str, line: int, key: str) -> None:
    (mistake,) = refused(text).mistakes
    assert f"line {line}:" in mistake
    assert key in mistake


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("accounts:\n  home: provider: local\n", 2),
        ("accounts:\n  home: {provider: local\n  club: x\n", 3),
        ("accounts:\n\thome: {}\n", 2),
        ("accounts: {home: {provider: @local}}\n", 1),
        ("accounts: {}\n---\naccounts: {}\n", 2),
        ("accounts:\n  home: !!python/object:os.system {}\n", 2),
    ],
)
def test_broken_yaml_is_told_with_its_line(text: str, line: int) -> None:
    (mistake,) = refused(text).mistakes
    assert f"line {line}:" in mistake


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "- accounts\n", "accounts", "42", "null"])
def test_a_file_must_hold_names_and_values(text: str) -> None:
    (mistake,) = refused(text).mistakes
    assert "accounts" in mistake


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HOME + "server: {host: \x07}", id="a control character"),
        pytest.param(HOME + "server: {host: 2026-13-45}", id="a date that does not exist"),
        pytest.param(HOME + "server: {port: !!int many}", id="a number that is none"),
        pytest.param(HOME + f"server: {{port: {'1' * 5000}}}", id="a number without end"),
        pytest.param("accounts: &all {home: *all}", id="a value that contains itself"),
        pytest.param("? !!set {a}\n: 1\n", id="a set for a key"),
        pytest.param("? [a]\n: 1\n", id="a list for a key"),
    ],
)
def test_whatever_yaml_cannot_build_is_a_mistake_and_no_crash(text: str) -> None:
    refused(text)


# Secrets.


TWIN = "{slug: '${SECRET}', title: Intro, duration_minutes: 30}"
TWINS = account(f"event_types: [{TWIN}, {TWIN}]")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("accounts: '${SECRET}'", "accounts"),
        ("accounts: {home: '${SECRET}'}", "accounts.home"),
        ("accounts: {home: ['${SECRET}']}", "accounts.home"),
        ("accounts: {home: {provider: '${SECRET}'}}", "accounts.home.provider"),
        (account("via: '${SECRET}'"), "accounts.home.via"),
        (account("token: '${SECRET}'"), "accounts.home.token"),
        (account("auth: {type: bearer, token: '${SECRET}'}"), "accounts.home.auth"),
        (account("time_zone: '${SECRET}'"), "accounts.home.time_zone"),
        (account("time_zone: 'Europe/${SECRET}'"), "accounts.home.time_zone"),
        (account("working_hours: '${SECRET}'"), "accounts.home.working_hours"),
        (account("working_hours: {monday: '${SECRET}'}"), "accounts.home.working_hours.monday"),
        (account("working_hours: {friday: ['${SECRET}']}"), "accounts.home.working_hours.friday"),
        (account("event_types: '${SECRET}'"), "accounts.home.event_types"),
        (account("event_types: ['${SECRET}']"), KIND),
        (event_type("slug: '${SECRET}!', title: A, duration_minutes: 30"), f"{KIND}.slug"),
        (TWINS, "accounts.home.event_types"),
        (event_type('slug: a, title: "${SECRET}\\a", duration_minutes: 30'), f"{KIND}.title"),
        (event_type("slug: a, title: ['${SECRET}'], duration_minutes: 30"), f"{KIND}.title"),
        (event_type("slug: a, title: A, duration_minutes: '${SECRET}'"), f"{KIND}.duration_minutes"),
        (event_type("slug: a, title: A, duration_minutes: '${LARGE}'"), f"{KIND}.duration_minutes"),
        (intro("colour: '${SECRET}'"), f"{KIND}.colour"),
        (intro("active: '${SECRET}'"), f"{KIND}.active"),
        (intro("questions: '${SECRET}'"), f"{KIND}.questions"),
        (intro("questions: [{key: '${SECRET}', label: A}, {key: '${SECRET}', label: B}]"), KIND),
        (question("key: '${SECRET}!', label: A"), f"{QUESTION}.key"),
        (question("key: a, label: A, type: '${SECRET}'"), f"{QUESTION}.type"),
        (question("key: a, label: A, options: ['${SECRET}']"), QUESTION),
        (HOME + "unknown: '${SECRET}'", "unknown"),
        (HOME + "unknown: [{a: '${SECRET}'}]", "unknown"),
        (HOME + "server: '${SECRET}'", "server"),
        (HOME + "server: {auth: {keys: ['${SECRET}']}}", "server.auth.keys"),
        (HOME + "server: {host: ['${SECRET}']}", "server.host"),
        (HOME + "server: {port: '${SECRET}'}", "server.port"),
        (HOME + "server: {port: '${LARGE}'}", "server.port"),
        (HOME + "server: {port: '${UNSET:-hunter2}'}", "server.port"),
        (HOME + "server: {path: '${SECRET}'}", "server.path"),
        (HOME + "server: {public_url: '${SECRET}'}", "server.public_url"),
        (HOME + "storage: '${SECRET}'", "storage"),
        (HOME + "storage: {url: '${SECRET}'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:${SECRET}@db'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:a/${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:1/${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:a#${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:a?${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:1/a?${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:a@${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://me:a ${SECRET}@db/gateway'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://db/gateway?password=${SECRET}'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://db/gateway?${SECRET}=1'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql://db/gateway?sslmode=${SECRET}'}", "storage.url"),
        (HOME + "storage: {url: 'postgresql+asyncpg://me:${SECRET}@db/gateway'}", "storage.url"),
        ("accounts: {it: {provider: toy, base_url: 'https://toy.example', token: ['${SECRET}']}}", "accounts.it.token"),
        ("accounts: {it: {provider: toy, token: '${SECRET}'}}", "accounts.it.base_url"),
        ("accounts: {it: {provider: toy, token: '${SECRET}', base_url: '${SECRET}'}}", "accounts.it.base_url"),
        ("accounts: {it: {provider: toy, token: '${SECRET}', base_url: ['${SECRET}']}}", "accounts.it.base_url"),
    ],
)
def test_no_secret_is_told_wherever_it_was_put(text: str, path: str) -> None:
    error = refused(text, SECRET=SECRET, LARGE="9" * 30)
    # A traceback names causes too, and those know what was read.
    said = "".join(traceback.format_exception(error)).lower()
    assert SECRET not in said
    assert "9" * 30 not in said
    assert paths(error) == [path]


@pytest.mark.parametrize(
    "token", [f"{mark}{SECRET}" for mark in ("*", "!", "%", "@", "`", '"', "'", "a: ", "| ", "> ")]
)
def test_no_secret_is_told_that_is_itself_broken_yaml(token: str) -> None:
    error = refused(f"accounts:\n  it:\n    token: {token}\n    provider: toy\n    base_url: https://toy.example\n")
    assert SECRET not in "".join(traceback.format_exception(error))


def test_a_configuration_shows_no_secret() -> None:
    config = parsed(
        "accounts: {it: {provider: toy, base_url: 'https://toy.example', token: '${SECRET}'}}", SECRET=SECRET
    )
    assert config.accounts["it"].secrets() == (SECRET,)
    assert SECRET not in f"{config!r} {config} {config.accounts} {config.model_dump_json()}"


class Grant(Model):
    token: SecretStr
    scope: str = "all"


class Keyring(AccountConfig):
    token: SecretStr
    spare: SecretStr | None = None
    grant: Grant
    by_name: dict[str, SecretStr]
    listed: tuple[SecretStr, ...]
    grants: tuple[Grant, ...] = ()
    note: str = "no secret"


def test_an_account_knows_its_secrets_however_deep_they_lie() -> None:
    keyring = Keyring(
        provider="any",
        token=SecretStr("a"),
        grant=Grant(token=SecretStr("b")),
        by_name={"x": SecretStr("c")},
        listed=(SecretStr("d"), SecretStr("e")),
        grants=(Grant(token=SecretStr("f")),),
    )
    assert sorted(keyring.secrets()) == ["a", "b", "c", "d", "e", "f"]


def test_an_account_without_secrets_has_none() -> None:
    assert LocalConfig(provider="local", time_zone="UTC").secrets() == ()


# Storage.


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///gateway.db", "/srv/gateway/gateway.db"),
        ("sqlite:///data/gateway.db", "/srv/gateway/data/gateway.db"),
        ("sqlite:////var/lib/gateway.db", "/var/lib/gateway.db"),
    ],
)
def test_a_relative_storage_path_starts_at_the_files_folder(url: str, file: str) -> None:
    assert parsed(HOME + f"storage: {{url: '{url}'}}").storage.url == f"sqlite:///{file}"


def test_a_relative_storage_path_starts_where_the_file_lies_not_where_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "gateway.yaml").write_text(HOME + "storage: {url: 'sqlite:///gateway.db'}")
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("etc/gateway.yaml")).storage.url == f"sqlite:///{tmp_path / 'etc' / 'gateway.db'}"


def test_a_tilde_in_the_storage_path_is_the_users_home() -> None:
    assert (
        parsed(HOME + "storage: {url: 'sqlite:///~/gateway.db'}").storage.url == f"sqlite:///{Path.home()}/gateway.db"
    )


def test_the_home_of_nobody_is_a_mistake() -> None:
    assert paths(refused(HOME + "storage: {url: 'sqlite:///~nobody-of-that-name/gateway.db'}")) == ["storage.url"]


def test_storage_is_in_the_users_data_folder_unless_told() -> None:
    assert parsed(HOME).storage.url == f"sqlite:///{user_data_path(APP) / 'gateway.db'}"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_storage_that_would_be_forgotten_is_refused(url: str) -> None:
    assert paths(refused(HOME + f"storage: {{url: '{url}'}}")) == ["storage.url"]


@pytest.mark.parametrize("url", ["postgresql+asyncpg://db/gateway", "mysql://db/gateway"])
def test_storage_that_is_not_built_is_refused_with_what_is(url: str) -> None:
    (mistake,) = refused(HOME + f"storage: {{url: '{url}'}}").mistakes
    assert mistake.startswith("storage.url: ")
    assert "SQLite" in mistake
    assert "PostgreSQL" in mistake
    assert "built" in mistake


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://db/gateway", "postgresql://db/gateway", None),
        ("postgres://me@db:5433/gateway", "postgresql://me@db:5433/gateway", None),
        ("postgresql://me:@db/gateway", "postgresql://me@db/gateway", None),
        (f"postgresql://me:{SECRET}@db/gateway", "postgresql://me@db/gateway", SECRET),
        (
            "postgresql://me:a%40%2F%25:b@[::1]:5432,db2/gate%20way",
            "postgresql://me@[::1]:5432,db2/gate%20way",
            "a@/%:b",
        ),
        (
            f"postgresql://me:{SECRET}@/gateway?host=/run/postgresql&connect_timeout=3",
            "postgresql://me@/gateway?host=%2Frun%2Fpostgresql&connect_timeout=3",
            SECRET,
        ),
    ],
)
def test_a_postgresql_url_is_shown_without_its_password(url: str, shown: str, password: str | None) -> None:
    config = parsed(HOME + f"storage: {{url: '{url}'}}")
    assert config.storage.url == shown
    assert (config.storage.password and config.storage.password.get_secret_value()) == password
    assert SECRET not in f"{config!r} {config} {config.storage!r} {config.model_dump()} {config.model_dump_json()}"
    again = config.model_copy(update={"accounts": {}})
    assert again.storage.password == config.storage.model_copy().password == config.storage.password


def test_the_files_of_a_postgresql_url_begin_at_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    text = HOME + "storage: {url: 'postgresql://db/gateway?sslmode=verify-full&sslrootcert=ca.pem'}"
    url = parse_config(text, {}, folder=tmp_path).storage.url
    assert parse_qs(urlsplit(url).query) == {"sslmode": ["verify-full"], "sslrootcert": [str(tmp_path / "ca.pem")]}
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(ConfigError, match="sslrootcert that is no file"):
        parse_config(text, {}, folder=tmp_path)


@pytest.mark.parametrize("query", ["sslmode=always", "connect_timeout=soon", "channel_binding=require", "sslmode", "&"])
def test_a_parameter_that_the_driver_does_not_take_is_refused(query: str) -> None:
    assert paths(refused(HOME + f"storage: {{url: 'postgresql://db/gateway?{query}'}}")) == ["storage.url"]


def test_postgresql_without_its_driver_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.database_url.find_spec", lambda _: None)
    (mistake,) = refused(HOME + "storage: {url: 'postgresql://db/gateway'}").mistakes
    assert "'scheduling-gateway[postgresql]'" in mistake


# Who can reach the server.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_on_loopback_is_not_exposed(host: str) -> None:
    assert ServerConfig(host=host).exposed == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "sched.example.com"])  # noqa: S104 - the point
def test_a_server_on_any_other_host_is_exposed(host: str) -> None:
    (reason,) = ServerConfig(host=host).exposed
    assert "server.host" in reason


def test_a_server_with_a_public_url_is_exposed_even_on_loopback() -> None:
    (reason,) = ServerConfig(public_url="https://sched.example.com").exposed
    assert "server.public_url" in reason


def test_every_reason_for_which_a_server_is_exposed_is_told() -> None:
    assert len(ServerConfig(host="::", public_url="https://sched.example.com").exposed) == 2


SIGN_IN = "type: oauth, provider: google, client_id: a, client_secret: b, policies: {a: {subjects: ['*']}}"


@pytest.mark.parametrize(
    ("server", "mistake"),
    [
        (
            "auth: {type: keys, policies: {a: {accounts: [gone]}}}",
            "server.auth.policies.a.accounts: there is no",
        ),
        ("auth: {type: keys, policies: {a: {tools: [reed]}}}", "server.auth.policies.a.tools: must be sets"),
        (
            "auth: {type: keys, policies: {a: {subjects: ['*']}}}",
            "server.auth: subjects and groups are of",
        ),
        ("auth: {type: guest}", "server.auth: must have a type: none, keys or oauth"),
        (
            "auth: {type: oauth, provider: gogle, client_id: a, client_secret: b}",
            "server.auth.provider: must be one",
        ),
        ("auth: {type: oauth, client_id: a, client_secret: b}", "server.auth: takes either a `provider`"),
        ("auth: {type: oauth, provider: google, client_id: a, client_secret: b}", "server.auth: policies: say who may"),
        (f"auth: {{{SIGN_IN}}}, host: 0.0.0.0", "server: public_url: people are sent there"),
        (f"auth: {{{SIGN_IN}}}, public_url: 'http://sched.example.com'", "server: public_url: must be https"),
    ],
)
def test_who_may_come_in_is_said_without_mistakes(server: str, mistake: str) -> None:
    (said,) = refused(HOME + f"server: {{{server}}}").mistakes
    assert said.startswith(mistake)


def test_an_account_of_each_callers_own_is_connected_in_a_browser() -> None:
    own = "accounts: {it: {provider: calendly, via: mcp, auth: {type: oauth}, owner: caller}}"
    assert parsed(own).accounts["it"].owner == "caller"
    for account in (
        "{provider: local, owner: caller}",
        "{provider: calcom, auth: {type: bearer, token: x}, owner: caller}",
    ):
        (said,) = refused(f"accounts: {{it: {account}}}").mistakes
        assert said.startswith("accounts.it.owner: caller is for accounts that are connected in a browser")


# Where the file is found.

PLACES: dict[str, Callable[[], Path]] = {
    "given": lambda: Path("given.yaml"),
    "named": lambda: Path("named.yaml"),
    "here": lambda: Path("config.yaml"),
    "usual": lambda: user_config_path(APP) / "config.yaml",
}


@pytest.mark.parametrize(("skipped", "found"), list(enumerate([*PLACES, "local"])))
def test_the_first_file_there_is_holds(skipped: int, found: str) -> None:
    present = list(PLACES)[skipped:]
    for place in present:
        file = PLACES[place]()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"accounts: {{{place}: {{provider: local}}}}")
    given = PLACES["given"]() if "given" in present else None
    environ = {"SCHEDULING_GATEWAY_CONFIG": str(PLACES["named"]())} if "named" in present else {}
    assert list(load_config(given, environ).accounts) == [found]


def test_an_empty_variable_names_no_file() -> None:
    assert find_config(None, {"SCHEDULING_GATEWAY_CONFIG": ""}) is None


@pytest.mark.parametrize("given", [Path("~/gateway.yaml"), None])
def test_a_tilde_in_the_files_own_path_is_the_users_home(given: Path | None) -> None:
    assert find_config(given, {"SCHEDULING_GATEWAY_CONFIG": "~/gateway.yaml"}) == Path.home() / "gateway.yaml"


def test_without_a_file_there_is_one_embedded_calendar() -> None:
    assert load_config(None, {}) == default_config()
    assert default_config() == Config(accounts={"local": LocalConfig(provider="local")})


def test_a_file_that_is_named_but_missing_is_not_passed_over() -> None:
    Path("config.yaml").write_text(HOME)
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_config(None, {"SCHEDULING_GATEWAY_CONFIG": "gone.yaml"})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Taking the permission away would not stop an administrator who runs the tests.
    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_config(tmp_path / "config.yaml")


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes("accounts: {home: {provider: local, token: é}}".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(file)


def test_a_mistake_is_told_with_the_file_it_is_in(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("accounts: {}")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(file) in str(caught.value)
    assert "1 mistake\n" in str(caught.value)


def test_the_environment_reaches_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("accounts: {home: {provider: local, time_zone: '${ZONE}'}}")
    assert load_config(file, {"ZONE": "Asia/Tokyo"}).accounts["home"].time_zone == "Asia/Tokyo"
