"""The wire format, both ways, against rclpy's own serialisation."""

import contextlib

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, Header

from digital_twin.ros.cdr import DoublesCodec, JointStateCodec, MalformedError, stamp_ns
from digital_twin.ros.journal import key_of
from digital_twin.ros.labelled import LabelledWriter, labelled_stamp_ns

frames = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(width=64)


def arrays(n):
    return st.lists(numbers, min_size=n, max_size=n)


@st.composite
def joint_states(draw):
    names = draw(st.lists(frames, max_size=5))
    m = JointState(name=names)
    m.header.frame_id = draw(frames)
    m.header.stamp.sec, m.header.stamp.nanosec = draw(st.integers(-(2**31), 2**31 - 1)), draw(st.integers(0, 10**9 - 1))
    for field in ("position", "velocity", "effort"):
        setattr(m, field, draw(st.sampled_from([[], draw(arrays(len(names)))])))
    return m


def same(a, b):
    return np.array_equal(np.array(a), np.array(b), equal_nan=True)


@given(joint_states())
def test_joint_states_are_read_as_rclpy_reads_them(m):
    codec = JointStateCodec(JointState)
    data = bytes(serialize_message(m))
    for _ in range(2):  # the second time the names are remembered
        r = codec.read(data)
        assert r.names == tuple(m.name)
        assert r.stamp_ns == stamp_ns(data) == m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
        assert same(r.position, m.position) and same(r.velocity, m.velocity) and same(r.effort, m.effort)


@given(joint_states())
def test_joint_states_are_written_as_rclpy_reads_them(m):
    data = JointStateCodec(JointState).writer(tuple(m.name), m.header.frame_id).write(
        m.header.stamp.sec * 10**9 + m.header.stamp.nanosec,
        *(np.array(x) if len(x) else None for x in (m.position, m.velocity, m.effort)),
    )  # fmt: skip
    back = deserialize_message(data, JointState)
    assert back.name == m.name and back.header == m.header
    assert same(back.position, m.position) and same(back.velocity, m.velocity) and same(back.effort, m.effort)


def fill(m, values):
    """Put 37, 6, 43 or 85 doubles where they belong, by rclpy's names."""
    v = iter(float(x) for x in values)
    xyz = lambda o: [setattr(o, c, next(v)) for c in "xyz"]  # noqa: E731
    xyzw = lambda o: [setattr(o, c, next(v)) for c in "xyzw"]  # noqa: E731
    block = lambda n: [next(v) for _ in range(n)]  # noqa: E731
    if isinstance(m, Imu):
        xyzw(m.orientation)
        m.orientation_covariance = block(9)
        xyz(m.angular_velocity)
        m.angular_velocity_covariance = block(9)
        xyz(m.linear_acceleration)
        m.linear_acceleration_covariance = block(9)
    elif isinstance(m, WrenchStamped):
        xyz(m.wrench.force)
        xyz(m.wrench.torque)
    else:
        xyz(m.pose.pose.position)
        xyzw(m.pose.pose.orientation)
        m.pose.covariance = block(36)
        if isinstance(m, Odometry):
            xyz(m.twist.twist.linear)
            xyz(m.twist.twist.angular)
            m.twist.covariance = block(36)
    return m


KINDS = [(Imu, 37, False), (WrenchStamped, 6, False), (PoseWithCovarianceStamped, 43, False), (Odometry, 85, True)]


@pytest.mark.parametrize(("kind", "count", "child"), KINDS)
@given(frame=frames, child_frame=frames, seed=st.integers(0, 2**31 - 1))
def test_messages_of_doubles_both_ways(kind, count, child, frame, child_frame, seed):
    values = np.random.default_rng(seed).standard_normal(count)
    m = fill(kind(), values)
    m.header.frame_id = frame
    m.header.stamp.sec, m.header.stamp.nanosec = seed, 5
    if child:
        m.child_frame_id = child_frame
    codec = DoublesCodec(kind, count, child_frame=child)
    data = bytes(serialize_message(m))
    for _ in range(2):
        r = codec.read(data)
        assert (r.frame, r.child_frame, r.stamp_ns) == (frame, child_frame if child else "", seed * 10**9 + 5)
        assert np.array_equal(r.values, values)
    written = codec.writer(frame, child_frame).write(seed * 10**9 + 5, values)
    assert deserialize_message(written, kind) == m


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_truncated_bytes_are_malformed_and_never_crash(cut):
    m = JointState(name=["a", "bb", "ccc"], position=[1.0, 2, 3], velocity=[1.0, 2, 3], effort=[1.0, 2, 3])
    whole = bytes(serialize_message(m))
    if cut < len(whole) - 8:
        with pytest.raises(MalformedError):
            JointStateCodec(JointState).read(whole[:cut])
    imu = bytes(serialize_message(Imu()))
    if cut < len(imu):
        with pytest.raises(MalformedError):
            DoublesCodec(Imu, 37).read(imu[:cut])


@given(st.binary(max_size=200))
def test_rubbish_is_malformed_or_a_message(data):
    for codec, kind in ((JointStateCodec(JointState), JointState), (DoublesCodec(Imu, 37), Imu)):
        whole = b"\x00\x01\x00\x00" + data
        message = None
        with contextlib.suppress(MalformedError):  # and nothing else
            message = codec.read(whole)
        if message is not None:  # then rclpy can read it too, and finds the same in it
            stamp = deserialize_message(whole, kind).header.stamp
            assert message.stamp_ns == stamp.sec * 10**9 + stamp.nanosec


def test_big_endian_messages_are_read_by_rclpy():
    """As a peer on another machine may send them: the layout of one Imu, all numbers the other way round."""
    m = fill(Imu(), np.arange(37.0))
    m.header.frame_id = "abc"
    m.header.stamp.sec = 7
    little = bytes(serialize_message(m))
    big = bytearray(little)
    big[1] = 0
    for start, stop, size in ((4, 8, 4), (8, 12, 4), (12, 16, 4), (20, len(little), 8)):
        for i in range(start, stop, size):
            big[i : i + size] = big[i : i + size][::-1]
    r = DoublesCodec(Imu, 37).read(bytes(big))
    assert r.stamp_ns == 7 * 10**9 and r.frame == "abc" and np.array_equal(r.values, np.arange(37.0))


def test_wrong_sizes_are_refused_when_writing():
    with pytest.raises(ValueError, match="expected 2 values"):
        JointStateCodec(JointState).writer(("a", "b")).write(0, np.zeros(3))
    with pytest.raises(ValueError, match="expected 6 values"):
        DoublesCodec(WrenchStamped, 6).writer("f").write(0, np.zeros(5))


def test_names_that_always_change_do_not_fill_the_memory():
    codec = JointStateCodec(JointState)
    for k in range(100):
        codec.read(bytes(serialize_message(JointState(name=[f"j{k}"], position=[1.0]))))
    assert len(codec._heads) <= 8


@pytest.mark.parametrize("labels", [["a"], ["ab", "c"], ["abc"], ["abcd", "e"], []])
def test_labelled_numbers_are_a_message_and_their_stamp_is_found(labels):
    ns = 1_700_000_000_123_456_789
    data = LabelledWriter(labels).write(ns, np.arange(len(labels), dtype=float))
    m = deserialize_message(data, Float64MultiArray)
    assert m.layout.dim[0].label.split(",") == ["stamp_sec", "stamp_nanosec", *labels]
    assert list(m.data) == [1_700_000_000.0, 123_456_789.0, *range(len(labels))]
    assert labelled_stamp_ns(data) == ns and labelled_stamp_ns(data[:30]) == 0


def test_a_journal_knows_messages_of_one_topic_apart_by_their_stamps():
    write = LabelledWriter(["a", "b"]).write
    assert key_of(write(5_000_000_001, np.zeros(2))) == 5_000_000_001
    assert key_of(write(5_000_000_002, np.zeros(2))) == 5_000_000_002
    stamped = [serialize_message(Odometry(header=Header(stamp=Time(sec=3, nanosec=n)))) for n in (1, 2)]
    assert key_of(stamped[0]) != key_of(stamped[1]) and key_of(b"") == 0
