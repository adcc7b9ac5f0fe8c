"""What somebody who looks at the twin needs of one moment, as named numbers: measured and virtual robot, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Array

POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
WRENCH = ("fx", "fy", "fz", "tx", "ty", "tz")


@dataclass(frozen=True)
class View:
    """One moment. What is not known is NaN.

    position (3,), quaternion xyzw (4,): the base in the map. odom_position (3,), odom_yaw: of odom in the map.
    velocity [m/s], turning [rad/s] (3,): the base's twist in its own frame. contacts (k,): which feet stand.
    q, qd (n,): virtual joints. measured (n,): as reported last. wrenches (k, 6): as the feet's sensors report them.
    seen (7,): the last external pose, position and quaternion xyzw. initialised: whether the estimate is sure of itself.
    """

    position: Array
    quaternion: Array
    odom_position: Array
    odom_yaw: float
    velocity: Array
    turning: Array
    contacts: NDArray[np.bool_]
    initialised: bool
    q: Array
    qd: Array
    measured: Array
    wrenches: Array
    seen: Array


class ViewLayout:
    """Views of one robot as vectors. `labels`: what the numbers are called."""

    def __init__(self, joint_names: Sequence[str], feet: Sequence[str]) -> None:
        n, k = len(joint_names), len(feet)
        self.labels = [
            *(f"base/{x}" for x in POSE), *(f"odom/{x}" for x in ("x", "y", "z", "yaw")),
            *(f"twist/{x}" for x in ("vx", "vy", "vz", "wx", "wy", "wz")), *(f"contact/{f}" for f in feet), "initialised",
            *(f"{kind}/{j}" for kind in ("q", "qd", "measured") for j in joint_names),
            *(f"wrench/{f}/{x}" for f in feet for x in WRENCH), *(f"seen/{x}" for x in POSE),
        ]  # fmt: skip
        self._ends = np.cumsum([3, 4, 3, 1, 3, 3, k, 1, n, n, n, 6 * k, 7])

    def pack(self, v: View) -> Array:
        """As a vector, in the order of `labels`."""
        return np.concatenate(
            [
                v.position, v.quaternion, v.odom_position, [v.odom_yaw], v.velocity, v.turning, v.contacts, [v.initialised],
                v.q, v.qd, v.measured, v.wrenches.ravel(), v.seen,
            ]
        )  # fmt: skip

    def unpack(self, values: Array) -> View:
        """From a vector.

        Raises:
            ValueError: it has another length, or no finite base pose.
        """
        if values.shape != (self._ends[-1],):
            raise ValueError(f"expected {self._ends[-1]} values, got shape {values.shape}")
        p, quat, odom, yaw, v, w, contacts, sure, q, qd, measured, wrenches, seen = np.split(values, self._ends[:-1])
        if not np.isfinite(values[:17]).all() or abs(float(quat @ quat) - 1.0) > 0.01:
            raise ValueError("the base has no finite pose and twist")
        return View(
            p, quat, odom, float(yaw[0]), v, w, contacts > 0.5, bool(sure[0]), q, qd, measured, wrenches.reshape(-1, 6), seen
        )  # fmt: skip
