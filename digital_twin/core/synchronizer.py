"""Where the robot is now: joint states, base in odom, and odom in the map, from what the bridge lets through.

One output per joint measurement, bearing its stamp. Stamps and times of arrival are arguments: no clock is read here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.joint_filter import JointFilter, JointFilterConfig
from digital_twin.core.leg_odometry import BaseState, LegOdometry, LegOdometryConfig
from digital_twin.core.map_alignment import MapAlignment, MapAlignmentConfig, PoseResult
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.statistics import Tally

NS = 1_000_000_000


@dataclass(frozen=True)
class SynchronizerConfig:
    """The synchronizer and its parts."""

    sync_error_threshold: float = param(
        0.05, "distance of the virtual pose from an external one above which the twin is out of step", unit="m",
        low=0.001, high=10,
    )  # fmt: skip
    history: float = param(0.2, "how late an external pose may be", unit="s", low=0.02, high=5)
    silent_after: float = param(0.5, "joint states older than this are missed", unit="s", low=0.02, high=60)
    pose_age: float = param(1.0, "an external pose older than this is called stale", unit="s", low=0.05, high=60)
    joints: JointFilterConfig = param(JointFilterConfig)
    base: LegOdometryConfig = param(LegOdometryConfig)
    map: MapAlignmentConfig = param(MapAlignmentConfig)


@dataclass(frozen=True)
class VirtualState:
    """One output: joints [rad], [rad/s], [N m] (n,) (NaN: never reported) and the base, all of one stamp."""

    stamp_ns: int
    q: Array
    qd: Array
    effort: Array
    base: BaseState


@dataclass(frozen=True)
class SyncStatus:
    """How well the twin follows, in numbers and in words.

    level: 0 OK, 1 warning, 2 error. sync_error [m]: from the last external pose; joint_error [rad]: the largest between
    a filtered and a measured position; age [s] of the last joint states.
    """

    level: int
    words: tuple[str, ...]
    sync_error: float
    joint_error: float
    age: float
    contacts: dict[str, bool]
    silent_joints: tuple[str, ...]
    missing_joints: tuple[str, ...]
    gyro_bias: Array


class Synchronizer:
    """Feed it measurements with their stamps; `joints` returns the virtual state of each."""

    def __init__(self, model: RobotModel, robot: RobotConfig, config: SynchronizerConfig, where: str = "") -> None:
        self.model, self.robot, self.config = model, robot, config
        noise = Joints(robot, model, where or "robot config")
        self._filter = JointFilter(model.n, noise.encoder_noise, noise.encoder_resolution, config.joints)
        self._base = LegOdometry(model, robot, config.base)
        self._map = MapAlignment(config.map, config.history + 0.1)
        self._R_base_imu = self._mounting()
        self._pending: deque[tuple[int, Array, Array, Array]] = deque(maxlen=50)
        self._effort = np.full(model.n, np.nan)
        self._joint_error = 0.0
        self._pose_result: PoseResult | None = None
        self._pose_stamp: int | None = None
        self._last: VirtualState | None = None
        self.tally = Tally()
        self.resyncs = 0

    def _mounting(self) -> Array:
        if not self.robot.imus:
            return np.eye(3)
        at_zero = self.model.kinematics([self.robot.imus[0].frame])
        at_zero.update(np.zeros(self.model.n))
        return np.array(at_zero.rotation[0])

    # Inputs

    def wrench(self, foot: int, force: Array) -> None:
        """Force [N] (3,) on a foot in its sole frame, positive z under load."""
        self._base.wrench(foot, float(force[2]))

    def imu(self, stamp_ns: int, gyro: Array, accel: Array) -> None:
        """A reading of the first IMU, in its frame: [rad/s] (3,), [m/s²] (3,)."""
        self._base.imu(stamp_ns, self._R_base_imu @ gyro, self._R_base_imu @ accel)

    def joints(self, stamp_ns: int, q: Array, qd: Array | None, effort: Array | None) -> VirtualState | None:
        """Joint positions [rad] (n,), NaN where missing; speeds and efforts likewise, or None.

        Returns None for a measurement that is older than the last one, which is counted.
        """
        if self._last is not None and stamp_ns <= self._last.stamp_ns:
            self.tally.reject("joint_states", "late")
            return None
        self._filter.update(stamp_ns, q, qd)
        if effort is not None:
            self._effort = np.where(np.isfinite(effort), effort, self._effort)
        filtered = self._filter.q
        self._joint_error = float(np.nanmax(np.abs(filtered - q), initial=0.0))
        base = self._base.joints(stamp_ns, np.nan_to_num(filtered), self._filter.qd)
        self._map.remember(stamp_ns, base.position, base.rotation)
        while self._pending and self._pending[0][0] <= stamp_ns:
            self._take_pose(*self._pending.popleft())
        self._last = VirtualState(stamp_ns, filtered, self._filter.qd, self._effort, base)
        return self._last

    def external_pose(self, stamp_ns: int, position: Array, rotation: Array, covariance: Array) -> None:
        """A pose of the base frame in the map: position [m] (3,), rotation (3, 3), covariance (6, 6)."""
        if self._last is None or stamp_ns > self._last.stamp_ns:
            self._pending.append((stamp_ns, position, rotation, covariance))
        else:
            self._take_pose(stamp_ns, position, rotation, covariance)

    def _take_pose(self, stamp_ns: int, position: Array, rotation: Array, covariance: Array) -> None:
        result = self._map.correct(stamp_ns, position, rotation, covariance)
        if not result.accepted:
            self.tally.reject("external_pose", result.reason)
        if math.isfinite(result.error):
            self._pose_result, self._pose_stamp = result, stamp_ns

    def resync(self) -> None:
        """Start again from what the sensors say now. The pose in odom stays where it is, so that odom does not jump."""
        self._filter.reset()
        self._base.reset()
        self._map.reset()
        self._pending.clear()
        self._pose_result = self._pose_stamp = None
        self.resyncs += 1

    # Outputs

    def map_pose(self, state: VirtualState) -> tuple[Array, Array, Array]:
        """The base frame in the map: position (3,), rotation (3, 3), variances (6,)."""
        position, rotation = self._map.apply(state.base.position, state.base.rotation)
        return position, rotation, self._map.pose_covariance(state.base.covariance)

    def map_to_odom(self) -> tuple[Array, float]:
        """Translation [m] (3,) and yaw [rad] of map→odom."""
        return self._map.translation, self._map.yaw

    def status(self, now_ns: int | None = None) -> SyncStatus:
        """How it stands; `now_ns` is the time by which ages are judged, the last stamp when None."""
        names = self.model.joint_names
        last = self._last
        if last is None:
            return SyncStatus(
                1, ("no joint states yet",), math.nan, math.nan, math.nan, {}, (), tuple(names), np.zeros(3)
            )
        now = last.stamp_ns if now_ns is None else now_ns
        words: list[str] = []
        level = 0
        error = self._pose_result.error if self._pose_result else math.nan
        if error > self.config.sync_error_threshold:
            level = 2
            words.append(
                f"out of step: the virtual pose is {100 * error:.1f} cm from the external one "
                f"(limit {100 * self.config.sync_error_threshold:.1f} cm); call ~/resync to start again from it"
            )
        if self._pose_stamp is not None and now - self._pose_stamp > self.config.pose_age * NS:
            level = max(level, 1)
            words.append(f"no external pose for {(now - self._pose_stamp) / NS:.1f} s")
        age = (now - last.stamp_ns) / NS
        if age > self.config.silent_after:
            level = 2
            words.append(f"no joint states for {age:.1f} s")
        if not last.base.initialised:
            level = max(level, 1)
            words.append("finding the attitude")
        silent = tuple(n for n, s in zip(names, self._filter.silent(now), strict=True) if s)
        if silent and age <= self.config.silent_after:
            level = max(level, 1)
            words.append(f"silent joints, held where they were: {', '.join(silent)}")
        missing = tuple(n for n, k in zip(names, self._filter.known, strict=True) if not k)
        feet = [f.name for f in self.robot.feet]
        contacts = dict(zip(feet, last.base.contacts, strict=True))
        return SyncStatus(
            level, tuple(words), error, self._joint_error, age, contacts, silent, missing,
            self._base.gyro_bias.copy(),
        )  # fmt: skip
