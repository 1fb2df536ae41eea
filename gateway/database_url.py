"""`storage.url`: checked, completed, and parted from the password that may be in it."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode

from pydantic import SecretStr

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
WORDS = ("host", "application_name", "target_session_attrs", "ssl_min_protocol_version", "ssl_max_protocol_version")
PARAMETERS = ("sslmode", *FILES, *WORDS, "connect_timeout")

_HOST = r"(?:[\w.~%-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_PART = r"[^\s:@/?#\[\]]"
_POSTGRESQL = re.compile(
    rf"postgres(?:ql)?://(?P<to>(?:{_PART}+@)?(?:{_HOST}(?:,{_HOST})*)?/{_PART}+)(?:\?(?P<query>[^\s#]*))?"
)
_PASSWORD = re.compile(r"(postgres(?:ql)?://[^\s:@/?#]*):([^\s@/?#]*)@")

NOT_BUILT = (
    "names an SQLite file, like sqlite:///gateway.db, or a PostgreSQL database, like "
    "postgresql://user:password@host:5432/gateway; no other is built"
)
NOT_INSTALLED = (
    "takes a driver for PostgreSQL that is not installed: install the gateway with its extra, as "
    "'scheduling-gateway[postgresql]', or in a checkout '.[postgresql]'"
)
MALFORMED = (
    "is written like postgresql://user:password@host:port/database?sslmode=verify-full; in user and password any of "
    "@ : / ? # % [ ] and spaces must be percent-encoded, like %40 for @"
)


def apart(url: str) -> tuple[str, SecretStr | None]:
    """A URL without the password in it, and that."""
    if (found := _PASSWORD.match(url)) is None:
        return url, None
    password = SecretStr(unquote(found[2])) if found[2] else None
    return f"{found[1]}@{url[found.end() :]}", password


def checked(url: str, folder: Path) -> str:
    """The URL, whose relative paths begin at `folder`. Raises ValueError, which never repeats it."""
    if re.match(r"postgres(ql)?://", url):
        return _postgresql(url, folder)
    match = re.fullmatch(r"sqlite:///(.+)", url)
    if match is None or match[1] == ":memory:":
        raise ValueError(NOT_BUILT)
    return f"sqlite:///{_path(match[1], folder)}"


def _postgresql(url: str, folder: Path) -> str:
    match = _POSTGRESQL.fullmatch(url)
    if match is None or re.search("%(?![0-9A-Fa-f]{2})", url):
        raise ValueError(MALFORMED)
    try:
        given = parse_qsl(match["query"] or "", keep_blank_values=True, strict_parsing=bool(match["query"]))
    except ValueError:
        raise ValueError(MALFORMED) from None
    if find_spec("asyncpg") is None:
        raise ValueError(NOT_INSTALLED)
    query = urlencode(list(_parameters(given, folder)))
    return f"postgresql://{match['to']}" + (f"?{query}" if query else "")


def _parameters(given: list[tuple[str, str]], folder: Path) -> Iterator[tuple[str, str]]:
    for name, value in given:
        if name not in PARAMETERS:
            # The name is not said: a password that was not encoded may have ended up there.
            raise ValueError(f"has a parameter that is not taken here; those that are: {', '.join(PARAMETERS)}")
        if name == "sslmode" and value not in SSL_MODES:
            raise ValueError(f"has an sslmode that is none of {', '.join(SSL_MODES)}")
        if name == "connect_timeout" and not re.fullmatch("[1-9][0-9]{0,3}", value):
            raise ValueError("has a connect_timeout that is no number of seconds")
        if name in FILES:
            value = str(_path(value, folder))
            if not Path(value).is_file():
                raise ValueError(f"has an {name} that is no file")
        yield name, value


def _path(given: str, folder: Path) -> Path:
    try:
        return folder / Path(given).expanduser()
    except RuntimeError:
        raise ValueError("begins with the home of a user that is not there") from None
