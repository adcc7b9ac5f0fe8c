"""Nodes under test and a client in one process and one executor, in a ROS domain of the test's own."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager

import rclpy
from rclpy.node import Node

from digital_twin.cli.supervisor import _yaml
from digital_twin.ros.process import make_executor
from digital_twin.ros.qos import INTERNAL

# Discovery takes up to 3.7 s (measured).
TIMEOUT = 12.0


class Rig:
    """A client that publishes, listens and waits; `messages[topic]` are those that came, with their time of arrival."""

    def __init__(self) -> None:
        self.node = Node("test_client")
        self.executor = make_executor()
        self.executor.add_node(self.node)
        self.messages = defaultdict(list)
        self.nodes = []
        self._publishers = {}

    def add(self, node):
        """Run a node beside the client."""
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def listen(self, kind, topic, qos=INTERNAL):
        """Collect the messages of a topic."""
        return self.node.create_subscription(kind, topic, lambda m: self.messages[topic].append(m), qos)

    def publisher(self, kind, topic, qos=INTERNAL):
        """A publisher, kept for the next time."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        return self._publishers[topic]

    def once(self):
        """Let things happen, for a millisecond or two."""
        wait = 0.002
        for node in self.nodes:
            work = getattr(node, "work", None)
            if work is not None:
                wait = min(wait, work())
        self.executor.spin_once(timeout_sec=max(wait, 0.0))

    def until(self, condition, what, timeout=TIMEOUT, action=None, period=0.005):
        """Spin until a condition holds, doing an action every period [s]; fails after the timeout."""
        end, due = time.monotonic() + timeout, 0.0
        while not condition():
            now = time.monotonic()
            assert now < end, f"waited {timeout} s in vain for {what}"
            if action is not None and now >= due:
                due = now + period
                action()
            self.once()

    def settle(self, seconds, action=None, period=0.005):
        """Spin for a time: to see that something does not happen."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, "time to pass", seconds + 5, action, period)

    def connected(self, *topics):
        """Wait until publishers of ours have found a reader, and subscriptions of ours a writer."""

        def ready():
            return all(
                self._publishers[t].get_subscription_count() > 0 if t in self._publishers
                else self.node.count_publishers(self.node.resolve_topic_name(t)) > 0
                for t in topics
            )  # fmt: skip

        self.until(ready, f"the other side of {topics}")

    def call(self, kind, name, request=None):
        """Call a service and wait for its answer."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name}")
        future = client.call_async(request or kind.Request())
        self.until(future.done, f"the answer of {name}")
        return future.result()

    def status(self, topic):
        """The values of the last status on a topic."""
        last = self.messages[topic][-1].status[0]
        return {v.key: v.value for v in last.values} | {"level": last.level[0], "words": last.message}


@contextmanager
def rig(*makes, remaps=None, **parameters):
    """Nodes made by `makes`, all with these parameters (a__b stands for a.b), and a client. `remaps`: names by name."""
    arguments = ["--ros-args"]
    for name, other in (remaps or {}).items():
        arguments += ["-r", f"{name}:={other}"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name.replace('__', '.')}:={_yaml(value)}"]
    rclpy.init(args=arguments)
    r = None
    try:
        r = Rig()
        for make in makes:
            r.add(make())
        yield r
    finally:
        if r is not None:
            r.executor.shutdown()
            for node in (*r.nodes, r.node):
                node.destroy_node()
        rclpy.shutdown()
