"""The image sensor obeys EMVA 1288's model, each of its stages alone and all together."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2
from scipy.stats import poisson as poisson_law

from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.bayer import MOSAICS, demosaic, site_colours
from digital_twin.core.sensors.image_sensor import (
    GAUSSIAN_ABOVE,
    ImageSensor,
    SensorConfig,
    photons_per_lux_second,
    poisson,
)  # fmt: skip

N = 256
QUIET = frozenset({"fixed_pattern", "shot_noise", "dark_current", "read_noise", "quantisation"})
ALPHA = 1e-4  # of each statistical test below; seeds are fixed


def sensor(off=frozenset(), seed=1, name="c", **values):
    return ImageSensor(SensorConfig(**values), N, N, seed, name, frozenset(off))


# Photon noise


@pytest.mark.parametrize("mean", [0.05, 1.0, 4.0, GAUSSIAN_ABOVE - 0.01, GAUSSIAN_ABOVE, 25.0, 80.0, 400.0])
def test_photons_are_poisson(mean):
    """Chi squared of 10⁵ numbers against the law, in cells of at least 20 expected."""
    n = 100_000
    x = poisson(np.full(n, mean, dtype=np.float32), np.random.Generator(np.random.SFC64(5)))
    top = int(mean + 8 * np.sqrt(mean) + 8)
    counts = np.bincount(x.astype(int), minlength=top + 1)[: top + 1]
    expected = n * poisson_law.pmf(np.arange(top + 1), float(np.float32(mean)))
    middle = np.flatnonzero(expected >= 20)
    low, high = middle[0], middle[-1]
    observed = np.array([counts[:low].sum(), *counts[low : high + 1], n - counts[: high + 1].sum()])
    law = np.array([expected[:low].sum(), *expected[low : high + 1], n - expected[: high + 1].sum()])
    kept = law > 1.0
    statistic = float(np.sum((observed - law)[kept] ** 2 / law[kept]))
    assert statistic < chi2.ppf(1 - ALPHA, kept.sum() - 1)


def test_the_approximation_is_as_close_as_it_says():
    """Against the law itself: the distribution function of the expansion, at the mean where it begins and above."""
    from scipy.stats import norm

    for mean in (GAUSSIAN_ABOVE, 30.0, 100.0, 1000.0):
        z = np.linspace(-6, 6, 200_001)
        root = np.sqrt(mean - 1 / 12)
        x = np.rint(root * z + mean + (z * z - 1) / 6 + z * (1 - z * z) / 72 / root)
        k = np.unique(x)
        ours = norm.cdf([z[np.searchsorted(x, value, side="right") - 1] for value in k])
        assert np.abs(ours - poisson_law.cdf(k, mean)).max() < 2e-4
        p = np.diff(np.concatenate([[0.0], ours]))
        m = np.sum(p * k)
        assert m == pytest.approx(mean, rel=3e-5) and np.sum(p * (k - m) ** 2) == pytest.approx(mean, rel=3e-5)


@pytest.mark.parametrize("photons", [20.0, 500.0, 8000.0])
def test_variance_follows_the_photon_transfer_law(photons):
    """σ_y² = K² σ_d² + 1/12 + K (μ_y − μ_dark), EMVA 1288 R4 equation 13; bounds at 4 standard errors."""
    s = sensor({"fixed_pattern", "dark_current"}, read_noise=3.0, gain=0.4)
    y = s.flat(photons, 0.005).astype(float)
    c = s.config
    signal = c.gain * c.quantum_efficiency[1] * photons
    variance = c.gain**2 * c.read_noise**2 + 1 / 12 + c.gain * signal
    assert abs(y.mean() - c.black_level - signal) < 4 * np.sqrt(variance) / N
    assert abs(y.var() / variance - 1) < 4 * np.sqrt(2) / N


# Stages


def test_dark_current_doubles_with_temperature():
    s = sensor(dark_current=10.0, dark_reference=25.0, dark_doubling=7.0, temperature=25.0)
    assert [s.dark_current(t) for t in (25.0, 32.0, 39.0, 18.0)] == pytest.approx([10.0, 20.0, 40.0, 5.0])
    off = QUIET - {"dark_current", "shot_noise"}
    warm = sensor(off, dark_current=1000.0, dark_reference=25.0, temperature=33.0, dark_doubling=8.0)
    electrons = (warm.flat(0.0, 0.5) - warm.config.black_level) / warm.config.gain
    assert abs(electrons.mean() - 1000.0) < 4 * np.sqrt(1000.0) / N and abs(electrons.var() / 1000.0 - 1) < 0.03


def test_a_full_well_holds_no_more():
    s = sensor(QUIET, full_well=9000.0, gain=0.4, black_level=50.0)
    assert np.allclose(s.flat(1e6, 0.001), 50.0 + 0.4 * 9000.0)
    assert np.all(sensor(QUIET | {"saturation"}, gain=0.4).flat(1e5, 0.001) > 20000.0)


def test_the_converter_has_its_bits():
    s = sensor({"dark_current"}, bits=8, gain=0.05, black_level=4.0)
    y = s.flat(1e7, 0.001)
    assert y.dtype == np.uint16 and y.max() == 255 and sensor(bits=10, gain=1.0).flat(1e7, 0.001).max() == 1023
    dark = s.flat(0.0, 0.001)
    assert dark.min() >= 3 and dark.max() <= 6


def test_the_pattern_is_fixed_and_has_its_spread():
    s = sensor(QUIET - {"fixed_pattern"}, dsnu=5.0, prnu=0.02)
    dark, flat = s.flat(0.0, 0.01), s.flat(10000.0, 0.01)
    assert np.array_equal(dark, s.flat(0.0, 0.01)), "the same in every frame"
    tolerance = 4 / np.sqrt(2) / N
    assert abs(dark.std() / (5.0 * s.config.gain) - 1) < tolerance
    signal = 10000.0 * s.config.quantum_efficiency[1] * s.config.gain
    assert abs((flat - dark).std() / (0.02 * signal) - 1) < tolerance
    other = sensor(QUIET - {"fixed_pattern"}, dsnu=5.0, prnu=0.02, seed=2)
    assert abs(np.corrcoef(dark.ravel(), other.flat(0.0, 0.01).ravel())[0, 1]) < 4 / N


def test_everything_off_is_a_straight_line():
    s = sensor(QUIET | {"saturation"})
    c = s.config
    for photons in (0.0, 10.0, 5000.0):
        want = c.black_level + c.gain * c.quantum_efficiency[1] * photons
        assert np.allclose(s.flat(photons, 1.0), want, rtol=1e-6)


def test_each_stage_has_a_generator_of_its_own():
    """The same seed gives the same bytes; leaving a stage out changes nothing in the others."""
    frames = [sensor().flat(100.0, 0.01) for _ in range(2)]
    assert frames[0].tobytes() == frames[1].tobytes()
    assert sensor(name="d").flat(100.0, 0.01).tobytes() != frames[0].tobytes()
    both, shot, read, none = (
        sensor(QUIET - s).flat(100.0, 0.01)
        for s in ({"shot_noise", "read_noise"}, {"shot_noise"}, {"read_noise"}, set())
    )
    assert np.allclose(both - none, (shot - none) + (read - none), atol=1e-4)


def test_photons_of_light():
    """One lux at 555 nm is 1/683 W/m²; EMVA 1288 R4 equation 3 has 50.34 photons for A = 1 µm², t = 1 ms, λ = 1 µm, E = 1 µW/cm²."""
    irradiance = 100.0 / 683.0  # µW/cm² of a lux
    assert photons_per_lux_second(1.0) == pytest.approx(50.34 * 1.0 * 1000.0 * 0.555 * irradiance, rel=1e-3)
    assert photons_per_lux_second(3.0) == pytest.approx(9 * photons_per_lux_second(1.0))


def test_a_black_level_without_range():
    with pytest.raises(ConfigError, match="black_level: 300 DN leaves nothing of 8 bits"):
        sensor(bits=8, black_level=300.0)


# Colours


@pytest.mark.parametrize("pattern", MOSAICS)
@pytest.mark.parametrize("shape", [(6, 8), (7, 9)])
def test_demosaicing_keeps_what_was_measured_and_planes(pattern, shape):
    v, u = np.mgrid[: shape[0], : shape[1]]
    plane = np.stack([100 + 4 * u, 200 + 8 * v, 300 + 4 * u + 8 * v], axis=-1).astype(np.uint16)
    colours = site_colours(pattern, *shape)
    raw = np.take_along_axis(plane, colours[..., None], axis=2)[..., 0]
    rgb = demosaic(raw, pattern)
    assert rgb.shape == plane.shape
    assert np.array_equal(np.take_along_axis(rgb, colours[..., None], axis=2)[..., 0], raw)
    assert np.array_equal(rgb[1:-2, 1:-2], plane[1:-2, 1:-2]), "linear colours are interpolated exactly"


def test_demosaicing_does_not_overflow():
    assert np.all(demosaic(np.full((4, 4), 16383, dtype=np.uint16), "rggb") == 16383)


def test_a_tile_is_as_its_name():
    assert site_colours("grbg", 2, 2).tolist() == [[1, 0], [2, 1]]
    assert replace(SensorConfig(), pattern="gbrg").pattern == "gbrg"
