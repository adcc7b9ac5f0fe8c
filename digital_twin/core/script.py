"""Scripted motions: joint set points as functions of time, described in YAML (config/scripts/*.yaml).

A script has named poses (joint: angle), and steps that are played one after another, over and over:

    poses:
      crouch: {l_knee: 1.2, r_knee: 1.2}
    steps:
      - {hold: stand, seconds: 3}
      - {cycle: crouch, period: 4, seconds: 8}                  # stand ↔ crouch, a cosine
      - {swing: {l_hip_roll: 0.06}, period: 3, seconds: 6}      # stand ± amplitude, a sine

`stand` is the pose of the robot config. Between steps the set points blend within `blend` seconds, so that positions
and speeds never jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import build, load_yaml, param
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.model import RobotModel


@dataclass(frozen=True)
class StepConfig:
    """One step of a script: exactly one of hold, cycle and swing."""

    seconds: float = param(doc="how long it lasts", unit="s", low=0.1, high=1e5)
    hold: str = param("", "pose to stay in")
    cycle: str = param("", "pose to go to and come back from")
    swing: dict[str, float] = param({}, "joint: amplitude about the stand", unit="rad", low=-2, high=2)
    period: float = param(4.0, "of a cycle or swing", unit="s", low=0.2, high=1e4)


@dataclass(frozen=True)
class ScriptConfig:
    """A script as read from YAML."""

    steps: list[StepConfig] = param(doc="played in order, over and over")
    poses: dict[str, dict[str, float]] = param({}, "name: {joint: angle}", unit="rad", low=-7, high=7)
    blend: float = param(1.0, "how long a change of step takes", unit="s", low=0.1, high=10)


def load_script(path: Path | str) -> ScriptConfig:
    """Read a script.

    Raises:
        ConfigError: one line naming the file and the key.
    """
    return build(ScriptConfig, load_yaml(path, "script"), str(path))


def smooth_step(x: float) -> tuple[float, float]:
    """A quintic from 0 to 1 with zero speed and acceleration at both ends: its value and slope at x in [0, 1]."""
    return x**3 * (10 - 15 * x + 6 * x * x), 30 * x * x * (1 - x) ** 2


class Script:
    """Set points of a script for one robot: `sample(t)` for any t ≥ 0 [s]."""

    def __init__(self, config: ScriptConfig, model: RobotModel, stand: Array, where: str = "script") -> None:
        self.config, self._model, self._stand, self._where = config, model, stand, where
        if not config.steps:
            raise ConfigError(f"{where}: a script needs at least one step")
        self._poses = {"stand": stand} | {name: self._pose(name, angles) for name, angles in config.poses.items()}
        self._steps = [self._parts(step) for step in config.steps]
        self._ends = np.cumsum([step.seconds for step in config.steps])

    def _pose(self, name: str, angles: dict[str, float]) -> Array:
        q = self._stand.copy()
        q[self._indices(angles, f"pose {name}")] = list(angles.values())
        return np.asarray(np.clip(q, self._model.lower, self._model.upper))

    def _indices(self, angles: dict[str, float], what: str) -> list[int]:
        for joint in angles:
            if joint not in self._model.joint_index:
                raise ConfigError(f"{self._where}: {what}: {unknown('joint', joint, self._model.joint_names)}")
        return [self._model.joint_index[joint] for joint in angles]

    def _parts(self, step: StepConfig) -> tuple[Array, Array, float]:
        """A step as centre, amplitude and period: q(t) = centre + amplitude · wave(t)."""
        if bool(step.hold) + bool(step.cycle) + bool(step.swing) != 1:
            raise ConfigError(f"{self._where}: a step has exactly one of hold, cycle and swing")
        name = step.hold or step.cycle
        if name and name not in self._poses:
            raise ConfigError(f"{self._where}: {unknown('pose', name, self._poses)}")
        if step.hold:
            return self._poses[name], np.zeros(self._model.n), math.inf
        if step.cycle:
            return self._stand, self._poses[name] - self._stand, step.period
        amplitude = np.zeros(self._model.n)
        amplitude[self._indices(step.swing, "swing")] = list(step.swing.values())
        return self._stand, amplitude, -step.period

    def sample(self, t: float) -> tuple[Array, Array]:
        """Positions [rad] and speeds [rad/s] (n,), (n,) at time t [s]."""
        lap, t = divmod(t, float(self._ends[-1]))
        i = int(np.searchsorted(self._ends, t, side="right"))
        start = float(self._ends[i - 1]) if i else 0.0
        q, qd = self._step(i, t - start)
        since = t - start
        if since < self.config.blend and (i > 0 or lap > 0):
            last = self.config.steps[i - 1]
            q0, qd0 = self._step(i - 1, last.seconds + since)
            w, dw = smooth_step(since / self.config.blend)
            q, qd = q0 + w * (q - q0), qd0 + w * (qd - qd0) + dw / self.config.blend * (q - q0)
        return q, qd

    def _step(self, i: int, t: float) -> tuple[Array, Array]:
        centre, amplitude, period = self._steps[i]
        w = 2 * math.pi / abs(period)
        if period > 0:  # a cycle (or, with an endless period, a hold): from 0 to 1 and back
            wave, speed = (1 - math.cos(w * t)) / 2, w * math.sin(w * t) / 2
        else:
            wave, speed = math.sin(w * t), w * math.cos(w * t)
        return centre + amplitude * wave, amplitude * speed
