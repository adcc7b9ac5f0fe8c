"""Measurements in the order of their stamps, however they arrive.

What comes in order is applied at once. What comes late is put where it belongs: the machine goes back to the moment
before it, and everything since is applied again. The history is bounded; what is older is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

NS = 1_000_000_000
MOST = 20_000  # measurements kept, whatever their stamps


class Machine(Protocol):
    """What can be set back: a snapshot must not change when the machine goes on."""

    def snapshot(self) -> object:
        """All that changes."""

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""


@dataclass(slots=True)
class _Entry:
    key: tuple[int, int]
    apply: Callable[[], None]
    after: object


class Replay:
    """Applies measurements to a machine in the order of (stamp, rank).

    What belongs before others that were applied already waits for the next measurement that comes in order (or for
    `settle`), so that several late ones cost no more than one.

    Attributes:
        replayed: how many measurements came late and were put in their place.
    """

    def __init__(self, machine: Machine, history: float) -> None:
        """`history` [s]: how late a measurement may be."""
        self._machine = machine
        self._history = round(history * NS)
        self.replayed = 0
        self.clear()

    def clear(self) -> None:
        """Forget the past; the machine stays as it is."""
        self._entries: list[_Entry] = []
        self._before: object = self._machine.snapshot()
        self._turned_back = False
        self._applied = 0  # so many entries, from the oldest, are in the machine in their right order

    @property
    def newest(self) -> int | None:
        """The newest stamp [ns]; None when there is none."""
        return self._entries[-1].key[0] if self._entries else None

    def too_late(self, stamp_ns: int) -> bool:
        """Whether a measurement of this stamp is older than the history."""
        return bool(self._entries) and stamp_ns < self._entries[-1].key[0] - self._history

    def add(self, stamp_ns: int, rank: int, apply: Callable[[], None]) -> bool:
        """Take a measurement; `apply` makes the machine take it. Of one stamp, the lower rank comes first.

        Returns False when it is too late, and then nothing is done.
        """
        entries, key = self._entries, (stamp_ns, rank)
        if not entries or key >= entries[-1].key:
            entries.append(_Entry(key, apply, None))
            self.settle()
            self._prune()
            return True
        if self.too_late(stamp_ns):
            return False
        at = bisect_right(entries, key, key=lambda e: e.key)
        entries.insert(at, _Entry(key, apply, None))
        self._turned_back = True
        self._applied = min(self._applied, at)
        self.replayed += 1
        return True

    def settle(self) -> None:
        """Apply what waits."""
        entries = self._entries
        if self._turned_back:
            self._machine.restore(entries[self._applied - 1].after if self._applied else self._before)
            self._turned_back = False
        for entry in entries[self._applied :]:
            entry.apply()
            entry.after = self._machine.snapshot()
        self._applied = len(entries)

    def _prune(self) -> None:
        """Drop what nobody can come before any more; a hundred at a time, since a list moves up as a whole."""
        entries = self._entries
        oldest = entries[-1].key[0] - self._history
        if len(entries) < 100 or (entries[99].key[0] >= oldest and len(entries) <= MOST):
            return
        n = bisect_right(entries, (oldest, -1), key=lambda e: e.key)
        n = max(n - 1, len(entries) - MOST, 0)
        if n:
            self._before = entries[n - 1].after
            del entries[:n]
            self._applied -= n
