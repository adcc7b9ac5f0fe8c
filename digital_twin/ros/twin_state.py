"""The virtual robot's newest state, for nodes that need one now and then: read only while it is wanted."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from digital_twin.core.arrays import Array
from digital_twin.core.model import RobotModel
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.sensors.camera_scene import TwinPose
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, MalformedError, stamp_ns
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import SENSOR_IN

KEPT = 64


class TwinState:
    """Pairs virtual/joint_states and virtual/odom of one stamp; virtual/pose tells where odom is in the map.

    Best effort, so that a slow reader never holds up the synchronizer. Messages are kept as bytes: of hundreds a second
    only those that are taken are read.

    Attributes:
        fresh: set when a pair came; whoever takes one clears it.
    """

    def __init__(self, node: TwinNode[Any], model: RobotModel) -> None:
        self._node, self._model = node, model
        self._joints, self._odometry, self._poses = JointStateCodec(JointState), _odometry(), _pose()
        self._waiting: dict[str, dict[int, bytes]] = {"joints": {}, "odom": {}, "map": {}}
        self._pair: tuple[bytes, bytes] | None = None
        self._R_map_odom, self._p_map_odom = np.eye(3), np.zeros(3)
        self._subscriptions: list[Any] = []
        self._heard = -np.inf
        self.fresh = threading.Event()

    def listen(self, wanted: bool) -> None:
        """Subscribe, or no longer. To be called from the executor's thread, not from within a message's callback."""
        if wanted and not self._subscriptions:
            for kind, topic, key in (
                (JointState, "virtual/joint_states", "joints"), (Odometry, "virtual/odom", "odom"),
                (PoseWithCovarianceStamped, "virtual/pose", "map"),
            ):  # fmt: skip
                self._subscriptions.append(self._node.listen(kind, topic, self._keep(key), SENSOR_IN))
            self._heard = time.monotonic()
        elif not wanted and self._subscriptions:
            for s in self._subscriptions:
                self._node.destroy_subscription(s)
            self._subscriptions, self._pair = [], None

    def silent_for(self) -> float:
        """Seconds since a state came, or since it was first wanted; 0 while none is."""
        return time.monotonic() - self._heard if self._subscriptions else 0.0

    def _keep(self, key: str) -> Any:
        store = self._waiting[key]

        def receive(data: bytes) -> None:
            stamp = stamp_ns(data)
            store[stamp] = data
            if len(store) > KEPT:
                del store[next(iter(store))]
            joints, odom = self._waiting["joints"].get(stamp), self._waiting["odom"].get(stamp)
            if key != "map" and joints is not None and odom is not None:
                self._pair, self._heard = (joints, odom), time.monotonic()
                self.fresh.set()

        return receive

    def take(self) -> TwinPose | None:
        """The newest state; None when there is none, or when it makes no sense (which is counted)."""
        pair = self._pair
        if pair is None:
            return None
        try:
            return self._read(*pair)
        except (MalformedError, ValueError):
            self._node.tally.reject("virtual/odom", "malformed")
            return None

    def _read(self, joints: bytes, odom: bytes) -> TwinPose:
        m, o = self._joints.read(joints), self._odometry.read(odom).values
        q, qd = np.zeros(self._model.n), np.zeros(self._model.n)
        for i, name in enumerate(m.names):
            j = self._model.joint_index.get(name)
            if j is not None and i < len(m.position):
                q[j] = m.position[i]
                qd[j] = m.velocity[i] if i < len(m.velocity) else 0.0
        if not (
            np.isfinite(q).all() and np.isfinite(qd).all() and np.isfinite(o[:7]).all() and np.isfinite(o[43:49]).all()
        ):
            raise ValueError("not finite")
        R, p = matrix_from_quat(o[3:7]), o[:3]
        self._follow_map(m.stamp_ns, R, p)
        A = self._R_map_odom
        return TwinPose(m.stamp_ns, q, qd, A @ p + self._p_map_odom, A @ R, o[43:46], o[46:49])

    def _follow_map(self, stamp: int, R_odom_base: Array, p_odom_base: Array) -> None:
        """map→odom from a virtual/pose of the same stamp, when there is one."""
        data = self._waiting["map"].get(stamp)
        if data is not None:
            v = self._poses.read(data).values
            if np.isfinite(v[:7]).all():
                self._R_map_odom = matrix_from_quat(v[3:7]) @ R_odom_base.T
                self._p_map_odom = v[:3] - self._R_map_odom @ p_odom_base


def _odometry() -> DoublesCodec:
    return DoublesCodec(Odometry, 85, child_frame=True)


def _pose() -> DoublesCodec:
    return DoublesCodec(PoseWithCovarianceStamped, 43)
