"""Recordings: MCAP and SQLite written by the rosbags library, whole and damaged."""

import numpy as np
import pytest
from conftest import ICUB, needs_icub
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import JointState

from digital_twin.bags import Bag
from digital_twin.core.errors import BagError


def write(path, plugin, count=20):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=9, storage_plugin=plugin) as w:
        c = w.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        for k in range(count):
            m = JointState(name=["a"], position=[float(k)])
            w.write(c, 10**9 + k * 5_000_000, bytes(serialize_message(m)))
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_both_storages_give_back_the_messages(tmp_path, plugin):
    with Bag(write(tmp_path / "bag", plugin)) as bag:
        assert (
            bag.topics["/joint_states"].kind == "sensor_msgs/msg/JointState" and bag.topics["/joint_states"].count == 20
        )
        assert bag.start_ns == 10**9
        got = [(topic, t, deserialize_message(data, JointState).position[0]) for topic, t, data in bag.messages()]
    assert got == [("/joint_states", 10**9 + k * 5_000_000, float(k)) for k in range(20)]


def test_a_bare_file_works_like_its_folder(tmp_path):
    folder = write(tmp_path / "bag", StoragePlugin.MCAP)
    with Bag(next(folder.glob("*.mcap"))) as bag:
        assert len(list(bag.messages())) == 20


@needs_icub
def test_damaged_recordings_are_named_not_crashed_on(tmp_path):
    whole = (ICUB / "icub_walking.mcap").read_bytes()
    path = tmp_path / "x.mcap"
    rng = np.random.default_rng(0)
    for cut in [0, 1, 8, 100, 5000, *rng.integers(0, len(whole), 6)]:
        path.write_bytes(whole[:cut])
        with pytest.raises(BagError) as e, Bag(path) as bag:
            list(bag.messages())
        assert "x.mcap" in str(e.value) and "\n" not in str(e.value)


def test_an_empty_recording(tmp_path):
    with pytest.raises(BagError, match=r"empty|not a rosbag2"):
        Bag(write(tmp_path / "bag", StoragePlugin.MCAP, 0))


@pytest.mark.parametrize("what", ["a text file", "a folder"])
def test_what_is_no_recording(tmp_path, what):
    path = tmp_path / "x.db3"
    if what == "a folder":
        path = tmp_path / "folder"
        path.mkdir()
    else:
        path.write_text("hello")
    with pytest.raises(BagError, match="not a rosbag2 recording"):
        Bag(path)
