"""Joint encoders and torque sensors: the joint states as the robot itself would report them."""

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
class EncoderProfile:
    """The encoders of all joints, and their torque sensors."""

    timing: TimingConfig = param(TimingConfig)
    resolution: float = param(0.0, "smallest step; 0: none", unit="rad", low=0, high=0.1)
    noise: float = param(0.0, "standard deviation of one reading", unit="rad", low=0, high=0.1)
    offset: float = param(0.0, "spread of the zero", unit="rad", low=0, high=1)
    eccentricity: float = param(0.0, "spread of the once-a-turn error's amplitude", unit="rad", low=0, high=0.1)
    backlash: float = param(0.0, "play between joint and encoder", unit="rad", low=0, high=0.2)
    velocity_time: float = param(
        0.005, "low-pass of the speed, which is the change of the reading", unit="s", low=0, high=1
    )
    torque_noise: float = param(0.0, "standard deviation of one reading", unit="N·m", low=0, high=100)
    torque_drift: float = param(0.0, "wandering of the zero", unit="N·m/√s", low=0, high=10)
    torque_offset: float = param(0.0, "spread of the zero", unit="N·m", low=0, high=100)
    torque_temperature: float = param(0.0, "change of the zero", unit="N·m/K", low=0, high=10)
    torque_hysteresis: float = param(0.0, "width of the loop", unit="N·m", low=0, high=100)
    torque_crosstalk: float = param(0.0, "spread of what is read of the joints before and after", low=0, high=0.5)
    torque_resolution: float = param(0.0, "of one digit; 0: none", unit="N·m", low=0, high=10)
    torque_range: float = param(5000.0, "where it saturates", unit="N·m", low=0.01, high=1e6)


class Eccentric:
    """y = q + A sin(q + φ): a scale that is not centred on its shaft. A, φ: (n,)."""

    def __init__(self, amplitude: Array, phase: Array) -> None:
        self._amplitude, self._phase = amplitude, phase

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return np.asarray(x + self._amplitude * np.sin(x + self._phase))


class Encoders:
    """Readings are (k, 3 n): positions [rad], speeds [rad/s], torques [N m] of n joints."""

    def __init__(
        self, name: str, c: EncoderProfile, n: int, seed: int, sources: Sources, off: Collection[str] = ()
    ) -> None:
        """Raises ConfigError when `off` names a stage that is not there."""
        rate, self._n, self._dt = c.timing.rate, n, 1.0 / c.timing.rate
        each = np.ones(n)
        self.positions = p = Pipeline(name, seed, set(off) & set(POSITION_STAGES))
        p.add("backlash", lambda _: Play(c.backlash * each))
        p.add("eccentricity", lambda rng: Eccentric(
            c.eccentricity * rng.standard_normal(n), rng.uniform(0.0, 2.0 * math.pi, n)
        ))  # fmt: skip
        p.add("offset", lambda rng: Offset(c.offset * rng.standard_normal(n)))
        p.add("noise", lambda rng: Noise([(NoiseModel(c.noise / math.sqrt(rate)), n)], rate, rng))
        p.add("quantisation", lambda _: Quantise(c.resolution * each))
        self.torques = p = Pipeline(name, seed, set(off) - set(POSITION_STAGES))
        p.add("torque_hysteresis", lambda _: Play(c.torque_hysteresis * each))
        p.add("torque_crosstalk", lambda rng: Linear(_neighbours(c.torque_crosstalk, n, rng)))
        p.add("torque_offset", lambda rng: Offset(c.torque_offset * rng.standard_normal(n)))
        warmth = sources.signal(name, "temperature")
        if warmth is not None:
            p.add("torque_temperature", lambda rng: Temperature(
                c.torque_temperature * rng.standard_normal(n), np.zeros(n), warmth
            ))  # fmt: skip
        model = NoiseModel(c.torque_noise / math.sqrt(rate), 0.0, c.torque_drift)
        p.add("torque_noise", lambda rng: Noise([(model, n)], rate, rng))
        p.add("torque_saturation", lambda _: Saturate(c.torque_range * each))
        p.add("torque_quantisation", lambda _: Quantise(c.torque_resolution * each))
        p.check()
        fast = math.inf if c.velocity_time <= 0.0 else 1.0 / (2.0 * math.pi * c.velocity_time)
        self._smooth = LowPass(np.full(n, fast), rate)
        self._last: tuple[float, Array] | None = None

    def read(self, x: Array, t: Array) -> Array:
        """From the ideal positions, speeds and torques (k, 3 n) at times t [s] (k,)."""
        n = self._n
        q, tau = self.positions(x[:, :n], t), self.torques(x[:, 2 * n :], t)
        # The robot differentiates what its encoders say; the first time it has nothing to compare with.
        before, last = self._last or (float(t[0]) - self._dt, q[0])
        steps = np.diff(np.concatenate([[before], t]))[:, None]
        speed = self._smooth(np.diff(np.concatenate([last[None], q]), axis=0) / steps, t)
        self._last = float(t[-1]), q[-1]
        return np.concatenate([q, speed, tau], axis=1)


POSITION_STAGES = ("backlash", "eccentricity", "offset", "noise", "quantisation")


def _neighbours(share: float, n: int, rng: np.random.Generator) -> Array:
    drawn = share * rng.standard_normal((2, n))
    return np.eye(n) + np.diag(drawn[0, 1:], 1) + np.diag(drawn[1, 1:], -1)
