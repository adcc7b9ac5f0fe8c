"""The path of a swinging foot: towards a foothold that may move while the foot is on its way, up and down again."""

from __future__ import annotations

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import exp_so3, log_so3

LAST = 0.04  # [s] before its end, from when on the path is no longer bent
STEADY = 0.2  # share of the bump that comes down steadily, so that the moment of landing is sharp
PRESS = 0.3  # [m/s] at which a foot that has not met the ground goes on downwards


class Swing:
    """A foot from where it was to where it is to be. Positions of the sole's middle [m] (3,), rotations R_odom_sole.

    In the plane it goes with the least jerk from the path's present state to the target (Flash, Hogan 1985), planned
    anew at each moment; height is a bump over the straight line from start to target.

    Attributes:
        position, velocity, acceleration: of the path now (3,); R, turn: attitude (3, 3) and angular velocity (3,).
        progress: 0 … 1.
    """

    def __init__(self, position: Array, R: Array, height: float) -> None:
        self.start, self.R_start, self.height = position.copy(), R.copy(), height
        self.position, self.R = position.copy(), R.copy()
        self.velocity, self.acceleration, self.turn = np.zeros(3), np.zeros(3), np.zeros(3)
        self.progress = 0.0

    def move(self, target: Array, R_target: Array, left: float, dt: float) -> None:
        """Go on by dt [s] towards a target that is to be reached in `left` [s]; at its end it presses downwards."""
        if left <= dt:
            self._press(dt)
            return
        p = min(1.0, self.progress + dt * (1.0 - self.progress) / left)
        rate = (1.0 - self.progress) / left
        self.progress = p
        self._plane(target, left, dt)
        self._lift(target[2], rate)
        s, ds = p**3 * (10 - 15 * p + 6 * p * p), 30 * p * p * (1 - p) ** 2 * rate
        way = log_so3(self.R_start.T @ R_target)
        self.R, self.turn = self.R_start @ exp_so3(s * way), self.R_start @ (ds * way)

    def _plane(self, target: Array, left: float, dt: float) -> None:
        x, v, a = self.position[:2], self.velocity[:2], self.acceleration[:2]
        if left > LAST:
            jerk = 60.0 * (target[:2] - x) / left**3 - 36.0 * v / left**2 - 9.0 * a / left
            self.position[:2] = x + v * dt + a * dt**2 / 2 + jerk * dt**3 / 6
            self.velocity[:2] = v + a * dt + jerk * dt**2 / 2
            self.acceleration[:2] = a + jerk * dt
        else:
            share = dt / left
            self.velocity[:2] = v * (1.0 - share)
            self.acceleration[:2] = a * (1.0 - share)
            self.position[:2] = x + self.velocity[:2] * dt

    def _lift(self, target_z: float, rate: float) -> None:
        p, z0 = self.progress, self.start[2]
        s, ds = p**3 * (10 - 15 * p + 6 * p * p), 30 * p * p * (1 - p) ** 2
        dds = 60 * p * (1 - p) * (1 - 2 * p)
        a, c = (1 - STEADY) * 16, STEADY * 6.75
        bump = a * p * p * (1 - p) ** 2 + c * p * p * (1 - p)
        dbump = a * 2 * p * (1 - p) * (1 - 2 * p) + c * (2 * p - 3 * p * p)
        ddbump = a * 2 * (1 - 6 * p + 6 * p * p) + c * (2 - 6 * p)
        self.position[2] = z0 + (target_z - z0) * s + self.height * bump
        self.velocity[2] = ((target_z - z0) * ds + self.height * dbump) * rate
        self.acceleration[2] = ((target_z - z0) * dds + self.height * ddbump) * rate * rate

    def _press(self, dt: float) -> None:
        self.progress = 1.0
        self.velocity[:], self.acceleration[:], self.turn = 0.0, 0.0, np.zeros(3)
        self.velocity[2] = -PRESS
        self.position[2] -= PRESS * dt
