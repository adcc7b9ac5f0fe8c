"""The gate in a process of its own, so that trying a command delays no command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from digital_twin.core.arrays import Array
from digital_twin.core.description import Description
from digital_twin.core.errors import TwinError, one_line
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.gate import TwinGate, Verdict
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.gait.try_first import Asked
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.synchronizer import VirtualState
from digital_twin.gait_runs import terrain
from digital_twin.parallel import begin_worker, do_task, single_threaded
from digital_twin.robots import Robot, load_robot


@dataclass(frozen=True)
class _Model:
    """Another model of the robot; sent without what is compiled."""

    description: Description
    config: RobotConfig
    where: str


@dataclass(frozen=True)
class _Try:
    state: VirtualState
    velocity: Asked
    snapshot: object
    ground: Array


class _Gate:
    def __init__(
        self, description: str, robot_config: str, gait: Gait, config: GateConfig, world: str, nice: int
    ) -> None:
        with contextlib.suppress(OSError):
            os.nice(nice)
        around = terrain(world) if world else None
        self._made_of, self._why = (gait, config, around), ""
        robot = load_robot(description, robot_config)
        self._gate: TwinGate | None = TwinGate(robot.model, robot.config, robot.joints, *self._made_of)

    def __call__(self, task: _Try | _Model) -> Verdict | None:
        if isinstance(task, _Model):
            self._gate = None  # no command is tried by a model that is no longer in service
            self._why = f"{task.where} cannot be simulated"
            robot = Robot(
                task.description, RobotModel(task.description, task.config.base_frame), task.config, task.where
            )
            self._gate = TwinGate(robot.model, robot.config, robot.joints, *self._made_of)
            return None
        if self._gate is None:
            raise TwinError(self._why)
        self._gate.stand_on(task.ground)
        return self._gate.try_velocity(task.state, task.velocity, task.snapshot)


class GateWorker:
    """Trials (core/gait/try_first.py) of one robot."""

    def __init__(
        self, robot_description: str, robot_config: str, gait: Gait, config: GateConfig,
        now: Callable[[], tuple[VirtualState | None, object, Array]], world: str = "", nice: int = 5,
    ) -> None:  # fmt: skip
        """now: the state to try from, the controller's snapshot and the ground's normal in odom (3,).
        world: name or path; empty: a level floor.
        nice: how far the process yields.
        """
        single_threaded()
        arguments = (robot_description, robot_config, gait, config, world, nice)
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), begin_worker, (_Gate, arguments))
        self._pending: Future[Verdict] | None = None
        self._pool.submit(os.getpid)  # starts the process and compiles the models, before anything is asked
        self._now = now

    def begin(self, velocity: Asked) -> None:
        """Try a velocity from where the robot is now."""
        state, snapshot, ground = self._now()
        if state is None:
            raise TwinError("nothing can be tried before the twin has a state")
        self._pending = self._submit(_Try(state, velocity, snapshot, ground))

    def _submit(self, task: _Try | _Model) -> Future[Verdict]:
        """A process that has died answers that it has."""
        try:
            return self._pool.submit(do_task, task)
        except BrokenExecutor as e:
            broken: Future[Verdict] = Future()
            broken.set_exception(e)
            return broken

    def use(self, robot: Robot) -> None:
        """Another model of the robot is in service: what is tried from now on is tried by it."""
        self._submit(_Model(robot.description, robot.config, robot.where))

    def done(self) -> Verdict | None:
        """The verdict, when there is one. A trial that fails is a verdict against the command."""
        if self._pending is None or not self._pending.done():
            return None
        pending, self._pending = self._pending, None
        error = pending.exception()
        if error is not None:
            return Verdict(False, 1.0, 0, float("inf"), f"it could not be tried: {one_line(error)}")
        return pending.result()

    def close(self) -> None:
        """End the process, whatever it does, and wait until it has ended."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)
