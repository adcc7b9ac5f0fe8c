"""Which way the ground faces, as standing feet tell it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.base_state import BaseState
from digital_twin.core.ground import NS, Ground
from digital_twin.core.rotation import exp_so3, rot_z
from digital_twin.robots import load_robot


@pytest.fixture(scope="module")
def robot():
    return load_robot()


def base(rotation, t=0.0, contacts=(True, True), tilt_variance=0.0):
    covariance = np.diag([0.0, 0, 0, tilt_variance, tilt_variance, 0])
    zero = np.zeros(3)
    return BaseState(round(t * NS), zero, rotation, zero, zero, covariance, np.zeros((6, 6)), contacts, True)


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
@settings(max_examples=25)
def test_the_normal_is_that_of_the_soles(roll, pitch):
    robot = load_robot()
    ground = Ground(robot.model, robot.config)
    R = exp_so3([roll, pitch, 0.0])
    ground.update(base(R), robot.joints.stand)
    kinematics = robot.model.kinematics(["l_sole", "r_sole"])
    kinematics.update(robot.joints.stand)
    seen = (R @ kinematics.rotation[:, :, 2].T).mean(axis=1)
    assert ground.normal == pytest.approx(seen / np.linalg.norm(seen), abs=1e-9)
    assert ground.frame() @ ground.normal == pytest.approx([0, 0, 1], abs=1e-9)
    assert ground.frame() @ ground.frame().T == pytest.approx(np.eye(3), abs=1e-9)
    # A heading that is not needed is not turned.
    axis = np.cross(ground.normal, [0, 0, 1])
    assert ground.frame() @ axis == pytest.approx(axis, abs=1e-9)


def test_a_tilt_that_the_attitude_cannot_explain_is_a_slope(robot):
    ground, tilt = Ground(robot.model, robot.config), exp_so3([0.1, 0.0, 0.0])
    ground.update(base(tilt), robot.joints.stand)
    # Gravity in the ground's frame is what odom's down is there: a slope that is real.
    assert ground.gravity(base(tilt), 0.05) == pytest.approx(ground.frame() @ [0, 0, -1], abs=1e-9)
    # When the attitude is that uncertain, the ground is taken to be level.
    assert ground.gravity(base(tilt, tilt_variance=100.0), 0.05) == pytest.approx([0, 0, -1], abs=1e-4)
    half = ground.gravity(base(tilt, tilt_variance=0.05**2), 0.05)
    assert np.arctan2(half[1], -half[2]) == pytest.approx(0.5 * np.arctan2(*ground.normal[[1, 2]]), rel=0.01)


def test_a_slope_that_nobody_expects_is_one_all_the_same(robot):
    """Floors are level to 3 mrad, the attitude is known to 10: an eleventh of 15 mrad is a slope, all of 5 degrees is."""
    for tilt, real in ((0.015, 1 / 12.1), (np.radians(5.0), 1.0)):
        ground, R = Ground(robot.model, robot.config), exp_so3([tilt, 0.0, 0.0])
        ground.update(base(R), robot.joints.stand)
        down = ground.gravity(base(R, tilt_variance=0.01**2), 0.003)
        assert np.arctan2(down[1], -down[2]) == pytest.approx(real * np.arctan2(*ground.normal[[1, 2]]), rel=0.02)


def test_what_the_attitude_knows_of_roll_and_of_pitch_are_two_things(robot):
    """Standing with feet beside each other, pitch is soon known to a milliradian, roll is not."""
    still, ground = Ground(robot.model, robot.config), Ground(robot.model, robot.config)
    still.update(base(np.eye(3)), robot.joints.stand)
    for yaw in (0.0, 0.4):
        R = rot_z(yaw) @ exp_so3([0.004, 0.004, 0.0]) @ rot_z(yaw).T
        ground.clear()
        ground.update(base(R), robot.joints.stand)
        covariance = np.zeros((6, 6))
        covariance[3:, 3:] = rot_z(yaw) @ np.diag([0.009**2, 0.001**2, 0.0]) @ rot_z(yaw).T
        down = ground.gravity(dataclasses.replace(base(R), covariance=covariance), 0.003)
        # A turn about x moves the vertical along -y: of that a tenth is the ground's, of the other nine tenths.
        seen = rot_z(yaw).T @ (ground.normal - still.normal)
        assert seen[:2] == pytest.approx([0.004, -0.004], abs=1e-4)
        assert (rot_z(yaw).T @ down)[:2] == pytest.approx([0.9 * 0.004, -0.1 * 0.004], abs=1e-4)


def test_a_slope_does_not_become_one_at_once(robot):
    ground, slopes = Ground(robot.model, robot.config), []
    for tilt in np.linspace(0.0, 0.1, 500):
        R = exp_so3([tilt, 0.0, 0.0])
        ground.clear()
        ground.update(base(R), robot.joints.stand)
        slopes.append(ground.gravity(base(R, tilt_variance=0.01**2), 0.003)[1])
    assert np.abs(np.diff(slopes)).max() < 0.001
    assert slopes[-1] == pytest.approx(ground.normal[1], rel=0.01) and abs(slopes[200]) < 0.2 * 0.04


def test_it_averages_and_forgets(robot):
    ground = Ground(robot.model, robot.config, settling=1.0)
    for k in range(200):  # soles that roll to and fro
        ground.update(base(exp_so3([0.05 * (-1) ** k, 0.0, 0.0]), 0.01 * k), robot.joints.stand)
    still = Ground(robot.model, robot.config)
    still.update(base(np.eye(3)), robot.joints.stand)
    assert ground.normal == pytest.approx(still.normal, abs=2e-3)
    for k in range(200, 900):
        ground.update(base(exp_so3([0.05, 0.0, 0.0]), 0.01 * k), robot.joints.stand)
    assert ground.normal[1] - still.normal[1] == pytest.approx(-0.05, abs=1e-3)


def leaning(ground, robot, tilt, t=0.0):
    """A forecast that begins at t, in which the robot leans more and more on the ground, by `tilt` after 0.1 s."""
    times = np.arange(1, 11) * 0.02
    turned = np.array([ground.frame().T @ exp_so3([tilt * s / 0.1, 0.0, 0.0]) for s in times])
    ground.expect(round(t * NS), times, np.tile(robot.joints.stand, (10, 1)), turned)


def test_soles_that_lean_as_was_forecast_are_no_slope(robot):
    ground = Ground(robot.model, robot.config)
    ground.update(base(np.eye(3)), robot.joints.stand)
    flat = ground.normal
    for k in range(20):
        leaning(ground, robot, 0.02, 0.1 * k)
        ground.update(base(exp_so3([0.02, 0.0, 0.0]), 0.1 * (k + 1)), robot.joints.stand)
    assert ground.normal == pytest.approx(flat, abs=1e-5)
    for k in range(20, 40):  # twice as much as was forecast: the rest is the ground
        leaning(ground, robot, 0.02, 0.1 * k)
        ground.update(base(exp_so3([0.04, 0.0, 0.0]), 0.1 * (k + 1)), robot.joints.stand)
    assert ground.normal - flat == pytest.approx([0.0, -0.02, 0.0], abs=1e-3)


def test_a_forecast_that_has_just_ended_is_asked_for_its_end(robot):
    """The monitor makes one of 0.1 s every 0.1 s, and states come now and then a sample later."""
    for late, known in ((0.005, True), (0.05, False)):
        ground = Ground(robot.model, robot.config)
        ground.update(base(np.eye(3)), robot.joints.stand)
        flat = ground.normal
        leaning(ground, robot, 0.04)  # reaches 0.2 s
        ground.update(base(exp_so3([0.08, 0.0, 0.0]), 0.2 + late), robot.joints.stand)
        assert (np.abs(ground.normal - flat).max() < 1e-4) == known


def test_what_no_forecast_can_know_of_soles_is_not_asked_of_it(robot):
    """One that is old, or has not begun, or has the foot in the air."""
    for tilt, began in ((0.02, -1.0), (0.02, 0.2), (0.3, 0.0)):
        ground, plain = Ground(robot.model, robot.config), Ground(robot.model, robot.config)
        leaning(ground, robot, tilt, began)
        for g in (ground, plain):
            g.update(base(exp_so3([0.02, 0.0, 0.0]), 0.1), robot.joints.stand)
        assert ground.normal.tolist() == plain.normal.tolist()
        ground.clear()
        assert ground.normal.tolist() == [0, 0, 1]


def test_zeros_of_encoders_are_taken_off(robot):
    zero = np.full(robot.model.n, 0.02)
    ground, plain = Ground(robot.model, robot.config, zero), Ground(robot.model, robot.config)
    ground.update(base(np.eye(3)), robot.joints.stand + zero)
    plain.update(base(np.eye(3)), robot.joints.stand)
    assert ground.normal == pytest.approx(plain.normal, abs=1e-12)


def test_feet_in_the_air_say_nothing(robot):
    ground = Ground(robot.model, robot.config)
    ground.update(base(exp_so3([0.2, 0.0, 0.0]), contacts=(False, False)), robot.joints.stand)
    ground.update(base(np.eye(3)), np.full(robot.model.n, np.nan))
    ground.update(base(exp_so3([2.0, 0.0, 0.0])), robot.joints.stand)  # lying on its side
    assert ground.normal.tolist() == [0, 0, 1]
    one = Ground(robot.model, robot.config)
    one.update(base(exp_so3([0.2, 0.0, 0.0]), contacts=(True, False)), robot.joints.stand)
    assert one.normal[1] < -0.1
