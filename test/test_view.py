"""Moments that are looked at: their layout, the last minute of them, what is worked out along the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.history import NS, History, Playhead
from digital_twin.core.view import View, ViewLayout
from digital_twin.dashboard.trail import Accelerometer, Trail

LAYOUT = ViewLayout(["a", "b", "c"], ["left", "right"])


def view(**changes):
    values = {
        "position": np.array([1.0, 2, 3]), "quaternion": np.array([0.0, 0.6, 0, 0.8]), "odom_position": np.array([4.0, 5, 6]),
        "odom_yaw": 0.7, "velocity": np.array([0.1, 0.2, 0.3]), "turning": np.array([0.4, 0.5, 0.6]),
        "contacts": np.array([True, False]), "initialised": True, "q": np.array([1.0, 2, 3]), "qd": np.array([4.0, 5, 6]),
        "measured": np.array([7.0, np.nan, 9]), "wrenches": np.arange(12.0).reshape(2, 6), "seen": np.full(7, np.nan),
    }  # fmt: skip
    return View(**values | changes)


def test_a_view_comes_back_from_its_numbers():
    v = view()
    packed = LAYOUT.pack(v)
    assert len(packed) == len(LAYOUT.labels) == len(set(LAYOUT.labels))
    back = LAYOUT.unpack(packed)
    for name in View.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(v, name), err_msg=name)
    named = dict(zip(LAYOUT.labels, packed, strict=True))
    assert (
        named["odom/yaw"] == 0.7 and named["contact/left"] == 1 and named["qd/b"] == 5 and named["wrench/right/fz"] == 8
    )


def test_views_that_make_no_sense_are_refused():
    for bad in (
        view(position=np.array([np.nan, 0, 0])),
        view(quaternion=np.zeros(4)),
        view(turning=np.full(3, np.inf)),
    ):
        with pytest.raises(ValueError, match="finite"):
            LAYOUT.unpack(LAYOUT.pack(bad))
    with pytest.raises(ValueError, match="expected"):
        LAYOUT.unpack(LAYOUT.pack(view())[:-1])


@given(st.lists(st.integers(1, 10 * NS), min_size=1, max_size=60), st.floats(0, 70))
def test_the_shown_moment_is_the_last_one_not_later_than_wanted(steps, ago):
    history = History(60.0)
    stamps = np.cumsum(steps).tolist()
    for s in stamps:
        history.add(s, str(s))
    kept = [s for s in stamps if stamps[-1] - s <= 60 * NS]
    head = Playhead(history)
    head.scrub(ago)
    stamp, item = head.shown()
    wanted = stamps[-1] - round(ago * NS)
    assert item == str(stamp) and stamp == max((s for s in kept if s <= wanted), default=kept[0])


def test_a_pause_stands_while_time_goes_on():
    history = History(10.0)
    head = Playhead(history)
    assert head.shown() is None
    head.pause()
    assert head.shown() is None and head.paused
    head.live()
    for k in range(100):
        history.add(k * NS // 10, k)
    assert head.shown() == (99 * NS // 10, 99)
    head.pause()
    head.scrub(5.0)
    for k in range(100, 1000):
        history.add(k * NS // 10, k)
    assert head.shown()[1] == 49 and head.paused, "what was held is not forgotten"
    head.scrub(-3.0)
    assert head.shown()[1] == 99
    head.live()
    assert head.shown()[1] == 999 and not head.paused
    assert len(history) <= 102


def test_memory_is_bounded_and_time_turned_back_starts_anew():
    history = History(60.0, most=10)
    for k in range(100):
        history.add(k, k)
    assert len(history) == 10
    history.add(50, "again")
    assert history.frozen() == [(50, "again")]


def sole(x):
    corners = np.array([[0.1, 0.05, 0], [0.1, -0.05, 0], [-0.1, -0.05, 0], [-0.1, 0.05, 0]]) + np.array([x, 0, 0])
    return np.array([x, 0.0, 0.0]), np.eye(3), corners


def test_a_footprint_is_left_where_a_foot_lands():
    trail = Trail(most=3)
    t = 0
    for k, stands in enumerate([0, 1, 1, 0, 1, 0, 1, 0, 1]):
        t += NS // 30
        trail.step(t, [sole(float(k))], np.array([stands]))
    assert trail.count == 4 and trail.segments.shape == (12, 2, 3), "only the last three are kept"
    np.testing.assert_allclose(sorted(set(trail.segments[:, :, 0].ravel().round(3))), [3.9, 4.1, 5.9, 6.1, 7.9, 8.1])
    trail.step(t + 5 * NS, [sole(20.0)], np.array([0]))
    trail.step(t - 5 * NS, [sole(20.0)], np.array([1]))
    assert trail.count == 4, "a jump in time is no step"


def test_acceleration_is_found_and_forgotten_over_gaps():
    a = Accelerometer(0.1)
    for k in range(60):
        found = a.step(k * NS // 30, np.array([0.5, 0.0, -0.2]) * k / 30)
    np.testing.assert_allclose(found, [0.5, 0.0, -0.2], rtol=1e-3)
    np.testing.assert_array_equal(a.step(20 * NS, np.ones(3)), np.zeros(3))
    np.testing.assert_array_equal(a.step(20 * NS, np.ones(3)), np.zeros(3))
