"""What forecasts cost beside bare MuJoCo: one forecast, an ensemble, a controller in the loop."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import mujoco
import numpy as np
from mujoco import rollout

from benchmark.prediction_data import Rehearsal, predictor, sways_and_squats
from benchmark.table import Row, main
from digital_twin.core.arrays import Array
from digital_twin.core.forecast_model import STATE, ForecastModel
from digital_twin.core.forecaster import interleave
from digital_twin.core.prediction import Prediction, State
from digital_twin.robots import load_robot


def alternately(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Medians [ms] of works that are done in turn, so that all see the same machine."""
    took = np.empty((rounds, len(works)))
    for row in took:
        for i, work in enumerate(works):
            start = time.perf_counter()
            work()
            row[i] = 1e3 * (time.perf_counter() - start)
    return [float(x) for x in np.median(took, axis=0)]


def bare_loop(model: ForecastModel, start: Array, controls: Array) -> None:
    """As many steps as a forecast has, and nothing else."""
    m, d = model.mj, model.data
    mujoco.mj_setState(m, d, start, STATE)
    for u in controls:
        d.ctrl[:] = u
        mujoco.mj_step(m, d)


def measure(a: argparse.Namespace) -> list[Row]:
    """In the middle of a squat."""
    robot = load_robot()
    prediction = predictor(robot)
    rehearsal = Rehearsal(robot, 1, sways_and_squats(robot, 1))
    *_, last = rehearsal.run(6.0)
    s, plan, n = last.state, rehearsal.plan, robot.model.n
    f, config = prediction.forecaster, prediction.forecaster.config
    model, start = f.begin(s.q, s.qd, s.base, "contact")
    times = np.arange(round(config.horizon / config.timestep)) * config.timestep
    controls = interleave(plan.sample(s.stamp_ns, times, s.q)[0])
    kp = 300.0

    def controller(_: float, q: Array, qd: Array) -> tuple[Array, Array, Array]:
        return robot.joints.stand, np.zeros(n), kp * (robot.joints.stand - q) - qd

    def bare_with_controller() -> None:
        m, d = model.mj, model.data
        mujoco.mj_setState(m, d, start, STATE)
        for t in times:
            q, qd = d.qpos[robot.model.qpos_index], d.qvel[robot.model.dof_index]
            d.ctrl[:] = np.column_stack(controller(float(t), q, qd)).ravel()
            mujoco.mj_step(m, d)

    rounds = int(a.rounds)
    bare, one, held, going = alternately(
        rounds, lambda: bare_loop(model, start, controls), lambda: prediction.forecast(s, plan),
        lambda: prediction.forecast(s, plan, "rigid_body"), lambda: prediction.forecast(s, plan, "kinematic"),
    )  # fmt: skip
    rows = [
        Row("1 s ahead, contact", one, "ms", 1.15, bare, "bare MuJoCo loop"),
        Row("1 s ahead, rigid_body", held, "ms", None, bare, "bare MuJoCo loop"),
        Row("1 s ahead, kinematic", going, "ms", None, bare, "bare MuJoCo loop"),
    ]
    looped, with_controller = alternately(
        rounds, bare_with_controller,
        lambda: f.forecast(s.stamp_ns, s.q, s.qd, s.base, plan, controller=controller),
    )  # fmt: skip
    rows.append(Row("1 s ahead with a controller", with_controller, "ms", 1.15, looped, "bare loop with it"))
    return [*rows, _ensemble(prediction, s, rehearsal, max(3, rounds // 3))]


def _ensemble(prediction: Prediction, s: State, rehearsal: Rehearsal, rounds: int) -> Row:
    e = prediction.ensemble
    h, horizon = e.config.timestep, e.forecaster.config.horizon
    starts = e.starts(s.q, s.qd, s.base)
    controls = interleave(rehearsal.plan.sample(s.stamp_ns, np.arange(round(horizon / h)) * h, s.q)[0])[None]
    bare, ours = alternately(
        rounds, lambda: rollout.rollout(e.members, e._data, starts, controls),
        lambda: e.forecast(s.stamp_ns, s.q, s.qd, s.base, rehearsal.plan),
    )  # fmt: skip
    return Row(f"an ensemble of {e.config.size}, 1 s", ours, "ms", 1.15, bare, "bare mujoco.rollout")


if __name__ == "__main__":
    main("cost of forecasts", measure, ("rounds", 15.0, "of which the median counts"))
