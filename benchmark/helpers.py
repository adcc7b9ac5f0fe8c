"""Bare rclpy programs to compare with: what the middleware costs when nothing is done.

    python -m benchmark.helpers relay IN OUT FILE     republish JointState messages, note when each arrived
    python -m benchmark.helpers sink IN FILE          note when each message arrived
    python -m benchmark.helpers listen TOPIC:TYPE …   subscribe and do nothing
    python -m benchmark.helpers bytes TOPIC:TYPE …    the same, without conversion to Python objects

Notes are JSON, written at the end: {stamp [ns]: arrival [ns]}. Who relays or notes is real-time, where it may be.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from digital_twin.ros.process import make_executor
from digital_twin.ros.scheduling import go_first

QOS = QoSProfile(depth=50)


def message_type(name: str) -> type:
    """sensor_msgs/Imu to its class."""
    package, kind = name.split("/")
    found: type = getattr(importlib.import_module(f"{package}.msg"), kind)
    return found


def main() -> None:
    """Be one of these programs until told to stop."""
    what, *rest = sys.argv[1:]
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, stop)
    node = Node(f"bare_{what}_{os.getpid()}")
    executor = make_executor()
    executor.add_node(node)
    arrivals: dict[int, int] = {}
    if what in ("listen", "bytes"):
        for entry in rest:
            topic, kind = entry.split(":")
            node.create_subscription(message_type(kind), topic, lambda _: None, QOS, raw=what == "bytes")
    else:
        out = node.create_publisher(JointState, rest[1], QOS) if what == "relay" else None

        def receive(m: JointState) -> None:
            arrivals[m.header.stamp.sec * 10**9 + m.header.stamp.nanosec] = time.time_ns()
            if out is not None:
                out.publish(m)

        node.create_subscription(JointState, rest[0], receive, QOS)
        # As the nodes that are measured: else it is the helper's own waiting for a core that is noted.
        go_first(lambda: None)
    while running:
        executor.spin_once(timeout_sec=0.1)
    if what not in ("listen", "bytes"):
        Path(rest[-1]).write_text(json.dumps(arrivals))
    node.destroy_node()
    rclpy.shutdown()
    sys.stdout.flush()
    os._exit(0)  # without rclpy's slow teardown


if __name__ == "__main__":
    main()
