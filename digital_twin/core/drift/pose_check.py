"""External poses of the base against odometry: what a tracker says against where the robot's own senses carried it."""

from __future__ import annotations

from collections import deque

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.rotation import exp_so3, log_so3

NS = 1_000_000_000
FOLLOW = 2.0  # [s] over which the offset between map and odom is followed
NAMES = [f"pose/{axis}" for axis in ("x", "y", "z", "roll", "pitch", "yaw")]
UNITS = ["m"] * 3 + ["rad"] * 3


class PoseCheck:
    """Keeps where odom lies in the map, as it was before each pose."""

    def __init__(self) -> None:
        self._bases: deque[BaseState] = deque(maxlen=256)
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next pose."""
        self._turn: Array | None = None
        self._shift = np.zeros(3)
        self._stamp = 0

    def in_map(self, stamp_ns: int) -> tuple[Array, Array] | None:
        """Where the base was in the map at a stamp, by odometry and the poses before: position (3,), rotation (3, 3)."""
        base = self._at(stamp_ns)
        if base is None or self._turn is None:
            return None
        return self._turn @ base.position + self._shift, self._turn @ base.rotation

    def _at(self, stamp_ns: int) -> BaseState | None:
        for base in reversed(self._bases):
            if base.stamp_ns <= stamp_ns + 2_500_000:
                return base if stamp_ns - base.stamp_ns < 10_000_000 else None
        return None

    def base(self, state: BaseState) -> None:
        """The base in odom."""
        self._bases.append(state)

    def residual(self, stamp_ns: int, position: Array, rotation: Array) -> Array | None:
        """The pose against the forecast of it (6,): [m] in the map, [rad]. None when there is nothing to compare."""
        base = self._at(stamp_ns)
        if base is None:
            return None
        turn = rotation @ base.rotation.T
        if self._turn is None or stamp_ns - self._stamp > FOLLOW * NS or stamp_ns < self._stamp:
            self._turn, self._shift, self._stamp = turn, position - turn @ base.position, stamp_ns
            return None
        share = (stamp_ns - self._stamp) / NS / FOLLOW
        error = position - (self._turn @ base.position + self._shift)
        angle = log_so3(turn @ self._turn.T)
        self._stamp = stamp_ns
        self._turn = exp_so3(share * angle) @ self._turn
        self._shift = self._shift + share * (position - self._turn @ base.position - self._shift)
        return np.concatenate([error, angle])
