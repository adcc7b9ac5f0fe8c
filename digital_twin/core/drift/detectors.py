"""Has the mean or the spread of scores changed? Detectors for many channels at once.

Each takes a row of scores (c,), N(0, 1) while nothing has changed, NaN where there is none. Thresholds follow from the mean
run length (in samples) that each channel's detector may have between false alarms: see run_length.py.
"""

from __future__ import annotations

import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.drift.run_length import chi_square_threshold, cusum_threshold

SHIFTS = (0.5, 1.0, 2.0, 4.0)  # for which CUSUMs are made; any shift between is within 1.8 of the best delay
HYSTERESIS = 0.5  # an alarm ends when the statistic is below this share of its threshold


class Cusum:
    """Two-sided CUSUMs, several for each channel, each best for one shift of the mean (Page 1954).

    Attributes:
        sums: (shifts, 2, c), for rising and falling means, in thresholds: 1 is an alarm. since: (shifts, 2, c) samples
            since each sum left zero.
    """

    def __init__(self, channels: int, run_length: float, allowance: Array | None = None) -> None:
        """`allowance` (c,): by how much a mean may differ from zero without any change."""
        self._allowance = np.zeros(channels) if allowance is None else allowance
        k = np.array(SHIFTS) / 2.0
        # One run length is shared by two sides and all shifts.
        each = run_length * 2 * len(SHIFTS)
        self.thresholds = np.array([cusum_threshold(float(x), each) for x in k])
        self._h = self.thresholds[:, None, None]
        self._k = k[:, None, None] + self._allowance
        self.sums = np.zeros((len(SHIFTS), 2, channels))
        self.since = np.zeros((len(SHIFTS), 2, channels), dtype=np.intp)

    def add(self, scores: Array) -> None:
        """One row. A sum does not grow beyond two thresholds, so that it comes down soon when all is well again."""
        there = np.isfinite(scores)
        x = np.where(there, scores, 0.0)
        step = np.stack([x, -x]) - self._k
        grown = np.where(there, np.clip(self.sums + step / self._h, 0.0, 2.0), self.sums)
        self.since = np.where(grown > 0.0, self.since + 1, 0)
        self.sums = grown

    def reset(self) -> None:
        """Start from nothing."""
        self.sums[:], self.since[:] = 0.0, 0

    @property
    def level(self) -> Array:
        """The highest sum of each channel, in thresholds (c,)."""
        return np.asarray(self.sums.max(axis=(0, 1)))

    def onset(self) -> Index:
        """How many samples ago the mean seems to have changed (c,): since the highest sum left zero."""
        flat = self.sums.reshape(-1, self.sums.shape[2])
        best = flat.argmax(axis=0)
        return np.asarray(self.since.reshape(flat.shape)[best, np.arange(flat.shape[1])])


class PageHinkley:
    """Page and Hinkley's test on means of blocks, against the mean of all blocks before: for means that creep.

    A step is long known from the CUSUM when this one says so; what only this one sees is slow. The mean of before begins
    as zero, worth `memory` blocks, and does not follow while the sum grows.
    """

    def __init__(
        self, channels: int, block: int, run_length: float, allowance: Array | None = None, memory: int = 30
    ) -> None:
        """`run_length` in samples; `block` of them make a mean."""
        self._block, self._memory = block, memory
        self._allowance = np.zeros(channels) if allowance is None else allowance
        self._reference = 0.5
        # The mean of before is itself uncertain, by 1 / memory of a block's variance.
        self._inflate = np.sqrt(1.0 + 1.0 / memory)
        self.threshold = cusum_threshold(self._reference, 2.0 * run_length / block)
        self._sum, self._count = np.zeros(channels), np.zeros(channels)
        self._filled = 0
        self.mean = np.zeros(channels)
        self._blocks = 0
        self.sums = np.zeros((2, channels))

    def add(self, scores: Array) -> None:
        """One row."""
        there = np.isfinite(scores)
        self._sum += np.where(there, scores, 0.0)
        self._count += there
        self._filled += 1
        if self._filled < self._block:
            return
        known = self._count > 0.5 * self._block
        raw = self._sum / np.maximum(self._count, 1.0)
        self._sum, self._count, self._filled = np.zeros_like(self._sum), np.zeros_like(self._sum), 0
        difference = raw - self.mean
        beyond = np.sign(difference) * np.maximum(np.abs(difference) - self._allowance, 0.0)
        z = np.where(known, beyond * np.sqrt(self._block) / self._inflate, 0.0)
        step = (np.stack([z, -z]) - self._reference) / self.threshold
        self.sums = np.clip(self.sums + np.where(known, step, 0.0), 0.0, 2.0)
        self._blocks += 1
        calm = known & (self.level < 0.5)
        self.mean = np.where(calm, self.mean + difference / (self._memory + self._blocks), self.mean)

    def reset(self) -> None:
        """Start from nothing."""
        for x in (self._sum, self._count, self.mean, self.sums):
            x[:] = 0.0
        self._filled = self._blocks = 0

    @property
    def level(self) -> Array:
        """In thresholds (c,)."""
        return np.asarray(self.sums.max(axis=0))


class ChiSquare:
    """Sums of squared scores over a moving window (NIS): for spreads that grow, whatever the mean does."""

    def __init__(self, channels: int, window: int, run_length: float) -> None:
        self._window = window
        self.threshold = np.full(channels, chi_square_threshold(window, run_length))
        self._ring = np.zeros((window, channels))
        self._at = 0
        self.sum = np.zeros(channels)

    def add(self, scores: Array) -> None:
        """One row; what is not there counts as much as is expected."""
        square = np.where(np.isfinite(scores), scores * scores, 1.0)
        i = self._at % self._window
        if self._at < self._window:
            self._ring[i] = 1.0
        self.sum += square - (self._ring[i] if self._at >= self._window else 0.0)
        self._ring[i] = square
        self._at += 1
        if i == 0:  # rounding errors do not add up
            self.sum = self._ring[: min(self._at, self._window)].sum(axis=0)

    def reset(self) -> None:
        """Start from nothing."""
        self._at = 0
        self.sum[:] = 0.0

    @property
    def level(self) -> Array:
        """In thresholds (c,)."""
        return np.asarray(self.sum / self.threshold)


class Detectors:
    """All of one bank's channels, with hysteresis: an alarm that began ends when every statistic has fallen clearly.

    Attributes:
        alarm: (c,) of bool. kind: of each channel that has an alarm: "step", "drift" or "spread".
    """

    def __init__(
        self, channels: int, rate: float, hours: float, share: float, allowance: Array, window: float = 0.5,
        block: float = 2.0,
    ) -> None:  # fmt: skip
        """hours: between false alarms of the whole system, of which each channel has a `share`. rate: samples [1/s].
        window [s] of the chi-square, block [s] of Page and Hinkley's means."""
        self.run_length = hours * 3600.0 * rate
        each = 3.0 * self.run_length / share  # three detectors share what a channel has
        self.cusum = Cusum(channels, each, allowance)
        self.creep = PageHinkley(channels, max(2, round(block * rate)), each, allowance)
        self.spread = ChiSquare(channels, max(5, round(window * rate)), each)
        self.alarm = np.zeros(channels, dtype=bool)

    def add(self, scores: Array) -> None:
        """One row."""
        for d in (self.cusum, self.creep, self.spread):
            d.add(scores)
        level = self.level
        self.alarm = (level >= 1.0) | (self.alarm & (level > HYSTERESIS))

    def reset(self) -> None:
        """Start from nothing."""
        for d in (self.cusum, self.creep, self.spread):
            d.reset()
        self.alarm[:] = False

    @property
    def level(self) -> Array:
        """The highest of each channel, in thresholds (c,)."""
        return np.asarray(np.maximum(np.maximum(self.cusum.level, self.creep.level), self.spread.level))

    def kind(self, channel: int) -> str:
        """Which detector says most about a channel: "step", "drift" or "spread"."""
        levels = [self.cusum.level[channel], self.creep.level[channel], self.spread.level[channel]]
        if levels[0] >= 1.0:
            return "step"
        return ("step", "drift", "spread")[int(np.argmax(levels))]
