"""map→odom from external poses that are late, noisy and sometimes wrong."""

import numpy as np
import pytest

from digital_twin.core.map_alignment import MapAlignment, MapAlignmentConfig
from digital_twin.core.rotation import exp_so3, rot_z

MS = 1_000_000
YAW, SHIFT = 0.7, np.array([1.0, -2.0, 0.1])


def pose(t):
    """A base walking a circle in odom."""
    return np.array([np.cos(t), np.sin(t), 0.8]), rot_z(t) @ exp_so3(np.array([0.02 * np.sin(5 * t), 0.03, 0]))


def in_map(t, yaw=YAW, shift=SHIFT):
    p, R = pose(t)
    return shift + rot_z(yaw) @ p, rot_z(yaw) @ R


def run(alignment, seconds, delay=0.03, noise=0.0, seed=0, cov=1e-6, truth=in_map, start=0.0):
    rng = np.random.default_rng(seed)
    results, waiting = [], []
    for k in range(int(start * 200), int((start + seconds) * 200)):
        t = k * 0.005
        alignment.remember(k * 5 * MS, *pose(t))
        if k % 4 == 0:
            p, R = truth(t)
            p = p + noise * rng.standard_normal(3)
            R = R @ exp_so3(noise * rng.standard_normal(3))
            waiting.append((k * 5 * MS, p, R))
        while waiting and waiting[0][0] <= (t - delay) * 1e9:
            results.append(alignment.correct(*waiting.pop(0), np.eye(6) * max(cov, noise**2)))
    return results


def make(history=0.3):
    return MapAlignment(MapAlignmentConfig(), history)


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.15])
def test_late_poses_speak_of_their_own_time(delay):
    """At a metre a second a pose taken as of now instead of then would be off by 15 cm."""
    a = make()
    results = run(a, 2.0, delay)
    assert all(r.accepted for r in results) and max(r.error for r in results) < 1e-6
    assert a.yaw == pytest.approx(YAW) and np.allclose(a.translation, SHIFT)


def test_noise_is_averaged():
    a = make()
    run(a, 10.0, noise=0.01)
    assert abs(a.yaw - YAW) < 0.01 and np.linalg.norm(a.translation - SHIFT) < 0.01
    p, R = a.apply(*pose(10.0))
    assert np.allclose(p, in_map(10.0)[0], atol=0.01) and np.allclose(R, in_map(10.0)[1], atol=0.02)


def test_an_outlier_is_refused_and_its_distance_told():
    a = make()
    run(a, 2.0)
    before = a.translation.copy()
    p, R = in_map(1.99)
    r = a.correct(1990 * MS, p + np.array([0.5, 0, 0]), R, np.eye(6) * 1e-6)
    assert not r.accepted and r.reason == "outlier" and r.error == pytest.approx(0.5, abs=1e-3)
    assert np.array_equal(a.translation, before)


def test_a_robot_that_was_moved_is_out_of_step_until_reset():
    a = make()
    run(a, 2.0)
    moved = lambda t: in_map(t, shift=SHIFT + np.array([0.2, 0, 0]))  # noqa: E731
    results = run(a, 2.0, truth=moved, start=2.0)
    assert not any(r.accepted for r in results) and results[-1].error == pytest.approx(0.2, abs=0.01)
    a.reset()
    results = run(a, 1.0, truth=moved, start=4.0)
    assert all(r.accepted for r in results) and np.allclose(a.translation, SHIFT + np.array([0.2, 0, 0]))


def test_slow_drift_is_followed():
    a = make()
    run(a, 2.0)
    drifting = lambda t: in_map(t, shift=SHIFT + np.array([0.01 * (t - 2), 0, 0]))  # noqa: E731
    results = run(a, 10.0, truth=drifting, start=2.0, noise=0.002)
    assert sum(not r.accepted for r in results) <= 1 and np.allclose(
        a.translation, SHIFT + np.array([0.1, 0, 0]), atol=0.01
    )


@pytest.mark.parametrize("when", [-500, 10_000])
def test_a_pose_outside_the_history_is_refused(when):
    a = make()
    run(a, 1.0)
    r = a.correct(when * MS, *in_map(0.0), np.eye(6))
    assert not r.accepted and r.reason == "outside the history" and np.isnan(r.error)


def test_headings_near_the_back_do_not_wrap():
    a = make()
    run(a, 3.0, noise=0.01, truth=lambda t: in_map(t, yaw=np.pi))
    assert abs(abs(a.yaw) - np.pi) < 0.01


def test_a_covariance_of_zero_means_as_good_as_any_tracker():
    a = make()
    results = run(a, 1.0, cov=0.0, noise=0.0)
    assert all(r.accepted for r in results) and np.isfinite(a.translation).all()


def test_memory_is_bounded():
    a = make(0.2)
    for k in range(10_000):
        a.remember(k * MS, np.zeros(3), np.eye(3))
    assert len(a._odometry) <= 202
