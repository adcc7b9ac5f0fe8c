"""An episode: the simulated robot, the twin's estimate of it and the gait controller in one loop, without ROS or clock.

The controller sees what it would see on the robot: the synchronizer's estimate of noisy, biased, late measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.description import Description
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.instruments import InstrumentConfig
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.world import World


@dataclass(frozen=True)
class EpisodeConfig:
    """How an episode is run."""

    seed: int = param(1, "which robot of the series, and all its noise", low=0, high=2**31)
    seconds: float = param(20.0, "longest", unit="s", low=0.1, high=1e4)
    rate: float = param(200.0, "of measurements and commands", unit="Hz", low=50, high=1000)
    delay: float = param(0.004, "from a measurement to the servos' having the command that answers it", unit="s",
                         low=0, high=0.05)  # fmt: skip
    estimate: str = param("twin", "what the controller sees: the synchronizer's estimate, or the truth with noise added "
                          "(cheaper)", choices=("twin", "noisy_truth"))  # fmt: skip
    plant: PlantConfig = param(PlantConfig)
    instruments: InstrumentConfig = param(InstrumentConfig)


@dataclass(frozen=True)
class ScheduledPush:
    """A push at a time [s] after the start: force [N] (3,) in the robot's frame at that moment, for so long [s]."""

    at: float
    frame: str
    force: tuple[float, float, float]
    seconds: float = 0.1


Commands = Callable[[float], tuple[float, float, float]]  # time [s] → (vx, vy, wz)


@dataclass
class EpisodeResult:
    """What came of it. distance: along the heading at the start [m]; fell: when [s], NaN if it did not.

    energy: Σ |torque · speed| over all joints [J]. cost_of_transport: energy / (m g path length).
    step_ms: the controller's time for each command [ms] (k,). track: time, base x, y, z, yaw at each measurement (k, 5).
    """

    distance: float = 0.0
    sideways: float = 0.0
    turned: float = 0.0
    seconds: float = 0.0
    fell: float = float("nan")
    energy: float = 0.0
    cost_of_transport: float = float("nan")
    phases: dict[str, float] = field(default_factory=dict)
    step_ms: Array = field(default_factory=lambda: np.zeros(0))
    track: Array = field(default_factory=lambda: np.zeros((0, 5)))

    @property
    def upright(self) -> bool:
        """Whether it never fell."""
        return bool(np.isnan(self.fell))


class Episode:
    """One robot walking. Made once, `run` once; `advance` for those who want to look at each moment."""

    def __init__(
        self, description: Description, robot: RobotConfig, gait: Gait, config: EpisodeConfig | None = None,
        world: World | None = None,
    ) -> None:  # fmt: skip
        raise NotImplementedError

    def run(self, commands: Commands, pushes: tuple[ScheduledPush, ...] = ()) -> EpisodeResult:
        """Until its time is over or the robot has fallen."""
        raise NotImplementedError
