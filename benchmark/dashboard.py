"""The live page: how soon it shows the robot, how often, what it costs, and what viewers cost the twin.

A simulated humanoid of 28 joints at 200 Hz and all of its twin. Viewers read everything and draw nothing: a browser that
renders in software takes more than both cores of a small machine. Latency with and without viewers is measured in
turns within one run.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from benchmark.page_viewers import messages, open_page
from benchmark.table import Row, main
from benchmark.twin_run import ENVIRONMENT, TwinRun, cpu_seconds
from digital_twin.ros.scheduling import go_back, go_first

PORT = 18090
URL = f"http://127.0.0.1:{PORT}"


def measure(a: argparse.Namespace) -> list[Row]:
    """Medians over the rounds."""
    rounds = [one(a.seconds, a.turns) for _ in range(a.rounds)]

    def median(key: str) -> float:
        return statistics.median(r[key] for r in rounds)

    return [
        Row("from the command's start to the robot in the page", median("shown"), "s", 3.0),
        Row("from the line that names the page to the robot in it", median("after line"), "s", 3.0),
        Row("moments a second that a viewer sees", median("rate"), "Hz", 29.0, at_least=True),
        Row("dashboard without viewers", 100 * median("idle"), "% of a core"),
        Row("dashboard with one viewer", 100 * median("one"), "% of a core", 25.0),
        Row("dashboard with three viewers", 100 * median("three"), "% of a core"),
        Row("dashboard, memory", median("memory"), "MB"),
        Row("sync latency p99, three viewers", median("p99 viewers"), "ms", 1.1, median("p99 none"), "no viewer"),
        Row("sync latency p50, three viewers", median("p50 viewers"), "ms", None, median("p50 none"), "no viewer"),
    ]


def one(seconds: float, turns: int) -> dict[str, float]:
    """One run of the twin."""
    begin = time.monotonic()
    run = TwinRun(200.0, "", 0.0, "--dashboard", "--dashboard-port", str(PORT))
    try:
        line, shown = first_sight(begin)
        found = {"shown": shown, "after line": shown - line}
        time.sleep(8.0)
        node = run.nodes()["dashboard"]
        found["idle"] = cores(node, seconds)
        with viewers(1):
            found["one"] = cores(node, seconds)
        found["rate"] = rate(seconds)
        found |= latencies(node, seconds, turns)
        found["memory"] = node.memory_info().rss / 1e6
    finally:
        run.stop()
    return found


def first_sight(begin: float) -> tuple[float, float]:
    """Seconds from `begin` until the port is open (the page is named then), and until a viewer was sent the robot."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            break
        except OSError:
            time.sleep(0.01)
    line = time.monotonic() - begin
    with open_page(URL) as page:  # waits in the open port until it is answered
        while True:
            for m in messages(page.recv(timeout=60)):
                if m.get("type") == "BatchedMeshesMessage" and m["name"].startswith("/map/virtual/"):
                    return line, time.monotonic() - begin


def cores(node: psutil.Process, seconds: float) -> float:
    """Share of a core over some seconds."""
    before, start = cpu_seconds(node), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(node) - before) / (time.monotonic() - start)


def rate(seconds: float) -> float:
    """Poses of the virtual robot that a viewer is sent a second."""
    count, end = 0, time.monotonic() + seconds
    with open_page(URL) as page:
        while time.monotonic() < end:
            for m in messages(page.recv(timeout=10)):
                count += m.get("name") == "/map/virtual/box" and "batched_wxyzs" in m.get("updates", {})
    return count / seconds


@contextmanager
def viewers(count: int) -> Iterator[None]:
    """So many, in a process of their own."""
    command = [sys.executable, "-m", "benchmark.page_viewers", URL, str(count)]
    p = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=go_back
    )  # fmt: skip
    try:
        assert p.stdout is not None and p.stdout.readline() == "open\n"
        time.sleep(1.5)  # what there is at first is more than what follows
        yield
    finally:
        p.kill()
        p.wait()


def latencies(node: psutil.Process, seconds: float, turns: int) -> dict[str, float]:
    """p50 and p99 [ms] with three viewers and with none, in turns; and what three cost."""
    os.environ.update({k: ENVIRONMENT[k] for k in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")})
    import rclpy

    from digital_twin.cli.monitor import Monitor
    from digital_twin.core.statistics import Recent
    from digital_twin.robots import load_robot
    from digital_twin.ros.process import make_executor

    rclpy.init(args=[])
    own = rclpy.create_node("bench_monitor")
    monitor, executor = Monitor(own, load_robot()), make_executor()
    executor.add_node(own)
    go_first(lambda: None)  # lest the listener's own waiting be measured

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)

    def window() -> Any:
        spin(1.0)  # what came while nobody took it
        monitor.latency = Recent(200_000)
        spin(seconds)
        return monitor.latency.summary()

    window()
    with_viewers, none, cost = [], [], []
    for _ in range(turns):
        none.append(window())
        with viewers(3):
            before, start = cpu_seconds(node), time.monotonic()
            with_viewers.append(window())
            cost.append((cpu_seconds(node) - before) / (time.monotonic() - start))
    go_back()
    own.destroy_node()
    rclpy.shutdown()
    out = {"three": statistics.median(cost)}
    for name, found in (("viewers", with_viewers), ("none", none)):
        out |= {f"{p} {name}": statistics.median(f[p] for f in found) for p in ("p50", "p99")}
    return out


if __name__ == "__main__":
    main(
        "the live page", measure, ("seconds", 10.0, "of each measurement"), ("rounds", 1, "of which the medians are shown"),
        ("turns", 4, "with and without viewers"),
    )  # fmt: skip
