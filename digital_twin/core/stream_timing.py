"""What one-way stamps can tell about a stream: clock offset plus least delay, clock drift, excess delay, and lag.

Offset and least delay cannot be told apart without an answer from the other side (Paxson 1998); their sum can: it is
the lower envelope of arrival − stamp. Its slope is the drift of the sender's clock against ours. What a message took
beyond the envelope is its excess delay. How much one stream lags behind another shows in what both of them measure.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import uniform_filter1d

from digital_twin.core.arrays import Array

NS = 1_000_000_000
WINDOW = 1_000_000_000  # of one least value [ns]
WINDOWS = 60
BLOCKS = 4  # parts of the window, whose lags tell by their differences how sure the lag is


@dataclass(frozen=True)
class StreamTiming:
    """offset [s]: clock offset plus least delay, with its standard deviation; drift [s/s] with its own (NaN: unknown).

    excess_p50, excess_p99, excess_max [s]: delays beyond the least of the last messages.
    """

    offset: float
    offset_spread: float
    drift: float
    drift_spread: float
    excess_p50: float
    excess_p99: float
    excess_max: float


class StreamClock:
    """Listens to one stream's stamps [ns] and times of arrival [ns]."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all, as after a jump of a clock."""
        self._least: deque[tuple[int, int]] = deque(maxlen=WINDOWS)  # (arrival, least arrival − stamp) of a window
        self._recent: deque[tuple[int, int]] = deque(maxlen=1000)
        self._start: int | None = None
        self._now: tuple[int, int] = (0, 0)

    def add(self, stamp_ns: int, arrival_ns: int) -> None:
        """One message."""
        delay = arrival_ns - stamp_ns
        self._recent.append((arrival_ns, delay))
        if self._start is None or arrival_ns - self._start > WINDOW:
            if self._start is not None:
                self._least.append(self._now)
            self._start, self._now = arrival_ns, (arrival_ns, delay)
        elif delay < self._now[1]:
            self._now = (arrival_ns, delay)

    @property
    def least_ns(self) -> int:
        """Least arrival − stamp of the last second or two [ns]; 0 before the first message."""
        if self._start is None:
            return 0
        return min(self._now[1], self._least[-1][1]) if self._least else self._now[1]

    def timing(self) -> StreamTiming | None:
        """What is known so far; None before the first message."""
        if self._start is None:
            return None
        points = np.array([*self._least, self._now], dtype=np.int64)
        t = (points[:, 0] - points[-1, 0]) / NS
        base = int(points[:, 1].min())
        y = (points[:, 1] - base) / NS
        offset, spread, drift, drift_spread = float(y.min()), math.nan, math.nan, math.nan
        if len(t) >= 5:
            A = np.column_stack([np.ones_like(t), t])
            (offset, drift), residual, *_ = np.linalg.lstsq(A, y, rcond=None)
            variance = float(residual[0]) / (len(t) - 2) if len(residual) else 0.0
            covariance = variance * np.linalg.inv(A.T @ A)
            spread, drift_spread = math.sqrt(covariance[0, 0]), math.sqrt(covariance[1, 1])
        # An array of tuples takes numpy twice as long.
        recent = np.fromiter(chain.from_iterable(self._recent), np.int64, 2 * len(self._recent)).reshape(-1, 2)
        line = (0.0 if math.isnan(drift) else drift) * (recent[:, 0] - points[-1, 0]) / NS
        excess = np.maximum(0.0, (recent[:, 1] - base) / NS - offset - line)
        p50, p99 = np.percentile(excess, (50, 99))
        # The least of n delays is above the least possible by about their mean over n.
        lately = int((recent[:, 0] > recent[-1, 0] - WINDOW).sum())
        spread = math.hypot(spread, float(excess.mean()) / max(lately, 1))
        return StreamTiming(
            base / NS + float(offset), spread, float(drift), drift_spread, float(p50), float(p99), float(excess.max())
        )


@dataclass(frozen=True)
class Lag:
    """lag [s] of the second signal behind the first, its standard deviation, and the correlation there."""

    lag: float
    spread: float
    correlation: float


class LagMeter:
    """Finds the lag between two signals that should be equal up to scale, from their correlation.

    Both are (m,) vectors at stamps of their own, put on one grid of `step` by linear interpolation.
    """

    def __init__(self, step: float = 0.005, most: float = 0.1, window: float = 10.0) -> None:
        """step, most (the largest lag looked for), window: [s]."""
        self.step, self.most = step, most
        size = round(window * 1000)
        self._streams: tuple[deque[tuple[int, Array]], deque[tuple[int, Array]]] = (
            deque(maxlen=size),
            deque(maxlen=size),
        )
        self._window, self._spacing = round(window * NS), round(0.8 * step * NS)

    def clear(self) -> None:
        """Forget all."""
        for s in self._streams:
            s.clear()

    def add(self, which: int, stamp_ns: int, value: Array) -> None:
        """A sample of the first (0) or the second (1) signal."""
        stream = self._streams[which]
        if stream and stamp_ns < stream[-1][0] + self._spacing:
            return
        stream.append((stamp_ns, value))
        while stream[0][0] < stamp_ns - self._window:
            stream.popleft()

    def lag(self) -> Lag | None:
        """None while there is too little, or nothing that the two have in common."""
        if min(len(s) for s in self._streams) < 50:
            return None
        start = max(s[0][0] for s in self._streams)
        span = (min(s[-1][0] for s in self._streams) - start) / NS
        n, k = int(span / self.step), round(self.most / self.step)
        if n < 20 * 2 or n < 6 * k:
            return None
        grid = np.asarray(np.arange(n) * self.step, dtype=float)
        # What changes slowly looks alike at any lag: only what changes within half a second counts.
        slow = max(3, round(0.5 / self.step))
        a, b = (x - uniform_filter1d(x, slow, axis=0) for x in (self._on_grid(s, start, grid) for s in self._streams))
        m = (n - 2 * k) // BLOCKS
        parts = [self._scores(a, b, k, slice(k + i * m, k + (i + 1) * m)) for i in range(BLOCKS)]
        whole = self._peak(np.sum(parts, axis=0), k)
        each = [self._peak(part, k) for part in parts]
        lags = [p[0] for p in each if p is not None and p[1] >= 0.5]
        if whole is None or whole[1] < 0.5 or len(lags) < 2:
            return None
        return Lag(whole[0], float(np.std(lags, ddof=1)) / math.sqrt(len(lags)), whole[1])

    @staticmethod
    def _scores(a: Array, b: Array, k: int, rows: slice) -> Array:
        """Products of a's rows with b's shifted by −k … k, and the powers of both: (3, 2 k + 1)."""
        x = a[rows]
        y = sliding_window_view(b[rows.start - k : rows.stop + k], len(x), axis=0)  # (2 k + 1, m, len(x))
        products, power = np.tensordot(y, x.T, axes=2), np.einsum("kmi,kmi->k", y, y)
        return np.array([products, np.full(len(power), np.vdot(x, x)), power])

    def _peak(self, sums: Array, k: int) -> tuple[float, float] | None:
        """Lag [s] and correlation at the highest point, between samples by a parabola; None at an end."""
        scores = sums[0] / np.maximum(np.sqrt(sums[1] * sums[2]), 1e-12)
        best = int(np.argmax(scores))
        if not 0 < best < 2 * k:
            return None
        left, top, right = scores[best - 1 : best + 2]
        curve = left - 2.0 * top + right
        if curve >= 0.0:
            return None
        return float((best - k + 0.5 * (left - right) / curve) * self.step), float(top)

    @staticmethod
    def _on_grid(stream: deque[tuple[int, Array]], start: int, grid: Array) -> Array:
        t = np.array([(s - start) / NS for s, _ in stream])
        v = np.concatenate([value for _, value in stream]).reshape(len(t), -1)
        return np.column_stack([np.interp(grid, t, column) for column in v.T])
