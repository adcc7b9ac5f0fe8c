"""Recordings as they are written: read back by three readers, killed in the middle, on a disk that is full."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState

from digital_twin.bags import Bag
from digital_twin.recording import mcap_file
from digital_twin.recording.folder import RecordingConfig
from digital_twin.recording.mcap_file import ChunkBuilder, McapFile, channel
from digital_twin.recording.recording import Recording, free_name
from digital_twin.ros.cdr import JointStateCodec

KIND = "sensor_msgs/msg/JointState"
PLAIN = RecordingConfig(min_free=0.0)


WRITER = JointStateCodec(JointState).writer(("a", "b"))


def message(k):
    return WRITER.write(k * 10**9, np.array([k, 0.0]))


def record(path, count, config=PLAIN, metadata=None, files=()):
    r = Recording(path, config, metadata or {"robot": "it's a robot: really"}, files)
    number = r.declare("/joint_states", KIND)
    for k in range(count):
        r.add(number, 10**18 + k * 5_000_000, message(k))
    r.close()
    return r


def test_rosbags_and_mcap_read_it_back_whole(tmp_path):
    r = record(tmp_path / "run", 1000, files=[("robot.urdf", "application/xml", b"<robot/>")])
    assert (r.written, r.lost, r.trouble) == (1000, 0, "")
    with Reader(tmp_path / "run") as bag:
        got = [(c.topic, t, bytes(d)) for c, t, d in bag.messages()]
        assert bag.message_count == 1000 and bag.connections[0].msgdef.data.startswith(
            "std_msgs/Header header\nstring[] name"
        )
    assert got == [("/joint_states", 10**18 + k * 5_000_000, message(k)) for k in range(1000)]
    with (tmp_path / "run/run_0.mcap").open("rb") as f:
        reader = make_reader(f, validate_crcs=True)
        assert sum(1 for _ in reader.iter_messages()) == 1000
        assert reader.get_summary().statistics.message_count == 1000
        assert [a.data for a in reader.iter_attachments()] == [b"<robot/>"]
        assert next(reader.iter_metadata()).metadata == {"robot": "it's a robot: really"}
    with Bag(tmp_path / "run") as bag:
        assert list(bag.messages()) == got and bag.notes == []
        assert bag.attachments == {"robot.urdf": b"<robot/>"}


@pytest.mark.parametrize(("limits", "files"), [({"split_time": 1.0}, 5), ({"split_size": 0.005}, 3)])
def test_it_is_split_by_time_and_by_size_and_nothing_falls_between(tmp_path, limits, files):
    r = Recording(tmp_path / "run", RecordingConfig(min_free=0.0, flush_period=0.05, **limits), {})
    number = r.declare("/joint_states", KIND)
    for k in range(1000):
        r.add(number, 10**18 + k * 5_000_000, message(k))
        if k % 100 == 99:
            while r.written <= k:
                time.sleep(0.005)
    r.close()
    found = sorted((tmp_path / "run").glob("*.mcap"))
    assert len(found) >= files
    with Reader(tmp_path / "run") as bag:
        assert [t for _, t, _ in bag.messages()] == [10**18 + k * 5_000_000 for k in range(1000)]
    for f in found:
        with Reader(f) as bag:
            span = bag.end_time - bag.start_time
            assert span <= 1_500_000_000 if "split_time" in limits else f.stat().st_size < 20_000


def test_messages_from_several_threads_all_arrive_in_each_ones_order(tmp_path):
    r = Recording(tmp_path / "run", RecordingConfig(min_free=0.0, flush_period=0.05), {})
    numbers = [r.declare(f"/t{i}/joint_states", KIND) for i in range(4)]

    def send(number):
        for k in range(3000):
            r.add(number, 10**18 + k, message(k))

    threads = [threading.Thread(target=send, args=(n,)) for n in numbers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    r.close()
    with Bag(tmp_path / "run") as bag:
        assert {t.count for t in bag.topics.values()} == {3000}
        for i in range(4):
            assert [t for _, t, _ in bag.messages([f"/t{i}/joint_states"])] == [10**18 + k for k in range(3000)]


def test_after_every_write_the_file_is_whole(tmp_path):
    f = McapFile(tmp_path / "x.mcap", {"a": "b"})
    builder, known = ChunkBuilder(), {}
    for k in range(20):
        known[k % 3 + 1] = channel(k % 3 + 1, f"/t{k % 3}", KIND, "float64 x\n", "")
        for j in range(10):
            builder.add(k % 3 + 1, 100 * k + j, message(j))
        f.append(builder.finish(), known)
        with (tmp_path / "x.mcap").open("rb") as opened:
            reader = make_reader(opened, validate_crcs=True)
            assert reader.get_summary().statistics.message_count == 10 * (k + 1)
            assert sum(1 for _ in reader.iter_messages()) == 10 * (k + 1)
    f.close()


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_recording import PLAIN, KIND, message
from digital_twin.recording.recording import Recording
from pathlib import Path
r = Recording(Path({path!r}), PLAIN, {{}})
n = r.declare("/joint_states", KIND)
k = 0
while True:
    r.add(n, time.time_ns(), message(k))
    k += 1
    if k % 200 == 0:
        print(k, flush=True)
    time.sleep(0.0005)
"""


@pytest.mark.parametrize("after", [0.9, 1.37, 2.05])
def test_kill_9_loses_at_most_the_last_second_and_the_file_opens(tmp_path, after):
    code = KILLED.format(path=str(tmp_path / "run"), tests=os.path.dirname(__file__))
    p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().strip() == "200"
    time.sleep(after)
    killed_ns = time.time_ns()
    p.send_signal(signal.SIGKILL)
    p.wait()
    for opened in (Reader(tmp_path / "run"), Reader(tmp_path / "run/run_0.mcap")):
        with opened as bag:
            stamps = [t for _, t, _ in bag.messages()]
            assert len(stamps) > 200 and killed_ns - stamps[-1] < 1_000_000_000
    with Bag(tmp_path / "run") as bag:
        data = [d for _, _, d in bag.messages()]
        assert data == [message(k) for k in range(len(data))] and bag.notes == []


def test_a_write_that_the_disk_breaks_off_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """ENOSPC half way through: what was there before is still whole, and goes on when there is space again."""
    f = McapFile(tmp_path / "x.mcap", {})
    builder, known = ChunkBuilder(), {1: channel(1, "/a", KIND, "float64 x\n", "")}

    def chunk(k):
        builder.add(1, k, os.urandom(50_000))
        return builder.finish()

    f.append(chunk(1), known)
    real, budget = os.pwrite, 30_000

    def full(file, data, at):
        nonlocal budget
        if budget <= 0 and len(data) > 5000:
            raise OSError(errno.ENOSPC, "No space left on device")
        n = real(file, bytes(data)[: budget if len(data) > 5000 else len(data)], at)
        budget -= n
        return n

    monkeypatch.setattr(mcap_file.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        f.append(chunk(2), known)
    monkeypatch.undo()
    times = lambda: [t for _, t, _ in Bag(tmp_path / "x.mcap").messages()]  # noqa: E731
    assert times() == [1]
    with (tmp_path / "x.mcap").open("rb") as opened:
        assert make_reader(opened, validate_crcs=True).get_summary().statistics.message_count == 1
    f.append(chunk(3), known)
    f.close()
    assert times() == [1, 3]


def test_a_disk_with_little_space_pauses_and_says_so_and_nothing_is_damaged(tmp_path, monkeypatch):
    said = []
    r = Recording(tmp_path / "run", RecordingConfig(flush_period=0.05, min_free=1.0), {}, say=lambda *x: said.append(x))
    number = r.declare("/joint_states", KIND)
    free = [10**12]
    real = os.statvfs

    class Disk:
        f_frsize = 1
        f_bavail = property(lambda self: free[0])

    monkeypatch.setattr(os, "statvfs", lambda path: Disk())
    for phase, space in enumerate((10**12, 1000, 10**12)):
        free[0] = space
        for k in range(100):
            r.add(number, 10**18 + phase * 10**9 + k, message(k))
        end = time.monotonic() + 10
        while r.written + r.lost < 100 * (phase + 1) or bool(r.trouble) != (phase == 1):
            assert time.monotonic() < end, (phase, r.trouble)
            time.sleep(0.01)
    r.close()
    monkeypatch.setattr(os, "statvfs", real)
    assert (r.written, r.lost) == (200, 100)
    assert [level for level, _ in said] == ["error", "warning"] and "0 MB are left" in said[0][1]
    with Bag(tmp_path / "run") as bag:
        assert len(list(bag.messages())) == 200 and bag.notes == []


def test_the_last_minute_is_bounded_in_time_and_memory_and_written_on_demand(tmp_path):
    config = RecordingConfig(min_free=0.0, keep=2.0, flush_period=0.05)
    r = Recording(tmp_path / "run", config, {"robot": "x"}, continuous=False)
    number = r.declare("/joint_states", KIND)
    where = []
    r.snapshot("too early", where.append).wait(5)
    for k in range(1000):
        r.add(number, 10**18 + k * 5_000_000, message(k))
        if k % 50 == 0:
            time.sleep(0.06)
    r.snapshot("emergency stop", where.append).wait(5)
    r.snapshot("emergency stop", where.append).wait(5)
    r.close()
    assert where[0] == "nothing has been kept yet" and not (tmp_path / "run").exists()
    assert where[1:] == [str(tmp_path / "run_emergency_stop"), str(tmp_path / "run_emergency_stop_2")]
    for path in where[1:]:
        with Reader(path) as bag:
            stamps = [t for _, t, _ in bag.messages()]
        assert stamps[-1] == 10**18 + 999 * 5_000_000 and 1.9e9 < stamps[-1] - stamps[0] < 3.2e9
    with Bag(where[1]) as bag:
        assert bag.metadata["digital_twin"] == {"robot": "x", "reason": "emergency stop"}


def test_memory_of_the_last_minute_is_bounded(tmp_path):
    r = Recording(
        tmp_path / "run", RecordingConfig(min_free=0.0, keep_size=1.0, flush_period=0.05), {}, continuous=False
    )
    number = r.declare("/a", KIND)
    rng = np.random.default_rng(0)
    for k in range(200):
        r.add(number, 10**18 + k, rng.bytes(20_000))
        if k % 10 == 0:
            time.sleep(0.06)
        assert r.kept_mb <= 1.3
    r.close()


def test_names_that_are_taken_are_not_written_over(tmp_path):
    record(tmp_path / "run", 10)
    assert free_name(tmp_path, "run") == tmp_path / "run_2"
    r = record(tmp_path / "run", 10)
    assert r.written == 0 and r.lost == 10 and "exists" in r.trouble.lower()
    with Bag(tmp_path / "run") as bag:
        assert len(list(bag.messages())) == 10


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2**62), st.binary(max_size=60)), min_size=1, max_size=40))
def test_any_messages_come_back(tmp_path_factory, messages):
    path = tmp_path_factory.mktemp("any") / "x.mcap"
    f = McapFile(path, {})
    builder = ChunkBuilder()
    known = {n: channel(n, f"/t{n}", KIND, "", "") for n in range(1, 6)}
    for i, (number, t, data) in enumerate(messages):
        builder.add(number, t, data)
        if i % 7 == 6:
            f.append(builder.finish(), known)
    last = builder.finish()
    if last is not None:
        f.append(last, known)
    f.close()
    with Bag(path) as bag:
        assert list(bag.messages()) == [(f"/t{n}", t, d) for n, t, d in messages], "in the order of arrival"
        tables = [
            (b.topic, t, row.tobytes())
            for b in bag.batches(bag.topics)
            for t, row in zip(b.times.tolist(), b.rows, strict=True)
        ]
        assert sorted(tables) == sorted((f"/t{n}", t, d) for n, t, d in messages)
        assert {t: len(x) for t, x in bag.times().items()} == {t: x.count for t, x in bag.topics.items()}
