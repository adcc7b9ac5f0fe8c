"""Which of two models foretells a window better: forecasts from many of its states, paired, with an interval.

Each forecast starts at a synchronized state and is given the commands that were recorded. Errors of joints, base position
and attitude at the horizon are each measured in units of what a perfect model would leave; what counts is the ratio of
root mean squares, and its interval is found by drawing blocks of starts again and again (moving blocks: Künsch 1989).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields

import mujoco
import numpy as np
from mujoco import rollout

from digital_twin.core.arrays import Array, Index
from digital_twin.core.contact_laws import apply_contacts
from digital_twin.core.description import Description
from digital_twin.core.drift.residual_gp import ResidualConfig, ResidualTorque
from digital_twin.core.drift.signals import SHORT, even, smooth
from digital_twin.core.drift.update_config import HoldoutConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError
from digital_twin.core.forecast_model import ForecastModel
from digital_twin.core.forecaster import GRAVITY
from digital_twin.core.ground import MOST_LEAN, down, upright
from digital_twin.core.model import Kinematics, RobotModel
from digital_twin.core.prediction_config import ForecastConfig
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import log_so3
from digital_twin.core.world import World

GROUPS = ("joints", "position", "attitude")
LOAD_SHARE = 0.05  # of the weight: a foot that bears more stands
DRAWS = 2000
CHUNK = 0.02  # [s] after which a residual is asked again
BLOCK = 0.5  # [s] of starts that are drawn together
_FLOOR = (5e-4, 4e-3, 4e-3)  # [rad], [m], [rad]: what the synchronizer's own errors leave of the best forecast
MOST_STARTS = 200
FEW = 9  # forecasts that tell at which time commands suit a model best
LEAD = 0.1  # [s] in which soles come to lean as a model's contacts would have them
TILT = 0.01  # [rad] by which the attitude in a window may err
LONG, STRETCH = 20.0, 3.0  # [s]: a window that is split into stretches, and their length


@dataclass(frozen=True)
class Candidate:
    """A model as forecasts need it; `delay` of its commands [s]."""

    description: Description
    config: RobotConfig
    delay: float
    residual: ResidualConfig = field(default_factory=ResidualConfig)

    def compile(
        self, model: RobotModel, timestep: float, world: World | None = None, *, sensors: bool = False
    ) -> ForecastModel:
        """Ready to be simulated, with the contacts of its config. Raises TwinError when it does not compile."""

        def alter(spec: mujoco.MjSpec) -> None:
            apply_contacts(spec, self.config.contacts)

        return ForecastModel(model, self.config, Joints(self.config, model), world, timestep, alter, sensors=sensors)


@dataclass(frozen=True)
class Comparison:
    """Of a new model with an old one. RMSE by group: joints [rad], position [m], attitude [rad]; low, high: 95 %."""

    ratio: float
    low: float
    high: float
    forecasts: int
    horizon: float
    before: dict[str, float]
    after: dict[str, float]

    def better(self, margin: float) -> bool:
        """Whether the new one is better by a margin, with confidence."""
        return self.high < 1.0 - margin

    def worse(self, margin: float) -> bool:
        """Whether it is worse by a margin, with confidence."""
        return self.low > 1.0 + margin

    def __str__(self) -> str:
        return (
            f"error {1000 * self.horizon:.0f} ms ahead is {self.ratio:.2f} of the old model's "
            f"(95 %: {self.low:.2f} to {self.high:.2f}, {self.forecasts} forecasts)"
        )


def split(w: Window, share: float) -> tuple[Window, Window]:
    """A part to learn from, and a `share` to prove with: the end, or of a long window parts from all over it.

    A calibration moves one group of joints after another; its end alone would prove only what moves last.
    """
    if w.duration < LONG:
        cut = round(len(w) * (1.0 - share))
        return w[:cut], w[cut:]
    block = ((w.stamps_ns - w.stamps_ns[0]) * 1e-9 // STRETCH).astype(int)
    proof = np.floor((block + 1) * share) > np.floor(block * share)
    return tuple(Window(*(getattr(w, f.name)[part] for f in fields(w))) for part in (~proof, proof))  # type: ignore[return-value]


class Trials:
    """Forecasts of one window by any model: start states, commands, and what came to be."""

    def __init__(
        self, w: Window, config: HoldoutConfig, *, feeds_speed: bool, feet: int, weight: float, world: World | None = None
    ) -> None:  # fmt: skip
        """Raises TwinError when not one forecast fits in."""
        self.config, self.world, self.timing = config, world, 0.0
        self.dt, self.window, whole = even(w)
        ahead = round(config.horizon / self.dt)
        speeds = np.nan_to_num(smooth(self.window.command, self.dt, SHORT, 1))
        self._speeds = speeds if feeds_speed else np.zeros_like(speeds)
        w = self.window
        self._whole = ok = (
            whole & np.isfinite(w.q).all(1) & np.isfinite(w.position).all(1) & np.isfinite(w.command).any(1)
        )
        first = np.arange(0, len(w) - ahead, max(1, round(config.spacing / self.dt)))
        first = first[[bool(ok[i : i + ahead + 1].all()) for i in first]] if len(first) else first
        if not len(first):
            raise TwinError(f"the window holds no whole {config.horizon:g} s to prove a model with")
        self.starts: Index = first[np.linspace(0, len(first) - 1, min(len(first), MOST_STARTS)).astype(int)]
        self.ends = self.starts + ahead
        load = w.wrenches[:, :, 2] if feet else np.zeros((len(w), 0))
        known = np.isfinite(load).all(axis=1, keepdims=True)
        self.contacts = np.where(known, load > LOAD_SHARE * weight, True)

    def best_errors(self, c: Candidate) -> Array:
        """As `errors`, with commands that come when it suits the model best: `timing` later than half a period before their
        sample [s], which a window does not say, and a millisecond is a milliradian at 1 rad/s.

        Each model has its own: a wrong one is best beside a wrong time, and would lend it to a right one.
        """
        some, tried, f = copy(self), {}, self._compile(c)
        every = max(1, min(3, len(self.starts) // FEW))
        some.starts, some.ends = self.starts[::every], self.ends[::every]

        def attempt(shift: float) -> float:
            some.timing = shift * self.dt
            tried[shift] = float(np.mean(some._errors(f, c)[:, :-6] ** 2))
            return tried[shift]

        shifts = [-0.5, 0.0, 0.5]
        a, b, _ = np.polyfit(shifts, [attempt(s) for s in shifts], 2)
        best = float(np.clip(-b / (2.0 * a), -0.6, 0.6)) if a > 0.0 else min(shifts, key=lambda s: tried[s])
        self.timing = best * self.dt
        return self._errors(f, c)

    def errors(self, c: Candidate) -> Array:
        """(N, n + 6) of joints [rad], base position [m] and attitude [rad] at the horizon.

        Raises:
            TwinError: the model cannot be simulated, or diverges.
        """
        return self._errors(self._compile(c), c)

    def _compile(self, c: Candidate) -> ForecastModel:
        return c.compile(RobotModel(c.description, c.config.base_frame), self.config.timestep, self.world)

    def _errors(self, f: ForecastModel, c: Candidate) -> Array:
        starts, controls, A = self.prepare(f, c)
        m, first = f.motion(self._simulate(f, starts, controls, c)), f.motion(starts)
        w, end = self.window, self.ends
        moved = w.position[end] - w.position[self.starts]
        back = A.transpose(0, 2, 1)
        position = np.einsum("tij,tj->ti", back, m.position - first.position) - moved
        turned = [log_so3(now @ then.T) for now, then in zip(w.rotation[end], back @ m.rotation, strict=True)]
        out = np.concatenate([m.q - w.q[end], position, np.array(turned)], axis=1)
        if not np.isfinite(out).all() or np.abs(out).max() > 10.0:
            raise TwinError("forecasts with the new model diverge")
        return out

    def prepare(self, f: ForecastModel, c: Candidate) -> tuple[Array, Array, Array]:
        """Start states (N, size), controls (N, steps, nu), and R_ground_odom (N, 3, 3) in which each stands."""
        w, zero = self.window, f.joints.zero_error
        soles = f.model.kinematics([foot.frame for foot in c.config.feet])
        feet = self.contacts[self.starts]
        seen = _normals(soles, w.q[self.starts] - zero, w.rotation[self.starts], feet)
        mean = seen.mean(axis=0)
        f.mj.opt.gravity[:] = GRAVITY * down(mean / np.linalg.norm(mean), TILT**2 * np.eye(2), ForecastConfig().slope)
        A = np.array([upright(n) for n in seen - self._leans(f, c, soles)])
        return *self._begin(f, c, self.starts, A, self.config.horizon), A

    def _begin(self, f: ForecastModel, c: Candidate, at: Index, A: Array, seconds: float) -> tuple[Array, Array]:
        """Start states and controls."""
        starts = np.array([self._start(f, i, R) for i, R in zip(at, A, strict=True)])
        return starts, np.array([self._controls(f.model.n, i, c.delay, seconds) for i in at])

    def _leans(self, f: ForecastModel, c: Candidate, soles: Kinematics) -> Array:
        """How the standing soles lean on the model's contacts: their normals less the ground's, in odom (N, 3).

        By a simulation that begins a little before, with soles that lie flat; zero where the window does not reach there.
        """
        w, zero, out = self.window, f.joints.zero_error, np.zeros((len(self.starts), 3))
        ok, lead = self._whole, round(LEAD / self.dt)
        before = self.starts - lead
        stood = [i >= 0 and bool(ok[i : i + lead + 1].all()) for i in before]
        rows = np.flatnonzero(
            np.array(stood) & self.contacts[self.starts].any(axis=1) & self.contacts[before].any(axis=1)
        )
        if not len(rows):
            return out
        before = before[rows]
        A = np.array(
            [upright(n) for n in _normals(soles, w.q[before] - zero, w.rotation[before], self.contacts[before])]
        )
        m = f.motion(self._simulate(f, *self._begin(f, c, before, A, LEAD), c))
        leans = _normals(soles, m.q - zero, m.rotation, self.contacts[self.starts[rows]]) - [0.0, 0.0, 1.0]
        leans[np.abs(leans).max(axis=1) > MOST_LEAN] = 0.0  # it was forecast to be in the air
        out[rows] = np.einsum("tji,tj->ti", A, leans)
        return out

    def _simulate(self, f: ForecastModel, starts: Array, controls: Array, c: Candidate) -> Array:
        """States (N, size) at the horizon."""
        residual = ResidualTorque(c.residual, f.model.joint_names)
        every = round(CHUNK / self.config.timestep) if residual else controls.shape[1]
        now = starts
        for i in range(0, controls.shape[1], every):
            part = controls[:, i : i + every]
            if residual:
                m = f.motion(now)
                part = part.reshape(*part.shape[:2], -1, 3).copy()
                part[..., 2] += residual.correction(m.q, m.qd)[:, None]
                part = part.reshape(len(now), part.shape[1], -1)
            states, _ = rollout.rollout(f.mj, f.data, now, part)
            now = states[:, -1]
        return np.asarray(now)

    def _start(self, f: ForecastModel, i: int, A: Array) -> Array:
        w = self.window
        velocity = w.rotation[i].T @ w.velocity[i]
        return f.start(
            w.q[i], w.qd[i], A @ w.position[i], A @ w.rotation[i], velocity, w.angular_velocity[i],
            tuple(self.contacts[i]),
        )  # fmt: skip

    def _controls(self, n: int, i: int, delay: float, seconds: float) -> Array:
        """(steps, 3 n): a command recorded at a sample arrived, at a guess, half a period before it."""
        w, h = self.window, self.config.timestep
        steps = round(seconds / h)
        at = i + np.floor((np.arange(steps) * h - delay - self.timing) / self.dt + 0.5).astype(int)
        at = np.clip(at, 0, len(w) - 1)
        position = np.where(np.isfinite(w.command[at]), w.command[at], w.q[i])
        out = np.zeros((steps, n, 3))
        out[:, :, 0] = position
        out[:, :, 1] = self._speeds[at]
        return out.reshape(steps, 3 * n)


def _normals(soles: Kinematics, q: Array, rotation: Array, contacts: Array) -> Array:
    """The mean of the standing soles' normals, unit vectors (N, 3); upwards where none stands."""
    out = np.tile([0.0, 0.0, 1.0], (len(q), 1))
    for row, standing in enumerate(contacts):
        if standing.any():
            soles.update(q[row])
            mean = rotation[row] @ soles.rotation[standing][:, :, 2].mean(axis=0)
            out[row] = mean / np.linalg.norm(mean)
    return out


def grouped(errors: Array) -> dict[str, float]:
    """RMSE of each group from errors (N, n + 6); of vectors in space their length counts."""
    parts = errors[:, :-6], errors[:, -6:-3], errors[:, -3:]
    size = 1.0, 3.0, 3.0
    return {g: float(np.sqrt(s * (e**2).mean())) for g, e, s in zip(GROUPS, parts, size, strict=True)}


def compare(before: Array, after: Array, config: HoldoutConfig, seed: int = 1) -> Comparison:
    """Of two models' errors (N, n + 6) on the same forecasts."""
    scale = np.repeat(_FLOOR, [before.shape[1] - 6, 3, 3])
    share = np.repeat([1.0 / (before.shape[1] - 6), 1.0 / 3.0, 1.0 / 3.0], [before.shape[1] - 6, 3, 3])
    old, new = (((e / scale) ** 2) @ share for e in (before, after))
    length = max(1, min(len(old) // 4, round(BLOCK / config.spacing)))
    rng = np.random.default_rng(seed)
    blocks = -(-len(old) // length)
    first = rng.integers(0, len(old) - length + 1, (DRAWS, blocks))
    drawn = (first[:, :, None] + np.arange(length)).reshape(DRAWS, -1)
    ratios = np.sqrt(new[drawn].sum(axis=1) / np.maximum(old[drawn].sum(axis=1), 1e-12))
    low, high = np.quantile(ratios, [0.025, 0.975])
    ratio = float(np.sqrt(new.sum() / max(old.sum(), 1e-12)))
    return Comparison(
        ratio, float(low), float(high), len(old), config.horizon, grouped(before), grouped(after)
    )  # fmt: skip
