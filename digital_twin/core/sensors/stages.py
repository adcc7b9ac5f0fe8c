"""What goes wrong with a measurement, one class each. docs/sensors.md has the equations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.sensors.noise import NoiseModel, NoiseSource

REFERENCE_TEMPERATURE = 25.0  # [°C], at which data sheets state their figures


def dot(matrix: Array, x: Array) -> Array:
    """M x for each row of x (k, n): a matrix product whose last digits do not depend on how many rows there are."""
    return np.asarray((matrix * x[:, None, :]).sum(axis=-1))


class Linear:
    """y = M x: scale, misalignment, crosstalk. M: (n, n)."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return dot(self.matrix, x)


class Offset:
    """y = x + b: a constant bias (n,)."""

    def __init__(self, offset: Array) -> None:
        self.offset = offset

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return x + self.offset


class Temperature:
    """y = (1 + s ΔT) x + c ΔT, ΔT against 25 °C. `bias` c and `scale` s: (n,); temperature: of time [°C]."""

    def __init__(self, bias: Array, scale: Array, temperature: Callable[[Array], Array]) -> None:
        self._bias, self._scale, self._temperature = bias, scale, temperature

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        warmer = (self._temperature(t) - REFERENCE_TEMPERATURE)[:, None]
        return (1.0 + self._scale * warmer) * x + self._bias * warmer


class Shaken:
    """y = x + d v(t): a vibration v along direction d (n,)."""

    def __init__(self, direction: Array, vibration: Callable[[Array], Array]) -> None:
        self._direction, self._vibration = direction, vibration

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return x + self._vibration(t)[:, None] * self._direction


class Noise:
    """y = x + n: white noise, flicker and random walk of each channel.

    models: one for each group of channels, with how many channels it has.
    """

    def __init__(self, models: list[tuple[NoiseModel, int]], rate: float, rng: np.random.Generator) -> None:
        parts = rng.spawn(len(models))
        self._sources = [NoiseSource(m, n, 1.0 / rate, r) for (m, n), r in zip(models, parts, strict=True)]

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return np.asarray(x + np.concatenate([s.next(len(x)) for s in self._sources], axis=1))


class LowPass:
    """A first-order low-pass of each channel: y' = 2π f (x − y), stepped exactly at the sensor's rate."""

    def __init__(self, bandwidth: Array, rate: float) -> None:
        """bandwidth [Hz] (n,), infinite for none."""
        self._a = -np.expm1(-2.0 * math.pi * bandwidth / rate)
        self._y: Array | None = None

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        y = x[0] if self._y is None else self._y
        out = np.empty_like(x)
        for i, row in enumerate(x):
            y = y + self._a * (row - y)
            out[i] = y
        self._y = y
        return out


class Play:
    """Backlash and hysteresis (the play operator): the output follows when the input has moved by the width (n,)."""

    def __init__(self, width: Array) -> None:
        self._half = 0.5 * width
        self._y: Array | None = None

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        y = x[0] if self._y is None else self._y
        out = np.empty_like(x)
        for i, row in enumerate(x):
            y = np.minimum(np.maximum(y, row - self._half), row + self._half)
            out[i] = y
        self._y = y
        return out


class Saturate:
    """y = x within ± limit (n,)."""

    def __init__(self, limit: Array) -> None:
        self._limit = limit

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return np.asarray(np.minimum(np.maximum(x, -self._limit), self._limit))


class Quantise:
    """y = step · round(x / step) (n,); a step of 0 leaves a channel as it is."""

    def __init__(self, step: Array) -> None:
        self._step = step
        self._safe = np.where(step > 0.0, step, 1.0)
        self._all = bool((step > 0.0).all())

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        q = np.rint(x / self._safe) * self._safe
        return q if self._all else np.where(self._step > 0.0, q, x)
