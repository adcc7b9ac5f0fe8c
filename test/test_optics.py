"""The lens: its distortion is CameraInfo's, and undistorting what it makes gives the pinhole image back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.optics import WIDEST, LensConfig, Optics, Pinhole, distort, pinhole_of, undistort

IMAGE = Pinhole(160, 120, 120.0)
PLUMB_BOB = [-0.25, 0.08, 0.001, -0.0015, -0.01]
FISHEYE = [-0.02, 0.01, -0.004, 0.0005]
LENSES = [LensConfig("plumb_bob", PLUMB_BOB), LensConfig("equidistant", FISHEYE), LensConfig("none")]
ids = ["plumb_bob", "equidistant", "none"]


@given(
    st.lists(st.floats(-0.1, 0.1), min_size=5, max_size=5), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6),
    st.sampled_from(["plumb_bob", "equidistant"]),
)  # fmt: skip
def test_undistort_is_the_inverse_of_distort(coefficients, x, y, model):
    d = np.array(coefficients) * ([1.0, 1.0, 0.1, 0.1, 1.0] if model == "plumb_bob" else 1.0)
    d = d if model == "plumb_bob" else d[:4]
    there = distort(model, d, np.array([x]), np.array([y]))
    back = undistort(model, d, *there)
    assert back[2][0]
    assert np.allclose([back[0][0], back[1][0]], [x, y], atol=1e-7)


def test_plumb_bob_by_hand():
    """The sum as OpenCV's documentation of its camera model writes it, at one point."""
    k1, k2, p1, p2, k3 = PLUMB_BOB
    x, y = 0.3, -0.2
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    want = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y)
    assert np.allclose(distort("plumb_bob", np.array(PLUMB_BOB), np.array(x), np.array(y)), want, atol=1e-15)


def test_equidistant_without_coefficients_puts_angles_at_equal_distances():
    angles = np.linspace(0.0, 1.4, 8)
    x, y = distort("equidistant", np.zeros(4), np.tan(angles) * 0.6, np.tan(angles) * 0.8)
    assert np.allclose(np.hypot(x, y), angles) and np.allclose(x[1:] / y[1:], 0.75)


def linear(p):
    """A picture that is linear in the ray (and so without error from interpolation): its colours are x, y and 1."""
    u, v = np.meshgrid(np.arange(p.width, dtype=float), np.arange(p.height, dtype=float))
    cx, cy = p.centre
    return np.stack([(u - cx) / p.focal, (v - cy) / p.focal, np.ones_like(u)], axis=-1).astype(np.float32)


def through(optics, picture, channel):
    colours = np.zeros((optics.image.width * optics.image.height, 3), dtype=np.float32)
    colours[:, channel] = 1.0
    return (optics.matrix(colours) @ picture.ravel()).reshape(optics.image.height, optics.image.width)


@pytest.mark.parametrize("lens", LENSES, ids=ids)
def test_each_pixel_sees_the_ray_that_camera_info_says(lens):
    optics = Optics(lens, IMAGE, vignetting=False)
    picture = linear(optics.source)
    x, y, one = (through(optics, picture, c) for c in range(3))
    assert np.allclose(one, 1.0, atol=1e-6) and optics.dark == 0.0
    d = np.array(lens.coefficients)
    xd, yd = distort(lens.model, d, x.astype(float), y.astype(float))
    cx, cy = IMAGE.centre
    u, v = np.meshgrid(np.arange(IMAGE.width), np.arange(IMAGE.height))
    assert np.abs(IMAGE.focal * xd + cx - u).max() < 1e-3 and np.abs(IMAGE.focal * yd + cy - v).max() < 1e-3


@pytest.mark.parametrize("lens", LENSES[:2], ids=ids[:2])
def test_undistorting_gives_the_pinhole_image(lens):
    """As an image pipeline does: for each pixel of the pinhole, look up where distortion put its ray."""
    optics = Optics(lens, IMAGE, vignetting=False)
    u, v = np.meshgrid(np.arange(optics.source.width), np.arange(optics.source.height))
    waves = (0.5 + 0.25 * np.sin(u / 9.0) + 0.25 * np.cos(v / 7.0)).astype(np.float32)
    picture = np.repeat(waves[..., None], 3, axis=2)
    image = through(optics, picture, 0)
    x, y = (a.astype(float) for a in np.moveaxis(linear(IMAGE)[..., :2], 2, 0))
    xd, yd = distort(lens.model, np.array(lens.coefficients), x, y)
    cx, cy = IMAGE.centre
    us, vs = IMAGE.focal * xd + cx, IMAGE.focal * yd + cy
    inside = (us >= 0) & (us <= IMAGE.width - 1) & (vs >= 0) & (vs <= IMAGE.height - 1)
    from scipy.ndimage import map_coordinates

    rectified = map_coordinates(image, [vs, us], order=1)
    want = optics.crop(waves)
    assert inside.mean() > 0.8
    assert np.sqrt(np.mean((rectified - want)[inside] ** 2)) < 0.005, "of a picture whose contrast is 1"
    assert np.sqrt(np.mean((image - want)[inside] ** 2)) > 0.05, "there was something to undo"


def test_without_distortion_pixels_are_taken_as_they_are():
    optics = Optics(LensConfig(), IMAGE, vignetting=False)
    assert optics.source == IMAGE
    picture = np.random.default_rng(1).random((120, 160, 3), dtype=np.float32)
    assert np.array_equal(through(optics, picture, 1), picture[..., 1])


def test_vignetting_is_a_power_of_the_cosine():
    optics = Optics(LensConfig(vignetting=4.0), IMAGE)
    cx, cy = IMAGE.centre
    theta = math.atan(math.hypot(cx, cy) / IMAGE.focal)
    assert optics.relative[0, 0] == pytest.approx(math.cos(theta) ** 4)
    assert optics.relative.max() == pytest.approx(1.0, abs=1e-4)
    assert Optics(LensConfig(vignetting=4.0), IMAGE, vignetting=False).relative.min() == 1.0


def test_a_fisheye_sees_nothing_beyond_one_perspective_image():
    image = pinhole_of("equidistant", 160, 120, math.radians(150))
    optics = Optics(LensConfig("equidistant", [], vignetting=0.0), image)
    assert optics.relative[60, 0] == 1.0, "the sides are within 75°"
    assert optics.relative[0, 0] == 0.0 and 0.0 < optics.dark < 0.2, "the corners look further than 80°"
    assert math.atan(optics.source.width / 2 / optics.source.focal) < WIDEST + 0.01


def test_a_calibration_that_folds_the_corners_leaves_them_dark():
    optics = Optics(LensConfig("plumb_bob", [-0.15], vignetting=0.0), Pinhole(160, 120, 95.0))
    assert 0.0 < optics.dark < 0.05 and optics.relative[0, 0] == 0.0 and optics.relative[60, 0] == 1.0


def test_the_field_of_view_is_from_edge_to_edge():
    p = pinhole_of("none", 320, 240, 1.2)
    assert 2 * math.atan(160 / p.focal) == pytest.approx(1.2)
    assert p.fovy == pytest.approx(2 * math.atan(0.75 * math.tan(0.6)))
    assert pinhole_of("equidistant", 320, 240, 3.0).focal == pytest.approx(160 / 1.5)
    assert p.matrix[:2, 2].tolist() == [159.5, 119.5]


@pytest.mark.parametrize(
    ("lens", "words"),
    [
        (LensConfig("plumb_bob", [-2.0]), "eye: these plumb_bob coefficients fold the image"),
        (LensConfig("plumb_bob", [0.0] * 6), "eye: plumb_bob has 5 coefficients, got 6"),
        (LensConfig("none", [0.1]), "eye: none has 0 coefficients, got 1"),
    ],
)
def test_lenses_that_cannot_be(lens, words):
    with pytest.raises(ConfigError) as e:
        Optics(lens, IMAGE, where="eye")
    assert words in str(e.value)


def test_a_render_that_is_too_large():
    with pytest.raises(ConfigError, match=r"needs a render of \d+ x 130; 8192 a side can be had"):
        Optics(LensConfig("equidistant"), pinhole_of("equidistant", 3000, 40, 2.7))
