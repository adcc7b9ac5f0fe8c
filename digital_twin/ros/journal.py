"""What a node handled, in which order and when: with it and the messages themselves the node can be run again exactly.

A journal goes out twice a second on twin/journal/NAME (std_msgs/Int64MultiArray) once somebody listens, from the first
event on. Four numbers for each event: its source, its key, ROS time and the host's steady clock when it began [ns]. The
label of the layout is JSON: sources by number, the node's settings, the version. `data_offset` counts the events before.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable
from typing import Any

from rclpy.clock import Clock, ClockType
from std_msgs.msg import Int64MultiArray, MultiArrayDimension

from digital_twin import __version__
from digital_twin.core.config import to_plain
from digital_twin.ros.labelled import is_labelled, labelled_stamp_ns
from digital_twin.ros.qos import INTERNAL

PERIOD = 0.5
MOST = 400_000  # numbers that wait for a listener
FIELDS = 4
_KEY = struct.Struct("<q")


def topic_of(node: str) -> str:
    """The topic of a node's journal."""
    return f"twin/journal/{node}"


def key_of(data: bytes) -> int:
    """What to know a message by among those of its topic: its stamp; where it has none, its first eight bytes."""
    if is_labelled(data):
        return labelled_stamp_ns(data)
    return int(_KEY.unpack_from(data, 4)[0]) if len(data) >= 12 else 0


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where several sources have it."""
    n = sum(s.split("#")[0] == name for s in taken)
    return f"{name}#{n}" if n else name


class Journal:
    """Of one node."""

    def __init__(self, node: Any, name: str) -> None:
        self._node, self._name = node, name
        self._sources: list[str] = []
        self._events: array[int] = array("q")
        self._before = 0
        self._out = node.create_publisher(Int64MultiArray, topic_of(name), INTERNAL)
        node.create_timer(PERIOD, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def source(self, name: str) -> int:
        """The number of a source of events."""
        self._sources.append(unique(name, self._sources))
        return len(self._sources) - 1

    def add(self, source: int, key: int, ros_ns: int, steady_ns: int) -> None:
        """An event begins."""
        self._events.extend((source, key, ros_ns, steady_ns))

    def _publish(self) -> None:
        if self._out.get_subscription_count() == 0:
            excess = len(self._events) - MOST
            if excess > 0:
                excess += -excess % FIELDS
                del self._events[:excess]
                self._before += excess // FIELDS
            return
        label = {"version": __version__, "sources": self._sources, "settings": to_plain(self._node.settings)}
        message = Int64MultiArray(data=self._events)
        message.layout.dim = [MultiArrayDimension(label=json.dumps(label), size=len(self._events), stride=FIELDS)]
        message.layout.data_offset = self._before % 2**32
        self._out.publish(message)
        self._before += len(self._events) // FIELDS
        self._events = array("q")
