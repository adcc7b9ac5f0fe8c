"""Is an identified model better, and how soon: one calibration of a minute, and 2 kg in a hand, over robots of the series.

Forecasts are the package's own, from the synchronizer's states, judged by what the synchronizer later says, on motions
that identification has not seen. Robot and model differ by a seed that identification is never told.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np

from benchmark.estimation_runs import progress
from benchmark.prediction_data import Rehearsal, sways_and_squats
from benchmark.table import Row, main
from digital_twin.core.arrays import Array
from digital_twin.core.drift.holdout import Trials
from digital_twin.core.drift.identification import identify
from digital_twin.core.drift.inertia import phi_of_body
from digital_twin.core.drift.model_version import ModelVersion, nominal
from digital_twin.core.drift.parameters import Changes, JointChange, body_change
from digital_twin.core.drift.trial import Motion, Trial
from digital_twin.core.drift.update import candidate, propose
from digital_twin.core.drift.update_config import HoldoutConfig, UpdateConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.plant_model import PlantConfig, build_plant
from digital_twin.core.prediction import Prediction
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig, ForesightConfig
from digital_twin.core.script import Script, load_script
from digital_twin.core.skill import GROUPS, SkillBook
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot, with_version

CALIBRATION = 60.0  # [s]
PROOF, WARM_UP, EVERY = 30.0, 5.0, 20  # [s], [s], ticks between forecasts
FRAME, PAYLOAD, GATHER = "l_gripper", 2.0, 4.0  # where, [kg], [s] of data after it is hung there
DELAY = ForecastConfig().command_delay


def script(robot: Robot, name: str) -> Motion:
    """One of the package's motions."""
    return Script(load_script(find(name, "config/scripts")), robot.model, robot.joints.stand, name).sample


def calibrated(robot: Robot, seed: int, found: dict[str, list[float]]) -> ModelVersion:
    """The version after a calibration run."""
    trial = Trial(robot.description, robot.config, script(robot, "calibration.yaml"), PlantConfig(seed=seed))
    w = trial.run(CALIBRATION)
    begin = time.process_time()
    out = propose(w, robot.description, robot.config, nominal(robot.description), {}, UpdateConfig(), 1)
    found["CPU of a calibration"].append(time.process_time() - begin)
    found["calibrations adopted"].append(float(out.adopt))
    assert out.version is not None, out.words
    coverage(robot, seed, w, found)
    return out.version


def coverage(robot: Robot, seed: int, w: Window, found: dict[str, list[float]]) -> None:
    """How many of the intervals of masses and friction hold the truth."""
    real = build_plant(robot.model, robot.config, robot.joints, PlantConfig(seed=seed), None)
    estimates = identify(w, robot.description, robot.config, nominal(robot.description).changes, DELAY).estimates
    for name, e in estimates.items():
        kind, _, of = name.partition(" of ")
        if kind == "mass":
            true = real.body(of).mass[0]
        elif kind in ("damping", "friction"):
            true = getattr(real, {"damping": "dof_damping", "friction": "dof_frictionloss"}[kind])[
                real.joint(of).dofadr[0]
            ]
        else:
            continue
        found["intervals that hold"].append(float(e.interval[0] <= true <= e.interval[1]))


def truth(robot: Robot, seed: int, zeros: Array) -> ModelVersion:
    """The version that a flawless identification would find; `zeros` [rad] (n,) of the encoders."""
    real = build_plant(robot.model, robot.config, robot.joints, PlantConfig(seed=seed), None)
    alike = build_plant(robot.model, robot.config, robot.joints, PlantConfig(seed=seed, strength_spread=0.0), None)
    strength = real.actuator_biasprm[:, 1] / alike.actuator_biasprm[:, 1]
    names = [robot.model.mj.body(i).name for i in range(1, robot.model.mj.nbody)]
    bodies = {name: body_change(phi_of_body(real, real.body(name).id)) for name in names}
    joints = {}
    for k, name in enumerate(robot.model.joint_names):
        d = real.joint(name).dofadr[0]
        passive = (float(x[d]) for x in (real.dof_damping, real.dof_frictionloss, real.dof_armature))
        joints[name] = JointChange(*passive, float(strength[k]), float(zeros[k]))
    changes = Changes(bodies, joints, delay=PlantConfig().motor_delay)
    return replace(nominal(robot.description), reason="the truth", changes=changes)


def forecast_errors(robot: Robot, version: ModelVersion, seed: int, found: dict[str, list[float]]) -> None:
    """Errors 200 ms ahead with the model as brought, with the new one, and with the true one, on the same states."""
    config = ForecastConfig(horizon=0.22)
    rehearsal = Rehearsal(robot, seed, sways_and_squats(robot, seed + 1000))
    true = truth(robot, seed, rehearsal.instruments.encoder_offset)
    models = {"before": robot, "after": with_version(robot, version), "true": with_version(robot, true)}
    predictions = {
        k: Prediction(r.model, r.config, r.joints, config, EnsembleConfig(), ForesightConfig())
        for k, r in models.items()
    }
    books = {k: SkillBook(robot.model.n) for k in models}
    for i, tick in enumerate(rehearsal.run(PROOF)):
        s = tick.state
        for k, book in books.items():
            book.outcome(s.stamp_ns, s.q, s.base)
            if i % EVERY == 0 and tick.t > WARM_UP / 2:
                predictions[k].observe(s)
            if i % EVERY == 0 and tick.t > WARM_UP:
                book.open(predictions[k].forecast(s, rehearsal.plan), s.q, s.qd, s.base)
    for group in GROUPS:
        for k, book in books.items():
            score = book.score(0.2, group)
            assert score is not None
            found[f"{group} {k}"].append(score.rmse)


def payload(robot: Robot, version: ModelVersion, seed: int, found: dict[str, list[float]]) -> None:
    """Hung, identified, judged; taken away, identified, judged."""
    settings = UpdateConfig()
    trial = Trial(robot.description, robot.config, script(robot, "squats.yaml"), PlantConfig(seed=seed))
    trial.run(3.0)
    skill = {"before": _skill(robot, version, trial.run(6.0))}
    trial.plant.set_payload(FRAME, PAYLOAD)
    trial.run(1.0)
    out = propose(trial.run(GATHER), robot.description, robot.config, version, {"payload": FRAME}, settings, 2)
    found["payloads adopted"].append(float(out.adopt))
    if out.version is None or FRAME not in out.version.changes.payloads:
        return
    found["payload error"].append(abs(out.version.changes.payloads[FRAME].mass / PAYLOAD - 1.0))
    trial.run(1.0)  # the same phase of the squats as before
    loaded = trial.run(6.0)
    skill |= {"after": _skill(robot, out.version, loaded), "without": _skill(robot, version, loaded)}
    for k, value in skill.items():
        found[f"skill {k}"].append(value)
    trial.plant.set_payload(FRAME, 0.0)
    trial.run(1.0)
    w = trial.run(GATHER)
    begin = time.process_time()
    gone = propose(w, robot.description, robot.config, out.version, {"payload": FRAME}, settings, 3)
    found["CPU of a payload"].append(time.process_time() - begin)
    found["removals adopted"].append(
        float(gone.adopt and gone.version is not None and not gone.version.changes.payloads)
    )


def _skill(robot: Robot, version: ModelVersion, w: Window) -> float:
    """Of joints 500 ms ahead against persistence: 1 − RMSE / RMSE."""
    h = HoldoutConfig(horizon=0.5, spacing=0.1)
    c = candidate(version, robot.description, robot.config, UpdateConfig())
    trials = Trials(w, h, feeds_speed=True, feet=2, weight=9.81 * robot.model.mass)
    ours = trials.errors(c)[:, :-6]
    still = trials.window.q[trials.starts] - trials.window.q[trials.ends]
    return 1.0 - float(np.sqrt((ours**2).mean() / (still**2).mean()))


def measure(a: argparse.Namespace) -> list[Row]:
    """Over the seeds."""
    robot = load_robot()
    found: dict[str, list[float]] = defaultdict(list)
    with progress() as bar:
        for seed in bar.track(range(1, int(a.seeds) + 1), description="robots"):
            version = calibrated(robot, seed, found)
            forecast_errors(robot, version, seed, found)
            payload(robot, replace(version), seed, found)
            if a.log:
                with open(a.log, "a") as f:
                    print(seed, {k: float(np.mean(v[-1:])) for k, v in found.items()}, file=f)
    return rows(found)


def rows(found: dict[str, list[float]]) -> list[Row]:
    """The table."""

    def mean(name: str) -> float:
        return float(np.mean(found[name]))

    def rms(name: str) -> float:
        return float(np.sqrt(np.mean(np.square(found[name]))))

    out = []
    for group in GROUPS:
        unit = "mm" if group == "position" else "mrad"
        after, before, true = (1e3 * rms(f"{group} {k}") for k in ("after", "before", "true"))
        limit = 0.5 if group == "joints" else None
        out.append(Row(f"{group}, 200 ms ahead, RMSE after a calibration", after, unit, limit, before, "before it"))
        out.append(
            Row(f"{group}, 200 ms ahead, RMSE with the robot's own parameters", true, unit, None, before, "before it")
        )
    errors = 100.0 * np.array(found["payload error"])
    return [
        *out,
        Row("95 % intervals of masses and friction that hold the truth", 100 * mean("intervals that hold"), "%"),
        Row("calibrations adopted", 100 * mean("calibrations adopted"), "%"),
        Row("2 kg in a hand: adopted", 100 * mean("payloads adopted"), "%", 100.0, at_least=True),
        Row("2 kg in a hand: error of its mass, median", float(np.median(errors)), "%", 10.0),
        Row("2 kg in a hand: error of its mass, worst", float(errors.max()), "%", 10.0),
        Row("joints, 500 ms ahead: skill with the new model", mean("skill after"), "", 0.9, mean("skill before"),
            "before the payload", at_least=True),
        Row("joints, 500 ms ahead: skill with the old model", mean("skill without"), "", None, mean("skill before"),
            "before the payload"),
        Row("taken away: adopted, with nothing in the hand", 100 * mean("removals adopted"), "%", 100.0, at_least=True),
        Row("CPU of identification and proof, payload", float(np.median(found["CPU of a payload"])), "s"),
        Row("CPU of identification and proof, calibration", float(np.median(found["CPU of a calibration"])), "s"),
    ]  # fmt: skip


if __name__ == "__main__":
    main(
        "identification", measure, ("seeds", 5.0, "robots of the series"), ("log", "", "file for each robot's figures")
    )
