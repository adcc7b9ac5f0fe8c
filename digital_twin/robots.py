"""From what a user gives (a URDF, perhaps a config, or nothing) to a robot that the nodes can work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from digital_twin.core.description import Description, load_description, parse_description
from digital_twin.core.drift.model_version import ModelVersion
from digital_twin.core.drift.residual_gp import ResidualConfig, ResidualTorque
from digital_twin.core.errors import TwinError
from digital_twin.core.guess import guess_robot_config
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig, check_names, load_robot_config
from digital_twin.paths import find, share


@dataclass(frozen=True)
class Robot:
    """A robot, ready for use. `where` is what to call the config's origin in an error; `notes` say what was guessed.

    `residual`: torques beyond what the model needs, where a version of it has them.
    """

    description: Description
    model: RobotModel
    config: RobotConfig
    where: str
    notes: tuple[str, ...] = ()
    residual: ResidualConfig = field(default_factory=ResidualConfig)

    @cached_property
    def joints(self) -> Joints:
        """Calibration, gains and noise of the joints."""
        return Joints(self.config, self.model, self.where)


def load_robot(robot_description: str = "", robot_config: str = "") -> Robot:
    """Load a robot.

    Args:
        robot_description: path of a URDF or xacro, or URDF text; empty: the package's humanoid.
        robot_config: path of a robot config, or the name of one of the package's; empty: the package's of the robot's
            name, else one guessed from the URDF.

    Raises:
        DescriptionError, ConfigError: one line.
    """
    if robot_description.lstrip().startswith("<"):
        description = parse_description(robot_description)
    else:
        description = load_description(find(robot_description or "humanoid.urdf.xacro", "urdf"))
    path = find(robot_config, "config/robots") if robot_config else _own_config(description.name)
    if path is None:
        model = RobotModel(description)
        guess = guess_robot_config(description, model)
        return Robot(description, model, guess.config, "guessed robot config", guess.notes + guess.missing)
    config = load_robot_config(path)
    model = RobotModel(description, config.base_frame)
    check_names(config, model, str(path))
    return Robot(description, model, config, str(path))


def with_version(robot: Robot, version: ModelVersion) -> Robot:
    """A robot as it was brought, with the parameters of a version of its model.

    Raises:
        ConfigError, DescriptionError: one line: the version is another robot's, or cannot be.
    """
    description, config = version.apply(robot.description, robot.config)
    model = RobotModel(description, config.base_frame)
    ResidualTorque(version.residual, model.joint_names, f"model {version.short}")
    return Robot(description, model, config, f"model {version.short}", robot.notes, version.residual)


def _own_config(name: str) -> Path | None:
    if not name or "/" in name:
        return None
    try:
        return share(f"config/robots/{name.lower()}.yaml")
    except TwinError:
        return None
