"""Which sensors a robot has: from its URDF (Gazebo's <sensor> elements) and its robot config. Cameras are elsewhere."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from digital_twin.core.config import build, param
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.sensors.profiles import PROFILES, merged, read_profile
from digital_twin.core.sensors.sources import SourceConfig

MAX_SENSORS = 100
_GAZEBO_KINDS = {
    "imu": "imu", "gpu_lidar": "lidar", "lidar": "lidar", "ray": "lidar", "gpu_ray": "lidar", "force_torque": "wrench",
    "magnetometer": "magnetometer",
}  # fmt: skip
_TOPICS = {
    "imu": "imu/data", "lidar": "scan", "wrench": "wrench", "encoders": "encoders/joint_states",
    "magnetometer": "magnetic_field",
}  # fmt: skip


@dataclass(frozen=True)
class SensorSettings:
    """A sensor in a robot config, below `sensors`: what differs from what is known of it."""

    kind: str = param("", "what it is; empty: as the URDF or the rest of the robot config has it")
    frame: str = param("", "its frame in the URDF; of a wrench: the frame about which it is stated")
    topic: str = param("", "its topic below virtual/")
    profile: str = param("", "a device's file, or the name of one in config/sensors")
    off: list[str] = param([], "stages that are switched off")
    enabled: bool = param(True, "whether the robot has it")
    xyz: tuple[float, float, float] | None = param(None, "where it sits in its frame", unit="m")
    rpy: tuple[float, float, float] | None = param(None, "and how it is turned there", unit="rad")
    parameters: dict[str, Any] = param({}, "what differs from the profile")


@dataclass(frozen=True)
class SensorSpec:
    """One sensor of a robot, at xyz [m], rpy [rad] in its frame. `parameters`: plain data of the profile of its kind."""

    name: str
    kind: str
    frame: str
    topic: str
    parameters: dict[str, Any] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rpy: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def profile(self) -> Any:
        """Its parameters, checked.

        Raises:
            ConfigError: naming the sensor, the parameter and what is allowed.
        """
        return build(PROFILES[self.kind], self.parameters, f"sensor '{self.name}'")


def robot_sensors(
    urdf: ET.Element, robot: RobotConfig, find: Callable[[str], Path]
) -> tuple[list[SensorSpec], list[str]]:
    """The sensors of a robot, and one line for each that cannot be.

    Known are the IMUs, feet and scan frame of the robot config, encoders, and what the URDF has besides; then the
    `sensors` of the robot config change and add.

    Args:
        urdf: the <robot> element. find: from the name of a profile to its file.
    """
    problems: list[str] = []
    specs = _from_config(robot)
    for spec in _from_urdf(urdf, problems):
        same = next((s for s in specs.values() if (s.kind, s.frame) == (spec.kind, spec.frame)), None)
        if same is not None:
            specs[same.name] = replace(same, parameters=merged(spec.parameters, same.parameters))
        elif spec.kind != "wrench" or not robot.feet:  # the feet's sensors are known better from the robot config
            specs[spec.name] = _own_topic(spec, specs)
    for name, values in list(robot.sensors.items())[:MAX_SENSORS]:
        try:
            s = build(SensorSettings, values, f"sensor '{name}'")
            if not s.enabled:
                specs.pop(name, None)
                continue
            specs[name] = _changed(name, specs.get(name), s, specs, find)
        except ConfigError as e:
            specs.pop(name, None)
            problems.append(str(e) if name in str(e) else f"sensor '{name}': {e}")
    return list(specs.values()), problems


def shared_errors(robot: RobotConfig, specs: Sequence[SensorSpec]) -> tuple[dict[str, SourceConfig], list[str]]:
    """The sources of errors that a robot's sensors share, and one line for each that cannot be."""
    found, problems = {}, []
    known = [s.name for s in specs]
    for name, values in robot.shared_errors.items():
        try:
            c = build(SourceConfig, values, f"shared error '{name}'")
            strange = next((s for s in c.sensors if s not in known), None)
            if strange is not None:
                raise ConfigError(f"shared error '{name}': {unknown('sensor', strange, known)}")
            found[name] = c
        except ConfigError as e:
            problems.append(str(e))
    return found, problems


def _from_config(robot: RobotConfig) -> dict[str, SensorSpec]:
    """Along the axes of their frames, positive under load: as physical/… has them after the bridge's calibration."""
    specs = [SensorSpec("encoders", "encoders", "", _TOPICS["encoders"], {"timing": {"rate": 200.0}})]
    for i, imu in enumerate(robot.imus):
        values = {
            "timing": {"rate": 200.0},
            "gyro": {"white_noise": imu.gyro_noise, "range": imu.gyro_range},
            "accel": {"white_noise": imu.accel_noise, "range": imu.accel_range},
        }
        specs.append(SensorSpec(f"imu{i or ''}", "imu", imu.frame, imu.topic, values))
    for foot in robot.feet:
        values = {"timing": {"rate": 200.0}}
        topic = foot.wrench_topic or f"feet/{foot.name}/wrench"
        specs.append(SensorSpec(f"feet/{foot.name}", "wrench", foot.frame, topic, values))
    if robot.scan_frame:
        specs.append(SensorSpec("lidar", "lidar", robot.scan_frame, "scan", {"timing": {"rate": 10.0}}))
    return {s.name: s for s in specs}


def _own_topic(spec: SensorSpec, specs: dict[str, SensorSpec]) -> SensorSpec:
    """The usual topic of its kind, or that below its name when another sensor has it."""
    if any(s.topic == spec.topic for s in specs.values()):
        return replace(spec, topic=f"{spec.name}/{spec.topic}")
    return spec


def _changed(
    name: str, spec: SensorSpec | None, s: SensorSettings, specs: dict[str, SensorSpec], find: Callable[[str], Path]
) -> SensorSpec:
    kind = s.kind or (spec.kind if spec else "")
    if kind not in PROFILES:
        raise ConfigError(f"sensor '{name}': {unknown('kind', kind, PROFILES)}")
    if spec is None or spec.kind != kind:
        spec = _own_topic(SensorSpec(name, kind, "", s.topic or _TOPICS[kind]), specs)
    if not (s.frame or spec.frame) and kind != "encoders":
        raise ConfigError(f"sensor '{name}': its frame is missing")
    # A device's own file says more than what was guessed, and the robot config more than that.
    known = read_profile(find(s.profile), kind) if s.profile else spec.parameters
    if s.profile and "rate" in spec.parameters.get("timing", {}):
        known = merged({"timing": {"rate": spec.parameters["timing"]["rate"]}}, known)
    return replace(
        spec, frame=s.frame or spec.frame, topic=s.topic or spec.topic, off=tuple(s.off),
        xyz=s.xyz or spec.xyz, rpy=s.rpy or spec.rpy, parameters=merged(known, s.parameters),
    )  # fmt: skip


# Gazebo's sensors in a URDF


def _from_urdf(urdf: ET.Element, problems: list[str]) -> list[SensorSpec]:
    links = {e.get("name", "") for e in urdf.findall("link")}
    children = {}
    for joint in urdf.findall("joint"):
        child = joint.find("child")
        children[joint.get("name", "")] = "" if child is None else child.get("link", "")
    found: dict[str, SensorSpec] = {}
    for gazebo in urdf.findall("gazebo"):
        for e in gazebo.findall("sensor")[:MAX_SENSORS]:
            kind = _GAZEBO_KINDS.get(e.get("type", ""), "")
            if not kind:
                continue
            name = e.get("name", "") or kind
            try:
                reference = gazebo.get("reference", "")
                frame = children.get(reference, "") if kind == "wrench" else reference
                if frame not in links:
                    raise ConfigError(unknown("frame", reference, links))
                if not name.replace("_", "a").isalnum() or not name.isascii() or name[0].isdigit():
                    raise ConfigError("its name cannot be part of a topic: letters, digits and _ only")
                if name in found:
                    raise ConfigError("there are two of this name")
                found[name] = _read(e, name, kind, frame)
            except ConfigError as error:
                problems.append(f"sensor '{name}': {error}")
    return list(found.values())


def _read(e: ET.Element, name: str, kind: str, frame: str) -> SensorSpec:
    topic = f"feet/{name}/wrench" if kind == "wrench" else _TOPICS[kind]
    x, y, z, *rpy = _numbers(e.findtext("pose"), 6, [0.0] * 6)
    values: dict[str, Any] = {}
    rate = _number(e, "update_rate", 0.0)
    if rate != 0.0:
        values["timing"] = {"rate": rate}
    if kind == "imu":
        for key, path in (("gyro", "imu/angular_velocity/x"), ("accel", "imu/linear_acceleration/x")):
            values[key] = _imu_noise(e, path, rate or 100.0)
    elif kind == "lidar":
        values |= _lidar(e)
        if len(values.get("elevations", [])) > 1:
            topic = "points"
    elif kind == "wrench":
        values |= {"force_noise": _number(e, "force_torque/force/x/noise/stddev", 0.0),
                   "torque_noise": _number(e, "force_torque/torque/x/noise/stddev", 0.0)}  # fmt: skip
    elif kind == "magnetometer" and rate > 0.0:
        values["white_noise"] = _number(e, "magnetometer/x/noise/stddev", 0.0) / math.sqrt(rate)
    return SensorSpec(name, kind, frame, topic, values, xyz=(x, y, z), rpy=(rpy[0], rpy[1], rpy[2]))


def _imu_noise(e: ET.Element, path: str, rate: float) -> dict[str, float]:
    """Gazebo's noise is per sample; that of its dynamic bias drives a leaky random walk as Kalibr's does."""
    if rate <= 0.0:
        raise ConfigError(f"update_rate {rate} is out of range: expected more than 0 Hz")
    return {
        "white_noise": _number(e, f"{path}/noise/stddev", 0.0) / math.sqrt(rate),
        "random_walk": _number(e, f"{path}/noise/dynamic_bias_stddev", 0.0),
        "bias": _number(e, f"{path}/noise/bias_stddev", 0.0),
    }


def _lidar(e: ET.Element) -> dict[str, Any]:
    of = "lidar" if e.find("lidar") is not None else "ray"
    scan, vertical = f"{of}/scan/horizontal", f"{of}/scan/vertical"
    out: dict[str, Any] = {
        "rays": int(_number(e, f"{scan}/samples", 720)),
        "angle_min": _number(e, f"{scan}/min_angle", -math.pi),
        "angle_max": _number(e, f"{scan}/max_angle", math.pi),
        "range_min": _number(e, f"{of}/range/min", 0.1),
        "range_max": _number(e, f"{of}/range/max", 30.0),
        "resolution": 0.0,
        "noise": _number(e, f"{of}/noise/stddev", 0.0),
    }
    step = (out["angle_max"] - out["angle_min"]) / max(1, out["rays"] - 1)
    if abs(out["angle_max"] + step - out["angle_min"] - 2.0 * math.pi) < 0.1 * step:
        out["angle_max"] = out["angle_min"] + 2.0 * math.pi  # a whole turn, the last ray left out
    lines = int(_number(e, f"{vertical}/samples", 1))
    if not 1 <= lines <= 256:
        raise ConfigError(f"{lines} lines; 1 to 256 are possible")
    if lines > 1:
        low, high = _number(e, f"{vertical}/min_angle", 0.0), _number(e, f"{vertical}/max_angle", 0.0)
        out["elevations"] = [low + (high - low) * i / (lines - 1) for i in range(lines)]
    return out


def _number(e: ET.Element, path: str, default: float) -> float:
    return _numbers(e.findtext(path), 1, [default])[0]


def _numbers(text: str | None, count: int, default: list[float]) -> list[float]:
    if text is None or not text.strip():
        return default
    try:
        values = [float(x) for x in text.split()]
    except ValueError as error:
        raise ConfigError(f"'{text.strip()}' are not numbers") from error
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ConfigError(f"expected {count} finite numbers, got '{text.strip()}'")
    return values
