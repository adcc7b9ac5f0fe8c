"""Allan variance of a recording, and how far it may be from that of a noise model by chance.

The overlapping estimator is the mean square of a filter's output, so the covariances of its values at several averaging
times follow from the spectrum (Percival & Walden, Wavelet Methods for Time Series Analysis, 2000, ch. 8), and from
these the equivalent degrees of freedom: ν = 2 σ⁴ / var(σ̂²), σ̂² being as χ² with ν degrees.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from digital_twin.core.arrays import Array, Index
from digital_twin.core.sensors.noise import NoiseModel

PER_OCTAVE = 4096  # frequencies at which spectra are added up


def octaves(n: int, most: float = 8.0) -> Index:
    """Averaging lengths 1, 2, 4 … in samples, up to a `most`-th of a recording of n samples."""
    return np.asarray(2 ** np.arange(int(np.log2(max(n / most, 1.0))) + 1))


def allan_variance(x: Array, lengths: Index, dt: float) -> Array:
    """Overlapping Allan variances [unit²] (len(lengths), c) of rates x [unit] (n, c), sampled every dt [s].

    `lengths`: of the averages, in samples, at most half of n.
    """
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x - x.mean(axis=0), axis=0)])
    out = np.empty((len(lengths), x.shape[1]))
    for i, m in enumerate(lengths.tolist()):
        d = total[2 * m :] - 2.0 * total[m:-m] + total[: -2 * m]
        out[i] = np.einsum("ij,ij->j", d, d) / (2.0 * m * m * len(d))
    return out


def times(lengths: Index, dt: float) -> Array:
    """Averaging times [s] (k,)."""
    return np.asarray(lengths * dt)


def covariance(model: NoiseModel, lengths: Index, dt: float, n: int) -> Array:
    """Covariance (k, k) [unit⁴] of the Allan variances (k,) of n samples of one channel of a model."""
    f, weight = _frequencies(float(lengths.max()) * dt, dt)
    half = np.pi * f[None] * dt
    m = lengths[:, None]
    gain = 2.0 * np.sin(m * half) ** 4 / (m * np.sin(half)) ** 2  # |H|² of the Allan filter, two-sided
    spectrum = model.spectrum(f, dt)
    product = (gain * (weight * spectrum**2)) @ gain.T
    seconds = np.sqrt((n - 2 * lengths + 1) * dt)
    return np.asarray(2.0 * 2.0 * product / np.outer(seconds, seconds))


def _frequencies(tau: float, dt: float) -> tuple[Array, Array]:
    """Frequencies [Hz] (m,) from far below 1 / tau to the half of 1 / dt, and their widths."""
    high = 0.5 / dt
    count = int(np.log2(high * 64.0 * tau) * PER_OCTAVE)
    edges = np.geomspace(1.0 / (64.0 * tau), high, count + 1)
    # At spacings that repeat nowhere, so that no filter's ripple is met in step.
    part = np.mod(0.6180339887498949 * np.arange(count), 1.0)
    return edges[:-1] + part * np.diff(edges), np.diff(edges)


def freedom(model: NoiseModel, lengths: Index, dt: float, n: int) -> Array:
    """Equivalent degrees of freedom (k,) of the Allan variances of n samples of one channel."""
    expected = model.allan_variance(times(lengths, dt), dt)
    return np.asarray(2.0 * expected**2 / np.diag(covariance(model, lengths, dt, n)))


def band(model: NoiseModel, lengths: Index, dt: float, n: int, share: float = 0.95) -> tuple[Array, Array]:
    """Allan deviations (k,), (k,) between which that of a recording of n samples lies with a probability."""
    nu = freedom(model, lengths, dt, n)
    middle = np.sqrt(model.allan_variance(times(lengths, dt), dt))
    return middle * np.sqrt(chi2.ppf((1.0 - share) / 2.0, nu) / nu), middle * np.sqrt(
        chi2.ppf((1.0 + share) / 2.0, nu) / nu
    )
