"""The configuration file: found, read, filled in from the environment and checked, every mistake named at once.

No value is ever repeated in a message: it may have come from a secret.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from platformdirs import user_config_path, user_data_path
from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.database_url import apart, checked
from gateway.policy import PerSpan
from gateway.server_config import ServerConfig
from providers import PROVIDERS, AccountConfig
from providers.keys import listed
from schemas import Model
from schemas.problems import problems

APP = "scheduling-gateway"
ACCOUNT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


class ConfigError(Exception):
    """Everything that is wrong with a configuration, one line a mistake."""

    def __init__(self, mistakes: list[str], source: Path | None = None) -> None:
        self.mistakes = mistakes
        where = f"{source}: " if source else ""
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{where}{count}\n" + "\n".join(f"  {mistake}" for mistake in mistakes))


class StorageConfig(Model):
    url: str
    """Without the password that it was given with."""
    encryption_key: SecretStr | None = None
    _password: SecretStr | None = PrivateAttr(None)

    @model_validator(mode="wrap")
    @classmethod
    def _keeps_its_password(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        password = None
        if isinstance(given, dict) and isinstance(given.get("url"), str):
            url, password = apart(given["url"])
            given = {**given, "url": url}
        config = handler(given)
        if password is not None:
            config._password = password
        return config

    @field_validator("url")
    @classmethod
    def _is_a_database(cls, url: str, info: ValidationInfo) -> str:
        return checked(url, (info.context or {}).get("folder", Path.cwd()))

    @field_validator("encryption_key")
    @classmethod
    def _are_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        return None if keys is None else SecretStr(",".join(listed(keys.get_secret_value())))

    @property
    def password(self) -> SecretStr | None:
        return self._password

    @property
    def key_file(self) -> Path | None:
        """Where the key is, if none is configured: beside the database, where that is a file."""
        file = self.url.removeprefix("sqlite:///")
        return None if file == self.url else Path(file).with_suffix(".key")


def _default_storage() -> StorageConfig:
    return StorageConfig(url=f"sqlite:///{user_data_path(APP) / 'gateway.db'}")


class BrakesConfig(Model):
    """What stops a client that books in a loop; each is for one account."""

    account: PerSpan = PerSpan(hour=100, day=500)
    attendee: PerSpan = PerSpan(hour=20, day=60)


class JournalConfig(Model):
    """How long the journal remembers settled writes, in days, and how many at most; those of two days always."""

    days: int = Field(90, ge=2)
    rows: int = Field(100_000, ge=1000)


class AuditConfig(Model):
    """Where it is written down who did what, and whether also who looked at what: `database`, `none`, or a file."""

    to: str = "database"
    calls: Literal["changes", "all"] = "changes"

    @field_validator("to")
    @classmethod
    def _is_a_place(cls, to: str, info: ValidationInfo) -> str:
        if to in ("database", "none"):
            return to
        if not to.endswith(".jsonl"):
            raise ValueError("must be database, none, or a file whose name ends in .jsonl")
        return str((info.context or {}).get("folder", Path.cwd()) / Path(to).expanduser())


class Config(Model):
    """A whole configuration. `accounts` are the adapters' own config models, by account name."""

    accounts: dict[str, Any]
    server: ServerConfig = ServerConfig()
    brakes: BrakesConfig = BrakesConfig()
    journal: JournalConfig = JournalConfig()
    audit: AuditConfig = AuditConfig()
    storage: StorageConfig = Field(default_factory=_default_storage)


def default_config() -> Config:
    """What holds without a file: one embedded calendar called `local`, in the user's data folder."""
    return Config(accounts={"local": PROVIDERS["local"]["api"].Config(provider="local")})


def find_config(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file to use: the one given, named by the environment, in this folder, or in the user's config folder."""
    if given is None and (named := environ.get("SCHEDULING_GATEWAY_CONFIG")):
        given = Path(named)
    if given is not None:
        return given.expanduser()
    usual = (Path("config.yaml"), user_config_path(APP) / "config.yaml")
    return next((path for path in usual if path.is_file()), None)


def load_config(given: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in force. Raises ConfigError."""
    path = find_config(given, environ)
    if path is None:
        return default_config()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"], path) from None
    except UnicodeDecodeError:
        raise ConfigError(["is not UTF-8 text"], path) from None
    try:
        return parse_config(text, environ, folder=path.absolute().parent)
    except ConfigError as error:
        raise ConfigError(error.mistakes, path) from None


def parse_config(text: str, environ: Mapping[str, str], *, folder: Path) -> Config:
    """A configuration from its YAML; relative paths start at `folder`. Raises ConfigError."""
    mistakes: list[str] = []
    raw = _read(text)
    if not isinstance(raw, dict):
        raise ConfigError(["must begin with `accounts:`"])
    try:
        raw = _filled(raw, environ, "", mistakes)
    except RecursionError:
        raise ConfigError(["has a value that contains itself"]) from None
    values = dict(raw)
    if isinstance(raw.get("accounts"), dict):
        if not raw["accounts"]:
            mistakes.append("accounts: name at least one, like `home: {provider: local}`")
        accounts = {name: _account(str(name), account, folder, mistakes) for name, account in raw["accounts"].items()}
        values["accounts"] = accounts
    try:
        config = Config.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        mistakes += problems(error, values)
    else:
        for name, policy in getattr(config.server.auth, "policies", {}).items():
            if unknown := set(policy.accounts or ()) - set(config.accounts):
                mistakes.append(
                    f"server.auth.policies.{name}.accounts: there is no account {' or '.join(sorted(unknown))}"
                )
    if mistakes:
        raise ConfigError(_one_each(mistakes))
    return config


def _read(text: str) -> Any:
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506 - a SafeLoader
    except DuplicateKey as error:
        raise ConfigError([str(error)]) from None
    except yaml.MarkedYAMLError as error:
        # What the parser says of it may quote the place, and a secret may stand there.
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError([f"{line}is not valid YAML; look for a missing quote, colon or bracket"]) from None
    except yaml.YAMLError:
        raise ConfigError(["is not valid YAML: it has a character that is not allowed"]) from None
    except (ValueError, TypeError, OverflowError, LookupError, RecursionError) as error:
        raise ConfigError([f"has a value that YAML cannot read ({type(error).__name__}); put it in quotes"]) from None


def _one_each(mistakes: list[str]) -> list[str]:
    """The first mistake of each path: what follows from it is none of its own."""
    by_path: dict[str, str] = {}
    for mistake in mistakes:
        by_path.setdefault(mistake.partition(": ")[0], mistake)
    return sorted(by_path.values())


def _account(name: str, raw: Any, folder: Path, mistakes: list[str]) -> AccountConfig | None:
    path = f"accounts.{name}"
    if not ACCOUNT_NAME.fullmatch(name):
        mistakes.append(f"{path}: account names are a-z, 0-9, _ and -, begin with a letter, 32 at most")
    if not isinstance(raw, dict):
        mistakes.append(f"{path}: must hold names and values, like {{provider: local}}")
        return None
    faces = PROVIDERS.get(str(raw.get("provider")))
    if faces is None:
        mistakes.append(f"{path}.provider: must be one of {', '.join(PROVIDERS)}; no other is built yet")
        return None
    via = str(raw.get("via", "api"))
    if via not in faces:
        mistakes.append(f"{path}.via: must be one of {', '.join(faces)} for this provider; no other is built yet")
        return None
    try:
        account: AccountConfig = faces[via].Config.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        mistakes += [f"{path}.{problem}" for problem in problems(error, raw)]
        return None
    if account.owner == "caller" and not getattr(getattr(account, "auth", None), "is_browser", False):
        mistakes.append(f"{path}.owner: caller is for accounts that are connected in a browser, by each caller anew")
    return account


def _filled(value: Any, environ: Mapping[str, str], path: str, mistakes: list[str]) -> Any:
    """`${VAR}` and `${VAR:-default}` in every string below `value`."""
    if isinstance(value, dict):
        return {str(k): _filled(v, environ, f"{path}.{k}" if path else str(k), mistakes) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(item, environ, f"{path}[{index}]", mistakes) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(_replacement(environ, path, mistakes), value)


def _replacement(environ: Mapping[str, str], path: str, mistakes: list[str]) -> Callable[[re.Match[str]], str]:
    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            mistakes.append(f"{path}: has a ${{ that names no variable; a literal one is written $${{")
            return ""
        if "${" in (default or ""):
            mistakes.append(f"{path}: a default cannot hold another variable")
        found = environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            mistakes.append(f"{path}: the environment variable {name} is not set")
        return found or ""

    return replacement


class DuplicateKey(Exception):
    """A key that stands twice in one mapping."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML's own rule, which PyYAML does not keep: a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    raise DuplicateKey(
                        f"line {key_node.start_mark.line + 1}: the key {key_node.value:.40} stands twice"
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)
