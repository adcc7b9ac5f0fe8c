"""Gains: what the bench measures is what the textbook says, and what is found is what was asked for."""

import math

import numpy as np
import pytest
import yaml

from digital_twin.cli.main import main
from digital_twin.core.gains import GainsConfig, JointBench, least_stiffness, mates, tune
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig, load_robot_config
from digital_twin.robots import load_robot

INERTIA = 0.2
PENDULUM = f"""<robot name="pendulum"><link name="base"><inertial><mass value="1"/>
<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
<link name="arm"><inertial><mass value="1"/>
<inertia ixx="{INERTIA}" iyy="{INERTIA}" izz="{INERTIA}" ixy="0" ixz="0" iyz="0"/></inertial></link>
<joint name="turn" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" effort="1000" velocity="10"/></joint></robot>"""


def bench(**config):
    robot = load_robot(PENDULUM)
    plain = RobotConfig(joints={"*": {"armature": 0.0, "kp": 50.0, "kd": 1.0}})
    same = {"delay": 0.0, "models": 1, "spread": 0.0} | config
    return JointBench(robot.model, plain, Joints(plain, robot.model), GainsConfig(**same))


@pytest.mark.parametrize("damping", [0.3, 0.5, 0.7, 1.0])
def test_a_step_is_that_of_a_second_order_system(damping):
    """Overshoot exp(−π ζ / √(1 − ζ²)), and the time at which 1 − e^(−ζωt)(…) reaches 0.9."""
    w = 40.0
    r = bench().worst(0, INERTIA * w * w, 2.0 * damping * w * INERTIA)
    over = math.exp(-math.pi * damping / math.sqrt(1.0 - damping**2)) if damping < 1.0 else 0.0
    assert r.overshoot == pytest.approx(over, abs=0.02) and r.error < 5e-3
    t = np.arange(0.0, 0.3, 1e-5)
    if damping < 1.0:
        wd = w * math.sqrt(1.0 - damping**2)
        y = 1.0 - np.exp(-damping * w * t) * (np.cos(wd * t) + damping * w / wd * np.sin(wd * t))
    else:
        y = 1.0 - np.exp(-w * t) * (1.0 + w * t)
    assert r.rise == pytest.approx(t[np.argmax(y >= 0.9)], abs=0.0015)


def test_delay_makes_it_ring_where_the_phase_margin_says():
    """At the crossover of (kp + kd s) / (I s²) a delay may eat up the phase margin, and not more."""
    w, damping = 60.0, 0.5
    kp, kd = INERTIA * w * w, 2.0 * damping * w * INERTIA
    s = 1j * np.linspace(1.0, 500.0, 100_000)
    loop = (kp + kd * s) / (INERTIA * s * s)
    at = int(np.argmin(np.abs(np.abs(loop) - 1.0)))
    most = (np.pi + np.angle(loop[at])) / s[at].imag  # the delay that the margin bears [s]
    few, many = (max(1, round(share * most / 0.001)) * 0.001 for share in (0.4, 1.8))
    # One robot draws its delay from half to one and a half times: its nominal one has neither.
    assert bench(delay=few / 1.5).ringing(0, kp / 2.0, kd / 2.0) < 0.1
    assert bench(delay=many / 1.5).ringing(0, kp / 2.0, kd / 2.0) > 0.5


def test_tuned_gains_are_as_fast_as_asked_and_no_stiffer_than_needed():
    c = {"delay": 0.002, "models": 3, "spread": 0.1, "tries": 60}
    slow, fast = tune(bench(response=0.1, **c), [0]), tune(bench(response=0.04, **c), [0])
    for t, response in ((slow, 0.1), (fast, 0.04)):
        assert t.now.rise < 1.1 * response and t.now.overshoot < 0.07 and t.ringing < 0.11
        assert t.was.overshoot > 0.3
    # Stiffness goes with the square of the speed.
    assert 3.0 < fast.after[0] / slow.after[0] < 12.0
    assert tune(bench(response=0.1, **c), [0], least=3.0 * slow.after[0]).after[0] >= 3.0 * slow.after[0]


def test_sides_share_their_gains(robot):
    names = ["l_knee", "r_knee", "waist", "left_arm", "right_arm", "lower", "arm_l", "arm_r"]
    assert mates(names) == [[0, 1], [2], [3, 4], [5], [6, 7]]
    groups = mates(robot.model.joint_names)
    assert sum(map(len, groups)) == 28 and {len(g) for g in groups} == {1, 2}


def test_legs_must_hold_the_weight(robot):
    least = least_stiffness(robot.model, robot.config, robot.joints.stand)
    legs = [any(part in n for part in ("hip", "knee", "ankle")) for n in robot.model.joint_names]
    assert np.all((least > 0) == legs)
    # m g h of the pendulum, as the robot config says, shared by two legs.
    assert least.max() == pytest.approx(1.15 * 438.0 / 2, rel=0.05)


def test_the_command_writes_a_config_that_the_robot_takes(tmp_path, capsys, robot):
    path = tmp_path / "tuned.yaml"
    few = ["tune-gains", "--only", "joints", "--joints", "*_elbow", "--models", "1", "--processes", "1"]
    assert main([*few, "--write", str(path)]) == 0
    assert "l_elbow (and 1 like it)" in capsys.readouterr().out
    tuned = load_robot(robot_config=str(path))
    i, j = (robot.model.joint_index[n] for n in ("l_elbow", "r_elbow"))
    assert tuned.joints.kp[i] == tuned.joints.kp[j] != robot.joints.kp[i]
    assert tuned.joints.stand[i] == robot.joints.stand[i], "what else was said of it stays"
    others = np.delete(np.arange(28), [i, j])
    assert np.all(tuned.joints.kp[others] == robot.joints.kp[others])
    assert load_robot_config(path).motors == robot.config.motors and yaml.safe_load(path.read_text())["battery"]
    assert main([*few, "--write", str(path)]) == 2 and "already there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--joints", "nose"], "unknown joint 'nose'"),
        (["--response", "0"], "response"),
        (["--overshoot", "2"], "overshoot"),
        (["--robot-description", "/no.urdf"], "/no.urdf"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, words):
    assert main(["tune-gains", "--processes", "1", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_a_robot_without_feet_is_tuned_too():
    robot = load_robot(PENDULUM)
    assert isinstance(robot.model, RobotModel)
    assert not least_stiffness(robot.model, robot.config, robot.joints.stand).any()
