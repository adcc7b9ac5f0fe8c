"""How soon an emergency stop is in force: from the call of the service to the arrival of the command that stops.

Everything runs and the robot sways without a pause, so that every command before the stop has a speed. The caller and
the listener are one process, on one clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmark.table import Row, main
from benchmark.twin_run import ENVIRONMENT, twin

os.environ.update(ENVIRONMENT)

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from digital_twin.ros.process import make_executor


def swaying(path: Path) -> str:
    """Settings under which the script sways for ever."""
    path.write_text(
        "steps: [{swing: {l_hip_roll: 0.05, r_hip_roll: 0.05, l_ankle_roll: -0.05, r_ankle_roll: -0.05}, seconds: 1000}]"
    )
    return f"/**/command_script: {{ros__parameters: {{script: {path}}}}}\n"


def measure(a: argparse.Namespace) -> list[Row]:
    """Stop and enable again, several times, while the robot moves."""
    with tempfile.TemporaryDirectory() as folder, twin(200.0, warm_up=9.0, others=swaying(Path(folder) / "sway.yaml")):
        rclpy.init(args=[])
        node = Node("stopper")
        executor = make_executor()
        executor.add_node(node)
        commands: list[tuple[float, bool]] = []
        node.create_subscription(
            JointState, "joint_commands", lambda m: commands.append((time.monotonic(), np.any(m.velocity))), 50
        )
        stop = node.create_client(Trigger, "physical_bridge/emergency_stop")
        enable = node.create_client(SetBool, "physical_bridge/enable_commands")

        def spin(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                executor.spin_once(timeout_sec=0.01)

        while not (stop.service_is_ready() and enable.service_is_ready()):
            spin(0.1)
        delays = []
        for _ in range(a.times):
            spin(1.0)
            called = time.monotonic()
            stop.call_async(Trigger.Request())
            spin(0.5)
            # The last command with a speed: after it the robot is being stopped.
            moving = max((t for t, moves in commands if moves), default=called)
            stopped = min(t for t, moves in commands if t > max(moving, called) and not moves)
            delays.append(1000 * (stopped - called))
            assert sum(moves for t, moves in commands if t > called - 0.5) > 20, (
                "the robot did not move before the stop"
            )
            enable.call_async(SetBool.Request(data=True))
        node.destroy_node()
        rclpy.shutdown()
    return [
        Row("emergency stop in force after, median", statistics.median(delays), "ms", 20.0),
        Row("emergency stop in force after, longest", max(delays), "ms", 20.0),
    ]


if __name__ == "__main__":
    main("emergency stop", measure, ("times", 20, "how often it is measured"))
