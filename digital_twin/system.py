"""The system, described once: which nodes run, with which parameters, for which kind of robot side.

Both the launch file and the `digital-twin` command start what `describe` returns.
"""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digital_twin.cameras import robot_cameras
from digital_twin.core.config import STANDARD_PARAMETERS, check_scalar, flatten, load_yaml
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.options import Options
from digital_twin.settings import SETTINGS

YIELDING = 5


@dataclass(frozen=True)
class NodeSpec:
    """One node to run. Its executable and its module below digital_twin.nodes bear its name.

    `once`: its end is an end, not a failure (a recording that was played). `nice`: how far its process yields to the others,
    from its start on: what is not in the loop waits for what is.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    once: bool = False
    nice: int = 0


def describe(options: Options) -> list[NodeSpec]:
    """The nodes to run: the recorder, the robot side, the twin.

    Raises:
        ConfigError: when the options contradict each other or name a controller that is not there.
        DescriptionError: when the robot description cannot be read.
    """
    sim_time = options.use_sim_time or bool(options.bag) or options.simulator == "gazebo"
    robot = {
        "robot_description": options.robot_description,
        "robot_config": options.robot_config,
        "use_sim_time": sim_time,
    }
    real = options.simulator == "none"
    nodes: list[NodeSpec] = []
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
        if exists(name):
            # Around a real robot is whatever is there: its virtual lidars see a world only when one is named.
            around = options.world or ("" if real else "humanoid_world.sdf")
            own = {"world": around} if name == "virtual_sensor_publisher" else {}
            nodes.append(NodeSpec(name, robot | own, nice=YIELDING if name == "virtual_sensor_publisher" else 0))
    if exists("virtual_camera_publisher") and robot_cameras(options.robot_description)[0]:
        nodes.append(NodeSpec("virtual_camera_publisher", robot | {"world": options.world}, nice=YIELDING))
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


def exists(node: str) -> bool:
    """Is this node part of the package as installed?"""
    return importlib.util.find_spec(f"digital_twin.nodes.{node}") is not None


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
