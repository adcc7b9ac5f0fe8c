"""What the bridge lets through: fit values of known joints, calibrated; everything else counted by reason."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.config import build
from digital_twin.core.intake import ImuIntake, IntakeConfig, JointIntake, check_pose, check_wrench
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import rpy_matrix

NONE = np.zeros(0)


@pytest.fixture
def intake(robot):
    return JointIntake(robot.model, robot.joints, IntakeConfig())


@pytest.fixture
def good(robot):
    n = robot.model.n
    return tuple(robot.model.joint_names), robot.joints.stand.copy(), np.zeros(n), np.zeros(n)


def test_a_good_message_passes_unchanged(intake, good):
    r = intake.check(*good)
    assert r.unchanged and r.rejected == {} and len(r.index) == 28 and np.array_equal(r.q, good[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [1, 2, 3])
def test_a_joint_that_is_not_finite_is_left_out(intake, good, bad, where):
    good[where][5] = bad
    r = intake.check(*good)
    assert r.rejected == {"non_finite": 1} and not r.unchanged
    assert len(r.q) == 27 and 5 not in r.index
    assert all(np.isfinite(x).all() for x in (r.q, r.qd, r.effort))


def test_values_beyond_belief_are_left_out(robot, intake, good):
    names, q, qd, effort = good
    q[0] = robot.model.upper[0] + 0.19
    assert intake.check(names, q, qd, effort).unchanged, "within the margin"
    q[0] = robot.model.upper[0] + 0.21
    qd[1] = 3.1 * robot.model.max_velocity[1]
    effort[2] = -3.1 * robot.model.max_effort[2]
    r = intake.check(names, q, qd, effort)
    assert r.rejected == {"out_of_limits": 3} and list(r.index) == list(range(3, 28))


@pytest.mark.parametrize(
    "change",
    [
        lambda n, q, v, e: (n[:-1], q, v, e), lambda n, q, v, e: (n, q[:-1], v, e), lambda n, q, v, e: (n, q, v[:3], e),
        lambda n, q, v, e: (n, q, v, e[:27]), lambda n, q, v, e: (n, NONE, v, e), lambda n, q, v, e: ((), NONE, NONE, NONE),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit(intake, good, change):
    assert intake.check(*change(*good)) == "size"


def test_speeds_and_torques_may_be_missing(intake, good):
    r = intake.check(good[0], good[1], NONE, NONE)
    assert r.qd is None and r.effort is None and r.unchanged


def test_unknown_repeated_and_missing_joints(intake, good):
    names = ("l_thumb", "l_knee", "l_knee", "r_knee")
    r = intake.check(names, np.array([9.0, 0.5, 0.6, 0.7]), NONE, NONE)
    assert r.rejected == {"unknown_joint": 1, "repeated_joint": 1}
    assert intake.unknown_names == ("l_thumb",)
    assert [intake._model.joint_names[i] for i in r.index] == ["l_knee", "r_knee"]
    assert list(r.q) == [0.5, 0.7]
    assert intake.check(("l_thumb",), np.array([1.0]), NONE, NONE) == "unknown_joint"


def test_any_order_of_joints(robot, intake, good):
    order = np.random.default_rng(0).permutation(28)
    names = tuple(robot.model.joint_names[i] for i in order)
    r = intake.check(names, good[1][order], NONE, NONE)
    q = np.empty(28)
    q[r.index] = r.q
    assert np.array_equal(q, good[1])


def test_calibration_is_sign_scale_offset_and_name(robot):
    config = build(
        RobotConfig,
        {"joints": {"l_knee": {"reported_as": "knee_L", "sign": -1.0, "scale": 0.0174533, "offset": 0.1}}},
        "f",
    )
    intake = JointIntake(robot.model, Joints(config, robot.model), IntakeConfig())
    r = intake.check(("knee_L", "r_knee"), np.array([-30.0, 0.5]), np.array([10.0, 0.0]), np.array([2.0, 1.0]))
    assert r.q[0] == pytest.approx(np.radians(30) + 0.1, rel=1e-5) and r.q[1] == 0.5
    assert r.qd[0] == pytest.approx(-np.radians(10), rel=1e-5)
    # Power is the same in both: torque · speed.
    assert r.effort[0] * r.qd[0] == pytest.approx(2.0 * 10.0)
    assert not r.unchanged


values = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(st.lists(st.tuples(st.sampled_from(["l_knee", "r_knee", "neck_yaw", "x", ""]), values), max_size=6), st.integers(0, 7), st.integers(0, 7))  # fmt: skip
def test_what_passes_is_always_finite_and_within_belief(robot, joints, n_speeds, n_torques):
    intake = JointIntake(robot.model, robot.joints, IntakeConfig())
    r = intake.check(
        tuple(n for n, _ in joints), np.array([v for _, v in joints]), np.zeros(n_speeds), np.zeros(n_torques)
    )
    if isinstance(r, str):
        assert r in ("size", "unknown_joint", "repeated_joint", "non_finite", "out_of_limits")
        return
    assert np.isfinite(r.q).all() and len(set(r.index)) == len(r.index)
    assert np.all(r.q <= robot.model.upper[r.index] + 0.2) and np.all(r.q >= robot.model.lower[r.index] - 0.2)


# IMU, wrench, pose


def test_imu_calibration_turns_and_removes_the_bias(robot):
    imu = dataclasses.replace(robot.config.imus[0], rpy=(0.1, 0.2, 0.3), gyro_bias=(0.01, 0.0, 0.0), accel_bias=(0.0, 0.2, 0.0))  # fmt: skip
    intake = ImuIntake(dataclasses.replace(robot.config, imus=[imu]), 0, IntakeConfig())
    gyro, accel = intake.check(np.array([0.01, 0.5, 0.0]), np.array([0.0, 0.2, 9.81]))
    R = rpy_matrix([0.1, 0.2, 0.3])
    assert np.allclose(gyro, R @ [0, 0.5, 0]) and np.allclose(accel, R @ [0, 0, 9.81])
    assert np.allclose(intake.attitude(np.eye(3)), R.T)


@pytest.mark.parametrize(
    ("gyro", "accel", "reason"),
    [([np.nan, 0, 0], [0, 0, 9], "non_finite"), ([0, 0, 0], [0, np.inf, 9], "non_finite"),
     ([70, 0, 0], [0, 0, 9], "out_of_limits"), ([0, 0, 0], [0, 0, 501], "out_of_limits")],
)  # fmt: skip
def test_an_unbelievable_imu_is_refused(robot, gyro, accel, reason):
    assert ImuIntake(robot.config, 0, IntakeConfig()).check(np.array(gyro, float), np.array(accel, float)) == reason


def test_wrenches():
    assert check_wrench(np.array([0, 0, 500.0, 0, 0, 0]), IntakeConfig()) is None
    assert check_wrench(np.array([0, 0, np.nan, 0, 0, 0]), IntakeConfig()) == "non_finite"
    assert check_wrench(np.array([0, 0, 2e5, 0, 0, 0]), IntakeConfig()) == "out_of_limits"


UNIT = np.array([0, 0, 0, 1.0])


@pytest.mark.parametrize(
    ("position", "quaternion", "covariance", "reason"),
    [
        ([1, 2, 3], UNIT, np.eye(6), None),
        ([1, 2, 3], UNIT * 1.05, np.eye(6), None),
        ([1, 2, 3], UNIT, np.zeros((6, 6)), None),
        ([1, 2, np.nan], UNIT, np.eye(6), "non_finite"),
        ([1, 2, 3], UNIT * 0, np.eye(6), "quaternion"),
        ([1, 2, 3], UNIT * 2, np.eye(6), "quaternion"),
        ([1, 2, 3], UNIT, np.diag([1, 1, -1, 1, 1, 1.0]), "covariance"),
        ([1, 2, 3], UNIT, np.eye(6) + np.triu(np.ones((6, 6)), 1), "covariance"),
        ([1e7, 2, 3], UNIT, np.eye(6), "out_of_limits"),
    ],
)
def test_poses(position, quaternion, covariance, reason):
    assert check_pose(np.array(position, float), np.array(quaternion), np.array(covariance, float)) == reason
