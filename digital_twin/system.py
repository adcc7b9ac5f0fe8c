"""The system, described once: which nodes run, with which parameters, for which kind of robot side.

Both the launch file and the `digital-twin` command start what `describe` returns.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digital_twin.cameras import robot_cameras
from digital_twin.core.config import STANDARD_PARAMETERS, check_scalar, flatten, load_yaml
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.node_spec import NodeSpec, common, page
from digital_twin.options import Options
from digital_twin.robots import load_robot
from digital_twin.sensor_specs import sensor_specs
from digital_twin.settings import SETTINGS

__all__ = ["NodeSpec", "check_parameter_file", "describe"]


def describe(options: Options) -> list[NodeSpec]:
    """The nodes to run: the page (which is to be there first), the recorder, the robot side, the twin.

    Raises:
        ConfigError: when the options contradict each other or name a controller that is not there.
        DescriptionError: when the robot description cannot be read.
    """
    robot = common(options)
    sim_time = robot["use_sim_time"]
    real = options.simulator == "none"
    first = page(options)
    nodes: list[NodeSpec] = [first] if first is not None else []
    if options.record != "false":
        nodes.append(NodeSpec("recorder", robot | {"continuous": options.record == "true"}))
    if options.simulator == "mujoco":
        # It is the source of time: it must not wait for its own clock.
        own = {"world": options.world, "publish_clock": sim_time, "use_sim_time": False}
        nodes.append(NodeSpec("simulated_robot", robot | own))
    if options.bag:
        nodes.append(NodeSpec("bag_player", {"bag": options.bag}, once=True))
    bridge: dict[str, Any] = dict(robot)
    if real:
        bridge["commands.gate"] = "manual"
    if options.record == "true" and not options.bag:  # a recording that plays does not wait
        bridge["wait_for_recorder"] = True
    if options.simulator == "gazebo":
        bridge["command_output"] = "gazebo"
    nodes.append(NodeSpec("physical_bridge", bridge))
    nodes.append(NodeSpec("twin_synchronizer", dict(robot)))
    for name in ("physics_predictor", "virtual_sensor_publisher", "drift_monitor"):
        nodes.append(NodeSpec(name, dict(robot), later=True))
    if any(
        spec.kind == "lidar" for spec in sensor_specs(load_robot(options.robot_description, options.robot_config))[0]
    ):
        # Around a real robot is whatever is there: its virtual lidars see a world only when one is named.
        around = options.world or ("" if real else "humanoid_world.sdf")
        nodes.append(NodeSpec("virtual_lidar_publisher", robot | {"world": around}, later=True))
    if robot_cameras(options.robot_description)[0]:
        nodes.append(NodeSpec("virtual_camera_publisher", robot | {"world": options.world}, later=True))
    nodes += _controller(options, robot)
    return nodes


def _controller(options: Options, robot: dict[str, Any]) -> list[NodeSpec]:
    if options.controller in ("none", "user") or options.bag:
        return []
    if options.controller == "gait":
        return [NodeSpec("gait_controller", robot | {"gate": options.gate})]
    if options.simulator == "none":
        return []  # a script must not move a real robot because somebody forgot an argument
    return [NodeSpec("command_script", dict(robot))]


def check_parameter_file(path: Path | str) -> None:
    """Check a ROS parameter file against what the nodes know, before any of them is started.

    Raises:
        ConfigError: naming the file, the node, the parameter and what is allowed.
    """
    tree = load_yaml(path, "config")
    if tree is None:
        return
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: a ROS parameter file maps node names to ros__parameters")
    for key, name, values in _sections(tree, str(path), ""):
        matching = [n for n in SETTINGS if fnmatch.fnmatchcase(n, name.rsplit("/", 1)[-1].replace("**", "*"))]
        if not matching:
            raise ConfigError(f"{path}: {unknown('node', key, SETTINGS)}")
        known = {p.name: p for n in matching for p in flatten(SETTINGS[n])}
        for parameter, value in _leaves(values, ""):
            if parameter in STANDARD_PARAMETERS or parameter.startswith("qos_overrides."):
                continue
            if parameter not in known:
                raise ConfigError(f"{path}: {key}: {unknown('parameter', parameter, known)}")
            p = known[parameter]
            if isinstance(p.kind, type):
                check_scalar(p.kind, value, p.meta, f"{path}: {key}: {parameter}")


def _sections(tree: Mapping[str, Any], path: str, prefix: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(key as written, full name, parameters) of every node in a ROS parameter file."""
    found = []
    for key, value in tree.items():
        name = f"{prefix}/{str(key).strip('/')}"
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: {key}: expected ros__parameters below it")
        if "ros__parameters" in value:
            parameters = value["ros__parameters"]
            if not isinstance(parameters, Mapping):
                raise ConfigError(f"{path}: {key}: ros__parameters must be a mapping")
            found.append((str(key), name, parameters))
        else:
            found += _sections(value, path, name)
    return found


def _leaves(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            out += _leaves(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", value))
    return out
