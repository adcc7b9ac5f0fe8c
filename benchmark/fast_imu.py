"""An IMU at 1000 Hz and joints at 500 Hz for minutes: does a backlog build up?

Twice: twin_synchronizer alone, on the topics of the robot, as who wants no more than an estimate runs it; and with all
of the twin beside it, behind the bridge.

Latency is from the stamp of a joint measurement to the arrival of the virtual state that bears it, in another process
(real-time as the synchronizer is, where it may be: with two cores busy another one notes when it was let run). A shared
machine is slower in some minutes than in others: the median minute says more of the twin, the worst of the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from benchmark.table import Row, main
from benchmark.twin_run import TwinRun, helper, nodes, twin
from digital_twin.core.arrays import Array

IMU_RATE, JOINT_RATE = 1000.0, 500.0  # [Hz]
# The estimator is what is measured: the other nodes rest.
ASLEEP = (
    "/**/physics_predictor: {ros__parameters: {rate: 0.1, ensemble_rate: 0.0}}\n"
    "/**/virtual_sensor_publisher: {ros__parameters: {sensors: [encoders]}}\n"
)


# The robot's own topics, not checked by a bridge.
SENSORS = ("joint_states", "imu/data", "feet/left/wrench", "feet/right/wrench", "external_pose")
RAW = {f"physical/{topic}": topic for topic in SENSORS}
ALONE = {
    "simulated_robot": {},
    "twin_synchronizer": RAW,
    "command_script": {"virtual/joint_commands": "joint_commands"},
}


def measure(a: argparse.Namespace) -> list[Row]:
    """The synchronizer alone, then the whole twin."""
    alone, _ = states(nodes(IMU_RATE, ALONE, joint_rate=JOINT_RATE), a.minutes)
    beside, run = states(twin(IMU_RATE, joint_rate=JOINT_RATE, others=ASLEEP), a.minutes)
    assert run is not None
    pace = Row("real-time factor, off by", abs(run.report["real_time_factor"] - 1.0), "", 0.01)
    return [*rows("the synchronizer alone", alone), *rows("the whole twin", beside), pace]


def states(system: AbstractContextManager[TwinRun | None], minutes: float) -> tuple[Array, TwinRun | None]:
    """Stamp and arrival of each virtual state [ns] (n, 2), the first seconds left out; and the twin that ran."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "sink"
        with system as run, helper("sink", "virtual/joint_states", str(notes)):
            time.sleep(60.0 * minutes)
        arrivals = {int(k): v for k, v in json.loads(notes.read_text()).items()}
    both = np.array(sorted(arrivals.items()))
    return both[both[:, 0] > both[0, 0] + 4_000_000_000], run


def rows(what: str, both: Array) -> list[Row]:
    """Over the whole time, by minutes, and the last tenth of it against the first."""
    stamps, arrivals = both.T
    ms = (arrivals - stamps) / 1e6
    tenth, seconds = len(ms) // 10, float(stamps[-1] - stamps[0]) / 1e9
    minutes = [float(np.percentile(part, 99)) for part in np.array_split(ms, max(1, round(seconds / 60.0)))]
    first, last = float(np.median(ms[:tenth])), float(np.median(ms[-tenth:]))
    return [
        Row(f"{what}: stamp to virtual state, p50", float(np.median(ms)), "ms", 5.0),
        Row(f"{what}: stamp to virtual state, p99", float(np.percentile(ms, 99)), "ms", 5.0),
        Row(f"{what}: p99 of the median minute", float(np.median(minutes)), "ms", 5.0),
        Row(f"{what}: p99 of the worst minute", max(minutes), "ms"),
        Row(f"{what}: p50 of the last tenth", last, "ms", 1.2, first, "first tenth"),
        Row(f"{what}: joint measurements unanswered", 100.0 * (1.0 - len(ms) / (seconds * JOINT_RATE)), "%", 1.0),
    ]


if __name__ == "__main__":
    main("fast IMU", measure, ("minutes", 10.0, "how long it runs"))
