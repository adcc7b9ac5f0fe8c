"""Does the gate refuse what would end in a fall, and only that? Random velocities and gaits, standing and walking.

Each trial has a robot of its own of the series, which the gate does not know, and the whole loop: noisy sensors, the
synchronizer, the bridge's limits. What is asked for ranges far beyond what the gait allows, so that about a third falls. A
command ends in a fall when the robot falls within the gate's horizon.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from dataclasses import dataclass

import numpy as np

from benchmark.estimation_runs import progress
from benchmark.table import Row, main
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.episode import Episode, EpisodeConfig
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.gate import TwinGate, Verdict
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.gait.trial import SPACE, decode
from digital_twin.parallel import Workers
from digital_twin.robots import load_robot

STANDING, WALKING = 1.5, 4.0  # [s] before the command, of a robot that stands or walks
BEFORE = 0.3  # [m/s] at which it walks then
BOLD = dataclasses.replace(Gait(), max_forward=3.0, max_sideways=1.5, max_turn=3.0)
MOST = np.array([1.0, 0.35, 1.0])  # [m/s], [m/s], [rad/s] at scale 1
TOP_SCALE = 3.5
NEW_GAITS = 0.3  # share of the trials that try a gait


@dataclass(frozen=True)
class Trial:
    """What was asked, whether the robot fell and when [s], and what the gate said, in which time [s]."""

    what: str
    fell: float
    verdict: Verdict
    seconds: float


class Trials:
    """Called with a number, makes the trial of that number. One for each process."""

    def __init__(self, config: GateConfig) -> None:
        self._robot, self._config = load_robot(), config
        r = self._robot
        self._gate = TwinGate(r.model, r.config, r.joints, BOLD, config)

    def __call__(self, number: int) -> Trial:
        rng = np.random.default_rng([number, 17])
        r, horizon = self._robot, self._config.horizon
        gait, walking = BOLD, rng.uniform() < 0.5
        if rng.uniform() < NEW_GAITS:
            # Gaits are changed while the robot stands.
            gait, walking = decode(BOLD, rng.uniform(size=len(SPACE))), False
            velocity, what = (float(rng.uniform(0.2, 0.9)), 0.0, 0.0), "a gait"
        else:
            used = rng.permutation([True, rng.uniform() < 0.5, rng.uniform() < 0.3])
            drawn = rng.uniform(0.3, TOP_SCALE) * MOST * rng.uniform(-1.0, 1.0, 3) * used
            velocity, what = (float(drawn[0]), float(drawn[1]), float(drawn[2])), "a velocity"
        start = WALKING if walking else STANDING
        config = EpisodeConfig(seed=5000 + number, seconds=start + horizon)
        episode = Episode(r.description, r.config, gait, config)
        while episode.result.seconds < start and episode.result.upright:
            episode.advance((BEFORE if walking else 0.0, 0.0, 0.0))
        assert episode.state is not None
        began = time.perf_counter()
        self._gate.observe(episode.state)
        snapshot = episode.controller.snapshot() if gait is BOLD else None
        verdict = self._gate.try_velocity(episode.state, velocity, snapshot, gait)
        seconds = time.perf_counter() - began
        try:
            fell = episode.run(lambda _: velocity).fell - start
        except TwinError:
            fell = episode.result.seconds - start
        asked = "{:.2f} {:.2f} {:.2f}".format(*velocity)
        return Trial(f"{what} {asked}, {'walking' if walking else 'standing'}", fell, verdict, seconds)


def trials(count: int, config: GateConfig, processes: int, first: int) -> tuple[list[Trial], list[Trial]]:
    """As many trials that fell, and that did not, numbered from `first` on."""
    fell: list[Trial] = []
    stood: list[Trial] = []
    number = first
    with Workers(Trials, (config,), processes) as workers, progress() as bar:
        task = bar.add_task("trials", total=2 * count)
        while min(len(fell), len(stood)) < count:
            batch = list(range(number, number + 4 * workers.processes))
            number += len(batch)
            for t in workers.all(batch):
                (stood if math.isnan(t.fell) else fell).append(t)
            bar.update(task, completed=min(len(fell), count) + min(len(stood), count))
    return fell[:count], stood[:count]


def rows(fell: list[Trial], stood: list[Trial]) -> list[Row]:
    """The figures."""
    refused = sum(not t.verdict.passes for t in fell)
    wrongly = sum(not t.verdict.passes for t in stood)
    seconds = [t.seconds for t in (*fell, *stood)]
    out = [
        Row(f"refused, of {len(fell)} commands that end in a fall", refused, "", 0.95 * len(fell), at_least=True),
        Row(f"refused, of {len(stood)} that do not", wrongly, "", 0.05 * len(stood)),
        Row("a verdict, median", float(np.median(seconds)), "s"),
        Row("a verdict, 95 %", float(np.percentile(seconds, 95)), "s"),
    ]
    for t in fell:
        if t.verdict.passes:
            out.append(
                Row(f"  passed: {t.what}; {100 * t.verdict.chance:.0f} % fell in the twin; fell after", t.fell, "s")
            )
    for t in stood:
        if not t.verdict.passes:
            out.append(Row(f"  refused: {t.what}; first fall in the twin after", t.verdict.first, "s"))
    return out


def measure(a: argparse.Namespace) -> list[Row]:
    """Trials until there are enough of both kinds."""
    config = GateConfig(members=int(a.members), limit=a.limit)
    return rows(*trials(int(a.trials), config, int(a.processes), int(a.first)))


if __name__ == "__main__":
    main(
        "the gate", measure, ("trials", 100.0, "of each kind"), ("members", 16.0, "robots that try each command at most"),
        ("limit", 0.5, "chance from which on it is refused"), ("processes", 0.0, "0: one for each core"),
        ("first", 2000.0, "number of the first trial"),
    )  # fmt: skip
