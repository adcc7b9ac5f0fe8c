"""Stamps: what is refused and why, and that a stepped clock is followed and a liar is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.stamps import StampConfig, StampGuard

MS = 1_000_000
S = 1000 * MS
T0 = 1_700_000_000 * S


def feed(guard, count, start=0, period=5 * MS, delay=2 * MS, shift=0):
    """A well-behaved stream; returns the reasons."""
    out = []
    for k in range(count):
        stamp = T0 + start + k * period
        out.append(guard.check(stamp + shift, stamp + delay, k))
    return out


def test_a_good_stream_passes_whatever_the_offset_of_its_clock():
    for shift in (0, -3600 * S, 86400 * S):
        assert feed(StampGuard(StampConfig()), 1000, shift=shift) == [None] * 1000


def test_exact_duplicates_are_refused_and_twins_are_not():
    g = StampGuard(StampConfig())
    assert g.check(T0, T0, 1) is None
    assert g.check(T0, T0 + 1, 1) == "duplicate"
    assert g.check(T0, T0 + 2, 2) is None, "two messages of one stamp: the joints of two boards"
    feed(g, 20, start=5 * MS)
    assert g.check(T0 + 50 * MS, T0 + 110 * MS, 9) == "duplicate"


def test_late_messages_pass_within_the_history():
    g = StampGuard(StampConfig())
    feed(g, 100)
    newest = T0 + 99 * 5 * MS
    assert g.check(newest - 199 * MS, newest + 3 * MS, 777) is None
    assert g.check(newest - 201 * MS, newest + 4 * MS, 777) == "too_old"
    assert g.late == 1


def test_a_stamp_from_the_future_is_refused():
    g = StampGuard(StampConfig())
    feed(g, 100)
    now = T0 + 500 * MS
    assert g.check(now + 90 * MS, now, 1) is None, "within the tolerance"
    g = StampGuard(StampConfig())
    feed(g, 100)
    assert g.check(now + 150 * MS, now, 2) == "future"
    assert feed(g, 100, start=505 * MS) == [None] * 100, "and the stream goes on"


def test_a_backlog_at_the_start_with_gaps_is_no_future():
    """The queue of a reader that was busy keeps the first and the last messages; the first seems to have a long delay."""
    g = StampGuard(StampConfig())
    arrival = T0 + 500 * MS
    stamps = [0, *range(300, 500, 5)]
    assert [g.check(T0 + s * MS, arrival + k * 100_000, k) for k, s in enumerate(stamps)] == [None] * len(stamps)
    assert feed(g, 100, start=505 * MS) == [None] * 100
    now = T0 + 1010 * MS
    assert g.check(now + 150 * MS, now, 1) == "future", "then the stream's clock is known"
    g = StampGuard(StampConfig())
    g.check(T0, T0, 0)
    assert g.check(T0 + 1100 * MS, T0 + 5 * MS, 1) == "future", "not even at the start"


def test_a_burst_after_a_stall_passes_in_order():
    g = StampGuard(StampConfig())
    feed(g, 100)
    arrival = T0 + 1500 * MS
    stamps = [T0 + 500 * MS + 5 * MS * k for k in range(200)]
    assert [g.check(s, arrival + k * 1000_000, k) for k, s in enumerate(stamps)] == [None] * 200


@pytest.mark.parametrize("step", [-1.0, 1.0, -3600.0, 7200.0])
def test_a_stepped_clock_is_followed(step):
    g = StampGuard(StampConfig())
    feed(g, 400)
    reasons = feed(g, 400, start=2 * S, shift=round(step * S))
    refused = [r for r in reasons if r]
    assert g.clock_steps == 1
    assert 50 <= len(refused) <= 70, "for the 0.3 s that it takes to be sure"
    assert reasons[len(refused) :] == [None] * (400 - len(refused))


def test_scattered_liars_are_not_followed():
    g = StampGuard(StampConfig())
    feed(g, 100)
    rng = np.random.default_rng(0)
    for k in range(400):
        stamp = T0 + 500 * MS + k * 5 * MS
        if k % 2:
            lie = int(rng.uniform(1, 100) * S)
            assert g.check(stamp + lie, stamp, k) == "future"
        else:
            assert g.check(stamp, stamp + 2 * MS, k) is None
    assert g.clock_steps == 0


def test_one_absurd_first_message_does_not_condemn_the_stream():
    g = StampGuard(StampConfig())
    g.check(T0 + 3600 * S, T0 - 10 * MS, 0)
    reasons = feed(g, 400)
    assert reasons[-1] is None and g.clock_steps == 1


def test_a_flood_is_cut_to_the_rate():
    g = StampGuard(StampConfig(max_rate=1500.0))
    period = S // 5000
    reasons = feed(g, 10_000, period=period)
    passed = sum(r is None for r in reasons)
    assert reasons.count("flood") == 10_000 - passed
    assert passed == pytest.approx(2 * 1500 + 150, rel=0.02)


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(0, 10**12), st.integers(0, 3)), max_size=60))
def test_nothing_that_comes_breaks_it(messages):
    g = StampGuard(StampConfig())
    arrival = 0
    for stamp, gap, content in messages:
        arrival += gap
        assert g.check(stamp, arrival, content) in (None, "duplicate", "too_old", "future", "flood")


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=200))
def test_whatever_the_jitter_no_message_of_a_stream_is_lost_within_the_history(jitter_ms):
    g = StampGuard(StampConfig())
    arrivals = sorted((T0 + k * 5 * MS + (40 + j) * MS, T0 + k * 5 * MS) for k, j in enumerate(jitter_ms))
    assert all(g.check(stamp, arrival, stamp) is None for arrival, stamp in arrivals)


def test_memory_stays_bounded():
    g = StampGuard(StampConfig())
    feed(g, 20_000, period=1 * MS)
    assert len(g._seen) <= 202 and len(g._known) == len(g._seen)
