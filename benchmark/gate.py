"""Does the gate refuse what would end in a fall, and only that? Random velocities and gaits, standing and walking.

Each trial has a robot of its own of the series, which the gate does not know, and the whole loop: noisy sensors, the
synchronizer, the bridge's limits. What is asked for ranges far beyond what the gait allows, so that about a third falls.

Near the limit of what a robot can do it is luck whether it falls: from the same state, by the same command, with other
sensor noise to come. So each is tried several times. It would have ended in a fall when it did in all of them, and would not
when it did in none; what is luck, no verdict can be right about: it is counted apart, and what comes out when most of the
tries decide, luck included, is printed beside.
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
    """What was asked, when the robot fell in each of its tries [s] (NaN: it did not), what the gate said, in which time [s]."""

    what: str
    fell: tuple[float, ...]
    verdict: Verdict
    seconds: float

    @property
    def falls(self) -> int:
        """In how many of its tries it fell."""
        return sum(map(math.isfinite, self.fell))

    @property
    def luck(self) -> bool:
        """Whether it fell in some of them only."""
        return 0 < self.falls < len(self.fell)

    @property
    def mostly_falls(self) -> bool:
        """Whether it fell in most of them."""
        return 2 * self.falls > len(self.fell)


class Trials:
    """Called with a number, makes the trial of that number. One for each process."""

    def __init__(self, config: GateConfig, tries: int) -> None:
        self._robot, self._config, self._tries = load_robot(), config, tries
        r = self._robot
        self._gate = TwinGate(r.model, r.config, r.joints, BOLD, config)

    def __call__(self, number: int) -> Trial:
        rng = np.random.default_rng([number, 17])
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
        episode = self._begin(number, gait, start, walking)
        assert episode.state is not None
        began = time.perf_counter()
        self._gate.observe(episode.state)
        snapshot = episode.controller.snapshot() if gait is BOLD else None
        verdict = self._gate.try_velocity(episode.state, velocity, snapshot, gait)
        seconds = time.perf_counter() - began
        fell = [_falls(episode, velocity) - start]
        for other in range(1, self._tries):
            episode = self._begin(number, gait, start, walking)
            episode.instruments.new_noise(other)
            fell.append(_falls(episode, velocity) - start)
        asked = "{:.2f} {:.2f} {:.2f}".format(*velocity)
        return Trial(f"{what} {asked}, {'walking' if walking else 'standing'}", tuple(fell), verdict, seconds)

    def _begin(self, number: int, gait: Gait, start: float, walking: bool) -> Episode:
        """The robot of that number at the moment of the command."""
        r, config = self._robot, EpisodeConfig(seed=5000 + number, seconds=start + self._config.horizon)
        episode = Episode(r.description, r.config, gait, config)
        while episode.result.seconds < start and episode.result.upright:
            episode.advance((BEFORE if walking else 0.0, 0.0, 0.0))
            if episode.state is not None:
                self._gate.observe(episode.state)
        return episode


def _falls(episode: Episode, velocity: tuple[float, float, float]) -> float:
    """When it falls by that velocity [s], NaN if it does not."""
    try:
        return episode.run(lambda _: velocity).fell
    except TwinError:
        return episode.result.seconds


def trials(count: int, tries: int, config: GateConfig, processes: int, first: int) -> list[Trial]:
    """Commands numbered from `first` on, each tried so often, until so many surely end in a fall and so many surely do not."""
    out: list[Trial] = []
    number = first
    with Workers(Trials, (config, tries), processes) as workers, progress() as bar:
        task = bar.add_task("trials", total=2 * count)
        done = [0, 0]
        while min(done) < count:
            batch = list(range(number, number + 4 * workers.processes))
            number += len(batch)
            out += workers.all(batch)
            done = [sum(not t.luck and t.mostly_falls is falls for t in out) for falls in (False, True)]
            bar.update(task, completed=sum(min(n, count) for n in done))
    return out


def rows(both: list[Trial], count: int) -> list[Row]:
    """The figures, `count` of each kind."""
    sure = [t for t in both if not t.luck]
    fell, stood = ([t for t in sure if t.mostly_falls is falls][:count] for falls in (True, False))
    seconds = [t.seconds for t in both]
    out = [
        Row(
            f"refused, of {len(fell)} commands that end in a fall", _refused(fell), "", 0.95 * len(fell), at_least=True
        ),
        Row(f"refused, of {len(stood)} that do not", _refused(stood), "", 0.05 * len(stood)),
        *_luck(both),
        Row("a verdict, median", float(np.median(seconds)), "s"),
        Row("a verdict, 95 %", float(np.percentile(seconds, 95)), "s"),
    ]
    for t in fell:
        if t.verdict.passes:
            out.append(Row(f"  passed: {t.what}; {100 * t.verdict.chance:.0f} % fell in the twin", t.falls, ""))
    for t in stood:
        if not t.verdict.passes:
            said = f"first fall in the twin after {t.verdict.first:.1f} s"
            out.append(Row(f"  refused: {t.what}; {said}", t.falls, ""))
    return out


def _refused(some: list[Trial]) -> int:
    return sum(not t.verdict.passes for t in some)


def _luck(both: list[Trial]) -> list[Row]:
    """How much of a fall is luck, and what is refused when most tries decide."""
    tries = len(both[0].fell)
    if tries < 2:
        return []
    lucky = [t for t in both if t.luck]
    mostly, seldom = ([t for t in both if t.mostly_falls is falls] for falls in (True, False))
    # Ordered pairs of different tries of one robot: both fell, and the first did not but the second did.
    again = sum(t.falls * (t.falls - 1) for t in both)
    only = sum(t.falls * (tries - t.falls) for t in both)
    stood = sum((tries - t.falls) * (tries - 1) for t in both)
    return [
        Row(f"refused, of {len(lucky)} whose end is luck, of {len(both)} in all", _refused(lucky), ""),
        Row(f"refused, of {len(mostly)} where most tries fall", 100.0 * _refused(mostly) / max(len(mostly), 1), "%"),
        Row(f"refused, of {len(seldom)} where most do not", 100.0 * _refused(seldom) / max(len(seldom), 1), "%"),
        Row("a robot that fell once falls again from the same state", 100.0 * again / max(again + only, 1), "%"),
        Row("one that did not falls another time", 100.0 * only / max(stood, 1), "%"),
    ]


def measure(a: argparse.Namespace) -> list[Row]:
    """Trials until there are enough of both kinds."""
    if int(a.tries) % 2 == 0:
        raise SystemExit(f"gate: --tries {a.tries:g}: an odd number, so that most are for something")
    config = GateConfig(members=int(a.members), limit=a.limit)
    count = int(a.trials)
    return rows(trials(count, int(a.tries), config, int(a.processes), int(a.first)), count)


if __name__ == "__main__":
    main(
        "the gate", measure, ("trials", 100.0, "of each kind"), ("tries", 3.0, "of each, an odd number"),
        ("members", 16.0, "robots that try each command at most"), ("limit", 0.5, "chance from which on it is refused"),
        ("processes", 0.0, "0: one for each core"), ("first", 2000.0, "number of the first trial"),
    )  # fmt: skip
