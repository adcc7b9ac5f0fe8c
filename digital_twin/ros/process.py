"""A node as a process: how it starts, spins, ends, and is scheduled."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions

from digital_twin.core.config import flatten
from digital_twin.core.errors import TwinError, one_line
from digital_twin.ros.node import TwinNode
from digital_twin.ros.scheduling import go_first
from digital_twin.ros.transport import use_sockets

SWITCH = 0.0005  # [s] after which a thread that makes something ready lets the callbacks' thread go on


def run(
    name: str, make: Callable[[], TwinNode[Any]], settings: type, *, nice: int = 0, shared_memory: bool = False,
    first: str = "",
) -> None:  # fmt: skip
    """Be the process of one node until it is told to stop. Exits with 0, or with 2 after one line on stderr.

    nice: how far it gives way to those that are in the loop.
    shared_memory: it handles messages too large for sockets to be the better way.
    first: how the names of those threads begin that are real-time when its parameter `realtime` says so.
    """
    if "--help" in sys.argv or "-h" in sys.argv:
        print(_help(name, settings))
        return
    stop = _Stop()
    code = 0
    node = None
    try:
        if not shared_memory:
            use_sockets()
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        os.nice(nice)  # this thread alone: the twin's writers could wait for locks that the middleware's threads hold
        if getattr(node.settings, "realtime", False):
            _go_first(node, first)
        sys.setswitchinterval(SWITCH)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)  # what a message leaves behind is freed without it
        _spin(node, stop)
    except (TwinError, InvalidParameterException, rclpy._rclpy_pybind11.RCLError) as e:
        if not stop.asked:
            print(f"digital_twin {name}: {one_line(e)}", file=sys.stderr)
            code = 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # A terminal's Ctrl-C arrives twice under ros2 launch.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # rclpy's own teardown of a process that shares memory can take seconds


def _go_first(node: TwinNode[Any], names: str) -> None:
    if not go_first(lambda: node.say("warning", "worked for a second without a rest: real-time no more"), names):
        node.get_logger().debug("may not be real-time here")


class _Stop:
    """Set by SIGINT or SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def make_executor() -> Any:
    """The cheapest executor there is: EventsExecutor, or SingleThreadedExecutor where rclpy has none."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        from rclpy.executors import SingleThreadedExecutor

        return SingleThreadedExecutor()
    return EventsExecutor()


def _spin(node: TwinNode[Any], stop: _Stop) -> None:
    executor = make_executor()
    executor.add_node(node)
    work = getattr(node, "work", None)
    while not stop.asked and not node.done:
        # A node with work of its own says how long it can wait for the next event.
        wait = work() if work is not None else 0.1
        executor.spin_once(timeout_sec=max(0.0, min(wait, 0.1)))


def _help(name: str, settings: type) -> str:
    lines = [f"ros2 run digital_twin {name} [--ros-args -p NAME:=VALUE …]", "", "Parameters (default, unit):"]
    for p in flatten(settings):
        unit = f" {p.meta.unit}" if p.meta.unit else ""
        lines.append(f"  {p.name} ({p.default!r}{unit})\n      {p.meta.doc}")
    return "\n".join(lines)
