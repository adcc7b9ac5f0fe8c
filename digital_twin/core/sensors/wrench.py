"""A six-axis force sensor, and whether the foot above it stands."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.sensors.noise import NoiseModel
from digital_twin.core.sensors.pipeline import Pipeline
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.stages import Linear, LowPass, Noise, Offset, Play, Quantise, Saturate, Temperature
from digital_twin.core.sensors.timing import TimingConfig


@dataclass(frozen=True)
class WrenchProfile:
    """A six-axis force sensor."""

    timing: TimingConfig = param(TimingConfig)
    force_noise: float = param(0.0, "standard deviation of one reading", unit="N", low=0, high=100)
    torque_noise: float = param(0.0, "the same", unit="N·m", low=0, high=10)
    force_drift: float = param(0.0, "wandering of the zero", unit="N/√s", low=0, high=10)
    torque_drift: float = param(0.0, "the same", unit="N·m/√s", low=0, high=1)
    force_offset: float = param(0.0, "spread of the zero at switch-on", unit="N", low=0, high=1000)
    torque_offset: float = param(0.0, "the same", unit="N·m", low=0, high=100)
    crosstalk: float = param(
        0.0, "spread of what a channel reads of another, as a share of the two full scales", low=0, high=0.5
    )
    hysteresis: float = param(0.0, "width of the loop, as a share of full scale", low=0, high=0.2)
    temperature: float = param(0.0, "change of the zero, as a share of full scale", unit="1/K", low=0, high=0.1)
    bandwidth: float = param(0.0, "of a first-order low-pass; 0: none", unit="Hz", low=0, high=1e5)
    force_range: tuple[float, float, float] = param((1e4, 1e4, 1e4), "full scale of x, y, z", unit="N", low=1, high=1e6)
    torque_range: tuple[float, float, float] = param(
        (1e3, 1e3, 1e3), "full scale of x, y, z", unit="N·m", low=0.01, high=1e5
    )
    force_resolution: float = param(0.0, "of one digit; 0: none", unit="N", low=0, high=100)
    torque_resolution: float = param(0.0, "the same", unit="N·m", low=0, high=10)
    contact_on: float = param(40.0, "force along z above which the foot stands", unit="N", low=0, high=1e5)
    contact_off: float = param(25.0, "below which it stands no longer", unit="N", low=0, high=1e5)


class Wrench:
    """Readings are (k, 6): force [N], torque [N m]."""

    def __init__(self, name: str, c: WrenchProfile, seed: int, sources: Sources, off: Collection[str] = ()) -> None:
        """Raises ConfigError when `off` names a stage that is not there."""
        rate = c.timing.rate
        full = np.array([*c.force_range, *c.torque_range])
        self._c, self.stands = c, False
        self.pipeline = p = Pipeline(name, seed, off)
        p.add("bandwidth", lambda _: LowPass(np.full(6, c.bandwidth or np.inf), rate))
        p.add("hysteresis", lambda _: Play(c.hysteresis * full))
        p.add("crosstalk", lambda rng: Linear(crosstalk(c.crosstalk, full, rng)))
        p.add("offset", lambda rng: Offset(np.repeat([c.force_offset, c.torque_offset], 3) * rng.standard_normal(6)))
        warmth = sources.signal(name, "temperature")
        if warmth is not None:
            p.add("temperature", lambda rng: Temperature(
                c.temperature * full * rng.standard_normal(6), np.zeros(6), warmth
            ))  # fmt: skip
        p.add("noise", lambda rng: Noise([(m, 3) for m in noise_of(c)], rate, rng))
        p.add("saturation", lambda _: Saturate(full))
        p.add("quantisation", lambda _: Quantise(np.repeat([c.force_resolution, c.torque_resolution], 3)))
        p.check()

    def read(self, x: Array, t: Array) -> Array:
        """From the ideal wrenches (k, 6) at times t [s] (k,)."""
        y = self.pipeline(x, t)
        for load in y[:, 2].tolist():
            self.stands = load > (self._c.contact_off if self.stands else self._c.contact_on)
        return y


def noise_of(c: WrenchProfile) -> tuple[NoiseModel, NoiseModel]:
    """Noise of a force and of a torque channel, at the sensor's rate."""
    root = math.sqrt(c.timing.rate)
    return (
        NoiseModel(c.force_noise / root, 0.0, c.force_drift, c.force_resolution),
        NoiseModel(c.torque_noise / root, 0.0, c.torque_drift, c.torque_resolution),
    )


def crosstalk(share: float, full: Array, rng: np.random.Generator) -> Array:
    """(n, n): each channel reads others by a drawn share of the two full scales (n,)."""
    n = len(full)
    m = share * rng.standard_normal((n, n)) * full[:, None] / full
    np.fill_diagonal(m, 1.0)
    return np.asarray(m)
