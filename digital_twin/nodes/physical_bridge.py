"""physical_bridge: is this data fit to use, and may this command go down?

Reads the robot's topics, checks and calibrates every message, and passes what is good on under physical/…, stamps
unchanged. Takes virtual/joint_commands down to joint_commands within limits, through a gate, unless the safety monitor
refuses them.
"""

from __future__ import annotations

from array import array
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Int64MultiArray
from std_srvs.srv import SetBool, Trigger

from digital_twin.core.command_gate import Command, CommandGate
from digital_twin.core.intake import JointIntakeResult
from digital_twin.core.safety import SafetyMonitor
from digital_twin.robots import load_robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.commands import CommandWriter
from digital_twin.ros.intake_topics import IntakeTopics
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.qos import INTERNAL
from digital_twin.settings import BridgeSettings

TICK = 0.05
PATIENCE = 15.0  # [s] with a recorder that does not get ready


class PhysicalBridge(TwinNode[BridgeSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("physical_bridge", BridgeSettings, "twin/bridge_status", journal=True)
        s = self.settings
        self._robot = load_robot(s.robot_description, s.robot_config)
        for note in self._robot.notes:
            self.get_logger().info(note)
        self._arrivals: deque[tuple[int, int]] = deque(maxlen=4096)
        self._arrivals_out = self.create_publisher(Int64MultiArray, "twin/arrivals", INTERNAL)
        self._open_commands()
        self._intake = IntakeTopics(self, self._robot, self._arrived, self._safety)
        if s.wait_for_recorder:
            self.waiting, self._patient_until = True, self.steady_ns + round(PATIENCE * 1e9)
            self.create_subscription(DiagnosticArray, "twin/recorder_status", self._recorder_said, INTERNAL)
        self.every(TICK, self._tick)
        self.every(0.5, self._slow_tick)

    def _arrived(self, stamp: int, arrival: int, joints: JointIntakeResult) -> None:
        self._arrivals.append((stamp, arrival))
        self._gate.measured(joints.index, joints.q)

    def _recorder_said(self, message: DiagnosticArray) -> None:
        """Only from now on is everything recorded that the twin hears."""
        if self.waiting and any(v.key == "ready" and v.value == "1" for v in message.status[0].values):
            self.waiting = False
            self.get_logger().info("the recorder is ready")

    # Down: from virtual/joint_commands to the robot

    def _open_commands(self) -> None:
        s = self.settings
        self._gate = CommandGate(self._robot.model, s.commands)
        self._safety = SafetyMonitor(self._robot.model, self._robot.config, self._robot.joints, s.safety)
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
            result = self._gate.accept(index, q, qd, effort, self.steady_ns, self._veto)
            if isinstance(result, str):
                return self.tally.reject("virtual/joint_commands", result)
            return self._write(m.stamp_ns, result)

        self.listen(JointState, "virtual/joint_commands", receive, INTERNAL)
        self.listen(DiagnosticArray, "twin/sync_status", lambda _: self._gate.twin_alive(self.steady_ns), INTERNAL)
        self.serve(Trigger, "~/emergency_stop", self._emergency_stop)
        self.serve(SetBool, "~/enable_commands", self._enable_commands)

    def _veto(self, command: Command) -> str:
        kind = self._safety.check(command, self.steady_ns)
        if kind:
            self.say_once("warning", f"command refused: {self._safety.words}", 2.0)
        return f"safety_{kind}" if kind else ""

    def _send(self, command: Command | None) -> None:
        if command is not None:
            self._write(self.now_ns(), command)

    def _emergency_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._send(self._gate.emergency_stop())
        self.get_logger().error("emergency stop")
        self._publish_status()  # at once: who records or watches must not miss a short one
        response.success, response.message = True, "stopped; ~/enable_commands lifts it"
        return response

    def _enable_commands(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = True, self._gate.enable(request.data)
        self.get_logger().info(response.message)
        return response

    def _tick(self) -> None:
        self._send(self._gate.tick(self.steady_ns))

    def _slow_tick(self) -> None:
        if self.waiting and self.steady_ns > self._patient_until:
            self.waiting = False
            self.get_logger().warning("the recorder is not ready; going on without it")
        infos = self.get_publishers_info_by_topic(self.resolve_topic_name("virtual/joint_commands"))
        self._gate.sources(tuple(f"{i.node_namespace.rstrip('/')}/{i.node_name}" for i in infos))
        if self._arrivals:
            self._arrivals_out.publish(Int64MultiArray(data=array("q", [x for pair in self._arrivals for x in pair])))
            self._arrivals.clear()

    # Status

    def status(self) -> tuple[int, str, dict[str, object]]:
        """What is refused now, and whether commands pass."""
        closed = self._gate.why_closed(self.steady_ns)
        values: dict[str, object] = {"commands": closed or "open"}
        for topic, guard in self._intake.guards.items():
            values[f"late/{topic}"] = guard.late
            values[f"clock_steps/{topic}"] = guard.clock_steps
        words = [closed] if self._gate.stopped else []
        if self._safety.words:
            words.append(f"commands are refused: {self._safety.words}")
        if self._intake.guards and not self._robot.config.imus:
            words.append("no IMU in the robot config")
        return (2 if self._gate.stopped else 1 if words else 0), "; ".join(words), values


def main() -> None:
    """Entry point."""
    run("physical_bridge", PhysicalBridge, BridgeSettings)


if __name__ == "__main__":
    main()
