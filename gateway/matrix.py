"""What each provider can do, as the README's table: rendered from what the adapters declare.

`python -m gateway.matrix README.md` writes it between its markers; a test fails where it is stale.
"""

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
    head = f"| | {' | '.join(adapters)} |\n|---|{'---|' * len(adapters)}"
    return "\n".join([head, *rows, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))])


def all_adapters() -> dict[str, type[Provider]]:
    """Every registered adapter, as `provider` or, where there are several ways to it, `provider (via)`."""
    return {
        name if len(faces) == 1 else f"{name} ({via})": adapter
        for name, faces in PROVIDERS.items()
        for via, adapter in faces.items()
    }


def filled(text: str, adapters: Mapping[str, type[Provider]]) -> str:
    """`text` with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(adapters)}\n{END}{after}"


def main(paths: Iterable[str]) -> None:
    for path in map(Path, paths):
        path.write_text(filled(path.read_text(encoding="utf-8"), all_adapters()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
