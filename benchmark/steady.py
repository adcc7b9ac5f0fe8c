"""What the running twin does once all of its nodes have started; a report of a run has their start in it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
import rclpy

from benchmark.twin_run import ENVIRONMENT
from digital_twin.cli.monitor import Monitor
from digital_twin.core.statistics import Recent
from digital_twin.robots import load_robot
from digital_twin.ros.process import make_executor
from digital_twin.ros.scheduling import go_back, go_first

START, SETTLE = 10.0, 2.0  # [s] until the nodes have started; until what had piled up is read


@dataclass(frozen=True)
class Steady:
    """Sync latency [ms] as `digital-twin run` measures it, and the real-time factor of simulated_robot."""

    p50: float
    p99: float
    longest: float
    pace: float


def listen(seconds: float, *, first: bool = False) -> Steady:
    """Of these seconds alone. Beside the monitor of the run this is a second one.

    first: real-time like the loop, where allowed, so that it is not the listener's own waiting that is measured.
    """
    os.environ.update({k: ENVIRONMENT[k] for k in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")})
    rclpy.init()
    node, executor = rclpy.create_node("benchmark"), make_executor()
    executor.add_node(node)
    monitor, paces = Monitor(node, load_robot()), {}
    if first:
        go_first(lambda: None)
    end = time.monotonic() + seconds + SETTLE
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
        if time.monotonic() < end - seconds:
            monitor.latency = Recent(200_000)
        elif (robot := monitor.nodes.get("simulated_robot")) is not None:
            paces[robot.heard] = float(robot.values.get("real_time_factor", "nan"))
    if first:
        go_back()
    node.destroy_node()
    rclpy.shutdown()
    s = monitor.latency.summary()
    return Steady(s["p50"], s["p99"], s["max"], float(np.nanmean(list(paces.values()))))
