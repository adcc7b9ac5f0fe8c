"""A node to run, and the page, which is started before all else. Quick to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from digital_twin.options import Options

HEAD_START = 2.0  # [s] of the nodes in the loop before the others


@dataclass(frozen=True)
class NodeSpec:
    """One node to run. Its executable and its module below digital_twin.nodes bear its name.

    `once`: its end is an end, not a failure (a recording that was played). `later`: it is not in the loop, and may start
    when what is has done so.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    once: bool = False
    later: bool = False


def common(options: Options) -> dict[str, Any]:
    """What all nodes are told: which robot it is, and whose time."""
    return {
        "robot_description": options.robot_description,
        "robot_config": options.robot_config,
        "use_sim_time": options.use_sim_time or bool(options.bag) or options.simulator == "gazebo",
    }


def page(options: Options) -> NodeSpec | None:
    """The live page, if there shall be one. Around a real robot is whatever is there: a world is drawn when named."""
    if not options.dashboard:
        return None
    own: dict[str, Any] = {"world": options.world or ("" if options.simulator == "none" else "humanoid_world.sdf")}
    if options.dashboard_port:
        own["port"] = options.dashboard_port
    return NodeSpec("dashboard", common(options) | own)
