"""Do two recordings of a channel come from sensors of the same statistics?

Two specimens of one device differ in their biases, so these are left out: compared are the steps between neighbouring
samples, their distribution (Kolmogorov and Smirnov) and their variance, and the variance of steps between longer means
(wandering). Each part has its p value; the least of them is corrected for their number (Šidák 1967), so a test at level α
calls the same different with a probability of α at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import ks_2samp, norm

from digital_twin.core.arrays import Array

BLOCKS = 64  # of the longer times; their number of degrees of freedom is counted from these


@dataclass(frozen=True)
class Verdict:
    """p: probability of a difference like this between recordings of the same; `part`: where it is largest."""

    p: float
    part: str
    parts: dict[str, float]


def same_channel(a: Array, b: Array) -> Verdict:
    """Compare two recordings (n,), (m,) of one channel at rest, sampled at one rate; finite, at least 256 samples each.

    Raises:
        ValueError: too short, or not finite.
    """
    for x in (a, b):
        if len(x) < 4 * BLOCKS or not np.isfinite(x).all():
            raise ValueError(f"a recording needs at least {4 * BLOCKS} finite samples")
    length = min(len(a), len(b)) // BLOCKS
    steps = _steps(a), _steps(b)
    parts = {
        "distribution": float(ks_2samp(*steps).pvalue),
        "noise": _spread(*steps),
        "wandering": _ratio(_means(a, length), _means(b, length)),
    }
    part = min(parts, key=lambda k: parts[k])
    return Verdict(1.0 - (1.0 - parts[part]) ** len(parts), part, parts)


def _steps(x: Array) -> Array:
    """Differences of pairs of neighbours, no sample in two of them."""
    n = len(x) // 2 * 2
    return np.asarray(x[1:n:2] - x[0:n:2])


def _means(x: Array, length: int) -> Array:
    """Differences of the means of pairs of neighbouring blocks."""
    n = len(x) // (2 * length) * 2 * length
    m = x[:n].reshape(-1, length).mean(axis=1)
    return np.asarray(m[1::2] - m[0::2])


def _spread(a: Array, b: Array) -> float:
    """p value of the ratio of two variances of independent values, whatever their distribution's tails."""
    va, vb = float(a.var()), float(b.var())
    if va == 0.0 or vb == 0.0:
        return 1.0 if va == vb else 0.0
    error = sum((float(np.mean((x - x.mean()) ** 4)) / v**2 - 1.0) / len(x) for x, v in ((a, va), (b, vb)))
    return float(2.0 * norm.sf(abs(np.log(va / vb)) / np.sqrt(error)))


def _ratio(a: Array, b: Array) -> float:
    """p value of the ratio of two variances about zero, of independent values."""
    va, vb = float(a @ a) / len(a), float(b @ b) / len(b)
    if va == 0.0 or vb == 0.0:
        return 1.0 if va == vb else 0.0
    one_sided = float(fisher.sf(va / vb, len(a), len(b)))
    return min(1.0, 2.0 * min(one_sided, 1.0 - one_sided))
