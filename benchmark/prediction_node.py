"""physics_predictor in the running twin: its cost, what it does to the others, and its memory over an hour.

Runs with the predictor at its defaults and with one that all but sleeps take turns.
"""

from __future__ import annotations

import argparse
import math
import os
import time

import numpy as np
import psutil
import rclpy
from rcl_interfaces.srv import GetParameters

from benchmark.prediction_data import predictor
from benchmark.steady import START, listen
from benchmark.table import Row, main
from benchmark.twin_run import ENVIRONMENT, twin
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.skill import SkillBook
from digital_twin.robots import load_robot
from digital_twin.ros.process import make_executor

ASLEEP = "/**/physics_predictor: {ros__parameters: {rate: 0.1, ensemble_rate: 0.0}}\n"


def waits(seconds: float, *names: str) -> list[float]:
    """How long the executors of these nodes let a request wait, 99th percentiles [ms], transport included; in turns."""
    os.environ.update({k: ENVIRONMENT[k] for k in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")})
    rclpy.init()
    node, executor = rclpy.create_node("benchmark"), make_executor()
    executor.add_node(node)
    clients = {name: node.create_client(GetParameters, f"/{name}/get_parameters") for name in names}
    took: dict[str, list[float]] = {name: [] for name in names}
    if all(client.wait_for_service(timeout_sec=10.0) for client in clients.values()):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, client in clients.items():
                start = time.perf_counter()
                future = client.call_async(GetParameters.Request(names=["use_sim_time"]))
                while not future.done() and time.perf_counter() - start < 5.0:
                    executor.spin_once(timeout_sec=0.05)
                took[name].append(1e3 * (time.perf_counter() - start))
                time.sleep(0.01)
    node.destroy_node()
    rclpy.shutdown()
    return [float(np.percentile(each, 99)) if each else math.nan for each in took.values()]


def live(seconds: float, others: str = "") -> tuple[float, float, float, float]:
    """p50 and p99 of the sync latency [ms] once all nodes have started, the predictor's CPU [cores], forecasts a second."""
    with twin(200.0, START, others) as run:
        process = run.nodes()["physics_predictor"]
        before, start = sum(process.cpu_times()[:2]), time.monotonic()
        latency = listen(seconds, first=True)
        cpu = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - start)
    return latency.p50, latency.p99, cpu, run.report["rates_hz"].get("virtual/prediction/path", 0.0)


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
    with twin(200.0):
        waiting, other = waits(a.seconds, "physics_predictor", "command_script")
    first, growth = an_hour(50.0)
    return [
        Row("physics_predictor, CPU", float(cpu), "cores", 0.6),
        Row("forecasts", float(hz), "Hz", 9.5, at_least=True),
        Row("sync latency p50, 200 Hz", float(p50), "ms", None, float(other50), "predictor asleep"),
        Row("sync latency p99, 200 Hz", float(p99), "ms", 1.1, float(other99), "predictor asleep"),
        Row("a request waits for the executor, p99", waiting, "ms", 5.0),
        Row("  and for that of a node that does little", other, "ms"),
        Row("memory, growth in an hour at 50 Hz", growth, "MB", 5.0),
        Row("memory, before that", first, "MB"),
    ]


if __name__ == "__main__":
    main("physics_predictor", measure, ("seconds", 20.0, "of one run"), ("rounds", 3.0, "of which the median counts"))
