"""Walking: the pendulum, footholds, soles, the whole body, and the controller's answers to what is bad."""

import cmath
import dataclasses
import math

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.base_state import BaseState
from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.core.gait.body import GRAVITY, Body
from digital_twin.core.gait.controller import GaitController
from digital_twin.core.gait.episode import Episode, EpisodeConfig, ScheduledPush
from digital_twin.core.gait.fall import Fall
from digital_twin.core.gait.footsteps import LEFT, RIGHT, Foothold, Velocity, next_foothold, within_reach
from digital_twin.core.gait.forces import FRICTION, clip_wrench, needed_wrench, share_wrench, zero_moment_point
from digital_twin.core.gait.gait_config import Gait, load_gait
from digital_twin.core.gait.ik import WholeBody
from digital_twin.core.gait.limbs import find_limbs
from digital_twin.core.gait.pendulum import Support, dcm_after, dcm_at_start, dcm_in_step, plan
from digital_twin.core.gait.support import depth_inside, hull, nearest_inside, sole_corners
from digital_twin.core.gait.swing import Swing
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import exp_so3, log_so3, rot_z
from digital_twin.core.synchronizer import VirtualState
from digital_twin.robots import load_robot

OMEGA = 3.4
points = st.complex_numbers(max_magnitude=0.5, allow_nan=False, allow_infinity=False)


# The pendulum


@given(points, points, points, st.floats(0.05, 0.3), st.floats(0.1, 0.6))
def test_a_plan_is_what_the_pendulum_does(before, under, end, double, single):
    """Against the equations of motion, integrated: c̈ = ω² (c − r) with r moving and then resting."""
    step = Support(before, under, double, single)
    start = dcm_at_start(step, end, OMEGA)
    n = 4000
    dt = (double + single) / n
    c, v = 0.1 + 0.05j, OMEGA * (start - (0.1 + 0.05j))
    for k in range(n):
        t = (k + 0.5) * dt
        zmp = before + (under - before) * min(t / double, 1.0)
        a = OMEGA**2 * (c + v * dt / 2 - zmp)
        c, v = c + v * dt + a * dt * dt / 2, v + a * dt
    assert abs(c + v / OMEGA - end) < 2e-4 * (1.0 + abs(start))


@given(points, points, points, st.floats(0.05, 0.3), st.floats(0.1, 0.6), st.floats(0.0, 1.0))
def test_the_dcm_runs_from_the_zero_moment_point(before, under, end, double, single, share):
    step, h = Support(before, under, double, single), 1e-5
    t = share * (double + single - 2 * h) + h
    (a, _), (dcm, zmp), (b, _) = (dcm_in_step(step, end, OMEGA, t + d) for d in (-h, 0.0, h))
    assert abs((b - a) / (2 * h) - OMEGA * (dcm - zmp)) < 1e-3


def test_over_a_resting_point_it_grows_by_the_exponential():
    step = Support(0j, 0.1 + 0.05j, 0.0, 0.4)
    start = dcm_at_start(step, 0.3 + 0j, OMEGA)
    assert dcm_after(start, step.under, OMEGA, 0.4) == pytest.approx(0.3)


def test_a_long_plan_forgets_its_end():
    steps = [Support(0.2 * k + 0j, 0.2 * (k + 1) + 0j, 0.1, 0.4) for k in range(8)]
    assert abs(plan(steps, 1.7, OMEGA) - plan(steps, 1.6, OMEGA)) < 0.1 * math.exp(-OMEGA * 4.0) * 1.01


# Footholds


@given(st.floats(-1, 1), st.floats(-0.3, 0.3), st.floats(-0.8, 0.8), st.floats(-3, 3))
def test_steps_move_the_body_at_the_velocity(vx, vy, wz, yaw):
    """Two steps, left and right: the middle between the feet goes and turns as asked."""
    time, width = 0.5, 0.17
    turn = cmath.rect(1.0, yaw)
    feet = {LEFT: Foothold(turn * 0.085j, yaw, LEFT), RIGHT: Foothold(turn * -0.085j, yaw, RIGHT)}
    stance = feet[RIGHT]
    for _ in range(2):
        new = next_foothold(stance, Velocity(vx, vy, wz), time, width)
        assert new.side == 1 - stance.side
        feet[new.side] = stance = new
    gone = (feet[LEFT].point + feet[RIGHT].point) / 2
    assert feet[stance.side].yaw - yaw == pytest.approx(2 * wz * time)
    if wz == 0.0:
        side_by_side = turn.conjugate() * gone
        assert side_by_side.real == pytest.approx(1.5 * vx * time, abs=1e-9)
        assert side_by_side.imag == pytest.approx((2.0 if vy > 0 else 1.0) * vy * time, abs=1e-9)


@given(st.floats(-0.8, 0.8), st.floats(-2, 2))
def test_turning_on_the_spot_stays_on_the_spot(wz, yaw):
    stance = Foothold(cmath.rect(0.085, yaw - math.pi / 2), yaw, RIGHT)
    for _ in range(6):
        stance = next_foothold(stance, Velocity(0.0, 0.0, wz), 0.5, 0.17)
        assert abs(stance.point) == pytest.approx(0.085)


@given(points, st.floats(-3, 3), st.sampled_from([LEFT, RIGHT]), points)
def test_feet_neither_meet_nor_go_out_of_reach(at, yaw, side, wanted):
    gait, stance = Gait(), Foothold(at, yaw, side)
    d = (within_reach(stance, at + wanted, gait) - at) * cmath.rect(1.0, -yaw)
    apart = -d.imag if side == LEFT else d.imag
    assert gait.min_spread - 1e-9 <= apart <= gait.max_spread + 1e-9 and abs(d.real) <= gait.max_step + 1e-9


# Soles


@given(st.lists(points, min_size=3, max_size=12), points)
def test_the_nearest_point_inside_is_inside_and_nearest(corners, point):
    edge = hull(corners)
    if len(edge) < 3 or min(abs(a - b) for i, a in enumerate(edge) for b in edge[:i]) < 1e-3:
        return
    near = nearest_inside(point, edge)
    assert depth_inside(near, edge) > -1e-6
    shares = np.random.default_rng(1).dirichlet(np.ones(len(edge)), 50)
    assert abs(near - point) <= np.abs(shares @ np.array(edge) - point).min() + 1e-9


def test_a_soles_corners_turn_with_it():
    square = np.array([[0.1, 0.05], [0.1, -0.05], [-0.1, -0.05], [-0.1, 0.05]])
    corners = sole_corners(1 + 1j, math.pi / 2, square, 0.1)
    assert {(round(c.real, 6), round(c.imag, 6)) for c in corners} == {
        (1.045, 0.91), (1.045, 1.09), (0.955, 0.91), (0.955, 1.09)
    }  # fmt: skip


@given(st.lists(st.floats(-300, 300), min_size=6, max_size=6), st.floats(-0.3, 0.3))
def test_a_clipped_wrench_can_be_borne(numbers, tilt):
    square, R = np.array([[0.1, 0.05], [-0.1, -0.05]]), exp_so3([tilt, 0.0, 0.0])
    wrench = clip_wrench(np.array(numbers), R, square, 0.2)
    f, t = R.T @ wrench[:3], R.T @ wrench[3:]
    assert f[2] > 0 and np.hypot(*f[:2]) <= FRICTION * f[2] + 1e-9
    assert abs(-t[1] / f[2]) <= 0.08 + 1e-9 and abs(t[0] / f[2]) <= 0.04 + 1e-9


def test_a_swing_goes_where_it_should_though_its_target_moves():
    swing, target, n, dt = Swing(np.zeros(3), np.eye(3), 0.05), np.array([0.3, 0.1, 0.02]), 80, 0.005
    highest, before, jumps = 0.0, swing.position.copy(), []
    for k in range(n):
        if k == 40:
            target = target + np.array([0.05, -0.03, 0.0])
        swing.move(target, rot_z(0.3), (n - k) * dt, dt)
        jumps.append(np.abs(swing.position - before).max())
        before, highest = swing.position.copy(), max(highest, swing.position[2])
    assert np.allclose(swing.position[:2], target[:2], atol=0.004) and swing.position[2] == pytest.approx(
        0.02, abs=0.002
    )
    assert 0.05 < highest < 0.09 and max(jumps) < 0.02
    assert np.linalg.norm(log_so3(swing.R.T @ rot_z(0.3))) < 0.01
    swing.move(target, rot_z(0.3), 0.0, dt)
    assert swing.velocity[2] < 0.0, "it presses on until it meets the ground"


# The whole body


def at_rest(position=(0.0, 0.0, 0.8), rotation=None):
    zero, none = np.zeros(3), np.zeros((6, 6))
    return BaseState(
        0, np.array(position), np.eye(3) if rotation is None else rotation, zero, zero, none, none, (True, True), True
    )  # fmt: skip


def moving(rng):
    return BaseState(
        0, rng.normal(size=3), exp_so3(0.3 * rng.normal(size=3)), rng.normal(size=3), rng.normal(size=3),
        np.zeros((6, 6)), np.zeros((6, 6)), (True, True), True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def body(robot):
    return Body(robot.model, robot.config, robot.joints)


def test_left_is_left_and_legs_have_six_joints(robot, body):
    body.update(at_rest(), robot.joints.stand, np.zeros(robot.model.n))
    names = np.array(robot.model.joint_names)
    assert [f"{robot.config.feet[i].name}" for i in body.feet] == ["left", "right"]
    assert all(n.startswith("l_") for n in names[body.legs[0]]) and len(body.legs[1]) == 6
    assert body.sole[0, 1] > 0.05 > -0.05 > body.sole[1, 1]
    assert not set(body.upper) & set(np.concatenate(body.legs))


def test_velocities_and_drifts_are_derivatives(robot, body):
    """Against finite differences of the poses, the joints and the base moving steadily."""
    rng, h = np.random.default_rng(2), 1e-5
    base, q, qd = moving(rng), robot.joints.stand + 0.1, rng.normal(size=robot.model.n)

    def at(t):
        R = base.rotation @ exp_so3(base.angular_velocity * t)
        moved = BaseState(
            0, base.position + base.rotation @ base.velocity * t, R, R.T @ base.rotation @ base.velocity,
            base.angular_velocity, base.covariance, base.twist_covariance, base.contacts, True,
        )  # fmt: skip
        body.update(moved, q + qd * t, qd)
        return body.com.copy(), body.com_velocity.copy(), body.sole.copy(), body.sole_velocity.copy(), body.drift.copy()

    (c0, _, s0, w0, _), (_, v, _, w, drift), (c1, _, s1, w1, _) = at(-h), at(0.0), at(h)
    assert np.allclose((c1 - c0) / (2 * h), v, atol=1e-6)
    assert np.allclose((s1 - s0) / (2 * h), w[:, :3], atol=1e-6)
    assert np.allclose((w1 - w0) / (2 * h), drift, atol=1e-4), "with v constant, what is left is the drift"


def test_standing_needs_its_weight_under_its_centre_of_mass(robot, body):
    body.update(at_rest(), robot.joints.stand, np.zeros(robot.model.n))
    force, moment = needed_wrench(body, np.zeros(body.m))
    assert np.allclose(force, [0.0, 0.0, body.mass * GRAVITY], atol=1e-6)
    zmp = zero_moment_point(body, force, moment, float(body.sole[0, 2]))
    assert zmp == pytest.approx(complex(body.com[0], body.com[1]), abs=1e-9)
    wrench, share = share_wrench(body, force, moment, (True, True), 0.0)
    assert share == pytest.approx(0.5, abs=0.01) and np.allclose(wrench.sum(axis=0)[:3], force)
    one, share = share_wrench(body, force, moment, (True, False), 0.0)
    assert share == 0.0 and not one[1].any()


def test_accelerations_are_what_was_asked(robot, body):
    rng = np.random.default_rng(3)
    body.update(moving(rng), robot.joints.stand + 0.1, 0.3 * rng.normal(size=robot.model.n))
    soles, com, turn, upper = (
        rng.normal(size=(2, 6)),
        rng.normal(size=3),
        rng.normal(size=3),
        rng.normal(size=len(body.upper)),
    )
    a = WholeBody(body).accelerations(soles, com, turn, upper, (True, True))
    for i in (0, 1):
        assert np.allclose(body.J[i] @ a + body.drift[i], soles[i], atol=0.05)
    force, _ = needed_wrench(body, a)
    assert np.allclose(force / body.mass - [0, 0, GRAVITY], com, atol=0.05) and np.allclose(a[3:6], turn, atol=0.05)
    assert np.allclose(a[6 + body.upper], upper)


def test_a_posture_reaches_its_feet_and_keeps_its_limits(robot, body):
    q0 = robot.joints.stand
    body.update(at_rest(), q0, np.zeros(robot.model.n))
    soles, com = body.sole.copy(), body.com - [0.02, 0.03, 0.08]
    soles[0] += [0.1, 0.02, 0.0]
    R = rot_z(0.1)
    q = WholeBody(body).posture(at_rest(), q0, com, R, soles, np.array([rot_z(0.2), np.eye(3)]))
    assert np.allclose(body.sole, soles, atol=1e-5) and np.allclose(body.com, com, atol=1e-5)
    assert np.allclose(body.R, R, atol=1e-5) and np.allclose(body.sole_R[0], rot_z(0.2), atol=1e-5)
    assert (q >= robot.model.lower).all() and (q <= robot.model.upper).all()
    assert np.allclose(q[body.upper], q0[body.upper])
    with pytest.raises(TwinError, match="no posture reaches this"):
        WholeBody(body).posture(at_rest(), q0, com + np.array([0.0, 0.0, 0.5]), R, soles, np.array([np.eye(3)] * 2))


def test_minks_inverse_kinematics_agrees(robot, body):
    """The same tasks given to mink: both find the feet and the centre of mass where they were asked for."""
    mink = pytest.importorskip("mink")
    pytest.importorskip("daqp")
    body.update(at_rest(), robot.joints.stand, np.zeros(robot.model.n))
    soles, com = body.sole.copy(), body.com - [0.01, 0.02, 0.06]
    ours = WholeBody(body).posture(at_rest(), robot.joints.stand, com, np.eye(3), soles, np.array([np.eye(3)] * 2))
    m = robot.model.mj
    configuration = mink.Configuration(m)
    qpos = m.qpos0.copy()
    qpos[:3] = [0.0, 0.0, 0.8]
    robot.model.write_joints(qpos, robot.joints.stand)
    configuration.update(qpos)
    feet = [
        mink.FrameTask(robot.config.feet[i].frame, "site", position_cost=1.0, orientation_cost=1.0) for i in body.feet
    ]
    for task, sole in zip(feet, soles, strict=True):
        task.set_target(mink.SE3.from_translation(sole))
    trunk = mink.FrameTask(robot.model.base_frame, "site", position_cost=0.0, orientation_cost=1.0)
    trunk.set_target(mink.SE3.identity())
    cost = np.full(m.nv, 1e-4)
    cost[6 + body.upper] = 10.0  # only the legs are asked to move
    mass, posture = mink.ComTask(cost=1.0), mink.PostureTask(m, cost=cost)
    mass.set_target(com)
    posture.set_target(qpos)
    for _ in range(60):
        v = mink.solve_ik(
            configuration, [*feet, trunk, mass, posture], 0.05, "daqp", limits=[mink.ConfigurationLimit(m)]
        )
        configuration.integrate_inplace(v, 0.05)
    theirs = configuration.q[robot.model.qpos_index]
    legs = np.concatenate(body.legs)
    assert np.abs(ours[legs] - theirs[legs]).max() < 0.02


def test_limbs_are_found_by_what_hangs_on_them(robot, body):
    body.update(at_rest(), robot.joints.stand, np.zeros(robot.model.n))
    limbs, names = find_limbs(body), robot.model.joint_names
    assert names[limbs.left.joint] == "l_shoulder_pitch" and names[limbs.right.joint] == "r_shoulder_pitch"
    assert [names[n.joint] for n in limbs.necks] == ["neck_pitch"]
    assert {names[e.joint] for e in limbs.elbows} >= {"l_elbow", "r_elbow"}


def test_a_fall_bends_the_knees_and_turns_the_head_away(robot, body):
    body.update(at_rest(), robot.joints.stand, np.zeros(robot.model.n))
    limbs, i = find_limbs(body), robot.model.joint_index
    forward = Fall("", body, limbs, robot.joints.stand, 0.5 + 0j).goal - robot.joints.stand
    backward = Fall("", body, limbs, robot.joints.stand, -0.5 + 0j).goal - robot.joints.stand
    for fall in (forward, backward):
        assert fall[i["l_knee"]] > 1.0 and fall[i["r_knee"]] > 1.0
    assert forward[i["neck_pitch"]] < 0 < backward[i["neck_pitch"]], "back when it falls on its face, else chin down"
    assert forward[i["l_shoulder_pitch"]] < 0 < backward[i["l_shoulder_pitch"]], "the arms go ahead of it"


# The controller


def state(robot, t, base=None, q=None):
    nothing = np.full(robot.model.n, np.nan)
    zero = np.zeros(robot.model.n)
    q = robot.joints.stand if q is None else q
    base = base or at_rest()
    return VirtualState(round(t * 1e9), q, zero, zero, nothing, base)


@pytest.fixture
def controller(robot):
    return GaitController(robot.model, robot.config, robot.joints, Gait())


LOADED = np.tile([0.0, 0.0, 260.0, 0.0, 0.0, 0.0], (2, 1))


def test_standing_it_carries_its_weight(robot, controller):
    c = controller.step(state(robot, 0.0), LOADED)
    knees = [robot.model.joint_index[k] for k in ("l_knee", "r_knee")]
    assert np.isfinite(c.effort).all() and (c.effort[knees] != 0.0).all()
    assert np.allclose(c.q, robot.joints.stand, atol=0.02) and controller.phase == "stand"
    assert (np.abs(c.effort) < robot.model.max_effort).all()


@pytest.mark.parametrize("bad", [(math.nan, 0.0, 0.0), (0.0, math.inf, 0.0), (0.0, 0.0, -math.inf)])
def test_a_velocity_that_is_none_stops_it_and_is_said(controller, bad):
    controller.request(0.3, 0.0, 0.0)
    assert "not a velocity" in controller.request(*bad)
    assert controller._m.asked == (0.0, 0.0, 0.0)


def test_too_much_is_lowered_and_said(controller):
    assert "more than the gait allows" in controller.request(50.0, 0.0, -9.0)
    assert controller._m.asked == (Gait().max_forward, 0.0, -Gait().max_turn)
    assert controller.request(0.5, 0.0, 0.1) == ""


def test_a_stale_velocity_is_none(robot, controller):
    controller.request(0.4, 0.0, 0.0, stamp_ns=0)
    controller.step(state(robot, 0.7), LOADED)
    assert controller.phase == "stand" and "no cmd_vel" in controller.why


def test_an_unsure_estimate_is_not_walked_by(robot, controller):
    base = at_rest()
    unsure = BaseState(**{**vars(base), "initialised": False})
    controller.request(0.4, 0.0, 0.0)
    for t in np.arange(0.0, 0.5, 0.005):
        controller.step(state(robot, t, unsure), LOADED)
        if t > 0.35:
            assert "unsure" in controller.why


def test_without_a_state_both_feet_are_brought_down(robot, controller):
    assert np.allclose(controller.lost(0).q, robot.joints.stand), "never had one"
    controller.request(0.3, 0.0, 0.0)
    t, lifted = 0.0, robot.joints.stand.copy()
    while controller._m.steps.swing is None:  # an estimate in which the weight goes over does as well as a real one
        t += 0.005
        controller.step(state(robot, t, at_rest((0.0, 0.06, 0.8))), LOADED)
        assert t < 3.0
    lifted[robot.model.joint_index["r_knee"]] += 0.4
    last = controller.step(state(robot, t + 0.005, at_rest((0.0, 0.06, 0.8)), lifted), LOADED)
    stamp = round((t + 0.01) * 1e9)
    first, later = controller.lost(stamp), controller.lost(stamp + 400_000_000)
    assert np.allclose(first.q, last.q) and not first.qd.any() and np.allclose(first.effort, last.effort)
    assert np.allclose(later.q, robot.joints.stand) and not later.effort.any()
    assert "no estimate" in controller.why
    controller.step(state(robot, t + 0.5), LOADED)
    assert controller.phase == "stand"


def test_numbers_that_are_none_count_as_no_state(robot, controller):
    controller.step(state(robot, 0.0), LOADED)
    q = robot.joints.stand.copy()
    q[3] = np.nan
    assert np.isfinite(controller.step(state(robot, 0.005, q=q), LOADED).q).all() and "no estimate" in controller.why


def test_leaning_too_far_it_falls_softly_until_it_is_stood_up(robot, controller):
    tipped = at_rest(rotation=exp_so3([0.0, 0.9, 0.0]))
    c = controller.step(state(robot, 0.0, tipped), LOADED)
    assert controller.phase == "fall" and "leans" in controller.why
    assert not c.effort.any() and not c.qd.any()
    stiff = robot.joints.kp * np.abs(c.q - robot.joints.stand)
    assert (stiff < robot.model.max_effort).all()
    controller.step(state(robot, 0.005), LOADED)
    assert controller.phase == "fall", "upright by itself is no reason to stiffen"
    controller.stand()
    controller.step(state(robot, 0.01), LOADED)
    assert controller.phase == "stand"


def test_a_snapshot_brings_back_the_same_commands(robot, controller):
    controller.request(0.4, 0.0, 0.0)
    for k in range(40):
        controller.step(state(robot, 0.005 * k), LOADED)
    saved = controller.snapshot()

    def commands():
        return np.array([controller.step(state(robot, 0.005 * k), LOADED).effort for k in range(40, 60)])

    first = commands()
    controller.restore(saved)
    assert np.array_equal(first, commands())


def test_what_is_known_of_an_encoders_error_is_taken_off(robot, controller):
    """Its joints are where they are, not where they are read; servos are asked for the former."""
    zero = 0.05
    knee = {**vars(robot.config.joint("l_knee")), "zero_error": zero}
    config = dataclasses.replace(robot.config, joints=robot.config.joints | {"l_knee": knee})
    wise = GaitController(robot.model, config, Joints(config, robot.model), Gait())
    stands = state(robot, 0.005)
    off = zero * (np.array(robot.model.joint_names) == "l_knee")
    read = dataclasses.replace(stands, q=stands.q + off)
    expected = controller.step(stands, LOADED)
    assert np.allclose(wise.step(read, LOADED), expected)
    assert not np.allclose(controller.step(read, LOADED), expected)


@pytest.mark.parametrize(("at", "force"), [(2.7, 120.0), (2.9, -180.0)])
def test_pushed_while_it_stops_it_comes_to_rest(robot, at, force):
    """It walks on the spot until the push is forgotten; to plan a stop with each step it would step for ever."""
    e = Episode(robot.description, robot.config, Gait(), EpisodeConfig(seconds=10.0))
    phases = {}
    pushes = [ScheduledPush(at, "torso", (0.0, force, 0.0))]

    def walk_and_stop(t):
        phases[t] = e.controller.phase
        return (0.5, 0.0, 0.0) if 0.3 < t < 2.0 else (0.0, 0.0, 0.0)

    r = e.run(walk_and_stop, pushes)
    assert r.upright
    recovered = max(t for t, phase in phases.items() if phase == "recover")
    moved = max(t for t, phase in phases.items() if phase != "stand")
    assert recovered > at and moved - recovered < 1.1, "two steps on the spot, and no more"
    assert moved < 9.0, "then it stands, and stays so"


def test_a_robot_without_two_feet_or_legs_is_refused(robot):
    config = RobotConfig(**{**vars(robot.config), "feet": robot.config.feet[:1]})
    with pytest.raises(ConfigError, match="two feet"):
        GaitController(robot.model, config, robot.joints, Gait())
    wrong = [robot.config.feet[0], type(robot.config.feet[0])("hand", "r_gripper")]
    with pytest.raises(ConfigError, match="one level"):
        GaitController(robot.model, RobotConfig(**{**vars(robot.config), "feet": wrong}), robot.joints, Gait())


def test_a_robot_without_arms_stands_as_well(tmp_path):
    text = load_robot().description.urdf
    import xml.etree.ElementTree as ET

    tree = ET.fromstring(text)
    gone = {"shoulder", "upper_arm", "forearm", "wrist", "gripper", "elbow"}
    for e in list(tree):
        if e.tag in ("link", "joint") and any(g in e.get("name") for g in gone):
            tree.remove(e)
    path = tmp_path / "armless.urdf"
    path.write_text(ET.tostring(tree, encoding="unicode"))
    config = tmp_path / "armless.yaml"
    config.write_text(
        "\n".join(
            line for line in (REPOSITORY / "config/robots/humanoid.yaml").read_text().split("\nsensors:")[0].splitlines()
            if not any(g in line for g in gone)
        )
    )  # fmt: skip
    armless = load_robot(str(path), str(config))
    c = GaitController(armless.model, armless.config, armless.joints, Gait())
    assert c._limbs.left is None and np.isfinite(c.step(state(armless, 0.0), LOADED).effort).all()


def test_a_gait_file_with_a_wrong_word_is_refused(tmp_path):
    path = tmp_path / "g.yaml"
    path.write_text("step_tme: 0.4\n")
    with pytest.raises(ConfigError, match="step_time"):
        load_gait(path)
    path.write_text("step_time: 0.4\ngains: {dcm: 2.0}\n")
    assert load_gait(path).gains.dcm == 2.0 and load_gait(path).step_time == 0.4
