"""The safety monitor: what it refuses, what it lets pass because it relieves, and what leaves it cold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.command_gate import Command, CommandGate, CommandGateConfig
from digital_twin.core.rotation import exp_so3
from digital_twin.core.safety import SafetyMonitor
from digital_twin.core.safety_config import SafetyConfig
from digital_twin.core.script import Script, load_script
from digital_twin.paths import share

MS = 1_000_000
S = 1000 * MS
ALL = np.arange(28)
STILL = np.zeros(28)
DOWN = np.array([0.0, 0.0, 9.81])


def ask(m, q, qd, effort, now):
    """Check a command for all joints."""
    return m.check(Command(ALL, q, STILL if qd is None else qd, STILL if effort is None else effort), now)


def monitor(robot, **config):
    m = SafetyMonitor(robot.model, robot.config, robot.joints, SafetyConfig(**config))
    m.measured(ALL, robot.joints.stand, STILL)
    return m


def on_the_ground(m, now, load=264.0):
    m.foot(0, now, load)
    m.foot(1, now, load)


def test_the_packages_own_motions_pass(robot):
    for name in ("humanoid.yaml", "squats.yaml"):
        script = Script(load_script(share(f"config/scripts/{name}")), robot.model, robot.joints.stand)
        m = monitor(robot)
        for k in range(1200):
            q, qd = script.sample(k * 0.05)
            m.imu(k * 50 * MS, np.zeros(3), DOWN)
            on_the_ground(m, k * 50 * MS)
            assert ask(m, q, qd, None, k * 50 * MS) == "", m.words
            m.measured(ALL, q, qd)


def test_a_motor_may_be_overloaded_for_a_while_and_relieved_at_any_time(robot):
    m, knee = monitor(robot), robot.model.joint_index["l_knee"]
    target = robot.joints.stand.copy()
    target[knee] += 0.5  # 300 N m of 220
    for t in range(0, 500, 10):
        assert ask(m, target, None, None, t * MS) == ""
    assert ask(m, target, None, None, 520 * MS) == "torque" and "l_knee" in m.words
    assert ask(m, robot.joints.stand, None, None, 530 * MS) == "" and m.words == ""
    assert ask(m, target, None, None, 540 * MS) == "", "it counts anew"
    assert m.refused["torque"] == 1


def test_feed_forward_torque_counts_too(robot):
    m, knee = monitor(robot, torque_time=0.01), robot.model.joint_index["l_knee"]
    effort = STILL.copy()
    effort[knee] = -300.0
    ask(m, robot.joints.stand, None, effort, 0)
    assert ask(m, robot.joints.stand, None, effort, 20 * MS) == "torque"


@given(st.integers(0, 27), st.sampled_from([-1.0, 1.0]), st.floats(1.25, 2.0))
def test_what_is_too_fast_is_braked_and_not_driven(robot, i, way, times):
    m = monitor(robot, collision_rate=0.0)
    qd = STILL.copy()
    qd[i] = way * times * robot.model.max_velocity[i]
    m.measured(ALL, robot.joints.stand, qd)
    effort = STILL.copy()
    for push, kind in ((way, "speed"), (-way, "")):
        effort[i] = push * 500.0
        assert ask(m, robot.joints.stand, qd, effort, S) == kind
    # Set points that follow brake by themselves: the servo damps.
    assert ask(m, robot.joints.stand, None, None, S) == ""


@given(st.integers(0, 27), st.booleans(), st.floats(0.15, 0.5))
def test_what_is_out_of_range_is_led_back_and_not_out(robot, i, above, beyond):
    m = monitor(robot, collision_rate=0.0)
    q = robot.joints.stand.copy()
    limit = robot.model.upper[i] if above else robot.model.lower[i]
    out = 1.0 if above else -1.0
    inside = q.copy()
    q[i], inside[i] = limit + out * beyond, limit
    m.measured(ALL, q, STILL)
    assert ask(m, inside, None, None, S) == ""
    effort = STILL.copy()
    effort[i] = out * 1000.0
    assert ask(m, q, None, effort, S) == "range"
    assert ask(m, q, None, -effort, S) == ""


def test_a_robot_that_lies_or_hangs_obeys_nobody(robot):
    m = monitor(robot)
    for t in range(0, 1000, 5):
        m.imu(t * MS, np.zeros(3), DOWN)
        on_the_ground(m, t * MS)
    assert m.tilt < 1e-6 and ask(m, robot.joints.stand, None, None, S) == ""
    on_the_ground(m, S, 5.0)
    assert ask(m, robot.joints.stand, None, None, S) == "", "a moment without load is a step"
    on_the_ground(m, 1300 * MS, 5.0)
    assert ask(m, robot.joints.stand, None, None, 1500 * MS) == "support" and "less than 53 N" in m.words
    on_the_ground(m, 1600 * MS)
    assert ask(m, robot.joints.stand, None, None, 1600 * MS) == ""
    # Loads that are no longer told say nothing.
    on_the_ground(m, 1700 * MS, 0.0)
    for t in range(1700, 4000, 100):
        assert ask(m, robot.joints.stand, None, None, t * MS) == "" or t < 2100


@given(st.sampled_from([0, 1]), st.floats(-2.5, 2.5))
def test_the_tilt_is_followed_by_gyro_and_gravity(robot, axis, rate):
    m = monitor(robot)
    turn = np.zeros(3)
    turn[axis] = rate
    R, now = np.eye(3), S
    m.imu(now, np.zeros(3), DOWN)
    for _ in range(200):
        now += 5 * MS
        R = R @ exp_so3(0.005 * turn)
        m.imu(now, turn, R.T @ DOWN)
    assert m.tilt == pytest.approx(np.degrees(abs(rate) * 1.0), abs=1.0)
    assert (ask(m, robot.joints.stand, None, None, now) == "support") == (m.tilt > 60.0)


def test_limbs_that_would_meet_are_kept_apart(robot):
    m, roll = monitor(robot), robot.model.joint_index["l_hip_roll"]
    target = robot.joints.stand.copy()
    target[roll] = robot.model.lower[roll]
    target[robot.model.joint_index["r_hip_roll"]] = robot.model.upper[robot.model.joint_index["r_hip_roll"]]
    assert ask(m, target, None, None, S) == "self_collision" and "would meet" in m.words
    assert ask(m, robot.joints.stand, None, None, S + 10 * MS) == "self_collision", "until it looks again"
    assert ask(m, robot.joints.stand, None, None, S + 60 * MS) == ""
    m.measured(ALL, target, STILL)
    assert ask(m, target, None, None, S + 120 * MS) == "", "what touches already must be let apart"


@settings(max_examples=50)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=28, max_size=28))
def test_nothing_breaks_it(robot, numbers):
    m = monitor(robot)
    x = np.array(numbers)
    with np.errstate(all="ignore"):
        m.measured(ALL, x, x)
        assert ask(m, x, x, x, S) in ("", "torque", "speed", "range", "support", "self_collision")
        assert ask(m, robot.joints.stand, None, None, 2 * S) in ("", "speed", "range", "self_collision", "torque")


def test_off_means_off(robot):
    m = monitor(robot, active=False)
    m.imu(0, np.zeros(3), -DOWN)
    assert ask(m, robot.joints.stand + 9.0, None, None, S) == ""
    quiet = dict.fromkeys(("torque", "speed", "position", "tilt", "load", "collision_rate"), 0.0)
    m = monitor(robot, **quiet)
    m.imu(0, np.zeros(3), -DOWN)
    on_the_ground(m, S, 0.0)
    m.measured(ALL, robot.joints.stand + 9.0, STILL + 99.0)
    for t in range(10):
        on_the_ground(m, (1 + t) * S, 0.0)
        assert ask(m, robot.joints.stand - 9.0, None, STILL + 1e4, (1 + t) * S) == ""


def test_a_refused_command_leaves_the_gate_as_it_was(robot):
    g = CommandGate(robot.model, CommandGateConfig())
    g.measured(ALL, robot.joints.stand)
    g.twin_alive(0)
    first = g.accept(ALL, robot.joints.stand, None, None, 10 * MS)
    assert g.accept(ALL, robot.joints.stand + 1.0, None, None, 20 * MS, lambda c: "safety_torque") == "safety_torque"
    seen = []
    after = g.accept(ALL, robot.joints.stand + 1.0, None, None, 20 * MS, lambda c: seen.append(c) or "")
    reach = robot.model.max_velocity * 0.01
    assert np.all(np.abs(after.q - first.q) <= reach + 1e-12), "and what is looked at is what goes down"
    assert np.array_equal(seen[0].q, after.q)
