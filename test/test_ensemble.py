"""Ensembles: the nominal forecast in the middle, wider with every uncertainty, the same bytes every time."""

import numpy as np
import pytest
from test_forecaster import ROBOT, STAND, N, base_state, holding

from digital_twin.core.ensemble import Ensemble, turned
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.prediction import deviations
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig
from digital_twin.core.rotation import exp_so3

NONE = dict.fromkeys(("mass", "com", "strength", "friction", "ground_friction"), 0.0)


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster(ROBOT.model, ROBOT.config, ROBOT.joints, ForecastConfig(horizon=0.4))


def uncertain(tilt=0.0, speed=0.0, turning=0.0):
    b = base_state()
    b.covariance[3:5, 3:5] = tilt**2 * np.eye(2)
    b.twist_covariance[:] = np.diag([speed**2] * 3 + [turning**2] * 3)
    return b


def spread(forecaster, base, **config):
    return Ensemble(forecaster, EnsembleConfig(**(NONE | config))).forecast(0, STAND, np.zeros(N), base, holding())


def test_without_uncertainty_all_members_are_the_forecast(forecaster):
    s = spread(forecaster, uncertain(), timestep=0.002)
    f = forecaster.forecast(0, STAND, np.zeros(N), base_state(), holding())
    assert np.allclose(s.times, f.times)
    for member in range(16):
        assert np.allclose(s.motion.q[member], f.motion.q, atol=1e-9)
        assert np.allclose(s.motion.position[member], f.motion.position, atol=1e-9)
    assert max(d.max() for d in s.deviation()) < 1e-9


@pytest.mark.parametrize("what", ["mass", "com", "strength", "friction"])
def test_each_uncertainty_of_the_model_spreads(forecaster, what):
    size = {"mass": 0.05, "com": 0.02, "strength": 0.05, "friction": 0.5}[what]
    small, large = (spread(forecaster, uncertain(), **{what: share * size}) for share in (0.5, 1.0))
    a, b = (max(float(s.motion.q[:, -1].std(axis=0).max()), 1e-12) for s in (small, large))
    assert b > 1e-6 and b / a == pytest.approx(2.0, rel=0.35)


def test_an_uncertain_speed_spreads_by_speed_times_time(forecaster):
    s = spread(forecaster, uncertain(speed=0.1), timestep=0.002)
    _, position, _ = s.deviation()
    assert position[0] == pytest.approx(0.1 * s.times[0], rel=0.5)  # until the legs take hold of it
    assert np.all(position[:, 2] < 0.02)


def test_the_points_have_the_mean_and_variance_that_they_stand_for(forecaster):
    points = Ensemble(forecaster, EnsembleConfig())._points
    assert np.allclose(points.mean(axis=0), 0, atol=1e-9)
    assert np.allclose(points.T @ points / len(points), np.eye(points.shape[1]), atol=1e-9)
    few = Ensemble(forecaster, EnsembleConfig(size=8))._points
    assert np.allclose(few.mean(axis=0), 0, atol=1e-9) and np.allclose(few.std(axis=0), 1)


def test_the_same_seed_gives_the_same_bytes(forecaster):
    one, two, other = (spread(forecaster, uncertain(0.01, 0.02, 0.02), com=0.01, seed=k) for k in (1, 1, 2))
    assert one.motion.q.tobytes() == two.motion.q.tobytes() != other.motion.q.tobytes()


def test_threads_change_nothing_but_the_time(forecaster):
    one, two = (spread(forecaster, uncertain(0.01, 0.02, 0.02), com=0.01, threads=k) for k in (1, 3))
    assert one.motion.position.tobytes() == two.motion.position.tobytes()


def test_members_do_not_share_what_is_varied(forecaster):
    e = Ensemble(forecaster, EnsembleConfig())
    masses = [m.body_mass.sum() for m in e.members]
    assert np.std(masses) / np.mean(masses) == pytest.approx(0.02, rel=0.1)
    assert e.model.mj.body_mass.sum() == pytest.approx(ROBOT.model.mass)
    assert forecaster.models["contact"].mj.body_mass.sum() == pytest.approx(ROBOT.model.mass)


def test_mean_quantiles_and_covariance_are_those_of_the_members(forecaster):
    s = spread(forecaster, uncertain(0.01, 0.05, 0.05), com=0.01)
    numbers = s.numbers()
    assert numbers.shape == (16, len(s.times), N + 6)
    assert np.allclose(s.mean()[-1, :N], s.motion.q[:, -1].mean(axis=0))
    assert np.allclose(s.covariance()[-1], np.cov(numbers[:, -1].T, bias=True))
    assert np.allclose(np.sqrt(np.diag(s.covariance()[-1])), np.concatenate([d[-1] for d in s.deviation()]))
    low, middle, high = s.quantiles(np.array([0.0, 0.5, 1.0]))
    assert np.allclose(low, numbers.min(axis=0)) and np.allclose(high, numbers.max(axis=0))
    assert (low <= middle).all() and (middle <= high).all()


def test_turned_are_rotation_vectors_for_small_angles():
    angles = np.array([[[0.0, 0, 0]], [[0.01, -0.02, 0.03]]])
    R = np.array([[exp_so3(a) for a in row] for row in angles])
    assert turned(R)[1, 0] == pytest.approx(angles[1, 0], abs=1e-5)


def test_deviations_between_points_lie_on_straight_lines(forecaster):
    s = spread(forecaster, uncertain(speed=0.1))
    each = np.concatenate(s.deviation(), axis=1)
    between = deviations(s, np.array([0.5 * s.times[0], s.times[3], 0.5 * (s.times[3] + s.times[4])]))
    assert np.allclose(between[0], 0.5 * each[0]) and np.allclose(between[1], each[3])
    assert np.allclose(between[2], 0.5 * (each[3] + each[4]))
