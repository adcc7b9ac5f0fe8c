"""What each sensor adds: the twin's estimator over simulated walks, with several sets of virtual sensors.

Truth and ideal readings come from a synthetic walk, in which feet slip and legs give; the sensors are those of the robot,
shared errors included; the estimator is the synchronizer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import chi2

from digital_twin.core.arrays import Array
from digital_twin.core.base_config import BaseEstimatorConfig
from digital_twin.core.base_state import BaseState
from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import rot_z, yaw_of
from digital_twin.core.sensors.encoders import Encoders
from digital_twin.core.sensors.imu import Imu
from digital_twin.core.sensors.robot_sensors import SensorSpec
from digital_twin.core.sensors.sources import SourceConfig, Sources
from digital_twin.core.sensors.wrench import Wrench
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer
from digital_twin.core.synthetic_walk import Walk, WalkErrors, WalkPlan, synthetic_walk

RATE = 200
USABLE = ("imu", "encoders", "feet")
QUANTITIES = ("velocity", "tilt", "yaw", "position")
UNITS = {"velocity": "m/s", "tilt": "rad", "yaw": "rad", "position": "m"}
APART = 2.0  # [s] between the moments at which NEES is judged: errors of neighbours are nearly the same


@dataclass(frozen=True)
class StudyConfig:
    """A fusion study."""

    sets: dict[str, list[str]] = param(
        doc="name: sensors used, of imu, encoders, feet; the last one is the fused estimate"
    )
    runs: int = param(5, "walks, each with other noise and other specimens of the sensors", low=1, high=1000)
    duration: float = param(20.0, "of a walk, the first 3 s standing", unit="s", low=6, high=600)
    seed: int = param(1, "of the first run", low=0, high=2**31)
    robot_description: str = param("", "as of digital-twin run")
    robot_config: str = param("", "as of digital-twin run")


@dataclass(frozen=True)
class SetResult:
    """A set of sensors over all runs: RMSE by quantity; NEES of velocity and tilt, and NIS of the feet, with their 95 %
    bands (mean, low, high; NaN where there was none). errors: by quantity (runs, samples), for drawing."""

    name: str
    rmse: dict[str, float]
    nees: dict[str, tuple[float, float, float]]
    nis: tuple[float, float, float]
    errors: dict[str, Array]


def check(config: StudyConfig) -> None:
    """Raises ConfigError when the sets name what there is not, or nothing that carries an estimate."""
    if not config.sets:
        raise ConfigError("fusion study: sets: at least one set of sensors is needed")
    for name, sensors in config.sets.items():
        for s in sensors:
            if s not in USABLE:
                raise ConfigError(f"fusion study: set '{name}': {unknown('sensor', s, USABLE)}")
        if not {"imu", "encoders"} & set(sensors):
            raise ConfigError(f"fusion study: set '{name}': needs the imu or the encoders")


def study(
    config: StudyConfig, model: RobotModel, robot: RobotConfig, specs: Sequence[SensorSpec],
    sources: dict[str, SourceConfig], progress: Callable[[str], None] = lambda _: None,
) -> list[SetResult]:  # fmt: skip
    """Run all sets over all runs.

    Raises:
        ConfigError: a set, or a sensor's profile, that cannot be. TwinError: the robot has no two feet or no IMU.
    """
    check(config)
    if not robot.imus or len(robot.feet) != 2:
        raise ConfigError("fusion study: needs a robot with an IMU and two feet")
    runs: dict[str, list[_Run]] = {name: [] for name in config.sets}
    plan = WalkPlan(duration=config.duration, stand=3.0)
    ideal = replace(
        robot, imus=[replace(robot.imus[0], gyro_noise=0.0, accel_noise=0.0), *robot.imus[1:]],
        joints=robot.joints | {"**": {"encoder_noise": 0.0, "encoder_resolution": 0.0}},
    )  # fmt: skip
    none = WalkErrors(gyro_bias=0.0, gyro_walk=0.0, accel_bias=0.0, accel_walk=0.0, encoder_offset=0.0, force_noise=0.0)
    for seed in range(config.seed, config.seed + config.runs):
        walk = synthetic_walk(model, ideal, seed, plan, none, RATE)
        readings = _sense(walk, model, robot, specs, Sources(sources, seed), seed)
        for name, used in config.sets.items():
            progress(f"run {seed - config.seed + 1} of {config.runs}: {name}")
            runs[name].append(_estimate(walk, readings, model, robot, specs, set(used)))
    return [_judge(name, each) for name, each in runs.items()]


@dataclass(frozen=True)
class _Readings:
    inertial: Array
    joints: Array
    loads: Array


def _sense(
    walk: Walk, model: RobotModel, robot: RobotConfig, specs: Sequence[SensorSpec], sources: Sources, seed: int
) -> _Readings:
    """What the robot's sensors say of a walk, at the rate of the walk."""
    t = walk.stamps / 1e9
    imu, encoders, *feet = _profiles(robot, specs)
    inertial = Imu(imu[0], imu[1], seed, sources, imu[2]).read(np.hstack([walk.gyro, walk.accel]), t)
    device = Encoders(encoders[0], encoders[1], model.n, seed, sources, encoders[2])
    joints = device.read(np.hstack([walk.q, walk.qd, np.zeros_like(walk.q)]), t)
    loads = np.empty_like(walk.loads)
    for i, foot in enumerate(feet):
        wrench = np.zeros((len(t), 6))
        wrench[:, 2] = walk.loads[:, i]
        loads[:, i] = Wrench(foot[0], foot[1], seed, sources, foot[2]).read(wrench, t)[:, 2]
    return _Readings(inertial, joints, loads)


def _profiles(robot: RobotConfig, specs: Sequence[SensorSpec]) -> list[tuple[str, Any, tuple[str, ...]]]:
    """Name, profile at the walk's rate and stages off: of the first IMU, the encoders and the feet."""
    wanted = [("imu", robot.imus[0].frame), ("encoders", ""), *(("wrench", f.frame) for f in robot.feet)]
    out = []
    for kind, frame in wanted:
        spec = next((s for s in specs if (s.kind, s.frame) == (kind, frame)), None)
        if spec is None:
            raise ConfigError(f"fusion study: the robot has no {kind} at {frame or 'its joints'}")
        c = spec.profile()
        out.append((spec.name, replace(c, timing=replace(c.timing, rate=float(RATE))), spec.off))
    return out


@dataclass(frozen=True)
class _Run:
    errors: dict[str, Array]
    nees: dict[str, Array]
    nis: list[float]


def _estimate(
    walk: Walk, r: _Readings, model: RobotModel, robot: RobotConfig, specs: Sequence[SensorSpec], used: set[str]
) -> _Run:
    imu = _profiles(robot, specs)[0][1]
    own = replace(
        robot.imus[0], gyro_noise=max(imu.gyro.white_noise, 1e-6), accel_noise=max(imu.accel.white_noise, 1e-6)
    )
    known = replace(
        robot, imus=[own] if "imu" in used else [], feet=[
            replace(f, wrench_topic=f.wrench_topic if "feet" in used else "") for f in robot.feet if "encoders" in used
        ],
    )  # fmt: skip
    base = BaseEstimatorConfig(gyro_bias0=max(imu.gyro.bias, 1e-6), accel_bias0=max(imu.accel.bias, 1e-6))
    s = Synchronizer(model, known, SynchronizerConfig(estimate_effort=False, base=base))
    n, stand, nis = model.n, Joints(robot, model).stand, []
    at, states = [], []
    for i, stamp in enumerate(walk.stamps.tolist()):
        for foot in range(len(known.feet) if "feet" in used else 0):
            s.wrench(stamp, foot, np.array([0.0, 0.0, r.loads[i, foot]]))
        if "imu" in used:
            s.imu(stamp, r.inertial[i, :3], r.inertial[i, 3:])
        if "encoders" in used:
            state = s.joints(stamp, r.joints[i, :n], r.joints[i, n : 2 * n], None)
        else:
            state = s.joints(stamp, stand, np.zeros(n), None)  # without encoders: a rigid robot
        if state is not None and stamp > 1_000_000_000:
            at.append(i)
            states.append(state.base)
            nis += [c.nis for _, c in s.innovations.corrections]
    return _Run(*_errors(walk, at, states), nis)


def _errors(walk: Walk, at: list[int], states: list[BaseState]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Errors by quantity (k,), and NEES of velocity and tilt (k,); pose and heading are the truth's at the start."""
    position = np.array([b.position for b in states])
    turn = rot_z(yaw_of(walk.rotation[at[0]]) - yaw_of(states[0].rotation))
    position = (position - position[0]) @ turn.T + walk.position[at[0]]
    velocity = np.array([b.velocity for b in states]) - walk.velocity[at]
    rotation = turn @ np.array([b.rotation for b in states])
    between = rotation @ np.transpose(walk.rotation[at], (0, 2, 1))
    angle = 0.5 * np.stack([between[:, 2, 1] - between[:, 1, 2], between[:, 0, 2] - between[:, 2, 0]], axis=1)
    yaw = np.arctan2(between[:, 1, 0], between[:, 0, 0])
    errors = {
        "velocity": np.linalg.norm(velocity, axis=1), "tilt": np.linalg.norm(angle, axis=1), "yaw": np.abs(yaw),
        "position": np.linalg.norm(position - walk.position[at], axis=1),
    }  # fmt: skip
    tilt_covariance = turn[:2, :2] @ np.array([b.covariance[3:5, 3:5] for b in states]) @ turn[:2, :2].T
    nees = {
        "velocity": _squared(velocity, np.array([b.twist_covariance[:3, :3] for b in states])),
        "tilt": _squared(angle, tilt_covariance),
    }
    return errors, nees


def _squared(error: Array, covariance: Array) -> Array:
    safe = covariance + 1e-12 * np.eye(error.shape[1])
    return np.asarray(np.einsum("ni,ni->n", error, np.linalg.solve(safe, error[..., None])[..., 0]))


def _judge(name: str, runs: list[_Run]) -> SetResult:
    k = min(len(r.errors["tilt"]) for r in runs)
    errors = {q: np.array([r.errors[q][-k:] for r in runs]) for q in QUANTITIES}
    apart = slice(round(APART * RATE) - 1, None, round(APART * RATE))
    nees = {}
    for q, degrees in (("velocity", 3), ("tilt", 2)):
        judged = np.array([r.nees[q][-k:][apart] for r in runs])
        low, high = chi2.ppf([0.025, 0.975], degrees * judged.size) / judged.size
        nees[q] = (float(judged.mean()), float(low), float(high))
    seen = np.concatenate([r.nis for r in runs])
    if len(seen):
        low, high = chi2.ppf([0.025, 0.975], 6 * len(seen)) / len(seen)
        nis = (float(np.minimum(seen, 1e6).mean()), float(low), float(high))
    else:
        nis = (float("nan"),) * 3
    return SetResult(name, {q: float(np.sqrt(np.mean(errors[q] ** 2))) for q in QUANTITIES}, nees, nis, errors)


def improvement(results: Sequence[SetResult], quantity: str) -> float:
    """By how much [%] the last set's RMSE is below that of the best other one."""
    *others, fused = results
    if not others:
        return float("nan")
    best = min(r.rmse[quantity] for r in others)
    return 100.0 * (1.0 - fused.rmse[quantity] / best)
