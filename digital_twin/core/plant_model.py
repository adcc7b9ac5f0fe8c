"""The simulated robot's physics as a MuJoCo model: the robot in its world, its servos and sensors, its differences.

A real robot differs from its URDF. So does this one: masses, joint friction, rotor inertia, motor strength and the
delay of the commands differ by seeded amounts that the twin is never told.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.config import param
from digital_twin.core.description import Description
from digital_twin.core.model import RobotModel, build_spec, compile_spec
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.world import World, add_world

WORLD_GROUP, SHAPE_GROUP, VISUAL_GROUP = 0, 3, 2
INERTIAL = ("GYRO", "ACCELEROMETER")
FORCE = ("FORCE", "TORQUE")
_POS_VEL_FF = 7  # inputs of MuJoCo's pid actuator: position, velocity, feed-forward


@dataclass(frozen=True)
class PlantConfig:
    """How far the simulated robot is from its description. Spreads are standard deviations of a seeded draw."""

    seed: int = param(1, "which robot of the series this is", low=0, high=2**31)
    mass_spread: float = param(0.03, "relative, of each link's mass and inertia", low=0, high=0.5)
    friction_spread: float = param(0.3, "relative, of each joint's friction and damping", low=0, high=2)
    armature_spread: float = param(0.15, "relative, of each rotor's inertia", low=0, high=1)
    strength_spread: float = param(0.03, "relative, of each motor's torque", low=0, high=0.5)
    motor_delay: float = param(0.003, "from a command to its torque", unit="s", low=0, high=0.1)
    timestep: float = param(0.001, "of the physics", unit="s", low=0.0001, high=0.01)


class PlantBuilder:
    """Builds the MuJoCo model of a plant. The sensors are called imu0/GYRO, foot/left/FORCE and so on."""

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, config: PlantConfig) -> None:
        self.model, self.robot, self.joints, self.config = model, robot, joints, config

    def build(self, world: World | None) -> mujoco.MjModel:
        """The plant in a world, or on a bare floor."""
        m = self._compile(self.model.description, world)
        self._differ(m)
        return m

    def _compile(self, description: Description, world: World | None) -> mujoco.MjModel:
        spec = build_spec(description)
        for g in spec.geoms:
            solid = g.contype != 0
            # The robot touches the world and not itself.
            g.contype, g.conaffinity = (2, 1) if solid else (0, 0)
            g.group = SHAPE_GROUP if solid else VISUAL_GROUP
        self._add_missing_soles(spec)
        if world is None:
            spec.worldbody.add_geom(name="world/floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[20, 20, 1], priority=1)
        else:
            add_world(spec, world)
        for g in spec.geoms:
            if g.name.startswith("world/"):
                g.contype, g.conaffinity, g.group = 1, 2, WORLD_GROUP
        self._add_servos(spec)
        self._add_sensors(spec)
        spec.option.timestep = self.config.timestep
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        # Without these a standing foot creeps: soft contacts slide under any tangential load.
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.impratio = 10.0
        # A simulation that diverges shall be noticed, not start again at the origin.
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        return compile_spec(spec, description.source)

    def _add_missing_soles(self, spec: mujoco.MjSpec) -> None:
        """A foot whose collision mesh is not here stands on the polygon that the robot config gives."""
        model = self.model.mj
        for foot in self.robot.feet:
            link = foot.frame
            body = model.body(model.site_bodyid[self.model.frame_id(link)]).name
            merged = [model.site(i).name for i in range(model.nsite) if model.body(model.site_bodyid[i]).name == body]
            if any(g.contype != 0 for name in merged for g in spec.body(name).geoms):
                continue
            x, y = np.array(foot.polygon).T
            size = [np.ptp(x) / 2, np.ptp(y) / 2, 0.01]
            spec.body(link).add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=[x.min() + size[0], y.min() + size[1], 0.01],
                contype=2, conaffinity=1, group=SHAPE_GROUP, mass=0.0,
            )  # fmt: skip

    def _add_servos(self, spec: mujoco.MjSpec) -> None:
        n_delay = round(self.config.motor_delay / self.config.timestep)
        for i, name in enumerate(self.model.joint_names):
            servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            servo.set_to_pid(kp=self.joints.kp[i], kv=self.joints.kd[i], ctrlspec=_POS_VEL_FF)
            limit = self.model.max_effort[i]
            if np.isfinite(limit):
                servo.forcelimited, servo.forcerange = True, [-limit, limit]
            if n_delay:
                servo.nsample, servo.delay = n_delay, n_delay * self.config.timestep
            spec.joint(name).armature = self.joints.armature[i]

    def _add_sensors(self, spec: mujoco.MjSpec) -> None:
        kinds = mujoco.mjtSensor
        wanted = [(f"imu{i}", imu.frame, INERTIAL) for i, imu in enumerate(self.robot.imus)]
        wanted += [(f"foot/{foot.name}", foot.frame, FORCE) for foot in self.robot.feet]
        model = self.model.mj
        for name, frame, quantities in wanted:
            # MuJoCo keeps a link that a sensor refers to as a body of its own, and there a force sensor reads
            # nothing; so the sensor sits on the moving body, where the frame is.
            site = self.model.frame_id(frame)
            body = spec.body(model.body(model.site_bodyid[site]).name)
            body.add_site(name=name, pos=model.site_pos[site], quat=model.site_quat[site])
            for quantity in quantities:
                spec.add_sensor(
                    name=f"{name}/{quantity}", type=getattr(kinds, f"mjSENS_{quantity}"),
                    objtype=mujoco.mjtObj.mjOBJ_SITE, objname=name,
                )  # fmt: skip

    def _differ(self, m: mujoco.MjModel) -> None:
        """Draw this robot's differences from its description."""
        c = self.config
        rng = np.random.default_rng([c.seed, 0])
        mass = np.exp(c.mass_spread * rng.standard_normal(m.nbody))
        m.body_mass *= mass
        m.body_inertia *= mass[:, None]
        dofs = self.model.dof_index
        m.dof_frictionloss[dofs] *= np.exp(c.friction_spread * rng.standard_normal(self.model.n))
        m.dof_damping[dofs] *= np.exp(c.friction_spread * rng.standard_normal(self.model.n))
        m.dof_armature[dofs] *= np.exp(c.armature_spread * rng.standard_normal(self.model.n))
        strength = 1.0 + c.strength_spread * rng.standard_normal(self.model.n)
        m.actuator_biasprm[:, 1:3] *= strength[:, None]
        mujoco.mj_setConst(m, mujoco.MjData(m))
