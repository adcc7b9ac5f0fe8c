"""The twin in its world: what ideal instruments would read of its motion."""

from __future__ import annotations

from functools import cached_property

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.inverse_dynamics import InverseDynamics
from digital_twin.core.model import ROOT_JOINT, RobotModel, compile_spec
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import cross, quat_from_matrix, wxyz_from_xyzw
from digital_twin.core.scene import SceneBuilder, add_surroundings
from digital_twin.core.sensors.motion import Motion
from digital_twin.core.world import World

LIFTED = 0.01  # [m]: a foot this much above the lowest carries nothing
_NO_COVARIANCE = np.zeros((6, 6))


class TwinScene:
    """One robot in one world. `place` it, then ask; frames are links of its URDF."""

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, world: World | None) -> None:
        spec = SceneBuilder(model, robot, joints).build(world, 0.001, 0.0)
        self.model, self.robot, self._world, self.zero_error = model, robot, world, joints.zero_error
        self.mj = compile_spec(spec, model.description.source)
        self.data = mujoco.MjData(self.mj)
        self._dynamics = InverseDynamics(model, [f.frame for f in robot.feet], joints.armature)
        self._base = self.mj.site(model.base_frame).id
        self._feet = [self.mj.site(f.frame).id for f in robot.feet]
        joint = self.mj.joint(ROOT_JOINT)
        self._body, self._q0, self._v0 = int(self.mj.jnt_bodyid[joint.id]), int(joint.qposadr[0]), int(joint.dofadr[0])
        self._six = np.zeros(6)
        self._on_feet = np.zeros((len(self._feet), 6))

    @cached_property
    def surroundings(self) -> mujoco.MjModel:
        """What the robot stands in, without it: rays that never meet the robot need not be tried against its shapes."""
        spec = mujoco.MjSpec()
        add_surroundings(spec, self._world)
        return compile_spec(spec, "world")

    def place(self, m: Motion, *, forces: bool = True) -> None:
        """Put the robot where it is, moving as it moves, with what its feet must carry for it unless nobody asks."""
        mj, d, v0 = self.mj, self.data, self._v0
        place_root(mj, d, self.model, self._base, m.position, m.rotation, m.q - self.zero_error)
        # The free joint is the root link's: velocity along the world's axes, rate of turn along its own.
        r = d.qpos[self._q0 : self._q0 + 3] - m.position
        R = d.xmat[self._body].reshape(3, 3)
        d.qvel[v0 : v0 + 3] = m.velocity + cross(m.turn, r)
        d.qvel[v0 + 3 : v0 + 6] = R.T @ m.turn
        d.qvel[self.model.dof_index] = m.qd
        d.qacc[v0 : v0 + 3] = m.acceleration + cross(m.turn_rate, r) + cross(m.turn, cross(m.turn, r))
        d.qacc[v0 + 3 : v0 + 6] = R.T @ m.turn_rate
        d.qacc[self.model.dof_index] = m.qdd
        mujoco.mj_comPos(mj, d)
        mujoco.mj_comVel(mj, d)
        if forces:
            self._push_feet(m)
        mujoco.mj_rnePostConstraint(mj, d)

    def _push_feet(self, m: Motion) -> None:
        """The ground's forces as external ones, on the feet that are low enough to stand."""
        d = self.data
        if not self._feet:
            return
        height = d.site_xpos[self._feet, 2]
        share = np.maximum(1.0 - (height - height.min()) / LIFTED, 0.0)
        base = BaseState(
            m.stamp_ns, m.position, m.rotation, m.rotation.T @ m.velocity, m.rotation.T @ m.turn, _NO_COVARIANCE,
            _NO_COVARIANCE, tuple((share > 0.0).tolist()), True,
        )  # fmt: skip
        _, self._on_feet = self._dynamics.solve(
            base, m.acceleration, m.q - self.zero_error, m.qd, m.qdd, share, m.turn_rate
        )
        d.xfrc_applied[:] = 0.0
        for site, wrench in zip(self._feet, self._on_feet, strict=True):
            body = self.mj.site_bodyid[site]
            lever = d.site_xpos[site] - d.xipos[body]
            d.xfrc_applied[body, :3] += wrench[:3]
            d.xfrc_applied[body, 3:] += wrench[3:] + cross(lever, wrench[:3])

    def pose(self, frame: str) -> tuple[Array, Array]:
        """Position (3,) and rotation R_world_frame (3, 3) of a frame."""
        site = self.data.site(frame)
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def inertial(self, frame: str, xyz: Array) -> Array:
        """Rate of turn [rad/s] and specific force [m/s²] at a point xyz [m] (3,) of a frame, along its axes (6,)."""
        site, out = self.mj.site(frame).id, np.empty(6)
        mujoco.mj_objectVelocity(self.mj, self.data, mujoco.mjtObj.mjOBJ_SITE, site, self._six, 1)
        out[:3] = self._six[:3]
        mujoco.mj_objectAcceleration(self.mj, self.data, mujoco.mjtObj.mjOBJ_SITE, site, self._six, 1)
        out[3:] = self._six[3:]
        if xyz.any():
            out[3:] += cross(self._six[:3], xyz) + cross(out[:3], cross(out[:3], xyz))
        return out

    def wrench(self, frame: str) -> Array:
        """Force [N] and torque [N m] (6,) of the link that carries a frame on the link before it, about and in the frame.

        A foot's force sensor reads this: the ground's push less the weight and inertia of the foot below it.
        """
        d, site = self.data, self.mj.site(frame).id
        body = int(self.mj.site_bodyid[site])
        torque, force = d.cfrc_int[body, :3], d.cfrc_int[body, 3:]
        arm = d.site_xpos[site] - d.subtree_com[self.mj.body_rootid[body]]
        R = d.site_xmat[site].reshape(3, 3)
        return np.concatenate([-(force @ R), -((torque - cross(arm, force)) @ R)])


def place_root(
    mj: mujoco.MjModel, d: mujoco.MjData, model: RobotModel, base_site: int, position: Array, rotation: Array, q: Array
) -> None:
    """Joints q (n,), and the root such that the base frame is at a pose; kinematics are those of the new place."""
    q0 = int(mj.joint(ROOT_JOINT).qposadr[0])
    d.qpos[q0 : q0 + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    model.write_joints(d.qpos, q)
    mujoco.mj_kinematics(mj, d)
    R = rotation @ d.site_xmat[base_site].reshape(3, 3).T
    d.qpos[q0 : q0 + 3] = position - R @ d.site_xpos[base_site]
    d.qpos[q0 + 3 : q0 + 7] = wxyz_from_xyzw(quat_from_matrix(R))
    mujoco.mj_kinematics(mj, d)
