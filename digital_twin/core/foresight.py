"""What a forecast warns of: a fall, limits about to be met, the robot about to hit itself.

A fall is a base that tilts beyond 30° or sinks by a third; its chance is the share of the ensemble that falls. Early
signs are the capture point leaving the support, and the ZMP at its edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from digital_twin.core.arrays import Array
from digital_twin.core.balance import capture_point, zero_moment_point
from digital_twin.core.forecast_model import ForecastModel, Motion
from digital_twin.core.forecaster import Forecast
from digital_twin.core.prediction_config import ForesightConfig

FALLEN_TILT = math.radians(30.0)
FALLEN_HEIGHT = 2.0 / 3.0


@dataclass(frozen=True)
class Warning:
    """Something about to happen.

    kind: fall, joint_limit, torque_limit, speed_limit, temperature_limit, self_collision. subject: which joint or link.
    lead [s]: in how long. chance: 0 … 1.
    """

    kind: str
    subject: str
    lead: float
    chance: float

    @property
    def text(self) -> str:
        """In words."""
        what = {
            "fall": "a fall", "joint_limit": f"{self.subject} at the end of its range",
            "torque_limit": f"{self.subject} at its torque limit", "speed_limit": f"{self.subject} at its speed limit",
            "temperature_limit": f"{self.subject} too hot", "self_collision": f"{self.subject} touching",
        }[self.kind]  # fmt: skip
        chance = f" ({100 * self.chance:.0f} %)" if self.chance < 1.0 else ""
        return f"{what} in {self.lead:.2f} s{chance}"


def fall_times(times: Array, motion: Motion, standing_height: float, ground: float = 0.0) -> Array:
    """When each of some motions (members, k, …) falls [s] (members,): infinite for those that do not.

    `standing_height`: of the base above the ground at `ground` when the robot stands at ease [m].
    """
    tilted = motion.rotation[..., 2, 2] < math.cos(FALLEN_TILT)
    low = motion.position[..., 2] - ground < FALLEN_HEIGHT * standing_height
    fallen = tilted | low
    first = np.argmax(fallen, axis=-1)
    return np.where(fallen.any(axis=-1), times[first], np.inf)


class FallWatch:
    """Announces a fall when enough of enough ensembles in a row fall: one alone may have started from a bad estimate."""

    def __init__(self, config: ForesightConfig) -> None:
        self._config = config
        self.clear()

    def clear(self) -> None:
        """As at first."""
        self._in_a_row = 0
        self.chance = 0.0

    def update(self, times: Array) -> Warning | None:
        """When each member of an ensemble falls [s] (members,), infinite for those that do not."""
        fallen = np.isfinite(times)
        self.chance = float(fallen.mean())
        self._in_a_row = self._in_a_row + 1 if self.chance >= self._config.fall_chance else 0
        if self._in_a_row < self._config.fall_confirmations:
            return None
        return Warning("fall", "", float(np.median(times[fallen])), self.chance)


def limits_ahead(
    f: Forecast, model: ForecastModel, config: ForesightConfig, derate_from: Array | float = math.inf
) -> list[Warning]:
    """Joints that will meet a limit of position, speed, torque or temperature, each with the first time.

    derate_from [°C] (n,): winding temperatures at which the motors' torque begins to fall.
    """
    r, m = model.model, f.motion
    kp, kd = model.joints.kp, model.joints.kd
    hot = np.zeros(m.q.shape, dtype=bool)
    if f.power is not None:
        chunk = np.minimum((f.times / f.times[-1] * len(f.power.winding)).astype(int), len(f.power.winding) - 1)
        hot = f.power.winding[chunk] > derate_from
    torque = kp * (f.set_points.position - m.q) + kd * (f.set_points.velocity - m.qd) + f.set_points.effort
    found = []
    for kind, met in (
        ("joint_limit", (m.q < r.lower + config.joint_margin) | (m.q > r.upper - config.joint_margin)),
        ("speed_limit", np.abs(m.qd) > config.load_margin * r.max_velocity),
        ("torque_limit", np.abs(torque) > config.load_margin * r.max_effort),
        ("temperature_limit", hot),
    ):
        for i in np.flatnonzero(met.any(axis=0)):
            found.append(Warning(kind, r.joint_names[i], float(f.times[np.argmax(met[:, i])]), 1.0))
    return found


class Balance:
    """Capture point and ZMP of a robot, and how far inside the support they are."""

    def __init__(self, model: ForecastModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model.mj)
        self._feet = [(model.mj.site(f.frame).id, np.array([[*p, 0.0] for p in f.polygon])) for f in model.robot.feet]

    def margins(
        self, state: Array, contacts: tuple[bool, ...], acceleration: Array | None = None
    ) -> tuple[float, float]:
        """How far the capture point and the ZMP lie inside the support [m], negative outside; NaN when none stands.

        state (size,): MuJoCo's physics state. acceleration [m/s²] (3,): of the centre of mass; None: it is at rest.
        """
        m, d = self._model.mj, self._data
        mujoco.mj_setState(m, d, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        mujoco.mj_comVel(m, d)
        mujoco.mj_subtreeVel(m, d)
        corners = [
            d.site_xpos[site] + polygon @ d.site_xmat[site].reshape(3, 3).T
            for (site, polygon), stands in zip(self._feet, contacts, strict=True) if stands
        ]  # fmt: skip
        if not corners:
            return math.nan, math.nan
        support = np.concatenate(corners)
        root = 1  # the world's first child: the whole robot
        com, velocity = d.subtree_com[root], d.subtree_linvel[root]
        floor = float(support[:, 2].mean())
        capture = capture_point(com, velocity, floor)
        zmp = zero_moment_point(com, np.zeros(3) if acceleration is None else acceleration, floor)
        return inside(capture, support[:, :2]), inside(zmp, support[:, :2])


def inside(point: Array, corners: Array) -> float:
    """How far a point (2,) lies inside the convex hull of corners (k, 2) [m]; negative: outside of an edge's line."""
    try:
        equations = ConvexHull(corners).equations
    except QhullError:
        return -float(np.linalg.norm(corners - point, axis=1).min())
    return -float((equations[:, :2] @ point + equations[:, 2]).max())
