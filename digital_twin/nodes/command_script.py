"""command_script: a source of commands that makes the robot stand, sway, squat and wave (config/scripts/*.yaml)."""

from __future__ import annotations

import time

from sensor_msgs.msg import JointState

from digital_twin.core.errors import TwinError
from digital_twin.core.script import Script, ScriptConfig, StepConfig, load_script
from digital_twin.paths import find, share
from digital_twin.robots import load_robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.node import TwinNode, run
from digital_twin.ros.qos import INTERNAL
from digital_twin.settings import ScriptSettings


class CommandScript(TwinNode[ScriptSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("command_script", ScriptSettings, "twin/command_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        config, where = self._script(robot.description.name)
        self._script_ = Script(config, robot.model, robot.joints.stand, where)
        self._writer = JointStateCodec(JointState).writer(tuple(robot.model.joint_names))
        self._send = self.talk(JointState, "virtual/joint_commands", INTERNAL)
        self._begin = time.monotonic() + s.start
        self._next = time.monotonic()

    def _script(self, robot: str) -> tuple[ScriptConfig, str]:
        if self.settings.script:
            path = find(self.settings.script, "config/scripts")
            return load_script(path), str(path)
        try:
            path = share(f"config/scripts/{robot}.yaml")
        except TwinError:
            return ScriptConfig([StepConfig(1000.0, hold="stand")]), "script"
        return load_script(path), str(path)

    def work(self) -> float:
        """Send a command when one is due; returns how long [s] none is."""
        now = time.monotonic()
        if now < self._next:
            return self._next - now
        self._next = max(self._next + 1.0 / self.settings.rate, now - 0.05)
        q, qd = self._script_.sample(max(0.0, now - self._begin))
        self._send(self._writer.write(self.now_ns(), q, qd))
        return 0.0


def main() -> None:
    """Entry point."""
    run("command_script", CommandScript, ScriptSettings)


if __name__ == "__main__":
    main()
