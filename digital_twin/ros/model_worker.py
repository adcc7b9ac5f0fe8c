"""A process that identifies, from its start to its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


class ModelWorker:
    """One `model_process`, for one folder. It may be started before there is a folder: its imports take seconds."""

    def __init__(self, nice: int) -> None:
        """Raises OSError when it cannot be started."""
        command = ["nice", "-n", str(nice)] if os.name == "posix" else []
        command += [sys.executable, "-m", "digital_twin.ros.model_process"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._said, stderr=self._said, env=environment
        )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def work(self, folder: Path, longest: float) -> int | None:
        """Have it do what a folder asks for; its exit code, None when that took longer than `longest` [s]."""
        stdin = self._process.stdin
        with suppress(BrokenPipeError):  # its exit code says more
            if stdin is not None:
                stdin.write(f"{folder}\n".encode())
                stdin.flush()
        try:
            return self._process.wait(longest)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self) -> str:
        """The last line that it said; empty: nothing."""
        self._said.seek(0)
        return "".join(self._said.read().decode(errors="replace").strip().splitlines()[-1:])[:200]

    def kill(self) -> None:
        """Stop it, whatever it does."""
        self._process.kill()

    def end(self) -> None:
        """Stop it and tidy up."""
        self.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._said.close()
