"""Recordings of virtual sensors give their profiles back: clouds, joints, cameras; and what cannot be fitted is named."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image, JointState, PointCloud2, PointField
from test_photon_transfer import LONG, SENSOR, SHORT, TRUTH
from test_photon_transfer import record as frames

from digital_twin.cli.main import main
from digital_twin.core.errors import TwinError
from digital_twin.core.sensors.camera import load_profile as load_camera
from digital_twin.core.sensors.encoders import EncoderProfile, Encoders
from digital_twin.core.sensors.lidar import Lidar
from digital_twin.core.sensors.lidar_stages import LidarProfile
from digital_twin.core.sensors.motion import Pose
from digital_twin.core.sensors.profiles import load_profile
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.sweep_motion import Sweep
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.core.sensors.twin_scene import TwinScene
from digital_twin.core.world import load_world
from digital_twin.fit_recordings import fit_topic
from digital_twin.paths import share
from digital_twin.ros.sensor_topics import scanner_topic


def record(path, messages):
    """A bag of (topic, type, stamp [ns], bytes)."""
    store, connections = get_typestore(Stores.ROS2_JAZZY), {}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as w:
        for topic, kind, ns, data in messages:
            if topic not in connections:
                connections[topic] = w.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=store)
            w.write(connections[topic], ns, data)
    return str(path)


def test_a_cloud_of_lines_gives_its_lidar_back(robot, tmp_path):
    c = LidarProfile(
        TimingConfig(10.0), rays=360, elevations=[-0.2, -0.1, -0.05, 0.0, 0.05], noise=0.01, noise_per_metre=0.004,
        dropout=0.03, range_max=40.0,
    )  # fmt: skip
    world = load_world(share("worlds/humanoid_world.sdf"))
    lidar = Lidar("l", c, "lidar_link", TwinScene(robot.model, robot.config, robot.joints, world), 4)
    pose = Pose(0.0, np.array([0.1, 0.0, 1.5]), np.eye(3), np.array([0.1, 0.0, 0.83]), np.eye(3), robot.joints.stand)
    track = (pose, replace(pose, t=0.2))

    kind, write = scanner_topic(SimpleNamespace(lidar=lidar), "lidar_link")
    assert kind is PointCloud2
    sweeps = [lidar.measure(Sweep(k, 0.0, track)) for k in range(150)]
    bag = record(
        tmp_path / "rest", [("/points", "PointCloud2", k * 10**8, write(k * 10**8, s)) for k, s in enumerate(sweeps)]
    )
    fitted = fit_topic(bag, "points")
    for name, truth in {"noise": 0.01, "noise_per_metre": 0.004, "dropout": 0.03}.items():
        e = fitted.estimates[name]
        assert e.low <= truth <= e.high and e.high < 1.6 * e.low, name
    p = fitted.parameters
    assert p["rays"] == 360 and p["timing"]["rate"] == 10.0
    assert len(p["elevations"]) >= 3 and {round(e, 3) for e in p["elevations"]} <= set(c.elevations)
    assert main(["fit-sensor", bag, "/points", "--write", str(tmp_path / "mine.yaml")]) == 0
    assert load_profile(tmp_path / "mine.yaml", "lidar").noise == pytest.approx(0.01, rel=0.1)


def test_joints_at_rest_give_their_encoders_back(tmp_path):
    c = EncoderProfile(
        TimingConfig(200.0), resolution=1e-5, noise=8e-5, torque_noise=0.3, torque_drift=0.02, torque_resolution=0.01
    )
    n, joints = 8000, 3
    ideal = np.zeros((n, 3 * joints))
    ideal[:, joints : 2 * joints] = 0.0
    values = Encoders("e", c, joints, 2, Sources({}, 0)).read(ideal, np.arange(n) / 200.0)
    messages = []
    for k, row in enumerate(values):
        m = JointState(name=["a", "b", "c"], position=row[:3].tolist(), effort=row[6:].tolist())
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(k * 5_000_000, 10**9)
        messages.append(("/joint_states", "JointState", k * 5_000_000, bytes(serialize_message(m))))
    fitted = fit_topic(record(tmp_path / "rest", messages), "/joint_states")
    for name, truth in {"noise": 8e-5, "torque_noise": 0.3, "torque_drift": 0.02}.items():
        e = fitted.estimates[name]
        assert e.low <= truth <= e.high, (name, e)
    assert fitted.parameters["resolution"] == pytest.approx(1e-5, rel=1e-2)
    assert fitted.parameters["torque_resolution"] == pytest.approx(0.01, rel=1e-2)


def test_joints_that_do_not_move_at_all_say_so(tmp_path):
    m = bytes(serialize_message(JointState(name=["a"], position=[0.5])))
    still = []
    for k in range(2000):
        m = JointState(name=["a"], position=[0.5])
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(k * 5_000_000, 10**9)
        still.append(("/joint_states", "JointState", k, bytes(serialize_message(m))))
    with pytest.raises(TwinError, match="the noise is below the resolution"):
        fit_topic(record(tmp_path / "still", still), "/joint_states")


def image(frame, ns, encoding="mono16"):
    """A raw frame as a message's bytes."""
    m = Image(height=frame.shape[0], width=frame.shape[1], step=2 * frame.shape[1], encoding=encoding)
    m.data = frame.astype("<u2").tobytes()
    m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
    return bytes(serialize_message(m))


@pytest.fixture(scope="module")
def camera_bag(tmp_path_factory):
    flat, dark, exposures = frames(SENSOR, 7)
    messages = [("/image_raw", "Image", k, image(f, k)) for k, f in enumerate(flat)]
    for k, (f, t) in enumerate(zip(dark, exposures, strict=True)):
        messages.append(("/dark_long" if t == LONG else "/dark_short", "Image", k, image(f, k)))
    messages.append(("/colour", "Image", 1, image(flat[0], 1, "rgb8")))
    return record(tmp_path_factory.mktemp("bag") / "flat", messages)


def test_a_cameras_frames_give_its_sensor_back(camera_bag, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    dark = ["--dark", f"/dark_short={SHORT}", "--dark", f"/dark_long={LONG}"]
    assert main(["fit-sensor", camera_bag, "/image_raw", *dark, "--write", str(path)]) == 0
    assert "sensor.read_noise" in capsys.readouterr().out
    sensor = load_camera(path).sensor
    for name, truth in TRUTH.items():
        assert getattr(sensor, name) == pytest.approx(truth, rel=0.05), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/colour"], "needs raw frames"),
        (["/image_raw", "--dark", "/dark_short"], "expected TOPIC=SECONDS"),
        (["/image_raw", "--dark", "/dark_short=-1"], "expected TOPIC=SECONDS"),
        (["/image_raw", "--dark", "/dark=1"], "unknown topic"),
    ],
)
def test_frames_that_tell_nothing_are_refused_in_a_line(camera_bag, capsys, arguments, words):
    assert main(["fit-sensor", camera_bag, *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err


def test_a_cloud_without_rings_is_refused(tmp_path):
    m = PointCloud2(width=1, height=1, point_step=12, row_step=12, data=bytes(12))
    m.fields = [PointField(name=n, offset=4 * k, datatype=7, count=1) for k, n in enumerate("xyz")]
    bag = record(tmp_path / "b", [("/points", "PointCloud2", 1, bytes(serialize_message(m)))])
    with pytest.raises(TwinError, match="its points need the fields x, y, z, ring"):
        fit_topic(bag, "/points")
