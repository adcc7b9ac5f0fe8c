"""Noise of inertial sensors against its Allan deviation; fits that give the parameters back; the two-sample test."""

import numpy as np
import pytest
from scipy.stats import binom

from digital_twin.core.sensors.allan import allan_variance, band, freedom, octaves
from digital_twin.core.sensors.fit import FitError, fit_noise, fit_ranges, resolution
from digital_twin.core.sensors.fit_recording import fit_imu, fit_wrench, regular
from digital_twin.core.sensors.imu import AccelConfig, GyroConfig, Imu, ImuProfile
from digital_twin.core.sensors.noise import FLOOR, TIMES, NoiseModel, NoiseSource
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.stages import Quantise
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.core.sensors.two_sample import same_channel
from digital_twin.core.sensors.wrench import Wrench, WrenchProfile

NONE = Sources({}, 0)
MODEL = NoiseModel(2.44e-4, 4.8e-5, 2e-5)
DT, N = 0.05, 72_000  # an hour at 20 Hz: the long times that matter, in little time


def naive_allan(x, m, dt):
    """The definition: half the mean square of the difference of neighbouring means."""
    means = np.array([x[i : i + m].mean() for i in range(len(x) - m + 1)])
    return 0.5 * np.mean((means[m:] - means[:-m]) ** 2)


def test_the_estimator_is_the_definition():
    x = np.random.default_rng(0).standard_normal((300, 2)).cumsum(axis=0)
    lengths = np.array([1, 3, 20])
    got = allan_variance(x, lengths, 0.1)
    assert np.allclose(got, [[naive_allan(x[:, c], m, 0.1) for c in (0, 1)] for m in lengths.tolist()])


@pytest.mark.parametrize(
    ("model", "tau", "deviation"),
    [
        (NoiseModel(white=3.0), 100.0, 0.3),  # N / √τ
        (NoiseModel(walk=3.0), 300.0, 30.0),  # K √(τ / 3)
        (NoiseModel(step=6.0), 12.0, 0.05),  # white, of variance step² / 12
    ],
)
def test_the_analytic_curve(model, tau, deviation):
    assert np.sqrt(model.allan_variance(np.array([tau]), 0.01)[0]) == pytest.approx(deviation)


def test_bias_instability_is_ieee_952s():
    """A floor of 0.664 B over three decades, and a spectrum of B² / (2 π f)."""
    model = NoiseModel(instability=2.0)
    floor = np.sqrt(model.allan_variance(np.geomspace(2.0, 200.0, 30), 0.01))
    assert np.allclose(floor, FLOOR * 2.0, rtol=0.15) and pytest.approx(0.664, abs=1e-3) == FLOOR
    f = np.geomspace(1.0 / (TIMES[-1]), 0.1, 30)
    assert np.allclose(model.spectrum(f, 0.01), 4.0 / (2 * np.pi * f), rtol=0.15)


def test_the_curve_is_that_of_the_spectrum():
    """σ²(τ) = 4 ∫ S(f) sin⁴(π f τ) / (π f τ)² df (IEEE 952), by plain quadrature."""
    f = np.linspace(1e-5, 60.0, 2_000_001)
    for tau in (0.5, 5.0):
        x = np.pi * f * tau
        numeric = 4 * np.trapezoid(MODEL.spectrum(f, 1e-3) * np.sin(x) ** 4 / x**2, f)
        numeric += 4 * MODEL.white**2 * 3 / 8 / (np.pi * tau) ** 2 / f[-1]  # the tail of the white noise
        assert numeric == pytest.approx(MODEL.allan_variance(np.array([tau]), 1e-3)[0], rel=2e-3)


def test_degrees_of_freedom_of_white_noise():
    """Against the closed form for overlapping estimates of white frequency noise (Riley, NIST SP 1065, table 5)."""
    n, m = 10_000, np.array([1, 4, 64])
    closed = (3 * (n - 1) / (2 * m) - 2 * (n - 2) / n) * 4 * m**2 / (4 * m**2 + 5)
    assert np.allclose(freedom(NoiseModel(1.0), m, 1.0, n), closed, rtol=0.05)


def test_generated_noise_lies_in_the_band_of_its_curve():
    """Of 12 sensors × 3 axes the share outside the pointwise 95 % band is 5 %."""
    lengths = octaves(N, 30)
    low, high = band(MODEL, lengths, DT, N)
    x = [NoiseSource(MODEL, 3, DT, np.random.default_rng(s)).next(N) for s in range(12)]
    got = np.sqrt(np.concatenate([allan_variance(a, lengths, DT) for a in x], axis=1))
    inside = ((got > low[:, None]) & (got < high[:, None])).mean()
    assert 0.91 < inside < 0.985
    wrong = NoiseModel(MODEL.white, MODEL.instability, 2 * MODEL.walk)
    low, high = band(wrong, lengths, DT, N)
    assert ((got > low[:, None]) & (got < high[:, None])).mean() < 0.85, "the test can tell"


def test_fits_hold_the_truth():
    """Each parameter's 99 % interval in at least 18 of 20 seeds."""
    held = np.zeros(3)
    for seed in range(20):
        f = fit_noise(NoiseSource(MODEL, 3, DT, np.random.default_rng(seed)).next(N), DT)
        for i, (e, truth) in enumerate(
            zip((f.white, f.instability, f.walk), (MODEL.white, MODEL.instability, MODEL.walk), strict=True)
        ):
            held[i] += e.low <= truth <= e.high
        assert f.white.value == pytest.approx(MODEL.white, rel=0.02)
    assert held.min() >= 18


def test_fitting_a_virtual_imu_gives_its_profile_back():
    g, a = GyroConfig(2.4e-4, 0.0, 4e-5, bias=0.01, resolution=1e-4), AccelConfig(2e-3, 0.0, 3e-4, resolution=1e-3)
    t = np.arange(120_000) / 100.0
    imu = Imu("i", ImuProfile(TimingConfig(100.0), g, a), 3, NONE)
    x = imu.read(np.tile([0, 0, 0, 0, 0, 9.81], (len(t), 1)), t)
    lost = np.random.default_rng(0).random(len(t)) < 0.002
    fitted = fit_imu(np.round(t[~lost] * 1e9), x[~lost])
    p, e = fitted.parameters, fitted.estimates
    assert p["timing"]["rate"] == 100.0 and e["timing.dropout"].low < 0.002 < e["timing.dropout"].high
    for name, truth in (
        ("gyro.white_noise", 2.4e-4),
        ("gyro.random_walk", 4e-5),
        ("accel.white_noise", 2e-3),
        ("accel.random_walk", 3e-4),
    ):
        assert e[name].low < truth < e[name].high, name
    assert p["gyro"]["resolution"] == pytest.approx(1e-4) and p["accel"]["resolution"] == pytest.approx(1e-3)
    assert p["gyro"]["bias"] == pytest.approx(np.sqrt(np.mean(imu.read(0 * x[:1], t[:1])[0, :3] ** 2)), rel=0.3)


def test_fitting_a_virtual_wrench_gives_noise_and_drift_back():
    c = WrenchProfile(TimingConfig(100.0), 0.5, 0.01, 0.05, 0.001, 3.0, 0.1, force_resolution=0.25)
    t = np.arange(60_000) / 100.0
    x = Wrench("w", c, 3, NONE).read(np.tile([0, 0, 260.0, 0, 2.0, 0], (len(t), 1)), t)
    e = fit_wrench(np.round(t * 1e9), x).estimates
    for name, truth in (("force_noise", 0.5), ("force_drift", 0.05), ("torque_noise", 0.01), ("torque_drift", 0.001)):
        assert e[name].low < truth < e[name].high, name
        assert e[name].high < 1.6 * e[name].low, name


def test_recordings_that_teach_nothing():
    with pytest.raises(FitError, match="10 samples are too few"):
        fit_noise(np.zeros((10, 3)), 0.01)
    with pytest.raises(FitError, match="nothing varies"):
        fit_noise(np.zeros((5000, 3)), 0.01)
    with pytest.raises(FitError, match="not all finite"):
        fit_noise(np.full((5000, 3), np.nan), 0.01)
    with pytest.raises(FitError, match="rising stamps"):
        regular(np.zeros(100), np.zeros((100, 1)))
    with pytest.raises(FitError, match="3 scans are too few"):
        fit_ranges(np.ones((3, 100)), 0.01)
    with pytest.raises(FitError, match="0 rays meet a plain surface"):
        fit_ranges(np.full((30, 100), np.inf), 0.01)


def test_long_holes_end_a_series_and_short_ones_are_bridged():
    k = np.delete(np.arange(1000), [10, 11, *range(400, 500)])
    s = regular(1e7 * k, k[:, None].astype(float))
    assert s.dt == pytest.approx(0.01) and s.values.ravel().tolist() == list(range(500, 1000))
    assert s.dropout.value == 0.0 and "1 long holes" in s.notes[0]
    s = regular(1e7 * k[:390], k[:390, None].astype(float))
    assert np.abs(s.values.ravel() - np.arange(392)).max() == 2.0 and s.dropout.value == pytest.approx(2 / 392)


@pytest.mark.parametrize("step", [0.25, 1e-3, 7.18e-3, 0.0])
def test_digits_are_found(step):
    x = 3.0 + 5 * (step or 1.0) * np.random.default_rng(0).standard_normal((3000, 1))
    assert resolution(Quantise(np.array([step]))(x, x)[:, 0]) == pytest.approx(step, rel=1e-6, abs=1e-9)


# Two samples


def pair(seed, a, b, n=4096):
    for k, m in enumerate((a, b)):
        x = NoiseSource(m, 1, 0.01, np.random.default_rng([seed, k])).next(n)
        yield Quantise(np.array([m.step]))(x, x)[:, 0]


def calls(a, b, count, level=0.05):
    return sum(same_channel(*pair(seed, a, b)).p < level for seed in range(count))


def test_the_same_is_called_different_as_often_as_claimed():
    """200 pairs at 5 %: the count lies where 99.8 % of such counts do."""
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    model = NoiseModel(2.44e-4, 1e-5, 2e-6)
    assert low <= calls(model, model, 200) <= high


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (NoiseModel(1.15 * 2.44e-4, 1e-5, 2e-6), "noise"),
        (NoiseModel(2.44e-4, 1e-5, 2e-3), "wandering"),
        (NoiseModel(2.4e-4, 1e-5, 2e-6, step=2e-3), "distribution"),
    ],
)
def test_the_different_is_called_different(other, part):
    """15 % more noise, a bias that wanders, coarse digits: found in at least 95 of 100 pairs of 4096 samples."""
    model = NoiseModel(2.44e-4, 1e-5, 2e-6)
    assert calls(model, other, 100) >= 95
    assert same_channel(*pair(1, model, other)).part == part


def test_the_two_sample_test_refuses_what_it_cannot_judge():
    with pytest.raises(ValueError, match="at least 256 finite samples"):
        same_channel(np.zeros(10), np.zeros(300))
    assert same_channel(np.zeros(300), np.zeros(300)).p == 1.0
