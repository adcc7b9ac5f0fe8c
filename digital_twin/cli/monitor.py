"""Watches the twin for the status table and the report: the nodes' own counters, the latency, the errors against truth.

It reads only what it must: the status topics (twice a second), the arrival times that the bridge notes, and the stamps
of virtual/joint_states and virtual/odom, whose contents are looked at only where there is a truth of the same stamp.
"""

from __future__ import annotations

import time
from array import array
from collections import defaultdict
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Int64MultiArray

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.scoring import Pairs, Score
from digital_twin.core.statistics import Recent
from digital_twin.robots import Robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, MalformedError, stamp_ns
from digital_twin.ros.qos import INTERNAL, SENSOR_IN

STATUS_TOPICS = (
    "sync",
    "bridge",
    "robot",
    "command",
    "bag",
    "prediction",
    "sensor",
    "lidar",
    "camera",
    "drift",
    "gait",
    "recorder",
    "dashboard",
)
# Of the latency the first second is not counted: nodes still find each other.
WARM_UP_NS = 1_000_000_000


class NodeState:
    """What a node last said of itself, and its counters summed over its restarts."""

    def __init__(self) -> None:
        self.level, self.words = 0, ""
        self.values: dict[str, str] = {}
        self.heard = 0.0
        self._before: dict[str, int] = defaultdict(int)
        self._counts: dict[str, int] = {}

    def update(self, level: int, words: str, values: dict[str, str]) -> None:
        """Take a new status."""
        counts = {k: int(v) for k, v in values.items() if k.startswith(("received/", "rejected/", "sent/"))}
        if any(v < self._counts.get(k, 0) for k, v in counts.items()):
            for k, v in self._counts.items():
                self._before[k] += v
        self._counts = counts
        self.level, self.words, self.values, self.heard = level, words, values, time.monotonic()

    def counts(self, kind: str) -> dict[str, int]:
        """Counters of a kind (received, rejected, sent) over the whole run."""
        names = {k for k in (*self._before, *self._counts) if k.startswith(kind + "/")}
        return {k[len(kind) + 1 :]: self._before.get(k, 0) + self._counts.get(k, 0) for k in sorted(names)}

    def numbers(self, prefix: str) -> dict[str, float]:
        """Values whose keys begin with `prefix/`."""
        return {k[len(prefix) + 1 :]: float(v) for k, v in self.values.items() if k.startswith(prefix + "/")}


class Monitor:
    """Subscribes on a node; `nodes`, `latency` and `score` hold what it has seen."""

    def __init__(self, node: Node, robot: Robot) -> None:
        self.nodes: dict[str, NodeState] = defaultdict(NodeState)
        self.latency = Recent(200_000)
        self.recent_latency = Recent(2000)
        self.score = Score()
        self.truth_seen = False
        self._robot = robot
        self._arrivals: Pairs[int, int] = Pairs()
        self._since: int | None = None
        self._joints: Pairs[bytes, bytes] = Pairs(500)
        self._bases: Pairs[bytes, bytes] = Pairs(500)
        self._joint_codec = JointStateCodec(JointState)
        self._odometry = DoublesCodec(Odometry, 85, child_frame=True)
        self._offsets: dict[str, tuple[Array, Array]] = {}
        for name in STATUS_TOPICS:
            node.create_subscription(DiagnosticArray, f"twin/{name}_status", self._status, INTERNAL)
        node.create_subscription(Int64MultiArray, "twin/arrivals", self._arrived, INTERNAL)
        subscribe = lambda kind, topic, callback, qos: node.create_subscription(kind, topic, callback, qos, raw=True)  # noqa: E731
        subscribe(JointState, "virtual/joint_states", self._virtual_joints, INTERNAL)
        subscribe(Odometry, "virtual/odom", self._virtual_odom, INTERNAL)
        subscribe(JointState, "ground_truth/joint_states", self._true_joints, SENSOR_IN)
        subscribe(Odometry, "ground_truth/odom", self._true_odom, SENSOR_IN)

    def _status(self, message: DiagnosticArray) -> None:
        for s in message.status:
            name = s.name.rsplit("/", 1)[-1]
            self.nodes[name].update(s.level[0], s.message, {v.key: v.value for v in s.values})

    @property
    def warm(self) -> bool:
        """The first second of virtual states is over: nodes have found each other."""
        return self._since is not None and time.time_ns() > self._since

    # Latency: the bridge notes when each measurement arrived; we note when its virtual state does.

    def _arrived(self, message: Int64MultiArray) -> None:
        data: array[int] = message.data
        for stamp, arrival in zip(data[::2], data[1::2], strict=True):
            self._measure(self._arrivals.left(stamp, arrival))

    def _measure(self, pair: tuple[int, int] | None) -> None:
        if pair is None:
            return
        if self._since is None:
            self._since = pair[1] + WARM_UP_NS
        if pair[1] > self._since:
            ms = (pair[1] - pair[0]) / 1e6
            self.latency.add(ms)
            self.recent_latency.add(ms)

    # Errors

    def _virtual_joints(self, data: Any) -> None:
        now = time.time_ns()
        data = bytes(data)
        self._measure(self._arrivals.right(stamp_ns(data), now))
        if self.truth_seen:
            self._score_joints(self._joints.left(stamp_ns(data), data))

    def _true_joints(self, data: Any) -> None:
        self.truth_seen = True
        self._score_joints(self._joints.right(stamp_ns(bytes(data)), bytes(data)))

    def _score_joints(self, pair: tuple[bytes, bytes] | None) -> None:
        if pair is None:
            return
        try:
            virtual, true = (self._joint_codec.read(data) for data in pair)
        except MalformedError:
            return
        known = dict(zip(virtual.names, virtual.position, strict=False))
        self.score.add_joints(np.array([known.get(name, np.nan) for name in true.names]), true.position)

    def _virtual_odom(self, data: Any) -> None:
        if self.truth_seen:
            data = bytes(data)
            self._score_base(self._bases.left(stamp_ns(data), data))

    def _true_odom(self, data: Any) -> None:
        self.truth_seen = True
        self._score_base(self._bases.right(stamp_ns(bytes(data)), bytes(data)))

    def _score_base(self, pair: tuple[bytes, bytes] | None) -> None:
        if pair is None:
            return
        try:
            virtual, true = (self._odometry.read(data) for data in pair)
            R, R_true = (matrix_from_quat(m.values[3:7]) for m in (virtual, true))
        except (MalformedError, ValueError):
            return
        offset_p, offset_R = self._offset(true.child_frame)
        p = virtual.values[:3] + R @ offset_p
        self.score.add_base(p, R @ offset_R, true.values[:3].copy(), R_true)

    def _offset(self, frame: str) -> tuple[Array, Array]:
        """Where the frame of the truth is in the base frame; the base itself when the robot has no such frame."""
        name = frame.rsplit("/", 1)[-1]
        if name not in self._offsets:
            model = self._robot.model
            k = model.kinematics([name if name in model.frames else model.base_frame])
            k.update(np.zeros(model.n))
            self._offsets[name] = (k.position[0].copy(), k.rotation[0].copy())
        return self._offsets[name]
