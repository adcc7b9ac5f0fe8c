"""The lens: pinhole, its distortion as sensor_msgs/CameraInfo describes it, and how much light it loses to the side.

Frames are REP-103's optical ones: z along the axis, x to the right, y down. Pixel coordinates count from the centre of
the upper left pixel, as OpenCV's do, so that the middle of an image is at ((width − 1)/2, (height − 1)/2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError

MODELS = ("none", "plumb_bob", "equidistant")
# One perspective image shows nothing behind it, and ever less detail in the middle the wider it is.
WIDEST = math.radians(80.0)
ITERATIONS = 30
MAX_SIDE = 8192  # [px] of a render
# Calibrations of wide lenses are often not good to the very corner.
MOST_FOLDED = 5.0  # percent of the image


@dataclass(frozen=True)
class LensConfig:
    """A lens. The coefficients are those of CameraInfo.d: k1 k2 p1 p2 k3 (plumb_bob), k1 k2 k3 k4 (equidistant)."""

    model: str = param("none", "kind of distortion, as CameraInfo.distortion_model", choices=MODELS)
    coefficients: list[float] = param([], "k1 k2 p1 p2 k3 of plumb_bob, k1 k2 k3 k4 of equidistant", low=-100, high=100)
    f_number: float = param(2.8, "focal length over the aperture's diameter", low=0.5, high=64)
    transmittance: float = param(0.9, "share of the light that passes", low=0.001, high=1)
    vignetting: float = param(4.0, "exponent n of cosⁿ θ, the light's loss off the axis; 0: none", low=0, high=20)


@dataclass(frozen=True)
class Pinhole:
    """A pinhole camera: image size and focal length, all in pixels; the principal point is in the middle."""

    width: int
    height: int
    focal: float

    @property
    def centre(self) -> tuple[float, float]:
        """cx, cy [px]."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    @property
    def matrix(self) -> Array:
        """K (3, 3)."""
        cx, cy = self.centre
        return np.array([[self.focal, 0.0, cx], [0.0, self.focal, cy], [0.0, 0.0, 1.0]])

    @property
    def fovy(self) -> float:
        """Angle [rad] between the upper and the lower edge of the image."""
        return 2.0 * math.atan(self.height / (2.0 * self.focal))


def pinhole_of(model: str, width: int, height: int, horizontal_fov: float) -> Pinhole:
    """The focal length of an image that covers horizontal_fov [rad] from its left to its right edge.

    Without distortion, and before that of plumb_bob (as Gazebo has it), width/2 = f tan(fov/2); an equidistant lens has
    width/2 = f fov/2 before its higher coefficients.
    """
    half = horizontal_fov / 2.0
    return Pinhole(width, height, width / 2.0 / (half if model == "equidistant" else math.tan(half)))


def full_coefficients(lens: LensConfig, where: str = "lens") -> Array:
    """The coefficients with zeros where the config ends early: five of plumb_bob, four of equidistant, else none.

    Raises:
        ConfigError: when there are too many.
    """
    n = {"none": 0, "plumb_bob": 5, "equidistant": 4}[lens.model]
    if len(lens.coefficients) > n:
        raise ConfigError(f"{where}: {lens.model} has {n} coefficients, got {len(lens.coefficients)}")
    return np.array([*lens.coefficients, *[0.0] * (n - len(lens.coefficients))])


def distort(model: str, d: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Where the lens puts the ray (x, y, 1): normalised image coordinates, of any one shape.

    plumb_bob is Brown's (1966) as OpenCV and CameraInfo write it; equidistant is Kannala and Brandt's (2006) θ
    polynomial, OpenCV's fisheye.
    """
    if model == "plumb_bob":
        k1, k2, p1, p2, k3 = d
        r2 = x * x + y * y
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        )
    if model == "equidistant":
        r = np.hypot(x, y)
        theta = np.arctan(r)
        scale = np.where(r > 1e-12, _theta_d(d, theta) / np.maximum(r, 1e-12), 1.0)
        return x * scale, y * scale
    return x, y


def undistort(model: str, d: Array, xd: Array, yd: Array) -> tuple[Array, Array, Mask]:
    """The ray (x, y, 1) that the lens puts at (xd, yd), and whether there is one, by Newton's method.

    An equidistant lens is solved for the angle, so that only rays short of 90° are found.
    """
    if model == "plumb_bob":
        return _undistort_plumb_bob(d, xd, yd)
    if model == "equidistant":
        radius = np.hypot(xd, yd)
        theta = np.minimum(radius, 1.5)
        for _ in range(ITERATIONS):
            theta = np.clip(theta - (_theta_d(d, theta) - radius) / _theta_slope(d, theta), 0.0, 1.57)
        found = (np.abs(_theta_d(d, theta) - radius) < 1e-9) & (_theta_slope(d, theta) > 0.0)
        scale = np.where(radius > 1e-12, np.tan(theta) / np.maximum(radius, 1e-12), 1.0)
        return xd * scale, yd * scale, found
    return xd, yd, np.ones(xd.shape, dtype=bool)


def _theta_d(d: Array, theta: Array) -> Array:
    t2 = theta * theta
    out: Array = theta * (1.0 + t2 * (d[0] + t2 * (d[1] + t2 * (d[2] + t2 * d[3]))))
    return out


def _theta_slope(d: Array, theta: Array) -> Array:
    t2 = theta * theta
    slope = 1.0 + t2 * (3.0 * d[0] + t2 * (5.0 * d[1] + t2 * (7.0 * d[2] + t2 * 9.0 * d[3])))
    return np.where(np.abs(slope) < 1e-3, 1e-3, slope)


def _undistort_plumb_bob(d: Array, xd: Array, yd: Array) -> tuple[Array, Array, Mask]:
    k1, k2, p1, p2, k3 = d
    x, y = xd.copy(), yd.copy()
    det = np.ones_like(x)
    with np.errstate(all="ignore"):  # where there is no ray the search runs away
        for _ in range(ITERATIONS):
            fx, fy = distort("plumb_bob", d, x, y)
            r2 = x * x + y * y
            radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
            slope = 2.0 * (k1 + r2 * (2.0 * k2 + 3.0 * r2 * k3))
            a = radial + x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x
            b = x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y
            c = radial + y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x
            det = a * c - b * b
            ex, ey = fx - xd, fy - yd
            x = x - (c * ex - b * ey) / det
            y = y - (a * ey - b * ex) / det
        fx, fy = distort("plumb_bob", d, x, y)
        # Beyond the radius where the radial polynomial turns round, two rays meet in one point.
        found = (np.abs(fx - xd) + np.abs(fy - yd) < 1e-9) & (det > 0.0) & (_radial_slope(d, x * x + y * y) > 0.0)
    return np.where(found, x, 0.0), np.where(found, y, 0.0), found


def _radial_slope(d: Array, r2: Array) -> Array:
    """d/dr of r (1 + k1 r² + k2 r⁴ + k3 r⁶)."""
    out: Array = 1.0 + r2 * (3.0 * d[0] + r2 * (5.0 * d[1] + r2 * 7.0 * d[4]))
    return out


class Optics:
    """Turns a wide enough pinhole image into the irradiance of each photosite: distortion and vignetting in one matrix.

    Attributes:
        image: the camera's pinhole, without its distortion; its matrix is CameraInfo's k and the left of p.
        source: the pinhole image to be rendered: of the same focal length and middle, as large as the lens sees.
        relative: light at each photosite relative to the middle of the image (height, width), 0 where the lens sees
            nothing.
        dark: share of the photosites that see nothing: no ray leads there, or one further off the axis than WIDEST.
    """

    def __init__(self, lens: LensConfig, image: Pinhole, *, vignetting: bool = True, where: str = "lens") -> None:
        """Raises ConfigError when the distortion folds more of the image than its corners, or needs too large a render."""
        self.image = image
        d = full_coefficients(lens, where)
        cx, cy = image.centre
        u, v = np.meshgrid(np.arange(image.width, dtype=float), np.arange(image.height, dtype=float))
        x, y, found = undistort(lens.model, d, (u - cx) / image.focal, (v - cy) / image.focal)
        share = 100.0 * (1.0 - found.mean())
        if lens.model == "plumb_bob" and share > MOST_FOLDED:
            raise ConfigError(f"{where}: these plumb_bob coefficients fold the image: {share:.1f} % of it has no ray")
        seen = found & (np.hypot(x, y) <= math.tan(WIDEST))
        if not seen[image.height // 2, image.width // 2]:
            raise ConfigError(f"{where}: these coefficients leave no ray in the middle of the image")
        self.dark = float(1.0 - seen.mean())
        self.source = self._source(x[seen], y[seen], where)
        sx, sy = self.source.centre
        self._u = np.where(seen, self.source.focal * x + sx, 0.0).ravel()
        self._v = np.where(seen, self.source.focal * y + sy, 0.0).ravel()
        cosine = 1.0 / np.sqrt(1.0 + x * x + y * y)
        self.relative = np.where(seen, cosine**lens.vignetting if vignetting else 1.0, 0.0)

    def _source(self, x: Array, y: Array, where: str) -> Pinhole:
        """As many pixels more on each side as the lens sees beyond the pinhole's image."""
        i = self.image
        margin = [
            max(0, math.ceil(i.focal * float(np.abs(c).max()) - (n - 1) / 2 - 1e-9))
            for c, n in ((x, i.width), (y, i.height))
        ]
        source = Pinhole(i.width + 2 * margin[0], i.height + 2 * margin[1], i.focal)
        if max(source.width, source.height) > MAX_SIDE:
            raise ConfigError(
                f"{where}: needs a render of {source.width} x {source.height}; {MAX_SIDE} a side can be had"
            )
        return source

    def crop(self, source: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of a rendered image (source height, source width) that the pinhole without distortion shows."""
        top, left = (self.source.height - self.image.height) // 2, (self.source.width - self.image.width) // 2
        return source[top : top + self.image.height, left : left + self.image.width]

    def matrix(self, colours: NDArray[np.float32]) -> sparse.csr_matrix:
        """Bilinear sampling of a rendered RGB image, flattened, by photosites that weigh its colours.

        Args:
            colours: weights of red, green and blue at each photosite (height * width, 3); photosites that see nothing
                get none.

        Returns:
            (height * width, source height * source width * 3), float32.
        """
        w, h = self.source.width, self.source.height
        u0 = np.clip(np.floor(self._u), 0, max(w - 2, 0)).astype(np.int64)
        v0 = np.clip(np.floor(self._v), 0, max(h - 2, 0)).astype(np.int64)
        a, b = self._u - u0, self._v - v0
        light = self.relative.ravel()
        sites, channels = np.nonzero(colours)
        corners, weights = [], []
        for du, dv, part in ((0, 0, (1 - a) * (1 - b)), (1, 0, a * (1 - b)), (0, 1, (1 - a) * b), (1, 1, a * b)):
            corners.append(((v0 + dv) * w + u0 + du)[sites] * 3 + channels)
            weights.append((part * light)[sites] * colours[sites, channels])
        row, column, value = np.tile(sites, 4), np.concatenate(corners), np.concatenate(weights)
        kept = value != 0.0
        shape = (self.image.width * self.image.height, w * h * 3)
        return sparse.csr_matrix((value[kept].astype(np.float32), (row[kept], column[kept])), shape=shape)
