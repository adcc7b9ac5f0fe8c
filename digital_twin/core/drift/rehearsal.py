"""The simulated robot, what carries its messages, the synchronizer and a listener in one process, on simulated time.

What drift is studied with: a robot that differs from its description by its seed follows a motion, faults come and go,
and messages arrive as late as they do between processes. Nothing here reads a clock.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.fault_schedule import FaultSchedule
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.model import RobotModel
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import RobotConfig, imu_rotation
from digital_twin.core.script import Script, ScriptConfig
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer
from digital_twin.core.world import World

NS = 1_000_000_000
RATE, COMMANDS, POSES = 200, 100, 50  # [Hz]
TRANSPORT, POSE_DELAY = 0.0003, 0.03  # [s] that messages take: on average, exponentially; a tracker's besides
Motion = Callable[[float], tuple[Array, Array]]


class Listener(Protocol):
    """Who is told what the twin's nodes would be told: stamps and times of arrival [ns]."""

    def heard(self, stream: str, stamp_ns: int, arrival_ns: int) -> None: ...
    def joints(self, stamp_ns: int, q: Array, qd: Array | None, effort: Array | None) -> None: ...
    def imu(self, stamp_ns: int, gyro: Array, accel: Array) -> None: ...
    def wrench(self, stamp_ns: int, foot: int, wrench: Array) -> None: ...
    def command(self, stamp_ns: int, position: Array, velocity: Array | None, effort: Array | None) -> None: ...
    def base(self, state: BaseState) -> None: ...
    def innovations(self, stamp_ns: int, values: Array) -> None: ...
    def pose(self, stamp_ns: int, position: Array, rotation: Array, covariance: Array) -> None: ...


class Streams:
    """The robot's topics, which can be dropped, frozen or late; see core/faults.py."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.silent: set[str] = set()
        self.late: dict[str, float] = {}

    def check(self, topic: str) -> None:
        """Raises ConfigError when there is no such topic."""
        if topic not in self._names:
            raise ConfigError(unknown("topic", topic, self._names))

    def drop(self, topic: str, on: bool) -> None:
        """Lose all messages of a topic, or no longer."""
        (self.silent.add if on else self.silent.discard)(topic)

    def freeze(self, topic: str, on: bool) -> None:
        """Repeat the last message: the bridge refuses duplicates, so nothing more comes through."""
        self.drop(topic, on)

    def delay(self, topic: str, seconds: float) -> None:
        """Send a topic late by this much."""
        self.late[topic] = seconds


class Rehearsal:
    """See the module. `run` plays some seconds; `faults.add(parse_fault(…))` breaks something."""

    def __init__(
        self, model: RobotModel, robot: RobotConfig, seed: int, motion: Motion, listener: Listener,
        world: World | None = None,
    ) -> None:  # fmt: skip
        self.plant = Plant(model.description, robot, PlantConfig(seed=seed), world)
        self.instruments = Instruments(self.plant, InstrumentConfig(), float(RATE))
        self.sync = Synchronizer(model, robot, SynchronizerConfig(estimate_effort=False))
        self.motion, self.listener, self._robot = motion, listener, robot
        feet = [f.wrench_topic for f in robot.feet]
        self.streams = Streams(["joint_states", robot.imus[0].topic, *feet, "external_pose"])
        self.faults = FaultSchedule(self.plant, self.instruments, self.streams)
        self._turn = imu_rotation(robot.imus[0])
        self._rng = np.random.default_rng([seed, 7])
        self._steps = round(1.0 / (RATE * self.plant.config.timestep))
        self._queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self._held: list[tuple[int, Array, Array]] = []
        self.ticks = 0

    @property
    def time(self) -> float:
        """Simulated time [s]."""
        return self.plant.time_ns / NS

    def run(self, seconds: float) -> None:
        """Go on for some seconds."""
        for _ in range(round(seconds * RATE)):
            self._tick()

    def _tick(self) -> None:
        now = self.plant.time_ns
        self.faults.update()
        if self.ticks % (RATE // COMMANDS) == 0:
            q, qd = self.motion(now / NS)
            self.listener.command(now, q, qd, None)
            # Now and then a command misses the robot's tick and waits for the next.
            self._held.append((now + (self._rng.random() < 0.05) * NS // RATE, q, qd))
        while self._held and self._held[0][0] <= now:
            self.plant.command(*self._held.pop(0)[1:])
        self.plant.advance(self._steps)
        self._sense(self.plant.time_ns)
        self._deliver(self.plant.time_ns + NS // RATE - 1)
        self.ticks += 1

    def _send(self, stream: str, stamp_ns: int, deliver: Callable[[int], None], delay: float = 0.0) -> None:
        if stream in self.streams.silent:
            return
        late = delay + self.streams.late.get(stream, 0.0) + self._rng.exponential(TRANSPORT)
        arrival = stamp_ns + round(late * NS)
        heapq.heappush(self._queue, (arrival, next(self._order), deliver))

    def _deliver(self, now_ns: int) -> None:
        while self._queue and self._queue[0][0] <= now_ns:
            arrival, _, deliver = heapq.heappop(self._queue)
            deliver(arrival)

    def _sense(self, stamp: int) -> None:
        i, robot = self.instruments, self._robot
        for k, foot in enumerate(robot.feet):
            wrench = np.concatenate(i.wrench(foot.name))
            self._send(foot.wrench_topic, stamp, self._wrench(stamp, k, foot.wrench_topic, wrench))
        gyro, accel = i.imu(0)
        topic = robot.imus[0].topic
        self._send(topic, stamp, self._imu(stamp, topic, self._turn @ gyro, self._turn @ accel))
        self._send("joint_states", stamp, self._joints(stamp, *i.joint_states()))
        if self.ticks % (RATE // POSES) == 0:
            self._send("external_pose", stamp, self._pose(stamp, *i.external_pose()), POSE_DELAY)

    def _wrench(self, stamp: int, k: int, topic: str, wrench: Array) -> Callable[[int], None]:
        def deliver(arrival: int) -> None:
            self.sync.wrench(stamp, k, wrench[:3])
            self.listener.heard(topic, stamp, arrival)
            self.listener.wrench(stamp, k, wrench)

        return deliver

    def _imu(self, stamp: int, topic: str, gyro: Array, accel: Array) -> Callable[[int], None]:
        def deliver(arrival: int) -> None:
            self.sync.imu(stamp, gyro, accel)
            self.listener.heard(topic, stamp, arrival)
            self.listener.imu(stamp, gyro, accel)

        return deliver

    def _joints(self, stamp: int, q: Array, qd: Array, effort: Array) -> Callable[[int], None]:
        def deliver(arrival: int) -> None:
            self.listener.heard("joint_states", stamp, arrival)
            self.listener.joints(stamp, q, qd, effort)
            state = self.sync.joints(stamp, q, qd, effort)
            if state is not None:
                self.listener.base(state.base)
                self.listener.innovations(stamp, self.sync.innovations.latest)

        return deliver

    def _pose(self, stamp: int, position: Array, rotation: Array, covariance: Array) -> Callable[[int], None]:
        def deliver(arrival: int) -> None:
            self.sync.external_pose(stamp, position, rotation, covariance)
            self.listener.heard("external_pose", stamp, arrival)
            self.listener.pose(stamp, position, rotation, covariance)

        return deliver


def squats_and_sways(
    script: ScriptConfig, model: RobotModel, stand: Array, seed: int, sway: float = 1.0
) -> Motion:  # fmt: skip
    """A script's own motions, in another order and at other speeds and sizes for every seed; begins at the stand.

    `sway`: of the sways' sizes; a robot with a load falls sooner.
    """
    rng = np.random.default_rng([seed, 11])
    steps = [s for s in script.steps if s.hold == "stand"]
    moving = [s for s in script.steps if s.swing or s.cycle] * 4
    for i in rng.permutation(len(moving)):
        step = moving[i]
        period = step.period * rng.uniform(0.85, 1.4)
        swing: dict[str, Any] = {joint: sway * rng.uniform(0.6, 1.0) * angle for joint, angle in step.swing.items()}
        steps.append(replace(step, period=period, seconds=float(rng.integers(1, 4)) * period, swing=swing))
    return Script(replace(script, steps=steps), model, stand, "drift").sample
