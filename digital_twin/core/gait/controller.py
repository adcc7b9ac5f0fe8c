"""The gait controller: from a velocity asked for and the twin's state to set points of all joints, once per state.

Its torques explain the motion that is wanted (inverse dynamics), with the ground's forces where the balance wants them;
the servos' set points are where the joints will be when the command arrives, so that they add damping, and stiffness
only as far as `servo` says. Between two commands, and when they stop, the servos hold.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.gait.body import GRAVITY, Body
from digital_twin.core.gait.fall import Fall, hopeless
from digital_twin.core.gait.footsteps import Velocity
from digital_twin.core.gait.forces import needed_wrench, share_wrench, zero_moment_point
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.ik import WholeBody
from digital_twin.core.gait.limbs import find_limbs
from digital_twin.core.gait.support import nearest_inside
from digital_twin.core.gait.walker import MOST_BEYOND, Plan, Steps, Walker
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import log_so3, rot_z
from digital_twin.core.script import smooth_step
from digital_twin.core.synchronizer import VirtualState

NS = 1_000_000_000
PHASES = ("stand", "walk", "recover", "fall", "sit")
AHEAD = 0.009  # [s] from a state's stamp to the middle of the time in which its command acts
UPPER = 8.0  # [rad/s] of the posture of arms, trunk and head
HIP_FREE = 0.6  # by which the trunk is held less while it takes up moments
LAND = 0.3  # [s] in which a robot without an estimate brings its feet down
UNSURE = 0.3  # [s]
SIT_TIME, SIT_DEPTH = 1.5, 0.25  # [s] to go down by this share of the height
STILL = Velocity(0.0, 0.0, 0.0)


class GaitCommand(NamedTuple):
    """Set points of all joints in the model's order: q [rad], qd [rad/s], effort [N m], each (n,)."""

    q: Array
    qd: Array
    effort: Array


@dataclass
class _Memory:
    """All that changes."""

    steps: Steps
    phase: str = "stand"
    why: str = ""
    asked: Velocity = STILL
    asked_ns: int | None = None
    stamp_ns: int = -1
    last: GaitCommand | None = None
    fall: Fall | None = None
    sits: bool = False
    low: float = 0.0  # 0 … 1: how far down it has sat
    lost_ns: int = -1  # since when no state has come
    unsure_ns: int = -1


class GaitController:
    """Walks, stands, catches itself, falls softly. Feed it each state of the twin; it reads no clock.

    Attributes:
        body: the robot as it is now.
        height: of the centre of mass above the soles, when it walks [m].
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, gait: Gait) -> None:
        """
        Raises:
            ConfigError: the robot has no two legs to walk on; says what is missing.
        """
        self.model, self.gait, self._joints = model, gait, joints
        self.body = Body(model, robot, joints)
        self._limbs = find_limbs(self.body)
        self._whole = WholeBody(self.body)
        self.height, width = self._at_ease()
        self._trunk = self.body.trunk_inertia()
        self._walker = Walker(gait, self.body, self.height, width)
        self._m = _Memory(self._walker.memory)

    def _at_ease(self) -> tuple[float, float]:
        """Height of the centre of mass above the soles when walking, and how far apart they are, by the stand."""
        zero, none = np.zeros(3), np.zeros((6, 6))
        base = BaseState(0, zero, np.eye(3), zero, zero, none, none, (True, True), True)
        self.body.update(base, self._joints.stand, np.zeros(self.model.n))
        soles = self.body.sole
        height = float(self.body.com[2] - soles[:, 2].mean()) - self.gait.crouch
        return height, float(soles[0, 1] - soles[1, 1])

    @property
    def zero_error(self) -> Array:
        """By which joints are read too large, as the model has it [rad] (n,)."""
        return self._joints.zero_error

    # What it is asked, and what it does

    @property
    def phase(self) -> str:
        """One of PHASES."""
        return self._m.phase

    @property
    def why(self) -> str:
        """What it does and why, in words, when that needs saying ("" else)."""
        return self._m.why

    @property
    def velocity(self) -> Velocity:
        """What it walks by now: [m/s] ahead and to the left, [rad/s] to the left."""
        return self._walker.memory.velocity

    def details(self) -> tuple[float, float, float, float, float, float]:
        """How far capture point and zero moment point are inside the support, error of the first [m]; the velocity."""
        s = self._walker.memory
        return (*s.margins, abs(s.error), *s.velocity)

    def request(self, vx: float, vy: float, wz: float, stamp_ns: int | None = None) -> str:
        """Ask for a velocity in the base's frame: [m/s] ahead, [m/s] to the left, [rad/s] to the left.

        Returns "" or what was wrong with it, in words: numbers that are none stop the robot, too high ones are lowered.
        stamp_ns: when; after `command_timeout` it is stale. None: it holds until the next.
        """
        self._m.asked_ns = stamp_ns
        if not all(map(math.isfinite, (vx, vy, wz))):
            self._m.asked = Velocity(0.0, 0.0, 0.0)
            return f"cmd_vel ({vx}, {vy}, {wz}) is not a velocity: the robot stops"
        g = self.gait
        most = (g.max_forward, g.max_sideways, g.max_turn)
        self._m.asked = Velocity(*(min(max(v, -m), m) for v, m in zip((vx, vy, wz), most, strict=True)))
        if self._m.asked != (vx, vy, wz):
            return "cmd_vel ({:.3g}, {:.3g}, {:.3g}) is more than the gait allows: it walks by ({:.3g}, {:.3g}, {:.3g})".format(
                vx, vy, wz, *self._m.asked
            )
        return ""

    def sit(self) -> None:
        """Stop, and go down on bent knees; `stand` ends it."""
        self._m.sits = True

    def stand(self) -> None:
        """Stop, stand up from `sit`, and after a fall, when something has put the robot on its feet again."""
        m = self._m
        m.sits, m.asked, m.fall, m.why = False, STILL, None, ""
        if m.phase == "fall":
            self._walker.forget()

    def snapshot(self) -> object:
        """All that changes, as a value; `restore` takes it back. So a rollout can begin in mid-step."""
        return copy.deepcopy(self._m)

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot (of this controller or of another with the same robot and gait)."""
        self._m = copy.deepcopy(cast(_Memory, snapshot))
        self._walker.memory = self._m.steps

    # Each moment

    def step(self, state: VirtualState, wrenches: Array) -> GaitCommand:
        """One command for each state of the twin.

        wrenches (2, 6): force [N] and torque [N m] on the soles in their own frames, about their origins, force z
        positive under load, in the order of the robot config's feet; NaN where there is no sensor.
        """
        if not (np.isfinite(state.q).all() and np.isfinite(state.qd).all() and np.isfinite(state.base.position).all()):
            return self.lost(state.stamp_ns)
        m, b = self._m, self.body
        q = state.q - self.zero_error
        b.update(state.base, q, state.qd)
        com, v = b.com, b.com_velocity
        dcm = complex(com[0], com[1]) + complex(v[0], v[1]) / self._walker.omega
        dt = 0.0 if m.stamp_ns < 0 else min(max(state.stamp_ns - m.stamp_ns, 0) / NS, 0.05)
        m.stamp_ns = state.stamp_ns
        if m.lost_ns >= 0:
            m.lost_ns = -1
            self._walker.forget()
        m.why = self._doubt(state)
        if m.fall is None and (reason := hopeless(b, dcm, self._height(), self.gait.max_step)):
            m.fall = Fall(reason, b, self._limbs, self._joints.stand, dcm)
        if m.fall is not None:
            m.phase, m.why = "fall", m.fall.why
            goal, qd = m.fall.command(q)
            m.last = GaitCommand(goal, qd, np.zeros(self.model.n))
            return m.last
        plan = self._walker.update(state.stamp_ns, dcm, wrenches[list(b.feet), 2], self._wanted(state.stamp_ns))
        self._name_phase(dt)
        m.last = self._command(plan, q, state.qd)
        return m.last

    def lost(self, stamp_ns: int) -> GaitCommand:
        """The command while no state comes; stamp_ns: now.

        Balance is not to be had without one. The servos hold; out of a step both feet are brought down in LAND [s].
        """
        m = self._m
        if m.last is None:  # never had one
            return GaitCommand(self._joints.stand, np.zeros(self.model.n), np.zeros(self.model.n))
        if m.lost_ns < 0:
            m.lost_ns, m.asked = stamp_ns, STILL  # it takes a new request to walk again
        since = (stamp_ns - m.lost_ns) / NS
        m.why = f"no estimate for {since:.2f} s: stops and stands as well as it can"
        in_the_air = m.steps.swing is not None
        share = min(1.0, since / LAND) if in_the_air and m.fall is None else 0.0
        q = m.last.q + share * (self._joints.stand - m.last.q)
        return GaitCommand(q, np.zeros(self.model.n), (1.0 - min(1.0, since / LAND)) * m.last.effort)

    def _doubt(self, state: VirtualState) -> str:
        """An estimate that is unsure for a while is none to walk by."""
        m = self._m
        if state.base.initialised:
            m.unsure_ns = -1
            return ""
        if m.unsure_ns < 0:
            m.unsure_ns = state.stamp_ns
        return "the estimate is unsure: does not walk" if state.stamp_ns - m.unsure_ns > UNSURE * NS else ""

    def _wanted(self, stamp_ns: int) -> Velocity:
        m = self._m
        if m.asked_ns is not None and stamp_ns - m.asked_ns > self.gait.command_timeout * NS:
            if any(m.asked):
                m.why = f"no cmd_vel for {(stamp_ns - m.asked_ns) / NS:.1f} s: stops"
            return STILL
        return STILL if m.sits or m.low > 0.0 or m.why else m.asked

    def _name_phase(self, dt: float) -> None:
        m, s = self._m, self._m.steps
        down = m.sits and not s.walking
        m.low = min(1.0, m.low + dt / SIT_TIME) if down else max(0.0, m.low - dt / SIT_TIME)
        standing = "sit" if m.sits or m.low > 0.0 else "stand"
        m.phase = "recover" if s.recovering else "walk" if s.walking else standing

    def _height(self) -> float:
        return self.height * (1.0 - SIT_DEPTH * smooth_step(self._m.low)[0])

    def _command(self, plan: Plan, q: Array, qd: Array) -> GaitCommand:
        b, k = self.body, self.gait.gains
        upper = self._upper(q, qd)
        soles, com, turn = self._sole_accelerations(plan), self._com_acceleration(plan), self._turning(plan)
        acceleration = self._whole.accelerations(soles, com, turn, upper, plan.stands)
        force, moment = needed_wrench(b, acceleration)
        zmp = zero_moment_point(b, force, moment, plan.ground)
        over = zmp - nearest_inside(zmp, plan.corners)
        if abs(over) > 1e-3:
            # The soles cannot give that: rather than the trunk, let the centre of mass go, just as far as needed.
            com += self._walker.omega**2 * np.array([over.real, over.imag, 0.0])
            other = self._whole.accelerations(soles, com, turn, upper, plan.stands)
            way = zmp - zero_moment_point(b, *needed_wrench(b, other), plan.ground)
            share = (over * way.conjugate()).real / max(abs(way) ** 2, 1e-9)
            acceleration = acceleration + min(max(share, 0.0), 1.5) * (other - acceleration)
            force, moment = needed_wrench(b, acceleration)
        wrench, _ = share_wrench(b, force, moment, plan.stands, k.margin)
        torque = (b.M @ acceleration + b.h)[6:]
        for J, w in zip(b.J, wrench, strict=True):
            torque = torque - J[:, 6:].T @ w
        qdd = acceleration[6:]
        return GaitCommand(q + AHEAD * qd, qd + AHEAD * qdd, torque)

    def _upper(self, q: Array, qd: Array) -> Array:
        """Accelerations of the joints that are in no leg: they keep their posture, and the arms swing against the legs."""
        b, goal = self.body, self._joints.stand.copy()
        apart = float(b.R[:, 0] @ (b.sole[0] - b.sole[1])) / self.height
        for limb, s in ((self._limbs.left, 1.0), (self._limbs.right, -1.0)):
            if limb is not None:
                goal[limb.joint] += self.gait.arm_swing * s * limb.sign * apart
        i = b.upper
        return np.asarray(UPPER**2 * (goal[i] - q[i]) - 2 * UPPER * qd[i])

    def _com_acceleration(self, plan: Plan) -> Array:
        b, w, k = self.body, self._walker.omega, self.gait.gains.height
        flat = w * w * (complex(b.com[0], b.com[1]) - plan.press - self.gait.gains.hip * plan.beyond)
        up = k * k * (plan.ground + self._height() - b.com[2]) - 2 * k * b.com_velocity[2]
        return np.array([flat.real, flat.imag, up])

    def _turning(self, plan: Plan) -> Array:
        """Angular acceleration of the root in its own axes that keeps it upright and along the way."""
        b, beyond = self.body, self.gait.gains.hip * plan.beyond
        k = self.gait.gains.torso * (1.0 - HIP_FREE * min(1.0, abs(beyond) / MOST_BEYOND))
        error = log_so3(b.R.T @ rot_z(plan.yaw))
        rate = b.R.T @ np.array([0.0, 0.0, plan.turn])
        # The ground pushes where it can; the trunk takes up the moment that pushing outside of the soles would have had.
        moment = b.mass * GRAVITY * np.array([-beyond.imag, beyond.real, 0.0])
        return np.asarray(k * k * error + 2 * k * (rate - b.turn) + b.R.T @ moment / self._trunk)

    def _sole_accelerations(self, plan: Plan) -> Array:
        b, g = self.body, self.gait.gains
        out = -g.stance * b.sole_velocity
        if plan.swing is not None:
            i, s, k = plan.side, plan.swing, g.swing
            place = s.acceleration + k * k * (s.position - b.sole[i]) + 2 * k * (s.velocity - b.sole_velocity[i, :3])
            turn = k * k * log_so3(s.R @ b.sole_R[i].T) + 2 * k * (s.turn - b.sole_velocity[i, 3:])
            out[i] = np.concatenate([place, turn])
        return out
