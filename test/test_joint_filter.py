"""The joint filter against the textbook Kalman filter, in matrices and one joint at a time."""

import numpy as np
import pytest
from scipy.stats import chi2

from digital_twin.core.joint_filter import JointFilter, JointFilterConfig

S = 1_000_000_000
C = JointFilterConfig()


def singer(dt, config):
    """Transition and disturbance of an acceleration that fades, by summing many small steps."""
    n = 4000
    h = dt / n
    small = np.eye(3) + h * np.array([[0, 1, 0], [0, 0, 1], [0, 0, -1 / config.fading]])
    F, Q = np.eye(3), np.zeros((3, 3))
    for _ in range(n):
        Q = small @ Q @ small.T
        Q[2, 2] += 2 * config.acceleration**2 / config.fading * h
        F = small @ F
    return F, Q


def textbook(times, q, qd, r_q, config, models):
    """x' = F x + w, z = H x + v, in matrices."""
    r_v = config.velocity_noise**2
    x = np.array([q[0], 0.0 if qd is None else qd[0], 0.0])
    P = np.diag([r_q, r_v if qd is not None else 1.0, config.acceleration**2])
    out = []
    for k, t in enumerate(times):
        if k:
            dt = round(t - times[k - 1], 4)
            if dt not in models:
                models[dt] = singer(dt, config)
            F, Q = models[dt]
            x, P = F @ x, F @ P @ F.T + Q
        z, H, R = (np.array([q[k]]), np.eye(3)[:1], np.diag([r_q])) if qd is None else (
            np.array([q[k], qd[k]]), np.eye(3)[:2], np.diag([r_q, r_v]))  # fmt: skip
        K = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
        x, P = x + K @ (z - H @ x), (np.eye(3) - K @ H) @ P
        out.append((x.copy(), P.copy()))
    return out


def motion(n, times, rng, noise, speed=2.0):
    phase = np.arange(n)
    q = 0.5 * np.sin(speed * times[:, None] + phase)
    qd = 0.5 * speed * np.cos(speed * times[:, None] + phase)
    return q, qd, q + noise * rng.standard_normal(q.shape), qd + C.velocity_noise * rng.standard_normal(q.shape)


@pytest.mark.parametrize("speeds", [True, False])
@pytest.mark.parametrize("jitter", [0.0, 0.002])
def test_it_is_the_kalman_filter(speeds, jitter):
    rng, n, noise = np.random.default_rng(0), 3, 1e-3
    times = np.arange(300) * 0.005 + np.round(jitter * rng.random(300), 3)
    _, _, q, qd = motion(n, times, rng, noise)
    f = JointFilter(n, np.full(n, noise), np.full(n, 1e-9), C)
    got = []
    for k, t in enumerate(times):
        f.update(round(t * S), q[k], qd[k] if speeds else None)
        got.append((f.x.T.copy(), f.variance.copy()))
    models = {}
    for j in range(n):
        want = textbook(np.round(times * S) / S, q[:, j], qd[:, j] if speeds else None, noise**2, C, models)
        for k in (0, 1, 2, 50, 150, 299):
            assert np.allclose(got[k][0][j], want[k][0], rtol=0, atol=[1e-5, 3e-3, 0.3]), (j, k)
            assert np.allclose(got[k][1][j], np.diag(want[k][1]), rtol=0.02), (j, k)


def test_it_gives_speed_where_the_robot_reports_none():
    rng, n, noise = np.random.default_rng(1), 28, 5e-5
    times = np.arange(2000) * 0.005
    _, qd_true, q, _ = motion(n, times, rng, noise, speed=6.0)  # up to 18 rad/s², as in a brisk walk
    f = JointFilter(n, np.full(n, noise), np.full(n, 1e-4), C)
    errors = []
    for k, t in enumerate(times):
        f.update(round(t * S), np.round(q[k] / 1e-4) * 1e-4, None)
        errors.append(f.qd - qd_true[k])
    naive = np.diff(np.round(q / 1e-4) * 1e-4, axis=0) / 0.005 - qd_true[1:]
    assert np.std(errors[100:]) < 0.9 * np.std(naive), "a difference of readings is noisy and half a step late"


def test_its_variance_is_honest_for_its_own_model():
    """The squared error of a motion that the model describes, over many joints, is as large as the variance says."""
    rng, n, steps, dt = np.random.default_rng(2), 400, 100, 0.005
    F, Q = singer(dt, C)
    L = np.linalg.cholesky(Q)
    x = np.array([[0.0], [0.0], [C.acceleration]]) * rng.standard_normal((3, n))
    f = JointFilter(n, np.full(n, 1e-3), np.full(n, 1e-9), C)
    for k in range(steps):
        x = F @ x + L @ rng.standard_normal((3, n))
        f.update(
            k * 5_000_000 + 1, x[0] + 1e-3 * rng.standard_normal(n), x[1] + C.velocity_noise * rng.standard_normal(n)
        )
    low, high = chi2.ppf([1e-4, 1 - 1e-4], n) / n
    for row in range(3):
        z = (f.x[row] - x[row]) ** 2 / f.variance[:, row]
        assert low < z.mean() < high, row
    assert low < (f.whitened**2).mean() < high


def test_it_gives_accelerations():
    rng, n, noise = np.random.default_rng(5), 10, 5e-5
    times = np.arange(2000) * 0.005
    _, _, q, qd = motion(n, times, rng, noise, speed=6.0)
    true = -0.5 * 36.0 * np.sin(6.0 * times[:, None] + np.arange(n))
    f = JointFilter(n, np.full(n, noise), np.full(n, 1e-4), C)
    errors = []
    for k, t in enumerate(times):
        f.update(round(t * S), q[k], qd[k])
        errors.append(f.qdd - true[k])
    assert np.std(errors[100:]) < 0.3 * np.std(true)


def test_the_filter_can_be_set_back():
    rng, n = np.random.default_rng(6), 4
    times = np.arange(400) * 0.005
    _, _, q, qd = motion(n, times, rng, 1e-4)
    f = JointFilter(n, np.full(n, 1e-4), np.full(n, 1e-4), C)
    for k in range(200):
        f.update(round(times[k] * S), q[k], qd[k])
    kept = f.snapshot()
    for _ in range(2):
        f.restore(kept)
        for k in range(200, 400):
            f.update(round(times[k] * S), q[k], qd[k] if k % 3 else None)
        once, f_x = f.x.copy(), f.x
    assert np.array_equal(once, f_x) and f_x is not kept[0]


def test_it_foretells_by_its_model():
    f = JointFilter(1, np.full(1, 1e-4), np.full(1, 1e-9), C)
    for k in range(200):
        f.update(round(0.005 * k * S), np.array([0.005 * k]), np.array([1.0]))
    q, qd = f.ahead(0.1)
    assert q[0] == pytest.approx(f.q[0] + 0.1, abs=1e-3) and qd[0] == pytest.approx(1.0, abs=0.02)


def test_settled_gains_change_nothing():
    rng, n = np.random.default_rng(3), 5
    times = np.arange(500) * 0.005
    _, _, q, qd = motion(n, times, rng, 1e-4)
    quick, slow = (JointFilter(n, np.full(n, 1e-4), np.full(n, 1e-9), C) for _ in range(2))
    for k, t in enumerate(times):
        quick.update(round(t * S), q[k], qd[k])
        slow._steady = ()
        slow.update(round(t * S), q[k], qd[k])
        assert np.allclose(quick.q, slow.q, atol=1e-6) and np.allclose(quick.qd, slow.qd, atol=1e-3)
    assert quick._steady


def test_a_missing_joint_is_carried_on_and_then_held_and_marked():
    n = 2
    f = JointFilter(n, np.full(n, 1e-4), np.full(n, 1e-9), C)
    for k in range(200):
        t = 0.005 * k
        f.update(round(t * S), np.array([t, t]), np.array([1.0, 1.0]))
    sure = f.variance[1, 0]
    for k in range(200, 220):
        t = 0.005 * k
        f.update(round(t * S), np.array([t, np.nan]), np.array([1.0, np.nan]))
    assert f.q[1] == pytest.approx(t, abs=2e-3) and f.variance[1, 0] > 100 * sure
    assert not f.silent(round(t * S)).any()
    for k in range(220, 420):
        t = 0.005 * k
        f.update(round(t * S), np.array([t, np.nan]), np.array([1.0, np.nan]))
    assert list(f.silent(round(t * S))) == [False, True]
    # It was last seen at 0.995, and went on for half a second.
    assert f.qd[1] == 0.0 and f.q[1] == pytest.approx(1.495, abs=0.02)
    f.update(round((t + 0.005) * S), np.array([t, t]), np.array([1.0, 1.0]))
    assert not f.silent(round((t + 0.005) * S)).any() and f.q[1] == pytest.approx(t, abs=1e-2)


def test_joints_that_come_later_start_from_their_first_reading():
    f = JointFilter(2, np.full(2, 1e-4), np.full(2, 1e-9), C)
    f.update(0, np.array([1.0, np.nan]), None)
    assert list(f.known) == [True, False] and np.isnan(f.q[1])
    f.update(5_000_000, np.array([1.0, 7.0]), None)
    assert f.q[1] == 7.0


def test_a_long_gap_and_bad_speeds_leave_it_finite():
    f = JointFilter(2, np.full(2, 1e-4), np.full(2, 1e-9), C)
    f.update(0, np.ones(2), np.array([np.nan, 1.0]))
    f.update(3600 * S, np.ones(2) * 2, np.array([np.nan, np.nan]))
    f.update(3600 * S + 1, np.full(2, np.nan), None)
    assert np.isfinite(f.q).all() and np.isfinite(f.qd).all() and np.isfinite(f.variance).all()


def test_the_step_of_an_encoder_is_found_when_nobody_knows_it():
    rng, n, step = np.random.default_rng(4), 3, 0.0015
    times = np.arange(1500) * 0.005
    q_true, qd_true, _, qd = motion(n, times, rng, 0.0, speed=1.0)
    q = np.round(q_true / step) * step
    knowing = JointFilter(n, np.full(n, 5e-5), np.full(n, step), C)
    finding = JointFilter(n, np.full(n, 5e-5), np.zeros(n), C)
    for k, t in enumerate(times):
        for f in (knowing, finding):
            f.update(round(t * S), q[k], qd[k])
    assert np.allclose(finding._step, step, rtol=1e-6)
    assert np.allclose(finding.q, knowing.q, atol=1e-5) and np.allclose(finding.variance, knowing.variance, rtol=0.05)
