"""twin_synchronizer: where is the robot now?

Reads physical/…, publishes virtual/joint_states and virtual/odom for each joint measurement, bearing its stamp,
virtual/pose in the map, /tf, how well it follows on twin/sync_status, and each measurement against its forecast on
twin/innovations.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import Trigger

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.statistics import Recent
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.robots import Robot, load_robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec
from digital_twin.ros.model_follower import ModelFollower
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.qos import INTERNAL
from digital_twin.ros.view_topic import ViewTopic
from digital_twin.ros.virtual_topics import MapTopics, StateTopics
from digital_twin.settings import SynchronizerSettings


class TwinSynchronizer(TwinNode[SynchronizerSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("twin_synchronizer", SynchronizerSettings, "twin/sync_status", journal=True)
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        model = robot.model
        self._core = Synchronizer(model, robot.config, s, robot.where)
        self._latency = Recent()
        self._next_ns = self._next_pose_ns = 0
        self._codec = JointStateCodec(JointState)
        self._n, self._index_of = model.n, model.joint_index
        self._in_order = False  # the robot's order is the model's
        self._order: tuple[tuple[str, ...], Array] = ((), np.zeros(0, dtype=np.intp))
        self._state_out = StateTopics(self, "virtual", model.joint_names, model.base_frame)
        self._map_out = MapTopics(self, model.base_frame, s.publish_tf)
        self._innovations_out = self.talk_labelled("twin/innovations", self._core.innovations.labels)
        labels = [
            f"{kind}/{name}" for kind in ("acceleration", "q_var", "qd_var", "qdd_var") for name in model.joint_names
        ]
        self._details_out = self.talk_labelled("virtual/joint_details", labels)
        feet = [f"contact/{f.name}" for f in robot.config.feet]
        self._contacts_out = self.talk_labelled("virtual/contacts", [*feet, "initialised"])
        self._view = ViewTopic(self, self._core, robot, s.view_rate)
        if s.now_rate > 0.0:
            self._now_out = StateTopics(self, "virtual/now", model.joint_names, model.base_frame)
            self.every(1.0 / s.now_rate, self._publish_now)
        self._subscribe(robot)
        ModelFollower(self, robot, lambda robot: robot, self._use).look_often()
        self.serve(Trigger, "~/resync", self._resync)

    def _use(self, robot: Robot) -> None:
        """Another model is in service."""
        self._core.use(robot.model, robot.config, robot.joints)
        self.get_logger().info(f"another model is in service: {robot.where}")

    def _subscribe(self, robot: Robot) -> None:
        self.listen(JointState, "physical/joint_states", self._joints, INTERNAL)
        if robot.config.imus:
            imu = DoublesCodec(Imu, 37)

            def on_imu(data: bytes) -> None:
                m = imu.read(data)
                self._core.heard("imu", m.stamp_ns, self.now_ns())
                self._core.imu(m.stamp_ns, m.values[13:16], m.values[25:28])

            self.listen(Imu, f"physical/{robot.config.imus[0].topic}", on_imu, INTERNAL)
        wrench = DoublesCodec(WrenchStamped, 6)
        for i, foot in enumerate(robot.config.feet):
            if foot.wrench_topic:

                def on_wrench(data: bytes, i: int = i, name: str = foot.name) -> None:
                    m = wrench.read(data)
                    self._core.heard(name, m.stamp_ns, self.now_ns())
                    self._view.wrenches[i] = m.values
                    self._core.wrench(m.stamp_ns, i, m.values[:3])

                self.listen(WrenchStamped, f"physical/{foot.wrench_topic}", on_wrench, INTERNAL)
        pose = DoublesCodec(PoseWithCovarianceStamped, 43)

        def on_pose(data: bytes) -> None:
            m = pose.read(data)
            v = m.values
            self._core.heard("external_pose", m.stamp_ns, self.now_ns())
            try:
                rotation = matrix_from_quat(v[3:7])
            except ValueError:
                self.tally.reject("external_pose", "quaternion")
                return
            self._view.seen = (m.stamp_ns, v[:7])
            self._core.external_pose(m.stamp_ns, v[:3], rotation, v[7:43].reshape(6, 6))

        self.listen(PoseWithCovarianceStamped, "physical/external_pose", on_pose, INTERNAL)
        if self.settings.fuse_odom:
            odometry = DoublesCodec(Odometry, 85, child_frame=True)

            def on_odom(data: bytes) -> None:
                m = odometry.read(data)
                self._core.heard("odom", m.stamp_ns, self.now_ns())
                self._core.odom(m.stamp_ns, m.values[43:46], m.values[49:85].reshape(6, 6)[:3, :3])

            self.listen(Odometry, "physical/odom", on_odom, INTERNAL)

    # Each joint measurement

    def _in_model_order(self, values: Array) -> Array | None:
        """Values of a message in the order of the model (n,), NaN where there is none; None when they do not fit."""
        order = self._order[1]
        if len(values) != len(order) or not len(values):
            return None
        if self._in_order:
            return values
        out = np.full(self._n + 1, np.nan)  # the last place takes joints that are not of this robot
        out[order] = values
        return out[: self._n]

    def _joints(self, data: bytes) -> None:
        start = self.stopwatch_ns()
        m = self._codec.read(data)
        if m.names != self._order[0]:
            self._order = (m.names, np.array([self._index_of.get(name, -1) for name in m.names], dtype=np.intp))
            self._in_order = bool(np.array_equal(self._order[1], np.arange(self._n)))
        q, qd, effort = (self._in_model_order(x) for x in (m.position, m.velocity, m.effort))
        if q is None:
            self.tally.reject("physical/joint_states", "size")
            return
        self._core.heard("joint_states", m.stamp_ns, self.now_ns())
        self._view.measured = q
        state = self._core.joints(m.stamp_ns, q, qd, effort)
        if state is None:
            return
        if self._due(m.stamp_ns):
            self._publish(state)
        ms = (self.stopwatch_ns() - start) / 1e6
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
        b = state.base
        self._contacts_out(state.stamp_ns, lambda: np.array([*b.contacts, b.initialised], dtype=float))
        self._state_out.publish(state)
        self._innovations_out(state.stamp_ns, lambda: self._core.innovations.latest)
        self._details_out(state.stamp_ns, lambda: self._core.joint_details(state))
        self._view.offer(state)
        if state.stamp_ns >= self._next_pose_ns or state.stamp_ns < self._next_pose_ns - 1_000_000_000:
            self._next_pose_ns = state.stamp_ns + round(1e9 / self.settings.pose_rate)
            self._map_out.publish(self._core, state)

    def _publish_now(self) -> None:
        state = self._core.ahead(self.now_ns())
        if state is not None:
            self._now_out.publish(state)

    # Around

    def _resync(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._core.resync()
        response.success, response.message = True, "started again from what the sensors say now"
        self.get_logger().info(f"resync: {response.message}")
        return response

    def status(self) -> tuple[int, str, dict[str, object]]:
        """How well the twin follows."""
        s = self._core.status(self.now_ns())
        while self._core.events:
            self.get_logger().warning(self._core.events.pop(0))
        for reason, count in self._core.tally.rejected.items():
            self.tally.rejected[reason] = count
        values: dict[str, object] = {f"latency_ms/{k}": v for k, v in self._latency.summary().items()}
        values |= {f"contact/{foot}": int(stands) for foot, stands in s.contacts.items()}
        values |= {"sync_error_m": s.sync_error, "joint_error_rad": s.joint_error, "resyncs": self._core.resyncs}
        values |= {"missing_joints": " ".join(s.missing_joints), "silent_joints": " ".join(s.silent_joints)}
        values["age_s"] = s.age
        return s.level, "; ".join(s.words), values | s.values


def main() -> None:
    """Entry point."""
    run("twin_synchronizer", TwinSynchronizer, SynchronizerSettings)


if __name__ == "__main__":
    main()
