"""bag_player: a recording plays the physical robot, in real time, on its own clock.

Topics are published under their recorded names, below the node's namespace; what a twin had published there
(virtual/…, physical/…, twin/…, /tf) is left out. /clock follows the recording at 100 Hz: run the others with use_sim_time.
"""

from __future__ import annotations

import math
import time
from typing import Any

from rosgraph_msgs.msg import Clock

from digital_twin.bags import Bag
from digital_twin.core.errors import BagError, ConfigError
from digital_twin.core.statistics import Pace
from digital_twin.ros.message_class import message_class
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.qos import CLOCK, SENSOR_OUT
from digital_twin.settings import BagPlayerSettings

NS = 1_000_000_000
CLOCK_PERIOD_NS = 10_000_000
NOT_PLAYED = ("virtual/", "physical/", "twin/", "tf", "clock", "rosout", "parameter_events", "diagnostics")


class BagPlayer(TwinNode[BagPlayerSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("bag_player", BagPlayerSettings, "twin/bag_status")
        if not self.settings.bag:
            raise ConfigError("node bag_player: parameter 'bag' is missing: the path of a recording")
        self._bag = Bag(self.settings.bag)
        self._send: dict[str, Any] = {}
        self._joined: list[str] = []
        self._advertise()
        self._tell_clock = self.talk(Clock, "/clock", CLOCK)
        self._messages = self._bag.messages()
        self._next: tuple[str, int, bytes] | None = next(self._messages, None)
        self._now_ns = self._bag.start_ns
        self._clock_due = self._now_ns
        self._wall = time.monotonic_ns()
        self._deadline = time.monotonic() + self.settings.wait
        self._ready_since: tuple[int, float] = (0, time.monotonic())
        self._playing = False
        self._pace = Pace()

    def _advertise(self) -> None:
        for topic in self._bag.topics.values():
            name = topic.name.lstrip("/")
            if name.startswith(NOT_PLAYED):
                continue
            message_type = message_class(topic.kind)
            if message_type is None:
                self.get_logger().warning(f"{topic.name}: type {topic.kind} is not installed here; left out")
                continue
            self._send[topic.name] = self.talk(message_type, name, SENSOR_OUT)
            self._joined.append(name)
        if not self._send:
            raise BagError(f"{self._bag.path}: no topic of the recording can be played here")

    def _someone_listens(self) -> bool:
        """Wait until the number of subscribers has not changed for a second, or for as long as was set."""
        if time.monotonic() > self._deadline:
            self.get_logger().warning("nobody subscribed in time; playing to whom it may concern")
            return True
        listeners = sum(self.count_subscribers(self.resolve_topic_name(name)) for name in self._joined)
        if listeners != self._ready_since[0]:
            self._ready_since = (listeners, time.monotonic())
        return listeners > 0 and time.monotonic() - self._ready_since[1] > 1.0

    def work(self) -> float:
        """Publish what is due; returns how long [s] nothing is."""
        if not self._playing:
            # Time stands at the start of the recording meanwhile, so that those who wait for /clock have one.
            self._tell_time(self._bag.start_ns)
            self._playing = self._someone_listens()
            self._wall = time.monotonic_ns()
            return 0.05
        if self.done:
            return 0.1
        self._now_ns = self._bag.start_ns + round((time.monotonic_ns() - self._wall) * self.settings.rate)
        self._wait_for_what_is_late()
        while self._clock_due <= self._now_ns:
            self._play_until(self._clock_due)
            self._tell_time(self._clock_due)
            self._clock_due += CLOCK_PERIOD_NS
        self._play_until(self._now_ns)
        if self._next is None and self._now_ns > self._bag.end_ns + self.settings.tail * NS:
            self._end()
        due = min(self._clock_due, self._next[1] if self._next else self._clock_due)
        return max(0.0, (due - self._now_ns) / NS / self.settings.rate)

    def _wait_for_what_is_late(self) -> None:
        """After a stall time goes on from where it was: a burst would be lost in the readers' queues."""
        late = self._now_ns - (self._clock_due + CLOCK_PERIOD_NS)
        if late > 0:
            self._now_ns -= late
            self._wall += round(late / self.settings.rate)

    def _play_until(self, time_ns: int) -> None:
        while self._next is not None and self._next[1] <= time_ns:
            topic, _, data = self._next
            send = self._send.get(topic)
            if send is not None:
                send(data)
            self._next = next(self._messages, None)

    def _tell_time(self, time_ns: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(time_ns, NS)
        self._tell_clock(message)

    def _end(self) -> None:
        if not self.settings.loop:
            self.get_logger().info("the recording has ended")
            self.done = True
            return
        self._messages = self._bag.messages()
        self._next = next(self._messages, None)
        self._clock_due, self._wall = self._bag.start_ns, time.monotonic_ns()

    def status(self) -> tuple[int, str, dict[str, object]]:
        """How far the recording is."""
        played = (self._now_ns - self._bag.start_ns) / NS
        length = (self._bag.end_ns - self._bag.start_ns) / NS
        words = "" if self._playing else "waiting for subscribers"
        rtf = self._pace.factor(self._clock_due, time.monotonic_ns()) if self._playing else math.nan
        return 0, words, {"played_s": played, "length_s": length, "real_time_factor": rtf}


def main() -> None:
    """Entry point."""
    run("bag_player", BagPlayer, BagPlayerSettings, shared_memory=True)


if __name__ == "__main__":
    main()
