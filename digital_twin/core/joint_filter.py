"""A Kalman filter per joint, all at once: position and speed from encoders that are quantised, noisy, or silent.

The model is a constant speed disturbed by white acceleration. A joint that is not in a message is carried on by the
model, its variance growing; after `silent_after` it is held where it is and marked. Once the messages come at a
steady pace the gains no longer change, and are no longer computed.

Where nobody has said how fine an encoder is, its step is found: the least difference between readings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.config import param

NS = 1_000_000_000
UNKNOWN_STEP = 0.002  # of an encoder of which nothing is known yet: 12 bits a turn are 0.0015 rad
LESSONS = 1000


@dataclass(frozen=True)
class JointFilterConfig:
    """Tuning of the joint filter."""

    acceleration: float = param(
        10.0, "standard deviation of a joint's acceleration, white over 10 ms", unit="rad/s²", low=0.1, high=1e5
    )
    velocity_noise: float = param(0.05, "standard deviation of a reported speed", unit="rad/s", low=1e-4, high=10)
    silent_after: float = param(0.5, "a joint that has not reported for so long is marked", unit="s", low=0.01, high=60)


class JointFilter:
    """Positions and speeds of n joints.

    Attributes:
        q, qd: estimates [rad], [rad/s] (n,); NaN until a joint has reported once, then never again.
        variance: (n, 2) of position and speed.
    """

    q: Array
    qd: Array
    _raw: Array
    _steady: tuple[Array, ...]  # gains that have settled

    def __init__(self, n: int, encoder_noise: Array, encoder_resolution: Array, config: JointFilterConfig) -> None:
        self.config = config
        self._noise, self._unknown = encoder_noise, encoder_resolution <= 0.0
        self._set_step(np.where(self._unknown, UNKNOWN_STEP, encoder_resolution))
        self._lessons = LESSONS if self._unknown.any() else 0
        self._r_velocity = config.velocity_noise**2
        self._density = config.acceleration**2 * 0.01
        self._n = n
        self.reset()

    def _set_step(self, step: Array) -> None:
        # A quantised reading is off by up to half a step, evenly: variance step² / 12.
        self._step = step
        self._r_position = np.maximum(self._noise**2 + step**2 / 12, 1e-12)

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
        self.q = np.full(n, np.nan)
        self.qd = np.zeros(n)
        self._p00, self._p01, self._p11 = np.zeros(n), np.zeros(n), np.zeros(n)
        self._raw = np.full(n, np.nan)
        self._seen, self._seen_ns = np.zeros(n, dtype=np.int64), 0
        self._stamp_ns: int | None = None
        self._rhythm: tuple[int, bool] = (0, False)
        self._settling = np.full(n, np.inf)
        self._steady = ()

    @property
    def known(self) -> Mask:
        """Which joints have ever reported (n,) of bool."""
        return np.asarray(np.isfinite(self.q))

    @property
    def variance(self) -> Array:
        """Variance of position [rad²] and speed [(rad/s)²] (n, 2)."""
        return np.column_stack([self._p00, self._p11])

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

    def _follow(self, k: tuple[Array, ...], dt: float, q: Array, qd: Array | None) -> None:
        """A step of a filter whose gains have settled: all joints report, at the pace at which they did before."""
        predicted = self.q + dt * self.qd
        error = q - predicted
        if qd is None:
            self.q, self.qd = predicted + k[0] * error, self.qd + k[1] * error
            return
        speed = self.qd + k[1] * error
        error_speed = qd - speed
        self.q, self.qd = predicted + k[0] * error + k[2] * error_speed, speed + k[3] * error_speed

    def _filter(self, dt: float, stamp_ns: int, q: Array, qd: Array | None) -> None:
        """A step of the filter with its covariance."""
        fresh = np.isfinite(q)
        everything = bool(fresh.all())
        if dt > 0.0:
            self._predict(dt, stamp_ns)
        started = np.isfinite(self.q)
        if not started.all():
            self._start(fresh & ~started, q, qd)
        k: tuple[Array, ...] = self._correct(
            self._p00, self._p01, self._r_position, q - self.q, None if everything else fresh
        )
        if qd is not None:
            measured = None if everything and not math.isnan(qd.sum()) else np.isfinite(qd)
            k += self._correct(self._p01, self._p11, self._r_velocity, qd - self.qd, measured)
        settled = bool(np.all(np.abs(self._p11 - self._settling) <= 1e-4 * self._p11))
        self._settling = self._p11
        if everything:
            self._seen[:] = stamp_ns
            self._steady = k if settled else ()
        else:
            self._seen[fresh] = stamp_ns

    def _start(self, new: Mask, q: Array, qd: Array | None) -> None:
        self.q = np.where(new, q, self.q)
        self.qd = np.where(new, 0.0 if qd is None else np.nan_to_num(qd), self.qd)
        self._p00 = np.where(new, self._r_position, self._p00)
        self._p11 = np.where(new, self._r_velocity if qd is not None else 1.0, self._p11)
        self._p01 = np.where(new, 0.0, self._p01)

    def _predict(self, dt: float, now_ns: int) -> None:
        silent = self.silent(now_ns)
        if silent.any():
            self.qd = np.where(silent, 0.0, self.qd)
        self.q = self.q + dt * self.qd
        d = self._density * dt
        self._p00 = self._p00 + dt * (2.0 * self._p01 + dt * self._p11) + d * dt * dt / 3.0
        self._p01 = self._p01 + dt * self._p11 + d * dt / 2.0
        self._p11 = self._p11 + d

    def _correct(
        self, a: Array, b: Array, r: Array | float, innovation: Array, mask: Mask | None
    ) -> tuple[Array, Array]:
        """A measurement of one component: `a`, `b` are its covariances with position and with speed. Returns gains."""
        s = (a if a is self._p00 else b) + r
        k0, k1 = a / s, b / s
        if mask is not None:
            k0, k1 = np.where(mask, k0, 0.0), np.where(mask, k1, 0.0)
            innovation = np.where(mask, innovation, 0.0)
        self.q = self.q + k0 * innovation
        self.qd = self.qd + k1 * innovation
        self._p00, self._p01, self._p11 = self._p00 - k0 * a, self._p01 - k0 * b, self._p11 - k1 * b
        return k0, k1
