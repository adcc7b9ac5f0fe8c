"""A Kalman filter per joint, all at once: position and speed from encoders that are quantised, noisy, or silent.

The model is a constant speed disturbed by white acceleration. A joint that is not in a message is carried on by the
model, its variance growing; after `silent_after` it is held where it is and marked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from digital_twin.core.config import param
from digital_twin.core.rotation import Array

NS = 1_000_000_000


@dataclass(frozen=True)
class JointFilterConfig:
    """Tuning of the joint filter."""

    acceleration: float = param(
        30.0, "standard deviation of a joint's acceleration, white over 10 ms", unit="rad/s²", low=0.1, high=1e5
    )
    velocity_noise: float = param(0.05, "standard deviation of a reported speed", unit="rad/s", low=1e-4, high=10)
    silent_after: float = param(0.5, "a joint that has not reported for so long is marked", unit="s", low=0.01, high=60)


class JointFilter:
    """Positions and speeds of n joints.

    Attributes:
        q, qd: estimates [rad], [rad/s] (n,); NaN until a joint has reported once, then never again.
        variance: (n, 2) of position and speed.
    """

    def __init__(self, n: int, encoder_noise: Array, encoder_resolution: Array, config: JointFilterConfig) -> None:
        self.config = config
        # A quantised reading is off by up to half a step, evenly: variance step² / 12.
        self._r_position = np.maximum(encoder_noise**2 + encoder_resolution**2 / 12, 1e-12)
        self._r_velocity = config.velocity_noise**2
        self._density = config.acceleration**2 * 0.01
        self.reset(n)

    def reset(self, n: int | None = None) -> None:
        """Forget everything; the next readings are taken as they are."""
        n = len(self.q) if n is None else n
        self.q, self.qd = np.full(n, np.nan), np.zeros(n)
        self._p00, self._p01, self._p11 = np.zeros(n), np.zeros(n), np.zeros(n)
        self._seen_ns = np.zeros(n, dtype=np.int64)
        self._stamp_ns: int | None = None

    @property
    def known(self) -> Array:
        """Which joints have ever reported (n,) of bool."""
        return np.isfinite(self.q)

    @property
    def variance(self) -> Array:
        """Variance of position [rad²] and speed [(rad/s)²] (n, 2)."""
        return np.column_stack([self._p00, self._p11])

    def silent(self, now_ns: int) -> Array:
        """Which joints have reported once but not lately (n,) of bool."""
        return self.known & (now_ns - self._seen_ns > self.config.silent_after * NS)

    def update(self, stamp_ns: int, q: Array, qd: Array | None) -> None:
        """Take one message, newer than the last: positions [rad] (n,), NaN where missing; speeds likewise, or None."""
        if self._stamp_ns is not None:
            self._predict((stamp_ns - self._stamp_ns) / NS, stamp_ns)
        self._stamp_ns = stamp_ns
        fresh = np.isfinite(q)
        everything = bool(fresh.all())
        started = np.isfinite(self.q)
        if not started.all():
            self._start(fresh & ~started, q, qd)
        self._correct(self._p00, self._p01, self._r_position, q - self.q, None if everything else fresh)
        if qd is not None:
            measured = None if everything else np.isfinite(qd)
            self._correct(self._p01, self._p11, self._r_velocity, qd - self.qd, measured)
        if everything:
            self._seen_ns[:] = stamp_ns
        else:
            self._seen_ns[fresh] = stamp_ns

    def _start(self, new: Array, q: Array, qd: Array | None) -> None:
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
        self._p00 += dt * (2.0 * self._p01 + dt * self._p11) + d * dt * dt / 3.0
        self._p01 += dt * self._p11 + d * dt / 2.0
        self._p11 += d

    def _correct(self, a: Array, b: Array, r: Array | float, innovation: Array, mask: Array | None) -> None:
        """A measurement of one component: `a`, `b` are its covariances with position and with speed."""
        s = (a if a is self._p00 else b) + r
        k0, k1 = a / s, b / s
        if mask is not None:
            k0, k1 = np.where(mask, k0, 0.0), np.where(mask, k1, 0.0)
            innovation = np.where(mask, innovation, 0.0)
        self.q = self.q + k0 * innovation
        self.qd = self.qd + k1 * innovation
        p00, p01, p11 = self._p00 - k0 * a, self._p01 - k0 * b, self._p11 - k1 * b
        self._p00, self._p01, self._p11 = p00, p01, p11
