"""A lidar's parameters, and what goes wrong between a ray's surface and its range. Rows are rays; columns RANGE, COSINE,
SHINE: range [m], cosine of the incidence, reflectivity (later: intensity).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.config import param
from digital_twin.core.sensors.timing import TimingConfig

RANGE, COSINE, SHINE = 0, 1, 2
NOWHERE = 1e9  # [m]
Chance = Callable[[], np.random.Generator]


@dataclass(frozen=True)
class LidarProfile:
    """A lidar. `timing.rate` is that of whole sweeps."""

    timing: TimingConfig = param(TimingConfig)
    rays: int = param(720, "of one line in a sweep", low=2, high=100000)
    angle_min: float = param(-math.pi, "of the first ray, about z from x", unit="rad", low=-7, high=7)
    angle_max: float = param(math.pi, "of the last ray; a whole turn leaves out the last", unit="rad", low=-7, high=7)
    elevations: list[float] = param([0.0], "of each line above the x-y plane", unit="rad", low=-1.6, high=1.6)
    sweep_share: float = param(1.0, "of the period that a sweep takes", low=0, high=1)
    segments: int = param(24, "most steps in which the sensor moves during a sweep", low=1, high=1000)
    range_min: float = param(0.1, "nearest", unit="m", low=0, high=100)
    range_max: float = param(30.0, "farthest", unit="m", low=0.1, high=1000)
    noise: float = param(0.0, "standard deviation at no distance", unit="m", low=0, high=1)
    noise_per_metre: float = param(0.0, "standard deviation that grows with the distance", low=0, high=0.1)
    bias: float = param(0.0, "spread of the constant error", unit="m", low=0, high=1)
    resolution: float = param(0.0, "of one digit; 0: none", unit="m", low=0, high=1)
    divergence: float = param(0.0, "full angle of the beam", unit="rad", low=0, high=0.1)
    pulse: float = param(
        0.5, "surfaces in one beam that are nearer to each other than this are mixed", unit="m", low=0, high=50
    )
    dropout: float = param(0.0, "probability that a ray is lost", low=0, high=1)
    weakest: float = param(
        0.0, "signal, against white paper 1 m away seen straight, that half of the rays need to be seen", low=0, high=1
    )
    intensity_noise: float = param(0.0, "standard deviation, as a share of the intensity", low=0, high=1)
    see_self: bool = param(False, "whether rays meet the robot's own shapes")


def columns(rays: int, lines: int) -> Array:
    """Room for what rays meet (rays, lines, 3), each column in one piece, as stages read them."""
    room: Array = np.empty((3, rays, lines))
    return np.asarray(room.transpose(1, 2, 0))


def edges(r: Array, lines: bool) -> Mask:
    """Where ranges (rays, lines) jump against a neighbour in the line, or also in the next: both sides of the jump."""
    near = np.zeros(r.shape, dtype=bool)
    for axis in range(1 + lines):
        q, mask = (r, near) if axis == 0 else (r.T, near.T)
        jump = np.abs(q[1:] - q[:-1]) > 0.1 + 0.1 * np.minimum(q[1:], q[:-1])
        mask[:-1] |= jump
        mask[1:] |= jump
    return near


def directions(angles: Array, elevations: Array) -> Array:
    """Unit vectors (rays, lines, 3): angles about z from x, elevations above the x-y plane [rad]."""
    a, e = np.meshgrid(angles, elevations, indexing="ij")
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1)


def mix(rays: Array, pulse: float) -> Array:
    """What comes back of beams of which each meets several surfaces: rays (k, m, 3) to (k, 3).

    Surfaces within a pulse length [m] of the one with the strongest return are mixed, weighted by their return; what
    is farther apart the receiver tells apart, and reports the strongest.
    """
    away = rays[:, :, RANGE] >= NOWHERE
    r = np.minimum(rays[:, :, RANGE], NOWHERE)
    strength = rays[:, :, SHINE] * rays[:, :, COSINE]
    strength[away] = 0.0
    strength += 1e-12
    # The return of a surface is that of all sub-rays near it.
    near = np.abs(r[:, :, None] - r[:, None, :]) <= pulse
    best = np.einsum("kij,kj->ki", near, strength).argmax(axis=1)
    together = near[np.arange(len(rays)), best]
    strength *= together
    strength /= strength.sum(axis=1, keepdims=True)
    mixed = np.einsum("km,kmn->kn", strength, rays[:, :, COSINE:])
    # A beam of which only a part comes back is weaker by that part.
    mixed[:, -1] *= together.sum(axis=1) / rays.shape[1]
    r = np.einsum("km,km->k", strength, r)
    r[r > 0.1 * NOWHERE] = np.inf
    return np.column_stack([r, mixed])


def cross_of(d: Array, angle: float) -> Array:
    """Four directions (…, 4, 3) around each of d (…, 3), off by an angle [rad]."""
    side = np.stack([-d[..., 1], d[..., 0], np.zeros(d.shape[:-1])], axis=-1)
    n = np.linalg.norm(side, axis=-1, keepdims=True)
    side = np.where(n > 1e-9, side / np.maximum(n, 1e-9), [1.0, 0.0, 0.0])
    up = np.cross(d, side)
    return np.asarray(d[..., None, :] + math.tan(angle) * np.stack([side, -side, up, -up], axis=-2))


class Unchanged:
    """What is done where the rays are cast, and can be switched off by the name of this stage."""

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        return x


class Intensity:
    """Reflectivity to intensity: I = ρ cos θ (1 + σ n) (a Lambertian surface; the device corrects for the distance)."""

    def __init__(self, noise: float, chance: Chance) -> None:
        self._noise, self._chance = noise, chance

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        y: Array = x.copy("K")
        y[:, SHINE] *= x[:, COSINE]
        if self._noise > 0.0:
            y[:, SHINE] *= 1.0 + self._noise * self._chance().standard_normal(len(x))
            np.clip(y[:, SHINE], 0.0, 1.0, out=y[:, SHINE])
        return y


class RangeNoise:
    """r + b + σ n, σ² = σ₀² + (σ₁ r)² + (r δ tan θ / 4)²: the last is the depth of an oblique spot's disc."""

    def __init__(self, c: LidarProfile, bias: float, chance: Chance) -> None:
        self._c, self._bias, self._chance = c, bias, chance

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        c = self._c
        y: Array = x.copy("K")
        r = np.minimum(x[:, RANGE], 1e6)
        y[:, RANGE] += self._bias + range_sigma(c, r, x[:, COSINE]) * self._chance().standard_normal(len(x))
        return y


def range_sigma(c: LidarProfile, r: Array, cosine: Array) -> Array:
    """Standard deviation [m] of a range r [m] at an incidence of that cosine, quantisation aside."""
    spot = (c.divergence / 4.0) ** 2
    slope = c.noise_per_metre**2 - spot + spot / np.maximum(cosine * cosine, 1e-4)
    return np.asarray(np.sqrt(np.maximum(slope, 0.0) * (r * r) + c.noise**2))


class Dropout:
    """A ray is lost with probability p, and with 1 / (1 + (s / w)⁴) where its signal s = I / r² is weak."""

    def __init__(self, probability: float, weakest: float, chance: Chance) -> None:
        self._p, self._weakest, self._chance = probability, weakest, chance

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        if self._p <= 0.0 and self._weakest <= 0.0:
            return x
        seen = np.full(len(x), 1.0 - self._p)
        if self._weakest > 0.0:
            signal = x[:, SHINE] / (np.maximum(x[:, RANGE], 1.0) ** 2 * self._weakest)
            s2 = signal * signal
            s4 = s2 * s2
            seen *= s4 / (1.0 + s4)
        y: Array = x.copy("K")
        y[self._chance().random(len(x)) >= seen, RANGE] = np.inf
        return y


class RangeDigits:
    """r to whole digits."""

    def __init__(self, step: float) -> None:
        self._step = step

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        if self._step <= 0.0:
            return x
        y: Array = x.copy("K")
        y[:, RANGE] = np.rint(x[:, RANGE] / self._step) * self._step
        return y
