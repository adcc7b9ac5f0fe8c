"""Are falls announced in time, and only falls? Pushes that topple, motors that fade or die; and what the robot survives.

The robot stands; each trial has a robot of its own of the series, another than the model. An announcement is what the
node would make: forecasts at 10 Hz, an ensemble twice a second and whenever in doubt.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.estimation_runs import progress
from benchmark.prediction_data import Rehearsal, predictor, standing
from benchmark.table import Row, main
from digital_twin.core.arrays import Array
from digital_twin.core.errors import TwinError
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.prediction import Prediction, State
from digital_twin.robots import Robot, load_robot

TILT = math.radians(30.0)
EVERY, ENSEMBLE = 20, 100  # ticks between forecasts, and between ensembles when nothing is in doubt
PUSH_TIME = 0.1  # [s]
LONGEST = 5.0  # [s] after the disturbance began
LEGS = ("knee", "ankle", "hip_pitch", "hip_roll")
Disturbance = Callable[[float, Plant], None]


@dataclass(frozen=True)
class Trial:
    """What was done, when the base had tilted 30° [s] (inf: never), and when a fall was announced (inf: never)."""

    what: str
    fell: float
    announced: float


def topples(robot: Robot, seed: int, angle: float, force: float) -> bool:
    """Whether a push on the torso [N] in a direction [rad] makes a robot of the series fall."""
    plant = Plant(robot.description, robot.config, PlantConfig(seed=seed))
    plant.advance(200)
    plant.push("torso", force * np.array([math.cos(angle), math.sin(angle), 0.0]), PUSH_TIME)
    for _ in range(round(LONGEST / 0.05)):
        plant.advance(50)
        if plant.frame_pose(robot.model.base_frame)[1][2, 2] < math.cos(TILT):
            return True
    return False


def least_push(robot: Robot, seed: int, angle: float) -> float:
    """The push [N] that just topples it, to 5 N."""
    low, high = 20.0, 1000.0
    while high - low > 5.0:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if topples(robot, seed, angle, middle) else (middle, high)
    return high


def disturbance(
    robot: Robot, rng: np.random.Generator, seed: int, start: float, fatal: bool
) -> tuple[str, Disturbance]:
    """One of the three kinds, to make the robot fall or, mostly, not to."""
    kind = rng.choice(["push", "fade", "dead"], p=[0.6, 0.2, 0.2])
    state = {"done": False}
    if kind == "push":
        angle = rng.uniform(0.0, 2 * np.pi)
        share = rng.uniform(1.0, 1.5) if fatal else rng.uniform(0.3, 0.95)
        force = share * least_push(robot, seed, angle) * np.array([math.cos(angle), math.sin(angle), 0.0])

        def push(t: float, plant: Plant) -> None:
            if t >= start and not state["done"]:
                plant.push("torso", force, PUSH_TIME)
                state["done"] = True

        return f"push of {share:.2f} times the least that topples", push
    legs = [j for j in robot.model.joint_names if any(part in j for part in LEGS)]
    joint = str(rng.choice(legs if fatal else [j for j in robot.model.joint_names if j not in legs]))
    span = rng.uniform(0.5, 2.0) if kind == "fade" else 1e-3

    def weaken(t: float, plant: Plant) -> None:
        if t >= start:
            plant.set_motor_strength(joint, max(0.0, 1.0 - (t - start) / span))

    return f"{joint} {'fades' if kind == 'fade' else 'dies'}", weaken


def trial(robot: Robot, prediction: Prediction, i: int, fatal: bool) -> Trial:
    """One trial."""
    rng = np.random.default_rng([i, fatal])
    seed, start = int(rng.integers(1, 50)), rng.uniform(1.5, 2.5)
    what, disturb = disturbance(robot, rng, seed, start, fatal)
    rehearsal = Rehearsal(robot, seed, standing(robot), announce=False)
    prediction.forget()
    announced = math.inf
    for k, tick in enumerate(rehearsal.run(start + LONGEST, disturb)):
        if tick.tilt > TILT:
            return Trial(what, tick.t, announced)
        if k % EVERY or tick.t < start - 0.6 or announced < math.inf:
            continue
        if _announces(prediction, rehearsal, tick.state, k % ENSEMBLE == 0):
            announced = tick.t
    return Trial(what, math.inf, announced)


def _announces(prediction: Prediction, rehearsal: Rehearsal, s: State, regular: bool) -> bool:
    """Whether a fall is announced from this state, by what the node would do."""
    prediction.observe(s)
    try:
        f = prediction.forecast(s, rehearsal.plan)
        prediction.look_at_balance(f, s)
        if not (regular or prediction.in_doubt(f, s)):
            return False
        return prediction.fall(prediction.spread(s, rehearsal.plan), s) is not None
    except TwinError:
        return False


def trials(robot: Robot, count: int, fell: bool, name: str) -> list[Trial]:
    """As many trials that ended in a fall, or did not."""
    prediction, found, i = predictor(robot), [], 0
    with progress() as bar:
        task = bar.add_task(name, total=count)
        while len(found) < count:
            t = trial(robot, prediction, i, fell)
            i += 1
            if (t.fell < math.inf) == fell:
                found.append(t)
                bar.advance(task)
    return found


def measure(a: argparse.Namespace) -> list[Row]:
    """Falls, then what is survived."""
    robot = load_robot()
    falls = trials(robot, int(a.trials), True, "falls")
    lead = np.array([t.fell - t.announced for t in falls])
    if a.plot:
        _plot(lead, Path(a.plot))
    rows = [
        Row(f"falls announced 0.3 s before 30°, of {len(falls)}", float((lead >= 0.3).sum()), "", 0.95 * len(falls), at_least=True),
        Row("lead, median", float(np.median(lead)), "s", 0.6, at_least=True),
        Row("lead, least tenth", float(np.percentile(lead, 10)), "s"),
    ]  # fmt: skip
    survived = trials(robot, int(a.trials), False, "survived")
    false = [t for t in survived if t.announced < math.inf]
    rows.append(Row(f"false alarms, of {len(survived)} survived", len(false), "", 0.02 * len(survived)))
    for t in sorted(falls, key=lambda t: t.fell - t.announced)[:5]:
        rows.append(Row(f"  latest: {t.what}", t.fell - t.announced, "s"))
    rows += [Row(f"  false: {t.what}", math.nan, "s") for t in false]
    return rows


def _plot(lead: Array, folder: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4))
    axis.hist(lead[np.isfinite(lead)], bins=np.arange(0.0, 2.01, 0.05))
    axis.axvline(0.3, linestyle="--")
    axis.set_xlabel("announced so long [s] before the base has tilted 30°")
    axis.set_ylabel("falls")
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "prediction_falls.png")


if __name__ == "__main__":
    main("falls ahead", measure, ("trials", 100.0, "of each kind"), ("plot", "", "folder for a plot; empty: none"))
