"""command_script: a source of commands that makes the robot stand, sway, squat and wave (config/scripts/*.yaml).

It waits for virtual/joint_states, leads the joints from where they are to where the script begins, and plays it. What
it is going to command is announced on virtual/joint_trajectory, for who forecasts.
"""

from __future__ import annotations

import time

import numpy as np
from builtin_interfaces.msg import Duration
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from digital_twin.core.arrays import Array
from digital_twin.core.errors import TwinError
from digital_twin.core.script import Script, ScriptConfig, StepConfig, load_script, smooth_step
from digital_twin.paths import find, share
from digital_twin.robots import load_robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.qos import INTERNAL
from digital_twin.settings import ScriptSettings

PLAN_PERIOD, PLAN_AHEAD, PLAN_STEP = 0.5, 1.8, 0.05  # [s] of what is announced


class CommandScript(TwinNode[ScriptSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("command_script", ScriptSettings, "twin/command_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        config, where = self._script(robot.description.name)
        self._script_ = Script(config, robot.model, robot.joints.stand, where)
        self._names = robot.model.joint_names
        self._writer = JointStateCodec(JointState).writer(tuple(self._names))
        self._send = self.talk(JointState, "virtual/joint_commands", INTERNAL)
        self._announce = self.talk(JointTrajectory, "virtual/joint_trajectory", INTERNAL)
        self._next_plan = 0.0
        self._found: Array | None = None
        self._begin = self._next = time.monotonic()
        self._ear = self.create_subscription(JointState, "virtual/joint_states", self._find, INTERNAL)

    def status(self) -> tuple[int, str, dict[str, object]]:
        """Whether the robot has been found."""
        return (0, "", {}) if self._found is not None else (0, "waiting for virtual/joint_states", {})

    def _script(self, robot: str) -> tuple[ScriptConfig, str]:
        if self.settings.script:
            path = find(self.settings.script, "config/scripts")
            return load_script(path), str(path)
        try:
            path = share(f"config/scripts/{robot}.yaml")
        except TwinError:
            return ScriptConfig([StepConfig(1000.0, hold="stand")]), "script"
        return load_script(path), str(path)

    def _find(self, message: JointState) -> None:
        """The first joint states tell where to start from."""
        if self._found is None:
            known = dict(zip(message.name, message.position, strict=True))
            first, _ = self._script_.sample(0.0)
            self._found = np.array([known.get(n, q) for n, q in zip(self._names, first, strict=True)])
            self._begin = time.monotonic()

    def _set_points(self, found: Array, t: float) -> tuple[Array, Array]:
        """Positions and speeds t seconds after the robot was found."""
        lead = self.settings.lead_in
        if t >= lead:
            return self._script_.sample(t - lead)
        first, _ = self._script_.sample(0.0)
        w, dw = smooth_step(t / lead)
        return found + w * (first - found), (dw / lead) * (first - found)

    def work(self) -> float:
        """Send a command when one is due; returns how long [s] none is."""
        now = time.monotonic()
        if self._found is None:
            return 0.1
        if self._ear is not None:  # not from within its own callback
            self.destroy_subscription(self._ear)
            self._ear = None
        if now < self._next:
            return self._next - now
        self._next = max(self._next + 1.0 / self.settings.rate, now - 0.05)
        q, qd = self._set_points(self._found, now - self._begin)
        self._send(self._writer.write(self.now_ns(), q, qd))
        if now >= self._next_plan:
            self._next_plan = now + PLAN_PERIOD
            self._announce(self._plan(self._found, now - self._begin))
        return 0.0

    def _plan(self, found: Array, t: float) -> JointTrajectory:
        """The next seconds from time t on."""
        message = JointTrajectory(joint_names=self._names)
        message.header.stamp = self.get_clock().now().to_msg()
        for ahead in np.arange(0.0, PLAN_AHEAD, PLAN_STEP):
            q, qd = self._set_points(found, t + ahead)
            point = JointTrajectoryPoint(positions=q.tolist(), velocities=qd.tolist())
            point.time_from_start = Duration(sec=int(ahead), nanosec=round(1e9 * (ahead % 1.0)))
            message.points.append(point)
        return message


def main() -> None:
    """Entry point."""
    run("command_script", CommandScript, ScriptSettings)


if __name__ == "__main__":
    main()
