"""An IMU at 1000 Hz and joints at 500 Hz for minutes: does a backlog build up?

Latency is from the stamp of a joint measurement to the arrival of the virtual state that bears it, in another process
(real-time as the synchronizer is, where it may be: with two cores busy another one notes when it was let run). A shared
machine is slower in some minutes than in others: the median minute says more of the twin, the worst of the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.table import Row, main
from benchmark.twin_run import helper, twin

# The estimator is what is measured: the other nodes rest.
ASLEEP = (
    "/**/physics_predictor: {ros__parameters: {rate: 0.1, ensemble_rate: 0.0}}\n"
    "/**/virtual_sensor_publisher: {ros__parameters: {sensors: [encoders]}}\n"
)


def measure(a: argparse.Namespace) -> list[Row]:
    """Over the whole time, and the last tenth of it against the first."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "sink"
        with twin(1000.0, joint_rate=500.0, others=ASLEEP) as run, helper("sink", "virtual/joint_states", str(notes)):
            time.sleep(60.0 * a.minutes)
        arrivals = {int(k): v for k, v in json.loads(notes.read_text()).items()}
    stamps = np.array(sorted(arrivals))
    stamps = stamps[stamps > stamps[0] + 4_000_000_000]
    ms = np.array([arrivals[int(t)] - int(t) for t in stamps]) / 1e6
    tenth = len(ms) // 10
    minutes = [float(np.percentile(part, 99)) for part in np.array_split(ms, max(1, round(a.minutes)))]
    expected = float(stamps[-1] - stamps[0]) / 2e6
    return [
        Row("stamp to virtual state, p50", float(np.median(ms)), "ms", 5.0),
        Row("stamp to virtual state, p99", float(np.percentile(ms, 99)), "ms", 5.0),
        Row("p99 of the median minute", float(np.median(minutes)), "ms", 5.0),
        Row("p99 of the worst minute", max(minutes), "ms"),
        Row(
            "p50 of the last tenth",
            float(np.median(ms[-tenth:])),
            "ms",
            1.2,
            float(np.median(ms[:tenth])),
            "first tenth",
        ),
        Row("joint measurements unanswered", 100.0 * (1.0 - len(ms) / expected), "%", 1.0),
        Row("real-time factor, off by", abs(run.report["real_time_factor"] - 1.0), "", 0.01),
    ]


if __name__ == "__main__":
    main("fast IMU", measure, ("minutes", 10.0, "how long it runs"))
