"""What the page is fed with: slow topics only. The robot comes by virtual/view, whatever the rate of its sensors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Path
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Float64MultiArray, Int64MultiArray
from trajectory_msgs.msg import JointTrajectory

from digital_twin.cli.monitor import STATUS_TOPICS
from digital_twin.core.arrays import Array
from digital_twin.core.view import View, ViewLayout
from digital_twin.dashboard.board import Board, Said
from digital_twin.dashboard.moment import Ahead, Later, Moment, Scan
from digital_twin.robots import Robot
from digital_twin.ros.cdr import MalformedError
from digital_twin.ros.labelled import LabelledReader
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import SENSOR_IN

MOST_AHEAD = 2000  # points of a forecast that are looked at
MOST_RAYS = 20_000


class PageFeed:
    """Subscribes, and hands on each moment. Best effort: nobody ever waits for the page.

    Attributes:
        board: words and curves. latest: the newest view.
    """

    def __init__(
        self, node: TwinNode[Any], robot: Robot, board: Board, show: Callable[[int, Moment], None], namespace: str
    ) -> None:
        self._node, self._show, self.board = node, show, board
        self._names, self._prefix = robot.model.joint_names, namespace.strip("/")
        self._frames = set(robot.model.frames)
        self._layout = ViewLayout(self._names, [f.name for f in robot.config.feet])
        self._view_reader, self._spread_reader, self._skill_reader = (LabelledReader() for _ in range(3))
        self.latest: View | None = None
        self._trajectory: bytes | None = None
        self._ahead: Later[Ahead] | None = None
        self._scan: Later[Scan] | None = None
        self._spread: tuple[Array, Array] | None = None
        listen = node.listen
        listen(Float64MultiArray, "virtual/view", self._view, SENSOR_IN)
        listen(JointTrajectory, "virtual/prediction/joint_trajectory", self._took_trajectory, SENSOR_IN)
        listen(Path, "virtual/prediction/path", self._took_path, SENSOR_IN)
        listen(Float64MultiArray, "virtual/prediction/spread", self._took_spread, SENSOR_IN)
        listen(Float64MultiArray, "virtual/prediction/skill", self._took_skill, SENSOR_IN)
        listen(DiagnosticArray, "virtual/prediction/warnings", self._took_warnings, SENSOR_IN)
        listen(LaserScan, "physical/scan", self._took_scan, SENSOR_IN)
        listen(Int64MultiArray, "twin/arrivals", self._took_arrivals, SENSOR_IN)
        listen(DiagnosticArray, "twin/drift", self._took_drift, SENSOR_IN)
        for name in STATUS_TOPICS:
            listen(DiagnosticArray, f"twin/{name}_status", self._took_status, SENSOR_IN)

    def _view(self, data: bytes) -> None:
        now = time.time_ns()
        stamp, values = self._view_reader.read(data)
        if list(self._view_reader.labels) != self._layout.labels:
            self._node.tally.reject("virtual/view", "another robot")
            return
        try:
            self.latest = view = self._layout.unpack(values)
        except ValueError:
            self._node.tally.reject("virtual/view", "non_finite")
            return
        self.board.shown(stamp, now)
        if np.isfinite(view.measured).any():
            error = 1000.0 * float(np.sqrt(np.nanmean(np.square(view.measured - view.q))))
            self.board.figure("joints", error, time.monotonic())
        self._show(stamp, Moment(stamp, view, self._ahead, self._scan, self._spread))

    # Forecasts: joints come first, then the base of the same stamp

    def _took_trajectory(self, data: bytes) -> None:
        self._trajectory = data

    def _took_path(self, data: bytes) -> None:
        joints, names = self._trajectory, self._names
        if joints is not None and joints[4:12] == data[4:12]:
            self._ahead = Later(
                lambda: self._read(lambda: read_forecast(joints, data, names), "virtual/prediction/path")
            )

    def _read(self, make: Callable[[], Any], topic: str) -> Any:
        try:
            return make()
        except Exception:  # rclpy raises RMWError, or nothing better than RuntimeError
            self._node.tally.reject(topic, "malformed")
            return None

    def _took_spread(self, data: bytes) -> None:
        _, values = self._spread_reader.read(data)
        self._spread = spread_of_base(self._spread_reader.labels, values)

    def _took_skill(self, data: bytes) -> None:
        _, values = self._skill_reader.read(data)
        for label, value in zip(self._skill_reader.labels, values, strict=True):
            for group, key in (("joints", "skill_joints"), ("position", "skill_base")):
                if label == f"{group}_skill_persistence@500ms":
                    self.board.figure(key, float(value), time.monotonic())

    def _took_scan(self, data: bytes) -> None:
        self._scan = Later(lambda: self._read(lambda: read_scan(data, self._prefix, self._frames), "physical/scan"))

    def _took_arrivals(self, data: bytes) -> None:
        numbers = _message(data, Int64MultiArray).data
        for stamp, arrival in zip(numbers[::2], numbers[1::2], strict=False):
            self.board.arrival(stamp, arrival)

    # Words

    def _took_status(self, data: bytes) -> None:
        for name, said in self._said(data):
            self.board.status(name.rsplit("/", 1)[-1], said)

    def _took_drift(self, data: bytes) -> None:
        verdicts = dict(self._said(data))
        if self.board.drift is None or verdicts:
            self.board.drift = verdicts

    def _took_warnings(self, data: bytes) -> None:
        self.board.warnings = [(said.level, said.words) for _, said in self._said(data) if said.level]

    def _said(self, data: bytes) -> list[tuple[str, Said]]:
        now = time.monotonic()
        status = _message(data, DiagnosticArray).status
        return [(s.name, Said(s.level[0], s.message, {v.key: v.value for v in s.values}, now)) for s in status]


def _message(data: bytes, kind: Any) -> Any:
    """Raises MalformedError."""
    try:
        return deserialize_message(data, kind)
    except Exception as e:  # rclpy raises RMWError, or nothing better than RuntimeError
        raise MalformedError("cannot be deserialised") from e


def read_forecast(joints: bytes, path: bytes, names: list[str]) -> Ahead | None:
    """A forecast from its two messages; None when they do not fit each other or the robot."""
    t, p = deserialize_message(joints, JointTrajectory), deserialize_message(path, Path)
    if list(t.joint_names) != list(names) or len(t.points) != len(p.poses) or not 1 < len(t.points) <= MOST_AHEAD:
        return None
    times = np.array([x.time_from_start.sec + x.time_from_start.nanosec / 1e9 for x in t.points])
    q = np.array([x.positions for x in t.points])
    positions = np.array([[o.x, o.y, o.z] for o in (x.pose.position for x in p.poses)])
    quaternions = np.array([[o.x, o.y, o.z, o.w] for o in (x.pose.orientation for x in p.poses)])
    if q.shape != (len(times), len(names)) or not all(np.isfinite(x).all() for x in (q, positions, quaternions)):
        return None
    if (np.abs(np.linalg.norm(quaternions, axis=1) - 1.0) > 0.01).any():
        return None
    return Ahead(times, q, positions, quaternions)


def spread_of_base(labels: tuple[str, ...], values: Array) -> tuple[Array, Array] | None:
    """Times [s] (k,) and half widths [m] (k, 3) of the base's position, from labels like x@500ms."""
    found: dict[float, dict[str, float]] = {}
    for label, value in zip(labels, values, strict=True):
        name, _, at = label.partition("@")
        if name in ("x", "y", "z") and at.endswith("ms") and np.isfinite(value):
            found.setdefault(float(at[:-2]) / 1000.0, {})[name] = abs(float(value))
    times = sorted(t for t, row in found.items() if len(row) == 3)
    return (np.array(times), np.array([[found[t][x] for x in "xyz"] for t in times])) if times else None


def read_scan(data: bytes, prefix: str, frames: set[str]) -> Scan | None:
    """A planar scan as points; None when its frame is not the robot's."""
    m = deserialize_message(data, LaserScan)
    frame = m.header.frame_id.removeprefix(f"{prefix}/") if prefix else m.header.frame_id
    ranges = np.asarray(m.ranges, dtype=float)
    if frame not in frames or len(ranges) > MOST_RAYS:
        return None
    angles = m.angle_min + m.angle_increment * np.arange(len(ranges))
    there = np.isfinite(ranges) & (ranges >= m.range_min) & (ranges <= m.range_max)
    r, a = ranges[there], angles[there]
    return Scan(frame, np.column_stack([r * np.cos(a), r * np.sin(a), np.zeros(len(r))]))
