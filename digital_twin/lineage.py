"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None  # not in a fork, where little is safe


def end_with(parent: int) -> None:
    """From now on: when our parent, the process `parent`, dies, however hard, we get SIGTERM (Linux; elsewhere nothing)."""
    if _PRCTL is None:
        return
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # it died before its death could be told


def own_group(parent: int) -> None:
    """In a new process: a terminal's Ctrl-C is for our parent, who tells us, and with whom we end.

    A session of its own would be one to the scheduler too (autogroups), and none would yield to another.
    """
    os.setpgid(0, 0)
    end_with(parent)
