"""Stiffness, damping and friction of the ground from a window: nonlinear least squares over batched rollouts.

Forecasts start at many states of the window; what is compared, sample by sample, are the base's position and velocity
and the load on the soles. Parameters are logarithms of factors on where they were; a robot that neither lands nor slides
tells nothing of them, and then they are refused by name and stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import mujoco
import numpy as np
from mujoco import rollout
from scipy.optimize import least_squares

from digital_twin.core.arrays import Array
from digital_twin.core.drift.estimate import Estimate, Excitation, correlation_time, excitation, robust_deviation
from digital_twin.core.drift.holdout import Candidate, Trials
from digital_twin.core.drift.update_config import HoldoutConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import matching

GROUND = "world/*"
KEYS = {"stiffness": ("N/m", 1.0), "damping": ("N·s/m", 1.0), "friction": ("", 0.5)}  # unit, prior of the logarithm
HORIZON, SPACING, TIMESTEP = 0.15, 0.01, 0.001  # [s]
MOST_STARTS, LEAST_LANDINGS = 10, 3
STEP = 0.05  # of the logarithms, for derivatives
SCALES = (1e-3, 0.02, 10.0)  # [m], [m/s], [N]: the least errors that count as one
EVALUATIONS = 15
_SOFT = 0.002  # [m] that a ground sinks under the weight where nothing is known of it


@dataclass(frozen=True)
class ContactFit:
    """What was found. contacts: for Changes.contacts, only of what was told; empty: nothing was."""

    contacts: dict[str, dict[str, Any]]
    estimates: dict[str, Estimate]
    excitation: Excitation = field(default_factory=Excitation)


def fit_contacts(w: Window, c: Candidate, *, feeds_speed: bool = True) -> ContactFit:
    """Fit the ground under a robot.

    Raises:
        TwinError: the window is too short, the model cannot be simulated, or the search does not converge.
    """
    model = RobotModel(c.description, c.config.base_frame)
    h = HoldoutConfig(horizon=HORIZON, spacing=SPACING, timestep=TIMESTEP)
    trials = Trials(w, h, feeds_speed=feeds_speed, feet=len(c.config.feet), weight=9.81 * model.mass)
    _choose(trials)
    problem = _Search(trials, c, model, _nominal(c, model))
    prior = np.array([p for _, p in KEYS.values()])
    x = np.zeros(len(KEYS))
    for _ in range(2):  # the noise is known better the second time
        problem.weigh(problem.residuals(x))
        found = least_squares(
            lambda x: np.concatenate([problem.weighted(x), x / prior]), x, bounds=(-4.0, 4.0),
            jac=lambda x: np.vstack([problem.derivative(x), np.diag(1.0 / prior)]), max_nfev=EVALUATIONS, xtol=1e-3,
            ftol=1e-4,
        )  # fmt: skip
        x = found.x
    if not np.isfinite(x).all() or found.status < 0:
        raise TwinError("the contact with the ground could not be identified: the search does not converge")
    return _summary(problem, x, prior)


def _choose(trials: Trials) -> None:
    """Starts in the air, where there are some: how deep soles stand in the ground is not known well enough."""
    airborne = trials.starts[~trials.contacts[trials.starts].any(axis=1)]
    chosen = airborne if len(airborne) >= LEAST_LANDINGS else trials.starts
    trials.starts = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_STARTS)).astype(int))]
    trials.ends = trials.starts + round(HORIZON / trials.dt)


def _nominal(c: Candidate, model: RobotModel) -> dict[str, float]:
    """What the config says of the ground, else one that is stiff enough to stand on and hardly bounces."""
    said = matching(c.config.contacts, "world/floor")
    stiffness = float(said.get("stiffness") or 9.81 * model.mass / _SOFT)
    damping = float(said.get("damping") or 0.6 * np.sqrt(stiffness * model.mass))
    return {"stiffness": stiffness, "damping": damping, "friction": float(said.get("friction") or 1.0)}


class _Search:
    """Residuals of forecasts as functions of the logarithms x (3,)."""

    def __init__(self, trials: Trials, c: Candidate, model: RobotModel, nominal: dict[str, float]) -> None:
        self._trials, self._candidate, self._model, self.nominal = trials, c, model, nominal
        self._every = max(1, round(trials.dt / TIMESTEP))
        self._ahead = round(HORIZON / trials.dt)
        self._weights: Array = np.ones(1)

    def values(self, x: Array) -> dict[str, float]:
        """The parameters at x."""
        return {k: float(v * np.exp(s)) for (k, v), s in zip(self.nominal.items(), x, strict=True)}

    def residuals(self, x: Array) -> Array:
        """(N, samples, 7): position and velocity of the base, load on all soles; model less measured."""
        t, c = self._trials, self._candidate
        config = replace(c.config, contacts=c.config.contacts | {GROUND: self.values(x)})
        now = replace(c, config=config)
        f = now.compile(self._model, TIMESTEP, t.world, sensors=True)
        starts, controls, A = t.prepare(f, now)
        states, sensed = rollout.rollout(f.mj, f.data, starts, controls)
        picked = np.minimum(np.arange(1, self._ahead + 1) * self._every, states.shape[1]) - 1
        m, first = f.motion(states[:, picked]), f.motion(starts)
        at = t.starts[:, None] + np.arange(1, self._ahead + 1)
        w = t.window
        moved = w.position[at] - w.position[t.starts][:, None]
        position = (m.position - first.position[:, None]) @ A - moved
        velocity = m.velocity @ A - w.velocity[at]
        load = np.zeros(at.shape)
        for i, foot in enumerate(c.config.feet):
            sensor = mujoco.mj_name2id(f.mj, mujoco.mjtObj.mjOBJ_SENSOR, f"foot/{foot.name}/FORCE")
            force = -sensed[:, picked, int(f.mj.sensor_adr[sensor]) + 2]
            load += force - np.nan_to_num(w.wrenches[at, i, 2])
        out = np.concatenate([position, velocity, load[..., None]], axis=2)
        return np.asarray(np.clip(np.nan_to_num(out, nan=1e3), -1e3, 1e3))

    def weigh(self, residuals: Array) -> None:
        """By the noise that each kind of residual has now, and by how many samples say the same."""
        scales = np.repeat(SCALES, [3, 3, 1])
        noise = np.array([max(robust_deviation(residuals[..., k].ravel()), s) for k, s in enumerate(scales)])
        same = [np.mean([correlation_time(r) for r in residuals[..., k]]) for k in range(residuals.shape[2])]
        self._weights = 1.0 / (noise * np.sqrt(np.array(same) * max(1.0, HORIZON / SPACING)))

    def weighted(self, x: Array) -> Array:
        """Flat, in standard deviations."""
        return np.asarray((self.residuals(x) * self._weights).ravel())

    def derivative(self, x: Array) -> Array:
        """Of `weighted`, by central differences wide enough for contacts (…, 3)."""
        steps = STEP * np.eye(len(x))
        return np.stack([(self.weighted(x + s) - self.weighted(x - s)) / (2.0 * STEP) for s in steps], axis=1)


def _summary(problem: _Search, x: Array, prior: Array) -> ContactFit:
    J = problem.derivative(x)
    information = J.T @ J
    covariance = np.linalg.inv(information + np.diag(prior**-2.0))
    values = problem.values(x)
    estimates = {}
    for i, (key, (unit, p)) in enumerate(KEYS.items()):
        v, before = values[key], problem.nominal[key]
        estimates[f"ground's {key}"] = Estimate(v, v * float(np.sqrt(covariance[i, i])), before, v * p, unit)
    told = excitation(information, prior, estimates)
    keys = [k for k in KEYS if f"ground's {k}" in told.told]
    if not keys:
        return ContactFit({}, estimates, told)
    contact = {k: (values if k in keys else problem.nominal)[k] for k in KEYS}
    return ContactFit({GROUND: contact}, estimates, told)
