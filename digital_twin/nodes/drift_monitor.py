"""drift_monitor: does the robot still behave like its model?

Reads physical/…, the commands and the synchronizer's innovations; publishes its verdict on twin/drift, on /diagnostics what is
hardware, and on twin/model the model in service, which it renews when it is wrong.
"""

from __future__ import annotations

from std_srvs.srv import Trigger

from digital_twin.core.drift.monitor import Monitor
from digital_twin.core.drift.verdict import Judge
from digital_twin.core.drift.window import Window
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.robots import load_robot
from digital_twin.ros.drift_inputs import DriftInputs
from digital_twin.ros.drift_topics import DriftTopics
from digital_twin.ros.model_loop import ModelLoop
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.settings import DriftSettings

LOOK = 0.05  # [s] between looks at the verdict
TELL, TELL_HARDWARE = 10, 20  # looks after which it is told even when it has not changed
LEAST = 4  # looks between two messages


class DriftMonitor(TwinNode[DriftSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("drift_monitor", DriftSettings, "twin/drift_status", journal=True)
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        world = load_world(find(s.world, "worlds")) if s.world else None
        self._monitor = Monitor(robot.model, robot.config, robot.joints, s, world)
        self._judge = Judge(self._monitor)
        self._looks, self._told = 0, -LEAST
        self._last_said = (0, "")
        self._topics = DriftTopics(self)
        self._inputs = DriftInputs(self, robot, self._monitor)
        self._loop = ModelLoop(self, robot, self._monitor, offline=hasattr(self, "bus"))
        self.every(LOOK, self._look)
        self.serve(Trigger, "~/reset", self._reset)
        self.serve(Trigger, "~/recalibrate", self._recalibrate)

    def destroy_node(self) -> None:
        """End what is under way first."""
        self._loop.close()
        super().destroy_node()

    def _look(self) -> None:
        """Tell the verdict when it has changed, or regularly."""
        self._looks += 1
        self._loop.look(self.now_ns())
        verdict = self._judge.verdict(self.now_ns())
        said = (verdict.level, verdict.words)
        due = self._looks % TELL == 0
        if not due and (said[0] == self._last_said[0] or self._looks - self._told < LEAST):
            return
        if said[0] != self._last_said[0]:
            self.say("warning" if verdict.level else "info", verdict.words)
        self._last_said, self._told = said, self._looks
        self._topics.publish(verdict, {"phase": self._monitor.phase, "model": self._loop.service or "as brought"})
        if self._looks % TELL_HARDWARE == 0 or verdict.level:
            self._topics.hardware(verdict)

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._monitor.reset()
        response.success, response.message = True, "alarms forgotten; what is normal is kept"
        return response

    def _recalibrate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        words = self._loop.calibrate(self.now_ns())
        self._monitor.recalibrate()
        seconds = self.settings.calibration
        response.success = True
        response.message = f"{words}; what is normal is learned from the next {seconds:g} s"
        return response

    def window(self, seconds: float) -> Window | None:
        """The last seconds, a minute at most, as they were measured; None when there is nothing."""
        return self._monitor.sampler.past.window(seconds)

    def status(self) -> tuple[int, str, dict[str, object]]:
        """How far it is."""
        m = self._monitor
        late = {f"latency_ms/{k}": round(v, 3) for k, v in self._inputs.latency.summary().items()}
        said = {"phase": m.phase, "not_judged": m.outside, "let_go": m.let_go}
        return 0, m.phase, said | late | self._loop.values()


def main() -> None:
    """Entry point."""
    run("drift_monitor", DriftMonitor, DriftSettings)


if __name__ == "__main__":
    main()
