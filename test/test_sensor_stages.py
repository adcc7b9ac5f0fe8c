"""The pipeline of a virtual sensor: each stage against its equation, chance that belongs to one stage, shared errors."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.encoders import EncoderProfile, Encoders
from digital_twin.core.sensors.imu import AccelConfig, GyroConfig, Imu, ImuProfile
from digital_twin.core.sensors.magnetometer import Magnetometer, MagnetometerProfile
from digital_twin.core.sensors.sources import SourceConfig, Sources
from digital_twin.core.sensors.stages import LowPass, Play, Quantise, Saturate, Temperature
from digital_twin.core.sensors.timing import Sampler, TimingConfig
from digital_twin.core.sensors.wrench import Wrench, WrenchProfile

NONE = Sources({}, 0)
RATE = 200.0
BAD_IMU = ImuProfile(
    TimingConfig(RATE),
    GyroConfig(2e-4, 5e-5, 2e-5, 0.01, 0.01, 0.01, 1e-4, 1e-4, 1e-4, 60.0, 35.0, 1e-4),
    AccelConfig(2e-3, 3e-4, 1e-4, 0.1, 0.01, 0.01, 1e-3, 1e-4, 60.0, 150.0, 1e-3),
)


def times(n, rate=RATE):
    return np.arange(n) / rate


# Stages


def test_low_pass_has_the_step_response_of_its_bandwidth():
    y = LowPass(np.array([10.0, np.inf]), 1000.0)(np.vstack([np.zeros((1, 2)), np.ones((100, 2))]), times(101, 1000))
    assert np.allclose(y[1:, 0], 1 - np.exp(-2 * np.pi * 10 * np.arange(1, 101) / 1000)) and np.all(y[1:, 1] == 1.0)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=50), st.floats(0.01, 5))
def test_play_follows_within_half_its_width_and_only_when_pushed(xs, width):
    x = np.array(xs)[:, None]
    y = Play(np.array([width]))(x, times(len(x)))
    assert np.all(np.abs(y - x) <= width / 2 + 1e-12)
    moved = np.flatnonzero(np.diff(y[:, 0]) != 0) + 1
    assert np.allclose(np.abs(y[moved, 0] - x[moved, 0]), width / 2)


def test_play_makes_a_loop_as_wide_as_it_says():
    x = np.concatenate([np.linspace(0, 1, 101), np.linspace(1, 0, 101)])[:, None]
    y = Play(np.array([0.1]))(x, times(202))
    assert y[150, 0] - y[50, 0] == pytest.approx(0.1, abs=0.02), "at the same x, up and down"


def test_saturation_and_digits():
    assert Saturate(np.array([1.0]))(np.array([[-3.0], [0.5], [2.0]]), times(3)).ravel().tolist() == [-1.0, 0.5, 1.0]
    y = Quantise(np.array([0.25, 0.0]))(np.array([[0.3, 0.3], [-0.4, -0.4]]), times(2))
    assert y.tolist() == [[0.25, 0.3], [-0.5, -0.4]]


def test_temperature_moves_bias_and_scale():
    stage = Temperature(np.array([0.1]), np.array([0.01]), lambda t: 25.0 + 10 * t)
    assert np.allclose(stage(np.array([[2.0], [2.0]]), np.array([0.0, 1.0])), [[2.0], [2.0 * 1.1 + 1.0]])


# Chance


def devices(off=(), sources=NONE):
    return {
        "imu": (Imu("imu", BAD_IMU, 7, sources, off), 6),
        "wrench": (Wrench("w", WrenchProfile(TimingConfig(RATE), 1.0, 0.1, 0.1, 0.01, crosstalk=0.01, hysteresis=0.001), 7, sources), 6),
        "encoders": (Encoders("e", EncoderProfile(TimingConfig(RATE), 1e-4, 5e-5, 1e-3, 1e-3, 1e-3, torque_noise=0.1), 4, 7, sources), 12),
        "magnetometer": (Magnetometer("m", MagnetometerProfile(white_noise=1e-8, motor=1e-8, hard_iron=1e-6), 4, 7, sources), 7),
    }  # fmt: skip


@pytest.mark.parametrize("kind", devices())
@pytest.mark.parametrize("cuts", [(1,) * 700, (3, 300, 397), (699, 1)])
def test_samples_one_by_one_or_by_the_hundred_are_the_same_bytes(kind, cuts):
    warm = Sources({"t": SourceConfig("temperature", dict.fromkeys(["imu", "w", "e", "m"], 0.5), 3.0, 10.0)}, 3)
    rng = np.random.default_rng(0)
    (whole, width), (parts, _) = devices(sources=warm)[kind], devices(sources=warm)[kind]
    x, t = rng.standard_normal((700, width)), times(700)
    ends = np.cumsum((0, *cuts))
    y = np.concatenate([parts.read(x[a:b], t[a:b]) for a, b in pairwise(ends)])
    assert y.tobytes() == whole.read(x, t).tobytes()


def test_chance_belongs_to_seed_sensor_and_stage():
    x, t = np.zeros((500, 6)), times(500)

    def read(name="imu", seed=7, off=()):
        return Imu(name, BAD_IMU, seed, NONE, off).read(x, t)

    assert read().tobytes() == read().tobytes()
    assert not np.allclose(read(), read(seed=8)) and not np.allclose(read(), read(name="other"))
    # Switching a stage off changes nothing in the others: the difference is the bias alone.
    off = ("quantisation", "scale")
    difference = read(off=off) - read(off=(*off, "bias"))
    assert np.ptp(difference, axis=0).max() < 1e-12 and np.abs(difference[0]).min() > 1e-6


def test_all_switched_off_is_the_ideal_reading():
    x, t = np.random.default_rng(1).standard_normal((50, 6)), times(50)
    names = Imu("imu", BAD_IMU, 7, NONE).pipeline.names
    assert names == ["bandwidth", "scale", "bias", "noise", "saturation", "quantisation"]
    assert np.array_equal(Imu("imu", BAD_IMU, 7, NONE, names).read(x, t), x)
    with pytest.raises(ConfigError, match=r"sensor 'imu': off: unknown stage 'noize'; did you mean 'noise'"):
        Imu("imu", BAD_IMU, 7, NONE, ["noize"])


def test_constants_have_the_spread_that_the_profile_says():
    """Over many specimens."""
    off = ["noise", "quantisation", "bandwidth"]
    x, t = np.array([[0.0] * 6, [0, 0, 0, 0, 0, 9.81]]), times(2)
    y = np.array([Imu("imu", BAD_IMU, s, NONE, off).read(x, t) for s in range(400)])
    assert np.std(y[:, 0, :3]) == pytest.approx(0.01, rel=0.08) and np.std(y[:, 0, 3:]) == pytest.approx(0.1, rel=0.08)
    change = y[:, 1] - y[:, 0]
    assert np.std(change[:, :3]) == pytest.approx(1e-4 * 9.81, rel=0.1), "g-sensitivity"
    assert np.std(change[:, 3:5]) == pytest.approx(0.01 * 9.81, rel=0.1), "misalignment"
    assert np.std(change[:, 5] - 9.81) == pytest.approx(0.01 * 9.81, rel=0.1), "scale"


# Joints, feet, field


def test_encoders_report_speeds_of_what_they_read():
    t = times(400)
    q = 0.5 * np.sin(2 * np.pi * t)[:, None]
    ideal = np.hstack([q, 0 * q, 0 * q])
    e = Encoders("e", EncoderProfile(TimingConfig(RATE), resolution=1e-3, velocity_time=0.0), 1, 1, NONE)
    y = e.read(ideal, t)
    assert np.abs(y[:, 0] - q[:, 0]).max() <= 0.5e-3 + 1e-12
    assert np.allclose(y[1:, 1], np.diff(y[:, 0]) * RATE), "of the quantised positions"
    assert np.allclose(y[1:, 1], np.pi * np.cos(2 * np.pi * (t[1:] - 0.5 / RATE)), atol=1e-3 * RATE)


def test_eccentricity_comes_once_a_turn():
    q = np.linspace(0, 4 * np.pi, 4001)[:, None]
    off = ["noise", "quantisation", "offset", "backlash"]
    e = Encoders("e", EncoderProfile(TimingConfig(RATE), eccentricity=1e-3), 1, 5, NONE, off)
    error = e.read(np.hstack([q, 0 * q, 0 * q]), times(4001))[:, 0] - q[:, 0]
    spectrum = np.abs(np.fft.rfft(error[:-1])) / 2000
    assert spectrum[2] > 1e-5 and np.delete(spectrum, 2).max() < 1e-3 * spectrum[2], "two turns, two periods"


def test_torque_channels_leak_into_their_neighbours_alone():
    ideal = np.zeros((1, 9))
    ideal[0, 7] = 10.0
    e = Encoders("e", EncoderProfile(TimingConfig(RATE), torque_crosstalk=0.05), 3, 2, NONE)
    before, own, after = e.read(ideal, times(1))[0, 6:]
    assert own == 10.0 and 0 < abs(before) < 2.0 and 0 < abs(after) < 2.0


def test_crosstalk_is_a_share_of_full_scales():
    c = WrenchProfile(force_range=(100.0, 100.0, 1000.0), torque_range=(10.0, 10.0, 10.0), crosstalk=0.01)
    full = np.array([100.0, 100.0, 1000.0, 10.0, 10.0, 10.0])
    x = np.diag(full)
    y = np.array([Wrench("w", c, s, NONE, ["saturation"]).read(x, times(6)) for s in range(200)])
    leak = (y - x) / full
    rest = leak[:, ~np.eye(6, dtype=bool)]
    assert np.allclose(leak[:, np.eye(6, dtype=bool)], 0.0) and np.std(rest) == pytest.approx(0.01, rel=0.05)


def test_contact_has_two_thresholds():
    w = Wrench("w", WrenchProfile(contact_on=40.0, contact_off=25.0), 1, NONE)
    said = []
    for load in (0.0, 30.0, 45.0, 30.0, 20.0, 30.0):
        w.read(np.array([[0, 0, load, 0, 0, 0]]), np.array([0.0]))
        said.append(w.stands)
    assert said == [False, False, True, True, False, False]


def test_motors_disturb_the_compass_by_their_torque():
    c = MagnetometerProfile(motor=1e-8)
    ideal = np.zeros((3, 5))
    ideal[:, :3] = 2e-5
    ideal[1, 3], ideal[2, 3] = 10.0, 20.0
    y = Magnetometer("m", c, 2, 1, NONE).read(ideal, times(3))
    assert np.allclose(y[2] - y[0], 2 * (y[1] - y[0])) and np.linalg.norm(y[1] - y[0]) > 1e-8
    still = Magnetometer("m", c, 2, 1, NONE, ["motors"]).read(ideal, times(3))
    assert np.allclose(still, 2e-5)


# Time


def test_ticks_keep_their_rate_and_never_turn_back():
    s = Sampler("x", TimingConfig(100.0, jitter=0.002, latency=0.01, latency_jitter=0.004, dropout=0.1), 1)
    ticks = [tick for k in range(1, 4001) for tick in s.until(k * 0.005)]
    t = np.array([x.t for x in ticks])
    assert len(t) == pytest.approx(2000, abs=2) and np.all(np.diff(t) > 0)
    assert np.std(t - np.arange(len(t)) / 100) == pytest.approx(0.002, rel=0.1)
    assert np.mean([x.delay for x in ticks]) == pytest.approx(0.014, rel=0.05) and min(x.delay for x in ticks) >= 0.01
    assert np.mean([x.lost for x in ticks]) == pytest.approx(0.1, abs=0.025)
    again = Sampler("x", TimingConfig(100.0, jitter=0.002, latency=0.01, latency_jitter=0.004, dropout=0.1), 1).until(
        20.0
    )
    assert again == ticks, "asked once or often"


# Shared errors


@pytest.mark.parametrize("kind", ["temperature", "vibration", "time_offset"])
def test_sensors_share_an_error_by_their_correlations(kind):
    sensors = {"a": 0.9, "b": -0.6, "c": 0.0}
    config = SourceConfig(kind, sensors, sigma=2.0, time=0.5, frequency=30.0, damping=0.3)
    t = np.arange(0, 8000, 1.0) if kind != "vibration" else np.arange(0, 200, 0.01)
    mean = 25.0 if kind == "temperature" else 0.0
    seen = np.array([Sources({"s": config}, 1).signal(name, kind)(t) - mean for name in sensors])
    # On its grid the process has its full variance; between grid points interpolation takes a little.
    assert np.allclose(seen.std(axis=1), 2.0, rtol=0.06)
    correlation = np.corrcoef(seen)
    for i, j, expected in ((0, 1, -0.54), (0, 2, 0.0), (1, 2, 0.0)):
        assert correlation[i, j] == pytest.approx(expected, abs=0.05)
    alone = Sources({"s": config}, 1).signal("a", kind)(t) - mean
    assert alone.tobytes() == seen[0].tobytes(), "whatever the other sensors do"
    assert Sources({"s": config}, 1).signal("d", kind) is None


def test_a_vibration_has_its_frequency():
    v = Sources({"s": SourceConfig("vibration", {"a": 1.0}, 1.0, frequency=50.0, damping=0.02)}, 1).signal(
        "a", "vibration"
    )
    x = v(np.arange(0, 60, 0.001))
    f = np.fft.rfftfreq(len(x), 0.001)
    assert f[np.abs(np.fft.rfft(x)).argmax()] == pytest.approx(50.0, abs=3.0)


def test_it_warms_up():
    t = np.array([0.0, 600.0, 6000.0])
    warm = Sources({"s": SourceConfig("temperature", {"a": 1.0}, warm_up=10.0, warm_time=600.0)}, 1).signal(
        "a", "temperature"
    )(t)
    assert np.allclose(warm, [25.0, 25.0 + 10 * (1 - np.exp(-1)), 35.0], atol=1e-3)
