"""An inertial measurement unit: gyro and accelerometer of one mount (REP-145)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.sensors.noise import NoiseModel
from digital_twin.core.sensors.pipeline import Pipeline
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.stages import Linear, LowPass, Noise, Offset, Quantise, Saturate, Shaken, Temperature
from digital_twin.core.sensors.timing import TimingConfig


@dataclass(frozen=True)
class GyroConfig:
    """A gyro. Bias, scale, misalignment, g-sensitivity and temperature are spreads between specimens."""

    white_noise: float = param(0.0, "noise density N (angle random walk)", unit="rad/s/√Hz", low=0, high=1)
    bias_instability: float = param(
        0.0, "B of IEEE 952: the floor of the Allan deviation / 0.664", unit="rad/s", low=0, high=1
    )
    random_walk: float = param(0.0, "wandering of the bias K", unit="rad/s²/√Hz", low=0, high=1)
    bias: float = param(0.0, "bias at switch-on", unit="rad/s", low=0, high=1)
    scale: float = param(0.0, "error of scale", low=0, high=0.5)
    misalignment: float = param(0.0, "each axis against the others", unit="rad", low=0, high=0.5)
    g_sensitivity: float = param(0.0, "rate read for an acceleration", unit="rad/s/(m/s²)", low=0, high=0.1)
    temperature_bias: float = param(0.0, "change of bias", unit="rad/s/K", low=0, high=0.1)
    temperature_scale: float = param(0.0, "change of scale", unit="1/K", low=0, high=0.01)
    bandwidth: float = param(0.0, "of a first-order low-pass; 0: none", unit="Hz", low=0, high=1e5)
    range: float = param(34.9, "where it saturates", unit="rad/s", low=1e-3, high=1e4)
    resolution: float = param(0.0, "of one digit; 0: none", unit="rad/s", low=0, high=1)


@dataclass(frozen=True)
class AccelConfig:
    """An accelerometer. Bias, scale, misalignment and temperature are spreads between specimens."""

    white_noise: float = param(0.0, "noise density N (velocity random walk)", unit="m/s²/√Hz", low=0, high=10)
    bias_instability: float = param(
        0.0, "B of IEEE 1293: the floor of the Allan deviation / 0.664", unit="m/s²", low=0, high=10
    )
    random_walk: float = param(0.0, "wandering of the bias K", unit="m/s³/√Hz", low=0, high=10)
    bias: float = param(0.0, "bias at switch-on", unit="m/s²", low=0, high=10)
    scale: float = param(0.0, "error of scale", low=0, high=0.5)
    misalignment: float = param(0.0, "each axis against the others", unit="rad", low=0, high=0.5)
    temperature_bias: float = param(0.0, "change of bias", unit="m/s²/K", low=0, high=1)
    temperature_scale: float = param(0.0, "change of scale", unit="1/K", low=0, high=0.01)
    bandwidth: float = param(0.0, "of a first-order low-pass; 0: none", unit="Hz", low=0, high=1e5)
    range: float = param(157.0, "where it saturates", unit="m/s²", low=0.1, high=1e5)
    resolution: float = param(0.0, "of one digit; 0: none", unit="m/s²", low=0, high=1)


@dataclass(frozen=True)
class ImuProfile:
    """An IMU."""

    timing: TimingConfig = param(TimingConfig)
    gyro: GyroConfig = param(GyroConfig)
    accel: AccelConfig = param(AccelConfig)


def noise_of(c: GyroConfig | AccelConfig) -> NoiseModel:
    """Its noise, for spectra and Allan deviations."""
    return NoiseModel(c.white_noise, c.bias_instability, c.random_walk, c.resolution)


class Imu:
    """Readings are (k, 6): angular velocity [rad/s], specific force [m/s²], along the sensor's axes."""

    def __init__(self, name: str, profile: ImuProfile, seed: int, sources: Sources, off: Collection[str] = ()) -> None:
        """Raises ConfigError when `off` names a stage that is not there."""
        g, a, rate = profile.gyro, profile.accel, profile.timing.rate
        self.pipeline = p = Pipeline(name, seed, off)
        vibration = sources.signal(name, "vibration")
        if vibration is not None:
            p.add("vibration", lambda rng: Shaken(np.append(np.zeros(3), _direction(rng)), vibration))
        p.add("bandwidth", lambda _: LowPass(np.repeat([g.bandwidth or np.inf, a.bandwidth or np.inf], 3), rate))
        p.add("scale", lambda rng: Linear(_sensitivity(g, a, rng)))
        p.add("bias", lambda rng: Offset(np.repeat([g.bias, a.bias], 3) * rng.standard_normal(6)))
        warmth = sources.signal(name, "temperature")
        if warmth is not None:
            p.add("temperature", lambda rng: Temperature(
                np.repeat([g.temperature_bias, a.temperature_bias], 3) * rng.standard_normal(6),
                np.repeat([g.temperature_scale, a.temperature_scale], 3) * rng.standard_normal(6), warmth,
            ))  # fmt: skip
        p.add("noise", lambda rng: Noise([(noise_of(g), 3), (noise_of(a), 3)], rate, rng))
        p.add("saturation", lambda _: Saturate(np.repeat([g.range, a.range], 3)))
        p.add("quantisation", lambda _: Quantise(np.repeat([g.resolution, a.resolution], 3)))
        p.check()
        self.gyro_variance = noise_of(g).standard_deviation(rate) ** 2
        self.accel_variance = noise_of(a).standard_deviation(rate) ** 2

    def read(self, x: Array, t: Array) -> Array:
        """From the ideal readings (k, 6) at times t [s] (k,)."""
        return self.pipeline(x, t)


def _sensitivity(g: GyroConfig, a: AccelConfig, rng: np.random.Generator) -> Array:
    """(6, 6): scale and misalignment of both triads, and what the gyro reads of an acceleration."""
    m = np.eye(6)
    for i, c in ((0, g), (3, a)):
        error = c.misalignment * rng.standard_normal((3, 3))
        np.fill_diagonal(error, c.scale * rng.standard_normal(3))
        m[i : i + 3, i : i + 3] += error
    m[:3, 3:] = g.g_sensitivity * rng.standard_normal((3, 3))
    return m


def _direction(rng: np.random.Generator) -> Array:
    d = rng.standard_normal(3)
    return np.asarray(d / np.linalg.norm(d))
