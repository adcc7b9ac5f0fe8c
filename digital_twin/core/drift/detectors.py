"""Has the mean or the spread of scores changed? Detectors for many channels at once.

Each takes a row of scores (c,), N(0, 1) while nothing has changed, NaN where there is none. Thresholds follow from the mean
run length (in samples) that each channel's detector may have between false alarms: see run_length.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from digital_twin.core.arrays import Array, Index, Mask, or_zero
from digital_twin.core.drift.bank import CLIP, SHIFTS, STRONGEST, WINDOW, Nominal
from digital_twin.core.drift.run_length import chi_square_threshold, cusum_threshold

KINDS = ("step", "drift", "spread")
PIECE = 25  # healthy samples that are gone through at a time
SLOW = 5.0  # [s] of evidence, after which a change crept
CAP = 2.0  # thresholds; no sum grows beyond, so that it comes down soon when all is well again
CHANCE, CHANCES = 1.15, 1.5  # times as high as usual is chance: of a channel's one sum, of its five
ONCE = 0.6  # of a threshold, which one sample may add: one outlier is no change, two in a row may be
FAINT = 0.2  # [standard deviations]; effects that are less are taken for none: a model is never as exact as that
# On thresholds: a minute does not show all that an hour will. It does of what shows in some samples, having hundreds of
# such stretches; some joints swing but once, and gains are seen in swings.
FAST_MARGIN, MARGIN, GAIN_MARGIN, SLOW_MARGIN = 1.2, 1.4, 1.6, 2.0
LN2 = math.log(2.0)
UNREST = 2.5  # times as restless as ever seen is a change
HYSTERESIS = 0.5  # an alarm ends when the statistic is below this share of its threshold
LASTS = 0.3  # [s] of an alarm at least: what is over in a moment has a cause, too, and that takes time to find


class Cusum:
    """Two-sided CUSUMs, several for each channel, each best for one shift of the mean (Page 1954).

    Attributes:
        sums: (shifts, 2, c), for rising and falling means, in thresholds: 1 is an alarm. since: (shifts, 2, c) samples
            since each sum left zero.
    """

    def __init__(self, channels: int, run_length: float | Array, allowance: Array | None = None) -> None:
        """`run_length`: of each channel, or of all. `allowance` (c, shifts): by how much a mean may differ from zero without
        any change."""
        free = np.zeros((len(SHIFTS), 1)) if allowance is None else allowance.T
        k = np.array(SHIFTS) / 2.0
        self._margin = np.where(np.array(SHIFTS) < 2.0, MARGIN, FAST_MARGIN)
        # One run length is shared by two sides and all shifts.
        each = run_length * 2 * len(SHIFTS)
        self.thresholds = np.array([_thresholds(float(x), each, channels) for x in k])
        self._h = self.thresholds[:, None, :]
        self._k = self._learned_k = k[:, None, None] + free[:, None, :]
        self.sums = np.zeros((len(SHIFTS), 2, channels))
        self.since = np.zeros((len(SHIFTS), 2, channels), dtype=np.intp)
        self.cap = CAP

    def allow(self, more: Array) -> None:
        """Means may differ by so much more (c,) than the allowance."""
        self._k = self._learned_k + more

    def heed(self, highest: Array, samples: int, caution: float = 1.0) -> None:
        """Raise thresholds where, over so many healthy samples, the sums (shifts, 2, c) rose higher than those of
        independent scores would: their tails are that much longer."""
        k = np.array(SHIFTS) / 2.0
        usual = np.array([max(cusum_threshold(float(x), samples / LN2), 0.5) for x in k])
        found = highest.max(axis=1) * self.thresholds / usual[:, None]
        self._h = self._h * (caution * self._margin[:, None] * np.maximum(1.0, found / CHANCES))[:, None, :]
        self.reset()

    def add(self, scores: Array, unsure: Array | float = 0.0) -> None:
        """One row, and by how much its means may be off (c,)."""
        there = np.isfinite(scores)
        x = np.where(there, scores, 0.0)
        step = np.stack([x, -x]) - self._k - unsure
        grown = np.where(there, np.clip(self.sums + np.minimum(step / self._h, ONCE), 0.0, self.cap), self.sums)
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


class Directed:
    """CUSUMs of likelihood ratios for a gain of something known: a motor that gives less of what it should, friction that
    takes more. Sums of likelihood ratios have a run length of at least e^h, whatever the effect (Lorden 1971).

    Attributes:
        sums: (2, c), for gains up and down, in thresholds. since: (2, c) samples since each left zero.
    """

    def __init__(self, channels: int, run_length: float | Array, allowance: Array | None = None) -> None:
        self._allowance = self._learned = np.zeros(channels) if allowance is None else allowance
        self.threshold = np.full(channels, np.log(np.maximum(2.0 * run_length, 2.0)))
        self.sums = np.zeros((2, channels))
        self.since = np.zeros((2, channels), dtype=np.intp)
        self.cap = CAP

    def allow(self, more: Array) -> None:
        """Means may differ by so much more (c,) than the allowance."""
        self._allowance = self._learned + more

    def heed(self, highest: Array, samples: int, caution: float = 1.0) -> None:
        """Raise thresholds where, over so many healthy samples, the sums (2, c) rose higher than they should."""
        found = highest.max(axis=0) * self.threshold / math.log(samples / LN2)
        self.threshold = self.threshold * caution * GAIN_MARGIN * np.maximum(1.0, found / CHANCE)
        self.reset()

    def add(self, scores: Array, effect: Array, unsure: Array | float = 0.0) -> None:
        """One row of scores, what the change looked for would add to it, and by how much its means may be off (c,)."""
        e = np.where(np.abs(effect) < FAINT, 0.0, np.clip(or_zero(effect), -STRONGEST, STRONGEST))
        product = np.clip(or_zero(scores), -CLIP, CLIP) * e
        # Half of the effect is forgiven as it is: that is enough where the mean is known well.
        size = np.abs(e)
        cost = size * np.maximum(0.5 * size + self._allowance, 0.25 * size + unsure)
        step = np.where(np.isfinite(scores), np.stack([product - cost, -product - cost]), 0.0)
        self.sums = np.clip(self.sums + step / self.threshold, 0.0, self.cap)
        self.since = np.where(self.sums > 0.0, self.since + 1, 0)

    def reset(self) -> None:
        """Start from nothing."""
        self.sums[:], self.since[:] = 0.0, 0

    @property
    def level(self) -> Array:
        """In thresholds (c,)."""
        return np.asarray(self.sums.max(axis=0))

    def onset(self) -> Index:
        """How many samples ago the gain seems to have changed (c,)."""
        return np.asarray(self.since[self.sums.argmax(axis=0), np.arange(self.sums.shape[1])])


def _thresholds(reference: float, run_length: float | Array, channels: int) -> Array:
    """Of CUSUMs of so many channels (c,): equal run lengths have equal ones."""
    lengths, which = np.unique(np.broadcast_to(run_length, channels), return_inverse=True)
    return np.array([cusum_threshold(reference, float(x)) for x in lengths])[which]


class PageHinkley:
    """Page and Hinkley's test on means of blocks, against the mean of all blocks before: for means that creep.

    A step is long known from the CUSUM when this one says so; what only this one sees is slow. The mean of before begins
    as zero, worth `memory` blocks, and does not follow while the sum grows.
    """

    def __init__(
        self, channels: int, block: int, run_length: float | Array, allowance: Array | None = None, memory: int = 300
    ) -> None:
        """`run_length` in samples; `block` of them make a mean."""
        self._block, self._memory = block, memory
        self._allowance = self._learned = np.zeros(channels) if allowance is None else allowance
        self._reference = 0.5
        # The mean of before is itself uncertain, by 1 / memory of a block's variance.
        self._inflate = np.sqrt(1.0 + 1.0 / memory)
        self.threshold = _thresholds(self._reference, 2.0 * run_length / block, channels)
        self.cap = 1.1  # thresholds: it comes down slowly
        self._sum, self._count, self._unsure = np.zeros(channels), np.zeros(channels), np.zeros(channels)
        self._filled = 0
        self.mean = np.zeros(channels)
        self._blocks = 0
        self.sums = np.zeros((2, channels))

    def allow(self, more: Array) -> None:
        """Means may differ by so much more (c,) than the allowance."""
        self._allowance = self._learned + more

    def add(self, scores: Array, unsure: Array | float = 0.0) -> None:
        """One row, and by how much its means may be off (c,)."""
        there = np.isfinite(scores)
        self._unsure += np.where(there, unsure, 0.0)
        self._sum += np.clip(np.where(there, scores, 0.0), -CLIP, CLIP)
        self._count += there
        self._filled += 1
        if self._filled < self._block:
            return
        known = self._count > 0.5 * self._block
        raw = self._sum / np.maximum(self._count, 1.0)
        forgiven = self._allowance + self._unsure / np.maximum(self._count, 1.0)
        for total in (self._sum, self._count, self._unsure):
            total[:] = 0.0
        self._filled = 0
        difference = raw - self.mean
        beyond = np.sign(difference) * np.maximum(np.abs(difference) - forgiven, 0.0)
        z = np.where(known, beyond * np.sqrt(self._block) / self._inflate, 0.0)
        step = (np.stack([z, -z]) - self._reference) / self.threshold
        self.sums = np.clip(self.sums + np.where(known, step, 0.0), 0.0, self.cap)
        self._blocks += 1
        calm = known & (self.level < 0.5)
        self.mean = np.where(calm, self.mean + difference / (self._memory + self._blocks), self.mean)

    def heed(self, highest: Array, samples: int, caution: float = 1.0) -> None:
        """Raise thresholds where, over so many healthy samples, the sums (2, c) rose higher than they should."""
        usual = max(cusum_threshold(self._reference, samples / self._block / LN2), 0.5)
        found = highest.max(axis=0) * self.threshold / usual
        self.threshold = self.threshold * caution * SLOW_MARGIN * np.maximum(1.0, found / CHANCE)
        self.reset()

    def reset(self) -> None:
        """Start from nothing."""
        for x in (self._sum, self._count, self._unsure, self.mean, self.sums):
            x[:] = 0.0
        self._filled = self._blocks = 0

    @property
    def level(self) -> Array:
        """In thresholds (c,)."""
        return np.asarray(self.sums.max(axis=0))


class ChiSquare:
    """Sums of squared scores over a moving window (NIS): for spreads that grow, whatever the mean does."""

    def __init__(self, channels: int, window: int, run_length: float | Array, unrest: Array | None = None) -> None:
        """`unrest` (c,): the largest mean square of a window while all was well, if it is more than it should be."""
        self._window = window
        self.threshold = np.full(channels, chi_square_threshold(window, run_length))
        if unrest is not None:
            self.threshold = np.maximum(self.threshold, UNREST * window * unrest)
        self._ring = np.zeros((window, channels))
        self._at = 0
        self.sum = np.zeros(channels)

    def add(self, scores: Array) -> None:
        """One row; what is not there counts as much as is expected."""
        square = np.where(np.isfinite(scores), np.clip(scores, -CLIP, CLIP) ** 2, 1.0)
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
        alarm: (c,) of bool.
    """

    def __init__(
        self, nominal: Nominal, hours: float, share: float | Array, block: float = 2.0, caution: float = 1.0
    ) -> None:
        """hours: between false alarms of the whole system, of which each channel has a `share` (c,). block [s] of Page and
        Hinkley's means. caution: thresholds are that many times higher, of channels that bear witness to little."""
        self._caution = caution
        c, rate = len(nominal.scale), max(nominal.rate, 1.0)
        self.run_length = hours * 3600.0 * rate
        each = 4.0 * self.run_length / share  # four detectors share what a channel has
        self.cusum = Cusum(c, each, nominal.allowance)
        self.directed = Directed(c, each, nominal.directed_allowance)
        self.creep = PageHinkley(c, max(2, round(block * rate)), each, nominal.allowance[:, 0])
        self.spread = ChiSquare(c, max(5, round(WINDOW * rate)), each, nominal.unrest)
        self.alarm = np.zeros(c, dtype=bool)
        self._kind = np.zeros(c, dtype=np.intp)
        self._slow = SLOW * rate
        self._lasts, self._left = round(LASTS * rate), np.zeros(c, dtype=np.intp)

    def add(self, scores: Array, effect: Array | None = None, unsure: Array | float = 0.0) -> None:
        """One row of scores, what the changes looked for would add to it, and by how much its means may be off (c,)."""
        self.cusum.add(scores, unsure)
        self.creep.add(scores, unsure)
        self.spread.add(np.sign(scores) * np.maximum(np.abs(scores) - unsure, 0.0))
        if effect is not None:
            self.directed.add(scores, effect, unsure)
        level = self.level
        fresh = (level >= 1.0) & ~self.alarm
        if fresh.any():
            self._classify(fresh)
        self._left = np.where(level >= 1.0, self._lasts, np.maximum(self._left - 1, 0))
        self.alarm = (level >= 1.0) | (self.alarm & ((level > HYSTERESIS) | (self._left > 0)))

    def allow(self, more: Array) -> None:
        """Means may differ from zero by so much more (c,) than what was learned, without any change."""
        self.cusum.allow(more)
        self.creep.allow(more)
        self.directed.allow(more)

    def rehearse(self, scores: Array, effects: Array) -> Iterator[None]:
        """Run over healthy scores (t, c) and the effects looked for, a little at a time, and heed how high sums rise."""
        parts: tuple[Cusum | Directed | PageHinkley, ...] = (self.cusum, self.directed, self.creep)
        highest = [np.zeros_like(d.sums) for d in parts]
        for d in parts:
            d.cap = np.inf
        for i, (x, e) in enumerate(zip(scores, effects, strict=True)):
            self.cusum.add(x)
            self.directed.add(x, e)
            self.creep.add(x)
            highest = [np.maximum(h, d.sums) for h, d in zip(highest, parts, strict=True)]
            if i % PIECE == PIECE - 1:
                yield
        for d, h, cap in zip(parts, highest, (CAP, CAP, 1.1), strict=True):
            d.cap = cap
            d.heed(h, max(len(scores), 10), self._caution)
        self.spread.threshold = self.spread.threshold * self._caution

    def reset(self) -> None:
        """Start from nothing."""
        for d in (self.cusum, self.directed, self.creep, self.spread):
            d.reset()
        self.alarm[:] = False
        self._left[:] = 0

    def onset(self) -> Index:
        """How many samples ago each channel seems to have changed (c,)."""
        directed = self.directed.level > self.cusum.level
        return np.asarray(np.where(directed, self.directed.onset(), self.cusum.onset()))

    @property
    def level(self) -> Array:
        """The highest of each channel, in thresholds (c,)."""
        return np.asarray(self._levels().max(axis=0))

    def _levels(self) -> Array:
        step = np.maximum(self.cusum.level, self.directed.level)
        return np.stack([step, self.creep.level, self.spread.level])

    def kind(self, channel: int) -> str:
        """What kind of change a channel's alarm began with: "step", "drift" (it took long to show) or "spread"."""
        return KINDS[self._kind[channel]]

    def _classify(self, fresh: Mask) -> None:
        kind = self._levels().argmax(axis=0)
        slow = self.cusum.onset() > self._slow
        self._kind = np.where(fresh, np.where((kind == 0) & slow, 1, kind), self._kind)
