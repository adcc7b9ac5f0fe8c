"""The loop closed, with all nodes of `make run`: 2 kg are hung on a hand and taken away again, and nobody touches anything.

How soon the model in service knows it, how well, and what the 500 ms forecasts are worth from 15 s after the change on.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmark.table import Row, main
from benchmark.twin_run import ENVIRONMENT, twin

os.environ.update(ENVIRONMENT)

import json

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from digital_twin.core.drift.model_version import parse_version
from digital_twin.ros.process import make_executor
from digital_twin.ros.qos import LATCHED

FRAME, PAYLOAD = "l_gripper", 2.0  # where, [kg]
KNOWN = 15.0  # [s] within which the model is to know it
COUNTED = 31.0  # [s] of forecasts that the predictor's skill is made of
SKILL = "joints_skill_persistence@500ms"
CALIBRATED = 240.0  # [s] within which the monitor must have learned


class Probe:
    """What a user sees: the verdict, the model in service, the skill; and what hangs on the hand is changed by services."""

    def __init__(self) -> None:
        rclpy.init(args=[])
        self._node, self._executor = Node("closed_loop"), make_executor()
        self._executor.add_node(self._node)
        self.words, self.skill, self.kg, self.known_at, self.fidelity = "", math.nan, 0.0, 0.0, ""
        n = self._node
        n.create_subscription(DiagnosticArray, "twin/drift", self._drift, 10)
        n.create_subscription(DiagnosticArray, "twin/prediction_status", self._prediction, 10)
        n.create_subscription(String, "twin/model", self._model, LATCHED)
        self._set = n.create_client(SetParameters, "simulated_robot/set_parameters")
        self._inject = n.create_client(Trigger, "simulated_robot/inject_fault")
        self._clear = n.create_client(Trigger, "simulated_robot/clear_faults")
        threading.Thread(target=self._spin, daemon=True).start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            while rclpy.ok():
                self._executor.spin_once(timeout_sec=0.1)

    def _drift(self, m: DiagnosticArray) -> None:
        self.words = m.status[0].message

    def _prediction(self, m: DiagnosticArray) -> None:
        said = {v.key: v.value for s in m.status for v in s.values}
        self.skill, self.fidelity = float(said.get(SKILL, "nan")), said.get("fidelity", "")

    def _model(self, m: String) -> None:
        file = json.loads(m.data)["file"]
        version = parse_version(Path(file).read_text(), file)
        self.kg, self.known_at = sum(p.mass for p in version.changes.payloads.values()), time.monotonic()

    def hang(self) -> None:
        """2 kg on the hand."""
        line = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=f"payload {FRAME} {PAYLOAD:g}")
        call(self._set, SetParameters.Request(parameters=[Parameter(name="fault", value=line)]))
        call(self._inject, Trigger.Request())

    def take_away(self) -> None:
        """Nothing on the hand."""
        call(self._clear, Trigger.Request())

    def close(self) -> None:
        """The end."""
        rclpy.shutdown()


def call(client: rclpy.client.Client, request: object) -> None:
    """Raises TimeoutError when nobody answers."""
    if not client.wait_for_service(10.0):
        raise TimeoutError(f"no {client.srv_name}")
    answered = threading.Event()
    client.call_async(request).add_done_callback(lambda _: answered.set())
    if not answered.wait(10.0):
        raise TimeoutError(f"no answer from {client.srv_name}")


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def change(probe: Probe, act: Callable[[], None], kg: float) -> tuple[float, float, float]:
    """After a change: time until the model knows `kg` [s], by how much that is wrong then [kg], and the skill of the forecasts
    made from 15 s after it on. Infinite when it never knew."""
    start = time.monotonic()
    act()
    knows = until(lambda: probe.known_at > start and abs(probe.kg - kg) < 0.1 * PAYLOAD, KNOWN + COUNTED)
    took, wrong = (probe.known_at - start, abs(probe.kg - kg)) if knows else (math.inf, math.inf)
    time.sleep(max(0.0, start + KNOWN + COUNTED - time.monotonic()))
    print(
        f"{kg:g} kg: known after {took:.1f} s, skill {probe.skill:.3f} ({probe.fidelity}); {probe.words}",
        file=sys.stderr,
    )
    return took, wrong, probe.skill


def measure(a: argparse.Namespace) -> list[Row]:
    """All rounds with one robot."""
    with tempfile.TemporaryDirectory() as store:
        where = f"/**/drift_monitor: {{ros__parameters: {{models.store: {store}}}}}\n"
        with twin(200.0, others=where):
            probe = Probe()
            try:
                if not until(lambda: "behaves" in probe.words, CALIBRATED):
                    raise SystemExit(f"the monitor has not begun to watch: {probe.words}")
                time.sleep(COUNTED)
                before = probe.skill
                print(f"watching, skill {before:.3f} ({probe.fidelity})", file=sys.stderr)
                rounds = [
                    (change(probe, probe.hang, PAYLOAD), change(probe, probe.take_away, 0.0)) for _ in range(a.rounds)
                ]
            finally:
                probe.close()
    rows = []
    for i, name in enumerate(("2 kg hung on a hand", "taken away again")):
        took, wrong, skill = zip(*(r[i] for r in rounds), strict=True)
        rows += [
            Row(f"{name}: in the model in service, median", statistics.median(took), "s", KNOWN),
            Row(f"{name}: in the model in service, longest", max(took), "s", KNOWN),
            Row(f"{name}: its mass wrong by, at most", 100.0 * max(wrong) / PAYLOAD, "%", 10.0),
            Row(f"{name}: skill at 500 ms, forecasts from 15 s on, median", statistics.median(skill), "", 0.9, before, "before", at_least=True),
            Row(f"{name}: skill at 500 ms, forecasts from 15 s on, least", min(skill), "", 0.9, before, "before", at_least=True),
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    main("the loop closed", measure, ("rounds", 3, "how often a load comes and goes"))
