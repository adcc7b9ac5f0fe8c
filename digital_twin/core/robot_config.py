"""What a URDF does not say about a robot: config/robots/NAME.yaml.

Units are SI. Every key has a default, so a file names only what differs; `digital-twin check ROBOT.urdf --write
NAME.yaml` guesses a whole one.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import build, load_yaml, param
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.motor_config import BatteryConfig, MotorConfig
from digital_twin.core.rotation import rpy_matrix


@dataclass(frozen=True)
class FootConfig:
    """A foot: where it touches the ground and how its load is sensed."""

    name: str = param(doc="left, right …: the name in topics and reports")
    frame: str = param(doc="sole frame in the URDF, origin on the ground, z up")
    wrench_topic: str = param("", "topic of the foot's force sensor; empty: it has none")
    wrench_sign: float = param(1.0, "+1 when force.z is positive under load, -1 when it is negative", low=-1, high=1)
    polygon: list[tuple[float, float]] = param(
        [(0.1, 0.045), (0.1, -0.045), (-0.1, -0.045), (-0.1, 0.045)], "corners of the sole in its frame", unit="m"
    )


@dataclass(frozen=True)
class ImuConfig:
    """An inertial measurement unit and its calibration: corrected = R(rpy) (raw − bias)."""

    frame: str = param(doc="sensor frame in the URDF")
    topic: str = param("imu/data", "topic of its sensor_msgs/Imu")
    gyro_noise: float = param(
        2e-3, "noise density of the gyro, the robot's shaking included", unit="rad/s/√Hz", low=0, high=1
    )
    accel_noise: float = param(
        0.15, "noise density of the accelerometer, the robot's shaking included", unit="m/s²/√Hz", low=0, high=10
    )
    gyro_range: float = param(34.9, "where the gyro saturates", unit="rad/s", low=0.1, high=1000)
    accel_range: float = param(157.0, "where the accelerometer saturates", unit="m/s²", low=10, high=1e5)
    gyro_bias: tuple[float, float, float] = param((0.0, 0.0, 0.0), "known bias of the gyro", unit="rad/s")
    accel_bias: tuple[float, float, float] = param((0.0, 0.0, 0.0), "known bias of the accelerometer", unit="m/s²")
    rpy: tuple[float, float, float] = param((0.0, 0.0, 0.0), "how the sensor sits in its frame", unit="rad")


@dataclass(frozen=True)
class JointConfig:
    """A joint as the robot reports it, and its servo: urdf = sign · scale · reported + offset."""

    reported_as: str = param("", "the robot's own name of the joint; empty: the URDF's")
    sign: float = param(1.0, "-1 when the robot counts the other way round", low=-1, high=1)
    scale: float = param(1.0, "urdf units per reported unit", low=1e-6, high=1e6)
    offset: float = param(0.0, "added to the position", unit="rad", low=-10, high=10)
    kp: float = param(100.0, "stiffness of the position servo", unit="N·m/rad", low=0, high=1e5)
    kd: float = param(3.0, "damping of the position servo", unit="N·m·s/rad", low=0, high=1e4)
    armature: float = param(0.01, "inertia of the motor's rotor seen through the gear", unit="kg·m²", low=0, high=10)
    encoder_resolution: float = param(
        0.0, "smallest step of the position reading; 0: found from the readings", unit="rad", low=0, high=0.1
    )
    encoder_noise: float = param(5e-5, "standard deviation of the position reading", unit="rad", low=0, high=0.1)
    zero_error: float = param(
        0.0, "by which positions read too large beside those commanded; known to forecasts", unit="rad", low=-1, high=1
    )
    stand: float = param(0.0, "position when the robot stands at ease", unit="rad", low=-7, high=7)


@dataclass(frozen=True)
class RobotConfig:
    """One robot. `joints` maps joint names, or patterns with *, to what differs from the default; later ones win."""

    base_frame: str = param("", "frame whose pose is estimated; empty: the URDF's root link")
    feet: list[FootConfig] = param([], "what the robot stands on")
    imus: list[ImuConfig] = param([], "inertial sensors; the first drives the estimate")
    scan_frame: str = param("", "frame of a planar laser scanner, for the simulated robot; empty: it has none")
    joints: dict[str, dict[str, Any]] = param({}, "joint name or pattern: keys of a joint")
    sensors: dict[str, dict[str, Any]] = param({}, "virtual sensors: name, and what differs (docs/sensors.md)")
    shared_errors: dict[str, dict[str, Any]] = param({}, "errors that virtual sensors share (docs/sensors.md)")
    motors: dict[str, dict[str, Any]] = param({}, "joint name or pattern: keys of a motor")
    battery: BatteryConfig = param(BatteryConfig, "what feeds the motors")
    contacts: dict[str, dict[str, Any]] = param({}, "geometry, link or world/… or pattern: keys of a contact")
    gait: dict[str, Any] = param({}, "keys of the gait that this robot walks by unless told otherwise")

    def joint(self, name: str, where: str = "robot config") -> JointConfig:
        """The settings of one joint, all matching patterns applied in the file's order."""
        return build(JointConfig, matching(self.joints, name), f"{where}: joint {name}")

    def motor(self, name: str, where: str = "robot config") -> MotorConfig:
        """The motor of one joint, all matching patterns applied in the file's order."""
        return build(MotorConfig, matching(self.motors, name), f"{where}: motor {name}")


def matching(patterns: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """What all patterns that match a name say, later ones winning."""
    merged: dict[str, Any] = {}
    for pattern, values in patterns.items():
        if fnmatch.fnmatchcase(name, pattern):
            merged.update(values)
    return merged


def load_robot_config(path: Path | str) -> RobotConfig:
    """Read a robot config from YAML.

    Raises:
        ConfigError: one line naming the file, the key and what is allowed.
    """
    return build(RobotConfig, load_yaml(path, "robot config"), str(path))


class Joints:
    """The joint settings of one robot as arrays in the model's order: the numbers that nodes compute with."""

    def __init__(self, config: RobotConfig, model: RobotModel, where: str = "robot config") -> None:
        check_names(config, model, where)
        each = [config.joint(name, where) for name in model.joint_names]
        self.reported_names = [j.reported_as or name for j, name in zip(each, model.joint_names, strict=True)]
        self.factor = np.array([j.sign * j.scale for j in each])
        self.offset = np.array([j.offset for j in each])
        self.kp = np.array([j.kp for j in each])
        self.kd = np.array([j.kd for j in each])
        self.armature = np.array([j.armature for j in each])
        self.encoder_resolution = np.array([j.encoder_resolution for j in each])
        self.encoder_noise = np.array([j.encoder_noise for j in each])
        self.zero_error = np.array([j.zero_error for j in each])
        self.stand = np.clip(np.array([j.stand for j in each]), model.lower, model.upper)
        if len(set(self.reported_names)) != len(self.reported_names):
            raise ConfigError(f"{where}: two joints are reported under one name")


def check_names(config: RobotConfig, model: RobotModel, where: str) -> None:
    """Every frame and joint that the config names must exist in the model.

    Raises:
        ConfigError: naming the first that does not.
    """
    frames = model.frames
    named = [(f"foot '{f.name}'", f.frame) for f in config.feet] + [("imu", i.frame) for i in config.imus]
    named += [(key, value) for key in ("base_frame", "scan_frame") if (value := getattr(config, key))]
    for what, frame in named:
        if frame not in frames:
            raise ConfigError(f"{where}: {what}: {unknown('frame', frame, frames)}")
    for key in ("joints", "motors"):
        for pattern in getattr(config, key):
            if not fnmatch.filter(model.joint_names, pattern):
                raise ConfigError(f"{where}: {key}: {unknown('joint', pattern, model.joint_names)}")
    if len({f.name for f in config.feet}) != len(config.feet):
        raise ConfigError(f"{where}: feet: two feet have one name")


def imu_rotation(imu: ImuConfig) -> Array:
    """Rotation (3, 3) from the sensor's axes to its frame in the URDF."""
    return rpy_matrix(imu.rpy)
