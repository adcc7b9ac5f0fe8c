"""Profiles of devices: config/sensors/NAME.yaml, what a data sheet says in the units of the twin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digital_twin.core.config import build, load_yaml
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.sensors.encoders import EncoderProfile
from digital_twin.core.sensors.imu import ImuProfile
from digital_twin.core.sensors.lidar_stages import LidarProfile
from digital_twin.core.sensors.magnetometer import MagnetometerProfile
from digital_twin.core.sensors.wrench import WrenchProfile

PROFILES: dict[str, type] = {
    "imu": ImuProfile,
    "lidar": LidarProfile,
    "wrench": WrenchProfile,
    "encoders": EncoderProfile,
    "magnetometer": MagnetometerProfile,
}


def read_profile(path: Path | str, kind: str) -> dict[str, Any]:
    """The plain data of a profile's file: `kind`, `device`, `source`, and below `parameters` what it is.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    tree = load_yaml(path, "sensor profile")
    if not isinstance(tree, Mapping) or not isinstance(tree.get("parameters"), Mapping):
        raise ConfigError(f"{path}: a sensor profile has kind, device, source and parameters")
    if tree.get("kind") not in PROFILES:
        raise ConfigError(f"{path}: {unknown('kind', tree.get('kind'), PROFILES)}")
    if kind and tree["kind"] != kind:
        raise ConfigError(f"{path}: is of a device of kind '{tree['kind']}', not '{kind}'")
    return dict(tree["parameters"])


def load_profile(path: Path | str, kind: str) -> Any:
    """A profile: an ImuProfile, LidarProfile …

    Raises:
        ConfigError: naming the file, the parameter and what is allowed.
    """
    return build(PROFILES[kind], read_profile(path, kind), str(path))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second on top of the first."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return out
