"""Starts the nodes as processes, starts them again when they die, and ends them all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from digital_twin.cli.fork_server import Forked
from digital_twin.core.errors import NodeError, TwinError
from digital_twin.lineage import own_group
from digital_twin.node_spec import HEAD_START, NodeSpec, page
from digital_twin.options import Options

BAD_START = 2  # exit code of a node that cannot start as it was told to
GIVE_UP_AFTER = 5  # deaths within GIVE_UP_WITHIN seconds
GIVE_UP_WITHIN = 20.0

Process = subprocess.Popen[str] | Forked


@dataclass
class Child:
    """A node's process. `ended`: it finished by itself and shall not be started again."""

    spec: NodeSpec
    command: list[str]
    process: Process | None = None
    restarts: int = 0
    ended: bool = False
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=GIVE_UP_AFTER))
    last_words: str = ""


class Supervisor:
    """Runs nodes. `say(node, line)` gets what they print."""

    def __init__(
        self, nodes: Sequence[NodeSpec], namespace: str, config: str, say: Callable[[str, str], None],
        launcher: Callable[[Sequence[str]], Process] | None = None,
    ) -> None:  # fmt: skip
        """launcher: starts a node's process: `launch`, or a ForkServer's."""
        self.children = {spec.name: Child(spec, command(spec, namespace, config)) for spec in nodes}
        self._say, self._launch = say, launcher or launch
        self._readers: list[threading.Thread] = []
        self._later = 0.0

    def start(self) -> None:
        """Start what does not run already; `check` starts those that may come later."""
        self._later = time.monotonic() + HEAD_START
        for child in self.children.values():
            if child.process is not None:
                self._listen(child)
            elif not child.spec.later:
                self._start(child)

    def adopt(self, name: str, process: Process) -> None:
        """A node that was started before; see `start_page`."""
        self.children[name].process = process

    def _start(self, child: Child) -> None:
        child.process = self._launch(child.command)
        self._listen(child)

    def _listen(self, child: Child) -> None:
        reader = threading.Thread(target=self._read, args=(child, child.process), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, child: Child, process: Process) -> None:
        for line in process.stdout or ():
            child.last_words = line.rstrip()
            self._say(child.spec.name, child.last_words)

    def check(self) -> list[str]:
        """Start dead nodes again; returns their names.

        Raises:
            TwinError: when a node refuses its configuration, or keeps dying.
        """
        restarted = []
        for name, child in self.children.items():
            process = child.process
            if process is None and time.monotonic() >= self._later:
                self._start(child)
            code = None if process is None else process.poll()
            if child.ended or code is None:
                continue
            if code == 0 and child.spec.once:
                child.ended = True
                continue
            if code == BAD_START:
                self._settle()
                raise TwinError(child.last_words.split(": ", 1)[-1] or f"{name} cannot start")
            now = time.monotonic()
            child.deaths.append(now)
            if len(child.deaths) == GIVE_UP_AFTER and now - child.deaths[0] < GIVE_UP_WITHIN:
                self._settle()
                raise NodeError(f"{name} keeps dying ({why(code)}): {child.last_words}")
            self._say(name, f"died ({why(code)}); starting it again")
            child.restarts += 1
            self._start(child)
            restarted.append(name)
        return restarted

    def _settle(self) -> None:
        """Let the readers see a dead node's last words."""
        for reader in self._readers:
            reader.join(timeout=0.2)

    @property
    def finished(self) -> bool:
        """A node that was to end has ended."""
        return any(c.ended for c in self.children.values())

    def pids(self) -> dict[str, int]:
        """Process numbers of the nodes that run."""
        running = {n: c.process for n, c in self.children.items() if c.process and c.process.poll() is None}
        return {name: process.pid for name, process in running.items()}

    def stop(self, patience: float = 1.2) -> None:
        """End all nodes: asked first, killed when they do not listen within `patience` seconds."""
        processes = [c.process for c in self.children.values() if c.process is not None]
        for p in processes:
            _signal(p, signal.SIGTERM)  # SIGINT would make one that still imports print a traceback
        deadline = time.monotonic() + patience
        for p in processes:
            try:
                p.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(p, signal.SIGKILL)
                p.wait()
        self._settle()


def launch(command: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    """Start a node's process. `more`: as of subprocess.Popen."""
    environment = os.environ | {
        "PYTHONUNBUFFERED": "1",
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        "RCUTILS_CONSOLE_OUTPUT_FORMAT": os.environ.get("RCUTILS_CONSOLE_OUTPUT_FORMAT", "{severity}: {message}"),
    }
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
        env=environment, preexec_fn=partial(own_group, os.getpid()), **more,
    )  # fmt: skip


def start_page(options: Options) -> subprocess.Popen[str] | None:
    """Start the live page, if there shall be one, before anything slow is imported: it loads while we do."""
    spec = page(options)
    return launch(command(spec, options.namespace, options.config)) if spec is not None else None


def prepare_environment() -> None:
    """Loopback unless told otherwise; one thread for BLAS; no windows.

    MuJoCo's import looks for a library of windows with a Python of its own, on our terminal, where Ctrl-C breaks it off
    with a traceback. Cameras render without.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MUJOCO_GL", "disabled")


def _signal(process: Process, number: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def why(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def command(spec: NodeSpec, namespace: str, config: str) -> list[str]:
    """How to start a node of the package as a process; the user's config comes last, so it wins."""
    out = [sys.executable, "-m", f"digital_twin.nodes.{spec.name}", "--ros-args"]
    if namespace.strip("/"):
        out += ["-r", f"__ns:=/{namespace.strip('/')}"]
    for name, value in spec.parameters.items():
        out += ["-p", f"{name}:={_yaml(value)}"]
    if config:
        out += ["--params-file", config]
    return out


def _yaml(value: Any) -> str:
    """A value as the ROS command line reads it: a YAML scalar or list."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(v) for v in value) + "]"
    return repr(value)
