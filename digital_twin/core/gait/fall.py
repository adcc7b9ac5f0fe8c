"""When nothing helps any more: notice it early, and fall softly.

A fall from low is a fall at low speed, so the legs give way at once (Fujiwara, Kanehiro, Kajita, Kaneko et al. 2002), the
arms go to the side that the robot falls to, the head to the other, and all joints yield: little stiffness, full damping.
"""

from __future__ import annotations

import math

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.gait.body import Body
from digital_twin.core.gait.limbs import Limbs

HOPELESS_TILT = math.radians(40.0)
HOPELESS_HEIGHT = 0.62  # of the height at which it walks
OUT_OF_REACH = 0.35  # [m] that the capture point may be beyond what the longest step reaches
YIELD = 0.15  # share of the servos' stiffness while falling
SQUAT = 0.9  # share of the range of a knee
ARMS, HEAD = 1.2, 0.6  # [rad]


def hopeless(body: Body, dcm: complex, height: float, max_step: float) -> str:
    """Why the robot can no longer be kept up, in words; "" while it can. height: at which it walks [m]."""
    tilt = math.acos(min(1.0, max(-1.0, float(body.R[2, 2]))))
    if tilt > HOPELESS_TILT:
        return f"it leans by {math.degrees(tilt):.0f} degrees"
    above = float(body.com[2] - body.sole[:, 2].min())
    if above < HOPELESS_HEIGHT * height:
        return f"its centre of mass is {above:.2f} m above its feet"
    away = min(abs(dcm - complex(p[0], p[1])) for p in body.sole)
    if away > max_step + OUT_OF_REACH:
        return f"its capture point is {away:.2f} m from its feet, no step reaches it"
    return ""


class Fall:
    """Where the joints go in one fall, decided when it begins."""

    def __init__(self, why: str, body: Body, limbs: Limbs, rest: Array, dcm: complex) -> None:
        self.why = why
        middle = body.sole.mean(axis=0)
        ahead = body.R[:2, 0]
        way = dcm - complex(middle[0], middle[1])
        forward = way.real * float(ahead[0]) + way.imag * float(ahead[1]) >= 0.0
        self.goal = rest.copy()
        self._bend_legs(body)
        # About +y a hanging arm goes backwards, a head forwards.
        arms, head = (-ARMS, -HEAD) if forward else (0.5 * ARMS, HEAD)
        for limb, angle in [(x, arms) for x in (limbs.left, limbs.right) if x] + [(x, head) for x in limbs.necks]:
            self.goal[limb.joint] = rest[limb.joint] + limb.sign * angle
        self.goal = np.clip(self.goal, body.model.lower, body.model.upper)

    def _bend_legs(self, body: Body) -> None:
        """Each leg's longest bending joint, found as the one in the middle of the three that pitch, goes down."""
        for leg in body.legs:
            q = self.goal[leg]
            knee = int(np.argmax(np.abs(q)))  # of the joints of a standing leg the knee is bent most
            j = leg[knee]
            sign = math.copysign(1.0, float(q[knee]) or 1.0)
            end = float(body.model.upper[j] if sign > 0.0 else body.model.lower[j])
            self.goal[j] = SQUAT * end if math.isfinite(end) else sign * 1.8

    def command(self, q: Array) -> tuple[Array, Array]:
        """Set points and speeds: drawn to the goal with little stiffness, and damped."""
        return q + YIELD * (self.goal - q), np.zeros_like(q)
