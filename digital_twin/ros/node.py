"""The frame that all nodes share: parameters, status, a clean start and a clean end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray

from digital_twin.core.arrays import Array
from digital_twin.core.statistics import Loop, Rate, Tally
from digital_twin.ros.cdr import MalformedError
from digital_twin.ros.journal import Journal, key_of
from digital_twin.ros.labelled import LabelledWriter
from digital_twin.ros.parameters import declare
from digital_twin.ros.qos import INTERNAL

S = TypeVar("S")
STATUS_PERIOD = 0.5
NS = 1_000_000_000


class TwinNode(Node, Generic[S]):
    """A node of the twin.

    Attributes:
        settings: the values of its parameters.
        tally: messages received and rejected. loop: duration of its main piece of work.
        waiting: messages that it listens to are not taken yet.
        arrival_ns, steady_ns: wall clock and steady clock when what is handled now arrived [ns].
    """

    def __init__(self, name: str, settings: type[S], status_topic: str, *, journal: bool = False) -> None:
        """journal: keep one, so that the node can be run again exactly; its `now_ns` is then the time of the event."""
        super().__init__(name)
        self.settings: S = declare(self, settings)
        self._set_up(name, status_topic, journal)

    def _set_up(self, name: str, status_topic: str, journal: bool) -> None:
        self.tally = Tally()
        self.waiting = False
        self.arrival_ns, self.steady_ns, self._ros_ns = time.time_ns(), time.monotonic_ns(), 0
        self._journal = Journal(self, name) if journal else None
        self._follows_clock = bool(self.get_parameter("use_sim_time").value)
        self.loop = Loop()
        self.done = False
        self._rates: dict[str, Rate] = {}
        self._status_out = self.create_publisher(DiagnosticArray, status_topic, INTERNAL)
        self._said: dict[str, float] = {}
        self.every(STATUS_PERIOD, self._publish_status)

    # Time

    def now_ns(self) -> int:
        """ROS time [ns]: the wall clock, or /clock under use_sim_time; of a node with a journal, when its event began."""
        return self._read_clock() if self._journal is None else self._ros_ns

    def stopwatch_ns(self) -> int:
        """A clock to measure work with; it stands still in a replay."""
        return time.perf_counter_ns()

    def _read_clock(self) -> int:
        # The same time, an order of magnitude cheaper to read where it is the wall clock's.
        return int(self.get_clock().now().nanoseconds) if self._follows_clock else time.time_ns()

    def _read_steady(self) -> int:
        return time.monotonic_ns()

    def _event_begins(self, source: int, key: int) -> None:
        """An event begins: a message, a tick or a service call."""
        if self._journal is not None:
            self.arrival_ns, self.steady_ns, self._ros_ns = time.time_ns(), time.monotonic_ns(), self._read_clock()
            self._journal.add(source, key, self._ros_ns, self.steady_ns)

    def _source(self, name: str) -> int:
        return self._journal.source(name) if self._journal is not None else 0

    def every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back every `period` seconds of the steady clock, whatever /clock does."""
        source = self._source(f"tick {callback.__name__}")

        def tick() -> None:
            self._event_begins(source, 0)
            callback()

        self.create_timer(period, tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def serve(self, kind: Any, name: str, answer: Callable[[Any, Any], Any]) -> None:
        """Offer a service, like ~/resync. Of a request at most a field `data` is in the journal."""
        source = self._source(f"call {name}")

        def receive(request: Any, response: Any) -> Any:
            self._event_begins(source, int(getattr(request, "data", 0)))
            return answer(request, response)

        self.create_service(kind, name, receive)

    # Messages

    def listen(self, message_type: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile) -> Any:
        """Subscribe to messages as bytes; they are counted, and bytes that are no message are refused."""

        source = self._source(f"message {topic}")

        def receive(data: Any) -> None:
            if self.waiting:
                return
            self.tally.received[topic] += 1
            data = bytes(data)
            self._event_begins(source, key_of(data))
            try:
                callback(data)
            except MalformedError:
                self.tally.reject(topic, "malformed")

        return self.create_subscription(message_type, topic, receive, qos, raw=True)

    def talk(self, message_type: Any, topic: str, qos: QoSProfile) -> Callable[[Any], None]:
        """A publisher whose messages are counted under their topic."""
        publisher: Publisher = self.create_publisher(message_type, topic, qos)
        rate = self._rates.setdefault(topic, Rate())
        publish = publisher.publish

        def send(message: Any) -> None:
            rate.count += 1
            publish(message)

        return send

    def talk_labelled(self, topic: str, labels: Sequence[str]) -> Callable[[int, Callable[[], Array]], None]:
        """A publisher of stamped, labelled numbers: Float64MultiArray, since no standard message has them.

        Its first two numbers are the stamp's seconds and nanoseconds. While nobody listens nothing is computed.
        """
        publisher: Publisher = self.create_publisher(Float64MultiArray, topic, INTERNAL)
        rate = self._rates.setdefault(topic, Rate())
        writer = LabelledWriter(labels)
        heard = False

        def look() -> None:
            nonlocal heard
            heard = publisher.get_subscription_count() > 0

        self.every(STATUS_PERIOD, look)

        def send(stamp_ns: int, values: Callable[[], Array]) -> None:
            if heard:
                rate.count += 1
                publisher.publish(writer.write(stamp_ns, values()))

        return send

    def frame(self, name: str) -> str:
        """A frame's name in this robot's namespace."""
        namespace = self.get_namespace().strip("/")
        return f"{namespace}/{name}" if namespace else name

    def say(self, level: str, text: str) -> None:
        """Log a text. level: info, warning or error."""
        logger = self.get_logger()
        # A line each: rclpy refuses a line that logs at another level than before.
        if level == "error":
            logger.error(text)
        elif level == "warning":
            logger.warning(text)
        else:
            logger.info(text)

    def say_once(self, level: str, text: str, period: float = 10.0) -> None:
        """Log a text at most once in a period [s]."""
        now = time.monotonic()
        if now - self._said.get(text, -1e9) >= period:
            self._said[text] = now
            self.say(level, text)

    # Status

    def status(self) -> tuple[int, str, dict[str, object]]:
        """Level (0 OK, 1 warning, 2 error), one sentence, and values beyond the common ones. For nodes to override."""
        return 0, "", {}

    def _publish_status(self) -> None:
        level, words, values = self.status()
        common: dict[str, object] = {f"received/{k}": v for k, v in self.tally.received.items()}
        common |= {f"rejected/{k}": v for k, v in self.tally.rejected.items()}
        now = self._read_steady()
        common |= {f"rate_hz/{k}": round(r.hz(now), 2) for k, r in self._rates.items()}
        common |= {f"sent/{k}": r.count for k, r in self._rates.items()}
        common |= {f"loop_ms/{k}": round(v, 4) for k, v in self.loop.summary().items()}
        message = DiagnosticArray()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.now_ns(), NS)
        status = DiagnosticStatus(level=bytes([level]), name=self.get_fully_qualified_name().strip("/"), message=words)
        status.values = [KeyValue(key=k, value=_text(v)) for k, v in (common | values).items()]
        message.status = [status]
        self._status_out.publish(message)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
