"""Leg odometry on motions whose truth is known."""

import numpy as np
import pytest

from benchmark.leg_odometry import GRAVITY, LegOdometry, LegOdometryConfig
from digital_twin.core.rotation import exp_so3, log_so3, rot_z, yaw_of

S = 1_000_000_000


class Walker:
    """A robot whose left foot is nailed to the ground while its legs move: the base pose follows exactly."""

    def __init__(self, robot, tilt=(0.02, -0.03, 0.4), gyro_bias=(0.0, 0.0, 0.0)):
        self.robot, self.bias = robot, np.array(gyro_bias)
        self.k = robot.model.kinematics(["l_sole", "r_sole"])
        self.foot_R, self.foot_p = exp_so3(np.array(tilt)), np.array([0.3, -0.2, 0.0])

    def joints(self, t):
        q = self.robot.joints.stand.copy()
        i = self.robot.model.joint_index
        if t > 1.0:  # at rest for the first second
            for j, name in enumerate(
                ("l_hip_yaw", "l_hip_roll", "l_hip_pitch", "l_knee", "l_ankle_pitch", "l_ankle_roll")
            ):
                q[i[name]] += 0.1 * np.sin((1 + 0.2 * j) * (t - 1.0))
        return q

    def base(self, t):
        self.k.update(self.joints(t))
        R = self.foot_R @ self.k.rotation[0].T
        return self.foot_p - R @ self.k.position[0], R

    def at(self, t, h=1e-4):
        q = self.joints(t)
        qd = (self.joints(t + h) - self.joints(t - h)) / (2 * h)
        (p0, R0), (p, R), (p1, R1) = (self.base(t + d) for d in (-h, 0.0, h))
        gyro = log_so3(R0.T @ R1) / (2 * h)
        accel = R.T @ ((p1 - 2 * p + p0) / h**2 + [0, 0, GRAVITY])
        velocity = R.T @ (p1 - p0) / (2 * h)
        return q, qd, gyro + self.bias, accel, p, R, velocity, gyro


def follow(robot, walker, seconds, config=None, loads=(300.0, 0.0)):
    odometry = LegOdometry(robot.model, robot.config, config or LegOdometryConfig())
    states = []
    for k in range(int(seconds * 200)):
        t = k * 0.005
        q, qd, gyro, accel, p, R, v, w = walker.at(t)
        still = t < 1.0
        for foot in (0, 1):
            odometry.wrench(round(t * S), foot, (260.0, 260.0)[foot] if still else loads[foot])
        odometry.imu(round(t * S), gyro, accel)
        states.append((odometry.joints(round(t * S), q, qd), p, R, v, w))
    return odometry, states


def relative(states):
    """Errors of position [m] and attitude [rad] after laying the starts on each other by heading."""
    b0, p0, R0, *_ = states[0]
    turn = rot_z(yaw_of(R0) - yaw_of(b0.rotation))
    dp = [np.linalg.norm(turn @ (b.position - b0.position) - (p - p0)) for b, p, *_ in states]
    dR = [np.linalg.norm(log_so3((turn @ b.rotation).T @ R)) for b, _, R, *_ in states]
    return np.array(dp), np.array(dR)


def test_a_base_that_moves_on_one_foot_is_followed(robot):
    _, states = follow(robot, Walker(robot), 8.0, LegOdometryConfig(gravity_gain=0.0))
    dp, dR = relative(states)
    assert states[-1][1].max() - states[0][1].max() != 0
    assert np.ptp([p[0] for _, p, *_ in states]) > 0.1, "it really moves"
    assert dp.max() < 1e-3 and dR.max() < 2e-3


def test_speed_is_in_the_base_frame(robot):
    _, states = follow(robot, Walker(robot), 5.0)
    error = [np.linalg.norm(b.velocity - v) for b, _, _, v, _ in states]
    speed = [np.linalg.norm(v) for _, _, _, v, _ in states]
    assert max(speed) > 0.15 and max(error) < 0.02
    assert max(np.linalg.norm(b.angular_velocity - w) for b, *_, w in states[200:]) < 0.01


def test_it_learns_the_gyros_bias_at_rest(robot):
    bias = np.array([0.01, -0.02, 0.015])
    odometry, states = follow(robot, Walker(robot, gyro_bias=bias), 1.0)
    assert np.allclose(odometry.gyro_bias, bias, atol=1e-4)


def test_gravity_levels_it_whatever_the_heading(robot):
    walker = Walker(robot, tilt=(0.0, 0.0, 2.0))
    _, states = follow(robot, walker, 0.5)
    b, _, R, *_ = states[0]
    assert np.allclose(b.rotation[2], R[2], atol=1e-6) and yaw_of(b.rotation) == pytest.approx(0.0, abs=1e-9)


def test_the_foot_in_the_air_says_nothing(robot):
    """The right leg swings about; only the left foot, which bears the weight, counts."""

    class Swinging(Walker):
        def joints(self, t):
            q = super().joints(t)
            if t > 1.0:
                q[self.robot.model.joint_index["r_knee"]] += 0.5 * np.sin(3 * (t - 1.0)) ** 2
            return q

    _, states = follow(robot, Swinging(robot), 4.0, LegOdometryConfig(gravity_gain=0.0))
    assert relative(states)[0].max() < 2e-3
    assert states[-1][0].contacts == (True, False)


def test_contact_is_a_schmitt_trigger(robot):
    o = LegOdometry(robot.model, robot.config, LegOdometryConfig(contact_on=0.2, contact_off=0.1))
    weight = robot.model.mass * GRAVITY
    seen = []
    for share in (0.5, 0.15, 0.09, 0.15, 0.19, 0.21, 0.11):
        o.wrench(0, 0, share * weight)
        seen.append(o._stands[0])
    assert seen == [True, True, False, False, False, True, True]


def test_without_an_imu_the_standing_foot_gives_the_attitude(robot):
    walker = Walker(robot, tilt=(0.0, 0.0, 0.0))
    o = LegOdometry(robot.model, robot.config, LegOdometryConfig())
    errors = []
    for k in range(800):
        q, qd, *_, p, R, v, w = walker.at(k * 0.005)
        o.wrench(0, 0, 500.0)
        o.wrench(0, 1, 0.0)
        errors.append(np.linalg.norm(log_so3(o.joints(k * 5_000_000, q, qd).rotation.T @ R)))
    assert max(errors) < 1e-6


def test_without_force_sensors_the_lowest_foot_stands(robot):
    o = LegOdometry(robot.model, robot.config, LegOdometryConfig())
    q = robot.joints.stand.copy()
    q[robot.model.joint_index["r_knee"]] += 0.6
    o.imu(0, np.zeros(3), np.array([0, 0, GRAVITY]))
    assert o.joints(0, q, np.zeros(28)).contacts == (True, False)


def test_a_reset_keeps_the_pose_and_levels_anew(robot):
    odometry, states = follow(robot, Walker(robot), 3.0)
    before, yaw = odometry.position.copy(), yaw_of(odometry.rotation)
    odometry.reset()
    odometry.imu(10 * S, np.zeros(3), np.array([0.0, 0.0, GRAVITY]))
    b = odometry.joints(10 * S, robot.joints.stand, np.zeros(28))
    assert np.allclose(b.position, before) and yaw_of(b.rotation) == pytest.approx(yaw)


def test_in_the_air_it_stays_where_it_is_and_grows_no_nan(robot):
    o = LegOdometry(robot.model, robot.config, LegOdometryConfig())
    for k in range(100):
        for foot in (0, 1):
            o.wrench(0, foot, -5.0)
        o.imu(k * 5_000_000, np.zeros(3), np.zeros(3) + 1e-3)
        b = o.joints(k * 5_000_000, robot.joints.stand + 0.001 * k, np.zeros(28))
    assert np.allclose(b.position, 0.0) and b.contacts == (False, False) and np.isfinite(b.rotation).all()
