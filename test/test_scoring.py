"""Counters and scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.rotation import exp_so3, rot_z
from digital_twin.core.scoring import Pairs, Score
from digital_twin.core.statistics import Loop, Pace, Rate, Recent


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80))
def test_pairs_are_those_of_equal_stamps(events):
    pairs, seen, got = Pairs(1000), ({}, {}), []
    for left, stamp in events:
        if stamp in seen[not left]:
            continue  # each stamp once in each stream
        seen[not left][stamp] = True
        pair = pairs.left(stamp, ("l", stamp)) if left else pairs.right(stamp, ("r", stamp))
        if pair:
            got.append(pair)
    assert sorted(got) == [(("l", s), ("r", s)) for s in sorted(set(seen[0]) & set(seen[1]))]


def test_pairs_keep_a_bounded_number():
    pairs = Pairs(10)
    for k in range(100):
        pairs.left(k, k)
    assert pairs.right(5, 0) is None and pairs.right(95, 0) == (95, 0)


def test_errors_are_measured_after_laying_the_starts_on_each_other():
    score = Score()
    turn, shift = rot_z(0.8), np.array([3.0, -1.0, 0.5])
    for k in range(11):
        p, R = np.array([0.1 * k, 0.0, 0.8]), exp_so3(np.array([0.0, 0.0, 0.05 * k]))
        error = np.array([0.0, 0.0, 0.01]) * (k > 0)
        score.add_base(turn @ p + shift, turn @ R, p + error, R)
    assert score.position.root == pytest.approx(0.01 * math.sqrt(10 / 11))
    assert score.attitude.root == pytest.approx(0.0, abs=1e-6) and score.distance == pytest.approx(1.0, rel=0.01)
    assert score.position_now == pytest.approx(0.01)
    score.realign()
    score.add_base(np.zeros(3), np.eye(3), np.ones(3), rot_z(1.0))
    assert score.position_now == pytest.approx(0.0, abs=1e-12)


def test_attitude_and_tilt_are_told_apart():
    score = Score()
    score.add_base(np.zeros(3), np.eye(3), np.zeros(3), np.eye(3))
    score.add_base(np.zeros(3), np.eye(3), np.zeros(3), rot_z(math.radians(4)))
    assert score.attitude_now == pytest.approx(4.0) and score.tilt.root == pytest.approx(0.0, abs=1e-6)
    score.add_base(np.zeros(3), np.eye(3), np.zeros(3), exp_so3(np.array([math.radians(3), 0, 0])))
    assert score.tilt.root == pytest.approx(3.0 / math.sqrt(3))


def test_joints_that_are_not_known_are_left_out():
    score = Score()
    score.add_joints(np.array([0.1, np.nan, -0.1]), np.array([0.0, 5.0, 0.0]))
    assert score.joints.root == pytest.approx(0.1)
    score.add_joints(np.array([np.nan]), np.array([1.0]))
    assert score.joints.count == 1


def test_counters():
    recent = Recent(100)
    assert recent.summary() == {}
    for v in range(1000):
        recent.add(v)
    assert recent.summary() == pytest.approx({"p50": 949.5, "p99": 998.01, "max": 999})
    loop = Loop(limit_ms=2.0)
    assert loop.summary() == {}
    for ms in (1.0, 2.0, 6.0):
        loop.add(ms)
    assert loop.summary() == {"min": 1.0, "avg": 3.0, "max": 6.0, "overruns": 1}
    rate = Rate()
    rate.hz(0)
    rate.count = 50
    assert rate.hz(500_000_000) == 100.0 and rate.hz(500_000_001) == 100.0
    pace = Pace()
    assert math.isnan(pace.factor(0, 0)) and pace.factor(500, 1000) == 0.5
