"""Counters that nodes keep about themselves: how fast, how late, how often, how many refused and why."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np


class Recent:
    """The last values of a quantity, a bounded number of them: percentiles over a moving window."""

    def __init__(self, size: int = 2000) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Keep one more value; the oldest goes."""
        self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    def summary(self) -> dict[str, float]:
        """p50, p99 and max of what is kept; empty when there is nothing."""
        if not self._values:
            return {}
        v = np.array(self._values)
        p50, p99 = np.percentile(v, (50, 99))
        return {"p50": float(p50), "p99": float(p99), "max": float(v.max())}


@dataclass
class Rate:
    """Counts events; `hz()` is the rate since it was last asked."""

    count: int = 0
    _marked: int = 0
    _since_ns: int | None = None
    _hz: float = 0.0

    def hz(self, now_ns: int) -> float:
        """Events a second since the last call with a clearly later time [ns]."""
        if self._since_ns is None:
            self._since_ns, self._marked = now_ns, self.count
        elif now_ns - self._since_ns > 100_000_000:
            self._hz = (self.count - self._marked) * 1e9 / (now_ns - self._since_ns)
            self._since_ns, self._marked = now_ns, self.count
        return self._hz


class Pace:
    """How fast simulated time goes, in simulated seconds for one of the wall clock."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def factor(self, simulated_ns: int, wall_ns: int) -> float:
        """Real-time factor since the last call; NaN at the first."""
        last, self._last = self._last, (simulated_ns, wall_ns)
        if last is None or wall_ns <= last[1]:
            return float("nan")
        return (simulated_ns - last[0]) / (wall_ns - last[1])


@dataclass
class Loop:
    """Durations of a repeated piece of work [ms], over the whole run, and how often it took longer than it may."""

    limit_ms: float = float("inf")
    count: int = 0
    total_ms: float = 0.0
    min_ms: float = float("inf")
    max_ms: float = 0.0
    overruns: int = 0

    def add(self, ms: float) -> None:
        """Count one round."""
        self.count += 1
        self.total_ms += ms
        self.min_ms = min(self.min_ms, ms)
        self.max_ms = max(self.max_ms, ms)
        self.overruns += ms > self.limit_ms

    def summary(self) -> dict[str, float]:
        """min, avg, max [ms] and overruns; empty before the first round."""
        if not self.count:
            return {}
        avg = self.total_ms / self.count
        return {"min": self.min_ms, "avg": avg, "max": self.max_ms, "overruns": self.overruns}


@dataclass
class Tally:
    """Messages received per stream, and those rejected (or changed) by reason."""

    received: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    def reject(self, stream: str, reason: str) -> None:
        """Count a message of a stream of which all, or a part, was refused for a reason."""
        self.rejected[f"{stream}/{reason}"] += 1
