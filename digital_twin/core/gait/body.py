"""The whole body at one moment, in odom: masses, forces of inertia, centre of mass, soles, and how the joints move them."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.base_state import BaseState
from digital_twin.core.errors import ConfigError
from digital_twin.core.model import ROOT_JOINT, RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import cross, quat_from_matrix, wxyz_from_xyzw

GRAVITY = 9.81
LATERAL = 0.8  # cosine
UNLEVEL = 0.1  # [m] between the soles of a robot that stands


class Body:
    """A robot with two legs of six joints or more. After `update`, all below is of that moment; sizes: m = 6 + joints.

    Velocities v (m,) are MuJoCo's of a free body: of the root link along odom's axes, its turning along its own axes,
    then the joints. The two soles are in the order left, right; their points are the middles of their polygons.

    Attributes:
        legs: the joints of the left and the right leg, from the hip on. upper: all others.
        feet: which of the robot config's feet is the left, which the right.
        polygons: corners of the soles about those points, in the soles' axes (2, k, 2).
        M: (m, m) inertia, rotors included; h: (m,) forces of gravity, Coriolis and damping.
        com, com_velocity: (3,). R: R_odom_root (3, 3). turn: angular velocity of the root in its own axes (3,).
        sole, sole_R, sole_velocity: (2, 3), (2, 3, 3), (2, 6). J: (2, 6, m); drift: (2, 6), its change times v.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        self.model, self.joints = model, joints
        self.mj = copy.copy(model.mj)
        self.mj.dof_armature[model.dof_index] += joints.armature
        self.data = mujoco.MjData(self.mj)
        self._free = self.mj.joint(ROOT_JOINT)
        self._q0, self._v0 = int(self._free.qposadr[0]), int(self._free.dofadr[0])
        self._root_body = int(self.mj.jnt_bodyid[self._free.id])
        self._base = model.frame_id(model.base_frame)
        nv = self.mj.nv
        self._reduce = np.hstack([np.eye(nv)[:, self._v0 : self._v0 + 6], model.joint_columns(np.eye(nv))])
        self._plain = bool(nv == 6 + model.n and np.array_equal(self._reduce, np.eye(nv)))
        self._damping = self.mj.dof_damping.copy()
        self._full, self._bias = np.zeros((nv, nv)), np.zeros(nv)
        self._jac, self._jac_dot = np.zeros((6, nv)), np.zeros((6, nv))
        self._find_feet(robot)
        self.m = 6 + model.n
        self.mass = model.mass
        self.sole, self.sole_R = np.zeros((2, 3)), np.zeros((2, 3, 3))
        self.sole_velocity, self.drift = np.zeros((2, 6)), np.zeros((2, 6))
        self.J = np.zeros((2, 6, self.m))

    def _find_feet(self, robot: RobotConfig) -> None:
        """Left and right, and the joints between them and the root."""
        if len(robot.feet) != 2:
            raise ConfigError(f"walking needs two feet in the robot config; it has {len(robot.feet)}")
        self._stand_at(self.joints.stand)
        sites = [self.model.frame_id(f.frame) for f in robot.feet]
        self.feet = tuple(sorted((0, 1), key=lambda i: -self.data.site_xpos[sites[i]][1]))
        self._sites = [sites[i] for i in self.feet]
        left, right = (self.data.site_xpos[i] for i in self._sites)
        if abs(left[2] - right[2]) > UNLEVEL:
            names = " and ".join(robot.feet[i].frame for i in self.feet)
            raise ConfigError(f"walking needs two feet on one level when the robot stands; {names} are not")
        polygons = [np.array(robot.feet[i].polygon) for i in self.feet]
        middles = [(p.min(axis=0) + p.max(axis=0)) / 2 for p in polygons]
        self._middle = [np.array([*m, 0.0]) for m in middles]
        self.polygons = [p - m for p, m in zip(polygons, middles, strict=True)]
        self.legs: list[Index] = []
        for i, site in zip(self.feet, self._sites, strict=True):
            chain = self._chain(int(self.mj.site_bodyid[site]))
            if len(chain) < 6:
                raise ConfigError(
                    f"walking needs six joints between {self.model.description.root} and {robot.feet[i].frame}; "
                    f"there are {len(chain)}"
                )
            self.legs.append(np.array(chain, dtype=np.intp))
        both = np.concatenate(self.legs)
        if len(set(both.tolist())) != len(both):
            raise ConfigError("walking needs two legs; those of this robot share joints")
        self.upper: Index = np.setdiff1d(np.arange(self.model.n), both)

    def _chain(self, body: int) -> list[int]:
        """Joints (in the model's order) from the root to a body."""
        found: list[int] = []
        while body != self._root_body and body != 0:
            first, count = int(self.mj.body_jntadr[body]), int(self.mj.body_jntnum[body])
            names = [self.mj.joint(j).name for j in range(first, first + count)]
            found = [self.model.joint_index[name] for name in names if name in self.model.joint_index] + found
            body = int(self.mj.body_parentid[body])
        return found

    def _stand_at(self, q: Array) -> None:
        self.data.qpos[self._q0 : self._q0 + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        self.model.write_joints(self.data.qpos, q)
        mujoco.mj_kinematics(self.mj, self.data)

    def lateral(self, joints: Index) -> list[float]:
        """+1 or -1 for joints that now turn about the lateral axis, +y or -y of the root; 0 for others."""
        axes = self.data.xaxis[[self.mj.joint(self.model.joint_names[int(j)]).id for j in joints]] @ self.R
        return [float(np.sign(a[1])) if abs(a[1]) > LATERAL else 0.0 for a in axes]

    def trunk_inertia(self) -> float:
        """Of all that is above the legs, about the root's lateral axis, with the joints as they are [kg m²]."""
        m, d = self.mj, self.data
        names = [self.model.joint_names[int(j)] for leg in self.legs for j in leg]
        legs = {int(m.jnt_bodyid[m.joint(name).id]) for name in names}
        parts = [i for i in range(1, m.nbody) if i not in legs]
        arm = d.xipos[parts] - d.xpos[self._root_body]
        return float((m.body_mass[parts] * (arm[:, [0, 2]] ** 2).sum(axis=1) + m.body_inertia[parts].max(axis=1)).sum())

    def set(self, base: BaseState, q: Array, qd: Array) -> None:
        """Put the body where the base frame, which need not be the root link, is as `base` says."""
        m, d, q0, v0 = self.mj, self.data, self._q0, self._v0
        if int(m.site_bodyid[self._base]) == self._root_body:
            offset, R_root_base = m.site_pos[self._base], _matrix(m.site_quat[self._base])
            root_rate = R_root_base @ base.angular_velocity
        else:  # the joints between move it: as if they stood still
            self._stand_at(q)
            offset = d.site_xpos[self._base].copy()
            R_root_base = d.site_xmat[self._base].reshape(3, 3).copy()
            root_rate = R_root_base @ base.angular_velocity
        R = base.rotation @ R_root_base.T
        turn = R @ root_rate
        d.qpos[q0 : q0 + 3] = base.position - R @ offset
        d.qpos[q0 + 3 : q0 + 7] = wxyz_from_xyzw(quat_from_matrix(R))
        self.model.write_joints(d.qpos, q)
        d.qvel[v0 : v0 + 3] = base.rotation @ base.velocity - cross(turn, R @ offset)
        d.qvel[v0 + 3 : v0 + 6] = root_rate
        d.qvel[:] = self._reduce @ np.concatenate([d.qvel[v0 : v0 + 6], qd])

    def update(self, base: BaseState, q: Array, qd: Array) -> None:
        """Everything for this moment: base in odom, joints [rad], [rad/s] (n,)."""
        self.set(base, q, qd)
        m, d = self.mj, self.data
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        mujoco.mj_crb(m, d)
        mujoco.mj_fullM(m, d, self._full)
        mujoco.mj_comVel(m, d)
        mujoco.mj_rne(m, d, 0, self._bias)
        h = self._bias + self._damping * d.qvel
        plain, T = self._plain, self._reduce
        self.M: Array = self._full if plain else np.asarray(T.T @ self._full @ T)
        self.h: Array = h if plain else np.asarray(T.T @ h)
        self.R = d.xmat[self._root_body].reshape(3, 3).copy()
        self.turn = d.qvel[self._v0 + 3 : self._v0 + 6].copy()
        self.root = d.xpos[self._root_body].copy()
        self.com = d.subtree_com[self._root_body].copy()
        v = d.qvel
        # Rows of the free joint's translation are those of the whole momentum.
        self.com_velocity = self._full[self._v0 : self._v0 + 3] @ v / self.mass
        for i, site in enumerate(self._sites):
            self._sole(i, site, v)

    def _sole(self, i: int, site: int, v: Array) -> None:
        m, d = self.mj, self.data
        R = d.site_xmat[site].reshape(3, 3)
        point = d.site_xpos[site] + R @ self._middle[i]
        body = m.site_bodyid[site]
        mujoco.mj_jac(m, d, self._jac[:3], self._jac[3:], point, body)
        mujoco.mj_jacDot(m, d, self._jac_dot[:3], self._jac_dot[3:], point, body)
        self.sole[i], self.sole_R[i] = point, R
        self.sole_velocity[i] = self._jac @ v
        self.drift[i] = self._jac_dot @ v
        self.J[i] = self._jac if self._plain else self._jac @ self._reduce


def _matrix(wxyz: Array) -> Array:
    out = np.zeros(9)
    mujoco.mju_quat2Mat(out, wxyz)
    return out.reshape(3, 3)
