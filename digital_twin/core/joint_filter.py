"""A Kalman filter per joint, all at once: position, speed and acceleration from encoders that are quantised, noisy,
or silent.

The model is Singer's (1970): an acceleration that keeps for a while and fades. A joint that is not in a message is
carried on by the model, its variance growing; after `silent_after` it is held where it is and marked. Once the messages
come at a steady pace the gains no longer change, and are no longer computed.

Where nobody has said how fine an encoder is, its step is found: the least difference between readings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import expm

from digital_twin.core.arrays import Array, Mask, or_zero
from digital_twin.core.config import param

NS = 1_000_000_000
UNKNOWN_STEP = 0.002  # of an encoder of which nothing is known yet: 12 bits a turn are 0.0015 rad
LESSONS = 1000
SPEED = 1  # row of the speed


@dataclass(frozen=True)
class JointFilterConfig:
    """Tuning of the joint filter."""

    acceleration: float = param(10.0, "standard deviation of a joint's acceleration", unit="rad/s²", low=0.1, high=1e5)
    fading: float = param(0.02, "time over which an acceleration fades", unit="s", low=1e-3, high=10)
    velocity_noise: float = param(0.05, "standard deviation of a reported speed", unit="rad/s", low=1e-4, high=10)
    silent_after: float = param(0.5, "a joint that has not reported for so long is marked", unit="s", low=0.01, high=60)


class JointFilter:
    """Positions, speeds and accelerations of n joints.

    Attributes:
        x: (3, n), rows [rad], [rad/s], [rad/s²]; positions NaN until a joint has reported once, then never again.
        whitened: the last message's errors of position against the forecast, in standard deviations (n,); NaN where
            a joint did not report.
    """

    x: Array
    whitened: Array
    _raw: Array
    _steady: tuple[Array, ...]  # gains that have settled

    def __init__(self, n: int, encoder_noise: Array, encoder_resolution: Array, config: JointFilterConfig) -> None:
        self.config = config
        self._noise, self._unknown = encoder_noise, encoder_resolution <= 0.0
        self.reading_variance = np.zeros(n)
        self._set_step(np.where(self._unknown, UNKNOWN_STEP, encoder_resolution))
        self._lessons = LESSONS if self._unknown.any() else 0
        self._r_velocity = config.velocity_noise**2
        self._n = n
        self.reset()

    def _set_step(self, step: Array) -> None:
        # A quantised reading is off by up to half a step, evenly: variance step² / 12.
        self._step = step
        self.reading_variance[:] = np.maximum(self._noise**2 + step**2 / 12, 1e-12)

    def _learn_step(self, q: Array) -> None:
        """The least change of an encoder's reading is its step; a thousand readings are enough to see it."""
        change = np.abs(q - self._raw)
        self._raw = np.where(np.isfinite(q), q, self._raw)
        finer = self._unknown & (change > 1e-9) & (change < 0.9 * self._step)
        if finer.any():
            self._set_step(np.where(finer, change, self._step))
            self._steady = ()
        self._lessons -= 1

    def reset(self) -> None:
        """Forget everything; the next readings are taken as they are."""
        n = self._n
        self.x = np.zeros((3, n))
        self.x[0] = np.nan
        self.whitened = np.full(n, np.nan)
        self._P = np.zeros((n, 3, 3))
        self._raw = np.full(n, np.nan)
        self._seen, self._seen_ns = np.zeros(n, dtype=np.int64), 0
        self._stamp_ns: int | None = None
        self._rhythm: tuple[int, bool] = (0, False)
        self._settling = np.full(n, np.inf)
        self._sigma = np.ones(n)
        self._steady = ()

    _CHANGING = (
        "x",
        "whitened",
        "_P",
        "_raw",
        "_seen",
        "_seen_ns",
        "_stamp_ns",
        "_rhythm",
        "_settling",
        "_sigma",
        "_steady",
    )

    def snapshot(self) -> tuple[object, ...]:
        """All that changes; arrays are replaced here, never changed in place."""
        return tuple(getattr(self, name) for name in self._CHANGING)

    def restore(self, snapshot: tuple[object, ...]) -> None:
        """Go back to a snapshot."""
        for name, value in zip(self._CHANGING, snapshot, strict=True):
            setattr(self, name, value)

    @property
    def q(self) -> Array:
        """Positions [rad] (n,)."""
        return np.asarray(self.x[0])

    @property
    def qd(self) -> Array:
        """Speeds [rad/s] (n,)."""
        return np.asarray(self.x[1])

    @property
    def qdd(self) -> Array:
        """Accelerations [rad/s²] (n,)."""
        return np.asarray(self.x[2])

    @property
    def known(self) -> Mask:
        """Which joints have ever reported (n,) of bool."""
        return np.asarray(np.isfinite(self.x[0]))

    @property
    def step(self) -> Array:
        """Steps of the encoders [rad] (n,), as far as they are known: the least change that was seen."""
        return self._step

    @property
    def variance(self) -> Array:
        """Variance of position [rad²], speed [(rad/s)²] and acceleration [(rad/s²)²] (n, 3)."""
        return np.diagonal(self._P, axis1=1, axis2=2)

    def silent(self, now_ns: int) -> Mask:
        """Which joints have reported once but not lately (n,) of bool."""
        late = now_ns - np.maximum(self._seen, self._seen_ns) > self.config.silent_after * NS
        return np.asarray(self.known & late)

    def update(self, stamp_ns: int, q: Array, qd: Array | None) -> None:
        """Take one message, newer than the last: positions [rad] (n,), NaN where missing; speeds likewise, or None."""
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) / NS
        self._stamp_ns = stamp_ns
        if self._lessons:
            self._learn_step(q)
        rhythm = (round(dt * 2000), qd is not None)
        whole = not math.isnan(q.sum()) and (qd is None or not math.isnan(qd.sum()))
        if whole and self._steady and rhythm == self._rhythm:
            self._seen_ns = stamp_ns
            self._follow(self._steady, dt, q, qd)
            return
        self._rhythm, self._steady = rhythm, ()
        self._filter(dt, stamp_ns, q, qd)

    def ahead(self, dt: float) -> tuple[Array, Array]:
        """Positions and speeds dt [s] after the last message."""
        x = _transition(dt, self.config.fading) @ self.x
        return x[0], x[1]

    def _follow(self, gains: tuple[Array, ...], dt: float, q: Array, qd: Array | None) -> None:
        """A step of a filter whose gains have settled: all joints report, at the pace at which they did before."""
        x = _transition(dt, self.config.fading) @ self.x
        error = q - x[0]
        self.whitened = error / self._sigma
        x = x + gains[0] * error
        self.x = x if qd is None else x + gains[1] * (qd - x[1])

    def _filter(self, dt: float, stamp_ns: int, q: Array, qd: Array | None) -> None:
        """A step of the filter with its covariance."""
        fresh = np.isfinite(q)
        everything = bool(fresh.all())
        if dt > 0.0:
            self._predict(dt, stamp_ns)
        started = np.isfinite(self.x[0])
        if not started.all():
            self._start(fresh & ~started, q, qd)
        self._sigma = np.sqrt(self._P[:, 0, 0] + self.reading_variance)
        self.whitened = (q - self.x[0]) / self._sigma
        gains: tuple[Array, ...] = (self._correct(0, self.reading_variance, q - self.x[0], fresh),)
        if qd is not None:
            gains += (self._correct(SPEED, self._r_velocity, qd - self.x[SPEED], np.isfinite(qd)),)
        speed = self._P[:, SPEED, SPEED]
        settled = bool(np.all(np.abs(speed - self._settling) <= 1e-4 * speed))
        self._settling = speed
        self._seen = np.where(fresh, stamp_ns, self._seen)
        self._steady = gains if settled and everything else ()

    def _start(self, new: Mask, q: Array, qd: Array | None) -> None:
        fresh = np.stack([q, np.zeros(self._n) if qd is None else or_zero(qd), np.zeros(self._n)])
        self.x = np.where(new, fresh, self.x)
        P = np.zeros((self._n, 3, 3))
        P[:, 0, 0] = self.reading_variance
        P[:, 1, 1] = self._r_velocity if qd is not None else 1.0
        P[:, 2, 2] = self.config.acceleration**2
        self._P = np.where(new[:, None, None], P, self._P)

    def _predict(self, dt: float, now_ns: int) -> None:
        silent = self.silent(now_ns)
        x = self.x
        if silent.any():
            x = np.vstack([x[0], np.where(silent, 0.0, x[1:])])
        F = _transition(dt, self.config.fading)
        self.x = F @ x
        self._P = F @ self._P @ F.T + self.config.acceleration**2 * _disturbance(round(dt, 4), self.config.fading)

    def _correct(self, row: int, variance: Array | float, innovation: Array, mask: Mask) -> Array:
        """A measurement of one row of x. Returns the gains (3, n)."""
        P = self._P
        k = np.where(mask[:, None], P[:, :, row] / (P[:, row, row] + variance)[:, None], 0.0)
        self.x = self.x + k.T * np.where(mask, innovation, 0.0)
        self._P = P - k[:, :, None] * P[:, None, row, :]
        return np.asarray(k.T)


def _transition(dt: float, fading: float) -> Array:
    """Of position, speed and acceleration over dt [s], the acceleration fading as exp(−t / fading) (3, 3)."""
    e = math.exp(-dt / fading)
    lost = fading * (1.0 - e)
    return np.array([[1.0, dt, fading * (dt - lost)], [0.0, 1.0, lost], [0.0, 0.0, e]])


@lru_cache(maxsize=1024)
def _disturbance(dt: float, fading: float) -> Array:
    """Covariance that an acceleration of variance 1 adds over dt (3, 3), by van Loan's exponential (1978)."""
    A = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0 / fading]])
    M = np.zeros((6, 6))
    M[:3, :3], M[3:, 3:] = -A, A.T
    M[2, 5] = 2.0 / fading
    # Long gaps: the exponential of −A would overflow long after the covariance has become a straight line.
    steps = max(1, math.ceil(dt / (5.0 * fading)))
    E = expm(M * (dt / steps))
    F = E[3:, 3:].T
    Q = once = F @ E[:3, 3:]
    for _ in range(min(steps, 2000) - 1):
        Q = F @ Q @ F.T + once
    return np.asarray(Q)
