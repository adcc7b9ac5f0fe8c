"""Torques that no parameter explains: a Gaussian process for each joint, of its position and speed.

r(q, q̇) ~ GP(0, a² exp(−½ (Δq² / l_q² + Δq̇² / l_v²))) with noise (Rasmussen, Williams 2006). Its mean goes to zero and its
variance to a² away from the data; what is added to a forecast is the mean times the share of the variance that the data
took away, so that physics is alone where nothing was seen. The hyperparameters are found by scikit-learn; what is needed
to go on is a few numbers, kept in the version's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError, TwinError, unknown

MOST_POINTS = 120
FOLDS = 5
GAIN = 0.1  # least relative reduction of the error on folds that were left out
LEAST_TORQUE = 0.05  # [N m]: residuals smaller than this are left alone
_LENGTHS = (0.3, 0.6)  # [rad], [rad/s] to begin with


@dataclass(frozen=True)
class JointResidual:
    """Of one joint: points and hyperparameters."""

    q: list[float] = param(doc="positions", unit="rad")
    qd: list[float] = param(doc="speeds", unit="rad/s")
    torque: list[float] = param(doc="that the motor gave beyond what the model needs", unit="N·m")
    length_q: float = param(doc="over which it changes with position", unit="rad", low=1e-4, high=1e3)
    length_qd: float = param(doc="over which it changes with speed", unit="rad/s", low=1e-4, high=1e4)
    amplitude: float = param(doc="standard deviation before the data", unit="N·m", low=1e-6, high=1e4)
    noise: float = param(doc="standard deviation of a point's noise", unit="N·m", low=1e-6, high=1e4)


@dataclass(frozen=True)
class ResidualConfig:
    """Of all joints that have one."""

    joints: dict[str, JointResidual] = param({}, "by the joint's name")


class _Process:
    """One joint's, ready to ask."""

    def __init__(self, c: JointResidual, where: str) -> None:
        x = np.column_stack([c.q, c.qd]) if len(c.q) == len(c.qd) == len(c.torque) else np.empty((0, 2))
        if not 0 < len(x) <= 10 * MOST_POINTS or not np.isfinite(x).all() or not np.isfinite(c.torque).all():
            raise ConfigError(f"{where}: a residual needs as many finite positions, speeds and torques")
        self._scale = np.array([c.length_q, c.length_qd])
        self._x, self._a2 = x / self._scale, c.amplitude**2
        K = self._kernel(self._x) + c.noise**2 * np.eye(len(x))
        self._inverse = np.linalg.inv(K)
        self._weights = self._inverse @ np.array(c.torque)

    def _kernel(self, x: Array) -> Array:
        d2 = ((x[..., None, :] - self._x) ** 2).sum(axis=-1)
        return np.asarray(self._a2 * np.exp(-0.5 * d2))

    def ask(self, q: Array, qd: Array) -> tuple[Array, Array]:
        """Mean [N m] and how much of the variance the data took away, in [0, 1]; of any shape."""
        k = self._kernel(np.stack([q, qd], axis=-1) / self._scale)
        explained = ((k @ self._inverse) * k).sum(axis=-1) / self._a2
        return np.asarray(k @ self._weights), np.clip(explained, 0.0, 1.0)


class ResidualTorque:
    """What forecasts add to the joints of a robot."""

    def __init__(self, config: ResidualConfig, joint_names: list[str], where: str = "residual") -> None:
        """Raises ConfigError when a joint is not known, or its numbers make no sense."""
        for name in config.joints:
            if name not in joint_names:
                raise ConfigError(f"{where}: {unknown('joint', name, joint_names)}")
        self.n = len(joint_names)
        self._each = {joint_names.index(n): _Process(c, f"{where}: {n}") for n, c in config.joints.items()}

    def __bool__(self) -> bool:
        return bool(self._each)

    def ask(self, q: Array, qd: Array) -> tuple[Array, Array]:
        """Mean [N m] of what motors give beyond what the model needs, and confidence in [0, 1]; (…, n) each."""
        mean, sure = np.zeros(q.shape), np.zeros(q.shape)
        for i, process in self._each.items():
            mean[..., i], sure[..., i] = process.ask(q[..., i], qd[..., i])
        return mean, sure

    def correction(self, q: Array, qd: Array) -> Array:
        """Torque to add to the joints (…, n) [N m]: what the model lacks, by confidence."""
        mean, sure = self.ask(q, qd)
        return np.asarray(-mean * sure)


# Fitting


def fit_residual(q: Array, qd: Array, torque: Array, joint_names: list[str], seed: int = 1) -> ResidualConfig:
    """Processes of those joints whose residuals (K, n) can be foretold from position and speed.

    Raises:
        TwinError: scikit-learn is not installed.
    """
    found = {}
    for i, name in enumerate(joint_names):
        ok = np.isfinite(torque[:, i])
        x, y = np.column_stack([q[ok, i], qd[ok, i]]), torque[ok, i]
        if len(y) >= 4 * FOLDS and y.std() > LEAST_TORQUE and _gain(x, y) > GAIN:
            one = _fit(x, y, np.random.default_rng([seed, i]))
            if one is not None:
                found[name] = one
    return ResidualConfig(found)


def _gain(x: Array, y: Array) -> float:
    """By how much a process with set lengths reduces the error on stretches of time that it has not seen."""
    left = np.empty_like(y)
    parts = np.array_split(np.arange(len(y)), FOLDS)
    for part in parts:
        rest = np.setdiff1d(np.arange(len(y)), part)
        rest = rest[:: max(1, len(rest) // MOST_POINTS)]
        p = _Process(_settings(x[rest], y[rest], _LENGTHS, float(y.std()), float(y.std())), "residual")
        left[part] = y[part] - p.ask(x[part, 0], x[part, 1])[0]
    return 1.0 - float(np.sqrt((left**2).mean() / (y**2).mean()))


def _settings(x: Array, y: Array, lengths: Any, amplitude: float, noise: float) -> JointResidual:
    return JointResidual(
        x[:, 0].tolist(), x[:, 1].tolist(), y.tolist(), float(lengths[0]), float(lengths[1]), amplitude, noise
    )


def _fit(x: Array, y: Array, rng: np.random.Generator) -> JointResidual | None:
    """Hyperparameters by maximum marginal likelihood; None when there is nothing but noise."""
    try:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    except ImportError as e:
        raise TwinError("a residual needs scikit-learn: pip install digital-twin[learn]") from e
    import warnings

    chosen = np.sort(rng.choice(len(y), min(len(y), MOST_POINTS), replace=False))
    variance = float(y.var())
    kernel = ConstantKernel(variance, (1e-3 * variance, 1e3 * variance)) * RBF(
        _LENGTHS, [(0.03, 10.0), (0.03, 30.0)]
    ) + WhiteKernel(variance, (1e-3 * variance, 3.0 * variance))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at its bound is an answer
        gp = GaussianProcessRegressor(kernel, normalize_y=False, random_state=0).fit(x[chosen], y[chosen])
    found = gp.kernel_
    amplitude, noise = float(np.sqrt(found.k1.k1.constant_value)), float(np.sqrt(found.k2.noise_level))
    if amplitude < LEAST_TORQUE:
        return None
    return _settings(x[chosen], y[chosen], found.k1.k2.length_scale, amplitude, noise)
