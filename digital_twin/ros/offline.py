"""Nodes of the twin run without a middleware: a stand-in for what they use of rclpy, on one clock that is told to them.

`offline(TwinSynchronizer, bus, …)` is that very node; only the ground it stands on is another.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from rclpy.serialization import serialize_message

from digital_twin.core.config import build, unflatten
from digital_twin.recording.message_types import typestore
from digital_twin.recording.typed import deserialize
from digital_twin.ros.journal import unique
from digital_twin.ros.node import TwinNode

Handler = Callable[[bytes], None]


@dataclass
class Timer:
    """Something to be done every so often; `due` [ns] of the bus's clock."""

    period_ns: int
    due: int
    callback: Callable[[], None]


@dataclass
class Bus:
    """Carries messages between offline nodes. Nothing happens but on `deliver`, `tick` and what is called by name.

    Attributes:
        now_ns, steady_ns: the time it is. sink: is given each message that a node publishes, (topic, bytes).
        kinds: types of what is published, by topic. namespace: of the nodes, for the names of frames.
        heard: types of what is listened to, by topic.
    """

    sink: Callable[[str, bytes], None]
    now_ns: int = 0
    steady_ns: int = 0
    say: Callable[[str, str], None] = lambda level, text: None
    handlers: dict[str, list[Handler]] = field(default_factory=lambda: defaultdict(list))
    timers: list[Timer] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    namespace: str = "/"
    heard: dict[str, str] = field(default_factory=dict)
    _queue: deque[tuple[str, bytes]] = field(default_factory=deque)

    def publish(self, topic: str, data: bytes) -> None:
        """A node says something."""
        self.sink(topic, data)
        if topic in self.handlers:
            self._queue.append((topic, data))

    def deliver(self, topic: str, data: bytes) -> None:
        """A message from outside to all who listen, and all that follows from it."""
        self._queue.append((topic, data))
        self.settle()

    def settle(self) -> None:
        """Deliver what was published, in the order in which it was."""
        while self._queue:
            name, message = self._queue.popleft()
            for handle in self.handlers.get(name, ()):
                handle(message)

    def advance(self, now_ns: int) -> None:
        """Time passes; timers that are due go off, each at its time."""
        while True:
            timer = min(self.timers, key=lambda t: t.due, default=None)
            if timer is None or timer.due > now_ns:
                break
            self.now_ns = self.steady_ns = timer.due
            timer.due += timer.period_ns
            timer.callback()
            self.settle()
        self.now_ns = self.steady_ns = now_ns

    def leap(self, now_ns: int) -> None:
        """It is another time, without any having passed: timers keep their distance."""
        for timer in self.timers:
            timer.due += now_ns - self.now_ns
        self.now_ns = self.steady_ns = now_ns


class Offline(TwinNode[Any]):
    """Comes between a node and TwinNode. Subclasses made by `offline` have `bus`, `given` and `lone`.

    Attributes:
        sources: what its journal calls them: handlers of messages, ticks and calls by name.
    """

    bus: Bus
    given: dict[str, Any]
    lone: bool

    def __init__(self, name: str, settings: type, status_topic: str, *, journal: bool = False) -> None:
        self._label = name
        self.settings = build(settings, self.given, f"node {name}")
        self.sources: dict[str, Callable[[int, bytes], None]] = {}
        self._set_up(name, status_topic, False)

    # Time

    def now_ns(self) -> int:
        """The bus's."""
        return self.bus.now_ns

    def stopwatch_ns(self) -> int:
        """Stands still: work takes no time here."""
        return 0

    def _read_steady(self) -> int:
        return self.bus.steady_ns

    def _event_begins(self, source: int, key: int) -> None:
        self.arrival_ns, self.steady_ns = self.bus.now_ns, self.bus.steady_ns

    # What rclpy gives

    def create_publisher(self, message_type: Any, topic: str, qos: Any) -> Any:
        """One whose messages go to the bus. What only aligns is zero in them: rclpy leaves there what was there."""
        kind = self.bus.kinds[topic] = _kind(message_type)

        def publish(message: Any) -> None:
            if not isinstance(message, bytes):
                message = bytes(typestore().serialize_cdr(deserialize(bytes(serialize_message(message)), kind), kind))
            self.bus.publish(topic, message)

        return SimpleNamespace(publish=publish, get_subscription_count=lambda: 1)

    def create_subscription(self, message_type: Any, topic: str, callback: Any, qos: Any, *, raw: bool = False) -> None:
        """Raw ones hear the bus; the others are not needed."""
        if raw:
            self.sources[self._named] = lambda key, data: callback(data)
            if not self.lone:
                self.bus.handlers[topic].append(callback)
                self.bus.heard[topic] = _kind(message_type)

    def create_timer(self, period: float, callback: Callable[[], None], clock: Any = None) -> None:
        """Goes off with the bus's clock, or when the journal says so."""
        self.sources[self._named] = lambda key, data: callback()
        if not self.lone:
            ns = round(period * 1e9)
            self.bus.timers.append(Timer(ns, self.bus.now_ns + ns, callback))

    def create_service(self, kind: Any, name: str, callback: Any) -> None:
        """Called when the journal says so."""
        self.sources[self._named] = lambda key, data: callback(SimpleNamespace(data=bool(key)), kind.Response())

    def _source(self, name: str) -> int:
        # As the journal names it; what is created next is it.
        self._named = unique(name, self.sources)
        self.sources[self._named] = lambda key, data: None
        return 0

    def get_parameter(self, name: str) -> Any:
        """Nothing follows /clock here: the bus is the clock."""
        return SimpleNamespace(value=False)

    def get_logger(self) -> Any:
        """What is logged goes to the bus."""
        tell = lambda level: lambda text, *_: self.bus.say(level, f"{self._label}: {text}")  # noqa: E731
        return SimpleNamespace(**{level: tell(level) for level in ("debug", "info", "warning", "error", "fatal")})

    def get_namespace(self) -> str:
        """As it was recorded."""
        return self.bus.namespace

    def get_name(self) -> str:
        """Without the namespace."""
        return self._label

    def get_fully_qualified_name(self) -> str:
        """In its namespace."""
        return f"{self.bus.namespace.rstrip('/')}/{self._label}"

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """Names on the bus are without the namespace."""
        return topic

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[Any]:
        """Who else publishes is not known here."""
        return []

    def count_publishers(self, topic_name: str) -> int:
        """Nor how many."""
        return 0

    def count_subscribers(self, topic_name: str) -> int:
        """Nor who listens."""
        return 1


def offline(node: type, bus: Bus, settings: dict[str, Any], *, lone: bool = False) -> Offline:
    """A node on a bus.

    Args:
        node: its class, derived from TwinNode.
        bus: what it is connected to.
        settings: its parameters, dotted names; what is not there has its default.
        lone: True to run it from its journal: neither messages nor timers of the bus reach it, only `sources` do.

    Raises:
        ConfigError and what else the node raises when it cannot start as it was told to.
    """
    ground = {"bus": bus, "given": unflatten(settings), "lone": lone}
    made: Offline = type(f"Offline{node.__name__}", (node, Offline), ground)()
    return made


def _kind(message_type: Any) -> str:
    """A class by its name in a recording: sensor_msgs/msg/Imu."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"
