"""What the gait controller sees: the twin's state, joints and base of one stamp, and what the soles feel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from digital_twin.core.arrays import Array
from digital_twin.core.base_config import BaseEstimatorConfig
from digital_twin.core.base_state import BaseState
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.synchronizer import VirtualState
from digital_twin.robots import Robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, stamp_ns
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL

KEPT = 8  # messages that wait for the other of their stamp
STALE = 100_000_000  # [ns]: an older force is not believed
STANDS = 30.0  # [N] on a sole that stands
SURE = BaseEstimatorConfig()


class GaitInputs:
    """Calls back with each whole state and the wrenches of that time (feet, 6), NaN where none is known."""

    def __init__(
        self, node: TwinNode[Any], robot: Robot, receive: Callable[[VirtualState, Array], None]
    ) -> None:  # fmt: skip
        self._node, self._receive = node, receive
        self._n, self._index_of = robot.model.n, robot.model.joint_index
        self._joints: dict[int, bytes] = {}
        self._odometry: dict[int, bytes] = {}
        self._codec, self._odom = JointStateCodec(JointState), DoublesCodec(Odometry, 85, child_frame=True)
        self._order: tuple[tuple[str, ...], Any] = ((), None)
        self._wrenches = np.full((len(robot.config.feet), 6), np.nan)
        self._stamps = [0] * len(robot.config.feet)
        node.listen(JointState, "virtual/joint_states", self._on_joints, INTERNAL)
        node.listen(Odometry, "virtual/odom", self._on_odom, INTERNAL)
        wrench = DoublesCodec(WrenchStamped, 6)
        for i, foot in enumerate(robot.config.feet):
            if foot.wrench_topic:

                def on_wrench(data: bytes, i: int = i) -> None:
                    m = wrench.read(data)
                    self._wrenches[i], self._stamps[i] = m.values, m.stamp_ns

                node.listen(WrenchStamped, f"physical/{foot.wrench_topic}", on_wrench, INTERNAL)

    def _on_joints(self, data: bytes) -> None:
        self._pair(stamp_ns(data), data, self._joints, self._odometry)

    def _on_odom(self, data: bytes) -> None:
        self._pair(stamp_ns(data), data, self._odometry, self._joints)

    def _pair(self, stamp: int, data: bytes, own: dict[int, bytes], other: dict[int, bytes]) -> None:
        """Whichever comes second makes the state."""
        own[stamp] = data
        if stamp not in other:
            if len(own) > KEPT:
                del own[next(iter(own))]
            return
        joints, odom = self._joints.pop(stamp), self._odom.read(self._odometry.pop(stamp))
        fresh = [abs(stamp - s) <= STALE for s in self._stamps]
        wrenches = np.where(np.array(fresh)[:, None], self._wrenches, np.nan)
        # Of a foot that feels nothing it is not known whether it stands.
        state = self._state(stamp, joints, odom.values, tuple((~(wrenches[:, 2] < STANDS)).tolist()))
        if state is None:
            self._node.tally.reject("virtual/joint_states", "incomplete")
            return
        self._receive(state, wrenches)

    def _state(self, stamp: int, data: bytes, o: Array, contacts: tuple[bool, ...]) -> VirtualState | None:
        """None when a joint is missing or a number is none."""
        m = self._codec.read(data)
        if m.names != self._order[0]:
            self._order = m.names, np.array([self._index_of.get(name, -1) for name in m.names], dtype=np.intp)
        order = self._order[1]
        if len(m.position) != len(order) or len(m.velocity) != len(order) or len(order) < self._n:
            return None
        q, qd = np.full(self._n, np.nan), np.full(self._n, np.nan)
        q[order], qd[order] = m.position, m.velocity
        if not math.isfinite(float(q.sum() + qd.sum() + o[:7].sum() + o[43:49].sum())):
            return None
        pose, twist = o[7:43].reshape(6, 6), o[49:85].reshape(6, 6)
        tilt, speed = math.sqrt(abs(max(pose[3, 3], pose[4, 4]))), math.sqrt(abs(max(np.diag(twist)[:3])))
        try:
            R = matrix_from_quat(o[3:7])
        except ValueError:
            return None
        base = BaseState(
            stamp, o[:3], R, o[43:46], o[46:49], pose, twist, contacts,
            tilt < SURE.sure_tilt and speed < SURE.sure_speed,
        )  # fmt: skip
        none = np.full(self._n, np.nan)
        return VirtualState(stamp, q, qd, none, none, base)
