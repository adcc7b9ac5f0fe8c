"""The search for a gait: CMA-ES (Hansen 2016, by the cma package) over batches of episodes with several robots.

With the same seed the search asks for the same episodes in the same order; those that are remembered cost nothing. So a
search that was broken off, run again, goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digital_twin.core.config import to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.trial import Outcome, Score, Task, decode, encode, score
from digital_twin.gait_runs import FIRST_SEED, seeds
from digital_twin.parallel import Workers
from digital_twin.robots import Robot

SPREAD = 0.15  # standard deviation of the first generation, in the unit cube
HELD_OUT = FIRST_SEED + 500  # robots that the search does not see


@dataclass(frozen=True)
class Candidate:
    """A gait that was tried, and its score."""

    gait: Gait
    score: Score
    total: float


@dataclass
class Search:
    """A search as far as it has come. tried: all candidates, the start first; remembered: episodes that were."""

    start: Gait
    task: Task
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    robots: int = 2
    population: int = 8
    seed: int = 1
    tried: list[Candidate] = field(default_factory=list)
    episodes: int = 0
    remembered: int = 0

    def run(self, workers: Workers, natural: dict[str, float]) -> Iterator[int]:
        """Generation after generation, for ever; yields each one's number when it is done, 0 when the start is.

        Raises:
            TwinError: the cma package is not there.
        """
        cma = pycma()
        self.tried += self.judge(workers, [self.start], list(seeds(self.robots)))
        yield 0
        options = {
            "bounds": [0.0, 1.0], "popsize": self.population, "seed": self.seed, "verbose": -9, "verb_log": 0,
            "tolfun": 0, "tolx": 1e-6, "maxiter": math.inf,
        }  # fmt: skip
        strategy = cma.CMAEvolutionStrategy(encode(self.start, natural), SPREAD, options)
        generation = 0
        while not strategy.stop():
            generation += 1
            places = [np.asarray(x) for x in strategy.ask()]
            found = self.judge(workers, [decode(self.start, x) for x in places], list(seeds(self.robots)))
            strategy.tell(places, [c.total for c in found])
            self.tried += found
            yield generation

    def judge(self, workers: Workers, gaits: Sequence[Gait], robots: Sequence[int]) -> list[Candidate]:
        """Try each gait with each robot."""
        jobs = [(to_plain(gait), seed) for gait in gaits for seed in robots]
        results: list[tuple[Outcome, bool]] = workers.all(jobs)
        self.episodes += len(results)
        self.remembered += sum(known for _, known in results)
        found = []
        for i, gait in enumerate(gaits):
            outcomes = [o for o, _ in results[i * len(robots) : (i + 1) * len(robots)]]
            s = score(outcomes, self.task)
            found.append(Candidate(gait, s, s.total(self.weights)))
        return found

    def best(self, count: int = 1) -> list[Candidate]:
        """The best so far, each gait once."""
        unique: dict[str, Candidate] = {}
        for c in sorted(self.tried, key=lambda c: c.total):
            unique.setdefault(repr(c.gait), c)
        return list(unique.values())[:count]

    def decide(self, workers: Workers, finalists: int = 3, robots: int = 8) -> tuple[Candidate, Candidate]:
        """The best of some finalists by robots that the search has not seen, and the start by the same robots."""
        gaits = [self.start, *(c.gait for c in self.best(finalists) if c.gait != self.start)]
        judged = self.judge(workers, gaits, list(seeds(robots, HELD_OUT)))
        return min(judged, key=lambda c: c.total), judged[0]


def natural_values(robot: Robot) -> dict[str, float]:
    """What a gait's zeros stand for: the stance width of the stand."""
    feet = [f.frame for f in robot.config.feet]
    if len(feet) != 2:
        raise TwinError(f"a robot walks on two feet; this one's config has {len(feet)}")
    k = robot.model.kinematics(feet)
    k.update(robot.joints.stand)
    return {"stance_width": float(abs(k.position[0, 1] - k.position[1, 1]))}


def pycma() -> Any:
    """The cma package. Raises TwinError when it is not there."""
    try:
        import cma
    except ImportError as e:
        raise TwinError("this needs pycma: pip install cma") from e
    return cma
