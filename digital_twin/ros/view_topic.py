"""virtual/view: measured and virtual robot of one moment, some thirty times a second, for who shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import quat_from_matrix
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.core.view import View, ViewLayout
from digital_twin.robots import Robot
from digital_twin.ros.node import TwinNode

NS = 1_000_000_000
STALE_NS = NS  # an external pose older than this is shown no longer


class ViewTopic:
    """Publishes views. While nobody listens nothing is put together; what is measured is only kept by reference.

    Attributes:
        measured: joint positions (n,) as reported last. wrenches: of each foot (6,). seen: stamp and external pose (7,).
    """

    def __init__(self, node: TwinNode[Any], core: Synchronizer, robot: Robot, rate: float) -> None:
        feet = [f.name for f in robot.config.feet]
        self._core, self._layout = core, ViewLayout(robot.model.joint_names, feet)
        self._period = round(NS / rate) if rate > 0.0 else 0
        self._next_ns = 0
        self.measured: Array = np.full(robot.model.n, np.nan)
        self.wrenches: list[Array] = [np.full(6, np.nan)] * len(feet)
        self.seen: tuple[int, Array] = (0, np.full(7, np.nan))
        self._send = node.talk_labelled("virtual/view", self._layout.labels)

    def offer(self, state: VirtualState) -> None:
        """A new state; published when one is due by the stamps."""
        ahead = self._next_ns - state.stamp_ns
        if not self._period or 0 < ahead <= self._period:
            return
        self._next_ns = state.stamp_ns + (self._period if ahead < -self._period or ahead > 0 else ahead + self._period)
        self._send(state.stamp_ns, lambda: self._layout.pack(self._view(state)))

    def _view(self, state: VirtualState) -> View:
        b = state.base
        position, rotation, _ = self._core.map_pose(state)
        odom, yaw = self._core.map_to_odom()
        stamp, seen = self.seen
        fresh = abs(state.stamp_ns - stamp) < STALE_NS
        return View(
            position, quat_from_matrix(rotation), odom, yaw, b.velocity, b.angular_velocity, np.array(b.contacts, dtype=bool),
            b.initialised, state.q, state.qd, self.measured, np.array(self.wrenches).reshape(-1, 6),
            seen if fresh else np.full(7, np.nan),
        )  # fmt: skip
