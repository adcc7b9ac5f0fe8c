"""One gait tried by one robot on one task, and what a gait is worth: how surely, how cheaply, how exactly it walks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import build, param, to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.episode import GRAVITY, Episode
from digital_twin.core.gait.gait_config import Gait

TILT = math.radians(5.0)  # of the body, rms, that counts as much as a fall half way
RECOVERING = 0.5  # share of the time in recovery steps that does


@dataclass(frozen=True)
class Task:
    """What is to be walked."""

    speed: float = param(0.5, "ahead", unit="m/s", low=-3, high=3)
    terrain: str = param("flat", "world of the package, or path of one")
    seconds: float = param(8.0, "of an episode", unit="s", low=1, high=1000)
    stand: float = param(0.5, "before it is told to walk", unit="s", low=0, high=10)
    start: float = param(2.0, "after which it is measured", unit="s", low=0, high=100)


@dataclass(frozen=True)
class Outcome:
    """Of one episode. upright: share of the time before a fall. speed [m/s] ahead, tilt [rad] rms of the base, and
    transport, the mechanical cost of transport, while walking; recovering: share of the time in recovery.
    """

    upright: float
    speed: float
    transport: float
    tilt: float
    recovering: float


def run_trial(episode: Episode, task: Task) -> Outcome:
    """Let an episode walk."""
    p, base = episode.plant, episode.model.base_frame
    r, c = episode.result, episode.config
    began = (math.nan, np.zeros(3), 0.0)
    tilts: list[float] = []
    while r.seconds < c.seconds and r.upright:
        episode.advance((task.speed if r.seconds >= task.stand else 0.0, 0.0, 0.0))
        position, rotation = p.frame_pose(base)
        if r.seconds >= task.start:
            if math.isnan(began[0]):
                began = (r.seconds, position, r.energy)
            tilts.append(math.acos(min(1.0, float(rotation[2, 2]))))
    upright = 1.0 if r.upright else r.fell / c.seconds
    way = r.seconds - began[0]
    if math.isnan(way) or way <= 0.0:
        return Outcome(upright, 0.0, math.inf, math.pi / 4, 1.0)
    # The robot starts along x; what it walks sideways is no way ahead.
    distance = float(position[0] - began[1][0]) * (1.0 if task.speed >= 0 else -1.0)
    weight = float(p.mj.body_mass.sum()) * GRAVITY
    transport = (r.energy - began[2]) / (weight * distance) if distance > 0.05 else math.inf
    recovering = r.phases.get("recover", 0.0) / r.seconds
    return Outcome(upright, distance / way, transport, float(np.sqrt(np.mean(np.square(tilts)))), recovering)


@dataclass(frozen=True)
class Score:
    """Of a gait over several robots; the less the better. stability: 0 always upright and calm, 1 per fall at once.

    energy: cost of transport. accuracy: error of the speed as a share of it. falls: share of the episodes.
    """

    stability: float
    energy: float
    accuracy: float
    falls: float

    def total(self, weights: tuple[float, float, float]) -> float:
        """One number by the weights of stability, energy and accuracy."""
        return weights[0] * self.stability + weights[1] * self.energy + weights[2] * self.accuracy


MOST_TRANSPORT = 5.0  # what counts for a robot that did not get anywhere


def score(outcomes: Sequence[Outcome], task: Task) -> Score:
    """What a gait is worth by its episodes."""
    falls = [1.0 - o.upright + (0.5 if o.upright < 1.0 else 0.0) for o in outcomes]
    restless = [0.5 * min(o.tilt / TILT, 2.0) + 0.5 * min(o.recovering / RECOVERING, 2.0) for o in outcomes]
    wanted = max(abs(task.speed), 0.05)
    return Score(
        float(np.mean(falls) + 0.5 * np.mean(restless)),
        float(np.mean([min(o.transport, MOST_TRANSPORT) for o in outcomes])),
        float(np.mean([min(abs(o.speed - abs(task.speed)) / wanted, 1.0) for o in outcomes])),
        float(np.mean([o.upright < 1.0 for o in outcomes])),
    )


# What is searched: from where to where. Speeds, limits and timeouts are the user's.
SPACE: dict[str, tuple[float, float]] = {
    "step_time": (0.35, 0.8),
    "double_support": (0.1, 0.4),
    "step_height": (0.02, 0.1),
    "stance_width": (0.14, 0.26),
    "crouch": (0.0, 0.08),
    "sway": (-0.03, 0.04),
    "lean": (-0.03, 0.04),
    "arm_swing": (0.0, 1.2),
    "gains.dcm": (1.5, 8.0),
    "gains.servo": (0.05, 0.8),
    "gains.torso": (6.0, 20.0),
    "gains.swing": (12.0, 40.0),
}


def encode(gait: Gait, natural: Mapping[str, float], space: Mapping[str, tuple[float, float]] = SPACE) -> Array:
    """A gait's place in the unit cube of the search; `natural` says what a value of 0 ("by itself") stands for."""
    values = []
    for name, (low, high) in space.items():
        value = _get(gait, name)
        value = natural.get(name, value) if value == 0.0 else value
        values.append((value - low) / (high - low))
    return np.asarray(np.clip(np.array(values), 0.0, 1.0))


def decode(gait: Gait, x: Array, space: Mapping[str, tuple[float, float]] = SPACE) -> Gait:
    """The gait at a place in the unit cube; what is not searched is that of `gait`. Rounded, for people to read."""
    plain = to_plain(gait)
    for value, (name, (low, high)) in zip(np.clip(x, 0.0, 1.0), space.items(), strict=True):
        *path, last = name.split(".")
        place: Any = plain
        for part in path:
            place = place[part]
        place[last] = round(low + float(value) * (high - low), 5)
    return build(Gait, plain, "gait")


def _get(gait: Gait, name: str) -> float:
    value: Any = gait
    for part in name.split("."):
        if part not in {f.name for f in dataclasses.fields(value)}:
            raise TwinError(f"a gait has no '{name}'")
        value = getattr(value, part)
    return float(value)


def front(scores: Sequence[Score]) -> list[int]:
    """Those that no other beats in stability, energy and accuracy at once (Pareto), among those that never fall."""
    rows = np.array([[s.stability, s.energy, s.accuracy] for s in scores]).reshape(-1, 3)
    standing = [i for i, s in enumerate(scores) if s.falls == 0.0]
    best = []
    for i in standing:
        beaten = any(np.all(rows[j] <= rows[i]) and np.any(rows[j] < rows[i]) for j in standing)
        if not beaten:
            best.append(i)
    return best
