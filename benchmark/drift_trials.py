"""One robot of the series: it is learned, watched while well, then broken in one way after another. All seeded.

What comes out is plain data, and the scores of a few channels for comparing detectors on the same streams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.drift.config import DriftConfig
from digital_twin.core.drift.monitor import Monitor
from digital_twin.core.drift.rehearsal import Rehearsal, squats_and_sways
from digital_twin.core.drift.run_length import least_delay
from digital_twin.core.faults import parse_fault
from digital_twin.core.script import load_script
from digital_twin.paths import find
from digital_twin.robots import Robot

NAMED_AFTER = 1.5  # [s] after an alarm the first hypothesis counts
GAP = 3.0  # [s] between two faults
MOVING, PATIENCE = 0.1, 60.0  # [rad/s] of a joint whose friction can show; [s] that it may take to move long enough
NS = 1_000_000_000


@dataclass(frozen=True)
class Case:
    """A fault: its line, for how long, what it is called, what must be named, and the size that is true.

    Of friction, time counts while the joint moves.
    """

    name: str
    fault: str
    seconds: float
    kind: str
    target: str
    size: float
    limit: float


CASES = [
    Case("payload 2 kg", "payload l_gripper 2", 3.0, "payload", "l_gripper", 2.0, 1.0),
    Case("knee friction x2", "friction l_knee 2", 9.0, "friction", "l_knee", 2.0, 3.0),
    Case("encoder 1 deg", f"encoder l_knee {math.radians(1.0):.6f}", 2.5, "encoder", "l_knee", math.radians(1.0), 0.3),
    Case("gyro bias 0.01", "imu_bias gyro 0.01 0 0", 3.0, "gyro bias", "", 0.01, 0.5),
    Case("motor 80 %", "motor r_knee 0.8", 3.5, "motor", "r_knee", 0.8, 3.0),
    Case("delay 20 ms", "delay joint_states 0.02", 2.5, "delay", "joint_states", 0.02, 2.0),
    Case("topic lost", "drop feet/left/wrench", 1.0, "missing", "feet/left/wrench", math.nan, 0.1),
]


@dataclass
class Trial:
    """What was found with one robot. healthy: seconds watched; alarms: false ones, as (time, channel).

    faults: by case: delay [s] (NaN: not found), channel, bound [s], named (right hypothesis first), size.
    streams: by case, and "healthy": scores (t, k) of `channels`; a fault begins with its first row.
    """

    seed: int
    healthy: float = 0.0
    alarms: list[tuple[float, str]] = field(default_factory=list)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: dict[str, Array] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    left: float = math.nan


WATCHED = ("torque/l_knee", "tracking/r_knee", "tracking/l_knee", "gyro/x", "balance/fz", "torque/l_elbow")


def trial(robot: Robot, seed: int, healthy: float, cases: list[Case], calibration: float = 60.0) -> Trial:
    """Learn a robot, watch it while it is well, then each case in turn."""
    script = load_script(find("humanoid.yaml", "config/scripts"))
    monitor = Monitor(robot.model, robot.config, robot.joints, DriftConfig(calibration=calibration))
    motion = squats_and_sways(script, robot.model, robot.joints.stand, seed)
    r = Rehearsal(robot.model, robot.config, seed, motion, monitor)
    out = Trial(seed, channels=list(WATCHED))
    while monitor.phase != "watching":
        r.run(0.5)
    body = monitor.banks["body"].bank
    assert body.nominal is not None
    out.left = float(body.nominal.left.max())
    which = [body.names.index(c) for c in WATCHED]
    _healthy(monitor, r, out, healthy, which)
    for case in cases:
        monitor.reset()
        if case.kind == "friction":
            _until_it_moves(r, robot.model.joint_index[case.target])
        out.faults[case.name] = _case(monitor, r, case, out, which)
        r.faults.clear()
        r.run(GAP)
    return out


def _until_it_moves(r: Rehearsal, joint: int) -> None:
    """Friction shows in motion: the clock starts with it."""
    for _ in range(120):
        if abs(r.plant.joint_velocities[joint]) > 0.2:
            return
        r.run(0.25)


def _healthy(monitor: Monitor, r: Rehearsal, out: Trial, seconds: float, which: list[int]) -> None:
    scores, before = [], False
    body = monitor.banks["body"].bank
    for _ in range(round(seconds * 100)):
        r.run(0.01)
        now = any(a.any() for a in monitor.alarms().values()) or bool(monitor.stream_faults(r.plant.time_ns))
        if now and not before:
            worst = max((b.worst() for b in monitor.banks.values()), key=lambda w: w[1])
            out.alarms.append((r.time, f"{worst[0]} ({worst[2]})"))
        before = now
        scores.append(body.scores[which])
    out.healthy = seconds
    out.streams["healthy"] = np.array(scores)


def _case(monitor: Monitor, r: Rehearsal, case: Case, out: Trial, which: list[int]) -> dict[str, Any]:
    """One fault, from its beginning to its end."""
    r.faults.add(parse_fault(case.fault))
    start = noticed = r.time
    body = monitor.banks["body"].bank
    found: dict[str, Any] = {"delay": math.nan, "channel": "", "named": False, "size": math.nan, "first": ""}
    joint = monitor.model.joint_index[case.target] if case.kind == "friction" else None
    scores, watched, clock = [], [], 0.0
    while clock < case.seconds - 1e-9 and r.time < start + PATIENCE:
        r.run(0.01)
        watched.append(body.scores[which])
        if joint is None or abs(r.plant.joint_velocities[joint]) > MOVING:
            scores.append(body.scores.copy())
            clock += 0.01
        if math.isnan(found["delay"]):
            _look(monitor, r, case, found, clock)
            noticed = r.time
        elif r.time - noticed > NAMED_AFTER and not found["first"]:
            _name(monitor, r, case, found)
    if not found["first"]:
        _name(monitor, r, case, found)
    rate = body.nominal.rate if body.nominal is not None else 100.0
    found["bound"] = _bound(np.array(scores), found["channel"], body.names, rate, monitor.config.false_alarm)
    out.streams[case.name] = np.array(watched)
    return found


def _look(monitor: Monitor, r: Rehearsal, case: Case, found: dict[str, Any], clock: float) -> None:
    """Is there an alarm, at this time since the fault? Of a stream's fault only the stream counts."""
    if case.kind in ("delay", "missing"):
        faults = [f for f in monitor.stream_faults(r.plant.time_ns) if f.stream == case.target and f.kind == case.kind]
        if faults:
            found |= {"delay": clock, "channel": f"stream {case.target}"}
        return
    for bank in monitor.banks.values():
        if bank.alarm.any():
            found |= {"delay": clock, "channel": bank.worst()[0]}
            return


def _name(monitor: Monitor, r: Rehearsal, case: Case, found: dict[str, Any]) -> None:
    """Which hypothesis comes first, some time after the alarm."""
    if case.kind in ("delay", "missing"):
        faults = monitor.stream_faults(r.plant.time_ns)
        if faults:
            found |= {"first": faults[0].words, "size": faults[0].size}
            found["named"] = faults[0].stream == case.target and faults[0].kind == case.kind
    elif monitor.hypotheses:
        h = monitor.hypotheses[0]
        found |= {"first": h.words, "size": h.size}
        found["named"] = h.kind == case.kind and (h.target == case.target or not case.target)


def _bound(scores: Array, channel: str, names: list[str], rate: float, hours: float) -> float:
    """Lorden's, for the shift that the alarming channel of this case showed [s]; NaN where it is none of the body's.

    An effect that takes some samples to grow is not seen before what they tell adds up to log γ (Lai 1998).
    """
    if channel not in names or not len(scores):
        return math.nan
    x = scores[:, names.index(channel)]
    x = x[np.isfinite(x)]
    # The square of the mean over short stretches, less what noise adds: a fault may come and go with the motion.
    length = 10
    means = x[: len(x) // length * length].reshape(-1, length).mean(axis=1)
    information = 0.5 * max(float((means**2).mean()) - 1.0 / length, 1e-4)
    run_length = hours * 3600.0 * rate
    # A square is that of the shift and, on average, 1 of noise, whose sum in turn says nothing where it takes long.
    told = 0.5 * np.cumsum(x**2 - 1.0) >= math.log(run_length)
    grown = int(told.argmax()) + 1 if told.any() else length
    return max(least_delay(information, run_length), grown if grown < length else 1.0) / rate
