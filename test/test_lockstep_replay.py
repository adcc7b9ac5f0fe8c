"""The twin run over a recording: the same bytes each time, those that were recorded, and where not, where."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rclpy
from conftest import ICUB, REPOSITORY, needs_icub
from ros_rig import Rig
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from std_srvs.srv import SetBool, Trigger

from digital_twin.bags import Bag
from digital_twin.core.errors import BagError
from digital_twin.nodes.command_script import CommandScript
from digital_twin.nodes.drift_monitor import DriftMonitor
from digital_twin.nodes.physical_bridge import PhysicalBridge
from digital_twin.nodes.recorder import Recorder
from digital_twin.nodes.simulated_robot import SimulatedRobot
from digital_twin.nodes.twin_synchronizer import TwinSynchronizer
from digital_twin.recording.check import Check, first_of
from digital_twin.recording.replay import Replay

URDF = str(ICUB / "icub.urdf")


def outputs(bag, *robot, **options):
    found = []
    outcome = Replay(bag, *robot, **options).run(lambda *message: found.append(message))
    return outcome, found


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Some seconds of everything in one process: a stop, a release, a resync in between."""
    folder = tmp_path_factory.mktemp("recording")
    settings = {"recorder:folder": folder, "recorder:name": "run", "recorder:recording.min_free": 0.0}
    settings |= {"physical_bridge:wait_for_recorder": "true", "twin_synchronizer:sync_error_threshold": 0.07}
    settings |= {"drift_monitor:models.store": folder / "models"}
    rclpy.init(args=["--ros-args", *(x for k, v in settings.items() for x in ("-p", f"{k}:={v}"))])
    r = Rig()
    try:
        for make in (Recorder, SimulatedRobot, PhysicalBridge, TwinSynchronizer, CommandScript, DriftMonitor):
            r.add(make())
        bridge, recorder = r.nodes[2], r.nodes[0]
        r.until(lambda: not bridge.waiting, "the recorder to be ready")
        r.settle(1.5)
        r.call(Trigger, "physical_bridge/emergency_stop")
        r.settle(0.3)
        r.call(SetBool, "physical_bridge/enable_commands", SetBool.Request(data=True))
        r.call(Trigger, "twin_synchronizer/resync")
        r.settle(1.5)
        heard = recorder.status()[2]
        r.until(lambda: recorder.status()[2]["written"] > heard["written"] + 100, "it to be written")
    finally:
        r.executor.shutdown()
        for node in (*r.nodes, r.node):
            node.destroy_node()
        rclpy.shutdown()
    return folder / "run"


def test_what_was_recorded_comes_out_again_byte_for_byte(recording):
    with Bag(recording) as bag:
        replay = Replay(bag)
        assert replay.exact
        check = Check(bag, replay.prefix)
        outcome = replay.run(check.replayed)
        result = check.result()
    assert outcome.missing == 0 and outcome.messages > 3000
    for topic in ("virtual/joint_states", "virtual/odom", "virtual/pose", "physical/joint_states", "physical/imu/data",
                  "physical/external_pose", "twin/innovations", "virtual/joint_details", "joint_commands"):  # fmt: skip
        a = result[topic]
        assert a.same > 50 and (a.different, a.only_recorded, a.only_replayed) == (0, 0, 0), (topic, a)
    drift = result["twin/drift"]  # it says which model is in service, which a keeper has announced
    assert drift.same > 3 and (drift.different, drift.only_recorded, drift.only_replayed) == (0, 0, 0)
    assert first_of(result.values()) == ""


def test_the_stop_in_it_made_a_snapshot(recording):
    with Bag(recording.with_name("run_emergency_stop")) as bag:
        assert bag.metadata["digital_twin"]["reason"] == "emergency stop" and "/virtual/odom" in bag.topics


def test_twice_the_same_bytes_in_both_orders(recording):
    for exact in (True, False):
        runs = []
        for _ in range(2):
            with Bag(recording) as bag:
                runs.append(outputs(bag, exact=exact))
        assert runs[0][1] == runs[1][1] and runs[0][0].digest == runs[1][0].digest
        assert runs[0][0].exact == exact


def test_a_difference_is_located(recording):
    with Bag(recording) as bag:
        replay = Replay(bag, settings={"twin_synchronizer": {"joints.fading": 0.9}})
        check = Check(bag, replay.prefix)
        replay.run(check.replayed)
        result = check.result()
    assert result["physical/joint_states"].different == 0
    assert result["virtual/joint_states"].different > 100
    first = first_of(result.values())
    topic, stamp, where = first.split(", ", 2)
    assert topic.startswith(("virtual/", "twin/innovations")) and stamp.startswith("stamp 1") and " and " in where
    name = where.split(":")[0]
    assert any(name.startswith(f) for f in ("position[", "velocity[", "data[", "pose.", "twin.", "effort[")), first


def test_settings_and_robot_come_from_the_recording(recording):
    with Bag(recording) as bag:
        journal = Replay(bag)._journals["twin_synchronizer"]
        assert journal.settings["sync_error_threshold"] == 0.07 and journal.whole
        assert "call ~/resync" in journal.sources and "message physical/joint_states" in journal.sources


def test_a_recording_that_began_late_is_replayed_in_its_own_order(recording, tmp_path):
    """Without the first journals it cannot be exact, and says so."""
    folder = tmp_path / "late"
    store = get_typestore(Stores.ROS2_JAZZY)
    with Bag(recording) as bag, Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as w:
        connections = {t.name: w.add_connection(t.name, t.kind, typestore=store) for t in bag.topics.values()}
        half = (bag.start_ns + bag.end_ns) // 2
        for topic, t, data in bag.messages():
            if t > half:
                w.write(connections[topic], t, data)
    with Bag(folder) as bag:
        outcome, found = outputs(bag)
    assert not outcome.exact and "do not begin with the nodes" in " ".join(outcome.notes)
    assert sum(t == "virtual/odom" for t, _, _ in found) > 100


@needs_icub
def test_the_real_walk_twice_the_same_and_as_accurate_as_live():
    """Byte identity between processes too: whatever depends on a hash seed or an address would show."""
    command = [sys.executable, "-m", "digital_twin", "replay", str(ICUB), "--fast", "--robot-description", URDF]
    digests = []
    for seed in ("1", "2"):
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout.split("SHA-256 ")[1].split()[0])
    assert digests[0] == digests[1]


@needs_icub
def test_sqlite_gives_the_same_as_mcap(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Reader(ICUB) as source, Writer(tmp_path / "sqlite", version=9, storage_plugin=StoragePlugin.SQLITE3) as w:
        to = {c.id: w.add_connection(c.topic, c.msgtype, typestore=store) for c in source.connections}
        for c, t, data in source.messages():
            w.write(to[c.id], t, data)
    results = []
    for path in (ICUB, tmp_path / "sqlite"):
        with Bag(path) as bag:
            results.append(outputs(bag, URDF))
    assert results[0][0].outputs["virtual/odom"] > 1100
    assert results[0][1] == results[1][1]


@needs_icub
def test_a_robot_in_a_namespace_has_its_frames_in_it(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Bag(ICUB) as bag, Writer(tmp_path / "bob", version=9, storage_plugin=StoragePlugin.MCAP) as w:
        to = {t.name: w.add_connection(f"/bob{t.name}", t.kind, typestore=store) for t in bag.topics.values()}
        for topic, t, data in list(bag.messages())[:1500]:
            w.write(to[topic], t, data)
    with Bag(tmp_path / "bob") as bag:
        assert Replay(bag, URDF).prefix == "/bob/"
        _, found = outputs(bag, URDF)
    odom = next(d for topic, _, d in found if topic == "virtual/odom")
    assert b"bob/odom\0" in odom and b"bob/base_link\0" in odom


@needs_icub
def test_missing_topics_and_clocks_that_jump_do_not_stop_it(tmp_path):
    """Joints alone; then with a recorder's clock that leaps an hour ahead and back."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, topics, leap in (("joints", {"/joint_states"}, 0), ("leap", None, 3600 * 10**9)):
        with Bag(ICUB) as bag, Writer(tmp_path / name, version=9, storage_plugin=StoragePlugin.MCAP) as w:
            to = {
                t.name: w.add_connection(t.name, t.kind, typestore=store)
                for t in bag.topics.values()
                if topics is None or t.name in topics
            }
            for k, (topic, t, data) in enumerate(bag.messages(to)):
                w.write(to[topic], t + (leap if 2000 < k < 4000 else 0), data)
        with Bag(tmp_path / name) as bag:
            outcome, found = outputs(bag, URDF)
        p = [np.frombuffer(d, "<f8", 7, len(d) - 85 * 8) for topic, _, d in found if topic == "virtual/odom"]
        assert len(p) > 900 and np.isfinite(p).all(), (name, outcome.notes)


def test_without_joint_states_it_says_what_there_is(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as w:
        c = w.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        w.write(c, 1, b"\0\1\0\0\2\0\0\0a\0")
    with Bag(tmp_path / "bag") as bag, pytest.raises(BagError, match=r"no joint_states in it.*/chatter"):
        Replay(bag)


def test_what_came_of_it_is_written_as_json_and_as_a_recording(recording, tmp_path):
    command = [
        sys.executable,
        "-m",
        "digital_twin",
        "replay",
        str(recording),
        "--fast",
        "--json",
        str(tmp_path / "r.json"),
        "--write",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    r = json.loads((tmp_path / "r.json").read_text())
    assert r["exact"] and r["first_difference"] == "" and r["compared"]["virtual/odom"]["different"] == 0
    assert "came out the same, byte for byte" in done.stdout
    with Reader(tmp_path / "out") as bag:
        counts = {c.topic: c.msgcount for c in bag.connections}
    assert counts["/virtual/odom"] == r["outputs"]["virtual/odom"]["messages"]
