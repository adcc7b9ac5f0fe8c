"""Where the ground pushes on each sole: in its middle it lies flat, near its edge it rolls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from digital_twin.core.arrays import Array, Mask, or_zero
from digital_twin.core.robot_config import FootConfig

INNER = 0.6  # of the way from a sole's middle to its edge: a foot that is pushed further out may tilt
BEARS, TOUCHES = (
    0.25,
    0.06,
)  # of the robot's weight: a foot that bears more stands; where one with less is pushed says little
THIN = 1e-3  # [m]; no sole is taken to be narrower


class Soles:
    """Of f feet, by the boxes around their polygons."""

    def __init__(self, feet: Sequence[FootConfig], weight: float) -> None:
        """`weight` of the robot [N]."""
        self._weight = weight
        corners = [np.array(f.polygon) for f in feet]
        self._middle = np.array([(c.min(axis=0) + c.max(axis=0)) / 2.0 for c in corners]).reshape(-1, 2)
        self._half = np.maximum(np.array([np.ptp(c, axis=0) / 2.0 for c in corners]).reshape(-1, 2), THIN)

    def pushed(self, wrenches: Array) -> Array:
        """How far from the middle each is pushed (f, 2), along its x and y, as a share of the way to its edge; by its
        wrenches (f, 6), NaN standing for none."""
        w = or_zero(wrenches)
        pressure = np.stack([-w[:, 4], w[:, 3]], axis=1) / np.maximum(w[:, 2:3], TOUCHES * self._weight)
        return np.asarray(np.abs(pressure - self._middle) / self._half)

    def flat(self, wrenches: Array) -> Mask:
        """Which lie flat (f,): loaded, and not on an edge."""
        loaded = or_zero(wrenches[:, 2]) > BEARS * self._weight
        return np.asarray(loaded & (self.pushed(wrenches) < INNER).all(axis=1))
