"""Which robot and which version of its model a recording is of."""

from __future__ import annotations

import hashlib

import yaml

from digital_twin import __version__
from digital_twin.core.config import to_plain
from digital_twin.robots import Robot

URDF, CONFIG = "robot.urdf", "robot_config.yaml"


def config_text(robot: Robot) -> str:
    """The robot config in force, as YAML."""
    return str(yaml.safe_dump(to_plain(robot.config), sort_keys=False, default_flow_style=None, width=110))


def model_hash(robot: Robot) -> str:
    """Twelve digits that change when the description or the config of the robot does."""
    content = robot.description.urdf + "\n" + config_text(robot)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def metadata_of(robot: Robot) -> dict[str, str]:
    """What a recording says of itself."""
    return {"robot": robot.description.name, "model": model_hash(robot), "digital_twin": __version__}


def attachments_of(robot: Robot) -> list[tuple[str, str, bytes]]:
    """The files of the robot: (name, media type, content)."""
    return [
        (URDF, "application/xml", robot.description.urdf.encode()),
        (CONFIG, "application/yaml", config_text(robot).encode()),
    ]
