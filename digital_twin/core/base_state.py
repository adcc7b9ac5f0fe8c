"""The base of the robot, as an estimator gives it."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.arrays import Array


@dataclass(frozen=True)
class BaseState:
    """The base frame in odom: pose, twist in the base frame, and how sure it is.

    position [m] (3,), rotation R_odom_base (3, 3), velocity [m/s] and angular_velocity [rad/s] (3,).
    covariance: (6, 6) of x, y, z [m²] and fixed-axis rotation [rad²] in odom; twist_covariance: (6, 6) of the twist.
    contacts: whether each foot stands. initialised: whether attitude and velocity are known well.
    """

    stamp_ns: int
    position: Array
    rotation: Array
    velocity: Array
    angular_velocity: Array
    covariance: Array
    twist_covariance: Array
    contacts: tuple[bool, ...]
    initialised: bool
