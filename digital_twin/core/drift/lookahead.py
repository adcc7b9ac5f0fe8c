"""Were forecasts of 10 and 100 ms right? Readings of the joints against simulations that began before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.errors import TwinError
from digital_twin.core.forecaster import Forecast, Forecaster
from digital_twin.core.model import RobotModel
from digital_twin.core.prediction_config import ForecastConfig
from digital_twin.core.robot_config import Joints, RobotConfig

NS = 1_000_000_000
HORIZONS = (0.01, 0.1)  # [s]
LAST = round(HORIZONS[-1] * NS)
PIECE = 0.01  # [s] that are simulated at a time
READINGS = 512  # that are kept
EARLY, LATE = 1_000_000, 3_000_000  # [ns] by which a reading may be away from its moment


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
        self._readings: deque[tuple[int, Array]] = deque(maxlen=READINGS)
        self._next = 0
        self._begun: tuple[int, Generator[None, None, Forecast]] | None = None
        self._made: deque[tuple[int, list[Array]]] = deque(maxlen=16)
        self._forecaster = self.make(model, robot, joints)

    def make(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> Forecaster:
        """What forecasts with another model; takes a while."""
        return Forecaster(model, robot, joints, self._config, fidelities=())

    def use(self, forecaster: Forecaster) -> None:
        """Another model is in service."""
        self._forecaster, self._begun = forecaster, None
        self._made.clear()

    def begin(self, stamp_ns: int, q: Array, qd: Array, base: BaseState) -> bool:
        """A state; a forecast is begun when one is due. It is made a little with each reading."""
        if 0 < self._next - stamp_ns <= self._period:
            return False
        while self._begun is not None:
            self._go_on()
        self._next = stamp_ns + self._period
        self._forecaster.ground.update(base, q)
        self._begun = stamp_ns, self._forecaster.forecasting(stamp_ns, q, qd, base, self.plan, piece=PIECE)
        self._go_on()
        return self._begun is not None

    def _go_on(self) -> None:
        if self._begun is None:
            return
        try:
            next(self._begun[1])
        except StopIteration as done:
            f: Forecast = done.value
            said = [f.motion.q[int(np.argmin(np.abs(f.times - horizon)))] for horizon in HORIZONS]
            self._made.append((self._begun[0], said))
            self._begun = None
        except TwinError:
            self._begun = None  # a state that no simulation can start from tells nothing

    def outcome(self, stamp_ns: int, q: Array) -> Array | None:
        """Readings (n,): the residuals (2 n,) of the pair of forecasts that have all become true, else None."""
        if self._readings and stamp_ns <= self._readings[-1][0]:  # time was turned back
            self._readings.clear()
            self._made.clear()
        self._readings.append((stamp_ns, q))
        self._go_on()
        if not self._made or stamp_ns < self._made[0][0] + LAST - EARLY:
            return None
        start, said = self._made.popleft()
        seen = [self._read(start + round(horizon * NS)) for horizon in HORIZONS]
        if seen[-1] is None:
            return None  # nobody knows whether it came true
        return np.concatenate(
            [np.full(self._n, np.nan) if r is None else r - s for r, s in zip(seen, said, strict=True)]
        )

    def _read(self, due_ns: int) -> Array | None:
        """The reading of a moment; None where there is none."""
        for stamp_ns, q in self._readings:
            if stamp_ns >= due_ns - EARLY:
                return q if stamp_ns <= due_ns + LATE else None
        return None
