"""Which sensors a robot has, by its URDF and its config; what ideal ones read of its motion; profiles of devices."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from conftest import ICUB, REPOSITORY, needs_icub

from digital_twin.core.description import load_description
from digital_twin.core.errors import ConfigError
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import exp_so3, rot_z
from digital_twin.core.sensors.motion import Pose, Smoother, poses_at, state
from digital_twin.core.sensors.profiles import load_profile, read_profile
from digital_twin.core.sensors.robot_sensors import SensorSpec, robot_sensors, shared_errors
from digital_twin.core.sensors.suite import SensorSuite
from digital_twin.core.sensors.twin_scene import TwinScene
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.robots import load_robot

PROFILES = sorted((REPOSITORY / "config/sensors").glob("*.yaml"))
STEP = 5_000_000


def profile_file(name):
    return find(name, "config/sensors")


def sensors_of(urdf, config=None):
    specs, problems = robot_sensors(ET.fromstring(urdf), config or RobotConfig(), profile_file)
    return {s.name: s for s in specs}, problems


# Which


def test_the_humanoid_has_what_its_config_says(robot):
    specs, problems = robot_sensors(robot.description.tree(), robot.config, profile_file)
    assert problems == []
    assert {s.name: (s.kind, s.frame, s.topic) for s in specs} == {
        "encoders": ("encoders", "", "encoders/joint_states"), "imu": ("imu", "imu_link", "imu/data"),
        "feet/left": ("wrench", "l_sole", "feet/left/wrench"), "feet/right": ("wrench", "r_sole", "feet/right/wrench"),
        "lidar": ("lidar", "lidar_link", "scan"), "points": ("lidar", "lidar_link", "points"),
        "compass": ("magnetometer", "imu_link", "magnetic_field"),
    }  # fmt: skip
    imu = next(s for s in specs if s.name == "imu").profile()
    assert imu.gyro.white_noise == 2.44e-4 and imu.timing.rate == 200.0, "the device's file, and the config on top"
    errors, problems = shared_errors(robot.config, specs)
    assert list(errors) == ["warm_pelvis"] and problems == []


def test_gazebos_sensors_are_read_from_a_urdf():
    urdf = load_description(REPOSITORY / "urdf/humanoid.urdf.xacro", {"gazebo": "harmonic"}).urdf
    specs, problems = sensors_of(urdf)
    assert problems == [] and set(specs) == {
        "encoders",
        "imu",
        "lidar",
        "left_foot_force_torque",
        "right_foot_force_torque",
    }
    imu = specs["imu"].profile()
    assert (imu.timing.rate, specs["imu"].frame) == (200.0, "imu_link")
    assert imu.gyro.white_noise == pytest.approx(0.0113 / np.sqrt(200)) and imu.accel.white_noise == pytest.approx(
        0.085 / np.sqrt(200)
    )
    lidar = specs["lidar"].profile()
    assert (lidar.rays, lidar.timing.rate, lidar.range_max, lidar.noise) == (360, 10.0, 20.0, 0.01)
    assert lidar.angle_max - lidar.angle_min == pytest.approx(2 * np.pi), "a whole turn"
    assert specs["left_foot_force_torque"].frame == "l_ankle_roll_link" or specs["left_foot_force_torque"].frame in urdf


SENSOR = '<robot name="r"><link name="a"/><link name="b"/><joint name="j" type="fixed"><parent link="a"/><child link="b"/></joint>{}</robot>'


def sensor(kind, inner="", name="s", reference="b"):
    return SENSOR.format(
        f'<gazebo reference="{reference}"><sensor name="{name}" type="{kind}">{inner}</sensor></gazebo>'
    )


def test_kalibrs_random_walk_is_gazebos_dynamic_bias():
    noise = "<noise><stddev>0.02</stddev><bias_stddev>0.3</bias_stddev><dynamic_bias_stddev>1e-4</dynamic_bias_stddev></noise>"
    specs, _ = sensors_of(
        sensor(
            "imu",
            f"<pose>1 2 3 0 0 1</pose><update_rate>400</update_rate><imu><angular_velocity><x>{noise}</x></angular_velocity></imu>",
        )
    )
    g = specs["s"].profile().gyro
    assert (g.white_noise, g.random_walk, g.bias) == (0.001, 1e-4, 0.3)
    assert specs["s"].xyz == (1, 2, 3) and specs["s"].rpy == (0, 0, 1) and specs["s"].topic == "imu/data"


def test_a_lidar_of_lines_and_a_force_sensor():
    scan = "<lidar><scan><horizontal><samples>100</samples><min_angle>-1</min_angle><max_angle>1</max_angle></horizontal><vertical><samples>3</samples><min_angle>-0.2</min_angle><max_angle>0.2</max_angle></vertical></scan></lidar>"
    specs, _ = sensors_of(sensor("gpu_lidar", scan))
    assert specs["s"].topic == "points" and np.allclose(specs["s"].profile().elevations, [-0.2, 0, 0.2])
    specs, _ = sensors_of(sensor("force_torque", reference="j"))
    assert specs["s"].frame == "b"


@pytest.mark.parametrize(
    ("urdf", "words"),
    [
        (sensor("imu", reference="c"), "sensor 's': unknown frame 'c'; known: a, b"),
        (sensor("imu", name="a b"), "its name cannot be part of a topic"),
        (sensor("imu", "<update_rate>fast</update_rate>"), "'fast' are not numbers"),
        (sensor("imu", "<update_rate>-5</update_rate>"), "update_rate -5.0 is out of range"),
        (sensor("imu", "<pose>1 2</pose>"), "expected 6 finite numbers"),
        (
            sensor("lidar", "<lidar><scan><vertical><samples>1000</samples></vertical></scan></lidar>"),
            "1000 lines; 1 to 256",
        ),
    ],
)
def test_sensors_in_a_urdf_that_cannot_be(urdf, words):
    specs, problems = sensors_of(urdf)
    assert "s" not in specs and len(problems) == 1 and words in problems[0] and "'" in problems[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "radar"}, "sensor 'x': unknown kind 'radar'"),
        ({"kind": "imu"}, "sensor 'x': its frame is missing"),
        ({"kind": "imu", "frme": "b"}, "unknown key 'frme'; did you mean 'frame'"),
        ({"kind": "imu", "frame": "b", "profile": "velodyne_vlp16.yaml"}, "is of a device of kind 'lidar', not 'imu'"),
    ],
)
def test_sensors_in_a_config_that_cannot_be(values, words):
    specs, problems = sensors_of(SENSOR.format(""), RobotConfig(sensors={"x": values}))
    assert list(specs) == ["encoders"] and words in problems[0]


def test_a_sensor_can_be_taken_away(robot):
    specs, _ = sensors_of(SENSOR.format(""), RobotConfig(sensors={"encoders": {"enabled": False}}))
    assert specs == {}


def test_shared_errors_that_cannot_be():
    errors, problems = shared_errors(RobotConfig(shared_errors={"a": {"kind": "temperature", "sensors": {"imo": 1.0}}, "b": {"kind": "humour", "sensors": {}}, "c": {"kind": "vibration", "sensors": {"imu": 1.5}}}), [SensorSpec("imu", "imu", "f", "t")])  # fmt: skip
    assert errors == {} and "unknown sensor 'imo'; did you mean 'imu'" in problems[0]
    assert "'humour' is not one of" in problems[1] and "1.5 is out of range [-1, 1]" in problems[2]


@needs_icub
def test_any_robot_gets_its_sensors():
    icub = load_robot(str(ICUB / "icub.urdf"))
    specs, problems = robot_sensors(icub.description.tree(), icub.config, profile_file)
    assert {s.kind for s in specs} >= {"encoders", "wrench"}, [s.name for s in specs]
    suite = SensorSuite(icub.model, icub.config, icub.joints, specs, None, 1)
    q = icub.joints.stand
    got = {}
    for k in range(20):
        readings, _ = suite.feed(
            state(k * STEP, np.array([0, 0, 0.6]), np.eye(3), np.zeros(3), np.zeros(3), q, 0 * q, 0 * q)
        )
        got |= {r.sensor: r.values for r in readings}
    feet = [got[s.name][2] for s in specs if s.kind == "wrench" and s.name.startswith("feet/")]
    assert sum(feet) == pytest.approx(icub.model.mass * 9.81, rel=0.1)


# Profiles


@pytest.mark.parametrize("path", [p for p in PROFILES if not p.stem.startswith("camera_")], ids=lambda p: p.stem)
def test_every_profile_is_sound_and_says_where_its_figures_come_from(path):
    text = path.read_text()
    kind = next(line.split(": ")[1] for line in text.splitlines() if line.startswith("kind: "))
    load_profile(path, kind)
    assert "source: " in text and "device: " in text
    sourced = ("parameters:", "kind:", "device:", "source:", "gyro:", "accel:", "angle_m", "segments", "0.017453, ")
    for line in text.splitlines():
        assert "#" in line or line.strip().startswith(sourced) or "elevations" in line, line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "a sensor profile has kind, device, source and parameters"),
        ("{kind: imo, parameters: {}}", "unknown kind 'imo'"),
        ("{kind: imu, parameters: {gyro: {white_noise: -1.0}}}", "white_noise: -1.0 rad/s/√Hz is out of range"),
        ("{kind: imu, parameters: {timing: {rate: 0.0}}}", "rate: 0.0 Hz is out of range"),
        ("{kind: imu, parameters: {gyro: {withe_noise: 1.0}}}", "did you mean 'white_noise'"),
    ],
)
def test_impossible_profiles(tmp_path, text, words):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as e:
        load_profile(path, "imu")
    assert words in str(e.value) and "p.yaml" in str(e.value) and "\n" not in str(e.value)
    assert read_profile(PROFILES[0], "wrench")["force_range"]


# Motion


def test_accelerations_are_those_of_the_motion():
    """A base that swings and turns; the parabola's error is of third order in the step."""
    smoother = Smoother(2)
    w = 2 * np.pi
    q = np.zeros(1)
    for k in range(200):
        t = k * 0.005
        R = rot_z(0.3 * np.sin(w * t))
        velocity = np.array([0.2 * np.cos(w * t), 0, 0.1 * t])
        turn = np.array([0, 0, 0.3 * w * np.cos(w * t)])
        m = smoother.feed(state(k * STEP, np.zeros(3), R, R.T @ velocity, R.T @ turn, q, np.array([np.sin(w * t)]), q))
    t = 197 * 0.005
    assert m.stamp_ns == 197 * STEP, "two states late"
    assert np.allclose(m.acceleration, [-0.2 * w * np.sin(w * t), 0, 0.1], atol=2e-3)
    assert np.allclose(m.turn_rate, [0, 0, -0.3 * w**2 * np.sin(w * t)], atol=1e-2) and m.qdd[0] == pytest.approx(
        w * np.cos(w * t), rel=1e-2
    )


def test_poses_between_two_turn_evenly():
    a = Pose(0.0, np.zeros(3), np.eye(3), np.zeros(3), np.eye(3), np.zeros(2))
    b = Pose(1.0, np.ones(3), exp_so3([0, 0.6, 0]), np.ones(3), exp_so3([0.6, 0, 0]), np.ones(2))
    c = Pose(2.0, np.ones(3), b.rotation, np.ones(3), b.base_rotation, np.ones(2))
    got = poses_at((a, b, c), np.array([0.25, 0.5, 1.5, 3.0]))
    assert np.allclose(got[0].position, 0.25) and np.allclose(got[0].rotation, exp_so3([0, 0.15, 0]))
    assert np.allclose(got[1].base_rotation, exp_so3([0.3, 0, 0])) and np.allclose(got[2].rotation, b.rotation)
    assert np.allclose(got[3].q, 1.0), "not beyond the last"


PERFECT = {"timing": {"rate": 200.0}}


def test_ideal_instruments_read_what_the_physics_does(robot):
    """Against MuJoCo's own sensors in a simulated squat, the twin's states being the truth. An IMU in a hand has a lever."""
    p = Plant(
        robot.description,
        robot.config,
        PlantConfig(mass_spread=0, friction_spread=0, armature_spread=0, strength_spread=0),
        None,
    )
    specs = [SensorSpec("imu", "imu", "imu_link", "a", PERFECT)]
    specs += [SensorSpec(side, "wrench", f"{side[0]}_sole", side, PERFECT) for side in ("left", "right")]
    suite = SensorSuite(robot.model, robot.config, robot.joints, specs, None, 1)
    truth, got = {}, {}
    bend = {
        "l_knee": 0.2,
        "r_knee": 0.2,
        "l_hip_pitch": -0.1,
        "r_hip_pitch": -0.1,
        "l_ankle_pitch": -0.1,
        "r_ankle_pitch": -0.1,
        "waist_yaw": 0.3,
    }
    for k in range(300):
        q = p.joints.stand.copy()
        for name, a in bend.items():
            q[robot.model.joint_index[name]] += a * (1 - np.cos(2 * np.pi * 0.6 * k * 0.005)) / 2
        p.command(position=q)
        p.advance(5)
        truth[p.time_ns] = np.concatenate([*p.imu(0), *p.wrench("left"), *p.wrench("right")])
        (position, R), (v, w) = p.frame_pose("base_link"), p.base_twist()
        readings, _ = suite.feed(
            state(p.time_ns, position, R, v, w, p.joint_positions, p.joint_velocities, p.joint_efforts)
        )
        for r in readings:
            got.setdefault(r.stamp_ns, []).append(r.values)
    stamps = sorted(set(got) & set(truth))
    assert len(stamps) > 280
    t, v = np.array([truth[s] for s in stamps]), np.array([np.concatenate(got[s]) for s in stamps])
    error = np.sqrt(np.mean((v - t) ** 2, axis=0))
    assert error[:3].max() < 2e-3 and error[3:6].max() < 0.05 and np.std(t[:, 5]) > 0.1
    both = v[:, 8] + v[:, 14], t[:, 8] + t[:, 14]
    assert np.sqrt(np.mean((both[0] - both[1]) ** 2)) < 0.01 * both[1].mean(), "what the feet carry together"
    assert error[[8, 14]].max() < 0.08 * t[:, 8].mean(), "and each: two feet share it as they like"


def test_an_imu_feels_its_lever_and_its_rotation(robot):
    """A robot that spins about z: centripetal ω² r towards the axis, and +g up; then seen by a sensor that lies on its side."""
    q, w = robot.joints.stand, 3.0
    specs = [
        SensorSpec("centre", "imu", "base_link", "a", PERFECT), SensorSpec("out", "imu", "base_link", "b", PERFECT, xyz=(0.5, 0.0, 0.1)),
        SensorSpec("side", "imu", "base_link", "c", PERFECT, xyz=(0.5, 0.0, 0.1), rpy=(np.pi / 2, 0.0, 0.0)),
    ]  # fmt: skip
    suite = SensorSuite(robot.model, robot.config, robot.joints, specs, None, 1)
    got = {}
    for k in range(20):
        R = rot_z(w * k * 0.005)
        readings, _ = suite.feed(
            state(k * STEP, np.array([0, 0, 1.0]), R, np.zeros(3), np.array([0, 0, w]), q, 0 * q, 0 * q)
        )
        got |= {r.sensor: r.values for r in readings}
    assert np.allclose(got["centre"], [0, 0, w, 0, 0, 9.81], atol=1e-6)
    assert np.allclose(got["out"], [0, 0, w, -(w**2) * 0.5, 0, 9.81], atol=1e-6)
    assert np.allclose(got["side"], [0, w, 0, -(w**2) * 0.5, 9.81, 0], atol=1e-6)


def test_no_sensor_changes_anothers_bytes(robot):
    specs, _ = robot_sensors(robot.description.tree(), robot.config, profile_file)
    errors, _ = shared_errors(robot.config, specs)
    world = load_world(find("humanoid_world.sdf", "worlds"))

    def play(chosen, step=1):
        suite = SensorSuite(robot.model, robot.config, robot.joints, chosen, world, 5, errors)
        out, q = {}, robot.joints.stand
        for k in range(120):
            s = state(
                k * STEP, np.array([0.001 * k, 0, 0.83]), np.eye(3), np.array([0.2, 0, 0]), np.zeros(3), q, 0 * q, 0 * q
            )
            readings, jobs = suite.feed(s)
            for r in readings:
                out[r.sensor] = out.get(r.sensor, b"") + r.values.tobytes() + bytes(str((r.stamp_ns, r.delay)), "ascii")
            for j in jobs:
                out[j.sensor] = out.get(j.sensor, b"") + j.run().ranges.tobytes()
        return out

    whole, again = play(specs), play(specs[::-1])
    assert set(whole) == {s.name for s in specs} and whole == again
    for name in ("imu", "feet/left", "lidar"):
        assert play([s for s in specs if s.name == name]) == {name: whole[name]}


def test_nothing_is_read_across_a_gap(robot):
    suite = SensorSuite(
        robot.model,
        robot.config,
        robot.joints,
        [SensorSpec("imu", "imu", "imu_link", "a", PERFECT)],
        None,
        1,
        smoothing=2,
    )
    q = robot.joints.stand
    stamps = []
    for k in [*range(20), *range(100, 120), 119, 118, *range(3, 20)]:
        readings, _ = suite.feed(
            state(k * STEP, np.array([0, 0, 0.8]), np.eye(3), np.zeros(3), np.zeros(3), q, 0 * q, 0 * q)
        )
        stamps += [r.stamp_ns // STEP for r in readings]
    assert stamps == [*range(3, 18), *range(103, 118), *range(6, 18)], (
        "old states are passed over; a clock set back is followed"
    )


def test_two_sensors_on_one_topic(robot):
    specs = [SensorSpec(n, "imu", "imu_link", "a", PERFECT) for n in ("x", "y")]
    suite = SensorSuite(robot.model, robot.config, robot.joints, specs, None, 1)
    assert list(suite.instruments) == ["x"] and suite.problems == ["sensor 'y': another one has the topic 'a'"]


def test_the_weight_is_on_the_feet_that_stand(robot):
    scene = TwinScene(robot.model, robot.config, robot.joints, None)
    smoother = Smoother(1)
    q = robot.joints.stand.copy()
    q[robot.model.joint_index["l_knee"]] += 0.4
    for k in range(3):
        m = smoother.feed(state(k * STEP, np.array([0, 0, 0.83]), np.eye(3), np.zeros(3), np.zeros(3), q, 0 * q, 0 * q))
    scene.place(m)
    left, right = scene.wrench("l_sole"), scene.wrench("r_sole")
    assert right[2] == pytest.approx((robot.model.mass) * 9.81, rel=0.05)
    # The lifted foot hangs on its leg.
    assert -20.0 < left[2] < 0.0
