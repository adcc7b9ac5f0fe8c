"""The simplest alternative, to be compared with: leg odometry with a gyro. Where the base is, from the feet that stand still and the rate at which the base turns.

Attitude is the integral of the gyro less its bias, pulled gently towards gravity by the accelerometer (Mahony, Hamel,
Pflimlin 2008). The bias is learnt while the robot stands at rest. Position follows from the feet: while a foot stands,
the base moves against it, p += −Δ(R_odom_base · foot_in_base), the feet weighted by their load.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.config import param
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import cross, exp_so3, gravity_tilt, log_so3, rot_z, yaw_of

GRAVITY = 9.81
NS = 1_000_000_000
MAX_GAP_NS = 100_000_000


@dataclass(frozen=True)
class LegOdometryConfig:
    """Tuning of leg odometry. All are physical: none is fitted to a recording."""

    contact_on: float = param(0.20, "share of the weight above which a foot stands", low=0.01, high=1)
    contact_off: float = param(0.10, "share of the weight below which it stands no longer", low=0.0, high=1)
    gravity_gain: float = param(0.2, "pull of the accelerometer on roll and pitch", unit="1/s", low=0, high=10)
    settling: float = param(0.3, "over which the first attitude is averaged", unit="s", low=0, high=1)
    rest_speed: float = param(0.05, "joints slower than this are at rest", unit="rad/s", low=0, high=1)
    rest_turn: float = param(0.1, "and the gyro reads less than this, bias included", unit="rad/s", low=0, high=1)
    rest_after: float = param(0.3, "for so long", unit="s", low=0, high=10)
    bias_time: float = param(2.0, "over which the gyro's bias is averaged at rest", unit="s", low=0.1, high=100)
    slip: float = param(0.02, "error per distance moved, for the covariance", low=0, high=1)
    velocity_noise: float = param(0.03, "error of the speed, for the covariance", unit="m/s", low=1e-4, high=10)
    turn_noise: float = param(0.02, "error of the rate of turn, for the covariance", unit="rad/s", low=1e-4, high=10)
    yaw_drift: float = param(0.01, "growth of the heading's error, for the covariance", unit="rad/√s", low=0, high=1)


class LegOdometry:
    """Feed it `imu`, `wrench` and `joints` in the order of their stamps; `joints` returns the base."""

    def __init__(self, model: RobotModel, robot: RobotConfig, config: LegOdometryConfig) -> None:
        self.model, self.config = model, config
        self._feet = robot.feet
        self._kinematics = model.kinematics([f.frame for f in robot.feet])
        self._weight = model.mass * GRAVITY
        self.gyro_bias = np.zeros(3)
        self._rest_time = self._still = 0.0
        self._twist_variance = np.array([config.velocity_noise**2] * 3 + [config.turn_noise**2] * 3)
        self.reset(np.zeros(3), 0.0)

    def reset(self, position: Array | None = None, yaw: float | None = None) -> None:
        """Start anew from what the sensors say next; keep the pose (or take a given one) so that odom never jumps."""
        if position is not None:
            self.position = np.asarray(position, dtype=float).copy()
            self.rotation = rot_z(yaw or 0.0)
        self._attitude_known = False
        self._age = 0.0
        self._imu_stamp: int | None = None
        self._joint_stamp: int | None = None
        self._gyro = np.zeros(3)
        self._load: list[float | None] = [None] * len(self._feet)
        self._stands = [True] * len(self._feet)
        self._last: tuple[Array, Array, Array] | None = None
        self._variance = np.array([0.0, 0.0, 0.0, 1e-4, 1e-4, 0.0])
        self._has_imu = False

    @property
    def settled(self) -> bool:
        """The attitude is an average over enough readings; before, the base is taken to stand still."""
        return self._age >= self.config.settling or not self._has_imu

    # Inputs

    def wrench(self, stamp_ns: int, foot: int, load: float) -> None:
        """Load [N] on a foot, positive when it bears weight. A Schmitt trigger decides whether it stands."""
        self._load = [*self._load[:foot], load, *self._load[foot + 1 :]]
        limit = self.config.contact_off if self._stands[foot] else self.config.contact_on
        self._stands = [*self._stands[:foot], load / self._weight > limit, *self._stands[foot + 1 :]]

    def imu(self, stamp_ns: int, gyro_in_base: Array, accel_in_base: Array) -> None:
        """One reading of the IMU, turned into the base frame: [rad/s] (3,), [m/s²] (3,)."""
        if not self._attitude_known:
            self.rotation = rot_z(yaw_of(self.rotation)) @ gravity_tilt(accel_in_base)
            self._attitude_known = True
        elif self._imu_stamp is not None and 0 < stamp_ns - self._imu_stamp <= MAX_GAP_NS:
            rate = 0.5 * (self._gyro + gyro_in_base) - self.gyro_bias
            norm = float(np.linalg.norm(accel_in_base))
            dt = (stamp_ns - self._imu_stamp) / NS
            self._age += dt
            if abs(norm - GRAVITY) < 0.5 * GRAVITY:
                # In the first second the pull is that of an average over all readings so far.
                gain = max(self.config.gravity_gain, 1.0 / self._age if self._age < 1.0 else 0.0)
                rate = rate + gain * cross(accel_in_base / norm, self.rotation[2])
            self.rotation = self.rotation @ exp_so3(rate * dt)
        self._imu_stamp, self._gyro, self._has_imu = stamp_ns, gyro_in_base, True

    def joints(self, stamp_ns: int, q: Array, qd: Array) -> BaseState:
        """Joint positions [rad] and speeds [rad/s] (n,): moves the base and returns its state at this stamp."""
        self._kinematics.update(q)
        feet_p, feet_R = self._kinematics.position.copy(), self._kinematics.rotation.copy()
        gap = 0 if self._joint_stamp is None else stamp_ns - self._joint_stamp
        dt = min(gap, MAX_GAP_NS) / NS
        weights = self._weights(feet_p)
        if not self._has_imu and len(self._feet):
            self._attitude_from_legs(feet_R, weights)
        rotation = self._rotation_at(stamp_ns)
        if self._last is not None and len(self._feet) and self.settled:
            old_p, _, old_rotation = self._last
            step = weights @ (feet_p @ rotation.T - old_p @ old_rotation.T)
            self.position = self.position - step
            self._variance = self._variance + np.array([(self.config.slip * np.linalg.norm(step)) ** 2] * 3 + [0.0] * 3)
        self._variance = self._variance + np.array([0.0] * 5 + [self.config.yaw_drift**2 * dt])
        self._learn_bias(feet_R, weights, qd, dt)
        self._last, self._joint_stamp = (feet_p, feet_R, rotation), stamp_ns
        angular = self._gyro - self.gyro_bias
        return BaseState(
            stamp_ns, self.position.copy(), rotation, self._velocity(feet_p, qd, angular, weights), angular,
            np.diag(self._variance), np.diag(self._twist_variance), tuple(self._stands), self.settled,
        )  # fmt: skip

    # Pieces

    def _rotation_at(self, stamp_ns: int) -> Array:
        """Attitude at a stamp near the last IMU reading, turning on at its rate."""
        if self._imu_stamp is None or stamp_ns == self._imu_stamp:
            return np.array(self.rotation)
        dt = max(-MAX_GAP_NS, min(MAX_GAP_NS, stamp_ns - self._imu_stamp)) / NS
        return np.asarray(self.rotation @ exp_so3((self._gyro - self.gyro_bias) * dt))

    def _weights(self, feet_p: Array) -> Array:
        """How much each foot tells about the base: its share of the load among those that stand."""
        if any(load is None for load in self._load):
            # No force sensors: the lowest feet stand.
            height = feet_p @ self.rotation[2]
            self._stands = [bool(h < height.min() + 0.01) for h in height] if len(height) else []
            load = np.ones(len(self._feet))
        else:
            load = np.maximum(np.array(self._load, dtype=float), 0.0)
        # Squared, since a foot that bears little is landing or leaving: it rolls and slides.
        w = load**2 * np.array(self._stands, dtype=float)
        total = float(w.sum())
        return np.asarray(w / total if total > 0.0 else w)

    def _attitude_from_legs(self, feet_R: Array, weights: Array) -> None:
        """Without an IMU the base turns as the most loaded foot, held still, says."""
        best = int(np.argmax(weights))
        if self._last is not None and weights[best] > 0.0:
            _, old_R, old_rotation = self._last
            self.rotation = old_rotation @ old_R[best] @ feet_R[best].T
        elif self._last is None:
            self.rotation = rot_z(yaw_of(self.rotation)) @ feet_R[best].T

    def _learn_bias(self, feet_R: Array, weights: Array, qd: Array, dt: float) -> None:
        """At rest the gyro should read what the legs say (a standing robot leans a little): the rest is bias."""
        c = self.config
        moving = np.max(np.abs(qd)) > c.rest_speed or np.linalg.norm(self._gyro) > c.rest_turn
        if moving or not self._has_imu or not all(self._stands) or self._last is None or dt <= 0.0:
            self._still = 0.0
            return
        self._still += dt
        if self._still < c.rest_after and self._rest_time > c.rest_after:
            return  # a pause in a motion, perhaps; only the very first rest counts at once
        best = int(np.argmax(weights))
        by_legs = log_so3(self._last[1][best] @ feet_R[best].T) / dt
        # A plain average at first, then an exponential one.
        self._rest_time = min(self._rest_time + dt, c.bias_time)  # of all rests together
        self.gyro_bias = self.gyro_bias + (dt / self._rest_time) * (self._gyro - by_legs - self.gyro_bias)

    def _velocity(self, feet_p: Array, qd: Array, angular: Array, weights: Array) -> Array:
        """Of the base, in the base frame: standing feet do not move, so v = −(ω × r + J q̇), by weight."""
        v = np.zeros(3)
        for i, w in enumerate(weights):
            if w > 0.0:
                jp, _ = self._kinematics.jacobian(i)
                v -= w * (cross(angular, feet_p[i]) + jp @ qd)
        return v
