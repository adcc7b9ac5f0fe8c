"""Signals over time: thinned out for plots, and their statistics where neighbours are alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from digital_twin.core.arrays import Array


@dataclass(frozen=True)
class Series:
    """One line of a plot: times [s] (n,) and values (n,)."""

    name: str
    t: Array
    y: Array


@dataclass
class Plot:
    """Lines that belong together. bands: (from, to) [s] to be shaded."""

    section: str
    title: str
    unit: str
    series: list[Series] = field(default_factory=list)


def thin(t: Array, y: Array, most: int = 4000) -> tuple[Array, Array]:
    """At most about `most` points that look the same: the least and the largest value of each stretch.

    t: (n,), y: (n,), NaN where there is nothing.
    """
    n = len(t)
    if n <= most:
        return t, y
    k = math.ceil(2 * n / most)
    whole = n // k * k
    parts = y[:whole].reshape(-1, k)
    low = np.where(np.isnan(parts), np.inf, parts).argmin(axis=1)
    high = np.where(np.isnan(parts), -np.inf, parts).argmax(axis=1)
    first = np.arange(len(parts)) * k
    index = np.unique(np.concatenate([first + low, first + high, np.arange(whole, n), [0, n - 1]]))
    return t[index], y[index]


def effective_size(x: Array) -> float:
    """How many independent samples a series (n,) is worth: n over its integrated autocorrelation time.

    Sums of neighbouring autocorrelations are added while they are positive (Geyer 1992, initial positive sequence).
    """
    n = len(x)
    x = x - x.mean()
    power = float(x @ x)
    if n < 4 or power <= 1e-30 * n:
        return float(n)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    rho = np.fft.irfft(spectrum * np.conj(spectrum), size)[: n // 2] / power
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0.0)
    stop = int(negative[0]) if len(negative) else len(pairs)
    tau = max(1.0, 2.0 * float(pairs[:stop].sum()) - 1.0)
    return max(2.0, min(float(n), n / tau))


@dataclass(frozen=True)
class Difference:
    """Of the means of two series: b − a with its 95 % interval, and the chance of one as large if there were none.

    n_a, n_b: what the series are worth in independent samples.
    """

    mean_a: float
    mean_b: float
    low: float
    high: float
    p: float
    n_a: float
    n_b: float

    @property
    def difference(self) -> float:
        """b − a."""
        return self.mean_b - self.mean_a


def compare_means(a: Array, b: Array) -> Difference:
    """Welch's t-test on the means, with as many samples as the autocorrelation leaves. a: (n,), b: (m,)."""
    na, nb = effective_size(a), effective_size(b)
    va, vb = float(a.var(ddof=1)) / na, float(b.var(ddof=1)) / nb
    spread = math.sqrt(va + vb)
    difference = float(b.mean() - a.mean())
    if spread == 0.0:
        return Difference(float(a.mean()), float(b.mean()), difference, difference, float(difference == 0.0), na, nb)
    df = (va + vb) ** 2 / (va**2 / max(na - 1, 1) + vb**2 / max(nb - 1, 1))
    reach = float(stats.t.ppf(0.975, df)) * spread
    p = float(2.0 * stats.t.sf(abs(difference) / spread, df))
    return Difference(float(a.mean()), float(b.mean()), difference - reach, difference + reach, p, na, nb)


def holm(p: list[float]) -> list[float]:
    """p-values adjusted for asking several questions at once (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return [float(x) for x in adjusted]
