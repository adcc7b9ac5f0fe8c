"""physics_predictor in the running twin: its cost, what it does to the others, and its memory over an hour.

Runs with the predictor at its defaults and with one that all but sleeps take turns.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import psutil

from benchmark.prediction_data import predictor
from benchmark.table import Row, main
from benchmark.twin_run import twin
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.skill import SkillBook
from digital_twin.robots import load_robot

ASLEEP = "/**/physics_predictor: {ros__parameters: {rate: 0.1, ensemble_rate: 0.0}}\n"


def live(seconds: float, others: str = "") -> tuple[float, float, float, float]:
    """p50 and p99 of the sync latency [ms], the predictor's CPU [cores], forecasts a second."""
    with twin(200.0, others=others) as run:
        process = run.nodes()["physics_predictor"]
        before, start = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(seconds)
        cpu = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - start)
    latency, rates = run.report["sync_latency_ms"], run.report["rates_hz"]
    return latency["p50"], latency["p99"], cpu, rates.get("virtual/prediction/path", 0.0)


def an_hour(hz: float) -> tuple[float, float]:
    """Memory [MB] after the first minute of forecasts and outcomes at this rate, and what an hour adds to it."""
    robot, process = load_robot(), psutil.Process()
    prediction, book, plan = predictor(robot), SkillBook(robot.model.n), CommandPlan(robot.model.n)
    zero, q, qd = np.zeros((6, 6)), robot.joints.stand, np.zeros(robot.model.n)
    first = 0.0
    for k in range(round(3600 * hz)):
        stamp = round(k / hz * 1e9)
        base = BaseState(stamp, np.array([0, 0, 0.83]), np.eye(3), qd[:3], qd[:3], zero, zero, (True, True), True)
        plan.command(stamp, q)
        book.outcome(stamp, q, base)
        f = prediction.forecaster.forecast(stamp, q, qd, base, plan, "kinematic")
        book.open(f, q, qd, base)
        if k == round(60 * hz):
            first = process.memory_info().rss / 1e6
    return first, process.memory_info().rss / 1e6 - first


def measure(a: argparse.Namespace) -> list[Row]:
    """Medians over the rounds."""
    awake, asleep = [], []
    for _ in range(int(a.rounds)):
        asleep.append(live(a.seconds, ASLEEP))
        awake.append(live(a.seconds))
    p50, p99, cpu, hz = np.median(awake, axis=0)
    other50, other99, *_ = np.median(asleep, axis=0)
    first, growth = an_hour(50.0)
    return [
        Row("physics_predictor, CPU", float(cpu), "cores", 0.6),
        Row("forecasts", float(hz), "Hz", 9.5, at_least=True),
        Row("sync latency p50, 200 Hz", float(p50), "ms", None, float(other50), "predictor asleep"),
        Row("sync latency p99, 200 Hz", float(p99), "ms", 1.1, float(other99), "predictor asleep"),
        Row("memory, growth in an hour at 50 Hz", growth, "MB", 5.0),
        Row("memory, before that", first, "MB"),
    ]


if __name__ == "__main__":
    main("physics_predictor", measure, ("seconds", 20.0, "of one run"), ("rounds", 3.0, "of which the median counts"))
