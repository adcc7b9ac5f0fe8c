"""The simulated robot's body: it stands, obeys its servos, is pushed, and breaks on demand. Not the twin's model."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.description import Description
from digital_twin.core.errors import TwinError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.plant_model import PlantConfig, build_plant
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.scene import FORCE, INERTIAL, WORLD_GROUP
from digital_twin.core.world import World

NS = 1_000_000_000


@dataclass
class Push:
    """A force on a body in the world frame, until a time."""

    body: int
    force: Array
    until_ns: int


class Plant:
    """A robot standing in a world, with a position servo at each joint.

    Joint vectors are in the order of `model.joint_names`. Time starts at 0 and is counted in nanoseconds.
    """

    def __init__(
        self, description: Description, robot: RobotConfig, config: PlantConfig, world: World | None = None
    ) -> None:
        self.model = RobotModel(description, robot.base_frame)
        self.robot = robot
        self.joints = Joints(robot, self.model)
        self.config = config
        self.mj = build_plant(self.model, robot, self.joints, config, world)
        self.data = mujoco.MjData(self.mj)
        self._scratch = mujoco.MjData(self.mj)
        self._nominal = {name: getattr(self.mj, name).copy() for name in _FAULTY}
        self._strength = np.ones(self.model.n)
        self._pushes: list[Push] = []
        self.steps = 0
        self._stand()

    @property
    def time_ns(self) -> int:
        """Simulated time [ns]."""
        return self.steps * round(self.config.timestep * NS)

    def _stand(self) -> None:
        """Put the robot on its feet at ease and let it settle for a second.

        MuJoCo's clock goes on from there: the buffers of the motors' delay know the past by it.
        """
        d = self.data
        self.model.write_joints(d.qpos, self.joints.stand)
        d.qpos[2] = 0.0
        mujoco.mj_kinematics(self.mj, d)
        if self.robot.feet:
            d.qpos[2] -= min(d.site(f.frame).xpos[2] for f in self.robot.feet) - 0.001
        self.command(position=self.joints.stand)
        mujoco.mj_step(self.mj, d, nstep=round(1.0 / self.config.timestep))
        if not np.isfinite(d.qpos).all():
            raise TwinError("the simulated robot cannot stand: the simulation diverges; check its masses and gains")
        mujoco.mj_forward(self.mj, d)

    # Running

    def command(
        self, position: Array | None = None, velocity: Array | None = None, effort: Array | None = None,
        joints: Array | None = None,
    ) -> None:  # fmt: skip
        """Give the servos new set points, in force from the next step (plus the motors' delay).

        Args:
            position: [rad] (k,); None lets the joints go and only damps them (stiffness off).
            velocity, effort: feed-forward [rad/s], [N m] (k,); None stands for zero.
            joints: which of the joints (k,), as indices; None stands for all.
        """
        which = np.arange(self.model.n) if joints is None else joints
        ctrl = self.data.ctrl.reshape(self.model.n, 3)
        stiffness = self.mj.actuator_biasprm[:, 1]
        if position is None:
            stiffness[which] = 0.0
        else:
            ctrl[which, 0] = position
            stiffness[which] = (self._nominal["actuator_biasprm"][:, 1] * self._strength)[which]
        ctrl[which, 1] = 0.0 if velocity is None else velocity
        ctrl[which, 2] = 0.0 if effort is None else effort * self._strength[which]

    def advance(self, steps: int) -> None:
        """Simulate some steps; afterwards all readings are those of the new time."""
        if self._pushes:
            self._apply_pushes()
        mujoco.mj_step(self.mj, self.data, nstep=steps)
        self.steps += steps
        mujoco.mj_forward(self.mj, self.data)
        if not np.isfinite(self.data.qpos).all():
            raise TwinError(f"the simulation diverged at {self.time_ns / NS:.3f} s")

    def _apply_pushes(self) -> None:
        self.data.xfrc_applied[:] = 0.0
        self._pushes = [p for p in self._pushes if p.until_ns > self.time_ns]
        for p in self._pushes:
            self.data.xfrc_applied[p.body, :3] += p.force

    # Truth

    @property
    def joint_positions(self) -> Array:
        """True joint positions [rad] (n,)."""
        return np.array(self.data.qpos[self.model.qpos_index])

    @property
    def joint_velocities(self) -> Array:
        """True joint velocities [rad/s] (n,)."""
        return np.array(self.data.qvel[self.model.dof_index])

    @property
    def joint_efforts(self) -> Array:
        """Torques of the motors [N m] (n,)."""
        return np.array(self.data.actuator_force[: self.model.n])

    def frame_pose(self, frame: str) -> tuple[Array, Array]:
        """Position (3,) and rotation R_world_frame (3, 3) of a frame."""
        site = self.data.site(frame)
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def base_twist(self) -> tuple[Array, Array]:
        """Linear and angular velocity of the base frame, in the base frame [m/s], [rad/s] (3,), (3,)."""
        v = np.zeros(6)
        site = self.model.frame_id(self.model.base_frame)
        mujoco.mj_objectVelocity(self.mj, self.data, mujoco.mjtObj.mjOBJ_SITE, site, v, 1)
        return v[3:], v[:3]

    def sensor(self, name: str) -> Array:
        """Ideal reading of a MuJoCo sensor of this plant (3,)."""
        return np.array(self.data.sensor(name).data)

    def imu(self, i: int) -> tuple[Array, Array]:
        """Ideal angular velocity [rad/s] and specific force [m/s²] (3,), (3,) of IMU i, in its frame."""
        gyro, accel = (self.sensor(f"imu{i}/{quantity}") for quantity in INERTIAL)
        return gyro, accel

    def wrench(self, foot: str) -> tuple[Array, Array]:
        """Force [N] and torque [N m] (3,), (3,) of the foot on the leg (+z under load), about and in the sole frame."""
        force, torque = (self.sensor(f"foot/{foot}/{quantity}") for quantity in FORCE)
        return -force, -torque

    def scan(self, frame: str, angles: Array, max_range: float) -> Array:
        """Distances [m] to the world along rays in the x-y plane of a frame; inf where there is nothing.

        Args:
            frame: the scanner's frame.
            angles: directions [rad] (k,) from its x axis.
            max_range: [m].
        """
        position, rotation = self.frame_pose(frame)
        rays = np.column_stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)]) @ rotation.T
        n = len(angles)
        distance, geom = np.empty(n), np.empty(n, dtype=np.int32)
        groups = np.zeros(6, dtype=np.uint8)
        groups[WORLD_GROUP] = 1
        mujoco.mj_multiRay(
            self.mj, self.data, position, rays.ravel(), groups, 1, -1, geom, distance, None, n, max_range
        )
        return np.where(geom < 0, np.inf, distance)

    # Faults in the body (those of sensors and topics are elsewhere)

    def body_of(self, frame: str) -> int:
        """MuJoCo's number of the body that carries a frame.

        Raises:
            TwinError: naming the frame.
        """
        if frame not in self.model.frames:
            raise TwinError(unknown("frame", frame, self.model.frames))
        return int(self.mj.site_bodyid[self.mj.site(frame).id])

    def joint_of(self, name: str) -> int:
        """Index of a joint.

        Raises:
            TwinError: naming the joint.
        """
        if name not in self.model.joint_index:
            raise TwinError(unknown("joint", name, self.model.joint_names))
        return self.model.joint_index[name]

    def push(self, frame: str, force: Array, seconds: float) -> None:
        """Push the link of `frame` with a force [N] (3,) in the world frame."""
        self._pushes.append(Push(self.body_of(frame), np.asarray(force, float), self.time_ns + round(seconds * NS)))

    def set_payload(self, frame: str, mass: float) -> None:
        """Hang a point mass [kg] at a frame; 0 takes it away."""
        body = self.body_of(frame)
        m0, c0 = self._nominal["body_mass"][body], self._nominal["body_ipos"][body]
        site = self.mj.site_pos[self.mj.site(frame).id]
        total = m0 + mass
        com = (m0 * c0 + mass * site) / total
        self.mj.body_mass[body] = total
        self.mj.body_ipos[body] = com
        # The parallel-axis term of two masses; the axes of the inertia stay, an approximation for a point load.
        reduced = m0 * mass / total
        r = site - c0
        self.mj.body_inertia[body] = self._nominal["body_inertia"][body] + reduced * (r @ r)
        mujoco.mj_setConst(self.mj, self._scratch)

    def set_joint_friction(self, joint: str, factor: float) -> None:
        """Multiply a joint's friction and damping."""
        dof = self.mj.joint(self.model.joint_names[self.joint_of(joint)]).dofadr[0]
        for name in ("dof_frictionloss", "dof_damping"):
            getattr(self.mj, name)[dof] = self._nominal[name][dof] * factor

    def set_motor_strength(self, joint: str, factor: float) -> None:
        """Scale all that a motor gives: 1 is healthy, 0 dead."""
        i = self.joint_of(joint)
        self._strength[i] = factor
        self.mj.actuator_biasprm[i, 1:3] = self._nominal["actuator_biasprm"][i, 1:3] * factor
        self.mj.actuator_forcerange[i] = self._nominal["actuator_forcerange"][i] * factor

    def heal(self) -> None:
        """Undo all faults of the body."""
        for name, value in self._nominal.items():
            getattr(self.mj, name)[:] = value
        self._strength[:] = 1.0
        self._pushes.clear()
        self.data.xfrc_applied[:] = 0.0
        mujoco.mj_setConst(self.mj, self._scratch)


_FAULTY = (
    "body_mass", "body_ipos", "body_inertia", "dof_frictionloss", "dof_damping", "actuator_biasprm",
    "actuator_forcerange",
)  # fmt: skip
