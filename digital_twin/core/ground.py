"""What the standing feet tell of the ground: which way it faces.

A forecast in which the soles do not lie flat on the ground begins with a lurch that the robot never makes. The attitude
is uncertain by as much as the accelerometer's bias tilts it, so soles that seem to lie askew are explained by both an
error of the attitude and a slope, each in proportion to its variance.

Soles do lean, by as much as contacts give under the torque that they bear: milliradians, and tens of them near an edge.
A forecast simulates that, so what the last one said about the soles at this stamp is taken off what is seen of them.
What remains is the ground, and the next forecast begins with soles that lean as its contacts would have them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import exp_so3

NS = 1_000_000_000
STEEP = 5.0, 8.0  # standard deviations of tilt, between which it becomes a slope of the ground whatever is usual
RECENT = 0.3  # [s] for which a forecast is taken to know how soles lean
BEYOND = 0.03  # [s] after its end for which they lean as at its end
MOST_LEAN = 0.1  # [rad]; a sole that leans more was forecast to be in the air
NOISE = 0.1  # [s] over which soles are averaged whose lean is known


class _Expected(NamedTuple):
    """A forecast: when it began, times [s] (k,), joints [rad] (k, n), base in odom (k, 3, 3), the ground's normal."""

    stamp_ns: int
    times: Array
    q: Array
    rotation: Array
    normal: Array


class Ground:
    """Feed it states and forecasts; `frame` is the rotation from odom to a frame whose z axis is the ground's normal."""

    def __init__(
        self, model: RobotModel, robot: RobotConfig, zero_error: Array | float = 0.0, settling: float = 1.0
    ) -> None:
        """`zero_error` [rad] (n,) of the joints. `settling` [s] over which soles are averaged of which no forecast says how
        they lean.
        """
        self._kinematics = model.kinematics([f.frame for f in robot.feet])
        self._zero, self._settling = zero_error, settling
        self.clear()

    def clear(self) -> None:
        """Forget what was known."""
        self._stamp: int | None = None
        self._known = 0.0
        self._expected: _Expected | None = None
        self.normal = np.array([0.0, 0.0, 1.0])

    def expect(self, stamp_ns: int, times: Array, q: Array, rotation: Array) -> None:
        """A forecast with contacts, begun on the ground of now.

        Args:
            stamp_ns, times: when it began, and [s] (k,) from there.
            q, rotation: joints as they would be read [rad] (k, n), the base in odom (k, 3, 3).
        """
        self._expected = _Expected(stamp_ns, times, q, rotation, self.normal)

    def update(self, base: BaseState, q: Array) -> None:
        """A state: the base in odom and joints as they are read [rad] (n,)."""
        if not any(base.contacts) or not np.isfinite(q).all():
            return
        normals = self._normals(q, base.rotation, base.contacts)
        leans = self._leans(base)
        seen = (normals if leans is None else normals - leans).mean(axis=0)
        length = float(np.linalg.norm(seen))
        if seen[2] < 0.7 * length:
            return  # steeper than anybody stands on
        settling = self._settling if leans is None else min(NOISE, self._settling)
        dt = 0.0 if self._stamp is None else (base.stamp_ns - self._stamp) / NS
        if dt < 0.0 or dt > 10.0 * self._settling:
            self._stamp = None
        share = 1.0
        if self._stamp is None:
            self._known = 0.0
        else:
            # At first a plain mean, later one that forgets.
            self._known = min(self._known + dt if self._known else 2.0 * dt, settling)
            share = min(1.0, dt / max(self._known, 1e-9))
        self._stamp = base.stamp_ns
        self.normal = self.normal + share * (seen / length - self.normal)
        self.normal /= np.linalg.norm(self.normal)

    def _normals(self, q: Array, rotation: Array, contacts: tuple[bool, ...]) -> Array:
        """Of the standing soles in odom (m, 3)."""
        self._kinematics.update(q - self._zero)
        standing = [i for i, stands in enumerate(contacts) if stands]
        return np.asarray(self._kinematics.rotation[standing][:, :, 2] @ rotation.T)

    def _leans(self, base: BaseState) -> Array | None:
        """How the standing soles lean by the last forecast: their normals less the ground's, in odom (m, 3)."""
        e = self._expected
        if e is None or not 0 <= base.stamp_ns - e.stamp_ns <= min(RECENT, e.times[-1] + BEYOND) * NS:
            return None
        at = min(int(np.searchsorted(e.times, (base.stamp_ns - e.stamp_ns) / NS - 1e-9)), len(e.times) - 1)
        leans = self._normals(e.q[at], e.rotation[at], base.contacts) - e.normal
        return leans if np.abs(leans).max() < MOST_LEAN else None

    def frame(self) -> Array:
        """R_ground_odom (3, 3)."""
        return upright(self.normal)

    def gravity(self, base: BaseState, slope: float) -> Array:
        """Which way is down in the ground's frame: a unit vector (3,).

        `slope` [rad]: standard deviation of the ground's slope. What the attitude's covariance explains of the tilt
        between soles and odom is taken for an error of the attitude; what both cannot explain is a slope all the same.
        """
        # A turn about x moves the vertical along -y.
        (roll, both), (_, pitch) = base.covariance[3:5, 3:5]
        return down(self.normal, np.array([[pitch, -both], [-both, roll]]), slope)


def upright(normal: Array) -> Array:
    """The rotation (3, 3) that turns a normal to z by the shortest way."""
    axis = np.array([normal[1], -normal[0], 0.0])
    size = float(np.linalg.norm(axis))
    return np.eye(3) if size < 1e-12 else exp_so3(axis / size * math.atan2(size, float(normal[2])))


def down(normal: Array, covariance: Array, slope: float) -> Array:
    """As of `Ground.gravity`; `covariance` (2, 2) of the vertical's x and y in odom [rad²]: the attitude is rarely known as
    well in roll as in pitch."""
    usual = slope**2 * np.eye(2)
    told = np.linalg.solve(usual + covariance + 1e-12 * np.eye(2), normal[:2])
    steep = float(np.interp(math.sqrt(float(normal[:2] @ told)), STEEP, (0.0, 1.0)))
    n = np.append(steep * normal[:2] + (1.0 - steep) * (usual @ told), normal[2])
    n = n / np.linalg.norm(n)
    return np.array([n[0], n[1], -n[2]])
