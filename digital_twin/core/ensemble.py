"""How sure a forecast is: an ensemble over what is not known of the state and of the model.

Points of a Sobol sequence (scipy.stats.qmc) stand for both, the same ones in each forecast, so that spreads compare.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco import rollout
from scipy.special import ndtri
from scipy.stats import qmc

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.config import param
from digital_twin.core.forecast_model import ForecastModel, Motion
from digital_twin.core.forecaster import GRAVITY, Forecaster, interleave
from digital_twin.core.rotation import exp_so3
from digital_twin.core.world import World

_STATE = 9  # numbers of the state that are varied: tilt of gravity (2), tilt (1: about x, with y), velocity, turning
_MODEL = ("mass", "com_x", "com_y", "strength", "friction", "ground")


@dataclass(frozen=True)
class EnsembleConfig:
    """The ensemble. Spreads are standard deviations."""

    size: int = param(16, "members", low=2, high=1024)
    timestep: float = param(0.004, "of the physics in the ensemble", unit="s", low=0.0002, high=0.01)
    threads: int = param(1, "that simulate it", low=1, high=64)
    mass: float = param(0.02, "relative, of the whole mass", low=0, high=0.5)
    com: float = param(0.006, "of the centre of mass, to the front and to the side", unit="m", low=0, high=0.2)
    strength: float = param(0.03, "relative, of the servos' gains", low=0, high=0.5)
    friction: float = param(0.3, "relative, of the friction in the joints", low=0, high=2)
    ground_friction: float = param(0.15, "relative, of the friction of the ground", low=0, high=1)
    seed: int = param(1, "of the scrambled sequence", low=0, high=2**31)


@dataclass(frozen=True)
class Spread:
    """An ensemble of forecasts in odom: times [s] (k,), motion of shape (members, k, …)."""

    stamp_ns: int
    times: Array
    motion: Motion

    def deviation(self) -> tuple[Array, Array, Array]:
        """Standard deviations: joints [rad] (k, n), base position [m] (k, 3), base attitude [rad] (k, 3) in odom."""
        m = self.motion
        return m.q.std(axis=0), m.position.std(axis=0), turned(m.rotation).std(axis=0)


class Ensemble:
    """Rolls a forecaster's `contact` model out with variations of state and model."""

    def __init__(self, forecaster: Forecaster, config: EnsembleConfig, world: World | None = None) -> None:
        self.forecaster, self.config = forecaster, config
        nominal = forecaster.models["contact"]
        self.model = ForecastModel(nominal.model, nominal.robot, nominal.joints, world, config.timestep)
        points = qmc.Sobol(len(_MODEL) + _STATE, seed=config.seed).random(config.size)
        self._points = ndtri(np.clip(points, 1e-4, 1 - 1e-4))
        # Sixteen points have a mean and a variance of their own; those of the normal are wanted.
        self._points = (self._points - self._points.mean(axis=0)) / self._points.std(axis=0)
        self._members = [self._vary(copy.copy(self.model.mj), p) for p in self._points[:, : len(_MODEL)]]
        self._data = [mujoco.MjData(self.model.mj) for _ in range(config.threads)]

    def _vary(self, m: mujoco.MjModel, point: Array) -> mujoco.MjModel:
        c, r = self.config, self.model.model
        mass, x, y, strength, friction, ground = point
        factor = np.exp(c.mass * mass)
        m.body_mass *= factor
        m.body_inertia *= factor
        trunk = int(m.site_bodyid[m.site(r.base_frame).id])
        share = m.body_mass.sum() / m.body_mass[trunk]
        m.body_ipos[trunk, :2] += c.com * share * np.array([x, y])
        m.actuator_biasprm[:, 1:3] *= np.exp(c.strength * strength)
        for name in ("dof_frictionloss", "dof_damping"):
            getattr(m, name)[r.dof_index] *= np.exp(c.friction * friction)
        m.geom_friction[:, 0] *= np.exp(c.ground_friction * ground)
        mujoco.mj_setConst(m, self.model.data)
        return m

    def forecast(
        self, stamp_ns: int, q: Array, qd: Array, base: BaseState, plan: CommandPlan, horizon: float = 0.0
    ) -> Spread:
        """Roll all members out from the synchronized state (as of Forecaster.forecast).

        Members that diverge have fallen in the worst way: their state is held from there on.
        """
        f, h = self.forecaster, self.config.timestep
        horizon = horizon or f.config.horizon
        steps, every = round(horizon / h), max(1, round(f.config.resolution / h))
        at = np.arange(every, steps + 1, every)
        starts = self._starts(q, qd, base)
        each: Array = np.arange(steps) * h
        times: Array = at * h
        set_points, _ = plan.sample(stamp_ns, each, q)
        states, _ = rollout.rollout(self._members, self._data, starts, interleave(set_points)[None])
        states = states[:, at - 1]
        broken = ~np.isfinite(states).all(axis=(1, 2))
        if broken.any():
            states[broken] = starts[broken][:, None]
        A = f.ground.frame()
        m, first = self.model.motion(states), self.model.motion(starts)
        motion = Motion(
            m.q, m.qd, base.position + (m.position - first.position[:, None]) @ A, A.T @ m.rotation, m.velocity @ A,
            m.angular_velocity,
        )  # fmt: skip
        return Spread(stamp_ns, times, motion)

    def _starts(self, q: Array, qd: Array, base: BaseState) -> Array:
        """The states to start from (members, size); sets each member's gravity."""
        f = self.forecaster
        A = f.ground.frame()
        down = f.ground.gravity(base, f.config.slope)
        points = self._points[:, len(_MODEL) :]
        twist = points[:, 3:] @ _root(base.twist_covariance).T
        tilt = np.sqrt(np.diag(base.covariance)[3:5].clip(0.0)).clip(0.0, 0.02)
        starts = np.empty((self.config.size, self.model.size))
        for i, (p, member) in enumerate(zip(points, self._members, strict=True)):
            # What of the attitude is not known turns gravity, not the soles, which lie on the ground.
            member.opt.gravity[:] = GRAVITY * (exp_so3([tilt[0] * p[0], tilt[1] * p[1], 0.0]) @ down)
            starts[i] = self.model.start(
                q, qd, A @ base.position, A @ base.rotation, base.velocity + twist[i, :3],
                base.angular_velocity + twist[i, 3:], base.contacts,
            )  # fmt: skip
        return starts


def turned(rotations: Array) -> Array:
    """Rotations (members, k, 3, 3) as rotation vectors [rad] (members, k, 3) from the first member, in its frame."""
    relative = rotations @ np.swapaxes(rotations[:1], -1, -2)
    return 0.5 * np.stack(
        [
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ],
        axis=-1,
    )


def _root(covariance: Array) -> Array:
    """A square root (6, 6) of a covariance that may be semi-definite."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(values.clip(0.0)))
