"""Two runs side by side: what differs, by how much, and whether chance could have done it.

Neighbouring samples of a run are alike, so a thousand of them may be worth ten: the tests count those. Means are compared
by Welch's t-test on effective samples, 99 % values by a block bootstrap; p-values are adjusted for the number of questions
(Holm). A difference that is sure can still be too small to matter: both are said.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.recording.findings import Analysis
from digital_twin.recording.series import compare_means, effective_size, holm

SURE = 0.05
SMALL = 0.05  # relative: a smaller difference hardly matters
FEW = 8.0  # effective samples below which a test says little
DRAWS = 400
MOST = 200_000


@dataclass(frozen=True)
class Row:
    """One figure of both runs. p is adjusted; NaN where nothing can be tested."""

    name: str
    unit: str
    a: float
    b: float
    low: float
    high: float
    p: float
    n_a: float
    n_b: float
    meaning: str

    @property
    def interval(self) -> str:
        """B − A with its interval."""
        if math.isnan(self.low):
            return f"{self.b - self.a:+.3g}"
        return f"{self.b - self.a:+.3g} ({self.low:+.3g} … {self.high:+.3g})"

    @property
    def p_text(self) -> str:
        """As tables show it."""
        return "" if math.isnan(self.p) else "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"

    def as_data(self) -> dict[str, Any]:
        """Plain."""
        return asdict(self)


def compare(a: Analysis, b: Analysis) -> tuple[list[Row], list[str]]:
    """Rows, and what should be known about the comparison."""
    notes = _notes(a, b)
    raw: list[tuple[str, str, float, float, float, float, float, float, float]] = []
    for name, (unit, _, y) in a.signals.items():
        if name not in b.signals:
            notes.append(f"only A has: {name}")
            continue
        x, z = _clean(y), _clean(b.signals[name][2])
        if len(x) < 20 or len(z) < 20:
            continue
        d = compare_means(x, z)
        raw.append((f"{name}, mean", unit, d.mean_a, d.mean_b, d.low, d.high, d.p, d.n_a, d.n_b))
        raw.append((f"{name}, 99 %", unit, *_quantiles(x, z, 0.99)))
    notes += [f"only B has: {name}" for name in b.signals if name not in a.signals]
    adjusted = holm([r[6] for r in raw])
    rows = [Row(*r[:6], p, r[7], r[8], _meaning(r, p)) for r, p in zip(raw, adjusted, strict=True)]
    return rows + _counts(a, b), notes


def _clean(y: Array) -> Array:
    y = np.asarray(y, dtype=float)
    y = y[np.isfinite(y)]
    return y[:: max(1, len(y) // MOST)]


def _quantiles(a: Array, b: Array, q: float) -> tuple[float, float, float, float, float, float, float]:
    """Quantiles of both, interval and p of their difference, by moving blocks as long as what is alike (seeded)."""
    rng = np.random.default_rng(0)
    draws, sizes = [], []
    for x in (a, b):
        n_eff = effective_size(x)
        block = max(1, min(len(x) // 2, round(2.0 * len(x) / n_eff)))
        count = math.ceil(len(x) / block)
        # Of long series every block is thinned out alike: the bootstrap costs the same for an hour as for a minute.
        step = max(1, len(x) // 20_000)
        starts = rng.integers(0, len(x) - block + 1, (DRAWS, count))
        inside = np.arange(0, block, step)
        draws.append(np.array([np.quantile(x[(s[:, None] + inside).ravel()], q) for s in starts]))
        sizes.append(n_eff)
    value_a, value_b = float(np.quantile(a, q)), float(np.quantile(b, q))
    difference = draws[1] - draws[0]
    spread, at = float(difference.std()), value_b - value_a
    low, high = (float(x) for x in np.quantile(difference - difference.mean() + at, (0.025, 0.975)))
    p = math.erfc(abs(at) / spread / math.sqrt(2.0)) if spread > 0.0 else float(at == 0.0)
    return value_a, value_b, low, high, p, sizes[0], sizes[1]


def _meaning(r: tuple[str, str, float, float, float, float, float, float, float], p: float) -> str:
    name, _, a, b, _, _, _, n_a, n_b = r
    if min(n_a, n_b) < FEW:
        return f"too short to tell: worth {min(n_a, n_b):.0f} independent samples"
    if p >= SURE:
        return "no difference that chance would not make"
    change = (b - a) / abs(a) if a else math.inf
    if abs(change) < SMALL:
        return f"sure, but small ({100 * change:+.1f} %)"
    less = "less" if b < a else "more"
    worse = "" if name.startswith("positive power") else ": B is better" if b < a else ": B is worse"
    return f"{abs(100 * change):.0f} % {less} in B{worse}" if math.isfinite(change) else f"{less} in B{worse}"


def _counts(a: Analysis, b: Analysis) -> list[Row]:
    """Figures of which there is one a run: nothing to test."""
    rows, nan = [], math.nan
    for name, unit, path in (
        ("errors told", "", ()), ("distance of the base", "m", ("motion", "distance_m")),
        ("largest lean", "deg", ("motion", "largest_lean_deg")), ("work of the motors", "J", ("energy", "work_j")),
    ):  # fmt: skip
        values = []
        for run in (a, b):
            value: Any = run.numbers if path else float(sum(e.level == 2 for e in run.events))
            for key in path:
                value = value.get(key, {}) if isinstance(value, dict) else {}
            values.append(value if isinstance(value, float | int) else nan)
        if all(math.isfinite(v) for v in values):
            rows.append(Row(name, unit, values[0], values[1], nan, nan, nan, 1, 1, "one figure a run: nothing to test"))
    return rows


def _notes(a: Analysis, b: Analysis) -> list[str]:
    notes = []
    names = [r.run.metadata.get("robot") or (r.run.robot.description.name if r.run.robot else "") for r in (a, b)]
    if names[0] != names[1]:
        notes.append(f"the robots have different names: {names[0] or 'not known'} and {names[1] or 'not known'}")
    models = [r.run.metadata.get("model", "") for r in (a, b)]
    if all(models) and models[0] != models[1]:
        notes.append(f"the models differ: {models[0]} and {models[1]}")
    return notes


def in_words(rows: list[Row]) -> str:
    """One sentence or two."""
    better = [r.name for r in rows if "better" in r.meaning]
    worse = [r.name for r in rows if "worse" in r.meaning]
    short = [r.name for r in rows if r.meaning.startswith("too short")]
    tested = [r for r in rows if not math.isnan(r.p)]
    if not tested:
        return "The two runs have nothing in common that can be compared."
    said = []
    if better:
        said.append(f"B is better in: {', '.join(better)}.")
    if worse:
        said.append(f"B is worse in: {', '.join(worse)}.")
    if not better and not worse:
        said.append("No difference between the two runs is both sure and large enough to matter.")
    if short:
        said.append(f"Too short to tell: {', '.join(short)}.")
    return " ".join(said)
