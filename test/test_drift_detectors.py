"""Detectors: run lengths as requested, delays near the least possible, no alarm for an outlier, no flapping."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.drift.bank import LENGTHS, ORDER, Nominal
from digital_twin.core.drift.detectors import SHIFTS, ChiSquare, Cusum, Detectors, Directed, PageHinkley
from digital_twin.core.drift.run_length import (
    chi_square_threshold,
    cusum_run_length,
    cusum_threshold,
    least_delay,
    markov_run_length,
)


@pytest.mark.parametrize("reference", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("run_length", [200.0, 5000.0, 1e6])
def test_siegmunds_approximation_agrees_with_the_markov_chain(reference, run_length):
    """The threshold for a run length has, by the exact method, that run length within a fifth."""
    h = cusum_threshold(reference, run_length)
    assert markov_run_length(reference, h) == pytest.approx(run_length, rel=0.2)


def test_a_textbook_threshold():
    """k = 0.5, h = 5: 465 samples between false alarms two-sided, 931 one-sided (Montgomery, table 9.4)."""
    assert markov_run_length(0.5, 5.0, states=800) / 2 == pytest.approx(465, rel=0.01)


@given(st.floats(0.1, 2.0), st.floats(10, 1e7))
def test_threshold_and_run_length_are_inverse(reference, run_length):
    h = cusum_threshold(reference, run_length)
    if h > 0.0:
        assert cusum_run_length(reference, h) == pytest.approx(run_length, rel=1e-6)
    assert cusum_threshold(reference, 2 * run_length) >= h


def nominal(rate=100.0, allowance=0.0):
    """Of one channel that was learned and is as it should be."""
    zero = np.zeros(1)
    free = np.full((1, len(LENGTHS)), allowance)
    return Nominal(
        mean=np.zeros((1, 1)), doubt=np.zeros((1, 1, 1)), variance=np.ones((1, 2)), weights=np.zeros((1, ORDER)),
        scale=np.ones(1), allowance=free, directed_allowance=zero, unrest=zero, left=zero, good=np.ones(1, bool), rate=rate,
    )  # fmt: skip


def first_alarms(make, count, samples, seed=0, shift=0.0):
    """Sample of the first alarm of each of many independent channels; NaN: none."""
    rng = np.random.default_rng(seed)
    d = make(count)
    first = np.full(count, np.nan)
    for i in range(samples):
        d.add(rng.standard_normal(count) + shift)
        first[np.isnan(first) & (d.level >= 1.0)] = i + 1
    return first


def mean_run_length(first, samples):
    """Of exponential run lengths, some of them cut off (maximum likelihood)."""
    seen = np.isfinite(first)
    return (np.nansum(first) + (~seen).sum() * samples) / max(seen.sum(), 1)


def test_the_cusums_run_length_is_the_requested_one():
    found = mean_run_length(first_alarms(lambda c: Cusum(c, 500.0), 2000, 1200), 1200)
    # A share for each side and shift adds up to the request only where they never alarm together: they sometimes do.
    assert 450.0 < found < 1300.0


def test_page_and_hinkleys_run_length_is_the_requested_one():
    found = mean_run_length(first_alarms(lambda c: PageHinkley(c, 5, 2000.0), 1000, 4000), 4000)
    assert 1300.0 < found < 4000.0


def test_the_chi_squares_run_length_is_at_least_the_requested_one():
    found = mean_run_length(first_alarms(lambda c: ChiSquare(c, 20, 400.0), 1500, 1500), 1500)
    assert 400.0 < found < 4000.0
    assert chi_square_threshold(20, 400.0) > chi_square_threshold(20, 40.0)


@pytest.mark.parametrize("shift", [0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0])
def test_delays_are_at_most_twice_the_least_possible(shift):
    """Whatever the shift, in the mean, with the same run length."""
    run_length = 1e6
    delay = np.nanmean(first_alarms(lambda c: Cusum(c, run_length), 300, 400, 1, shift))
    assert delay <= 2.0 * least_delay(shift**2 / 2, run_length)


def test_lordens_bound():
    assert least_delay(0.5, math.e**10) == pytest.approx(20.0)
    assert least_delay(100.0, 1e6) == 1.0, "nothing is seen before its first sample"
    assert least_delay(0.0, 1e6) == math.inf


@pytest.mark.parametrize("size", [20.0, 1e6])
def test_an_outlier_is_no_change_and_two_in_a_row_are(size):
    """However far out: what one sample says is capped, in each of the four detectors."""
    d = Detectors(nominal(), 1.0, 0.01)
    for _ in range(100):
        d.add(np.zeros(1), np.ones(1))
    d.add(np.array([size]), np.ones(1))
    assert not d.alarm[0] and d.level[0] < 0.7
    d.add(np.array([size]), np.ones(1))
    assert d.alarm[0] and d.kind(0) == "step"


@pytest.mark.parametrize(("unsure", "alarms"), [(0.0, True), (0.4, False)])
def test_means_may_be_off_by_what_is_unsure_for_as_long_as_it_is(unsure, alarms):
    """Noise does not hide it, as it would if scores were shrunk by that much one by one."""
    d = Detectors(nominal(), 1.0, 0.01)
    rng = np.random.default_rng(0)
    seen = False
    for _ in range(6000):
        d.add(rng.standard_normal(1) + 0.3, None, np.full(1, unsure))
        seen |= bool(d.alarm[0])
    assert seen == alarms
    for _ in range(1000):
        d.add(rng.standard_normal(1) + 0.3, None, np.zeros(1))
        seen |= bool(d.alarm[0])
    assert seen


@pytest.mark.parametrize(("unsure", "alarms"), [(0.0, True), (0.1, True), (0.5, False)])
def test_a_gain_that_is_not_known_better_is_no_change(unsure, alarms):
    """Of a joint that hardly moved while it was learned, friction may be found to be more than was learned."""
    d = Directed(1, 1e9)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        d.add(rng.standard_normal(1) + 0.9 * 0.6, np.full(1, 0.6), np.full(1, unsure))
    assert (d.level[0] >= 1.0) == alarms


def test_effects_too_faint_to_be_told_from_a_wrong_model_are_not_looked_for():
    """A joint that creeps: friction is almost nothing there, and what the model lacks many times that."""
    d = Directed(1, 1e9)
    for _ in range(5000):
        d.add(np.array([0.3]), np.array([0.1]))
    assert d.level[0] == 0.0
    for _ in range(500):
        d.add(np.array([0.9]), np.array([0.3]))
    assert d.level[0] >= 1.0


def test_an_alarm_ends_once_and_not_in_between():
    """A statistic about its threshold does not make the verdict flap."""
    d = Detectors(nominal(), 1.0, 0.01)
    rng = np.random.default_rng(0)
    seen = []
    for i in range(6000):
        d.add(rng.standard_normal(1) + (1.0 if 500 <= i < 1500 else 0.0))
        seen.append(bool(d.alarm[0]))
    changes = np.flatnonzero(np.diff(np.array(seen).astype(int)))
    assert len(changes) == 2 and 500 < changes[0] < 600 and 1500 < changes[1] < 5500
    assert d.cusum.level[0] < 0.5


def test_creep_is_told_from_a_step():
    """A mean that moves by less than a standard deviation in two minutes is drift."""
    d = Detectors(nominal(50.0, 0.15), 1.0, 0.01)
    rng = np.random.default_rng(3)
    for i in range(6000):
        d.add(rng.standard_normal(1) + 0.7 * i / 6000)
        if d.alarm[0]:
            break
    assert d.alarm[0] and d.kind(0) == "drift"


def test_a_spread_that_grows_is_seen():
    d = Detectors(nominal(), 1.0, 0.01)
    rng = np.random.default_rng(0)
    for i in range(400):
        d.add((1.0 if i < 200 else 2.2) * rng.standard_normal(1) * (1 if i % 2 else -1))
        if d.alarm[0]:
            break
    assert d.alarm[0] and i > 200


@given(st.lists(st.booleans(), min_size=5, max_size=40), st.integers(0, 100))
def test_what_is_not_there_changes_nothing(there, seed):
    """A channel that starts and stops scores as if its gaps had not been."""
    scores = np.random.default_rng(seed).standard_normal(len(there)) + 1.0
    whole, gappy = Cusum(1, 1e4), Cusum(1, 1e4)
    for x, present in zip(scores, there, strict=True):
        gappy.add(np.array([x if present else np.nan]))
        if present:
            whole.add(np.array([x]))
    assert np.array_equal(whole.sums, gappy.sums)
    assert len(SHIFTS) == whole.sums.shape[0]


def test_both_sides_are_alike():
    a, b = Cusum(1, 1e4), Cusum(1, 1e4)
    for x in np.random.default_rng(0).standard_normal(50):
        a.add(np.array([x]))
        b.add(np.array([-x]))
    assert np.array_equal(a.sums[:, 0], b.sums[:, 1])


def test_onset_is_where_the_change_began():
    c = Cusum(1, 1e6)
    rng = np.random.default_rng(1)
    for i in range(300):
        c.add(rng.standard_normal(1) + (1.5 if i >= 260 else 0.0))
    assert 30 <= c.onset()[0] <= 60


def test_a_gain_of_something_known_is_found_by_its_pattern():
    """Friction that grows has no mean: it turns with the motion. Its likelihood ratio has the run length asked for."""
    rng = np.random.default_rng(0)
    pattern = np.sign(np.sin(np.arange(4000) * 0.05))
    d, plain = Directed(200, 500.0), Cusum(200, 500.0)
    quiet = 0
    for i in range(500):
        d.add(rng.standard_normal(200), 0.5 * pattern[i] * np.ones(200))
    quiet = (d.level >= 1.0).mean()
    d.reset()
    found = np.full(200, np.nan)
    for i in range(400):
        x = rng.standard_normal(200) + 0.5 * pattern[i]
        d.add(x, 0.5 * pattern[i] * np.ones(200))
        plain.add(x)
        found[np.isnan(found) & (d.level >= 1.0)] = i + 1
    assert quiet < 0.2
    assert np.nanmean(found) <= 2.0 * least_delay(0.125, 500.0) and np.isfinite(found).all()


def test_healthy_scores_with_long_tails_raise_thresholds():
    """What rose high while all was well must rise higher before it is an alarm."""
    rng = np.random.default_rng(0)
    calm, wild = rng.standard_normal((3000, 1)), rng.standard_normal((3000, 1))
    wild[1000:1030] += 2.0
    thresholds = []
    for scores in (calm, wild):
        d = Detectors(nominal(), 1.0, 0.01)
        for _ in d.rehearse(scores, np.zeros_like(scores)):
            pass
        thresholds.append(d.cusum._h.max())
        assert d.level[0] == 0.0 and not d.alarm[0]
    assert thresholds[1] > 1.5 * thresholds[0]
