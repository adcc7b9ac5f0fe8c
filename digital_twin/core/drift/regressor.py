"""Inverse dynamics as a linear function of a robot's parameters, for many samples at once.

For a body with φ = (m, m c, I) the force and torque that move it are linear in φ (Atkeson, An, Hollerbach 1986):
f = m a + ω̇ × h + ω × (ω × h), n = I ω̇ + ω × I ω + h × a, with a the acceleration of its origin less gravity. Each joint
bears the torque about its axis of all bodies beyond it, and the six rows of the free base all bodies together. Friction
and the rotor's inertia add d q̇ + c tanh(q̇ / v) + A q̈.

An accelerometer's bias turns gravity in all rows alike: about known φ they are linear in it too.

Force sensors cut the robot: what is beyond them (the feet) weighs on their readings and not on the rows, so the bodies
beyond have no columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np
from scipy.linalg import null_space

from digital_twin.core.arrays import Array, Index
from digital_twin.core.drift.inertia import SIZE
from digital_twin.core.drift.signals import Signals
from digital_twin.core.model import ROOT_JOINT, RobotModel
from digital_twin.core.rotation import matrix_from_quat, xyzw_from_wxyz

BASE_ROWS = ("force x", "force y", "force z", "torque x", "torque y", "torque z")
JOINT_PARAMETERS = ("damping", "friction", "armature")
SIGN_SPEED = 0.02  # [rad/s] over which Coulomb's friction turns round


@dataclass(frozen=True)
class Row:
    """One row for all samples: numbers of the parameters that it holds, their factors (K, k), what they explain (K,)."""

    columns: Index
    factors: Array
    target: Array


@dataclass
class _Body:
    """Motion of a body's frame in the world, (K, …) each; the acceleration is less gravity."""

    R: Array
    p: Array
    turn: Array
    turn_rate: Array
    a: Array


class Regressor:
    """Rows of one robot. Parameters: ten of each body in `bodies`, then damping, friction and armature of each joint, then
    the accelerometer's bias along two axes of the root link that are level on average [m/s²].

    Attributes:
        bodies: numbers of the bodies that have columns. joints, bias: where the last parameters are.
    """

    def __init__(self, model: RobotModel, cuts: list[str]) -> None:
        """`cuts`: frames with a force sensor, beyond which nothing has columns; see Window.wrenches for their order."""
        m = self.model = model.mj
        self.robot = model
        self._cuts = [model.frame_id(name) for name in cuts]
        self._cut_bodies = [int(m.site_bodyid[site]) for site in self._cuts]
        beyond = {b for b in range(1, m.nbody) if any(c in self._chain(b) for c in self._cut_bodies)}
        self.bodies = [b for b in range(1, m.nbody) if b not in beyond]
        self._driver: dict[int, int] = {}  # of each body on a joint: the driven joint that moves it,
        self._factor: dict[int, float] = {}  # how many times as far,
        self._offset: dict[int, float] = {}  # and from where
        self._find_drivers()
        self.n_inertial = SIZE * len(self.bodies)
        self.joints = slice(self.n_inertial, self.n_inertial + len(JOINT_PARAMETERS) * model.n)
        self.bias = slice(self.joints.stop, self.joints.stop + 2)
        self.size = self.bias.stop

    def _chain(self, body: int) -> list[int]:
        """The body and what carries it, up to the root."""
        chain = []
        while body > 0:
            chain.append(body)
            body = int(self.model.body_parentid[body])
        return chain

    def _find_drivers(self) -> None:
        for j in range(self.model.njnt):
            name, body = self.model.joint(j).name, int(self.model.jnt_bodyid[j])
            if name == ROOT_JOINT:
                continue
            leader, factor, offset = self.robot.description.joints[name].mimic or (name, 1.0, 0.0)
            if leader in self.robot.joint_index:
                self._driver[body] = self.robot.joint_index[leader]
                self._factor[body], self._offset[body] = factor, offset

    def column(self, body: int) -> slice:
        """Where the ten parameters of a body are."""
        start = SIZE * self.bodies.index(body)
        return slice(start, start + SIZE)

    def joint_column(self, kind: str, joint: int) -> int:
        """Where a parameter of a joint is."""
        return self.n_inertial + JOINT_PARAMETERS.index(kind) * self.robot.n + joint

    # Kinematics

    def motion(self, s: Signals) -> list[_Body]:
        """Of all bodies, from the root outwards; the first, the world, is nothing."""
        m = self.model
        moved = [_Body(s.rotation, s.position, s.turn, s.turn_rate, s.acceleration)] * 2
        for body in range(2, m.nbody):
            moved.append(self._next(moved[m.body_parentid[body]], body, s))
        return moved

    def _next(self, parent: _Body, body: int, s: Signals) -> _Body:
        m = self.model
        R0 = matrix_from_quat(xyzw_from_wxyz(m.body_quat[body]))
        r = parent.R @ m.body_pos[body]
        R = parent.R @ R0
        turn, rate = parent.turn, parent.turn_rate
        a = parent.a + np.cross(rate, r) + np.cross(turn, np.cross(turn, r))
        p = parent.p + r
        if body not in self._driver:
            return _Body(R, p, turn, rate, a)
        j, k = self._driver[body], self._factor[body]
        joint = int(m.body_jntadr[body])
        local = m.jnt_axis[joint]
        axis = R @ local
        q, qd, qdd = s.q[:, j], k * s.qd[:, j], k * s.qdd[:, j]
        q = k * q + self._offset[body]
        spin = axis * qd[:, None]
        if m.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE:
            a = a + axis * qdd[:, None] + 2.0 * np.cross(turn, spin)
            slid = axis * q[:, None]
            a = a + np.cross(rate, slid) + np.cross(turn, np.cross(turn, slid))
            return _Body(R, p + slid, turn, rate, a)
        rate = rate + axis * qdd[:, None] + np.cross(turn, spin)
        return _Body(R @ _turned(local, q), p, turn + spin, rate, a)

    # Rows

    def biased_rows(self, s: Signals, about: Array) -> list[Row]:
        """As `rows`, with columns for the accelerometer's bias, linear about the parameters `about` (size,).

        Of its level part: what is upright of it `condition` takes off.
        """
        still = np.zeros_like(s.q)
        rest = np.zeros_like(s.turn)
        level = null_space(s.rotation[:, 2].mean(axis=0)[None])
        felt = [
            replace(
                s, qd=still, qdd=still, effort=still, turn=rest, turn_rate=rest, acceleration=s.rotation @ axis,
                wrenches=np.zeros_like(s.wrenches),
            )
            for axis in level.T
        ]  # fmt: skip
        each = [[row.factors @ about[row.columns] for row in self.rows(f)] for f in felt]
        columns = np.arange(self.bias.start, self.bias.stop)
        return [
            Row(
                np.concatenate([row.columns, columns]),
                np.column_stack([row.factors, *(-e[i] for e in each)]),
                row.target,
            )
            for i, row in enumerate(self.rows(s))
        ]

    def rows(self, s: Signals) -> list[Row]:
        """Six of the base (world axes, torques about the root's origin), then one for each joint: [N], [N m]."""
        moved = self.motion(s)
        origin = s.position
        wrench = {b: _wrench(moved[b], origin) for b in self.bodies}
        feet = [self._foot(moved, c, i, s) for i, c in enumerate(self._cuts)]
        total = np.sum(feet, axis=0) if feet else np.zeros((len(s), 6))
        columns = np.concatenate([np.arange(SIZE) + self.column(b).start for b in self.bodies])
        every = np.concatenate([wrench[b] for b in self.bodies], axis=2)
        out = [Row(columns, every[:, i], total[:, i]) for i in range(6)]
        return out + [self._joint_row(j, moved, wrench, feet, s) for j in range(self.robot.n)]

    def _joint_row(self, j: int, moved: list[_Body], wrench: dict[int, Array], feet: list[Array], s: Signals) -> Row:
        """Torque of a joint, and of those that mimic it."""
        m = self.model
        factors: dict[int, Array] = {}
        target = s.effort[:, j].copy()
        for carrier, driver in self._driver.items():
            if driver != j:
                continue
            joint = int(m.body_jntadr[carrier])
            axis = self._factor[carrier] * (moved[carrier].R @ m.jnt_axis[joint])
            arm = moved[carrier].p - s.position
            slides = m.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
            for b in self.bodies:
                if carrier in self._chain(b):
                    factors[b] = factors.get(b, 0.0) + _along(axis, arm, wrench[b], slides=slides)
            for body, foot in zip(self._cut_bodies, feet, strict=True):
                if carrier in self._chain(body):
                    target = target + _along(axis, arm, foot[:, :, None], slides=slides)[:, 0]
        n_i, n = self.n_inertial, self.robot.n
        columns = [np.arange(SIZE) + self.column(b).start for b in factors]
        columns.append(n_i + j + n * np.arange(len(JOINT_PARAMETERS)))
        own = np.stack([s.qd[:, j], np.tanh(s.qd[:, j] / SIGN_SPEED), s.qdd[:, j]], axis=1)
        return Row(np.concatenate(columns), np.concatenate([*factors.values(), own], axis=1), target)

    def _foot(self, moved: list[_Body], site: int, i: int, s: Signals) -> Array:
        """Force and torque (K, 6) of what is beyond a sensor on what is before, world axes, about the root's origin."""
        m = self.model
        body = moved[m.site_bodyid[site]]
        R = body.R @ matrix_from_quat(xyzw_from_wxyz(m.site_quat[site]))
        p = body.p + body.R @ m.site_pos[site] - s.position
        force, torque = (np.einsum("tij,tj->ti", R, s.wrenches[:, i, k : k + 3]) for k in (0, 3))
        return np.concatenate([force, torque + np.cross(p, force)], axis=1)


def _turned(axis: Array, q: Array) -> Array:
    """Rotations (K, 3, 3) by q (K,) about an axis (3,), by Rodrigues' formula."""
    x, y, z = axis
    S = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(q)[:, None, None] * S + (1.0 - np.cos(q))[:, None, None] * (S @ S))


def _skews(v: Array) -> Array:
    """Cross product matrices (K, 3, 3) of vectors (K, 3)."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return np.asarray(out - out.transpose(0, 2, 1))


def _products(v: Array) -> Array:
    """L (K, 3, 6) with I v = L (xx, xy, xz, yy, yz, zz)."""
    out = np.zeros((len(v), 3, 6))
    x, y, z = v.T
    out[:, 0, 0], out[:, 0, 1], out[:, 0, 2] = x, y, z
    out[:, 1, 1], out[:, 1, 3], out[:, 1, 4] = x, y, z
    out[:, 2, 2], out[:, 2, 4], out[:, 2, 5] = x, y, z
    return out


def _wrench(b: _Body, origin: Array) -> Array:
    """(K, 6, 10): force and torque about `origin` on a body, world axes, per parameter."""
    back = b.R.transpose(0, 2, 1)
    a, w, dw = (np.einsum("tij,tj->ti", back, v) for v in (b.a, b.turn, b.turn_rate))
    W, dW = _skews(w), _skews(dw)
    force, torque = np.zeros((len(a), 3, SIZE)), np.zeros((len(a), 3, SIZE))
    force[:, :, 0] = a
    force[:, :, 1:4] = dW + W @ W
    torque[:, :, 1:4] = -_skews(a)
    torque[:, :, 4:] = _products(dw) + W @ _products(w)
    force, torque = b.R @ force, b.R @ torque
    return np.concatenate([force, torque + _skews(b.p - origin) @ force], axis=1)


def _along(axis: Array, arm: Array, wrench: Array, *, slides: bool) -> Array:
    """What an axis at `arm` bears of wrenches (K, 6, k): torque about it, or force along it; (K, k)."""
    force = wrench[:, :3]
    if slides:
        return np.asarray(np.einsum("ti,tik->tk", axis, force))
    # axis · (torque − arm × force)
    return np.asarray(
        np.einsum("ti,tik->tk", axis, wrench[:, 3:]) - np.einsum("ti,tik->tk", np.cross(axis, arm), force)
    )
