"""A stretch of what the robot did, on one time axis: what residuals, hypotheses and identification are computed from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import TwinError

ROWS = 256  # samples that are kept together


@dataclass(frozen=True)
class Window:
    """T samples of n joints and f feet, in the order of the model and of the robot config; NaN: not known.

    stamps_ns: (T,) int64, strictly increasing. q, qd, qdd: joints, (T, n) [rad], [rad/s], [rad/s²].
    effort: measured joint torque (T, n) [N m]. command: positions asked for, as they arrived (T, n) [rad].
    position, velocity: base frame in odom (T, 3) [m], [m/s]. rotation: R_odom_base (T, 3, 3).
    angular_velocity: in the base frame (T, 3) [rad/s].
    wrenches: force and torque of the ground on each foot, in the foot's frame (T, f, 6) [N], [N m].
    gyro, accelerometer: in the IMU's frame (T, 3) [rad/s], [m/s²].
    """

    stamps_ns: Any
    q: Array
    qd: Array
    qdd: Array
    effort: Array
    command: Array
    position: Array
    velocity: Array
    rotation: Array
    angular_velocity: Array
    wrenches: Array
    gyro: Array
    accelerometer: Array

    def __post_init__(self) -> None:
        """Raises TwinError when the fields have not the same length or the stamps do not increase."""
        sizes = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(sizes.values())) > 1:
            raise TwinError(f"a window's fields must be equally long, these are: {sizes}")
        if len(self) > 1 and not (np.diff(self.stamps_ns) > 0).all():
            raise TwinError("a window's stamps must increase")

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def __getitem__(self, key: slice) -> Window:
        """The same stretch of each field."""
        return Window(*(getattr(self, f.name)[key] for f in fields(self)))

    @property
    def duration(self) -> float:
        """Time from the first to the last sample [s]."""
        return float(self.stamps_ns[-1] - self.stamps_ns[0]) * 1e-9 if len(self) > 1 else 0.0


class Past:
    """The last samples, as many as lie within a span of time. To add one takes microseconds, and a window is a copy."""

    def __init__(self, joints: int, feet: int, span: float) -> None:
        """Of so many joints and feet; `span` [s]."""
        n, each = (joints,), {"rotation": (3, 3), "wrenches": (feet, 6)}
        wide = dict.fromkeys(("q", "qd", "qdd", "effort", "command"), n)
        self._shapes: list[tuple[int, ...]] = [(wide | each).get(f.name, (3,)) for f in fields(Window)[1:]]
        self._span = round(span * 1e9)
        self._blocks: deque[list[Any]] = deque()
        self._rows = 0  # of the last block that are filled

    def add(self, stamp_ns: int, *sample: Array) -> None:
        """A sample: the fields of Window in their order. Stamps increase."""
        if not self._blocks or self._rows == ROWS:
            self._blocks.append([np.empty(ROWS, np.int64), *(np.empty((ROWS, *shape)) for shape in self._shapes)])
            self._rows = 0
            while len(self._blocks) > 1 and stamp_ns - self._blocks[0][0][-1] > self._span:
                self._blocks.popleft()
        stamps, *columns = self._blocks[-1]
        stamps[self._rows] = stamp_ns
        for column, value in zip(columns, sample, strict=True):
            column[self._rows] = value
        self._rows += 1

    def window(self, seconds: float) -> Window | None:
        """The last seconds; None when there are not two samples."""
        if not self._blocks:
            return None
        since = self._blocks[-1][0][self._rows - 1] - round(min(seconds * 1e9, self._span))
        blocks = [b for b in list(self._blocks)[:-1] if b[0][-1] >= since]
        blocks.append([column[: self._rows] for column in self._blocks[-1]])
        first = int(np.searchsorted(blocks[0][0], since))
        blocks[0] = [column[first:] for column in blocks[0]]
        w = Window(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))
        return w if len(w) > 1 else None
