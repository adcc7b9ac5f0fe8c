"""Drift on a real robot: faults added to a recording of iCub that stands and walks. It has no torques and no commands.

It stands for five seconds and walks for seven. What is normal is learned from three seconds at rest, or from six steps; the fault
comes later, at several times. In the first row of each nothing is added.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.estimation_data import icub
from benchmark.estimation_runs import Readings
from benchmark.table import Row, main
from digital_twin.core.drift.config import DriftConfig
from digital_twin.core.drift.monitor import Monitor
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer

FOLDER = Path(__file__).parents[2] / "shared/data/icub_walking"
NS = 1_000_000_000


@dataclass(frozen=True)
class Part:
    """Of the recording [s]: where learning begins and how long it takes; when faults come; the end."""

    name: str
    begin: float
    calibration: float
    starts: tuple[float, ...]
    end: float


REST = Part("at rest", 0.5, 3.0, (3.6, 3.7, 3.8, 3.9, 4.0, 4.1, 4.2, 4.3), 4.9)
WALK = Part("walking", 5.2, 3.8, (9.1, 9.3, 9.5, 9.7, 9.9, 10.1, 10.3, 10.5), 12.0)


@dataclass
class Sample:
    """One of the recording, to be changed."""

    q: np.ndarray
    gyro: np.ndarray
    accel: np.ndarray
    loads: list[float | None]


Fault = Callable[[Sample, Readings, float], None]


def encoder(s: Sample, r: Readings, size: float) -> None:
    """A knee's zero moves."""
    s.q[r.robot.model.joint_index["l_knee"]] += size


def gyro(s: Sample, r: Readings, size: float) -> None:
    """The gyro's bias grows."""
    s.gyro += [0.0, size, 0.0]


def accelerometer(s: Sample, r: Readings, size: float) -> None:
    """The accelerometer's bias grows."""
    s.accel += [size, 0.0, 0.0]


def dropped(s: Sample, r: Readings, size: float) -> None:
    """A foot's sensor falls silent."""
    s.loads[0] = None


# What is called how, its size in each part, and what must be named.
CASES: list[tuple[str, str, Fault, dict[str, float], str]] = [
    ("a knee's encoder off by", "deg", encoder, {REST.name: 1.0, WALK.name: 3.0}, "encoder l_knee"),
    ("gyro bias", "rad/s", gyro, {REST.name: 0.02, WALK.name: 0.3}, "gyro bias"),
    ("accelerometer bias", "m/s²", accelerometer, {REST.name: 0.3, WALK.name: 3.0}, "accelerometer bias"),
    ("a foot's sensor silent", "", dropped, {REST.name: 0.0, WALK.name: 0.0}, ""),
]


@dataclass
class Found:
    """Delay of the first alarm after the start [s], what was named first at the end, and how many alarms came before."""

    delay: float = math.nan
    named: str = ""
    early: int = 0


def run(r: Readings, part: Part, fault: Fault | None, size: float, start: float) -> Found:
    """One fault from a start on."""
    config = DriftConfig(calibration=part.calibration, forecast_rate=0.0, evidence=1.0, attribute_every=0.2)
    robot = r.robot
    monitor = Monitor(robot.model, robot.config, robot.joints, config)
    sync = Synchronizer(robot.model, robot.config, SynchronizerConfig(estimate_effort=False), robot.where)
    out, before, broken = Found(), False, False
    for i, stamp in enumerate(r.stamps.tolist()):
        t = (stamp - r.stamps[0]) / NS
        if t > part.end:
            break
        s = Sample(r.encoders[i].copy(), r.gyro[i].copy(), r.accel[i].copy(), list(r.loads[i]))
        if fault is not None and t >= start:
            if not broken:
                monitor.reset()
            broken = True
            fault(s, r, size)
        _feed(monitor if t > part.begin else None, sync, robot.config.feet, stamp, s, r.speeds[i])
        while monitor.phase == "learning":  # all at once: the recording is short
            monitor.step()
        faults = monitor.stream_faults(stamp) if monitor.phase == "watching" else []
        alarm = bool(faults) or any(a.any() for a in monitor.alarms().values())
        if not broken:
            out.early += alarm and not before
        elif alarm and math.isnan(out.delay):
            out.delay = t - start
        if broken and faults:
            out.named = f"{faults[0].kind} {faults[0].stream}"
        elif broken and monitor.hypotheses:
            out.named = f"{monitor.hypotheses[0].kind} {monitor.hypotheses[0].target}".strip()
        before = alarm
    return out


def _feed(monitor: Monitor | None, sync: Synchronizer, feet: list, stamp: int, s: Sample, speeds: np.ndarray) -> None:  # type: ignore[type-arg]
    for k, load in enumerate(s.loads):
        if load is not None:
            sync.wrench(stamp, k, np.array([0.0, 0.0, load]))
    sync.imu(stamp, s.gyro, s.accel)
    state = sync.joints(stamp, s.q, speeds, None)
    if monitor is None:
        return
    for k, load in enumerate(s.loads):
        if load is not None:
            monitor.heard(feet[k].wrench_topic, stamp, stamp)
            monitor.wrench(stamp, k, np.array([0.0, 0.0, load, 0.0, 0.0, 0.0]))
    monitor.heard("imu", stamp, stamp)
    monitor.imu(stamp, s.gyro, s.accel)
    monitor.heard("joint_states", stamp, stamp)
    monitor.joints(stamp, s.q, speeds, None)
    if state is not None:
        monitor.base(state.base)
        monitor.innovations(stamp, sync.innovations.latest)


def measure(a: argparse.Namespace) -> list[Row]:
    """All rows."""
    r = icub(FOLDER)
    rows = []
    for part in (REST, WALK):
        watched = part.end - part.begin - part.calibration
        early = run(r, part, None, 0.0, part.end).early
        rows.append(Row(f"{part.name}, alarms with nothing added, in {watched:.1f} s", float(early), ""))
        for name, unit, fault, sizes, right in CASES:
            size = sizes[part.name]
            true = math.radians(size) if unit == "deg" else size
            found = [run(r, part, fault, true, start) for start in part.starts]
            right = right or f"missing {r.robot.config.feet[0].wrench_topic}"
            delays = [math.inf if math.isnan(f.delay) else f.delay for f in found]
            what = f"{part.name}, {name} {size:g} {unit}" if unit else f"{part.name}, {name}"
            rows.append(Row(f"{what}: median delay", float(np.median(delays)), "s"))
            named = 100.0 * float(np.mean([f.named == right for f in found]))
            rows.append(Row(f"{what}: named first", named, "%"))
    return rows


if __name__ == "__main__":
    main("Drift on a real robot", measure)
