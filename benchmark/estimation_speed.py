"""What one step of the estimate costs, beside the bare kinematics that it cannot do without."""

from __future__ import annotations

import time

import mujoco
import numpy as np
from rich.progress import Progress

from benchmark.estimation_cases import Case
from benchmark.estimation_data import standing
from benchmark.estimation_runs import INVARIANT, QUATERNION, Readings, progress, synchronizer
from benchmark.table import Row
from digital_twin.core.arrays import Array
from digital_twin.robots import Robot, load_robot

SECONDS, RATE = 60.0, 100  # at 100 Hz every joint measurement corrects
SKIPPED = 10  # samples until both feet stand
ROUNDS = 5
EDGE = 6.0  # [s], first and last of the run, that are compared


def speed_case(_seeds: int) -> Case:
    """Median times of a robot that stands for a minute, both feet on the ground.

    The same minute is run some times, in turn with the others, and of each sample the shortest time counts: other programs
    share the cores, for seconds on end.
    """
    robot = load_robot()
    readings = standing(robot, SECONDS, RATE)
    with progress() as bar:
        rounds = [
            (
                *_estimator(readings, INVARIANT, bar),
                _estimator(readings, QUATERNION, bar)[0],
                _synchronizer(readings, bar),
            )
            for _ in range(ROUNDS)
        ]
    core, sample, other, whole = (np.min(each, axis=0) for each in zip(*rounds, strict=True))
    what = "one IMU propagation, two feet"
    rows = [
        Row(f"{what}, {robot.model.n} joints, {INVARIANT}", float(np.median(core)), "us", 150.0),
        Row(f"the same, {QUATERNION}", float(np.median(other)), "us"),
        Row("mj_kinematics and mj_comPos alone", _bare(robot), "us"),
        Row("a whole sample of BaseEstimator, contacts and output included", float(np.median(sample)), "us"),
        Row("a whole sample of Synchronizer, joint filter and history included", float(np.median(whole)), "us"),
    ]
    edge = round(EDGE * RATE)
    for name, took in ((what, core), ("a whole sample of Synchronizer", whole)):
        first, last = float(np.median(took[:edge])), float(np.median(took[-edge:]))
        rows.append(Row(f"{name}: last {EDGE:g} s of {SECONDS:g}", last, "us", 1.1, first, "first"))
    return Case("speed", rows, times=core)


def _estimator(r: Readings, method: str, bar: Progress) -> tuple[Array, Array]:
    """Times at every sample but the first [us]: of kinematics, propagation and correction; and of all of BaseEstimator.

    The first are tried on the way and thrown away: neither `_advance` nor `_correct` changes the estimator's state.
    """
    e = synchronizer(r.robot, method)._base
    e.encoder_variance[:] = r.robot.joints.encoder_noise**2
    core, sample = np.empty((2, len(r.stamps)))
    clock = time.perf_counter_ns
    for i in bar.track(range(len(r.stamps)), description=method):
        stamp, gyro, accel, q, qd = int(r.stamps[i]), r.gyro[i], r.accel[i], r.encoders[i], r.speeds[i]
        for foot in (0, 1):
            e.wrench(stamp, foot, float(r.loads[i, foot]))
        begin = clock()
        if e.state is not None:
            e._kinematics.update(q)
            e._legs.correct(e._spread(e._advance(e.state, stamp, np.concatenate([gyro, accel]))), 1.0 / RATE)
        seen, between = len(e.corrections), clock()
        e.imu(stamp, gyro, accel)
        e.joints(stamp, q, qd)
        core[i], sample[i] = between - begin, clock() - between
        if i > SKIPPED and seen != 2:
            raise RuntimeError("a sample that does not correct by both feet was timed")
    return core[SKIPPED:] / 1e3, sample[SKIPPED:] / 1e3


def _synchronizer(r: Readings, bar: Progress) -> Array:
    """Of two wrenches, an IMU reading and joints given to the Synchronizer [us], joint filter and history included."""
    s = synchronizer(r.robot, INVARIANT)
    times = np.empty(len(r.stamps))
    clock = time.perf_counter_ns
    forces = np.zeros((len(r.stamps), 2, 3))
    forces[:, :, 2] = r.loads
    for i in bar.track(range(len(r.stamps)), description="synchronizer"):
        stamp, gyro, accel, q, qd = int(r.stamps[i]), r.gyro[i], r.accel[i], r.encoders[i], r.speeds[i]
        begin = clock()
        s.wrench(stamp, 0, forces[i, 0])
        s.wrench(stamp, 1, forces[i, 1])
        s.imu(stamp, gyro, accel)
        s.joints(stamp, q, qd, None)
        times[i] = clock() - begin
    return times[SKIPPED:] / 1e3


def _bare(robot: Robot) -> float:
    """Median of MuJoCo's kinematics and what Jacobians need, alone, at ever new joint angles [us]."""
    m = robot.model.mj
    d = mujoco.MjData(m)
    times = []
    for i in range(5000):
        robot.model.write_joints(d.qpos, robot.joints.stand + 1e-4 * i)
        begin = time.perf_counter_ns()
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        times.append(time.perf_counter_ns() - begin)
    return float(np.median(times)) / 1e3
