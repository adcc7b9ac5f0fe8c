"""Robot configs: the package's own, guessed ones, wrong ones."""

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, needs_icub

from digital_twin.cli.check import write_config
from digital_twin.core.config import build
from digital_twin.core.description import parse_description
from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.core.guess import guess_robot_config
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig, load_robot_config
from digital_twin.robots import load_robot


def test_the_packages_config_fits_the_packages_robot(robot):
    assert [f.frame for f in robot.config.feet] == ["l_sole", "r_sole"]
    joints = robot.joints
    assert joints.kp.shape == (28,) and joints.reported_names == robot.model.joint_names
    assert joints.stand[robot.model.joint_index["l_knee"]] == 0.5
    # The stand keeps the torso upright and the soles flat.
    for side in "lr":
        bend = sum(joints.stand[robot.model.joint_index[f"{side}_{j}"]] for j in ("hip_pitch", "knee", "ankle_pitch"))
        assert abs(bend) < 1e-12


def test_ankles_hold_the_weight(robot):
    """An inverted pendulum stays up when the ankles together are stiffer than m g h."""
    k = robot.model.kinematics(["l_sole"])
    k.update(robot.joints.stand)
    height = -k.position[0, 2]
    ankles = sum(robot.joints.kp[robot.model.joint_index[f"{s}_ankle_pitch"]] for s in "lr")
    assert ankles > 1.5 * robot.model.mass * 9.81 * height


def test_patterns_apply_in_order():
    c = build(RobotConfig, {"joints": {"*": {"kp": 1.0, "kd": 5.0}, "l_*": {"kp": 2.0}, "l_knee": {"kp": 3.0}}}, "f")
    assert [c.joint(n).kp for n in ("r_knee", "l_hip", "l_knee")] == [1.0, 2.0, 3.0]
    assert c.joint("l_knee").kd == 5.0


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"feet": [{"name": "left", "frame": "l_sol"}]}, ["foot 'left'", "unknown frame 'l_sol'", "'l_sole'"]),
        ({"imus": [{"frame": "imu"}]}, ["imu", "unknown frame 'imu'"]),
        ({"base_frame": "pelvis"}, ["base_frame", "unknown frame 'pelvis'"]),
        ({"joints": {"l_kne": {"kp": 1.0}}}, ["unknown joint 'l_kne'", "'l_knee'"]),
        ({"joints": {"l_knee": {"kpp": 1.0}}}, ["l_knee", "unknown key 'kpp'"]),
        ({"joints": {"l_knee": {"kp": -1.0}}}, ["l_knee", "kp", "[0, 100000]"]),
        ({"joints": {"*": {"reported_as": "same"}}}, ["under one name"]),
        ({"feet": [{"name": "a", "frame": "l_sole"}, {"name": "a", "frame": "r_sole"}]}, ["two feet have one name"]),
        ({"feets": []}, ["unknown key 'feets'", "'feet'"]),
    ],
)
def test_errors_name_the_bad_thing(robot, tmp_path, mapping, words):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(mapping))
    with pytest.raises(ConfigError) as e:
        Joints(load_robot_config(path), robot.model, str(path))
    assert "r.yaml" in str(e.value) and "\n" not in str(e.value)
    for word in words:
        assert word in str(e.value)


def test_the_guess_for_the_humanoid_is_right(robot):
    guess = guess_robot_config(robot.description, robot.model)
    assert [(f.name, f.frame, f.wrench_topic) for f in guess.config.feet] == [
        ("left", "l_sole", "feet/left/wrench"),
        ("right", "r_sole", "feet/right/wrench"),
    ]
    for foot, real in zip(guess.config.feet, robot.config.feet, strict=True):
        assert np.allclose(sorted(foot.polygon), sorted(real.polygon), atol=1e-6)
    assert [i.frame for i in guess.config.imus] == ["imu_link"]
    assert guess.config.scan_frame == "lidar_link" and guess.missing == ()


@needs_icub
def test_the_guess_for_icub_is_right(icub):
    assert [f.frame for f in icub.config.feet] == ["l_sole", "r_sole"]
    assert icub.config.imus[0].frame == "root_link_imu_frame"  # not the head's
    assert any("39 meshes" in note for note in icub.notes)


BARE = """<robot name="bare"><link name="base"/>
  <link name="arm"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="j" type="continuous"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/></joint></robot>"""


def test_a_bare_robot_is_told_what_it_lacks():
    d = parse_description(BARE.replace('<link name="base"/>', '<link name="base"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>'))  # fmt: skip
    guess = guess_robot_config(d, RobotModel(d))
    text = " ".join(guess.missing)
    for word in ("feet", "imu", "position limits of 1 joints: j", "torque limits of 1 joints: j"):
        assert word in text


def test_a_written_guess_can_be_read_back(robot, tmp_path):
    guess = guess_robot_config(robot.description, robot.model)
    path = tmp_path / "new.yaml"
    write_config(guess, str(path))
    again = load_robot("", str(path))
    assert again.config.feet == guess.config.feet and again.config.imus == guess.config.imus
    with pytest.raises(TwinError, match="already there"):
        write_config(guess, str(path))
    with pytest.raises(TwinError, match="cannot write"):
        write_config(guess, str(tmp_path / "no" / "x.yaml"))


def test_a_config_is_found_by_the_robots_name_or_by_its_own():
    assert load_robot("").where == str(REPOSITORY / "config/robots/humanoid.yaml")
    assert load_robot("", "humanoid.yaml").config == load_robot("").config
    with pytest.raises(ConfigError, match="cannot read the robot config"):
        load_robot("", "nobody.yaml")


def test_text_works_as_well_as_a_path(robot):
    assert load_robot(robot.description.urdf).model.joint_names == robot.model.joint_names
