"""What everything in Calendly's JSON shares: URIs, instants, pages, errors, and who is signed in."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from schemas import Identity


class Host(Identity):
    """Who is signed in, and in which organization, by their URIs."""

    uri: str
    organization: str

    def uri_of(self, collection: str, id: str) -> str:
        return f"{self.uri.rpartition('/users/')[0]}/{collection}/{id}"


def host(raw: Any) -> Host:
    user = raw["resource"]
    return Host(
        uri=user["uri"],
        organization=user["current_organization"],
        time_zone=user["timezone"],
        email=user["email"],
        name=user["name"],
    )


def uuid(uri: str) -> str:
    """The last part of a URI, which names a thing in a path."""
    return uri.rstrip("/").rpartition("/")[2]


def written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def page(raw: Any) -> tuple[list[Any], str | None]:
    return list(raw["collection"]), raw["pagination"]["next_page_token"]


def codes(body: Mapping[str, Any]) -> list[str]:
    return [str(each.get("code")) for each in _details(body)]


def complaint(body: Mapping[str, Any]) -> str:
    parts = [str(body[name]) for name in ("title", "message") if body.get(name)]
    parts += [f"{each.get('parameter')}: {each.get('message')}" for each in _details(body)]
    return "; ".join(parts)


def _details(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = body.get("details")
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
