"""How much cheaper does the optimiser make the gait? Ten minutes of search; judged by robots that the search has not seen.

Its cache is empty at first, so that nothing is for nothing. The minutes are those that each of its processes really has of a
core: what else the machine does meanwhile does not count.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmark.table import Row, main
from digital_twin.cli.optimize_gait import optimize_gait
from digital_twin.core.gait.gait_config import robot_gait
from digital_twin.core.gait.trial import Task
from digital_twin.gait_search import Search
from digital_twin.robots import load_robot


def measure(a: argparse.Namespace) -> list[Row]:
    """One search."""
    robot = load_robot()
    task = Task(speed=a.speed, terrain=a.terrain, seconds=a.seconds)
    search = Search(robot_gait(robot.config, robot.where), task, (1.0, a.energy, 1.0), int(a.robots), int(a.population))
    out = Path(a.out or tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        best, start = optimize_gait(
            "", "", task, search, a.minutes, str(out / "best.yaml"), str(out / "optimise.png"), judges=int(a.judges),
            cache=a.cache or cache, of_cores=True,
        )  # fmt: skip
    load = os.getloadavg()[1]
    return [
        Row("cost of transport, best", best.score.energy, "", 0.85, start.score.energy, "the start"),
        Row("share of falls, best", best.score.falls, "", start.score.falls),
        Row("error of the speed, best", 100 * best.score.accuracy, "%", None, 100 * start.score.accuracy, "the start"),
        Row("restlessness, best", best.score.stability, "", None, start.score.stability, "the start"),
        Row("gaits tried", len(search.tried), ""),
        Row("episodes", search.episodes, ""),
        Row("time on the wall", (time.monotonic() - began) / 60.0, "min"),
        Row("processes that wanted a core meanwhile (load average)", load, ""),
    ]


if __name__ == "__main__":
    main(
        "the optimiser", measure, ("minutes", 10.0, "of search"), ("speed", 0.5, "m/s"), ("terrain", "flat", "to walk on"),
        ("energy", 2.0, "weight of the cost of transport against stability and speed, 1 each"),
        ("robots", 2.0, "that try each gait"), ("population", 8.0, "gaits of a generation"),
        ("seconds", 8.0, "of an episode"), ("judges", 8.0, "other robots that judge the best"),
        ("out", "", "folder for gait and plot; empty: a temporary one"), ("cache", "", "folder of remembered episodes"),
    )  # fmt: skip
