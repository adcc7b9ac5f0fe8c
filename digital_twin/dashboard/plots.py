"""The page's curves of the last minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import viser
from viser import uplot

from digital_twin.dashboard.board import Board
from digital_twin.dashboard.colours import LINES


@dataclass(frozen=True)
class Curve:
    """One line of a plot: which series of the board, and what to call it."""

    key: str
    label: str


PLOTS: tuple[tuple[str, tuple[Curve, ...]], ...] = (
    ("Sync latency to this page [ms]", (Curve("latency_p50", "p50"), Curve("latency_p99", "p99"))),
    ("Measured against virtual", (Curve("joints", "joints RMS [mrad]"), Curve("base", "external pose [cm]"))),
    ("Skill of forecasts, 0.5 s ahead", (Curve("skill_joints", "joints"), Curve("skill_base", "base"))),
    ("Hottest motor [°C]", (Curve("motor", "winding"),)),
    ("Capture point inside the support [cm]", (Curve("margin", "margin"),)),
)  # fmt: skip


class Plots:
    """Curves in the current container of the page's panel."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._handles = []
        for title, curves in PLOTS:
            lines = [uplot.Series(label="time [s]")]
            lines += [
                uplot.Series(label=c.label, stroke=colour, width=1.5, spanGaps=False)
                for c, colour in zip(curves, LINES, strict=False)
            ]
            empty = tuple(np.array([0.0, 1.0]) for _ in lines)
            handle = server.gui.add_uplot(
                empty, tuple(lines), title=title, height=150, scales={"x": uplot.Scale(time=False, auto=True)},
                legend=uplot.Legend(show=True), padding=(2, 10, 0, 0),
            )  # fmt: skip
            self._handles.append((handle, tuple(c.key for c in curves)))

    def draw(self, board: Board) -> None:
        """What the board has."""
        for handle, keys in self._handles:
            data = board.curves(keys)
            if len(data[0]) > 1:
                handle.data = tuple(np.ascontiguousarray(x, dtype=np.float64) for x in data)
