"""digital-twin fit-sensor on recordings, digital-twin fusion-study on small studies, and what both refuse."""

import sys

import numpy as np
import pytest
import yaml
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Imu, LaserScan, Temperature

from digital_twin.cli.main import main
from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.fusion_study import SetResult, StudyConfig, check, improvement
from digital_twin.core.sensors.imu import AccelConfig, GyroConfig, ImuProfile
from digital_twin.core.sensors.imu import Imu as Device
from digital_twin.core.sensors.profiles import load_profile
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.fit_recordings import fit_topic


def record(path, messages):
    """A bag of (topic, type, stamp [ns], message)."""
    store, connections = get_typestore(Stores.ROS2_JAZZY), {}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as w:
        for topic, kind, ns, m in messages:
            if topic not in connections:
                connections[topic] = w.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=store)
            if hasattr(m, "header"):
                m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
            w.write(connections[topic], ns, m if isinstance(m, bytes) else bytes(serialize_message(m)))
    return str(path)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Two minutes of a virtual IMU, some scans of a slanting wall, and other things."""
    profile = ImuProfile(TimingConfig(100.0), GyroConfig(2.4e-4, bias=0.01), AccelConfig(2e-3, resolution=1e-3))
    t = np.arange(12_000) / 100.0
    x = Device("i", profile, 3, Sources({}, 0)).read(np.tile([0, 0, 0, 0, 0, 9.81], (len(t), 1)), t)
    messages = []
    for k, row in enumerate(x.tolist()):
        m = Imu()
        g, a = m.angular_velocity, m.linear_acceleration
        (g.x, g.y, g.z), (a.x, a.y, a.z) = row[:3], row[3:]
        messages.append(("/imu/data", "Imu", 10**9 + k * 10**7, m))
    rng = np.random.default_rng(0)
    angles = np.linspace(-1, 1, 200)
    for k in range(200):
        r = 4.0 / np.cos(angles - 0.2) + 0.01 * rng.standard_normal(200)
        r[rng.random(200) < 0.01] = np.inf
        m = LaserScan(
            angle_min=-1.0, angle_max=1.0, angle_increment=2 / 199, range_min=0.1, range_max=20.0, ranges=r.tolist()
        )
        messages.append(("/scan", "LaserScan", 10**9 + k * 10**8, m))
    messages += [
        ("/temperature", "Temperature", 10**9, Temperature()),
        ("/broken", "Imu", 10**9, b"\x00\x01\x00\x00\x01"),
    ]
    messages += [("/short", "Imu", 10**9 + k, Imu()) for k in range(5)]
    return record(tmp_path_factory.mktemp("bag") / "rest", messages)


def test_an_imus_profile_is_written_and_can_be_used(bag, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert main(["fit-sensor", bag, "imu/data", "--write", str(path)]) == 0
    assert "gyro.white_noise" in capsys.readouterr().out
    c = load_profile(path, "imu")
    assert c.timing.rate == 100.0 and c.gyro.white_noise == pytest.approx(2.4e-4, rel=0.05)
    assert c.accel.white_noise == pytest.approx(2e-3, rel=0.05) and c.accel.resolution == pytest.approx(1e-3, rel=1e-3)
    low, high = map(
        float,
        next(line for line in path.read_text().splitlines() if "accel.white_noise" in line).split(": ")[1].split(" … "),
    )
    assert low < 2e-3 < high
    assert main(["fit-sensor", bag, "imu/data", "--write", str(path)]) == 2
    assert "already there" in capsys.readouterr().err


def test_a_scan_gives_its_range_statistics(bag, capsys):
    fitted = fit_topic(bag, "/scan")
    e = fitted.estimates
    assert e["noise"].low < 0.01 < e["noise"].high or e["noise_per_metre"].low < 0.0025 < e["noise_per_metre"].high
    assert e["dropout"].low < 0.01 < e["dropout"].high and fitted.parameters["rays"] == 200
    assert main(["fit-sensor", bag, "/scan"]) == 0
    assert yaml.safe_load(capsys.readouterr().out.split("# Fitted")[1].split("\n", 1)[1])["kind"] == "lidar"


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("/imu", "unknown topic '/imu'"),
        ("/temperature", "is of sensor_msgs/msg/Temperature; fitted are"),
        ("/broken", "message 0 is malformed"),
        ("/short", "5 messages with rising stamps are too few"),
    ],
)
def test_topics_that_cannot_be_fitted(bag, topic, words, capsys):
    assert main(["fit-sensor", bag, topic]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


# Fusion


STUDY = {"runs": 2, "duration": 6.0, "sets": {"encoders": ["encoders"], "both": ["imu", "encoders", "feet"]}}


def test_a_study_tells_what_the_sensors_are_worth(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(STUDY))
    assert main(["fusion-study", str(tmp_path / "s.yaml"), "--plot", str(tmp_path / "p.png")]) == 0
    out = capsys.readouterr().out
    first = out.split("consistency")[0]
    rows = {words[0]: words for words in map(str.split, first.splitlines()) if words}
    alone, fused = (float(rows[name][3]) for name in ("encoders", "both"))
    assert 0.0 < fused < alone < 0.5, "yaw: a gyro knows it better than slipping feet"
    assert "NEES velocity" in out and "the last against the best other" in out
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_improvement_is_against_the_best_other():
    results = [SetResult(n, {"yaw": x}, {}, (0, 0, 0), {}) for n, x in (("a", 4.0), ("b", 2.0), ("fused", 1.0))]
    assert improvement(results, "yaw") == 50.0 and np.isnan(improvement(results[:1], "yaw"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sets": {}}, "at least one set"),
        ({"sets": {"a": ["imo"]}}, "set 'a': unknown sensor 'imo'; did you mean 'imu'"),
        ({"sets": {"a": ["feet"]}}, "set 'a': needs the imu or the encoders"),
        ({"sets": {"a": ["imu"]}, "runs": 0}, "runs: 0 is out of range"),
        ({"runs": 1}, "'sets' is missing"),
        ({"sets": {"a": ["imu"]}, "robot_description": "no.urdf"}, "cannot read the robot description"),
    ],
)
def test_studies_that_cannot_be(tmp_path, values, words, capsys):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values))
    assert main(["fusion-study", str(tmp_path / "s.yaml")]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_a_plot_without_matplotlib_or_place_is_refused_at_the_start(tmp_path, capsys, monkeypatch):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["fusion-study", str(tmp_path / "s.yaml"), "--plot", str(tmp_path / "p.png")]) == 2
    assert "--plot needs matplotlib: pip install" in capsys.readouterr().err


def test_the_packages_study_is_sound():
    from digital_twin.core.config import build, load_yaml
    from digital_twin.paths import find

    check(build(StudyConfig, load_yaml(find("fusion_study.yaml", "config")), "study"))
    with pytest.raises(ConfigError):
        check(StudyConfig({}))
