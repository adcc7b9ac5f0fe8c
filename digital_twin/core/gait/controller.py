"""The gait controller: from a velocity asked for and the twin's state to set points of all joints, once per state.

Its torques explain the motion that is wanted (inverse dynamics), with the ground's forces where the balance wants them;
the servos' set points are where the joints will be when the command arrives, so that they add damping, and stiffness
only as far as `servo` says. Between two commands, and when they stop, the servos hold.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.gait.body import Body
from digital_twin.core.gait.footsteps import Velocity
from digital_twin.core.gait.forces import needed_wrench, share_wrench, zero_moment_point
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.ik import WholeBody
from digital_twin.core.gait.support import nearest_inside
from digital_twin.core.gait.walker import Plan, Steps, Walker
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import log_so3, rot_z
from digital_twin.core.synchronizer import VirtualState

NS = 1_000_000_000
PHASES = ("stand", "walk", "recover", "fall", "sit")
AHEAD = 0.009  # [s] from a state's stamp to the middle of the time in which its command acts
UPPER = 8.0  # [rad/s] of the posture of arms, trunk and head


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
    asked: Velocity = Velocity(0.0, 0.0, 0.0)
    asked_ns: int | None = None
    stamp_ns: int = -1
    last: GaitCommand | None = None
    extra: dict[str, float] = field(default_factory=dict)


class GaitController:
    """Walks, stands, catches itself, falls softly. Feed it each state of the twin; it reads no clock.

    Attributes:
        body: the robot as it is now.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, gait: Gait) -> None:
        """
        Raises:
            ConfigError: the robot has no two legs to walk on; says what is missing.
        """
        self.model, self.gait, self._joints = model, gait, joints
        self.body = Body(model, robot, joints)
        self._whole = WholeBody(self.body)
        self._rest = joints.stand.copy()
        height, width = self._at_ease()
        self._walker = Walker(gait, self.body, height, width)
        self.height = height
        self._m = _Memory(self._walker.memory)

    def _at_ease(self) -> tuple[float, float]:
        """Height of the centre of mass above the soles when walking, and how far apart they are, by the stand."""
        zero, eye = np.zeros(3), np.eye(3)
        base = BaseState(0, zero, eye, zero, zero, np.zeros((6, 6)), np.zeros((6, 6)), (True, True), True)
        self.body.update(base, self._joints.stand, np.zeros(self.model.n))
        soles = self.body.sole
        height = float(self.body.com[2] - soles[:, 2].mean()) - self.gait.crouch
        return height, float(soles[0, 1] - soles[1, 1])

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

    def snapshot(self) -> object:
        """All that changes, as a value; `restore` takes it back. So a rollout can begin in mid-step."""
        return copy.deepcopy(self._m)

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot (of this controller or of another with the same robot and gait)."""
        assert isinstance(snapshot, _Memory)
        self._m = copy.deepcopy(snapshot)
        self._walker.memory = self._m.steps

    # Each moment

    def step(self, state: VirtualState, wrenches: Array) -> GaitCommand:
        """One command for each state of the twin.

        wrenches (2, 6): force [N] and torque [N m] on the soles in their own frames, about their origins, force z
        positive under load, in the order of the robot config's feet; NaN where there is no sensor.
        """
        m, b = self._m, self.body
        b.update(state.base, state.q, state.qd)
        m.stamp_ns = state.stamp_ns
        com, v = b.com, b.com_velocity
        dcm = complex(com[0], com[1]) + complex(v[0], v[1]) / self._walker.omega
        loads = wrenches[list(b.feet), 2]
        plan = self._walker.update(state.stamp_ns, dcm, loads, self._wanted(state.stamp_ns))
        steps = self._walker.memory
        m.phase = "recover" if steps.recovering else "walk" if steps.walking else "stand"
        m.last = self._command(plan, state.q, state.qd)
        return m.last

    def _wanted(self, stamp_ns: int) -> Velocity:
        m = self._m
        if m.asked_ns is not None and stamp_ns - m.asked_ns > self.gait.command_timeout * NS:
            return Velocity(0.0, 0.0, 0.0)
        return m.asked

    def _command(self, plan: Plan, q: Array, qd: Array) -> GaitCommand:
        b, k = self.body, self.gait.gains
        upper = self._upper(q, qd)
        soles, com, turn = self._sole_accelerations(plan), self._com_acceleration(plan), self._turning(plan)
        for again in (True, False):
            acceleration = self._whole.accelerations(soles, com, turn, upper, plan.stands)
            force, moment = needed_wrench(b, acceleration)
            zmp = zero_moment_point(b, force, moment, plan.ground)
            over = zmp - nearest_inside(zmp, plan.corners)
            if not again or abs(over) < 1e-3:
                break
            # The soles cannot give that: rather than the trunk, let the centre of mass go.
            com += self._walker.omega**2 * np.array([over.real, over.imag, 0.0])
        self.dbg = (acceleration, zmp)
        wrench, _ = share_wrench(b, force, moment, plan.stands, k.margin)
        torque = (b.M @ acceleration + b.h)[6:]
        for J, w in zip(b.J, wrench, strict=True):
            torque = torque - J[:, 6:].T @ w
        qdd = acceleration[6:]
        return GaitCommand(q + AHEAD * qd, qd + AHEAD * qdd, torque)

    def _upper(self, q: Array, qd: Array) -> Array:
        i = self.body.upper
        return np.asarray(UPPER**2 * (self._rest[i] - q[i]) - 2 * UPPER * qd[i])

    def _com_acceleration(self, plan: Plan) -> Array:
        b, w, k = self.body, self._walker.omega, self.gait.gains.height
        flat = w * w * (complex(b.com[0], b.com[1]) - plan.press)
        up = k * k * (plan.ground + self.height - b.com[2]) - 2 * k * b.com_velocity[2]
        return np.array([flat.real, flat.imag, up])

    def _turning(self, plan: Plan) -> Array:
        """Angular acceleration of the root in its own axes that keeps it upright and along the way."""
        b, k = self.body, self.gait.gains.torso
        error = log_so3(b.R.T @ rot_z(plan.yaw))
        rate = b.R.T @ np.array([0.0, 0.0, plan.turn])
        return np.asarray(k * k * error + 2 * k * (rate - b.turn))

    def _sole_accelerations(self, plan: Plan) -> Array:
        b, g = self.body, self.gait.gains
        out = -g.stance * b.sole_velocity
        if plan.swing is not None:
            i, s, k = plan.side, plan.swing, g.swing
            place = s.acceleration + k * k * (s.position - b.sole[i]) + 2 * k * (s.velocity - b.sole_velocity[i, :3])
            turn = k * k * log_so3(s.R @ b.sole_R[i].T) + 2 * k * (s.turn - b.sole_velocity[i, 3:])
            out[i] = np.concatenate([place, turn])
        return out
