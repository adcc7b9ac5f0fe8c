"""When nothing helps any more: notice it early, and fall softly.

A fall from low is a fall at low speed, so the legs give way at once (Fujiwara, Kanehiro, Kajita, Kaneko et al. 2002), the
arms go to the side that the robot falls to, the head to the other, and all joints yield: little stiffness, full damping.
"""

from __future__ import annotations

import math

import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.gait.body import Body
from digital_twin.core.gait.limbs import Limbs

HOPELESS_TILT = math.radians(40.0)
HOPELESS_HEIGHT = 0.62  # of the height at which it walks
OUT_OF_REACH = 0.35  # [m] that the capture point may be beyond what the longest step reaches
YIELD = 0.15  # share of the servos' stiffness while falling
KNEE, HIP = 2.0, 1.0  # [rad]
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
        for leg in body.legs:
            self._bend(body, leg, forward)
        # About +y a hanging arm goes backwards, a head forwards.
        arms, head = (-ARMS, -HEAD) if forward else (0.5 * ARMS, HEAD)
        for limb, angle in [(x, arms) for x in (limbs.left, limbs.right) if x] + [(x, head) for x in limbs.necks]:
            self.goal[limb.joint] = rest[limb.joint] + limb.sign * angle
        self.goal = np.clip(self.goal, body.model.lower, body.model.upper)

    def _bend(self, body: Body, leg: Index, forward: bool) -> None:
        """Of the joints that pitch the second is the knee; backwards the hip, the first, bends too, as for a seat."""
        pitching = [(int(j), s) for j, s in zip(leg, body.lateral(leg), strict=True) if s != 0.0]
        if len(pitching) < 2:
            return
        (hip, hip_sign), (knee, knee_sign) = pitching[:2]
        self.goal[knee] = knee_sign * KNEE
        self.goal[hip] -= hip_sign * (0.0 if forward else HIP)

    def command(self, q: Array) -> tuple[Array, Array]:
        """Set points and speeds: drawn to the goal with little stiffness, and damped."""
        return q + YIELD * (self.goal - q), np.zeros_like(q)
