"""Is a change noticed in time, named rightly, and is nothing noticed while nothing changes? Monte Carlo over robots.

`--seeds N` robots, each learned for a minute, watched for `--healthy` seconds, then broken in each way. Beside each delay is
Lorden's bound for the shift that the alarming channel showed. The second part runs other detectors on the same scores.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmark.drift_trials import CASES, Trial, trial
from benchmark.table import Row, main
from digital_twin.core.arrays import Array
from digital_twin.core.drift.detectors import Cusum
from digital_twin.robots import load_robot

RATE = 100.0
# The channel by which each case is seen, for detectors that look at one channel.
SEEN = {
    "payload 2 kg": "balance/fz", "knee friction x2": "torque/l_knee", "encoder 1 deg": "tracking/l_knee",
    "gyro bias 0.01": "gyro/x", "motor 80 %": "tracking/r_knee",
}  # fmt: skip


def measure(a: argparse.Namespace) -> list[Row]:
    """All rows."""
    robot = load_robot()
    trials = []
    for seed in range(1, a.seeds + 1):
        trials.append(trial(robot, seed, a.healthy, CASES))
        print(f"robot {seed} of {a.seeds}", file=sys.stderr)
    return summary(trials)


def summary(trials: list[Trial]) -> list[Row]:
    """Rows of some trials."""
    hours = sum(t.healthy for t in trials) / 3600.0
    rows = [
        Row("false alarms while nothing changes", sum(len(t.alarms) for t in trials) / hours, "1/h", 1.0),
        Row("healthy time watched", 60.0 * hours, "min"),
        Row("largest autocorrelation left in a channel, median", float(np.median([t.left for t in trials])), ""),
    ]
    for case in CASES:
        found = [t.faults[case.name] for t in trials if case.name in t.faults]
        delays = np.array([f["delay"] for f in found])
        missed = np.where(np.isnan(delays), np.inf, delays)
        rows.append(Row(f"{case.name}: median delay", float(np.median(missed)), "s", case.limit))
        rows.append(Row(f"{case.name}: 95th percentile", float(np.quantile(missed, 0.95)), "s", 3 * case.limit))
        bounds = [f["delay"] / f["bound"] for f in found if f["bound"] > 0.0 and math.isfinite(f["delay"])]
        if bounds:
            bound = float(np.median([f["bound"] for f in found if f["bound"] > 0.0]))
            rows.append(Row(f"{case.name}: delay over Lorden's bound", float(np.median(bounds)) * bound, "s", 2.0, bound, "bound"))  # fmt: skip
        rows.append(
            Row(
                f"{case.name}: named rightly",
                100.0 * float(np.mean([f["named"] for f in found])),
                "%",
                90.0,
                at_least=True,
            )
        )
        errors = [abs(f["size"] / case.size - 1.0) for f in found if f["named"] and math.isfinite(case.size)]
        if errors:
            rows.append(Row(f"{case.name}: error of its size, median", 100.0 * float(np.median(errors)), "%", 20.0))
    return rows + others(trials)


# Other detectors on the same streams


def others(trials: list[Trial]) -> list[Row]:
    """False alarms an hour against median delays, of each detector, one channel for each case."""
    detectors: dict[str, Callable[[], Callable[[float], bool]]] = {
        "ours, CUSUMs of one channel": _cusum,
        "fixed threshold of 5 sigma": lambda: lambda x: abs(x) >= 5.0,
        "fixed threshold of 3 sigma": lambda: lambda x: abs(x) >= 3.0,
        **_river(),
    }
    rows = []
    for name, make in detectors.items():
        alarms = hours = 0.0
        delays: dict[str, list[float]] = {case: [] for case in SEEN}
        for t in trials:
            for case, channel in SEEN.items():
                i = t.channels.index(channel)
                alarms += _alarms(make(), t.streams["healthy"][:, i])
                hours += t.healthy / 3600.0
                if case in t.streams:
                    delays[case].append(_first(make(), t.streams["healthy"][-500:, i], t.streams[case][:, i]))
        rows.append(Row(f"{name}: false alarms of a channel", alarms / hours, "1/h"))
        rows += [Row(f"{name}: {case}", float(np.median(d)), "s") for case, d in delays.items() if d]
    return rows


def _cusum() -> Callable[[float], bool]:
    c = Cusum(1, 3600.0 * RATE)

    def step(x: float) -> bool:
        c.add(np.array([x]))
        return bool(c.level[0] >= 1.0)

    return step


def _river() -> dict[str, Callable[[], Callable[[float], bool]]]:
    """River's, where it is installed: they adapt to what they see, and forget it on an alarm."""
    try:
        from river import drift
    except ImportError:
        return {}

    def of(kind: Callable[[], Any]) -> Callable[[], Callable[[float], bool]]:
        def make() -> Callable[[float], bool]:
            d = kind()

            def step(x: float) -> bool:
                d.update(x)
                return bool(d.drift_detected)

            return step

        return make

    return {
        "river PageHinkley, its defaults": of(drift.PageHinkley),
        "river PageHinkley, delta 0.5, threshold 20": of(lambda: drift.PageHinkley(delta=0.5, threshold=20.0)),
        "river ADWIN, its defaults": of(drift.ADWIN),
        "river ADWIN, delta 1e-6": of(lambda: drift.ADWIN(delta=1e-6)),
    }


def _alarms(step: Callable[[float], bool], scores: Array) -> int:
    """How often an alarm begins."""
    count, before = 0, False
    for x in scores[np.isfinite(scores)]:
        now = step(float(np.clip(x, -5.0, 5.0)))
        count += now and not before
        before = now
    return count


def _first(step: Callable[[float], bool], healthy: Array, faulty: Array) -> float:
    """Delay [s] of the first alarm after the change; infinite when there is none."""
    for x in healthy[np.isfinite(healthy)]:
        step(float(np.clip(x, -5.0, 5.0)))
    for i, x in enumerate(faulty):
        if np.isfinite(x) and step(float(np.clip(x, -5.0, 5.0))):
            return (i + 1) / RATE
    return math.inf


if __name__ == "__main__":
    main(
        "Detection of drift", measure, ("seeds", 20, "robots"), ("healthy", 180.0, "seconds each is watched while well")
    )
