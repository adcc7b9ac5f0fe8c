"""Were forecasts of 10 and 100 ms right? Readings of the joints against simulations that began before them."""

from __future__ import annotations

from collections import deque

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.errors import TwinError
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.model import RobotModel
from digital_twin.core.prediction_config import ForecastConfig
from digital_twin.core.robot_config import Joints, RobotConfig

NS = 1_000_000_000
HORIZONS = (0.01, 0.1)  # [s]


class Lookahead:
    """Makes forecasts and compares readings with them.

    Attributes:
        names, units: of the residuals (2 n,): 10ms/JOINT … and 100ms/JOINT … [rad].
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, rate: float) -> None:
        """`rate` [Hz] of forecasts."""
        self._period = round(NS / rate)
        self._config = ForecastConfig(fidelity="contact", horizon=HORIZONS[-1], resolution=HORIZONS[0])
        self._n = model.n
        self.names = [f"{round(1000 * h)}ms/{name}" for h in HORIZONS for name in model.joint_names]
        self.units = ["rad"] * len(self.names)
        self.plan = CommandPlan(model.n, delay=self._config.command_delay)
        self._pending: deque[tuple[int, int, Array]] = deque(maxlen=64)
        self._next = 0
        self._done: dict[int, Array] = {}
        self._forecaster = self.make(model, robot, joints)

    def make(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> Forecaster:
        """What forecasts with another model; takes a while."""
        return Forecaster(model, robot, joints, self._config)

    def use(self, forecaster: Forecaster) -> None:
        """Another model is in service."""
        self._forecaster = forecaster
        self._pending.clear()
        self._done.clear()

    def begin(self, stamp_ns: int, q: Array, qd: Array, base: BaseState) -> bool:
        """A state; a forecast is made when one is due."""
        if 0 < self._next - stamp_ns <= self._period:
            return False
        self._next = stamp_ns + self._period
        self._forecaster.ground.update(base, q)
        try:
            f = self._forecaster.forecast(stamp_ns, q, qd, base, self.plan)
        except TwinError:
            return False  # a state that no simulation can start from tells nothing
        for row, horizon in enumerate(HORIZONS):
            at = int(np.argmin(np.abs(f.times - horizon)))
            self._pending.append((stamp_ns + round(horizon * NS), row, f.motion.q[at]))
        return True

    def outcome(self, stamp_ns: int, q: Array) -> Array | None:
        """Readings (n,): the residuals (2 n,) of the pair of forecasts that have all become true, else None. Those of
        10 ms wait for those of 100 ms."""
        due = [p for p in self._pending if p[0] <= stamp_ns + 1_000_000]
        out = None
        for p in due:
            self._pending.remove(p)
            when, row, said = p
            start = when - round(HORIZONS[row] * NS)
            if stamp_ns - when > 3_000_000:
                self._done.pop(start, None)
                continue  # the reading is not of that moment
            self._done.setdefault(start, np.full(2 * self._n, np.nan))[row * self._n : (row + 1) * self._n] = q - said
            if row == len(HORIZONS) - 1:
                out = self._done.pop(start)
        if len(self._done) > 32:
            self._done.clear()
        return out
