"""An episode: the simulated robot, the twin's estimate of it and the gait controller in one loop, without ROS or clock.

The controller sees what it would see on the robot: the synchronizer's estimate of noisy, biased measurements; its
commands pass the bridge's limits and arrive late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.command_gate import CommandGate, CommandGateConfig
from digital_twin.core.config import param
from digital_twin.core.description import Description
from digital_twin.core.gait.controller import GaitCommand, GaitController
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.model import RobotModel
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import rot_z, yaw_of
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.core.world import World

NS = 1_000_000_000
GRAVITY = 9.81
FALLEN_TILT = math.cos(math.radians(45.0))
FALLEN_HEIGHT = 0.6  # of the base when it stands


@dataclass(frozen=True)
class EpisodeConfig:
    """How an episode is run."""

    seed: int = param(1, "which robot of the series, and all its noise", low=0, high=2**31)
    seconds: float = param(20.0, "longest", unit="s", low=0.1, high=1e4)
    rate: float = param(200.0, "of measurements and commands; must divide 1000", unit="Hz", low=50, high=1000)
    delay: float = param(
        0.004, "from a measurement to the servos' having the command that answers it", unit="s", low=0, high=0.05
    )
    plant: PlantConfig = param(PlantConfig)
    instruments: InstrumentConfig = param(InstrumentConfig)


@dataclass(frozen=True)
class ScheduledPush:
    """A push at a time [s] after the start: force [N] (3,) in the base's heading at that moment, for so long [s]."""

    at: float
    frame: str
    force: tuple[float, float, float]
    seconds: float = 0.1


Commands = Callable[[float], tuple[float, float, float]]  # time [s] → (vx, vy, wz)


@dataclass
class EpisodeResult:
    """What came of it. distance, sideways: along and across the heading at the start [m]; turned: to the left [rad].

    path: how far the base went in the plane [m]. fell: when [s], NaN if it did not. energy: Σ |torque · speed| over all
    joints [J]. cost_of_transport: energy / (m g path). phases: seconds in each. step_ms: processor time that the controller took for
    each command [ms] (k,). track: time, x, y, z, yaw of the base at each measurement (k, 5).
    """

    distance: float = 0.0
    sideways: float = 0.0
    turned: float = 0.0
    path: float = 0.0
    seconds: float = 0.0
    fell: float = math.nan
    energy: float = 0.0
    cost_of_transport: float = math.nan
    phases: dict[str, float] = field(default_factory=dict)
    step_ms: Array = field(default_factory=lambda: np.zeros(0))
    track: Array = field(default_factory=lambda: np.zeros((0, 5)))

    @property
    def upright(self) -> bool:
        """Whether it never fell."""
        return math.isnan(self.fell)


class Episode:
    """One robot walking. Made once, `run` once; `advance` for those who want to look at each moment.

    Attributes:
        plant, sync, controller: the three in the loop; state: the twin's last estimate.
    """

    def __init__(
        self, description: Description, robot: RobotConfig, gait: Gait, config: EpisodeConfig | None = None,
        world: World | None = None,
    ) -> None:  # fmt: skip
        self.config = c = config or EpisodeConfig()
        plant = PlantConfig(**{**vars(c.plant), "seed": c.seed})
        self.plant = Plant(description, robot, plant, world)
        self.instruments = Instruments(self.plant, c.instruments, c.rate)
        self.model = RobotModel(description, robot.base_frame)
        joints = Joints(robot, self.model)
        self.sync = Synchronizer(self.model, robot, SynchronizerConfig())
        self.gate = CommandGate(self.model, CommandGateConfig())
        self.controller = GaitController(self.model, robot, joints, gait)
        self.state: VirtualState | None = None
        self.command: GaitCommand | None = None
        self._tick = round(1.0 / (c.rate * plant.timestep))
        self._late = min(round(c.delay / plant.timestep), self._tick)
        self._everything: Any = np.arange(self.model.n)
        self._stand_height = self.plant.frame_pose(self.model.base_frame)[0][2] - self._floor()
        self._steps: list[float] = []
        self._track: list[tuple[float, ...]] = []
        self.result = EpisodeResult()

    def _floor(self) -> float:
        return min(float(self.plant.frame_pose(f.frame)[0][2]) for f in self.plant.robot.feet)

    def advance(self, velocity: tuple[float, float, float] | None = None) -> None:
        """One measurement, one command, and the time until the next measurement."""
        self._measure()
        command = None
        if self.state is not None:
            start = time.thread_time_ns()
            if velocity is not None:
                self.controller.request(*velocity)
            command = self.controller.step(self.state, self._wrenches)
            self._steps.append((time.thread_time_ns() - start) / 1e6)
            self.command = command
        self.plant.advance(self._late)
        if command is not None:
            self._obey(command)
        if self._tick > self._late:
            self.plant.advance(self._tick - self._late)
        self._account()

    def _measure(self) -> None:
        stamp, i = self.plant.time_ns, self.instruments
        self._wrenches = np.array([np.concatenate(i.wrench(f.name)) for f in self.plant.robot.feet])
        for k, w in enumerate(self._wrenches):
            self.sync.wrench(stamp, k, w[:3])
        if self.plant.robot.imus:
            self.sync.imu(stamp, *i.imu(0))
        q, qd, effort = i.joint_states()
        self.gate.measured(self._everything, q)
        state = self.sync.joints(stamp, q, qd, effort)
        if state is not None:
            self.state = state

    def _obey(self, c: GaitCommand) -> None:
        now = self.plant.time_ns
        self.gate.twin_alive(now)
        passed = self.gate.accept(self._everything, c.q, c.qd, c.effort, now)
        if not isinstance(passed, str):
            self.plant.command(passed.q, passed.qd, passed.effort, self._everything)

    def _account(self) -> None:
        """What the truth says; the controller never sees it."""
        p, r = self.plant, self.result
        dt = self._tick * p.config.timestep
        r.seconds = p.time_ns / NS
        r.energy += float(np.abs(p.joint_efforts * p.joint_velocities).sum()) * dt
        r.phases[self.controller.phase] = r.phases.get(self.controller.phase, 0.0) + dt
        position, rotation = p.frame_pose(self.model.base_frame)
        self._track.append((r.seconds, *position, yaw_of(rotation)))
        low = position[2] - self._floor() < FALLEN_HEIGHT * self._stand_height
        if r.upright and (rotation[2, 2] < FALLEN_TILT or (low and self.controller.phase != "sit")):
            r.fell = r.seconds

    def run(self, commands: Commands, pushes: Sequence[ScheduledPush] = (), after_fall: float = 0.0) -> EpisodeResult:
        """Until its time is over, or for `after_fall` [s] after the robot has fallen."""
        waiting = sorted(pushes, key=lambda p: p.at)
        r = self.result
        while r.seconds < self.config.seconds and not r.seconds > r.fell + after_fall:
            while waiting and r.seconds >= waiting[0].at:
                self._push(waiting.pop(0))
            self.advance(commands(r.seconds))
        return self.finish()

    def _push(self, push: ScheduledPush) -> None:
        heading = rot_z(yaw_of(self.plant.frame_pose(self.model.base_frame)[1]))
        self.plant.push(push.frame, heading @ np.array(push.force), push.seconds)

    def finish(self) -> EpisodeResult:
        """The result so far."""
        r = self.result
        r.track, r.step_ms = np.array(self._track), np.array(self._steps)
        way = np.diff(r.track[:, 1:3], axis=0)
        r.path = float(np.hypot(*way.T).sum())
        yaw = np.unwrap(r.track[:, 4])
        moved = rot_z(-yaw[0])[:2, :2] @ (r.track[-1, 1:3] - r.track[0, 1:3])
        r.distance, r.sideways, r.turned = float(moved[0]), float(moved[1]), float(yaw[-1] - yaw[0])
        mass = float(self.plant.mj.body_mass.sum())
        r.cost_of_transport = r.energy / (mass * GRAVITY * max(abs(r.distance), 0.01))
        return r
