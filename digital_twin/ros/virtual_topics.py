"""What twin_synchronizer publishes: the virtual robot's state, where it is in the map, and innovations."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.rotation import quat_from_matrix, rot_z
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, JointStateWriter
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL

try:  # not among the wheels of PyPI
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None


class StateTopics:
    """joint_states and odom under a prefix: 'virtual', or 'virtual/now'."""

    def __init__(self, node: TwinNode[Any], prefix: str, joint_names: list[str], base_frame: str) -> None:
        self._names = joint_names
        self._codec = JointStateCodec(JointState)
        self._writers: dict[bytes, JointStateWriter] = {}
        odometry = DoublesCodec(Odometry, 85, child_frame=True)
        self._odom_writer = odometry.writer(node.frame("odom"), node.frame(base_frame))
        self._joints_out = node.talk(JointState, f"{prefix}/joint_states", INTERNAL)
        self._odom_out = node.talk(Odometry, f"{prefix}/odom", INTERNAL)

    def publish(self, state: VirtualState) -> None:
        """Both, of one stamp; joints that never reported are left out."""
        known = np.isfinite(state.q)
        key = known.tobytes()
        writer = self._writers.get(key)
        if writer is None:
            names = tuple(name for name, k in zip(self._names, known, strict=True) if k)
            writer = self._writers[key] = self._codec.writer(names)
        effort = state.effort[known]
        self._joints_out(
            writer.write(state.stamp_ns, state.q[known], state.qd[known], effort if np.isfinite(effort).all() else None)
        )
        self._odom_out(self._odom_writer.write(state.stamp_ns, _odometry(state.base)))


class MapTopics:
    """virtual/pose, and /tf: map → odom → base → base_footprint."""

    def __init__(self, node: TwinNode[Any], base_frame: str, publish_tf: bool) -> None:
        self._map, self._odom, self._base = node.frame("map"), node.frame("odom"), node.frame(base_frame)
        self._footprint = node.frame("base_footprint")
        self._writer = DoublesCodec(PoseWithCovarianceStamped, 43).writer(self._map)
        self._pose_out = node.talk(PoseWithCovarianceStamped, "virtual/pose", INTERNAL)
        self._tf_out = None
        if publish_tf and TFMessage is None:
            node.get_logger().warning("tf2_msgs is not installed: /tf is not published")
        elif publish_tf:
            self._tf_out = node.talk(TFMessage, "/tf", INTERNAL)

    def publish(self, core: Synchronizer, state: VirtualState) -> None:
        """Of one stamp."""
        position, rotation, covariance = core.map_pose(state)
        values = np.concatenate([position, quat_from_matrix(rotation), covariance.ravel()])
        self._pose_out(self._writer.write(state.stamp_ns, values))
        if self._tf_out is None:
            return
        base = state.base
        translation, yaw = core.map_to_odom()
        floor, heading = core.footprint(base)
        stamp = state.stamp_ns
        self._tf_out(
            TFMessage(
                transforms=[
                    _transform(stamp, self._map, self._odom, translation, rot_z(yaw)),
                    _transform(stamp, self._odom, self._base, base.position, base.rotation),
                    _transform(
                        stamp,
                        self._base,
                        self._footprint,
                        base.rotation.T @ (floor - base.position),
                        base.rotation.T @ rot_z(heading),
                    ),
                ]
            )
        )


def _odometry(b: BaseState) -> Array:
    """The 85 numbers of an Odometry: pose and twist (in the child frame) with their covariances."""
    return np.concatenate(
        [
            b.position,
            quat_from_matrix(b.rotation),
            b.covariance.ravel(),
            b.velocity,
            b.angular_velocity,
            b.twist_covariance.ravel(),
        ]
    )


def _transform(stamp_ns: int, parent: str, child: str, position: Array, rotation: Array) -> TransformStamped:
    t = TransformStamped()
    t.header.stamp.sec, t.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    t.header.frame_id, t.child_frame_id = parent, child
    t.transform.translation.x, t.transform.translation.y, t.transform.translation.z = map(float, position)
    r = t.transform.rotation
    r.x, r.y, r.z, r.w = map(float, quat_from_matrix(rotation))
    return t
