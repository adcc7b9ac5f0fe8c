"""digital-twin models: the versions of a robot's model; which is in service, what they changed, and back."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from digital_twin.core.drift.model_store import ModelStore
from digital_twin.core.drift.model_version import ModelVersion, difference, flat
from digital_twin.core.errors import TwinError


def run_models(a: argparse.Namespace) -> int:
    """Do it. Raises TwinError: one line."""
    store = find_store(a.store, a.robot)
    actions: dict[str, Callable[[ModelStore, argparse.Namespace], None]] = {
        "list": _list, "show": _show, "diff": _diff, "rollback": _rollback,
    }  # fmt: skip
    actions[a.action](store, a)
    return 0


def find_store(folder: str, robot: str) -> ModelStore:
    """The store of one robot: the folder itself, or the one folder in it.

    Raises:
        TwinError: there is none, or one has to be chosen.
    """
    path = Path(folder).expanduser()
    try:
        inside = sorted(p.name for p in path.iterdir() if p.is_dir())
    except OSError as e:
        raise TwinError(f"{folder}: no model store: {e.strerror}") from e
    if robot:
        if robot not in inside:
            raise TwinError(f"{folder}: no models of '{robot}'; there are those of: {', '.join(inside) or 'none'}")
        return ModelStore(path / robot)
    if any(path.glob("*.json")) or not inside:
        return ModelStore(path)
    if len(inside) > 1:
        raise TwinError(f"{folder}: choose a robot with --robot: {', '.join(inside)}")
    return ModelStore(path / inside[0])


def _list(store: ModelStore, _: argparse.Namespace) -> None:
    found, now = store.list(), store.in_service()
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("", "version", "made (UTC)", "parent", "reason", "error against parent"):
        table.add_column(column)
    for v in found.versions:
        table.add_row("▶" if v.hash == now else "", v.short, _time(v), v.parent[:12] or "–", v.reason, _score(v))
    console = Console(soft_wrap=True)
    console.print(table)
    for problem in found.problems:
        console.print(f"unusable: {problem}", highlight=False, style="yellow")


def _time(v: ModelVersion) -> str:
    if not v.created_ns:
        return "–"
    return datetime.datetime.fromtimestamp(v.created_ns / 1e9, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _score(v: ModelVersion) -> str:
    s = v.scores
    if "ratio" not in s:
        return "–"
    return f"{s['ratio']:.2f} ({s.get('low', 0):.2f} … {s.get('high', 0):.2f}) at {1000 * s.get('horizon', 0):.0f} ms"


def _show(store: ModelStore, a: argparse.Namespace) -> None:
    v = store.get(a.version)
    console = Console(soft_wrap=True)
    lines = {
        "version": v.hash, "robot": v.robot, "made": _time(v), "reason": v.reason, "parent": v.parent or "–",
        "in service": "yes" if v.hash == store.in_service() else "no",
        "data": f"{v.data.samples} samples, {v.data.from_ns} … {v.data.until_ns} ns" if v.data.samples else "–",
        "error against parent": _score(v),
    }  # fmt: skip
    for key, value in lines.items():
        console.print(f"{key}: {value}", highlight=False)
    for key, number in v.scores.items():
        console.print(f"  {key}: {number:.4g}", highlight=False)
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column, justify in (("parameter", "left"), ("value", "right"), ("standard error", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, value in flat(v).items():
        error = v.errors.get(name)
        table.add_row(name, f"{value:.5g}", "–" if error is None else f"{error:.2g}")
    console.print(table)


def _diff(store: ModelStore, a: argparse.Namespace) -> None:
    one, other = store.get(a.version), store.get(a.other)
    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("parameter")
    for v in (one, other):
        table.add_column(v.short, justify="right")
    for name, values in difference(one, other).items():
        table.add_row(name, *("as brought" if x is None else f"{x:.5g}" for x in values))
    console = Console(soft_wrap=True)
    console.print(table if table.row_count else "no parameter differs")


def _rollback(store: ModelStore, a: argparse.Namespace) -> None:
    before = store.in_service()[:12]
    v = store.rollback(a.version)
    Console(soft_wrap=True).print(
        f"in service: {v.short} ({v.reason}), before: {before or 'none'}; a running drift_monitor announces it",
        highlight=False,
    )
