"""Rows of figures, each beside the limit or the peer that was measured in the same run."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure.

    target: what `value` (or, where there is a peer, `value / peer`) may be at most; None: no target, for information.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    peer: float | None = None
    peer_name: str = ""
    at_least: bool = False

    @property
    def ratio(self) -> float | None:
        """Value over peer."""
        return self.value / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """Is the target met? None without a target."""
        if self.target is None:
            return None
        judged = self.ratio if self.ratio is not None else self.value
        if math.isnan(judged):
            return False
        return judged >= self.target if self.at_least else judged <= self.target


def show(title: str, rows: list[Row]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for name, justify in (("figure", "left"), ("value", "right"), ("peer or limit", "right"), ("ratio", "right"), ("target", "right"), ("met", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for r in rows:
        peer = f"{r.peer:.3g} {r.unit} ({r.peer_name})" if r.peer is not None else ""
        sign = "≥" if r.at_least else "≤"
        target = "" if r.target is None else f"{sign} {r.target:g}" + ("x" if r.peer is not None else f" {r.unit}")
        met = {True: "[green]yes", False: "[red]NO", None: ""}[r.met]
        ratio = f"{r.ratio:.2f}" if r.ratio is not None else ""
        table.add_row(r.name, f"{r.value:.4g} {r.unit}", peer, ratio, target, met)
    Console(width=150 if not os.isatty(1) else None).print(table)


def as_json(rows: list[Row]) -> list[dict[str, object]]:
    """Rows as plain data."""
    return [asdict(r) | {"ratio": r.ratio, "met": r.met} for r in rows]


def main(
    title: str, measure: Callable[[argparse.Namespace], list[Row]], *options: tuple[str, float | str, str]
) -> None:
    """Command line of one benchmark: options (name, default, help) of the type of their default, `--json OUT`."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", metavar="OUT", default="")
    for name, default, text in options:
        shown = text if default == "" else f"{text} (default {default})"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=shown)
    a = parser.parse_args()
    rows = measure(a)
    show(title, rows)
    if a.json:
        Path(a.json).write_text(json.dumps({title: as_json(rows)}, indent=2) + "\n")
