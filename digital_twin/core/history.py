"""The last minute of something that is looked at, and the moment of it that is looked at."""

from __future__ import annotations

import bisect
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")
NS = 1_000_000_000


class History(Generic[T]):
    """Items by their stamps, those of the last `span` seconds, at most `most` of them."""

    def __init__(self, span: float = 60.0, most: int = 4000) -> None:
        self._span_ns = round(span * NS)
        self._items: deque[tuple[int, T]] = deque(maxlen=most)

    def add(self, stamp_ns: int, item: T) -> None:
        """Take an item; when time was turned back, what was known is forgotten."""
        if self._items and stamp_ns <= self._items[-1][0]:
            self._items.clear()
        self._items.append((stamp_ns, item))
        while stamp_ns - self._items[0][0] > self._span_ns:
            self._items.popleft()

    def frozen(self) -> list[tuple[int, T]]:
        """All items as they are now, oldest first."""
        return list(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Playhead(Generic[T]):
    """Which item of a history is shown: the newest, or while paused one of those that there were at the pause.

    Attributes:
        ago: how long before the pause the shown item was [s].
    """

    def __init__(self, history: History[T]) -> None:
        self._history = history
        self._held: list[tuple[int, T]] | None = None
        self.ago = 0.0

    @property
    def paused(self) -> bool:
        """Whether time stands still."""
        return self._held is not None

    def pause(self) -> None:
        """Let time stand still."""
        if self._held is None:
            self._held = self._history.frozen()
            self.ago = 0.0

    def scrub(self, ago: float) -> None:
        """Go to so many seconds before the pause; pauses if need be."""
        self.pause()
        self.ago = max(ago, 0.0)

    def live(self) -> None:
        """Follow time again."""
        self._held, self.ago = None, 0.0

    def shown(self) -> tuple[int, T] | None:
        """Stamp [ns] and item; None when there is nothing yet. Before the oldest item it is the oldest."""
        if self._held is None:
            return self._history._items[-1] if self._history._items else None
        if not self._held:
            return None
        wanted = self._held[-1][0] - round(self.ago * NS)
        i = bisect.bisect_right(self._held, wanted, key=lambda entry: entry[0])
        return self._held[max(i - 1, 0)]
