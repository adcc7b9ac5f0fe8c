"""The simulated robot and its synchronizer in one process, on simulated time: what forecasts are made and judged by.

The robot differs from the twin's model by its seed, which no forecast is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.prediction import Prediction, State
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig, ForesightConfig
from digital_twin.core.robot_config import imu_rotation
from digital_twin.core.script import Script, load_script
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer
from digital_twin.paths import find
from digital_twin.robots import Robot

RATE, COMMANDS = 200, 100  # [Hz]
AHEAD, POINTS = 1.5, 31  # of the trajectory that the source announces
Motion = Callable[[float], tuple[Array, Array]]


@dataclass(frozen=True)
class Tick:
    """One sample: time [s], the synchronized state, and the base's true tilt [rad]."""

    t: float
    state: State
    tilt: float


class Rehearsal:
    """A robot that follows `motion`, disturbed by `disturb(t, plant)`; `plan` knows the commands as the node would."""

    def __init__(self, robot: Robot, seed: int, motion: Motion, announce: bool = True) -> None:
        self.robot, self.motion, self._announce = robot, motion, announce
        self.plant = Plant(robot.description, robot.config, PlantConfig(seed=seed))
        self.instruments = Instruments(self.plant, InstrumentConfig(), float(RATE))
        config = SynchronizerConfig(estimate_effort=False)
        self._sync = Synchronizer(robot.model, robot.config, config, robot.where)
        self._turn = imu_rotation(robot.config.imus[0]).T
        self.plan = CommandPlan(robot.model.n, delay=ForecastConfig().command_delay)

    def run(self, seconds: float, disturb: Callable[[float, Plant], None] | None = None) -> Iterator[Tick]:
        """Samples, one after another, from when there is an estimate."""
        steps = round(1.0 / (RATE * self.plant.config.timestep))
        for tick in range(round(seconds * RATE)):
            t = tick / RATE
            if tick % (RATE // COMMANDS) == 0:
                self._command(t)
            if disturb is not None:
                disturb(t, self.plant)
            self.plant.advance(steps)
            state = self._sense()
            if state is not None:
                up = self.plant.frame_pose(self.robot.model.base_frame)[1][2, 2]
                yield Tick(t + 1.0 / RATE, state, float(np.arccos(min(1.0, up))))

    def _command(self, t: float) -> None:
        q, qd = self.motion(t)
        self.plant.command(q, qd)
        now = self.plant.time_ns
        self.plan.command(now, q, qd)
        if self._announce and round(t * COMMANDS) % 50 == 0:
            times = np.linspace(0.0, AHEAD, POINTS)
            points = [self.motion(t + s) for s in times]
            self.plan.trajectory(now, times, np.array([p[0] for p in points]), np.array([p[1] for p in points]))

    def _sense(self) -> State | None:
        stamp, s, i = self.plant.time_ns, self._sync, self.instruments
        for k, foot in enumerate(self.robot.config.feet):
            s.wrench(stamp, k, np.array(i.wrench(foot.name)[0]))
        s.imu(stamp, *(x @ self._turn for x in i.imu(0)))
        state = s.joints(stamp, *i.joint_states())
        return None if state is None else State(stamp, state.q, state.qd, state.base)


def predictor(robot: Robot) -> Prediction:
    """The package's own, with its defaults."""
    return Prediction(
        robot.model, robot.config, robot.joints, ForecastConfig(), EnsembleConfig(), ForesightConfig()
    )  # fmt: skip


def sways_and_squats(robot: Robot, seed: int) -> Motion:
    """The package's script, another order and other speeds for every seed."""
    path = find("humanoid.yaml", "config/scripts")
    script = load_script(path)
    rng = np.random.default_rng(seed)
    steps = [s for s in script.steps if s.hold == "stand"]
    for step in rng.permutation([s for s in script.steps if s.swing or s.cycle] * 2):
        period = step.period * rng.uniform(0.9, 1.4)
        steps.append(replace(step, period=period, seconds=2.0 * period))
    return Script(replace(script, steps=steps), robot.model, robot.joints.stand, str(path)).sample


def standing(robot: Robot) -> Motion:
    """At ease."""
    still = np.zeros(robot.model.n)
    return lambda _: (robot.joints.stand, still)
