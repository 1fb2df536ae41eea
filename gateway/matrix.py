"""What each provider can do, as the README's table: rendered from what the adapters declare.

`python -m gateway.matrix README.md` writes it between its markers; a test fails where it is stale.
"""

import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from providers import PROVIDERS, Provider
from schemas import Feature

BEGIN, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"


def table(adapters: Mapping[str, type[Provider]]) -> str:
    """A Markdown table, features down and adapters across, with numbered notes."""
    notes: list[str] = []

    def cell(adapter: type[Provider], feature: Feature) -> str:
        for said, mark in ((adapter.gaps, "–"), (adapter.caveats, "✓")):
            if feature in said:
                note = f"{adapter.title}: {said[feature]}"
                if note not in notes:
                    notes.append(note)
                return f"{mark} [{notes.index(note) + 1}]"
        return "–" if feature.operation in adapter.gaps else "✓"

    rows = [f"| `{feature}` | {' | '.join(cell(each, feature) for each in adapters.values())} |" for feature in Feature]
    names = [f"{name} *(emulated)*" if each.only_emulated else name for name, each in adapters.items()]
    head = f"| | {' | '.join(names)} |\n|---|{'---|' * len(adapters)}"
    return "\n".join([head, *rows, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))])


def all_adapters() -> dict[str, type[Provider]]:
    """Every registered adapter, as `provider` or, where there are several ways to it, `provider (via)`."""
    return {
        name if len(faces) == 1 else f"{name} ({via})": adapter
        for name, faces in PROVIDERS.items()
        for via, adapter in faces.items()
    }


def limits(adapter: type[Provider]) -> str:
    """The limits and the quirks of a provider, as a list: the latter stand in the docstring of its module."""
    documented = inspect.cleandoc(sys.modules[adapter.__module__].__doc__ or "")
    _, _, quirks = documented.partition("Quirks:\n")
    # What it has from another face stands there.
    rows = [f"- {limit}" for limit in vars(adapter).get("limits", ())]
    return "\n".join([*(["**Limits**", "", *rows, ""] if rows else []), "**Quirks**", "", quirks])


def filled(text: str, adapters: Mapping[str, type[Provider]]) -> str:
    """`text` with the table, and the limits of each provider that has a place for them, between their markers."""
    text = _between(text, BEGIN, END, table(adapters))
    for name, adapter in adapters.items():
        begin = f"<!-- {name}: begin -->"
        if begin in text:
            text = _between(text, begin, f"<!-- {name}: end -->", limits(adapter))
    return text


def _between(text: str, begin: str, end: str, filling: str) -> str:
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{filling}\n{end}{after}"


def main(paths: Iterable[str]) -> None:
    for path in map(Path, paths):
        path.write_text(filled(path.read_text(encoding="utf-8"), all_adapters()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
