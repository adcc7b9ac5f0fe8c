"""Are the outputs of a replay those that were recorded? The first difference is named: topic, stamp and field."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from digital_twin.bags import Bag
from digital_twin.recording.typed import first_difference
from digital_twin.ros.journal import key_of

NS = 1_000_000_000
MEASURED = ("_status", "twin/arrivals", "twin/journal/")  # hold what a process measured of itself
MOST = 200_000  # messages of a topic that wait for their counterpart


@dataclass
class Agreement:
    """Of one topic: how many messages are the same, how many differ, and where the first difference is."""

    same: int = 0
    different: int = 0
    first: str = ""
    only_recorded: int = 0
    only_replayed: int = 0


@dataclass
class Check:
    """Compares a replay with its recording; feed it with `replayed`, then read `result`.

    Outputs are matched by topic and stamp. What was replayed before the recorder heard the topic, or recorded after the
    replay has ended, is not counted.
    """

    bag: Bag
    prefix: str
    topics: dict[str, Agreement] = field(default_factory=dict)
    _held: dict[str, deque[bytes]] = field(default_factory=dict)
    _first: tuple[int, str] | None = None

    def replayed(self, topic: str, time_ns: int, data: bytes) -> None:
        """An output of the replay."""
        if self.prefix + topic in self.bag.topics and not any(word in topic for word in MEASURED):
            self._held.setdefault(topic, deque()).append(data)

    def result(self) -> dict[str, Agreement]:
        """By topic."""
        for topic, data in self._recorded():
            a = self.topics.setdefault(topic, Agreement())
            self._match(topic, data, a)
        for topic, held in self._held.items():
            self.topics.setdefault(topic, Agreement()).only_replayed += len(held)
        return self.topics

    def _recorded(self) -> Iterator[tuple[str, bytes]]:
        cut = len(self.prefix)
        for topic, _, data in self.bag.messages([self.prefix + t for t in self._held]):
            yield topic[cut:], data

    def _match(self, topic: str, data: bytes, a: Agreement) -> None:
        held, key = self._held[topic], key_of(data)
        skipped = 0
        while held and key_of(held[0]) != key and skipped < MOST:
            if not any(key_of(h) == key for h in list(held)[:50]) and a.same + a.different:
                a.only_recorded += 1
                return
            held.popleft()
            skipped += 1
        if not held:
            a.only_recorded += 1
            return
        if a.same + a.different:
            a.only_replayed += skipped
        other = held.popleft()
        if other == data:
            a.same += 1
            return
        a.different += 1
        if not a.first:
            kind = self.bag.topics[self.prefix + topic].kind
            a.first = f"{topic}, stamp {_stamp(data)}, {first_difference(data, other, kind)}"


def _stamp(data: bytes) -> str:
    sec, nanosec = int.from_bytes(data[4:8], "little", signed=True), int.from_bytes(data[8:12], "little")
    return f"{sec}.{nanosec:09d}"


def first_of(topics: Iterable[Agreement]) -> str:
    """The first difference of all, in words; empty when there is none."""
    found = [a.first for a in topics if a.first]
    return min(found, key=lambda text: text.split("stamp ", 1)[1]) if found else ""
