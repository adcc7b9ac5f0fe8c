"""digital-twin report and compare: read, analyse, write, and say in the terminal what is most important."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from digital_twin.bags import Bag
from digital_twin.cli.report import check_writable, write_report
from digital_twin.core.errors import TwinError
from digital_twin.recording.analysis import analyse
from digital_twin.recording.compare import compare, in_words
from digital_twin.recording.findings import Analysis
from digital_twin.recording.gather import gather
from digital_twin.recording.report_page import page
from digital_twin.recording.verdict import verdict


def _gathered(console: Console, path: str, a: argparse.Namespace) -> Analysis:
    Bag(path).close()  # what is none is said before a bar is drawn
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"reading {Path(path).name}", total=1.0)
        run = gather(
            path, a.robot_description, a.robot_config, lambda share: progress.update(bar, completed=min(share, 0.95))
        )
        found = analyse(run)
        progress.update(bar, completed=1.0)
    return found


def _beside(bag: str, ending: str) -> str:
    path = Path(bag).expanduser()
    return str(Path.cwd() / f"{path.resolve().name.removesuffix('.mcap').removesuffix('.db3')}{ending}")


def write_bag_report(a: argparse.Namespace) -> int:
    """Write HTML and JSON; print the verdict. Raises TwinError."""
    html, numbers = a.html or _beside(a.bag, "_report.html"), a.json or _beside(a.bag, "_report.json")
    Bag(a.bag).close()  # nothing is touched for a recording that is none
    for target in (html, numbers):
        check_writable(target)
    found = _gathered(Console(stderr=True), a.bag, a)
    level, words = verdict(found)
    name = found.run.path.resolve().name
    write_text(html, page(found, (level, words), f"Report on {name}"))
    write_report(as_data(found, level, words), numbers)
    print(words)
    print(f"written: {html} ({os.path.getsize(Path(html).expanduser()) / 1e6:.1f} MB), {numbers}", file=sys.stderr)
    return 0


def write_text(path: str, text: str) -> None:
    """Write a file, whole or not at all. Raises TwinError."""
    target = Path(path).expanduser()
    draft = target.with_name(target.name + ".part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    except OSError as e:
        draft.unlink(missing_ok=True)
        raise TwinError(f"{path}: cannot write it: {e.strerror}") from e


def as_data(found: Analysis, level: int, words: str) -> dict[str, Any]:
    """The report as plain data; null stands for what could not be measured."""
    run = found.run
    plain: dict[str, Any] = _plain({
        "recording": str(run.path), "duration_s": run.duration, "start_ns": run.start_ns, "metadata": run.metadata,
        "robot": run.metadata.get("robot") or (run.robot.description.name if run.robot else None),
        "replayed": run.replayed, "level": level, "verdict": words,
        "events": [{"t_s": e.t, "level": e.level, "who": e.who, "what": e.what} for e in found.events],
        **found.numbers,
    })  # fmt: skip
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def compare_bags(a: argparse.Namespace) -> int:
    """Print the two runs side by side. Raises TwinError."""
    if a.json:
        check_writable(a.json)
    console = Console(stderr=True)
    one, other = (_gathered(console, path, a) for path in (a.a, a.b))
    rows, notes = compare(one, other)
    table = Table(title=f"A: {one.run.path}   B: {other.run.path}", title_justify="left")
    for column in ("", "unit", "A", "B", "B − A (95 %)", "p", "what it means"):
        table.add_column(column, justify="left" if column in ("", "unit", "what it means") else "right")
    for r in rows:
        table.add_row(r.name, r.unit, f"{r.a:.4g}", f"{r.b:.4g}", r.interval, r.p_text, r.meaning)
    Console(width=None if os.isatty(1) else 170).print(table)
    words = in_words(rows)
    for line in [words, *notes]:
        print(line)
    if a.json:
        write_report(
            _plain(
                {
                    "a": str(one.run.path),
                    "b": str(other.run.path),
                    "words": words,
                    "notes": notes,
                    "rows": [r.as_data() for r in rows],
                }
            ),
            a.json,
        )
    return 0
