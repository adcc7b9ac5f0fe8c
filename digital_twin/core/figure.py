"""A robot to be looked at: where its shapes, its soles and its mass are, for a pose of its base and its joints."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.description import Description
from digital_twin.core.model import ROOT_JOINT, RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import quat_from_matrix, wxyz_from_xyzw
from digital_twin.core.shapes import multiply, robot_parts


class Figure:
    """One robot; `place` it, then ask where things are. All poses are in the frame of the pose that was given.

    Attributes:
        parts: its shapes.
    """

    def __init__(self, description: Description, robot: RobotConfig, *, geometry: bool = True) -> None:
        """geometry: draw its shapes; else bones. Raises DescriptionError when it cannot be compiled with its meshes."""
        self.model = RobotModel(description, robot.base_frame, geometry=geometry)
        self.parts = robot_parts(self.model, robot.feet)
        self._data = mujoco.MjData(self.model.mj)
        self._root = int(self.model.mj.joint(ROOT_JOINT).qposadr[0])
        self._base = self.model.frame_id(self.model.base_frame)
        self._soles = [
            (self.model.frame_id(f.frame), np.array([[x, y, 0.0] for x, y in f.polygon])) for f in robot.feet
        ]

    def place(self, position: Array, rotation: Array, q: Array) -> None:
        """Put the base frame at position (3,) and rotation (3, 3), the joints at q (n,); NaN ones at zero."""
        m, d = self.model.mj, self._data
        self.model.write_joints(d.qpos, np.nan_to_num(q))
        root = d.qpos[self._root : self._root + 7]
        root[:] = (0, 0, 0, 1, 0, 0, 0)
        mujoco.mj_kinematics(m, d)
        R = rotation @ d.site_xmat[self._base].reshape(3, 3).T
        root[:3], root[3:] = position - R @ d.site_xpos[self._base], wxyz_from_xyzw(quat_from_matrix(R))
        mujoco.mj_kinematics(m, d)

    def poses(self) -> list[tuple[Array, Array]]:
        """Of each part: positions (k, 3) and quaternions wxyz (k, 4) of its copies."""
        d = self._data
        out = []
        for part in self.parts:
            R = d.xmat[part.body].reshape(-1, 3, 3)
            position = d.xpos[part.body] + np.einsum("kij,kj->ki", R, part.position)
            out.append((position, multiply(d.xquat[part.body], part.wxyz)))
        return out

    def frame(self, name: str) -> tuple[Array, Array]:
        """Position (3,) and rotation (3, 3) of a frame; raises DescriptionError when there is none of that name."""
        i = self.model.frame_id(name)
        return self._data.site_xpos[i].copy(), self._data.site_xmat[i].reshape(3, 3).copy()

    def soles(self) -> list[tuple[Array, Array, Array]]:
        """Of each foot: position (3,), rotation (3, 3), and the corners of its sole (k, 3)."""
        d, out = self._data, []
        for site, corners in self._soles:
            p, R = d.site_xpos[site].copy(), d.site_xmat[site].reshape(3, 3).copy()
            out.append((p, R, p + corners @ R.T))
        return out

    def mass_motion(self, velocity: Array, turning: Array, qd: Array) -> tuple[Array, Array]:
        """Centre of mass (3,) and its velocity (3,), from the base's twist in its own frame and joint speeds (n,)."""
        m, d = self.model.mj, self._data
        R = d.site_xmat[self._base].reshape(3, 3)
        p_root = d.qpos[self._root : self._root + 3]
        R_root = np.zeros(9)
        mujoco.mju_quat2Mat(R_root, d.qpos[self._root + 3 : self._root + 7])
        spin = R @ turning
        # Of the root link, were base and root rigid to each other; MuJoCo wants its turning in its own frame.
        d.qvel[:] = 0.0
        d.qvel[:3] = R @ velocity + np.cross(spin, p_root - d.site_xpos[self._base])
        d.qvel[3:6] = R_root.reshape(3, 3).T @ spin
        d.qvel[self.model.dof_index] = np.nan_to_num(qd)
        mujoco.mj_comPos(m, d)
        mujoco.mj_comVel(m, d)
        mujoco.mj_subtreeVel(m, d)
        return d.subtree_com[1].copy(), d.subtree_linvel[1].copy()


def standing(figure: Figure, stand: Sequence[float] | Array) -> tuple[Array, Array]:
    """A pose of the base, position (3,) and rotation (3, 3), with the lowest sole on the ground, joints as given."""
    figure.place(np.zeros(3), np.eye(3), np.asarray(stand, dtype=float))
    lowest = min((corners[:, 2].min() for _, _, corners in figure.soles()), default=None)
    if lowest is None:
        lowest = min((float(p[:, 2].min()) for p, _ in figure.poses()), default=0.0)
    return np.array([0.0, 0.0, -float(lowest)]), np.eye(3)
