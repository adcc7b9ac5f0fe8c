"""The simulated robot's way to its topics, where messages can be lost, frozen or late."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from digital_twin.core.errors import ConfigError, unknown

NS = 1_000_000_000


class Outbox:
    """Sends messages on named topics, each at the time when it is due [ns]."""

    def __init__(self) -> None:
        self._send: dict[str, Callable[[Any], None]] = {}
        self._delay_ns: dict[str, int] = {}
        self._base_delay_ns: dict[str, int] = {}
        self._dropped: set[str] = set()
        self._frozen: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._queue: list[tuple[int, int, str, Any]] = []
        self._order = itertools.count()

    def add(self, topic: str, send: Callable[[Any], None], delay: float = 0.0) -> None:
        """Know a topic; all its messages are `delay` [s] late."""
        self._send[topic] = send
        self._base_delay_ns[topic] = self._delay_ns[topic] = round(delay * NS)

    def check(self, topic: str) -> None:
        """Raises ConfigError when there is no such topic."""
        if topic not in self._send:
            raise ConfigError(unknown("topic", topic, self._send))

    def drop(self, topic: str, on: bool) -> None:
        """Lose all messages of a topic, or no longer."""
        (self._dropped.add if on else self._dropped.discard)(topic)

    def freeze(self, topic: str, on: bool) -> None:
        """Send the last message of a topic again and again, or no longer."""
        if on:
            self._frozen[topic] = self._last.get(topic)
        else:
            self._frozen.pop(topic, None)

    def delay(self, topic: str, seconds: float) -> None:
        """Send messages of a topic late by this much more than usual."""
        self._delay_ns[topic] = self._base_delay_ns[topic] + round(seconds * NS)

    def post(self, topic: str, message: Any, now_ns: int) -> None:
        """Hand in a message, to be sent at the next flush, or later, or never, as the topic is."""
        if topic in self._dropped:
            return
        frozen = self._frozen.get(topic)
        if frozen is not None:
            message = frozen
        elif topic in self._frozen:
            self._frozen[topic] = message
        self._last[topic] = message
        heapq.heappush(self._queue, (now_ns + self._delay_ns[topic], next(self._order), topic, message))

    def flush(self, now_ns: int) -> None:
        """Send what is due, in one go: a reader that is woken once takes all of it."""
        while self._queue and self._queue[0][0] <= now_ns:
            _, _, topic, message = heapq.heappop(self._queue)
            self._send[topic](message)
