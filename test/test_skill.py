"""The account of forecasts: truth recovered, coverage reached, memory fixed."""

import numpy as np
import pytest

from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import SetPoints
from digital_twin.core.forecast_model import Motion
from digital_twin.core.forecaster import Forecast
from digital_twin.core.rotation import exp_so3
from digital_twin.core.skill import GROUPS, HORIZONS, NS, OUTCOMES, PENDING, SkillBook

N = 3
TIMES = np.arange(1, 51) * 0.02


def state(t, speed=1.0):
    """Joints, base: all in even motion; the base turns about z."""
    q = speed * t * np.arange(1.0, N + 1)
    zero = np.zeros((6, 6))
    base = BaseState(
        round(t * NS), np.array([speed * t, 0, 0]), exp_so3([0, 0, speed * t]), exp_so3([0, 0, -speed * t])[:, 0] * speed,
        np.array([0, 0, speed]), zero, zero, (True,), True,
    )  # fmt: skip
    return q, speed * np.arange(1.0, N + 1), base


def forecast(t, error=0.0, version="a", speed=1.0, times=TIMES):
    """The truth plus an error of joints, position and attitude that is the same at all times."""
    each = [state(t + h, speed) for h in times]
    motion = Motion(
        np.array([q for q, _, _ in each]) + error, np.array([qd for _, qd, _ in each]),
        np.array([b.position for _, _, b in each]) + error,
        np.array([b.rotation @ exp_so3([0, 0, error]) for _, _, b in each]),
        np.array([b.rotation @ b.velocity for _, _, b in each]), np.array([b.angular_velocity for _, _, b in each]),
    )  # fmt: skip
    none = SetPoints(*(np.empty((0, N)),) * 3)
    return Forecast(round(t * NS), times, motion, none, "contact", "", version, np.empty(0), np.empty((0, 0)))


def run(book, errors, deviation=None, every=10, start=0):
    for k in range(start, start + len(errors) * every):
        q, qd, base = state(0.005 * k)
        book.outcome(base.stamp_ns, q, base)
        if k % every == 0:
            book.open(forecast(0.005 * k, errors[(k - start) // every]), q, qd, base, deviation)
    return start + len(errors) * every


def test_errors_come_out_as_they_went_in():
    book = SkillBook(N)
    run(book, [0.02] * 100)
    for h in HORIZONS:
        joints, position, attitude = (book.score(h, g) for g in GROUPS)
        assert joints.rmse == pytest.approx(0.02) and joints.persistence == pytest.approx(h * np.sqrt(14 / 3))
        assert position.rmse == pytest.approx(0.02 * np.sqrt(3)) and position.persistence == pytest.approx(h)
        assert attitude.rmse == pytest.approx(0.02, rel=1e-3) and attitude.persistence == pytest.approx(h, rel=1e-3)
        assert joints.velocity == pytest.approx(0.0, abs=1e-9) and attitude.velocity == pytest.approx(0.0, abs=1e-6)
        assert joints.skill[0] == pytest.approx(1 - 0.02 / (h * np.sqrt(14 / 3)))


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_intervals_become_those_that_hold_nine_times_in_ten(scale):
    """Whatever the deviation said, and whatever the distribution."""
    rng, book = np.random.default_rng(1), SkillBook(N)
    deviation = np.full((len(TIMES), N + 6), 0.02)
    run(book, scale * 0.02 * rng.standard_t(4, 1500), deviation)
    for h in HORIZONS:
        assert 0.86 < book.score(h, "joints").coverage < 0.94
        expected = scale * 2.13  # the 90 % quantile of |t| with 4 degrees of freedom
        expected *= 2 if h < TIMES[0] else 1  # before the first point the deviation grows from zero
        assert np.median(book.widths()[HORIZONS.index(h), :N]) == pytest.approx(expected, rel=0.35)


def test_another_model_starts_new_accounts():
    book = SkillBook(N)
    k = run(book, [0.02] * 50)
    q, qd, base = state(0.005 * k)
    book.open(forecast(0.005 * k, version="b"), q, qd, base)
    assert book.score(0.01, "joints") is None and book.version == "b"


def test_memory_is_fixed():
    book = SkillBook(N)
    for k in range(4 * PENDING):  # forecasts whose outcome never comes
        q, qd, base = state(0.0)
        book.open(forecast(0.0), q, qd, base)
        assert all(a.waiting <= PENDING for a in book._accounts), k
    run(book, [0.0] * (OUTCOMES + 100))
    assert book.score(0.01, "joints").count == OUTCOMES
    assert book._accounts[0].errors.shape[0] == OUTCOMES


def test_no_outcome_is_made_up_across_a_gap():
    book = SkillBook(N)
    run(book, [0.0] * 3)
    q, _, base = state(5.0)
    book.outcome(base.stamp_ns, q, base)  # five seconds later
    q, _, base = state(5.005)
    book.outcome(base.stamp_ns, q, base)
    assert book.score(1.0, "joints") is None and all(a.waiting == 0 for a in book._accounts)


def test_a_short_forecast_is_scored_as_far_as_it_goes():
    book = SkillBook(N)
    for k in range(100):
        q, qd, base = state(0.005 * k)
        book.outcome(base.stamp_ns, q, base)
        book.open(forecast(0.005 * k, times=TIMES[:5]), q, qd, base)
    assert book.score(0.1, "joints").rmse == pytest.approx(0.0, abs=1e-9) and book.score(0.2, "joints") is None


def test_values_bear_all_names():
    book = SkillBook(N)
    run(book, [0.01] * 60)
    values = book.values()
    assert len(values) == 4 * len(GROUPS) * len(HORIZONS) and values["position_rmse@100ms"] == pytest.approx(
        0.01 * 3**0.5
    )
