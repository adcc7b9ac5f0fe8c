"""Gains of the balance, tuned in the twin: how soon, and with how little swinging back, a standing robot is at rest again
after a push.

Judged is the capture point (Pratt, Carff, Drakunov, Goswami 2006), the true one of the simulated robot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.description import Description
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.episode import GRAVITY, Episode, EpisodeConfig
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.robot_config import RobotConfig

STAND, PUSH = 1.0, 0.1  # [s] before the push, and of it
LAST = 0.3  # [s] at the end, which are taken for the rest
SPACE: dict[str, tuple[float, float]] = {
    "gains.dcm": (1.5, 8.0),
    "gains.torso": (6.0, 20.0),
    "gains.height": (5.0, 20.0),
    "gains.servo": (0.05, 0.8),
}


@dataclass(frozen=True)
class BalanceConfig:
    """How the balance is tried."""

    impulse: float = param(0.12, "of the pushes, for each kg of the robot", unit="N s/kg", low=0.01, high=2)
    directions: int = param(2, "whereto, from ahead on to the left", low=1, high=16)
    models: int = param(3, "robots of the series to judge by", low=1, high=100)
    seconds: float = param(2.5, "that are watched after a push", unit="s", low=0.5, high=20)
    tolerance: float = param(0.01, "of the capture point that counts as rest", unit="m", low=0.001, high=0.1)
    generations: int = param(6, "of CMA-ES", low=1, high=1000)
    population: int = param(6, "gains of each", low=4, high=100)
    seed: int = param(1, "of the robots and the search", low=1, high=2**31)

    def pushes(self) -> list[tuple[int, float]]:
        """(robot, direction [rad]) of each."""
        return [
            (self.seed + k, 0.5 * math.pi * i / max(self.directions - 1, 1))
            for k in range(self.models)
            for i in range(self.directions)
        ]


@dataclass(frozen=True)
class Sway:
    """After a push: time until it is at rest [s], how far the capture point went [m], and how far it swung back, as a
    share of that. upright: whether it fell not.
    """

    settle: float
    peak: float
    back: float
    upright: bool


def sway(
    description: Description, robot: RobotConfig, gait: Gait, config: BalanceConfig, push: tuple[int, float]
) -> Sway:
    """Push one standing robot at its base."""
    seed, direction = push
    seconds = STAND + PUSH + config.seconds
    episode = Episode(description, robot, gait, EpisodeConfig(seed=seed, seconds=seconds))
    p = episode.plant
    size = config.impulse * episode.model.mass / PUSH
    force = (size * math.cos(direction), size * math.sin(direction), 0.0)
    way = np.array([math.cos(direction), math.sin(direction)])
    points: list[float] = []
    pushed = False
    while episode.result.seconds < seconds and episode.result.upright:
        if not pushed and episode.result.seconds >= STAND:
            p.push(episode.model.base_frame, np.array(force), PUSH)
            pushed = True
        episode.advance((0.0, 0.0, 0.0))
        points.append(float(way @ _capture_point(episode)))
    if not episode.result.upright:
        return Sway(seconds, 1.0, 1.0, False)
    return _measure(np.array(points), 1.0 / episode.config.rate, config.tolerance)


def _capture_point(episode: Episode) -> Array:
    m, d = episode.plant.mj, episode.plant.data
    mujoco.mj_subtreeVel(m, d)
    root = 1  # the world's first child: the whole robot
    com, velocity = d.subtree_com[root], d.subtree_linvel[root]
    sole = min(d.site(f.frame).xpos[2] for f in episode.plant.robot.feet)
    return np.asarray(com[:2] + velocity[:2] * math.sqrt(max(float(com[2] - sole), 0.05) / GRAVITY))


def _measure(points: Array, dt: float, tolerance: float) -> Sway:
    """Of a capture point along the push (k,), which came STAND [s] after the start."""
    after = points[round(STAND / dt) :] - points[-round(LAST / dt) :].mean()
    restless = np.flatnonzero(np.abs(after) > tolerance)
    settle = float((restless[-1] + 1) * dt) if len(restless) else 0.0
    peak = float(after.max())
    back = max(0.0, -float(after[int(np.argmax(after)) :].min())) / max(peak, 1e-6)
    return Sway(settle, peak, back, True)


def cost(sways: Sequence[Sway]) -> float:
    """What gains are worth: the worst time to rest, the less the better; swinging back and falls cost more."""
    if not sways:
        raise TwinError("a balance is judged by one push at least")
    falls = sum(not s.upright for s in sways) / len(sways)
    calm = [s for s in sways if s.upright] or list(sways)
    return max(s.settle for s in calm) + 2.0 * max(max(s.back for s in calm) - 0.2, 0.0) + 10.0 * falls
