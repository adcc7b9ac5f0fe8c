"""virtual_sensor_publisher with real rclpy: every sensor's message, a twin that stops, sensors that cannot be."""

import json
import re

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from ros_rig import rig
from sensor_msgs.msg import Imu, JointState, LaserScan, MagneticField, PointCloud2
from std_msgs.msg import Float64MultiArray, String

from digital_twin.core.errors import ConfigError
from digital_twin.nodes.virtual_lidar_publisher import VirtualLidarPublisher
from digital_twin.nodes.virtual_sensor_publisher import VirtualSensorPublisher
from digital_twin.ros.model_topic import file_hash
from digital_twin.ros.qos import LATCHED

T0 = 1_700_000_000 * 10**9
STEP = 5_000_000
INPUTS = {"virtual/joint_states": JointState, "virtual/odom": Odometry}
OUTPUTS = {
    "virtual/imu/data": Imu, "virtual/feet/left/wrench": WrenchStamped, "virtual/feet/right/wrench": WrenchStamped,
    "virtual/encoders/joint_states": JointState, "virtual/scan": LaserScan, "virtual/points": PointCloud2,
    "virtual/magnetic_field": MagneticField, "virtual/feet/contacts": Float64MultiArray,
    "twin/sensor_status": DiagnosticArray, "twin/lidar_status": DiagnosticArray,
}  # fmt: skip


def ns_of(m):
    return m.header.stamp.sec * 10**9 + m.header.stamp.nanosec


class Twin:
    """A twin at rest; `at(k)` publishes its k-th state."""

    def __init__(self, r, robot, topics=OUTPUTS):
        self.r, self.robot = r, robot
        for topic, kind in INPUTS.items():
            r.publisher(kind, topic)
        for topic in topics:
            r.listen(OUTPUTS[topic], topic)
        r.connected(*topics)
        if any(topic.startswith("virtual/") for topic in topics):
            r.connected(*INPUTS)  # they are read for listeners only
        r.settle(0.6)  # what is labelled is made for listeners only, too, who are looked for twice a second
        self.k = 0

    def step(self, x=0.0):
        ns = T0 + self.k * STEP
        q = self.robot.joints.stand.tolist()
        j = JointState(name=self.robot.model.joint_names, position=q, velocity=[0.0] * len(q), effort=[1.0] * len(q))
        o = Odometry()
        o.pose.pose.position.x, o.pose.pose.position.z, o.pose.pose.orientation.w = x, 0.83, 1.0
        for topic, m in (("virtual/joint_states", j), ("virtual/odom", o)):
            m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
            self.r.publisher(INPUTS[topic], topic).publish(m)
        self.k += 1

    def play(self, n):
        for _ in range(n):
            self.step()
            self.r.settle(0.002)


def status(r, topic="twin/sensor_status"):
    return r.status(topic) if r.messages[topic] else {"words": ""}


def test_every_sensor_of_the_humanoid_speaks(robot):
    with rig(VirtualSensorPublisher, VirtualLidarPublisher) as r:
        t = Twin(r, robot)
        t.play(60)
        r.until(lambda: all(r.messages[topic] for topic in OUTPUTS), "all topics", action=t.step)
        m = {topic: r.messages[topic] for topic in OUTPUTS}
        imu = m["virtual/imu/data"]
        assert {ns_of(x) - T0 for x in imu} <= {k * STEP for k in range(t.k)}, "one rate: the stamps of the states"
        assert imu[-1].header.frame_id == "imu_link" and imu[-1].orientation_covariance[0] == -1.0
        assert np.mean([x.linear_acceleration.z for x in imu]) == pytest.approx(9.81, abs=0.6), "its bias is of 0.2"
        assert imu[-1].angular_velocity_covariance[0] == pytest.approx(2.44e-4**2 * 200 + 1.065e-3**2 / 12)
        load = [m[f"virtual/feet/{side}/wrench"][-1].wrench.force.z for side in ("left", "right")]
        assert sum(load) == pytest.approx(53.8 * 9.81, rel=0.06)
        joints = m["virtual/encoders/joint_states"][-1]
        assert joints.name == robot.model.joint_names
        assert np.allclose(joints.position, robot.joints.stand, atol=0.01) and joints.position != list(
            robot.joints.stand
        )
        assert np.allclose(joints.effort, 1.0, atol=2.0)
        scan = m["virtual/scan"][-1]
        assert scan.header.frame_id == "lidar_link" and len(scan.ranges) == len(scan.intensities) == 1081
        ahead = scan.ranges[540]
        assert ahead == pytest.approx(3.925, abs=0.06), "the wall"
        assert scan.time_increment == pytest.approx(0.01875 / 1081, rel=1e-3)
        cloud = m["virtual/points"][-1]
        assert [f.name for f in cloud.fields] == ["x", "y", "z", "intensity", "ring", "time"]
        points = np.frombuffer(
            bytes(cloud.data), dtype=[(f.name, "<u2" if f.datatype == 4 else "<f4") for f in cloud.fields]
        )
        assert (
            len(points) == cloud.width > 5000 and set(points["ring"]) >= set(range(10)) and points["time"].max() < 0.1
        )
        below = points[points["ring"] == 0]
        height = robot.model.kinematics(["lidar_link"])
        height.update(robot.joints.stand)
        assert np.median(below["z"]) == pytest.approx(-0.83 - height.position[0, 2], abs=0.05), "the floor"
        field = m["virtual/magnetic_field"][-1].magnetic_field
        assert 1e-5 < np.linalg.norm([field.x, field.y, field.z]) < 1e-4
        contacts = m["virtual/feet/contacts"][-1]
        assert contacts.layout.dim[0].label.endswith("feet/left,feet/right") and list(contacts.data[2:]) == [1.0, 1.0]


def test_while_nobody_listens_nothing_is_read():
    with rig(VirtualSensorPublisher, VirtualLidarPublisher) as r:
        joints = r.publisher(JointState, "virtual/joint_states")
        scans, readings = r.listen(LaserScan, "virtual/scan"), None
        r.until(lambda: joints.get_subscription_count() == 1, "the lidars to listen, and them alone")
        readings = r.listen(Imu, "virtual/imu/data")
        r.until(lambda: joints.get_subscription_count() == 2, "the others as well")
        for subscription in (scans, readings):
            r.node.destroy_subscription(subscription)
        r.until(lambda: joints.get_subscription_count() == 0, "both to stop")


def test_where_the_twin_stops_so_do_its_sensors_and_it_is_said(robot):
    topics = ("virtual/imu/data", "twin/sensor_status")
    with rig(VirtualSensorPublisher, sensors=["imu"], silent_after=0.3) as r:
        t = Twin(r, robot, topics)
        r.until(lambda: "no twin state yet; waiting: imu" in status(r)["words"], "the waiting")
        t.play(30)
        r.until(lambda: "no twin state for" in status(r)["words"], "the silence")
        assert status(r)["words"].endswith("stopped: imu") and status(r)["level"] == 1
        n = len(r.messages["virtual/imu/data"])
        last = ns_of(r.messages["virtual/imu/data"][-1])
        r.settle(0.2)
        assert len(r.messages["virtual/imu/data"]) == n
        t.k += 400
        t.play(30)
        r.until(lambda: len(r.messages["virtual/imu/data"]) > n, "the next reading", action=t.step)
        new = [ns_of(m) for m in r.messages["virtual/imu/data"][n:]]
        assert min(new) >= last + 400 * STEP, "nothing is invented for the gap"


def test_sensors_that_cannot_be_are_named_and_the_others_play(robot, tmp_path):
    config = yaml.safe_load((REPOSITORY / "config/robots/humanoid.yaml").read_text())
    config["sensors"] = {
        "ghost": {"kind": "imu", "frame": "imu_lnk"},
        "feet/left": {"parameters": {"force_noise": -1.0}},
        "feet/right": {"parameters": {"timing": {"rate": 0.0}}},
        "lidar": {"off": ["nois"]},
        "points": {"kind": "lidar", "frame": "lidar_link", "profile": "no_such.yaml"},
    }
    path = tmp_path / "humanoid.yaml"
    path.write_text(yaml.safe_dump(config))
    with rig(VirtualSensorPublisher, VirtualLidarPublisher, robot_config=str(path)) as r:
        t = Twin(r, robot, ("virtual/imu/data", "twin/sensor_status", "twin/lidar_status"))
        t.play(20)
        r.until(lambda: r.messages["virtual/imu/data"], "the IMU", action=t.step)
        r.until(lambda: "ghost" in status(r)["words"] and status(r, "twin/lidar_status")["words"], "a status")
        lines = "; ".join(status(r, topic)["words"] for topic in ("twin/sensor_status", "twin/lidar_status")).split(
            "; "
        )
        for words in (
            "sensor 'ghost': unknown frame 'imu_lnk'", "sensor 'feet/left': force_noise: -1.0 N is out of range",
            "sensor 'feet/right': timing: rate: 0.0 Hz is out of range", "sensor 'lidar': off: unknown stage 'nois'",
            "sensor 'points': no_such.yaml: cannot read the sensor profile", "shared error 'warm_pelvis': unknown sensor 'compass'",
        ):  # fmt: skip
            assert any(words in line for line in lines), (words, lines)
        assert status(r)["sensors"] == "encoders imu"


def test_a_world_without_geometry_blinds_the_lidars_alone(robot, tmp_path):
    (tmp_path / "empty.sdf").write_text('<sdf version="1.9"><world name="w"/></sdf>')
    with rig(VirtualSensorPublisher) as r:
        Twin(r, robot, ("twin/sensor_status",))
        r.until(lambda: status(r).get("sensors") == "encoders imu feet/left feet/right compass", "a status")
    with rig(VirtualLidarPublisher, world=str(tmp_path / "empty.sdf")) as r:
        Twin(r, robot, ("twin/lidar_status",))
        words = lambda: status(r, "twin/lidar_status")["words"]  # noqa: E731
        r.until(lambda: "no shape" in words(), "a status")
        assert "sensor 'lidar': there is no world to see" in words()
        assert status(r, "twin/lidar_status")["sensors"] == ""


def test_bad_states_are_counted_and_stop_nothing(robot):
    with rig(VirtualSensorPublisher, sensors=["imu"]) as r:
        t = Twin(r, robot, ("virtual/imu/data", "twin/sensor_status"))
        q = robot.joints.stand.tolist()
        names = robot.model.joint_names
        bad = [
            (JointState(name=names[:3], position=q[:3]), Odometry()),
            (JointState(name=names, position=[float("nan")] * 28, velocity=q), Odometry()),
            (JointState(name=names, position=q, velocity=q), Odometry()),
        ]
        for k, (j, o) in enumerate(bad):
            o.pose.pose.orientation.w = 0.0 if k == 2 else 1.0
            for m in (j, o):
                m.header.stamp.sec = k + 1
            r.publisher(JointState, "virtual/joint_states").publish(j)
            r.publisher(Odometry, "virtual/odom").publish(o)
        t.play(20)
        r.until(lambda: r.messages["virtual/imu/data"], "the IMU", action=t.step)
        keys = {
            "rejected/virtual/joint_states/size", "rejected/virtual/joint_states/non_finite",
            "rejected/virtual/odom/non_finite",
        }  # fmt: skip
        r.until(lambda: keys <= status(r).keys(), "the counts")
        assert {key: int(status(r)[key]) for key in keys} == dict.fromkeys(keys, 1)
        assert all(
            np.isfinite([m.linear_acceleration.z, m.angular_velocity.x]).all() for m in r.messages["virtual/imu/data"]
        )


def test_joints_that_nobody_reports_are_not_made_up(robot):
    """They stand at ease for the physics, and no encoder speaks of them; those of another robot are refused."""
    with rig(VirtualSensorPublisher, sensors=["encoders", "imu"]) as r:
        t = Twin(r, robot, ("virtual/encoders/joint_states", "virtual/imu/data", "twin/sensor_status"))
        some = robot.model.joint_names[5:0:-1]

        def step(names=some):
            j, o = JointState(name=names, position=[0.1 * k for k in range(5)], velocity=[0.0] * 5), Odometry()
            o.pose.pose.orientation.w = 1.0
            for topic, m in (("virtual/joint_states", j), ("virtual/odom", o)):
                m.header.stamp.sec, m.header.stamp.nanosec = divmod(T0 + t.k * STEP, 10**9)
                r.publisher(INPUTS[topic], topic).publish(m)
            t.k += 1

        r.until(lambda: len(r.messages["virtual/encoders/joint_states"]) > 5, "encoders", action=step)
        m = r.messages["virtual/encoders/joint_states"][-1]
        assert m.name == some and np.allclose(m.position, [0.0, 0.1, 0.2, 0.3, 0.4], atol=0.01)
        assert r.messages["virtual/imu/data"]
        r.until(
            lambda: "rejected/virtual/joint_states/unknown_joint" in status(r), "the refusal",
            action=lambda: step(["x"] * 5),
        )  # fmt: skip


def test_lidars_stand_in_the_map(robot):
    """External poses move odom in the map; the wall is where the map says."""
    with rig(VirtualLidarPublisher, sensors=["lidar"]) as r:
        t = Twin(r, robot, ("virtual/scan",))
        pose = PoseWithCovarianceStamped()
        pose.pose.pose.position.x, pose.pose.pose.position.z, pose.pose.pose.orientation.w = 1.0, 0.83, 1.0
        r.publisher(PoseWithCovarianceStamped, "virtual/pose")
        r.connected("virtual/pose")

        def step():
            t.step()
            pose.header.stamp.sec, pose.header.stamp.nanosec = divmod(T0 + (t.k - 1) * STEP, 10**9)
            r.publisher(PoseWithCovarianceStamped, "virtual/pose").publish(pose)

        def near():
            return r.messages["virtual/scan"] and abs(r.messages["virtual/scan"][-1].ranges[540] - 2.925) < 0.06

        r.until(near, "a wall that is nearer", action=step)
        assert r.messages["virtual/scan"][-1].header.frame_id == "lidar_link"


def test_the_model_in_service_is_followed(robot, tmp_path):
    """A torso that is heavier: the feet say so. A model that cannot be used leaves the old one."""
    text = robot.description.urdf
    torso = text[text.index('<link name="torso"') :]
    mass = re.search(r'<mass value="([^"]+)"', torso).group(1)
    heavier = text.replace(torso, torso.replace(f'<mass value="{mass}"', f'<mass value="{float(mass) + 20.0}"', 1))
    path = tmp_path / "heavier.urdf"
    path.write_text(heavier)
    with rig(VirtualSensorPublisher, sensors=["feet/left", "feet/right"]) as r:
        sides = ("virtual/feet/left/wrench", "virtual/feet/right/wrench")
        t = Twin(r, robot, (*sides, "twin/sensor_status"))
        announce = r.publisher(String, "twin/model", LATCHED)
        r.connected("twin/model")

        def weight():
            return sum(r.messages[s][-1].wrench.force.z for s in sides) if all(r.messages[s] for s in sides) else 0.0

        r.until(lambda: weight() > 450, "the weight", action=t.step)
        before = weight()
        announce.publish(String(data="{}"))
        r.until(lambda: "rejected/twin/model/unusable" in status(r), "the refusal", action=t.step)
        assert weight() == pytest.approx(before, abs=5.0)
        announce.publish(String(data=json.dumps({"file": str(path), "hash": file_hash(path), "parent": ""})))
        r.until(lambda: weight() > before + 150, "more weight", action=t.step)
        assert weight() == pytest.approx(before + 20.0 * 9.81, abs=5.0)


def test_an_unknown_sensor_is_a_bad_parameter():
    with (
        pytest.raises(ConfigError, match="unknown sensor 'imo'; did you mean 'imu'"),
        rig(VirtualSensorPublisher, sensors=["imo"]),
    ):
        pass
