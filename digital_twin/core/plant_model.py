"""The simulated robot's physics as a MuJoCo model: a scene whose robot differs from its description.

A real robot differs from its URDF. So does this one: masses, joint friction, rotor inertia, motor strength and the
delay of the commands differ by seeded amounts that the twin is never told.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.config import param
from digital_twin.core.model import RobotModel, compile_spec
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.scene import SceneBuilder
from digital_twin.core.world import World


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


def build_plant(
    model: RobotModel, robot: RobotConfig, joints: Joints, config: PlantConfig, world: World | None
) -> mujoco.MjModel:
    """The plant in a world, or on a bare floor."""
    spec = SceneBuilder(model, robot, joints).build(world, config.timestep, config.motor_delay)
    m = compile_spec(spec, model.description.source)
    differ(m, model, config)
    return m


def differ(m: mujoco.MjModel, model: RobotModel, c: PlantConfig) -> None:
    """Draw a robot's differences from its description, in place."""
    rng = np.random.default_rng([c.seed, 0])
    mass = np.exp(c.mass_spread * rng.standard_normal(m.nbody))
    m.body_mass *= mass
    m.body_inertia *= mass[:, None]
    dofs = model.dof_index
    m.dof_frictionloss[dofs] *= np.exp(c.friction_spread * rng.standard_normal(model.n))
    m.dof_damping[dofs] *= np.exp(c.friction_spread * rng.standard_normal(model.n))
    m.dof_armature[dofs] *= np.exp(c.armature_spread * rng.standard_normal(model.n))
    strength = 1.0 + c.strength_spread * rng.standard_normal(model.n)
    m.actuator_biasprm[:, 1:3] *= strength[:, None]
    mujoco.mj_setConst(m, mujoco.MjData(m))
