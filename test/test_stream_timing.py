"""Clocks, delays and lags that are known beforehand are found again, and as surely as is said."""

import math
from itertools import pairwise

import numpy as np
import pytest

from digital_twin.core.stream_timing import LagMeter, StreamClock
from digital_twin.core.streams import Streams

NS = 1_000_000_000
EPOCH = 1_700_000_000 * NS
RATE = 100


def listen(seed, seconds=40, offset=0.3, ppm=0.0, jitter=0.002, least=0.001):
    """A stream whose sender's clock is `offset` behind ours and loses `ppm`; delays beyond `least` are exponential."""
    rng, clock = np.random.default_rng(seed), StreamClock()
    sent = np.arange(seconds * RATE) / RATE
    excess = rng.exponential(jitter, len(sent)) if jitter else np.zeros(len(sent))
    for t, x in zip(sent, excess, strict=True):
        stamp = t - offset - ppm * 1e-6 * (t - sent[-1])
        clock.add(EPOCH + round(stamp * NS), EPOCH + round((t + least + x) * NS))
    return clock.timing(), excess


@pytest.mark.parametrize("offset", [0.3, -1200.0, 0.0])
def test_without_jitter_offset_and_least_delay_come_out_to_the_nanosecond(offset):
    t, _ = listen(0, seconds=10, offset=offset, jitter=0.0)
    assert t.offset == pytest.approx(offset + 0.001, abs=2e-9)
    assert t.drift == pytest.approx(0.0, abs=1e-10) and t.offset_spread < 1e-8
    assert t.excess_max < 1e-8


@pytest.mark.parametrize("seed", range(5))
def test_the_offset_is_found_within_its_spread(seed):
    t, _ = listen(seed)
    # The least of a window of messages lies above the least possible by its mean, jitter / RATE, which nobody knows.
    assert abs(t.offset - 0.301 - 0.002 / RATE) < 4 * t.offset_spread
    assert 1e-6 < t.offset_spread < 1e-4


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 30.0, 1000.0])
def test_the_drift_is_found_within_its_spread(ppm):
    t, _ = listen(7, ppm=ppm)
    assert abs(t.drift - 1e-6 * ppm) < 4 * t.drift_spread + 1e-9 * abs(ppm)
    assert t.drift_spread < 2e-6
    assert t.offset == pytest.approx(0.301, abs=2e-4 + 1e-6 * abs(ppm)), "now, not when it began"


def test_spreads_are_neither_boasting_nor_shy():
    errors, spreads = [], []
    for seed in range(12):
        t, _ = listen(seed, seconds=20, ppm=50.0)
        errors.append(t.drift - 50e-6)
        spreads.append(t.drift_spread)
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(spreads)))
    assert 1 / 3 < ratio < 3


@pytest.mark.parametrize("ppm", [0.0, 400.0])
def test_delays_beyond_the_least_are_told_whatever_the_drift(ppm):
    t, excess = listen(3, ppm=ppm)
    last = excess[-1000:]
    assert t.excess_p50 == pytest.approx(np.percentile(last, 50), abs=1e-4)
    assert t.excess_p99 == pytest.approx(np.percentile(last, 99), abs=2e-4)
    assert t.excess_max == pytest.approx(last.max(), abs=1e-4)


def test_what_is_too_little_to_know_is_not_told():
    clock = StreamClock()
    assert clock.timing() is None
    clock.add(0, 5_000_000)
    t = clock.timing()
    assert t.offset == pytest.approx(0.005) and t.excess_max == 0.0
    assert math.isnan(t.offset_spread) and math.isnan(t.drift) and math.isnan(t.drift_spread)
    clock.clear()
    assert clock.timing() is None


def test_a_clock_is_followed_when_it_changes_its_pace():
    """Two minutes on, nothing is left of what was."""
    clock = StreamClock()
    for k in range(1800):
        arrival = k * NS // 10
        clock.add(arrival - round(arrival * 1e-3 if k < 1000 else 1e8), arrival)
    assert clock.timing().drift == pytest.approx(0.0, abs=1e-9)
    assert clock.timing().offset == pytest.approx(0.1)


# Lag


def turning(seed, components=3):
    """A signal of some slow frequencies with random phases: seconds (n,) to (n, components)."""
    rng = np.random.default_rng(seed)
    phase, f = rng.uniform(0, 2 * np.pi, (3, components)), np.array([0.7, 1.9, 3.1])
    return lambda t: np.sin(2 * np.pi * f[:, None] * t + phase).sum(axis=0)


def lag_of(seed, lag, noise=0.1, rates=(200, 100), factor=1.0, seconds=6.0):
    rng, meter, signal = np.random.default_rng([seed, 1]), LagMeter(), turning(seed)
    for which, rate in enumerate(rates):
        for t in np.arange(0.0013 * which, seconds, 1 / rate):
            value = factor**which * (signal(t - lag * which) + noise * rng.standard_normal(3))
            meter.add(which, EPOCH + round(t * NS), value)
    return meter.lag()


@pytest.mark.parametrize("lag", [-0.06, -0.0173, 0.0, 0.004, 0.05])
def test_the_lag_is_that_of_the_second_behind_the_first(lag):
    found = lag_of(0, lag)
    assert found.lag == pytest.approx(lag, abs=4 * found.spread)
    assert found.spread < 1e-3 and found.correlation > 0.98


def test_scale_does_not_matter():
    assert lag_of(1, 0.02, factor=0.01).lag == pytest.approx(lag_of(1, 0.02).lag, abs=1e-9)


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_the_lags_spread_is_honest(noise):
    found = [lag_of(seed, 0.023, noise) for seed in range(12)]
    errors = np.array([f.lag - 0.023 for f in found])
    ratio = np.sqrt(np.mean(errors**2) / np.mean([f.spread**2 for f in found]))
    assert 1 / 3 < ratio < 3


@pytest.mark.parametrize("smoothed", [1, 40])
def test_signals_with_nothing_in_common_have_no_lag(smoothed):
    for seed in range(5):
        rng, meter = np.random.default_rng(seed), LagMeter()
        x = rng.standard_normal((2, 1200 + smoothed, 3)).cumsum(axis=1)
        x = x[:, smoothed:] - x[:, :-smoothed]  # a moving sum
        for which in (0, 1):
            for k in range(1200):
                meter.add(which, k * NS // 200, x[which, k])
        assert meter.lag() is None


def test_opposite_or_still_signals_have_no_lag():
    assert lag_of(0, 0.0, factor=-1.0) is None
    meter = LagMeter()
    for k in range(1200):
        meter.add(0, k * NS // 200, np.zeros(3))
        meter.add(1, k * NS // 200, np.zeros(3))
    assert meter.lag() is None


def test_a_lag_beyond_the_largest_looked_for_is_not_told_as_something_else():
    assert lag_of(2, 0.13) is None and lag_of(2, -0.13) is None


def test_too_little_has_no_lag():
    assert lag_of(0, 0.02, seconds=0.2) is None and LagMeter().lag() is None


def test_only_the_last_seconds_count():
    meter, signal = LagMeter(window=3.0), turning(4)
    for t in np.arange(0.0, 10.0, 0.005):
        meter.add(0, round(t * NS), signal(t))
        meter.add(1, round(t * NS), signal(t - (0.08 if t < 6.0 else 0.02)))
    assert meter.lag().lag == pytest.approx(0.02, abs=1e-3)
    meter.clear()
    assert meter.lag() is None


# All streams together


def test_streams_are_told_apart_by_name_and_in_milliseconds():
    streams = Streams()
    for k in range(800):
        streams.heard("imu", k * NS // RATE, k * NS // RATE + 4_000_000)
        streams.heard("joints", k * NS // RATE, k * NS // RATE + 9_000_000)
    v = streams.values()
    assert v["imu/offset_ms"] == pytest.approx(4.0) and v["joints/offset_ms"] == pytest.approx(9.0)
    assert v["imu/drift_ppm"] == pytest.approx(0.0, abs=1e-3) and v["joints/excess_p99_ms"] == pytest.approx(
        0, abs=1e-3
    )
    streams.clear()
    assert streams.values() == {}


def test_numbers_of_streams_are_computed_in_turn():
    streams = Streams()

    def hear(delay_ms, first):
        for k in range(first, first + 1200):
            for name in ("imu", "joints", "left"):
                streams.heard(name, k * NS // RATE, k * NS // RATE + delay_ms * 1_000_000)

    def offsets():
        values = streams.values()
        return [round(values[f"{name}/offset_ms"]) for name in ("imu", "joints", "left")]

    hear(9, 0)
    assert offsets() == [9, 9, 9]
    hear(4, 1200)
    seen = [offsets() for _ in range(4)]
    assert all(sum(a != b for a, b in zip(*two, strict=True)) <= 1 for two in pairwise(seen))
    assert max(seen[-1]) <= 4


def test_the_joints_lag_behind_the_imu_is_told():
    streams, signal = Streams(), turning(5)
    for t in np.arange(0.0, 6.0, 0.005):
        streams.turned(0, round(t * NS), signal(t))
        streams.turned(1, round(t * NS), signal(t - 0.03))
    v = streams.values()
    assert v["joints_behind_imu_ms"] == pytest.approx(30.0, abs=1.0) and v["joints_behind_imu_spread_ms"] < 1.0


@pytest.mark.parametrize(
    ("jump_s", "pause_s", "jumped"), [(5.0, 0.01, True), (5.0, 5.0, False), (-0.5, 0.01, True), (-0.5, 5.0, True)]
)
def test_a_jump_of_a_clock_is_told_from_silence(jump_s, pause_s, jumped):
    streams = Streams()
    streams.heard("imu", 0, EPOCH)
    streams.heard("imu", round(jump_s * NS), EPOCH + round(pause_s * NS))
    assert streams.clock_jumped("imu", round(jump_s * NS)) is jumped
