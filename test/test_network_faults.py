"""The synchronizer's core when the network misbehaves: each fault ends bounded, said, and recovered within a second."""

import numpy as np
import pytest

from digital_twin.core.rotation import rot_z, yaw_of
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer
from digital_twin.core.synthetic_walk import WalkErrors, WalkPlan, synthetic_walk

S = 1_000_000_000
PLAN = WalkPlan(duration=10.0, stand=3.0)
BAD, GOOD = 5.0, 6.0  # faults last from one to the other [s]


@pytest.fixture(scope="module")
def walk(robot):
    return synthetic_walk(robot.model, robot.config, 3, PLAN, WalkErrors(slips=0.0))


def messages(walk):
    """(stamp, kind, payload) of the whole walk, in the order in which a robot sends them."""
    out = []
    for i, t in enumerate(walk.stamps.tolist()):
        out += [(t, f, np.array([0.0, 0.0, walk.loads[i, f]])) for f in (0, 1)]
        out.append((t, "imu", (walk.gyro[i], walk.accel[i])))
        out.append((t, "joints", (walk.encoders[i], walk.speeds[i])))
    return out


def during(m):
    return BAD * S <= m[0] < GOOD * S


def play(robot, stream, delay=lambda m: 0):
    """Feed messages in the order of their arrival; returns the synchronizer and its outputs by stamp."""
    sync = Synchronizer(robot.model, robot.config, SynchronizerConfig())
    outputs = {}
    arriving = sorted(((m[0] + delay(m), k, m) for k, m in enumerate(stream)), key=lambda x: x[:2])
    for arrival, _, (stamp, kind, data) in arriving:
        if kind == "imu":
            sync.heard("imu", stamp, arrival)
            sync.imu(stamp, *data)
        elif kind == "joints":
            sync.heard("joint_states", stamp, arrival)
            state = sync.joints(stamp, *data, None)
            if state is not None:
                outputs[stamp] = state
        else:
            sync.heard(("left", "right")[kind], stamp, arrival)
            sync.wrench(stamp, kind, data)
    return sync, outputs


def errors(walk, outputs, shift_ns=0):
    """Position [m] and tilt [rad] errors by time [s], laid on each other at the first output."""
    at = {int(t): i for i, t in enumerate(walk.stamps)}
    found = [(at[t - shift_ns], s.base) for t, s in outputs.items() if t - shift_ns in at]
    i0, b0 = found[0]
    turn = rot_z(yaw_of(walk.rotation[i0]) - yaw_of(b0.rotation))
    t = np.array([walk.stamps[i] / S for i, _ in found])
    dp = [turn @ (b.position - b0.position) - (walk.position[i] - walk.position[i0]) for i, b in found]
    tilt = [np.arccos(min(1.0, b.rotation[2] @ walk.rotation[i][2])) for i, b in found]
    return t, np.linalg.norm(dp, axis=1), np.array(tilt)


def assert_recovered(walk, outputs, drift=0.06):
    assert all(np.isfinite(s.base.position).all() and np.isfinite(s.q).all() for s in outputs.values())
    t, dp, tilt = errors(walk, outputs)
    assert t[-1] == pytest.approx(PLAN.duration) and dp.max() < 5 * drift
    after = t > GOOD + 1.0
    assert after.sum() > 100
    assert tilt[after].max() < np.radians(2.5)
    settled = dp[after] - dp[after][0]
    assert np.abs(settled).max() < drift, "it does not drift away any more"


def test_without_faults_it_follows(robot, walk):
    sync, outputs = play(robot, messages(walk))
    t, dp, tilt = errors(walk, outputs)
    assert dp.max() < 0.03 and tilt[t > 1.0].max() < np.radians(1.5)
    assert sync.status().level == 0 and not sync.events and sync.status().values["replayed"] == 0


def test_order_of_arrival_does_not_matter(robot, walk):
    """50 ms of jitter: what comes late is put in its place, so that in the end nothing is different."""
    rng = np.random.default_rng(0)
    stream = [m for m in messages(walk) if m[0] <= 6 * S]
    late = {id(m): int(rng.uniform(0, 50e6)) * (m[0] < 5.8 * S) for m in stream}
    straight, _ = play(robot, stream)
    shuffled, outputs = play(robot, stream, lambda m: late[id(m)])
    assert shuffled.status().values["replayed"] > 1000
    a, b = (s._base.state.ekf for s in (straight, shuffled))
    assert np.allclose(a.vectors, b.vectors, atol=1e-9) and np.allclose(a.rotation, b.rotation, atol=1e-9)
    assert np.allclose(a.covariance, b.covariance, atol=1e-9)
    assert np.array_equal(straight._filter.x, shuffled._filter.x)
    assert list(outputs) == sorted(outputs), "outputs never go back in time"


@pytest.mark.parametrize("share", [0.2])
def test_lost_messages(robot, walk, share):
    rng = np.random.default_rng(1)
    _, outputs = play(robot, [m for m in messages(walk) if not (during(m) and rng.random() < share)])
    assert_recovered(walk, outputs)


def test_loss_jitter_and_duplicates_together(robot, walk):
    rng = np.random.default_rng(2)
    stream = []
    for m in messages(walk):
        if during(m):
            stream += [m] * int(rng.choice([0, 1, 2], p=[0.2, 0.7, 0.1]))
        else:
            stream.append(m)
    jitter = [int(x) for x in rng.uniform(0, 50e6, len(stream))]
    order = iter(jitter)
    _, outputs = play(robot, stream, lambda m: next(order) * during(m))
    assert_recovered(walk, outputs)


def test_a_frozen_imu(robot, walk):
    kept = next(m[2] for m in messages(walk) if m[1] == "imu" and during(m))
    stream = [(t, k, kept if k == "imu" and BAD * S <= t < (BAD + 0.3) * S else d) for t, k, d in messages(walk)]
    _, outputs = play(robot, stream)
    assert_recovered(walk, outputs, drift=0.1)


def test_frozen_joints(robot, walk):
    kept = next(m[2] for m in messages(walk) if m[1] == "joints" and during(m))
    stream = [(t, k, kept if k == "joints" and BAD * S <= t < (BAD + 0.3) * S else d) for t, k, d in messages(walk)]
    _, outputs = play(robot, stream)
    assert_recovered(walk, outputs, drift=0.15)


def test_a_foot_sensor_stuck_at_400_newtons(robot, walk):
    stream = [(t, k, np.array([0, 0, 400.0]) if k == 0 and during((t,)) else d) for t, k, d in messages(walk)]
    sync, outputs = play(robot, stream)
    assert sync.status().values["feet_dropped"] >= 1
    assert_recovered(walk, outputs, drift=0.1)


def test_an_imu_that_saturates(robot, walk):
    def clip(data):
        return np.clip(data[0] * 400.0, -34.9, 34.9), np.clip(data[1] * 50.0, -157.0, 157.0)

    stream = [(t, k, clip(d) if k == "imu" and BAD * S <= t < (BAD + 0.1) * S else d) for t, k, d in messages(walk)]
    _, outputs = play(robot, stream)
    assert_recovered(walk, outputs, drift=0.15)


def test_bursts_of_nan(robot, walk):
    rng = np.random.default_rng(3)

    def spoil(m):
        t, k, d = m
        if not (during(m) and rng.random() < 0.3):
            return m
        if k == "imu":
            return t, k, (d[0] * np.nan, d[1])
        if k == "joints":
            return t, k, (np.where(rng.random(len(d[0])) < 0.3, np.nan, d[0]), d[1] * np.nan)
        return t, k, d * np.nan

    sync, outputs = play(robot, [spoil(m) for m in messages(walk)])
    assert sync.tally.rejected["imu/not finite"] > 10 and sync.tally.rejected["left/not finite"] > 10
    assert_recovered(walk, outputs)


@pytest.mark.parametrize("what", [("imu",), ("joints",), (0, 1), ("imu", "joints", 0, 1)])
def test_a_stream_is_gone_for_two_seconds(robot, walk, what):
    # While the robot stands, so that nothing happened that nobody could see.
    def gone(m):
        return m[1] in what and 0.8 * S <= m[0] < 2.8 * S

    sync, outputs = play(robot, [m for m in messages(walk) if not gone(m)])
    assert_recovered(walk, outputs)
    if len(what) > 1 and "joints" in what:
        assert len(sync.events) == 1 and sync.events[0].startswith("nothing was heard for 2.0")


@pytest.mark.parametrize("step", [-1, 1])
def test_a_clock_stepped_by_a_second(robot, walk, step):
    """All stamps are off by a second from 2 s on; the time between arrivals tells that the clock jumped."""
    stream = messages(walk)
    moved = [(t + step * S * (t >= 2 * S), k, d) for t, k, d in stream]
    at = {id(new): old[0] for new, old in zip(moved, stream, strict=True)}
    sync, outputs = play(robot, moved, lambda m: at[id(m)] - m[0])
    assert len(sync.events) == 1 and sync.events[0].startswith("the clock of ")
    assert float(sync.events[0].split("jumped by ")[1].split(" s:")[0]) == pytest.approx(step, abs=0.05)
    later = {t: s for t, s in outputs.items() if t >= (2.0 + step + 1.0) * S}
    last = max(later)
    assert last == round((PLAN.duration + step) * S)
    t, dp, tilt = errors(walk, {t: s for t, s in later.items() if t > (3.2 + step) * S}, step * S)
    assert dp.max() < 0.08 and tilt[t > 4.0].max() < np.radians(2.5)


def test_poses_that_make_no_sense_are_refused_and_others_still_count(robot, walk):
    sync, outputs = play(robot, [m for m in messages(walk) if m[0] <= 2 * S])
    last = outputs[max(outputs)]
    p, R = last.base.position, last.base.rotation
    sync.external_pose(last.stamp_ns, p * np.nan, R, np.eye(6) * 1e-4)
    sync.external_pose(last.stamp_ns, p, R, -np.eye(6))
    sync.external_pose(last.stamp_ns, p, R, np.full((6, 6), np.nan))
    sync.external_pose(last.stamp_ns, p, R, np.eye(6) * 1e-4)
    assert sync.tally.rejected["external_pose/not finite"] == 2 and sync.tally.rejected["external_pose/covariance"] == 1
    assert sync.status().sync_error == pytest.approx(0.0, abs=1e-9)
    position, *_ = sync.map_pose(last)
    assert np.allclose(position, p, atol=1e-9)


@pytest.mark.parametrize("steady", [True, False])
def test_drifting_clocks_and_late_joints_are_reported(robot, walk, steady):
    """The robot's clock runs 100 ppm fast and all is 3 ms late; joints are stamped 12 ms later than they were read."""
    if steady:
        walk = synthetic_walk(robot.model, robot.config, 3, PLAN, WalkErrors(slips=0.0, lean=0.002, tip=0.002))
    sync = Synchronizer(robot.model, robot.config, SynchronizerConfig())
    for t, kind, data in messages(walk):
        arrival = t + 3_000_000 - t // 10_000
        if kind == "imu":
            sync.heard("imu", t, arrival)
            sync.imu(t, *data)
        elif kind == "joints":
            sync.joints(t + 12_000_000, *data, None)
        else:
            sync.wrench(t, kind, data)
    for _ in range(4):
        values = sync.status().values
    assert values["imu/drift_ppm"] == pytest.approx(-100.0, abs=max(4 * values["imu/drift_spread_ppm"], 2.0))
    if steady:
        spread = values["joints_behind_imu_spread_ms"]
        assert spread < 3.0 and values["joints_behind_imu_ms"] == pytest.approx(12.0, abs=1.0 + 2.0 * spread)
    else:
        # Where feet rock more than the body turns, the gyro and the legs have too little in common to tell a lag.
        assert "joints_behind_imu_ms" not in values
