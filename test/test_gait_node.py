"""gait_controller with real rclpy: three metres through all nodes, and what is bad on cmd_vel or stays away."""

import hashlib
import json
import math
import time

import numpy as np
import pytest
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from ros_rig import rig
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from digital_twin.core.drift.model_version import ModelVersion
from digital_twin.core.drift.parameters import Changes, Payload
from digital_twin.nodes.gait_controller import GaitControllerNode
from digital_twin.nodes.physical_bridge import PhysicalBridge
from digital_twin.nodes.simulated_robot import SimulatedRobot
from digital_twin.nodes.twin_synchronizer import TwinSynchronizer
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.qos import LATCHED, SENSOR_IN

PATIENCE = 0.3  # [s] with a command that does not come


class InStep(SimulatedRobot):
    """Waits for the answer to each measurement: as fast as the machine is, and never faster than the twin.

    An answer bears the stamp of what it answers. To count them would not do: one that came too late would be ahead for
    ever, and the robot's commands older with each.
    """

    asked, answer, until = 0, 0, 0.0

    def listen(self, kind, topic, callback, qos):
        def receive(data):
            callback(data)
            if topic == "joint_commands":
                self.answer = codec.read(data).stamp_ns

        codec = JointStateCodec(JointState)
        return super().listen(kind, topic, receive, qos)

    def work(self):
        now = time.monotonic()
        if self.answer < self.asked and now < self.until:
            return 0.001
        self._tick()
        self.asked, self.until = self._plant.time_ns, now + PATIENCE
        return 0.0


def velocity(vx, vy=0.0, wz=0.0):
    m = Twist()
    m.linear.x, m.linear.y, m.angular.z = vx, vy, wz
    return m


def test_it_walks_three_metres_through_all_nodes_stops_and_sits():
    nodes = (InStep, PhysicalBridge, TwinSynchronizer, GaitControllerNode)
    settings = {f"{n}:use_sim_time": True for n in ("physical_bridge", "twin_synchronizer", "gait_controller")}
    settings |= {
        "simulated_robot:publish_clock": True,
        "simulated_robot:scan_rate": 0.0, "physical_bridge:commands.twin_timeout": 60.0,
        "physical_bridge:commands.source_timeout": 5.0,
    }  # fmt: skip
    with rig(*nodes, **settings) as r:
        r.listen(Odometry, "ground_truth/odom", SENSOR_IN)
        r.listen(String, "twin/gait", LATCHED)
        ask = r.publisher(Twist, "cmd_vel")
        r.connected("cmd_vel", "ground_truth/odom", "twin/gait")
        truth, told = r.messages["ground_truth/odom"], r.messages["twin/gait"]
        r.until(lambda: told and truth, "the robot to stand")
        start, wanted = truth[-1].pose.pose.position.x, velocity(0.5)

        def fell():
            return told[-1].data == "fall"

        r.until(
            lambda: truth[-1].pose.pose.position.x > start + 3.0 or fell(), "three metres", 150,
            lambda: ask.publish(wanted), 0.05,
        )  # fmt: skip
        assert [m.data for m in told][:2] == ["stand", "walk"] and not fell()
        # Nobody asks any more: the command is stale, and the robot stops by itself.
        r.until(lambda: told[-1].data in ("stand", "fall"), "it to stop", 60)
        here = truth[-1].pose.pose.position
        assert here.x - start < 4.0 and abs(here.y) < 0.6 and here.z > 0.6 and not fell()
        assert r.call(Trigger, "gait_controller/sit").success
        r.until(lambda: truth[-1].pose.pose.position.z < here.z - 0.1 or fell(), "it to sit", 60)
        assert told[-1].data == "sit"
        assert r.call(Trigger, "gait_controller/stand").success
        r.until(lambda: told[-1].data in ("stand", "fall"), "it to stand up", 60)
        assert not fell()


@pytest.fixture
def alone(robot):
    """A controller, and a twin that the test plays: the robot as it stands."""
    with rig(GaitControllerNode) as r:
        r.names, r.stand = robot.model.joint_names, robot.joints.stand
        r.joints, r.odom = r.publisher(JointState, "virtual/joint_states"), r.publisher(Odometry, "virtual/odom")
        r.ask = r.publisher(Twist, "cmd_vel")
        r.listen(JointState, "virtual/joint_commands")
        r.listen(String, "twin/gait", LATCHED)
        r.connected("virtual/joint_states", "virtual/odom", "cmd_vel", "virtual/joint_commands", "twin/gait")
        r.stamp = 0
        yield r


def play(r, q=None, pitch=0.0):
    """One state of the twin, of the next stamp."""
    r.stamp += 5_000_000
    sec, nanosec = divmod(r.stamp, 1_000_000_000)
    joints, odom = JointState(name=r.names), Odometry()
    for m in (joints, odom):
        m.header.stamp.sec, m.header.stamp.nanosec = sec, nanosec
    joints.position = np.asarray(r.stand if q is None else q).tolist()
    joints.velocity = [0.0] * len(r.names)
    odom.pose.pose.position.z = 0.74
    odom.pose.pose.orientation.y, odom.pose.pose.orientation.w = math.sin(pitch / 2), math.cos(pitch / 2)
    r.joints.publish(joints)
    r.odom.publish(odom)


def test_each_state_is_answered_by_one_command_with_its_stamp(alone):
    r = alone
    for _ in range(5):
        before = len(r.messages["virtual/joint_commands"])
        play(r)
        r.until(lambda n=before: len(r.messages["virtual/joint_commands"]) > n, "a command")
        m = r.messages["virtual/joint_commands"][-1]
        assert m.header.stamp.sec * 10**9 + m.header.stamp.nanosec == r.stamp
        assert len(m.name) == len(m.position) == len(m.velocity) == len(m.effort) == len(r.names)
    assert r.messages["twin/gait"][-1].data == "stand"


def test_a_velocity_that_is_none_is_counted_and_said(alone):
    r = alone
    play(r)
    r.ask.publish(velocity(math.nan))
    r.until(lambda: sum(r.nodes[0].tally.rejected.values()) == 1, "the refusal")
    r.ask.publish(velocity(1000.0))
    r.until(lambda: sum(r.nodes[0].tally.rejected.values()) == 2, "the other refusal")
    level, words, _ = r.nodes[0].status()
    assert level == 1 and "more than the gait allows" in words


def test_joints_that_are_missing_make_no_state(alone):
    r = alone
    play(r, np.full(len(r.names), np.nan))
    r.until(lambda: sum(r.nodes[0].tally.rejected.values()) == 1, "the refusal")
    assert not r.messages["virtual/joint_commands"]


def test_when_the_twin_falls_silent_it_goes_on_holding_and_says_so(alone):
    r = alone
    play(r)
    commands = r.messages["virtual/joint_commands"]
    r.until(lambda: len(commands) > 10, "commands without a state")
    assert np.allclose(commands[-1].position, r.stand, atol=0.05) and not any(commands[-1].velocity)
    assert "no estimate" in r.nodes[0].status()[1]


def test_a_robot_that_lies_falls_softly_and_is_an_error(alone):
    r = alone
    play(r, pitch=1.2)
    r.until(lambda: r.messages["twin/gait"] and r.messages["twin/gait"][-1].data == "fall", "the fall")
    assert r.nodes[0].status()[0] == 2 and not any(r.messages["virtual/joint_commands"][0].effort)


def test_it_follows_the_model_in_service_and_keeps_the_old_one_when_it_cannot(alone, robot, tmp_path):
    r, node = alone, alone.nodes[0]
    play(r)
    commands = r.messages["virtual/joint_commands"]
    r.until(lambda: commands, "a command")
    light = np.array(commands[0].effort)
    announced = r.publisher(String, "twin/model", LATCHED)
    r.connected("twin/model")

    def announce(text, digest=None):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(text)
        said = {"file": str(path), "hash": digest or hashlib.sha256(text.encode()).hexdigest(), "parent": ""}
        announced.publish(String(data=json.dumps(said)))

    for k, (text, digest) in enumerate([("{}", None), (heavy(robot, 8.0), "0" * 64), ("{", None)]):
        announce(text, digest)
        r.until(lambda k=k: node.tally.rejected["twin/model/unusable"] == k + 1, "the refusal")
    assert node.controller.model.mass == robot.model.mass
    for text in (heavy(robot, 8.0), heavy(robot, 8.0), "[" * 100_000):  # while the first is being made
        before = node.tally.received["twin/model"]
        announce(text)
        r.until(lambda n=before: node.tally.received["twin/model"] > n, "the message")
    r.until(lambda: node.controller.model.mass == pytest.approx(robot.model.mass + 8.0), "the model")
    assert node.controller._m.stamp_ns == r.stamp, "it goes on with what it was doing"
    count = len(commands)
    play(r)
    r.until(lambda: len(commands) > count and any(commands[-1].effort), "a command")
    assert np.abs(np.array(commands[-1].effort) - light).max() > 2.0


def heavy(robot, mass):
    changes = Changes(payloads={"torso": Payload(mass)})
    return ModelVersion(robot.description.name, robot.description.sha256, changes=changes).to_json()
