"""physical_bridge: is this data fit to use, and may this command go down?

Reads the robot's topics, checks and calibrates every message, and passes what is good on under physical/…, stamps
unchanged. Takes virtual/joint_commands down to joint_commands within limits, through a gate.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState, LaserScan
from std_msgs.msg import Int64MultiArray
from std_srvs.srv import SetBool, Trigger

from digital_twin.core.arrays import Array
from digital_twin.core.command_gate import Command, CommandGate
from digital_twin.core.intake import ImuIntake, JointIntake, check_pose, check_wrench
from digital_twin.core.rotation import matrix_from_quat, quat_from_matrix
from digital_twin.core.stamps import StampGuard
from digital_twin.robots import load_robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, stamp_ns
from digital_twin.ros.commands import CommandWriter
from digital_twin.ros.node import TwinNode, run
from digital_twin.ros.qos import INTERNAL, SENSOR_IN
from digital_twin.settings import BridgeSettings

TICK = 0.05


class PhysicalBridge(TwinNode[BridgeSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("physical_bridge", BridgeSettings, "twin/bridge_status")
        s = self.settings
        self._robot = load_robot(s.robot_description, s.robot_config)
        for note in self._robot.notes:
            self.get_logger().info(note)
        self._sim_time = self.get_parameter("use_sim_time").value
        self._stamp_guards: dict[str, StampGuard] = {}
        self._arrivals: deque[tuple[int, int]] = deque(maxlen=4096)
        self._arrivals_out = self.create_publisher(Int64MultiArray, "twin/arrivals", INTERNAL)
        self._read_joints()
        self._read_imus()
        self._read_feet()
        self._read_poses()
        self._open_commands()
        self.every(TICK, self._tick)
        self.every(0.5, self._slow_tick)

    def _arrival_ns(self) -> int:
        return self.now_ns() if self._sim_time else time.time_ns()

    # Up: from the robot to physical/…

    def _in_time(self, topic: str, stamp: int, content: bytes) -> bool:
        guard = self._stamp_guards.get(topic)
        if guard is None:
            guard = self._stamp_guards[topic] = StampGuard(self.settings.stamps)
        steps = guard.clock_steps
        reason = guard.check(stamp, self._arrival_ns(), hash(content))
        if guard.clock_steps != steps:
            self.say_once("warning", f"{topic}: the clock of its stamps was stepped; following it", 1.0)
        if reason is not None:
            self.tally.reject(topic, reason)
        return reason is None

    def _read_joints(self) -> None:
        codec = JointStateCodec(JointState)
        intake = JointIntake(self._robot.model, self._robot.joints, self.settings.intake)
        publish = self.talk(JointState, "physical/joint_states", INTERNAL)
        names = self._robot.model.joint_names
        writers: dict[bytes, Any] = {}

        def receive(data: bytes) -> None:
            start = time.perf_counter_ns()
            arrival = time.time_ns()
            m = codec.read(data)
            if not self._in_time("joint_states", m.stamp_ns, m.position.tobytes()):
                return
            result = intake.check(m.names, m.position, m.velocity, m.effort)
            if isinstance(result, str):
                self.tally.reject("joint_states", result)
                return
            for reason in result.rejected:
                self.tally.reject("joint_states", reason)
            if "unknown_joint" in result.rejected:
                self.say_once("warning", f"joint_states: unknown joints: {', '.join(intake.unknown_names)}", 1e9)
            if not result.unchanged:
                key = result.index.tobytes()
                if key not in writers:
                    if len(writers) > 64:
                        writers.clear()
                    writers[key] = codec.writer(tuple(names[i] for i in result.index))
                data = writers[key].write(m.stamp_ns, result.q, result.qd, result.effort)
            publish(data)
            self._arrivals.append((m.stamp_ns, arrival))
            self._gate.measured(result.index, result.q)
            self.loop.add((time.perf_counter_ns() - start) / 1e6)

        self.listen(JointState, "joint_states", receive, SENSOR_IN)

    def _read_imus(self) -> None:
        for i, imu in enumerate(self._robot.config.imus):
            self._read_imu(imu.topic, ImuIntake(self._robot.config, i, self.settings.intake))

    def _read_imu(self, topic: str, intake: ImuIntake) -> None:
        codec = DoublesCodec(Imu, 37)
        publish = self.talk(Imu, f"physical/{topic}", INTERNAL)
        writers: dict[str, Any] = {}

        def receive(data: bytes) -> None:
            m = codec.read(data)
            v = m.values
            if not self._in_time(topic, m.stamp_ns, v.tobytes()):
                return
            result = intake.check(v[13:16], v[25:28])
            if isinstance(result, str):
                self.tally.reject(topic, result)
                return
            clean = _imu_attitude(v, intake)
            if clean is not None or not intake.identity:
                values = v.copy() if clean is None else clean
                values[13:16], values[25:28] = result
                if m.frame not in writers:
                    writers[m.frame] = codec.writer(m.frame)
                data = writers[m.frame].write(m.stamp_ns, values)
            publish(data)

        self.listen(Imu, topic, receive, SENSOR_IN)

    def _read_feet(self) -> None:
        codec = DoublesCodec(WrenchStamped, 6)
        for foot in self._robot.config.feet:
            if foot.wrench_topic:
                self._read_foot(foot.wrench_topic, foot.wrench_sign, codec)

    def _read_foot(self, topic: str, sign: float, codec: DoublesCodec) -> None:
        publish = self.talk(WrenchStamped, f"physical/{topic}", INTERNAL)

        def receive(data: bytes) -> None:
            m = codec.read(data)
            if not self._in_time(topic, m.stamp_ns, m.values.tobytes()):
                return
            reason = check_wrench(m.values, self.settings.intake)
            if reason is not None:
                self.tally.reject(topic, reason)
                return
            publish(data if sign > 0 else codec.writer(m.frame).write(m.stamp_ns, -m.values))

        self.listen(WrenchStamped, topic, receive, SENSOR_IN)

    def _read_poses(self) -> None:
        pose = DoublesCodec(PoseWithCovarianceStamped, 43)
        odometry = DoublesCodec(Odometry, 85, child_frame=True)
        self._read_pose(PoseWithCovarianceStamped, "external_pose", pose)
        self._read_pose(Odometry, "odom", odometry)
        publish = self.talk(LaserScan, "physical/scan", INTERNAL)

        def scan(data: bytes) -> None:
            if self._in_time("scan", stamp_ns(data), data):
                publish(data)

        self.listen(LaserScan, "scan", scan, SENSOR_IN)

    def _read_pose(self, message_type: Any, topic: str, codec: DoublesCodec) -> None:
        publish = self.talk(message_type, f"physical/{topic}", INTERNAL)

        def receive(data: bytes) -> None:
            m = codec.read(data)
            if not self._in_time(topic, m.stamp_ns, m.values.tobytes()):
                return
            reason = check_pose(m.values[:3], m.values[3:7], m.values[7:43].reshape(6, 6))
            if reason is not None:
                self.tally.reject(topic, reason)
            else:
                publish(data)

        self.listen(message_type, topic, receive, SENSOR_IN)

    # Down: from virtual/joint_commands to the robot

    def _open_commands(self) -> None:
        s = self.settings
        self._gate = CommandGate(self._robot.model, s.commands)
        self._write = CommandWriter(self, self._robot, s.command_output, s.command_joints)
        codec = JointStateCodec(JointState)
        index_of = self._robot.model.joint_index

        def receive(data: bytes) -> None:
            m = codec.read(data)
            n = len(m.names)
            if not n or len(m.position) != n or len(m.velocity) not in (0, n) or len(m.effort) not in (0, n):
                return self.tally.reject("virtual/joint_commands", "size")
            known = [i for i, name in enumerate(m.names) if name in index_of]
            if len(known) < n:
                self.tally.reject("virtual/joint_commands", "unknown_joint")
            index = np.array([index_of[m.names[i]] for i in known], dtype=np.intp)
            q, qd, effort = (None if not len(x) else x[known] for x in (m.position, m.velocity, m.effort))
            if q is None or not len(index):
                return None
            result = self._gate.accept(index, q, qd, effort, time.monotonic_ns())
            if isinstance(result, str):
                return self.tally.reject("virtual/joint_commands", result)
            return self._write(m.stamp_ns, result)

        self.listen(JointState, "virtual/joint_commands", receive, INTERNAL)
        self.listen(DiagnosticArray, "twin/sync_status", lambda _: self._gate.twin_alive(time.monotonic_ns()), INTERNAL)
        self.create_service(Trigger, "~/emergency_stop", self._emergency_stop)
        self.create_service(SetBool, "~/enable_commands", self._enable_commands)

    def _send(self, command: Command | None) -> None:
        if command is not None:
            self._write(self.now_ns(), command)

    def _emergency_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._send(self._gate.emergency_stop())
        self.get_logger().error("emergency stop")
        response.success, response.message = True, "stopped; ~/enable_commands lifts it"
        return response

    def _enable_commands(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = True, self._gate.enable(request.data)
        self.get_logger().info(response.message)
        return response

    def _tick(self) -> None:
        self._send(self._gate.tick(time.monotonic_ns()))

    def _slow_tick(self) -> None:
        infos = self.get_publishers_info_by_topic(self.resolve_topic_name("virtual/joint_commands"))
        self._gate.sources(tuple(f"{i.node_namespace.rstrip('/')}/{i.node_name}" for i in infos))
        if self._arrivals:
            self._arrivals_out.publish(Int64MultiArray(data=array("q", [x for pair in self._arrivals for x in pair])))
            self._arrivals.clear()

    # Status

    def status(self) -> tuple[int, str, dict[str, object]]:
        """What is refused now, and whether commands pass."""
        closed = self._gate.why_closed(time.monotonic_ns())
        values: dict[str, object] = {"commands": closed or "open"}
        for topic, guard in self._stamp_guards.items():
            values[f"late/{topic}"] = guard.late
            values[f"clock_steps/{topic}"] = guard.clock_steps
        words = [closed] if self._gate.stopped else []
        if self._stamp_guards and not self._robot.config.imus:
            words.append("no IMU in the robot config")
        return (2 if self._gate.stopped else 1 if words else 0), "; ".join(words), values


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


def main() -> None:
    """Entry point."""
    run("physical_bridge", PhysicalBridge, BridgeSettings)


if __name__ == "__main__":
    main()
