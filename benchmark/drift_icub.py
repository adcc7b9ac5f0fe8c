"""Drift on a real robot: faults added to a recording of iCub walking. It has no torques and no commands, and lasts 12 s.

What is normal is learned from the first four seconds, which is little for a robot that has just begun to walk; the fault comes
later, at several times, alarms before it being forgotten. Nothing is added in the first row.
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
CALIBRATION = 4.0
STARTS = (7.5, 8.0, 8.5, 9.0, 9.5, 10.0)


@dataclass
class Sample:
    """One of the recording, to be changed."""

    q: np.ndarray
    gyro: np.ndarray
    accel: np.ndarray
    loads: list[float | None]


Fault = Callable[[Sample, Readings], None]


def encoder(s: Sample, r: Readings) -> None:
    """A knee's zero moves by a degree."""
    s.q[r.robot.model.joint_index["l_knee"]] += math.radians(1.0)


def gyro(s: Sample, r: Readings) -> None:
    """The gyro's bias grows."""
    s.gyro += [0.0, 0.1, 0.0]


def accelerometer(s: Sample, r: Readings) -> None:
    """The accelerometer's bias grows."""
    s.accel += [1.5, 0.0, 0.0]


def dropped(s: Sample, r: Readings) -> None:
    """A foot's sensor falls silent."""
    s.loads[0] = None


def run(r: Readings, fault: Fault | None, start: float) -> tuple[float, str, int]:
    """Delay of the first alarm after the start [s], what is named first, and how many alarms there were before."""
    config = DriftConfig(calibration=CALIBRATION, forecast_rate=0.0, evidence=1.0, attribute_every=0.2)
    robot = r.robot
    monitor = Monitor(robot.model, robot.config, robot.joints, config)
    sync = Synchronizer(robot.model, robot.config, SynchronizerConfig(estimate_effort=False), robot.where)
    delay, named, early, before, broken = math.nan, "", 0, False, False
    for i, stamp in enumerate(r.stamps.tolist()):
        t = (stamp - r.stamps[0]) / NS
        s = Sample(r.encoders[i].copy(), r.gyro[i].copy(), r.accel[i].copy(), list(r.loads[i]))
        if fault is not None and t >= start:
            if not broken:
                monitor.reset()
            broken = True
            fault(s, r)
        _feed(monitor, sync, robot.config.feet, stamp, s, r.speeds[i])
        faults = monitor.stream_faults(stamp) if t > CALIBRATION else []
        alarm = bool(faults) or any(a.any() for a in monitor.alarms().values())
        if t < start:
            early += alarm and not before
        elif alarm and math.isnan(delay):
            delay = t - start
        if t >= start and faults:
            named = f"{faults[0].kind} {faults[0].stream}"
        elif t >= start and monitor.hypotheses and not faults:
            named = f"{monitor.hypotheses[0].kind} {monitor.hypotheses[0].target}".strip()
        before = alarm
    return delay, named, early


def _feed(monitor: Monitor, sync: Synchronizer, feet: list, stamp: int, s: Sample, speeds: np.ndarray) -> None:  # type: ignore[type-arg]
    for k, load in enumerate(s.loads):
        if load is not None:
            sync.wrench(stamp, k, np.array([0.0, 0.0, load]))
            monitor.heard(feet[k].wrench_topic, stamp, stamp)
            monitor.wrench(stamp, k, np.array([0.0, 0.0, load, 0.0, 0.0, 0.0]))
    sync.imu(stamp, s.gyro, s.accel)
    monitor.heard("imu", stamp, stamp)
    monitor.imu(stamp, s.gyro, s.accel)
    monitor.heard("joint_states", stamp, stamp)
    monitor.joints(stamp, s.q, speeds, None)
    state = sync.joints(stamp, s.q, speeds, None)
    if state is not None:
        monitor.base(state.base)
        monitor.innovations(stamp, sync.innovations.latest)


def measure(a: argparse.Namespace) -> list[Row]:
    """All rows."""
    r = icub(FOLDER)
    rows = []
    delay, _, early = run(r, None, 6.5)
    rows.append(Row("alarms with nothing added, in 5.5 s", float(early + (not math.isnan(delay))), ""))
    cases: list[tuple[str, Fault, str]] = [
        ("encoder of a knee off by 1 deg", encoder, "encoder l_knee"), ("gyro bias of 0.1 rad/s", gyro, "gyro bias"),
        ("accelerometer bias of 1.5 m/s²", accelerometer, "accelerometer bias"),
        ("a foot's sensor silent", dropped, f"missing {r.robot.config.feet[0].wrench_topic}"),
    ]  # fmt: skip
    for name, fault, right in cases:
        found = [run(r, fault, start) for start in STARTS]
        delays = [math.inf if math.isnan(d) else d for d, _, _ in found]
        rows.append(Row(f"{name}: median delay", float(np.median(delays)), "s"))
        rows.append(Row(f"{name}: named first", 100.0 * float(np.mean([n == right for _, n, _ in found])), "%"))
    return rows


if __name__ == "__main__":
    main("Drift on a real robot", measure)
