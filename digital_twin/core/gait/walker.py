"""Stepping: when feet leave and land, where they go, and where the robot must press on the ground meanwhile.

The capture point (DCM) is kept on a plan: by the centre of pressure as far as the soles reach, and by where the next
foot is put (Englsberger, Ott, Albu-Schäffer 2015; Khadiv, Herzog, Moosavian, Righetti 2016). Points are complex: x + iy.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.gait.adjuster import Adjuster, Moment
from digital_twin.core.gait.body import GRAVITY, Body
from digital_twin.core.gait.footsteps import LEFT, RIGHT, Foothold, Velocity, next_foothold, outward
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.pendulum import Support, dcm_in_step, plan
from digital_twin.core.gait.support import depth_inside, hull, nearest_inside, sole_corners
from digital_twin.core.gait.swing import Swing
from digital_twin.core.rotation import rot_z, yaw_of

NS = 1_000_000_000
PREVIEW = 4  # steps
START = 0.5  # [s] in which the weight is shifted before the first step
HASTE = 0.04  # [s], the same when a push makes the robot step
LANDED = 0.06  # share of the weight by which a foot has met the ground; one that comes down on an edge bears little
LATE = 0.25  # [s] for which a foot is waited for
SINK = 0.0  # [m] below the ground that a foot aims, so that it meets it in time
QUICKEST_STEP = 0.33  # [s]
MOST_TWIST = 0.1  # [rad] by which one step makes good what standing feet twisted
FIRMER = 1.5
YIELD = 0.7
MOST_BEYOND = 0.05  # [m] outside of the soles, that the trunk's turning may stand for
STEEPEST = math.tan(math.radians(15.0))


@dataclass
class Steps:
    """All of the walk that changes."""

    stamp_ns: int = -1
    walking: bool = False
    velocity: Velocity = Velocity(0.0, 0.0, 0.0)
    heading: float = 0.0  # of the foot that lands next [rad]
    stance: int = RIGHT
    start_ns: int = 0
    double: float = START
    single: float = 0.4
    before: complex = 0j
    target: Foothold | None = None
    swing: Swing | None = None
    touched: int = 0
    slope: complex = 0j  # dz/dx + i dz/dy of the ground
    ground: float = math.nan
    pressed: complex = 0j
    beyond: complex = 0j  # by which the centre of pressure would have to be outside of the soles
    recovering: bool = False
    count: int = 0
    error: complex = 0j
    margins: tuple[float, float] = (math.nan, math.nan)  # of capture point and zero moment point [m]
    still: int = 0  # steps since the robot was asked to stand


@dataclass
class Plan:
    """What the body is to do now: which soles stand, where to press (and within which corners), and how the
    swinging sole moves.
    """

    stands: tuple[bool, bool]
    press: complex
    corners: list[complex]
    yaw: float
    ground: float
    swing: Swing | None = None
    side: int = -1
    turn: float = 0.0
    beyond: complex = 0j


class Walker:
    """Steps of one robot. `memory` is all that changes."""

    def __init__(self, gait: Gait, body: Body, height: float, width: float) -> None:
        """height: of the centre of mass above the soles [m]; width: between the soles' middles [m]."""
        self.gait, self.body, self.width = gait, body, gait.stance_width or width
        self.omega = math.sqrt(GRAVITY / height)
        self._weight = body.mass * GRAVITY
        self._adjuster = Adjuster(gait, body, self.omega)
        self.memory = Steps()

    def forget(self) -> None:
        """Stand on both feet, whatever was before."""
        s = self.memory
        s.walking, s.recovering, s.swing, s.target, s.still = False, False, None, None, 0
        s.velocity, s.ground = Velocity(0.0, 0.0, 0.0), math.nan

    # What is where and when

    def _time(self) -> float:
        """From one touchdown to the next [s] at the present velocity."""
        g, ahead = self.gait, abs(self.memory.velocity.x)
        return max(min(g.step_time, g.stride / max(ahead, 1e-6)), QUICKEST_STEP)

    def _foothold(self, side: int) -> Foothold:
        p = self.body.sole[side]
        return Foothold(complex(p[0], p[1]), yaw_of(self.body.sole_R[side]), side)

    def _under(self, f: Foothold) -> complex:
        """Where the weight passes over a foothold."""
        return f.point + cmath.rect(1.0, f.yaw) * complex(self.gait.lean, -outward(f.side) * self.gait.sway)

    def _corners(self, *sides: int) -> list[complex]:
        margin = self.gait.gains.margin
        feet = [self._foothold(i) for i in sides]
        return [
            c for f in feet for c in sole_corners(f.point, f.yaw, self.body.polygons[f.side], margin)
        ]  # fmt: skip

    def _ground_at(self, point: complex, foot: Array) -> float:
        """Height of the ground at a point, by the slope through a sole's middle."""
        d = point - complex(foot[0], foot[1])
        return float(foot[2] + self.memory.slope.real * d.real + self.memory.slope.imag * d.imag)

    # Each moment

    def update(self, stamp_ns: int, dcm: complex, loads: Array, asked: Velocity) -> Plan:
        """loads (2,): vertical force on the soles [N], NaN where it is not known."""
        s = self.memory
        dt = 0.005 if s.stamp_ns < 0 else min(max(stamp_ns - s.stamp_ns, 1) / NS, 0.05)
        s.stamp_ns = stamp_ns
        if not s.walking:
            return self._stand(stamp_ns, dcm, asked, dt)
        return self._walk(stamp_ns, dcm, loads, asked, dt)

    def _approach(self, asked: Velocity) -> None:
        """Change the velocity for the step that begins, no faster than the gait allows."""
        v, a = self.memory.velocity, self.gait.acceleration * self._time()
        self.memory.velocity = Velocity(
            v.x + min(max(asked.x - v.x, -a), a), v.y + min(max(asked.y - v.y, -a), a),
            v.turn + min(max(asked.turn - v.turn, -3.0 * a), 3.0 * a),
        )  # fmt: skip

    def _follow_ground(self, height: float, dt: float) -> float:
        s = self.memory
        s.ground = height if math.isnan(s.ground) else s.ground + min(1.0, dt / 0.1) * (height - s.ground)
        return s.ground

    # Standing

    def _stand(self, stamp_ns: int, dcm: complex, asked: Velocity, dt: float) -> Plan:
        s, b = self.memory, self.body
        left, right = self._foothold(LEFT), self._foothold(RIGHT)
        middle = (left.point + right.point) / 2 + self.gait.lean * cmath.rect(1.0, left.yaw)
        corners = hull(self._corners(LEFT, RIGHT))
        s.error = dcm - middle
        self._press(middle + self._gain() * s.error, corners)
        yaw = cmath.phase(cmath.rect(1.0, left.yaw) + cmath.rect(1.0, right.yaw))
        ground = self._follow_ground(float(b.sole[:, 2].mean()), dt)
        s.margins = depth_inside(dcm, corners), depth_inside(s.pressed, corners)
        if s.margins[0] < 0.0:
            s.recovering = True
            nearer = LEFT if abs(dcm - left.point) < abs(dcm - right.point) else RIGHT
            self._begin(stamp_ns, nearer, HASTE, s.pressed, asked)
        elif any(asked):
            s.recovering = False
            to_left = asked.y > 0.0 or (asked.y == 0.0 and asked.turn > 0.0)
            self._begin(stamp_ns, RIGHT if to_left else LEFT, START, middle, asked)
        return Plan((True, True), s.pressed, corners, yaw, ground, beyond=s.beyond)

    def _turning(self, stance: Foothold) -> Velocity:
        """The velocity, turning so that the next foot has the heading: standing feet twist on the ground."""
        v, time = self.memory.velocity, self._time()
        off = math.remainder(self.memory.heading - stance.yaw, math.tau) - v.turn * time
        return v._replace(turn=v.turn + min(max(off, -MOST_TWIST), MOST_TWIST) / time)

    def _begin(self, stamp_ns: int, stance: int, double: float | None, before: complex, asked: Velocity) -> None:
        """A step begins: from now on the weight goes onto `stance`."""
        s = self.memory
        if not s.walking:
            s.heading = self._foothold(stance).yaw
        s.walking, s.stance, s.start_ns = True, stance, stamp_ns
        s.before = before
        s.swing, s.target, s.touched = None, None, 0
        s.count += 1
        self._approach(asked)
        time, share = self._time(), self.gait.double_support
        s.heading += s.velocity.turn * time
        s.double, s.single = time * share if double is None else double, time * (1.0 - share)

    # Walking

    def _walk(self, stamp_ns: int, dcm: complex, loads: Array, asked: Velocity, dt: float) -> Plan:
        s = self.memory
        t = (stamp_ns - s.start_ns) / NS
        stance = self._foothold(s.stance)
        under = self._under(stance)
        nominal = next_foothold(stance, self._turning(stance), self._time(), self.width)
        stopping = not any(asked) and not any(s.velocity) and s.still >= 1 and not s.recovering
        end = self._end(under, nominal, stopping)
        step = Support(s.before, under, s.double, s.single)
        expected, zmp = dcm_in_step(step, end, self.omega, min(t, s.double + s.single))
        s.error = dcm - expected
        single = t >= s.double
        corners = self._corners(s.stance) if single else hull(self._corners(LEFT, RIGHT))
        self._press(zmp + self._gain() * s.error, corners)
        s.margins = depth_inside(dcm, corners), depth_inside(s.pressed, corners)
        if not single:
            return self._plan((True, True), stance, None, corners, dt)
        aim = self._adjuster.aim(stance, nominal, under, end, dcm, Moment(t, s.double, s.single, s.target), dt)
        s.target, s.single = aim.foothold, aim.single
        s.recovering = s.recovering or aim.astray
        self._swing(s.target, t, dt)
        if self._landed(t, loads):
            self._touch_down(stamp_ns, asked, stopping)
            return self._plan((True, True), stance, None, corners, dt)
        stands = (s.stance == LEFT, s.stance == RIGHT)
        return self._plan(stands, stance, s.swing, corners, dt)

    def _gain(self) -> float:
        """Of the pressure against the capture point's error; firmer while the robot recovers."""
        rate = self.gait.gains.dcm * (FIRMER if self.memory.recovering else 1.0)
        return 1.0 + rate / self.omega

    def _press(self, wanted: complex, corners: list[complex]) -> None:
        s = self.memory
        s.pressed = nearest_inside(wanted, corners)
        beyond = wanted - s.pressed
        s.beyond = beyond * min(1.0, MOST_BEYOND / max(abs(beyond), 1e-9))

    def _end(self, under: complex, nominal: Foothold, stopping: bool) -> complex:
        """The capture point at the step's end, when the next foot lands where it should."""
        if stopping:
            middle = (under + self._under(nominal)) / 2
            return plan([Support(under, middle, START, 0.0)], middle, self.omega)
        steps, before, foot = [], under, nominal
        time, share = self._time(), self.gait.double_support
        for _ in range(PREVIEW):
            here = self._under(foot)
            steps.append(Support(before, here, time * share, time * (1.0 - share)))
            before, foot = here, next_foothold(foot, self.memory.velocity, self._time(), self.width)
        return plan(steps, (before + self._under(foot)) / 2, self.omega)

    def _swing(self, foothold: Foothold, t: float, dt: float) -> None:
        s, b, side = self.memory, self.body, foothold.side
        if s.swing is None:
            s.swing = Swing(b.sole[side], b.sole_R[side], self.gait.step_height)
            self._look_at_ground()
        p = foothold.point
        target = np.array([p.real, p.imag, self._ground_at(p, b.sole[s.stance]) - SINK])
        s.swing.move(target, self._level(foothold.yaw), s.double + s.single - t, dt)

    def _level(self, yaw: float) -> Array:
        """Attitude of a sole that lies on the ground."""
        g = self.memory.slope
        z = np.array([-g.real, -g.imag, 1.0])
        z /= np.linalg.norm(z)
        x = rot_z(yaw)[:, 0]
        y = np.cross(z, x)
        y /= np.linalg.norm(y)
        return np.column_stack([np.cross(y, z), y, z])

    def _look_at_ground(self) -> None:
        """What the standing sole tells of the slope, some of it: it may stand on a bump."""
        z = self.body.sole_R[self.memory.stance][:, 2]
        seen = complex(-z[0] / z[2], -z[1] / z[2])
        slope = self.memory.slope + 0.3 * (seen - self.memory.slope)
        self.memory.slope = slope * min(1.0, STEEPEST / max(abs(slope), 1e-9))

    def _landed(self, t: float, loads: Array) -> bool:
        s = self.memory
        over = t - s.double - s.single
        load = float(loads[1 - s.stance])
        if math.isnan(load):
            return over >= 0.0
        late_half = s.swing is not None and s.swing.progress > 0.6
        s.touched = s.touched + 1 if late_half and load > LANDED * self._weight else 0
        return s.touched >= 2 or over > LATE

    def _touch_down(self, stamp_ns: int, asked: Velocity, stopping: bool) -> None:
        s = self.memory
        s.still = s.still + 1 if not any(asked) and not any(s.velocity) else 0
        calm = abs(s.error) < 0.03
        if stopping and calm:
            s.walking, s.recovering, s.still, s.swing = False, False, 0, None
            return
        s.recovering = s.recovering and not calm
        hurry = s.recovering and s.margins[0] < 0.0
        if s.recovering and s.target is not None:
            self._yield(s.target)
        self._begin(stamp_ns, 1 - s.stance, HASTE if hurry else None, s.pressed, asked)

    def _yield(self, landed: Foothold) -> None:
        """Walk on by the speed that the robot was made to have, not by the one it had."""
        s, stance = self.memory, self._foothold(self.memory.stance)
        nominal = next_foothold(stance, self._turning(stance), self._time(), self.width)
        ahead = ((landed.point - nominal.point) * cmath.rect(1.0, -stance.yaw)).real / self._time()
        most = self.gait.max_forward
        s.velocity = s.velocity._replace(x=min(max(s.velocity.x + YIELD * ahead, -most), most))

    def _plan(
        self, stands: tuple[bool, bool], stance: Foothold, swing: Swing | None, corners: list[complex], dt: float
    ) -> Plan:
        s, b = self.memory, self.body
        com = complex(b.com[0], b.com[1])
        ground = self._follow_ground(self._ground_at(com, b.sole[s.stance]), dt)
        other = yaw_of(swing.R) if swing is not None else yaw_of(b.sole_R[1 - s.stance])
        yaw = cmath.phase(cmath.rect(1.0, stance.yaw) + cmath.rect(1.0, other))
        side = 1 - s.stance if swing is not None else -1
        return Plan(stands, s.pressed, corners, yaw, ground, swing, side, s.velocity.turn, s.beyond)
