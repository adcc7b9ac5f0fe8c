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
WAITING = 100  # measurements that wait for one that is to be answered, at most
PATIENCE = 200_000  # [ns] for each measurement that turning back would apply again
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
    answer: bool  # something is given out after this one, so it is worth a snapshot
    after: object = None


class Replay:
    """Applies measurements to a machine in the order of (stamp, rank).

    What is not to be answered (`add` with `answer` False) waits for what is: work done in one go costs half of the same
    work done in pieces. What belongs before others that were applied already waits for more of its kind, the longer the
    more there is to apply again. Until then (or `settle`) the machine goes on without it.

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
        self._applied = 0  # so many entries, from the oldest, have had their turn
        self._misplaced: int | None = None  # the first of these that the machine has not seen in its place
        self._turned_ns = 0
        self._cut_ns = -(2**63)  # stamp of the newest entry that was dropped

    @property
    def newest(self) -> int | None:
        """The newest stamp [ns]; None when there is none."""
        return self._entries[-1].key[0] if self._entries else None

    def too_late(self, stamp_ns: int) -> bool:
        """Whether a measurement of this stamp is older than what is kept."""
        return bool(self._entries) and stamp_ns < max(self._entries[-1].key[0] - self._history, self._cut_ns)

    def add(self, stamp_ns: int, rank: int, apply: Callable[[], None], answer: bool = True) -> bool:
        """Take a measurement; `apply` makes the machine take it. Of one stamp, the lower rank comes first.

        Returns False when it is too late, and then nothing is done.
        """
        entries, key = self._entries, (stamp_ns, rank)
        if not entries or key >= entries[-1].key:
            entries.append(_Entry(key, apply, answer))
        elif self.too_late(stamp_ns):
            return False
        else:
            self._insert(_Entry(key, apply, answer))
        if (answer and entries[-1].key == key) or len(entries) - self._applied > WAITING:
            again = 0 if self._misplaced is None else self._applied - self._misplaced
            if again and entries[-1].key[0] - self._turned_ns >= again * PATIENCE:
                self.settle()
            else:
                self._go_on()
            self._prune()
        return True

    def _insert(self, entry: _Entry) -> None:
        at = bisect_right(self._entries, entry.key, key=lambda e: e.key)
        self._entries.insert(at, entry)
        if at < self._applied:
            self._applied += 1
            self._misplaced = at if self._misplaced is None else min(at, self._misplaced)
            self.replayed += 1

    def settle(self) -> None:
        """Put everything in its place now."""
        if self._misplaced is not None:
            start, state = self._snapshot_before(self._misplaced)
            self._machine.restore(state)
            self._applied, self._misplaced = start, None
            self._turned_ns = self._entries[-1].key[0]
        self._go_on()

    def _snapshot_before(self, at: int) -> tuple[int, object]:
        """The last snapshot before entry `at`: how many entries it has seen, and itself."""
        for i in range(at - 1, -1, -1):
            if self._entries[i].after is not None:
                return i + 1, self._entries[i].after
        return 0, self._before

    def _go_on(self) -> None:
        """Apply what waits."""
        entries = self._entries
        while self._applied < len(entries):
            entry = entries[self._applied]
            try:
                entry.apply()
            except BaseException:
                del entries[self._applied]
                raise
            self._applied += 1
            entry.after = self._machine.snapshot() if entry.answer or self._applied == len(entries) else None

    def _prune(self) -> None:
        """Drop what nobody can come before any more; a hundred at a time, since a list moves up as a whole."""
        entries = self._entries
        oldest = entries[-1].key[0] - self._history
        if len(entries) < 100 or (entries[99].key[0] >= oldest and len(entries) <= MOST):
            return
        n = max(bisect_right(entries, (oldest, -1), key=lambda e: e.key) - 1, len(entries) - MOST)
        if self._misplaced is not None and n > self._misplaced:
            self.settle()
        n, state = self._snapshot_before(n)
        if n:
            self._before, self._cut_ns = state, entries[n - 1].key[0]
            del entries[:n]
            self._applied -= n
            if self._misplaced is not None:
                self._misplaced -= n
