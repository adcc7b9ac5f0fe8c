"""Average rates of topics, from how many messages nodes say that they have sent."""

from __future__ import annotations

Told = tuple[float, int]  # when [s], how many messages until then


class AverageRates:
    """Of each topic, from the first status that told of messages to the last but one that told of more.

    At the last, messages may have ended long before: half a second of silence is much of a short recording.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[Told, Told, Told]] = {}  # by topic: the first, the last but one, the last

    def note(self, topic: str, at: float, count: int) -> None:
        """A status at a time [s] says how many messages there have been on a topic."""
        now = at, count
        first, before, last = self._told.get(topic, (now, now, now))
        if count > last[1]:
            first, before, last = (first, last, now) if last[1] else (now, now, now)
        self._told[topic] = first, before, last

    def rates(self) -> dict[str, float]:
        """[Hz] by topic, of those that were told of for longer than 0.1 s."""
        out = {}
        for topic, (first, before, last) in sorted(self._told.items()):
            end = before if before[0] - first[0] > 0.1 else last
            if end[0] - first[0] > 0.1:
                out[topic] = (end[1] - first[1]) / (end[0] - first[0])
        return out
