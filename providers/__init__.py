"""HOW each service says it: the adapter contract, one module or folder an adapter, and what they share.

`PROVIDERS` is the registry: provider, then via, to the adapter. Adapters are imported when first asked for.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from providers.base import AccountConfig, Provider, Services
from providers.clock import Clock, SystemClock


class Faces(Mapping[str, type[Provider]]):
    """The ways to one service: `api`, `mcp`."""

    def __init__(self, **paths: str) -> None:
        self._paths = paths

    def __getitem__(self, via: str) -> type[Provider]:
        module, _, name = self._paths[via].partition(":")
        adapter: type[Provider] = getattr(import_module(module), name)
        return adapter

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


PROVIDERS: Mapping[str, Mapping[str, type[Provider]]] = {
    "local": Faces(api="providers.local:Local"),
    "calcom": Faces(api="providers.calcom.api:CalcomApi"),
    "calid": Faces(api="providers.calid.api:CalidApi", mcp="providers.calid.mcp:CalidMcp"),
    "calendly": Faces(api="providers.calendly.api:CalendlyApi", mcp="providers.calendly.mcp:CalendlyMcp"),
    "google_calendar": Faces(
        api="providers.google_calendar.api:GoogleCalendarApi", mcp="providers.google_calendar.mcp:GoogleCalendarMcp"
    ),
}

__all__ = ["PROVIDERS", "AccountConfig", "Clock", "Faces", "Provider", "Services", "SystemClock"]
