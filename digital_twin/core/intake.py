"""Is the content of this message fit to use? Sizes, numbers, names and limits; and the robot's calibration applied.

What is wrong with one joint does not condemn the message: that joint is left out, and counted by reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Index, Mask
from digital_twin.core.config import param
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig, imu_rotation


@dataclass(frozen=True)
class IntakeConfig:
    """What values are believable."""

    position_margin: float = param(
        0.2, "a position this much outside the URDF's limits is no measurement", unit="rad", low=0, high=7
    )
    velocity_factor: float = param(3.0, "nor a speed above this many times the limit", low=1, high=1000)
    effort_factor: float = param(3.0, "nor a torque above this many times the limit", low=1, high=1000)
    max_gyro: float = param(60.0, "nor a rate of turn above this", unit="rad/s", low=1, high=1e4)
    max_accel: float = param(500.0, "nor an acceleration above this", unit="m/s²", low=20, high=1e5)
    max_force: float = param(20000.0, "nor a sole force above this", unit="N", low=100, high=1e7)


@dataclass(frozen=True)
class JointIntakeResult:
    """What is left of a joint message.

    index: the model's joints (k,). q, and, unless the message has none, qd and effort: (k,), calibrated, in URDF terms.
    rejected: count of joints by reason. unchanged: nothing was taken away or altered.
    """

    index: Index
    q: Array
    qd: Array | None
    effort: Array | None
    rejected: dict[str, int]
    unchanged: bool


class JointIntake:
    """Checks and calibrates joint states: urdf = sign · scale · reported + offset."""

    def __init__(self, model: RobotModel, joints: Joints, config: IntakeConfig) -> None:
        self._model, self._joints, self._config = model, joints, config
        self._by_name = {name: i for i, name in enumerate(joints.reported_names)}
        self._identity = bool(
            np.all(joints.factor == 1.0) and np.all(joints.offset == 0.0) and joints.reported_names == model.joint_names
        )
        self._names: tuple[str, ...] = ()
        self._index = np.zeros(0, dtype=np.intp)
        self._all_known = False
        self._keep: Mask | None = None
        self._unknown = 0
        self.unknown_names: tuple[str, ...] = ()

    def _learn(self, names: Sequence[str]) -> None:
        """Where the joints of a message are in the model; messages of one robot repeat their names."""
        found = [self._by_name.get(name, -1) for name in names]
        index = np.array(found, dtype=np.intp)
        _, first = np.unique(index, return_index=True)
        keep = np.zeros(len(index), dtype=bool)
        keep[first] = True
        keep &= index >= 0
        self._names, self._all_known = tuple(names), bool(keep.all())
        self._keep, self._index = keep, index[keep]
        self._unknown = int(np.count_nonzero(index < 0))
        self._repeated = len(index) - self._unknown - len(self._index)
        self.unknown_names = tuple(name for name, i in zip(names, found, strict=True) if i < 0)
        c, m = self._config, self._model
        self._low = m.lower[self._index] - c.position_margin
        self._high = m.upper[self._index] + c.position_margin
        self._fast = m.max_velocity[self._index] * c.velocity_factor
        self._strong = m.max_effort[self._index] * c.effort_factor
        self._factor, self._offset = self._joints.factor[self._index], self._joints.offset[self._index]

    def check(
        self, names: tuple[str, ...], q: Array, qd: Array, effort: Array
    ) -> JointIntakeResult | str:  # fmt: skip
        """Check one message: names and arrays as they came, an empty array for a field that is not given.

        Returns:
            What is left of it, or the reason why nothing is.
        """
        n = len(names)
        if n == 0 or len(q) != n or len(qd) not in (0, n) or len(effort) not in (0, n):
            return "size"
        if names != self._names:
            self._learn(names)
        rejected = {"unknown_joint": self._unknown} if self._unknown else {}
        if self._repeated:
            rejected["repeated_joint"] = self._repeated
        if not self._all_known:
            q, qd, effort = (x[self._keep] if len(x) else x for x in (q, qd, effort))
        if not self._identity:
            q = self._factor * q + self._offset
            qd = self._factor * qd if len(qd) else qd
            effort = effort / self._factor if len(effort) else effort
        index = self._index
        good = self._good(q, qd, effort, rejected)
        if good is not None:
            q, index = q[good], index[good]
            qd, effort = (x[good] if len(x) else x for x in (qd, effort))
        if not len(q):
            return max(rejected, key=lambda reason: rejected[reason])
        unchanged = self._identity and self._all_known and good is None
        return JointIntakeResult(
            index, q, qd if len(qd) else None, effort if len(effort) else None, rejected, unchanged
        )

    def _good(self, q: Array, qd: Array, effort: Array, rejected: dict[str, int]) -> Mask | None:
        """Which joints have believable values; None when all have."""
        # One comparison finds values out of limits and, since every comparison with NaN is false, NaN too.
        inside = (q >= self._low) & (q <= self._high)
        if len(qd):
            inside &= np.abs(qd) <= self._fast
        if len(effort):
            inside &= np.abs(effort) <= self._strong
        finite = np.isfinite(q)
        for x in (qd, effort):
            if len(x):
                finite &= np.isfinite(x)
        good = inside & finite
        if good.all():
            return None
        broken = int(np.count_nonzero(~finite))
        outside = int(np.count_nonzero(finite & ~inside))
        if broken:
            rejected["non_finite"] = broken
        if outside:
            rejected["out_of_limits"] = outside
        return good


class ImuIntake:
    """Checks and calibrates an IMU: corrected = R(rpy) (raw − bias)."""

    def __init__(self, robot: RobotConfig, i: int, config: IntakeConfig) -> None:
        imu = robot.imus[i]
        self._R = imu_rotation(imu)
        self._gyro_bias, self._accel_bias = np.array(imu.gyro_bias), np.array(imu.accel_bias)
        self._config = config
        self.identity = bool(
            np.allclose(self._R, np.eye(3)) and not self._gyro_bias.any() and not self._accel_bias.any()
        )

    def check(self, gyro: Array, accel: Array) -> tuple[Array, Array] | str:
        """Angular velocity [rad/s] and acceleration [m/s²] (3,), (3,), corrected; or the reason to refuse them."""
        largest = float(np.abs(gyro).max()), float(np.abs(accel).max())
        if not np.isfinite(largest).all():
            return "non_finite"
        if largest[0] > self._config.max_gyro or largest[1] > self._config.max_accel:
            return "out_of_limits"
        if self.identity:
            return gyro, accel
        return self._R @ (gyro - self._gyro_bias), self._R @ (accel - self._accel_bias)

    def attitude(self, rotation: Array) -> Array:
        """An attitude R_world_sensor that the IMU reports, for its corrected axes."""
        return np.asarray(rotation @ self._R.T)


def check_wrench(wrench: Array, config: IntakeConfig) -> str | None:
    """Why a wrench (6,) of force and torque is not believable, or None."""
    if not np.isfinite(wrench).all():
        return "non_finite"
    return "out_of_limits" if float(np.abs(wrench).max()) > config.max_force else None


def check_pose(position: Array, quaternion: Array, covariance: Array) -> str | None:
    """Why a pose is not believable, or None.

    Args:
        position: (3,). quaternion: xyzw (4,), its norm within 10 % of 1. covariance: (6, 6), symmetric, no negative
            eigenvalue; all zeros stands for "unknown".
    """
    if not (np.isfinite(position).all() and np.isfinite(quaternion).all() and np.isfinite(covariance).all()):
        return "non_finite"
    if abs(float(np.linalg.norm(quaternion)) - 1.0) > 0.1:
        return "quaternion"
    if float(np.abs(position).max()) > 1e6:
        return "out_of_limits"
    scale = float(np.abs(covariance).max())
    if scale == 0.0:
        return None
    if float(np.abs(covariance - covariance.T).max()) > 1e-6 * scale:
        return "covariance"
    return "covariance" if float(np.linalg.eigvalsh(covariance)[0]) < -1e-9 * scale else None
