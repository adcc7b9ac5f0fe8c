"""The base estimator on walks whose truth is known, with sensors that break."""

import dataclasses
import math

import numpy as np
import pytest

from digital_twin.core.base_estimator import BaseEstimator, BaseEstimatorConfig
from digital_twin.core.model import RobotModel
from digital_twin.core.rotation import exp_so3, log_so3, rot_z, yaw_of
from digital_twin.core.synthetic_walk import GRAVITY, WalkErrors, WalkPlan, synthetic_walk

NS = 1_000_000_000
RATE = 200
PLAN = WalkPlan(duration=12.0, stand=2.0)
UP = np.array([0.0, 0.0, GRAVITY])


@pytest.fixture(scope="module")
def walk(robot):
    return synthetic_walk(robot.model, robot.config, 1, PLAN)


def estimator(robot, model=None, config=None, **keys):
    variance = robot.joints.encoder_noise**2 + robot.joints.encoder_resolution**2 / 12
    return BaseEstimator(model or robot.model, config or robot.config, BaseEstimatorConfig(**keys), variance)


def feed(e, walk, k, imu=True, loads=None, at=None):
    """One sample of everything."""
    stamp = int(walk.stamps[k]) if at is None else at
    for foot, load in enumerate(walk.loads[k] if loads is None else loads):
        e.wrench(stamp, foot, float(load))
    if imu:
        e.imu(stamp, walk.gyro[k], walk.accel[k])
    return e.joints(stamp, walk.encoders[k], walk.speeds[k])


@dataclasses.dataclass
class Run:
    """What came out: errors against the truth after laying the first outputs on each other by heading."""

    e: BaseEstimator
    out: list
    position: np.ndarray
    tilt: np.ndarray
    turn: np.ndarray
    velocity: np.ndarray
    weights: list

    def all_finite(self):
        arrays = (getattr(b, f) for b in self.out for f in ("position", "rotation", "velocity", "angular_velocity",
                                                              "covariance", "twist_covariance"))  # fmt: skip
        return all(np.isfinite(a).all() for a in arrays)


def follow(robot, walk, start=0, silent=(), loads=None, **keys):
    """All of a walk from `start`; without an IMU in the samples `silent`."""
    e, out, weights = estimator(robot, **keys), [], []
    for k in range(start, len(walk.stamps)):
        out.append(feed(e, walk, k, k not in silent, None if loads is None else loads[k]))
        weights.append(min((c.weight for _, c in e.corrections), default=1.0))
    first, p, R = out[0], walk.position[start:], walk.rotation[start:]
    align = rot_z(yaw_of(R[0]) - yaw_of(first.rotation))
    position = [np.linalg.norm(align @ (b.position - first.position) - (x - p[0])) for b, x in zip(out, p, strict=True)]
    apart = np.array([log_so3(align @ b.rotation @ x.T) for b, x in zip(out, R, strict=True)])
    velocity = [np.linalg.norm(b.velocity - v) for b, v in zip(out, walk.velocity[start:], strict=True)]
    return Run(e, out, np.array(position), np.linalg.norm(apart[:, :2], axis=1), np.abs(apart[:, 2]),
               np.array(velocity), weights)  # fmt: skip


@pytest.fixture(scope="module")
def healthy(robot, walk):
    return follow(robot, walk)


def test_it_follows_a_walk(healthy, walk):
    assert walk.distance > 1.5 and healthy.all_finite()
    assert healthy.position.max() < 0.05
    assert healthy.tilt[RATE:].max() < 0.01 and healthy.turn.max() < 0.05
    assert np.sqrt(np.mean(healthy.velocity[RATE:] ** 2)) < 0.03
    assert healthy.e.dropped == 0 and healthy.e.doubted == []


def test_contacts_are_those_of_the_walk(robot, healthy, walk):
    share = walk.loads / (robot.model.mass * GRAVITY)
    stands = np.array([b.contacts for b in healthy.out])
    assert stands[share > 0.5].mean() > 0.95 and not stands[share < 0.2].any()


def test_it_says_how_far_off_it_may_be(healthy, walk):
    """Errors of position stay within what the covariance allows, and the covariance is no excuse for everything."""
    last = healthy.out[-1]
    spread = np.sqrt(np.linalg.eigvalsh(last.covariance[:3, :3])[-1])
    assert healthy.position[-1] < 4 * spread and spread < 0.1
    before = healthy.out[RATE].covariance
    assert last.covariance[0, 0] > before[0, 0] and last.covariance[5, 5] > before[5, 5], "odom drifts"
    tilts = np.array([b.covariance[3, 3] for b in healthy.out[RATE:]])
    assert tilts.max() < 0.01**2, "gravity is seen"


def test_at_rest_it_is_sure_in_less_than_a_second(healthy):
    sure = [b.initialised for b in healthy.out]
    assert not sure[0] and all(sure[RATE:])


def test_at_rest_it_knows_soon_that_it_stands_still(healthy):
    speeds = np.array([math.sqrt(np.diag(b.twist_covariance)[:3].max()) for b in healthy.out])
    assert speeds[0] > 0.1 and speeds[int(0.4 * RATE) :].max() < 0.1
    assert speeds[int(0.4 * RATE)] < 0.004, "not only when its legs have been calm for a second"


def test_legs_that_have_not_moved_since_the_start_do_not_give_and_do_as_soon_as_they_move(robot, walk):
    e, noise = estimator(robot), []
    for k in range(3 * RATE):
        feed(e, walk, k)
        noise.append(e.leg_noise)
    calmest = e.config.calmest
    still = noise[RATE // 2 : round(1.9 * RATE)]
    assert max(still) < 0.1 * calmest and e.state.rest is None
    assert min(noise[round(2.5 * RATE) :]) >= calmest


def test_a_robot_that_rests_knows_how_still_it_stands(robot):
    plan, nees = WalkPlan(duration=4.0, stand=2.0), []
    for seed in range(8):
        walk, e = synthetic_walk(robot.model, robot.config, seed, plan), estimator(robot)
        out = [feed(e, walk, k) for k in range(round(1.9 * RATE))][round(0.6 * RATE) :]
        nees += [b.velocity**2 / np.diag(b.twist_covariance)[:3] for b in out]
    # It stands still: what it says of its velocity is its error.
    assert np.all(np.mean(nees, axis=0) > 0.7) and np.all(np.mean(nees, axis=0) < 1.4)


def test_soles_lean_across_more_than_along_whichever_way_they_face(robot, walk):
    for heading in (0.0, 0.5 * math.pi, 0.3):
        e = estimator(robot, roll=0.01, pitch=0.001, twist=1e-6, slip=1e-6, sink=1e-6)
        e.reset(np.zeros(3), heading)
        for k in range(RATE // 10):
            feed(e, walk, k)
        gained = e._legs.wander(e.state, 1.0)[1, 0, :2]
        c2, s2 = math.cos(heading) ** 2, math.sin(heading) ** 2
        assert gained == pytest.approx([1e-4 * c2 + 1e-6 * s2, 1e-4 * s2 + 1e-6 * c2], rel=0.02, abs=2e-7)


@pytest.mark.parametrize("moves", [False, True])
def test_an_imu_that_always_says_the_same_is_believed_only_by_a_robot_that_rests(robot, walk, moves):
    """A simulator without noise, or a sensor that froze: the legs, which move, tell which."""
    e = estimator(robot)
    knees = [robot.model.joint_index[name] for name in ("l_knee", "r_knee")]
    for k in range(3 * RATE):
        q = walk.q[0].copy()
        q[knees] += 0.2 * math.sin(3.0 * k / RATE) * moves
        for foot in (0, 1):
            e.wrench(k * NS // RATE, foot, 250.0)
        e.imu(k * NS // RATE, np.zeros(3), UP)
        base = e.joints(k * NS // RATE, q, np.zeros(robot.model.n))
    assert base.initialised is not moves and (base.twist_covariance[0, 0] < 0.01**2) is not moves


@pytest.mark.parametrize("what", ["joints", "gyro", "accel"])
def test_a_robot_that_moves_in_its_first_moments_is_not_taken_to_rest(robot, walk, what):
    e = estimator(robot)
    for k in range(RATE // 2):
        stamp, moving = int(walk.stamps[k]), min(k, 20) / 20.0
        for foot, load in enumerate(walk.loads[k]):
            e.wrench(stamp, foot, float(load))
        turn = np.array([0.0, 0.0, 0.3 * moving * (what == "gyro")])
        push = np.array([3.0 * moving * (what == "accel"), 0.0, 0.0])
        e.imu(stamp, walk.gyro[k] + turn, walk.accel[k] + push)
        e.joints(stamp, walk.encoders[k] + 0.02 * moving * (what == "joints"), walk.speeds[k])
        if k == 25:
            assert e.state.rest is None, "settled before the time that a robot at rest takes"
            assert e.state.trust.noise > 0.01


def test_noise_of_the_imu_is_not_taken_for_shaking(robot, walk):
    """Shaking that the sampling does not resolve adds to the noise; noise itself hardly does."""
    rng, noise, share = np.random.default_rng(3), robot.config.imus[0].accel_noise * math.sqrt(RATE), {}
    for shaking in (0.0, 3.0):
        e, gains = estimator(robot), []
        e.joints(0, walk.encoders[0], walk.speeds[0])
        for k in range(1000):
            before = e.state.inertial if e.state else np.zeros(6)
            e.imu(k * NS // RATE, np.zeros(3), UP + (noise + shaking) * rng.standard_normal(3))
            if k > 1 and e.state.unspread > 0.0:
                gains.append((e.state.inertial - before)[3:] * (RATE / noise) ** 2)
        share[shaking] = np.mean(gains)
    assert 1.0 <= share[0.0] < 1.13 and share[3.0] > 100.0


def test_started_in_the_middle_of_a_walk_it_is_unsure_and_then_finds_its_feet(robot, walk):
    run = follow(robot, walk, start=6 * RATE)
    sure = np.array([b.initialised for b in run.out])
    assert not sure[:10].any() and sure[3 * RATE :].all()
    assert run.velocity[0] > 0.2, "it took itself to be at rest"
    assert run.velocity[2 * RATE :].max() < 0.1 and run.tilt[2 * RATE :].max() < 0.03


def test_it_learns_the_biases(healthy, walk, robot):
    at_rest = slice(0, int(1.5 * RATE))
    e = healthy.e
    assert np.allclose(e.gyro_bias, walk.gyro[at_rest].mean(axis=0), atol=1.5e-3)
    rotation = walk.rotation[0]  # of the base; the IMU of this robot is fixed to it without a turn
    bias = walk.accel[at_rest].mean(axis=0) - rotation.T @ UP
    assert np.abs(bias).max() > 0.03 and np.abs(e.accel_bias - bias)[2] < 0.03


# What breaks


def test_a_foot_whose_sensor_sticks_while_it_swings_is_found_out(robot, walk, healthy):
    loads = walk.loads.copy()
    loads[3 * RATE :, 1] = 400.0
    run = follow(robot, walk, loads=loads)
    assert run.e.dropped >= 3 and run.all_finite()
    assert run.position.max() < healthy.position.max() + 0.15
    assert run.tilt[RATE:].max() < 0.05


def test_a_stuck_foot_is_doubted_by_name_until_it_rests(robot, walk):
    loads = walk.loads.copy()
    loads[3 * RATE :, 1] = 400.0
    e, doubted = estimator(robot), []
    for k in range(len(walk.stamps)):
        feed(e, walk, k, loads=loads[k])
        doubted.append(e.doubted)
    assert ["right"] in doubted[3 * RATE :] and not any(doubted[: 3 * RATE])
    assert all(d in ([], ["right"]) for d in doubted) and doubted[-1] == []


def test_a_saturated_imu_does_no_lasting_harm(robot, walk, healthy):
    imu, rows = robot.config.imus[0], slice(5 * RATE, 5 * RATE + 40)
    gyro, accel = walk.gyro.copy(), walk.accel.copy()
    signs = np.where(np.arange(40) % 8 < 4, 1.0, -1.0)[:, None]
    gyro[rows], accel[rows] = signs * imu.gyro_range, -signs * imu.accel_range
    run = follow(robot, dataclasses.replace(walk, gyro=gyro, accel=accel))
    assert run.all_finite()
    assert run.position.max() < healthy.position.max() + 0.1 and run.tilt[RATE:].max() < 0.1
    assert run.tilt[8 * RATE :].max() < 0.02 and np.median(run.velocity[8 * RATE :]) < 0.03


def test_two_seconds_without_an_imu_are_bridged_by_the_legs(robot, walk, healthy):
    gap = range(5 * RATE, 7 * RATE)
    run = follow(robot, walk, silent=gap)
    assert run.all_finite()
    assert run.position.max() < healthy.position.max() + 0.15 and run.tilt[RATE:].max() < 0.1
    assert run.tilt[9 * RATE :].max() < 0.02 and run.velocity[9 * RATE :].max() < 0.1, "it recovers"
    before, within = healthy.out[gap[-1]], run.out[gap[-1]]
    assert within.covariance[3, 3] > 1.5 * before.covariance[3, 3], "and says that it knows less"
    assert within.twist_covariance[3, 3] > 100 * before.twist_covariance[3, 3]
    assert run.e.imu_stamp == walk.stamps[-1]


def test_slips_are_noticed_and_counted_for_less(robot):
    quiet = dataclasses.replace(
        WalkErrors(), slide=0.0, twist=0.0, give=0.0, give_up=0.0, lean=0.0, tip=0.0, slips=0.0
    )  # fmt: skip
    straight = synthetic_walk(robot.model, robot.config, 5, PLAN, quiet)
    # The seed's random numbers are drawn alike, so that only the slips differ.
    slipping = synthetic_walk(robot.model, robot.config, 5, PLAN, dataclasses.replace(quiet, slips=60.0, slip=0.05))
    kinematics = robot.model.kinematics([f.frame for f in robot.config.feet])
    moved = np.zeros(len(straight.stamps))
    for k, (with_slips, without) in enumerate(zip(slipping.q, straight.q, strict=True)):
        foot = int(np.argmax(straight.loads[k]))
        kinematics.update(without)
        at = kinematics.position[foot].copy()
        kinematics.update(with_slips)
        moved[k] = np.linalg.norm(kinematics.position[foot] - at)
    quick = np.diff(moved) > 0.5 / RATE  # [m/s] of the foot that bears the robot
    slips = np.flatnonzero(quick[1:] & ~quick[:-1])
    slips = slips[np.diff(slips, prepend=-RATE) > 0.2 * RATE]  # right after another the legs count for less already
    assert len(slips) >= 2
    run, calm = follow(robot, slipping), follow(robot, straight)
    for k in slips:
        assert min(run.weights[k - 4 : k + 20]) < 0.9, k / RATE
    assert np.mean(np.array(calm.weights) < 1.0) < 0.01
    assert run.position.max() < 0.06 * len(slips)


def test_without_feet_on_the_ground_the_covariance_grows_and_nothing_breaks(robot, walk):
    loads = np.where(np.arange(len(walk.stamps))[:, None] < 3 * RATE, walk.loads, 0.0)
    run = follow(robot, walk, loads=loads)
    assert run.all_finite()
    after = run.out[3 * RATE + 10 :]
    assert not any(any(b.contacts) for b in after)
    size = np.array([np.trace(b.covariance[:3, :3]) for b in after])
    assert (np.diff(size[::4]) > 0.0).all() and size[-1] > 100 * size[0]
    assert run.position.max() < 20.0 and not run.out[-1].initialised


def test_silent_force_sensors_leave_it_to_kinematics(robot, walk):
    e, out = estimator(robot), []
    for k in range(len(walk.stamps)):
        e.imu(int(walk.stamps[k]), walk.gyro[k], walk.accel[k])
        out.append(e.joints(int(walk.stamps[k]), walk.encoders[k], walk.speeds[k]))
    assert np.linalg.norm(out[-1].position[:2] - out[0].position[:2]) == pytest.approx(
        np.linalg.norm(walk.position[-1, :2] - walk.position[0, :2]), abs=0.15
    )


@pytest.mark.parametrize("rate", [100, 1000])
def test_a_foot_that_came_to_rest_is_believed_after_the_same_time_at_any_rate(robot, walk, rate):
    """50 ms, however many messages come in between."""
    e = estimator(robot)
    for k in range(RATE):
        feed(e, walk, k)
    start = last = int(walk.stamps[RATE - 1])
    state = e.state
    trust = state.trust._replace(distrusted=(False, True), bad=(0.0, 0.05))
    e.state = state._replace(ekf=e._ekf.lift(state.ekf, 1), trust=trust)
    while e.doubted:
        last += NS // rate
        feed(e, walk, RATE, at=last)
        assert last < start + NS
    assert (last - start) / NS == pytest.approx(0.05, abs=0.011)


# Beginning, ending, turning back


def test_a_reset_keeps_the_pose(robot, walk):
    e = estimator(robot)
    for k in range(5 * RATE):
        before = feed(e, walk, k)
    e.reset()
    after = feed(e, walk, 5 * RATE - 1, at=int(walk.stamps[5 * RATE]))
    assert np.allclose(after.position, before.position, atol=1e-3)
    assert yaw_of(after.rotation) == pytest.approx(yaw_of(before.rotation), abs=1e-3)
    assert before.initialised and not after.initialised
    assert np.linalg.norm(before.position[:2]) > 0.3


def test_a_reset_to_a_pose_puts_the_base_there(robot, walk):
    e = estimator(robot)
    feed(e, walk, 0)
    e.reset(np.array([3.0, -4.0, 0.7]), 2.5)
    after = feed(e, walk, 1)
    assert np.allclose(after.position, [3.0, -4.0, 0.7], atol=1e-3)
    assert yaw_of(after.rotation) == pytest.approx(2.5, abs=1e-3)
    for k in range(2, RATE):
        after = feed(e, walk, k)
    assert np.allclose(after.position, [3.0, -4.0, 0.7], atol=0.02) and after.initialised


def test_after_a_reset_it_waits_for_the_imu_as_at_the_beginning(robot, walk):
    e = estimator(robot)
    stamp, q, qd = int(walk.stamps[0]), walk.encoders[0], walk.speeds[0]
    assert e.joints(stamp, q, qd) is None
    for k in range(1, RATE):
        feed(e, walk, k)
    e.reset()
    assert e.joints(stamp + NS, q, qd) is None
    e.imu(stamp + NS + 1, walk.gyro[0], exp_so3([0.2, 0.0, 0.0]).T @ UP)
    after = e.joints(stamp + NS + 2, q, qd)
    assert np.allclose(after.rotation[2], exp_so3([0.2, 0.0, 0.0])[2], atol=1e-2), "levelled by gravity"


@pytest.mark.parametrize("has_one", [True, False])
def test_without_an_imu_the_legs_alone_carry_it(robot, walk, has_one):
    """One that is configured and silent is waited for; where there is none, it starts at once."""
    config = robot.config if has_one else dataclasses.replace(robot.config, imus=[])
    e = estimator(robot, config=config)
    out = [feed(e, walk, k, imu=False) for k in range(len(walk.stamps))]
    start = next(k for k, b in enumerate(out) if b is not None)
    assert (0.3 * RATE <= start <= 0.35 * RATE) if has_one else start == 0
    went = out[-1].position - out[start].position
    assert np.linalg.norm(went[:2]) == pytest.approx(np.linalg.norm(walk.position[-1] - walk.position[0]), abs=0.2)
    assert abs(went[2]) < 0.1 and np.isfinite([b.covariance for b in out[start:]]).all()


def test_it_starts_level_with_the_lowest_sole_on_the_floor(robot, walk):
    e = estimator(robot)
    first = feed(e, walk, 0)
    kinematics = robot.model.kinematics([f.frame for f in robot.config.feet])
    kinematics.update(walk.encoders[0])
    soles = first.position + kinematics.position @ first.rotation.T
    assert soles[:, 2].min() == pytest.approx(0.0, abs=1e-9)
    assert np.allclose(first.position[:2], 0.0) and yaw_of(first.rotation) == pytest.approx(0.0, abs=1e-9)
    middle, yaw = e.footprint(first)
    assert np.allclose(middle, [*soles[:, :2].mean(axis=0), soles[:, 2].min()]) and yaw == yaw_of(first.rotation)


def test_free_fall_is_no_direction_to_start_from(robot, walk):
    e = estimator(robot)
    for k in range(5):
        e.imu(k, np.zeros(3), np.full(3, 0.01))
        assert e.joints(k, walk.encoders[0], walk.speeds[0]) is None
    assert feed(e, walk, 5) is not None


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


@pytest.mark.parametrize("start", [0, pytest.param(1), 700, pytest.param(1201)])
def test_after_turning_back_it_goes_on_bit_for_bit(robot, walk, start):
    e = estimator(robot)
    for k in range(start):
        feed(e, walk, k)
    snapshot = e.snapshot()
    first = [feed(e, walk, k) for k in range(start, start + 100)]
    e.restore(snapshot)
    again = [feed(e, walk, k) for k in range(start, start + 100)]
    e.restore(snapshot)
    again += [feed(e, walk, k) for k in range(start, start + 100)]
    assert all(same(a, b) for a, b in zip(first * 2, again, strict=True) if a is not None)


def test_after_turning_back_a_velocity_meets_the_legs_of_its_own_time(robot, walk):
    """The base's place against the IMU depends on the joints when the base is not the IMU's link."""
    model = RobotModel(robot.description, "l_gripper")
    e = estimator(robot, model)
    for k in range(RATE):
        feed(e, walk, k)
    snapshot, states = e.snapshot(), []
    for _ in range(2):
        e.body_velocity(int(walk.stamps[RATE - 1]), np.full(3, 0.02), 1e-3 * np.eye(3))
        states.append(e.state.ekf)
        moved = walk.encoders[RATE].copy()
        moved[model.joint_index["l_elbow"]] -= 1.0
        e.joints(int(walk.stamps[RATE]), moved, walk.speeds[RATE])
        e.restore(snapshot)
    assert np.array_equal(states[0].vectors, states[1].vectors)


def test_between_two_readings_the_imu_went_along_a_straight_line(robot, walk):
    e = estimator(robot)
    e.joints(0, walk.encoders[0], walk.speeds[0])
    e.imu(0, np.zeros(3), UP)
    before = e.state.ekf
    e.imu(NS // 100, np.array([0.0, 0.0, 1.0]), np.array([4.0, 0.0, GRAVITY]))
    after = e.state.ekf
    assert np.allclose(log_so3(before.rotation.T @ after.rotation), [0.0, 0.0, 0.005], atol=1e-9)
    assert np.allclose(before.rotation.T @ (after.velocity - before.velocity), [0.02, 0.0, 0.0], atol=1e-4)


# Other inputs and outputs


def test_ahead_is_where_it_will_be_and_changes_nothing(robot, walk):
    e = estimator(robot)
    k = next(i for i in range(6 * RATE, 7 * RATE) if np.linalg.norm(walk.velocity[i]) > 0.25)
    for i in range(k + 1):
        now = feed(e, walk, i)
    state, later = e.state, int(walk.stamps[k + 10])
    ahead = e.ahead(later, walk.speeds[k])
    assert e.state is state and ahead.stamp_ns == later
    went = walk.position[k + 10] - walk.position[k]
    assert np.linalg.norm(went) > 0.01
    assert np.linalg.norm(ahead.position - now.position - went) < 0.01
    assert np.trace(ahead.covariance) > np.trace(now.covariance)
    long = e.ahead(later + NS // 2, walk.speeds[k])
    assert np.trace(long.covariance) > 10 * np.trace(ahead.covariance)


def test_the_robots_own_odometry_helps_where_feet_do_not(robot, walk):
    e = estimator(robot)
    for k in range(len(walk.stamps) // 2):
        b = feed(e, walk, k, loads=(0.0, 0.0))
        e.body_velocity(int(walk.stamps[k]), walk.velocity[k], 1e-4 * np.eye(3))
    went = walk.position[k, :2] - walk.position[0, :2]
    assert np.linalg.norm(b.position[:2] - went) < 0.1 and np.linalg.norm(went) > 0.5
    assert np.allclose(b.velocity, walk.velocity[k], atol=0.03)
    before = e.state.ekf
    result = e.body_velocity(int(walk.stamps[k]), walk.velocity[k] + 5.0, 1e-4 * np.eye(3))
    assert result.weight == 0.0 and e.state.ekf is before, "but not when it is absurd"


def test_a_base_that_joints_move_is_carried_along(robot, walk):
    """The torso, while the waist turns: its pose and speed are those of the root link's, moved on."""
    model, i = RobotModel(robot.description, "torso"), robot.model.joint_index["waist_yaw"]
    t = walk.stamps / NS
    encoders, speeds = walk.encoders.copy(), walk.speeds.copy()
    encoders[:, i] = 0.5 * np.sin(3.0 * t)
    speeds[:, i] = 1.5 * np.cos(3.0 * t)
    moved = dataclasses.replace(walk, encoders=encoders, speeds=speeds)
    by_root, by_torso = estimator(robot), estimator(robot, model)
    kinematics = robot.model.kinematics(["torso"])
    for k in range(6 * RATE):
        root, torso = feed(by_root, moved, k), feed(by_torso, moved, k)
        if k == 0:
            align = root.rotation
            kinematics.update(encoders[0])
            start = torso.position, torso.rotation, root.position + root.rotation @ kinematics.position[0]
            turn = (align @ kinematics.rotation[0]) @ start[1].T
    kinematics.update(encoders[k])
    position, rotation = root.position + root.rotation @ kinematics.position[0], root.rotation @ kinematics.rotation[0]
    assert np.allclose(turn @ (torso.position - start[0]), position - start[2], atol=1e-6)
    assert np.allclose(turn @ torso.rotation, rotation, atol=1e-6)
    jp, jr = kinematics.jacobian(0)
    angular = rotation.T @ root.rotation @ (root.angular_velocity + jr @ speeds[k])
    linear = root.velocity + np.cross(root.angular_velocity, kinematics.position[0]) + jp @ speeds[k]
    assert np.allclose(torso.angular_velocity, angular, atol=1e-6) and abs(angular[2]) > 0.2
    assert np.allclose(torso.velocity, rotation.T @ root.rotation @ linear, atol=1e-6)


def test_the_acceleration_at_rest_is_none(robot, walk):
    e = estimator(robot)
    assert np.array_equal(e.acceleration(), np.zeros(3))
    for k in range(RATE):
        feed(e, walk, k)
    assert np.linalg.norm(e.acceleration()) < 0.2
    assert np.allclose(e.loads(), walk.loads[RATE - 1])


def test_legs_and_gyro_agree_on_how_it_turns(robot):
    walk = synthetic_walk(robot.model, robot.config, 1, PLAN, WalkErrors(lean=0.0, tip=0.0))
    e, gyro, leg = estimator(robot), [], []
    for k in range(6 * RATE):
        feed(e, walk, k)
        if e.turn is not None and k > 3 * RATE:
            gyro.append(e.turn[0])
            leg.append(e.turn[-2])
    # Divided by 10 ms, an encoder's step is as large as a walk's turning; over many they agree.
    assert len(gyro) > RATE and np.corrcoef(np.ravel(gyro), np.ravel(leg))[0, 1] > 0.7
