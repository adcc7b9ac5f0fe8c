"""gait_controller: walks where cmd_vel says, keeps its balance, and falls softly when it cannot.

One command on virtual/joint_commands for each state of the twin; what it does is on twin/gait: stand, walk, recover,
fall or sit.
"""

from __future__ import annotations

import math
import time

import numpy as np
from geometry_msgs.msg import Twist
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from digital_twin.core.arrays import Array
from digital_twin.core.gait.controller import GaitCommand, GaitController
from digital_twin.core.gait.gait_config import Gait, load_gait, robot_gait
from digital_twin.core.gait.try_first import Answer, Asked, TryFirst
from digital_twin.core.ground import Ground
from digital_twin.core.synchronizer import VirtualState
from digital_twin.gate_worker import GateWorker
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.gait_inputs import GaitInputs
from digital_twin.ros.model_follower import ModelFollower
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.qos import INTERNAL, LATCHED
from digital_twin.settings import GaitSettings

NS = 1_000_000_000
TICK = 0.01
LOOK = 50_000_000  # [ns] between looks at the ground under the feet
DETAILS = ("dcm_margin", "zmp_margin", "dcm_error", "velocity_x", "velocity_y", "velocity_turn")


class GaitControllerNode(TwinNode[GaitSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("gait_controller", GaitSettings, "twin/gait_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        gait = load_gait(find(s.gait, "config/gaits")) if s.gait else robot_gait(robot.config, robot.where)
        self.controller = GaitController(robot.model, robot.config, robot.joints, gait)
        self._gait = gait
        self._writer = JointStateCodec(JointState).writer(tuple(robot.model.joint_names))
        self._send = self.talk(JointState, "virtual/joint_commands", INTERNAL)
        self._tell = self.create_publisher(String, "twin/gait", LATCHED)
        self._details = self.talk_labelled("twin/gait_details", DETAILS)
        self._state: VirtualState | None = None
        self._worker: GateWorker | None = None
        self._gate = self._open_gate(gait) if s.gate == "twin" else None
        self._ground, self._looked_ns = Ground(robot.model, robot.config, robot.joints.zero_error), 0
        self._told, self._why, self._asked_wrong = "", "", ""
        self._stamp_ns, self._heard_ns = 0, 0
        self._inputs = GaitInputs(self, robot, self._step)
        ModelFollower(self, robot, self._make, self._use).look_often()
        self.listen(Twist, "cmd_vel", self._on_velocity, INTERNAL)
        self.serve(Trigger, "~/sit", self._sit)
        self.serve(Trigger, "~/stand", self._stand)
        self.every(TICK, self._watch)

    # In

    def _on_velocity(self, data: bytes) -> None:
        try:
            m = deserialize_message(data, Twist)
        except Exception:  # rclpy raises nothing better
            self.tally.reject("cmd_vel", "malformed")
            return
        velocity, held = self._allowed((m.linear.x, m.linear.y, m.angular.z))
        wrong = self.controller.request(*velocity, self._stamp_ns) or held
        if wrong:
            self.tally.reject("cmd_vel", _kind(wrong))
            self.say_once("warning", wrong)
        self._asked_wrong = wrong

    # The model in service

    def _make(self, robot: Robot) -> tuple[Robot, GaitController]:
        return robot, GaitController(robot.model, robot.config, robot.joints, self._gait)

    def _use(self, made: tuple[Robot, GaitController]) -> None:
        """Another model is in service. In mid-step, too: what the controller remembers is of no model."""
        robot, controller = made
        ground = Ground(robot.model, robot.config, robot.joints.zero_error)
        ground.normal = self._ground.normal
        self._ground = ground
        controller.restore(self.controller.snapshot())
        self.controller = controller
        if self._worker is not None and self._gate is not None:
            self._worker.use(robot)
            self._gate.forget()
        self.get_logger().info(f"another model is in service: {robot.where}")

    # The gate

    def _open_gate(self, gait: Gait) -> TryFirst:
        s = self.settings
        self._worker = GateWorker(s.robot_description, s.robot_config, gait, s.trial, self._now, s.gate_world)
        return TryFirst(self._worker, s.gate_patience)

    def _now(self) -> tuple[VirtualState | None, object, Array]:
        return self._state, self.controller.snapshot(), self._ground.normal

    def _allowed(self, velocity: Asked) -> Answer:
        if self._gate is None or self._state is None or not all(map(math.isfinite, velocity)):
            return Answer(velocity, "")  # the controller says what is wrong with it
        return self._gate.ask(velocity, self.now_ns())

    def destroy_node(self) -> None:
        """Also the process in which commands are tried."""
        if self._worker is not None:
            self._worker.close()
        super().destroy_node()

    def _step(self, state: VirtualState, wrenches: Array) -> None:
        start = time.perf_counter_ns()
        self._state = state
        if self._gate is not None and abs(state.stamp_ns - self._looked_ns) >= LOOK:
            self._looked_ns = state.stamp_ns
            self._ground.update(state.base, state.q)
        self._stamp_ns, self._heard_ns = state.stamp_ns, self.now_ns()
        self._publish(self.controller.step(state, wrenches), state.stamp_ns)
        self.loop.add((time.perf_counter_ns() - start) / 1e6)
        self._details(state.stamp_ns, lambda: np.array(self.controller.details()))

    def _watch(self) -> None:
        """The estimate may be lost in mid-step: the robot is not left with its last command."""
        silent = self.now_ns() - self._heard_ns
        if self._stamp_ns and silent > self.settings.state_timeout * NS:
            stamp = self._stamp_ns + silent
            self._publish(self.controller.lost(stamp), stamp)

    # Out

    def _publish(self, c: GaitCommand, stamp_ns: int) -> None:
        self._send(self._writer.write(stamp_ns, c.q, c.qd, c.effort))
        phase, why = self.controller.phase, self.controller.why
        if phase != self._told:
            self._told = phase
            self._tell.publish(String(data=phase))
            self.get_logger().info(f"{phase}: {why}" if why else phase)
        kind = why.split(" for ")[0].split(":")[0]  # without the numbers that change
        if kind and kind != self._why:
            self.get_logger().warning(why)
        self._why = kind

    def _sit(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.controller.sit()
        response.success, response.message = True, "goes down; ~/stand ends it"
        return response

    def _stand(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.controller.stand()
        response.success, response.message = True, "stands"
        return response

    def status(self) -> tuple[int, str, dict[str, object]]:
        """What it does, and what it was asked that could not be done."""
        c = self.controller
        if not self._stamp_ns:
            return 0, "waiting for the twin's state", {}
        words = [w for w in (c.why, self._asked_wrong) if w]
        level = 2 if c.phase == "fall" else 1 if words else 0
        velocity = dict(zip(("vx", "vy", "wz"), map(float, c.velocity), strict=True))
        return level, "; ".join(words), {"phase": c.phase, **velocity}


def _kind(wrong: str) -> str:
    if "refused" in wrong:
        return "refused_by_the_gate"
    if "tries it first" in wrong:
        return "being_tried"
    return "not_a_velocity" if "not a velocity" in wrong else "too_much"


def main() -> None:
    """Entry point."""
    run("gait_controller", GaitControllerNode, GaitSettings)


if __name__ == "__main__":
    main()
