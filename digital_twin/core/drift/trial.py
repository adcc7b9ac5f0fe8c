"""The simulated robot, its sensors and the synchronizer in one process, on simulated time, which give windows.

Drift is tried here: the robot differs from the model by its seed, `disturb` breaks it, and nothing needs a middleware.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.description import Description
from digital_twin.core.drift.window import Window
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.model import RobotModel
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import RobotConfig, imu_rotation
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer, VirtualState

RATE, COMMANDS = 200, 100  # [Hz] of sensors and of commands
Motion = Callable[[float], tuple[Array, Array]]
"""From time [s] to positions [rad] and speeds [rad/s] asked of the joints (n,), (n,)."""


class Recorder:
    """Samples as they come, and the window that they are."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    def add(
        self, state: VirtualState, effort: Array, command: Array, wrenches: Array, gyro: Array, accelerometer: Array
    ) -> None:
        """One sample; arguments as in Window."""
        b = state.base
        self._rows.append((
            state.stamp_ns, state.q, state.qd, state.qdd, effort, command, b.position, b.rotation @ b.velocity,
            b.rotation, b.angular_velocity, wrenches, gyro, accelerometer,
        ))  # fmt: skip

    def window(self) -> Window:
        """All of it."""
        stamps, *rest = zip(*self._rows, strict=True)
        return Window(np.array(stamps, dtype=np.int64), *(np.array(x, dtype=float) for x in rest))


class Trial:
    """One robot of the series at work. Time goes on from one `run` to the next."""

    def __init__(
        self, description: Description, config: RobotConfig, motion: Motion, plant: PlantConfig,
        instruments: InstrumentConfig | None = None,
    ) -> None:  # fmt: skip
        """The twin's model, by which the synchronizer works, is that of `description` and `config`."""
        self.model, self.config, self.motion = RobotModel(description, config.base_frame), config, motion
        self.plant = Plant(description, config, plant)
        self.instruments = Instruments(self.plant, instruments or InstrumentConfig(), float(RATE))
        settings = SynchronizerConfig(estimate_effort=False)
        self._sync = Synchronizer(self.model, config, settings)
        self._turn = imu_rotation(config.imus[0]).T if config.imus else np.eye(3)
        self._command = np.full(self.model.n, np.nan)
        self._ticks = 0

    @property
    def time(self) -> float:
        """Simulated time [s] that has gone by."""
        return self._ticks / RATE

    def run(self, seconds: float, disturb: Callable[[float, Plant], None] | None = None) -> Window:
        """What is recorded in so many seconds. `disturb(time, plant)` is called at every sample."""
        steps = round(1.0 / (RATE * self.plant.config.timestep))
        recorder = Recorder()
        for _ in range(round(seconds * RATE)):
            if disturb is not None:
                disturb(self.time, self.plant)
            if self._ticks % (RATE // COMMANDS) == 0:
                # A source has a clock of its own, and its commands come anywhere between two samples.
                before = self.plant.config.seed % steps
                if before:
                    self.plant.advance(before)
                self._command, speed = self.motion(self.time)
                self.plant.command(self._command, speed)
                self.plant.advance(steps - before)
            else:
                self.plant.advance(steps)
            self._ticks += 1
            self._sense(recorder)
        return recorder.window()

    def _sense(self, recorder: Recorder) -> None:
        stamp, i = self.plant.time_ns, self.instruments
        feet = [np.concatenate(i.wrench(foot.name)) for foot in self.config.feet]
        for k, foot in enumerate(feet):
            self._sync.wrench(stamp, k, foot[:3])
        gyro = accelerometer = np.full(3, np.nan)
        if self.config.imus:
            gyro, accelerometer = (x @ self._turn for x in i.imu(0))
            self._sync.imu(stamp, gyro, accelerometer)
        q, qd, effort = i.joint_states()
        state = self._sync.joints(stamp, q, qd, effort)
        if state is not None:
            wrenches = np.array(feet).reshape(-1, 6)
            recorder.add(state, effort, self._command, wrenches, gyro, accelerometer)
