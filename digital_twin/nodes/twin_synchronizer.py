"""twin_synchronizer: where is the robot now?

Reads physical/…, publishes virtual/joint_states and virtual/odom for each joint measurement, bearing its stamp,
virtual/pose in the map, /tf, and how well it follows on twin/sync_status.
"""

from __future__ import annotations

import time

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped, WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import Trigger

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import matrix_from_quat, quat_from_matrix
from digital_twin.core.statistics import Recent
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.robots import Robot, load_robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, JointStateWriter
from digital_twin.ros.node import TwinNode, run
from digital_twin.ros.qos import INTERNAL
from digital_twin.settings import SynchronizerSettings

try:  # not among the wheels of PyPI
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None


class TwinSynchronizer(TwinNode[SynchronizerSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("twin_synchronizer", SynchronizerSettings, "twin/sync_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        self._core = Synchronizer(robot.model, robot.config, s, robot.where)
        self._names = robot.model.joint_names
        self._latency = Recent()
        self._next_ns = self._next_pose_ns = 0
        self._codec = JointStateCodec(JointState)
        self._writers: dict[bytes, JointStateWriter] = {}
        self._index_of = robot.model.joint_index
        self._order: tuple[tuple[str, ...], Array] = ((), np.zeros(0, dtype=np.intp))
        self._frames(robot.model.base_frame)
        self._subscribe(robot)
        self.create_service(Trigger, "~/resync", self._resync)

    def _frames(self, base: str) -> None:
        self._base, self._odom, self._map = self.frame(base), self.frame("odom"), self.frame("map")
        odometry = DoublesCodec(Odometry, 85, child_frame=True)
        self._odom_writer = odometry.writer(self._odom, self._base)
        self._pose_writer = DoublesCodec(PoseWithCovarianceStamped, 43).writer(self._map)
        self._joints_out = self.talk(JointState, "virtual/joint_states", INTERNAL)
        self._odom_out = self.talk(Odometry, "virtual/odom", INTERNAL)
        self._pose_out = self.talk(PoseWithCovarianceStamped, "virtual/pose", INTERNAL)
        self._tf_out = None
        if self.settings.publish_tf and TFMessage is None:
            self.get_logger().warning("tf2_msgs is not installed: /tf is not published")
        elif self.settings.publish_tf:
            self._tf_out = self.talk(TFMessage, "/tf", INTERNAL)

    def _subscribe(self, robot: Robot) -> None:
        self.listen(JointState, "physical/joint_states", self._joints, INTERNAL)
        if robot.config.imus:
            imu = DoublesCodec(Imu, 37)

            def on_imu(data: bytes) -> None:
                m = imu.read(data)
                self._core.imu(m.stamp_ns, m.values[13:16], m.values[25:28])

            self.listen(Imu, f"physical/{robot.config.imus[0].topic}", on_imu, INTERNAL)
        wrench = DoublesCodec(WrenchStamped, 6)
        for i, foot in enumerate(robot.config.feet):
            if foot.wrench_topic:

                def on_wrench(data: bytes, i: int = i) -> None:
                    self._core.wrench(i, wrench.read(data).values[:3])

                self.listen(WrenchStamped, f"physical/{foot.wrench_topic}", on_wrench, INTERNAL)
        pose = DoublesCodec(PoseWithCovarianceStamped, 43)

        def on_pose(data: bytes) -> None:
            m = pose.read(data)
            v = m.values
            self._core.external_pose(m.stamp_ns, v[:3], matrix_from_quat(v[3:7]), v[7:43].reshape(6, 6))

        self.listen(PoseWithCovarianceStamped, "physical/external_pose", on_pose, INTERNAL)

    # Each joint measurement

    def _in_model_order(self, values: Array) -> Array | None:
        """Values of a message in the order of the model (n,), NaN where there is none; None when they do not fit."""
        order, n = self._order[1], len(self._names)
        if len(values) != len(order) or not len(values):
            return None
        out = np.full(n + 1, np.nan)  # the last place takes joints that are not of this robot
        out[order] = values
        return out[:n]

    def _joints(self, data: bytes) -> None:
        start = time.perf_counter_ns()
        m = self._codec.read(data)
        if m.names != self._order[0]:
            self._order = (m.names, np.array([self._index_of.get(name, -1) for name in m.names], dtype=np.intp))
        q, qd, effort = (self._in_model_order(x) for x in (m.position, m.velocity, m.effort))
        if q is None:
            self.tally.reject("physical/joint_states", "size")
            return
        state = self._core.joints(m.stamp_ns, q, qd, effort)
        if state is None:
            return
        if self._due(m.stamp_ns):
            self._publish(state)
        ms = (time.perf_counter_ns() - start) / 1e6
        self.loop.add(ms)
        self._latency.add(ms)

    def _due(self, stamp_ns: int) -> bool:
        """Throttle to sync_frequency by the stamps."""
        if self.settings.sync_frequency <= 0.0:
            return True
        period = round(1e9 / self.settings.sync_frequency)
        if 0 < self._next_ns - stamp_ns <= period:
            return False
        late = abs(stamp_ns - self._next_ns) > period
        self._next_ns = (stamp_ns if late else self._next_ns) + period
        return True

    def _publish(self, state: VirtualState) -> None:
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
        self._odom_out(self._odom_writer.write(state.stamp_ns, _odometry(state)))
        if state.stamp_ns >= self._next_pose_ns or state.stamp_ns < self._next_pose_ns - 1_000_000_000:
            self._next_pose_ns = state.stamp_ns + round(1e9 / self.settings.pose_rate)
            self._publish_pose(state)

    def _publish_pose(self, state: VirtualState) -> None:
        position, rotation, variance = self._core.map_pose(state)
        values = np.concatenate([position, quat_from_matrix(rotation), np.diag(variance).ravel()])
        self._pose_out(self._pose_writer.write(state.stamp_ns, values))
        if self._tf_out is not None:
            translation, yaw = self._core.map_to_odom()
            base = state.base
            self._tf_out(
                TFMessage(
                    transforms=[
                        _transform(state.stamp_ns, self._map, self._odom, translation, np.array([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)])),
                        _transform(state.stamp_ns, self._odom, self._base, base.position, quat_from_matrix(base.rotation)),
                    ]
                )
            )  # fmt: skip

    # Around

    def _resync(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._core.resync()
        response.success, response.message = True, "started again from what the sensors say now"
        self.get_logger().info(f"resync: {response.message}")
        return response

    def status(self) -> tuple[int, str, dict[str, object]]:
        """How well the twin follows."""
        s = self._core.status(self.now_ns())
        for reason, count in self._core.tally.rejected.items():
            self.tally.rejected[reason] = count
        values: dict[str, object] = {f"latency_ms/{k}": v for k, v in self._latency.summary().items()}
        values |= {f"contact/{foot}": int(stands) for foot, stands in s.contacts.items()}
        values |= {"sync_error_m": s.sync_error, "joint_error_rad": s.joint_error, "resyncs": self._core.resyncs}
        values |= {f"gyro_bias_{axis}": float(b) for axis, b in zip("xyz", s.gyro_bias, strict=True)}
        values |= {"missing_joints": " ".join(s.missing_joints), "silent_joints": " ".join(s.silent_joints)}
        values["age_s"] = s.age
        return s.level, "; ".join(s.words), values


def _odometry(state: VirtualState) -> Array:
    """The 85 numbers of an Odometry: pose and twist (in the child frame) with their covariances."""
    b = state.base
    out = np.zeros(85)
    out[:3], out[3:7] = b.position, quat_from_matrix(b.rotation)
    out[7:43:7] = b.covariance
    out[43:46], out[46:49] = b.velocity, b.angular_velocity
    out[49:85:7] = b.twist_covariance
    return out


def _transform(stamp_ns: int, parent: str, child: str, position: Array, quaternion: Array) -> TransformStamped:
    t = TransformStamped()
    t.header.stamp.sec, t.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    t.header.frame_id, t.child_frame_id = parent, child
    t.transform.translation.x, t.transform.translation.y, t.transform.translation.z = map(float, position)
    r = t.transform.rotation
    r.x, r.y, r.z, r.w = map(float, quaternion)
    return t


def main() -> None:
    """Entry point."""
    run("twin_synchronizer", TwinSynchronizer, SynchronizerSettings)


if __name__ == "__main__":
    main()
