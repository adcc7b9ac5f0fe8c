"""The synthetic walk is what it says: its truth is consistent with itself and with what sensors would read."""

import dataclasses

import numpy as np
import pytest

from digital_twin.core.errors import TwinError
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import exp_so3, log_so3
from digital_twin.core.synthetic_walk import GRAVITY, WalkErrors, WalkPlan, synthetic_walk

PLAN = WalkPlan(duration=9.0, stand=1.5)
NOTHING = WalkErrors(**{f.name: 0.0 for f in dataclasses.fields(WalkErrors)})
RATE = 500


@pytest.fixture(scope="module")
def ideal(robot):
    """A robot whose sensors are perfect."""
    imu = dataclasses.replace(robot.config.imus[0], gyro_noise=0.0, accel_noise=0.0)
    joints = {**robot.config.joints, "*": {**robot.config.joints["*"], "encoder_noise": 0.0, "encoder_resolution": 0.0}}
    return dataclasses.replace(robot.config, imus=[imu], joints=joints)


@pytest.fixture(scope="module")
def walk(robot, ideal):
    return synthetic_walk(robot.model, ideal, 0, PLAN, NOTHING, RATE)


@pytest.fixture(scope="module")
def slipping(robot, ideal):
    return synthetic_walk(robot.model, ideal, 0, PLAN, dataclasses.replace(NOTHING, slips=120.0, slip=0.01), RATE)


def soles(robot, walk, every=5):
    """Place and attitude in the world of both soles, and how much of the weight each bears."""
    kinematics = robot.model.kinematics([f.frame for f in robot.config.feet])
    place, attitude = [], []
    for k in range(0, len(walk.stamps), every):
        kinematics.update(walk.q[k])
        place.append(walk.position[k] + kinematics.position @ walk.rotation[k].T)
        attitude.append(walk.rotation[k] @ kinematics.rotation)
    loads = walk.loads[::every]
    return np.array(place), np.array(attitude), loads / loads.sum(axis=1, keepdims=True)


def stances(share, foot):
    """Slices of the samples in which a foot bears more than a hundredth of the weight."""
    stands = np.r_[False, share[:, foot] > 0.01, False]
    edges = np.flatnonzero(np.diff(stands.astype(int)))
    return [slice(a, b) for a, b in edges.reshape(-1, 2)]


def test_a_foot_that_bears_weight_stays_where_it_stands(robot, walk):
    place, attitude, share = soles(robot, walk)
    for foot in (0, 1):
        found = stances(share, foot)
        assert len(found) >= 4
        for rows in found:
            assert np.ptp(place[rows, foot], axis=0).max() < 1e-9
            assert np.abs(attitude[rows, foot] - attitude[rows, foot][0]).max() < 1e-9
            assert place[rows, foot][:, 2] == pytest.approx(0.0, abs=1e-9)
            assert attitude[rows, foot][0][2, 2] == pytest.approx(1.0, abs=1e-12), "flat on the floor"


def test_it_walks_and_lifts_its_feet(robot, walk):
    place, _, _ = soles(robot, walk)
    assert walk.distance > 1.0
    assert np.linalg.norm(walk.position[-1] - walk.position[0]) == pytest.approx(walk.distance, rel=0.1)
    assert np.allclose(place[:, :, 2].max(axis=0), PLAN.step_height, atol=0.005)
    assert np.allclose(np.linalg.norm(place[-1] - place[0], axis=1), walk.distance, rtol=0.1), "the feet come along"
    at_rest = walk.stamps < 1.4e9
    assert np.ptp(walk.position[at_rest], axis=0).max() < 1e-12 and np.abs(walk.qd[at_rest]).max() < 1e-9


def test_the_loads_share_the_weight(robot, walk):
    assert np.allclose(walk.loads.sum(axis=1), robot.model.mass * GRAVITY)
    assert walk.loads.min() >= 0.0 and walk.loads[:, 0].min() == walk.loads[:, 1].min() == 0.0
    place, _, share = soles(robot, walk)
    assert (place[share > 0.0][:, 2] < 1e-9).all(), "no foot in the air bears anything"


def test_velocity_is_the_derivative_of_position(walk):
    dt = 1.0 / RATE
    v = (walk.position[2:] - walk.position[:-2]) / (2 * dt)
    body = np.einsum("nji,nj->ni", walk.rotation[1:-1], v)
    assert np.abs(body - walk.velocity[1:-1]).max() < 1e-3 and np.abs(walk.velocity).max() > 0.25


def test_joint_speeds_are_the_derivative_of_joint_angles(walk):
    assert np.allclose(walk.q[2:] - walk.q[:-2], 2.0 / RATE * walk.qd[1:-1], atol=1e-12)
    assert np.array_equal(walk.stamps, np.arange(len(walk.stamps)) * (1_000_000_000 // RATE))


def test_perfect_encoders_read_the_joints(walk):
    assert np.abs(walk.encoders - walk.q).max() < 1e-9
    assert np.std(walk.speeds - walk.qd) == pytest.approx(0.01, rel=0.02)


def sensor(robot, walk):
    kinematics = robot.model.kinematics([robot.config.imus[0].frame])
    kinematics.update(walk.q[0])
    return walk.rotation @ kinematics.rotation[0], walk.position + walk.rotation @ kinematics.position[0]


@pytest.fixture(scope="module")
def shaking(robot, ideal):
    return synthetic_walk(robot.model, ideal, 0, PLAN, dataclasses.replace(NOTHING, shake=1.0, shake_turn=0.05), RATE)


@pytest.mark.parametrize("kind", ["walk", "shaking"])
def test_gyro_and_accelerometer_integrate_back_to_the_true_pose(robot, kind, request):
    w = request.getfixturevalue(kind)
    rotation, place = sensor(robot, w)
    dt, start = 1.0 / RATE, int(1.2 * RATE)
    R, p, v = rotation[start].copy(), place[start].copy(), np.zeros(3)
    for k in range(start, start + 4 * RATE):
        gyro, accel = 0.5 * (w.gyro[k] + w.gyro[k + 1]), 0.5 * (w.accel[k] + w.accel[k + 1])
        a = R @ exp_so3(0.5 * dt * gyro) @ accel - [0.0, 0.0, GRAVITY]
        p, v, R = p + dt * v + 0.5 * dt * dt * a, v + dt * a, R @ exp_so3(dt * gyro)
    end = start + 4 * RATE
    assert np.linalg.norm(place[end] - place[start]) > 0.3
    assert np.linalg.norm(log_so3(R.T @ rotation[end])) < 1e-3
    assert np.linalg.norm(p - place[end]) < 0.02 and np.linalg.norm(v - (w.rotation[end] @ w.velocity[end])) < 0.05


def test_the_accelerometer_feels_its_own_place_and_not_the_bases(robot, walk):
    rotation, place = sensor(robot, walk)
    felt = np.einsum("nij,nj->ni", rotation, walk.accel)[1:-1] - [0.0, 0.0, GRAVITY]
    for p, agrees in ((place, True), (walk.position, False)):
        off = np.linalg.norm((p[2:] - 2.0 * p[1:-1] + p[:-2]) * RATE**2 - felt, axis=1)
        assert (np.percentile(off, 90) < 0.01) == agrees


def test_at_rest_the_imu_reads_gravity_upwards(robot, walk):
    rotation, _ = sensor(robot, walk)
    assert np.allclose(walk.accel[RATE], rotation[RATE].T @ [0.0, 0.0, GRAVITY], atol=1e-8)
    assert np.allclose(walk.gyro[RATE], 0.0, atol=1e-12)


def test_slips_move_feet_below_the_base(robot, walk, slipping):
    assert np.array_equal(walk.position, slipping.position) and np.array_equal(walk.rotation, slipping.rotation)
    assert np.array_equal(walk.accel, slipping.accel), "the IMU does not feel them"
    assert np.array_equal(walk.q[walk.stamps < 1.5e9], slipping.q[walk.stamps < 1.5e9])
    place, attitude, share = soles(robot, slipping)
    level, _, _ = soles(robot, walk)
    moved = [np.ptp((place - level)[rows, foot], axis=0).max() for foot in (0, 1) for rows in stances(share, foot)]
    # At 120 a minute of 1 cm some steps slip once or twice, others not at all.
    assert 0.005 < max(moved) < 0.04 and min(moved) < 1e-9
    assert np.abs(place - level)[:, :, 2].max() < 1e-9 and attitude[:, :, 2, 2].min() > 1.0 - 1e-12, "a slip shifts"


@pytest.mark.parametrize(
    ("what", "which"),
    [("slide", "xy"), ("twist", "c"), ("give", "xy"), ("give_up", "z"), ("lean", "a"), ("tip", "b")],
)
def test_a_restless_foot_moves_as_is_said_and_the_base_does_not(robot, ideal, walk, what, which):
    w = synthetic_walk(robot.model, ideal, 0, PLAN, dataclasses.replace(NOTHING, **{what: 0.004}), RATE)
    assert np.array_equal(w.position, walk.position) and np.array_equal(w.gyro, walk.gyro)
    place, attitude, share = soles(robot, w)
    level, straight, _ = soles(robot, walk)
    turned = np.array(
        [[log_so3(s.T @ a) for s, a in zip(*pair, strict=True)] for pair in zip(straight, attitude, strict=True)]
    )
    moves = dict(zip("xyzabc", np.concatenate([place - level, turned], axis=2).transpose(2, 0, 1), strict=True))
    assert all(np.abs(moves[c][walk.stamps[::5] < 1.4e9]).max() < 1e-9 for c in moves), "nothing at rest"
    for c, by in moves.items():
        size = np.std(by[share > 0.01])
        assert (size > 5e-4) if c in which else (size < 2e-5), (c, size)
    if what not in ("slide", "twist"):
        full = (share > 0.01) & ((walk.stamps[::5] > 4e9) & (walk.stamps[::5] < 5e9))[:, None]
        assert np.std(moves[which[0]][full]) == pytest.approx(0.004, rel=0.4), "as large as is said"


def test_what_a_foot_has_slid_is_gone_when_it_has_been_in_the_air(robot, ideal, walk):
    w = synthetic_walk(robot.model, ideal, 0, PLAN, dataclasses.replace(NOTHING, slide=0.02), RATE)
    place, _, share = soles(robot, w)
    level, _, _ = soles(robot, walk)
    for foot in (0, 1):
        for rows in stances(share, foot)[1:]:
            assert np.abs((place - level)[rows.start, foot]).max() < 1e-9


def test_the_body_shakes_over_feet_that_stand(robot, walk, shaking):
    w = shaking
    place, _, share = soles(robot, w)
    level, _, _ = soles(robot, walk)
    assert np.abs(place - level).max() < 1e-9
    walking = (w.stamps > 3.6e9) & (w.stamps < 5.4e9)
    assert np.std((w.accel - walk.accel)[walking], axis=0) == pytest.approx(1.0, rel=0.5)
    assert np.std((w.gyro - walk.gyro)[walking], axis=0) == pytest.approx(0.05, rel=0.5)
    assert np.array_equal(w.accel[w.stamps < 1.4e9], walk.accel[w.stamps < 1.4e9])
    assert 1e-5 < np.abs(w.position - walk.position).max() < 5e-3


def test_noise_and_biases_are_as_large_as_is_said(robot, walk):
    imu = dataclasses.replace(robot.config.imus[0], gyro_noise=1e-3, accel_noise=1e-2)
    noisy = dataclasses.replace(robot.config, imus=[imu])
    errors = dataclasses.replace(NOTHING, encoder_offset=0.02, force_noise=3.0)
    w = synthetic_walk(robot.model, noisy, 0, PLAN, errors, RATE)
    assert np.std(w.gyro - walk.gyro) == pytest.approx(1e-3 * np.sqrt(RATE), rel=0.05)
    assert np.std(w.accel - walk.accel) == pytest.approx(1e-2 * np.sqrt(RATE), rel=0.05)
    assert np.std(w.loads - walk.loads) == pytest.approx(3.0, rel=0.05)
    off = (w.encoders - w.q).mean(axis=0)
    assert np.std(off) == pytest.approx(0.02, rel=0.4)
    assert np.abs(w.encoders - w.q - off).max() < 6 * 5e-5 + 1e-4
    short, drift = WalkPlan(duration=4.0, stand=1.5), dataclasses.replace(NOTHING, gyro_bias=0.01)
    biased = [synthetic_walk(robot.model, robot.config, seed, short, drift, 100) for seed in range(8)]
    assert np.std([b.gyro[:100].mean(axis=0) for b in biased]) == pytest.approx(0.01, rel=0.4)


def test_the_same_seed_gives_the_same_walk_and_another_another(robot):
    a, b, c = (synthetic_walk(robot.model, robot.config, seed, PLAN, rate=200) for seed in (3, 3, 4))
    for field in dataclasses.fields(a):
        assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name
    assert not np.array_equal(a.gyro, c.gyro) and not np.array_equal(a.position, c.position)
    assert not np.array_equal(a.q, c.q)


def test_what_cannot_be_walked_is_refused(robot):
    with pytest.raises(TwinError, match="does not divide"):
        synthetic_walk(robot.model, robot.config, 0, PLAN, rate=300)
    with pytest.raises(TwinError, match="two feet"):
        synthetic_walk(robot.model, RobotConfig(feet=robot.config.feet[:1]), 0, PLAN)
    with pytest.raises(TwinError, match="smaller"):
        synthetic_walk(robot.model, robot.config, 0, WalkPlan(duration=6.0, stand=1.0, speed=1.5))
