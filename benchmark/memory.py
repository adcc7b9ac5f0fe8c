"""Does any node grow? Resident memory of every node over minutes, with a line fitted through it."""

from __future__ import annotations

import argparse
import time

import numpy as np
import psutil

from benchmark.table import Row, main
from benchmark.twin_run import twin


def measure(a: argparse.Namespace) -> list[Row]:
    """Growth of each node, by the line through the last two thirds, over ten minutes."""
    with twin(200.0, warm_up=10.0) as run:
        nodes = run.nodes()
        samples: dict[str, list[float]] = {n: [] for n in nodes}
        times, end = [], time.monotonic() + 60.0 * a.minutes
        while time.monotonic() < end:
            times.append(time.monotonic())
            for n, p in nodes.items():
                samples[n].append(p.memory_info().rss / 1e6)
            time.sleep(1.0)
        rows = []
        settled = len(times) // 3
        for n, mb in samples.items():
            slope = float(np.polyfit(times[settled:], mb[settled:], 1)[0])
            rows.append(Row(f"{n}, growth in 10 minutes", slope * 600.0, "MB", 1.0))
            rows.append(Row(f"{n}, memory", psutil.Process(nodes[n].pid).memory_info().rss / 1e6, "MB", 200.0))
    return rows


if __name__ == "__main__":
    main("memory", measure, ("minutes", 3.0, "how long it is watched"))
