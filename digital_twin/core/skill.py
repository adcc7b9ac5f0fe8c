"""Were the forecasts right? Each is compared with what the synchronizer later said, and with two that need no model.

Persistence says that nothing moves, constant velocity that all goes on as it does. Skill is 1 − RMSE / RMSE of the
other: 1 is perfect, 0 no better, negative worse. The intervals are calibrated by how often they hold (adaptive conformal
inference: Gibbs, Candès 2021, with the quantile tracking of Angelopoulos, Candès, Tibshirani 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.forecaster import Forecast
from digital_twin.core.rotation import exp_so3, log_so3

NS = 1_000_000_000
HORIZONS = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
GROUPS = ("joints", "position", "attitude")
COVERAGE = 0.9
PENDING = 64  # forecasts that wait for their outcome, at each horizon
OUTCOMES = 300  # that scores are made of
MOST_GAP = 0.1  # [s] between two states within which the state at a forecast's time is found
LEARNING = 0.03  # of the intervals' widths, relative, for one outcome; more at first
_LEAST = (1e-4, 2e-4, 2e-4)  # [rad], [m], [rad]: the narrowest deviations; sensors are no better


_Seen = tuple[int, Array, Array, Array]  # stamp [ns], joints, base position and attitude


@dataclass(frozen=True)
class Score:
    """Of one horizon and group, over the last outcomes: RMSE of forecast, persistence and constant velocity."""

    count: int
    rmse: float
    persistence: float
    velocity: float
    coverage: float

    @property
    def skill(self) -> tuple[float, float]:
        """Against persistence and against constant velocity; NaN while nothing moved."""
        return _skill(self.rmse, self.persistence), _skill(self.rmse, self.velocity)


def _skill(rmse: float, other: float) -> float:
    return 1.0 - rmse / other if other > 0.0 else math.nan


class _Account:
    """Of one horizon: forecasts that wait, and outcomes, in arrays of a fixed size."""

    def __init__(self, numbers: int) -> None:
        self.due = np.zeros(PENDING, dtype=np.int64)
        self.first = self.waiting = 0
        self.said = np.empty((PENDING, 4, numbers))  # forecast, persistence, constant velocity, deviation
        self.turns = np.empty((PENDING, 3, 3, 3))  # base attitudes by forecast, persistence, constant velocity
        self.errors = np.empty((OUTCOMES, 3, numbers))
        self.held = np.empty((OUTCOMES, numbers), dtype=bool)
        self.outcomes = 0
        self.width = np.full(numbers, 1.645)


class SkillBook:
    """Keeps account of forecasts. Numbers per state: joints (n), base position (3), base attitude (3).

    Memory is fixed. `open` takes a forecast, `outcome` every synchronized state.
    """

    def __init__(self, n: int) -> None:
        self._n, self._numbers = n, n + 6
        self._accounts = [_Account(self._numbers) for _ in HORIZONS]
        self._last: _Seen | None = None
        self._parts = (slice(0, n), slice(n, n + 3), slice(n + 3, n + 6))
        self._least = np.repeat(_LEAST, (n, 3, 3))
        self.version = ""

    def reset(self, version: str = "") -> None:
        """Start new accounts: the model has changed, or the estimate has jumped."""
        self._accounts = [_Account(self._numbers) for _ in HORIZONS]
        self._last, self.version = None, version

    def open(self, f: Forecast, q: Array, qd: Array, base: BaseState, deviation: Array | None = None) -> None:
        """Book a forecast made from this state; `deviation` (k, n + 6) at the forecast's times, where it is known.

        A forecast by another model than the last starts new accounts.
        """
        if f.version != self.version:
            self.reset(f.version)
        for horizon, a in zip(HORIZONS, self._accounts, strict=True):
            said = self._at(f, horizon)
            if said is None or a.waiting == PENDING:
                continue
            i = (a.first + a.waiting) % PENDING
            a.due[i], a.waiting = f.stamp_ns + round(horizon * NS), a.waiting + 1
            numbers, turn = said
            a.said[i, 0] = numbers
            a.said[i, 1] = np.concatenate([q, base.position, np.zeros(3)])
            a.said[i, 2] = np.concatenate(
                [q + horizon * qd, base.position + horizon * (base.rotation @ base.velocity), np.zeros(3)]
            )
            a.said[i, 3] = np.maximum(self._least, 0.0 if deviation is None else _at(f.times, deviation, horizon))
            a.turns[i] = turn, base.rotation, base.rotation @ exp_so3(horizon * base.angular_velocity)

    def _at(self, f: Forecast, horizon: float) -> tuple[Array, Array] | None:
        """Numbers and attitude that a forecast says for a time, between its points; None beyond them."""
        if horizon > f.times[-1] + 1e-9:
            return None
        m = f.motion
        i = min(int(np.searchsorted(f.times, horizon - 1e-9)), len(f.times) - 1)
        # Before the first point it goes on from the state at the speeds of that point.
        back = f.times[i] - horizon
        q = m.q[i] - back * m.qd[i]
        position = m.position[i] - back * m.velocity[i]
        turn = m.rotation[i] @ exp_so3(-back * m.angular_velocity[i])
        return np.concatenate([q, position, np.zeros(3)]), turn

    def outcome(self, stamp_ns: int, q: Array, base: BaseState) -> None:
        """What was the case at a stamp; stamps rise."""
        last, self._last = self._last, (stamp_ns, q, base.position, base.rotation)
        if last is None or not 0 < stamp_ns - last[0] <= MOST_GAP * NS:
            for a in self._accounts:
                a.waiting = 0
            return
        for a in self._accounts:
            while a.waiting and a.due[a.first] <= stamp_ns:
                i, a.first, a.waiting = a.first, (a.first + 1) % PENDING, a.waiting - 1
                if a.due[i] > last[0]:
                    self._close(a, i, (int(a.due[i]) - last[0]) / (stamp_ns - last[0]), last, self._last)

    def _close(self, a: _Account, i: int, w: float, last: _Seen, now: _Seen) -> None:
        """Write down how forecast i turned out; the truth lies at a share w between two states."""
        _, q, position, rotation = now
        truth = np.concatenate([last[1] + w * (q - last[1]), last[2] + w * (position - last[2]), np.zeros(3)])
        turned = exp_so3(w * log_so3(rotation @ last[3].T)) @ last[3]
        errors = truth - a.said[i, :3]
        errors[:, -3:] = [log_so3(turned @ turn.T) for turn in a.turns[i]]
        if not np.isfinite(errors).all():
            return
        score = np.abs(errors[0]) / a.said[i, 3]
        held = score <= a.width
        k = a.outcomes % OUTCOMES
        a.errors[k], a.held[k] = errors, held
        a.outcomes += 1
        # Wider by nine parts when it failed, narrower by one when it held: in balance at 90 %.
        rate = max(LEARNING, 0.9 / math.sqrt(a.outcomes))
        a.width *= np.exp(rate * np.where(held, COVERAGE - 1.0, COVERAGE))

    def widths(self) -> Array:
        """Half widths of the 90 % intervals in deviations (6, n + 6), for each of HORIZONS."""
        return np.array([a.width for a in self._accounts])

    def score(self, horizon: float, group: str) -> Score | None:
        """None while there is no outcome."""
        a = self._accounts[HORIZONS.index(horizon)]
        count = min(a.outcomes, OUTCOMES)
        if not count:
            return None
        part = self._parts[GROUPS.index(group)]
        of = a.errors[:count, :, part]
        size = 1 if group == "joints" else 3  # of a vector in space the length counts
        rmse = np.sqrt(size * (of**2).mean(axis=(0, 2)))
        forecast, persistence, velocity = rmse.tolist()
        return Score(count, forecast, persistence, velocity, float(a.held[:count, part].mean()))

    def values(self) -> dict[str, float]:
        """All scores by name, like `joints_rmse@100ms`."""
        out = {}
        for horizon in HORIZONS:
            for group in GROUPS:
                s = self.score(horizon, group)
                if s is not None:
                    at = f"@{round(1000 * horizon)}ms"
                    against = s.skill
                    out[f"{group}_rmse{at}"], out[f"{group}_coverage{at}"] = s.rmse, s.coverage
                    out[f"{group}_skill_persistence{at}"], out[f"{group}_skill_velocity{at}"] = against
        return out


def _at(times: Array, values: Array, t: float) -> Array:
    """Values (k, m) at times (k,) between which a straight line is drawn, from zero at time zero."""
    i = min(int(np.searchsorted(times, t)), len(times) - 1)
    before, t0 = (values[i - 1], times[i - 1]) if i else (np.zeros_like(values[0]), 0.0)
    return np.asarray(before + (values[i] - before) * min(1.0, (t - t0) / max(times[i] - t0, 1e-9)))
