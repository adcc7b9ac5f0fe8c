"""The servos from what was asked of them and what they gave: strength, zero error and delay.

τ(t) = s (k_p (c(t − δ) − q(t) + z) + k_d (g ċ(t − δ) − q̇(t))): s the motor's strength, z by how much positions read too
large beside commands, δ the delay. g is 1 for a source that feeds speeds forward, else 0. For one δ and g this is linear
in s and s z; δ is tried in steps of a sample, which is how well it can be known. A delay within a sample of the one
that is assumed is no news.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.drift.estimate import (
    Estimate,
    Excitation,
    correlation_time,
    excitation,
    label,
    robust_deviation,
    solve,
)
from digital_twin.core.drift.signals import SHORT, SPAN, even, smooth
from digital_twin.core.drift.window import Window
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints

MOST_DELAY = 0.1  # [s] that is looked for
STRENGTH, ZERO = 0.15, 0.02  # standard deviations before the data: relative, and [rad]
LEAST_NOISE = 0.02  # [N m]
SATURATED = 0.97
LEAST_STRENGTH = 0.1  # of a motor that obeys its servo


@dataclass(frozen=True)
class Servos:
    """What was found.

    estimates: by name, like "strength of l_knee"; the delay too. feeds_speed: the commands' source gives speeds as well.
    delay: from a command to its torque [s].
    """

    estimates: dict[str, Estimate]
    excitation: Excitation
    feeds_speed: bool
    delay: float


@dataclass
class _Fit:
    x: Array  # (2,) of s − 1 and s z
    covariance: Array
    information: Array


def identify_servos(w: Window, model: RobotModel, joints: Joints, delay: float) -> Servos:
    """Fit all servos to a window. `delay` [s] is the one in service, `joints` hold the strengths and zeros in service."""
    dt, w, whole = even(w)
    q, command = w.q - joints.zero_error, w.command
    qd, speed = smooth(q, dt, SHORT, 1), smooth(command, dt, SHORT, 1)
    usable = whole[:, None] & np.isfinite(w.effort + command + q + qd + speed)
    usable &= np.abs(w.effort) < SATURATED * np.where(np.isfinite(model.max_effort), model.max_effort, np.inf)
    most = min(round(MOST_DELAY / dt), len(w) // 4)
    data = _Data(w.effort, command, speed, q, qd, usable, joints, dt)
    costs = {(lag, feeds): data.cost(lag, feeds=feeds) for feeds in (True, False) for lag in range(most + 1)}
    lag, feeds = min(costs, key=lambda key: costs[key])
    fits = [data.fit(i, lag, feeds=feeds) for i in range(model.n)]
    return _summary(lag * dt, dt, feeds, fits, model, joints, delay, w)


@dataclass
class _Data:
    """Signals (T, n), and where they can be used."""

    effort: Array
    command: Array
    speed: Array
    q: Array
    qd: Array
    usable: Mask
    joints: Joints
    dt: float

    def _law(self, lag: int, *, feeds: bool) -> tuple[Array, Mask]:
        """What the servos would give with a delay of so many samples, and where both are there."""
        then, now = slice(0, len(self.q) - lag), slice(lag, None)
        speed = self.speed[then] if feeds else 0.0
        law = self.joints.kp * (self.command[then] - self.q[now]) + self.joints.kd * (speed - self.qd[now])
        return law, self.usable[now] & self.usable[then]

    def cost(self, lag: int, *, feeds: bool) -> float:
        """Mean square of what the best strengths and zeros leave [N² m²]."""
        law, ok = self._law(lag, feeds=feeds)
        count = np.maximum(ok.sum(axis=0), 1)
        x, y = (np.where(ok, v, 0.0) for v in (law, self.effort[lag:]))
        xx, xy, yy = (
            (a * b).sum(axis=0) / count - a.sum(axis=0) * b.sum(axis=0) / count**2 for a, b in ((x, x), (x, y), (y, y))
        )
        left = yy - np.where(xx > 1e-12, xy**2 / np.maximum(xx, 1e-12), 0.0)
        return float(left.sum())

    def fit(self, i: int, lag: int, *, feeds: bool) -> _Fit | None:
        """Joint i; None where there is nothing to fit."""
        law, ok = self._law(lag, feeds=feeds)
        ok, kp = ok[:, i], self.joints.kp[i]
        if ok.sum() < 20 or kp <= 0.0:
            return None
        both = np.where(ok[:, None], np.stack([law[:, i], self.effort[lag:, i]], axis=1), np.nan)
        # Readings' noise is part of the law, and would make motors look weak: so the law is smoothed, and what may be
        # left of that, at most the noise of the fit over the law's own variance, widens the interval.
        both = smooth(both, self.dt)[:: max(1, round(SPAN / self.dt / 4))]
        law, effort = both[np.isfinite(both).all(axis=1)].T
        if len(law) < 10:
            return None
        A = np.stack([law, np.full(len(law), kp)], axis=1)
        b = effort - law
        residual = b - A @ np.linalg.lstsq(A, b, rcond=None)[0]
        noise = max(robust_deviation(residual), LEAST_NOISE)
        variance = noise**2 * correlation_time(residual)
        information = A.T @ A / variance
        x, covariance = solve(information, A.T @ b / variance, np.array([STRENGTH, ZERO]))
        bias = noise**2 / max(float(law.var()), 1e-12)
        covariance[0, 0] += min(bias, STRENGTH) ** 2
        return _Fit(x, covariance, information)


def _summary(
    lag: float, dt: float, feeds: bool, fits: list[_Fit | None], model: RobotModel, joints: Joints, delay: float, w: Window
) -> Servos:  # fmt: skip
    estimates: dict[str, Estimate] = {}
    told = Excitation()
    moving = False
    for name, fit, zero in zip(model.joint_names, fits, joints.zero_error, strict=True):
        if fit is None or not LEAST_STRENGTH < 1.0 + fit.x[0] < 1.0 / LEAST_STRENGTH:
            why = (
                "there is no measured torque beside a command" if fit is None else "its torque is not that of its servo"
            )
            told = told.joined(Excitation(refused={label(k, name): why for k in ("strength", "zero error")}))
            continue
        s = 1.0 + float(fit.x[0])
        errors = np.sqrt(np.diag(fit.covariance))
        each = {
            label("strength", name): Estimate(s, float(errors[0]), 1.0, STRENGTH),
            label("zero error", name): Estimate(
                float(zero + fit.x[1] / s), float(errors[1] / abs(s)), float(zero), ZERO, "rad"
            ),
        }
        moving |= each[label("strength", name)].told
        told = told.joined(excitation(fit.information, np.array([STRENGTH, ZERO]), each))
        estimates |= each
    # Within a sample of what is assumed nothing speaks against that.
    found = delay if abs(lag - delay) <= dt + 1e-9 else lag
    each = {"command delay": Estimate(found, dt / 3.0, delay, dt / 3.0 if not moving else MOST_DELAY, "s")}
    if np.ptp(np.nan_to_num(w.command), axis=0).max(initial=0.0) < 1e-3:
        each["command delay"] = Estimate(delay, MOST_DELAY, delay, MOST_DELAY, "s")
    told = told.joined(excitation(np.zeros((0, 0)), np.zeros(0), each))
    return Servos(estimates | each, told, feeds, each["command delay"].value)
