"""A scanning lidar, planar or of several lines: rays into the scene, and what comes back of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index, Mask
from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError
from digital_twin.core.scene import SHAPE_GROUP, WORLD_GROUP
from digital_twin.core.sensors.motion import Pose, poses_at
from digital_twin.core.sensors.pipeline import Pipeline
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.core.sensors.twin_scene import TwinScene, place_root

MAX_RAYS = 200_000
Chance = Callable[[], np.random.Generator]
RANGE, COSINE, SHINE = 0, 1, 2  # columns of a ray: range [m], cosine of incidence, reflectivity (then: intensity)
REACH = 0.05  # [m] that a sensor may move while rays are cast from one place


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
        self, name: str, c: LidarProfile, frame: str, scene: TwinScene, seed: int,
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
        self.see(scene)
        whole = c.angle_max - c.angle_min > 2.0 * math.pi * (1.0 - 0.5 / c.rays)
        self.step = (c.angle_max - c.angle_min) / (c.rays if whole else c.rays - 1)
        self.angles: Array = c.angle_min + self.step * np.arange(float(c.rays))
        self.time_step = c.sweep_share / c.timing.rate / c.rays
        self.directions = directions(self.angles, np.array(c.elevations))  # (rays, lines, 3)
        # Lines so close that one beam may meet what the next one does.
        self._dense = lines > 1 and float(np.min(np.diff(np.sort(c.elevations)))) < 3.0 * c.divergence
        self._around = _cross(self.directions, 0.35 * c.divergence)  # (rays, lines, 4, 3)
        self._times = self.time_step * np.arange(float(c.rays)) * ("motion" not in off)
        self._groups = np.zeros(6, dtype=np.uint8)
        self._groups[[WORLD_GROUP, SHAPE_GROUP] if c.see_self else [WORLD_GROUP]] = 1
        self._number = 0
        self.pipeline = self._make_pipeline(seed, off)

    def see(self, scene: TwinScene) -> None:
        """Stand in this scene from now on."""
        self._mj, self._model = scene.mj, scene.model
        self._data = mujoco.MjData(scene.mj)
        mujoco.mj_kinematics(self._mj, self._data)
        self._base = int(scene.mj.site(scene.model.base_frame).id)
        # The housing does not see itself.
        self._body = int(scene.mj.site_bodyid[scene.mj.site(self.frame).id])
        rgb = scene.mj.geom_rgba[:, :3] @ [0.2126, 0.7152, 0.0722]
        self._shine = np.append(rgb, 0.0)  # of nothing, at index -1

    def _make_pipeline(self, seed: int, off: Collection[str]) -> Pipeline:
        c = self.profile
        p = Pipeline(self.name, seed, off)
        p.add("beam", lambda _: _Unchanged())
        p.add("motion", lambda _: _Unchanged())
        p.add("intensity", lambda rng: Intensity(c.intensity_noise, self._chance(rng)))
        p.add("noise", lambda rng: RangeNoise(c, c.bias * rng.standard_normal(), self._chance(rng)))
        p.add("dropout", lambda rng: Dropout(c.dropout, c.weakest, self._chance(rng)))
        p.add("quantisation", lambda _: RangeDigits(c.resolution))
        p.check()
        return p

    def _chance(self, rng: np.random.Generator) -> Chance:
        """Numbers of a sweep that depend on its own number (Salmon et al. 2011): a sweep can be left out."""
        bits = np.random.Philox(key=rng.integers(2**64, size=2, dtype=np.uint64))
        start: Any = bits.state  # to set it costs a third of making another
        numbers = np.random.Generator(bits)

        def of_this_sweep() -> np.random.Generator:
            start["state"]["counter"][3] = self._number
            bits.state = start
            return numbers

        return of_this_sweep

    @property
    def duration(self) -> float:
        """From the first to the last ray of a sweep [s]; none with 'motion' switched off."""
        return float(self._times[-1])

    def measure(self, sweep: Sweep) -> Scan:
        """Cast a sweep and report it."""
        c, self._number = self.profile, sweep.number
        rays, lines = self.directions.shape[:2]
        aim = Aim(sweep.track, sweep.t + self._times)
        segments = aim.segments(c.segments if c.see_self else 1, c.segments)
        x = np.empty((rays, lines, 3))
        for which in segments:
            x[which] = self._rays(aim, which, self.directions[which])
        if c.divergence > 0.0 and "beam" not in self.pipeline.off:
            self._mix(aim, segments, x)
        y = self.pipeline(x.reshape(-1, 3), np.broadcast_to(sweep.t, rays * lines)).reshape(rays, lines, 3)
        r = y[:, :, RANGE].T
        r[r > c.range_max] = np.inf
        r[r < c.range_min] = -np.inf
        return Scan(sweep.t, r, np.where(np.isfinite(r), y[:, :, SHINE].T, 0.0))

    def _rays(self, aim: Aim, which: slice, d: Array) -> Array:
        """What rays along d in the sensor's frame (k, m, 3) meet, k being the length of `which`: (k, m, 3).

        All are cast from where the sensor is in the middle, as the engine wants it, and then moved to where each
        begins, which is exact on a plane.
        """
        k, m = d.shape[:2]
        n = k * m
        v = np.einsum("kij,kmj->kmi", aim.rotations[which], d)
        middle = (which.start + which.stop - 1) // 2
        if self.profile.see_self:
            p = aim.pose(middle)
            place_root(self._mj, self._data, self._model, self._base, p.base_position, p.base_rotation, p.q)
        origin = aim.positions[middle]
        distance, normal, geom = np.empty(n), np.empty((k, m, 3)), np.empty(n, dtype=np.int32)
        mujoco.mj_multiRay(
            self._mj, self._data, origin, v.reshape(-1), self._groups, 1, self._body, geom, distance,
            normal.reshape(-1), n, self.profile.range_max + REACH,
        )  # fmt: skip
        out = np.empty((k, m, 3))
        nothing = (geom < 0).reshape(k, m)
        cosine = np.einsum("kmi,kmi->km", v, normal)
        cosine[nothing] = 1.0
        ahead = np.einsum("ki,kmi->km", origin - aim.positions[which], normal)
        ahead /= cosine
        np.add(distance.reshape(k, m), ahead, out=out[:, :, RANGE])
        out[:, :, RANGE][nothing] = np.inf
        np.abs(cosine, out=out[:, :, COSINE])
        out[:, :, SHINE] = self._shine[geom].reshape(k, m)
        return out

    def _mix(self, aim: Aim, segments: list[slice], x: Array) -> None:
        """At edges a beam is wide enough to meet two surfaces: look there with more rays, and mix what comes back."""
        near = edges(np.minimum(x[:, :, RANGE], 1e6), self._dense)
        for which in segments:
            i, j = np.nonzero(near[which])
            if len(i):
                i += which.start
                some = aim.some(i)
                around = self._rays(some, slice(0, len(i)), self._around[i, j])
                x[i, j] = mix(np.concatenate([x[i, j][:, None], around], axis=1), self.profile.pulse)


class Aim:
    """Where a sensor is and how it is turned at each of its rays: positions (k, 3), rotations (k, 3, 3).

    Between two states of the twin both are interpolated by components, which of turns of a few hundredths of a radian
    loses a millionth.
    """

    def __init__(self, track: tuple[Pose, ...], times: Array) -> None:
        last = next((i for i, p in enumerate(track) if p.t >= times[-1]), len(track) - 1)
        self._track = track = track[: max(last, 1) + 1]
        self._times = times
        t = np.array([p.t for p in track])
        after = np.minimum(np.searchsorted(t, times), len(t) - 1)
        before = np.maximum(after - 1, 0)
        span = np.maximum(t[after] - t[before], 1e-12)
        part = np.clip((times - t[before]) / span, 0.0, 1.0)
        P = np.array([p.position for p in track])
        R = np.array([p.rotation for p in track]).reshape(-1, 9)
        both = np.concatenate([P, R], axis=1)
        first = both[before]
        both = first + part[:, None] * (both[after] - first)
        self.positions: Array = both[:, :3]
        self.rotations: Array = both[:, 3:].reshape(-1, 3, 3)

    def segments(self, least: int, most: int) -> list[slice]:
        """Parts of the sweep during each of which the sensor moves by less than REACH."""
        k = len(self._times)
        travel = float(np.abs(self.positions[-1] - self.positions[0]).sum())
        count = min(max(least, 1 + int(travel / REACH)), most, k)
        bounds = [k * i // count for i in range(count + 1)]
        return [slice(a, b) for a, b in pairwise(bounds)]

    def pose(self, i: int) -> Pose:
        """The whole pose at ray i."""
        return poses_at(self._track, self._times[i : i + 1])[0]

    def some(self, rays: Index) -> Aim:
        """For some of the rays."""
        out = copy(self)
        out._times, out.positions, out.rotations = self._times[rays], self.positions[rays], self.rotations[rays]
        return out


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
