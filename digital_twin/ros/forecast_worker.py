"""The thread in which physics_predictor simulates, so that its callbacks never wait for a forecast."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.config import to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.forecast_start import ForecastStart
from digital_twin.core.forecaster import DivergedError, Forecast
from digital_twin.core.foresight import Warning
from digital_twin.core.governor import Governor
from digital_twin.core.prediction import Prediction, State, deviations, half_widths
from digital_twin.core.prediction_config import FIDELITIES
from digital_twin.core.skill import SkillBook
from digital_twin.core.statistics import Loop, Recent
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.robots import Robot
from digital_twin.ros.node import TwinNode
from digital_twin.ros.prediction_topics import PredictionTopics
from digital_twin.ros.scheduling import yield_to_others
from digital_twin.ros.wrecks import keep_wreck
from digital_twin.settings import PredictorSettings

CATCH_UP = 0.4  # [s]
OLD = 0.25  # share of its horizon that a forecast may take; until then it is worth more than one of a lower fidelity in time
Answer = Callable[[bool, str], None]


class ForecastWorker:
    """Takes states as they come and makes forecasts at a rate, ensembles more rarely, and what is asked for at once.

    Attributes:
        plan: the commands; whoever writes it holds `lock`.
        failed: how often a forecast failed, by reason. took: how long each kind takes [ms].
        warned, fall: what the last ensemble warned of.
    """

    def __init__(self, node: TwinNode[PredictorSettings], robot: Robot) -> None:
        s = self._settings = node.settings
        self._node, self.lock = node, threading.Lock()
        self._wake = threading.Condition(self.lock)
        self.prediction = self.build(robot)
        self.plan = CommandPlan(robot.model.n, s.plan, s.command_delay, s.trend_time)
        self.book = SkillBook(robot.model.n)
        self.governor = Governor(s.fidelity, FIDELITIES, max(1.0 / s.rate, OLD * s.horizon), s.step_down)
        self.took = {kind: Recent(200) for kind in (*FIDELITIES, "ensemble")}
        self.loop = Loop(1000.0 / s.rate)
        self.failed: Counter[str] = Counter()
        self.warned: list[Warning] = []
        self.fall: Warning | None = None
        self.state: State | None = None
        self._deviation: Array | None = None
        self._next_model: Robot | None = None
        self._asked: list[tuple[str, float, Answer]] = []
        self._ended = False
        self._out = PredictionTopics(node, robot.model.joint_names)
        self._thread = threading.Thread(target=self._run, name="forecasts", daemon=True)
        self._thread.start()

    def build(self, robot: Robot) -> Prediction:
        """A robot made ready for forecasts.

        Raises:
            TwinError: it cannot be simulated.
        """
        s = self._settings
        world = load_world(find(s.world, "worlds")) if s.world else None
        return Prediction(robot.model, robot.config, robot.joints, s, s.ensemble, s.warnings, world, robot.residual)

    # From other threads

    def take(self, state: State) -> None:
        """A synchronized state: it closes forecasts, and is the one to go on from."""
        with self._wake:
            last = self.state
            if last is not None and state.stamp_ns <= last.stamp_ns:
                self.book.reset(self.book.version)  # time was turned back
                self.plan.clear()
            self.book.outcome(state.stamp_ns, state.q, state.base)
            self.state = state
            self._wake.notify()

    def use(self, robot: Robot) -> None:
        """Another model, taken before the next forecast; the old one stays when it cannot be used."""
        with self._wake:
            self._next_model = robot

    def ask(self, fidelity: str, horizon: float, answer: Answer) -> None:
        """A forecast now; `answer` is called in the worker's thread with whether it was made, and words."""
        with self._wake:
            self._asked.append((fidelity, horizon, answer))
            self._wake.notify()

    def end(self) -> None:
        """Finish what is under way, and stop."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(1.0)

    # In the worker's thread

    def _run(self) -> None:
        if self._settings.yields:
            yield_to_others()
        rate, each = self._settings.rate, self._settings.ensemble_rate
        next_forecast = next_ensemble = time.monotonic()
        done_ns = -1
        while True:
            with self._wake:
                now = time.monotonic()
                due = self.state is not None and self.state.stamp_ns != done_ns and now >= next_forecast
                if not (due or self._asked or self._next_model or self._ended):
                    self._wake.wait(max(0.001, min(next_forecast - now, 0.2)) if now < next_forecast else 0.2)
                    continue
                if self._ended:
                    return
                robot, self._next_model = self._next_model, None
                if robot is None:
                    state, asked, self._asked = self.state, self._asked, []
            if robot is not None:
                self._change_model(robot)  # takes a while: what is the state now is asked after it
                continue
            for request in asked:
                self._answer(state, *request)
            if not due or state is None:
                continue
            # What an ensemble delayed is caught up with, within limits.
            next_forecast = max(next_forecast + 1.0 / rate, now - CATCH_UP)
            done_ns = state.stamp_ns
            doubt = self._regular(state)
            if each and (now >= next_ensemble or doubt):
                begin = time.monotonic()
                self._spread(state)
                end = time.monotonic()
                # Where time is short, forecasts get as much of it as ensembles.
                next_ensemble = max(next_ensemble + 1.0 / each, end + (end - begin))

    def _change_model(self, robot: Robot) -> None:
        try:
            prediction = self.build(robot)
        except TwinError as e:
            self.failed["model"] += 1
            self._node.get_logger().error(f"twin/model: {e}; the old model stays")
            return
        with self.lock:
            self.prediction, self._deviation = prediction, None
            self.book.reset(prediction.forecaster.version)
        self._node.get_logger().info(f"another model is in service: {prediction.forecaster.version}")

    def _answer(self, state: State | None, fidelity: str, horizon: float, answer: Answer) -> None:
        if state is None:
            return answer(False, "there is no synchronized state to forecast from")
        f = self._try(state, fidelity or self._settings.fidelity, horizon)
        if f is None:
            return answer(False, "the forecast failed; the log says why")
        self._out.forecast(f)
        outcome = "the robot falls" if self.prediction.falls(f, state) else "the robot stays up"
        return answer(
            True, f"{outcome} within {f.times[-1]:.2f} s; fidelity {f.fidelity}, {f.assumed}, model {f.version}"
        )

    def _regular(self, s: State) -> bool:
        """One forecast, booked and published; returns whether an ensemble should be asked at once."""
        start = time.perf_counter()
        p = self.prediction
        p.observe(s)
        f = self._try(s, self.governor.fidelity)
        if f is None:
            return True
        with self.lock:
            self.book.open(f, s.q, s.qd, s.base, self._deviation)
        self._out.forecast(f)
        p.look_at_balance(f, s)
        ms = 1000.0 * (time.perf_counter() - start)
        self.loop.add(ms)
        self.took[f.fidelity].add(ms)
        said = self.governor.took(ms / 1000.0)
        if said:
            self._node.get_logger().warning(said)
        return p.in_doubt(f, s)

    def _try(self, s: State, fidelity: str, horizon: float = 0.0, *, told: bool = True) -> Forecast | None:
        """A forecast; None when it fails, which is counted, said and kept. `told`: what it starts from is published."""
        with self.lock:
            plan = self.plan.copy()
        if told:
            self._out.start(lambda: self._start(s, plan, fidelity, horizon))
        try:
            return self.prediction.forecast(s, plan, fidelity, horizon)
        except DivergedError as e:
            self.failed["diverged"] += 1
            model = self.prediction.forecaster.models[fidelity].mj
            path = keep_wreck(self._settings.failures, s.stamp_ns, model, e)
            self._node.say_once("error", str(e) + (f"; kept in {path}" if path else ""))
        except TwinError as e:
            self.failed["refused"] += 1
            self._node.say_once("error", str(e))
        return None

    def _start(self, s: State, plan: CommandPlan, fidelity: str, horizon: float) -> ForecastStart:
        f = self.prediction.forecaster
        settings = to_plain(self._settings)
        return ForecastStart(s, plan, fidelity, horizon, f.ground.normal, f.power_state, f.version, settings)

    def _spread(self, s: State) -> None:
        """An ensemble: spread, skill and warnings."""
        start = time.perf_counter()
        p = self.prediction
        with self.lock:
            plan = self.plan.copy()
        try:
            spread = p.spread(s, plan)
        except TwinError as e:
            self.failed["ensemble"] += 1
            return self._node.say_once("error", str(e))
        last, self.fall = self.fall, p.fall(spread, s)
        resolution = self._settings.resolution
        grid = np.arange(1, round(self._settings.horizon / resolution) + 1) * resolution
        with self.lock:
            self._deviation = deviations(spread, grid)
            widths, values = self.book.widths(), self.book.values()
        self._out.spread(s.stamp_ns, half_widths(spread, widths))
        self._out.skill(s.stamp_ns, values)
        if self.fall and not last:
            self._node.get_logger().error(self.fall.text)
        f = self._try(s, self.governor.fidelity, told=False)
        self.warned = ([self.fall] if self.fall else []) + (p.warnings(f) if f else [])
        self._out.warnings(s.stamp_ns, self.warned)
        self.took["ensemble"].add(1000.0 * (time.perf_counter() - start))
        return None
