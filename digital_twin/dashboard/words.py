"""The page's texts as HTML. Whatever comes from topics is escaped: it may hold anything."""

from __future__ import annotations

import math
from html import escape

from digital_twin.core.view import View
from digital_twin.dashboard import colours
from digital_twin.dashboard.board import Board

_BOX = "font-size:13px;line-height:1.45;padding:2px 14px 4px"
LEGEND = (
    ("virtual robot", (150, 158, 168)), ("measured", colours.MEASURED), ("forecast and its 90 % spread", colours.FORECAST),
    ("force under a foot", colours.FORCE), ("support", colours.SUPPORT), ("centre of mass", colours.MASS),
    ("ZMP", colours.ZMP), ("capture point", colours.CAPTURE), ("scan", colours.SCAN), ("footprints", colours.FOOTPRINT),
)  # fmt: skip


def dot(colour: str) -> str:
    """A coloured dot before a word."""
    return f'<span style="display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:6px;background:{colour}"></span>'


def headline(board: Board, view: View | None, feet: list[str], now: float) -> str:
    """The card on top: the verdict on drift, how well the twin follows, what is about to happen."""
    level, sentence, details = board.verdict(now)
    rows = [f'<div style="font-weight:600">{dot(colours.LEVELS[level])}{escape(sentence)}</div>']
    rows += [f'<div style="opacity:.7;padding-left:16px">{escape(d)}</div>' for d in details]
    for level, words in board.warnings[:3]:
        rows.append(f"<div>{dot(colours.LEVELS[min(level, 3)])}{escape(words)}</div>")
    p50, p99 = board.latency()
    facts = [("sync latency", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms" if math.isfinite(p50) else "–")]
    sync = board.nodes.get("twin_synchronizer")
    error = sync.number("sync_error_m") if sync else math.nan
    facts.append(("external pose", f"{100 * error:.1f} cm from the virtual one" if math.isfinite(error) else "none"))
    if view is not None:
        standing = [foot for foot, on in zip(feet, view.contacts, strict=True) if on]
        facts.append(("standing on", ", ".join(standing) or "nothing"))
        x, y, z = view.position
        facts.append(("base in map", f"{x:.2f}, {y:.2f}, {z:.2f} m"))
    cells = "".join(
        f'<tr><td style="opacity:.6;padding-right:10px">{escape(k)}</td><td>{escape(v)}</td></tr>' for k, v in facts
    )
    return f'<div style="{_BOX}">{"".join(rows)}<table style="border-spacing:0;margin-top:4px">{cells}</table></div>'


def nodes(board: Board, now: float) -> str:
    """A table of the nodes' health."""
    if not board.nodes:
        return f'<div style="{_BOX}">no node has been heard yet</div>'
    rows = []
    for name, said in sorted(board.nodes.items()):
        level, state, output, work, words = said.row(now)
        rows.append(
            f'<tr><td style="padding:2px 8px 0 0;white-space:nowrap">{dot(colours.LEVELS[level])}<b>{escape(name)}</b></td>'
            f'<td style="padding-right:8px">{escape(state)}</td><td style="white-space:nowrap">{escape(work)}</td></tr>'
        )
        below = " · ".join(x for x in (output, words) if x)
        if below:
            rows.append(f'<tr><td colspan=3 style="opacity:.65;padding:0 0 4px 16px">{escape(below)}</td></tr>')
    return (
        f'<div style="{_BOX};font-size:12px"><table style="border-spacing:0;width:100%">{"".join(rows)}</table></div>'
    )


def legend() -> str:
    """What the colours mean."""
    items = "".join(
        f'<span style="white-space:nowrap;margin-right:12px">{dot(colours.css(c))}{escape(w)}</span> '
        for w, c in LEGEND
    )
    return f'<div style="{_BOX};font-size:12px">{items}</div>'


def note(text: str, level: int = 0) -> str:
    """A line of text."""
    return f'<div style="{_BOX};color:{colours.LEVELS[level]}">{escape(text)}</div>' if text else ""
