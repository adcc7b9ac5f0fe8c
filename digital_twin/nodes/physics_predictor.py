"""physics_predictor: what will the robot do next, how sure is that, and was it right?

Reads virtual/joint_states, virtual/odom and the commands, publishes forecasts, their spread, their skill and warnings
under virtual/prediction/….
"""

from __future__ import annotations

import queue

from std_msgs.msg import String
from std_srvs.srv import Trigger

from digital_twin.core.errors import TwinError
from digital_twin.core.forecaster import Forecaster
from digital_twin.robots import load_robot
from digital_twin.ros.desk import Desk
from digital_twin.ros.forecast_worker import ForecastWorker
from digital_twin.ros.model_topic import ModelTopic
from digital_twin.ros.node import TwinNode
from digital_twin.ros.prediction_inputs import PredictionInputs
from digital_twin.ros.process import run
from digital_twin.ros.qos import LATCHED
from digital_twin.settings import PredictorSettings

LONGEST = 60.0  # [s] that a request may take
STALE = 0.5  # [s]; an older state is not forecast from


class PhysicsPredictor(TwinNode[PredictorSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("physics_predictor", PredictorSettings, "twin/prediction_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        self._worker = ForecastWorker(self, robot)
        self.loop = self._worker.loop
        self._inputs = PredictionInputs(self, robot, self._worker.plan, self._worker.lock, self._worker.take)
        self._models = ModelTopic(robot, s.robot_config)
        self.create_subscription(String, "twin/model", self._model, LATCHED)
        self._desk = Desk(self, "predict", self._predict)

    def destroy_node(self) -> None:
        """End the threads first."""
        self._worker.end()
        self._desk.close()
        super().destroy_node()

    def _model(self, message: String) -> None:
        """Another model is in service."""
        try:
            robot = self._models.take(message.data)
        except TwinError as e:
            self._worker.failed["model"] += 1
            self.get_logger().error(f"twin/model: {e}; the old model stays")
            return
        if robot is not None:
            self._worker.use(robot)

    def _predict(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """A forecast now, by the parameters predict_fidelity and predict_horizon."""
        answers: queue.Queue[tuple[bool, str]] = queue.Queue()
        fidelity = str(self.get_parameter("predict_fidelity").value)
        horizon = float(self.get_parameter("predict_horizon").value)
        self._worker.ask(fidelity, horizon, lambda *answer: answers.put(answer))
        try:
            response.success, response.message = answers.get(timeout=LONGEST)
        except queue.Empty:
            response.success, response.message = False, f"no forecast within {LONGEST:g} s"
        return response

    # Status

    def status(self) -> tuple[int, str, dict[str, object]]:
        """Fidelity, cost, skill, warnings."""
        w = self._worker
        with w.lock:
            state, values = w.state, dict(w.book.values())
        words = [each.text for each in w.warned]
        level = 2 if w.fall else 1 if words else 0
        if state is None:
            level, words = 1, ["no virtual state yet"]
        elif self.now_ns() - state.stamp_ns > STALE * 1e9:
            level, words = max(level, 1), ["the virtual state is old: nothing is forecast", *words]
        elif w.governor.fidelity != self.settings.fidelity:
            level, words = max(level, 1), [f"fidelity lowered to {w.governor.fidelity}", *words]
        forecaster: Forecaster = w.prediction.forecaster
        out: dict[str, object] = {"fidelity": w.governor.fidelity, "model": forecaster.version}
        out |= {f"failed/{why}": count for why, count in w.failed.items()}
        for kind, recent in w.took.items():
            out |= {f"{kind}_ms/{k}": round(v, 3) for k, v in recent.summary().items()}
        power = forecaster.power_state
        hottest = int(power.winding.argmax())
        out |= {
            "hottest_motor": forecaster.model.joint_names[hottest],
            "hottest_motor_C": float(power.winding[hottest]),
        }
        out |= {"battery_charge": float(power.charge), "battery_energy_J": float(power.energy)}
        out |= {"capture_margin_m": w.prediction.capture_margin, "zmp_margin_m": w.prediction.zmp_margin}
        return level, "; ".join(words), out | values


def main() -> None:
    """Entry point."""
    run("physics_predictor", PhysicsPredictor, PredictorSettings, nice=10)


if __name__ == "__main__":
    main()
