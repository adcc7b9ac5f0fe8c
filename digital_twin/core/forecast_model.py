"""The model that forecasts are made with: the robot in its world, compiled for one time step.

It is a scene like the simulated robot's, with nothing drawn at random. A start state is the synchronized one, set down
on the ground; a command's delay is part of the plan of commands, so that a state needs no memory of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from digital_twin.core.arrays import Array
from digital_twin.core.errors import TwinError
from digital_twin.core.model import ROOT_JOINT, RobotModel, compile_spec
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import cross, matrix_from_quat, quat_from_matrix, wxyz_from_xyzw, xyzw_from_wxyz
from digital_twin.core.scene import WORLD_GROUP, SceneBuilder
from digital_twin.core.world import World

STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
MAX_SINK = 0.05  # [m]; feet deeper in the ground than this, or higher above it, are not set down


@dataclass(frozen=True)
class Motion:
    """Robots in motion, any leading shape (…): joints [rad], [rad/s] (…, n); base frame in the world, [m] (…, 3).

    rotation: R_world_base (…, 3, 3). velocity [m/s] in the world, angular_velocity [rad/s] in the base (…, 3).
    """

    q: Array
    qd: Array
    position: Array
    rotation: Array
    velocity: Array
    angular_velocity: Array

    def __getitem__(self, key: Any) -> Motion:
        """The same part of each array."""
        return Motion(
            self.q[key], self.qd[key], self.position[key], self.rotation[key], self.velocity[key],
            self.angular_velocity[key],
        )  # fmt: skip


class ForecastModel:
    """See the module.

    Attributes:
        mj: the compiled model; data: memory for one simulation of it.
        version: hash of everything that the model says, to know forecasts by.
    """

    def __init__(
        self, model: RobotModel, robot: RobotConfig, joints: Joints, world: World | None = None, timestep: float = 0.002,
        alter: Callable[[mujoco.MjSpec], None] | None = None, *, sensors: bool = False,
    ) -> None:  # fmt: skip
        """`alter` may change the scene before it is compiled: other motors, other contacts. `sensors`: simulate them too.

        Raises:
            DescriptionError: the model does not compile.
        """
        self.model, self.robot, self.joints, self.timestep = model, robot, joints, timestep
        spec = SceneBuilder(model, robot, joints).build(world, timestep, 0.0)
        for sensor in [] if sensors else list(spec.sensors):
            spec.delete(sensor)
        if alter is not None:
            alter(spec)
        self.mj = compile_spec(spec, model.description.source)
        self.version = model_version(self.mj)
        self.data = mujoco.MjData(self.mj)
        self.size = mujoco.mj_stateSize(self.mj, STATE)
        root = self.mj.joint(ROOT_JOINT)
        self._pos, self._vel = int(root.qposadr[0]), int(root.dofadr[0])
        site = self.mj.site(model.base_frame)
        if self.mj.site_bodyid[site.id] != root.bodyid[0]:
            raise TwinError(
                f"base_frame '{model.base_frame}' moves against the root link '{model.description.root}': forecasts need "
                "a base frame that is fixed to it"
            )
        self._base_at = np.array(self.mj.site_pos[site.id])
        self._base_turn = matrix_from_quat(xyzw_from_wxyz(self.mj.site_quat[site.id]))
        self._soles = [(self.mj.site(f.frame).id, np.array([[*p, 0.0] for p in f.polygon])) for f in robot.feet]
        self._groups = np.zeros(6, dtype=np.uint8)
        self._groups[WORLD_GROUP] = 1
        self.sink, self.stand_height = 0.0, 0.0
        self._rest()

    def _rest(self) -> None:
        """Find how deep the soles sink into the ground and how high the base is when the robot stands at ease."""
        d = self.data
        mujoco.mj_resetData(self.mj, d)
        self.model.write_joints(d.qpos, self.joints.stand)
        mujoco.mj_kinematics(self.mj, d)
        base = self.mj.site(self.model.base_frame).id
        if not self._soles:
            self.stand_height = 1.0
            return
        d.qpos[self._pos + 2] -= min(d.site_xpos[site][2] for site, _ in self._soles)
        self.stand_height = float(d.site_xpos[base][2] - min(d.site_xpos[site][2] for site, _ in self._soles))
        d.ctrl.reshape(-1, 3)[:, 0] = self.joints.stand
        mujoco.mj_step(self.mj, d, nstep=round(0.5 / self.timestep))
        mujoco.mj_kinematics(self.mj, d)
        depth = -float(np.mean([self._corners(i)[:, 2].mean() for i in range(len(self._soles))]))
        if math.isfinite(depth) and abs(depth) < 0.01:
            self.sink = depth

    # In

    def start(
        self, q: Array, qd: Array, position: Array, rotation: Array, velocity: Array, angular_velocity: Array,
        contacts: tuple[bool, ...] = (),
    ) -> Array:  # fmt: skip
        """MuJoCo's full physics state (size,) of a robot that moves as the synchronizer says.

        Args:
            q, qd: joints as they are read [rad], [rad/s] (n,).
            position, rotation: of the base frame in the world [m] (3,), (3, 3).
            velocity, angular_velocity: of the base frame, in itself [m/s], [rad/s] (3,).
            contacts: which feet stand: the robot is moved up or down until these rest on the ground.

        Raises:
            TwinError: a number is not finite.
        """
        m, d = self.mj, self.data
        d.time = 0.0
        d.qpos[:], d.qvel[:] = m.qpos0, 0.0
        self.model.write_joints(d.qpos, q - self.joints.zero_error)
        d.qvel[self.model.dof_index] = qd
        R = rotation @ self._base_turn.T
        offset = R @ self._base_at
        at, turn = slice(self._pos, self._pos + 3), slice(self._pos + 3, self._pos + 7)
        omega = rotation @ angular_velocity
        d.qpos[at], d.qpos[turn] = position - offset, wxyz_from_xyzw(quat_from_matrix(R))
        d.qvel[self._vel : self._vel + 3] = rotation @ velocity - cross(omega, offset)
        d.qvel[self._vel + 3 : self._vel + 6] = R.T @ omega
        if not (np.isfinite(d.qpos).all() and np.isfinite(d.qvel).all()):
            raise TwinError("the state to forecast from is not finite")
        if any(contacts):
            self._set_down(contacts)
        state = np.empty(self.size)
        mujoco.mj_getState(m, d, state, STATE)
        return state

    def _corners(self, foot: int) -> Array:
        site, corners = self._soles[foot]
        d = self.data
        return np.asarray(d.site_xpos[site] + corners @ d.site_xmat[site].reshape(3, 3).T)

    def _set_down(self, contacts: tuple[bool, ...]) -> None:
        """What is known of the height drifts by more than contacts forgive; the feet that stand know better."""
        mujoco.mj_kinematics(self.mj, self.data)
        gaps = []
        for i, stands in enumerate(contacts):
            if stands:
                centre = self._corners(i).mean(axis=0)
                ground = self._ground_below(centre)
                if ground is not None:
                    gaps.append(centre[2] - ground + self.sink)
        if gaps and max(map(abs, gaps)) < MAX_SINK:
            self.data.qpos[self._pos + 2] -= float(np.mean(gaps))

    def _ground_below(self, point: Array) -> float | None:
        """Height of the ground under a point that is at most MAX_SINK inside of it [m]; None: there is none."""
        geom = np.empty(1, dtype=np.int32)
        above = point + np.array([0.0, 0.0, MAX_SINK])
        distance = mujoco.mj_ray(self.mj, self.data, above, np.array([0.0, 0.0, -1.0]), self._groups, 1, -1, geom, None)
        return None if geom[0] < 0 else float(above[2] - distance)

    # Out

    def motion(self, states: Array) -> Motion:
        """Of states (…, size) as rollouts give them."""
        m = self.mj
        qpos, qvel = states[..., 1 : 1 + m.nq], states[..., 1 + m.nq : 1 + m.nq + m.nv]
        quat = xyzw_from_wxyz(qpos[..., self._pos + 3 : self._pos + 7])
        R = Rotation.from_quat(quat.reshape(-1, 4)).as_matrix().reshape(*quat.shape[:-1], 3, 3)
        omega = qvel[..., self._vel + 3 : self._vel + 6]
        offset = R @ self._base_at
        velocity = qvel[..., self._vel : self._vel + 3] + np.cross((R @ omega[..., None])[..., 0], offset)
        return Motion(
            qpos[..., self.model.qpos_index] + self.joints.zero_error, qvel[..., self.model.dof_index], qpos[..., self._pos : self._pos + 3] + offset,
            R @ self._base_turn, velocity, omega @ self._base_turn,
        )  # fmt: skip

    def base(self, d: mujoco.MjData) -> tuple[Array, Array, Array, Array]:
        """The base frame of one simulated robot, as of `motion`: position, rotation, velocity, angular velocity."""
        qpos, qvel, at, v = d.qpos, d.qvel, self._pos, self._vel
        R = matrix_from_quat(qpos[[at + 4, at + 5, at + 6, at + 3]])
        omega = qvel[v + 3 : v + 6]
        offset = R @ self._base_at
        velocity = qvel[v : v + 3] + cross(R @ omega, offset)
        return qpos[at : at + 3] + offset, R @ self._base_turn, velocity, omega @ self._base_turn

    def com_acceleration(self, state: Array, controls: Array) -> Array:
        """Of the centre of mass [m/s²] (3,) in a state (size,) under controls (nu,)."""
        m, d = self.mj, self.data
        mujoco.mj_setState(m, d, state, STATE)
        d.ctrl[:] = controls
        mujoco.mj_forward(m, d)
        return np.asarray(d.qfrc_constraint[self._vel : self._vel + 3] / self.model.mass + m.opt.gravity)


def model_version(m: mujoco.MjModel) -> str:
    """Twelve digits of the hash of a compiled model: equal if and only if the physics are the same."""
    buffer = np.empty(mujoco.mj_sizeModel(m), np.uint8)
    mujoco.mj_saveModel(m, None, buffer)
    return hashlib.sha256(buffer.tobytes()).hexdigest()[:12]
