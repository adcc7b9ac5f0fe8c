"""How good forecasts are on the simulated robot: squatting, swaying, being pushed; and whether their intervals hold.

Errors are against what the synchronizer later says, as the node scores itself; robot and model differ by a seed that
the model is never told.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmark.estimation_runs import progress
from benchmark.prediction_data import Rehearsal, predictor, sways_and_squats
from benchmark.table import Row, main
from digital_twin.core.plant import Plant
from digital_twin.core.prediction import deviations
from digital_twin.core.skill import GROUPS, HORIZONS, OUTCOMES, Score, SkillBook
from digital_twin.robots import Robot, load_robot

EVERY, ENSEMBLE = 20, 5  # ticks between forecasts, forecasts between ensembles
PUSH, PUSH_TIME, PAUSE = (10.0, 25.0), 0.2, (2.0, 4.0)  # [N], [s], [s]
WARM_UP = 10.0  # [s] before which nothing counts


class Pushes:
    """Pushes of random size and direction, at random times."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 7])
        self._next = 3.0

    def __call__(self, t: float, plant: Plant) -> None:
        if t >= self._next:
            angle, size = self._rng.uniform(0, 2 * np.pi), self._rng.uniform(*PUSH)
            plant.push("torso", size * np.array([np.cos(angle), np.sin(angle), 0.0]), PUSH_TIME)
            self._next += self._rng.uniform(*PAUSE)


def scores(robot: Robot, seed: int, seconds: float) -> tuple[dict[tuple[str, float], Score], list[dict[str, float]]]:
    """Of one robot of the series at the end of a run, and how they came to be."""
    prediction, book = predictor(robot), SkillBook(robot.model.n)
    rehearsal = Rehearsal(robot, seed, sways_and_squats(robot, seed))
    deviation, history = None, []
    for i, tick in enumerate(rehearsal.run(seconds, Pushes(seed))):
        s = tick.state
        book.outcome(s.stamp_ns, s.q, s.base)
        if i % EVERY:
            continue
        prediction.observe(s)
        if i % (EVERY * ENSEMBLE) == 0:
            spread = prediction.spread(s, rehearsal.plan)
            deviation = deviations(spread, np.arange(1, len(spread.times) + 1) * 0.02)
        book.open(prediction.forecast(s, rehearsal.plan), s.q, s.qd, s.base, deviation)
        if i % (EVERY * 10) == 0:
            history.append({"t": tick.t} | book.values())
    found = {(g, h): book.score(h, g) for g in GROUPS for h in HORIZONS}
    return {key: score for key, score in found.items() if score is not None}, history


def measure(a: argparse.Namespace) -> list[Row]:
    """Root mean squares over the seeds."""
    robot = load_robot()
    every: dict[tuple[str, float], list[Score]] = defaultdict(list)
    histories = []
    with progress() as bar:
        for seed in bar.track(range(1, int(a.seeds) + 1), description="forecasts"):
            one, history = scores(robot, seed, WARM_UP + OUTCOMES * EVERY / 200.0)
            histories.append(history)
            for key, score in one.items():
                every[key].append(score)
    if a.plot:
        _plot(histories, Path(a.plot))
    rows = []
    for group in GROUPS:
        for h in (0.1, 0.5, 1.0):
            rows += _errors(group, h, every[group, h])
        held = {h: 100.0 * float(np.mean([s.coverage for s in every[group, h]])) for h in HORIZONS}
        worst = max(held, key=lambda h: abs(held[h] - 90.0))
        rows.append(Row(f"{group}: inside the 90 % intervals, worst of six horizons", held[worst], "%"))
        rows.append(Row(f"{group}: that is off by", abs(held[worst] - 90.0), "%", 5.0))
    return rows


def _errors(group: str, h: float, of: list[Score]) -> list[Row]:
    rmse, still, going = (
        1e3 * float(np.sqrt(np.mean([getattr(s, k) ** 2 for s in of]))) for k in ("rmse", "persistence", "velocity")
    )
    unit = "mm" if group == "position" else "mrad"
    at = f"{group}, {1000 * h:.0f} ms ahead, RMSE"
    limit = {0.1: 0.25 if group == "joints" else 1 / 3, 0.5: 1.0}.get(h)
    return [
        Row(at, rmse, unit, limit, still, "persistence"),
        Row(at, rmse, unit, 1.0 if h == 0.5 else None, going, "constant velocity"),
    ]


def _plot(histories: list[list[dict[str, float]]], folder: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(GROUPS), 2, figsize=(12, 9), sharex=True)
    for row, group in zip(axes, GROUPS, strict=True):
        for h in (0.1, 0.5):
            for history in histories:
                t = [x["t"] for x in history]
                at = f"@{1000 * h:.0f}ms"
                row[0].plot(t, [x.get(f"{group}_skill_persistence{at}", np.nan) for x in history], label=at)
                row[1].plot(t, [x.get(f"{group}_coverage{at}", np.nan) for x in history], label=at)
        row[0].set_ylabel(f"{group}: skill against persistence")
        row[1].axhspan(0.85, 0.95, alpha=0.2)
        row[1].set_ylabel("90 % intervals hold")
    for axis in axes.flat:
        axis.grid(visible=True)
    axes[0, 0].legend()
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "prediction_skill.png")


if __name__ == "__main__":
    main("forecasts", measure, ("seeds", 5.0, "robots of the series"), ("plot", "", "folder for a plot; empty: none"))
