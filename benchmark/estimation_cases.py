"""The cases of benchmark.state_estimation that judge accuracy: iCub, synthetic walk, simulated robot, convergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmark.estimation_data import icub, part, sways_and_squats, walk
from benchmark.estimation_runs import (
    INVARIANT,
    METHODS,
    QUATERNION,
    Readings,
    Track,
    estimate,
    median_and_worst,
    progress,
)
from benchmark.estimation_scores import average, nees, score, tilt_errors, within
from benchmark.table import Row
from digital_twin.core.arrays import Array
from digital_twin.core.base_estimator import BaseEstimator
from digital_twin.core.rotation import exp_so3
from digital_twin.core.synthetic_walk import WalkPlan
from digital_twin.robots import Robot, load_robot

FILTERS = (INVARIANT, QUATERNION)
DEGREES = {"velocity": 3, "attitude": 3, "tilt": 2, "yaw": 1}
TILT, SPEED = math.radians(30.0), 0.5  # how wrong the filters of `convergence` start [rad], [m/s]
TILT_SURE, SPEED_SURE = 0.55, 0.5  # and what they are told of it, standard deviations
TILT_END, SPEED_END = math.radians(2.0), 0.1  # when they have converged
WALKING, WATCHED = 12.0, 10.0  # [s] when they are started, and for how long they are watched


@dataclass
class Case:
    """What a case found. tracks: to draw, by method; nees: averages over seeds [quantity][method], aligned at the end.

    errors: of convergence, [method] a list of (t [s], tilt [rad], speed [m/s]).
    """

    name: str
    rows: list[Row]
    seeds: int = 1
    tracks: dict[str, Track] = field(default_factory=dict)
    nees: dict[str, dict[str, Array]] = field(default_factory=dict)
    errors: dict[str, list[tuple[Array, Array, Array]]] = field(default_factory=dict)
    times: Array | None = None


def icub_case(folder: Path) -> Case | None:
    """Scores on the recording of a real walk; None, and one line, when it is not there."""
    if not (folder / "metadata.yaml").exists():
        Console(stderr=True).print(f"no recording of iCub in {folder}: left out", highlight=False)
        return None
    readings = icub(folder)
    case = Case("icub", [])
    for method in METHODS:
        case.tracks[method] = estimate(readings, method)
        s = score(case.tracks[method])
        figures = (
            ("ATE", 100 * s.ate, "cm", 1.2), ("end error", 100 * s.end, "cm", 2.5),
            ("attitude", math.degrees(s.attitude), "deg", 0.9), ("roll and pitch", math.degrees(s.tilt), "deg", 0.7),
            ("RPE over 1 s", 100 * s.rpe, "cm", 1.0), ("RPE over 1 s, turn", math.degrees(s.rpe_angle), "deg", 0.8),
        )  # fmt: skip
        for name, value, unit, target in figures:
            goal = target if method == INVARIANT else None
            case.rows.append(Row(f"iCub, {method}: {name}", value, unit, goal))
    return case


def walk_case(seeds: int) -> Case:
    """The synthetic walk: drift over the distance gone, and consistency."""
    robot = load_robot()
    return _over_seeds(
        "walk", "synthetic walk", seeds, lambda seed: walk(robot, seed),
        lambda r, error: 100.0 * error / r.distance, "%", 1.0,
    )  # fmt: skip


def robot_case(seeds: int) -> Case:
    """The simulated robot that squats and sways: drift a minute, and consistency."""
    robot = load_robot()
    return _over_seeds(
        "robot", "squats and sways", seeds, lambda seed: sways_and_squats(robot, seed),
        lambda r, error: 100.0 * error * 60e9 / float(r.stamps[-1] - r.stamps[0]), "cm/min", 1.0,
    )  # fmt: skip


def _over_seeds(
    name: str, title: str, seeds: int, readings_of: Callable[[int], Readings],
    drift_of: Callable[[Readings, float], float], unit: str, target: float,
) -> Case:  # fmt: skip
    drift: dict[str, list[float]] = {m: [] for m in METHODS}
    each: dict[str, dict[str, list[Array]]] = {q: {m: [] for m in FILTERS} for q in DEGREES}
    case = Case(name, [], seeds)
    with progress() as bar:
        for seed in bar.track(range(seeds), description=title):
            readings = readings_of(seed)
            for method in METHODS:
                track = estimate(readings, method)
                drift[method].append(drift_of(readings, score(track).end))
                if seed == 0:
                    case.tracks[method] = track
                if method in FILTERS:
                    for quantity, values in nees(track).items():
                        each[quantity][method].append(values)
    case.nees = {q: {m: average(runs) for m, runs in by.items()} for q, by in each.items()}
    for method in METHODS:
        goal = target if method == INVARIANT else None
        median, worst = median_and_worst(drift[method])
        case.rows.append(Row(f"{title}, {method}: drift, median", median, unit, goal))
        case.rows.append(Row(f"{title}, {method}: drift, worst of {seeds}", worst, unit, goal))
        case.rows += _consistency(case, title, method)
    return case


def _consistency(case: Case, title: str, method: str) -> list[Row]:
    rows = []
    for quantity in ("velocity", "attitude"):
        if method in case.nees[quantity]:
            averaged, d = case.nees[quantity][method], DEGREES[quantity]
            share = within(averaged, d, case.seeds)
            goal = 90.0 if method == INVARIANT else None
            rows.append(Row(f"{title}, {method}: {quantity} NEES in its 95 % band", share, "%", goal, at_least=True))
            rows.append(Row(f"{title}, {method}: {quantity} NEES, mean ({d} is right)", float(averaged.mean()), ""))
    return rows


def convergence_case(seeds: int) -> Case:
    """Started in the middle of a walk with a wrong attitude and speed: how long until both are right for good."""
    robot = load_robot()
    case = Case("convergence", [], seeds)
    plan = WalkPlan(duration=WALKING + WATCHED + 4.0)
    took: dict[str, list[float]] = {m: [] for m in FILTERS}
    with progress() as bar:
        for seed in bar.track(range(seeds), description="convergence"):
            readings = part(walk(robot, seed, plan), WALKING, WALKING + WATCHED)
            for method in FILTERS:
                track = estimate(readings, method, _wrong_start(robot, readings, seed))
                speed = np.linalg.norm(track.velocity - track.true_velocity, axis=1)
                tilt = tilt_errors(track)
                case.errors.setdefault(method, []).append((track.t, tilt, speed))
                took[method].append(_settled(track.t, (tilt < TILT_END) & (speed < SPEED_END)))
    for method in FILTERS:
        goal = 2.0 if method == INVARIANT else None
        median, worst = median_and_worst(took[method])
        title = f"30° and 0.5 m/s wrong, {method}"
        case.rows.append(Row(f"{title}: converged after, median", median, "s", goal))
        case.rows.append(Row(f"{title}: converged after, worst of {seeds}", worst, "s", goal))
        missed = sum(x >= WATCHED for x in took[method])
        case.rows.append(Row(f"{title}: not within {WATCHED:g} s", missed, "seeds"))
    return case


def _settled(t: Array, right: Array) -> float:
    """Time [s] from the first sample to the one from which it is right for good; WATCHED: it was wrong to the end."""
    wrong = np.flatnonzero(np.logical_not(right))
    last = int(wrong[-1]) if len(wrong) else -1
    return float(t[last + 1] - t[0]) if last + 1 < len(t) else WATCHED


def _wrong_start(robot: Robot, r: Readings, seed: int) -> Callable[[BaseEstimator], None]:
    """Puts a filter wrong by TILT in both roll and pitch, and by SPEED in some direction; it is told how wrong."""
    rng = np.random.default_rng(seed)
    tilt = TILT * np.append(rng.choice([-1.0, 1.0], 2), 0.0)
    direction = rng.standard_normal(3)
    speed = SPEED * direction / np.linalg.norm(direction)
    kinematics = robot.model.kinematics([robot.config.imus[0].frame])
    kinematics.update(r.encoders[1])
    lever, R_base_imu = kinematics.position[0], kinematics.rotation[0]

    def start(e: BaseEstimator) -> None:
        if e.state is None:
            raise RuntimeError("a filter that has not started cannot be started wrong")
        i = int(np.searchsorted(r.stamps, e.state.stamp_ns))
        R = r.rotation[i] @ R_base_imu
        rate = R_base_imu @ e.state.gyro
        velocity = r.rotation[i] @ (r.velocity[i] + np.cross(rate, lever))
        c = e.config
        ekf = e._ekf.start(
            exp_so3(tilt) @ R, velocity + speed, e.state.ekf.position, TILT_SURE, SPEED_SURE, c.gyro_bias0,
            c.accel_bias0,
        )  # fmt: skip
        e.state = e.state._replace(ekf=ekf)

    return start


__all__ = ["DEGREES", "FILTERS", "Case", "convergence_case", "icub_case", "robot_case", "walk_case"]
