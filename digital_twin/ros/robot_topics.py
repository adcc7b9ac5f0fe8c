"""The simulated robot's own topics: readings of its instruments as messages, each at its rate; and the truth."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState, LaserScan

from digital_twin.core.instruments import Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.rotation import quat_from_matrix
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec
from digital_twin.ros.node import TwinNode
from digital_twin.ros.outbox import Outbox
from digital_twin.ros.qos import CLOCK, SENSOR_OUT
from digital_twin.settings import SimulatedRobotSettings

NS = 1_000_000_000


class RobotTopics:
    """Publishes a plant. `publish(tick, stamp)` is to be called at every tick of the simulation."""

    def __init__(self, node: TwinNode[SimulatedRobotSettings], plant: Plant, instruments: Instruments) -> None:
        self._node, self._plant, self._instruments = node, plant, instruments
        self._settings = node.settings
        self.outbox = Outbox()
        self._jobs: list[tuple[int, Callable[[int], None]]] = []
        self._publish_robot()
        self._publish_truth()

    def publish(self, tick: int, stamp: int) -> None:
        """Everything that is due at this tick, stamped [ns]."""
        for every, job in self._jobs:
            if tick % every == 0:
                job(stamp)
        self.outbox.flush(self._plant.time_ns)

    def _often(self, rate: float, job: Callable[[int], None]) -> None:
        """Do a job at (about) a rate [Hz], as a whole number of ticks allows."""
        if rate > 0.0:
            self._jobs.append((max(1, round(self._settings.rate / rate)), job))

    def _add(self, message_type: Any, topic: str, delay: float = 0.0) -> None:
        self.outbox.add(topic, self._node.talk(message_type, topic, SENSOR_OUT), delay)

    def _publish_robot(self) -> None:
        s = self._settings
        for i, foot in enumerate(self._plant.robot.feet):
            if foot.wrench_topic:
                self._add(WrenchStamped, foot.wrench_topic)
                self._often(s.wrench_rate, self._wrench_job(i))
        for i, imu in enumerate(self._plant.robot.imus):
            self._add(Imu, imu.topic)
            self._often(s.rate, self._imu_job(i))
        self._add(JointState, "joint_states")
        writer = JointStateCodec(JointState).writer(tuple(self._plant.joints.reported_names))
        calibration = self._plant.joints

        def joints(stamp: int) -> None:
            q, qd, effort = self._instruments.joint_states()
            # As the robot itself counts: the inverse of the calibration that the bridge applies.
            f = calibration.factor
            message = writer.write(stamp, (q - calibration.offset) / f, qd / f, effort * f)
            self.outbox.post("joint_states", message, self._plant.time_ns)

        self._often(s.joint_rate or s.rate, joints)
        if s.pose_rate > 0:
            self._add(PoseWithCovarianceStamped, "external_pose", s.pose_delay)
            self._often(s.pose_rate, self._pose_job())
        if s.scan_rate > 0 and self._plant.robot.scan_frame:
            self._add(LaserScan, "scan")
            self._often(s.scan_rate, self._scan_job(self._plant.robot.scan_frame))

    def _wrench_job(self, i: int) -> Callable[[int], None]:
        foot = self._plant.robot.feet[i]
        writer = DoublesCodec(WrenchStamped, 6).writer(self._node.frame(foot.frame))

        def job(stamp: int) -> None:
            wrench = np.concatenate(self._instruments.wrench(foot.name)) * foot.wrench_sign
            self.outbox.post(foot.wrench_topic, writer.write(stamp, wrench), self._plant.time_ns)

        return job

    def _imu_job(self, i: int) -> Callable[[int], None]:
        imu = self._plant.robot.imus[i]
        writer = DoublesCodec(Imu, 37).writer(self._node.frame(imu.frame))
        values = np.zeros(37)
        values[3], values[4] = 1.0, -1.0  # no attitude (REP-145)
        values[16:25:4] = imu.gyro_noise**2 * self._settings.rate
        values[28:37:4] = imu.accel_noise**2 * self._settings.rate

        def job(stamp: int) -> None:
            values[13:16], values[25:28] = self._instruments.imu(i)
            self.outbox.post(imu.topic, writer.write(stamp, values), self._plant.time_ns)

        return job

    def _pose_job(self) -> Callable[[int], None]:
        writer = DoublesCodec(PoseWithCovarianceStamped, 43).writer(self._node.frame("map"))

        def job(stamp: int) -> None:
            position, rotation, covariance = self._instruments.external_pose()
            values = np.concatenate([position, quat_from_matrix(rotation), covariance.ravel()])
            self.outbox.post("external_pose", writer.write(stamp, values), self._plant.time_ns)

        return job

    def _scan_job(self, frame: str) -> Callable[[int], None]:
        n = self._settings.scan_rays
        angles = -math.pi + 2 * math.pi * np.arange(n) / n
        scan = LaserScan(angle_min=-math.pi, angle_max=float(angles[-1]), angle_increment=2 * math.pi / n)
        scan.header.frame_id, scan.range_min, scan.range_max = self._node.frame(frame), 0.1, 20.0
        scan.scan_time = 1.0 / self._settings.scan_rate

        def job(stamp: int) -> None:
            scan.header.stamp.sec, scan.header.stamp.nanosec = divmod(stamp, NS)
            scan.ranges = array("f", self._instruments.scan(frame, angles, scan.range_min, scan.range_max))
            self.outbox.post("scan", bytes(serialize_message(scan)), self._plant.time_ns)

        return job

    def _publish_truth(self) -> None:
        base = self._plant.model.base_frame
        odometry = self._node.talk(Odometry, "ground_truth/odom", SENSOR_OUT)
        joint_states = self._node.talk(JointState, "ground_truth/joint_states", SENSOR_OUT)
        where = DoublesCodec(Odometry, 85, child_frame=True).writer(self._node.frame("map"), self._node.frame(base))
        joints = JointStateCodec(JointState).writer(tuple(self._plant.model.joint_names))

        def truth(stamp: int) -> None:
            p = self._plant
            position, rotation = p.frame_pose(base)
            values = np.zeros(85)
            values[:3], values[3:7] = position, quat_from_matrix(rotation)
            values[43:46], values[46:49] = p.base_twist()
            odometry(where.write(stamp, values))
            joint_states(joints.write(stamp, p.joint_positions, p.joint_velocities, p.joint_efforts))

        self._often(self._settings.truth_rate, truth)
        if self._settings.publish_clock:
            clock = self._node.talk(Clock, "/clock", CLOCK)

            def tell(stamp: int) -> None:
                message = Clock()
                message.clock.sec, message.clock.nanosec = divmod(stamp, NS)
                clock(message)

            self._often(min(100.0, self._settings.rate), tell)
