"""Are the outputs of a replay those that were recorded? The first difference is named: topic, stamp and field."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from digital_twin.bags import Bag
from digital_twin.recording.typed import first_difference
from digital_twin.ros.cdr import stamp_ns
from digital_twin.ros.journal import key_of
from digital_twin.ros.labelled import is_labelled, labelled_stamp_ns

NS = 1_000_000_000
MEASURED = ("_status", "twin/arrivals", "twin/journal/")  # hold what a process measured of itself


@dataclass
class Agreement:
    """Of one topic: messages that are the same, that differ, that only one side has between others that both have.

    first: where the first difference is, in words; first_stamp [ns].
    """

    same: int = 0
    different: int = 0
    only_recorded: int = 0
    only_replayed: int = 0
    first: str = ""
    first_stamp: int = 0


class Check:
    """Compares a replay with its recording: give it all outputs by `replayed`, then ask for the `result`.

    Messages are matched by topic and stamp. What the replay gave before the recorder heard the topic is not counted, nor
    what was recorded after the replay's end.
    """

    def __init__(self, bag: Bag, prefix: str) -> None:
        """prefix: of topics in the recording ("/")."""
        self._bag, self._prefix = bag, prefix
        self._held: dict[str, dict[int, deque[tuple[int, bytes]]]] = {}
        self._count: dict[str, int] = defaultdict(int)

    def replayed(self, topic: str, time_ns: int, data: bytes) -> None:
        """An output of the replay."""
        if self._prefix + topic in self._bag.topics and not any(word in topic for word in MEASURED):
            held = self._held.setdefault(topic, {})
            held.setdefault(key_of(data), deque()).append((self._count[topic], data))
            self._count[topic] += 1

    def result(self) -> dict[str, Agreement]:
        """By topic."""
        found = {topic: Agreement() for topic in self._held}
        span: dict[str, tuple[int, int]] = {}
        unmatched: dict[str, int] = defaultdict(int)
        cut = len(self._prefix)
        for name, _, data in self._bag.messages([self._prefix + t for t in self._held]):
            topic = name[cut:]
            same_key = self._held[topic].get(key_of(data))
            if not same_key:
                unmatched[topic] += topic in span
                continue
            place, other = same_key.popleft()
            span[topic] = (span.get(topic, (place, 0))[0], place)
            found[topic].only_recorded += unmatched.pop(topic, 0)
            self._compare(found[topic], topic, data, other)
        for topic, (first, last) in span.items():
            left = (place for queue in self._held[topic].values() for place, _ in queue)
            found[topic].only_replayed = sum(first < place < last for place in left)
        return found

    def _compare(self, a: Agreement, topic: str, recorded: bytes, replayed: bytes) -> None:
        where = ""
        if recorded != replayed:
            where = first_difference(recorded, replayed, self._bag.topics[self._prefix + topic].kind)
        if not where:
            a.same += 1
            return
        a.different += 1
        if not a.first:
            a.first_stamp = labelled_stamp_ns(recorded) if is_labelled(recorded) else stamp_ns(recorded)
            a.first = f"{topic}, stamp {a.first_stamp // NS}.{a.first_stamp % NS:09d}, {where}"


def first_of(topics: Iterable[Agreement]) -> str:
    """The first difference of all, in words; empty when there is none."""
    differing = [a for a in topics if a.first]
    return min(differing, key=lambda a: a.first_stamp).first if differing else ""
