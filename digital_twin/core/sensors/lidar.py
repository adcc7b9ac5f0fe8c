"""A scanning lidar, planar or of several lines: rays into the scene, and what comes back of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError
from digital_twin.core.scene import SHAPE_GROUP, WORLD_GROUP
from digital_twin.core.sensors.motion import Pose, poses_at
from digital_twin.core.sensors.pipeline import Pipeline
from digital_twin.core.sensors.seeds import stage_generator
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.core.sensors.twin_scene import TwinScene, place_root

MAX_RAYS = 200_000
Chance = Callable[[], np.random.Generator]
RANGE, COSINE, SHINE = 0, 1, 2  # columns of a ray: range [m], cosine of incidence, reflectivity (then: intensity)
_EDGE = 4  # sub-rays across a beam at an edge, on a cross


@dataclass(frozen=True)
class LidarProfile:
    """A lidar. `timing.rate` is that of whole sweeps."""

    timing: TimingConfig = param(TimingConfig)
    rays: int = param(720, "of one line in a sweep", low=2, high=100000)
    angle_min: float = param(-math.pi, "of the first ray, about z from x", unit="rad", low=-7, high=7)
    angle_max: float = param(math.pi, "of the last ray; a whole turn leaves out the last", unit="rad", low=-7, high=7)
    elevations: list[float] = param([0.0], "of each line above the x-y plane", unit="rad", low=-1.6, high=1.6)
    sweep_share: float = param(1.0, "of the period that a sweep takes", low=0, high=1)
    segments: int = param(24, "in how many steps the sensor moves during a sweep", low=1, high=1000)
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


@dataclass(frozen=True)
class Sweep:
    """What a sweep starts from: its number, its first moment [s], and where the sensor was around that time."""

    number: int
    t: float
    track: tuple[Pose, ...]


@dataclass(frozen=True)
class Scan:
    """A sweep as the sensor reports it, (lines, rays): ranges [m], inf: nothing came back, -inf: too near; intensity 0–1."""

    t: float
    ranges: Array
    intensity: Array


class Lidar:
    """Casts rays in a scene of its own, so that it may do so in a thread of its own."""

    def __init__(
        self, name: str, c: LidarProfile, frame: str, scene: TwinScene, seed: int, sources: Sources,
        off: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Raises ConfigError for a profile that cannot be, or when `off` names a stage that is not there."""
        lines = len(c.elevations)
        if not 0.0 < c.angle_max - c.angle_min <= 2.0 * math.pi + 1e-6:
            raise ConfigError(f"sensor '{name}': angle_max must be above angle_min, by a turn at most")
        if c.range_max <= c.range_min:
            raise ConfigError(f"sensor '{name}': range_max {c.range_max} must be above range_min {c.range_min}")
        if not lines or c.rays * lines > MAX_RAYS:
            raise ConfigError(f"sensor '{name}': {c.rays} rays in {lines} lines; 1 to {MAX_RAYS} rays are possible")
        self.profile, self.name, self.frame = c, name, frame
        self._mj, self._model = scene.mj, scene.model
        self._data = mujoco.MjData(scene.mj)
        mujoco.mj_kinematics(self._mj, self._data)
        whole = c.angle_max - c.angle_min > 2.0 * math.pi * (1.0 - 0.5 / c.rays)
        self.step = (c.angle_max - c.angle_min) / (c.rays if whole else c.rays - 1)
        self.angles: Array = c.angle_min + self.step * np.arange(float(c.rays))
        self.time_step = c.sweep_share / c.timing.rate / c.rays
        self.directions = directions(self.angles, np.array(c.elevations))  # (rays, lines, 3)
        moving = "motion" not in off
        self._segments = np.array_split(np.arange(c.rays), min(c.segments, c.rays) if moving else 1)
        self._moments = self.time_step * np.array([0.5 * (s[0] + s[-1]) * moving for s in self._segments])
        self._around = _cross(self.directions, 0.35 * c.divergence)  # (rays, lines, 4, 3)
        self._groups = np.zeros(6, dtype=np.uint8)
        self._groups[[WORLD_GROUP, SHAPE_GROUP] if c.see_self else [WORLD_GROUP]] = 1
        self._base = int(scene.mj.site(scene.model.base_frame).id)
        # The housing does not see itself.
        self._body = int(scene.mj.site_bodyid[scene.mj.site(frame).id])
        rgb = scene.mj.geom_rgba[:, :3] @ [0.2126, 0.7152, 0.0722]
        self._shine = np.append(rgb, 0.0)  # of nothing, at index -1
        self._number = 0
        self.pipeline = self._make_pipeline(seed, sources, off)

    def _make_pipeline(self, seed: int, sources: Sources, off: Collection[str]) -> Pipeline:
        c = self.profile
        p = Pipeline(self.name, seed, off)
        p.add("beam", lambda _: _Unchanged())
        p.add("motion", lambda _: _Unchanged())
        p.add("intensity", lambda _: Intensity(c.intensity_noise, self._chance("intensity", seed)))
        p.add("noise", lambda rng: RangeNoise(c, c.bias * rng.standard_normal(), self._chance("noise", seed)))
        p.add("dropout", lambda _: Dropout(c.dropout, c.weakest, self._chance("dropout", seed)))
        p.add("quantisation", lambda _: RangeDigits(c.resolution))
        p.check()
        return p

    def _chance(self, stage: str, seed: int) -> Chance:
        """A sweep's numbers depend on its own number: those that nobody asked for can be left out."""
        return lambda: stage_generator(seed, self.name, f"{stage} of sweep {self._number}")

    @property
    def duration(self) -> float:
        """From the first to the last ray of a sweep [s]; none with 'motion' switched off."""
        return float(self._moments[-1])

    def measure(self, sweep: Sweep) -> Scan:
        """Cast a sweep and report it."""
        c, self._number = self.profile, sweep.number
        rays, lines = self.directions.shape[:2]
        x = np.empty((rays, lines, 3))
        poses = poses_at(sweep.track, sweep.t + self._moments)
        for which, pose in zip(self._segments, poses, strict=True):
            self._cast(which, pose, x)
        if c.divergence > 0.0 and "beam" not in self.pipeline.off:
            self._mix(poses, x)
        t = sweep.t + self.time_step * np.repeat(np.arange(float(rays)), lines)
        y = self.pipeline(x.reshape(-1, 3), t).reshape(rays, lines, 3)
        r = y[:, :, RANGE].T
        r = np.where(r > c.range_max, np.inf, np.where(r < c.range_min, -np.inf, r))
        return Scan(sweep.t, r, np.where(np.isfinite(r), y[:, :, SHINE].T, 0.0))

    def _cast(self, which: Index, pose: Pose, x: Array) -> None:
        """Rays number `which` (k,) of all lines from a pose, into x (rays, lines, 3)."""
        if self.profile.see_self:
            place_root(self._mj, self._data, self._model, self._base, pose.base_position, pose.base_rotation, pose.q)
        d = self.directions[which[0] : which[-1] + 1].reshape(-1, 3)
        shape = (len(which), -1, 3)
        x[which[0] : which[-1] + 1] = self._rays(pose, d).reshape(shape)

    def _rays(self, pose: Pose, directions_: Array) -> Array:
        """(k, 3) of rays along directions in the sensor's frame (k, 3)."""
        k = len(directions_)
        v = directions_ @ pose.rotation.T
        distance, normal, geom = np.empty(k), np.empty((k, 3)), np.empty(k, dtype=np.int32)
        mujoco.mj_multiRay(
            self._mj, self._data, pose.position, v.reshape(-1), self._groups, 1, self._body, geom, distance,
            normal.reshape(-1), k, self.profile.range_max,
        )  # fmt: skip
        out = np.empty((k, 3))
        nothing = geom < 0
        out[:, RANGE] = np.where(nothing, np.inf, distance)
        out[:, COSINE] = np.where(nothing, 1.0, np.abs(np.einsum("ij,ij->i", v, normal)))
        out[:, SHINE] = self._shine[geom]
        return out

    def _mix(self, poses: list[Pose], x: Array) -> None:
        """At edges a beam is wide enough to meet two surfaces: look there with more rays, and mix what comes back."""
        r = np.minimum(x[:, :, RANGE], 1e6)
        near = np.zeros(r.shape, dtype=bool)
        for axis in (0, 1):
            jump = np.abs(np.diff(r, axis=axis)) > 0.1 + 0.1 * np.minimum(*_both(r, axis))
            low, high = [slice(None)] * 2, [slice(None)] * 2
            low[axis], high[axis] = slice(0, -1), slice(1, None)
            near[tuple(low)] |= jump
            near[tuple(high)] |= jump
        if not near.any():
            return
        for which, pose in zip(self._segments, poses, strict=True):
            i, j = np.nonzero(near[which[0] : which[-1] + 1])
            if len(i):
                i = i + which[0]
                around = self._rays(pose, self._around[i, j].reshape(-1, 3)).reshape(len(i), _EDGE, 3)
                x[i, j] = mix(np.concatenate([x[i, j][:, None], around], axis=1), self.profile.pulse)


def directions(angles: Array, elevations: Array) -> Array:
    """Unit vectors (rays, lines, 3): angles about z from x, elevations above the x-y plane [rad]."""
    a, e = np.meshgrid(angles, elevations, indexing="ij")
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1)


def mix(rays: Array, pulse: float) -> Array:
    """What comes back of beams of which each meets several surfaces: rays (k, m, 3) to (k, 3).

    Surfaces within a pulse length [m] of the one with the strongest return are mixed, weighted by their return; what
    is farther apart the receiver tells apart, and reports the strongest.
    """
    strength = np.where(np.isfinite(rays[:, :, RANGE]), rays[:, :, SHINE] * rays[:, :, COSINE], 0.0) + 1e-12
    r = np.where(np.isfinite(rays[:, :, RANGE]), rays[:, :, RANGE], 1e9)
    # The return of a surface is that of all sub-rays near it.
    together = np.abs(r[:, :, None] - r[:, None, :]) <= pulse
    total = np.einsum("kij,kj->ki", together, strength)
    best = total.argmax(axis=1)
    k = np.arange(len(rays))
    weight = together[k, best] * strength
    weight /= weight.sum(axis=1, keepdims=True)
    mixed = np.einsum("km,kmn->kn", weight, np.where(np.isfinite(rays), rays, 1e9))
    # A beam of which only a part comes back is weaker by that part.
    mixed[:, SHINE] *= together[k, best].mean(axis=1)
    mixed[:, RANGE] = np.where(mixed[:, RANGE] > 1e8, np.inf, mixed[:, RANGE])
    return np.asarray(mixed)


def _both(r: Array, axis: int) -> tuple[Array, Array]:
    n = r.shape[axis]
    return np.take(r, range(n - 1), axis=axis), np.take(r, range(1, n), axis=axis)


def _cross(d: Array, angle: float) -> Array:
    """Four directions (…, 4, 3) around each of d (…, 3), off by an angle [rad]."""
    side = np.stack([-d[..., 1], d[..., 0], np.zeros(d.shape[:-1])], axis=-1)
    n = np.linalg.norm(side, axis=-1, keepdims=True)
    side = np.where(n > 1e-9, side / np.maximum(n, 1e-9), [1.0, 0.0, 0.0])
    up = np.cross(d, side)
    return np.asarray(d[..., None, :] + math.tan(angle) * np.stack([side, -side, up, -up], axis=-2))


# Stages; rows are rays, columns RANGE, COSINE, SHINE


class _Unchanged:
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
        y: Array = x.copy()
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
        y: Array = x.copy()
        r = np.minimum(x[:, RANGE], 1e6)
        y[:, RANGE] += self._bias + range_sigma(c, r, x[:, COSINE]) * self._chance().standard_normal(len(x))
        return y


def range_sigma(c: LidarProfile, r: Array, cosine: Array) -> Array:
    """Standard deviation [m] of a range r [m] at an incidence of that cosine, quantisation aside."""
    variance = c.noise**2 + (c.noise_per_metre * r) ** 2
    if c.divergence > 0.0:
        grazing = np.maximum(cosine * cosine, 1e-4)
        variance = variance + (r * c.divergence / 4.0) ** 2 * (1.0 / grazing - 1.0)
    return np.asarray(np.sqrt(variance))


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
        y: Array = x.copy()
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
        y: Array = x.copy()
        y[:, RANGE] = np.rint(x[:, RANGE] / self._step) * self._step
        return y
