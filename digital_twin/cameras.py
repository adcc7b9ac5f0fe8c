"""From what a user gives (a URDF, profiles) to the cameras of the virtual robot."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from digital_twin.core.description import Description, load_description, parse_description
from digital_twin.core.errors import ConfigError, DescriptionError, TwinError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.sensors.camera import Camera, CameraConfig, load_profile
from digital_twin.core.sensors.camera_description import CameraMount, read_cameras
from digital_twin.core.sensors.camera_scene import mount_problem
from digital_twin.paths import find

PROFILES = "config/sensors"
DEFAULT_PROFILE = {
    "camera": "camera_bvs_ca_sf2_0016zc.yaml",
    "depth_camera": "camera_realsense_d435.yaml",
    "rgbd_camera": "camera_realsense_d435.yaml",
}


def sensor_description(robot_description: str = "") -> Description:
    """The robot with its <sensor> elements. A xacro without any is asked for those that it may keep for Gazebo.

    Raises:
        DescriptionError: one line.
    """
    if robot_description.lstrip().startswith("<"):
        return parse_description(robot_description)
    path = find(robot_description or "humanoid.urdf.xacro", "urdf")
    plain = load_description(path)
    if path.suffix == ".xacro" and plain.tree().find("gazebo/sensor") is None:
        with contextlib.suppress(DescriptionError):  # an argument of this name may mean something else there
            return load_description(path, {"gazebo": "harmonic"})
    return plain


def robot_cameras(robot_description: str = "") -> tuple[list[CameraMount], list[str]]:
    """The cameras of a robot, and one line for each that cannot be used. Raises DescriptionError."""
    return read_cameras(sensor_description(robot_description).tree())


def parse_profiles(entries: list[str], names: list[str]) -> dict[str, str]:
    """Entries NAME=PROFILE by name. Raises ConfigError when one is not of this form, or of no camera."""
    chosen = {}
    for entry in entries:
        name, equals, profile = entry.partition("=")
        if not equals or not profile:
            raise ConfigError(f"profiles: '{entry}' is not of the form NAME=PROFILE")
        if name not in names:
            raise ConfigError(f"profiles: {unknown('camera', name, names)}")
        chosen[name] = profile
    return chosen


def make_cameras(
    mounts: list[CameraMount], model: RobotModel, profiles: dict[str, str], *, seed: int, rate: float = 0.0
) -> tuple[list[tuple[CameraMount, Camera]], list[str]]:
    """The cameras that can be had, and one line for each that cannot; what is wrong with one leaves the others.

    Args:
        profiles: of cameras by name; the others get DEFAULT_PROFILE's.
        rate: images a second [Hz] of all of them; 0: as the URDF or the profile says.
    """
    cameras, problems = [], []
    for mount in mounts:
        try:
            problem = mount_problem(mount, model)
            if problem:
                raise ConfigError(problem)
            config = mount.configure(_profile(mount, profiles))
            cameras.append((mount, Camera(replace(config, rate=rate) if rate > 0.0 else config, mount.name, seed)))
        except TwinError as e:
            problems.append(str(e))
    return cameras, problems


def _profile(mount: CameraMount, profiles: dict[str, str]) -> CameraConfig:
    name = profiles.get(mount.name, DEFAULT_PROFILE[mount.kind])
    try:
        return load_profile(find(name, PROFILES))
    except ConfigError as e:
        raise ConfigError(f"camera '{mount.name}': {e}") from e
