"""What the standing feet tell of the ground: which way it faces.

A forecast in which the soles do not lie flat on the ground begins with a lurch that the robot never makes. The attitude
is uncertain by as much as the accelerometer's bias tilts it, so soles that seem to lie askew are explained by both an
error of the attitude and a slope, each in proportion to its variance.
"""

from __future__ import annotations

import math

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import exp_so3

NS = 1_000_000_000
STEEP = 3.0  # standard deviations of tilt, beyond which the ground slopes whatever is usual


class Ground:
    """Feed it states; `frame` is the rotation from odom to a frame whose z axis is the ground's normal."""

    def __init__(self, model: RobotModel, robot: RobotConfig, settling: float = 1.0) -> None:
        """`settling` [s] over which the soles' attitudes are averaged: they roll when the robot moves."""
        self._kinematics = model.kinematics([f.frame for f in robot.feet])
        self._settling = settling
        self._stamp: int | None = None
        self._known = 0.0
        self.normal = np.array([0.0, 0.0, 1.0])

    def clear(self) -> None:
        """Forget what was known."""
        self._stamp, self._known = None, 0.0
        self.normal = np.array([0.0, 0.0, 1.0])

    def update(self, base: BaseState, q: Array) -> None:
        """A state: the base in odom and joint positions [rad] (n,)."""
        if not any(base.contacts) or not np.isfinite(q).all():
            return
        self._kinematics.update(q)
        standing = [i for i, stands in enumerate(base.contacts) if stands]
        seen = (base.rotation @ self._kinematics.rotation[standing][:, :, 2].T).mean(axis=1)
        length = float(np.linalg.norm(seen))
        if seen[2] < 0.7 * length:
            return  # steeper than anybody stands on
        dt = 0.0 if self._stamp is None else (base.stamp_ns - self._stamp) / NS
        if dt < 0.0 or dt > 10.0 * self._settling:
            self._stamp = None
        share = 1.0
        if self._stamp is None:
            self._known = 0.0
        else:
            # At first a plain mean, later one that forgets.
            self._known = min(self._known + dt if self._known else 2.0 * dt, self._settling)
            share = min(1.0, dt / max(self._known, 1e-9))
        self._stamp = base.stamp_ns
        self.normal = self.normal + share * (seen / length - self.normal)
        self.normal /= np.linalg.norm(self.normal)

    def frame(self) -> Array:
        """R_ground_odom (3, 3): turns the ground's normal to z by the shortest way."""
        n = self.normal
        axis = np.array([n[1], -n[0], 0.0])
        size = float(np.linalg.norm(axis))
        return np.eye(3) if size < 1e-12 else exp_so3(axis / size * math.atan2(size, float(n[2])))

    def gravity(self, base: BaseState, slope: float) -> Array:
        """Which way is down in the ground's frame: a unit vector (3,).

        `slope` [rad]: standard deviation of the ground's slope. What the attitude's covariance explains of the tilt
        between soles and odom is taken for an error of the attitude; what both cannot explain is a slope all the same.
        """
        variance = 0.5 * float(base.covariance[3, 3] + base.covariance[4, 4])
        total = max(slope**2 + variance, 1e-12)
        steep = float(self.normal[0] ** 2 + self.normal[1] ** 2) > STEEP**2 * total
        share = 1.0 if steep else slope**2 / total
        tilted = self.normal * [share, share, 1.0]
        n = tilted / np.linalg.norm(tilted)
        return np.array([n[0], n[1], -n[2]])
