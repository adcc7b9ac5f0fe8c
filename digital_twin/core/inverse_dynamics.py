"""Joint torques that explain a motion, with the ground's forces on the standing feet.

τ = M q̈ + h − Σ Jᵢᵀ fᵢ. The six rows of the free base bear no motor, so they say what the feet must carry together;
among several feet it is shared as their measured loads are, else evenly.
"""

from __future__ import annotations

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.model import ROOT_JOINT, RobotModel
from digital_twin.core.rotation import quat_from_matrix, wxyz_from_xyzw

LEVER = 0.1  # [m]: a foot's torque [N m] counts as much as its force [N] at this lever


class InverseDynamics:
    """For one robot, with memory of its own."""

    def __init__(self, model: RobotModel, feet: list[str], armature: Array | None = None) -> None:
        """`feet`: the frames that the ground pushes on. `armature` [kg m²] (n,): of the rotors, seen through the gears."""
        self.model = model
        self._armature = np.zeros(model.n) if armature is None else armature
        self._data = mujoco.MjData(model.mj)
        self._sites = [model.frame_id(f) for f in feet]
        self._base = model.frame_id(model.base_frame)
        self._jacobian = np.zeros((6, model.mj.nv))
        joint = model.mj.joint(ROOT_JOINT)
        self._root_body = int(model.mj.jnt_bodyid[joint.id])
        self._root_q, self._root_v = int(joint.qposadr[0]), int(joint.dofadr[0])

    def efforts(self, base: BaseState, acceleration: Array, q: Array, qd: Array, qdd: Array, load: Array) -> Array:
        """Torques [N m] (n,); the arguments are those of `solve`."""
        return self.solve(base, acceleration, q, qd, qdd, load)[0]

    def solve(
        self, base: BaseState, acceleration: Array, q: Array, qd: Array, qdd: Array, load: Array,
        turn_rate: Array | None = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Torques [N m] (n,), and the ground's wrenches on the feet: force [N] and torque [N m] at their frames (k, 6).

        Args:
            base: pose and twist of the base frame; which feet stand.
            acceleration: of the base in odom, without gravity [m/s²] (3,); that where its IMU is will do.
            q, qd, qdd: of the joints [rad], [rad/s], [rad/s²] (n,), all finite.
            load: share of each foot in what they carry (k,), any scale.
            turn_rate: angular acceleration of the base in odom [rad/s²] (3,); None stands for zero.

        Wrenches are along odom's axes.
        """
        m, d, v0 = self.model.mj, self._data, self._root_v
        self._place(base, q)
        d.qvel[:] = 0.0
        d.qacc[:] = 0.0
        # The free joint is the root link's: velocity along odom's axes, angular velocity along its own.
        turn = base.rotation @ base.angular_velocity
        root = d.qpos[self._root_q : self._root_q + 3] - base.position
        d.qvel[v0 : v0 + 3] = base.rotation @ base.velocity + np.cross(turn, root)
        d.qvel[v0 + 3 : v0 + 6] = d.xmat[self._root_body].reshape(3, 3).T @ turn
        d.qacc[v0 : v0 + 3] = acceleration
        if turn_rate is not None:
            d.qacc[v0 + 3 : v0 + 6] = d.xmat[self._root_body].reshape(3, 3).T @ turn_rate
        d.qvel[self.model.dof_index] = qd
        d.qacc[self.model.dof_index] = qdd
        mujoco.mj_inverse(m, d)
        total = d.qfrc_inverse.copy()
        standing = [i for i, stands in enumerate(base.contacts) if stands]
        wrenches = np.zeros((len(self._sites), 6))
        if standing:
            J, f = self._feet(total[v0 : v0 + 6], standing, load)
            total -= J @ f
            wrenches[standing] = f.reshape(-1, 6)
        return np.array(total[self.model.dof_index] + self._armature * qdd), wrenches

    def _place(self, base: BaseState, q: Array) -> None:
        """Put the robot so that its base frame, which need not be the root link, is where `base` says."""
        m, d, q0 = self.model.mj, self._data, self._root_q
        d.qpos[q0 : q0 + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        self.model.write_joints(d.qpos, q)
        mujoco.mj_kinematics(m, d)
        R = base.rotation @ d.site_xmat[self._base].reshape(3, 3).T
        d.qpos[q0 : q0 + 3] = base.position - R @ d.site_xpos[self._base]
        d.qpos[q0 + 3 : q0 + 7] = wxyz_from_xyzw(quat_from_matrix(R))
        mujoco.mj_kinematics(m, d)

    def _feet(self, needed: Array, standing: list[int], load: Array) -> tuple[Array, Array]:
        """Jacobians (nv, 6 k) of the standing feet, and their wrenches (6 k,) that give the base what it needs (6,)."""
        columns = []
        for i in standing:
            mujoco.mj_jacSite(self.model.mj, self._data, self._jacobian[:3], self._jacobian[3:], self._sites[i])
            columns.append(self._jacobian.T.copy())
        J = np.hstack(columns)
        share = np.array([max(float(load[i]), 0.0) for i in standing])
        share = share / share.sum() if share.sum() > 0.0 else np.full(len(standing), 1.0 / len(standing))
        weight = np.concatenate([np.maximum(s, 1e-3) * np.array([1.0] * 3 + [LEVER**2] * 3) for s in share])
        A = J[self._root_v : self._root_v + 6] * weight
        f = weight * (
            J[self._root_v : self._root_v + 6].T @ np.linalg.solve(A @ J[self._root_v : self._root_v + 6].T, needed)
        )
        return J, f
