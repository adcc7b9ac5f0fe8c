"""Threads that take long and that nobody waits for."""

from __future__ import annotations

import os


def yield_to_others() -> None:
    """Run this thread, and those that it starts, only while no other wants to run (Linux; elsewhere: niced).

    To be niced is not enough: a thread that wakes up waits for the niced one's slice to end. For a process's main thread
    it is too much: on a machine that has no moment to spare it could not even end.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
