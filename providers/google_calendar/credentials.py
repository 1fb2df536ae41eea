"""The files that signing in to Google leaves behind: read, and checked as far as they are used."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

PRINTED = r"[\x21-\x7e]+"
KEYS: Mapping[str, tuple[str, ...]] = {
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "service_account": ("client_email", "private_key", "token_uri"),
}
"""The types of credentials files that are built, and what must stand in each."""


def usual_file() -> Path:
    """https://cloud.google.com/docs/authentication/application-default-credentials"""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    home = os.environ.get("APPDATA", "") if os.name == "nt" else os.path.expanduser("~/.config")
    path = Path(os.environ.get("CLOUDSDK_CONFIG") or f"{home}/gcloud", "application_default_credentials.json")
    if not os.path.exists(path):
        raise ValueError("is not there; give a credentials_file, or run `gcloud auth application-default login`")
    return path


def contents(path: Path) -> dict[str, Any]:
    """A credentials file. Raises ValueError, which never quotes it."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(info, dict):
        raise ValueError("is not a JSON object")
    if "type" not in info and ("installed" in info or "web" in info):
        raise ValueError("is an OAuth client, with which nobody has signed in yet; give the file that signing in makes")
    keys = KEYS.get(str(info.get("type")))
    if keys is None:
        raise ValueError(f"must be of the type {' or '.join(KEYS)}; no other is built")
    if missing := [key for key in keys if not isinstance(info.get(key), str) or not info[key]]:
        raise ValueError(f"has no {', '.join(missing)}")
    if info.get("universe_domain", "googleapis.com") != "googleapis.com":
        raise ValueError("is not for googleapis.com, where Google Calendar is")
    if "token_uri" in keys and not is_web(info["token_uri"]):
        raise ValueError("has a token_uri that is no address")
    project = info.get("quota_project_id") or "none"
    if not isinstance(project, str) or not re.fullmatch(PRINTED, project):
        raise ValueError("has a quota_project_id that is no name")
    return info


def is_web(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)
