"""A magnetometer among iron and motors."""

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
from digital_twin.core.sensors.stages import Linear, LowPass, Noise, Offset, Quantise, Saturate, Temperature, dot
from digital_twin.core.sensors.timing import TimingConfig


@dataclass(frozen=True)
class MagnetometerProfile:
    """A magnetometer, and the field around it."""

    timing: TimingConfig = param(TimingConfig)
    field: tuple[float, float, float] = param(
        (0.0, 20e-6, -43e-6), "the earth's field in the map: east, north, up (REP-103)", unit="T", low=-1e-3, high=1e-3
    )
    white_noise: float = param(0.0, "noise density N", unit="T/√Hz", low=0, high=1e-5)
    hard_iron: float = param(0.0, "spread of the robot's own field", unit="T", low=0, high=1e-3)
    soft_iron: float = param(0.0, "spread of the distortion matrix", low=0, high=0.5)
    motor: float = param(0.0, "spread of the field of a motor for its torque", unit="T/(N·m)", low=0, high=1e-4)
    temperature: float = param(0.0, "change of the zero", unit="T/K", low=0, high=1e-5)
    bandwidth: float = param(0.0, "of a first-order low-pass; 0: none", unit="Hz", low=0, high=1e5)
    range: float = param(1e-3, "where it saturates", unit="T", low=1e-6, high=1)
    resolution: float = param(0.0, "of one digit; 0: none", unit="T", low=0, high=1e-4)


class Motors:
    """Adds the fields of n motors, whose torques follow the three components of the field: x (k, 3 + n) to (k, 3)."""

    def __init__(self, fields: Array) -> None:
        """fields [T/(N m)] (3, n)."""
        self._fields = fields

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return x[:, :3] + dot(self._fields, x[:, 3:])


class Magnetometer:
    """Readings are (k, 3): the field [T] along the sensor's axes."""

    def __init__(
        self, name: str, c: MagnetometerProfile, motors: int, seed: int, sources: Sources, off: Collection[str] = ()
    ) -> None:
        """Raises ConfigError when `off` names a stage that is not there."""
        rate, one = c.timing.rate, np.ones(3)
        model = NoiseModel(c.white_noise, step=c.resolution)
        self.variance = model.standard_deviation(rate) ** 2
        self.pipeline = p = Pipeline(name, seed, off)
        p.add("motors", lambda rng: Motors(c.motor * rng.standard_normal((3, motors))))
        p.add("soft_iron", lambda rng: Linear(_distortion(c.soft_iron, rng)))
        p.add("hard_iron", lambda rng: Offset(c.hard_iron * rng.standard_normal(3)))
        p.add("bandwidth", lambda _: LowPass(np.full(3, c.bandwidth or math.inf), rate))
        warmth = sources.signal(name, "temperature")
        if warmth is not None:
            p.add("temperature", lambda rng: Temperature(c.temperature * rng.standard_normal(3), np.zeros(3), warmth))
        p.add("noise", lambda rng: Noise([(model, 3)], rate, rng))
        p.add("saturation", lambda _: Saturate(c.range * one))
        p.add("quantisation", lambda _: Quantise(c.resolution * one))
        p.check()

    def read(self, x: Array, t: Array) -> Array:
        """From the field along the sensor's axes [T] and the motors' torques [N m] (k, 3 + n) at t [s] (k,)."""
        if "motors" in self.pipeline.off:
            x = x[:, :3]
        return self.pipeline(x, t)


def _distortion(spread: float, rng: np.random.Generator) -> Array:
    """Soft iron: a symmetric matrix near the identity (3, 3)."""
    m = spread * rng.standard_normal((3, 3))
    return np.asarray(np.eye(3) + 0.5 * (m + m.T))
