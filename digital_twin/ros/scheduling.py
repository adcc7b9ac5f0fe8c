"""Who runs first: the nodes in the loop before all else, what takes long and nobody waits for after all else."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

RESTLESS = 1.0  # [s] of work without a rest, after which a process is real-time no more
PRIORITY = 1  # the least: what else is real-time, such as ros2_control, goes before
MIDDLEWARE = "dds."  # how names of Fast DDS' threads begin


def go_first(restless: Callable[[], None], names: str = "") -> bool:
    """Run all threads of this process before those that are not real-time (SCHED_RR), where the user may (Linux).

    names: only those threads whose names begin so.

    A process that then works for a second without a rest would leave the others nothing: it goes back to normal, and
    `restless` is called.

    Returns:
        Whether it does. Needs root or a limit of real-time priority (rtprio in limits.conf), as ros2_control does.
    """
    if not hasattr(os, "SCHED_RR"):
        return False

    def step_back(*_: object) -> None:
        go_back()
        restless()

    hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
    before = signal.signal(signal.SIGXCPU, step_back)
    microseconds = int(RESTLESS * 1e6)
    try:
        _reschedule(os.SCHED_OTHER, os.SCHED_RR, PRIORITY, names)
        resource.setrlimit(resource.RLIMIT_RTTIME, (microseconds, hard))
    except (PermissionError, ValueError):
        _reschedule(os.SCHED_RR, os.SCHED_OTHER, 0)
        signal.signal(signal.SIGXCPU, before)
        return False
    return True


def go_back() -> None:
    """Be scheduled as others are."""
    hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
    resource.setrlimit(resource.RLIMIT_RTTIME, (hard, hard))
    _reschedule(os.SCHED_RR, os.SCHED_OTHER, 0)


def _reschedule(old: int, new: int, priority: int, names: str = "") -> None:
    """All threads of this process that are scheduled the old way, or those of these names."""
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError, FileNotFoundError):
            name = Path(f"/proc/self/task/{thread}/comm").read_text()
            if os.sched_getscheduler(thread) == old and name.startswith(names):
                os.sched_setscheduler(thread, new, os.sched_param(priority))


def yield_to_others() -> None:
    """Run this thread, and those that it starts, only while no other wants to run (Linux; elsewhere: niced).

    To be niced is not enough: a thread that wakes up waits for the niced one's slice to end. For a process's main thread
    it is too much: on a machine that has no moment to spare it could not even end.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
