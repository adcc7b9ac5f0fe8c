"""From a mean time between false alarms to thresholds, and from a change's size to the least delay there can be.

Run lengths are in samples, of independent N(0, 1) scores. docs/drift.md has a worked example.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from digital_twin.core.arrays import Array

OVERSHOOT = 1.166  # twice Siegmund's 0.583: what a random walk jumps beyond a threshold on average, at both ends


def cusum_run_length(reference: float, threshold: float, shift: float = 0.0) -> float:
    """Mean run length of a one-sided CUSUM whose scores have mean `shift` (Siegmund 1985, Sequential Analysis, 2.5)."""
    drift = shift - reference
    h = threshold + OVERSHOOT
    if abs(drift) < 1e-9:
        return h * h
    x = -2.0 * drift * h
    return math.inf if x > 700.0 else (math.exp(x) - x - 1.0) / (2.0 * drift * drift)


def cusum_threshold(reference: float, run_length: float) -> float:
    """Threshold of a one-sided CUSUM with this mean run length under no change; the inverse of the above."""
    run_length = max(run_length, 2.0)
    top = (math.log(run_length) + 5.0) / (2.0 * reference) + 10.0
    if cusum_run_length(reference, 0.0) >= run_length:
        return 0.0
    return float(brentq(lambda h: cusum_run_length(reference, h) - run_length, 0.0, top))


def markov_run_length(reference: float, threshold: float, shift: float = 0.0, states: int = 400) -> float:
    """The same by a Markov chain on a grid (Brook, Evans 1972): exact as the grid gets fine, and what tests trust."""
    width = threshold / (states - 0.5)
    centre = np.arange(states) * width
    upper = norm.cdf(centre[None, :] + width / 2 - centre[:, None] + reference - shift)
    lower = norm.cdf(centre[None, :] - width / 2 - centre[:, None] + reference - shift)
    lower[:, 0] = 0.0  # what falls below zero starts again there
    return float(np.linalg.solve(np.eye(states) - (upper - lower), np.ones(states))[0])


def chi_square_threshold(window: int, run_length: float | Array) -> float | Array:
    """Of the sum of `window` squared scores, asked at every sample.

    Sums that overlap cross a threshold in clumps, so one crossing in `run_length` samples is more often than one alarm
    is: the run length is at least what was asked for.
    """
    return chi2.isf(1.0 / np.maximum(run_length, 2.0), window)  # type: ignore[no-any-return]


def least_delay(information: float, run_length: float) -> float:
    """Lorden's bound (1971): no detector with this run length is faster on average, in its worst case, than log γ / I.

    `information`: Kullback-Leibler divergence a sample [nat], δ²/2 for a shift of δ standard deviations. At least one
    sample.
    """
    return max(1.0, math.log(max(run_length, 2.0)) / information) if information > 0.0 else math.inf
