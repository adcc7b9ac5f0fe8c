"""Where the robot is now: joint states, base in odom, and odom in the map, from what the bridge lets through.

One output per joint measurement, bearing its stamp. Measurements may come late and out of order: they are replayed in
place. Stamps and times of arrival are arguments: no clock is read here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf

from digital_twin.core.arrays import Array, or_zero
from digital_twin.core.base_estimator import BaseEstimator
from digital_twin.core.base_state import BaseState
from digital_twin.core.innovations import Innovations
from digital_twin.core.inverse_dynamics import InverseDynamics
from digital_twin.core.joint_filter import JointFilter
from digital_twin.core.map_alignment import MapAlignment, PoseResult
from digital_twin.core.model import RobotModel
from digital_twin.core.replay import Replay
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.statistics import Tally
from digital_twin.core.streams import Streams
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.sync_status import Facts, SyncStatus, judge

NS = 1_000_000_000
WRENCH, IMU, JOINTS, ODOM = 0, 1, 2, 3  # in which order measurements of one stamp are taken
MOST_DELAY = 100_000_000  # [ns]; a larger difference between arrival and stamp is one of clocks
EFFORT_TIME = 0.05  # [s] over which computed torques are averaged
BEFORE = 5_000_000  # [ns]
REPEATED = 5  # so many messages from the past in a row, and time itself has gone back


@dataclass(frozen=True)
class VirtualState:
    """One output, all of one stamp: joints (n,) in [rad], [rad/s], [rad/s²], [N m] (NaN: not known), and the base."""

    stamp_ns: int
    q: Array
    qd: Array
    qdd: Array
    effort: Array
    base: BaseState


class _Changing(NamedTuple):
    filter: tuple[object, ...]
    base: object
    reported: Array
    latest: VirtualState | None


class Synchronizer:
    """Feed it measurements with their stamps; `joints` returns the virtual state of each.

    Attributes:
        innovations: how measurements compare with what was forecast, as they come.
        streams: what stamps and arrivals tell of each stream.
        events: what happened and should be said aloud; whoever says it empties the list.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, config: SynchronizerConfig, where: str = "") -> None:
        self.config = config
        noise = Joints(robot, model, where or "robot config")
        self._filter = JointFilter(model.n, noise.encoder_noise, noise.encoder_resolution, config.joints)
        self._set_model(model, robot, noise)
        self._map = MapAlignment(config.map, config.history + 0.1)
        self._reported = np.full(model.n, np.nan)  # efforts
        self._latest: VirtualState | None = None
        self._replay = Replay(self, config.history)
        self._pending: deque[tuple[int, Array, Array, Array]] = deque(maxlen=50)
        self._past: dict[str, int] = {}
        self._pose_result: PoseResult | None = None
        self._pose_stamp: int | None = None
        self._measured = np.full(model.n, np.nan)
        self._last: VirtualState | None = None
        self.innovations = Innovations([f.name for f in robot.feet], model.joint_names)
        self.streams = Streams()
        self.tally = Tally()
        self.events: list[str] = []
        self.resyncs = 0

    # The model in service

    def _set_model(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        self.model, self.robot, self._zero = model, robot, joints.zero_error
        self._base = BaseEstimator(model, robot, self.config.base, self._filter.reading_variance)
        self._dynamics = InverseDynamics(model, [f.frame for f in robot.feet], joints.armature)

    def use(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        """Another model of the same robot is in service; the estimate goes on. The virtual joints stay what encoders
        read: what is known of their errors is for the kinematics, and for torques.
        """
        self._replay.settle()
        base, moved = self._base, not np.array_equal(self._zero, joints.zero_error)
        self._set_model(model, robot, joints)
        self._base.take_over(base, moved)
        if moved:
            self._replay.clear()  # feet of the past stand elsewhere

    def continue_from(self, state: VirtualState, gyro_bias: float, accel_bias: float) -> None:
        """Begin in motion, where a state of another one says, as sure as that one was of attitude and velocity.

        gyro_bias, accel_bias: standard deviations of what is left of the IMU's biases [rad/s], [m/s²].
        """
        self._restart()
        for before in (BEFORE, 0):  # a joint's speed is known from two readings
            self._filter.update(state.stamp_ns - before, state.q - before / NS * state.qd, state.qd)
        self._base.continue_from(state.base, state.q - self._zero, state.qd, gyro_bias, accel_bias)
        self._replay.clear()

    @property
    def up(self) -> Array:
        """In the IMU's frame (3,), as estimated."""
        return self._base.up

    # Turning back time

    def snapshot(self) -> _Changing:
        """What measurements change."""
        return _Changing(self._filter.snapshot(), self._base.snapshot(), self._reported, self._latest)

    def restore(self, s: _Changing) -> None:
        """Go back."""
        self._filter.restore(s.filter)
        self._base.restore(s.base)
        self._reported, self._latest = s.reported, s.latest

    def _take(self, stream: str, stamp_ns: int, rank: int, apply: Callable[[], None]) -> bool:
        """Put a measurement in its place in time. False: it is too late."""
        newest = self._replay.newest
        if newest is not None and stamp_ns - newest > self.config.lost_after * NS:
            self._lost(stream, stamp_ns - newest)
        if not self._replay.too_late(stamp_ns):
            self._past[stream] = 0
            return self._replay.add(stamp_ns, rank, apply, rank == JOINTS)
        self._past[stream] = self._past.get(stream, 0) + 1
        if newest is not None and self._past[stream] >= REPEATED:
            self._lost(stream, stamp_ns - newest)
            return self._replay.add(stamp_ns, rank, apply, rank == JOINTS)
        self.tally.reject(stream, "late")
        return False

    def _lost(self, stream: str, jump_ns: int) -> None:
        """A hole in time: what was known of speeds and attitude is worth nothing; the pose is kept."""
        if self.streams.clock_jumped(stream, jump_ns):
            what = f"the clock of {stream} jumped by {jump_ns / NS:+.2f} s"
        else:
            what = f"nothing was heard for {jump_ns / NS:.2f} s"
        self.events.append(f"{what}: the estimate starts anew where it was")
        self._restart()

    def _restart(self) -> None:
        self._filter.reset()
        self._base.reset()
        self._latest = self._last = None
        self._past.clear()
        self._pending.clear()
        self._map.forget_history()
        self._replay.clear()
        self.streams.clear()

    # Inputs

    def heard(self, stream: str, stamp_ns: int, arrival_ns: int) -> None:
        """A message of this stream and stamp arrived now: for the timing of streams, and to know jumps of clocks."""
        self.streams.heard(stream, stamp_ns, arrival_ns)

    def wrench(self, stamp_ns: int, foot: int, force: Array) -> None:
        """Force [N] (3,) on a foot in its sole frame, positive z under load."""
        load = float(force[2])
        if not math.isfinite(load):
            self.tally.reject(self.robot.feet[foot].name, "not finite")
            return
        self._take(self.robot.feet[foot].name, stamp_ns, WRENCH, lambda: self._base.wrench(stamp_ns, foot, load))

    def imu(self, stamp_ns: int, gyro: Array, accel: Array) -> None:
        """A reading of the first IMU, in its frame: [rad/s] (3,), [m/s²] (3,)."""
        if not math.isfinite(float(gyro.sum() + accel.sum())):
            self.tally.reject("imu", "not finite")
            return
        self._take("imu", stamp_ns, IMU, lambda: self._base.imu(stamp_ns, gyro, accel))

    def odom(self, stamp_ns: int, velocity: Array, covariance: Array) -> None:
        """The robot's own estimate of its base's velocity, in the base frame [m/s] (3,), (3, 3); if it is to be used."""
        if not self.config.fuse_odom:
            return
        if not np.isfinite(velocity).all():
            self.tally.reject("odom", "not finite")
            return
        noise = np.diag(np.maximum(np.nan_to_num(np.diag(covariance)), self.config.odom_noise**2))
        self._take("odom", stamp_ns, ODOM, lambda: self._odom(stamp_ns, velocity, noise))

    def _odom(self, stamp_ns: int, velocity: Array, noise: Array) -> None:
        result = self._base.body_velocity(stamp_ns, velocity, noise)
        if result is not None and result.weight < 1.0:
            self.tally.reject("odom", "outlier")

    def joints(self, stamp_ns: int, q: Array, qd: Array | None, effort: Array | None) -> VirtualState | None:
        """Joint positions [rad] (n,), NaN where missing; speeds and efforts likewise, or None.

        Returns None while there is no estimate yet, and for a measurement older than the last, which is replayed.
        """
        if not self._take("joint_states", stamp_ns, JOINTS, lambda: self._joints(stamp_ns, q, qd, effort)):
            return None
        state = self._latest
        if state is None or state.stamp_ns != stamp_ns or (self._last and stamp_ns <= self._last.stamp_ns):
            return None
        self._measured = q
        self._map.remember(stamp_ns, state.base.position, state.base.rotation)
        while self._pending and self._pending[0][0] <= stamp_ns:
            self._take_pose(*self._pending.popleft())
        self.innovations.add(self._base.corrections, self._filter.whitened)
        self._last = state
        return state

    def _joints(self, stamp_ns: int, q: Array, qd: Array | None, effort: Array | None) -> None:
        """Apply one joint measurement to the filters."""
        f = self._filter
        f.update(stamp_ns, q, qd)
        if effort is not None:
            whole = not math.isnan(float(effort.sum()))
            self._reported = effort if whole else np.where(np.isfinite(effort), effort, self._reported)
        # The base takes the readings themselves, whose errors are white; those of filtered positions are not.
        used, variance = q, None
        if math.isnan(float(q.sum())):
            there = np.isfinite(q)
            used = np.where(there, q, or_zero(f.q))
            variance = np.where(there, f.reading_variance, f.variance[:, 0])
        base = self._base.joints(stamp_ns, used - self._zero, f.qd, variance)
        if self._base.turn is not None:
            by_gyro, gyro_ns, by_leg, leg_ns = self._base.turn
            self.streams.turned(0, gyro_ns, by_gyro)
            self.streams.turned(1, leg_ns, by_leg)
        if base is not None:
            self._latest = VirtualState(stamp_ns, f.q, f.qd, f.qdd, self._efforts(base), base)

    def _efforts(self, base: BaseState) -> Array:
        if not self.config.estimate_effort or not math.isnan(float(self._reported.sum())):
            return self._reported
        f, estimator = self._filter, self._base
        if not f.known.all() or not base.initialised:
            return self._reported
        now = self._dynamics.efforts(base, estimator.acceleration(), f.q - self._zero, f.qd, f.qdd, estimator.loads())
        # Accelerations are noisy; a motor's torque that matters lasts longer than this.
        last = self._latest
        if last is None or math.isnan(float(last.effort.sum())):
            computed = now
        else:
            dt = (base.stamp_ns - last.stamp_ns) / NS
            computed = last.effort + dt / (dt + EFFORT_TIME) * (now - last.effort)
        return np.where(np.isfinite(self._reported), self._reported, computed)

    def external_pose(self, stamp_ns: int, position: Array, rotation: Array, covariance: Array) -> None:
        """A pose of the base frame in the map: position [m] (3,), rotation (3, 3), covariance (6, 6)."""
        if not (np.isfinite(position).all() and np.isfinite(rotation).all() and np.isfinite(covariance).all()):
            self.tally.reject("external_pose", "not finite")
        elif dpotrf(covariance + 1e-9 * np.eye(6), lower=1)[1]:
            self.tally.reject("external_pose", "covariance")
        elif self._last is None or stamp_ns > self._last.stamp_ns:
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
        self._restart()
        self._map.reset()
        self._pose_result = self._pose_stamp = None
        self.resyncs += 1

    # Outputs

    def ahead(self, now_ns: int) -> VirtualState | None:
        """The last state extrapolated to now, at most `silent_after`, its covariance grown by what that leaves open."""
        self._replay.settle()
        s = self._latest
        if s is None:
            return None
        dt = min(max(0, self._on_robots_clock(now_ns) - s.stamp_ns), round(self.config.silent_after * NS))
        q, qd = self._filter.ahead(dt / NS)
        base = self._base.ahead(s.stamp_ns + dt, qd)
        return s if base is None else VirtualState(base.stamp_ns, q, qd, s.qdd, s.effort, base)

    def _on_robots_clock(self, now_ns: int) -> int:
        """Our time on the clock of the robot's stamps, where the two differ by more than a delay can explain."""
        offset = self.streams.offset_ns("joint_states")
        return now_ns - offset if abs(offset) > MOST_DELAY else now_ns

    def map_pose(self, state: VirtualState) -> tuple[Array, Array, Array]:
        """The base frame in the map: position (3,), rotation (3, 3), covariance (6, 6)."""
        position, rotation = self._map.apply(state.base.position, state.base.rotation)
        return position, rotation, self._map.pose_covariance(state.base.covariance)

    def joint_details(self, state: VirtualState) -> Array:
        """Accelerations [rad/s²], then variances of positions, speeds and accelerations (4 n,)."""
        return np.concatenate([state.qdd, self._filter.variance.T.ravel()])

    def map_to_odom(self) -> tuple[Array, float]:
        """Translation [m] (3,) and yaw [rad] of map→odom."""
        return self._map.translation, self._map.yaw

    def footprint(self, base: BaseState) -> tuple[Array, float]:
        """base_footprint in odom (REP-120): between the soles, at the height of the lower one; position (3,), yaw."""
        return self._base.footprint(base)

    def status(self, now_ns: int | None = None) -> SyncStatus:
        """How it stands; `now_ns` is the time by which ages are judged, the last stamp when None."""
        self._replay.settle()
        last, names = self._last, np.array(self.model.joint_names)
        known = self._filter.known
        missing = tuple(names[~known].tolist())
        if last is None:
            waiting = "waiting for the IMU" if known.any() else "no joint states yet"
            return SyncStatus(1, (waiting,), math.nan, math.nan, math.nan, {}, (), missing, self._values())
        now = last.stamp_ns if now_ns is None else self._on_robots_clock(now_ns)
        pose = self._pose_result
        facts = Facts(
            age=(now - last.stamp_ns) / NS,
            sync_error=pose.error if pose else math.nan,
            pose_age=(now - self._pose_stamp) / NS if self._pose_stamp is not None else 0.0,
            silent_joints=tuple(names[self._filter.silent(now)].tolist()),
            sure=last.base.initialised,
            doubted_feet=tuple(self._base.doubted),
            imu_age=_imu_age(now, self._base.imu_stamp) if self.robot.imus else 0.0,
        )
        level, words = judge(facts, self.config)
        contacts = dict(zip([f.name for f in self.robot.feet], last.base.contacts, strict=True))
        joint_error = float(np.nanmax(np.abs(last.q - self._measured), initial=0.0))
        return SyncStatus(
            level, words, facts.sync_error, joint_error, facts.age, contacts, facts.silent_joints, missing,
            self._values(),
        )  # fmt: skip

    def _values(self) -> dict[str, float]:
        """Biases, consistency, timing: numbers by name."""
        base = self._base
        values = {f"gyro_bias_{axis}": float(b) for axis, b in zip("xyz", base.gyro_bias, strict=True)}
        values |= {f"accel_bias_{axis}": float(b) for axis, b in zip("xyz", base.accel_bias, strict=True)}
        values |= {"leg_noise": base.leg_noise, "feet_dropped": base.dropped, "doubts": base.doubts}
        values["replayed"] = self._replay.replayed
        return values | self.innovations.values() | self.streams.values()


def _imu_age(now_ns: int, stamp_ns: int) -> float:
    """Of the last reading [s]; infinite when there was none."""
    return (now_ns - stamp_ns) / NS if stamp_ns > 0 else math.inf
