"""Commands in the form that a robot wants them."""

from __future__ import annotations

from array import array

import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from digital_twin.core.command_gate import Command
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.robots import Robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import SENSOR_OUT
from digital_twin.settings import BridgeSettings

TYPES = {
    "joint_state": JointState,
    "forward_command": Float64MultiArray,
    "joint_trajectory": JointTrajectory,
    "gazebo": JointTrajectory,
}
# How soon a trajectory controller shall be there. Gazebo's takes a point of time zero at once.
REACH = {"joint_trajectory": 0.02, "gazebo": 0.0}


class CommandWriter:
    """Publishes commands on joint_commands, in the robot's own names, signs and zeros."""

    def __init__(self, node: TwinNode[BridgeSettings], robot: Robot, output: str, order: list[str]) -> None:
        commands = node.settings.commands
        if output != "joint_state" and "damp" in (commands.when_silent, commands.when_stopped):
            raise ConfigError(f"command_output '{output}' carries positions only and cannot damp; use hold")
        self._joints, self._output = robot.joints, output
        names = order or self._joints.reported_names
        for name in names:
            if name not in self._joints.reported_names:
                raise ConfigError(f"command_joints: {unknown('joint', name, self._joints.reported_names)}")
        self._order = np.array([self._joints.reported_names.index(name) for name in names], dtype=np.intp)
        self._send = node.talk(TYPES[output], "joint_commands", SENSOR_OUT)
        self._codec = JointStateCodec(JointState)
        self._node = node

    def __call__(self, stamp_ns: int, command: Command) -> None:
        """Publish a command that passed the gate."""
        j, i = self._joints, command.index
        q = None if command.q is None else (command.q - j.offset[i]) / j.factor[i]
        qd, effort = command.qd / j.factor[i], command.effort * j.factor[i]
        names = tuple(j.reported_names[k] for k in i)
        if self._output == "joint_state":
            self._send(self._codec.writer(names).write(stamp_ns, q, qd, effort))
        elif q is not None and self._output == "forward_command":
            self._forward(i, q)
        elif q is not None:
            self._trajectory(names, q, qd)

    def _forward(self, index: np.ndarray, q: np.ndarray) -> None:
        values = np.full(len(self._joints.reported_names), np.nan)
        values[index] = q
        ordered = values[self._order]
        if not np.isfinite(ordered).all():
            missing = [self._joints.reported_names[k] for k in self._order if not np.isfinite(values[k])]
            self._node.say_once("warning", f"forward_command waits for commands of: {', '.join(missing)}")
            return
        self._send(Float64MultiArray(data=array("d", ordered)))

    def _trajectory(self, names: tuple[str, ...], q: np.ndarray, qd: np.ndarray) -> None:
        point = JointTrajectoryPoint(positions=array("d", q), velocities=array("d", qd))
        point.time_from_start = Duration(seconds=REACH[self._output]).to_msg()
        self._send(JointTrajectory(joint_names=list(names), points=[point]))
