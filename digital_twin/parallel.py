"""Work spread over processes, each with one thread: what studies and optimisers run on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from digital_twin.lineage import end_with

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_worker: Any = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begin_worker(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What a process does first."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    end_with(os.getppid())
    _worker = make(*arguments)


def do_task(task: Any) -> Any:
    """What it does with each task."""
    return _worker(task)


def _timed(task: Any) -> tuple[Any, float]:
    began = time.process_time()
    return _worker(task), time.process_time() - began


def single_threaded() -> None:
    """Processes that are started from now on have one BLAS thread."""
    for name in _THREADS:
        os.environ.setdefault(name, "1")


class Workers:
    """Processes that each hold what `make(*arguments)` returns, something to be called with a task. A context manager.

    With one process all is done in this one. `make`, arguments, tasks and results must be picklable, and results must not
    depend on what was done before: then they do not depend on how many processes there are.

    Attributes:
        cpu: time of processors spent on the tasks [s].
    """

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...] = (), processes: int = 0) -> None:
        """`processes`: 0 stands for as many as there are cores."""
        self.processes = processes or cores()
        self.cpu = 0.0
        self._pool: ProcessPoolExecutor | None = None
        self._own: Any = None
        if self.processes == 1:
            self._own = make(*arguments)
        else:
            single_threaded()
            context = get_context("spawn")  # a fork would inherit the locks of a progress bar's thread
            self._pool = ProcessPoolExecutor(self.processes, context, begin_worker, (make, arguments))

    def each(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(place in `tasks`, result), in the order in which they are done."""
        if self._pool is None:
            for i, task in enumerate(tasks):
                began = time.process_time()
                result = self._own(task)
                self.cpu += time.process_time() - began
                yield i, result
            return
        waiting = {self._pool.submit(_timed, task): i for i, task in enumerate(tasks)}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                result, spent = future.result()
                self.cpu += spent
                yield waiting.pop(future), result

    def all(self, tasks: Sequence[Any]) -> list[Any]:
        """The results, in the tasks' order."""
        results = dict(self.each(tasks))
        return [results[i] for i in range(len(tasks))]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:  # what they are at is no longer wanted
            for process in processes:
                process.terminate()
