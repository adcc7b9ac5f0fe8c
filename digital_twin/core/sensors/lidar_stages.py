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
NOWHERE = 1e9  # [m]: the range of a ray that meets nothing
AT_ONCE = 16384  # numbers that are drawn at once
Draw = Callable[[np.random.Generator, Array], object]  # fills an array


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


def edges(r: Array, lines: bool) -> Mask:
    """Where ranges (rays, lines) jump against a neighbour in the line, or also in the next: both sides of the jump."""
    near = np.zeros(r.shape, dtype=bool)
    beyond = 1.1 * r
    beyond += 0.1
    for axis in range(1 + lines):
        q, far, mask = (r, beyond, near) if axis == 0 else (r.T, beyond.T, near.T)
        jump = q[1:] > far[:-1]
        jump |= q[:-1] > far[1:]
        mask[:-1] |= jump
        mask[1:] |= jump
    return near


def directions(angles: Array, elevations: Array) -> Array:
    """Unit vectors (rays, lines, 3): angles about z from x, elevations above the x-y plane [rad]."""
    a, e = np.meshgrid(angles, elevations, indexing="ij")
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1)


def mix(rays: Array, pulse: float) -> Array:
    """What comes back of k beams of which each meets m surfaces: rays (3, k, m) to (3, k).

    Surfaces within a pulse length [m] of the one with the strongest return are mixed, weighted by their return; what
    is farther apart the receiver tells apart, and reports the strongest.
    """
    r = rays[RANGE]
    strength = rays[SHINE] * rays[COSINE]  # none of nothing
    strength += 1e-12
    # The return of a surface is that of all sub-rays near it.
    near = np.abs(r[:, :, None] - r[:, None, :]) <= pulse
    best = (near * strength[:, None]).sum(axis=2).argmax(axis=1)
    together = near[np.arange(len(r)), best]
    strength *= together
    strength /= strength.sum(axis=1, keepdims=True)
    mixed: Array = (rays * strength).sum(axis=2)
    # A beam of which only a part comes back is weaker by that part.
    mixed[SHINE] *= together.sum(axis=1) / r.shape[1]
    return mixed


def cross_of(d: Array, angle: float) -> Array:
    """Four directions (…, 4, 3) around each of d (…, 3), off by an angle [rad]."""
    side = np.stack([-d[..., 1], d[..., 0], np.zeros(d.shape[:-1])], axis=-1)
    n = np.linalg.norm(side, axis=-1, keepdims=True)
    side = np.where(n > 1e-9, side / np.maximum(n, 1e-9), [1.0, 0.0, 0.0])
    up = np.cross(d, side)
    return np.asarray(d[..., None, :] + math.tan(angle) * np.stack([side, -side, up, -up], axis=-2))


class Numbers:
    """A sweep's random numbers, one for each of n rays, by the sweep's own number: a sweep can be left out.

    Those of several sweeps are drawn at once, by a generator of their own (as Salmon et al. 2011 do by a counter).
    """

    def __init__(self, rng: np.random.Generator, n: int, draw: Draw, sweep: Callable[[], int]) -> None:
        self._key = rng.integers(2**32, size=4, dtype=np.uint32).tolist()
        self._draw, self._sweep = draw, sweep
        self._block, self._drawn = -1, np.empty((max(1, AT_ONCE // n), n))

    def __call__(self) -> Array:
        """Of the present sweep (n,)."""
        block, row = divmod(self._sweep(), len(self._drawn))
        if block != self._block:
            self._block = block
            self._draw(np.random.Generator(np.random.SFC64(np.random.SeedSequence([*self._key, block]))), self._drawn)
        return np.asarray(self._drawn[row])


def normal(rng: np.random.Generator, out: Array) -> None:
    """Of mean 0 and variance 1."""
    rng.standard_normal(out=out)


def factors(noise: float) -> Draw:
    """Normal numbers about 1."""

    def draw(rng: np.random.Generator, out: Array) -> None:
        rng.standard_normal(out=out)
        out *= noise
        out += 1.0

    return draw


def weakest_seen(c: LidarProfile) -> Draw:
    """The weakest signals that rays see.

    A ray is lost with probability p, and with 1 / (1 + (s / w)⁴) where its signal s = I / r² is weak: so, u being even
    from 0 to 1, it needs more than w (u / (1 - p - u))^¼, and nothing is enough where u is above 1 - p.
    """

    def draw(rng: np.random.Generator, out: Array) -> None:
        rng.random(out=out)
        left = 1.0 - c.dropout - out
        never = left <= 0.0
        np.putmask(left, never, 1.0)
        out /= left
        np.sqrt(np.sqrt(out, out=out), out=out)
        out *= c.weakest
        np.putmask(out, never, np.inf)

    return draw


class Intensity:
    """Reflectivity to intensity: I = ρ cos θ (1 + σ n) (a Lambertian surface; the device corrects for the distance)."""

    def __init__(self, factors: Numbers) -> None:
        self._factors = factors

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        shine = x[:, SHINE]
        shine *= x[:, COSINE]
        shine *= self._factors()
        np.minimum(np.maximum(shine, 0.0, out=shine), 1.0, out=shine)
        return x


class RangeNoise:
    """r + b + σ n, σ² = σ₀² + (σ₁ r)² + (r δ tan θ / 4)²: the last is the depth of an oblique spot's disc."""

    def __init__(self, c: LidarProfile, bias: float, numbers: Numbers) -> None:
        self._c, self._bias, self._numbers = c, bias, numbers

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        r = x[:, RANGE]
        error = range_sigma(self._c, r, x[:, COSINE])
        error *= self._numbers()
        error += self._bias
        r += error
        return x


def range_sigma(c: LidarProfile, r: Array, cosine: Array) -> Array:
    """Standard deviation [m] of a range r [m] at an incidence of that cosine, quantisation aside."""
    spot = (c.divergence / 4.0) ** 2
    variance = cosine * cosine
    np.maximum(variance, 1e-4, out=variance)
    np.divide(spot, variance, out=variance)
    variance += c.noise_per_metre**2 - spot
    np.maximum(variance, 0.0, out=variance)
    variance *= r
    variance *= r
    variance += c.noise**2
    return np.sqrt(variance, out=variance)


class Dropout:
    """A ray is lost whose signal I / r² is weaker than the weakest that it sees."""

    def __init__(self, weakest_seen: Numbers) -> None:
        self._weakest = weakest_seen

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        r = x[:, RANGE]
        needed = np.maximum(r, 1.0)
        needed *= needed
        needed *= self._weakest()
        np.putmask(r, x[:, SHINE] < needed, NOWHERE)
        return x


class RangeDigits:
    """r to whole digits."""

    def __init__(self, step: float) -> None:
        self._step = step

    def __call__(self, x: Array, t: Array) -> Array:
        """See Stage."""
        if self._step > 0.0:
            r = x[:, RANGE]
            r *= 1.0 / self._step
            np.rint(r, out=r)
            r *= self._step
        return x
