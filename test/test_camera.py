"""A camera as a whole: stages, exposure, motion, seeds, profiles; and what a URDF says of it."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY

from digital_twin.cameras import make_cameras, robot_cameras, sensor_description
from digital_twin.core.config import build
from digital_twin.core.errors import ConfigError
from digital_twin.core.rotation import rpy_matrix
from digital_twin.core.sensors.camera import STAGES, Camera, CameraConfig, load_profile
from digital_twin.core.sensors.camera_description import read_cameras

PROFILES = sorted((REPOSITORY / "config/sensors").glob("camera_*.yaml"))
SMALL = {"width": 64, "height": 48, "exposure": {"auto": False}}
NOISE = ["fixed_pattern", "shot_noise", "dark_current", "read_noise", "quantisation"]


def camera(name="c", seed=1, off=(), **values):
    return Camera(build(CameraConfig, SMALL | {"off": list(off)} | values, "test"), name, seed)


def grey(c, value):
    return np.full((c.optics.source.height, c.optics.source.width, 3), value, dtype=np.uint8)


def noisy(seed=0):
    c = camera(lens={"model": "plumb_bob", "coefficients": [-0.2]})
    return np.random.default_rng(seed).integers(0, 256, grey(c, 0).shape, dtype=np.uint8)


def test_white_is_the_light_that_a_lens_lets_through():
    c = camera(off=[*NOISE, "saturation", "vignetting"], sensor={"pixel_size": 3.0})
    e = c.config.exposure
    lux = e.illuminance * 0.9 / (4 * 2.8**2)
    photons = lux / 683.0 * 9e-12 * e.time / (6.62607015e-34 * 299792458.0 / 555e-9)
    assert c.white() == pytest.approx(photons, rel=1e-6)
    raw = c.raw([grey(c, 255)])
    electrons = (raw - c.config.sensor.black_level) / c.config.sensor.gain / photons
    red, green, blue = electrons[0::2, 0::2], electrons[0::2, 1::2], electrons[1::2, 1::2]
    for part, efficiency in zip((red, green, blue), c.config.sensor.quantum_efficiency, strict=True):
        assert np.allclose(part, efficiency, rtol=1e-5)


def test_grey_stays_grey_and_looks_as_bright_as_it_was_rendered():
    """White balance takes off what the colours' efficiencies differ by; the response curve, the screen's."""
    c = camera(off=[*NOISE, "vignetting"])
    scale = c.config.sensor.full_well / (c.white() * c.config.sensor.quantum_efficiency[1])
    c = camera(off=[*NOISE, "vignetting"], exposure={"auto": False, "illuminance": 400.0 * scale})
    for value in (60, 128, 200):
        out = c.colour(c.raw([grey(c, value)])).astype(int)
        assert np.abs(out - value).max() <= 2


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_left_out(stage):
    """And leaving it out changes what it works on, and nothing that it does not."""
    values = {"lens": {"model": "plumb_bob", "coefficients": [-0.2]}, "jitter": 0.01, "dropout": 0.5, "latency": 0.1}
    values["sensor"] = {"dark_current": 5000.0, "full_well": 900.0, "dsnu": 30.0}
    whole, without = camera(**values), camera(off=[stage], **values)
    moving = [noisy(k) for k in range(4)]

    def results(c):
        shape = c.optics.source.height, c.optics.source.width
        renders = [m[: shape[0], : shape[1]] for m in moving[: len(c.render_times(4.0))]]
        raw = c.raw(renders)
        z = np.tile(np.linspace(1.0, 1.0, shape[1], dtype=np.float32), (shape[0], 1))
        z[:, shape[1] // 2 :] = 2.0
        return {
            "raw": np.asarray(raw, dtype=float), "colour": c.colour(raw), "depth": c.depth(z),
            "timing": np.array([c.next_frame() for _ in range(20)]),
        }  # fmt: skip

    a, b = results(whole), results(without)
    changed = {k for k in a if not np.array_equal(a[k], b[k], equal_nan=True)}
    expected = {
        "response": {"colour"}, "stereo_noise": {"depth"}, "edge_holes": {"depth"}, "jitter": {"timing"},
        "dropout": {"timing"}, "latency": set(), "quantisation": {"raw", "depth"},
    }.get(stage, {"raw", "colour"})  # fmt: skip
    assert expected <= changed <= expected | {"colour"}, changed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"near": 5.0, "far": 4.0}, "near 5 is not below far 4"),
        ({"exposure": {"shortest": 0.1, "longest": 0.01}}, "shortest 0.1 is not below longest 0.01"),
        ({"width": 4000, "height": 3000, "lens": {"model": "none"}}, "4000 x 3000 are too many pixels"),
        ({"depth": {"min_range": 11.0}}, "depth: min_range 11 m is not below"),
        ({"sensor": {"bits": 6, "black_level": 70.0}}, "sensor: black_level: 70 DN leaves nothing of 6 bits"),
        ({"lens": {"model": "plumb_bob", "coefficients": [-3.0]}}, "lens: these plumb_bob coefficients fold the image"),
    ],
)
def test_values_that_contradict_each_other_name_the_camera(values, words):
    with pytest.raises(ConfigError) as e:
        camera("head", **values)
    assert str(e.value).startswith("camera 'head': ") and words in str(e.value) and "\n" not in str(e.value)


def test_an_unknown_stage():
    with pytest.raises(ConfigError, match=r"off\[0\]: 'vigneting' is not one of distortion, vignetting"):
        camera(off=["vigneting"])


def test_the_same_seed_gives_the_same_bytes_whatever_others_do():
    picture = noisy()
    lens = {"model": "plumb_bob", "coefficients": [-0.2]}
    a, b, other = camera(lens=lens), camera(lens=lens), camera("d", lens=lens)
    first = [a.raw([picture]).tobytes() for _ in range(3)]
    second = []
    for _ in range(3):
        other.raw([picture])
        other.next_frame()
        second.append(b.raw([picture]).tobytes())
    assert first == second and len(set(first)) == 3
    assert camera(seed=2, lens=lens).raw([picture]).tobytes() != first[0]
    assert camera("d", lens=lens).raw([picture]).tobytes() != first[0]


def test_automatic_exposure_finds_its_target():
    c = camera(rate=5.0, exposure={"auto": True, "time": 0.0002, "longest": 0.1, "illuminance": 1000.0})
    for _ in range(12):
        raw = c.raw([grey(c, 200)])
    s = c.config.sensor
    level = (raw.mean() - s.black_level) / (s.gain * s.full_well)
    assert level == pytest.approx(c.config.exposure.target, rel=0.05)
    for _ in range(12):
        c.raw([grey(c, 0)])
    assert c.exposure == 0.1, "in the dark it is as long as it may be"


def test_a_moving_image_is_the_mean_of_its_renders():
    c = camera(off=NOISE)
    dark, bright = c.raw([grey(c, 0)]), c.raw([grey(c, 200)])
    both = c.raw([grey(c, 0), grey(c, 200)])
    assert np.allclose(both, (dark + bright) / 2, rtol=1e-5)
    assert len(c.render_times(0.3)) == 1 and len(c.render_times(2.5)) == 3 and len(c.render_times(99.0)) == 4
    times = np.array(c.render_times(99.0))
    assert times.sum() == pytest.approx(0.0) and np.allclose(np.diff(times), c.exposure / 4)


def test_a_rolling_shutter_exposes_row_by_row():
    shutter = {"auto": False, "shutter": "rolling", "line_time": 1e-3, "time": 1e-3, "renders": 48}
    c = camera(off=[*NOISE, "vignetting"], exposure=shutter)
    assert c.span() == pytest.approx(0.048) and len(c.render_times(100.0)) == 48
    renders = [grey(c, 5 * k) for k in range(48)]
    raw = c.raw(renders)
    want = [c.raw([r]) for r in renders]
    assert all(np.allclose(raw[k], want[k][k], rtol=1e-4) for k in range(48)), "row k is exposed at the k-th render"


def test_camera_info():
    c = camera(lens={"model": "plumb_bob", "coefficients": [-0.2, 0.05]})
    info = c.info()
    assert (info.width, info.height, info.model) == (64, 48, "plumb_bob") and info.d.tolist() == [-0.2, 0.05, 0, 0, 0]
    assert np.array_equal(info.p[:, :3], info.k) and info.k[0, 2] == 31.5
    assert not c.info(rectified=True).d.any()
    fisheye = camera(lens={"model": "equidistant", "coefficients": [0.01]})
    assert fisheye.info().model == "equidistant" and len(fisheye.info().d) == 4
    assert camera().info().model == "plumb_bob" and not camera().info().d.any(), "no distortion is a plumb_bob of zeros"


def test_a_sensor_without_filters():
    c = camera(off=NOISE, sensor={"pattern": "mono", "bits": 8, "gain": 0.02, "black_level": 4.0})
    raw = c.raw([grey(c, 128)])
    assert (c.encoding, c.raw_encoding) == ("mono8", "mono8")
    assert c.colour(raw).shape == (48, 64) and c.packed(raw).dtype == np.uint8


# Profiles and URDF


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_profiles_make_cameras(path):
    """And each says where its figures are from."""
    config = load_profile(path)
    c = Camera(config, "c", 1)
    assert c.optics.dark == 0.0
    text = path.read_text()
    assert "# Sources" in text
    import re

    named = set(re.findall(r"#   \[(\d)\]", text))
    used = set(re.findall(r"\[(\d)\]", text.split("device:", 1)[1]))
    assert named and used <= named


def test_the_table_of_a_profiles_keys_is_true():
    from digital_twin.core.config import flatten, span

    text = (REPOSITORY / "docs/sensors_camera.md").read_text().split("## Keys of a profile")[1].split("\n## ")[0]
    got = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    want = [[f"`{p.name}`", p.meta.unit or "–", span(p.meta) or "–", p.meta.doc] for p in flatten(CameraConfig)]
    assert [[r[0], *r[2:]] for r in got] == want, "run: python docs/make_tables.py"


def test_impossible_profiles(tmp_path):
    path = tmp_path / "p.yaml"
    for text, words in (
        ("sensor: {read_noise: -1.0}", "p.yaml: sensor: read_noise: -1.0 e- is out of range"),
        ("rate: 0", "p.yaml: rate: 0.0 Hz is out of range"),
        ("sensor: {reed_noise: 1.0}", "unknown key 'reed_noise'; did you mean 'read_noise'?"),
        ("width: -5", "width: -5 px is out of range"),
    ):
        path.write_text("kind: camera\ndevice: d\nsource: s\nparameters: {" + text + "}")
        with pytest.raises(ConfigError) as e:
            load_profile(path)
        assert words in str(e.value) and "\n" not in str(e.value)
    for text, words in (
        ("{}", "a camera profile has kind"),
        ("{kind: imu, parameters: {}}", "kind: 'imu' is not one of"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            load_profile(path)


def sensors(inner, link="eye", robot='<link name="eye"/>'):
    return read_cameras(ET.fromstring(f'<robot>{robot}<gazebo reference="{link}">{inner}</gazebo></robot>'))


FULL = """
<sensor name="front" type="camera">
  <pose>0.1 0 0.2 0 0.5 0</pose>
  <update_rate>15</update_rate>
  <gz_frame_id>eye_optical</gz_frame_id>
  <camera>
    <horizontal_fov>1.05</horizontal_fov>
    <image><width>640</width><height>360</height></image>
    <clip><near>0.1</near><far>30</far></clip>
    <distortion><k1>-0.1</k1><k2>0.02</k2><k3>0.003</k3><p1>0.0004</p1><p2>0.0005</p2></distortion>
  </camera>
</sensor>"""


def test_what_a_urdf_says():
    (c,), problems = sensors(FULL)
    assert not problems and (c.name, c.kind, c.link, c.frame) == ("front", "camera", "eye", "eye_optical")
    assert c.position.tolist() == [0.1, 0.0, 0.2]
    forward = rpy_matrix([0, 0.5, 0]) @ [1.0, 0.0, 0.0]
    assert np.allclose(c.rotation[:, 2], forward) and np.allclose(c.rotation[:, 0], [0, -1, 0]), "z forward, x right"
    config = c.configure(load_profile(PROFILES[0]))
    assert (config.width, config.height, config.rate, config.far) == (640, 360, 15.0, 30.0)
    assert config.lens.coefficients == [-0.1, 0.02, 0.0004, 0.0005, 0.003], "in CameraInfo's order"
    assert config.sensor == load_profile(PROFILES[0]).sensor


def test_what_a_urdf_leaves_out_comes_from_the_profile():
    (c,), _ = sensors('<sensor name="a" type="rgbd_camera"/>')
    assert c.configure(load_profile(PROFILES[0])) == replace(load_profile(PROFILES[0]), kind="rgbd_camera")


@pytest.mark.parametrize(
    ("inner", "link", "words"),
    [
        ('<sensor name="a" type="camera"/>', "ear", "camera 'a': unknown link 'ear'"),
        ('<sensor name="a" type="camera"/><sensor name="a" type="camera"/>', "eye", "camera 'a': there are two of this name"),
        ('<sensor name="a b" type="camera"/>', "eye", "camera 'a b': its name cannot be part of a topic"),
        ('<sensor name="a" type="camera"><pose>1 2</pose></sensor>', "eye", "camera 'a': pose: expected 6 finite numbers"),
        ('<sensor name="a" type="camera"><update_rate>x</update_rate></sensor>', "eye", "camera 'a': update_rate: 'x' are not numbers"),
        ('<sensor name="a" type="camera"><update_rate>nan</update_rate></sensor>', "eye", "camera 'a': update_rate: expected 1 finite"),
    ],
)  # fmt: skip
def test_cameras_that_cannot_be_used_are_named(inner, link, words):
    _, problems = sensors(inner, link)
    assert len(problems) == 1 and problems[0].startswith(words) and "\n" not in problems[0]


def test_other_sensors_are_left_alone():
    assert sensors('<sensor name="i" type="imu"/><sensor name="l" type="gpu_lidar"/>') == ([], [])


def test_the_humanoid_has_a_camera(robot):
    mounts, problems = robot_cameras()
    assert [(m.name, m.link, m.frame) for m in mounts] == [("camera", "camera_link", "camera_optical_frame")]
    assert not problems and sensor_description().root == "base_link"
    (entry,), unusable = make_cameras(mounts, robot.model, {}, seed=1)
    assert not unusable and (entry[1].config.width, entry[1].config.rate) == (320, 10.0)
    _, unusable = make_cameras(mounts, robot.model, {"camera": "nothing.yaml"}, seed=1)
    assert unusable == ["camera 'camera': nothing.yaml: cannot read the camera profile: No such file or directory"]
    lost = replace(mounts[0], frame="camera_optical_fram")
    _, unusable = make_cameras([lost], robot.model, {}, seed=1)
    assert "camera 'camera'" in unusable[0] and "did you mean 'camera_optical_frame'?" in unusable[0]
