"""Pushes: what a controller survives, by direction, size, duration and phase of the gait."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.description import Description
from digital_twin.core.gait.episode import FALLEN_HEIGHT, FALLEN_TILT, Episode, EpisodeConfig, ScheduledPush
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.world import World

STAND, SETTLED, AFTER = 0.5, 3.0, 3.0  # [s]: standing first, then walking until the push; and what follows it
SERVOS = "servos"  # no controller: every joint holds its place


@dataclass(frozen=True)
class Push:
    """One push of one robot.

    direction [rad]: whereto, 0 ahead, counter-clockwise. impulse: per kg of the robot. phase: of the step, 0 to 1.
    """

    direction: float = param(doc="whereto, 0 ahead, counter-clockwise", unit="rad", low=-10, high=10)
    impulse: float = param(doc="of the push, for each kg of the robot", unit="N s/kg", low=0, high=10)
    seconds: float = param(0.1, "that it lasts", unit="s", low=0.005, high=5)
    speed: float = param(0.0, "at which the robot walks; 0: it stands", unit="m/s", low=-2, high=2)
    phase: float = param(0.0, "of the step in which it comes", low=0, high=1)
    seed: int = param(1, "of the robot", low=0, high=2**31)

    @property
    def at(self) -> float:
        """When it comes [s], apart from the phase."""
        return SETTLED if self.speed else 1.0


def survives(
    description: Description, robot: RobotConfig, gait: Gait | None, push: Push, frame: str, mass: float,
    world: World | None = None,
) -> bool:  # fmt: skip
    """Whether a robot still stands or walks some seconds after a push on a frame.

    gait: of the controller; None: only servos hold the robot, standing. mass [kg]: the robot's nominal one.
    """
    size = push.impulse * mass / push.seconds
    force = np.array([size * math.cos(push.direction), size * math.sin(push.direction), 0.0])
    if gait is None:
        return _servos_survive(description, robot, push, frame, force, world)
    at = push.at + (push.phase * gait.step_time if push.speed else 0.0)
    end = at + push.seconds + AFTER
    episode = Episode(description, robot, gait, EpisodeConfig(seed=push.seed, seconds=end), world)
    x, y, _ = force.tolist()
    pushes = (ScheduledPush(at, frame, (x, y, 0.0), push.seconds),)
    return episode.run(lambda t: (push.speed if t >= STAND else 0.0, 0.0, 0.0), pushes).upright


def _servos_survive(
    description: Description, robot: RobotConfig, push: Push, frame: str, force: Array, world: World | None
) -> bool:
    plant = Plant(description, robot, PlantConfig(seed=push.seed), world)
    base = plant.model.base_frame
    height = plant.frame_pose(base)[0][2] - min(plant.frame_pose(f.frame)[0][2] for f in robot.feet)
    plant.advance(500)
    plant.push(frame, force, push.seconds)
    for _ in range(round((push.seconds + AFTER) / 0.05)):
        plant.advance(50)
        position, rotation = plant.frame_pose(base)
        sole = min(plant.frame_pose(f.frame)[0][2] for f in robot.feet)
        if rotation[2, 2] < FALLEN_TILT or position[2] - sole < FALLEN_HEIGHT * height:
            return False
    return True


@dataclass(frozen=True)
class Design:
    """Which pushes: all combinations."""

    directions: int = 8
    impulses: tuple[float, ...] = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
    durations: tuple[float, ...] = (0.1,)
    speeds: tuple[float, ...] = (0.0, 0.5)
    phases: int = 4
    robots: int = 1
    first_seed: int = 1

    def pushes(self) -> Iterator[Push]:
        """All of them; a standing robot has no phase."""
        for speed in self.speeds:
            for phase in range(self.phases if speed else 1):
                for seconds in self.durations:
                    for impulse in self.impulses:
                        for k in range(self.directions):
                            for seed in range(self.robots):
                                yield Push(
                                    2.0 * math.pi * k / self.directions, impulse, seconds, speed,
                                    phase / self.phases if speed else 0.0, self.first_seed + seed,
                                )  # fmt: skip


def share(pushes: Sequence[Push], survived: Sequence[bool], **only: float) -> float:
    """Share of the pushes that were survived, of those with these properties; NaN when there are none."""
    chosen = [
        s for p, s in zip(pushes, survived, strict=True) if all(abs(getattr(p, k) - v) < 1e-9 for k, v in only.items())
    ]
    return float(np.mean(chosen)) if chosen else math.nan


def surely(pushes: Sequence[Push], survived: Sequence[bool], **only: float) -> float:
    """The largest impulse [N s/kg] up to which all were survived, of those with these properties."""
    best = 0.0
    for impulse in sorted({p.impulse for p in pushes}):
        if not share(pushes, survived, impulse=impulse, **only) >= 1.0:
            break
        best = impulse
    return best
