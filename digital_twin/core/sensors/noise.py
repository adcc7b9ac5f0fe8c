"""White noise, bias instability and random walk of a rate sensor: the model, its Allan variance, and its numbers.

Conventions (IEEE Std 952-1997, annex C; two-sided spectra):

- white noise (angle or velocity random walk) N [unit/√Hz]: S(f) = N², Allan deviation N/√τ, standard deviation N/√dt of
  a sample. Kalibr's "noise density".
- bias instability B [unit]: S(f) = B²/(2π f), Allan deviation √(2 ln 2 / π) B = 0.664 B, flat. Where a data sheet means
  the floor of the Allan curve, B is that figure / 0.664.
- random walk (rate random walk) K [unit/s/√Hz]: S(f) = K²/(2π f)², Allan deviation K √(τ/3). Kalibr's "random walk".
  What gz-sensors calls dynamic_bias_stddev is this K, with a leak of its correlation time.

1/f is made of first-order Gauss-Markov processes of equal variance B² ln(r)/π whose correlation times grow by the factor
r = 4, from 0.25 s to 1024 s. Beyond these the flicker ends, which the formulas here take into account.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from digital_twin.core.arrays import Array

RATIO = 4.0
TIMES = RATIO ** np.arange(-1.0, 6.0)  # [s]
FLOOR = math.sqrt(2.0 * math.log(2.0) / math.pi)
BLOCK = 256  # so many samples are drawn at a time


@dataclass(frozen=True)
class NoiseModel:
    """N [unit/√Hz], B [unit] and K [unit/s/√Hz] of one channel; `step` [unit] of its quantisation, 0 for none."""

    white: float = 0.0
    instability: float = 0.0
    walk: float = 0.0
    step: float = 0.0

    @property
    def squares(self) -> Array:
        """N², B², K² (3,), in which spectrum and Allan variance are linear."""
        return np.array([self.white**2, self.instability**2, self.walk**2])

    def spectrum(self, f: Array, dt: float) -> Array:
        """Two-sided spectral density [unit²/Hz] at frequencies f [Hz] (m,) of samples every dt [s]."""
        return basis_spectrum(f) @ self.squares + self.step**2 * dt / 12.0

    def allan_variance(self, tau: Array, dt: float) -> Array:
        """[unit²] at averaging times tau [s] (m,)."""
        return basis_allan(tau) @ self.squares + self.step**2 * dt / (12.0 * tau)

    def standard_deviation(self, rate: float) -> float:
        """Of one sample, bias aside, at a rate [Hz]: white noise and quantisation."""
        return math.sqrt(self.white**2 * rate + self.step**2 / 12.0)


def basis_spectrum(f: Array) -> Array:
    """Spectral densities (m, 3) of unit N², B², K² at frequencies f [Hz] (m,)."""
    w = 2.0 * math.pi * f[:, None]
    flicker = (math.log(RATIO) / math.pi) * (2.0 * TIMES / (1.0 + (w * TIMES) ** 2)).sum(axis=1)
    return np.column_stack([np.ones_like(f), flicker, 1.0 / w[:, 0] ** 2])


def basis_allan(tau: Array) -> Array:
    """Allan variances (m, 3) of unit N², B², K² at tau [s] (m,)."""
    x = tau[:, None] / TIMES
    # That of a Gauss-Markov process of unit variance; the series where the difference would cancel.
    exact = (2.0 / x) * (1.0 - (3.0 - 4.0 * np.exp(-x) + np.exp(-2.0 * x)) / (2.0 * x))
    markov = np.where(x < 1e-3, 2.0 * x / 3.0, exact)
    flicker = (math.log(RATIO) / math.pi) * markov.sum(axis=1)
    return np.column_stack([1.0 / tau, flicker, tau / 3.0])


class NoiseSource:
    """Numbers of a model for `width` independent channels, every dt [s]. Quantisation is not among them."""

    def __init__(self, model: NoiseModel, width: int, dt: float, rng: np.random.Generator) -> None:
        self._rng, self._width = rng, width
        self._white = model.white / math.sqrt(dt)
        self._step = model.walk * math.sqrt(dt)
        self._walk = np.zeros(width)
        self._filters: list[tuple[float, float, Array]] = []
        if model.instability > 0.0:
            s = model.instability * math.sqrt(math.log(RATIO) / math.pi)
            for time in TIMES.tolist():
                a = math.exp(-dt / time)
                # lfilter's memory is a times the last output; it starts in the steady state.
                memory = a * s * rng.standard_normal((1, width))
                self._filters.append((a, s * math.sqrt(-math.expm1(-2.0 * dt / time)), memory))
        self._block = np.zeros((0, width))
        self._used = 0

    def next(self, k: int) -> Array:
        """The next k samples (k, width)."""
        if self._used + k <= len(self._block):
            self._used += k
            return self._block[self._used - k : self._used]
        parts = [self._block[self._used :]]
        missing = k - len(parts[0])
        while missing > 0:
            self._block = self._draw()
            parts.append(self._block[:missing])
            self._used = len(parts[-1])
            missing -= self._used
        return np.concatenate(parts)

    def _draw(self) -> Array:
        shape = (BLOCK, self._width)
        out = self._white * self._rng.standard_normal(shape)
        for i, (a, s, memory) in enumerate(self._filters):
            y, memory = lfilter([1.0], [1.0, -a], s * self._rng.standard_normal(shape), axis=0, zi=memory)
            self._filters[i] = a, s, memory
            out += y
        if self._step > 0.0:
            walk = self._walk + np.cumsum(self._step * self._rng.standard_normal(shape), axis=0)
            self._walk = walk[-1]
            out += walk
        return np.asarray(out)
