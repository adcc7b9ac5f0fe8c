"""What torques and sole forces should be, from joints, gyro and accelerometer alone.

The equations of motion are written in the frame of the root link with the specific force that the accelerometer reads
in place of acceleration and gravity, so no attitude is needed, nor anything else that an estimator has made of these
readings: τ = M(q) q̈ + h(q, q̇) − Σ Jᵢᵀ wᵢ, the six rows of the base being zero. wᵢ are the measured sole wrenches. They act
on the leg above the foot, so the feet themselves count for nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index, Mask
from digital_twin.core.model import ROOT_JOINT, RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import cross

GRAVITY = 9.81
SIGN_SPEED = 0.02  # [rad/s] over which friction changes its sign


@dataclass(frozen=True)
class Balance:
    """Of one sample. needed: joint torques [N m] (n,). base: force [N] and torque [N m] on the root link that nothing
    explains (6,). turn: angular velocity of the IMU against the standing feet, in its frame [rad/s] (3,). feel: what
    the accelerometer reads beyond what kinematics and gravity say, in its frame [m/s²] (3,). NaN where no foot stands."""

    needed: Array
    base: Array
    turn: Array
    feel: Array


@dataclass(frozen=True)
class Passive:
    """Friction, damping and rotors of the joints as described, (n,) each."""

    friction: Array
    damping: Array
    armature: Array


class BodyDynamics:
    """For one robot, with memory of its own. `masses` (nbody,) are factors of each body's mass and inertia.

    Attributes:
        friction, damping, armature: of the joints [N m], [N m s/rad], [kg m²] (n,); may be set. described: as the model
            has them. accel_bias: of the accelerometer, in its frame [m/s²] (3,); may be set.
        bodies: MuJoCo's numbers of the bodies with mass, in the order of mass factors (b,). massless: those of feet that
            feel their own load.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        self.model = model
        m = self._mj = copy.copy(model.mj)
        m.opt.gravity[:] = 0.0
        self._feet = [model.frame_id(f.frame) for f in robot.feet]
        self.measured = all(f.wrench_topic for f in robot.feet) and bool(robot.feet)
        self.massless: set[int] = set()
        if self.measured:
            for site in self._feet:
                body = int(m.site_bodyid[site])
                self.massless.add(body)
                m.body_mass[body], m.body_inertia[body] = 0.0, 0.0
        self._mass, self._inertia = m.body_mass.copy(), m.body_inertia.copy()
        self.bodies: Index = np.flatnonzero(self._mass > 0.0)
        self.masses = np.ones(len(self.bodies))
        self._data = mujoco.MjData(m)
        self.accel_bias = np.zeros(3)
        dofs = model.dof_index
        self.friction, self.damping = m.dof_frictionloss[dofs].copy(), m.dof_damping[dofs].copy()
        self.armature = joints.armature.copy()
        self.described = Passive(self.friction.copy(), self.damping.copy(), self.armature.copy())
        root = m.joint(ROOT_JOINT)
        self._v0, self._q0 = int(root.dofadr[0]), int(root.qposadr[0])
        imu = robot.imus[0].frame if robot.imus else model.base_frame
        self._imu = model.frame_id(imu)
        self._jacobian = np.zeros((6, m.nv))
        self._object = np.zeros(6)
        self.carries = self._carries_foot()

    def _carries_foot(self) -> Array:
        """Of each joint, whether a foot hangs below it (n,) of bool: its torque depends on the ground's forces."""
        m = self._mj
        found = np.zeros(m.nv, dtype=bool)
        for site in self._feet:
            body = int(m.site_bodyid[site])
            while body > 0:
                first = int(m.body_dofadr[body])
                found[first : first + int(m.body_dofnum[body])] = True
                body = int(m.body_parentid[body])
        return np.asarray(found[self.model.dof_index])

    def set_masses(self, factors: Array) -> None:
        """Factors (b,) of the bodies' masses and inertias."""
        self.masses = factors.copy()
        self._mj.body_mass[self.bodies] = self._mass[self.bodies] * factors
        self._mj.body_inertia[self.bodies] = self._inertia[self.bodies] * factors[:, None]

    def inherit(self, old: BodyDynamics, named: Mask) -> None:
        """Take over what another, of an older model of the same robot, has learned beyond its model: masses; friction,
        damping and rotors of the joints that are not `named` (n,)."""
        self.accel_bias = old.accel_bias.copy()
        mass, before = self._mass[self.bodies], old._mass[old.bodies]
        self.set_masses(1.0 + (old.masses - 1.0) * before / mass)
        for name in ("friction", "damping", "armature"):
            now, then, learned = getattr(self, name), getattr(old.described, name), getattr(old, name)
            setattr(self, name, np.where(named, now, np.maximum(now + learned - then, 0.0)))

    def _place(self, q: Array, qd: Array, qdd: Array, gyro: Array, accel: Array, turn_rate: Array) -> None:
        """Write a sample into MuJoCo's data; see `balance`."""
        m, d, v0 = self._mj, self._data, self._v0
        d.qpos[self._q0 : self._q0 + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        self.model.write_joints(d.qpos, q)
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        R = d.site_xmat[self._imu].reshape(3, 3)
        arm = d.site_xpos[self._imu]
        omega, alpha = R @ gyro, R @ turn_rate
        accel = accel - self.accel_bias
        d.qvel[:], d.qacc[:] = 0.0, 0.0
        d.qvel[v0 + 3 : v0 + 6], d.qacc[v0 + 3 : v0 + 6] = omega, alpha
        d.qacc[v0 : v0 + 3] = R @ accel - cross(alpha, arm) - cross(omega, cross(omega, arm))
        d.qvel[self.model.dof_index], d.qacc[self.model.dof_index] = qd, qdd
        mujoco.mj_comVel(m, d)

    def balance(
        self, q: Array, qd: Array, qdd: Array, gyro: Array, accel: Array, turn_rate: Array, wrenches: Array,
        standing: tuple[bool, ...],
    ) -> Balance:  # fmt: skip
        """One sample.

        Args:
            q, qd, qdd: joints (n,).
            gyro, accel, turn_rate: in the IMU's frame [rad/s], [m/s²], [rad/s²] (3,).
            wrenches: of each foot on the leg, in the sole frame (f, 6), finite.
            standing: which feet rest on the ground.
        """
        m, d, v0 = self._mj, self._data, self._v0
        self._place(q, qd, qdd, gyro, accel, turn_rate)
        total = np.empty(m.nv)
        mujoco.mj_rne(m, d, 1, total)
        mujoco.mj_rnePostConstraint(m, d)
        for site, wrench in zip(self._feet, wrenches, strict=True):
            mujoco.mj_jacSite(m, d, self._jacobian[:3], self._jacobian[3:], site)
            R = d.site_xmat[site].reshape(3, 3)
            total -= self._jacobian[:3].T @ (R @ wrench[:3]) + self._jacobian[3:].T @ (R @ wrench[3:])
        turn, feel = self._feet_at_rest(gyro, standing)
        needed = total[self.model.dof_index] + self.armature * qdd + self.passive(qd)
        return Balance(np.asarray(needed), -total[v0 : v0 + 6], turn, feel)

    @property
    def mass(self) -> float:
        """Of all that the soles feel [kg]."""
        return float(self._mj.body_mass.sum())

    def couplings(self, q: Array) -> Array:
        """How torques (n rows) and what the base lacks (6 rows) depend on accelerations of joints (n columns), and of the
        root link, linear and angular (6 columns): the mass matrix at a posture (n,), the root link level."""
        m, d, v0 = self._mj, self._data, self._v0
        dofs = np.arange(m.nv)[self.model.dof_index]
        d.qpos[self._q0 : self._q0 + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        self.model.write_joints(d.qpos, q)
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        mujoco.mj_crb(m, d)
        full = np.zeros((m.nv, m.nv))
        mujoco.mj_fullM(m, d, full)
        order = np.concatenate([dofs, np.arange(v0, v0 + 6)])
        full = full[np.ix_(order, order)]
        n = len(dofs)
        full[np.arange(n), np.arange(n)] += self.armature - m.dof_armature[dofs]
        return np.asarray(full)

    def carried(self) -> Array:
        """Mass that hangs on each joint [kg] (n,)."""
        m = self._mj
        below = m.body_mass.copy()
        for body in range(m.nbody - 1, 0, -1):
            below[m.body_parentid[body]] += below[body]
        return np.asarray(below[m.dof_bodyid[self.model.dof_index]])

    def in_imu(self, vector: Array) -> Array:
        """A vector along the root link's axes in those of the IMU, as it was in the last sample (3,)."""
        return np.asarray(self._data.site_xmat[self._imu].reshape(3, 3).T @ vector)

    def passive(self, qd: Array) -> Array:
        """Torques that friction and damping take [N m] (n,)."""
        return np.asarray(self.friction * np.tanh(qd / SIGN_SPEED) + self.damping * qd)

    def _feet_at_rest(self, gyro: Array, standing: tuple[bool, ...]) -> tuple[Array, Array]:
        """A foot that stands does not turn and feels gravity only: what gyro and accelerometer say beyond that."""
        m, d = self._mj, self._data
        feet = [site for site, stands in zip(self._feet, standing, strict=True) if stands]
        if not feet:
            return np.full(3, np.nan), np.full(3, np.nan)
        R_imu = d.site_xmat[self._imu].reshape(3, 3)
        turn, feel = np.zeros(3), np.zeros(3)
        for site in feet:
            R = R_imu.T @ d.site_xmat[site].reshape(3, 3)
            mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_SITE, site, self._object, 1)
            turn += R @ self._object[:3]
            mujoco.mj_objectAcceleration(m, d, mujoco.mjtObj.mjOBJ_SITE, site, self._object, 1)
            feel += R @ (self._object[3:] - [0.0, 0.0, GRAVITY])
        return turn / len(feet), feel / len(feet)

    # How residuals depend on what may be different

    def mass_regressors(
        self, q: Array, qd: Array, qdd: Array, gyro: Array, accel: Array, turn_rate: Array
    ) -> tuple[Array, Array]:
        """What a unit of each body's mass factor adds to the residuals of torques (n, b) and base (6, b)."""
        m, d, v0 = self._mj, self._data, self._v0
        out = np.zeros((len(self.bodies), m.nv))
        mass, inertia = m.body_mass.copy(), m.body_inertia.copy()
        self._place(q, qd, qdd, gyro, accel, turn_rate)
        m.body_mass[:], m.body_inertia[:] = 0.0, 0.0
        for row, body in enumerate(self.bodies):
            m.body_mass[body], m.body_inertia[body] = self._mass[body], self._inertia[body]
            mujoco.mj_comPos(m, d)
            mujoco.mj_comVel(m, d)
            mujoco.mj_rne(m, d, 1, out[row])
            m.body_mass[body], m.body_inertia[body] = 0.0, 0.0
        m.body_mass[:], m.body_inertia[:] = mass, inertia
        return out[:, self.model.dof_index].T, out[:, v0 : v0 + 6].T

    def payload_regressor(self, site: int) -> tuple[Array, Array]:
        """What a point mass of 1 kg at a site adds to the residuals of torques (n,) and base (6,): of the sample that
        `balance` saw last."""
        m, d, v0 = self._mj, self._data, self._v0
        mujoco.mj_jacSite(m, d, self._jacobian[:3], self._jacobian[3:], site)
        mujoco.mj_objectAcceleration(m, d, mujoco.mjtObj.mjOBJ_SITE, site, self._object, 0)
        load = self._jacobian[:3].T @ self._object[3:]
        return np.asarray(load[self.model.dof_index]), load[v0 : v0 + 6].copy()

    def shaken(self, axis: Array) -> tuple[Array, Array]:
        """What an accelerometer that reads `axis` (3,) [m/s²] too much adds to the residuals of torques (n,) and base
        (6,): of the sample that `balance` saw last."""
        m, d, v0 = self._mj, self._data, self._v0
        push = np.zeros(m.nv)
        push[v0 : v0 + 3] = d.site_xmat[self._imu].reshape(3, 3) @ axis
        out = np.zeros(m.nv)
        qacc, qvel = d.qacc.copy(), d.qvel.copy()
        d.qacc[:], d.qvel[:] = push, 0.0
        mujoco.mj_comVel(m, d)
        mujoco.mj_rne(m, d, 1, out)
        d.qacc[:], d.qvel[:] = qacc, qvel
        mujoco.mj_comVel(m, d)
        return -np.asarray(out[self.model.dof_index]), -out[v0 : v0 + 6]
