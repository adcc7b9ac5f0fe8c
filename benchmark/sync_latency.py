"""Sync latency: from the arrival of a measurement at the bridge to the arrival of its virtual state elsewhere.

28 joints, everything running: simulated robot, bridge, synchronizer, script, monitor. The peer runs at the same time on
the same messages: two bare rclpy relays of the robot's joint_states and a subscriber, as many hops.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.steady import START, Steady, listen
from benchmark.table import Row, main
from benchmark.twin_run import helper, twin


def measure(a: argparse.Namespace) -> list[Row]:
    """Medians over the rounds, each without and with the relays beside."""
    alone, beside, bare, pace = [], [], [], []
    for _ in range(a.rounds):
        with twin(a.rate, START):
            steady = listen(a.seconds)
        alone.append(steady)
        pace.append(steady.pace)
        latency, relay = with_relays(a.rate, a.seconds)
        beside.append(latency)
        bare.append(relay)

    def median(rows: Sequence[object], key: str) -> float:
        return statistics.median(getattr(r, key) for r in rows)

    at = f"{a.rate:g} Hz"
    return [
        Row(f"sync latency p50, {at}", median(alone, "p50"), "ms", 1.5),
        Row(f"sync latency p99, {at}", median(alone, "p99"), "ms", 5.0),
        Row(
            f"sync latency p50 beside a bare relay, {at}",
            median(beside, "p50"),
            "ms",
            2.0,
            median(bare, "p50"),
            "relay",
        ),
        Row(
            f"sync latency p99 beside a bare relay, {at}",
            median(beside, "p99"),
            "ms",
            2.0,
            median(bare, "p99"),
            "relay",
        ),
        Row("real-time factor of simulated_robot, off by", abs(statistics.median(pace) - 1.0), "", 0.01),
    ]


@dataclass(frozen=True)
class Relayed:
    """Latency of the relays [ms]."""

    p50: float
    p99: float


def with_relays(rate: float, seconds: float) -> tuple[Steady, Relayed]:
    """Latency of the twin and of the relays, measured at the same time."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        notes = [str(Path(folder) / name) for name in ("first", "second", "sink")]
        stack.enter_context(twin(rate, START))
        with (
            helper("relay", "joint_states", "bare/a", notes[0]),
            helper("relay", "bare/a", "bare/b", notes[1]),
            helper("sink", "bare/b", notes[2]),
        ):
            steady = listen(seconds)
        first, sink = (json.loads(Path(n).read_text()) for n in (notes[0], notes[2]))
    times = sorted(int(stamp) for stamp in sink)
    settled = [str(t) for t in times if t > times[-1] - seconds * 1e9 and str(t) in first]
    ms = [(sink[t] - first[t]) / 1e6 for t in settled]
    p50, p99 = np.percentile(ms, (50, 99))
    return steady, Relayed(float(p50), float(p99))


if __name__ == "__main__":
    main(
        "sync latency", measure, ("rate", 500.0, "of joints, IMU and wrenches [Hz]"), ("seconds", 20.0, "of each round"),
        ("rounds", 3, "of which the medians are shown"),
    )  # fmt: skip
