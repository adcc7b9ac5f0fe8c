"""Starts nodes as forks of one process that has imported what they share.

A node is there, or there again, without a second of imports, and what nodes share is in memory once.

    python -m digital_twin.cli.fork_server FD     serves the socket FD until it is closed
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from digital_twin.core.errors import NodeError
from digital_twin.lineage import own_group

# Not the nodes' own modules: what one of them alone needs would weigh on all.
SHARED = (
    "rclpy", "rclpy.experimental", "diagnostic_msgs.msg", "geometry_msgs.msg", "nav_msgs.msg", "rosgraph_msgs.msg",
    "sensor_msgs.msg", "std_msgs.msg", "std_srvs.srv", "trajectory_msgs.msg", "visualization_msgs.msg",
    "mujoco", "mujoco.rollout", "scipy.linalg", "scipy.optimize", "scipy.spatial", "scipy.stats", "yaml", "zstandard",
    "digital_twin.settings", "digital_twin.robots", "digital_twin.ros.process", "digital_twin.ros.intake_topics",
    "digital_twin.ros.commands",
)  # fmt: skip
PATIENCE = 20.0  # [s] for a process to be started, on a machine that does other things too


class ForkServer:
    """The side of whoever starts nodes. `launch` is as that of the supervisor."""

    def __init__(self, launch: Callable[..., subprocess.Popen[str]]) -> None:
        """launch: starts the server itself."""
        self._launch = launch
        self._codes: dict[int, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "digital_twin.cli.fork_server", str(theirs.fileno())]
            self._server = self._launch(command, pass_fds=(theirs.fileno(),))
        self._alive, self._ready = True, False

    def ready(self, timeout: float) -> bool:
        """Wait up to `timeout` [s] for the server; true also when it failed, which `launch` will say."""
        if not self._ready:
            self.collect(timeout)
        return self._ready or not self._alive

    def launch(self, command: Sequence[str]) -> Forked:
        """Start `python -m MODULE ARGUMENTS` as a fork that calls the module's main().

        Raises:
            NodeError: when no process could be started.
        """
        self.collect()
        if not self._alive:
            self.close()
            self._begin()
        _python, _m, module, *arguments = command
        reader, writer = os.pipe()
        with open(writer, "wb", buffering=0):
            request = json.dumps({"module": module, "arguments": arguments}).encode()
            try:
                socket.send_fds(self._channel, [request], [writer])
            except OSError:
                self._alive = False
        deadline = time.monotonic() + PATIENCE
        pid: int | None = None
        while pid is None and self._alive and time.monotonic() < deadline:
            pid = self.collect(deadline - time.monotonic())
        if pid is None:
            os.close(reader)
            raise NodeError(f"{module}: no process could be started{self._last_words()}")
        self._codes.pop(pid, None)
        return Forked(self, pid, open(reader, encoding="utf-8", errors="replace"))

    def collect(self, timeout: float = 0.0) -> int | None:
        """Hear what the server says: how processes ended, until there is nothing more or it names a new one."""
        while self._alive and select.select([self._channel], [], [], max(timeout, 0.0))[0]:
            try:
                data = self._channel.recv(4096)
            except OSError:
                data = b""
            if not data:
                self._alive = False
                return None
            said = json.loads(data)
            if "ready" in said:
                self._ready = True
            elif "started" in said:
                return int(said["started"])
            else:
                self._codes[said["ended"]] = said["code"]
            timeout = 0.0
        return None

    def _last_words(self) -> str:
        self.close()
        lines = (self._server.stdout.read() if self._server.stdout is not None else "").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def code_of(self, pid: int) -> int | None:
        """How a process ended, None while it runs. When the server died, it took its forks with it."""
        self.collect()
        if pid not in self._codes and not self._alive:
            self._codes[pid] = -signal.SIGTERM
        return self._codes.get(pid)

    def close(self) -> None:
        """End the server; forks that are left are told to end."""
        self._channel.close()
        self._alive = False
        self._server.kill()
        self._server.wait()


class Forked:
    """A process that a ForkServer started; used as a subprocess.Popen is."""

    def __init__(self, server: ForkServer, pid: int, stdout: Any) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Its exit code, negative when a signal ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.code_of(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (1e9 if timeout is None else timeout)
        while (code := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0.0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self._server.collect(min(left, 0.5))
        return code

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


# The server


def serve(channel: socket.socket) -> None:
    """Fork what is asked for and tell how it ends, until the other side is gone."""
    for name in SHARED:
        importlib.import_module(name)
    wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()  # what is never collected stays shared
    channel.send(b'{"ready": true}')
    while True:
        ready, _, _ = select.select([channel.fileno(), wake_reader], [], [])
        if wake_reader in ready:
            os.read(wake_reader, 4096)
            _tell_ends(channel)
        if channel.fileno() in ready:
            data, fds, _, _ = socket.recv_fds(channel, 1 << 20, 1)
            if not data:
                return
            _start(channel, json.loads(data), fds[0])


def _start(channel: socket.socket, request: dict[str, Any], out: int) -> None:
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        _become(channel, request, out, parent)
    os.close(out)
    channel.send(json.dumps({"started": pid}).encode())


def _tell_ends(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        channel.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(channel: socket.socket, request: dict[str, Any], out: int, parent: int) -> NoReturn:
    """In the fork: be the process of that module."""
    from setproctitle import setproctitle

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel.close()
        own_group(parent)
        for standard in (1, 2):
            os.dup2(out, standard)
        sys.argv = [request["module"], *request["arguments"]]
        setproctitle(f"{sys.executable} -m {' '.join(sys.argv)}")
        importlib.import_module(request["module"]).main()
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        serve(ours)
