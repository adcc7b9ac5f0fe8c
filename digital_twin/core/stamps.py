"""Is the stamp of this message believable? Duplicates, floods, messages from the past and from the future.

Clocks of robots and hosts differ, and clocks get stepped. So a stamp is judged against the stream itself: against the
newest stamp so far, and against the least difference between arrival and stamp seen lately. When all stamps of a
stream disagree with that for a while, but agree with each other, the clock has been stepped, and the guard follows it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from digital_twin.core.config import param

NS = 1_000_000_000
SETTLING_NS, LOOSE_NS = 300_000_000, NS


@dataclass(frozen=True)
class StampConfig:
    """What a believable stamp is."""

    history: float = param(
        0.2, "a message this much older than the newest of its stream is of no use to anybody", unit="s",
        low=0.01, high=5,
    )  # fmt: skip
    future: float = param(0.1, "a message this much ahead of its stream's clock is refused", unit="s", low=0.01, high=5)
    step_after: float = param(
        0.3, "when all stamps of a stream have been refused for so long, its clock has been stepped", unit="s",
        low=0.05, high=10,
    )  # fmt: skip
    max_rate: float = param(1500.0, "more messages a second than this are a flood", unit="Hz", low=10, high=1e5)


class StampGuard:
    """Judges one stream. `check` returns the reason to refuse a message, or None.

    Attributes:
        clock_steps: how often the clock of the stream was found to have been stepped.
        offset_ns: least arrival minus stamp of late [ns]: delay plus difference of the clocks.
    """

    def __init__(self, config: StampConfig) -> None:
        self.config = config
        self._history = round(config.history * NS)
        self._future = round(config.future * NS)
        self._step_after = round(config.step_after * NS)
        self._seen: deque[tuple[int, int]] = deque(maxlen=4096)
        self._known: set[tuple[int, int]] = set()
        self._newest: int | None = None
        self.offset_ns = self._begun = 0
        self._window = (0, 0)
        self._refused: list[tuple[int, int]] = []
        self._tokens, self._filled = config.max_rate * 0.1, 0
        self.clock_steps = 0
        self.late = 0

    def check(self, stamp_ns: int, arrival_ns: int, content: int) -> str | None:
        """Judge a message by its stamp, time of arrival [ns] and a hash of its content."""
        if not self._within_rate(arrival_ns):
            return "flood"
        key = (stamp_ns, content)
        if key in self._known:
            return "duplicate"
        reason = self._out_of_time(stamp_ns, arrival_ns)
        if reason is not None and not self._stepped(stamp_ns, arrival_ns):
            return reason
        self._refused.clear()
        self._accept(stamp_ns, arrival_ns, key)
        return None

    def _within_rate(self, arrival_ns: int) -> bool:
        """A bucket of tokens, a tenth of a second deep."""
        rate = self.config.max_rate
        gained = max(0, arrival_ns - self._filled) * rate / NS
        self._tokens, self._filled = min(rate * 0.1, self._tokens + gained), arrival_ns
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _out_of_time(self, stamp_ns: int, arrival_ns: int) -> str | None:
        if self._newest is None:
            return None
        if stamp_ns < self._newest - self._history:
            return "too_old"
        # Messages that waited for us to start have long delays: the stream's clock is not known at once.
        ahead = self._future if arrival_ns - self._begun > SETTLING_NS else max(self._future, LOOSE_NS)
        return "future" if arrival_ns - stamp_ns < self.offset_ns - ahead else None

    def _stepped(self, stamp_ns: int, arrival_ns: int) -> bool:
        """Do the refused messages since the last good one tell one new time?"""
        self._refused.append((stamp_ns, arrival_ns))
        first_stamp, first_arrival = self._refused[0]
        drift = (arrival_ns - first_arrival) - (stamp_ns - first_stamp)
        if abs(drift) > self._future or arrival_ns < first_arrival:
            self._refused = [(stamp_ns, arrival_ns)]
            return False
        if len(self._refused) < 5 or arrival_ns - first_arrival < self._step_after:
            return False
        self.clock_steps += 1
        self._newest, self._known = None, set()
        self._seen.clear()
        return True

    def _accept(self, stamp_ns: int, arrival_ns: int, key: tuple[int, int]) -> None:
        offset = arrival_ns - stamp_ns
        start, least = self._window
        if self._newest is None:
            self.offset_ns, self._window, self._begun = offset, (arrival_ns, offset), arrival_ns
        elif arrival_ns - start > 5 * NS:
            # Two windows of five seconds: the least of the last whole one and of the one running.
            self.offset_ns, self._window = min(least, offset), (arrival_ns, offset)
        else:
            self._window = (start, min(least, offset))
            self.offset_ns = min(self.offset_ns, offset)
        if self._newest is not None and stamp_ns < self._newest:
            self.late += 1
        self._newest = stamp_ns if self._newest is None else max(self._newest, stamp_ns)
        if len(self._seen) == self._seen.maxlen:
            self._known.discard(self._seen[0])
        self._seen.append(key)
        self._known.add(key)
        while self._seen[0][0] < self._newest - self._history:
            self._known.discard(self._seen.popleft())
