"""How evenly virtual/imu/data comes while lidars are cast and cameras rendered, beside the same with neither.

The nodes run as the bring-up starts them, fed with states at 200 Hz; somebody listens to every scan, cloud and image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmark.table import Row, main
from benchmark.twin_run import ENVIRONMENT
from digital_twin.cli.supervisor import command
from digital_twin.options import Options
from digital_twin.robots import load_robot
from digital_twin.system import describe

os.environ.update({k: ENVIRONMENT[k] for k in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")})

import rclpy
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, stamp_ns
from digital_twin.ros.process import make_executor
from digital_twin.ros.qos import INTERNAL
from digital_twin.ros.scheduling import go_back, go_first

PERIOD = 5_000_000  # [ns]
WARM_UP = 10.0  # [s]
LISTENER = """
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image, LaserScan, PointCloud2
rclpy.init()
node = Node("listener")
for kind, topic in (
    (LaserScan, "virtual/scan"), (PointCloud2, "virtual/points"), (Image, "virtual/camera/camera/image_raw"),
):
    node.create_subscription(kind, topic, lambda _: None, 10, raw=True)
try:
    rclpy.spin(node)
except rclpy.executors.ExternalShutdownException:
    pass
"""


@contextmanager
def running(*commands: list[str]) -> Iterator[None]:
    """Processes, ended at the end."""
    processes = [subprocess.Popen(c, env=ENVIRONMENT) for c in commands]
    try:
        yield
    finally:
        for p in processes:
            p.terminate()
        for p in processes:
            p.wait(20)


def nodes(*names: str) -> list[list[str]]:
    """How the bring-up starts these nodes."""
    return [command(spec, "", "") for spec in describe(Options()) if spec.name in names]


class Feeder:
    """States of a robot at rest; notes how long [ms] after its state each reading of the IMU came."""

    def __init__(self) -> None:
        robot, self._node = load_robot(), Node("feeder")
        self._q = robot.joints.stand
        self._joints = JointStateCodec(JointState).writer(tuple(robot.model.joint_names))
        self._odom = DoublesCodec(Odometry, 85, child_frame=True).writer("odom", "base_link")
        self._values = np.zeros(85)
        self._values[2], self._values[6] = 0.83, 1.0
        self._outs = [
            self._node.create_publisher(JointState, "virtual/joint_states", INTERNAL),
            self._node.create_publisher(Odometry, "virtual/odom", INTERNAL),
        ]
        self._node.create_subscription(Imu, "virtual/imu/data", self._on_imu, INTERNAL, raw=True)
        self._sent: dict[int, int] = {}
        self.late: list[float] = []

    def run(self, seconds: float) -> None:
        """Feed, and listen."""
        executor = make_executor()
        executor.add_node(self._node)
        begin, k = time.monotonic_ns(), 0
        while k * PERIOD < seconds * 1e9:
            wait = begin + k * PERIOD - time.monotonic_ns()
            if wait > 0:
                executor.spin_once(timeout_sec=wait / 1e9)
                continue
            stamp = k * PERIOD + 10**18
            self._sent[stamp] = time.monotonic_ns()
            self._outs[0].publish(self._joints.write(stamp, self._q, 0 * self._q, 0 * self._q))
            self._outs[1].publish(self._odom.write(stamp, self._values))
            k += 1
            if k * PERIOD <= WARM_UP * 1e9:
                self.late.clear()

    def _on_imu(self, data: bytes) -> None:
        stamp = stamp_ns(bytes(data))
        if stamp in self._sent:
            self.late.append((time.monotonic_ns() - self._sent[stamp]) / 1e6)


def jitter(seconds: float, *others: str) -> tuple[float, float]:
    """p50, and p99 beyond it [ms], of the time from state to reading, with these nodes beside and listened to."""
    beside = [*nodes(*others), [sys.executable, "-c", LISTENER]] if others else []
    with running(*nodes("virtual_sensor_publisher"), *beside):
        rclpy.init(args=[])
        feeder = Feeder()
        go_first(lambda: None)  # as the synchronizer does; and lest the listener's own waiting be measured
        feeder.run(WARM_UP + seconds)
        go_back()
        rclpy.shutdown()
    p50, p99 = np.percentile(feeder.late, (50, 99))
    return float(p50), float(p99 - p50)


def measure(a: argparse.Namespace) -> list[Row]:
    """Medians of the rounds, with and without taking turns."""
    kinds = {
        "alone": (), "cameras on": ("virtual_camera_publisher",), "lidars on": ("virtual_lidar_publisher",),
        "cameras and lidars on": ("virtual_camera_publisher", "virtual_lidar_publisher"),
    }  # fmt: skip
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(int(a.rounds)):
        for kind, others in kinds.items():
            found[kind].append(jitter(a.seconds, *others))
    middle = {kind: np.median(each, axis=0) for kind, each in found.items()}
    rows = [
        Row(f"virtual/imu/data, {kind}: p99 over p50", float(m[1]), "ms", None if kind == "alone" else 2.0)
        for kind, m in middle.items()
    ]
    return [*rows, Row("  p50 (three states and the latency of the sensor)", float(middle["alone"][0]), "ms")]


if __name__ == "__main__":
    main("sensor timing", measure, ("seconds", 20.0, "of one run"), ("rounds", 3.0, "of which the median counts"))
