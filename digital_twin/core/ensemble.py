"""How sure a forecast is: an ensemble over what is not known of the state and of the model.

Points of a Sobol sequence (scipy.stats.qmc) stand for both, the same ones in each forecast, so that spreads compare.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mujoco
import numpy as np
from mujoco import rollout
from scipy.special import ndtri
from scipy.stats import qmc

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.forecast_model import ForecastModel, Motion
from digital_twin.core.forecaster import GRAVITY, Forecaster, interleave
from digital_twin.core.prediction_config import EnsembleConfig
from digital_twin.core.rotation import exp_so3
from digital_twin.core.world import World

_STATE = 8  # numbers of the state that are varied: tilt (2), velocity (3), turning (3)
_MODEL = ("mass", "com_x", "com_y", "strength", "friction", "ground")


@dataclass(frozen=True)
class Spread:
    """An ensemble of forecasts in odom: times [s] (k,), motion of shape (members, k, …)."""

    stamp_ns: int
    times: Array
    motion: Motion

    def numbers(self) -> Array:
        """Joints, base position, and base attitude as rotation vectors from that of the first member (members, k, n + 6)."""
        m = self.motion
        return np.concatenate([m.q, m.position, turned(m.rotation)], axis=-1)

    def mean(self) -> Array:
        """Of `numbers` (k, n + 6)."""
        return np.asarray(self.numbers().mean(axis=0))

    def quantiles(self, shares: Array) -> Array:
        """Of `numbers`, at shares from 0 to 1 (m,): (m, k, n + 6)."""
        return np.asarray(np.quantile(self.numbers(), shares, axis=0))

    def covariance(self) -> Array:
        """Of `numbers` at each time (k, n + 6, n + 6)."""
        centred = self.numbers() - self.mean()
        return np.asarray(np.einsum("mki,mkj->kij", centred, centred) / len(centred))

    def deviation(self) -> tuple[Array, Array, Array]:
        """Standard deviations: joints [rad] (k, n), base position [m] (k, 3), base attitude [rad] (k, 3) in odom."""
        m = self.motion
        return m.q.std(axis=0), m.position.std(axis=0), turned(m.rotation).std(axis=0)


class Ensemble:
    """Rolls a forecaster's `contact` model out with variations of state and model.

    Attributes:
        model: the nominal one; members: those that differ from it.
    """

    def __init__(
        self, forecaster: Forecaster, config: EnsembleConfig, world: World | None = None,
        alter: Callable[[mujoco.MjSpec], None] | None = None,
    ) -> None:  # fmt: skip
        """`alter`: as of ForecastModel, besides what the forecaster does."""
        self.forecaster, self.config = forecaster, config
        nominal = forecaster.models["contact"]
        self.model = ForecastModel(
            nominal.model,
            nominal.robot,
            nominal.joints,
            world,
            config.timestep,
            partial(forecaster.prepare, alter=alter),
        )
        points = qmc.Sobol(len(_MODEL) + _STATE, seed=config.seed).random(config.size)
        self._points = _whitened(ndtri(np.clip(points, 1e-4, 1 - 1e-4)))
        self.members = [self._vary(copy.copy(self.model.mj), p) for p in self._points[:, : len(_MODEL)]]
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
        starts = self.starts(q, qd, base)
        each = np.asarray(np.arange(steps) * h, dtype=np.float64)
        times = np.asarray(at * h, dtype=np.float64)
        set_points, _ = plan.sample(stamp_ns, each, q)
        states, _ = rollout.rollout(self.members, self._data, starts, interleave(set_points)[None])
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

    def starts(self, q: Array, qd: Array, base: BaseState) -> Array:
        """The states to start from (members, size), as of `forecast`; sets each member's gravity."""
        f = self.forecaster
        A = f.ground.frame()
        down = f.ground.gravity(base, f.config.slope)
        points = self._points[:, len(_MODEL) :]
        twist = points[:, 2:] @ _root(base.twist_covariance).T
        tilt = np.sqrt(np.diag(base.covariance)[3:5].clip(0.0)).clip(0.0, self.config.tilt)
        starts = np.empty((self.config.size, self.model.size))
        for i, (p, member) in enumerate(zip(points, self.members, strict=True)):
            # What of the attitude is not known turns gravity, not the soles, which lie on the ground.
            member.opt.gravity[:] = GRAVITY * (exp_so3([tilt[0] * p[0], tilt[1] * p[1], 0.0]) @ down)
            starts[i] = self.model.start(
                q, qd, A @ base.position, A @ base.rotation, base.velocity + twist[i, :3],
                base.angular_velocity + twist[i, 3:], base.contacts,
            )  # fmt: skip
        return starts


def _whitened(points: Array) -> Array:
    """Points (members, m) moved as little as possible so that mean and covariance are those of the normal, 0 and 1.

    Sixteen points in fourteen dimensions are correlated by chance. Where there are fewer points than dimensions, each
    dimension has its mean and variance right.
    """
    centred = points - points.mean(axis=0)
    if len(points) <= points.shape[1]:
        return np.asarray(centred / centred.std(axis=0))
    u, _, vt = np.linalg.svd(centred / centred.std(axis=0), full_matrices=False)
    return np.asarray(np.sqrt(len(points)) * u @ vt)


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
