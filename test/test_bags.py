"""Recordings: MCAP and SQLite written by the rosbags library, whole and damaged."""

import struct

import numpy as np
import pytest
from conftest import ICUB, needs_icub
from mcap.writer import Writer as McapWriter
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import JointState

from digital_twin.bags import Bag
from digital_twin.core.errors import BagError
from digital_twin.recording.mcap_file import ChunkBuilder, McapFile, channel


def write(path, plugin, count=20):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=9, storage_plugin=plugin) as w:
        c = w.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        for k in range(count):
            m = JointState(name=["a"], position=[float(k)])
            w.write(c, 10**9 + k * 5_000_000, bytes(serialize_message(m)))
    return path


def read_all(path):
    """What can be read, and what is said about the rest, whether as notes or as an error."""
    try:
        with Bag(path) as bag:
            got = list(bag.messages())
            assert sum(len(b.times) for b in bag.batches(bag.topics)) == len(got)
            return got, "; ".join(bag.notes)
    except BagError as e:
        return [], str(e)


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
@pytest.mark.parametrize("seed", range(8))
def test_what_is_before_a_cut_is_read_and_the_cut_is_noted(tmp_path, seed):
    """A file cut anywhere: all messages of the chunks before the cut, in their order; nothing raised but BagError."""
    whole = (ICUB / "icub_walking.mcap").read_bytes()
    path = tmp_path / "x.mcap"
    rng = np.random.default_rng(seed)
    with Bag(ICUB) as bag:
        all_of_it = list(bag.messages())
    read = []
    for cut in sorted([0, 1, 8, 100, *rng.integers(0, len(whole), 6)]):
        path.write_bytes(whole[:cut])
        got, said = read_all(path)
        assert "x.mcap" in said and "\n" not in said
        assert not got or "breaks off" in said
        assert got == all_of_it[: len(got)]
        read.append(len(got))
    assert read == sorted(read) and read[0] == 0 and read[-1] > 0


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes_cost_what_they_are_in_and_never_more_than_an_error(tmp_path, seed):
    f = McapFile(tmp_path / "x.mcap", {})
    builder, known, sent = ChunkBuilder(), {1: channel(1, "/a", "std_msgs/msg/String", "string data\n", "")}, []
    rng = np.random.default_rng(seed)
    for k in range(400):
        sent.append(rng.bytes(40))
        builder.add(1, k, sent[-1])
        if k % 10 == 9:
            f.append(builder.finish(), known)
    f.close()
    whole = bytearray((tmp_path / "x.mcap").read_bytes())
    for place in rng.integers(8, len(whole), 5):
        whole[place] ^= int(rng.integers(1, 256))
    (tmp_path / "x.mcap").write_bytes(whole)
    got, said = read_all(tmp_path / "x.mcap")
    assert {data for _, _, data in got} <= set(sent)
    assert len(got) == 400 or (said and "\n" not in said), "what is lost is said"


def test_a_cut_sqlite_recording_is_used_or_refused_in_one_line(tmp_path):
    folder = write(tmp_path / "bag", StoragePlugin.SQLITE3, 2000)
    file = next(folder.glob("*.db3"))
    whole = file.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(share * len(whole))])
        got, said = read_all(folder)
        assert len(got) == 2000 or (said and "\n" not in said)


def test_files_are_known_by_their_content(tmp_path):
    for plugin, wrong in ((StoragePlugin.MCAP, "x.db3"), (StoragePlugin.SQLITE3, "x.mcap")):
        folder = write(tmp_path / wrong / "bag", plugin)
        file = next(p for p in folder.iterdir() if p.suffix in (".mcap", ".db3"))
        with Bag(file.rename(tmp_path / f"mislabelled_{wrong}")) as bag:
            assert len(list(bag.messages())) == 20


def test_a_folder_whose_metadata_are_gone_or_wrong_is_read_by_its_files(tmp_path):
    folder = write(tmp_path / "bag", StoragePlugin.MCAP)
    for text in (
        None,
        "",
        "a: [",
        "rosbag2_bagfile_information: 3",
        "rosbag2_bagfile_information: {relative_file_paths: [gone.mcap]}",
    ):
        (folder / "metadata.yaml").unlink(missing_ok=True)
        if text is not None:
            (folder / "metadata.yaml").write_text(text)
        with Bag(folder) as bag:
            assert len(list(bag.messages())) == 20
            assert "metadata.yaml" in bag.notes[0] or "gone.mcap" in bag.notes[0]


def test_a_foreign_encoding_is_named_and_left_out(tmp_path):
    path = tmp_path / "foreign.mcap"
    with path.open("wb") as f:
        w = McapWriter(f)
        w.start()
        schema = w.register_schema("Foo", "protobuf", b"x")
        w.add_message(w.register_channel("/foo", "protobuf", schema), 1, b"abc", 1)
        w.finish()
    with pytest.raises(BagError, match="encoded as 'protobuf'"):
        Bag(path)


def test_a_chunk_that_claims_to_be_huge_is_left_out(tmp_path):
    """A zip bomb: its size is checked before anything is unpacked."""
    path = tmp_path / "huge.mcap"
    f = McapFile(path, {})
    builder = ChunkBuilder()
    known = {1: channel(1, "/a", "std_msgs/msg/String", "string data\n", "")}
    for k in range(2):
        builder.add(1, 10 + k, b"\0\1\0\0abcd")
        f.append(builder.finish(), known)
    f.close()
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<B", 6), 60)  # the first chunk's opcode, or a byte like it
    places = [i for i in range(at, len(data)) if data[i] == 6 and data[i + 9 : i + 17] == (10).to_bytes(8, "little")]
    struct.pack_into("<Q", data, places[0] + 25, 1 << 60)
    path.write_bytes(data)
    with Bag(path) as bag:
        assert [t for _, t, _ in bag.messages()] == [11] and "damaged" in " ".join(bag.notes)


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
