"""What the page says in words and draws as curves: the nodes' own status, the verdict on drift, warnings, key figures."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.history import NS, History

SILENT_AFTER = 2.5  # [s]
LEVELS = ("ok", "warning", "error", "stale")
FRESH = 3.0  # [s] for which a figure is drawn on when nothing new is said
SERIES = ("latency_p50", "latency_p99", "joints", "base", "skill_joints", "skill_base", "motor", "margin")


@dataclass
class Said:
    """What somebody last said of itself: level 0 … 3, words, values, and when [s]."""

    level: int
    words: str
    values: dict[str, str] = field(default_factory=dict)
    at: float = 0.0

    def number(self, key: str) -> float:
        """A value as a number; NaN when it is none."""
        try:
            return float(self.values.get(key, "nan"))
        except ValueError:
            return math.nan

    def row(self, now: float) -> tuple[int, str, str, str, str]:
        """Level, state, main output, work and words, for a table."""
        level = 2 if now - self.at > SILENT_AFTER else min(self.level, 3)
        state = "silent" if now - self.at > SILENT_AFTER else LEVELS[level]
        rates = {k[8:]: self.number(k) for k in self.values if k.startswith("rate_hz/")}
        main = sorted((k for k in rates if rates[k] > 0.5), key=lambda k: (not k.endswith("joint_states"), -rates[k]))
        output = f"{main[0]} {rates[main[0]]:.0f} Hz" if main else ""
        average, most = self.number("loop_ms/avg"), self.number("loop_ms/max")
        work = f"{average:.2f} / {most:.1f} ms" if math.isfinite(average) else ""
        return level, state, output, work, self.words


class Board:
    """Collects. Times are seconds of one steady clock, given by the caller.

    Attributes:
        nodes: what each node said last. drift: the monitor's verdicts, by name; None while it never spoke.
        warnings: what the predictor warns of: level and words. samples: rows of SERIES by time [ns].
    """

    def __init__(self, span: float) -> None:
        self.nodes: dict[str, Said] = {}
        self.drift: dict[str, Said] | None = None
        self.warnings: list[tuple[int, str]] = []
        self.samples: History[Array] = History(span, 2000)
        self._latencies: deque[float] = deque(maxlen=300)  # ten seconds' worth
        self._arrived: dict[int, int] = {}
        self._shown: dict[int, int] = {}
        self._now: dict[str, tuple[float, float]] = {}

    # In

    def status(self, name: str, said: Said) -> None:
        """A node's status."""
        self.nodes[name] = said
        if name == "twin_synchronizer":
            self.figure("base", 100.0 * said.number("sync_error_m"), said.at)
        if name == "physics_predictor":
            self.figure("motor", said.number("hottest_motor_C"), said.at)
            self.figure("margin", 100.0 * said.number("capture_margin_m"), said.at)

    def figure(self, key: str, value: float, now: float) -> None:
        """A figure to be drawn; NaN ones are not."""
        if math.isfinite(value):
            self._now[key] = (now, value)

    def arrival(self, stamp_ns: int, at_ns: int) -> None:
        """When the bridge received the measurement of a stamp, on the wall clock."""
        self._pair(self._arrived, self._shown, stamp_ns, at_ns)

    def shown(self, stamp_ns: int, at_ns: int) -> None:
        """When its virtual state reached this page."""
        self._pair(self._shown, self._arrived, stamp_ns, at_ns)

    def _pair(self, own: dict[int, int], other: dict[int, int], stamp_ns: int, at_ns: int) -> None:
        own[stamp_ns] = at_ns
        while len(own) > 2000:
            del own[next(iter(own))]
        if stamp_ns in other:
            self._latencies.append((self._shown.pop(stamp_ns) - self._arrived.pop(stamp_ns)) / 1e6)

    # Out

    def latency(self) -> tuple[float, float]:
        """p50 and p99 [ms] of the last ten seconds; NaN while there are none."""
        if not self._latencies:
            return math.nan, math.nan
        p50, p99 = np.percentile(self._latencies, (50, 99))
        return float(p50), float(p99)

    def sample(self, now: float) -> None:
        """Put down a row of the curves."""
        latency = dict(zip(("latency_p50", "latency_p99"), self.latency(), strict=True))
        latest = {key: value for key, (at, value) in self._now.items() if now - at < FRESH}
        row = [latency.get(key, latest.get(key, math.nan)) for key in SERIES]
        self.samples.add(round(now * NS), np.array(row))

    def curves(self, keys: tuple[str, ...]) -> tuple[Array, ...]:
        """Times [s] before the newest row (k,), then a curve (k,) for each key."""
        rows = self.samples.frozen()
        if not rows:
            return (np.zeros(1), *(np.full(1, np.nan) for _ in keys))
        stamps = np.array([stamp for stamp, _ in rows])
        values = np.array([row for _, row in rows])
        return ((stamps - stamps[-1]) / NS, *(values[:, SERIES.index(key)] for key in keys))

    def verdict(self, now: float) -> tuple[int, str, list[str]]:
        """Whether the robot still behaves like its model: level, one sentence, and details."""
        if self.drift is None:
            return 3, "no verdict on drift", ["the drift monitor has not spoken"]
        if not self.drift:
            return 3, "no verdict on drift yet", []
        worst = max(self.drift.values(), key=lambda s: s.level % 3)
        old = min(now - s.at for s in self.drift.values()) > 60.0
        headline = worst.words or ("behaves like its model" if worst.level == 0 else "drift")
        details = [f"{k.replace('_', ' ')}: {v}" for k, v in list(worst.values.items())[:6] if v]
        return (3 if old else worst.level), headline + (" (long ago)" if old else ""), details
