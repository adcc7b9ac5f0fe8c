"""What a user can choose at the start. Quick to import: Ctrl-C in the first tenth of a second is already ours."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.errors import ConfigError, unknown

SIMULATORS = ("mujoco", "gazebo", "none")
CONTROLLERS = ("script", "gait", "user", "none")
GATES = ("off", "twin")
RECORD = ("false", "true", "snapshots")
MODELS = "~/.ros/digital_twin/models"  # the store of the versions of models


@dataclass(frozen=True)
class Options:
    """What a user can choose at the start; the arguments of the launch file and of `digital-twin run`.

    dashboard_port: 0 stands for the node's own default.
    """

    simulator: str = "mujoco"
    robot_description: str = ""
    robot_config: str = ""
    world: str = ""
    namespace: str = ""
    config: str = ""
    bag: str = ""
    controller: str = "script"
    gate: str = "off"
    use_sim_time: bool = False
    record: str = "false"
    dashboard: bool = False
    dashboard_port: int = 0

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("simulator", self.simulator, SIMULATORS),
            ("controller", self.controller, CONTROLLERS),
            ("gate", self.gate, GATES),
            ("record", self.record, RECORD),
        ):
            if value not in allowed:
                raise ConfigError(unknown(what, value, allowed))
        if not 0 <= self.dashboard_port < 65536:
            raise ConfigError(f"dashboard_port {self.dashboard_port} is out of range [1, 65535]")
        if self.bag and self.simulator != "none":
            raise ConfigError("a bag takes the place of the robot: use it with simulator none")
        if not all(part.isidentifier() for part in self.namespace.strip("/").split("/") if self.namespace.strip("/")):
            raise ConfigError(f"namespace '{self.namespace}': only letters, digits, _ and / are allowed")
