"""The invariant filter against finite differences, the textbook, closed forms, and what no sensor can see.

The error is X̂ = exp(ξ) X, F̂ = exp(φ) F, biases additive; ξ = (R, v, p, d_1 … d_k), gyro, accelerometer, (φ_1 … φ_k).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.invariant_ekf import GRAVITY, P_, R_, V_, EkfState, InvariantEkf
from digital_twin.core.rotation import cross, exp_so3, log_so3, rot_z, skew

QUIET = np.zeros(6)
GATE = 100.0
GAUSS = [(0.5 * (x + 1.0), 0.5 * w) for x, w in zip(*np.polynomial.legendre.leggauss(6), strict=True)]
seeds = st.integers(0, 2**31)


def left_jacobian(phi):
    """How exp of SE_k(3) turns its translations: the integral of exp(s φ) for s from 0 to 1."""
    return sum(w * exp_so3(x * phi) for x, w in GAUSS)


def moved(ekf, s, xi):
    """exp(ξ) applied to a state: the estimate whose error against it is ξ."""
    turn = exp_so3(xi[R_])
    translations = xi[3 : ekf.group].reshape(-1, 3) @ left_jacobian(xi[R_]).T
    feet = np.array([exp_so3(xi[ekf.attitude[i]]) @ s.feet[i] for i in range(ekf.k)]).reshape(-1, 3, 3)
    return s._replace(
        rotation=turn @ s.rotation, vectors=s.vectors @ turn.T + translations, feet=feet,
        bias=s.bias + xi[ekf.group : ekf.group + 6],
    )  # fmt: skip


def error(ekf, estimate, truth):
    """ξ with estimate = exp(ξ) truth."""
    xi = np.zeros(ekf.n)
    turn = estimate.rotation @ truth.rotation.T
    xi[R_] = log_so3(turn)
    J = left_jacobian(xi[R_])
    xi[3 : ekf.group] = np.linalg.solve(J, (estimate.vectors - truth.vectors @ turn.T).T).T.ravel()
    xi[ekf.gyro_bias] = estimate.gyro_bias - truth.gyro_bias
    xi[ekf.accel_bias] = estimate.accel_bias - truth.accel_bias
    for i in range(ekf.k):
        xi[ekf.attitude[i]] = log_so3(estimate.feet[i] @ truth.feet[i].T)
    return xi


def any_state(ekf, rng, covariance=None, biases=True):
    """Anywhere, at any speed and attitude, all feet standing somewhere."""
    k = ekf.k
    P = np.zeros((ekf.n, ekf.n)) if covariance is None else covariance
    return EkfState(
        exp_so3(rng.uniform(-1.5, 1.5, 3)), rng.uniform(-2, 2, (2 + k, 3)),
        biases * rng.uniform(-1.0, 1.0, 6) * [0.1, 0.1, 0.1, 0.3, 0.3, 0.3], np.array([exp_so3(x) for x in rng.uniform(-1.5, 1.5, (k, 3))]).reshape(-1, 3, 3),
        P, (True,) * k,
    )  # fmt: skip


def any_covariance(n, rng, size=0.05):
    A = rng.standard_normal((n, n))
    return A @ A.T * (size**2 / n)


def transition(ekf, s, dt, gyro, accel):
    """Φ from what propagation makes of covariances: of P = x xᵀ it is (Φ x)(Φ x)ᵀ."""
    moved_by = []
    for x in np.eye(ekf.n):
        P = ekf.propagate(s._replace(covariance=np.outer(x, x)), dt, gyro, accel, QUIET, QUIET).covariance
        i = int(np.argmax(np.diag(P)))
        column = P[:, i] / np.sqrt(P[i, i])
        moved_by.append(column * np.sign(column @ x))  # Φ is close to the identity
    return np.array(moved_by).T


def seen(s, i, rng=None, size=0.0):
    """Place and attitude of foot i in the base frame, as kinematics would see it, give or take `size`."""
    noise = np.zeros(6) if rng is None else size * rng.standard_normal(6)
    place = s.rotation.T @ (s.vectors[2 + i] - s.position + noise[:3])
    return place, s.rotation.T @ exp_so3(noise[3:]) @ s.feet[i]


def all_seen(ekf, s, rng=None, size=0.0):
    both = [seen(s, i, rng, size) for i in range(ekf.k)]
    return np.array([p for p, _ in both]), np.array([R for _, R in both])


def textbook(P, H, z, noise):
    K = P @ H.T @ np.linalg.inv(H @ P @ H.T + noise)
    A = np.eye(len(P)) - K @ H
    return -K @ z, A @ P @ A.T + K @ noise @ K.T


# Propagation


@given(seeds, st.sampled_from([1, 2, 4]))
@settings(max_examples=25)
def test_the_transition_is_that_of_finite_differences(seed, k):
    rng, ekf, dt = np.random.default_rng(seed), InvariantEkf(k), 1e-3
    s, gyro, accel = any_state(ekf, rng), rng.uniform(-2, 2, 3), rng.uniform(-12, 12, 3)
    phi = transition(ekf, s, dt, gyro, accel)
    after = ekf.propagate(s, dt, gyro, accel, QUIET, QUIET)
    for x, column in zip(np.eye(ekf.n), phi.T, strict=True):
        e = 1e-5
        up, down = (
            error(ekf, ekf.propagate(moved(ekf, s, a * x), dt, gyro, accel, QUIET, QUIET), after) for a in (e, -e)
        )
        # What is left out is of second order in dt, 1e-6 times rates; what is in is of first, 1e-3.
        assert np.allclose((up - down) / (2 * e), column, atol=3e-5)


@given(seeds)
@settings(max_examples=30)
def test_without_biases_the_error_moves_on_whatever_the_state(seed):
    rng, ekf = np.random.default_rng(seed), InvariantEkf(2)
    xi = 0.3 * rng.standard_normal(ekf.n)
    xi[ekf.gyro_bias] = xi[ekf.accel_bias] = 0.0
    after = []
    for _ in range(2):
        s, gyro, accel = any_state(ekf, rng, biases=False), rng.uniform(-2, 2, 3), rng.uniform(-12, 12, 3)
        pair = [ekf.propagate(x, 0.05, gyro, accel, QUIET, QUIET) for x in (moved(ekf, s, xi), s)]
        after.append(error(ekf, *pair))
    assert np.allclose(*after, atol=1e-8)
    phi = transition(ekf, s, 0.05, gyro, accel)
    small = moved(ekf, s, 1e-5 * xi)
    small = error(ekf, ekf.propagate(small, 0.05, gyro, accel, QUIET, QUIET), pair[1])
    assert np.allclose(small, phi @ (1e-5 * xi), atol=1e-9), "and linearly"


@given(seeds)
@settings(max_examples=20)
def test_noise_of_the_inertial_sensors_enters_as_finite_differences_say(seed):
    rng, ekf, dt = np.random.default_rng(seed), InvariantEkf(2), 1e-3
    s, gyro, accel = any_state(ekf, rng), rng.uniform(-1, 1, 3), rng.uniform(-12, 12, 3)
    variances = rng.uniform(1, 2, 6)
    P = ekf.propagate(s, dt, gyro, accel, variances, QUIET).covariance
    truth = ekf.propagate(s, dt, gyro, accel, QUIET, QUIET)
    G = np.empty((ekf.n, 6))
    for j, e in enumerate(1e-6 * np.eye(6)):  # an error of the integral is one of the mean, divided by dt
        G[:, j] = error(ekf, ekf.propagate(s, dt, gyro + e[:3] / dt, accel + e[3:] / dt, QUIET, QUIET), truth) / 1e-6
    assert np.allclose(P, (G * variances) @ G.T, atol=0.02 * np.abs(P).max())
    assert np.abs(P[V_, V_]).max() > 1.0


def test_biases_and_feet_wander_by_what_is_asked():
    ekf = InvariantEkf(2)
    s = any_state(ekf, np.random.default_rng(0))
    walk, contact = np.arange(1.0, 7.0), np.arange(10.0, 22.0).reshape(2, 2, 3)
    P = ekf.propagate(s, 0.01, np.zeros(3), np.zeros(3), QUIET, walk, contact).covariance
    assert np.array_equal(P, np.diag(np.diag(P)))
    assert np.array_equal(np.diag(P)[9:15], contact[0].ravel())
    assert np.array_equal(np.diag(P)[15:21], walk) and np.array_equal(np.diag(P)[21:], contact[1].ravel())


def test_free_fall_is_a_parabola():
    ekf = InvariantEkf(1)
    s = before = any_state(ekf, np.random.default_rng(1), biases=False)
    for _ in range(100):
        s = ekf.propagate(s, 0.01, np.zeros(3), np.zeros(3), QUIET, QUIET)
    assert np.allclose(s.velocity, before.velocity + GRAVITY)
    assert np.allclose(s.position, before.position + before.velocity + GRAVITY / 2)
    assert np.array_equal(s.rotation, before.rotation) and np.array_equal(s.vectors[2:], before.vectors[2:])


def test_a_steady_turn_is_followed_exactly_and_a_circle_to_second_order():
    """Round a circle of 1 m at 1 rad/s, biases known: the body feels only what holds it up and in."""
    ekf, w = InvariantEkf(1), np.array([0.0, 0.0, 1.0])
    s = any_state(ekf, np.random.default_rng(2))._replace(rotation=np.eye(3))
    s.vectors[:2] = [[0, 1, 0], [1, 0, 0]]
    for _ in range(200):
        s = ekf.propagate(s, 0.01, w + s.gyro_bias, s.accel_bias - GRAVITY - [1, 0, 0], QUIET, QUIET)
    assert np.allclose(s.rotation, rot_z(2.0), atol=1e-12)
    assert np.allclose(s.position, [np.cos(2), np.sin(2), 0], atol=2e-5)
    assert np.allclose(s.velocity, [-np.sin(2), np.cos(2), 0], atol=2e-5)


def test_a_change_of_pace_is_noticed():
    ekf = InvariantEkf(1)
    P = any_covariance(21, np.random.default_rng(0))
    s = any_state(ekf, np.random.default_rng(3), P)
    args = np.ones(3), np.ones(3), QUIET, QUIET
    mixed = ekf.propagate(ekf.propagate(s, 0.01, *args), 0.002, *args)
    fresh = InvariantEkf(1).propagate(InvariantEkf(1).propagate(s, 0.01, *args), 0.002, *args)
    assert np.array_equal(mixed.covariance, fresh.covariance)


# Corrections


def seen_exactly(seed):
    """A filter, a truth, and what (almost) perfect kinematics of both feet make of an error with a covariance."""
    ekf = InvariantEkf(2)
    truth = any_state(ekf, np.random.default_rng(seed))
    place, attitude = all_seen(ekf, truth)

    def corrected(xi, P):
        s = moved(ekf, truth, xi)._replace(covariance=P)
        return ekf.correct_feet(s, (0, 1), place, attitude, 1e-9 * np.eye(12), np.inf)[0]

    return ekf, truth, corrected


@given(seeds)
@settings(max_examples=25)
def test_the_feets_jacobian_is_that_of_finite_differences_at_every_state(seed):
    """x in the update is −K z; with a certain measurement of one direction of error, z can be read from it."""
    ekf, truth, corrected = seen_exactly(seed)
    for x in np.eye(ekf.n):
        after = corrected(1e-5 * x, np.outer(x, x))
        left = error(ekf, after, truth)
        # What feet see of this direction is taken away, if they see any of it: p − d and R − φ.
        sees = not (ekf.gyro_bias.start <= np.argmax(x) < ekf.accel_bias.stop or 3 <= np.argmax(x) < 6)
        assert np.linalg.norm(left) == pytest.approx(0.0 if sees else 1e-5, abs=1e-8)
        assert np.trace(after.covariance) == pytest.approx(0.0 if sees else 1.0, abs=1e-8)


@given(seeds)
@settings(max_examples=25)
def test_a_big_error_is_seen_exactly_where_only_translations_err(seed):
    ekf, truth, corrected = seen_exactly(seed)
    xi = np.zeros(ekf.n)
    xi[P_] = np.random.default_rng(seed).uniform(-1, 1, 3)
    P = np.zeros((ekf.n, ekf.n))
    P[P_, P_] = np.eye(3)
    assert np.allclose(corrected(xi, P).position, truth.position, atol=1e-6)


def test_heights_jacobian_is_that_of_finite_differences():
    rng, ekf = np.random.default_rng(4), InvariantEkf(3)
    truth = any_state(ekf, rng)
    truth.vectors[4, 2] = truth.vectors[2, 2]  # feet 0 and 2 on a level
    for x in np.eye(ekf.n):
        s = moved(ekf, truth, 1e-5 * x)._replace(covariance=np.outer(x, x))
        apart = s.vectors[2, 2] - s.vectors[4, 2]
        after, _ = ekf.correct_height(s, 0, 2, 0.5, np.inf)
        share = 0.25 / (0.25 + (apart / 1e-5) ** 2)  # of the variance that is left, when H x is what it should be
        assert np.allclose(after.covariance, share * s.covariance, atol=1e-4)
        assert after.vectors[2, 2] - after.vectors[4, 2] == pytest.approx(share * apart, abs=1e-9)


def test_feet_on_a_step_are_not_forced_to_one_height():
    rng, ekf = np.random.default_rng(5), InvariantEkf(2)
    s = any_state(ekf, rng, any_covariance(27, rng, 0.001))
    s.vectors[2:, 2] = 0.0, 0.15
    after, result = ekf.correct_height(s, 0, 1, 0.003, 15.0)
    assert after is s and result.nis > 15.0
    s.vectors[3, 2] = 0.002
    after, _ = ekf.correct_height(s, 0, 1, 0.003, 15.0)
    assert abs(after.vectors[2, 2] - after.vectors[3, 2]) < 0.002


def test_a_step_is_said_not_to_count():
    rng, ekf = np.random.default_rng(5), InvariantEkf(2)
    s = any_state(ekf, rng, any_covariance(27, rng, 0.001))
    s.vectors[2:, 2] = 0.0, 0.15
    assert ekf.correct_height(s, 0, 1, 0.003, 15.0)[1].weight == 0.0


def test_velocitys_jacobian_is_that_of_finite_differences():
    rng, ekf = np.random.default_rng(6), InvariantEkf(2)
    truth = any_state(ekf, rng)
    body = truth.rotation.T @ truth.velocity
    for j, x in enumerate(np.eye(ekf.n)):
        s = moved(ekf, truth, 1e-5 * x)._replace(covariance=np.outer(x, x))
        after, _ = ekf.correct_velocity(s, body, 1e-12 * np.eye(3), np.inf)
        assert np.allclose(error(ekf, after, truth), 0.0 if 3 <= j < 6 else 1e-5 * x, atol=1e-9)


def test_the_velocitys_covariance_is_given_in_the_base_frame():
    """Certain along the body's x only: only that component is taken."""
    ekf = InvariantEkf(2)
    s = any_state(ekf, np.random.default_rng(7))
    P = np.zeros((ekf.n, ekf.n))
    P[V_, V_] = np.eye(3)
    body = s.rotation.T @ s.velocity
    after, _ = ekf.correct_velocity(s._replace(covariance=P), body + 1.0, np.diag([1e-9, 1e9, 1e9]), np.inf)
    assert np.allclose(s.rotation.T @ after.velocity - body, [1.0, 0.0, 0.0], atol=1e-6)


def test_an_absurd_velocity_changes_nothing():
    ekf = InvariantEkf(2)
    s = any_state(ekf, np.random.default_rng(8), 1e-4 * np.eye(27))
    after, result = ekf.correct_velocity(s, s.rotation.T @ s.velocity + 1.0, 1e-4 * np.eye(3), 20.0)
    assert after is s and result.weight == 0.0 and result.nis == pytest.approx(3.0 / 2e-4)


@given(seeds)
@settings(max_examples=30)
def test_the_update_is_the_textbooks(seed):
    rng, ekf = np.random.default_rng(seed), InvariantEkf(2)
    P, m = any_covariance(ekf.n, rng), 5
    s = any_state(ekf, rng, P)
    H, z, noise = rng.standard_normal((m, ekf.n)), 0.01 * rng.standard_normal(m), any_covariance(m, rng, 0.1)
    after, result = ekf.correct(s, H, z, noise)
    x, P1 = textbook(P, H, z, noise)
    assert np.allclose(after.covariance, P1, atol=1e-12)
    assert np.allclose(after.gyro_bias - s.gyro_bias, x[ekf.gyro_bias], atol=1e-12)
    assert np.allclose(error(ekf, after, s), x, atol=3e-5), "to first order in the turn"
    S = H @ P @ H.T + noise
    assert result.nis == pytest.approx(z @ np.linalg.solve(S, z)) and result.weight == 1.0
    assert result.whitened @ result.whitened == pytest.approx(result.nis)


def test_whitened_innovations_are_standard_normal():
    rng, ekf = np.random.default_rng(9), InvariantEkf(1)
    P, noise = any_covariance(ekf.n, rng, 0.02), any_covariance(6, rng, 0.02)
    root, noise_root = np.linalg.cholesky(P), np.linalg.cholesky(noise)
    truth, out = any_state(ekf, rng), []
    for _ in range(1500):
        s = moved(ekf, truth, root @ rng.standard_normal(ekf.n))._replace(covariance=P)
        n = noise_root @ rng.standard_normal(6)
        place, attitude = all_seen(ekf, truth)
        place[0] += truth.rotation.T @ n[:3]
        attitude[0] = truth.rotation.T @ exp_so3(n[3:]) @ truth.rotation @ attitude[0]
        out.append(ekf.correct_feet(s, (0,), place, attitude, noise, np.inf)[1][0].whitened)
    assert np.allclose(np.cov(np.array(out).T), np.eye(6), atol=0.15)
    assert np.allclose(np.mean(out, axis=0), 0.0, atol=0.1)


def test_a_measurement_that_cannot_be_weighed_changes_nothing():
    ekf = InvariantEkf(1)
    s = any_state(ekf, np.random.default_rng(10), np.eye(21))
    after, result = ekf.correct(s, np.eye(3, 21), np.ones(3), -10.0 * np.eye(3))
    assert after is s and result.weight == 0.0 and result.nis == np.inf and np.isnan(result.whitened).all()


@pytest.mark.parametrize("where", ["noise", "innovation"])
def test_a_measurement_that_is_not_a_number_changes_nothing(where):
    ekf = InvariantEkf(1)
    s = any_state(ekf, np.random.default_rng(10), np.eye(21))
    z, noise = (np.ones(3), np.full((3, 3), np.nan)) if where == "noise" else (np.full(3, np.nan), np.eye(3))
    assert np.isfinite(ekf.correct(s, np.eye(3, 21), z, noise)[0].vectors).all()


def test_no_variance_becomes_negative_where_digits_are_lost():
    ekf, refused = InvariantEkf(1), 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        s = any_state(ekf, rng, any_covariance(21, rng, 1e8))
        after, result = ekf.correct(s, np.eye(6, 21), 1e-3 * np.ones(6), 1e-8 * np.eye(6))
        assert after.covariance.diagonal().min() >= 0.0
        refused += result.weight == 0.0
    assert refused > 0


def test_feet_that_cannot_be_weighed_are_said_not_to_count():
    ekf = InvariantEkf(2)
    s = any_state(ekf, np.random.default_rng(10), np.eye(27))
    after, results = ekf.correct_feet(s, (0, 1), *all_seen(ekf, s), -10.0 * np.eye(12), GATE)
    assert after is s and [r.weight for r in results] == [0.0, 0.0]


# Gates


def gated(seed, off, others=0.002, correlated=False):
    rng, ekf = np.random.default_rng(seed), InvariantEkf(2)
    P = 1e-4 * np.eye(ekf.n)
    P[V_, :] = P[:, V_] = 0.0
    if not correlated:  # what both feet see of the base together is small
        P[P_, P_] = P[R_, R_] = 1e-10 * np.eye(3)
    s = any_state(ekf, rng, P)
    place, attitude = all_seen(ekf, s, rng, others)
    place[0] += s.rotation.T @ [off, 0.0, 0.0]
    return ekf, s, place, attitude, 1e-4 * np.eye(12)


def test_a_foot_that_is_far_off_counts_as_much_noisier():
    ekf, s, place, attitude, noise = gated(0, off=0.5)
    after, (bad, good) = ekf.correct_feet(s, (0, 1), place, attitude, noise, GATE)
    assert bad.weight == pytest.approx(GATE / bad.nis) and bad.weight < 0.1 and good.weight == 1.0
    H = np.vstack(ekf._foot_h)
    S = H @ s.covariance @ H.T + noise
    inflated = noise.copy()
    inflated[:6, :6] += (1.0 / bad.weight - 1.0) * S[:6, :6]
    z = [
        np.concatenate([s.rotation @ place[i] + s.position - s.vectors[2 + i], log_so3(s.rotation @ attitude[i] @ s.feet[i].T)])
        for i in (0, 1)
    ]  # fmt: skip
    x, P = textbook(s.covariance, H, np.concatenate(z), inflated)
    assert np.allclose(after.covariance, P, atol=1e-12)
    assert np.allclose(after.vectors[2], s.vectors[2] + x[ekf.place[0]] + cross(x[R_], s.vectors[2]), atol=1e-6)
    assert bad.nis == pytest.approx(z[0] @ np.linalg.solve(S[:6, :6], z[0])), "told before it counted for less"


@pytest.mark.parametrize("off", [0.5, 5.0])
def test_a_foot_that_is_far_off_moves_the_other_no_more_than_if_it_were_alone(off):
    ekf, s, place, attitude, noise = gated(1, off)
    both, _ = ekf.correct_feet(s, (0, 1), place, attitude, noise, GATE)
    alone, _ = ekf.correct_feet(s, (1,), place, attitude, noise[:6, :6], GATE)
    assert np.allclose(both.vectors[3], alone.vectors[3], atol=1e-6)
    assert np.allclose(both.feet[1], alone.feet[1], atol=1e-6)


def test_good_feet_count_in_full():
    ekf, s, place, attitude, noise = gated(2, off=0.0)
    after, results = ekf.correct_feet(s, (0, 1), place, attitude, noise, GATE)
    ungated, _ = ekf.correct_feet(s, (0, 1), place, attitude, noise, np.inf)
    assert [r.weight for r in results] == [1.0, 1.0]
    assert np.array_equal(after.covariance, ungated.covariance) and np.array_equal(after.vectors, ungated.vectors)


def test_what_a_bad_foot_can_do_stays_bounded():
    """Huber: the pull grows no more once beyond the gate."""
    pulls = []
    for off in (0.5, 5.0, 50.0):
        ekf, s, place, attitude, noise = gated(3, off, others=0.0, correlated=True)
        after, _ = ekf.correct_feet(s, (0,), place, attitude, noise[:6, :6], GATE)
        pulls.append(np.linalg.norm(after.position - s.position))
    assert pulls[0] > pulls[1] > pulls[2] > 0.0


def test_which_of_two_feet_is_doubted_does_not_depend_on_their_order():
    """The base is known to 1 cm only, so that both feet see its error; one of them is off by 3 cm."""
    moves = []
    for bad in (0, 1):
        ekf = InvariantEkf(2)
        P = 1e-8 * np.eye(ekf.n)
        P[P_, P_] = 1e-4 * np.eye(3)
        s = any_state(ekf, np.random.default_rng(0), P)
        place, attitude = all_seen(ekf, s)
        place[bad] += s.rotation.T @ [0.03, 0.0, 0.0]
        after, results = ekf.correct_feet(s, (0, 1), place, attitude, 1e-5 * np.eye(12), 33.0)
        moves.append((np.linalg.norm(after.position - s.position), results[bad].weight))
    assert np.allclose(*moves, rtol=0.05) and moves[0][1] < 1.0


# What no sensor on the robot can see


def unobservable(ekf, s):
    """Turning all about gravity, and shifting all, in the error's coordinates: (n, 4)."""
    N = np.zeros((ekf.n, 4))
    N[2, 0] = 1.0
    for i in range(ekf.k):
        N[ekf.attitude[i].start + 2, 0] = 1.0
    for part in (P_, *ekf.place):
        N[part, 1:] = np.eye(3)
    return N


@given(seeds)
@settings(max_examples=10)
def test_heading_and_place_are_in_the_null_space_of_all_that_feet_tell(seed):
    rng, ekf = np.random.default_rng(seed), InvariantEkf(2)
    s, H = any_state(ekf, rng), np.vstack(InvariantEkf(2)._foot_h)
    N, total, rows = unobservable(ekf, s), np.eye(ekf.n), []
    for _ in range(12):
        gyro, accel = rng.uniform(-2, 2, 3), rng.uniform(-12, 12, 3)
        rows.append(H @ total)
        phi = transition(ekf, s, 0.01, gyro, accel)
        total, s = phi @ total, ekf.propagate(s, 0.01, gyro, accel, QUIET, QUIET)
    O = np.vstack(rows)  # noqa: E741
    assert np.abs(O @ N).max() < 1e-9
    assert np.linalg.matrix_rank(O, tol=1e-7) == ekf.n - 4, "and nothing else is"


def test_after_many_updates_heading_and_place_are_as_unknown_as_before():
    rng, ekf = np.random.default_rng(11), InvariantEkf(2)
    s = any_state(ekf, rng)
    N = unobservable(ekf, s)
    start = np.array([0.3, 1.0, 2.0, 3.0])
    P = 1e-4 * np.eye(ekf.n) + (N * start**2) @ N.T
    s, noise = s._replace(covariance=P), 1e-5 * np.eye(12)
    before = P.copy()
    for i in range(500):
        s = ekf.propagate(s, 0.01, rng.uniform(-1, 1, 3), rng.uniform(-12, 12, 3), np.full(6, 1e-8), QUIET)
        s, _ = ekf.correct_feet(s, (0, 1), *all_seen(ekf, s, rng, 0.003), noise, GATE)
        if i % 50 == 0:
            s, _ = ekf.correct_height(s, 0, 1, 0.003, np.inf)
            s, _ = ekf.correct_velocity(s, s.rotation.T @ s.velocity, 1e-4 * np.eye(3), GATE)
        # The information about these directions: none beyond what there was at the start.
        known = np.diag(N.T @ np.linalg.solve(s.covariance + 1e-15 * np.eye(ekf.n), N))
        assert (known <= np.diag(N.T @ np.linalg.solve(before, N)) * 1.001).all(), i
    assert s.covariance[2, 2] >= start[0] ** 2
    assert (np.diag(ekf.pose_covariance(s, s.position))[[0, 1, 2, 5]] >= start[[1, 2, 3, 0]] ** 2 * 0.999).all()
    assert (np.diag(s.covariance)[:2] < 1e-3).all(), "roll and pitch are seen"


# Feet come and go


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_foot_lands_where_it_is_seen_and_knows_no_more_than_the_base(k):
    rng, ekf = np.random.default_rng(k), InvariantEkf(k)
    i = k - 1
    s = any_state(ekf, rng, any_covariance(ekf.n, rng))._replace(stands=(False,) * k)
    place, attitude, noise = rng.uniform(-1, 1, 3), exp_so3(rng.uniform(-1, 1, 3)), any_covariance(6, rng)
    after = ekf.land(s, i, place, attitude, noise)
    assert after.stands == (*(False,) * (k - 1), True)
    assert np.allclose(after.vectors[2 + i], s.position + s.rotation @ place)
    assert np.allclose(after.feet[i], s.rotation @ attitude)
    # The new error is (ξ_p, ξ_R) plus noise; a selection of the old one.
    T = np.eye(ekf.n)
    T[ekf.place[i], :], T[ekf.attitude[i], :] = T[P_, :], T[R_, :]
    expected = T @ s.covariance @ T.T
    rows = np.r_[ekf.place[i], ekf.attitude[i]]
    expected[np.ix_(rows, rows)] += noise
    assert np.allclose(after.covariance, expected, atol=1e-15)
    others = [j for j in range(k) if j != i]
    assert np.array_equal(after.vectors[[0, 1, *(2 + j for j in others)]], s.vectors[[0, 1, *(2 + j for j in others)]])


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_lifted_foot_leaves_nothing_behind(k):
    rng, ekf = np.random.default_rng(k), InvariantEkf(k)
    s = any_state(ekf, rng, any_covariance(ekf.n, rng))
    after = ekf.lift(s, 0)
    rows = np.r_[ekf.place[0], ekf.attitude[0]]
    rest = np.setdiff1d(np.arange(ekf.n), rows)
    assert not after.covariance[rows].any() and not after.covariance[:, rows].any()
    assert np.array_equal(after.covariance[np.ix_(rest, rest)], s.covariance[np.ix_(rest, rest)])
    assert after.stands == (False, *(True,) * (k - 1)) and s.covariance[rows].any(), "the old estimate stays as it was"


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_landing_is_consistent_with_a_correction_that_follows(k):
    """What the same kinematics say again is no news: nothing moves."""
    rng, ekf = np.random.default_rng(20 + k), InvariantEkf(k)
    s = any_state(ekf, rng, any_covariance(ekf.n, rng))._replace(stands=(False,) * k)
    place, attitude = rng.uniform(-1, 1, (k, 3)), np.array([exp_so3(x) for x in rng.uniform(-1, 1, (k, 3))])
    for i in range(k):
        s = ekf.land(s, i, place[i], attitude[i], 1e-4 * np.eye(6))
    after, results = ekf.correct_feet(s, tuple(range(k)), place, attitude, 1e-4 * np.eye(6 * k), GATE)
    assert np.allclose(after.vectors, s.vectors, atol=1e-9) and np.allclose(after.feet, s.feet, atol=1e-9)
    assert max(r.nis for r in results) < 1e-12 and len(results) == k


def test_only_the_feet_that_are_named_correct():
    rng, ekf = np.random.default_rng(30), InvariantEkf(4)
    s = any_state(ekf, rng, any_covariance(ekf.n, rng))._replace(stands=(False, True, False, True))
    for i in (0, 2):
        s = ekf.lift(s, i)
    place, attitude = all_seen(ekf, s, rng, 0.01)
    place[0], attitude[2] = 99.0, np.nan
    after, results = ekf.correct_feet(s, (1, 3), place, attitude, 1e-4 * np.eye(12), GATE)
    assert len(results) == 2 and np.isfinite(after.covariance).all() and np.isfinite(after.vectors).all()
    assert np.array_equal(after.feet[[0, 2]], s.feet[[0, 2]])
    assert not after.covariance[ekf.place[0]].any() and not after.covariance[ekf.attitude[2]].any()


def test_widening_leaves_places_as_sure_as_they_were():
    rng, ekf = np.random.default_rng(31), InvariantEkf(2)
    s = any_state(ekf, rng, any_covariance(27, rng))
    after = ekf.widen(s, 0.04, 0.25)
    grown = ekf.pose_covariance(after, s.position) - ekf.pose_covariance(s, s.position)
    assert np.allclose(grown, np.diag([0, 0, 0, 0.04, 0.04, 0.04]), atol=1e-12)
    for part, x in ((V_, s.velocity), (ekf.place[0], s.vectors[2]), (ekf.place[1], s.vectors[3])):
        J = np.zeros((3, ekf.n))
        J[:, part], J[:, R_] = np.eye(3), -skew(x)  # δx = ξ_x − x × ξ_R
        grown = J @ (after.covariance - s.covariance) @ J.T
        assert np.allclose(grown, 0.25 * np.eye(3) if part == V_ else 0.0, atol=1e-12)


# What comes out


def test_at_the_start_position_and_heading_are_certain_wherever_it_is():
    ekf = InvariantEkf(2)
    position = np.array([3.0, -2.0, 0.8])
    s = ekf.start(rot_z(1.0), np.zeros(3), position, 0.1, 0.3, 0.01, 0.2)
    P = ekf.pose_covariance(s, position)
    assert np.allclose(P, np.diag([0, 0, 0, 0.01, 0.01, 0]), atol=1e-12)
    assert s.stands == (False, False) and np.array_equal(s.position, position)
    assert np.allclose(np.diag(s.covariance)[3:6], 0.09)
    assert np.allclose(np.diag(s.covariance)[15:], [1e-4] * 3 + [0.04] * 3 + [0.0] * 6)


def spread(samples):
    return np.cov(np.array(samples).T)


def test_the_covariance_of_a_points_pose_is_that_of_samples():
    rng, ekf = np.random.default_rng(40), InvariantEkf(1)
    P = any_covariance(ekf.n, rng, 0.02)
    s, root, arm = any_state(ekf, rng, P), np.linalg.cholesky(P), np.array([0.3, -0.2, 0.5])
    point, out = s.position + s.rotation @ arm, []
    for _ in range(2000):
        x = moved(ekf, s, root @ rng.standard_normal(ekf.n))
        out.append(np.concatenate([x.position + x.rotation @ arm - point, log_so3(x.rotation @ s.rotation.T)]))
    C = ekf.pose_covariance(s, point)
    assert np.linalg.norm(spread(out) - C) < 0.12 * np.linalg.norm(C)
    assert np.linalg.norm(C[:3, 3:]) > 0.1 * np.linalg.norm(C), "the two belong together"


def test_the_covariance_of_a_points_twist_is_that_of_samples():
    rng, ekf = np.random.default_rng(41), InvariantEkf(1)
    P = any_covariance(ekf.n, rng, 0.02)
    s, root = any_state(ekf, rng, P), np.linalg.cholesky(P)
    arm, gyro, noise, out = np.array([0.3, -0.9, 0.5]), rng.uniform(-1, 1, 3), 0.02, []
    for _ in range(2000):
        x = moved(ekf, s, root @ rng.standard_normal(ekf.n))
        rate = gyro + noise * rng.standard_normal(3) - x.gyro_bias
        out.append(np.concatenate([x.rotation.T @ x.velocity + np.cross(rate, arm), rate]))
    C = ekf.twist_covariance(s, arm, noise**2)
    assert np.linalg.norm(spread(out) - C) < 0.12 * np.linalg.norm(C)


@given(seeds, st.sampled_from([1, 2, 4]), st.floats(-3, 3))
@settings(max_examples=5)
def test_the_covariance_stays_symmetric_and_positive(seed, k, rate):
    """A thousand steps of feet that come and go, of a body that is shaken."""
    rng, ekf = np.random.default_rng(seed), InvariantEkf(k)
    s = ekf.start(np.eye(3), np.zeros(3), np.array([0.0, 0.0, 1.0]), 0.2, 0.3, 0.01, 0.1)
    for step in range(1000):
        i = int(rng.integers(k))
        if rng.random() < 0.02 and s.stands[i]:
            s = ekf.lift(s, i)
        elif rng.random() < 0.05 and not s.stands[i]:
            s = ekf.land(s, i, rng.uniform(-1, 1, 3), exp_so3(rng.uniform(-1, 1, 3)), 1e-5 * np.eye(6))
        gyro, accel = rate + rng.standard_normal(3), -GRAVITY + 3 * rng.standard_normal(3)
        contact = np.tile(np.outer(s.stands, np.full(3, 1e-8)), (2, 1, 1))
        s = ekf.propagate(s, 0.005, gyro, accel, np.full(6, 1e-7), np.full(6, 1e-10), contact)
        standing = tuple(j for j in range(k) if s.stands[j])
        if standing:
            noise = 1e-6 * np.eye(6 * len(standing))
            s, _ = ekf.correct_feet(s, standing, *all_seen(ekf, s, rng, 0.002), noise, 20.0)
        if step % 100 == 99:
            P, size = s.covariance, np.abs(s.covariance).max()
            assert np.abs(P - P.T).max() < 1e-9 * size
            assert np.linalg.eigvalsh(0.5 * (P + P.T)).min() > -1e-9 * size
            assert np.allclose(s.rotation @ s.rotation.T, np.eye(3), atol=1e-10)
    assert np.isfinite(s.vectors).all()


def test_a_covariance_that_lost_its_symmetry_has_it_again_after_an_update():
    """Rounding grows: without this, four minutes of standing make 1e-26 m² of it 1e-10, an hour more than all variances."""
    rng, ekf = np.random.default_rng(43), InvariantEkf(2)
    P = any_covariance(ekf.n, rng, 0.1)
    skewed = rng.standard_normal((ekf.n, ekf.n)) * 1e-4
    s = any_state(ekf, rng, P + skewed - skewed.T)
    after, _ = ekf.correct_feet(s, (0, 1), *all_seen(ekf, s, rng, 0.002), 1e-3 * np.eye(12), GATE)
    assert np.array_equal(after.covariance, after.covariance.T)
