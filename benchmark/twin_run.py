"""A run of the twin to measure: the digital-twin command at a given rate, in a ROS domain of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

ENVIRONMENT = os.environ | {
    "ROS_DOMAIN_ID": str(1 + os.getpid() % 200),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "OPENBLAS_NUM_THREADS": "1",
}


class TwinRun:
    """A running twin; `report` holds its report once it has ended."""

    def __init__(self, rate: float, others: str = "", joint_rate: float = 0.0, *arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        config = _rates(folder, rate, joint_rate, others)
        self._report = folder / "report.json"
        command = [
            sys.executable,
            "-m",
            "digital_twin",
            "run",
            "--headless",
            "--config",
            str(config),
            "--report",
            str(self._report),
            *arguments,
        ]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        self.report: dict[str, Any] = {}

    def nodes(self) -> dict[str, psutil.Process]:
        """Processes of the nodes by name."""
        found = {}
        for p in psutil.Process(self.process.pid).children(recursive=True):
            try:
                match = re.search(r"digital_twin\.nodes\.(\w+)", " ".join(p.cmdline()))
            except psutil.Error:
                continue
            if match:
                found[match.group(1)] = p
        return found

    def stop(self) -> None:
        """End it and read its report."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        self.report = json.loads(self._report.read_text())
        self._folder.cleanup()


@contextmanager
def twin(
    rate: float, warm_up: float = 8.0, others: str = "", joint_rate: float = 0.0, *arguments: str
) -> Iterator[TwinRun]:
    """A twin that has run for `warm_up` seconds; `others` are settings of other nodes, as YAML; `arguments` of `run`.

    `rate` [Hz] is that of the IMU, and of joints and wrenches where `joint_rate` is 0.
    """
    run = TwinRun(rate, others, joint_rate, *arguments)
    try:
        time.sleep(warm_up)
        yield run
    finally:
        run.stop()


def _rates(folder: Path, rate: float, joint_rate: float, others: str = "") -> Path:
    """A parameter file with the simulated robot's rates [Hz] and settings of other nodes, as YAML."""
    config = folder / "config.yaml"
    rates = f"rate: {rate}, joint_rate: {joint_rate}, wrench_rate: {joint_rate or rate}"
    config.write_text(f"/**/simulated_robot: {{ros__parameters: {{{rates}}}}}\n{others}")
    return config


@contextmanager
def nodes(
    rate: float, topics: Mapping[str, Mapping[str, str]], joint_rate: float = 0.0, warm_up: float = 8.0
) -> Iterator[None]:
    """Single nodes, without `digital-twin run`: `topics` has their names, and what each takes for which topic."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = _rates(Path(folder), rate, joint_rate)
        for name, other in topics.items():
            command = [sys.executable, "-m", f"digital_twin.nodes.{name}", "--ros-args", "--params-file", str(config)]
            command += [word for topic, actual in other.items() for word in ("-r", f"{topic}:={actual}")]
            stack.enter_context(_process(command, signal.SIGINT, stderr=subprocess.DEVNULL))
        time.sleep(warm_up)
        yield


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time a process has used [s]."""
    t = process.cpu_times()
    return float(t.user + t.system)


@contextmanager
def helper(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of benchmark.helpers; ended afterwards."""
    command = [sys.executable, "-m", "benchmark.helpers", *arguments]
    with _process(command, signal.SIGTERM, stdout=subprocess.PIPE) as p:
        yield p


@contextmanager
def _process(command: Sequence[str], end: signal.Signals, **more: Any) -> Iterator[subprocess.Popen[str]]:
    p = subprocess.Popen(command, env=ENVIRONMENT, text=True, **more)
    try:
        yield p
    finally:
        if p.poll() is None:
            p.send_signal(end)
        p.wait(10)
