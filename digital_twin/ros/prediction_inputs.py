"""What physics_predictor reads: synchronized states, the commands in force, and what a source is going to command."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.prediction import State
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.robots import Robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL, SENSOR_IN
from digital_twin.settings import PredictorSettings

MOST_POINTS = 2000


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
        self._codec, self._odom = JointStateCodec(JointState), DoublesCodec(Odometry, 85, child_frame=True)
        self._commands = JointStateCodec(JointState)
        node.listen(JointState, "virtual/joint_states", self._on_joints, INTERNAL)
        node.listen(Odometry, "virtual/odom", self._on_odom, INTERNAL)
        node.create_subscription(Float64MultiArray, "virtual/contacts", self._on_contacts, INTERNAL)
        s = node.settings
        node.listen(JointState, s.commands_topic, self._on_command, SENSOR_IN)
        node.create_subscription(JointTrajectory, s.trajectory_topic, self._on_trajectory, INTERNAL)

    def _on_joints(self, data: bytes) -> None:
        m, model = self._codec.read(data), self._robot.model
        if len(m.position) != len(m.names) or len(m.velocity) != len(m.names):
            return self._node.tally.reject("virtual/joint_states", "size")
        q, qd = self._robot.joints.stand.copy(), np.zeros(model.n)
        for i, name in enumerate(m.names):
            k = model.joint_index.get(name)
            if k is not None:
                q[k], qd[k] = m.position[i], m.velocity[i]
        effort = None
        if len(m.effort) == len(m.names):
            effort = np.zeros(model.n)
            for i, name in enumerate(m.names):
                k = model.joint_index.get(name)
                if k is not None and np.isfinite(m.effort[i]):
                    effort[k] = m.effort[i]
        self._joints = m.stamp_ns, q, qd, effort
        return self._complete()

    def _on_contacts(self, m: Float64MultiArray) -> None:
        """Which feet stand; comes before the odometry of its stamp. While nobody says, all do."""
        feet = len(self._robot.config.feet)
        if len(m.data) != 2 + feet + 1:
            return self._node.tally.reject("virtual/contacts", "size")
        self._contacts = int(m.data[0]) * 10**9 + int(m.data[1]), tuple(x > 0.5 for x in m.data[2 : 2 + feet])
        return None

    def _on_odom(self, data: bytes) -> None:
        """The other half of a state; both halves bear one stamp, and either may come first."""
        m = self._odom.read(data)
        v = m.values
        if not np.isfinite(v).all():
            return self._node.tally.reject("virtual/odom", "not finite")
        try:
            rotation = matrix_from_quat(v[3:7])
        except ValueError:
            return self._node.tally.reject("virtual/odom", "quaternion")
        self._base = BaseState(
            m.stamp_ns, v[:3], rotation, v[43:46], v[46:49], v[7:43].reshape(6, 6), v[49:85].reshape(6, 6),
            self._contacts[1], True,
        )  # fmt: skip
        return self._complete()

    def _complete(self) -> None:
        if self._joints is not None and self._base is not None and self._joints[0] == self._base.stamp_ns:
            stamp, q, qd, effort = self._joints
            self._arrived(State(stamp, q, qd, self._base, effort))

    def _on_command(self, data: bytes) -> None:
        """A command in the robot's own names, signs and zeros, or in the URDF's on virtual/joint_commands."""
        m, robot = self._commands.read(data), self._robot
        own = self._node.settings.commands_topic.rsplit("/", 1)[0] == "virtual"
        names = robot.model.joint_names if own else robot.joints.reported_names
        n = len(m.names)
        if not n or len(m.position) not in (0, n) or len(m.velocity) not in (0, n) or len(m.effort) not in (0, n):
            return self._node.tally.reject(self._node.settings.commands_topic, "size")
        if not len(m.position):
            return None  # joints let go: there is nothing that a position servo could follow
        index_of = {name: i for i, name in enumerate(names)}
        if not set(m.names) <= set(index_of):
            self._node.tally.reject(self._node.settings.commands_topic, "unknown_joint")
        q, qd, effort = np.full(len(names), np.nan), np.zeros(len(names)), np.zeros(len(names))
        for i, name in enumerate(m.names):
            k = index_of.get(name)
            if k is not None:
                q[k] = m.position[i]
                qd[k] = m.velocity[i] if len(m.velocity) else 0.0
                effort[k] = m.effort[i] if len(m.effort) else 0.0
        if not own:
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
