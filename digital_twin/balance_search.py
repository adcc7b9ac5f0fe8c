"""The search for the gains of the balance: CMA-ES over pushes of several standing robots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from digital_twin.core.config import build, to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.balance import SPACE, BalanceConfig, Sway, cost, sway
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.trial import decode, encode
from digital_twin.gait_search import pycma
from digital_twin.parallel import Workers
from digital_twin.robots import load_robot

SPREAD = 0.2  # standard deviation of the first generation, in the unit cube


class SwayTrials:
    """Called with (gait as plain data, (robot, direction)), tells how it sways. One for each process."""

    def __init__(self, robot_description: str, robot_config: str, config: BalanceConfig) -> None:
        self._robot, self._config = load_robot(robot_description, robot_config), config

    def __call__(self, job: tuple[dict[str, Any], tuple[int, float]]) -> Sway:
        plain, push = job
        r = self._robot
        try:
            return sway(r.description, r.config, build(Gait, plain, "gait"), self._config, push)
        except TwinError:  # it diverged
            return Sway(self._config.seconds, 1.0, 1.0, False)


@dataclass
class BalanceSearch:
    """A search as far as it has come: (cost, gait, sways) of the start and of the best."""

    start: Gait
    config: BalanceConfig
    first: tuple[float, list[Sway]] = (math.inf, [])
    best: tuple[float, Gait, list[Sway]] = field(default=(math.inf, Gait(), []))

    def run(self, workers: Workers) -> Iterator[int]:
        """Generation after generation; yields each one's number when it is done, 0 when the start is."""
        c = self.config
        (sways,) = self._try(workers, [self.start])
        self.first = cost(sways), sways
        self.best = cost(sways), self.start, sways
        yield 0
        options = {"bounds": [0.0, 1.0], "popsize": c.population, "seed": c.seed, "verbose": -9, "verb_log": 0}
        strategy = pycma().CMAEvolutionStrategy(encode(self.start, {}, SPACE), SPREAD, options)
        for generation in range(1, c.generations + 1):
            places = [np.asarray(x) for x in strategy.ask()]
            gaits = [decode(self.start, x, SPACE) for x in places]
            results = self._try(workers, gaits)
            costs = [cost(s) for s in results]
            strategy.tell(places, costs)
            for found in zip(costs, gaits, results, strict=True):
                self.best = min(self.best, found, key=lambda f: f[0])
            yield generation

    def _try(self, workers: Workers, gaits: Sequence[Gait]) -> list[list[Sway]]:
        pushes = self.config.pushes()
        results = workers.all([(to_plain(gait), push) for gait in gaits for push in pushes])
        return [results[i * len(pushes) : (i + 1) * len(pushes)] for i in range(len(gaits))]
