"""What is worked out along the way: where feet were put down, and how the centre of mass accelerates."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from digital_twin.core.arrays import Array

NS = 1_000_000_000
MOST_GAP = NS  # between two moments that follow one another


class Trail:
    """Footprints: the outline of each sole where it last came to stand.

    Attributes:
        segments: (k, 2, 3) lines of all footprints. count: how many there have been.
    """

    def __init__(self, most: int = 40) -> None:
        self._prints: deque[Array] = deque(maxlen=most)
        self._stood: tuple[bool, ...] = ()
        self._last_ns = 0
        self.count = 0
        self.segments: Array = np.zeros((0, 2, 3))

    def step(self, stamp_ns: int, soles: Sequence[tuple[Array, Array, Array]], contacts: Array) -> None:
        """The soles (position, rotation, corners) of a moment, and which of them stand."""
        stands = tuple(bool(c) for c in contacts)
        follows = 0 <= stamp_ns - self._last_ns < MOST_GAP and len(self._stood) == len(stands)
        for i, (_, _, corners) in enumerate(soles):
            if stands[i] and follows and not self._stood[i]:
                above = corners + np.array([0.0, 0.0, 0.002])
                self._prints.append(np.stack([above, np.roll(above, -1, axis=0)], axis=1))
                self.count += 1
                self.segments = np.concatenate(list(self._prints))
        self._stood, self._last_ns = stands, stamp_ns


class Accelerometer:
    """Acceleration from velocities, smoothed over `time` [s]."""

    def __init__(self, time: float = 0.1) -> None:
        self._time = time
        self._last: tuple[int, Array] | None = None
        self._smooth = np.zeros(3)

    def step(self, stamp_ns: int, velocity: Array) -> Array:
        """[m/s²] (3,), from the velocity [m/s] (3,) of a moment; zero after a gap, or when time was turned back."""
        if self._last is not None and 0 <= stamp_ns - self._last[0] < MOST_GAP:
            dt = (stamp_ns - self._last[0]) / NS
            if dt > 0.0:
                share = dt / (self._time + dt)
                self._smooth = self._smooth + share * ((velocity - self._last[1]) / dt - self._smooth)
        else:
            self._smooth = np.zeros(3)
        self._last = (stamp_ns, velocity)
        return self._smooth
