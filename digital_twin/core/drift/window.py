"""A stretch of what the robot did, on one time axis: what residuals, hypotheses and identification are computed from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import TwinError


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
