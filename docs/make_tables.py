"""Writes the parameter tables of README.md from the settings: python docs/make_tables.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digital_twin.core.config import flatten, span
from digital_twin.settings import SETTINGS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- parameters: written by docs/make_tables.py -->", "<!-- end of parameters -->"


def cell(value: Any) -> str:
    """A default as the tables show it."""
    if value in ("", []):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(node: str) -> str:
    """The table of one node."""
    lines = [f"#### {node}", "", "| parameter | default | unit | allowed | what and why |", "|---|---|---|---|---|"]
    for p in flatten(SETTINGS[node]):
        doc = p.meta.doc.replace("|", "\\|")
        lines.append(f"| `{p.name}` | {cell(p.default)} | {p.meta.unit or '–'} | {span(p.meta) or '–'} | {doc} |")
    return "\n".join(lines)


def main() -> None:
    """Replace what stands between the two marks."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(head + BEGIN + "\n\n" + "\n\n".join(table(n) for n in SETTINGS) + "\n\n" + END + tail)


if __name__ == "__main__":
    main()
