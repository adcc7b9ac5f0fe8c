"""A scanning lidar, planar or of several lines: rays into the scene, and what comes back of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.errors import ConfigError
from digital_twin.core.scene import SHAPE_GROUP, WORLD_GROUP
from digital_twin.core.sensors.lidar_stages import (
    COSINE,
    RANGE,
    SHINE,
    Chance,
    Dropout,
    Intensity,
    LidarProfile,
    RangeDigits,
    RangeNoise,
    Unchanged,
    columns,
    cross_of,
    directions,
    edges,
    mix,
)
from digital_twin.core.sensors.motion import Pose, poses_at
from digital_twin.core.sensors.pipeline import Pipeline
from digital_twin.core.sensors.twin_scene import TwinScene, place_root

MAX_RAYS = 200_000
REACH = 0.05  # [m] that a sensor may move while rays are cast from one place
LIMB = 0.01  # [rad] that a joint may turn meanwhile: a centimetre at the end of an arm
STRAIGHT = 1e-4  # [m], [rad] by which states may be off a straight line that is taken for their way


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
        self._next: TwinScene | None = None
        self._stand(scene)
        whole = c.angle_max - c.angle_min > 2.0 * math.pi * (1.0 - 0.5 / c.rays)
        self.step = (c.angle_max - c.angle_min) / (c.rays if whole else c.rays - 1)
        self.angles: Array = c.angle_min + self.step * np.arange(float(c.rays))
        self.time_step = c.sweep_share / c.timing.rate / c.rays
        self.directions = directions(self.angles, np.array(c.elevations))  # (rays, lines, 3)
        # Lines so close that one beam may meet what the next one does.
        self._dense = lines > 1 and float(np.min(np.diff(np.sort(c.elevations)))) < 3.0 * c.divergence
        self._beams = np.ascontiguousarray(self.directions.T)  # (3, lines, rays)
        self._around = cross_of(self.directions, 0.35 * c.divergence)  # (rays, lines, 4, 3)
        self._times = self.time_step * np.arange(float(c.rays)) * ("motion" not in off)
        self._room = np.empty((12, c.rays))  # to have it anew for each sweep would cost as much as to fill it
        self._at_once = np.zeros(c.rays * lines)  # no stage of a lidar asks for the time
        self._groups = np.zeros(6, dtype=np.uint8)
        self._groups[[WORLD_GROUP, SHAPE_GROUP] if c.see_self else [WORLD_GROUP]] = 1
        self._number = 0
        self.pipeline = self._make_pipeline(seed, off)

    def use(self, scene: TwinScene) -> None:
        """Stand in this scene from the next sweep on."""
        self._next = scene

    def _stand(self, scene: TwinScene) -> None:
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
        p.add("beam", lambda _: Unchanged())
        p.add("motion", lambda _: Unchanged())
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
        scene, self._next = self._next, None
        if scene is not None:
            self._stand(scene)
        rays, lines = self.directions.shape[:2]
        aim = Aim(sweep.track, sweep.t + self._times, self._room)
        segments = aim.segments(c.segments, c.see_self)
        x = columns(rays, lines)
        for which in segments:
            x[which] = self._rays(aim, which, self._beams[:, :, which])
        if c.divergence > 0.0 and "beam" not in self.pipeline.off:
            self._mix(aim, segments, x)
        y = self.pipeline(x.reshape(-1, 3), self._at_once).reshape(rays, lines, 3)
        r, shine = np.ascontiguousarray(y[:, :, RANGE].T), np.ascontiguousarray(y[:, :, SHINE].T)
        far, near = r > c.range_max, r < c.range_min
        r[far], r[near] = np.inf, -np.inf
        shine[far | near] = 0.0
        return Scan(sweep.t, r, shine)

    def _rays(self, aim: Aim, which: slice, d: Array) -> Array:
        """What rays along d in the sensor's frame (3, m, k) meet, k being the length of `which`: (k, m, 3).

        All are cast from where the sensor is in the middle, as the engine wants it, and then moved to where each
        begins, which is exact on a plane.
        """
        m, k = d.shape[1:]
        n = k * m
        v = np.empty((k, m, 3))
        np.einsum("ijk,jmk->imk", aim.rotations[:, :, which], d, out=v.T)
        middle = (which.start + which.stop - 1) // 2
        if self.profile.see_self:
            p = aim.pose(middle)
            place_root(self._mj, self._data, self._model, self._base, p.base_position, p.base_rotation, p.q)
        origin = aim.positions[:, middle].copy()
        distance, normal, geom = np.empty(n), np.empty((k, m, 3)), np.empty(n, dtype=np.int32)
        mujoco.mj_multiRay(
            self._mj, self._data, origin, v.reshape(-1), self._groups, 1, self._body, geom, distance,
            normal.reshape(-1), n, self.profile.range_max + REACH,
        )  # fmt: skip
        out = columns(k, m)
        nothing = (geom < 0).reshape(k, m)
        cosine = np.einsum("kmi,kmi->km", v, normal)
        cosine[nothing] = 1.0
        ahead = np.einsum("ik,kmi->km", origin[:, None] - aim.positions[:, which], normal)
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
                around = self._rays(some, slice(0, len(i)), self._around[i, j].T)
                x[i, j] = mix(np.concatenate([x[i, j][:, None], around], axis=1), self.profile.pulse)


class Aim:
    """Where a sensor is and how it is turned at each of its rays: positions (3, k), rotations (3, 3, k).

    Between two states of the twin both are interpolated by components, which of turns of a few hundredths of a radian
    loses a millionth; between the first and the last where the others are on that line.
    """

    def __init__(self, track: tuple[Pose, ...], times: Array, room: Array) -> None:
        """room: (12, k), to be written to."""
        last = next((i for i, p in enumerate(track) if p.t >= times[-1]), len(track) - 1)
        self._track = track = track[: max(last, 1) + 1]
        self._times = times
        t = np.array([p.t for p in track])
        states = np.array([p.numbers for p in track])
        if len(t) > 2:
            part = (t - t[0]) / (t[-1] - t[0])
            off = part[:, None] * (states[-1] - states[0])
            off += states[0]
            off -= states
            if max(float(off.max()), -float(off.min())) < STRAIGHT:
                t, states = t[:: len(t) - 1], states[:: len(t) - 1]
        # Of each step from state to state the part that is done.
        done = times - t[:-1, None]
        done /= np.maximum(t[1:] - t[:-1], 1e-12)[:, None]
        np.minimum(np.maximum(done, 0.0, out=done), 1.0, out=done)
        steps = (states[1:] - states[:-1]).T
        both = (np.matmul if len(done) > 1 else np.multiply)(steps, done, out=room)
        both += states[0][:, None]
        self.positions: Array = both[:3]
        self.rotations: Array = both[3:].reshape(3, 3, -1)

    def segments(self, most: int, limbs: bool) -> list[slice]:
        """Parts of the sweep, `most` at most, during each of which the sensor moves by less than REACH.

        `limbs`: and no limb moves by more than LIMB against it.
        """
        k = len(self._times)
        count = 1 + int(float(np.abs(self.positions[:, -1] - self.positions[:, 0]).sum()) / REACH)
        if limbs:
            first, last = self._track[0], self._track[-1]
            count = max(count, 1 + int(float(np.abs(last.q - first.q).max(initial=0.0)) / LIMB))
        count = min(count, most, k)
        bounds = [k * i // count for i in range(count + 1)]
        return [slice(a, b) for a, b in pairwise(bounds)]

    def pose(self, i: int) -> Pose:
        """The whole pose at ray i."""
        return poses_at(self._track, self._times[i : i + 1])[0]

    def some(self, rays: Index) -> Aim:
        """For some of the rays."""
        out = copy(self)
        out._times, out.positions, out.rotations = (
            self._times[rays],
            self.positions[:, rays],
            self.rotations[:, :, rays],
        )
        return out
