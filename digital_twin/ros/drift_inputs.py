"""What drift_monitor reads: the robot's checked topics, the commands, and the synchronizer's odometry and innovations."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Imu, JointState, LaserScan
from std_msgs.msg import Float64MultiArray

from digital_twin.core.arrays import Array
from digital_twin.core.drift.monitor import Monitor
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.statistics import Recent
from digital_twin.robots import Robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, MalformedError
from digital_twin.ros.labelled import LabelledReader
from digital_twin.ros.node import TwinNode
from digital_twin.ros.odometry import OdometryReader
from digital_twin.ros.qos import ALL_OF_THEM, INTERNAL, SENSOR_IN

LOADED = 0.25  # share of the weight above which a foot stands


class DriftInputs:
    """Subscribes, and feeds a monitor.

    Attributes:
        latency: from the stamp of joint states to when their callback begins [ms], of some seconds.
    """

    def __init__(self, node: TwinNode[Any], robot: Robot, monitor: Monitor) -> None:
        self._node, self._robot = node, robot
        self.monitor = monitor
        self._index_of = robot.model.joint_index
        self._order: tuple[tuple[str, ...], Array] = ((), np.zeros(0, dtype=np.intp))
        feet = robot.config.feet
        self._loads, self._weight = np.full(len(feet), np.inf), robot.model.mass * 9.81
        self._labelled = LabelledReader()
        self.latency = Recent(1000)
        self._joints_codec, self._command_codec = JointStateCodec(JointState), JointStateCodec(JointState)
        self._odom = OdometryReader(node)
        node.listen(JointState, "physical/joint_states", self._joints, ALL_OF_THEM)
        if robot.config.imus:
            self._listen_imu(robot.config.imus[0].topic)
        wrench = DoublesCodec(WrenchStamped, 6)
        for i, foot in enumerate(feet):
            if foot.wrench_topic:
                self._listen_foot(i, foot.wrench_topic, wrench)
        self._pose_codec = DoublesCodec(PoseWithCovarianceStamped, 43)
        node.listen(PoseWithCovarianceStamped, "physical/external_pose", self._pose, INTERNAL)
        node.listen(LaserScan, "physical/scan", self._scan, INTERNAL)
        node.listen(JointState, node.settings.commands_topic, self._command, SENSOR_IN)
        node.listen(Odometry, "virtual/odom", self._base, ALL_OF_THEM)
        node.listen(Float64MultiArray, "twin/innovations", self._innovations, ALL_OF_THEM)

    def _heard(self, stream: str, stamp_ns: int, content: bytes) -> int:
        """Time of arrival [ns]."""
        now = self._node.now_ns()
        self.monitor.heard(stream, stamp_ns, now, zlib.crc32(content))
        return now

    def _joints(self, data: bytes) -> None:
        m = self._joints_codec.read(data)
        if m.names != self._order[0]:
            self._order = (m.names, np.array([self._index_of.get(name, -1) for name in m.names], dtype=np.intp))
        q, qd, effort = (self._in_model_order(x) for x in (m.position, m.velocity, m.effort))
        if q is None:
            return self._node.tally.reject("physical/joint_states", "size")
        arrival = self._heard("joint_states", m.stamp_ns, m.position.tobytes())
        self.latency.add(1e-6 * (arrival - m.stamp_ns))
        return self.monitor.joints(m.stamp_ns, q, qd, effort)

    def _in_model_order(self, values: Array) -> Array | None:
        """Values of a message in the order of the model (n,), NaN where there is none; None when they do not fit."""
        order, n = self._order[1], len(self._index_of)
        if len(values) != len(order) or not len(values):
            return None
        out = np.full(n + 1, np.nan)  # the last place takes joints that are not of this robot
        out[order] = values
        return out[:n]

    def _listen_imu(self, topic: str) -> None:
        codec = DoublesCodec(Imu, 37)

        def receive(data: bytes) -> None:
            m = codec.read(data)
            self._heard(topic, m.stamp_ns, m.values[13:31].tobytes())
            self.monitor.imu(m.stamp_ns, m.values[13:16], m.values[25:28])

        self._node.listen(Imu, f"physical/{topic}", receive, ALL_OF_THEM)

    def _listen_foot(self, foot: int, topic: str, codec: DoublesCodec) -> None:
        def receive(data: bytes) -> None:
            m = codec.read(data)
            self._heard(topic, m.stamp_ns, m.values.tobytes())
            self._loads[foot] = m.values[2]
            self.monitor.wrench(m.stamp_ns, foot, m.values)

        self._node.listen(WrenchStamped, f"physical/{topic}", receive, ALL_OF_THEM)

    def _pose(self, data: bytes) -> None:
        m = self._pose_codec.read(data)
        v = m.values
        try:
            rotation = matrix_from_quat(v[3:7])
        except ValueError:
            return self._node.tally.reject("physical/external_pose", "quaternion")
        self._heard("external_pose", m.stamp_ns, v[:7].tobytes())
        return self.monitor.pose(m.stamp_ns, v[:3], rotation, v[7:43].reshape(6, 6))

    def _scan(self, data: bytes) -> None:
        try:
            m = deserialize_message(data, LaserScan)
        except Exception as e:  # rclpy raises RMWError, or nothing better than RuntimeError
            raise MalformedError("cannot be deserialised") from e
        ranges = np.array(m.ranges, dtype=np.float64)
        angles = m.angle_min + m.angle_increment * np.arange(len(ranges))
        stamp = m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
        self._heard("scan", stamp, ranges.tobytes())
        self.monitor.scan(stamp, angles, ranges, (m.range_min, m.range_max))

    def _command(self, data: bytes) -> None:
        """A command in the robot's own names, signs and zeros."""
        m, j = self._command_codec.read(data), self._robot.joints
        n = len(m.names)
        if not n or len(m.position) not in (0, n) or len(m.velocity) not in (0, n) or len(m.effort) not in (0, n):
            return self._node.tally.reject(self._node.settings.commands_topic, "size")
        if not len(m.position):
            return None  # joints let go: there is no servo
        index_of = {name: i for i, name in enumerate(j.reported_names)}
        given = np.full((3, len(index_of)), np.nan)
        for row, values in enumerate((m.position, m.velocity, m.effort)):
            for name, value in zip(m.names, values, strict=False):
                if name in index_of:
                    given[row, index_of[name]] = value
        q, qd, effort = j.factor * given[0] + j.offset, j.factor * given[1], given[2] / j.factor
        return self.monitor.command(m.stamp_ns, q, qd, effort)

    def _base(self, data: bytes) -> None:
        stands = tuple((self._loads > LOADED * self._weight).tolist())
        base = self._odom.read(data, stands)
        if base is not None:
            self.monitor.base(base)

    def _innovations(self, data: bytes) -> None:
        stamp, values = self._labelled.read(data)
        self.monitor.innovations(stamp, values)
