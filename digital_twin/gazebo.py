"""What differs between Gazebo's releases and between robots in one Gazebo: names, as text. No ROS, no Gazebo needed."""

from __future__ import annotations

import re

import numpy as np

from digital_twin.core.model import RobotModel

# Release: version number that ros_gz_sim wants.
VERSIONS = {"harmonic": "8", "fortress": "6"}
BRIDGED_ROBOT = "humanoid"
_SYSTEM_NAMES = re.compile(r"\bgz::sim::systems::")
_LIBRARIES = re.compile(r"\bgz-sim-([a-z0-9-]+)-system\b")


def world_for(text: str, gazebo: str) -> str:
    """A world written for Harmonic with the plugin names of the release that will read it."""
    if gazebo != "fortress":
        return text
    return _LIBRARIES.sub(r"ignition-gazebo-\1-system", _SYSTEM_NAMES.sub("ignition::gazebo::systems::", text))


def bridge_for(text: str, prefix: str) -> str:
    """The configuration of ros_gz_bridge for a robot whose Gazebo topics begin with /prefix/."""
    return text.replace(f"/{BRIDGED_ROBOT}/", f"/{prefix}/")


def spawn_height(model: RobotModel, feet: list[str]) -> float:
    """Height [m] of the root link with straight legs and the soles two centimetres above the ground."""
    if not feet:
        return 1.0
    k = model.kinematics(feet)
    k.update(np.clip(np.zeros(model.n), model.lower, model.upper))
    return 0.02 - float(k.position[:, 2].min())
