"""Where feet go: footholds that make the body move at a velocity, and how far a leg reaches. Points are complex: x + iy."""

from __future__ import annotations

import cmath
from typing import NamedTuple

from digital_twin.core.gait.gait_config import Gait

LEFT, RIGHT = 0, 1


class Foothold(NamedTuple):
    """Where the middle of a sole is: point [m] and heading [rad] in odom; side: LEFT or RIGHT."""

    point: complex
    yaw: float
    side: int


class Velocity(NamedTuple):
    """Of the body in its own frame: ahead and to the left [m/s], turning to the left [rad/s]."""

    x: float
    y: float
    turn: float


def outward(side: int) -> float:
    """+1 for the left foot, whose outside is to the left, −1 for the right."""
    return 1.0 if side == LEFT else -1.0


def next_foothold(stance: Foothold, velocity: Velocity, time: float, width: float) -> Foothold:
    """Where the other foot goes so that the body moves at a velocity, a step taking `time` [s].

    width: between the middles of the soles when they stand side by side [m]. Sideways only the leading foot goes further
    than that, so that the feet never meet.
    """
    side = 1 - stance.side
    s = outward(side)
    middle = stance.point + cmath.rect(1.0, stance.yaw) * (0.5j * s * width)
    yaw = stance.yaw + velocity.turn * time
    across = 2.0 * velocity.y * time if velocity.y * s > 0.0 else 0.0
    ahead = cmath.rect(1.0, stance.yaw + 0.5 * velocity.turn * time)
    middle += ahead * velocity.x * time
    return Foothold(middle + cmath.rect(1.0, yaw) * (0.5j * s * width + 1j * across), yaw, side)


def within_reach(stance: Foothold, point: complex, gait: Gait) -> complex:
    """The nearest point to `point` where the other foot may be put: not too far, and not where the standing foot is."""
    s = outward(1 - stance.side)
    d = (point - stance.point) * cmath.rect(1.0, -stance.yaw)
    x = min(max(d.real, -gait.max_step), gait.max_step)
    y = min(max(s * d.imag, gait.min_spread), gait.max_spread)
    return stance.point + complex(x, s * y) * cmath.rect(1.0, stance.yaw)
