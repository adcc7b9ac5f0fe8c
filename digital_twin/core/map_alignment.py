"""Where odom lies in the map: a filter of map→odom from external poses (motion capture, SLAM, a tracker).

Roll and pitch are known in both frames from gravity, so four numbers are estimated: x, y, z and yaw. They wander slowly
as odometry drifts. An external pose is compared with the odometry *of its own stamp*, however late it arrives.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtrs
from scipy.special import chdtri

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.rotation import exp_so3, log_so3, rot_z, yaw_of

NS = 1_000_000_000
GATE = float(chdtri(4, 1e-4))  # a good pose is refused once in ten thousand


@dataclass(frozen=True)
class MapAlignmentConfig:
    """How fast odometry drifts, and how good a tracker can be at best."""

    drift: float = param(0.005, "wandering of map→odom", unit="m/√s", low=0, high=1)
    yaw_drift: float = param(0.005, "and of its heading", unit="rad/√s", low=0, high=1)
    pose_noise: float = param(0.002, "least standard deviation of an external position", unit="m", low=1e-5, high=1)
    yaw_noise: float = param(0.005, "and of its heading", unit="rad", low=1e-5, high=1)


@dataclass(frozen=True)
class PoseResult:
    """What became of an external pose. `error` [m] is its distance from the virtual pose of its stamp."""

    accepted: bool
    error: float
    reason: str = ""


class MapAlignment:
    """map→odom as `yaw` [rad] and `translation` [m] (3,), identity until the first external pose."""

    def __init__(self, config: MapAlignmentConfig, history: float) -> None:
        self.config = config
        self._history_ns = round(history * NS)
        self._odometry: deque[tuple[int, Array, Array]] = deque()
        self.reset()

    def reset(self) -> None:
        """Forget the map; the next external pose is taken as it is."""
        self.yaw, self.translation = 0.0, np.zeros(3)
        self.known = False
        self._P = np.zeros((4, 4))
        self._stamp_ns = 0

    def forget_history(self) -> None:
        """Odometry starts anew; the map stays where it is."""
        self._odometry.clear()

    def remember(self, stamp_ns: int, position: Array, rotation: Array) -> None:
        """Keep one pose of odometry, of which a late external pose may speak."""
        if self._odometry and stamp_ns <= self._odometry[-1][0]:
            return
        self._odometry.append((stamp_ns, position, rotation))
        while self._odometry[0][0] < stamp_ns - self._history_ns:
            self._odometry.popleft()

    def apply(self, position: Array, rotation: Array) -> tuple[Array, Array]:
        """A pose in odom, in the map."""
        R = rot_z(self.yaw)
        return self.translation + R @ position, R @ rotation

    def pose_covariance(self, base: Array) -> Array:
        """Covariance (6, 6) of the pose in the map, given that in odom (6, 6): the tracker bounds what drifts."""
        turn = np.zeros((6, 6))
        turn[:3, :3] = turn[3:, 3:] = rot_z(self.yaw)
        out = np.asarray(turn @ base @ turn.T)
        if self.known:
            out[:3, :] = 0.0
            out[:, :3] = 0.0
            out[:3, :3] = self._P[:3, :3]
            out[5, :] = 0.0
            out[:, 5] = 0.0
            out[5, 5] = self._P[3, 3]
        return out

    def correct(self, stamp_ns: int, position: Array, rotation: Array, covariance: Array) -> PoseResult:
        """Take an external pose of the base frame: position (3,), rotation (3, 3), covariance (6, 6)."""
        odometry = self._at(stamp_ns)
        if odometry is None:
            return PoseResult(False, math.nan, "outside the history")
        p, R = odometry
        R_noise = self._noise(covariance)
        yaw = yaw_of(rotation @ R.T)
        if not self.known:
            self.yaw, self.known = yaw, True
            self.translation = position - rot_z(yaw) @ p
            self._P, self._stamp_ns = R_noise, stamp_ns
            return PoseResult(True, 0.0)
        turned = rot_z(self.yaw) @ p
        residual = np.append(position - self.translation - turned, math.remainder(yaw - self.yaw, math.tau))
        error = float(np.linalg.norm(residual[:3]))
        # d/dyaw of rot_z(yaw) p = z × (rot_z(yaw) p)
        H = np.eye(4)
        H[:3, 3] = (-turned[1], turned[0], 0.0)
        dt = max(0.0, (stamp_ns - self._stamp_ns) / NS)
        c = self.config
        P = self._P + np.diag([c.drift**2 * dt] * 3 + [c.yaw_drift**2 * dt])
        HP = H @ P
        L, _ = dpotrf(HP @ H.T + R_noise, lower=1)
        W, whitened = dtrtrs(L, HP, lower=1)[0], dtrtrs(L, residual, lower=1)[0]
        if float(whitened @ whitened) > GATE:
            return PoseResult(False, error, "outlier")
        correction = W.T @ whitened
        self.translation = self.translation + correction[:3]
        self.yaw = math.remainder(self.yaw + float(correction[3]), math.tau)
        self._P = P - W.T @ W
        self._stamp_ns = max(self._stamp_ns, stamp_ns)
        return PoseResult(True, error)

    def _noise(self, covariance: Array) -> Array:
        c = self.config
        variances = np.diag(covariance)[[0, 1, 2, 5]]
        return np.diag(np.maximum(variances, [c.pose_noise**2] * 3 + [c.yaw_noise**2]))

    def _at(self, stamp_ns: int) -> tuple[Array, Array] | None:
        """Odometry at a stamp, interpolated; None outside the history."""
        if not self._odometry or not self._odometry[0][0] <= stamp_ns <= self._odometry[-1][0]:
            return None
        later = self._odometry[-1]
        for entry in reversed(self._odometry):
            if entry[0] <= stamp_ns:
                t0, p0, R0 = entry
                t1, p1, R1 = later
                w = 0.0 if t1 == t0 else (stamp_ns - t0) / (t1 - t0)
                return p0 + w * (p1 - p0), R0 @ exp_so3(w * log_so3(R0.T @ R1))
            later = entry
        return None
