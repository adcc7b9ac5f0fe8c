"""What physics_predictor reads: synchronized states, the commands in force, and what a source is going to command."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from digital_twin.core.arrays import Array, Index
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.prediction import State
from digital_twin.robots import Robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.labelled import LabelledReader
from digital_twin.ros.node import TwinNode
from digital_twin.ros.odometry import OdometryReader
from digital_twin.ros.qos import INTERNAL, SENSOR_IN
from digital_twin.settings import PredictorSettings

MOST_POINTS = 2000


class Order:
    """Where the joints of messages are in arrays of the robot's; their order hardly ever changes."""

    def __init__(self, names: list[str]) -> None:
        self._index_of = {name: i for i, name in enumerate(names)}
        self._last: tuple[tuple[str, ...], Index, Index] = ((), *np.zeros((2, 0), dtype=np.intp))

    def places(self, names: tuple[str, ...]) -> tuple[Index, Index]:
        """Of the joints that are known: their places in the robot's arrays, and in the message's."""
        if names != self._last[0]:
            there = [k for k, name in enumerate(names) if name in self._index_of]
            which = [self._index_of[names[k]] for k in there]
            self._last = names, np.array(which, dtype=np.intp), np.array(there, dtype=np.intp)
        return self._last[1:]


class PredictionInputs:
    """Turns messages into states and plans."""

    def __init__(
        self, node: TwinNode[PredictorSettings], robot: Robot, plan: CommandPlan, lock: threading.Lock,
        arrived: Callable[[State], None],
    ) -> None:  # fmt: skip
        """`plan` is written under `lock`; `arrived` is called with each state."""
        self._node, self._robot, self._plan, self._lock, self._arrived = node, robot, plan, lock, arrived
        self._joints: tuple[int, Array, Array, Array | None] | None = None
        self._base: BaseState | None = None
        self._contacts: tuple[int, tuple[bool, ...]] = -1, (True,) * len(robot.config.feet)
        self._own = node.settings.commands_topic.rsplit("/", 1)[0] == "virtual"
        self._states = Order(robot.model.joint_names)
        self._ordered = Order(robot.model.joint_names if self._own else robot.joints.reported_names)
        self._codec, self._odom = JointStateCodec(JointState), OdometryReader(node)
        self._commands, self._feet = JointStateCodec(JointState), LabelledReader()
        node.listen(JointState, "virtual/joint_states", self._on_joints, INTERNAL)
        node.listen(Odometry, "virtual/odom", self._on_odom, INTERNAL)
        node.listen(Float64MultiArray, "virtual/contacts", self._on_contacts, INTERNAL)
        s = node.settings
        node.listen(JointState, s.commands_topic, self._on_command, SENSOR_IN)
        node.create_subscription(JointTrajectory, s.trajectory_topic, self._on_trajectory, INTERNAL)

    def _on_joints(self, data: bytes) -> None:
        m = self._codec.read(data)
        n = len(m.names)
        if not len(m.position) == len(m.velocity) == n:
            return self._node.tally.reject("virtual/joint_states", "size")
        which, there = self._states.places(m.names)
        q, qd = self._robot.joints.stand.copy(), np.zeros(self._robot.model.n)
        q[which], qd[which] = m.position[there], m.velocity[there]
        effort = None
        if len(m.effort) == n:
            told, effort = m.effort[there], np.zeros(len(q))
            effort[which] = np.where(np.isfinite(told), told, 0.0)
        self._joints = m.stamp_ns, q, qd, effort
        return self._complete()

    def _on_contacts(self, data: bytes) -> None:
        """Which feet stand; comes before the odometry of its stamp. While nobody says, all do."""
        stamp_ns, values = self._feet.read(data)
        feet = len(self._robot.config.feet)
        if len(values) != feet + 1:
            return self._node.tally.reject("virtual/contacts", "size")
        self._contacts = stamp_ns, tuple([x > 0.5 for x in values[:feet].tolist()])
        return None

    def _on_odom(self, data: bytes) -> None:
        """The other half of a state; both halves bear one stamp, and either may come first."""
        base = self._odom.read(data, self._contacts[1])
        if base is None:
            return None
        self._base = base
        return self._complete()

    def _complete(self) -> None:
        if self._joints is not None and self._base is not None and self._joints[0] == self._base.stamp_ns:
            stamp, q, qd, effort = self._joints
            self._arrived(State(stamp, q, qd, self._base, effort))

    def _on_command(self, data: bytes) -> None:
        """A command in the robot's own names, signs and zeros, or in the URDF's on virtual/joint_commands."""
        m, robot = self._commands.read(data), self._robot
        n = len(m.names)
        if not n or len(m.position) not in (0, n) or len(m.velocity) not in (0, n) or len(m.effort) not in (0, n):
            return self._node.tally.reject(self._node.settings.commands_topic, "size")
        if not len(m.position):
            return None  # joints let go: there is nothing that a position servo could follow
        which, there = self._ordered.places(m.names)
        if len(which) < n:
            self._node.tally.reject(self._node.settings.commands_topic, "unknown_joint")
        q, qd, effort = np.full(robot.model.n, np.nan), np.zeros(robot.model.n), np.zeros(robot.model.n)
        q[which] = m.position[there]
        if len(m.velocity):
            qd[which] = m.velocity[there]
        if len(m.effort):
            effort[which] = m.effort[there]
        if not self._own:
            j = robot.joints
            q, qd, effort = j.factor * q + j.offset, j.factor * qd, effort / j.factor
        with self._lock:
            self._plan.command(m.stamp_ns, q, qd, effort)
        return None

    def _on_trajectory(self, m: JointTrajectory) -> None:
        topic, model = self._node.settings.trajectory_topic, self._robot.model
        if len(m.points) > MOST_POINTS:
            return self._node.tally.reject(topic, "size")
        if not set(m.joint_names) <= set(model.joint_names):
            return self._node.tally.reject(topic, "unknown_joint")
        which = [model.joint_index[name] for name in m.joint_names]
        times = np.array([p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in m.points])
        if any(len(p.positions) != len(which) or len(p.velocities) not in (0, len(which)) for p in m.points):
            return self._node.tally.reject(topic, "size")
        position = np.tile(self._robot.joints.stand, (len(times), 1))
        with self._lock:
            last = self._plan.last()
            if last is not None:
                position[:] = last
            position[:, which] = [p.positions for p in m.points]
            velocity = None
            if all(len(p.velocities) for p in m.points):
                velocity = np.zeros_like(position)
                velocity[:, which] = [p.velocities for p in m.points]
            try:
                self._plan.trajectory(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec, times, position, velocity)
            except ValueError:
                self._node.tally.reject(topic, "points")
        return None
