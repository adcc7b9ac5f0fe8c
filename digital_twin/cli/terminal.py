"""Ctrl-C and the like: who gets them, and what they mean."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ctrl_c_is_ours() -> Iterator[None]:
    """Under make, take the terminal for the time being, so that Ctrl-C reaches us and not make.

    GNU make dies of the signal itself and reports an error, however cleanly its recipe ended. A process group of our
    own in the foreground (what a shell gives every job) keeps it out of this; afterwards make gets the terminal back.
    """
    if not os.environ.get("MAKELEVEL") or not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    before = os.tcgetpgrp(terminal)
    # A background group that takes the terminal is stopped by SIGTTOU; and nobody could continue us after Ctrl-Z.
    for number in (signal.SIGTTOU, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    try:
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpgrp())
    except OSError:  # not in the foreground: leave it as it is
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, before)


class Asked(KeyboardInterrupt):
    """The end was asked for.

    Of a class of its own: CPython notes a plain KeyboardInterrupt that leaves an exec(), as dataclasses use it on import,
    and kills `python -m` with SIGINT at its end, though somebody had caught it.
    """


class Ending:
    """Remembers that a signal asked for the end, instead of breaking off whatever runs. A context manager."""

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    def __enter__(self) -> Ending:
        for number in ENDS:
            signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._at_once:
            raise Asked

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Do break off what runs here, by Asked: nothing is lost with it."""
        self._at_once = True
        try:
            if self.asked:
                raise Asked
            yield
        finally:
            self._at_once = False

    def insist(self) -> None:
        """From now on nothing interrupts the cleaning up."""
        self.asked = True
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.insist()
