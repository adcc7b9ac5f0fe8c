"""State estimators over recorded readings: which there are, how they are fed, and what they said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmark.leg_odometry import LegOdometry, LegOdometryConfig
from benchmark.quaternion_ekf import QuaternionEkf
from digital_twin.core.arrays import Array
from digital_twin.core.base_estimator import BaseEstimator
from digital_twin.core.base_state import BaseState
from digital_twin.core.rotation import rot_z, yaw_of
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer
from digital_twin.robots import Robot

INVARIANT, QUATERNION, LEGS = "invariant EKF", "quaternion EKF", "leg odometry + gyro"
METHODS = (INVARIANT, QUATERNION, LEGS)
PER_SAMPLE = ("wrench0", "wrench1", "imu", "joints")


@dataclass(frozen=True)
class Readings:
    """What m samples of a robot's sensors say, and the truth, which no estimator is given.

    stamps (m,) [ns]; loads (m, 2) [N]; gyro [rad/s], accel [m/s²] (m, 3) along the IMU's frame; encoders [rad], speeds
    [rad/s] (m, n). Truth of the base frame: position (m, 3) [m], rotation (m, 3, 3), velocity (m, 3) [m/s] in itself,
    NaN where it is not known. distance [m] gone. order: in which the readings of one sample come.
    """

    robot: Robot
    stamps: Array
    loads: Array
    gyro: Array
    accel: Array
    encoders: Array
    speeds: Array
    position: Array
    rotation: Array
    velocity: Array
    distance: float
    order: tuple[str, ...] = PER_SAMPLE


@dataclass(frozen=True)
class Track:
    """What an estimator said at the samples `at`, moved so that its first position and heading are the truth's.

    t (k,) [s]. Truth at those samples in true_…. covariance, twist_covariance (k, 6, 6) as of BaseState, turned along.
    """

    method: str
    t: Array
    at: Array
    position: Array
    rotation: Array
    velocity: Array
    covariance: Array
    twist_covariance: Array
    true_position: Array
    true_rotation: Array
    true_velocity: Array


def progress() -> Progress:
    """A progress bar on stderr, gone when it is done."""
    return Progress(console=Console(stderr=True), transient=True)


def synchronizer(robot: Robot, method: str) -> Synchronizer:
    """The package's synchronizer, with its own filter or the other one; no torques, which only take time."""
    s = Synchronizer(robot.model, robot.config, SynchronizerConfig(estimate_effort=False), robot.where)
    if method == QUATERNION:
        s._base._ekf = s._base._legs.ekf = QuaternionEkf(len(robot.config.feet))
    return s


def estimate(readings: Readings, method: str, started: Callable[[BaseEstimator], None] | None = None) -> Track:
    """Run a method over readings.

    `started` is called with an EKF's estimator once it has started; the track begins with the sample after that.
    """
    states = _legs(readings) if method == LEGS else _synchronized(readings, method, started)
    return _track(readings, method, states)


def _synchronized(
    r: Readings, method: str, started: Callable[[BaseEstimator], None] | None
) -> list[tuple[int, BaseState]]:
    s = synchronizer(r.robot, method)
    states = []
    for i, stamp in enumerate(r.stamps.tolist()):
        for what in r.order:
            if what == "imu":
                s.imu(stamp, r.gyro[i], r.accel[i])
            elif what == "joints":
                state = s.joints(stamp, r.encoders[i], r.speeds[i], None)
                if state is not None and started:
                    started(s._base)
                    started = None
                elif state is not None:
                    states.append((i, state.base))
            else:
                foot = int(what[-1])
                s.wrench(stamp, foot, np.array([0.0, 0.0, r.loads[i, foot]]))
    return states


def _legs(r: Readings) -> list[tuple[int, BaseState]]:
    model, imu = r.robot.model, r.robot.config.imus[0]
    odometry = LegOdometry(model, r.robot.config, LegOdometryConfig())
    kinematics = model.kinematics([imu.frame])
    kinematics.update(np.nan_to_num(r.encoders[0]))
    to_base = kinematics.rotation[0]
    states = []
    for i, stamp in enumerate(r.stamps.tolist()):
        for foot in (0, 1):
            odometry.wrench(stamp, foot, float(r.loads[i, foot]))
        odometry.imu(stamp, to_base @ r.gyro[i], to_base @ r.accel[i])
        states.append((i, odometry.joints(stamp, np.nan_to_num(r.encoders[i]), np.nan_to_num(r.speeds[i]))))
    return states


def _track(r: Readings, method: str, states: list[tuple[int, BaseState]]) -> Track:
    at = np.array([i for i, _ in states])
    position = np.array([b.position for _, b in states])
    rotation = np.array([b.rotation for _, b in states])
    covariance = np.array([b.covariance for _, b in states])
    turn = rot_z(yaw_of(r.rotation[at[0]]) - yaw_of(rotation[0]))
    both = np.kron(np.eye(2), turn)
    return Track(
        method, (r.stamps[at] - r.stamps[0]) / 1e9, at, (position - position[0]) @ turn.T + r.position[at[0]],
        turn @ rotation, np.array([b.velocity for _, b in states]), both @ covariance @ both.T,
        np.array([b.twist_covariance for _, b in states]), r.position[at], r.rotation[at], r.velocity[at],
    )  # fmt: skip


def median_and_worst(values: list[float]) -> tuple[float, float]:
    """Median and greatest; NaN where nothing was measured."""
    return (float(np.median(values)), max(values)) if values else (math.nan, math.nan)
