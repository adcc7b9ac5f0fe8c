"""A scanning lidar, planar or of several lines: rays into the scene, and what comes back of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.errors import ConfigError
from digital_twin.core.scene import SHAPE_GROUP, WORLD_GROUP
from digital_twin.core.sensors.lidar_stages import (
    COSINE,
    NOWHERE,
    RANGE,
    SHINE,
    Draw,
    Dropout,
    Intensity,
    LidarProfile,
    Numbers,
    RangeDigits,
    RangeNoise,
    cross_of,
    directions,
    edges,
    factors,
    mix,
    normal,
    weakest_seen,
)
from digital_twin.core.sensors.motion import poses_at
from digital_twin.core.sensors.pipeline import Pipeline
from digital_twin.core.sensors.sweep_motion import Stretch, Sweep, powers_of, stretches, with_powers
from digital_twin.core.sensors.twin_scene import TwinScene, place_root

MAX_RAYS = 200_000
REACH = 0.05  # [m] that a sensor may move while rays are cast from one place
LIMB = 0.01  # [rad] that a joint may turn meanwhile: a centimetre at the end of an arm
_ONES = np.ones(3)


class Scan(NamedTuple):
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
        self._span = self.time_step * c.rays if "motion" not in off else 1.0
        moments: Array = np.arange(float(c.rays)) * (self.time_step / self._span * ("motion" not in off))
        # By rows: all lines of the first ray, of the second, …
        self._moments, self._powers = moments, powers_of(moments).repeat(lines, axis=0)  # (n, 4)
        self._beams = with_powers(self.directions.reshape(-1, 3), self._powers)  # (n, 12)
        self._around = cross_of(self.directions.reshape(-1, 3), 0.35 * c.divergence)  # (n, 4, 3)
        self._wide = c.divergence > 0.0 and "beam" not in off
        self._room = Room((5 if self._wide else 1) * len(self._beams))
        self._at_once = np.zeros(c.rays * lines)  # no stage of a lidar asks for the time
        self._groups = np.zeros(6, dtype=np.uint8)
        self._groups[[WORLD_GROUP, SHAPE_GROUP] if c.see_self else [WORLD_GROUP]] = 1
        self._number = 0
        self.pipeline = self._make_pipeline(seed, off)

    def use(self, scene: TwinScene) -> None:
        """Stand in this scene from the next sweep on."""
        self._next = scene

    def _stand(self, scene: TwinScene) -> None:
        see_self = self.profile.see_self
        self._mj, self._model = scene.mj if see_self else scene.surroundings, scene.model
        self._data, self._zero = mujoco.MjData(self._mj), scene.zero_error
        mujoco.mj_kinematics(self._mj, self._data)
        self._base = int(scene.mj.site(scene.model.base_frame).id)
        # The housing does not see itself.
        self._body = int(scene.mj.site_bodyid[scene.mj.site(self.frame).id]) if see_self else -1
        rgb = self._mj.geom_rgba[:, :3] @ [0.2126, 0.7152, 0.0722]
        self._shine = np.append(rgb, 0.0)  # of nothing, at index -1

    def _make_pipeline(self, seed: int, off: Collection[str]) -> Pipeline:
        c = self.profile
        p = Pipeline(self.name, seed, off)
        for done_while_casting in ("beam", "motion"):
            p.add(done_while_casting)

        def numbers(rng: np.random.Generator, draw: Draw) -> Numbers:
            return Numbers(rng, c.rays * len(c.elevations), draw, lambda: self._number)

        p.add("intensity", lambda rng: Intensity(numbers(rng, factors(c.intensity_noise))))
        p.add("noise", lambda rng: RangeNoise(c, c.bias * rng.standard_normal(), numbers(rng, normal)))
        p.add("dropout", lambda rng: Dropout(numbers(rng, weakest_seen(c))))
        p.add("quantisation", lambda _: RangeDigits(c.resolution))
        p.check()
        return p

    @property
    def duration(self) -> float:
        """From the first to the last ray of a sweep [s]; none with 'motion' switched off."""
        return float(self._moments[-1]) * self._span

    def measure(self, sweep: Sweep) -> Scan:
        """Cast a sweep and report it."""
        c, self._number = self.profile, sweep.number
        scene, self._next = self._next, None
        if scene is not None:
            self._stand(scene)
        rays, lines = self.directions.shape[:2]
        x = self._meet(sweep)
        y = self.pipeline(x.T, self._at_once).reshape(rays, lines, 3)
        r, shine = np.ascontiguousarray(y[:, :, RANGE].T), np.ascontiguousarray(y[:, :, SHINE].T)
        far, near = r > c.range_max, r < c.range_min
        np.putmask(r, far, np.inf)
        np.putmask(r, near, -np.inf)
        np.putmask(shine, np.logical_or(far, near, out=far), 0.0)
        return Scan(sweep.t, r, shine)

    def _parts(self, sweep: Sweep) -> list[Stretch]:
        """The sweep in parts during each of which the sensor moves by less than REACH, and no limb that it sees by LIMB."""
        c, out, lines = self.profile, [], self.directions.shape[1]
        limbs = float(np.abs(sweep.track[-1].q - sweep.track[0].q).max(initial=0.0)) if c.see_self else 0.0
        whole = stretches(sweep, self._span, self._moments, c.segments)
        for s in whole:
            start, k = s.rays.start, s.rays.stop - s.rays.start
            moved = (self._powers[(start + k - 1) * lines] - self._powers[start * lines]) @ s.places
            count = 1 + int(max(math.sqrt(moved @ moved) / REACH, limbs / LIMB / len(whole)))
            count = max(1, min(count, c.segments // len(whole), k))
            bounds = [start + k * i // count for i in range(count + 1)]
            out += [s._replace(rays=slice(a, b)) for a, b in pairwise(bounds)]
        return out

    def _meet(self, sweep: Sweep) -> Array:
        """What the rays of a sweep meet (3, n)."""
        parts, n, lines = self._parts(sweep), len(self._beams), self.directions.shape[1]
        room = self._room
        for p in parts:
            rows = slice(p.rays.start * lines, p.rays.stop * lines)
            self._cast(sweep, p, rows, self._beams[rows], self._powers[rows])
        distance = room.distance[:n]
        np.putmask(distance, room.geom[:n] < 0, NOWHERE)
        if self._wide:
            edge = np.flatnonzero(edges(distance.reshape(-1, lines), self._dense))
            if len(edge):
                self._look_around(sweep, parts, edge)
                x = room.met(n + 4 * len(edge), self._shine)
                beams = np.empty((3, len(edge), 5))
                beams[:, :, 0], beams[:, :, 1:] = x[:, edge], x[:, n:].reshape(3, -1, 4)
                x[:, edge] = mix(beams, self.profile.pulse)
                return x[:, :n]
        return room.met(n, self._shine)

    def _look_around(self, sweep: Sweep, parts: list[Stretch], edge: Index) -> None:
        """At edges a beam is wide enough to meet two surfaces: four more rays there, which come after all others."""
        n, lines = len(self._beams), self.directions.shape[1]
        powers = self._powers[edge]
        beams = with_powers(self._around[edge], powers[:, None]).reshape(-1, 12)
        powers = powers.repeat(4, axis=0)
        last = 0
        for p in parts:
            first, last = last, 4 * int(np.searchsorted(edge, p.rays.stop * lines))
            if last > first:
                self._cast(sweep, p, slice(n + first, n + last), beams[first:last], powers[first:last])

    def _cast(self, sweep: Sweep, part: Stretch, rows: slice, beams: Array, powers: Array) -> None:
        """Cast beams (k, 12) at moments of these powers (k, 4) into these rows of the room.

        All are cast from where the sensor is in the middle of the part, as the engine wants it; how far that is from
        where each begins is kept.
        """
        room = self._room
        v = np.matmul(beams, part.turns, out=room.v[rows])
        middle = (part.rays.start + part.rays.stop - 1) // 2
        at = self._powers[middle * self.directions.shape[1]]
        if self.profile.see_self:
            (p,) = poses_at(sweep.track, sweep.t + self._span * self._moments[middle : middle + 1])
            place_root(
                self._mj, self._data, self._model, self._base, p.base_position, p.base_rotation, p.q - self._zero
            )
        mujoco.mj_multiRay(
            self._mj, self._data, at @ part.places, v.reshape(-1), self._groups, 1, self._body, room.geom[rows],
            room.distance[rows], room.normal[rows].reshape(-1), len(v), self.profile.range_max + REACH,
        )  # fmt: skip
        np.matmul(at - powers, part.places, out=room.back[rows])


class Room:
    """Of each ray: direction v, normal of what it met and the way back to where it was cast from (n, 3), distance, shape.

    It is kept: to have it anew for each sweep would cost as much as to fill it.
    """

    def __init__(self, n: int) -> None:
        self.v, self.normal, self.back = np.empty((3, n, 3))
        self.distance = np.empty(n)
        self.geom = np.empty(n, dtype=np.int32)

    def met(self, n: int, shine: Array) -> Array:
        """Range, cosine and reflectivity (3, n) of the first n rays, each from its own place, which is exact on a plane."""
        normal, v, geom, x = self.normal[:n], self.v[:n], self.geom[:n], np.empty((3, n))
        r, cosine = x[RANGE], x[COSINE]
        v *= normal
        nothing = geom < 0
        np.matmul(v, _ONES, out=cosine)
        cosine += nothing  # which has no normal
        normal *= self.back[:n]
        np.matmul(normal, _ONES, out=r)
        r /= cosine
        r += self.distance[:n]
        np.putmask(r, nothing, NOWHERE)
        np.abs(cosine, out=cosine)
        shine.take(geom, out=x[SHINE], mode="wrap")
        return x
