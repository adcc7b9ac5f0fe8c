"""Is each stream there, is it alive, is it late? Judged by stamps and arrivals; no clock is read here."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

NS = 1_000_000_000
LEARN = 50  # messages of a stream before it is judged
RECENT = 512
JUST = 50_000_000  # [ns]
PROMPT = 0.9  # of the time within which it must have been said
LASTING = 5_000_000_000  # [ns] after which a backlog is said
SLOT = 100_000_000  # [ns] of which the least delay counts
EVIDENCE = math.log(0.98 / 0.02)  # that a slot's delay above the usual is for a change


@dataclass(frozen=True)
class StreamFault:
    """A stream that is missing, frozen or late: kind, name, since when or by how much [s] with its interval."""

    kind: str
    stream: str
    size: float
    low: float = math.nan
    high: float = math.nan

    @property
    def words(self) -> str:
        """For people."""
        if self.kind == "delay":
            return f"{self.stream} comes {1e3 * self.size:.0f} ms ({1e3 * self.low:.0f} … {1e3 * self.high:.0f}) later"
        return f"{self.stream} has been {self.kind} for {self.size:.2f} s"


class _Stream:
    def __init__(self) -> None:
        self.count = 0
        self.gaps: deque[int] = deque(maxlen=RECENT)
        self.period = 0.0
        self.stamp = self.arrival = 0
        self.content, self.since, self.longest = 0, 0, 0
        self.learning = True
        self.base = math.inf
        self.excess = 0.0
        self.delays: deque[float] = deque(maxlen=RECENT)
        self.usual = self.spread = math.nan
        self.sums, self.least, self.window = 0.0, math.inf, 0
        self.late: deque[float] = deque(maxlen=100)
        self.judged = False


class StreamWatch:
    """Feed `heard` with every message; `faults` tells what is wrong at a time.

    A stream is missing when nothing has come for max(0.1 s, 3 periods) while others came; frozen when it says the same
    for longer than that and than it ever did while it was learned. Late when the least of arrival minus stamp stays above its usual.
    What makes all streams late at once is this process, or what it runs on: that is taken off.
    """

    def __init__(self, run_length: float, patience: float = 0.1, step: float = 0.005) -> None:
        """run_length: slots between false alarms of delay. patience [s]. step [s]: the least delay of interest."""
        self._patience, self._step = patience, step
        self._threshold = math.log(max(run_length, 2.0))
        self._streams: dict[str, _Stream] = {}
        self._backlog, self._behind_since = 0.0, 0
        self.calibrating = True

    def heard(self, stream: str, stamp_ns: int, arrival_ns: int, content: int | None = None) -> None:
        """A message; `content`: a hash of what it says, None when it may repeat itself."""
        s = self._streams.setdefault(stream, _Stream())
        gap = stamp_ns - s.stamp if stamp_ns > s.stamp else arrival_ns - s.arrival
        if s.count and gap > 0:
            s.gaps.append(gap)
        if s.count < LEARN or s.count % 64 == 0:
            s.period = float(np.median(s.gaps)) / NS if s.gaps else 0.0
        if content is None or content != s.content:
            if self.calibrating and content is not None and s.since:
                s.longest = max(s.longest, arrival_ns - s.since)
            s.content, s.since = content or 0, arrival_ns
        s.count += 1
        s.stamp, s.arrival = stamp_ns, arrival_ns
        delay = (arrival_ns - stamp_ns) / NS
        if self.calibrating or not s.judged:
            s.base = min(s.base, delay)
        s.excess = delay - s.base
        self._delay(s, arrival_ns, delay - self._own(s))

    def _own(self, s: _Stream) -> float:
        """How much later than ever the others come that came just now; what they share is not the stream's."""
        return self._shared([o for o in self._streams.values() if o is not s], s.arrival)

    @staticmethod
    def _shared(streams: list[_Stream], now_ns: int) -> float:
        return min((o.excess for o in streams if o.count >= LEARN and now_ns - o.arrival < JUST), default=0.0)

    def behind(self, limit: float) -> bool:
        """Whether all streams that came just now come later than they did by more than `limit` [s]: this process has a backlog."""
        streams = list(self._streams.values())
        newest = max((s.arrival for s in streams), default=0)
        self._backlog = self._shared(streams, newest)
        if self._backlog <= limit:
            self._behind_since = 0
        elif not self._behind_since:
            self._behind_since = newest
        return self._backlog > limit

    def _delay(self, s: _Stream, arrival_ns: int, delay: float) -> None:
        """The least delay of each tenth of a second: a hiccup of this machine makes many messages late, but not for
        long. Whether it is above the usual counts, in a CUSUM of likelihood ratios."""
        s.least = min(s.least, delay)
        if arrival_ns < s.window:
            return
        least, s.least, s.window = s.least, math.inf, arrival_ns + SLOT
        if self._behind_since:
            return  # streams wait in queues of their own: how late one is by itself cannot be told
        if not s.judged:
            s.delays.append(least)
            if not self.calibrating and len(s.delays) >= LEARN:
                self._settle(s)
            return
        late = least > s.usual + self._step
        s.sums = min(max(0.0, s.sums + (EVIDENCE if late else -EVIDENCE)), 2.0 * self._threshold)
        if late:
            s.late.append(least)
        elif s.sums == 0.0:
            s.late.clear()
            s.delays.append(least)

    @staticmethod
    def _settle(s: _Stream) -> None:
        d = np.array(s.delays)
        s.spread = float(np.quantile(d, 0.9) - np.median(d))
        s.usual = float(np.quantile(d, 0.9))
        s.judged = True

    def settle(self) -> None:
        """What came until now was as it should be."""
        self.calibrating = False
        for s in self._streams.values():
            if len(s.delays) >= LEARN:
                self._settle(s)

    def reset(self) -> None:
        """Forget alarms, not what is usual."""
        for s in self._streams.values():
            s.sums = 0.0
            s.late.clear()

    def faults(self, now_ns: int) -> list[StreamFault]:
        """What is wrong now, the worst first."""
        if not self._streams:
            return []
        newest = max(s.arrival for s in self._streams.values())
        missing, frozen, late = [], [], []
        for name, s in self._streams.items():
            if s.count < LEARN:
                continue
            limit = PROMPT * max(self._patience, 3.0 * s.period)
            age = (now_ns - s.arrival) / NS
            # While nothing comes at all, this process may have been asleep: then only time will tell.
            if age > limit and ((not self._behind_since and self._left_out(s, newest, limit)) or age > 5.0 * limit):
                missing.append(StreamFault("missing", name, age))
            elif (s.arrival - s.since) / NS > max(limit, 3.0 * s.longest / NS):
                frozen.append(StreamFault("frozen", name, (s.arrival - s.since) / NS))
            elif not self._behind_since and s.sums >= self._threshold and len(s.late) > 2:
                size = float(np.median(s.late)) - float(np.median(s.delays))
                margin = 2.0 * max(s.spread, 1e-4)
                late.append(StreamFault("delay", name, size, size - margin, size + margin))
        if self._behind_since and newest - self._behind_since > LASTING:
            late.append(StreamFault("delay", "everything", self._backlog, self._backlog, max(s.excess for s in self._streams.values())))  # fmt: skip
        return sorted(missing, key=lambda f: -f.size) + frozen + sorted(late, key=lambda f: -f.size)

    def _left_out(self, s: _Stream, newest: int, limit: float) -> bool:
        """Whether others went on without it: by arrivals, and, where a backlog is worked off, by their stamps too."""
        if newest - s.arrival <= 0.5 * limit * NS:
            return False
        said = [o.stamp + (o.usual if o.judged else 0.0) * NS for o in self._streams.values() if o is not s]
        return max(said, default=0.0) - (s.stamp + (s.usual if s.judged else 0.0) * NS) > 0.5 * limit * NS

    def periods(self) -> dict[str, float]:
        """Of each stream that is known [s]."""
        return {name: s.period for name, s in self._streams.items()}
