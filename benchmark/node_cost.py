"""What physical_bridge, twin_synchronizer and drift_monitor cost: cores and memory, with everything running.

Beside them, in the same run, processes that only subscribe to the same topics: the floor that the middleware sets.
drift_monitor is measured while it watches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack

import psutil

from benchmark.closed_loop import CALIBRATED, Probe, until
from benchmark.table import Row, main
from benchmark.twin_run import cpu_seconds, helper, twin

JOINTS, IMU, WRENCH = "sensor_msgs/JointState", "sensor_msgs/Imu", "geometry_msgs/WrenchStamped"
POSE = "geometry_msgs/PoseWithCovarianceStamped"
SENSORS = [("joint_states", JOINTS), ("imu/data", IMU), ("feet/left/wrench", WRENCH), ("feet/right/wrench", WRENCH)]
BRIDGE = [*SENSORS, ("external_pose", POSE), ("scan", "sensor_msgs/LaserScan"), ("virtual/joint_commands", JOINTS)]
SYNCHRONIZER = [(f"physical/{topic}", kind) for topic, kind in (*SENSORS, ("external_pose", POSE))]
NODES = ("physical_bridge", "twin_synchronizer")
DRIFT = [
    *SYNCHRONIZER,
    ("physical/scan", "sensor_msgs/LaserScan"),
    ("joint_commands", JOINTS),
    ("virtual/odom", "nav_msgs/Odometry"),
    ("twin/innovations", "std_msgs/Float64MultiArray"),
]
SOON = "/**/drift_monitor: {ros__parameters: {calibration: 20.0}}"


def measure(a: argparse.Namespace) -> list[Row]:
    """At each rate: cores of both nodes together and apart, of bare subscriptions, and memory."""
    rows = []
    for rate, target in ((200.0, 0.4), (500.0, 0.8)):
        rounds = [cores(rate, a.seconds) for _ in range(a.rounds)]
        median = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        at = f"{rate:g} Hz"
        both, bare = sum(median[n] for n in NODES), sum(median[f"bare {n}"] for n in NODES)
        rows.append(Row(f"bridge and synchronizer together, {at}", both, "cores", target))
        rows += [Row(f"{n}, {at}", median[n], "cores", None, median[f"bare {n}"], "bare subscriptions") for n in NODES]
        rows.append(Row(f"their own work, {at}", both - bare, "cores"))
        rows += [Row(f"{n}, memory, {at}", median[f"{n} MB"], "MB", 200.0) for n in NODES]
    whole, bare = drift_cores(200.0, a.seconds, a.rounds)
    rows.append(Row("drift_monitor, 200 Hz", whole, "cores", None, bare, "bare subscriptions"))
    rows.append(Row("drift_monitor, 200 Hz, its own work", whole - bare, "cores", 0.3))
    return rows


def cores(rate: float, seconds: float) -> dict[str, float]:
    """Share of a core that each process uses over some seconds."""
    with ExitStack() as stack:
        run = stack.enter_context(twin(rate, warm_up=7.0))
        used = watch({n: run.nodes()[n] for n in NODES}, seconds)
        # The bare ones are measured while the twin runs, but not while the twin is measured: two cores are few.
        bare = {}
        for name, topics in zip(NODES, (BRIDGE, SYNCHRONIZER), strict=True):
            p = stack.enter_context(helper("listen", *(f"{t}:{k}" for t, k in topics)))
            bare[f"bare {name}"] = psutil.Process(p.pid)
        time.sleep(4.0)
        used |= watch(bare, seconds)
        used |= {f"{n} MB": p.memory_info().rss / 1e6 for n, p in run.nodes().items()}
    return used


def drift_cores(rate: float, seconds: float, rounds: int) -> tuple[float, float]:
    """Medians of the share of a core that drift_monitor uses while it watches, and bare subscriptions to what it hears."""
    with ExitStack() as stack:
        run = stack.enter_context(twin(rate, others=SOON))
        probe = Probe()
        watches = until(lambda: "behaves" in probe.words, CALIBRATED)
        probe.close()
        if not watches:
            raise SystemExit(f"drift_monitor has not begun to watch: {probe.words}")
        whole = [watch({"it": run.nodes()["drift_monitor"]}, seconds)["it"] for _ in range(rounds)]
        p = stack.enter_context(helper("listen", *(f"{t}:{k}" for t, k in DRIFT)))
        time.sleep(4.0)
        bare = [watch({"it": psutil.Process(p.pid)}, seconds)["it"] for _ in range(rounds)]
    return statistics.median(whole), statistics.median(bare)


def watch(processes: dict[str, psutil.Process], seconds: float) -> dict[str, float]:
    """Cores used by each over some seconds."""
    before = {n: cpu_seconds(p) for n, p in processes.items()}
    begin = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begin
    return {n: (cpu_seconds(p) - before[n]) / passed for n, p in processes.items()}


if __name__ == "__main__":
    main(
        "cost of the nodes",
        measure,
        ("seconds", 15.0, "of each measurement"),
        ("rounds", 3, "of which the medians are shown"),
    )
