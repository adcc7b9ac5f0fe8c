"""The stereo camera: noise that grows with the square of the range, steps, holes where one imager sees alone."""

import numpy as np
import pytest

from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.depth_camera import DepthCamera, DepthConfig, millimetres

F = 220.0
PLAIN = {"edge_loss": 0.0, "speckle_loss": 0.0, "disparities": 0}


def camera(off=(), seed=1, **values):
    return DepthCamera(DepthConfig(**(PLAIN | values)), F, seed, "d", frozenset(off))


def flat(z, shape=(200, 200)):
    return np.full(shape, z, dtype=np.float32)


def inner(z):
    """Without the columns that the right imager does not see."""
    return z[:, 120:]


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0])
def test_noise_grows_with_the_square_of_the_range(z):
    """σ_z = z² σ_d / (f b); bounds at 4 standard errors, and a bias of second order."""
    got = inner(camera(step=0.0, subpixel=0.05).measure(flat(z)))
    sigma = z * z * 0.05 / (F * 0.05)
    n = got.size
    assert abs(got.std() / sigma - 1) < 4 / np.sqrt(2 * n) + 3 * sigma / z
    assert abs(got.mean() - z) < 4 * sigma / np.sqrt(n) + 2 * sigma**2 / z


def test_disparity_has_steps():
    got = inner(camera(subpixel=0.3, step=0.125).measure(flat(1.0)))
    steps = F * 0.05 / got / 0.125
    assert np.allclose(steps, np.round(steps), atol=1e-3) and len(np.unique(got)) > 5


def test_out_of_range_is_told_as_rep_118_has_it():
    z = np.tile(np.array([0.1, 1.0, 9.0, np.inf], dtype=np.float32).repeat(50), (4, 1))[:, ::-1].copy()
    got = camera({"stereo_noise", "quantisation", "edge_holes"}, min_range=0.3, max_range=5.0).measure(z)
    assert (
        got[0, [25, 75]].tolist() == [np.inf, np.inf] and got[0, 125] == pytest.approx(1.0) and got[0, 175] == -np.inf
    )
    searched = camera({"stereo_noise", "quantisation", "edge_holes"}, min_range=0.05, disparities=20).measure(z)
    assert searched[0, 175] == -np.inf, f"the nearest is f b / 20 = {F * 0.05 / 20} m"


def test_beside_an_edge_the_background_is_hidden_from_the_other_imager():
    """A near wall at the right: the strip of the far one that it hides is as wide as the difference of disparities."""
    z = flat(4.0)
    z[:, 120:] = 0.8
    got = camera({"stereo_noise", "quantisation"}).measure(z)
    far, near = F * 0.05 / 4.0, F * 0.05 / 0.8
    hole = np.isnan(got[100, 60:]).sum()
    assert abs(hole - (near - far)) <= 1.0
    assert np.isnan(got[100, 119]) and np.isfinite(got[100, 120:]).all()
    mirrored = camera({"stereo_noise", "quantisation"}).measure(z[:, ::-1].copy())
    assert np.isfinite(mirrored[100, 80:]).all(), (
        "behind the other side of a near wall the left imager sees no more either"
    )
    assert np.isnan(got[100, :2]).all(), "and what is left of the right imager's image has no partner"


def test_matching_fails_at_edges_as_often_as_it_says():
    z = flat(2.0, (2000, 200))
    z[:, 100:] = 2.3  # the nearer is at the left: nothing is hidden
    got = camera({"stereo_noise"}, edge_width=3, edge_loss=0.4).measure(z)
    lost = np.isnan(got)
    assert not lost[:, 20:97].any() and not lost[:, 103:].any()
    rate = lost[:, 97:103].mean()
    assert abs(rate - 0.4) < 4 * np.sqrt(0.4 * 0.6 / 12000)
    speckle = np.isnan(camera(speckle_loss=0.01).measure(flat(2.0, (500, 200)))[:, 20:]).mean()
    assert abs(speckle - 0.01) < 4 * np.sqrt(0.01 / 90000)


def test_a_slanted_wall_has_no_holes():
    z = np.tile(np.linspace(1.0, 3.0, 200, dtype=np.float32), (4, 1))
    for one in (z, z[:, ::-1].copy()):
        assert np.isfinite(camera(edge_loss=1.0, edge_jump=0.1).measure(one)[:, 30:]).all()


def test_the_same_seed_gives_the_same_bytes():
    z = flat(2.0)
    a, b, c = (DepthCamera(DepthConfig(), F, s, "d").measure(z) for s in (1, 1, 2))
    assert a.tobytes() == b.tobytes() != c.tobytes()


def test_millimetres():
    z = np.array([[1.2344, 1.2346, np.nan, np.inf, -np.inf, 70.0, 0.0]], dtype=np.float32)
    assert millimetres(z).tolist() == [[1234, 1235, 0, 0, 0, 0, 0]]


def test_ranges_that_cross():
    with pytest.raises(ConfigError, match="min_range 12 m is not below max_range 10 m"):
        camera(min_range=12.0)
