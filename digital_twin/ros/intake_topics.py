"""From the robot's topics to physical/…: every message checked and calibrated, stamps unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState, LaserScan

from digital_twin.core.arrays import Array
from digital_twin.core.intake import ImuIntake, JointIntake, JointIntakeResult, check_pose, check_wrench
from digital_twin.core.rotation import matrix_from_quat, quat_from_matrix
from digital_twin.core.safety import SafetyMonitor
from digital_twin.core.stamps import StampGuard
from digital_twin.robots import Robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, stamp_ns
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL, SENSOR_IN
from digital_twin.settings import BridgeSettings


class IntakeTopics:
    """Subscribes, checks, forwards. `on_joints(stamp, arrival, joints)` [ns] is told of each joint message that passed,
    `safety` of what joints, the first IMU and the feet say.

    Attributes:
        guards: by topic, what judges its stamps.
    """

    def __init__(
        self, node: TwinNode[BridgeSettings], robot: Robot, on_joints: Callable[[int, int, JointIntakeResult], None],
        safety: SafetyMonitor,
    ) -> None:  # fmt: skip
        self._node, self._robot, self._on_joints, self._safety = node, robot, on_joints, safety
        self._settings = node.settings
        self.guards: dict[str, StampGuard] = {}
        self._read_joints()
        for i, imu in enumerate(robot.config.imus):
            self._read_imu(imu.topic, ImuIntake(robot.config, i, self._settings.intake), watched=i == 0)
        wrench = DoublesCodec(WrenchStamped, 6)
        for i, foot in enumerate(robot.config.feet):
            if foot.wrench_topic:
                self._read_foot(i, foot.wrench_topic, foot.wrench_sign, wrench)
        self._read_pose(PoseWithCovarianceStamped, "external_pose", DoublesCodec(PoseWithCovarianceStamped, 43))
        self._read_pose(Odometry, "odom", DoublesCodec(Odometry, 85, child_frame=True))
        self._read_scan()

    def _in_time(self, topic: str, stamp: int, content: bytes) -> bool:
        guard = self.guards.get(topic)
        if guard is None:
            guard = self.guards[topic] = StampGuard(self._settings.stamps)
        steps = guard.clock_steps
        reason = guard.check(stamp, self._node.now_ns(), hash(content))
        if guard.clock_steps != steps:
            self._node.say_once("warning", f"{topic}: the clock of its stamps was stepped; following it", 1.0)
        if reason is not None:
            self._node.tally.reject(topic, reason)
        return reason is None

    def _read_joints(self) -> None:
        codec = JointStateCodec(JointState)
        intake = JointIntake(self._robot.model, self._robot.joints, self._settings.intake)
        publish = self._node.talk(JointState, "physical/joint_states", INTERNAL)
        names = self._robot.model.joint_names
        writers: dict[bytes, Any] = {}

        def receive(data: bytes) -> None:
            start = self._node.stopwatch_ns()
            m = codec.read(data)
            if not self._in_time("joint_states", m.stamp_ns, m.position.tobytes()):
                return
            result = intake.check(m.names, m.position, m.velocity, m.effort)
            if isinstance(result, str):
                self._node.tally.reject("joint_states", result)
                return
            for reason in result.rejected:
                self._node.tally.reject("joint_states", reason)
            if "unknown_joint" in result.rejected:
                self._node.say_once("warning", f"joint_states: unknown joints: {', '.join(intake.unknown_names)}", 1e9)
            if not result.unchanged:
                key = result.index.tobytes()
                if key not in writers:
                    if len(writers) > 64:
                        writers.clear()
                    writers[key] = codec.writer(tuple(names[i] for i in result.index))
                data = writers[key].write(m.stamp_ns, result.q, result.qd, result.effort)
            publish(data)
            self._safety.measured(result.index, result.q, result.qd)
            self._on_joints(m.stamp_ns, self._node.arrival_ns, result)
            self._node.loop.add((self._node.stopwatch_ns() - start) / 1e6)

        self._node.listen(JointState, "joint_states", receive, SENSOR_IN)

    def _read_imu(self, topic: str, intake: ImuIntake, watched: bool) -> None:
        codec = DoublesCodec(Imu, 37)
        publish = self._node.talk(Imu, f"physical/{topic}", INTERNAL)
        writers: dict[str, Any] = {}

        def receive(data: bytes) -> None:
            m = codec.read(data)
            v = m.values
            if not self._in_time(topic, m.stamp_ns, v.tobytes()):
                return
            result = intake.check(v[13:16], v[25:28])
            if isinstance(result, str):
                self._node.tally.reject(topic, result)
                return
            clean = _imu_attitude(v, intake)
            if clean is not None or not intake.identity:
                values = v.copy() if clean is None else clean
                values[13:16], values[25:28] = result
                if m.frame not in writers:
                    writers[m.frame] = codec.writer(m.frame)
                data = writers[m.frame].write(m.stamp_ns, values)
            publish(data)
            if watched:
                self._safety.imu(self._node.steady_ns, *result)

        self._node.listen(Imu, topic, receive, SENSOR_IN)

    def _read_foot(self, i: int, topic: str, sign: float, codec: DoublesCodec) -> None:
        publish = self._node.talk(WrenchStamped, f"physical/{topic}", INTERNAL)

        def receive(data: bytes) -> None:
            m = codec.read(data)
            if not self._in_time(topic, m.stamp_ns, m.values.tobytes()):
                return
            reason = check_wrench(m.values, self._settings.intake)
            if reason is not None:
                self._node.tally.reject(topic, reason)
                return
            publish(data if sign > 0 else codec.writer(m.frame).write(m.stamp_ns, -m.values))
            self._safety.foot(i, self._node.steady_ns, sign * float(m.values[2]))

        self._node.listen(WrenchStamped, topic, receive, SENSOR_IN)

    def _read_scan(self) -> None:
        publish = self._node.talk(LaserScan, "physical/scan", INTERNAL)

        def receive(data: bytes) -> None:
            if self._in_time("scan", stamp_ns(data), data):
                publish(data)

        self._node.listen(LaserScan, "scan", receive, SENSOR_IN)

    def _read_pose(self, message_type: Any, topic: str, codec: DoublesCodec) -> None:
        publish = self._node.talk(message_type, f"physical/{topic}", INTERNAL)

        def receive(data: bytes) -> None:
            m = codec.read(data)
            if not self._in_time(topic, m.stamp_ns, m.values.tobytes()):
                return
            reason = check_pose(m.values[:3], m.values[3:7], m.values[7:43].reshape(6, 6))
            if reason is not None:
                self._node.tally.reject(topic, reason)
            else:
                publish(data)

        self._node.listen(message_type, topic, receive, SENSOR_IN)


def _imu_attitude(v: Array, intake: ImuIntake) -> Array | None:
    """The values of an Imu with its attitude corrected, or marked as not given when it is none; None: leave them."""
    if v[4] == -1.0:  # REP-145: orientation_covariance[0]
        return None
    quaternion = v[0:4]
    if np.isfinite(quaternion).all() and abs(float(np.linalg.norm(quaternion)) - 1.0) <= 0.1:
        if intake.identity:
            return None
        out = v.copy()
        out[0:4] = quat_from_matrix(intake.attitude(matrix_from_quat(quaternion)))
        return out
    out = v.copy()
    out[0:4], out[4] = (0.0, 0.0, 0.0, 1.0), -1.0
    return out
