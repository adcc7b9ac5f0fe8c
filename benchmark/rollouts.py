"""What closed-loop rollouts of the gate cost, beside physics, estimator and controller alone, in the same run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import mujoco
import numpy as np

from benchmark.table import Row, main
from digital_twin.core.base_state import BaseState
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.gate import TwinGate
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.robots import Robot, load_robot


class Stopwatch:
    """Adds up the processor's time of a function."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call, self.ns = call, 0

    def __call__(self, *arguments: Any) -> Any:
        began = time.thread_time_ns()
        result = self._call(*arguments)
        self.ns += time.thread_time_ns() - began
        return result

    def __get__(self, instance: Any, _: type) -> Any:
        """As a method."""
        return lambda *arguments: self(instance, *arguments)


def watched(stack: ExitStack, owner: Any, *names: str) -> list[Stopwatch]:
    """Stopwatches on functions of an owner, as long as the stack is open."""
    watches = [Stopwatch(getattr(owner, name)) for name in names]
    for name, watch in zip(names, watches, strict=True):
        stack.enter_context(patch.object(owner, name, watch))
    return watches


def standing(robot: Robot) -> VirtualState:
    """At ease."""
    n, zero = robot.model.n, np.zeros(3)
    height = -float(_soles(robot)[:, 2].min())
    base = BaseState(
        0, np.array([0.0, 0.0, height]), np.eye(3), zero, zero, 1e-6 * np.eye(6), 1e-6 * np.eye(6), (True, True), True
    )
    return VirtualState(0, robot.joints.stand.copy(), np.zeros(n), np.zeros(n), np.full(n, np.nan), base)


def _soles(robot: Robot) -> np.ndarray:
    k = robot.model.kinematics([f.frame for f in robot.config.feet])
    k.update(robot.joints.stand)
    return k.position


def measure(a: argparse.Namespace) -> list[Row]:
    """Walking ahead, several times."""
    robot = load_robot()
    gate = TwinGate(robot.model, robot.config, robot.joints, Gait(), GateConfig(members=int(a.members)))
    state, rows = standing(robot), []
    ratios, without, shares, each = [], [], [], []
    for _ in range(int(a.repeats)):
        with ExitStack() as stack:
            parts = [
                watched(stack, mujoco, "mj_step", "mj_forward", "mj_implicit"),
                watched(stack, Synchronizer, "wrench", "imu", "joints"),
                watched(stack, gate._controller, "step"),
            ]
            began = time.thread_time_ns()
            verdict = gate.try_velocity(state, (0.4, 0.0, 0.0))
            whole = time.thread_time_ns() - began
        physics, estimate, control = (sum(w.ns for w in part) for part in parts)
        ratios.append(whole / (physics + estimate + control))
        without.append(whole / (physics + control))
        shares.append([part / whole for part in (physics, estimate, control)])
        each.append(whole / 1e9 / verdict.tried / gate.config.horizon)
    rows.append(Row("rollouts", float(np.median(ratios)), "x physics, estimator and controller", 1.2))
    rows.append(Row("rollouts", float(np.median(without)), "x physics and controller"))
    for name, part in zip(("physics", "estimator", "controller"), np.median(shares, axis=0), strict=True):
        rows.append(Row(f"share of the {name}", float(part), ""))
    rows.append(Row("a second of one member", float(np.median(each)), "s of a core"))
    return rows


if __name__ == "__main__":
    main("closed-loop rollouts", measure, ("members", 4.0, "of the ensemble"), ("repeats", 3.0, "of which the median"))
