"""The log, on stderr: lines for people or JSON for machines, each with the request, caller and call that it is of."""

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from gateway import observing
from gateway.callers import caller
from gateway.config import Config
from gateway.requests import request_id
from providers.base import secrets_in
from schemas.text import shown

OURS = ("gateway", "providers", "schemas", "uvicorn")
"""Loggers that the configured level is for. Of others warnings are enough: what they say else quotes what they sent."""

HIDDEN = "***"

QUOTING = "fastmcp.server.auth"
"""Loggers that fill their lines with what came in with a request, codes and all: of theirs the words alone are told."""

# Whatever it is that quotes them: what an address has after `?`, or before `@`, and what one signs in with.
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#\"'<>]*)\?[^\s\"'<>]*", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#\"'<>@]+@", re.IGNORECASE)
_SIGN_IN = re.compile(r"\b(Bearer|Basic)(\s+|%20)[\w.~+/=%-]{6,}", re.IGNORECASE)


def start(config: Config) -> None:
    """Log as configured, from now on."""
    handler = _Stderr()
    told = [*secrets_in(config), *secrets_in(config.storage.password)]
    hidden = [part for secret in told for part in (secret, *secret.split(","))]  # some are several keys
    handler.setFormatter((_Json if config.server.log.format == "json" else _Text)(hidden))
    level = logging.getLevelNamesMapping()[config.server.log.level.upper()]
    root = logging.getLogger()
    root.handlers[:] = [*(each for each in root.handlers if not isinstance(each, _Stderr)), handler]
    root.setLevel(max(level, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    for name in ("fastmcp", "mcp"):  # which bring handlers of their own
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


def say(text: str) -> None:
    """Tell whoever has started it, whatever the level."""
    record = logging.LogRecord("gateway", logging.INFO, "", 0, "%s", (text,), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Json):
            handler.emit(record)
            return
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class _Stderr(logging.StreamHandler[TextIO]):
    """Wherever that is by then."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # there it is an attribute
        return sys.stderr


class _Lines(logging.Formatter):
    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__()
        # The longest first: one secret may be the beginning of another.
        self._hidden = sorted((each for each in hidden if len(each) > 3), key=len, reverse=True)

    def told(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line says. The words of others are data: no line of theirs begins another one."""
        call = observing.current()
        time = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.safe(_said(record)),
            "request_id": request_id(),
            "caller": caller().name if call else None,
            "tool": call.tool if call else None,
            "account": call.account if call and call.accounts else None,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["trace"] = self.safe(self.formatException(record.exc_info))
        return {name: value for name, value in fields.items() if value is not None}

    def safe(self, text: str) -> str:
        """Without secrets."""
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
        text = _QUERY.sub(rf"\1?{HIDDEN}", text)
        return _SIGN_IN.sub(rf"\1 {HIDDEN}", text)


def _said(record: logging.LogRecord) -> str:
    is_quoting = record.name == QUOTING or record.name.startswith(f"{QUOTING}.")
    return re.sub(r"%[a-z]", HIDDEN, str(record.msg)) if is_quoting else record.getMessage()


class _Json(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.told(record), default=str, ensure_ascii=False)


class _Text(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        told = self.told(record)
        trace = told.pop("trace", "")
        begin = f"{told.pop('time')} {told.pop('level').upper()} {told.pop('logger')}: {told.pop('message')}"
        rest = " ".join(f"{name}={value}" for name, value in told.items())
        line = " ".join(str(shown(f"{begin}{f' [{rest}]' if rest else ''}")).split())
        return "\n  ".join([line, *trace.splitlines()])
