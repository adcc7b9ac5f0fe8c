"""How far the virtual robot is from the true one, where the truth is known: RMSE of joints and base.

Samples of both are paired by their stamps, whichever comes first. The base is compared after the two frames have been
laid on each other once, at the first pair, by position and heading: odometry cannot know where it started.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import log_so3, rot_z, yaw_of

A = TypeVar("A")
B = TypeVar("B")


class Pairs(Generic[A, B]):
    """Matches two streams by stamp; keeps a bounded number of those that wait for their partner."""

    def __init__(self, size: int = 4000) -> None:
        self._size = size
        self._left: OrderedDict[int, A] = OrderedDict()
        self._right: OrderedDict[int, B] = OrderedDict()

    def left(self, stamp: int, value: A) -> tuple[A, B] | None:
        """Add to one stream; returns the pair when the other has this stamp."""
        other = self._right.pop(stamp, None)
        if other is not None:
            return value, other
        self._keep(self._left, stamp, value)
        return None

    def right(self, stamp: int, value: B) -> tuple[A, B] | None:
        """Add to the other stream."""
        other = self._left.pop(stamp, None)
        if other is not None:
            return other, value
        self._keep(self._right, stamp, value)
        return None

    def _keep(self, waiting: OrderedDict[int, A] | OrderedDict[int, B], stamp: int, value: A | B) -> None:
        waiting[stamp] = value  # type: ignore[assignment]
        if len(waiting) > self._size:
            waiting.popitem(last=False)


@dataclass
class MeanSquare:
    """Root of a running mean of squares."""

    count: int = 0
    total: float = 0.0

    def add(self, square: float) -> None:
        """Add one squared error."""
        self.count += 1
        self.total += square

    @property
    def root(self) -> float | None:
        """RMS, None before the first value."""
        return math.sqrt(self.total / self.count) if self.count else None


@dataclass
class Score:
    """Running errors of the virtual robot."""

    joints: MeanSquare = field(default_factory=MeanSquare)
    position: MeanSquare = field(default_factory=MeanSquare)
    attitude: MeanSquare = field(default_factory=MeanSquare)
    tilt: MeanSquare = field(default_factory=MeanSquare)
    position_now: float = math.nan
    attitude_now: float = math.nan
    distance: float = 0.0
    _aligned: tuple[Array, Array] | None = None
    _last_true: Array | None = None

    def realign(self) -> None:
        """The frame of the estimates has changed (its node was restarted): lay it on the truth anew."""
        self._aligned = None

    def add_joints(self, estimated: Array, true: Array) -> None:
        """Joint positions [rad] (k,), NaN where one is not known."""
        error = estimated - true
        error = error[np.isfinite(error)]
        if len(error):
            self.joints.add(float(error @ error) / len(error))

    def add_base(self, position: Array, rotation: Array, true_position: Array, true_rotation: Array) -> None:
        """A pose of one frame as estimated and as it was: positions (3,), rotations (3, 3)."""
        if self._aligned is None:
            turn = rot_z(yaw_of(true_rotation) - yaw_of(rotation))
            self._aligned = (turn, true_position - turn @ position)
        turn, shift = self._aligned
        position, rotation = turn @ position + shift, turn @ rotation
        if self._last_true is not None:
            self.distance += float(np.linalg.norm(true_position - self._last_true))
        self._last_true = true_position
        self.position_now = float(np.linalg.norm(position - true_position))
        self.attitude_now = math.degrees(float(np.linalg.norm(log_so3(rotation.T @ true_rotation))))
        up = float(np.clip(rotation[2] @ true_rotation[2], -1.0, 1.0))
        self.position.add(self.position_now**2)
        self.attitude.add(self.attitude_now**2)
        self.tilt.add(math.degrees(math.acos(up)) ** 2)
