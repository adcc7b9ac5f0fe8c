"""The page's curves of the last minute."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import viser
from viser import uplot

from digital_twin.core.arrays import Array
from digital_twin.dashboard.board import Board
from digital_twin.dashboard.colours import LINES


@dataclass(frozen=True)
class Curve:
    """One line of a plot: which series of the board, and what to call it. `floating`: zero need not be in view."""

    key: str
    label: str
    floating: bool = False


PLOTS: tuple[tuple[str, tuple[Curve, ...]], ...] = (
    ("Sync latency to this page [ms]", (Curve("latency_p50", "p50"), Curve("latency_p99", "p99"))),
    ("Measured against virtual", (Curve("joints", "joints RMS [mrad]"), Curve("base", "external pose [cm]"))),
    ("Skill of forecasts, 0.5 s ahead", (Curve("skill_joints", "joints"), Curve("skill_base", "base"))),
    ("Hottest motor [°C]", (Curve("motor", "winding", floating=True),)),
    ("Capture point inside the support [cm]", (Curve("margin", "margin"),)),
)  # fmt: skip


class Plots:
    """Curves in the current container of the page's panel, over the last `span` seconds."""

    def __init__(self, server: viser.ViserServer, span: float) -> None:
        self._span, self._plots = span, []
        for title, curves in PLOTS:
            lines = [uplot.Series(label="time [s]")]
            lines += [
                uplot.Series(label=c.label, stroke=colour, width=1.5) for c, colour in zip(curves, LINES, strict=False)
            ]
            handle = server.gui.add_uplot(
                tuple(np.array([-1.0, 0.0]) for _ in lines), tuple(lines), title=title, height=150,
                scales=self._scales(0.0, 1.0), legend=uplot.Legend(show=True), padding=(10, 10, 0, 0),
            )  # fmt: skip
            self._plots.append((handle, curves))

    def _scales(self, low: float, high: float) -> dict[str, uplot.Scale]:
        # What is not known is NaN: a curve has a gap there, but no range could be found from it.
        return {"x": uplot.Scale(time=False, range=(-self._span, 0.0)), "y": uplot.Scale(range=(low, high))}

    def draw(self, board: Board) -> None:
        """What the board has."""
        for handle, curves in self._plots:
            data = board.curves(tuple(c.key for c in curves))
            if len(data[0]) > 1:
                handle.scales = self._scales(*nice_range(np.concatenate(data[1:]), curves[0].floating))
                handle.data = tuple(np.ascontiguousarray(x, dtype=np.float64) for x in data)


def nice_range(values: Array, floating: bool = False) -> tuple[float, float]:
    """Round limits around the finite values, which change seldom; with zero among them unless they float."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if not floating:
        low, high = min(low, 0.0), max(high, 0.0)
    extent = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-3)
    step = 10.0 ** math.floor(math.log10(extent))
    step = next(step * k for k in (0.5, 1.0, 2.0, 5.0) if extent <= 5.0 * step * k)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high) if high > low else (low, low + step)
