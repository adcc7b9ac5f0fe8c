"""The predictor's work around a forecast: regular ones and ensembles, what they warn of, and how good they were.

One object for each model in service. Stamps and times are arguments: no clock is read here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.drift.residual_gp import ResidualConfig
from digital_twin.core.ensemble import Ensemble, Spread
from digital_twin.core.forecaster import Forecast, Forecaster
from digital_twin.core.foresight import (
    Balance,
    FallWatch,
    Warning,
    fall_times,
    limits_ahead,
)
from digital_twin.core.model import RobotModel
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig, ForesightConfig
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.self_collision import SelfCollision
from digital_twin.core.skill import HORIZONS
from digital_twin.core.world import World

MOST_GAP = 2.0  # [s] between two states over which torques are taken to last


@dataclass(frozen=True)
class State:
    """A synchronized state: joints [rad], [rad/s] (n,), the base in odom, torques [N m] (n,) if known; of one stamp."""

    stamp_ns: int
    q: Array
    qd: Array
    base: BaseState
    effort: Array | None = None


class Prediction:
    """Forecasts, ensembles and warnings of one robot by one model."""

    def __init__(
        self, model: RobotModel, robot: RobotConfig, joints: Joints, config: ForecastConfig, ensemble: EnsembleConfig,
        foresight: ForesightConfig, world: World | None = None, residual: ResidualConfig | None = None,
    ) -> None:  # fmt: skip
        """Raises: DescriptionError, TwinError when the model cannot be used."""
        self.forecaster = Forecaster(model, robot, joints, config, world, residual)
        self.ensemble = Ensemble(self.forecaster, ensemble, world)
        self._contact = self.forecaster.models["contact"]
        self._config = foresight
        self._observed_ns = 0
        self._watch = FallWatch(foresight)
        self._balance = Balance(self._contact)
        self._touching = SelfCollision(model, self._contact.mj, joints.stand)
        self._stand = self._contact.stand_height
        self._soles = model.kinematics([f.frame for f in robot.feet])
        self.capture_margin = self.zmp_margin = math.nan

    def observe(self, s: State) -> None:
        """Keep up with a state: the ground under it, and how warm its motors have become since the last one."""
        f, dt = self.forecaster, (s.stamp_ns - self._observed_ns) / 1e9
        f.ground.update(s.base, s.q)
        if s.effort is not None and 0.0 < dt < MOST_GAP:
            f.observe(s.effort, s.qd, dt)
        self._observed_ns = s.stamp_ns

    def forget(self) -> None:
        """What was learned from states: time was turned back, or it is another robot."""
        self.forecaster.ground.clear()
        self._watch.clear()
        self.capture_margin = self.zmp_margin = math.nan

    def forecast(self, s: State, plan: CommandPlan, fidelity: str = "", horizon: float = 0.0) -> Forecast:
        """As of Forecaster.forecast."""
        return self.forecaster.forecast(s.stamp_ns, s.q, s.qd, s.base, plan, fidelity, horizon)

    def spread(self, s: State, plan: CommandPlan) -> Spread:
        """An ensemble from this state."""
        return self.ensemble.forecast(s.stamp_ns, s.q, s.qd, s.base, plan)

    def falls(self, f: Forecast, s: State) -> bool:
        """Whether the robot falls in a forecast."""
        return bool(np.isfinite(fall_times(f.times, f.motion, self._stand, self._floor(s))))

    def fall(self, spread: Spread, s: State) -> Warning | None:
        """A fall that ensembles announce."""
        return self._watch.update(fall_times(spread.times, spread.motion, self._stand, self._floor(s)))

    def in_doubt(self, f: Forecast, s: State) -> bool:
        """Whether an ensemble should be asked at once: the robot falls in the forecast, or might."""
        margin = self.capture_margin
        return self.falls(f, s) or margin < self._config.doubt or self._watch.chance > 0.1

    def warnings(self, f: Forecast) -> list[Warning]:
        """Limits and contacts with itself that a forecast meets."""
        limits = limits_ahead(f, self._contact, self._config, self.forecaster.power.motors.derate_from)
        touching = self._touching.first(f.times, f.motion.q)
        return limits + [Warning("self_collision", pair, lead, 1.0) for pair, lead in touching]

    def look_at_balance(self, f: Forecast, s: State) -> None:
        """Update the margins of capture point and ZMP from the state that a forecast starts from."""
        if f.fidelity == "contact":
            after = self._contact.com_acceleration(f.start, f.controls[0])
            self.capture_margin, self.zmp_margin = self._balance.margins(f.start, s.base.contacts, after)

    def _floor(self, s: State) -> float:
        """Height of the lowest sole in odom [m]."""
        if not self._soles.frames:
            return 0.0
        self._soles.update(s.q - self._contact.joints.zero_error)
        return float((s.base.position + self._soles.position @ s.base.rotation.T)[:, 2].min())


def deviations(spread: Spread, times: Array) -> Array:
    """Standard deviations (k, n + 6) of joints, base position and attitude at `times` [s] (k,)."""
    each = np.concatenate(spread.deviation(), axis=1)
    grid = np.concatenate([[0.0], spread.times])
    rows = np.vstack([np.zeros(each.shape[1]), each])
    return np.stack([np.interp(times, grid, column) for column in rows.T], axis=1)


def half_widths(spread: Spread, widths: Array) -> Array:
    """Of the 90 % intervals (6, n + 6) at HORIZONS, from widths in deviations of the same shape."""
    return np.asarray(widths * deviations(spread, np.array(HORIZONS)))
