"""Where and when a foot lands that a plan had elsewhere: steps that catch the capture point. Points are complex: x + iy.

The standing sole takes away what it can of the capture point's error; the rest moves the foothold, and where the leg does
not reach, the time of landing (Khadiv, Herzog, Moosavian, Righetti 2016; Griffin, Wiedebach, Bertrand et al. 2017).
"""

from __future__ import annotations

import cmath
import math
from typing import NamedTuple

from digital_twin.core.gait.body import Body
from digital_twin.core.gait.footsteps import Foothold, within_reach
from digital_twin.core.gait.gait_config import Gait

TIMES = (0.0, 0.05, -0.05, 0.1, -0.1, 0.2, -0.15, 0.3, -0.2)  # [s] by which a foot may land later
LONGEST = 1.2  # [s] of a step
QUICKEST = 0.2  # [s] that a foot is in the air at least
SURE = 0.05  # [s] before landing, from when on the foothold stays
FOOT_PUSH = 30.0  # [m/s²] that a swinging foot's path may be bent with
HURRY = 0.2  # [m/s] that a foothold's miss must shrink by for each second that the foot lands earlier
NEAR = 0.01  # [m] by which a foothold may miss what would be best
ANKLE = 0.6  # share of the sole that plans count on
ASTRAY = 0.07  # [m] of error of the capture point from which on the robot is said to recover


class Moment(NamedTuple):
    """A time t [s] within a step of `double` and `single` support, and where its foot was going."""

    t: float
    double: float
    single: float
    target: Foothold | None

    @property
    def left(self) -> float:
        """Until the foot lands [s]."""
        return self.double + self.single - self.t


class Aim(NamedTuple):
    """Where the foot is to land, how long single support lasts, whether the capture point is far from the plan."""

    foothold: Foothold
    single: float
    astray: bool


class Adjuster:
    """For one robot; it remembers nothing."""

    def __init__(self, gait: Gait, body: Body, omega: float) -> None:
        self._gait, self._body, self._omega = gait, body, omega

    def aim(
        self, stance: Foothold, nominal: Foothold, under: complex, end: complex, dcm: complex, now: Moment, dt: float
    ) -> Aim:
        """The foothold for now.

        Args:
            stance, nominal: where the robot stands, and where the other foot would land if all went well.
            under: where the weight passes over the standing foot. end, dcm: capture point at landing by the plan, and now.
            dt: since the last time [s].
        """
        if now.left < SURE and now.target is not None:
            return Aim(now.target, now.single, False)
        left, target, astray = self._best(stance, nominal, under, end, dcm, now)
        moment = now._replace(single=now.single + left - now.left)
        return Aim(self._bend(target, moment, dt), moment.single, astray)

    def _best(
        self, stance: Foothold, nominal: Foothold, under: complex, end: complex, dcm: complex, now: Moment
    ) -> tuple[float, Foothold, bool]:
        """Time left [s] and foothold that miss least of what would be best, changes of time counted in."""
        best, least, astray = (now.left, nominal), math.inf, False
        p = self._body.sole[nominal.side]
        foot = complex(p[0], p[1])
        soonest, latest = max(SURE, QUICKEST - (now.t - now.double)), LONGEST - now.t
        for later in TIMES:
            at = now.left + later
            if later and not soonest <= at <= latest:
                continue
            rest = self._rest(stance, under, end, dcm, at)
            point = nominal.point + self._gait.gains.adjust * rest
            reached = within_reach(stance, point, self._gait)
            miss = abs(reached - point)
            if later < 0.0 and at < math.sqrt(5.8 * abs(reached - foot) / FOOT_PUSH):
                continue  # the path of least jerk would be bent too much
            if miss + HURRY * abs(later) < least:
                best, least = (at, nominal._replace(point=reached)), miss + HURRY * abs(later)
                astray = abs(rest) > ASTRAY
            if miss < NEAR:
                break
        return *best, astray

    def _bend(self, after: Foothold, now: Moment, dt: float) -> Foothold:
        """A foothold moves no faster than the foot can follow: the leg's weight, thrown about, would throw the body."""
        if now.target is None:
            return after
        way = after.point - now.target.point
        most = FOOT_PUSH / 5.0 * max(now.left, 0.0) * dt
        return after._replace(point=now.target.point + way * min(1.0, most / max(abs(way), 1e-9)))

    def _rest(self, stance: Foothold, under: complex, end: complex, dcm: complex, left: float) -> complex:
        """By how much the capture point will miss `end` in `left` [s], the standing sole doing what it can."""
        growth = math.exp(self._omega * max(left, 0.02))
        turn = cmath.rect(1.0, stance.yaw)
        wanted = (under + (dcm - under) * growth - end) / (growth - 1.0) / turn
        polygon, centre = self._body.polygons[stance.side] * ANKLE, (under - stance.point) / turn
        (x0, y0), (x1, y1) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
        push = turn * complex(
            min(max(wanted.real, x0 - centre.real), x1 - centre.real),
            min(max(wanted.imag, y0 - centre.imag), y1 - centre.imag),
        )
        return under + push + (dcm - under - push) * growth - end
