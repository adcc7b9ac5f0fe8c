"""The last minute of a robot as it was measured, and windows of it."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.drift.window import ROWS, Past, Window

N, FEET, TICK = 3, 2, 5_000_000


def sample(i):
    """Every number tells its sample and its place."""
    shapes = [(N,)] * 5 + [(3,), (3,), (3, 3), (3,), (FEET, 6), (3,), (3,)]
    return [np.arange(np.prod(shape)).reshape(shape) + 1000.0 * i + 100 * k for k, shape in enumerate(shapes)]


def filled(count, span=60.0):
    past = Past(N, FEET, span)
    for i in range(count):
        past.add(i * TICK, *sample(i))
    return past


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 3 * ROWS), st.floats(0.005, 5.0))
def test_a_window_is_the_last_samples_as_they_were_given(count, seconds):
    w = filled(count).window(seconds)
    first = max(0, int(np.ceil(count - 1 - seconds * 1e9 / TICK - 1e-6)))
    assert w.stamps_ns.tolist() == [i * TICK for i in range(first, count)]
    for k, f in enumerate(fields(Window)[1:]):
        given_ = np.array([sample(i)[k] for i in range(first, count)])
        assert np.array_equal(getattr(w, f.name), given_), f.name


@pytest.mark.parametrize("count", [0, 1])
def test_of_less_than_two_samples_there_is_no_window(count):
    assert filled(count).window(1.0) is None


def test_what_is_older_than_the_span_goes():
    past = filled(10 * ROWS, span=1.0)
    assert len(past.window(60.0)) == 201
    assert len(past._blocks) <= 3


def test_a_window_stays_what_it_was_while_time_goes_on():
    past = filled(ROWS - 2)
    w = past.window(1.0)
    before = [getattr(w, f.name).copy() for f in fields(Window)]
    for i in range(ROWS - 2, 3 * ROWS):
        past.add(i * TICK, *sample(i))
    assert all(np.array_equal(getattr(w, f.name), b) for f, b in zip(fields(Window), before, strict=True))


def test_of_samples_that_are_not_there_yet_nothing_is_computed(monkeypatch):
    """Fresh memory holds anything: a warning of an overflow had gone to the terminal."""
    empty = np.empty

    def anything(*args, **kwargs):
        out = empty(*args, **kwargs)
        out.fill(np.iinfo(np.int64).min if out.dtype == np.int64 else np.nan)
        return out

    monkeypatch.setattr(np, "empty", anything)
    with np.errstate(over="raise"):
        past = filled(3)
    assert past.window(1.0).stamps_ns.tolist() == [0, TICK, 2 * TICK]
