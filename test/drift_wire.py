"""What a rehearsal says, as messages on a bus: drift_monitor without a middleware, on simulated time."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState

from digital_twin.core.rotation import quat_from_matrix
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec
from digital_twin.ros.labelled import LabelledWriter


class Wire:
    """What a rehearsal says, as messages on a bus."""

    def __init__(self, robot, bus):
        self.bus, self.robot = bus, robot
        names = tuple(robot.model.joint_names)
        self._joints = JointStateCodec(JointState).writer(names)
        self._imu = DoublesCodec(Imu, 37).writer("imu_link")
        self._wrench = DoublesCodec(WrenchStamped, 6).writer("sole")
        self._pose = DoublesCodec(PoseWithCovarianceStamped, 43).writer("map")
        self._odom = DoublesCodec(Odometry, 85, child_frame=True).writer("odom", "base_link")
        feet = [f"{f.name}/{a}" for f in robot.config.feet for a in ("x", "y", "z", "roll", "pitch", "yaw")]
        self._labelled = LabelledWriter([*feet, *names])

    def send(self, topic, data):
        self.bus.deliver(topic, data)

    def heard(self, stream, stamp, arrival):
        self.bus.advance(max(arrival, self.bus.now_ns))

    def joints(self, stamp, q, qd, effort):
        self.send("physical/joint_states", self._joints.write(stamp, q, qd, effort))

    def imu(self, stamp, gyro, accel):
        values = np.zeros(37)
        values[13:16], values[25:28] = gyro, accel
        self.send("physical/imu/data", self._imu.write(stamp, values))

    def wrench(self, stamp, foot, wrench):
        topic = self.robot.config.feet[foot].wrench_topic
        self.send(f"physical/{topic}", self._wrench.write(stamp, wrench))

    def command(self, stamp, position, velocity, effort):
        self.send("joint_commands", self._joints.write(stamp, position, velocity))

    def base(self, b):
        values = np.concatenate(
            [b.position, quat_from_matrix(b.rotation), b.covariance.ravel(), b.velocity, b.angular_velocity,
             b.twist_covariance.ravel()]
        )  # fmt: skip
        self.send("virtual/odom", self._odom.write(b.stamp_ns, values))

    def innovations(self, stamp, values):
        self.send("twin/innovations", self._labelled.write(stamp, values))

    def pose(self, stamp, position, rotation, covariance):
        values = np.concatenate([position, quat_from_matrix(rotation), covariance.ravel()])
        self.send("physical/external_pose", self._pose.write(stamp, values))
