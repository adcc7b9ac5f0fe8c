"""recorder with real rclpy: everything published is in the recording; snapshots on demand and when something goes wrong."""

import math
import os
import signal
import subprocess
import sys
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from ros_rig import rig
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from digital_twin.bags import Bag
from digital_twin.core.errors import TwinError
from digital_twin.nodes.recorder import Recorder
from digital_twin.ros.qos import LATCHED


def stamped(kind, k):
    m = kind()
    m.header.stamp.sec = k
    return m


def recorded(r):
    return r.nodes[0].status()[2]


def subscribed(r, *topics):
    """Wait until the recorder hears these topics."""
    r.until(lambda: all(r.publisher(None, t).get_subscription_count() for t in topics), "the recorder to subscribe")


def test_every_message_published_is_recorded_once_and_in_order(tmp_path):
    topics = {
        "joint_states": JointState,
        "imu/data": Imu,
        "virtual/odom": Odometry,
        "physical/joint_states": JointState,
    }
    with rig(Recorder, folder=str(tmp_path), name="run", recording__min_free=0.0) as r:
        for topic, kind in topics.items():
            r.publisher(kind, topic)
        r.publisher(String, "not/wanted")
        subscribed(r, *topics)
        sent = {t: [] for t in topics}
        for k in range(2000):
            for topic, kind in topics.items():
                m = stamped(kind, k)
                sent[topic].append(m)
                r.publisher(kind, topic).publish(m)
            r.once()
        r.until(lambda: recorded(r)["written"] >= 8000, "all to be written")
        status = recorded(r)
        assert status["lost"] == 0 and status["recorded//joint_states"] == 2000
    with Reader(tmp_path / "run") as bag:
        assert {c.topic: c.msgcount for c in bag.connections} == {f"/{t}": 2000 for t in topics}
    with Bag(tmp_path / "run") as bag:
        for topic in topics:
            stamps = [int.from_bytes(d[4:8], "little") for _, _, d in bag.messages([f"/{topic}"])]
            assert stamps == list(range(2000)), topic
        assert bag.metadata["digital_twin"]["robot"] == "humanoid" and len(bag.metadata["digital_twin"]["model"]) == 12
        assert b"<robot" in bag.attachments["robot.urdf"] and b"feet" in bag.attachments["robot_config.yaml"]


def test_topics_can_be_chosen_and_latched_ones_are_caught(tmp_path):
    with rig(
        Recorder, folder=str(tmp_path), name="run", topics=["twin/model", "/other/*"], recording__min_free=0.0
    ) as r:
        r.publisher(String, "twin/model", LATCHED).publish(String(data="before"))
        r.publisher(JointState, "other/joint_states")
        r.publisher(JointState, "joint_states")
        subscribed(r, "twin/model", "other/joint_states")
        r.publisher(JointState, "other/joint_states").publish(stamped(JointState, 1))
        r.until(lambda: recorded(r)["written"] >= 2, "both")
        assert r.publisher(None, "joint_states").get_subscription_count() == 0
    with Bag(tmp_path / "run") as bag:
        assert set(bag.topics) == {"/twin/model", "/other/joint_states"}


def lean(degrees):
    m = Odometry()
    m.pose.pose.orientation.x = math.sin(math.radians(degrees) / 2)
    m.pose.pose.orientation.w = math.cos(math.radians(degrees) / 2)
    return m


def verdict(level, words=""):
    return DiagnosticArray(status=[DiagnosticStatus(level=bytes([level]), name="x", message=words)])


@pytest.mark.parametrize(
    ("topic", "well", "alarm", "reason"),
    [
        ("virtual/odom", lean(20), lean(75), "fall"),
        ("twin/drift", verdict(1), verdict(2, "l_knee: friction"), "drift"),
        ("twin/bridge_status", verdict(1), verdict(2, "emergency stop; ~/enable_commands lifts it"), "emergency_stop"),
    ],
)
def test_what_goes_wrong_makes_one_snapshot_each_time(tmp_path, topic, well, alarm, reason):
    with rig(
        Recorder, folder=str(tmp_path), name="run", continuous=False, snapshot_tail=0.1, recording__min_free=0.0
    ) as r:
        kind = type(alarm)
        r.publisher(kind, topic)
        subscribed(r, topic)
        first, second = tmp_path / f"run_{reason}", tmp_path / f"run_{reason}_2"
        send = lambda m: lambda: r.publisher(kind, topic).publish(m)  # noqa: E731
        r.settle(0.8, action=send(well))
        assert not list(tmp_path.iterdir())
        r.until((first / "metadata.yaml").exists, "the snapshot", action=send(alarm))
        r.settle(0.6, action=send(alarm))
        assert not second.exists(), "one alarm, one snapshot"
        r.settle(0.2, action=send(well))
        r.until((second / "metadata.yaml").exists, "the next snapshot", action=send(alarm))
    with Reader(first) as bag:
        data = [bytes(d) for _, _, d in bag.messages()]
    assert bytes(serialize_message(well))[:16] == data[0][:16] and len(data) > 20
    assert not (tmp_path / "run").exists(), "only snapshots were asked for"


def test_a_snapshot_on_demand_says_where_it_is(tmp_path):
    with rig(Recorder, folder=str(tmp_path), name="run", recording__min_free=0.0) as r:
        early = r.call(Trigger, "recorder/snapshot")
        assert not early.success and early.message == "nothing has been kept yet"
        r.publisher(JointState, "joint_states")
        subscribed(r, "joint_states")
        r.settle(0.7, action=lambda: r.publisher(JointState, "joint_states").publish(JointState()))
        answer = r.call(Trigger, "recorder/snapshot")
        assert answer.success and answer.message == str(tmp_path / "run_snapshot")
    for path in ("run", "run_snapshot"):
        with Bag(tmp_path / path) as bag:
            assert bag.topics["/joint_states"].count > 20


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TwinError, match="cannot make the folder"), rig(Recorder, folder=str(tmp_path / "file/x")):
        pass


def test_the_recorder_killed_with_9_leaves_a_recording_of_all_but_the_last_second(tmp_path):
    command = [sys.executable, "-m", "digital_twin", "record", "--folder", str(tmp_path), "--name", "run"]
    with rig() as r:
        publisher = r.publisher(JointState, "joint_states")
        p = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ)
        try:
            r.until(publisher.get_subscription_count, "the recorder", timeout=30)
            sent = []

            def send():
                sent.append(time.time())
                publisher.publish(stamped(JointState, len(sent)))

            r.settle(2.5, action=send)
            killed = time.time()
        finally:
            p.send_signal(signal.SIGKILL)
            p.wait()
    for reader in (Reader(tmp_path / "run"), Bag(tmp_path / "run")):
        with reader as bag:
            stamps = [int.from_bytes(bytes(m[2])[4:8], "little") for m in bag.messages()]
        assert stamps == list(range(1, len(stamps) + 1)), "none is missing between"
        assert killed - sent[len(stamps) - 1] < 1.0 and len(stamps) > 150
