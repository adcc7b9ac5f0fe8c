"""digital-twin run: start the twin, show how it does, report how it did."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.live import Live

from digital_twin.bags import Bag
from digital_twin.cli.fork_server import ForkServer
from digital_twin.cli.rates import AverageRates
from digital_twin.cli.report import build_report, check_writable, in_words, write_report
from digital_twin.cli.supervisor import Supervisor
from digital_twin.cli.terminal import Ending
from digital_twin.core.world import load_world
from digital_twin.options import Options
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot
from digital_twin.system import check_parameter_file, describe


class Run:
    """One run of the twin, from the first node's start to the last one's end."""

    def __init__(
        self, options: Options, ending: Ending, *, duration: float, headless: bool, report: str,
        server: ForkServer, page: subprocess.Popen[str] | None = None,
    ) -> None:  # fmt: skip
        """page: the live page's process, where it has been started already. server: forks the nodes."""
        self.options, self.duration, self.report_path = options, duration, report
        self.robot = check(options, report)
        self.console = Console(stderr=True)
        self.live = not headless and sys.stdout.isatty()
        self.display: Live | None = None
        self.ending = ending
        nodes = describe(options)
        self.supervisor = Supervisor(nodes, options.namespace, options.config, self._say, server.launch)
        self._server = server
        if page is not None:
            self.supervisor.adopt("dashboard", page)
        self.names = [spec.name for spec in nodes]
        self.restarts: dict[str, int] = defaultdict(int)
        self.usage: dict[str, dict[str, float]] = {}
        self._processes: dict[int, psutil.Process] = {}
        self._cpu: dict[str, list[float]] = defaultdict(list)
        self._pace: list[float] = []
        self._sent = AverageRates()

    def _say(self, node: str, line: str) -> None:
        console = self.display.console if self.display else self.console
        console.print(f"{node}: {line}", markup=False, highlight=False, soft_wrap=True)

    def execute(self) -> dict[str, Any]:
        """Run until told to stop, the time is up, or the recording has ended; returns the report.

        It is empty when the end was asked for before a node was started.
        """
        while not self._server.ready(0.1):
            if self.ending.asked:
                return {}
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        from digital_twin.cli.monitor import Monitor
        from digital_twin.ros.process import make_executor

        begin = time.monotonic()
        try:
            self.supervisor.start()
            rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
            node = rclpy.create_node(
                "digital_twin_monitor", namespace=self.options.namespace.strip("/"), enable_rosout=False
            )
            self.monitor = Monitor(node, self.robot)
            executor = make_executor()
            executor.add_node(node)
            with self._screen():
                self._watch(executor, begin)
        finally:
            self.ending.insist()
            self.supervisor.stop()
        report = build_report(
            self.monitor, time.monotonic() - begin, dict.fromkeys(self.names, 0) | dict(self.restarts), self._usage(),
            self._sent.rates(), self._pace,
        )  # fmt: skip
        if self.report_path:
            write_report(report, self.report_path)
        self.console.print(in_words(report), highlight=False, soft_wrap=True)
        return report

    def _screen(self) -> Any:
        import contextlib

        if not self.live:
            return contextlib.nullcontext()
        self.display = Live(console=Console(), auto_refresh=False, transient=True)
        return self.display

    def _watch(self, executor: Any, begin: float) -> None:
        end = begin + self.duration if self.duration > 0 else float("inf")
        next_look = 0.0
        while not self.ending.asked and time.monotonic() < end and not self.supervisor.finished:
            executor.spin_once(timeout_sec=0.05)
            now = time.monotonic()
            if now < next_look:
                continue
            next_look = now + 0.25
            for name in self.supervisor.check():
                self.restarts[name] += 1
                if name == "twin_synchronizer":
                    self.monitor.score.realign()
            self._look(now)
            if self.display is not None:
                self.display.update(self._picture(), refresh=True)

    def _picture(self) -> Any:
        from digital_twin.cli.table import render

        what = self.options.bag or {"none": "real robot"}.get(self.options.simulator, self.options.simulator)
        title = f"digital twin of {self.robot.description.name or 'a robot'} · {what}"
        return render(title, self.monitor, self.names, self.usage, self.restarts)

    # What the operating system and the counters say

    def _look(self, now: float) -> None:
        for name, pid in self.supervisor.pids().items():
            known = pid in self._processes
            try:
                if not known:
                    self._processes[pid] = psutil.Process(pid)
                process = self._processes[pid]
                cpu, rss = process.cpu_percent(), process.memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                continue
            if known:  # the first call has nothing to compare with
                self._cpu[name] = [*self._cpu[name][-39:], cpu]
            recent = self._cpu[name][-8:]
            self.usage[name] = {"cpu_percent": sum(recent) / len(recent) if recent else 0.0, "rss_mb": rss}
        for state in self.monitor.nodes.values():
            for topic, count in state.counts("sent").items():
                self._sent.note(topic, state.heard, count)
            pace = state.values.get("real_time_factor")
            if pace not in (None, "nan") and now - state.heard < 0.26 and self.monitor.warm:
                self._pace.append(float(pace))

    def _usage(self) -> dict[str, dict[str, float]]:
        """CPU over the last ten seconds, and the last memory, of each node."""
        out = {}
        for name, used in self.usage.items():
            cpu = self._cpu[name]
            out[name] = {"cpu_percent": sum(cpu) / len(cpu) if cpu else 0.0, "rss_mb": used["rss_mb"]}
        return out


def check(options: Options, report: str) -> Robot:
    """Look at everything that can be wrong before a node is started. Raises TwinError."""
    robot = load_robot(options.robot_description, options.robot_config)
    if options.simulator == "mujoco":
        load_world(find(options.world or "humanoid_world.sdf", "worlds"))
    if options.config:
        check_parameter_file(Path(options.config))
    if options.bag:
        Bag(options.bag).close()
    if report:
        check_writable(report)
    return robot
