"""Who appears on the page: the robot as it looks, as it stands, and the world it stands in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import DescriptionError
from digital_twin.core.figure import Figure, standing
from digital_twin.core.shapes import Part, world_parts
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot


@dataclass(frozen=True)
class Cast:
    """rest: base position (3,), rotation (3, 3) and joints (n,) at ease. missing: what cannot be shown, in words."""

    robot: Robot
    figure: Figure
    rest: tuple[Array, Array, Array]
    world: tuple[Part, ...]
    missing: tuple[str, ...]


def load_cast(robot_description: str, robot_config: str, world: str) -> Cast:
    """Load what is shown. Meshes that are not here, or that MuJoCo cannot read, are left out and named.

    Raises:
        TwinError: the robot or the world cannot be used at all.
    """
    robot = load_robot(robot_description, robot_config)
    missing = []
    lost = robot.description.missing_meshes
    if lost:
        missing.append(f"{len(lost)} meshes are not here, like {lost[0]}: the page draws bones where they are missing")
    try:
        figure = Figure(robot.description, robot.config)
    except DescriptionError as e:
        missing.append(f"the page draws bones, for its meshes cannot be used: {e}")
        figure = Figure(robot.description, robot.config, geometry=False)
    around: tuple[Part, ...] = ()
    if world:
        loaded = load_world(find(world, "worlds"))
        around = world_parts(loaded)
    position, rotation = standing(figure, robot.joints.stand)
    return Cast(robot, figure, (position, rotation, np.asarray(robot.joints.stand)), around, tuple(missing))
