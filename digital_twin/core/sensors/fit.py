"""From a recording at rest to the parameters of a sensor, each with an interval that holds the truth (99 %)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import beta, norm

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.errors import TwinError
from digital_twin.core.sensors.allan import allan_variance, covariance, octaves, times
from digital_twin.core.sensors.noise import NoiseModel, basis_allan

SHARE = 0.99
Z = float(norm.ppf(0.5 + SHARE / 2.0))
LEAST_SAMPLES = 1000
_ROUNDS = 4


class FitError(TwinError):
    """A recording from which nothing can be learnt."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds the truth in 99 of 100 recordings."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class NoiseFit:
    """White noise N, bias instability B, random walk K (see noise.py), the mean and the quantisation of some channels."""

    white: Estimate
    instability: Estimate
    walk: Estimate
    mean: Array
    step: float

    @property
    def model(self) -> NoiseModel:
        """The values as a model."""
        return NoiseModel(self.white.value, self.instability.value, self.walk.value, self.step)


def resolution(x: Array) -> float:
    """The quantisation of readings x: their least difference, where differences are its multiples; 0: none seen."""
    values = np.unique(x[:: max(1, len(x) // 20000)])
    steps = np.diff(values)
    steps = steps[steps > 1e-9 * max(1.0, float(np.abs(values).max()))]
    if not len(steps):
        return 0.0
    least = float(np.median(steps[steps < 1.5 * steps.min()]))
    multiples = steps[steps < 50.0 * least] / least
    return least if float(np.abs(multiples - np.rint(multiples)).max()) < 0.05 else 0.0


def fit_noise(x: Array, dt: float, *, instability: bool = True) -> NoiseFit:
    """Fit a noise model to the Allan variances of channels x (n, c) that share it, sampled every dt [s].

    Generalised least squares over octaves of averaging times, in which the variance is linear in N², B², K²; the
    covariance of the Allan variances is that of the fitted model (as the method of wavelet moments: Guerrier et al.,
    J. Am. Stat. Assoc. 2013). `instability`: whether to look for B.

    Raises:
        FitError: when there are too few samples, or nothing varies.
    """
    n, c = x.shape
    if n < LEAST_SAMPLES:
        raise FitError(f"{n} samples are too few to fit noise to; at least {LEAST_SAMPLES} are needed")
    if not np.isfinite(x).all():
        raise FitError("the readings are not all finite numbers")
    lengths = octaves(n)
    tau = times(lengths, dt)
    step = float(np.median([resolution(channel) for channel in x.T]))
    measured = allan_variance(x, lengths, dt).mean(axis=1) - step**2 * dt / (12.0 * tau)
    if not measured[0] > -(step**2) / 12.0 * 0.999:
        raise FitError("nothing varies in this recording: the noise is below the resolution")
    columns = [0, 1, 2] if instability else [0, 2]
    basis = basis_allan(tau)[:, columns]
    squares = np.zeros(3)
    spread = np.diag((np.maximum(measured, 1e-30) ** 2) * tau / (n * dt))
    inverse = np.eye(len(columns))
    for _ in range(_ROUNDS):
        root = np.linalg.cholesky(spread + 1e-12 * np.diag(np.diag(spread)))
        A, y = np.linalg.solve(root, basis), np.linalg.solve(root, measured)
        scale = np.linalg.norm(A, axis=0)
        found, _ = nnls(A / scale, y)
        squares[columns] = found / scale
        inverse = np.linalg.inv(A.T @ A)
        N, B, K = np.sqrt(np.maximum(squares, 1e-30)).tolist()
        guess = NoiseModel(N, B, K, step)
        spread = covariance(guess, lengths, dt, n) / c
    error = np.zeros(3)
    error[columns] = np.sqrt(np.diag(inverse))
    white, flicker, walk = (_root(float(s), float(e)) for s, e in zip(squares, error, strict=True))
    return NoiseFit(white, flicker, walk, x.mean(axis=0), step)


def _root(square: float, error: float) -> Estimate:
    """From a square and its standard error to its root."""
    if square > 3.0 * error:  # then its logarithm is nearly normal
        factor = math.exp(0.5 * Z * error / square)
        root = math.sqrt(square)
        return Estimate(root, root / factor, root * factor)
    low = max(0.0, square - Z * error)
    return Estimate(math.sqrt(square), math.sqrt(low), math.sqrt(square + Z * error))


@dataclass(frozen=True)
class RangeFit:
    """Range noise σ² = σ₀² + (σ₁ r)² + (r δ tan θ / 4)², dropouts and digits of a lidar."""

    noise: Estimate
    noise_per_metre: Estimate
    divergence: Estimate
    dropout: Estimate
    resolution: float


def fit_ranges(ranges: Array, step: float) -> RangeFit:
    """Fit range noise to scans (n, rays) or sweeps of lines (n, lines, rays) [m] of a scene at rest, `step` [rad] apart.

    What did not return is not finite.

    Incidence is taken from the mean ranges of neighbours; edges and rays that seldom return are left out.

    Raises:
        FitError: when there are too few scans or rays.
    """
    n, rays = len(ranges), ranges.shape[-1]
    ranges = ranges.reshape(n, -1)
    if n < 20:
        raise FitError(f"{n} scans are too few; at least 20 are needed")
    there = np.isfinite(ranges)
    count = there.sum(axis=0)
    mean = np.where(there, ranges, 0.0).sum(axis=0) / np.maximum(count, 1)
    lines = [_incidence(line, step) for line in mean.reshape(-1, rays)]
    tangent, plain = np.concatenate([line[0] for line in lines]), np.concatenate([line[1] for line in lines])
    used = plain & (count > 0.8 * n) & (tangent < 2.0)
    if used.sum() < 20:
        raise FitError(f"{int(used.sum())} rays meet a plain surface often enough; at least 20 are needed")
    r, m, k = mean[used], tangent[used], count[used]
    variance = (np.where(there, ranges - mean, 0.0)[:, used] ** 2).sum(axis=0) / (k - 1)
    digit = resolution(ranges[there][:20000])
    basis = np.column_stack([np.ones_like(r), r**2, (r * m / 4.0) ** 2])
    squares, inverse = np.zeros(3), np.eye(3)
    expected = np.full(len(r), float(np.median(variance)))
    for _ in range(_ROUNDS):
        weight = np.sqrt((k - 1) / 2.0) / expected
        A = basis * weight[:, None]
        scale = np.linalg.norm(A, axis=0)
        found, _ = nnls(A / scale, (variance - digit**2 / 12.0) * weight)
        squares = found / scale
        inverse = np.linalg.pinv(A.T @ A)
        expected = np.maximum(basis @ squares + digit**2 / 12.0, 1e-12)
    errors = np.sqrt(np.diag(inverse))
    noise, per_metre, divergence = (_root(float(s), float(e)) for s, e in zip(squares, errors, strict=True))
    return RangeFit(noise, per_metre, divergence, probability(int((n - k).sum()), n * len(k)), digit)


def _incidence(mean: Array, step: float) -> tuple[Array, Mask]:
    """Tangent of the incidence (rays,), and where the surface is plain: its slope to the left is that to the right."""
    smooth = np.convolve(mean, np.ones(3) / 3.0, mode="same")
    slope = np.zeros_like(mean)
    slope[4:-4] = (smooth[8:] - smooth[:-8]) / (8.0 * step)
    left, right = np.roll(mean, 4), np.roll(mean, -4)
    bend = np.abs(left + right - 2.0 * mean)
    plain = (mean > 0.0) & (bend < 0.02 * mean) & (np.abs(left - right) < 0.2 * mean)
    plain[:6] = plain[-6:] = False
    return np.abs(slope) / np.maximum(mean, 1e-6), plain


def probability(hits: int, trials: int) -> Estimate:
    """A probability from hits in trials, by Clopper and Pearson (1934)."""
    tail = (1.0 - SHARE) / 2.0
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1.0 - tail, hits + 1, trials - hits))
    return Estimate(hits / trials, low, high)
