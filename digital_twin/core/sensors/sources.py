"""Errors that sensors share: temperature, vibration, the offset of their clocks.

A sensor sees ρ c(t) + √(1 − ρ²) o(t): a common process c and one of its own, o, of the same kind. So each sensor sees the
same statistics whatever ρ is, and two sensors are correlated by ρ₁ ρ₂.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.sensors.seeds import stage_generator
from digital_twin.core.sensors.stages import REFERENCE_TEMPERATURE

KINDS = ("temperature", "vibration", "time_offset")
_STEP = {"temperature": 1.0, "vibration": 1e-3, "time_offset": 0.1}  # [s] between the numbers drawn
_BLOCK = 512
Signal = Callable[[Array], Array]


@dataclass(frozen=True)
class SourceConfig:
    """One source of errors. Several of a kind add up."""

    kind: str = param(doc="temperature [K], vibration [m/s²] or time_offset [s]", choices=KINDS)
    sensors: dict[str, float] = param(doc="sensor: its correlation ρ with what is common", low=-1, high=1)
    sigma: float = param(0.0, "standard deviation, in the unit of the kind", low=0, high=100)
    time: float = param(600.0, "correlation time of a temperature or time offset", unit="s", low=0.1, high=1e6)
    frequency: float = param(40.0, "of a vibration", unit="Hz", low=0.1, high=450)
    damping: float = param(0.05, "of the resonance that vibrates", low=1e-3, high=1)
    warm_up: float = param(0.0, "how much warmer it gets after the start", unit="K", low=-100, high=100)
    warm_time: float = param(600.0, "time over which it does", unit="s", low=1, high=1e5)


class Sources:
    """All sources of a robot."""

    def __init__(self, configs: Mapping[str, SourceConfig], seed: int) -> None:
        self._configs, self._seed = configs, seed

    def signal(self, sensor: str, kind: str) -> Signal | None:
        """What a sensor sees of a kind, as a function of rising times [s] (k,); None when no source concerns it."""
        parts = [
            _Seen(name, c, sensor, self._seed)
            for name, c in self._configs.items()
            if c.kind == kind and sensor in c.sensors
        ]
        if not parts:
            return None
        base = REFERENCE_TEMPERATURE if kind == "temperature" else 0.0

        def add_up(t: Array) -> Array:
            return np.asarray(base + np.sum([p(t) for p in parts], axis=0))

        return add_up


class _Seen:
    """One source as one sensor sees it."""

    def __init__(self, name: str, c: SourceConfig, sensor: str, seed: int) -> None:
        self._c = c
        self._rho = rho = c.sensors[sensor]
        self._own = math.sqrt(1.0 - rho * rho)
        # Each sensor draws the common process anew, from the same generator: none has to wait for another.
        self._common_process = _Process(c, stage_generator(seed, f"shared/{name}", "common"))
        self._own_process = _Process(c, stage_generator(seed, f"shared/{name}", sensor))

    def __call__(self, t: Array) -> Array:
        c = self._c
        out = self._rho * self._common_process(t) + self._own * self._own_process(t)
        return out + c.warm_up * -np.expm1(-np.maximum(t, 0.0) / c.warm_time)


class _Process:
    """A stationary process on a grid of its own, interpolated. It remembers little, so times must rise."""

    def __init__(self, c: SourceConfig, rng: np.random.Generator) -> None:
        self._rng, self._dt = rng, _STEP[c.kind]
        if c.kind == "vibration":
            # A resonator driven by white noise: poles r exp(±iθ).
            r = math.exp(-c.damping * 2.0 * math.pi * c.frequency * self._dt)
            turn = 2.0 * math.pi * c.frequency * math.sqrt(1.0 - min(c.damping, 0.999) ** 2) * self._dt
            self._a = [1.0, -2.0 * r * math.cos(turn), r * r]
        else:
            self._a = [1.0, -math.exp(-self._dt / c.time), 0.0]
        self._gain = c.sigma / _gain(self._a)
        self._memory = _steady(self._a, self._gain, rng)
        self._values, self._start = np.zeros(0), 0

    def __call__(self, t: Array) -> Array:
        at = np.maximum(t, 0.0) / self._dt
        first, last = int(at[0]), int(at[-1]) + 2
        while self._start + len(self._values) < last:
            new, self._memory = lfilter([1.0], self._a, self._gain * self._rng.standard_normal(_BLOCK), zi=self._memory)
            keep = max(0, min(first - self._start - 1, len(self._values)))
            self._values, self._start = np.concatenate([self._values[keep:], new]), self._start + keep
        i = at.astype(int)
        part, k = at - i, i - self._start
        return np.asarray((1.0 - part) * self._values[k] + part * self._values[k + 1])


def _gain(a: list[float]) -> float:
    """Standard deviation of the filter 1/a driven by white noise of 1."""
    _, a1, a2 = a
    return math.sqrt((1.0 + a2) / ((1.0 - a2) * ((1.0 + a2) ** 2 - a1 * a1)))


def _steady(a: list[float], gain: float, rng: np.random.Generator) -> Array:
    """Memory of the filter as if it had run for ever."""
    _, a1, a2 = a
    sigma, rho = gain * _gain(a), -a1 / (1.0 + a2)
    one, other = rng.standard_normal(2)
    last, before = sigma * one, sigma * (rho * one + math.sqrt(max(0.0, 1.0 - rho * rho)) * other)
    return np.array([-a1 * last - a2 * before, -a2 * last])
