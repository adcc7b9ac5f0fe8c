"""A robot in its world as a MuJoCo specification: what it stands on, its servos and its sensors.

The simulated robot and the twin's forecasts are both built from it.
"""

from __future__ import annotations

import mujoco
import numpy as np

from digital_twin.core.model import RobotModel, build_spec
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.world import World, add_world

WORLD_GROUP, SHAPE_GROUP, VISUAL_GROUP = 0, 3, 2
INERTIAL = ("GYRO", "ACCELEROMETER")
FORCE = ("FORCE", "TORQUE")
# MuJoCo would write MUJOCO_LOG.TXT into the working directory; that a simulation diverges is noticed by its state.
mujoco.set_mju_user_warning(lambda _: None)
_POS_VEL_FF = 7  # inputs of MuJoCo's pid actuator: position, velocity, feed-forward


def add_surroundings(spec: mujoco.MjSpec, world: World | None) -> None:
    """Add what a robot stands in, which touches robots alone; None: a bare floor."""
    if world is None:
        spec.worldbody.add_geom(name="world/floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[20, 20, 1], priority=1)
    else:
        add_world(spec, world)
    for g in spec.geoms:
        if g.name.startswith("world/"):
            g.contype, g.conaffinity, g.group = 1, 2, WORLD_GROUP


class SceneBuilder:
    """Builds scenes of one robot. The sensors are called imu0/GYRO, foot/left/FORCE and so on."""

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        self.model, self.robot, self.joints = model, robot, joints

    def build(self, world: World | None, timestep: float, command_delay: float) -> mujoco.MjSpec:
        """The scene, ready to be compiled or altered.

        Args:
            world: what it stands in; None: a bare floor.
            timestep: of the physics [s].
            command_delay: from a set point to its torque [s].
        """
        spec = build_spec(self.model.description)
        for g in spec.geoms:
            solid = g.contype != 0
            # The robot touches the world and not itself.
            g.contype, g.conaffinity = (2, 1) if solid else (0, 0)
            g.group = SHAPE_GROUP if solid else VISUAL_GROUP
        self._add_missing_soles(spec)
        add_surroundings(spec, world)
        self._add_servos(spec, timestep, command_delay)
        self._add_sensors(spec)
        spec.option.timestep = timestep
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        # Without these a standing foot creeps: soft contacts slide under any tangential load.
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.impratio = 10.0
        # A simulation that diverges shall be noticed, not start again at the origin.
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        return spec

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

    def _add_servos(self, spec: mujoco.MjSpec, timestep: float, command_delay: float) -> None:
        n_delay = round(command_delay / timestep)
        for i, name in enumerate(self.model.joint_names):
            servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            servo.set_to_pid(kp=self.joints.kp[i], kv=self.joints.kd[i], ctrlspec=_POS_VEL_FF)
            limit = self.model.max_effort[i]
            if np.isfinite(limit):
                servo.forcelimited, servo.forcerange = True, [-limit, limit]
            if n_delay:
                servo.nsample, servo.delay = n_delay, n_delay * timestep
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
